"""The window of the paper with its changes: what albumentations takes, and what we do.

    python benchmarks/augment.py                           # 20 rounds, half a minute
    python benchmarks/augment.py --out results/augment.csv

Windows of 572 x 572 of a drawn slice of 512 x 512, their labels and the weights of
Equation 2 for the middle of 388 x 388, are cut, mirrored, shifted, turned, bent and
changed in their grey values: by `membrane_pipeline` of `data.pipelines`, which changes
the window with its rim, and by `TissueChanges` of `data.tissue`, as floats and as bytes
that become floats where `to_device` sends them (here they stay on the CPU, which counts
this as well). In each round all three make the same number of windows on one core, one
after the other, and the time of the processor is taken. Printed and written: the median
of the milliseconds per window, the median of the rounds' ratios, and the megabytes that
travel.
"""

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import table
import torch

from unet_tutorial.data.crops import Windows
from unet_tutorial.data.pipelines import membrane_pipeline
from unet_tutorial.data.tissue import TissueChanges
from unet_tutorial.synthetic import draw_cells

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from times import processor

from unet_tutorial.train import to_device
from unet_tutorial.weight_map import separate_cells, weight_map


def examples(weighted):
    """Return one drawn slice with its labels and, if wanted, weights."""
    image, labels = draw_cells(size=512, seed=0)
    objects = separate_cells(labels)
    parts = [image, (objects > 0).astype(np.uint8)]
    return [[*parts, weight_map(objects)] if weighted else parts]


def milliseconds(windows, first, count):
    """Return how long the processor works for a window, over some windows."""
    start = process_time()
    for index in range(first, first + count):
        to_device(windows[index % len(windows)], "cpu")
    return 1000 * (process_time() - start) / count


def measure(weighted, rounds, count):
    """Return the milliseconds of all three per window, by round, and their sizes."""
    ways = (
        (membrane_pipeline(), False),
        (TissueChanges(), False),
        (TissueChanges(), True),
    )
    data = [
        Windows(examples(weighted), pipeline=pipeline, as_bytes=as_bytes)
        for pipeline, as_bytes in ways
    ]
    for windows in data:
        milliseconds(windows, 0, 2)  # what happens at first use
    times = [
        [milliseconds(windows, number * count, count) for windows in data]
        for number in range(rounds)
    ]
    return times, [megabytes(windows[0]) for windows in data]


def megabytes(parts):
    """Return how much the parts of an item, or a tensor, are on their way."""
    if isinstance(parts, torch.Tensor):
        return parts.nbytes / 1e6
    return sum(megabytes(part) for part in parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, default=4, help="windows per round")
    parser.add_argument("--out", type=Path, help="a CSV file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for weighted in (False, True):
        times, sizes = measure(weighted, options.rounds, options.count)
        old, new, light = (median(column) for column in zip(*times, strict=True))
        factor = median(before / after for before, after, _ in times)
        more = median(before / after for before, _, after in times)
        what = "image, labels, weights" if weighted else "image, labels"
        print(f"{what}: {old:.1f} ms, {new:.1f} ms, {factor:.1f} times")
        print(
            f"  as bytes {light:.1f} ms, {more:.1f} times; {sizes[0]:.2f} MB are",
            end="",
        )
        print(f" {sizes[2]:.2f} MB")
        rows.append(
            {
                "parts": what,
                "albumentations ms": f"{old:.1f}",
                "tissue ms": f"{new:.1f}",
                "factor": f"{factor:.1f}",
                "as bytes ms": f"{light:.1f}",
                "factor as bytes": f"{more:.1f}",
                "MB floats": f"{sizes[1]:.2f}",
                "MB bytes": f"{sizes[2]:.2f}",
                "rounds": options.rounds,
                "command": " ".join(["benchmarks/augment.py", *sys.argv[1:]]),
                "device": f"{processor()}, 1 thread",
                "python": platform.python_version(),
                "torch": version("torch"),
                "albumentations": version("albumentations"),
                "numpy": version("numpy"),
            }
        )
    if options.out:
        table.write(options.out, rows)


if __name__ == "__main__":
    main()
