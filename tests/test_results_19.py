"""What `19_ablation` says about its rows is what the rows say."""

import ast
import importlib
import re
import statistics
from pathlib import Path
from statistics import fmean

import notebooks as files
import pytest
import torch
from scipy.stats import t

from unet_tutorial.runs.results import mean_interval, measured, read_results
from unet_tutorial.sizes import output_size

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "nbs" / "19_ablation.ipynb"
SCRIPT = ROOT / "experiments" / "one_change.py"


def cells(path):
    """The text of each cell, by its id."""
    return {cell["id"]: files.source(cell) for cell in files.read(path)["cells"]}


def prose(path):
    """All markdown of a notebook as one line, without markup for emphasis."""
    every = files.read(path)["cells"]
    texts = [files.source(cell) for cell in every if cell["cell_type"] == "markdown"]
    return " ".join(" ".join(texts).replace("**", "").split())


def table_of(name):
    """The measured rows of a table: name of the change -> seed -> row."""
    table = {}
    for row in read_results(name):
        assert measured(row)
        table.setdefault(row["change"], {})[int(row["seed"])] = row
    assert all(sorted(rows) == [0, 1, 2] for rows in table.values())
    return table


def points(table, name, partner, error="pixel_error"):
    """The differences of the three pairs in percentage points."""
    pair = table[name], table[partner]
    values = ([float(rows[seed][error]) for rows in pair] for seed in range(3))
    return [100 * (mine - other) for mine, other in values]


def said(path, *names):
    """The text of some cells as one line, without markup for emphasis."""
    text = " ".join(cells(path)[name] for name in names)
    return " ".join(text.replace("*", "").split())


def run(path, *names, **space):
    """Execute some cells of a notebook, by their ids, and return what they define."""
    for name in names:
        exec(cells(path)[name], space)
    return space


def script_text(name):
    """The text of a class or function of the experiment's script."""
    text = SCRIPT.read_text(encoding="utf-8")
    nodes = [node for node in ast.parse(text).body if getattr(node, "name", "") == name]
    return ast.get_source_segment(text, nodes[0])


def script_names(function):
    """The names of the rows that a function of the script describes, in its order."""
    (tree,) = ast.parse(script_text(function)).body
    (table,) = [node.value for node in tree.body if isinstance(node, ast.Return)]
    return [key.value for key in table.keys]


