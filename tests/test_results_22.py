"""What `22_scale` says about its rows is what the rows say."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_results_19 import ROOT, prose, run

from unet_tutorial.model import UNet
from unet_tutorial.runs.results import read_results
from unet_tutorial.tasks import open_task, solved

NOTEBOOK = ROOT / "nbs" / "22_scale.ipynb"
sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    import scale as script
finally:
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def rows():
    return read_results("scale.csv")


def of(rows, kind):
    return [row for row in rows if row["kind"] == kind]


def test_every_row_of_the_script_is_there_once_and_in_order(rows):
    planned = script.plan(max(script.SIDES))
    keys = [script.place(row) for row in planned]
    assert [script.place(row) for row in rows] == sorted(keys)
    for row in rows:
        assert row["device"].startswith("CPU, ") and row["torch"] and row["dask"]
        assert float(row["seconds"]) > 0 and float(row["core_seconds"]) > 0
        assert float(row["before_mb"]) < float(row["peak_mb"])


def test_the_largest_image_stays_within_two_gigabytes_a_worker(rows):
    (row,) = [row for row in of(rows, "side") if row["side"] == "20000"]
    assert script.LIMIT == "2GB" and row["processes"] == row["workers_left"] == "2"
    assert float(row["peak_mb"]) < 2000
    assert "20,000 x 20,000 pixels pass through two workers of 2 GB each" in prose(
        NOTEBOOK
    )


def test_the_prose_describes_the_net_of_the_rows(rows):
    text = prose(NOTEBOOK)
    assert (
        f"an untrained net of depth {script.DEPTH} with 4 channels at the top" in text
    )
    assert script.DEFAULT["channels"] == 4 and script.new_net(4).depth == script.DEPTH
    assert {row["depth"] for row in rows} == {str(script.DEPTH)}
    (before,) = re.findall(r"torch itself takes about (\w+) a gigabyte", text)
    assert before == "half"
    assert all(400 < float(row["before_mb"]) < 700 for row in rows)


def test_growth_is_as_told(rows):
    text, side = prose(NOTEBOOK), of(rows, "side")
    grown = float(side[-1]["peak_mb"]) / float(side[0]["peak_mb"])
    assert 1.2 < grown < 1.3 and "rises by a quarter while the image grows 400" in text
    narrow, *_, wide = [float(row["core_seconds"]) for row in of(rows, "channels")]
    assert 27 < wide / narrow < 33 and "and the time some 30 times" in text
    (kept,), processes = of(rows, "kept"), of(rows, "processes")
    (two,) = [row for row in processes if row["processes"] == "2"]
    assert 0.35 < float(kept["core_seconds"]) / float(two["core_seconds"]) < 0.6
    assert "need half the seconds, and some more MB" in text


def test_the_price_between_two_widths_is_what_the_task_says(rows):
    rows = of(rows, "channels")
    widths = [int(row["channels"]) for row in rows]
    micro = [float(row["core_seconds"]) / int(row["side"]) ** 2 * 1e6 for row in rows]
    names = {"np": np}
    exec(solved(open_task("22.3").code), names)
    seconds = names["time_between"](24, widths, micro)
    text = " ".join(open_task("22.3").why.split())
    assert f"24 channels take {seconds:.1f} seconds per million pixels" in text
    assert f"a terapixel takes {seconds * 1e6 / 3600:.0f} hours of a core" in text


def test_weights_of_the_paper_travel_as_said():
    with torch.device("meta"):
        count = sum(weight.numel() for weight in UNet().parameters())
    assert f"The weights of the paper's net are {4 * count / 1e6:.0f} MB" in prose(
        NOTEBOOK
    )


def test_a_row_is_measured_and_added(tmp_path):
    row = {"kind": "batch", "side": 384, "channels": 1, "batch": 2, "processes": 0}
    out = tmp_path / "scale.csv"
    script.run(row, {"device": "CPU, none"}, out)
    with out.open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert found["side"] == "384" and 0 < float(found["peak_mb"]) < 4000
    assert found["device"] == "CPU, none" and int(found["tasks"]) > 0


def test_rows_are_measured_again_and_others_stay(tmp_path, monkeypatch):
    out, measured = tmp_path / "scale.csv", []
    answer = {"seconds": 1, "core_seconds": 1, "before_mb": 1, "peak_mb": 1, "tasks": 1}

    def measure(command, **options):
        measured.append(json.loads(command[-1]))
        stdout = json.dumps(answer | {"workers_left": len(measured)})
        return subprocess.CompletedProcess(command, 0, stdout)

    def start(*words):
        monkeypatch.setattr(sys, "argv", ["scale.py", "--out", str(out), *words])
        script.main()
        return [(row["kind"], row["side"]) for row in script.read(out)]

    monkeypatch.setattr(script.subprocess, "run", measure)
    every = start("--largest", "1000")
    assert len(every) == len(measured) == 3
    assert start("--largest", "1000") == every and len(measured) == len(every)
    assert start("--largest", "1000", "--only", "whole", "--again") == every
    again = measured[len(every) :]
    assert {row["kind"] for row in again} == {"whole"} and len(again) == 2


def test_the_figures_are_drawn_from_the_rows(rows):
    space = {"read_results": read_results}
    found = run(NOTEBOOK, "rows", np=np, **space)
    assert list(found["side"]) == [float(row["side"]) for row in of(rows, "side")]
    assert found["side"][-1] == 20_000
