"""Touching cells: the mechanism of the weights, and the numbers of `16_touching_cells`.

A pixel that is cell in a share q of the cases and a line of background in the others is
given p* = w1 q / (w1 q + w0 (1 - q)) by the weighted cross-entropy, w1 and w0 being its
mean weights as cell and as line. Equation 2 as printed leaves w1 / w0 near 1 at a seam.
"""

import csv
import re
import sys
from collections import Counter
from pathlib import Path

import notebooks as files
import numpy as np
import pytest
import torch

from unet_tutorial.data.datasets import open_ctc
from unet_tutorial.losses import weighted_cross_entropy
from unet_tutorial.metrics import seg_score
from unet_tutorial.runs.results import mean_interval
from unet_tutorial.synthetic import draw_cells
from unet_tutorial.weight_map import border_weights, separate_cells, weight_map

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "nbs" / "16_touching_cells.ipynb"
KINDS = "none", "equation", "background", "later"
COLUMNS, PLACES = np.arange(-20, 21), np.arange(-10, 11)
ROWS = np.stack([(COLUMNS < at) + 2 * (COLUMNS > at) for at in PLACES])  # (21, 41)


def weigh(kind, labels):
    """Return the weights of a label map, with classes that need no balance."""
    if kind == "none":
        return np.ones(labels.shape, np.float32)
    if kind == "later":
        return weight_map(labels, variant="later")
    border = border_weights(labels)
    return 1 + (border if kind == "equation" else border * (labels == 0))


def weights_of(kind):
    """Return the weights of each row, (21, 41) float32."""
    return np.stack([weigh(kind, row[None])[0] for row in ROWS]).astype(np.float32)


def chances(std):
    """Return how likely the line is at each place."""
    share = np.exp(-(PLACES**2) / (2 * std**2))
    return share / share.sum()


def formula(kind, share):
    """Return w1 q / (w1 q + w0 (1 - q)), with the mean weights written out."""
    weights, cell = weights_of(kind), ROWS > 0
    q = share @ cell
    w1 = share @ (weights * cell) / np.maximum(q, 1e-12)
    w0 = share @ (weights * ~cell) / np.maximum(1 - q, 1e-12)
    return w1 * q / (w1 * q + w0 * (1 - q))


