"""Kill a run at random moments, again and again, and see that it ends the same.

    python benchmarks/kill.py              # 30 kills, about a minute

A run of a very small net on drawn membranes saves its state after each step. It is
ended by SIGKILL after a random time, 30 times, many of them during a save, and resumed
each time. Its nets, its history and its state must be those of a run that was never
interrupted, to the last bit. Needs a system with fork (Linux, macOS).
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import torch

from unet_tutorial.runs import report
from unet_tutorial.runs.checkpoint import load_state
from unet_tutorial.runs.recipes import Net, read_recipe
from unet_tutorial.runs.run import resume_run, train_run
from unet_tutorial.synthetic import write_isbi

NET = Net(base_channels=2, depth=2, padding=1, norm="batch", dropout=0.3)
RECIPE = {"net": NET, "tile": 48, "tiles": 32, "batch": 2, "accumulate": 2}


def go(data, out, options):
    "Begin a run, or go on with it, saving after each step; print nothing."
    report.draw_run = lambda *args: b""  # pictures are no part of what is compared
    asked = {"save_every": 0, "workers": options.workers, "device": "cpu"}
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        if (out / "recipe.json").exists():
            resume_run(out, **asked)
        else:
            recipe = replace(read_recipe("modern"), **RECIPE)
            train_run("isbi", data, out, recipe, epochs=options.epochs, **asked)


def child(data, out, options, wait=None):
    "Let a process work; kill it after a while. Return whether it was killed."
    process = multiprocessing.get_context("fork").Process(
        target=go, args=(data, out, options)
    )
    process.start()
    process.join(wait)
    killed = process.is_alive()
    if killed:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    if not killed and process.exitcode:
        raise SystemExit(f"the run failed with exit status {process.exitcode}")
    return killed


def state_of(out):
    "The state of a run, but for the time that it took."
    state = load_state(out / "state.safetensors")
    state["progress"].pop("seconds")
    return state


def equal(a, b):
    "Whether two nests are equal to the last bit."
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return repr(a) == repr(b)


def read_options():
    "Read the command line."
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args()


def main():
    options, folder = read_options(), Path(tempfile.mkdtemp())
    torch.set_num_threads(1)
    data = write_isbi(folder / "data", slices=6, size=64)
    go(data, folder / "warm", options)  # what is imported at first use
    start = time.monotonic()
    go(data, folder / "whole", options)
    whole = time.monotonic() - start
    print(f"uninterrupted: {whole:.1f} s")
    moments, out = random.Random(options.seed), folder / "run"
    halves = kills = 0
    while kills < options.kills:
        wait = moments.uniform(0.02, 2 * whole / options.kills)
        if not child(data, out, options, wait):
            break  # it was done before
        kills += 1
        rests = [path.name for path in out.glob(".unet-*.part")]
        halves += bool(rests)
        state = out / "state.safetensors"
        step = load_state(state)["progress"]["step"] if state.exists() else 0
        print(f"kill {kills} after {wait:.2f} s: step {step} {' '.join(rests)}")
    child(data, out, options)
    files = ("last.safetensors", "best.safetensors", "history.csv")
    other = folder / "whole"
    same = [(out / name).read_bytes() == (other / name).read_bytes() for name in files]
    same.append(equal(state_of(out), state_of(other)))
    print(f"{kills} kills, {halves} of them while a file was being written")
    print("nets, history and state are", "equal" if all(same) else f"NOT equal: {same}")
    sys.exit(not all(same))


if __name__ == "__main__":
    main()
