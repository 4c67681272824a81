"""The pictures of a training keep the colours of the course; so does the page."""

import re

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.colors import same_color

from unet_tutorial.runs.report import draw_progress
from unet_tutorial.show import ROLES

HISTORY = {"train_loss": [2, 1], "valid_loss": [3, 2], "pixel error": [0.4, 0.3]}
SAMPLE = np.zeros((8, 8)), np.eye(8, dtype=int), np.zeros((8, 8), int)


@pytest.mark.parametrize("count", [0, 2])
def test_curves_have_the_colours_of_their_roles(count):
    figure = draw_progress(HISTORY, [SAMPLE] * count)
    left, right, *below = figure.axes
    drawn = (left, "training"), (left, "held out"), (right, "held out")
    for axis, name in drawn:
        (line,) = [one for one in axis.lines if one.get_label() == name]
        assert same_color(line.get_color(), ROLES[name])
        assert list(line.get_xdata()) == [1, 2]  # epochs count from 1
        assert axis.get_title() and axis.get_xlabel() and axis.get_ylabel()
    assert len(below) == count
    said = [part.get_suptitle() for part in figure.subfigs[1:]]
    assert said == ["orange-red: invented, blue: missed"] * bool(count)


def test_the_net_on_a_page_paints_in_the_colour_of_a_prediction():
    script = (ROOT / "site" / "net" / "net.js").read_text(encoding="utf-8")
    (parts,) = re.findall(r"const PREDICTED = \[(.*?)\]", script)
    colour = [int(part) / 255 for part in parts.split(",")]
    assert same_color(colour, ROLES["prediction"])
