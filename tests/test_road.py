"""What the prose of the road must not do, and Figure 1 as its notebook draws it."""

import re
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import layers
import notebooks as files
import pytest
import torch
from torch import nn

from unet_tutorial import road
from unet_tutorial.model import UNet

ROOT = Path(__file__).resolve().parent.parent
ROAD = [path for path in files.reading_order(ROOT / "nbs") if path.parent.name == "nbs"]


def prose(path):
    """Yield the number and the text of each markdown cell, code left out."""
    for number, cell in enumerate(files.read(path)["cells"], 1):
        if cell["cell_type"] == "markdown":
            text = re.sub(r"```.*?```", " ", files.source(cell), flags=re.DOTALL)
            yield number, text


@pytest.mark.parametrize("path", ROAD, ids=lambda path: path.stem)
def test_no_sentence_is_there_twice(path):
    """In `04_skips` the end of a sentence was pasted a second time."""
    for number, text in prose(path):
        words = re.sub(r"\|.*\||Read again: .*", " ", text).split()
        runs = [" ".join(words[i : i + 8]) for i in range(len(words) - 7)]
        twice = {run for run in runs if runs.count(run) > 1}
        assert not twice, f"{path.stem}, cell {number}: {sorted(twice)}"


@pytest.mark.parametrize("path", ROAD, ids=lambda path: path.stem)
def test_no_notebook_is_called_by_a_number_with_a_letter(path):
    """The numbers of the road have no letters: `09c` leads nowhere."""
    for number, text in prose(path):
        found = re.findall(r"\b(?:notebooks? |`)(\d\d[a-z])\b", text)
        found += re.findall(r"`(\d\d[a-z]_\w+)`", text)
        assert not found, f"{path.stem}, cell {number}: {found}"


def figure_1(net, side):
    """Run the cells of `05_model` that say where the boxes of Figure 1 are."""
    cells = files.read(ROOT / "nbs" / "05_model.ipynb")["cells"]
    space = {"nn": nn, "torch": torch, "deepcopy": deepcopy, "net": net}
    space["print"] = lambda *_, **__: None
    for start in ("def trace(", "def place_boxes("):
        (text,) = [text for text in map(files.source, cells) if text.startswith(start)]
        exec(text, space)
    return space["place_boxes"](space["trace"](net, side))


def test_figure_1_has_every_box_of_the_paper():
    """With the joined boxes of the expansive path: 1024, 512, 256 and 128 channels."""
    boxes = figure_1(UNet().eval(), 572)
    assert [(box["channels"], box["size"]) for box in boxes] == [
        *((1, 572), (64, 570), (64, 568)),
        *((64, 284), (128, 282), (128, 280)),
        *((128, 140), (256, 138), (256, 136)),
        *((256, 68), (512, 66), (512, 64)),
        *((512, 32), (1024, 30), (1024, 28)),
        *((1024, 56), (512, 54), (512, 52)),
        *((512, 104), (256, 102), (256, 100)),
        *((256, 200), (128, 198), (128, 196)),
        *((128, 392), (64, 390), (64, 388), (2, 388)),
    ]
    joined = [box for box in boxes if box["copied"]]
    assert [box["copied"] for box in joined] == [512, 256, 128, 64]
    assert all(2 * box["copied"] == box["channels"] for box in joined)


def test_the_boxes_of_figure_1_make_a_u():
    boxes = figure_1(UNet(base_channels=2, depth=3).eval(), 92)
    levels = [box["level"] for box in boxes]
    bottom = levels.index(3)
    assert levels[: bottom + 1] == sorted(levels[: bottom + 1]) and levels[-1] == 0
    for before, box in pairwise(boxes):
        same_row = box["y"] == before["y"]
        assert same_row == (box["kind"] == "Conv2d")


def test_the_map_shows_the_notebooks_there_are():
    assert road.STOPS == [path.stem for path in ROAD if path.stem != "index"]
    for part, (first, last) in layers.PARTS.items():
        numbers = [files.number(stop) for stop in road.PARTS[part].split()]
        assert numbers == list(range(first, last + 1))
    assert len({road.stop_place(number) for number in range(25)}) == 25


@pytest.mark.parametrize("path", ROAD[1:], ids=lambda path: path.stem)
def test_a_notebook_says_where_the_reader_is(path):
    cells = files.read(path)["cells"]
    drawn = [cell for cell in cells if "road_map(" in files.source(cell)]
    assert len(drawn) == 1 and f'"{path.stem}"' in files.source(drawn[0])
    assert "image/png" in drawn[0]["outputs"][0]["data"]


def test_links_to_the_glossary_lead_to_a_word():
    text = (ROOT / "nbs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"(?m)^### (.+)$", text)
    anchors = {re.sub(r"[^\w -]", "", word.lower()).replace(" ", "-") for word in words}
    prosaic = "\n".join(text for path in ROAD for _, text in prose(path))
    linked = set(re.findall(r"\]\(glossary\.md#([\w-]+)\)", prosaic))
    assert linked <= anchors and len(linked) > 30
    homes = re.findall(r"\]\((\w+)\.ipynb\)", text)
    assert {*homes} <= {path.stem for path in ROAD}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors


def test_an_unknown_notebook_is_not_drawn():
    """The error says which names there are."""
    with pytest.raises(ValueError, match="called '6': index, 00_show, .* work"):
        road.road_map("6")
