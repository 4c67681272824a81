"""What `20_since_2015` says about its rows is what the rows say."""

import re

import pytest
from test_results_19 import (
    ROOT,
    cells,
    invented,
    prose,
    run,
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
