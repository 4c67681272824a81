"""A recipe from facts: what is chosen for which data, and what is said."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import says

from unet_tutorial import gpu, train
from unet_tutorial.data.datasets import open_folder
from unet_tutorial.data.far import object_breadths, usual_breadth
from unet_tutorial.data.source import Item, Source
from unet_tutorial.losses import dice_bce_loss, dice_ce_loss
from unet_tutorial.metrics import count_pixels
from unet_tutorial.runs import planner
from unet_tutorial.runs.planner import (
    Facts,
    choose_size,
    dice_of_otsu,
    lost_classes_note,
    measure_folder,
    one_class_note,
    otsu_threshold,
    plan_for,
    rarity_weights,
    time_step,
)
from unet_tutorial.runs.recipes import (
    criterion_for,
    mean_dice_of,
    metrics_for,
    read_plan,
)
from unet_tutorial.runs.results import read_results
from unet_tutorial.runs.run import evaluate_run, resume_run, train_run

CELLS = Facts(
    count=30,
    size=(512, 512),
    least=(512, 512),
    most=(512, 512),
    channels=1,
    coloured=False,
    shares=(0.8, 0.2),
    breadths=(12, 20),
)


def photo(**values):
    "Return facts of large photographs of large objects."
    size = {name: (960, 1280) for name in ("size", "least", "most")}
    known = {"channels": 3, "coloured": True, "breadths": (150.0, 320.0)} | size
    return replace(CELLS, **known | values)


def folder(place, draw, count=4, side=48):
    "Write images and masks that draw(number, side) gives."
    for name in ("images", "masks"):
        (place / name).mkdir(parents=True)
    for number in range(count):
        image, mask = draw(number, side)
        Image.fromarray(image).save(place / "images" / f"{number}.png")
        Image.fromarray(mask).save(place / "masks" / f"{number}.png")
    return {"data": place / "images", "options": {"masks": str(place / "masks")}}


def squares(number, side):
    rng = np.random.default_rng(number)
    mask = np.zeros((side, side), np.uint8)
    row, column = rng.integers(4, side - 16, 2)
    mask[row : row + 12, column : column + 12] = 255
    noise = rng.integers(0, 60, mask.shape)
    return (noise + mask // 255 * 120).astype(np.uint8), mask


@pytest.fixture
def quick(monkeypatch):
    "Let a plan be small, whatever the machine."
    real = planner.choose_net

    def choose(*args):
        real(*args)
        return 2, 32, 2, "net: small"

    monkeypatch.setattr(planner, "choose_net", choose)
    monkeypatch.setattr(planner, "_epoch_steps", lambda *args: (2, 0))


# Facts


@pytest.mark.parametrize("breadth", [3, 8, 21])
def test_the_breadth_of_a_strip_is_measured(breadth):
    labels = np.zeros((90, 120), int)
    labels[20 : 20 + breadth] = 1
    [found] = object_breadths(labels)
    assert found == pytest.approx(breadth * 4 / np.pi)  # an edge along the rows
    assert found == usual_breadth(labels)  # what a warning is about


def test_each_object_of_each_class_counts_and_dust_does_not():
    labels = np.zeros((60, 60), int)
    labels[5:15, 5:15], labels[30:40, 30:40], labels[50, 50] = 1, 2, 1
    assert len(object_breadths(labels)) == 2
    assert len(object_breadths(np.ones((20, 30), int))) == 1
    assert object_breadths(np.zeros((20, 30), int)) == []
    touching = np.repeat([[1, 2]], 20, 0).repeat(10, 1)  # (20, 20): numbers of objects
    assert len(object_breadths(np.pad(touching, 5), instances=True)) == 2


def test_a_folder_is_measured(tmp_path):
    known = folder(tmp_path, squares)
    facts = measure_folder(open_folder(known["data"], known["options"]["masks"]))
    assert facts.size == facts.least == facts.most == (48, 48)
    assert facts.count == 4 and not facts.coloured and facts.channels == 1
    assert facts.shares[1] == pytest.approx(144 / 48**2)
    assert 6 < facts.breadths[0] <= facts.breadths[1] < 12
    mean, deviation = facts.greys
    assert mean == pytest.approx(30 + 120 * facts.shares[1], abs=2)
    assert 30 < deviation < 40


def test_grey_values_in_three_channels_are_no_colours():
    items = [Item(Path("-"), Path("-"), str(n)) for n in range(2)]
    grey = np.random.default_rng(0).integers(0, 255, (40, 40, 1), np.uint8)

    def source(image):
        draw = {"read_truth": lambda *_: np.zeros((40, 40), np.uint8)}
        draw["read_pixels"] = lambda *_: image
        return Source("x", items, ("background", "object"), **draw)

    assert not measure_folder(source(grey.repeat(3, 2))).coloured
    facts = measure_folder(source(grey * np.array([1, 0, 0], np.uint8)))
    assert facts.coloured and facts.breadths is None


# Choices


def test_small_objects_are_not_shrunk():
    small = photo(breadths=(4.0, 7.0))
    assert choose_size(small)[0] is None
    assert choose_size(photo())[0] == (192, 256)
    (height, _), reason = choose_size(photo(breadths=(12.0, 320.0)))
    assert height / 960 * 12 >= 7.9 and "a tenth below 12" in reason
    assert choose_size(replace(CELLS, breadths=None))[0] is None


def test_images_of_very_different_shapes_keep_their_size():
    assert choose_size(photo(least=(300, 1200), most=(1200, 1300)))[0] is None


def test_size_is_what_was_asked_for():
    assert plan_for(photo(), 0.1, 6, size="native").size is None
    assert plan_for(photo(), 0.1, 6, size=(96, 128)).size == (96, 128)


@pytest.mark.parametrize("seconds", [2.0, 0.3, 0.05, 0.001])
def test_some_hundred_steps_fit_or_the_net_is_the_smallest(seconds):
    recipe = plan_for(CELLS, seconds, minutes=6).recipe
    one = seconds * recipe.batch / 4 * (recipe.tile / 128) ** 2
    steps = 360 / (one * (recipe.net.base_channels / 16) ** 1.5)
    smallest = recipe.net.base_channels == 8 and recipe.tile == 128
    assert steps >= 400 or smallest
    slower = plan_for(CELLS, 2 * seconds, minutes=6).recipe
    assert slower.net.base_channels <= recipe.net.base_channels
    assert recipe.batch == (12 if seconds == 0.001 else 4)


def test_one_minute_is_no_minutes():
    said = "\n".join(plan_for(CELLS, 0.1, minutes=1).reasons)
    assert "steps fit into 1 minute\n" in said


def test_the_rest_of_a_recipe():
    recipe, size, reasons = plan_for(CELLS, 0.1, minutes=6)
    assert size is None and recipe.loss == "dice and cross-entropy"
    assert recipe.objects is None and recipe.watch == "dice"
    assert recipe.class_weights is None
    assert recipe.augment.name == "membranes"
    assert plan_for(photo(), 0.1, 6).recipe.augment.name == "photographs"
    three = replace(CELLS, shares=(0.5, 0.3, 0.2))
    assert plan_for(three, 0.1, 6).recipe.watch == "mean dice"
    for word in (
        "size: ",
        "net: ",
        "windows: ",
        "changes: ",
        "loss: ",
        "classes: ",
        "placed: ",
    ):
        assert sum(reason.startswith(word) for reason in reasons) == 1


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.05, 0.95), (0, 0.27, 0.68, 0.05)])
def test_windows_are_placed_where_a_class_is_rare(shares):
    recipe, _, reasons = plan_for(replace(CELLS, shares=shares), 0.1, 6)
    assert recipe.objects == pytest.approx(1 / 3)
    assert any("placed: a third" in reason for reason in reasons)
    assert plan_for(replace(CELLS, shares=(0.5, 0.5)), 0.1, 6).recipe.objects is None


def test_grey_values_change_by_a_part_of_their_deviation():
    for mean, deviation in ((121.0, 11.0), (19.0, 23.0), (130.0, 60.0), (0.0, 0.0)):
        facts = replace(CELLS, greys=(mean, deviation))
        grey = plan_for(facts, 0.1, 6).recipe.augment
        assert mean * grey.grey / 2 <= 0.26 * deviation and grey.grey <= 0.2
        assert 255 * grey.noise <= 0.13 * deviation and grey.noise <= 0.02
        light = plan_for(photo(greys=(mean, deviation)), 0.1, 6).recipe.augment.light
        assert 255 * light <= 0.51 * deviation and light <= 0.2


def test_weights_are_the_root_of_how_rare_a_class_is():
    facts = replace(CELLS, shares=(0.81, 0.09, 0.0999, 0.0001, 0.0))
    assert rarity_weights(facts) == (1.0, 3.0, 2.85, 10.0, 1.0)
    said = plan_for(replace(facts, shares=(0.9, 0.095, 0.005)), 0.1, 6).reasons
    assert any("without class weights; 1, 3.08, 10" in reason for reason in said)


def test_measuring_takes_a_fifth_of_the_time_if_six_epochs_fit():
    facts = replace(CELLS, count=300)
    for seconds in (0.01, 0.3):
        recipe = plan_for(facts, seconds, 6).recipe
        epoch = recipe.tiles / recipe.batch
        measuring = 0.1 * 300 * 512**2 / (recipe.batch * recipe.tile**2)
        steps = planner._seconds(seconds, recipe.net.base_channels, recipe.tile, 4)
        steps = 360 / steps / (recipe.batch / 4)
        assert epoch >= min(4 * measuring, steps / 6) - 1


def test_labels_without_0_and_an_empty_class_are_said():
    reasons = plan_for(replace(CELLS, shares=(0.0, 0.5, 0.5)), 0.1, 6).reasons
    assert any("labels begin with 1" in reason for reason in reasons)
    reasons = plan_for(replace(CELLS, shares=(0.9, 0.1, 0.0)), 0.1, 6).reasons
    assert any("class 2 has no pixel" in reason for reason in reasons)


@pytest.mark.parametrize("side", [20, 48, 64, 100, 300])
def test_a_window_is_a_size_that_the_net_takes(side):
    facts = replace(CELLS, size=(side, side), least=(side, side), most=(side, side))
    recipe = plan_for(facts, 0.1, 6).recipe
    assert recipe.tile % 2**recipe.net.depth == 0 and recipe.tile <= max(32, side)


def test_timing_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert 0 < time_step(CELLS, "cpu", False) < 60
    assert torch.equal(before, torch.get_rng_state())


def test_one_slow_moment_makes_no_plan_narrower(monkeypatch):
    said, clock = [], iter(range(1000))
    took = [0.1, 0.1, 5.0, *[0.1] * 40]  # the third step, the first that is timed
    times = [0.0]

    def tick():
        number = next(clock)
        if number % 2:  # the end of a step
            times.append(times[-1] + took[2 + number // 2])
        return times[-1]

    monkeypatch.setattr(gpu, "perf_counter", tick)
    assert time_step(CELLS, "cpu", False, said.append) == pytest.approx(0.1)
    assert "takes 0.1 s, the median of 5" in said[0]


# Loss and metrics


def test_the_loss_of_several_classes_is_dice_of_each_and_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 9, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (2, 9, 7), generator=generator)
    p, wrong = logits.softmax(1), []
    for k in (1, 2, 3):
        y = (labels == k).double()
        wrong.append((p[:, k] - y).abs().sum() / (p[:, k].sum() + y.sum() + 1))
    expected = torch.nn.functional.cross_entropy(logits, labels) + sum(wrong) / 3
    torch.testing.assert_close(dice_ce_loss(logits, labels), expected)
    two = logits[:, :2], labels % 2
    assert dice_ce_loss(*two) == dice_bce_loss(*two)


def test_the_loss_leaves_out_what_is_not_known():
    logits, labels = torch.randn(1, 3, 8, 8), torch.randint(3, (1, 8, 8))
    labels[:, :4] = -100
    other = logits.clone()
    other[:, :, :4] = 9.0 * torch.randn(1, 3, 4, 8)
    assert torch.allclose(dice_ce_loss(logits, labels), dice_ce_loss(other, labels))
    assert dice_ce_loss(logits, torch.full_like(labels, -100)).isfinite()


def test_class_weights_make_a_class_heavier_in_the_cross_entropy():
    logits, labels = torch.randn(2, 3, 9, 7), torch.randint(3, (2, 9, 7))
    labels[0, :4] = -100
    weights = (1.0, 2.0, 5.0)
    entropy = torch.nn.functional.cross_entropy
    added = dice_ce_loss(logits, labels) - entropy(logits, labels)
    expected = entropy(logits, labels, torch.tensor(weights)) + added
    heavy = dice_ce_loss(logits, labels, class_weights=weights)
    torch.testing.assert_close(heavy, expected)
    same = dice_ce_loss(logits, labels, class_weights=(3, 3, 3))
    torch.testing.assert_close(same, dice_ce_loss(logits, labels))
    nothing = dice_ce_loss(logits, torch.full_like(labels, -100), class_weights=weights)
    assert nothing.isfinite()
    with pytest.raises(ValueError, match="3 numbers, one per class, would work"):
        dice_ce_loss(logits, labels, class_weights=(1, 2))


def test_class_weights_are_a_value_of_a_recipe(tmp_path, quick):
    known = folder(tmp_path / "data", squares)
    values = asdict(plan_for(CELLS, 0.1, 6).recipe)
    values["net"] |= {"base_channels": 2}
    values |= {"tile": 32, "tiles": 4, "class_weights": [1, 7.5]}
    where = {"device": "cpu", "size": "native"}
    train_run("folder", **known, **where, recipe=values, out=tmp_path / "run", steps=2)
    recipe = read_plan(tmp_path / "run").recipe
    assert recipe.class_weights == (1, 7.5)
    logits, labels = torch.randn(1, 2, 8, 8), torch.randint(2, (1, 8, 8))
    for loss in ("dice and cross-entropy", "cross-entropy"):
        heavy, light = (
            replace(recipe, loss=loss, class_weights=w) for w in ((1, 7), None)
        )
        losses = [criterion_for(one)(logits, labels) for one in (heavy, light)]
        assert losses[0] != losses[1]
    with pytest.raises(ValueError, match="a number above 0 per class"):
        replace(recipe, class_weights=(1, 0))
    with pytest.raises(ValueError, match="class_weights with 'weighted cross-entropy'"):
        replace(recipe, loss="weighted cross-entropy")
    with pytest.raises(ValueError, match="the data have 2 classes"):
        wrong = replace(recipe, class_weights=(1, 2, 3))
        train_run(
            "folder", **known, **where, recipe=wrong, out=tmp_path / "no", steps=1
        )


def test_mean_dice_is_over_the_classes_that_occur():
    true, pred = torch.tensor([1, 1, 2, 2]), torch.tensor([1, 2, 2, 2])
    counts = count_pixels(pred, true, 4)
    assert mean_dice_of(counts) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert math.isnan(mean_dice_of(torch.zeros(3, 3, dtype=torch.long)))
    classes = ("background", "a", "b")
    assert "mean dice" not in metrics_for(classes)
    assert "mean dice" in metrics_for(classes, "mean dice")


# When it fails


def test_one_class_everywhere_is_said():
    names = ("background", "object")
    assert "'background'" in one_class_note(torch.tensor([[9, 0], [1, 0]]), names)
    assert "'object'" in one_class_note(torch.tensor([[0, 9], [0, 1]]), names)
    assert one_class_note(torch.tensor([[9, 0], [0, 1]]), names) == ""
    assert one_class_note(torch.tensor([[9, 0], [0, 0]]), names) == ""


def test_otsu_finds_what_skimage_finds():
    filters = pytest.importorskip("skimage.filters")
    rng = np.random.default_rng(0)
    for high in (90, 140, 250):
        grey = np.where(rng.random((80, 80)) < 0.3, high, 40) + rng.normal(
            0, 9, (80, 80)
        )
        grey = grey.clip(0, 255).astype(np.uint8)
        ours, theirs = (
            grey > f(grey) for f in (otsu_threshold, filters.threshold_otsu)
        )
        assert (ours == theirs).all()
    flat = np.full((4, 4), 7, np.uint8)  # nothing to part
    assert len(np.unique(flat > otsu_threshold(flat))) == 1


@pytest.mark.parametrize("dark", [False, True])
def test_otsu_learns_whether_bright_or_dark_is_the_object(dark, tmp_path):
    def draw(number, side):
        image, mask = squares(number, side)
        return (255 - image if dark else image), mask

    known = folder(tmp_path, draw)
    source = open_folder(known["data"], known["options"]["masks"])
    assert dice_of_otsu(source.subset([0, 1]), source.subset([2, 3])) > 0.95


# Runs


def test_a_folder_is_trained_by_a_recipe_of_its_own(tmp_path, quick):
    told = []
    how = folder(tmp_path / "data", squares) | {
        "device": "cpu",
        "out": tmp_path / "run",
    }
    history = train_run("folder", **how, epochs=2, announce=told.append)
    plan = read_plan(tmp_path / "run")
    assert plan.name == "auto" and plan.size is None and plan.recipe.watch == "dice"
    assert "size: as the images are" in told[0] and "Otsu's threshold" in told[-1]
    values = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert values["recipe"]["objects"] == plan.recipe.objects
    measured = evaluate_run(tmp_path / "run", device="cpu")  # at the size they have
    assert measured["dice"] == pytest.approx(max(history["dice"]))


def test_a_resumed_run_derives_nothing_and_ends_the_same(tmp_path, quick, monkeypatch):
    how = folder(tmp_path / "data", squares) | {"device": "cpu", "epochs": 3}
    whole = train_run("folder", **how, out=tmp_path / "whole")
    plan = read_plan(tmp_path / "whole")

    class Stop(Exception):
        pass

    def report(training, row):
        if training.step == 3:
            raise Stop

    again = {"recipe": plan.recipe, "size": "native", "save_every": 0}
    with pytest.raises(Stop):
        train_run("folder", **how, **again, out=tmp_path / "part", report=report)
    monkeypatch.setattr(planner, "time_step", None)  # is not called
    monkeypatch.setattr(planner, "measure_folder", None)
    assert resume_run(tmp_path / "part", device="cpu", size="native") == whole
    resume_run(tmp_path / "whole", device="cpu", recipe="auto", size="native")
    with pytest.raises(ValueError, match=says("size", "a run goes on as it was begun")):
        resume_run(tmp_path / "whole", device="cpu", size=(32, 32))


def test_labels_from_1_to_3_are_learned(tmp_path, quick):
    def draw(number, side):
        image, mask = squares(number, side)
        labels = np.full((side, side), 1, np.uint8)
        labels[mask > 0], labels[-6:] = 2, 3
        return image, labels

    told, known = [], folder(tmp_path / "data", draw)
    known["options"]["classes"] = ["background", "a", "b", "c"]
    where = {"out": tmp_path / "run", "device": "cpu", "announce": told.append}
    history = train_run("folder", **known, **where, steps=4)
    assert "labels begin with 1" in told[0] and "mean dice" in history


def test_a_run_says_that_one_class_is_predicted(tmp_path, quick, monkeypatch):
    def blind(pred, true, num_classes):
        return count_pixels(torch.zeros_like(pred), true, num_classes)

    told, known = [], folder(tmp_path / "data", squares)
    monkeypatch.setattr(train, "count_pixels", blind)
    where = {"out": tmp_path / "run", "device": "cpu", "announce": told.append}
    history = train_run("folder", **known, **where, steps=4)
    said = [text for text in told if "is called 'background'" in text]
    assert len(said) == len(history["dice"]) == 2 and "--size native" in said[0]
    assert "NOT better" in told[-1]


@pytest.mark.parametrize(("breadth", "shrunk"), [(56.0, False), (70.0, True)])
def test_what_a_window_holds_is_not_shrunk(breadth, shrunk):
    cars = photo(size=(319, 479), least=(319, 479), most=(319, 479))
    size, _ = choose_size(replace(cars, breadths=(breadth, breadth)))
    assert size == ((176, 256) if shrunk else None)


# What the notebook says of the measured tables


def test_class_weights_did_not_pay_and_so_auto_leaves_them_out():
    rows = read_results("rare.csv")
    found = {(r["objects"], r["class_weights"], r["seed"]): r for r in rows}
    assert {r["minutes"] for r in rows} == {"1.0"} and len(found) == len(rows) == 8
    assert all(float(row["dice cross"]) < 0.1 for row in rows)
    for (objects, weights, seed), row in found.items():
        if weights != "1 1 1 1":
            plain = found[objects, "1 1 1 1", seed]
            assert float(row["dice ring"]) < float(plain["dice ring"])


def test_first_attempts_say_what_they_are():
    rows = read_results("own.csv")
    assert {row["method"] for row in rows} <= {"library", "textbook", "otsu"}
    assert all(0 <= float(row["dice"]) <= 1 and row["device"] for row in rows)
    assert all(row["minutes"] or row["method"] == "otsu" for row in rows)


def test_a_class_that_is_never_found_is_named():
    history = {"mean dice": [0.4, 0.6], "iou a": [0.5, 0.9], "iou b": [0.0, 0.009]}
    said = lost_classes_note(history, 2)
    assert said.startswith("b (IoU 0.009) was hardly found") and "--recipe" in said
    assert lost_classes_note({"iou a": [0.5], "iou empty": [float("nan")]}, 1) == ""
    assert (
        lost_classes_note({"dice": [0.0], "iou": [0.0]}, 1) == ""
    )  # Otsu's note is said
