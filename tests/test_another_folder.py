"A net measured on another folder than that of its run: all of it, and what is said."

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from samples import says

from unet_tutorial.cli import main
from unet_tutorial.data.datasets import open_source
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
    "The folder of a run, and of the eight images that it has read."
    home = draw(tmp_path_factory.mktemp("begun"), range(8))
    options = {"masks": str(home / "masks"), "suffix": "_mask"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_run", lambda *args: b"")
        how = {"options": options, "size": "native", "device": "cpu", "steps": 20}
        train_run("folder", home / "images", home / "run", RECIPE, **how)
    return home


def words(run, folder, *more):
    where = ["--data", folder / "images", "--masks", folder / "masks"]
    return [*map(str, ["evaluate", run, *where, *more, "--device", "cpu"])]


@pytest.mark.filterwarnings("ignore::unet_tutorial.data.far.FarImage")
def test_all_of_another_folder_is_measured(begun, tmp_path, capsys):
    other = draw(tmp_path / "test", range(20, 25), end="_label")
    line = words(begun / "run", other, "--suffix", "_label")
    assert main(line) == 0
    told = capsys.readouterr().out.splitlines()
    said = f"measured on all of {other}/images: 5 images, none of which {begun}/run "
    assert told[0] == said + "held out"
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
    assert found["dice"] > 0.2


def held_out(run):
    return sorted(json.loads((run / "split.json").read_text())["held out"])


def measured(run, folder, **options):
    "The sentence, the names of the images, and the numbers."
    said, names = [], []
    where = {"data": folder / "images", "masks": folder / "masks", "device": "cpu"}
    told = {"announce": said.append, "report": lambda name, *rest: names.append(name)}
    found = evaluate_run(run, **where, **told, **options)
    return said[0], names, found


@pytest.mark.parametrize("gone", [False, True])
def test_the_same_images_in_another_place_are_those_held_out(begun, tmp_path, gone):
    moved, run = tmp_path / "moved", begun / "run"
    if gone:  # what the run has read
        shutil.copytree(begun, tmp_path / "begun")
        begun, run = tmp_path / "begun", tmp_path / "begun/run"
        train = {"options": {"masks": str(begun / "masks"), "suffix": "_mask"}}
        shutil.rmtree(run)
        how = {"size": "native", "device": "cpu", "steps": 1}
        train_run("folder", begun / "images", run, RECIPE, **train, **how)
    before, names = evaluate_run(run, device="cpu"), held_out(run)
    for part in ("images", "masks"):
        (shutil.move if gone else shutil.copytree)(begun / part, moved / part)
    said, found, now = measured(run, moved)
    assert (now, found) == (before, names)
    assert said.endswith(f"held out: 2 images, as they are in {moved}/images")
    draw(moved, [30])  # a new image is left out, as ever
    with pytest.warns(UserWarning, match=says("1 are new", "30.png", "left out")):
        assert measured(run, moved)[1:] == (names, before)
    (moved / "images" / names[0]).unlink()
    (moved / "masks" / names[0].replace(".", "_mask.")).unlink()
    with pytest.raises(ValueError, match=says("1 of 2 images", "are not here")):
        measured(run, moved)


def test_new_images_with_some_that_were_held_out_are_all_measured(begun, tmp_path):
    other, name = draw(tmp_path / "test", range(20, 22)), held_out(begun / "run")[0]
    for part, file in (("images", name), ("masks", name.replace(".", "_mask."))):
        shutil.copy(begun / part / file, other / part / file)
    said, names, _ = measured(begun / "run", other)
    assert len(names) == 3 and name in names and "3 images, 1 of which" in said


def test_other_images_of_the_same_names_are_others(begun, tmp_path):
    other = draw(tmp_path / "month", range(8), seed=1)
    said, names, _ = measured(begun / "run", other)
    assert len(names) == 8 and "8 images, none of which" in said
    assert "8 of them, such as 00.png, have names that it knows, but are other" in said


def test_the_content_tells_apart_what_has_one_size(tmp_path):
    "Files without compression, of one name and one number of bytes."
    for name, seed in (("one", 0), ("two", 1)):
        for path in sorted((draw(tmp_path / name, range(4), seed=seed)).rglob("*.png")):
            Image.open(path).save(path.with_suffix(".bmp"))
            path.unlink()
    one, two, out = tmp_path / "one", tmp_path / "two", tmp_path / "run"
    how = {"options": {"masks": str(one / "masks")}, "size": "native", "steps": 1}
    train_run("folder", one / "images", out, RECIPE, device="cpu", **how)
    assert len(measured(out, two)[1]) == 4
    shutil.copytree(one, tmp_path / "copy")
    assert measured(out, tmp_path / "copy")[1] == held_out(out)


def test_images_that_the_net_has_learned_from_are_noted(begun, tmp_path, capsys):
    record = json.loads((begun / "run/split.json").read_text())
    name = sorted(record["learned from"])[0]
    other = draw(tmp_path / "test", range(20, 22))
    shutil.copy(begun / "images" / name, other / "images/renamed.png")
    mask = name.replace(".", "_mask.")
    shutil.copy(begun / "masks" / mask, other / "masks/renamed_mask.png")
    assert main(words(begun / "run", other)) == 0
    told = capsys.readouterr()
    text = "has learned from 1 of 3 images", "renamed.png", "too good"
    assert says("warning: ", *text).search(told.err)
    assert "3 images, none of which" in told.out and "22.png" not in told.out


def test_masks_are_read_as_the_run_did_unless_told_otherwise(begun, tmp_path, capsys):
    plain, run = draw(tmp_path / "plain", range(20, 24)), begun / "run"
    due = measured(run, plain)[2]
    grey = draw(tmp_path / "grey", range(20, 24), white=90)
    for path in (grey / "masks").iterdir():  # 40 and 90 of 255
        Image.fromarray(np.maximum(np.asarray(Image.open(path)), 40)).save(path)
    assert main(words(run, grey)) == 1  # as the run does, 0 would be the background
    assert says("20_mask.png", "--threshold 65").search(capsys.readouterr().err)
    assert main([*words(run, grey, "--threshold", "60"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: found[name] for name in due} == due
    assert main([*words(run, grey, "--values", "40,90"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] == due["dice"]
    (plain / "masks/20_mask.png").unlink()
    assert main(words(run, plain)) == 1
    assert says("20.png", "--only-annotated").search(capsys.readouterr().err)
    assert main(words(run, plain, "--only-annotated")) == 0
    assert "3 images, none" in capsys.readouterr().out
    unknown = np.full((32, 32), 77, np.uint8)
    Image.fromarray(unknown).save(plain / "masks/20_mask.png")
    assert main([*words(run, plain, "--ignore", "77"), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["images"][0]
    assert first == {"name": "20.png", "dice": None, "iou": None}


def test_what_does_not_fit_the_net_is_said(begun, tmp_path, capsys):
    other, run = draw(tmp_path / "test", range(20, 22)), begun / "run"
    assert main(words(run, other, "--values", "0,128,255")) == 1
    told = capsys.readouterr().err
    assert "3 values for 2 classes" in told and told.count("\n") == 1
    for path in (other / "images").iterdir():
        Image.open(path).convert("RGB").save(path)
    assert main(words(run, other)) == 1
    text = "the data have 3 channels and 2 classes", "takes 1 and 2"
    assert says(*text).search(capsys.readouterr().err)
    for path in (other / "images").iterdir():
        deep = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16
        Image.fromarray(deep).save(path)
    assert main(words(run, other)) == 1
    assert "--range" in capsys.readouterr().err
    assert main(words(run, other, "--range", "0", "4080")) == 0
    wrong = draw(tmp_path / "wrong", range(20, 22))
    (wrong / "masks/20_mask.png").rename(wrong / "masks/other.png")
    assert main(words(run, wrong)) == 1
    assert "20.png" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::unet_tutorial.data.far.FarImage")
def test_another_stack_and_an_image_in_tiles(tmp_path):
    "The paper's net sees an image in tiles; each image counts once."
    net = Net(base_channels=2, depth=1, padding=0, norm=None, dropout=0.0)
    recipe = replace(RECIPE, net=net, tile=44, augment=None)
    one, two = (
        write_isbi(tmp_path / name, slices=5, size=64, seed=seed)
        for name, seed in (("one", 0), ("two", 1))
    )
    out = tmp_path / "run"
    train_run("isbi", one, out, recipe, device="cpu", steps=1, held_out=1)
    names, values, said = [], [], []

    def report(name, dice, iou):
        names.append(name)
        values.append(dice)

    told = {"announce": said.append, "report": report}
    evaluate_run(out, two, device="cpu", **told)
    assert len(names) == len(set(names)) == 5 and "5 images, none of which" in said[0]
    net, source = Predictor.load(out, "cpu"), open_source("isbi", two)
    for number, value in enumerate(values):
        pred = net(source.image(number)) == 1
        assert value == pytest.approx(dice(pred, source.labels(number) == 1), abs=1e-3)
    names.clear()
    evaluate_run(out, device="cpu", **told)
    assert len(names) == 1 and said[1] == f"measured on what {out} held out: 1 image"
    with pytest.raises(ValueError, match=says("threshold=", "folder", "isbi")):
        evaluate_run(out, two, options={"threshold": 5})
