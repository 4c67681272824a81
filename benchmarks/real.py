"""Train on the real data sets for some minutes, and measure on what was held out.

    python benchmarks/real.py cars --data DIR --minutes 5       # Dice on 4 of 15 cars
    python benchmarks/real.py membranes --data DIR --minutes 12  # error, slices 24-29

DIR is searched for the data set; the default is the folder named by UNET_DATA. With
--amp the nets compute in bfloat16 where that is safe. The last two lines are CSV: what
was measured, and with which command, seed, device and versions.
"""

import argparse
import math
import os
import platform
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from unet_tutorial.augment import Seeded, car_pipeline, displacement_field
from unet_tutorial.loading import ImagePairs, to_tensor
from unet_tutorial.metrics import count_pixels, dice_of, pixel_error_of
from unet_tutorial.model import UNet
from unet_tutorial.predict import class_probabilities
from unet_tutorial.sources import find_carvana, load_isbi, split_by_car
from unet_tutorial.train import evaluate, fit, pick_device


def cars(folder, seed):
    """Return a net, its loaders and its measure: 11 cars to learn from, 4 held out."""
    learned, held_out = split_by_car(find_carvana(folder), held_out=4, seed=seed)
    train = Seeded(ImagePairs(learned, transform=car_pipeline()), seed)
    valid = DataLoader(ImagePairs(held_out), 16)
    model = UNet(in_channels=3, base_channels=16, padding=1, norm="batch")

    def dice(model):
        values = evaluate(model, valid, nn.CrossEntropyLoss(), {"dice": dice_of})
        return values["dice"]

    return model, DataLoader(train, 8, shuffle=True), valid, dice


class Bent(Dataset):
    """Windows of slices, each turned, resized, mirrored and bent by one field."""

    def __init__(self, images, masks, side=256, count=200, seed=0):
        self.images = torch.stack([to_tensor(image) for image in images])
        self.masks = torch.tensor(masks).float()[:, None]  # (N, 1, H, W)
        self.side, self.count, self.seed, self.epoch = side, count, seed, 0

    def __len__(self):
        return self.count

    def set_epoch(self, epoch):
        self.epoch = epoch

    def places(self, chance):
        """Draw from where the pixels of a window come: (1, side, side, 2), -1 to 1."""
        side, last = self.side, self.images.shape[-1] - 1
        arrows = torch.tensor(chance.normal(0, 10, (1, 2, 5, 5))).float()  # pixels
        bend = displacement_field(arrows, (side, side))[0]
        angle, size = np.radians(chance.uniform(-20, 20)), chance.uniform(-0.15, 0.15)
        sin, cos = math.exp(size) * np.sin(angle), math.exp(size) * np.cos(angle)
        at = torch.arange(side) - (side - 1) / 2
        down, right = at[:, None] + bend[0], chance.choice((-1, 1)) * (at + bend[1])
        top, left = chance.uniform(side / 2 - 20, last + 20 - side / 2, 2)
        rows, columns = top + cos * down - sin * right, left + sin * down + cos * right
        return torch.stack([2 * columns / last - 1, 2 * rows / last - 1], -1)[None]

    def __getitem__(self, index):
        chance = np.random.default_rng((self.seed, self.epoch, index))
        page, places = chance.integers(len(self.images)), self.places(chance).float()
        how = {"padding_mode": "reflection", "align_corners": True}
        x = F.grid_sample(self.images[page][None], places, **how)[0]
        y = F.grid_sample(self.masks[page][None], places, mode="nearest", **how)[0, 0]
        contrast, light = chance.normal(0, 0.15, 2)
        noise = torch.from_numpy(chance.normal(0, 0.1, x.shape)).float()
        return x * (1 + contrast) + light + noise, y.long()


def membranes(folder, seed):
    """Return a net, its loaders and its measure: whole slices 24 to 29 held out."""
    images, masks = load_isbi(folder)  # slice 23, a neighbour, is not used
    train = Bent(images[:23], masks[:23], seed=seed)
    held_out = zip(images[24:30], masks[24:30], strict=True)
    whole = [(to_tensor(x), torch.tensor(y).long()) for x, y in held_out]
    model = UNet(base_channels=32, padding=1, norm="batch", dropout=0.3)

    def pixel_error(model):
        counts = 0
        for image, mask in zip(images[24:30], masks[24:30], strict=True):
            pred = class_probabilities(model.eval(), image).argmax(0)
            counts = counts + count_pixels(pred, torch.from_numpy(mask).long(), 2)
        return pixel_error_of(counts)

    return model, DataLoader(train, 4), DataLoader(whole, 1), pixel_error


def cosine_by_the_clock(optimizer, minutes):
    """Return a schedule that warms up, and falls to zero when the time is over."""
    start = time.monotonic()

    def factor(_):
        done = min(1, (time.monotonic() - start) / (60 * minutes))
        return min(1, 0.02 + 20 * done) * (1 + math.cos(math.pi * done)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def read_options():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=["cars", "membranes"])
    parser.add_argument("--data", default=os.environ.get("UNET_DATA"))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--amp", action="store_true", help="compute in bfloat16")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data with --data or UNET_DATA")
    return options


def main():
    options = read_options()
    torch.manual_seed(options.seed)
    build, rate = {"cars": (cars, 3e-3), "membranes": (membranes, 2e-3)}[options.task]
    model, train, valid, measure = build(options.data, options.seed)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    history = fit(
        model,
        train,
        valid,
        nn.CrossEntropyLoss(),
        optimizer,
        epochs=100_000,
        scheduler=cosine_by_the_clock(optimizer, options.minutes),
        minutes=options.minutes,
        amp=options.amp,
        clip=1.0,
        ema=0.995,
    )
    row = {
        "task": options.task,
        "minutes": options.minutes,
        "epochs": len(history["train_loss"]),
        "metric": measure.__name__,
        "value": f"{measure(model):.4f}",
        "seed": options.seed,
        "amp": options.amp,
        "device": pick_device(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "command": "benchmarks/real.py " + " ".join(sys.argv[1:]),
    }
    print(*row, sep=",")
    print(*row.values(), sep=",")


if __name__ == "__main__":
    main()
