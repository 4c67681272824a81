"""What `20_since_2015` says about its rows is what the rows say."""

import re

import notebooks as files
import torch
from test_results_19 import (
    ROOT,
    cells,
    invented,
    points,
    prose,
    run,
    said,
    script,
    script_names,
    script_text,
    table_of,
    verdicts,
)

from unet_tutorial.runs.results import mean_interval

NOTEBOOK = ROOT / "nbs" / "20_since_2015.ipynb"


def test_deep_supervision_is_the_class_that_was_trained():
    text = cells(NOTEBOOK)["deep"].strip()
    assert text == script_text("DeepSupervision")
    lines = len([line for line in text.splitlines() if line.strip()])
    assert f"a class of {lines} lines for deep supervision" in prose(NOTEBOOK)


def test_every_row_of_the_script_is_in_the_figure_and_told():
    text = cells(NOTEBOOK)
    partner = run(NOTEBOOK, "pairs", found={})["PARTNER"]
    first, *names = script_names("since_2015")
    assert names == [*partner] and {*partner.values()} <= {first, *names}
    for name in names:
        assert sum(f'tell("{name}")' in part for part in text.values()) == 1, name


def test_the_base_is_the_one_of_the_prose():
    changes, text = script().since_2015(), prose(NOTEBOOK)
    recipe = changes["no norm"].recipe
    assert f"The net has {recipe.net.base_channels} channels at the top" in text
    assert f"a net with {recipe.net.base_channels} channels at the top" in text
    assert recipe.batch == 4 and f"four tiles of {recipe.tile} pixels per step" in text
    assert recipe.optimizer.name == "AdamW" and recipe.schedule == "cosine"
    assert f"every window of {recipe.tile} pixels holds some" in text


def test_pairs_begin_with_the_same_weights_where_the_prose_says_so():
    changes, begin_net = script().since_2015(), script().begin_net
    base = begin_net(changes["batch norm"], 0)
    for name, change in changes.items():
        net = begin_net(change, 0)
        first = [getattr(x, "net", x).contracting.first.conv1 for x in (base, net)]
        same = torch.equal(*(layer.weight for layer in first))
        assert same == (name not in ("no norm", "batch norm, residual")), name


@verdicts
def test_the_verdict_follows_the_interval(mine, word):
    space = run(NOTEBOOK, "pairs", "verdict", mean_interval=mean_interval)
    space["found"] = invented(mine, (0.07, 0.071, 0.072))
    space["PARTNER"]["change"] = "base"
    assert space["verdict"]("change", "pixel_error").endswith(word)


def steps_of(table):
    """How many steps each training took: a step takes four tiles."""
    (tiles,) = {row["tiles"] for rows in table.values() for row in rows.values()}
    return int(tiles) // 4


def test_the_budget_of_the_prose_is_that_of_the_rows():
    table, text = table_of("since_2015.csv"), prose(NOTEBOOK)
    assert {*table} == {*script_names("since_2015")}
    steps = steps_of(table)
    assert text.count(f"{steps} steps") == 5
    assert {*re.findall(r"(\d+) steps", text)} == {str(steps), "80"}  # live: 80
    every = [row for rows in table.values() for row in rows.values()]
    assert "less than a minute on one thread of the processor" in text
    assert max(float(row["minutes"]) for row in every) < 1
    assert {row["threads"] for row in every} == {"1"}
    assert all(row["device"].startswith("CPU") for row in every)


