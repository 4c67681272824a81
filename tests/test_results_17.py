"""What 17_cars says about measured rows is what the rows say."""

import re
import sys
from pathlib import Path

import notebooks as files
import numpy as np
import pytest
import torch
from scipy import ndimage

from unet_tutorial.data.datasets import open_carvana
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.runs.results import measured, read_results, result_file

ROOT = Path(__file__).resolve().parent.parent
CITED = {"0.988423", "0.9973"}  # of other people
GOAL = 0.98
TICKS = {"0.8", "0.9", "0.95", "0.98", "0.99"}  # of axes, and of the race
CELLS = {cell["id"]: cell for cell in files.read(ROOT / "nbs/17_cars.ipynb")["cells"]}


@pytest.fixture(scope="module")
def cars():
    "The script of the experiment."
    sys.path.insert(0, str(ROOT / "experiments"))
    try:
        import cars
    finally:
        sys.path.pop(0)
    return cars


def numbers(name):
    "The numbers with a point in a cell of prose."
    return re.findall(r"(?<![\w.])\d+\.\d+(?!\w|\.\d)", files.source(CELLS[name]))


def printed(name):
    "The text that a cell has printed."
    texts = (output.get("text", []) for output in CELLS[name]["outputs"])
    return "".join(files.joined(text) for text in texts)


def as_printed(text, values):
    "Whether one of the values, rounded as the text is, is that text."
    places = len(text.split(".")[1])
    return any(f"{float(value):.{places}f}" == text for value in values)


def rows(**key):
    "The measured rows of the table."
    found = [row for row in read_results("cars.csv") if measured(row)]
    return [row for row in found if all(row[k] == v for k, v in key.items())]


def side(who):
    "Seconds and Dice of one side of the race, seed 0."
    own = [row for row in read_results("cars_race.csv") if row["who"] == who]
    own = sorted((r for r in own if r["seed"] == "0"), key=lambda r: int(r["epoch"]))
    return [float(r["seconds"]) for r in own], [float(r["dice"]) for r in own]


def passes(who):
    "After how many passes a side of the race had reached its goal; None: it had not."
    return next((n for n, dice in enumerate(side(who)[1], 1) if dice >= GOAL), None)


def race_numbers():
    "What may be said of the race in numbers: minutes, their ratio, the best Dice."
    ends = {}
    for who in ("textbook", "library"):
        seconds, _ = side(who)
        ends[who] = seconds[(passes(who) or len(seconds)) - 1] / 60
    best = [max(side(who)[1]) for who in ends]
    return [*ends.values(), ends["textbook"] / ends["library"], *best]


@pytest.mark.parametrize("name", ["real-how", "real-table", "real-seen", "shrink-seen"])
def test_numbers_about_the_real_cars_are_those_of_the_rows(name):
    scores = "dice", "dice_full_size", "truth_full_size", "minutes"
    values = [row[score] for row in rows() for score in scores if row.get(score)]
    for number in set(numbers(name)) - CITED - TICKS:
        assert as_printed(number, values), f"{name}: no row says {number}"


def test_numbers_about_the_race_are_those_of_the_rows():
    for number in set(numbers("race-seen")) - TICKS:
        assert as_printed(number, race_numbers()), f"no row says {number}"


def test_numbers_about_the_curves_are_those_of_the_rows():
    values = [point["dice"] for point in read_results("cars_curves.csv")]
    for name in ("real-curves-why", "real-curves-seen"):
        for number in set(numbers(name)) - TICKS:
            assert len(number) > 5, f"{number} has too few digits to be found in a row"
            assert as_printed(number, values), f"{name}: no row says {number}"


def test_the_table_shows_every_row():
    lines = printed("real-rows").splitlines()
    for row in read_results("cars.csv"):
        wanted = ["seed", "steps", "minutes", "dice", "dice_full_size"]
        parts = [row[k] for k in wanted] if measured(row) else [row["note"]]
        assert any(all(part in line for part in parts) for line in lines), row


def test_the_table_of_the_race_shows_what_the_rows_say():
    text, reached = printed("race-numbers"), []
    for who in ("library", "textbook"):
        if passes(who):
            reached.append(who)
            assert f"Dice {GOAL} after {passes(who)} passes" in text
        else:
            best, count = max(side(who)[1]), len(side(who)[1])
            assert f"at best Dice {best:.4f} in {count} passes" in text
    ratio = f"ratio of the times: {race_numbers()[2]:.1f}"
    assert (ratio in text) == (len(reached) == 2)


def test_the_picture_is_small():
    assert result_file("cars.jpg").stat().st_size <= 60 * 1024


def test_the_table_of_differences_is_that_of_the_recipe(cars):
    recipe, text = read_recipe("modern"), files.source(CELLS["race-why"])
    assert recipe.optimizer.name == "AdamW" and "AdamW" in text
    assert (recipe.schedule, recipe.amp, recipe.batch) == ("cosine", "auto", 4)
    assert recipe.clip and recipe.ema == 0.99 and "batches of four" in text
    assert f"until the Dice was {cars.GOAL}" in text and cars.GOAL == GOAL


def test_both_sides_of_the_race_begin_with_the_same_weights(cars):
    first, second = (cars.net_of(cars.recipe_of("small"), 0) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_both_sides_of_the_race_measure_on_the_same_truth(cars, real_carvana):
    source = open_carvana(real_carvana)
    _, theirs, checked = cars.data_sets(source, "small", 0)
    ours = cars.Textbook(checked, cars.SIZES["small"])
    for index in (0, len(ours) - 1):
        assert torch.equal(ours[index][1], theirs[index][1])


def test_the_sample_is_as_large_as_is_said(real_carvana):
    """15 cars, of which four are held out, and 176 photographs to learn from."""
    source = open_carvana(real_carvana)
    if len(source) != 240:
        pytest.skip("this is not the sample of 240 photographs")
    learned, checked = source.split(4, 0)
    assert len(set(source.groups)) == 15 and "sample of 15" in text_of("real-how")
    assert len(set(learned.groups)) == 11 and "**eleven**" in text_of("real-how")
    assert len(learned) == 176 and "176, of eleven cars" in text_of("real-table")
    assert len(checked) == 64 and "all 64 views" in text_of("real-how")
    for row in rows():
        assert row["steps"] and row["device"]


def test_the_truth_has_the_holes_and_the_aerial_that_are_told_of(cars, real_carvana):
    source = open_carvana(real_carvana)
    if len(source) != 240:
        pytest.skip("this is not the sample of 240 photographs")
    checked, (_, second, _, last) = source.split(4, 0)[1], cars.VIEWS
    background, count = ndimage.label(checked.labels(second) == 0)
    holes = [place[1].start for place in ndimage.find_objects(background)[1:]]
    assert count > 1 and min(holes) > background.shape[1] / 2  # the rear is right
    parts = [
        ndimage.label(checked.labels(last, size), np.ones((3, 3)))[1]
        for size in (None, cars.SIZES["large"])
    ]
    assert parts[0] == 1 and parts[1] > 1  # the aerial falls into dots


def text_of(name):
    return " ".join(files.source(CELLS[name]).split())
