"""What helps a class of one pixel in two thousand: windows placed on it, or weights?

    python benchmarks/rare.py --minutes 1 --seeds 0 1 2

Drawn: discs (class 1), rings (2), small crosses (3), of which most images have none.
The recipe `auto` is derived once; then `objects` and `class_weights` are set or not,
and each net is trained as long as the others. The Dice of each class on test images,
all pixels together, goes to results/rare.csv, with seed, device and versions.
"""

import argparse
import platform
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import own_sets
import table
import torch
from own import ROOT, processor

from unet_tutorial.data.source import Item, Source
from unet_tutorial.metrics import count_pixels
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.planner import measure_folder, plan_for, rarity_weights
from unet_tutorial.runs.run import train_run

CLASSES = ("background", "disc", "ring", "cross")


def read_options():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "rare.csv")
    return parser.parse_args()


def draw(seed, size=256):
    """Draw (image (H, W) uint8, labels (H, W) uint8)."""
    rng = np.random.default_rng(seed)
    light, labels = np.zeros((size, size)), np.zeros((size, size), np.uint8)
    rows, columns = np.mgrid[:size, :size]
    for kind in [1] * 8 + [2] * 5 + [3] * int(rng.integers(3)):
        y, x = rng.uniform(24, size - 24, 2)
        radius = rng.uniform(*{1: (10, 20), 2: (7, 12), 3: (5, 7)}[kind])
        far = np.hypot(rows - y, columns - x)
        mask = far < radius
        if kind == 2:
            mask &= far > radius - 3
        if kind == 3:
            mask &= np.minimum(abs(rows - y), abs(columns - x)) < 1
        light[mask] = rng.uniform(25, 45)
        labels[mask] = kind
    return own_sets.on_ground(rng, light, colours=None), labels


def drawn_source(first, count):
    """Return drawn images as a source."""
    drawn = [draw(first + number) for number in range(count)]
    items = [Item(Path("-"), Path("-"), str(n), n) for n in range(count)]
    read = {
        "read_pixels": lambda item, size: drawn[item.page][0],
        "read_truth": lambda item, size: drawn[item.page][1],
        "channels": 1,
    }
    return Source("drawn", items, CLASSES, **read)


def dice_of_classes(net, test):
    """Return the Dice of each class but the background."""
    counts = sum(
        count_pixels(
            torch.from_numpy(net(test.image(n)).astype(np.int64)),
            torch.from_numpy(test.labels(n).astype(np.int64)),
            len(CLASSES),
        )
        for n in range(len(test))
    )
    total = counts.sum(0) + counts.sum(1)
    return (2 * counts.diagonal() / total.clamp(min=1)).tolist()[1:]


def measure(options):
    """Yield a row for each way and seed."""
    learn, test = drawn_source(0, options.images), drawn_source(1000, 24)
    facts = measure_folder(learn)
    recipe = plan_for(facts, 0.35, options.minutes, size="native").recipe
    for seed in options.seeds:
        for objects in (None, 1 / 3):
            for weights in (None, rarity_weights(facts)):
                way = replace(recipe, objects=objects, class_weights=weights)
                dices = train(learn, test, way, seed, options.minutes)
                yield {
                    "objects": f"{objects or 0:.2f}",
                    "class_weights": " ".join(f"{w:g}" for w in weights or [1] * 4),
                    **{
                        f"dice {name}": f"{dice:.3f}"
                        for name, dice in zip(CLASSES[1:], dices, strict=True)
                    },
                    "shares": " ".join(f"{share:.5f}" for share in facts.shares),
                    "images": options.images,
                    "minutes": options.minutes,
                    "seed": seed,
                    "device": processor(),
                    "threads": torch.get_num_threads(),
                    "python": platform.python_version(),
                    "torch": version("torch"),
                }


def train(learn, test, recipe, seed, minutes):
    """Train a net, and return its Dice of each class."""
    with tempfile.TemporaryDirectory() as place:
        out, how = Path(place) / "run", {"device": "cpu", "size": "native"}
        train_run("folder", learn, out, recipe, seed=seed, minutes=minutes, **how)
        return dice_of_classes(Predictor.load(out, "cpu"), test)


def main():
    """Measure, and write the rows after each."""
    options, rows = read_options(), []
    for row in measure(options):
        print(*row.values(), sep=", ", flush=True)
        rows.append(row)
        table.write(options.out, rows)


if __name__ == "__main__":
    main()
