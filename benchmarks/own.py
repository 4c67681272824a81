"""The first attempt on a folder of one's own, beside a threshold and a textbook loop.

    python benchmarks/own.py --data DIR --minutes 6               # five sets
    python benchmarks/own.py --sets lines spots --minutes 6       # those that are drawn
    python benchmarks/own.py --folder MINE --minutes 6            # train/, test/ in it
    python benchmarks/own.py --data DIR --minutes 6 --resume     # what is not there yet

Nothing is tuned: `unet-tutorial train --kind folder --minutes M` and `predict`, as the
README says, on the folder `train`; then the Dice coefficient of the foreground on the
images in `test`, all pixels together. Beside it, in the same minutes, the loop of a
textbook (U-Net of 32 channels with batch norm, whole images, Adam, cross-entropy), and
Otsu's threshold, bright or dark as fits the training images better. Each row goes to
results/own.csv as soon as it is measured, with seed, device and versions. With --resume
the rows of that file are kept, and what they hold (set, method, recipe, seed, minutes)
is not measured again.

When results/own.csv was measured, the breadth of an object came from distances to its
edge, and now it comes from area and edge (data/far). For the five sets the plans are
the same: seed 0, 6 minutes, and 0.05, 0.1, 0.2, 0.4 and 1 second per step.
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import own_sets
import table
import torch
from PIL import Image
from skimage.filters import threshold_otsu
from torch import nn

from unet_tutorial.metrics import count_pixels, dice_of
from unet_tutorial.model import UNet

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from times import processor  # noqa: E402

METHODS = ("library", "textbook", "otsu")


def read_options():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("UNET_DATA"))
    parser.add_argument("--sets", nargs="+", choices=own_sets.SETS)
    parser.add_argument("--folder", type=Path, help="with train and test in it")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", help="as for unet-tutorial train")
    parser.add_argument("--resume", action="store_true", help="keep rows of --out")
    parser.add_argument("--keep", type=Path, help="where runs and masks are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "own.csv")
    options = parser.parse_args()
    if not options.sets and not options.folder:
        options.sets = list(own_sets.SETS)
    needs = [name for name in options.sets or () if name in own_sets.NEEDS_DATA]
    if needs and options.data is None:
        parser.error(f"{', '.join(needs)}: name their folder with --data or UNET_DATA")
    return options


def images_of(folder, kind):
    """Return the files of a folder, sorted."""
    return sorted((folder / kind).iterdir())


def dice(masks, truths):
    """Compute the Dice of the foreground, over all images together."""
    counts = sum(
        count_pixels(torch.from_numpy(np.int64(m)), torch.from_numpy(np.int64(t)), 2)
        for m, t in zip(masks, truths, strict=True)
    )
    return dice_of(counts)


def foreground(file):
    """Read a mask of 0 and 255."""
    return np.asarray(Image.open(file)) > 0


def library(folder, out, options):
    """Train and predict by the two commands of the README."""
    unet = [sys.executable, "-m", "unet_tutorial"]
    train, test = folder / "train", folder / "test"
    command = [*unet, "train", "--kind", "folder", "--out", str(out / "run")]
    command += ["--data", str(train / "images"), "--masks", str(train / "masks")]
    command += ["--minutes", str(options.minutes), "--seed", str(options.seed)]
    command += ["--recipe", options.recipe] if options.recipe else []
    command += ["--resume-if-there"] if options.resume else []
    subprocess.run(command, check=True)
    command = [*unet, "predict", str(out / "run"), str(test / "images")]
    command += ["--to", str(out / "masks"), "--overwrite"]
    subprocess.run(command, check=True)
    return [
        foreground(out / "masks" / f"{file.stem}_mask.png")
        for file in images_of(test, "images")
    ]


def tensor_of(file):
    """Read an image as (1, C, H, W), standardised."""
    x = torch.from_numpy(np.array(Image.open(file))).float()
    x = x[None] if x.ndim == 2 else x.permute(2, 0, 1)
    return ((x - x.mean()) / x.std())[None]


def textbook(folder, out, options):
    """Train as the first example of a textbook does, for as long."""
    torch.manual_seed(options.seed)
    train, test = folder / "train", folder / "test"
    images = [tensor_of(file) for file in images_of(train, "images")]
    labels = [torch.from_numpy(foreground(f)) for f in images_of(train, "masks")]
    net = UNet(images[0].shape[1], 2, base_channels=32, padding=1, norm="batch")
    optimizer, criterion = torch.optim.Adam(net.parameters()), nn.CrossEntropyLoss()
    end, steps = time.monotonic() + 60 * options.minutes, 0
    while time.monotonic() < end:
        for index in torch.randperm(len(images)).tolist():
            loss = criterion(net(images[index]), labels[index][None].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if time.monotonic() >= end:
                break
    print(f"textbook: {steps} steps", flush=True)
    net.eval()
    with torch.no_grad():
        files = images_of(test, "images")
        return [net(tensor_of(file)).argmax(1)[0].numpy() == 1 for file in files]


def otsu(folder, out, options):
    """Cut at Otsu's threshold; bright or dark, as fits the training images better."""
    train, test = folder / "train", folder / "test"

    def cut(part, bright):
        grey = [
            np.asarray(Image.open(f).convert("L")) for f in images_of(part, "images")
        ]
        return [(image > threshold_otsu(image)) == bright for image in grey]

    truths = [foreground(file) for file in images_of(train, "masks")]
    bright = dice(cut(train, True), truths) >= dice(cut(train, False), truths)
    return cut(test, bright)


