"""How long a metric takes on a pair of 512 x 512 pixels, on one core.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py

The truth is a drawn section of tissue. The predictions: the same with thicker
membranes, another section, and noise of which every second pixel is membrane. Printed:
the median of 15 runs in milliseconds and the value; then the platform and the versions.
"""

import platform
import statistics
from importlib.metadata import version
from time import perf_counter

import numpy as np
from scipy.ndimage import binary_dilation, label

from unet_tutorial.metrics import (
    dice,
    pixel_error,
    rand_error,
    seg_score,
    warping_error,
)
from unet_tutorial.synthetic import draw_membranes

RUNS = 15


def measure(metric, pred, true):
    """Return the median milliseconds of a metric, and its value."""
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        value = metric(pred, true)
        times.append(1000 * (perf_counter() - start))
    return statistics.median(times), value


def main():
    _, true = draw_membranes(512, seed=0)
    noise = np.random.default_rng(0).random(true.shape) < 0.5
    pairs = {
        "thicker": binary_dilation(true),
        "another": draw_membranes(512, seed=1)[1],
        "noise": noise,
    }
    print("| prediction | metric | median ms | value |")
    print("|---|---|---|---|")
    for name, pred in pairs.items():
        for metric in (pixel_error, dice, warping_error):
            took, value = measure(metric, pred, true)
            print(f"| {name} | {metric.__name__} | {took:.1f} | {value:.6f} |")
        segments = label(~pred)[0], label(~true)[0]
        for metric in (rand_error, seg_score):
            took, value = measure(metric, *segments)
            print(f"| {name} | {metric.__name__} | {took:.1f} | {value:.6f} |")
    packages = [f"{name} {version(name)}" for name in ("numpy", "scipy", "torch")]
    python = f"Python {platform.python_version()}"
    print(platform.platform(), python, *packages, sep=", ")


if __name__ == "__main__":
    main()
