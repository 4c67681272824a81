"""What `04_skips` says of longer trainings and of skips that are shifted.

    python benchmarks/skips.py [--out results/skips.csv]

The net, its images and its training are cells of `nbs/04_skips.ipynb`, executed as they
are there. Nets with and without skips learn for 140 steps and for 420, and nets whose
skips are shifted by 2 and by 4 pixels, down and to the right, for 140; with each of the
seeds 0 to 2. `seed_0` to `seed_2` are the shares of wrong pixels in the sixteen unseen
images. Printed: a row per kind of net, then device and versions.
"""

import argparse
import json
import platform
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from table import write
from torch import nn

from unet_tutorial.blocks import DoubleConv, init_weights
from unet_tutorial.skips import Down, Up
from unet_tutorial.synthetic import draw_membranes

NOTEBOOK = Path(__file__).resolve().parent.parent / "nbs" / "04_skips.ipynb"
SEEDS, STEPS = (0, 1, 2), (140, 420)
CELLS = "WIDTHS = ", "def batch(", "images, labels = batch(", "def train("


def names_of_notebook(cells=CELLS):
    """Execute the cells that begin like this; return the names they define."""
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in book["cells"]]
    sources = [text for text in sources if text.startswith(cells)]
    assert len(sources) == len(cells), f"of {cells} {len(sources)} cells are there"
    names = {"torch": torch, "nn": nn, "F": F, "pairwise": pairwise, "Up": Up}
    names |= {"DoubleConv": DoubleConv, "Down": Down, "draw_membranes": draw_membranes}
    names["print"] = lambda *_: None
    exec("\n\n".join(sources), names)
    return names


class Shifted(nn.Module):
    """A step up that gets its skip some pixels further down and to the right."""

    def __init__(self, up, pixels):
        super().__init__()
        self.up, self.pixels = up, pixels

    def forward(self, x, skip):
        return self.up(x, skip.roll((self.pixels, self.pixels), (2, 3)))


def error_of(names, seed, steps, skips, shift):
    """Train a net of the notebook; return its share of wrong pixels."""
    torch.manual_seed(seed)
    net = names["SmallNet"](skips=skips)
    init_weights(net)
    if shift:
        net.up = nn.ModuleList(Shifted(up, shift) for up in net.up)
    names["train"](net, steps)
    with torch.no_grad():
        predicted = net.eval()(names["unseen"]).argmax(1)
    return (predicted != names["truth"]).float().mean().item()


def runs():
    """Train all nets; yield a row for the three seeds of each kind."""
    names = names_of_notebook()
    plain = [(steps, skips, 0) for steps in STEPS for skips in (False, True)]
    shifted = [(STEPS[0], True, shift) for shift in (2, 4)]
    for steps, skips, shift in plain + shifted:
        row = {"steps": steps, "skips": skips, "shift": shift}
        for seed in SEEDS:
            error = error_of(names, seed, steps, skips, shift)
            row[f"seed_{seed}"] = f"{error:.4f}"
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="a CSV file for the rows")
    out = parser.parse_args().out
    torch.set_num_threads(1)  # a second run gives the same errors
    rows = []
    for row in runs():
        if not rows:
            print(*row, sep=",")
        rows.append(row)
        print(*row.values(), sep=",", flush=True)
    about = {
        "command": "benchmarks/skips.py",
        "device": f"cpu ({platform.machine()}), 1 thread",
        "python": platform.python_version(),
        "torch": version("torch"),
    }
    print(*[f"{key}: {value}" for key, value in about.items()], sep="; ")
    if out:
        write(out, [{**row, **about} for row in rows])


if __name__ == "__main__":
    main()
