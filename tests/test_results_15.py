"""Notebook 15 says what the results say: every number of its prose has its row."""

import csv
import re
from pathlib import Path

import notebooks as files
import pytest

ROOT = Path(__file__).resolve().parent.parent
BOOK = files.read(ROOT / "nbs" / "15_membranes.ipynb")
TURNED = "turned by 180 degrees"
PAPER = {  # Table 1 of the paper: warping, Rand, pixel error
    "human": (0.000005, 0.0021, 0.0010),
    "u-net": (0.000353, 0.0382, 0.0611),
    "DIVE-SCI": (0.000355, 0.0305, 0.0584),
    "IDSIA": (0.000420, 0.0504, 0.0613),
    "DIVE": (0.000430, 0.0545, 0.0582),
    "IDSIA-SCI": (0.000653, 0.0189, 0.1027),
}


def rows_of(name):  # list of dict
    "The rows of a results file that were measured."
    with open(ROOT / "results" / name, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if not row.get("note")]


def cell(name):  # dict
    "A cell by its id."
    (found,) = [cell for cell in BOOK["cells"] if cell.get("id") == name]
    return found


def said(name):  # str
    "The text of a cell of prose, in one line."
    return " ".join(files.source(cell(name)).split())


def printed(name):  # str
    "What a cell of code printed."
    some = [out.get("text", "") for out in cell(name)["outputs"]]
    return "".join("".join(text) for text in some)


def numbers(pattern, text):  # list of float
    "The numbers of a sentence, which must be there."
    found = re.search(pattern, text)
    assert found, f"no longer said: {pattern}"
    return [float(number) for number in found.groups()]


def offset_row(mask, slices, move=0):  # dict
    "A row of membranes_offset.csv."
    wanted = mask, slices, str(move)
    (row,) = [
        row
        for row in rows_of("membranes_offset.csv")
        if (row["mask"], row["slices"], row["moved_down"]) == wanted
    ]
    return row


def modern(views):  # list of dict
    "The rows of the modern net, each of its budgets and seeds."
    rows = rows_of("membranes.csv")
    return [r for r in rows if (r["row"], r["views"]) == ("modern", str(views))]


def test_table_1_is_that_of_the_paper():
    space = {}
    text = files.source(cell("table-1"))
    exec(text[: text.index("}") + 1], space)
    assert space["TABLE_1"] == PAPER
    for name, values in PAPER.items():
        (line,) = re.findall(rf"Table 1, {name} +(.*)", printed("table"))
        assert tuple(map(float, line.split())) == values


def test_every_measured_row_is_printed_as_it_was_measured():
    """The stored table is that of the stored rows: none is missing, none is older."""
    text, rows = printed("table"), rows_of("membranes.csv")
    wanted = [row for row in rows if row["row"] != "block"]
    shown = re.findall(
        r"ours, (\w+), ([\d,]+) steps, (\d) views?, seed (\d+) +(\d.*)", text
    )
    shown = {(n, s.replace(",", ""), v, seed): x.split() for n, s, v, seed, x in shown}
    keys = "row", "steps", "views", "seed"
    assert shown == {
        tuple(row[key] for key in keys): [
            row["warping_error"],
            row["rand_error"],
            row["pixel_error"],
        ]
        for row in wanted
    }


def test_the_spread_of_the_blocks_is_theirs():
    blocks = [row for row in rows_of("membranes.csv") if row["row"] == "block"]
    text = printed("spread")
    if len(blocks) < 5:
        assert f"{len(blocks)} of 5" in text and "not yet measured" in text
        return
    for metric in ("pixel", "rand"):
        values = [float(row[f"{metric}_error"]) for row in blocks]
        pattern = rf"{metric} +error: mean ([\d.]+), from ([\d.]+) to ([\d.]+)"
        wanted = [sum(values) / len(values), min(values), max(values)]
        assert numbers(pattern, text) == pytest.approx(wanted, abs=6e-5)