def script():
    """The experiment's script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments")
        return importlib.import_module("one_change")


def invented(mine, other):
    """Rows of three seeds as the functions of the notebooks hold them."""
    return {
        name: {seed: {"pixel_error": str(value)} for seed, value in enumerate(values)}
        for name, values in [("change", mine), ("base", other)]
    }


def test_the_class_without_skips_is_the_one_that_was_trained():
    assert cells(NOTEBOOK)["no-skips"].strip() == script_text("NoSkips")


def test_every_row_of_the_script_is_in_the_table_and_told():
    """A change that the script knows is drawn, and has its own paragraph."""
    text = cells(NOTEBOOK)
    space = run(NOTEBOOK, "pairs", found={}, BASE="")
    names = script_names("ablation")
    assert names[1:] == space["ORDER"] and {*space["PARTNER"].values()} < {*names}
    for name in names[1:]:
        assert sum(f'tell("{name}")' in part for part in text.values()) == 1, name


def test_the_base_is_the_one_of_the_prose():
    """Channels, tile, batch, optimizer and learning rates of the rows."""
    changes, text = script().ablation(), prose(NOTEBOOK)
    recipe = changes["the paper in small"].recipe
    assert f"`UNet(base_channels={recipe.net.base_channels})`" in text
    assert recipe.batch == 1 and recipe.schedule == "cosine"
    assert f"with one tile of {recipe.tile} pixels per step instead of 572" in text
    assert recipe.optimizer.name == "AdamW" and recipe.clip is None
    assert f"rises briefly to {recipe.optimizer.lr} and falls as a cosine" in text
    rates = [
        changes[f"SGD, momentum {momentum}"].recipe.optimizer.lr
        for momentum in (0.99, 0.9)
    ]
    three = f"{recipe.optimizer.lr} for AdamW, {rates[0]} and {rates[1]} for the two"
    assert three in text and rates[1] == 10 * rates[0]
    assert f"The rate of {recipe.net.dropout} is ours" in text
    inner = f"inner = output_size({recipe.tile})"
    assert inner in cells(NOTEBOOK)["same-count"]


def test_pairs_begin_with_the_same_weights_where_the_layers_are_the_same():
    changes, begin_net = script().ablation(), script().begin_net
    base = begin_net(changes["the paper in small"], 0)
    others = {"torch's first weights", "same, bilinear"}
    for name in {*changes} - others:
        net = begin_net(changes[name], 0)
        assert all(map(torch.equal, base.parameters(), net.parameters())), name


verdicts = pytest.mark.parametrize(
    ("mine", "word"),  # errors of three seeds beside 0.07, 0.071 and 0.072
    [
        ((0.09, 0.091, 0.092), "worse"),
        ((0.05, 0.051, 0.052), "better"),
        ((0.05, 0.07, 0.09), "not distinguishable with three seeds and this budget"),
        ((0.05, 0.07), "not yet measured with three seeds"),
    ],
)


@verdicts
def test_the_verdict_follows_the_interval(mine, word):
    found = invented(mine, (0.07, 0.071, 0.072))
    space = {"found": found, "BASE": "base", "mean_interval": mean_interval}
    space = run(NOTEBOOK, "pairs", "verdict", **space)
    assert space["verdict"]("change").endswith(word)


def test_the_rows_are_those_of_the_script_and_the_slices_those_of_the_prose():
    """The held-out slices are those of the script, and no training is there twice."""
    assert "LAST = (24, 30)" in (ROOT / "experiments/membranes.py").read_text("utf-8")
    assert "Slices 24 to 29 are held out" in prose(NOTEBOOK)
    rows = [row for row in read_results("ablation.csv") if measured(row)]
    keys = [(row["change"], row["seed"], row["tiles"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {name for name, *_ in keys} <= {*script_names("ablation")}
    assert all(0 < float(row["pixel_error"]) < 1 for row in rows)


BASE = "the paper in small"


def test_the_budget_of_the_prose_is_that_of_the_rows():
    """400 tiles, less than a minute each, one thread of a processor."""
    every = [row for rows in table_of("ablation.csv").values() for row in rows.values()]
    (tiles,) = {row["tiles"] for row in every}
    text = prose(NOTEBOOK)
    assert {*re.findall(r"(\d+) tiles\b", text)} == {tiles}
    assert (
        text.count(f"{tiles} tiles") >= 5 and "trained for less than a minute" in text
    )
    assert max(float(row["minutes"]) for row in every) < 1
    assert {row["threads"] for row in every} == {"1"}
    assert all(row["device"].startswith("CPU") for row in every)
    middles = int(tiles) * output_size(380) ** 2 / (23 * 512**2)
    assert f"hold {middles:.1f} times as many pixels as the 23 slices" in text


def test_what_is_said_of_the_figure():
    """Four of twenty intervals miss zero, and those of the Rand error are wide."""
    table = table_of("ablation.csv")
    partner = run(NOTEBOOK, "pairs", found={}, BASE=BASE)["PARTNER"]
    pairs = {
        (name, error): mean_interval(
            points(table, name, partner.get(name, BASE), f"{error}_error")
        )
        for name in table
        if name != BASE
        for error in ("pixel", "rand")
    }
    text = said(NOTEBOOK, "figure-read")
    clear = {key for key, (mean, half) in pairs.items() if abs(mean) > half}
    assert clear == {
        ("no skips", "pixel"),
        ("no skips", "rand"),
        ("class weights only", "pixel"),
        ("no weights", "pixel"),
    }
    assert len(pairs) == 20 and "Twenty intervals" in text and "four miss it" in text
    mean, half = pairs["class weights only", "pixel"]
    assert f"one of those misses zero by {-mean - half:.2f} points" in text
    halves = [half for (_, error), (_, half) in pairs.items() if error == "rand"]
    assert f"go from {min(halves):.0f} to {max(halves):.0f} points" in text
    base = sum(float(row["rand_error"]) for row in table[BASE].values()) / 3
    assert f"The base has {100 * base:.0f} %; the answer" in text
    one_cell = max(float(row["rand_error"]) for row in table["no skips"].values())
    assert f"one cell has {100 * one_cell:.0f} %" in text


def test_what_is_said_of_the_skips_and_of_elastic_deformation():
    table, text = table_of("ablation.csv"), said(NOTEBOOK, "skips-read", "elastic-read")
    errors = {row["pixel_error"] for row in table["no skips"].values()}
    assert len(errors) == 1  # that of an empty mask
    assert f"the same pixel error, {100 * float(*errors):.2f} %" in text
    mean, _ = mean_interval(points(table, "no skips", BASE))
    assert f"So the {mean:.1f} points" in text
    mean, half = mean_interval(points(table, "no elastic deformation", BASE))
    assert abs(mean) < half and f"ends at {mean + half:+.2f} points" in text


def test_what_is_said_of_the_weights():
    table, text = table_of("ablation.csv"), said(NOTEBOOK, "weights-read")
    names = "class weights only", "no weights"
    pairs = [mean_interval(points(table, name, BASE)) for name in names]
    less = " and ".join(f"{-mean:.1f}" for mean, _ in pairs)
    assert f"smaller pixel error than the base, by {less} points" in text
    ats = [
        sorted({row["threshold_pixel"] for row in table[name].values()})
        for name in (BASE, "no weights")
    ]
    assert len(ats[0]) == 1 and f"best threshold is {ats[0][0]} with each" in text
    assert f"and without weights {ats[1][0]} to {ats[1][-1]}" in text
    wide = [mean_interval(points(table, name, BASE, "rand_error"))[1] for name in names]
    assert {f"{half:.0f}" for half in wide} == {"20"} and "are 20 points wide" in text


def test_what_is_said_of_sgd_and_of_the_first_weights():
    table, text = table_of("ablation.csv"), said(NOTEBOOK, "momentum-read")
    high, low = "SGD, momentum 0.99", "SGD, momentum 0.9"
    steps = points(table, high, BASE)
    worse = "by {:.1f}, {:.1f} and {:.1f} points".format(*steps)
    assert min(steps) > 0 and worse in text
    mean, half = mean_interval(steps)
    assert mean < half and "Yet the interval contains zero" in text
    errors = [float(row["pixel_error"]) for row in table[high].values()]
    empty = float(table["no skips"][0]["pixel_error"])
    assert errors.count(empty) == 1 and sum(error > empty for error in errors) == 1
    big, *small = points(table, low, high)
    assert f"decides for 0.9 by {-big:.0f} points" in text
    assert all(abs(x) < 0.2 for x in small)
    first = points(table, "torch's first weights", BASE)
    assert sum(x > 0 for x in first) == 2 and sum(x < 0 for x in first) == 1
    start = said(NOTEBOOK, "start-tell-read")
    assert "two seeds are worse with torch's weights and one is better" in start
    rows = table["torch's first weights"].values()
    assert all(float(row["pixel_error"]) < empty - 0.02 for row in rows)


@pytest.mark.parametrize("name", ["no drop-out", "same convolution", "same, bilinear"])
def test_what_three_seeds_cannot_tell(name):
    """The notebook says so of drop-out, padding and bilinear enlargement."""
    partner = "same convolution" if "bilinear" in name else BASE
    for error in ("pixel_error", "rand_error"):
        pair = points(table_of("ablation.csv"), name, partner, error)
        mean, half = mean_interval(pair)
        assert abs(mean) < half
    assert "Neither row can be told from zero" in said(NOTEBOOK, "same-read")
    end = "elastic deformation and drop-out among them, three seeds cannot tell"
    assert end in said(NOTEBOOK, "have")


def test_numbers_that_other_pages_hold():
    """The share of labels of 572 pixels, and what notebook 04 lost without skips."""
    text = prose(NOTEBOOK)
    assert f"the ratio is only {572**2 / 388**2:.1f}" in text
    errors = {}  # with skips or not, in points
    for row in read_results("skips.csv"):
        if (row["steps"], row["shift"]) == ("140", "0"):
            seeds = [100 * float(row[f"seed_{seed}"]) for seed in range(3)]
            errors[row["skips"]] = seeds
    assert round(fmean(errors["False"]) - fmean(errors["True"])) == 3
    assert "all three nets without skips learned, and lost about three points" in text


def test_the_numbers_of_seeds_that_a_task_names():
    """The smallest number whose interval misses zero, with mean and spread as now."""
    table, text = table_of("ablation.csv"), said(NOTEBOOK, "task-19-3-solution")

    def needed(name, partner=BASE):
        values = points(table, name, partner)
        mean, spread = abs(statistics.fmean(values)), statistics.stdev(values)
        halves = {n: t.ppf(0.975, n - 1) * spread / n**0.5 for n in range(2, 99)}
        return next(n for n, half in halves.items() if half < mean)

    padded = needed("same convolution"), needed("same, bilinear", "same convolution")
    assert len({*padded}) == 1 and f"{padded[0]} seeds would do for the two" in text
    start = needed("torch's first weights")
    assert f"{start} for torch's first weights" in text
    assert f"{needed('no elastic deformation')} for deformation" in text
    assert f"and {needed('no drop-out')} for drop-out" in text
