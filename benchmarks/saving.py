"""How long a training stands still while the paper's net is saved: then and now.

    python benchmarks/saving.py                          # 5 rounds, about two minutes
    python benchmarks/saving.py --out results/saving.csv

The net of Figure 1 with its momentum (497 MB in three files with the state) is saved in
two ways, in turns. *Before*: best net, last net and state written after an epoch, and
the training waits. *Now*: after each epoch the net is copied; when a save is due the
state is copied as well, and a thread writes. While it writes, the main thread goes on
with short steps, and the longest of its pauses is noted. The median of the rounds is
printed and written. The folder is on this machine's temporary disk unless --folder
names another.
"""

import argparse
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import table
import torch

from unet_tutorial.model import UNet
from unet_tutorial.runs.checkpoint import save_state
from unet_tutorial.runs.engine import Training
from unet_tutorial.runs.logbook import saving, write_history
from unet_tutorial.runs.weights import save_net

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from times import processor

ROW = {"train_loss": 0.3, "valid_loss": 0.4}


def begun(base_channels):
    """Return the training of the paper's net after a step: its momentum is there."""
    net = UNet(base_channels=base_channels)
    optimizer = torch.optim.SGD(net.parameters(), 0.001, momentum=0.99)
    training = Training(net, optimizer, device="cpu")
    for weight in net.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    training.epoch = training.best_epoch = 1
    training.history = {name: [value] for name, value in ROW.items()}
    return training


def write_all(out, training):
    """Write everything after an epoch, and return the seconds."""
    start, notes = perf_counter(), {"epoch": 1, "measured": ROW}
    save_net(out / "best.safetensors", training.net, overwrite=True, **notes)
    save_net(out / "last.safetensors", training.net, overwrite=True, **notes)
    save_state(out / "state.safetensors", training, overwrite=True)
    write_history(out, training.history)
    return perf_counter() - start


def let_write(out, training):
    """Return the seconds of a copy, a due save and the writing; the longest pause."""
    with saving(out, {}) as saver:
        times = [perf_counter()]
        saver.keep(training, ROW)
        times.append(perf_counter())
        saver.save(training)
        times.append(perf_counter())
        pauses, last = [], perf_counter()
        while not saver.writing.done():
            torch.ones(1000).sum()
            pauses.append(perf_counter() - last)
            last = perf_counter()
    copy, save = times[1] - times[0], times[2] - times[1]
    return copy, save, perf_counter() - times[2], max(pauses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--channels", type=int, default=64, help="of the first level")
    parser.add_argument("--folder", type=Path, help="where to write for the trial")
    parser.add_argument("--out", type=Path, help="a CSV file to write")
    options = parser.parse_args()
    training, found = begun(options.channels), []
    for _ in range(options.rounds):
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        before = write_all(folder, training)
        found.append([before, *let_write(folder, training)])
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        shutil.rmtree(folder)
    names = ["before s", "copy s", "due save s", "writing s", "longest pause s"]
    columns = zip(names, zip(*found, strict=True), strict=True)
    row = {"MB": round(size / 1e6)} | {
        name: f"{median(values):.3f}" for name, values in columns
    }
    print(*(f"{name}: {value}" for name, value in row.items()), sep="\n")
    row |= {
        "rounds": options.rounds,
        "command": " ".join(["benchmarks/saving.py", *sys.argv[1:]]),
        "device": f"{processor()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": version("torch"),
        "safetensors": version("safetensors"),
    }
    if options.out:
        table.write(options.out, [row])


if __name__ == "__main__":
    main()
