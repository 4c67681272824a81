"""The window of the paper with its changes: what albumentations takes, and what we do.

    python benchmarks/augment.py                           # 20 rounds, half a minute
    python benchmarks/augment.py --out results/augment.csv
    python benchmarks/augment.py --cars --out results/augment_cars.csv

Windows of 572 x 572 of a drawn slice of 512 x 512, their labels and the weights of
Equation 2 for the middle of 388 x 388, are cut, mirrored, shifted, turned, bent and
changed in their grey values: by `membrane_pipeline` of `data.pipelines`, which changes
the window with its rim, and by `TissueChanges` of `data.tissue`, as floats and as bytes
that become floats where `to_device` sends them (here they stay on the CPU, which counts
this as well). In each round all three make the same number of windows on one core, one
after the other, and the time of the processor is taken. Printed and written: the median
of the milliseconds per window, the median of the rounds' ratios, and the megabytes that
travel.

With --cars: a drawn photograph with its mask, at two sizes, by `car_pipeline` of
`data.pipelines` and by `PhotoChanges` of `data.photo_changes`, in turns as well. The
ratio alone is written; it bears other work on the same machine.
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
from unet_tutorial.data.photo_changes import PhotoChanges
from unet_tutorial.data.pipelines import car_pipeline, cv2, membrane_pipeline
from unet_tutorial.data.tissue import TissueChanges
from unet_tutorial.synthetic import draw_cars, draw_cells

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


def compare_cars(size, rounds, count):
    """Return by round how many times as long as ours the composition works."""
    photograph, mask = draw_cars(angle=2, size=size, seed=4)
    given = {"image": photograph, "mask": mask.astype(np.uint8)}
    ratios = []
    for _ in range(rounds):
        times = []
        for change in (car_pipeline(), PhotoChanges()):
            change(**given)  # what happens at first use
            start = process_time()
            for _ in range(count):
                change(**given)
            times.append(process_time() - start)
        ratios.append(times[0] / times[1])
    return ratios


def provenance():
    """Return what a row says of where it was measured."""
    return {
        "command": " ".join(["benchmarks/augment.py", *sys.argv[1:]]),
        "device": f"{processor()}, 1 thread",
        "python": platform.python_version(),
        "torch": version("torch"),
        "albumentations": version("albumentations"),
        "numpy": version("numpy"),
    }


def rows_of_cars(rounds, count):
    """Compare at two sizes, and print what comes out."""
    rows = []
    for size in ((160, 240), (320, 480)):
        ratios = sorted(compare_cars(size, rounds, count))
        low, middle, high = ratios[0], median(ratios), ratios[-1]
        name = "x".join(map(str, size))
        print(f"{name}: {middle:.2f} times, from {low:.2f} to {high:.2f}")
        row = {"size": name, "factor": f"{middle:.2f}", "lowest": f"{low:.2f}"}
        rows.append(row | {"highest": f"{high:.2f}", "rounds": rounds} | provenance())
    return rows


def megabytes(parts):
    """Return how much the parts of an item, or a tensor, are on their way."""
    if isinstance(parts, torch.Tensor):
        return parts.nbytes / 1e6
    return sum(megabytes(part) for part in parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, default=4, help="windows per round")
    parser.add_argument("--cars", action="store_true", help="photographs instead")
    parser.add_argument("--out", type=Path, help="a CSV file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if options.cars:
        rows = rows_of_cars(options.rounds, 5 * options.count)
    else:
        rows = rows_of_windows(options.rounds, options.count)
    if options.out:
        table.write(options.out, rows)


def rows_of_windows(rounds, count):
    """Compare with and without weights, and print what comes out."""
    rows = []
    for weighted in (False, True):
        times, sizes = measure(weighted, rounds, count)
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
                "rounds": rounds,
            }
            | provenance()
        )
    return rows


if __name__ == "__main__":
    main()