def descend(kind, drawn):
    """Return the probabilities that gradient descent gives a pixel of its own."""
    lines = torch.from_numpy(ROWS[drawn] > 0).long()[:, None]
    weights = torch.from_numpy(weights_of(kind)[drawn])[:, None]
    logits = torch.zeros(1, 2, 1, len(COLUMNS), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(400):
        every = logits.expand(len(drawn), -1, -1, -1)
        loss = weighted_cross_entropy(every, lines, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach().softmax(dim=1)[0, 1, 0].numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_descent_finds_the_formula(kind):
    drawn = np.random.default_rng(1).choice(len(PLACES), 300, p=chances(1.5))
    share = np.bincount(drawn, minlength=len(PLACES)) / len(drawn)
    assert np.abs(descend(kind, drawn) - formula(kind, share)).max() < 0.01


def test_equation_2_as_printed_leaves_no_gap_and_hardly_differs_from_no_weights():
    """A line of one pixel, known to 1.5 pixels: at 0.5 it is in two of four masks."""
    gaps = {kind: (formula(kind, chances(1.5)) < 0.5).sum() for kind in KINDS}
    assert gaps == {"none": 0, "equation": 0, "background": 5, "later": 7}
    none, equation = (formula(kind, chances(1.5)) for kind in KINDS[:2])
    assert np.abs(none - equation).max() < 0.03
    sharp = {kind: (formula(kind, chances(0.3)) < 0.5).sum() for kind in KINDS}
    assert set(sharp.values()) == {1}  # a line whose place is known is in all four


# The notebook and the script say the same


def cells():
    """Return the text of each cell, by its id."""
    return {cell["id"]: files.source(cell) for cell in files.read(NOTEBOOK)["cells"]}


def printed(name):
    """Return what a cell printed."""
    (cell,) = [c for c in files.read(NOTEBOOK)["cells"] if c["id"] == name]
    return "".join(files.joined(output.get("text", "")) for output in cell["outputs"])


def test_the_gaps_in_the_prose_are_those_that_were_printed():
    gaps = dict(re.findall(r"(\w+): a gap of (\d+) pixels", printed("ideal-show")))
    words = {"five": "5", "seven": "7"}
    said = re.search(
        r"there is a gap, (\w+) times as wide.*?weights,\s(\w+) times",
        cells()["ideal-seen"],
        re.DOTALL,
    )
    assert (gaps["none"], gaps["equation"]) == ("0", "0")
    assert [words[word] for word in said.groups()] == [
        gaps["background"],
        gaps["later"],
    ]


@pytest.fixture
def script(monkeypatch):
    """Import experiments/cells.py."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import cells as module

    yield module
    for name in ("cells", "learn", "options", "rows"):
        sys.modules.pop(name, None)


def test_the_notebook_weighs_as_the_script_does(script):
    target = separate_cells(draw_cells(96, 3)[1])
    text = cells()["weights"]
    space = {
        "np": np,
        "classes": (0.8, 1.3),
        "weight_map": weight_map,
        "border_weights": border_weights,
    }
    exec(text[text.index("def weigh(") :], space)
    for kind in script.KINDS:
        here = space["weigh"](kind, target)
        there = script.weigh(kind, target, (0.8, 1.3))
        assert here.dtype == there.dtype and np.array_equal(here, there)


def test_parts_above_a_threshold_grow_back_into_the_mask(script):
    p = np.zeros((40, 80))
    p[5:35, 5:75] = 0.9
    p[5:35, 38:42] = 0.7  # a seam that is above 0.5
    assert len(np.unique(script.parts_of(p, 0.5))) == 2  # and 0
    grown = script.grown(p, 0.8)
    assert len(np.unique(grown)) == 3 and np.array_equal(grown > 0, p > 0.5)
    truth = np.where(p > 0, 1 + (np.arange(80) >= 40), 0)
    assert seg_score(grown, truth) > 0.95 > seg_score(script.parts_of(p, 0.5), truth)


# The measured rows


@pytest.fixture(scope="module")
def rows():
    """Return the rows of the budget that the table of the notebook shows."""
    path = ROOT / "results" / "cells.csv"
    if not path.is_file():
        pytest.skip("no results/cells.csv: make results-16")
    with open(path, newline="", encoding="utf-8") as file:
        every = [row for row in csv.DictReader(file) if not row.get("note")]
    hela = [row for row in every if "HeLa" in row["data"] and "CPU" in row["device"]]
    budgets = Counter((row["steps"], row["width"]) for row in hela)
    (chosen, _), *_ = budgets.most_common(1)
    return [row for row in hela if (row["steps"], row["width"]) == chosen]


def mean(rows, sequence, kind, name):
    """Return the mean of one column over the seeds."""
    key = sequence, kind
    some = [row[name] for row in rows if (row["trained_on"], row["weights"]) == key]
    return np.mean([float(value) for value in some])


def test_the_table_of_the_notebook_is_that_of_the_rows(rows):
    """New rows need `make outputs NB="16_touching_cells" FORCE=1`."""
    names = "right_half", "cells", "seg_half", "seg", "seed_threshold", "mask_iou"
    lines = re.findall(r"(?m)^(0[12]) +(\w+) +(.*)$", printed("table"))
    assert [line[:2] for line in lines] == [(s, k) for s in ("01", "02") for k in KINDS]
    for sequence, kind, text in lines:
        if "not yet measured" in text:
            assert not any(
                (row["trained_on"], row["weights"]) == (sequence, kind) for row in rows
            )
            continue
        shown = [float(value) for value in re.findall(r"[\d.]+", text)]
        found = [mean(rows, sequence, kind, name) for name in names]
        assert shown == pytest.approx(found, abs=6e-4)


def sentence(pattern):
    """Return the numbers, written N, of a sentence about the rows."""
    text = " ".join(cells()["gains-seen"].split())
    found = re.search(pattern.replace("N", r"(\d\.\d+)"), text)
    assert found, f"no sentence like: {pattern}"
    return [float(value) for value in found.groups()]


def trainings(rows):
    """Return the four values of each training, (sequence, seed) -> name -> kind."""
    found = {}
    for row in rows:
        names = found.setdefault((row["trained_on"], row["seed"]), {})
        for name in ("seg_half", "seg", "mask_iou", "seed_threshold"):
            names.setdefault(name, {})[row["weights"]] = float(row[name])
    assert sorted(found) == [(s, seed) for s in ("01", "02") for seed in "01"]
    return found


def test_what_the_prose_says_of_the_rows(rows):
    """Each number in the sentences below the gains bounds rows of all trainings."""
    little, much = sentence("gains less than N of SEG in every .*? gains more than N")
    low, high = sentence("for the first three weights it is between N and N.")
    asked, moved = sentence("at a threshold of N or more, gains more than N of SEG")
    lowest, highest = sentence("`background` is between N and N in all four trainings")
    for (sequence, _), values in trainings(rows).items():
        half, seg, mask = (values[n] for n in ("seg_half", "seg", "mask_iou"))
        gain = half["background"] - half["none"]
        assert half["equation"] - half["none"] < little and gain > much
        assert all(low < mask[kind] < high for kind in KINDS[:3])
        assert values["seed_threshold"]["none"] >= asked
        moving = seg["none"] - half["none"]
        assert moving > moved
        assert seg["none"] < seg["equation"] < seg["background"]
        assert lowest < seg["background"] < highest
        if sequence == "01":  # "lower than that when it learns from 01"
            assert seg["later"] < lowest
            assert min(KINDS[:3], key=mask.get) == max(KINDS[:3], key=half.get)
        else:
            assert seg["later"] > highest
    assert {row["steps"] for row in rows} == {"400"}


def test_the_printed_gains_are_those_of_the_rows(rows):
    blocks = printed("gains").split("SEG, cores")
    for block, name in zip(blocks, ("seg_half", "seg"), strict=True):
        lines = re.findall(r"(\w+) +([+-][\d.]+) \+- ([\d.]+)", block)
        assert [kind for kind, *_ in lines] == list(KINDS[1:])
        for kind, middle, half in lines:
            values = trainings(rows).values()
            found = mean_interval([v[name][kind] - v[name]["none"] for v in values])
            assert (float(middle), float(half)) == pytest.approx(found, abs=0.0051)


def test_what_the_prose_says_of_the_data(rows, real_data):
    text = cells()["real-why"]
    assert "the 84 silver frames" in text and "the nine gold frames" in text
    assert {row["frames"] for row in rows} == {"9"}
    assert "make results-16 DATA=folder\n" in text
    assert 'make results-16 DATA=folder ARGS="--seed 1"' in text
    silver = open_ctc(real_data / "DIC-C2DH-HeLa", "silver")
    assert Counter(silver.groups) == {"01": 84, "02": 84}
    assert silver.size(0) == (512, 512) and "halved to 256x256" in text


def test_the_lines_of_the_figure_are_in_the_table_of_the_paper():
    for number in re.findall(r"axvline\(([\d.]+)", cells()["compare"]):
        assert re.search(rf"\| \**{number}\** \|$", cells()["paper"], re.MULTILINE)
        assert number in cells()["compare-seen"]
