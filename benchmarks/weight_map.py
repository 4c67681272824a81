"""How much faster `border_weights` is than one distance transform a cell.

    OMP_NUM_THREADS=1 python benchmarks/weight_map.py

Three label maps of 512 x 512 pixels with 100 cells each, and larger sigmas on one of
them. Beside the library run two plain versions of Eq. 2: one stacks a transform of the
whole image for each cell and sorts the stack, as everyone writes it; the frugal one
keeps the two smallest distances only. Printed: the medians of five rounds in processor
time, in which the three take turns, both ratios, and the largest difference; then the
platform, the seed and the versions. The script fails if a result differs by more than
1e-5, or if a map with the paper's sigma is less than 20 times as fast as either.
"""

import platform
import statistics
import sys
from importlib.metadata import version
from time import process_time

import numpy as np
from scipy.ndimage import distance_transform_edt

from unet_tutorial.weight_map import border_weights, separate_cells

SIZE, CELLS, SEED, ROUNDS = 512, 100, 0, 5


def draw(radius, rng):
    """Return a label map of 100 cells, cut off at half the way to their neighbours."""
    side = round(CELLS**0.5)
    middles = (np.indices((side, side)).reshape(2, -1).T + 0.5) * SIZE / side
    middles += rng.uniform(-8, 8, middles.shape)
    ys, xs = np.indices((SIZE, SIZE), np.float32)
    away = np.stack([np.hypot(ys - y, xs - x) for y, x in middles])
    return np.where(away.min(axis=0) < radius, away.argmin(axis=0) + 1, 0)


def sorted_stack(labels, sigma):
    """Return the border term as everyone writes it."""
    cells = [i for i in np.unique(labels) if i > 0]
    away = np.stack([distance_transform_edt(labels != i) for i in cells])
    away.sort(axis=0)
    return 10 * np.exp(-((away[0] + away[1]) ** 2) / (2 * sigma**2))


def frugal(labels, sigma):
    """Return the border term, keeping the two smallest distances only."""
    d1, d2 = np.full((2, *labels.shape), np.inf)
    for i in np.unique(labels):
        if i > 0:
            away = distance_transform_edt(labels != i)
            d2 = np.minimum(d2, np.maximum(d1, away))
            d1 = np.minimum(d1, away)
    return 10 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))


def ours(labels, sigma):
    """Return the border term by the library."""
    return border_weights(labels, 10, sigma)


def measure(labels, sigma):
    """Return the median seconds of the three, and the largest difference."""
    times, results = {}, {}
    for _ in range(ROUNDS):
        for how in (sorted_stack, frugal, ours):
            start = process_time()
            results[how] = how(labels, sigma)
            times.setdefault(how, []).append(process_time() - start)
    error = max(np.abs(results[ours] - results[h]).max() for h in results)
    return *(statistics.median(times[how]) for how in times), error


def main():
    rng, bad = np.random.default_rng(SEED), 0
    maps = {f"discs of radius {r}": draw(r, rng) for r in (10, 20)}
    maps["touching, then parted"] = separate_cells(draw(36, rng))
    jobs = [(name, 5.0) for name in maps] + [
        ("discs of radius 20", s) for s in (10, 20)
    ]
    print("| map | cells | sigma | sort ms | frugal ms | ours ms | ratios | error |")
    print("|---|---|---|---|---|---|---|---|")
    for name, sigma in jobs:
        cells = len(np.unique(maps[name])) - 1
        stack, two, fast, error = measure(maps[name], sigma)
        ratios = stack / fast, two / fast
        bad += error > 1e-5 or cells != CELLS or (sigma == 5 and min(ratios) < 20)
        row = [name, cells, sigma, *(f"{1000 * t:.0f}" for t in (stack, two, fast))]
        row += [" and ".join(f"{ratio:.1f}" for ratio in ratios), f"{error:.0e}"]
        print("|", " | ".join(map(str, row)), "|")
    packages = [f"{name} {version(name)}" for name in ("numpy", "scipy")]
    python = f"Python {platform.python_version()}"
    print(f"{SIZE} x {SIZE} pixels, seed {SEED}", end=", ")
    print(platform.platform(), python, *packages, sep=", ")
    return f"{bad} of {len(jobs)} rows miss their mark" if bad else 0


if __name__ == "__main__":
    sys.exit(main())
