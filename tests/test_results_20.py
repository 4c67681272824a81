"""What `20_since_2015` says about its rows is what the rows say."""

import re

import pytest
import torch
from test_results_19 import (
    ROOT,
    cells,
    invented,
    prose,
    run,
    script,
    script_names,
    script_text,
)

from unet_tutorial.runs.results import mean_interval, measured, read_results

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
    space = run(NOTEBOOK, "pairs", "verdict", mean_interval=mean_interval)
    space["found"] = invented(mine, (0.07, 0.071, 0.072))
    space["PARTNER"]["change"] = "base"
    assert space["verdict"]("change", "pixel_error").endswith(word)


def test_the_steps_of_the_prose_are_those_of_the_rows():
    """A step takes four tiles, and the rows say how many tiles a training had."""
    rows = [row for row in read_results("since_2015.csv") if measured(row)]
    (steps,) = {str(int(row["tiles"]) // 4) for row in rows}
    said = re.findall(r"(?:one stack and|three seeds and) (\d+) steps", prose(NOTEBOOK))
    assert said == [steps, steps]
    assert {row["change"] for row in rows} <= {*script_names("since_2015")}
