"""How long one drawn picture of 512 x 512 pixels takes, on one core.

    OMP_NUM_THREADS=1 python benchmarks/draw.py

Printed: for each kind the median of 25 pictures with 25 seeds, as wall-clock time and
as processor time (the same on an idle machine), then the platform and the versions.
"""

import platform
import statistics
from importlib.metadata import version
from time import perf_counter, process_time

from unet_tutorial.synthetic import draw_cars, draw_cells, draw_membranes

PICTURES = 25
KINDS = {
    "membranes": lambda seed: draw_membranes(512, seed),
    "cells": lambda seed: draw_cells(512, seed),
    "cars": lambda seed: draw_cars(seed % 16, (512, 512), seed),
}


def measure(draw):
    """Return the median milliseconds of a picture: wall clock, processor."""
    draw(0)  # the first one pays for what is set up once
    walls, processors = [], []
    for seed in range(PICTURES):
        wall, processor = perf_counter(), process_time()
        draw(seed)
        walls.append(1000 * (perf_counter() - wall))
        processors.append(1000 * (process_time() - processor))
    return statistics.median(walls), statistics.median(processors)


if __name__ == "__main__":
    print("| kind | median ms, wall clock | median ms, processor |")
    print("|---|---|---|")
    for kind, draw in KINDS.items():
        wall, processor = measure(draw)
        print(f"| {kind} | {wall:.1f} | {processor:.1f} |")
    packages = [f"{name} {version(name)}" for name in ("numpy", "pillow")]
    python = f"Python {platform.python_version()}"
    print(platform.platform(), python, *packages, sep=", ")