def test_what_is_said_of_the_figure():
    """Five of eighteen intervals miss zero; three of the narrow ones are no wonder."""
    table, text = table_of("since_2015.csv"), said(NOTEBOOK, "figure-read")
    partner = run(NOTEBOOK, "pairs", found={})["PARTNER"]
    pixel, rand = (
        {
            name: mean_interval(points(table, name, other, error))
            for name, other in partner.items()
        }
        for error in ("pixel_error", "rand_error")
    )
    clear = {name for name, (mean, half) in pixel.items() if abs(mean) > half}
    assert len(pixel) + len(rand) == 18 and "Eighteen intervals" in text
    assert len(clear) == 5 and "Five miss it" in text
    assert not any(abs(mean) > half for mean, half in rand.values())
    narrow = sorted(pixel, key=lambda name: pixel[name][1])[:4]
    same = {"batch norm, averaged weights", "small tiles", "blended tiles"}
    assert {*narrow} == {*same, "batch norm, oversampling"}
    assert "Three of the four narrowest" in text
    halves = [half for _, half in rand.values()]
    assert f"half widths go from {min(halves):.0f} to {max(halves):.0f} points" in text
    mean, half = rand["instance norm"]
    assert max(rand, key=lambda n: abs(rand[n][0]) / rand[n][1]) == "instance norm"
    assert (
        f"with {mean:.2f} points and an interval that ends at {mean + half:+.2f}"
        in text
    )


def test_what_is_said_of_normalisation_dice_and_deep_supervision():
    """Better with every seed, though their intervals contain zero."""
    table, text = table_of("since_2015.csv"), said(NOTEBOOK, "figure-read")
    batch, instance = (
        sorted(-x for x in points(table, f"{kind} norm", "no norm"))
        for kind in ("batch", "instance")
    )
    assert f"batch normalisation by {batch[0]:.1f} to {batch[2]:.1f} points" in text
    assert f"instance normalisation by {instance[0]:.1f} to {instance[2]:.1f}" in text
    names = "batch norm, Dice", "batch norm, deep supervision"
    both = [-x for name in names for x in points(table, name, "batch norm")]
    low, high = min(both), max(both)
    assert low > 0 and f"too, by {low:.2f} to {high:.2f} points" in text
    assert batch[0] > 0 and instance[0] > 0
    every = said(NOTEBOOK, "first-read")
    assert "Both kinds were better with each of our seeds" in every


def test_what_is_said_of_residual_blocks_and_averaged_weights():
    table = table_of("since_2015.csv")
    low, *_, high = sorted(points(table, "batch norm, residual", "batch norm"))
    text = said(NOTEBOOK, "residual-read")
    assert f"Worse, by {low:.1f} to {high:.1f} points with each seed" in text
    later = points(table, "batch norm, averaged weights", "batch norm")
    assert 0 < min(later) and max(later) < 0.1
    text = said(NOTEBOOK, "average-read", "average-why")
    assert "Worse with each seed, by less than 0.1 points" in text
    steps = steps_of(table)  # see `_follow` in runs/engine
    least = 1 - (1 + steps) / (10 + steps)
    assert f"in our {steps} steps it never falls below {100 * least:.0f} %" in text


def test_what_is_said_of_tiles():
    """What small tiles cost, blending brings back."""
    table, text = table_of("since_2015.csv"), said(NOTEBOOK, "blended-read")
    cost, half = mean_interval(points(table, "small tiles", "batch norm"))
    back, width = mean_interval(points(table, "blended tiles", "small tiles"))
    assert cost > half and -back > width
    assert f"cost {cost:.2f} points" in text and f"brings {-back:.2f} back" in text
    for name in ("blended tiles", "batch norm"):
        mean = sum(float(row["pixel_error"]) for row in table[name].values()) / 3
        assert f"at {100 * mean:.2f} % the blended tiles" in text


def test_what_is_said_of_a_switch_that_has_nothing_to_do():
    table, text = table_of("since_2015.csv"), said(NOTEBOOK, "objects-read")
    pair = points(table, "batch norm, oversampling", "batch norm")
    mean, half = mean_interval(pair)
    assert mean > half and max(pair) - min(pair) < 0.05
    assert f"makes the net worse, by {mean:.1f} points" in text
    rim = [
        cell for cell in files.read(NOTEBOOK)["cells"] if cell["id"] == "objects-rim"
    ]
    printed = files.joined(rim[0]["outputs"][0]["text"])
    few, many = (int(x) for x in re.findall(r"(\d+)%", printed))
    assert few == 1 and round(100 / many) == 8
    end = said(NOTEBOOK, "objects-end")
    assert "about one window in eight ends there" in end
    assert f"Whether these {mean:.1f} points are luck" in end
