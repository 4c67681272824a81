"""The measured tables: found in the clone, else downloaded; and what few seeds say."""

import csv
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT
from scipy import stats

import unet_tutorial
from unet_tutorial.runs.results import (
    mean_interval,
    measured,
    read_results,
    result_file,
)

NOT_MEASURED = "not yet measured: "


@pytest.fixture
def web(tmp_path):
    "The address of a server on loopback that has one table."
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "one.csv").write_text("row,value\nsmall,0.5\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_in_a_clone_the_file_is_there():
    assert result_file("touching.csv") == ROOT / "results" / "touching.csv"


def test_without_a_clone_it_is_downloaded_once(tmp_path, web, monkeypatch):
    package = tmp_path / "site-packages" / "unet_tutorial" / "__init__.py"
    monkeypatch.setattr(unet_tutorial, "__file__", str(package))
    path = result_file("one.csv", tmp_path / "data", web)
    assert path == tmp_path / "data" / "one.csv"
    assert path.read_text() == "row,value\nsmall,0.5\n"
    (tmp_path / "web" / "one.csv").unlink()
    assert result_file("one.csv", tmp_path / "data", web) == path


def test_a_row_with_a_note_is_not_measured():
    row = {"row": "large", "dice": "", "note": f"{NOT_MEASURED}needs a GPU"}
    assert not measured(row)
    assert measured({"row": "small", "dice": "0.98", "note": ""})
    assert measured({"row": "small", "dice": "0.98"})


TABLES = sorted(path.name for path in (ROOT / "results").glob("*.csv"))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_says_where_it_was_measured_or_why_not(name):
    rows = read_results(name)
    assert rows and all(None not in row and None not in row.values() for row in rows)
    for row in rows:
        if not measured(row):
            assert row["note"].startswith(NOT_MEASURED)
        elif "command" in row:
            assert row["command"].split()[0].split("/")[0] in (
                "benchmarks",
                "experiments",
                "unet-tutorial",
            )
            assert row["torch"] and (row.get("device") or row["processor"])


def test_all_results_together_are_small():
    size = sum(path.stat().st_size for path in (ROOT / "results").iterdir())
    assert size <= 400_000


@pytest.mark.parametrize("count", range(2, 9))
def test_the_interval_is_students(count):
    values = [0.1 * n**1.5 for n in range(count)]
    mean, half = mean_interval(values)
    low, high = stats.t.interval(0.95, count - 1, loc=mean, scale=stats.sem(values))
    assert mean == pytest.approx((low + high) / 2)
    assert half == pytest.approx((high - low) / 2, rel=5e-3)


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 9])
def test_too_few_and_too_many_values_are_refused(values):
    with pytest.raises(ValueError, match="of 2 to 8 seeds"):
        mean_interval(values)


def test_a_table_is_read_as_text(tmp_path, web, monkeypatch):
    monkeypatch.setattr(unet_tutorial, "__file__", str(tmp_path / "p" / "x.py"))
    result_file("one.csv", tmp_path / "data", web)
    assert read_results("one.csv", tmp_path / "data") == [
        {"row": "small", "value": "0.5"}
    ]


def test_every_key_is_there_once():
    keys = {
        "membranes.csv": ("row", "held_out", "seed", "steps", "views"),
        "cells.csv": ("data", "trained_on", "weights", "width", "steps", "seed"),
        "ablation.csv": ("change", "seed", "tiles"),
        "since_2015.csv": ("change", "seed", "tiles"),
        "cars.csv": ("row", "seed", "steps"),
    }
    for name in set(keys) & set(TABLES):
        with open(ROOT / "results" / name, newline="") as file:
            found = [tuple(row[k] for k in keys[name]) for row in csv.DictReader(file)]
        assert len(found) == len(set(found)), name
