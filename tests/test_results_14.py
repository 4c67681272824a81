"""What notebook 14 and the changelog say about speed, against results/predict.csv."""

import csv

import pytest
from conftest import ROOT

with open(ROOT / "results" / "predict.csv", newline="") as file:
    ROWS = list(csv.DictReader(file))
GROUPS = sorted({(row["task"], row["instructions"]) for row in ROWS})
SMALL, LARGE = "8 images 160x240, half width", "512x512, the paper's net"


def ways(task, instructions):
    "The rows of one task on one kind of processor, by their names."
    where = task, instructions
    return {r["way"]: r for r in ROWS if (r["task"], r["instructions"]) == where}


@pytest.mark.parametrize(("task", "instructions"), GROUPS)
def test_a_row_says_where_it_comes_from_and_ratios_are_those_of_its_seconds(
    task, instructions
):
    rows = ways(task, instructions)
    first = next(iter(rows.values()))
    assert float(first["ratio"]) == 1
    for row in rows.values():
        assert row["command"].startswith("benchmarks/predict.py")
        assert row["processor"] and row["torch"] and int(row["rounds"]) >= 2
        ratio = float(first["seconds"]) / float(row["seconds"])
        assert float(row["ratio"]) == pytest.approx(ratio, rel=0.02, abs=0.02)


@pytest.mark.parametrize(("task", "instructions"), GROUPS)
def test_the_predictor_is_faster_and_says_the_same(task, instructions):
    rows = ways(task, instructions)
    if "Predictor" not in rows:
        return
    assert float(rows["Predictor"]["ratio"]) > 1.1
    for way, row in rows.items():
        most = 0.005 if "16 bits" in way else 1e-4
        assert float(row["labels changed"]) <= most


@pytest.mark.parametrize("task", [SMALL, LARGE])
def test_16_bits_are_about_twice_as_fast_where_there_are_units(task):
    rows = ways(task, "AVX512 bf16")
    exact, short = rows["Predictor"], rows["Predictor, 16 bits"]
    assert 1.6 < float(exact["seconds"]) / float(short["seconds"]) < 2.4
