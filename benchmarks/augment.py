"""The window of the paper with its changes: what albumentations takes, and what we do.

    python benchmarks/augment.py                           # 20 rounds, half a minute
    python benchmarks/augment.py --out results/augment.csv

Windows of 572 x 572 of a drawn slice of 512 x 512, their labels and the weights of
Equation 2 for the middle of 388 x 388, are cut, mirrored, shifted, turned, bent and
changed in their grey values: by `membrane_pipeline` of `data.pipelines`, which changes
the window with its rim, and by `TissueChanges` of `data.tissue`. In each round both
make the same number of windows on one core, one after the other. Printed and written:
the median of the milliseconds per window, and the median of the rounds' ratios.
"""

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import table
import torch

from unet_tutorial.data.crops import Windows
from unet_tutorial.data.pipelines import membrane_pipeline
from unet_tutorial.data.tissue import TissueChanges
from unet_tutorial.synthetic import draw_cells
from unet_tutorial.weight_map import separate_cells, weight_map


def examples(weighted):
    """Return one drawn slice with its labels and, if wanted, weights."""
    image, labels = draw_cells(size=512, seed=0)
    objects = separate_cells(labels)
    parts = [image, (objects > 0).astype(np.uint8)]
    return [[*parts, weight_map(objects)] if weighted else parts]


def milliseconds(windows, first, count):
    """Return how long a window takes, over some windows."""
    start = perf_counter()
    for index in range(first, first + count):
        windows[index % len(windows)]
    return 1000 * (perf_counter() - start) / count


def measure(weighted, rounds, count):
    """Return the milliseconds of both per window, one pair per round."""
    pipelines = membrane_pipeline(), TissueChanges()
    data = [Windows(examples(weighted), pipeline=pipeline) for pipeline in pipelines]
    for windows in data:
        milliseconds(windows, 0, 2)  # what happens at first use
    return [
        [milliseconds(windows, number * count, count) for windows in data]
        for number in range(rounds)
    ]


def processor():
    """Return the name of the processor, where the system tells it."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    names = [line for line in text.splitlines() if line.startswith("model name")]
    return names[0].split(": ")[1] if names else platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, default=4, help="windows per round")
    parser.add_argument("--out", type=Path, help="a CSV file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for weighted in (False, True):
        pairs = measure(weighted, options.rounds, options.count)
        old, new = (median(times) for times in zip(*pairs, strict=True))
        factor = median(before / after for before, after in pairs)
        what = "image, labels, weights" if weighted else "image, labels"
        print(f"{what}: {old:.1f} ms, {new:.1f} ms, {factor:.1f} times")
        rows.append(
            {
                "parts": what,
                "albumentations ms": f"{old:.1f}",
                "tissue ms": f"{new:.1f}",
                "factor": f"{factor:.1f}",
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
