"""What `19_ablation` says about its rows is what the rows say."""

import ast
import importlib
import re
from pathlib import Path

import notebooks as files
import pytest
import torch

from unet_tutorial.runs.results import mean_interval, measured, read_results

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
    said = f"{recipe.optimizer.lr} for AdamW, {rates[0]} and {rates[1]} for the two"
    assert said in text and rates[1] == 10 * rates[0]
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


@pytest.mark.parametrize(
    ("mine", "word"),
    [
        ((0.09, 0.091, 0.092), "worse"),
        ((0.05, 0.051, 0.052), "better"),
        ((0.05, 0.07, 0.09), "not distinguishable with three seeds and this budget"),
        ((0.05, 0.07), "not yet measured with three seeds"),
    ],
)
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


def test_numbers_that_other_pages_hold():
    """The share of labels of 572 pixels, and what notebook 04 lost without skips."""
    text = prose(NOTEBOOK)
    assert f"the ratio is only {572**2 / 388**2:.1f}" in text
    skips = prose(NOTEBOOK.with_name("04_skips.ipynb"))
    pattern = r"(\d+) or (\d+) % of all pixels instead of (\d+) or (\d+)"
    (numbers,) = re.findall(pattern, skips)
    low, high, without_low, without_high = map(int, numbers)
    assert {without_low - low, without_high - high} == {3}
    assert "all three nets without skips learned, and lost about three points" in text
