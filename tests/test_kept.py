"""What earlier versions have saved is opened by this one: see tools/kept.py."""

import json
import zipfile

import kept
import numpy as np
import pytest

from unet_tutorial.runs.run import evaluate_run, resume_run

FILES = sorted(kept.KEPT.glob("*.zip"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def folder(request, tmp_path):  # Path
    "What a version has left."
    with zipfile.ZipFile(request.param) as file:
        file.extractall(tmp_path)
    return tmp_path


def test_this_version_has_left_something():
    versions = [path.stem for path in FILES]
    assert kept.settings(kept.ROOT)["version"] in versions


@pytest.mark.parametrize("net", ["best", "last"])
def test_a_net_answers_as_it_did(folder, net):
    told = json.loads((folder / "answers.json").read_text("utf-8"))[net]
    found = kept.answer(folder / "run" / f"{net}.safetensors")
    assert np.abs(np.subtract(found, told)).max() < 1e-4


def test_a_run_goes_on_to_its_end(folder):
    rows = (folder / "run" / "history.csv").read_text("utf-8").splitlines()
    assert len(rows) == 3  # a header, and two epochs of four
    options = {"masks": str(folder / "masks")}
    resume_run(folder / "run", data=folder / "images", options=options, device="cpu")
    after = (folder / "run" / "history.csv").read_text("utf-8").splitlines()
    assert after[:3] == rows and len(after) == 5
    measured = evaluate_run(
        folder / "run", folder / "images", "last", "cpu", masks=folder / "masks"
    )
    named = dict(zip(after[0].split(","), after[-1].split(","), strict=True))
    assert abs(measured["dice"] - float(named["dice"])) < 1e-6


def test_the_data_kept_are_those_that_are_drawn(folder):
    for number in range(kept.IMAGES):
        for name, drawn in zip(("images", "masks"), kept.disc(number), strict=True):
            pixels = np.asarray(kept.Image.open(folder / name / f"{number}.png"))
            assert np.array_equal(pixels, drawn)
