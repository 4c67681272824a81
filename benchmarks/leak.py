"""How much a random split flatters: held-out cars with their sister views, and without.

    python benchmarks/leak.py                # drawn cars
    python benchmarks/leak.py --data DIR     # Carvana, searched below DIR

Of each of twelve cars eight photographs are held out. A small net learns twice from 48
photographs: once with the other eight of the same car among them, as after a random
split, once from other cars only, as after a split by car. Net, steps and seeds are the
same. Printed: both Dice of each car and seed, how often the first is higher, and the
median difference. The exit status is 1 if it is higher in fewer than nine of ten.
"""

import argparse
import platform
import random
import statistics
import sys
from importlib.metadata import version

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from unet_tutorial.data.datasets import open_carvana
from unet_tutorial.data.photos import to_tensor
from unet_tutorial.metrics import dice
from unet_tutorial.model import UNet
from unet_tutorial.synthetic import draw_cars

SIZE, CARS, VIEWS, SEEDS, STEPS = (32, 48), 12, 16, 3, 80


def read_cars(folder):
    """Return images (N, 3, h, w) and labels (N, h, w), sixteen views a car."""
    numbers = range(CARS * VIEWS)
    if folder is None:
        pairs = [draw_cars(n % VIEWS, SIZE, seed=n // VIEWS) for n in numbers]
    else:
        source = open_carvana(folder)
        pairs = [(source.image(n, SIZE), source.labels(n, SIZE)) for n in tqdm(numbers)]
    x = torch.stack([to_tensor(image) for image, _ in pairs])
    return x, torch.from_numpy(np.stack([label for _, label in pairs])).long()


def train_on(x, y, chosen, seed):
    """Return a small net that learned from the chosen photographs."""
    torch.manual_seed(seed)
    net = UNet(3, base_channels=8, depth=2, padding=1, norm="batch", dropout=0.0)
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, STEPS)
    order = random.Random(seed).choices(chosen, k=8 * STEPS)
    for batch in torch.tensor(order).split(8):
        loss = F.cross_entropy(net(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def measure(x, y, chosen, held_out, seed):
    """Return the Dice on the photographs held out."""
    net = train_on(x, y, chosen, seed)
    with torch.no_grad():
        pred = net(x[held_out]).argmax(1)
    return dice(pred == 1, y[held_out] == 1)


def compare(x, y, car, seed):
    """Return the Dice of one car with its sisters in the training part, and without."""
    group = car // 4 * 4 * VIEWS  # four cars: one is asked about, three are the others
    own = list(range(car * VIEWS, (car + 1) * VIEWS))
    others = [n for n in range(group, group + 4 * VIEWS) if n not in own]
    some = random.Random(0).sample(others, len(others) - VIEWS // 2)
    parts = some + own[1::2], others
    return [measure(x, y, chosen, own[::2], seed) for chosen in parts]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="a folder with Carvana; without it: drawn cars")
    options = parser.parse_args()
    x, y = read_cars(options.data)
    differences = []
    for seed in range(SEEDS):
        for car in range(CARS):
            leaking, honest = compare(x, y, car, seed)
            differences.append(leaking - honest)
            print(f"seed {seed}, car {car:2}: {leaking:.4f} {honest:.4f}", flush=True)
    higher = sum(d > 0 for d in differences)
    print(f"higher in {higher} of {len(differences)}, ", end="")
    print(f"median +{statistics.median(differences):.4f}", end=", ")
    print(f"from {min(differences):.4f} to {max(differences):.4f}")
    print(f"Python {platform.python_version()}, torch {version('torch')}, CPU")
    return int(higher < 0.9 * len(differences))


if __name__ == "__main__":
    sys.exit(main())
