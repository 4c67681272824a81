"A net measured on another folder than that of its run: all of it, and what is said."

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from samples import says

from unet_tutorial.cli import main
from unet_tutorial.metrics import dice
from unet_tutorial.predict import Predictor
from unet_tutorial.runs import report
from unet_tutorial.runs.recipes import Net, read_recipe
from unet_tutorial.runs.run import evaluate_run, train_run
from unet_tutorial.synthetic import write_isbi

NET = Net(base_channels=4, depth=1, padding=1, norm="batch", dropout=0.0)
SMALL = {"net": NET, "tile": 32, "tiles": 8, "batch": 4, "amp": False}
RECIPE = replace(read_recipe("modern"), **SMALL)


def draw(folder, numbers, begin="", end="_mask", white=255, seed=0):
    "Write images of a bright square and their masks; the names may be told apart."
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        truth = np.zeros((32, 32), bool)
        top, left = rng.integers(0, 20, 2)
        truth[top : top + 10, left : left + 10] = True
        image = np.uint8(60 + 90 * truth + rng.integers(0, 40, truth.shape))
        mask = np.uint8(white * truth)
        for kind, name, pixels in (("images", "", image), ("masks", end, mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            path = folder / kind / f"{begin}{number:02}{name}.png"
            Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    "The folder of a run of eight images, and of those images."
    home = draw(tmp_path_factory.mktemp("begun"), range(8))
    options = {"masks": str(home / "masks"), "suffix": "_mask"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_run", lambda *args: b"")
        how = {"options": options, "size": "native", "device": "cpu", "steps": 60}
        train_run("folder", home / "images", home / "run", RECIPE, **how)
    return home


@pytest.fixture
def home(begun, tmp_path):
    "A copy of it that a test may change."
    shutil.copytree(begun, tmp_path / "home")
    shutil.rmtree(tmp_path / "home/images")  # the run has read those of `begun`
    return tmp_path


def words(run, folder, *more):
    where = ["--data", folder / "images", "--masks", folder / "masks"]
    return [*map(str, ["evaluate", run, *where, *more, "--device", "cpu"])]


def test_all_of_another_folder_is_measured(begun, tmp_path, capsys):
    other = draw(tmp_path / "test", range(20, 25), end="_label")
    line = words(begun / "run", other, "--suffix", "_label")
    assert main(line) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == (
        f"measured on all of {other}/images: 5 images, none of which {begun}/run held out"
    )
    assert [row.split()[0] for row in told[1:6]] == [f"{n}.png" for n in range(20, 25)]
    assert told[-1].startswith(f"unet-tutorial report {begun}/run has")
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["said"] == told[0] and len(found["images"]) == 5
    net = Predictor.load(begun / "run", "cpu")
    for row, line in zip(found["images"], told[1:], strict=False):
        truth = np.asarray(Image.open(other / "masks" / f"{row['name'][:2]}_label.png"))
        image = np.asarray(Image.open(other / "images" / row["name"]))
        assert row["dice"] == pytest.approx(dice(net(image) > 0, truth > 0), abs=1e-6)
        assert row["iou"] == pytest.approx(row["dice"] / (2 - row["dice"]), abs=1e-6)
        assert f"dice {row['dice']:.4f}  iou {row['iou']:.4f}" in line
    for name in ("dice", "iou"):
        mean = np.mean([row[name] for row in found["images"]])
        assert found[f"{name} per image"] == pytest.approx(mean)
    assert found["dice"] > 0.5  # it has learned: the squares are bright