def measure(name, folder, method, keep, options):
    """Return the row of one method on one set."""
    truths = [foreground(file) for file in images_of(folder / "test", "masks")]
    out = keep / name / method
    out.mkdir(parents=True, exist_ok=True)
    masks = globals()[method](folder, out, options)
    return {
        **asked(name, method, options),
        "dice": f"{dice(masks, truths):.3f}",
        "train": len(images_of(folder / "train", "images")),
        "test": len(truths),
        "foreground": f"{np.mean([t.mean() for t in truths]):.4f}",
        "device": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def asked(name, method, options):
    """Return what tells a row from all others, as a file has it."""
    return {
        "set": name,
        "method": method,
        "recipe": (options.recipe or "") if method == "library" else "",
        "minutes": f"{options.minutes:g}" if method != "otsu" else "",
        "seed": str(options.seed),
    }


def rows_there(options):
    """Return the rows of an earlier call, if it is gone on with."""
    if not options.resume or not options.out.exists():
        return []
    with open(options.out, newline="") as file:
        return list(csv.DictReader(file))


def is_there(rows, row):
    """Tell whether what a row is about was measured before."""
    return any(row.items() <= old.items() for old in rows)


def main():
    """Measure every set that is asked for, and write each row as it is measured."""
    options = read_options()
    rows, names = rows_there(options), list(options.sets or ())
    with tempfile.TemporaryDirectory() as place:
        keep = options.keep or Path(place)
        folders = {"mine": options.folder} if options.folder else {}
        folders |= {name: keep / name / "data" for name in names}
        for number, (name, folder) in enumerate(folders.items(), 1):
            every = [(m, asked(name, m, options)) for m in options.methods]
            due = [method for method, row in every if not is_there(rows, row)]
            text = f"set {number} of {len(folders)}, {name}"
            print(f"{text}: {', '.join(due) or 'all is there'}", flush=True)
            if due and name in own_sets.SETS and not folder.exists():
                for part, pairs in own_sets.SETS[name](options.data, options.seed):
                    own_sets.write_set(folder, part, pairs)
            for method in due:
                rows.append(measure(name, folder, method, keep, options))
                print(*rows[-1].values(), sep=", ", flush=True)
                table.write(options.out, rows)


if __name__ == "__main__":
    main()
