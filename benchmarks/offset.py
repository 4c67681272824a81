"""How far the labels of the ISBI stack are displaced, and what it costs to turn them.

    python benchmarks/offset.py --data DIR              # DIR holds the stack
    python benchmarks/offset.py --data DIR --minutes 6  # and train twice, 6 min each

Membranes are dark. So the labels of a slice are moved over it pixel by pixel, down and
to the right, and the mean grey under them is taken; the lowest point of the parabola
through it says how far they should be moved. Printed are its mean and deviation over
the slices. With --minutes, the recipe `membranes` is trained in 16 bits, and once more
with slices turned by any angle; the last two lines are a table, its columns parted by
semicolons.
"""

import argparse
import platform
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from unet_tutorial.data.datasets import load_isbi
from unet_tutorial.gpu import pick_device
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.runs.run import train_run

MOVES, EDGE = range(-3, 4), 6  # pixels


def best_move(image, membrane, axis):
    """Return by how many pixels labels should be moved along an axis."""
    inner = (slice(EDGE, -EDGE),) * 2
    smooth = ndimage.gaussian_filter(image.astype(float), 1)[inner]
    moved = [np.roll(membrane, move, axis)[inner] == 1 for move in MOVES]
    square, linear, _ = np.polyfit(MOVES, [smooth[under].mean() for under in moved], 2)
    return -linear / (2 * square)


def train(data, minutes, seed, turn):
    """Return the pixel error of the last net, which saw slices turned so far."""
    recipe = read_recipe("membranes")
    recipe = replace(recipe, augment=replace(recipe.augment, turn=turn))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        history = train_run(
            "isbi", data, out, recipe, minutes=minutes, seed=seed, amp=True
        )
    return history["pixel error"][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="holds the stack")
    parser.add_argument("--minutes", type=float, help="train twice for so long")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    images, masks = load_isbi(args.data)
    moves = np.array(
        [
            [best_move(image, mask, axis) for axis in (0, 1)]
            for image, mask in zip(images, masks, strict=True)
        ]
    )
    for name, of_slices in zip(("down", "right"), moves.T, strict=True):
        mean, deviation = of_slices.mean(), of_slices.std()
        print(f"labels fit best moved {mean:.2f} +- {deviation:.2f} pixels {name}")
    if args.minutes:
        row = {"minutes": args.minutes, "seed": args.seed}
        for turn in (read_recipe("membranes").augment.turn, 180):
            error = train(args.data, args.minutes, args.seed, turn)
            row[f"error, turned by {turn} degrees"] = f"{error:.4f}"
        row |= {"device": pick_device().type, "threads": torch.get_num_threads()}
        row |= {"torch": version("torch"), "python": platform.python_version()}
        row |= {"command": " ".join(["benchmarks/offset.py", *sys.argv[1:]])}
        print(*row, sep=";")
        print(*row.values(), sep=";")


if __name__ == "__main__":
    main()
