"""Does the weight map do what it is for? Touching cells with it and without it.

    python benchmarks/touching.py [--out results/touching.csv]

A small net learns from drawn cells that touch, four times a seed. The four have the
same first weights, images, crops and target, the mask after `separate_cells`; only the
weights of `weighted_cross_entropy` differ:

    class       w_c alone, what Eq. 2 is without its border term
    equation    Eq. 2 as printed, its border term on every pixel, so on cells, too
    background  Eq. 2 with its border term on the background only
    later       the authors' later map, which has another first term, too

A held-out cell is right if a connected component of the predicted mask matches it with
IoU > 0.5. `share` counts these in the mask of the more probable class. `tuned` is their
share in the mask p(cell) > t, where t gives the most right cells on the training set:
what the weights do beyond moving the threshold. `lines` is the share of the pixels of
the separating lines that are background in the mask p > 0.5, `dice` that of its cells.
Printed: a CSV row a run, the mean of
each kind and its difference to `class`, then command, device and versions. The script
fails unless `background` is above `class` in both of these shares with every seed.
"""

import argparse
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import label
from table import write

from unet_tutorial.losses import weighted_cross_entropy
from unet_tutorial.metrics import cell_ious, dice, pixel_error, seg_score
from unet_tutorial.model import UNet
from unet_tutorial.synthetic import draw_cells
from unet_tutorial.weight_map import (
    border_weights,
    class_weights,
    separate_cells,
    weight_map,
)

SEEDS, KINDS = (0, 1, 2), ("class", "equation", "background", "later")
SIZE, CROP, LEARNED, HELD_OUT = 192, 96, 48, 16  # cells are about 42 pixels wide
STEPS, BATCH, RATE = 360, 4, 3e-3
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
SCORES = ("lines", "dice", "share", "tuned", "SEG", "pixel_error")


def draw(seed):
    """Return images (64, 1, 192, 192) and their label maps (64, 192, 192)."""
    pairs = [draw_cells(SIZE, 1000 * seed + i) for i in range(LEARNED + HELD_OUT)]
    images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    return (torch.from_numpy(images).float()[:, None] - 122) / 20, labels


def weigh(kind, targets):
    """Return the weights (48, 192, 192) of one kind for all training images."""
    classes = class_weights(*targets)
    maps = {
        "class": lambda t: weight_map(t, w0=0, classes=classes),
        "equation": lambda t: weight_map(t, classes=classes),
        "background": lambda t: (
            weight_map(t, w0=0, classes=classes) + border_weights(t) * (t == 0)
        ),
        "later": lambda t: weight_map(t, variant="later"),
    }
    return torch.from_numpy(np.stack([maps[kind](target) for target in targets]))


def batches(seed):
    """Yield which images, the corner of a crop, and whether it is transposed."""
    rng = np.random.default_rng(seed)
    for step in range(STEPS):
        start = step * BATCH % LEARNED
        if start == 0:
            order = rng.permutation(LEARNED)
        y, x = rng.integers(SIZE - CROP + 1, size=2)
        yield order[start : start + BATCH], y, x, rng.random() < 0.5


def learn(seed, images, target, weights):
    """Return a net that was trained with these weights."""
    torch.manual_seed(seed)
    net = UNet(base_channels=8, depth=3, padding=1, norm="batch", dropout=0.0)
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=STEPS, pct_start=0.2
    )
    for some, y, x, turn in batches(seed):
        batch = [
            part[some][..., y : y + CROP, x : x + CROP]
            for part in (images, target, weights)
        ]
        if turn:  # the lamp stands in the diagonal, so this is a possible image
            batch = [part.transpose(-1, -2) for part in batch]
        loss = weighted_cross_entropy(net(batch[0]), *batch[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def probabilities(net, images):
    """Return the probability of a cell (N, H, W)."""
    some = [net(part).softmax(dim=1)[:, 1] for part in images.split(BATCH)]
    return torch.cat(some).numpy()


def components(masks):
    """Return the connected components of each mask (N, H, W), numbered."""
    return np.stack([label(mask)[0] for mask in masks])


def right(masks, truth):
    """Return how many true cells are counted right, and how many there are."""
    pairs = zip(components(masks), truth, strict=True)
    ious = [iou for pair in pairs for iou in cell_ious(*pair).values()]
    return sum(iou > 0.5 for iou in ious), len(ious)


def measure(net, images, labels):
    """Return what a net reaches on the held-out images."""
    p, truth = probabilities(net, images), labels[LEARNED:]
    learned, held_out = p[:LEARNED], p[LEARNED:]
    best = max(THRESHOLDS, key=lambda t: right(learned > t, labels[:LEARNED])[0])
    count, cells = right(held_out > 0.5, truth)
    mask = np.stack([separate_cells(one) > 0 for one in truth])
    line = (truth > 0) & ~mask  # what separates cells that touch
    return {
        "right": count,
        "cells": cells,
        "share": round(count / cells, 4),
        "threshold": best,
        "tuned": round(right(held_out > best, truth)[0] / cells, 4),
        "SEG": round(seg_score(components(held_out > 0.5), truth), 4),
        "pixel_error": round(pixel_error(held_out > 0.5, mask), 4),
        "lines": round((held_out[line] <= 0.5).mean(), 4),
        "dice": round(dice(held_out > 0.5, mask), 4),
    }


def runs():
    """Train and measure once a seed and kind; yield the rows."""
    for seed in SEEDS:
        images, labels = draw(seed)
        targets = [separate_cells(one) for one in labels[:LEARNED]]
        target = torch.from_numpy(np.stack(targets) > 0).long()
        for kind in KINDS:
            start = time.perf_counter()
            net = learn(seed, images[:LEARNED], target, weigh(kind, targets))
            row = {"seed": seed, "weights": kind, **measure(net, images, labels)}
            yield {**row, "seconds": round(time.perf_counter() - start, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="a CSV file for the rows")
    out = parser.parse_args().out
    torch.set_num_threads(1)  # a second run gives the same shares
    rows, start = [], time.perf_counter()
    for row in runs():
        if not rows:
            print(*row, sep=",")
        rows.append(row)
        print(*row.values(), sep=",", flush=True)
    means = {
        kind: np.mean(
            [[row[name] for name in SCORES] for row in rows if row["weights"] == kind],
            axis=0,
        )
        for kind in KINDS
    }
    print("mean and difference to class,", ", ".join(SCORES))
    for kind, mean in means.items():
        more = mean - means["class"]
        pairs = zip(mean, more, strict=True)
        print(f"{kind:10}", *[f"{a:.3f} ({b:+.3f})" for a, b in pairs], sep="  ")
    about = {
        "command": "benchmarks/touching.py",
        "device": f"cpu ({platform.machine()}), 1 thread",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "scipy")},
    }
    print(*[f"{key}: {value}" for key, value in about.items()], sep="; ")
    print(f"seeds {SEEDS}, {time.perf_counter() - start:.0f} s in all")
    if out:
        write(out, [{**row, **about} for row in rows])
    found = {(row["seed"], row["weights"]): row for row in rows}
    for seed in SEEDS:
        for name in ("share", "tuned"):
            if not found[seed, "background"][name] > found[seed, "class"][name]:
                sys.exit(f"seed {seed}: the border term did not help, see {name}")
    print("The border term on the background helps with every seed.")


if __name__ == "__main__":
    main()
