"""How long the picture of a slider takes to be drawn again, at every value.

    OMP_NUM_THREADS=1 python benchmarks/sliders.py --out results/sliders.csv

Runs each notebook that has sliders, in a process and an empty folder of its own. Where
it calls `with_sliders`, the picture is drawn to warm up, and then `--rounds` times at
each value of each slider, the others where they begin. Of each value the median counts.
One row per slider: the median and the slowest of its values, as processor time (the
wall-clock time of an idle machine), and the kilobytes of the largest picture. Not
measured: the way to the browser and back, and the browser itself.
"""

import argparse
import csv
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from time import process_time

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import notebooks  # noqa: E402
import times  # noqa: E402

CALL = "with_sliders("


def seconds_of(draw, values, rounds):
    """Return the median seconds of one picture, and its bytes."""
    from unet_tutorial.sliders import picture_of

    seconds = []
    for _ in range(rounds):
        start = process_time()
        png = picture_of(draw, **values)
        seconds.append(process_time() - start)
    return statistics.median(seconds), len(png)


def measure(draw, ranges, rounds):
    """Return a row for each slider of a picture."""
    from unet_tutorial.sliders import slider_values, with_sliders

    page = with_sliders(draw, **ranges)
    begin = {slider.description: slider.value for slider in page.children[:-1]}
    rows = []
    for name, numbers in ranges.items():
        values = slider_values(*numbers)
        found = [seconds_of(draw, {**begin, name: v}, rounds) for v in values]
        milliseconds = [1000 * seconds for seconds, _ in found]
        row = {"picture": draw.__name__, "slider": name, "values": len(values)}
        row["median ms"] = round(statistics.median(milliseconds))
        row["slowest ms"] = round(max(milliseconds))
        row["at"] = values[milliseconds.index(max(milliseconds))]
        row["largest KB"] = round(max(size for _, size in found) / 1000)
        rows.append(row)
    return rows


def run_notebook(path, rounds):
    """Run a notebook up to its last sliders, and return the rows of all of them."""
    import matplotlib.pyplot as plt
    from IPython.core.interactiveshell import InteractiveShell

    from unet_tutorial import sliders

    plt.switch_backend("agg")
    shell, rows, real = InteractiveShell.instance(), [], sliders.with_sliders
    book = notebooks.read(path)
    cells = [notebooks.source(c) for c in book["cells"] if c["cell_type"] == "code"]
    last = max(number for number, text in enumerate(cells) if CALL in text)

    def measured(draw, **ranges):
        sliders.with_sliders = real
        rows.extend(measure(draw, ranges, rounds))
        sliders.with_sliders = measured

    sliders.with_sliders = measured
    for text in cells[: last + 1]:
        shell.run_cell(text).raise_error()
        plt.close("all")
    return [{"notebook": notebooks.name_of(path), **row} for row in rows]


def in_empty_folder(path, rounds):
    """Run a notebook where its files disturb nobody."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return run_notebook(path, rounds)
        finally:
            os.chdir(ROOT)


def with_calls(names):
    """List the notebooks of the road that have sliders."""
    return [
        path
        for path in notebooks.choose(names)
        if not notebooks.is_workshop(path)
        for text in [map(notebooks.source, notebooks.read(path)["cells"])]
        if any(CALL in cell for cell in text)
    ]


def main():
    """Measure, print a table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="pictures per value")
    parser.add_argument("--out", type=Path, help="a CSV to write")
    options = parser.parse_args()
    about = {
        "rounds": options.rounds,
        "clock": "processor",
        "command": " ".join(["benchmarks/sliders.py", *sys.argv[1:]]),
        "processor": times.processor(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("matplotlib", "numpy", "torch")},
    }
    rows, fresh = [], multiprocessing.get_context("spawn")
    for path in with_calls(options.names):
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            found = pool.submit(in_empty_folder, path, options.rounds).result()
        for row in found:
            rows.append({**row, **about})
            print(*row.values(), sep=" | ", flush=True)
    if options.out:
        with options.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
