"""Train on the real data sets for some minutes, and measure on what was held out.

    python benchmarks/real.py cars --data DIR --minutes 5       # Dice on 4 of 15 cars
    python benchmarks/real.py membranes --data DIR --minutes 8  # error, slices 24 to 29

DIR is searched for the data set; the default is the folder named by UNET_DATA. The last
line is CSV: what was measured, and with which command, seed, device and versions.
"""

import argparse
import math
import os
import platform
import sys
import time
from importlib.metadata import version

import albumentations as A
import torch
from torch import nn
from torch.utils.data import DataLoader

from unet_tutorial.data import (
    ImagePairs,
    Tiles,
    find_carvana,
    load_isbi,
    split_by_car,
)
from unet_tutorial.model import UNet
from unet_tutorial.train import dice_of, fit, pick_device, pixel_error_of


def cars(folder, seed):
    """Return a net and loaders: 11 cars to learn from, 4 held out, at 160x240."""
    learned, held_out = split_by_car(find_carvana(folder), held_out=4, seed=seed)
    changes = [
        A.HorizontalFlip(p=0.5),
        A.Affine(scale=(0.85, 1.15), rotate=(-5, 5), translate_percent=0.1, p=0.8),
        A.RandomBrightnessContrast(p=0.5),
        A.HueSaturationValue(hue_shift_limit=90, p=0.8),
    ]
    train = ImagePairs(learned, transform=A.Compose(changes, seed=seed))
    model = UNet(in_channels=3, base_channels=16, padding=1, norm="batch")
    return (
        model,
        DataLoader(train, 8, shuffle=True),
        DataLoader(ImagePairs(held_out), 16),
    )


def membranes(folder, seed):
    """Return a net and loaders: tiles of slices 0 to 23, slices 24 to 29 held out."""
    images, masks = load_isbi(folder)
    train = Tiles(images[:24], masks[:24], input_tile=380, tiles=200, seed=seed)
    model = UNet(base_channels=16, norm="batch", dropout=0.0)
    held_out = WholeImages(images[24:30], masks[24:30])
    return model, DataLoader(train, 2), DataLoader(held_out, 1)


def cosine_by_the_clock(optimizer, minutes):
    """Return a schedule that warms up, and falls to zero when the time is over."""
    start = time.monotonic()

    def factor(_):
        done = min(1, (time.monotonic() - start) / (60 * minutes))
        return min(1, 0.02 + 20 * done) * (1 + math.cos(math.pi * done)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=["cars", "membranes"])
    parser.add_argument("--data", default=os.environ.get("UNET_DATA"))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--amp", action="store_true", help="compute in bfloat16")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data with --data or UNET_DATA")
    torch.manual_seed(options.seed)
    name, metric, rate = {
        "cars": ("dice", dice_of, 3e-3),
        "membranes": ("pixel error", pixel_error_of, 2e-3),
    }[options.task]
    build = {"cars": cars, "membranes": membranes}[options.task]
    model, train, valid = build(options.data, options.seed)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    history = fit(
        model,
        train,
        valid,
        nn.CrossEntropyLoss(),
        optimizer,
        epochs=100_000,
        metrics={name: metric},
        scheduler=cosine_by_the_clock(optimizer, options.minutes),
        minutes=options.minutes,
        amp=options.amp,
    )
    values = [f"{value:.4f}" for value in history[name]]
    print(f"{name} after each epoch:", *values)
    print(
        "task,minutes,epochs,metric,value,seed,amp,device,threads,python,torch,command"
    )
    row = [options.task, options.minutes, len(values), name, values[-1], options.seed]
    row += [options.amp, pick_device(), torch.get_num_threads()]
    row += [platform.python_version(), version("torch")]
    print(*row, "benchmarks/real.py " + " ".join(sys.argv[1:]), sep=",")


if __name__ == "__main__":
    main()