def test_the_held_out_slices_are_those_of_the_rows():
    (first, last) = numbers(r"slices (\d+) to (\d+) out", said("real"))
    (unused, others) = numbers(
        r"slice (\d+) unused and learn from the other (\d+)", said("real")
    )
    assert {row["held_out"] for row in modern(1)} == {f"{first:.0f}-{last:.0f}"}
    assert unused == first - 1 and others == first - 1


def test_the_labels_lie_where_they_were_measured():
    pattern = r"go ([\d.]+) pixels down and ([\d.]+) to the right"
    row = offset_row("labels", "0-29")
    assert numbers(pattern, said("offset-seen")) == [
        float(row["down"]),
        float(row["right"]),
    ]


def test_the_net_repeats_the_offset_and_the_turned_answer_has_it_on_the_other_side():
    """Half a pixel too high, half a pixel too low, and nothing sideways."""
    upright, turned = offset_row("upright", "24-29"), offset_row(TURNED, "24-29")
    assert 0.4 < float(upright["down"]) < 0.65
    assert -0.65 < float(turned["down"]) < -0.4
    assert abs(float(upright["right"])) < 0.15


def test_one_pixel_up_brings_most_of_the_loss_back():
    error = {
        (mask, move): float(offset_row(mask, "24-29", move)["pixel_error"])
        for mask in ("upright", TURNED)
        for move in range(-3, 4)
    }
    loss = error[TURNED, 0] - error["upright", 0]
    left = error[TURNED, -1] - error["upright", 0]
    assert loss > 0 and left < loss / 4
    assert min(error, key=error.get) == ("upright", 0)
    worse = numbers(r"turned answer loses ([\d.]+)", said("moves-seen"))
    assert worse == [round(loss, 3)]


def test_two_views_help_and_eight_hurt_where_the_notebook_says_so():
    for row in modern(8):
        (one,) = [
            r
            for r in modern(1)
            if (r["steps"], r["seed"]) == (row["steps"], row["seed"])
        ]
        (two,) = [
            r
            for r in modern(2)
            if (r["steps"], r["seed"]) == (row["steps"], row["seed"])
        ]
        pixel = [float(r["pixel_error"]) for r in (two, one, row)]
        assert pixel == sorted(pixel), pixel


def test_ours_are_behind_the_paper_and_modern_before_the_last():
    """Blue to the right of the dashed line in both panels, left of IDSIA-SCI in one."""
    assert "to the right of the dashed line in both" in said("points-seen")
    assert "to the left of IDSIA-SCI" in said("points-seen")
    for row in rows_of("membranes.csv"):
        assert float(row["pixel_error"]) > PAPER["u-net"][2]
        assert float(row["rand_error"]) > PAPER["u-net"][1]
    every = modern(1) + modern(2) + modern(8)
    assert max(float(row["pixel_error"]) for row in every) < PAPER["IDSIA-SCI"][2]
    programs = [values[1] for name, values in PAPER.items() if name != "human"]
    assert PAPER["IDSIA-SCI"][1] == min(programs)


def test_the_threshold_matters_for_the_rand_error_alone():
    """Of the modern net, between the chosen threshold and one half."""
    gaps = {
        metric: [
            abs(float(row[f"{metric}_error"]) - float(row[f"{metric}_error_half"]))
            for row in modern(1) + modern(2) + modern(8)
        ]
        for metric in ("pixel", "rand")
    }
    assert max(gaps["pixel"]) < 0.002 and max(gaps["rand"]) > 0.01


def test_most_of_the_way_is_done_in_the_steps_that_are_named():
    pattern = r"within ([\d.]+) of its last value in its first (\d+) steps"
    near, steps = numbers(pattern, said("curve-seen"))
    curves = {}
    for row in rows_of("membranes_curves.csv"):
        if row["row"] == "modern":
            key = row["held_out"], row["seed"], row["steps"]
            point = int(row["step"]), float(row["pixel error"])
            curves.setdefault(key, []).append(point)
    for points in curves.values():
        points.sort()
        early = min(error for step, error in points if step <= steps)
        assert early - points[-1][1] < near
