"""Pictures that are drawn again while sliders move."""

import csv
import json
import re
import sys
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from samples import says

from unet_tutorial.sizes import output_size
from unet_tutorial.sliders import picture_of, slider_values, with_sliders
from unet_tutorial.tiles import tile_starts
from unet_tutorial.weight_map import border_weights

NBS = Path(__file__).parents[1] / "nbs"
WITH_SLIDERS = {  # the sliders of the course, by notebook
    "00_show": ["threshold"],
    "01_synthetic": ["threshold"],
    "02_sizes": ["tile", "depth"],
    "04_skips": ["shift", "share"],
    "06_tiles": ["output_tile"],
    "07_weight_map": ["gap", "sigma", "w0"],
    "09_augment": ["std", "grid"],
    "11_metrics": ["threshold"],
}


def draw_bar(height=2, width=0.5):
    _, ax = plt.subplots(figsize=(2, 1))
    ax.bar(0, 12 // height, width)


def square(side):
    return np.indices((8, 8)).max(0) < side


def test_values_end_with_the_last_one():
    assert slider_values(60, 150, 30) == [60, 90, 120, 150]
    assert slider_values(0, 1, 0.1)[7] == 0.7 and len(slider_values(0, 1, 0.1)) == 11
    assert all(isinstance(value, int) for value in slider_values(1, 5))
    assert slider_values(3, 3) == [3]


@pytest.mark.parametrize("wrong", [(5, 1), (0, 5, 0), (0, 5, -1)])
def test_a_wrong_range_is_named(wrong):
    with pytest.raises(ValueError, match=says(str(wrong[0]), "last >= first")):
        slider_values(*wrong)


def test_a_figure_and_an_image_become_png_and_no_figure_stays():
    mine = plt.figure()
    try:
        png = picture_of(draw_bar, height=3)
        assert Image.open(BytesIO(png)).size == (200, 100)
        assert png == picture_of(draw_bar, height=3) != picture_of(draw_bar, height=4)
        assert Image.open(BytesIO(picture_of(square, side=3))).size == (8, 8)
        with pytest.raises(ZeroDivisionError):
            picture_of(draw_bar, height=0)  # its figure was open already
        assert plt.get_fignums() == [mine.number]
    finally:
        plt.close(mine)


def test_a_function_that_draws_nothing_is_told_so():
    with pytest.raises(ValueError, match=says("nothing(x=3)", "plt.show()")):
        picture_of(lambda_named("nothing"), x=3)


def lambda_named(name):
    def function(x):
        return None

    function.__name__ = name
    return function


def test_the_picture_follows_the_slider():
    pytest.importorskip("ipywidgets")
    page = with_sliders(draw_bar, height=(1, 6), width=(0.1, 1, 0.1))
    height, width, picture = page.children
    assert (height.value, height.min, height.max, height.step) == (2, 1, 6, 1)
    assert (width.value, width.min, width.max, width.step) == (0.5, 0.1, 1, 0.1)
    assert height.continuous_update and width.continuous_update
    seen = {picture.value}
    assert picture.value.startswith('<img alt="draw_bar(height=2, width=0.5)"')
    assert 'width="200" height="100"' in picture.value
    height.value = 5
    seen.add(picture.value)
    width.value = 0.30000000000000004  # as some browsers count
    seen.add(picture.value)
    assert len(seen) == 3 and 'alt="draw_bar(height=5, width=0.3)"' in picture.value
    height.value, width.value = 2, 0.5
    assert picture.value in seen


def test_what_goes_wrong_while_a_slider_moves_is_shown():
    pytest.importorskip("ipywidgets")

    def fragile(side):
        if side == 2:
            raise RuntimeError("no square of <2>")
        return square(side)

    page = with_sliders(fragile, side=(1, 8))  # 2 is not among those tried
    slider, picture = page.children
    slider.value = 2
    assert "RuntimeError: no square of &lt;2&gt;" in picture.value
    assert "raise RuntimeError" in picture.value and "<img" not in picture.value
    slider.value = 3
    assert picture.value.startswith("<img")


@pytest.mark.parametrize("broken", [1, 5, 8])
def test_a_slider_that_is_broken_fails_when_its_cell_runs(broken, monkeypatch):
    """The first, the middle and the last value, with a page and without."""

    def fragile(side):
        return square(1 / (side - broken))

    for without in (False, True):
        if without:
            monkeypatch.setitem(sys.modules, "ipywidgets", None)
        with pytest.raises(RuntimeError, match=re.escape(f"fragile(side={broken})")):
            with_sliders(fragile, side=(1, 8))


def test_without_ipywidgets_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert with_sliders(draw_bar, height=(1, 6)) is None
    assert capsys.readouterr() == ("", "") and not plt.get_fignums()


def test_a_beginning_outside_of_the_range_and_an_unknown_keyword():
    with pytest.raises(ValueError, match=says("height begins at 2", "4, 5, ..., 9")):
        with_sliders(draw_bar, height=(4, 9))
    with pytest.raises(RuntimeError, match=says("draw_bar(size=1)", "unexpected")):
        with_sliders(draw_bar, size=(1, 3))


def calls():
    "Of each notebook of the road its cells that have sliders, with their places."
    for path in sorted(NBS.glob("*.ipynb")):
        book = json.loads(path.read_text(encoding="utf-8"))
        for place, cell in enumerate(book["cells"]):
            text = "".join(cell["source"])
            if cell["cell_type"] == "code" and "with_sliders(" in text:
                yield path.stem, book["cells"], place


def test_the_course_has_its_sliders_and_saves_none():
    found = {}
    for name, cells, place in calls():
        cell = cells[place]
        assert cell["outputs"] == [], f"{name}: a slider was saved"
        text = "".join(cell["source"]).split("with_sliders(")[1]
        found.setdefault(name, []).extend(re.findall(r"(\w+)=\(", text))
    assert found == WITH_SLIDERS


def test_each_slider_is_below_a_figure_and_after_a_question():
    for name, cells, place in calls():
        before = cells[:place]
        pictures = [c for c in before if "image/png" in json.dumps(c.get("outputs"))]
        assert len(pictures) > 1, f"{name}: only the road map is above its slider"
        prose = [c for c in before[-2:] if c["cell_type"] == "markdown"]
        assert prose and "?" in "".join(prose[-1]["source"]), f"{name}: look for what?"


def test_nobody_uses_another_kind_of_slider():
    for path in NBS.glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert "ipywidgets.interact" not in text and "import ipywidgets" not in text, (
            f"{path.stem}: with_sliders would work"
        )


def test_the_times_are_those_of_the_sliders_there_are():
    with (NBS.parent / "results" / "sliders.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for row in rows:
        found.setdefault(row["notebook"], []).append(row["slider"])
    assert found == WITH_SLIDERS
    for row in rows:
        assert row["command"].startswith("benchmarks/sliders.py")
        assert 0 < int(row["median ms"]) <= int(row["slowest ms"]) < 200


def share(tile, depth):
    return output_size(tile, depth) ** 2 / tile**2


def test_the_answers_about_margins_are_right():
    assert share(620, 4) < 0.5 and round(share(636, 4), 2) == 0.51
    assert share(300, 3) < 0.5 and round(share(316, 3), 2) == 0.52
    assert (188**2, output_size(188) ** 2) == (35_344, 16)


@pytest.mark.parametrize(
    ("tile", "tiles", "reads"),
    [(36, 252, 48.6), (292, 4, 3.6), (436, 4, 6.1), (564, 1, 2.2)],
)
def test_the_answers_about_tiles_are_right(tile, tiles, reads):
    rows, columns = (len(tile_starts(side, tile)) for side in (448, 560))
    assert rows * columns == tiles
    assert round(tiles * (tile + 184) ** 2 / 448 / 560, 1) == reads


def test_the_answers_about_two_cells_are_right():
    row = np.zeros((3, 50), int)
    row[:, :20], row[:, 29:] = 1, 2  # 9 pixels between them
    heights = [border_weights(row, sigma=sigma).max() for sigma in (4, 5)]
    assert np.round(heights, 1).tolist() == pytest.approx([0.4, 1.4])
