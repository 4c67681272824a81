"""Train on the real data sets for some minutes, and measure on what was held out.

    python benchmarks/real.py cars --data DIR --minutes 8        # Dice on 4 of 15 cars
    python benchmarks/real.py membranes --data DIR --minutes 20  # error, slices 24-29

DIR is searched for the data set; the default is the folder named by UNET_DATA. This is
`unet-tutorial train --kind carvana` (or `isbi`) `--minutes M`, and `unet-tutorial
evaluate` after it. The net that is measured is that of the epoch that did best on these
same images, so the value is a little too good. `--out RUN` keeps the run, `--views 2`
averages over an image and its mirror image. The last two lines are CSV: what was
measured, with which command, seed, device and versions. (The row `cars` of
results/real.csv is of a time when the command changed photographs by `car_pipeline` of
`data.pipelines`; now it does so by `PhotoChanges`.)
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from unet_tutorial.cli import main as command_line
from unet_tutorial.gpu import pick_device
from unet_tutorial.predict import Averaged
from unet_tutorial.runs.run import evaluate_run

TASKS = {"cars": ("carvana", "dice"), "membranes": ("isbi", "pixel error")}


def read_options():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", default=os.environ.get("UNET_DATA"))
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--amp", default="auto", help="as for unet-tutorial train")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--out", help="where the run is kept; else it is not")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data with --data or UNET_DATA")
    return options


def main():
    """Measure, in a folder that is kept if it is named."""
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        return measure(options, options.out or str(Path(folder) / "run"))


def measure(options, out):
    """Train, evaluate, print a row, and return the exit status."""
    kind, metric = TASKS[options.task]
    asked = {"kind": kind, "data": options.data, "out": out}
    asked |= {name: getattr(options, name) for name in ("minutes", "seed", "amp")}
    line = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    if status := command_line(["train", *line]):
        return status
    with open(Path(out) / "history.csv") as file:
        epochs = len(file.readlines()) - 1
    wrap = partial(Averaged, views=options.views) if options.views > 1 else None
    row = {
        "task": options.task,
        "minutes": options.minutes,
        "epochs": epochs,
        "metric": metric,
        "value": f"{evaluate_run(out, wrap=wrap)[metric]:.4f}",
        "seed": options.seed,
        "views": options.views,
        "amp": json.loads((Path(out) / "environment.json").read_text())["amp"],
        "device": pick_device(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "command": "benchmarks/real.py " + " ".join(sys.argv[1:]),
    }
    print(*row, sep=",")
    print(*row.values(), sep=",")
    return 0


if __name__ == "__main__":
    sys.exit(main())
