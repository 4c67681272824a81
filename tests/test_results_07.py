"""The table of `07_weight_map`, and the rows that it comes from."""

from pathlib import Path
from statistics import fmean

import notebooks as files
import pytest

from unet_tutorial.runs.results import read_results

ROOT = Path(__file__).resolve().parent.parent
NAMES = {
    "class": "classes alone",
    "equation": "Eq. 2 as printed",
    "background": "background only",
    "later": "later map",
}


def said(name):
    """Return one cell of the notebook."""
    cells = files.read(ROOT / "nbs" / "07_weight_map.ipynb")["cells"]
    return next(files.source(cell) for cell in cells if cell["id"] == name)


def of(kind, name):
    """Return a column of the three seeds."""
    rows = [row for row in read_results("touching.csv") if row["weights"] == kind]
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    return [float(row[name]) for row in rows]


def row_of(kind):
    """Return the numbers of a kind as the notebook's table gives them."""
    lines = said("surprise").splitlines()
    (line,) = [text for text in lines if text.startswith(f"| {NAMES[kind]} |")]
    return [float(cell.strip(" %")) for cell in line.strip("| ").split("|")[1:]]


@pytest.mark.parametrize("kind", NAMES)
def test_the_table_gives_what_was_measured(kind):
    lines, dice, right, tuned = row_of(kind)
    cells = of(kind, "cells")
    assert sum(cells) == 548
    assert 100 * fmean(of(kind, "lines")) == pytest.approx(lines, abs=0.51)
    assert fmean(of(kind, "dice")) == pytest.approx(dice, abs=0.00051)
    assert 100 * sum(of(kind, "right")) / 548 == pytest.approx(right, abs=0.51)
    found = sum(s * n for s, n in zip(of(kind, "tuned"), cells, strict=True))
    assert 100 * found / 548 == pytest.approx(tuned, abs=0.51)


def test_the_sentences_below_the_table():
    assert of("class", "right") == of("equation", "right")
    more = fmean(of("equation", "lines")) - fmean(of("class", "lines"))
    assert 0.01 < more < 0.025 and "differ by two percent of the lines" in said(
        "surprise"
    )
    tuned = {kind: fmean(of(kind, "tuned")) for kind in NAMES}
    assert tuned["class"] < tuned["equation"] < tuned["background"]
    pairs = zip(of("background", "right"), of("class", "right"), strict=True)
    assert all(with_it > without for with_it, without in pairs)


def test_the_four_masks_have_the_names_of_the_table():
    for name in NAMES.values():
        assert f'"{name}"' in said("four-weights")
        assert f"`{name}`" in said("2f7f5d99")
