"""Train the small net that ships with the package: python tools/small_net.py

It finds membranes in drawn tissue, so that a notebook on prediction or export can begin
with a net that works. The command, its seed and the versions stand in the file's notes;
tests/test_package.py asks the net about tissue it has never seen and compares the Dice.
With --measure nothing is trained: the Dice of the net in the package is printed.
"""

import argparse
import platform
import sys
import time

import torch
from notebooks import ROOT

sys.path.insert(0, str(ROOT))

import numpy as np

from unet_tutorial.metrics import count_pixels, dice_of
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.weights import load_net, save_net
from unet_tutorial.synthetic import draw_membranes
from unet_tutorial.tiles import mean_and_std

NET = ROOT / "unet_tutorial" / "nets" / "membranes.safetensors"
SEED = 0
STEPS = 700
BATCH = 4
TILE = 316  # pixels of an input tile; 228 come out
LOST = 44  # pixels that the net needs beyond each side of its output
TRAINED_ON = range(48)  # seeds of draw_membranes, 512x512
MEASURED_ON = range(1000, 1008)  # seeds that no training sees, 256x256


def drawn(
    seeds,  # of draw_membranes
):  # list of (image (H, W) float32 standardised, truth (H, W) int64)
    "The tissue to learn from."
    pairs = []
    for seed in seeds:
        image, truth = draw_membranes(size=512, seed=seed)
        mean, deviation = mean_and_std(image)
        image = (image.astype(np.float32) - mean) / deviation
        pairs.append((image, truth.astype(np.int64)))
    return pairs


def one_tile(
    pairs,  # see drawn
    rng,  # np.random.Generator
):  # image (1, 316, 316), truth (228, 228)
    "A random piece in one of its eight positions."
    image, truth = pairs[rng.integers(len(pairs))]
    top, left = rng.integers(0, image.shape[0] - TILE + 1, 2)
    image = image[top : top + TILE, left : left + TILE]
    truth = truth[top : top + TILE, left : left + TILE]
    truth = truth[LOST:-LOST, LOST:-LOST]
    turns, mirrored = rng.integers(4), rng.integers(2)
    image, truth = np.rot90(image, turns), np.rot90(truth, turns)
    if mirrored:
        image, truth = image[:, ::-1], truth[:, ::-1]
    return torch.tensor(image.copy())[None], torch.tensor(truth.copy())


def train(
    steps=STEPS,  # of the optimizer
):  # UNet, trained
    "A plain loop: tiles, logits, loss, gradients, step."
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = UNet(base_channels=8, depth=3, norm="batch", dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-2, total_steps=steps
    )
    pairs = drawn(TRAINED_ON)
    criterion = torch.nn.CrossEntropyLoss()
    for step in range(1, steps + 1):
        batch = [one_tile(pairs, rng) for _ in range(BATCH)]
        images = torch.stack([image for image, _ in batch])  # (B, 1, 316, 316)
        truths = torch.stack([truth for _, truth in batch])  # (B, 228, 228)
        loss = criterion(model(images), truths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} of {steps}, loss {loss.item():.4f}", flush=True)
    return model.eval()


def measure(
    model,  # UNet
):  # float, Dice over all pixels of tissue that the net has never seen
    "Ask the net as a reader would."
    predictor, counts = Predictor(model, torch.device("cpu")), 0
    for seed in MEASURED_ON:
        image, truth = draw_membranes(size=256, seed=seed)
        labels = torch.tensor(predictor(image)).long()
        counts = counts + count_pixels(labels, torch.tensor(truth), 2)
    return float(dice_of(counts))


def main():
    "Train and write, or measure."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="train nothing")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the optimizer")
    args = parser.parse_args()
    if args.measure:
        model, notes = load_net(NET)
        print(f"Dice {measure(model):.4f}, recorded {notes['dice']:.4f}")
        return
    torch.set_num_threads(1)  # sums in the same order on any number of cores
    start = time.monotonic()
    model = train(args.steps)
    notes = {
        "classes": ["background", "membrane"],
        "normalisation": "image",
        "dice": round(measure(model), 4),
        "measured_on": "draw_membranes(size=256), seeds 1000 to 1007",
        "trained_on": "draw_membranes(size=512), seeds 0 to 47",
        "command": f"python tools/small_net.py --steps {args.steps}",
        "seed": SEED,
        "device": "cpu, one thread",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__.split("+")[0],
        },
    }
    NET.parent.mkdir(exist_ok=True)
    save_net(NET, model, overwrite=True, **notes)
    seconds, size = time.monotonic() - start, NET.stat().st_size
    print(
        f"Dice {notes['dice']:.4f}, {size / 1000:.0f} kB, {seconds:.0f} s: {NET.name}"
    )


if __name__ == "__main__":
    main()
