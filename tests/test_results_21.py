"""What `21_speed` says about its rows is what the rows say."""

import re
import sys

import pytest
from test_results_19 import ROOT, cells, prose, run, said

sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    import bench
    import torch
    import tricks
finally:
    sys.path.remove(str(ROOT / "benchmarks"))

NOTEBOOK = ROOT / "nbs" / "21_speed.ipynb"
CPU = torch.device("cpu")
CASE = bench.Case(".", CPU)
CHECKS = "layout-check", "faults-speed", "bits-check", "vain-check"


def names(sides):
    return [side.name for side in sides]


def tables():
    """The cells that read the tables, on what is committed."""
    from unet_tutorial.runs.results import measured, read_results

    space = {"measured": measured, "read_results": read_results}
    return run(NOTEBOOK, "tables", "tell", **space)


def test_every_name_of_the_notebook_is_one_that_is_measured():
    text = cells(NOTEBOOK)
    space = run(NOTEBOOK, "side", **tables())
    assert space["ASKED"][:4] == space["SIDES"][:4] == [*bench.OTHERS]
    ours = {*names(bench.trainings(CASE, True)), "fit, amp"}
    assert {*space["SIDES"]} == ours
    asked = {*names(bench.predictions(CASE, False, True)), "Predictor, amp"}
    assert {*space["ASKED"]} == asked
    known = {
        what: {*names(tricks.sides(CASE, what, False))}
        for what in ("training", "prediction")
    }
    vain = run(NOTEBOOK, "vain-tell", tell=lambda *_: None)["VAIN"]
    told = re.findall(
        r'tell\("(training|prediction)", (.*?)\)', "\n".join(text.values())
    )
    assert len(told) > 8
    for what, given in told:
        for name in re.findall(r'"([^"]*)"', given):
            assert name in known[what], name
    assert {*vain} < known["training"]


def test_every_single_change_is_told():
    """No row of the table is left out of the notebook."""
    text = "\n".join(cells(NOTEBOOK).values())
    for what in ("training", "prediction"):
        for name in names(tricks.sides(CASE, what, False))[1:]:
            if ", " not in name:
                assert f'"{name}"' in text, name


def test_the_net_and_the_images_are_those_of_the_prose():
    text = prose(NOTEBOOK)
    assert f"has {CASE.width} channels at the top and four steps down" in text
    assert len(CASE.widths) - 1 == 4
    assert f"photographs of {CASE.size[0]}x{CASE.size[1]}, in batches of two" in text
    assert CASE.batch == 2
    count = cells(NOTEBOOK)["count"]
    assert f"UNet(3, 2, {CASE.width}, padding=1" in count
    assert f"({CASE.batch}, 3, {CASE.size[0]}, {CASE.size[1]}" in count
    assert f'"stack of {bench.STACK}"' in cells(NOTEBOOK)["stack-tell"]


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_asserted_of_the_rows_holds(name):
    space = tables()
    if name == "bits-check":
        space = run(NOTEBOOK, "bits-tell", **space | {"tell": lambda *_: None})
    run(NOTEBOOK, name, **space)


@pytest.mark.parametrize("name", CHECKS)
def test_the_assertions_can_fail(name):
    """With rows that say the opposite."""
    space = tables()
    space |= {"KINDS": ["AVX-512 bf16"], "with_units": ["AVX-512 bf16"]}
    wrong = {"layout-check": 0.5, "faults-speed": 0.5, "bits-check": 1, "vain-check": 2}
    space["ratios"] = lambda *_, **__: [wrong[name]]
    with pytest.raises(AssertionError):
        run(NOTEBOOK, name, **space)


def test_no_measured_number_is_in_the_prose():
    """They are printed by cells; what is left names formats, notebooks and shares."""
    read = "layout-read", "faults-read", "bits-read", "vain-read", "figure-read"
    numbers = {*re.findall(r"\d+(?:\.\d+)?", said(NOTEBOOK, *read))}
    assert numbers <= {"13", "14", "16", "32", "100"}


@pytest.mark.parametrize(
    ("ratio", "word"),
    [("1.20", "faster"), ("0.90", "slower"), ("1.05", "no difference")],
)
def test_the_word_follows_the_ratio(ratio, word, capsys):
    space = tables()
    row = {"what": "training", "who": "bf16", "instructions": "AVX2", "note": ""}
    space["KINDS"][:] = ["AVX2"]
    space["tell"]("training", "bf16", "channels_last", table=[row | {"ratio": ratio}])
    told = capsys.readouterr().out
    assert f"{ratio} times as fast: {word}" in told and "channels_last" not in told


def test_equal_nets_gave_equal_answers():
    """Of the measured rows: within what 32 bits allow, 16 bits for a Predictor."""
    for row in tables()["everyone"]:
        if row.get("difference"):
            limit = 0.05 if row["who"].startswith("Predictor") else 1e-4
            assert float(row["difference"]) < limit, row["who"]


def test_ratios_of_the_rows_are_right():
    space = tables()
    for table, base in ((space["everyone"], "textbook"), (space["tricks"], "plain")):
        for row in table:
            if row.get("ratio"):
                same = {name: row[name] for name in ("what", "processor", "instructions")}
                same |= {"who": base}
                (first,) = [x for x in table if same.items() <= x.items()]
                ratio = float(first["seconds"]) / float(row["seconds"])
                assert float(row["ratio"]) == pytest.approx(ratio, abs=0.01)
