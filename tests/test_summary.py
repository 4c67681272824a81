"""One page says how a run was done and how good it is, and no more than is known."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from samples import says

from unet_tutorial.cli import main
from unet_tutorial.data.crops import read_example
from unet_tutorial.data.datasets import open_source
from unet_tutorial.data.far import FarImage
from unet_tutorial.metrics import dice, iou
from unet_tutorial.predict import Predictor
from unet_tutorial.runs import summary
from unet_tutorial.runs.recipes import read_plan, read_recipe, split
from unet_tutorial.runs.run import evaluate_run, resume_run, train_run
from unet_tutorial.runs.summary import bootstrap_interval, report_run


def folder_of_discs(home, count=8, classes=2, scale=1):
    "Bright discs on noise, with their masks."
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (home / name).mkdir(parents=True)
    rows, columns = np.mgrid[:48, :64]
    for number in range(count):
        truth = np.zeros((48, 64), np.uint8)
        for label in range(1, classes):
            y, x = rng.integers(12, 36), rng.integers(14, 50)
            truth[(rows - y) ** 2 + (columns - x) ** 2 < 80] = label
        grey = rng.integers(0, 60, truth.shape) + 150 * (truth > 0)
        image = (grey * scale).astype(np.uint8 if scale == 1 else np.uint16)
        Image.fromarray(image).save(home / f"images/a|{number}<b>.png")
        Image.fromarray(truth).save(home / f"masks/a|{number}<b>.png")
    return home


def trained(home, classes=2, scale=1, **more):
    "A short run on such a folder."
    folder_of_discs(home, classes=classes, scale=scale)
    recipe = read_recipe("modern")
    recipe = replace(recipe, net=replace(recipe.net, base_channels=4, depth=2))
    names = ["background", *(f"class {n}" for n in range(1, classes))]
    options = {"masks": str(home / "masks"), "classes": names}
    if scale > 1:
        options["value_range"] = [0, 255 * scale]
    asked = {"epochs": 3, "size": (48, 64), "device": "cpu", "options": options}
    train_run("folder", home / "images", home / "run", recipe, **asked | more)
    return home / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    to = tmp_path_factory.mktemp("report")
    path = report_run(run, to, device="cpu")
    return path.read_text("utf-8"), path.with_name("report.md").read_text("utf-8")


def test_each_held_out_image_is_measured_as_predict_writes_it(run, page):
    plan = read_plan(run)
    source = open_source("folder", plan.data, **plan.options)
    learn, check = split(plan, source)
    predictor = Predictor.load(run, "cpu")

    def score(part, threshold, measure=dice):
        found = []
        for index in range(len(part)):
            image, truth = read_example(part, index)
            pred = predictor.probabilities(image)[1] > threshold
            found.append(measure(pred, truth == 1))
        return found

    chosen = float(re.search(r"threshold of ([0-9.]+) was best", page[1])[1])
    best = max(np.mean(score(learn, t / 20)) for t in range(1, 20))
    assert np.isclose(np.mean(score(learn, chosen)), best)
    tuned = np.mean(score(check, chosen))
    assert f"(`--threshold {chosen:g}`) the mean Dice is {tuned:.3f}." in page[1]
    dices, ious = score(check, 0.5), score(check, 0.5, iou)
    for item, a, b in zip(check.items, dices, ious, strict=True):
        name = item.image.name.replace("|", "\\|")
        assert f"| {name} | {a:.3f} | {b:.3f} |" in page[1]
    assert f"| Dice | {np.mean(dices):.3f} |" in page[1]


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ({"epochs": 1}, "1 epoch"),
        ({"steps": 2_000_000}, "2000000 steps (1 epoch in all)"),
        ({"minutes": 1.0}, "1 minute (1 epoch in all)"),
        ({"minutes": 1 / 6}, "0.17 minutes (1 epoch in all)"),
    ],
)
def test_the_length_is_said_with_its_unit(limit, text):
    none = dict.fromkeys(("epochs", "steps", "minutes"))
    assert summary._length(SimpleNamespace(**none | limit), 1) == text


def test_two_classes_get_a_line_for_the_object(run, page):
    """All pixels together: the share is that of the masks, the scores of the pixels."""
    plan, text = read_plan(run), page[1].partition("## Class by class")[2]
    source = open_source("folder", plan.data, **plan.options)
    check, predictor = split(plan, source)[1], Predictor.load(run, "cpu")
    truth = np.stack([read_example(check, n)[1] == 1 for n in range(2)])
    asked = (read_example(check, n)[0] for n in range(2))
    pred = np.stack([predictor.probabilities(image)[1] > 0.5 for image in asked])
    share, scores = truth.mean(), f"{dice(pred, truth):.3f} | {iou(pred, truth):.3f}"
    name = source.classes[1]
    assert f"| {name} | {share:.2%} | 2 | {scores} |" in text
    assert f"| {source.classes[0]} |" not in text and "<td>" + name in page[0]


def test_the_page_needs_no_other_file_and_runs_nothing(page):
    assert not re.search(r"<script|src=\"(?!data:)|href=|@import|url\(", page[0])
    assert "color-scheme: light dark" in page[0]
    assert "a|0<b>" not in page[0]  # names are escaped
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page[0])
    for data in pictures:
        assert Image.open(BytesIO(base64.b64decode(data))).format == "PNG"
    assert len(pictures) == 2 + 1  # two held-out images, and the curves


def test_checksums_versions_and_split_are_those_of_the_run(run, page):
    for name in ("best.safetensors", "recipe.json", "history.csv"):
        found = hashlib.sha256((run / name).read_bytes()).hexdigest()
        assert f"| {name} | {found} |" in page[1] and found in page[0]
    import torch

    assert f"| torch | {torch.__version__.partition('+')[0]}" in page[1]
    assert "| trained on | 6 |" in page[1] and "| held out | 2 |" in page[1]


def test_the_paragraph_says_how_files_were_read_and_which_net_was_the_first():
    options = {"value_range": [0, 4095], "threshold": 0, "ignore": 255, "masks": "m"}
    text = " ".join(summary._of_reading(SimpleNamespace(options=options)))
    assert "from 0 to 4095 became 0 to 255" in text and "what is 255 in a mask" in text
    assert "above 0 in a mask was the object" in text and "exchanged" not in text
    options = {"values": [2, 1, 3], "invert": False, "ignore": [255, 0, 0]}
    text = " ".join(summary._of_reading(SimpleNamespace(options=options)))
    assert "the values 2, 1, 3 in the masks, background first" in text
    assert "[255, 0, 0]" in text and not summary._of_reading(
        SimpleNamespace(options={})
    )


def test_a_net_to_begin_from_has_the_checksum_of_its_file(run, tmp_path):
    train_run(None, None, tmp_path / "new", start=run, epochs=1, device="cpu")
    text = report_run(tmp_path / "new", device="cpu").with_suffix(".md").read_text()
    file = hashlib.sha256((run / "best.safetensors").read_bytes()).hexdigest()
    assert f"(best.safetensors, SHA-256 {file})" in text


def test_the_first_command_stays_and_others_are_listed(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "run")
    first = json.loads((run / "environment.json").read_text())["command"]
    for words in ("train --out run --resume", "train --out again --resume") * 2:
        monkeypatch.setattr("sys.argv", ["/bin/unet-tutorial", *words.split()])
        resume_run(tmp_path / "run", device="cpu")
        resume_run(tmp_path / "run", device="cpu")
    where = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert where["command"] == first and len(where["resumed"]) == 4
    text = report_run(tmp_path / "run", device="cpu").with_suffix(".md").read_text()
    assert f"| command | {first}" in text
    assert text.count("| resumed | unet-tutorial train --out run --resume |") == 2


def test_the_paragraph_says_what_was_done(page):
    text = page[1].partition("## Methods")[2].partition("##")[0]
    for words in (
        "depth 2 with 4 channels",
        "batch normalisation",
        "6 images",
        "2 images were",
        "48 x 64",
        "cross-entropy",
        "AdamW",
        "3 epochs",
        "seed 0",
        "pixel error",
    ):
        assert words in text, words
    assert "too few images" in page[1]  # for an interval
    assert "bootstrap" not in page[1] and "interval of" not in page[1]
    assert "2 images, each counted once." in page[1]


def test_more_classes_have_no_threshold_and_deep_images_work(tmp_path):
    run = trained(tmp_path, classes=3, scale=100)
    path = report_run(run, device="cpu")
    assert path == run / "report.html"
    text = path.with_name("report.md").read_text("utf-8")
    assert (
        "threshold of" not in text and "--threshold" not in text and "| Dice | " in text
    )
    lines = text.partition("## Class by class")[2].split("\n")
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    rows = {row[0].removeprefix("| "): row[1:] for row in rows[2:5]}
    assert list(rows) == ["background", "class 1", "class 2"]
    shares = [float(row[0].rstrip("%")) for row in rows.values()]
    assert abs(sum(shares) - 100) < 0.02 and shares[0] > shares[1] > 0
    # The images are as large as in training, so that evaluate measures the same:
    found = evaluate_run(run, device="cpu")
    ious = [float(row[3].rstrip(" |")) for row in rows.values()]
    assert ious == pytest.approx(
        [found[f"iou {name}"] for name in rows], abs=0.001, nan_ok=True
    )
    mean = float(re.search(r"\| Dice \| ([0-9.]+) \|", text)[1])
    assert mean == pytest.approx(found["dice per image"], abs=0.001)


def test_held_out_images_unlike_the_others_are_named(run, tmp_path, capsys):
    home = tmp_path / "copy"
    shutil.copytree(run.parent, home)
    names = json.loads((run / "split.json").read_text())["held out"]
    file = home / "images" / sorted(names)[0]
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    with pytest.warns(FarImage, match=says("1 of 2 images", file.name, "inverted")):
        evaluate_run(home / "run", data=home / "images", masks=home / "masks")
    options = {"data": home / "images", "masks": home / "masks", "device": "cpu"}
    report_run(home / "run", **options)
    text = (home / "run" / "report.md").read_text("utf-8")
    assert "1 of 2 held-out images are unlike" in text
    name = file.name.replace("|", "\\|")
    assert re.search(rf"\n\| {re.escape(name)} \|.*inverted", text)


def test_it_says_where_data_are_looked_for_and_replaces_nothing(run, tmp_path, capsys):
    moved = tmp_path / "moved"
    with pytest.raises(FileNotFoundError, match=says("nowhere", "--data DIR")):
        report_run(run, moved, data=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        report_run(tmp_path)
    line = f"report {run} --to {moved} --device cpu"
    assert main(line.split()) == 0
    assert capsys.readouterr().out == f"{moved / 'report.html'} is ready\n"
    assert main(line.split()) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    before = (moved / "report.html").read_bytes()
    assert main([*line.split(), "--overwrite"]) == 0
    assert (moved / "report.html").read_bytes() == before  # the same each time


def test_the_interval_of_a_mean():
    values = np.random.default_rng(1).normal(0.8, 0.1, 400).tolist()
    low, high = bootstrap_interval(values)
    half = 1.96 * np.std(values) / 20
    assert np.isclose((high - low) / 2, half, rtol=0.15)
    assert low < np.mean(values) < high
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values[:2]) is None
    assert bootstrap_interval([0.5] * 5) == (0.5, 0.5)


def test_images_of_one_group_are_drawn_together():
    """Sixteen views of a car are not sixteen cars."""
    cars = np.random.default_rng(0).normal(0.8, 0.1, 6)
    values, groups = np.repeat(cars, 16).tolist(), [f"{n // 16}" for n in range(96)]
    low, high = bootstrap_interval(values, groups)
    alone = bootstrap_interval(values)
    assert high - low > 2.5 * (alone[1] - alone[0])
    assert np.allclose((low, high), bootstrap_interval(cars.tolist()))


def test_images_that_are_new_are_in_neither_part(tmp_path):
    """Corrected masks come into the folder: what was held out stays held out."""
    run = trained(tmp_path / "home")
    home, before = run.parent, evaluate_run(run, device="cpu")
    first = report_run(run, tmp_path / "first", device="cpu").with_name("report.md")
    split_before = first.read_text("utf-8").partition("## Split")[2]
    for part in ("images", "masks"):
        for number in (0, 3, 5):  # named so that they come between the others
            name = f"a|{number}<b>.png"
            other = home / part / f"a|{number}<a>.png"
            shutil.copy(home / part / name, other)
    with pytest.warns(UserWarning, match=r"3 are new, such as .*, and left out"):
        assert evaluate_run(run, device="cpu") == before
    with pytest.warns(UserWarning, match="3 are new"):
        page = report_run(run, tmp_path / "second", device="cpu")
    text = page.with_name("report.md").read_text("utf-8").partition("## Split")[2]
    assert text.partition("## Versions")[0] == split_before.partition("## Versions")[0]


def test_a_held_out_image_that_is_gone_is_missed(tmp_path):
    run = trained(tmp_path / "home")
    home, record = run.parent, json.loads((run / "split.json").read_text("utf-8"))
    for part in ("images", "masks"):
        (home / part / min(record["learned from"])).unlink()
    with pytest.warns(UserWarning, match="1 that it learned from are missing"):
        evaluate_run(run, device="cpu")
    for part in ("images", "masks"):
        (home / part / min(record["held out"])).unlink()
    with pytest.raises(
        ValueError, match=r"1 of 2 images that .* held out are not here"
    ):
        evaluate_run(run, device="cpu")
    with pytest.raises(ValueError, match="held out are not here"):
        report_run(run, tmp_path / "to", device="cpu")


def test_masks_of_another_threshold_are_written(run, tmp_path):
    plan = read_plan(run)
    image = sorted((run.parent / "images").iterdir())[0]
    p = Predictor.load(run, "cpu", value_range=None).probabilities(image)[1]
    for words, limit in (([], 0.5), (["--threshold", "0.8"], 0.8)):
        for write in (["mask"], ["mask", "probabilities"]):
            to = tmp_path / f"{limit} {len(write)}"
            line = ["predict", run, image, "--to", to, "--device", "cpu", *words]
            assert main([*map(str, line), "--write", *write]) == 0
            (path,) = [path for path in to.glob("*.png") if "mask" in path.name]
            assert np.array_equal(np.asarray(Image.open(path)) > 0, p > limit)
    assert plan.kind == "folder"


def test_a_threshold_that_is_none_is_refused(run):
    with pytest.raises(ValueError, match="threshold=1.5; a number from 0 to 1 would"):
        Predictor.load(run, "cpu", threshold=1.5)
