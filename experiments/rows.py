"""The rows of an experiment: a CSV file that is complete after each row.

A row is known by its key, the columns that say what was asked for. One that is in the
file is not measured again, so an experiment that was stopped goes on where it was. A
row that this machine cannot measure is written with an empty value and a reason.
"""

import csv
import platform
import resource
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import torch

from unet_tutorial.runs.files import new_file

ROOT = Path(__file__).resolve().parent.parent
FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512"}


def instructions():  # str
    "The best instructions of this processor for matrices, as far as they are known."
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:  # not Linux
        return platform.machine()
    known = [name for flag, name in FLAGS.items() if flag in flags]
    return known[0] if known else "AVX2" if "avx2" in flags else platform.machine()


def command():  # str
    "What was typed; for the folder of the data stands the word folder."
    script = Path(sys.argv[0]).resolve()
    words = [f"{script.parent.name}/{script.name}", *sys.argv[1:]]
    for before in [at for at, word in enumerate(words[:-1]) if word == "--data"]:
        words[before + 1] = "folder"
    return " ".join(words)


def about(
    device,  # torch.device
):  # dict of text
    "Where a row was measured: device, threads, versions, command."
    cuda = device.type == "cuda"
    processor = f"CPU, {instructions()}"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else processor,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "command": command(),
    }


def peak_memory(
    device,  # torch.device
):  # int, MB: of the card, or of this process since it began
    "How much memory was in use at once."
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used // (2**20 if sys.platform == "darwin" else 2**10)


class Rows:
    "A table in a file: a row is added once, and the file is whole at any time."

    def __init__(
        self,
        path,  # str or Path: a CSV file, which need not be there
        keys,  # names of the columns by which a row is known
    ):
        self.path, self.keys = Path(path), tuple(keys)
        self.rows = []
        self.read()

    def read(self):
        "Read what is in the file now: another process may have added to it."
        if self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))

    def key(self, row):  # tuple of str
        return tuple(str(row[name]) for name in self.keys)

    def find(self, **key):  # dict, or None
        "The measured row of a key, or None."
        wanted = tuple(str(key[name]) for name in self.keys)
        found = [row for row in self.rows if self.key(row) == wanted]
        return found[0] if found and not found[0].get("note") else None

    def add(self, row):
        "Put a row into the file; an open one with the same key makes room for it."
        self.add_all([row])

    def add_all(self, rows):
        "Put several rows into the file, all or none."
        rows = [{name: str(value) for name, value in row.items()} for row in rows]
        new = {self.key(row) for row in rows}
        self.read()
        self.rows = [old for old in self.rows if self.key(old) not in new] + rows
        self.write()

    def measure(
        self,
        work,  # a function of a module, which gives a row
        tasks,  # tuples of its arguments
        jobs,  # how many run at a time, each in a process
        shown,  # how many columns are printed
    ):
        "Measure rows side by side, and add each as soon as it is there."
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            for done in as_completed([pool.submit(work, *task) for task in tasks]):
                row = done.result()
                self.add(row)
                print(*list(row.values())[:shown], sep=", ", flush=True)

    def write(self):
        "Write all rows, whole or not at all."
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (
            new_file(self.path, overwrite=True) as part,
            open(part, "w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)

    def leave_open(self, why, **key):
        "Note a row that cannot be measured here, unless it is there."
        self.read()
        wanted = tuple(str(key[name]) for name in self.keys)
        if wanted not in [self.key(row) for row in self.rows]:
            self.add({**key, "note": f"not yet measured: {why}"})
