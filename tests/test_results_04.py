"""Numbers of `04_skips` and the rows of `benchmarks/skips.py` that they come from."""

import re
import sys
from pathlib import Path
from statistics import fmean

import notebooks as files
import pytest
import torch

from unet_tutorial.runs.results import read_results

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "nbs" / "04_skips.ipynb"


def errors(steps, skips, shift=0):
    """Return the percentage of wrong pixels of each seed."""
    wanted = str(steps), str(skips), str(shift)
    rows = read_results("skips.csv")
    (row,) = [r for r in rows if (r["steps"], r["skips"], r["shift"]) == wanted]
    return [100 * float(row[f"seed_{seed}"]) for seed in range(3)]


def said(start):
    """Return one cell of the notebook, with single spaces."""
    cells = map(files.source, files.read(NOTEBOOK)["cells"])
    return " ".join(next(text for text in cells if start in text).split())


def ranges(text):
    """Return the pairs of numbers that the text gives as a range of percentages."""
    return [
        tuple(map(float, two)) for two in re.findall(r"([\d.]+) to ([\d.]+) %", text)
    ]


def test_the_answers_give_what_was_measured():
    text = said("**4.3**")
    kinds = [(420, False), (140, True), (420, True)]
    kinds += [(140, True), (140, True, 2), (140, True, 4), (140, False)]
    found = ranges(text)
    for kind, (low, high) in zip(kinds, found, strict=True):
        assert min(errors(*kind)) == pytest.approx(low, abs=0.051)
        assert max(errors(*kind)) == pytest.approx(high, abs=0.051)
    means = re.findall(r"\| (\d+\.\d) % \|", text)
    for kind, mean in zip(kinds[3:], means, strict=True):
        assert fmean(errors(*kind)) == pytest.approx(float(mean), abs=0.051)


def test_the_gain_and_how_much_of_it_a_shift_takes():
    gain = fmean(errors(140, False)) - fmean(errors(140, True))
    for shift in (2, 4):
        lost = fmean(errors(140, True, shift)) - fmean(errors(140, True))
        assert gain / 2 < lost < gain
    assert {round(error) for error in errors(140, True)} == {10, 11}
    assert {round(error) for error in errors(140, False)} == {12, 14}
    text = said("fewer mistakes:")
    assert "10 or 11 % of all pixels are wrong instead of 12 to 14 %" in text


def test_what_is_invented_and_missed_is_what_is_wrong():
    cells = {cell["id"]: cell for cell in files.read(NOTEBOOK)["cells"]}
    shown = files.joined(cells["missed"]["outputs"][0]["text"])
    pairs = re.findall(r"invented ([\d.]+)%, missed ([\d.]+)%", shown)
    pairs = [(float(invented), float(missed)) for invented, missed in pairs]
    measured = errors(140, False) + errors(140, True)
    for pair, wrong in zip(pairs, measured, strict=True):
        assert sum(pair) == pytest.approx(wrong, abs=1.5)  # of any processor
    gains = [sum(kind[:3]) - sum(kind[3:]) for kind in zip(*pairs, strict=True)]
    assert gains[1] > sum(gains) / 2, "most of the gain had been missed"


def test_the_script_trains_the_net_of_the_notebook(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    import skips

    names = skips.names_of_notebook()
    net = names["SmallNet"](skips=True)
    x, skip = torch.randn(1, 16, 4, 4), torch.randn(1, 8, 8, 8)
    moved = skips.Shifted(net.up[0], 2).eval()
    with torch.no_grad():
        expected = net.up[0].eval()(x, skip.roll((2, 2), (2, 3)))
    assert torch.equal(moved(x, skip), expected)
    assert tuple(names["unseen"].shape) == (16, 1, 80, 80)
    with pytest.raises(AssertionError, match="of "):
        skips.names_of_notebook(("a cell that is not there",))
