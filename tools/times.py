"""How long each notebook runs: results/notebooks.csv, written with --times."""

import csv
import platform
from pathlib import Path

from notebooks import ROOT

FIELDS = ("notebook", "seconds", "processor")
CHANGED = 4 / 3  # less than a third up or down is the noise of a machine


def rows(
    root=ROOT,  # the repository
):  # dict of notebook to its row
    "The file as it stands."
    path = Path(root) / "results" / "notebooks.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["notebook"]: row for row in csv.DictReader(file)}


def read(
    root=ROOT,  # the repository
):  # dict such as {"05_model": 12, "workshop/data/images": 9}
    "The seconds that each notebook takes, one of two on two cores, one thread each."
    return {name: int(row["seconds"]) for name, row in rows(root).items()}


def processor():  # str
    "The kind of processor, as the machine names it."
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def update(
    seconds,  # dict of notebook to what was measured now
    root=ROOT,  # the repository
    known=None,  # names of all notebooks, the others are dropped; None: those in nbs/
):  # list of str: what changed
    "Write what is new, and what has changed by more than a third."
    from notebooks import name_of, reading_order

    if known is None:
        known = [name_of(path) for path in reading_order(Path(root) / "nbs")]
    before, kept, told = rows(root), {}, []
    for name in known:
        row, now = before.get(name), seconds.get(name)
        if now is not None and (row is None or differs(int(row["seconds"]), now)):
            told.append(f"{name}: {row['seconds'] if row else 'no'} s became {now:.0f}")
            row = {"notebook": name, "seconds": max(1, round(now))}
            row["processor"] = processor()
        if row is not None:
            kept[name] = row
    path = Path(root) / "results" / "notebooks.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())
    return told


def differs(
    before,  # seconds as written down
    now,  # seconds as measured
):  # bool
    "Whether a change is more than noise: a third, and more than two seconds."
    more, less = max(before, now), max(1, min(before, now))
    return more / less > CHANGED and more - less > 2
