"""Runs: a folder that is whole at any moment, and goes on exactly after any end."""

import csv
import inspect
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import wait_for
from PIL import Image
from samples import carvana, isbi, names, says, without_id
from tqdm.auto import tqdm

from unet_tutorial import cli, gpu
from unet_tutorial.data.crops import Whole, Windows, read_example
from unet_tutorial.data.datasets import open_source
from unet_tutorial.data.far import measure_learned
from unet_tutorial.data.pipelines import membrane_pipeline
from unet_tutorial.model import UNet
from unet_tutorial.predict import Averaged, Predictor
from unet_tutorial.runs import engine, logbook, recipes, report
from unet_tutorial.runs import run as runs
from unet_tutorial.runs.checkpoint import load_state
from unet_tutorial.runs.recipes import (
    Augment,
    Net,
    Optimizer,
    Plan,
    as_dict,
    rate_factor,
    read_plan,
    read_recipe,
    recipe_names,
    split,
)
from unet_tutorial.runs.run import (
    begin_or_resume,
    evaluate_run,
    resume_run,
    train_run,
)
from unet_tutorial.runs.weights import load_net
from unet_tutorial.tiles import predict_tiled

NET = Net(base_channels=1, depth=1, padding=1, norm="batch", dropout=0.3)
MODERN = {"net": NET, "tile": 16, "tiles": 8, "batch": 2, "accumulate": 2, "epochs": 2}
MODERN["amp"] = False  # the same on any processor
PAPER = {"net": replace(NET, padding=0, norm=None), "tile": 20, "tiles": 6}


def recipe(name="modern", **values):
    small = MODERN if name == "modern" else PAPER
    return replace(read_recipe(name), **small | values)


def plan(**values):
    asked = {"recipe": recipe(), "name": None, "kind": "isbi", "data": None}
    asked |= {"size": None, "held_out": None, "seed": 0, "epochs": 1, "steps": None}
    return Plan(**asked | {"minutes": None, "amp": False, "options": None} | values)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    isbi(folder, slices=6, size=32)
    return folder


@pytest.fixture(autouse=True)
def plain_pictures(monkeypatch):
    "Draw nothing: it takes longest, and has a test of its own."
    monkeypatch.setattr(report, "draw_run", lambda *args: b"")


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu():
    "There, runs are equal to the last bit."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "pick_device", lambda wanted: torch.device("cpu"))
        yield


def assert_equal_runs(a, b):
    "Nets, history and state of two runs are equal; the time they took may differ."
    for name in ("last.safetensors", "best.safetensors", "history.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    states = [load_state(folder / "state.safetensors") for folder in (a, b)]
    for state in states:
        state["progress"].pop("seconds")
    assert same(*states)


def full(handle):
    "Sync a file to a disk that is full."
    raise OSError(28, "No space left on device")


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


# Recipes


def test_recipes_are_data_and_complete():
    assert {"membranes", "modern", "paper"} <= set(recipe_names())
    paper = read_recipe("paper")
    assert paper.optimizer == Optimizer("SGD", lr=0.001, momentum=0.99)
    assert (paper.tile, paper.batch) == (572, 1)
    assert paper.loss == "weighted cross-entropy"
    sizes = [sum(w.numel() for w in net.parameters()) for net in (UNet(),)]
    assert sizes == [sum(w.numel() for w in UNet(**asdict(paper.net)).parameters())]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_survives_the_disk(tmp_path, name):
    path = tmp_path / "own.json"
    values = replace(read_recipe(name), batch=3)
    path.write_text(json.dumps(as_dict(values)))
    assert read_recipe(path) == values == read_recipe(as_dict(values))
    assert read_recipe(values) is values


def test_the_recipe_of_a_run_is_a_recipe(stack, tmp_path):
    train_run("isbi", stack, tmp_path / "run", recipe(), steps=1)
    copy = tmp_path / "mine.json"
    values = json.loads((tmp_path / "run" / "recipe.json").read_text())
    values["recipe"]["class_weights"] = [1, 3]
    copy.write_text(json.dumps(values))
    assert read_recipe(copy) == replace(recipe(), class_weights=(1, 3))


def test_wrong_recipes_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=says("'moderm'", "modern, paper")):
        read_recipe("moderm")
    with pytest.raises(ValueError, match=says("unknown ['bach']", "would work")):
        read_recipe(as_dict(recipe()) | {"bach": 2})
    few = {key: x for key, x in as_dict(recipe()).items() if key != "batch"}
    with pytest.raises(ValueError, match=says("lacks ['batch']")):
        read_recipe(few)
    with pytest.raises(ValueError, match=says("net of the recipe", "lacks", "'depth'")):
        read_recipe(as_dict(recipe()) | {"net": {"base_channels": 4}})
    for text, said in (("{", "damaged"), ("[]", "expected")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=says("bad.json", said)):
            read_recipe(tmp_path / "bad.json")


SGD = {"name": "SGD", "lr": 0.1}


@pytest.mark.parametrize(
    "key, value, word",
    [
        ("loss", "hinge", "cross-entropy"),
        ("augment", "all", "membranes"),
        ("augment", {"turn": 20}, "name"),
        ("augment", {"name": "membranes", "trun": 20}, "turn"),
        ("augment", {"name": "photographs", "noise": 0.1}, "std"),
        ("augment", {"name": "auto", "turn": 20}, "none"),
        ("augment", 3, "name"),
        ("schedule", "linear", "cosine"),
        ("optimizer", {"name": "Lion", "lr": 0.1}, "AdamW"),
        ("optimizer", SGD | {"betas": [0.9, 0.99]}, "momentum"),
        ("optimizer", SGD | {"lr": 0}, "above 0"),
        ("optimizer", {"name": "AdamW", "lr": 0.1, "betas": [0.9]}, "two shares"),
        ("net", {"base_channels": 4}, "padding"),
        ("net", asdict(NET) | {"padding": 2}, "0 or 1"),
        ("net", asdict(NET) | {"norm": "bath"}, "batch"),
        ("batch", 0, "from 1 on"),
        ("batch", "4", "from 1 on"),
        ("batch", True, "from 1 on"),
        ("warmup", 1, "below 1"),
        ("clip", -1, "null"),
        ("amp", "fp8", "bf16"),
        ("about", None, "text"),
    ],
)
def test_a_wrong_value_leaves_no_folder(stack, tmp_path, key, value, word):
    values = as_dict(recipe()) | {key: value}
    with pytest.raises(ValueError, match=says(key, "would work")) as caught:
        train_run("isbi", stack, tmp_path / "run", values)
    assert word in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_wrong_value_is_refused_by_replace_as_well():
    with pytest.raises(ValueError, match=says("ema", "below 1")):
        replace(recipe(), ema=1)
    with pytest.raises(ValueError, match=says("noise", "std")):
        replace(Augment("membranes", noise=0.1), name="photographs")


def test_the_rate_rises_and_falls():
    assert rate_factor(0, 0.1) == pytest.approx(0.02)
    assert rate_factor(0.1, 0.1) == pytest.approx(1)
    assert rate_factor(1, 0.1) == rate_factor(1.5, 0.1) == pytest.approx(0)
    assert rate_factor(0.7, 0, "constant") == 1


# Windows


@pytest.fixture
def examples():
    chance = np.random.default_rng(0)
    found = []
    for shape in [(40, 50), (33, 64)]:
        image = chance.integers(0, 256, shape, dtype=np.uint8)
        labels = (image > 128).astype(np.uint8)
        found.append((image, labels, image.astype(np.float32)))
    return found


def test_windows_depend_on_seed_epoch_and_index(examples):
    a, b = Windows(examples, 28, 8, seed=1), Windows(examples, 28, 8, seed=1)
    assert all(torch.equal(x, y) for x, y in zip(a[3], b[3], strict=True))
    assert a[3][0].shape == (1, 28, 28)
    assert a[3][1].shape == a[3][2].shape == (12, 12)
    a.set_epoch(1)
    assert not torch.equal(a[3][0], b[3][0])


@pytest.mark.parametrize("pipeline", [None, membrane_pipeline()])
def test_image_labels_and_weights_of_a_window_fit(examples, pipeline):
    windows = Windows(examples, 28, 4, count=10, pipeline=pipeline)
    for x, labels, weights in windows:
        assert labels.dtype == torch.int64 and set(labels.unique().tolist()) <= {0, 1}
        agree = ((weights > 128) == (labels == 1)).float().mean()
        assert agree > (0.75 if pipeline else 0.999)  # bent weights are interpolated
        if pipeline is None:
            inner = x[0, 4:-4, 4:-4].flatten()
            assert np.corrcoef(inner, weights.flatten())[0, 1] > 0.99


def test_each_pixel_is_measured_once_and_as_by_predict_tiled(examples):
    torch.manual_seed(0)
    net = UNet(base_channels=2, depth=2, dropout=0).eval()
    whole = Whole(examples, side=60, depth=2)  # 20 pixels an output tile
    pred = [np.full(labels.shape, -1) for _, labels, _ in examples]
    for (page, top, left), (x, labels, _) in zip(whole.places, whole, strict=True):
        with torch.no_grad():
            answer = net(x[None])[0].argmax(0).numpy()
        rows, columns = np.nonzero(labels.numpy() >= 0)
        assert (pred[page][top + rows, left + columns] == -1).all()
        pred[page][top + rows, left + columns] = answer[rows, columns]
    for found, (image, *_), (mean, std) in zip(
        pred, examples, whole.scales, strict=True
    ):
        tiled = predict_tiled(net, (image - mean) / std, 20).argmax(0).numpy()
        assert (found == tiled).mean() > 0.999 and found.min() >= 0


def test_instances_become_classes_with_a_line_between(tmp_path):
    class Cells:
        instances, classes = True, ("background", "cell")

        def image(self, index, size):
            return np.zeros((4, 4), np.uint8)

        def labels(self, index, size):
            return np.array([[1, 1, 2, 2]] * 4)

    _, labels, weights = read_example(Cells(), 0, weighted=True)
    assert 0 < labels.sum() < 16 and labels.max() == 1
    assert weights[labels == 0].min() > weights[labels == 1].max()


# The folder


@pytest.mark.parametrize("name", ["modern", "paper"])
def test_a_run_leaves_its_folder(stack, tmp_path, name):
    told = []
    out = tmp_path / "runs" / "first"
    history = train_run(
        "isbi", stack, out, recipe(name), epochs=2, report=lambda *a: told.append(a)
    )
    due = "best.safetensors environment.json history.csv last.safetensors recipe.json "
    assert names(out) == (due + "split.json state.safetensors").split()
    assert (
        len(history["pixel error"]) == 2
        and sum(row is not None for _, row in told) == 2
    )
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["dice"]) for row in rows] == history["dice"]
    assert read_plan(out).kind == "isbi" and read_plan(out).recipe == recipe(name)
    environment = json.loads((out / "environment.json").read_text())
    assert environment["torch"] and environment["device"] == "cpu"
    net, notes = load_net(out / "last.safetensors")
    assert notes["classes"] == ["cell", "membrane"] and notes["epoch"] == 2
    assert notes.get("tile") == (None if name == "modern" else net and 4)
    measured = evaluate_run(out, weights="last", device="cpu")
    assert measured["dice"] == pytest.approx(history["dice"][-1], abs=1e-6)


def test_photographs_are_taken_whole(tmp_path):
    carvana(tmp_path / "cars", [f"{car}_{view:02}" for car in "abc" for view in (1, 2)])
    out = tmp_path / "run"
    values = recipe(tile=64, epochs=1)
    train_run("carvana", tmp_path / "cars", out, values, size=(32, 48), held_out=1)
    net, notes = load_net(out / "best.safetensors")
    assert net.in_channels == 3 and notes["size"] == [32, 48]
    assert evaluate_run(out)["dice"] >= 0


def test_curves_and_samples_are_drawn(stack, tmp_path, monkeypatch):
    monkeypatch.undo()
    train_run("isbi", stack, tmp_path / "run", recipe(), epochs=1)
    assert Image.open(tmp_path / "run" / "curves.png").size[0] > 300
    strips = names(tmp_path / "run" / "samples")
    assert strips[0] == "epoch_0001_0.png"
    picture = Image.open(tmp_path / "run" / "samples" / strips[0])
    assert picture.size == (3 * 32, 32)


def test_slices_may_be_held_out_by_number(stack, tmp_path):
    learn, check = split(plan(held_out=(2, 3)), open_source("isbi", stack))
    assert [item.page for item in check.items] == [2, 3]
    assert [item.page for item in learn.items] == [0, 5]  # the gap is left out


def test_a_run_stops_after_steps_or_minutes(stack, tmp_path):
    seen = []
    told = {"report": lambda training, row: seen.append(training.step)}
    train_run("isbi", stack, tmp_path / "a", recipe(accumulate=1), steps=5, **told)
    assert max(seen) == 5
    start = time.monotonic()
    train_run("isbi", stack, tmp_path / "b", recipe(), minutes=0.01, **told)
    assert time.monotonic() - start < 120  # without its minutes it has no end
    with pytest.raises(ValueError, match=says("epochs=1", "steps=2", "one of them")):
        train_run("isbi", stack, tmp_path / "c", recipe(), epochs=1, steps=2)


def test_no_parameter_of_train_run_is_forgotten():
    own = {"recipe", "data", "out", "device", "start"}
    parameters = {*inspect.signature(train_run).parameters}
    assert parameters == own | {*runs._ASKED} | {*runs._SETTINGS}
    typed = {*cli._ASKED, "options", "out", "device", "workers", "report", "announce"}
    assert parameters - typed == {"save_every", "live"}  # for Python only


def test_nothing_is_replaced(stack, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=says("thesis.txt", "new folder")):
        train_run("isbi", stack, tmp_path / "run", recipe())
    (tmp_path / "file").write_text("precious")
    with pytest.raises(FileExistsError, match=says("file", "new folder")):
        train_run("isbi", stack, tmp_path / "file", recipe())


def test_tensorboard_gets_the_numbers_where_it_is_installed(
    stack, tmp_path, monkeypatch
):
    seen = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            seen.append(("opened", os.path.basename(folder), purge_step))

        def add_scalar(self, name, value, epoch):
            seen.append((name, epoch))

        def close(self):
            seen.append("closed")

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    train_run("isbi", stack, tmp_path / "run", recipe(), epochs=1)
    assert seen[0] == ("opened", "tensorboard", 1) and seen[-1] == "closed"
    assert ("dice", 1) in seen
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train_run("isbi", stack, tmp_path / "other", recipe(), epochs=1)


# Going on


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "Sums depend on how many threads share them, and a forked child needs one."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(stack, tmp_path_factory):
    "A run that was never interrupted."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_run", lambda *args: b"")
        out = tmp_path_factory.mktemp("whole") / "run"
        train_run("isbi", stack, out, recipe(), epochs=3)
    return out


class Stop(Exception):
    pass


def stop_at(epoch, batch):
    def report(training, row):
        if (training.epoch, training.batch) == (epoch, batch):
            raise Stop

    return report


@pytest.mark.parametrize("place", [(0, 2), (1, 0), (1, 4), (2, 2)])
@pytest.mark.parametrize("every", [0, 1e9])
def test_a_run_goes_on_exactly(stack, whole, tmp_path, place, every):
    out, how = tmp_path / "run", {"save_every": every}
    with pytest.raises(Stop):
        train_run("isbi", stack, out, recipe(), epochs=3, report=stop_at(*place), **how)
    torch.manual_seed(5)
    resume_run(out)
    assert_equal_runs(out, whole)
    said = []
    resume_run(out, announce=said.append)  # it is done: nothing changes
    assert says("nothing was left to do", f"--from {out}").search(said[-1])
    assert_equal_runs(out, whole)


def test_workers_change_nothing(stack, whole, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Stop):
        how = {"workers": 2, "save_every": 0}
        train_run("isbi", stack, out, recipe(), epochs=3, report=stop_at(1, 2), **how)
    resume_run(out, workers=2)
    assert_equal_runs(out, whole)


@pytest.mark.parametrize("level", ["AVX2", "AVX512"])
def test_a_state_in_either_order_goes_on_exactly(stack, tmp_path, monkeypatch, level):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    last = level == "AVX512"
    values = recipe(
        net=replace(NET, base_channels=4), optimizer=Optimizer("AdamW", lr=0.01)
    )
    train_run("isbi", stack, tmp_path / "a", values, epochs=2)
    layout = json.loads((tmp_path / "a" / "environment.json").read_text())["layout"]
    assert layout.startswith("channels last, because") == last and level in layout
    with pytest.raises(Stop):
        train_run("isbi", stack, tmp_path / "b", values, epochs=2, report=stop_at(1, 0))

    def check(training, row):
        weight = training.model.contracting.steps[0].conv.conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == last

    resume_run(tmp_path / "b", report=check)
    assert_equal_runs(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_saved_and_says_how_to_go_on(
    stack, whole, tmp_path, number
):
    def report(training, row):
        if training.step == 3 and row is None:
            signal.raise_signal(number)

    out = tmp_path / "run"
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=says("resume_run", "--resume", "run")):
        train_run("isbi", stack, out, recipe(), epochs=3, report=report)
    assert signal.getsignal(number) == before
    assert load_state(out / "state.safetensors")["progress"]["step"] >= 3
    resume_run(out)
    assert_equal_runs(out, whole)


def test_who_asks_twice_is_not_kept_waiting(stack, tmp_path):
    def report(training, row):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="twice"):
        train_run("isbi", stack, tmp_path / "run", recipe(), report=report)


def test_who_asks_twice_hears_whether_anything_is_kept(stack, tmp_path):
    def report(training, row):
        if training.step == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    for name, every, words in (
        ("early", 1e9, says("twice", "No step was saved yet", "early --resume")),
        ("late", 0, says("twice", "is whole", "late --resume")),
    ):
        how = {"report": report, "save_every": every}
        with pytest.raises(logbook.Stopped, match=words) as stop:
            train_run("isbi", stack, tmp_path / name, recipe(), epochs=3, **how)
        assert stop.value.number == signal.SIGTERM


def test_before_the_first_step_nothing_is_kept_and_that_is_said(
    stack, tmp_path, monkeypatch
):
    out = tmp_path / "run"

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_settle", stop)
    with pytest.raises(logbook.Stopped, match=says("nothing is kept", "same command")):
        train_run("isbi", stack, out, recipe(), epochs=1)
    assert not out.exists()


def test_a_run_without_a_saved_step_says_that_it_begins_anew(stack, whole, tmp_path):
    out, said = tmp_path / "run", []
    with pytest.raises(Stop):
        how = {"report": stop_at(1, 2), "save_every": 1e9, "epochs": 3}
        train_run("isbi", stack, out, recipe(), **how)
    resume_run(out, announce=said.append)
    assert f"no step of {out} was saved: it begins anew" in said[0]
    assert_equal_runs(out, whole)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarm on this system")
def test_a_run_that_measures_for_long_stops_and_goes_on_exactly(
    stack, whole, tmp_path, monkeypatch
):
    out, honest = tmp_path / "run", recipes.metrics_for

    def slow(counts):
        signal.raise_signal(signal.SIGINT)
        time.sleep(200)

    monkeypatch.setattr(logbook, "_PATIENCE", 0.1)
    monkeypatch.setattr(recipes, "metrics_for", lambda *args: {"pixel error": slow})
    with pytest.raises(logbook.Stopped, match=says("all is saved", "no net")):
        train_run("isbi", stack, out, recipe(), epochs=3)
    progress = load_state(out / "state.safetensors")["progress"]
    assert progress["epoch"] == 0 and progress["batch"] > 0
    monkeypatch.setattr(recipes, "metrics_for", honest)
    resume_run(out)
    assert_equal_runs(out, whole)


def test_a_long_step_says_what_a_stop_waits_for(monkeypatch):
    monkeypatch.setattr(logbook, "_PATIENCE", 0.1)
    with logbook.interruptible(), pytest.warns(UserWarning) as told:
        signal.raise_signal(signal.SIGINT)
        wait_for(lambda: told.list)
    assert "step that runs" in str(told[0].message)


def test_a_disk_that_is_full_from_the_start_says_that_nothing_is_saved(
    stack, tmp_path, monkeypatch
):
    def report(training, row):
        monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match=says("nothing was saved before", "anew")):
        how = {"report": report, "save_every": 0}
        train_run("isbi", stack, tmp_path / "run", recipe(), epochs=1, **how)


def test_a_run_may_live_in_a_thread(stack, tmp_path):
    thread = threading.Thread(
        target=train_run, args=("isbi", stack, tmp_path / "run", recipe())
    )
    thread.start()
    thread.join()
    assert (tmp_path / "run" / "last.safetensors").exists()


def test_what_contradicts_the_run_is_an_error(stack, tmp_path):
    out = tmp_path / "run"
    train_run("isbi", stack, out, recipe(), epochs=1, seed=3)
    resume_run(out, kind="isbi", epochs=1, seed=3, recipe=recipe(), steps=None)
    resume_run(out, recipe=as_dict(recipe()), amp="auto", held_out=None)
    wrong_ones = [{"epochs": 2}, {"seed": 1}, {"size": (32, 32)}, {"recipe": "paper"}]
    wrong_ones += [{"recipe": recipe(batch=3)}, {"amp": True}, {"options": {"gap": 2}}]
    for wrong in wrong_ones:
        sentence = "in Python" if "epochs" in wrong else "goes on as"
        with pytest.raises(ValueError, match=says("run was begun with", sentence)):
            resume_run(out, **wrong)


@pytest.mark.parametrize(("kind", "name"), [("isbi", "membranes"), ("ctc", "modern")])
def test_the_usual_recipe_is_that_of_the_kind(tmp_path, monkeypatch, kind, name):
    monkeypatch.setattr(runs, "_open", lambda *asked: None)
    monkeypatch.setattr(runs, "_run", lambda out, plan, *rest, **settings: plan)
    assert train_run(kind, tmp_path, tmp_path / "run").name == name
    assert train_run(kind, tmp_path, tmp_path / "run", "paper").name == "paper"


def test_a_folder_that_is_no_run_is_named(tmp_path):
    for call in (resume_run, evaluate_run):
        with pytest.raises(
            FileNotFoundError, match=says("recipe.json", "not the folder")
        ):
            call(tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=says("recipe.json is damaged")):
        resume_run(tmp_path)


def test_a_damaged_state_is_refused(stack, tmp_path):
    out = tmp_path / "run"
    train_run("isbi", stack, out, recipe(), epochs=1)
    state = bytearray((out / "state.safetensors").read_bytes())
    state[len(state) // 2] ^= 1
    (out / "state.safetensors").write_bytes(state)
    with pytest.raises(ValueError, match=says("state.safetensors", "damaged")):
        resume_run(out)


def test_a_full_disk_keeps_the_last_state(stack, whole, tmp_path, monkeypatch):
    out, honest = tmp_path / "run", os.fsync

    def report(training, row):
        if training.step == 4:
            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match=says("No space", "run")):
        how = {"report": report, "save_every": 0}
        train_run("isbi", stack, out, recipe(), epochs=3, **how)
    assert not list(out.glob("*.part"))
    monkeypatch.setattr(os, "fsync", honest)
    resume_run(out)
    assert_equal_runs(out, whole)


def test_a_full_disk_at_the_end_is_not_overlooked(stack, tmp_path, monkeypatch):
    def report(training, row):
        if row is not None:
            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match=says("No space", "run")):
        train_run("isbi", stack, tmp_path / "run", recipe(), epochs=1, report=report)


# What feeds a run


def test_beside_cuda_batches_are_pinned(stack):
    source = open_source("isbi", stack)
    for make in (recipes.train_loader, recipes.valid_loader):
        assert make(plan(), source, device="cuda").pin_memory
        assert not make(plan(), source).pin_memory
        assert not make(plan(), source, device="mps").pin_memory
    few = recipes.valid_loader(plan(), source, workers=8, device="cuda")
    assert few.num_workers == len(few.dataset)


@pytest.mark.parametrize("workers", [None, 2])
def test_a_run_picks_its_workers_and_says_so(stack, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(runs, "pick_workers", lambda device: 1)
    told, asked = [], []
    honest = recipes.train_loader

    def note(plan, source, workers, device):
        asked.append((workers, device.type))
        return honest(plan, source, workers, device)

    monkeypatch.setattr(recipes, "train_loader", note)
    how = {"announce": told.append, "workers": workers}
    train_run("isbi", stack, tmp_path / "run", recipe(), epochs=1, **how)
    count = workers or 1
    assert asked == [(count, "cpu")]
    assert f"read by {count} workers\n" in told[0]


def test_a_run_sends_bytes(stack):
    source = open_source("isbi", stack)
    for make in (recipes.train_loader, recipes.valid_loader):
        images, labels = next(iter(make(plan(), source)))
        assert images.pixels.dtype == torch.uint8 and labels.dtype == torch.int16


# What is copied, and what a thread writes


def test_what_the_notebook_says_of_saving_was_measured():
    root = Path(__file__).parent.parent
    with (root / "results" / "saving.csv").open() as file:
        (row,) = csv.DictReader(file)
    book = json.loads((root / "nbs/workshop/runs/logbook.ipynb").read_text())
    text = " ".join(" ".join("".join(cell["source"]) for cell in book["cells"]).split())
    copy, both = float(row["copy s"]), float(row["copy s"]) + float(row["due save s"])
    assert f"{row['MB']} MB" in text
    assert f"for {float(row['before s']):.1f} seconds" in text
    assert f"{both:.1f} seconds with both copies, for {copy:.1f} after an epoch" in text


@pytest.mark.parametrize("every", [0, 1e9])
def test_a_state_is_written_when_it_is_due_and_at_the_end(stack, tmp_path, every):
    out, there = tmp_path / "run", []

    def report(training, row):
        if row is not None:
            there.append((out / "state.safetensors").exists())

    train_run("isbi", stack, out, recipe(), epochs=3, report=report, save_every=every)
    assert there == [every == 0] * 3
    assert load_state(out / "state.safetensors")["progress"]["epoch"] == 3


def test_rare_saves_leave_what_frequent_ones_leave(stack, tmp_path):
    for name, every in (("rare", 1e9), ("often", 0)):
        values = recipe(optimizer=Optimizer("AdamW", lr=0.5))  # it gets worse
        train_run("isbi", stack, tmp_path / name, values, epochs=4, save_every=every)
    assert_equal_runs(tmp_path / "rare", tmp_path / "often")
    _, notes = load_net(tmp_path / "rare" / "best.safetensors")
    with (tmp_path / "rare" / "history.csv").open() as file:
        errors = [float(row["pixel error"]) for row in csv.DictReader(file)]
    assert notes["epoch"] == 1 + errors.index(min(errors))
    assert notes["measured"]["pixel error"] == min(errors)


@pytest.fixture
def saved(tmp_path):
    "A training that can be saved, and the saver of its folder."
    net = UNet(base_channels=1, depth=1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    training = engine.Training(net, optimizer, device="cpu")
    training.history, training.epoch, training.best_epoch = {"error": [0.1]}, 1, 1
    with logbook.saving(tmp_path, {"kind": "drawn"}) as saver:
        yield training, saver


@torch.no_grad()
def fill(training, value):
    for weight in training.model.parameters():
        weight.fill_(value)


def weights_of(path):
    return {x for w in load_net(path)[0].parameters() for x in w.unique().tolist()}


def test_the_best_net_is_that_of_its_epoch(saved):
    training, saver = saved
    fill(training, 1)
    saver.keep(training, {"error": 0.1})
    fill(training, 2)
    training.epoch = 2
    saver.keep(training, {"error": 0.2})
    fill(training, 3)
    saver.save(training)
    saver.wait()
    assert weights_of(saver.out / "best.safetensors") == {1}
    assert weights_of(saver.out / "last.safetensors") == {2}
    state = load_state(saver.out / "state.safetensors")
    assert {x for w in state["model"].values() for x in w.unique().tolist()} == {3}


@pytest.fixture
def gate(monkeypatch):
    "Writing waits until this event is set."
    event, honest = threading.Event(), logbook._write

    def late(*moment):
        assert event.wait(20)
        honest(*moment)

    monkeypatch.setattr(logbook, "_write", late)
    yield event
    event.set()


def test_what_is_copied_does_not_change_while_it_is_written(saved, gate):
    training, saver = saved
    fill(training, 1)
    saver.keep(training, {"error": 0.1})
    saver.save(training)
    fill(training, 2)
    training.history["error"].append(0.3)
    gate.set()
    saver.wait()
    assert weights_of(saver.out / "best.safetensors") == {1}
    state = load_state(saver.out / "state.safetensors")
    assert {x for w in state["model"].values() for x in w.unique().tolist()} == {1}
    assert len((saver.out / "history.csv").read_text().splitlines()) == 2


def test_one_file_is_written_at_a_time(saved, gate):
    training, saver = saved
    saver.save(training)
    first = saver.writing
    threading.Timer(0.2, gate.set).start()
    saver.save(training)  # waits for the first
    assert gate.is_set() and first.done()


def test_what_went_wrong_in_the_thread_is_raised_by_the_next_save(saved, monkeypatch):
    training, saver = saved

    def full(*moment):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logbook, "_write", full)
    saver.save(training)
    with pytest.raises(OSError, match="No space"):
        saver.save(training)
    saver.wait()  # it was raised once


def test_a_failed_save_is_not_hidden_by_a_failed_training(stack, tmp_path, monkeypatch):
    def full(*moment):
        raise OSError(28, "No space left on device")

    def report(training, row):
        if training.step == 2:
            raise Stop

    monkeypatch.setattr(logbook, "_write", full)
    with (
        pytest.raises(Stop),
        pytest.warns(UserWarning, match=says("last save", "No space")),
    ):
        how = {"report": report, "save_every": 0}
        train_run("isbi", stack, tmp_path / "run", recipe(), epochs=3, **how)


def test_a_run_that_fails_waits_for_what_is_being_written(stack, tmp_path, gate):
    def report(training, row):
        if training.step == 2:
            threading.Timer(0.2, gate.set).start()
            raise Stop

    with pytest.raises(Stop):
        how = {"report": report, "save_every": 0}
        train_run("isbi", stack, tmp_path / "run", recipe(), epochs=3, **how)
    assert load_state(tmp_path / "run" / "state.safetensors")["progress"]["step"] == 1
    assert not list((tmp_path / "run").glob("*.part"))


def folder_of_three_classes(folder):
    "Images in one folder, label maps in another, told apart by their suffix."
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8) % 3
    for name in ("images", "truth"):
        (folder / name).mkdir()
    for n in range(4):
        truth = np.kron(labels, np.ones((4, 4), np.uint8))  # (32, 32)
        Image.fromarray(80 * truth + n).save(folder / "images" / f"{n}.png")
        Image.fromarray(truth).save(folder / "truth" / f"{n}_seg.png")
    return folder / "images", {"masks": str(folder / "truth")}


def test_a_folder_of_several_classes_and_of_masks_elsewhere(tmp_path):
    images, options = folder_of_three_classes(tmp_path)
    options["classes"] = ["background", "left", "right"]
    out = tmp_path / "run"
    train_run("folder", images, out, recipe(), steps=1, options=options)
    resume_run(out)
    resume_run(out, options=options | {"classes": tuple(options["classes"])})
    assert {"iou left", "iou right"} <= evaluate_run(out).keys()


def test_a_run_is_measured_in_several_views(stack, tmp_path):
    train_run("isbi", stack, tmp_path / "run", recipe(), steps=1)
    plain = evaluate_run(tmp_path / "run")
    assert evaluate_run(tmp_path / "run", wrap=lambda net: net) == plain
    assert evaluate_run(tmp_path / "run", wrap=Averaged)["loss"] != plain["loss"]


def test_the_net_knows_where_deep_images_were_cut(tmp_path):
    images, options = folder_of_three_classes(tmp_path)
    for path in images.iterdir():
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16)).save(path)
    options |= {"classes": ["background", "left", "right"], "value_range": [10, 150]}
    train_run("folder", images, tmp_path / "run", recipe(), steps=1, options=options)
    _, notes = load_net(tmp_path / "run" / "best.safetensors")
    assert tuple(notes["value_range"]) == (10, 150)
    assert Predictor.load(tmp_path / "run").value_range == notes["value_range"]


def test_a_net_is_not_measured_on_data_that_it_cannot_take(stack, tmp_path):
    train_run("isbi", stack, tmp_path / "run", recipe(), steps=1)
    images, options = folder_of_three_classes(tmp_path)
    three = open_source("folder", images, classes=("a", "b", "c"), **options)
    with pytest.raises(ValueError, match=says("3 classes", "takes 1 and 2")):
        evaluate_run(tmp_path / "run", three)


def test_a_run_that_never_began_does_not_block_its_folder(tmp_path):
    images, options = folder_of_three_classes(tmp_path)
    out = tmp_path / "run"
    with pytest.raises(ValueError, match="more than two values"):
        train_run("folder", images, out, recipe(), steps=1, options=options)
    options["classes"] = ["background", "left", "right"]
    train_run("folder", images, out, recipe(), steps=1, options=options)
    assert (out / "last.safetensors").exists()


@pytest.mark.parametrize(
    "name",
    [
        ".unet-0123456789abcdef.part",
        "recipe.json.part",
        "history.csv.part",
        "curves.png",
        "samples",
        "best.safetensors.part",
        "best.safetensors",
    ],
)
def test_a_run_that_is_killed_before_it_is_saved_begins_anew(
    stack, whole, tmp_path, name
):
    out, asked = tmp_path / "run", {"recipe": recipe(), "epochs": 3}
    with pytest.raises(Stop):
        report = stop_at(1, 2)
        begin_or_resume("isbi", stack, out, report=report, save_every=1e9, **asked)
    assert not (out / "state.safetensors").exists()
    if name == "samples":
        (out / name).mkdir()
    else:
        (out / name).write_bytes(b"half")
    begin_or_resume("isbi", stack, out, **asked)
    assert_equal_runs(out, whole)
    with pytest.raises(
        FileExistsError, match=says("--resume", "another --out", "resume_run")
    ):
        train_run("isbi", stack, out, recipe(), epochs=3)


def test_no_minutes_at_all_are_refused(stack, tmp_path):
    for minutes in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            train_run("isbi", stack, tmp_path / "run", recipe(), minutes=minutes)


def test_a_crash_file_is_there_while_a_run_runs(stack, tmp_path):
    seen = []
    out = tmp_path / "run"
    told = {"report": lambda *args: seen.append((out / "crash.txt").read_text())}
    train_run("isbi", stack, out, recipe(), epochs=1, **told)
    assert all("If the run crashes in native code" in text for text in seen)
    assert not (out / "crash.txt").exists()


def test_a_crash_file_keeps_what_was_written_before(tmp_path):
    path = tmp_path / "crash.txt"
    for text in ("Fatal Python error", ""):
        with logbook.crash_file(path):
            with path.open("a") as file:
                file.write(text)
    assert path.read_text().endswith("Fatal Python error")
    assert path.read_text().count("native code") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_run_that_is_killed_again_and_again_ends_the_same(stack, whole, tmp_path):
    fork, out = multiprocessing.get_context("fork"), tmp_path / "run"
    how = {"save_every": 0}

    def work():
        if (out / "recipe.json").exists():
            resume_run(out, **how)
        else:
            train_run("isbi", stack, out, recipe(), epochs=3, **how)

    def child():
        tqdm.set_lock(threading.RLock())  # killed while it holds ours, we would wait
        work()

    for wait in (0.05, 0.12, 0.2, 0.16):
        process = fork.Process(target=child)
        process.start()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if (out / "state.safetensors").exists():
            load_state(out / "state.safetensors")  # it is never half a file
    work()
    assert_equal_runs(out, whole)


# Number formats and devices


def test_auto_is_settled_when_a_run_begins(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "amp_type", lambda amp, device: torch.bfloat16)
    monkeypatch.setattr(runs, "_run", lambda out, plan, *rest, **settings: plan)
    begun = train_run("isbi", stack, tmp_path / "run", recipe(amp="auto"))
    assert begun.amp == "bf16" and begun.recipe.amp == "auto"
    assert train_run("isbi", stack, tmp_path / "b", recipe(), amp=True).amp == "bf16"


@pytest.fixture
def begun_in_16_bits(stack, tmp_path):
    "A run in bf16 that was stopped in its first epoch."
    with pytest.raises(Stop):
        how = {"amp": "bf16", "save_every": 0, "report": stop_at(0, 4)}
        train_run("isbi", stack, tmp_path / "run", recipe(), **how)
    assert read_plan(tmp_path / "run").amp == "bf16"
    return tmp_path / "run"


def bits(out):
    return json.loads((out / "environment.json").read_text())["amp"]


def test_a_run_keeps_its_format_where_auto_would_choose_another(
    begun_in_16_bits, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", bool, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume_run(begun_in_16_bits)
    assert bits(begun_in_16_bits) == "torch.bfloat16"


def test_a_format_that_a_device_lacks_is_replaced_with_a_sentence(
    begun_in_16_bits, monkeypatch
):
    def as_on_an_old_device(amp, device):
        if amp == "bf16":
            raise ValueError("this device has no bf16")
        return None

    for module in (runs, recipes):
        monkeypatch.setattr(module, "amp_type", as_on_an_old_device)
    said = says("begun in bf16", "no bf16", "32 bits")
    with pytest.warns(UserWarning, match=said):
        history = resume_run(begun_in_16_bits)
    assert len(history["dice"]) == 2 and bits(begun_in_16_bits) == "torch.float32"
    assert read_plan(begun_in_16_bits).amp == "bf16"  # as it was begun
    with pytest.warns(UserWarning, match=said):
        assert evaluate_run(begun_in_16_bits)["dice"] >= 0


def test_fp16_of_a_gpu_is_not_emulated_by_a_cpu(begun_in_16_bits, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", bool, raising=False)
    without_id(begun_in_16_bits)  # its plan may be changed
    for name, old, new in (
        ("recipe.json", '"amp": "bf16"', '"amp": "fp16"'),
        ("environment.json", '"device": "cpu"', '"device": "Tesla T4"'),
    ):
        text = (begun_in_16_bits / name).read_text()
        assert old in text
        (begun_in_16_bits / name).write_text(text.replace(old, new))
    with pytest.warns(UserWarning, match=says("fp16", "Tesla T4", "32 bits")):
        resume_run(begun_in_16_bits)
    assert bits(begun_in_16_bits) == "torch.float32"


def test_a_run_in_bf16_goes_on_with_fp16_on_a_t4(begun_in_16_bits, monkeypatch):
    "The CPU plays a T4: its formats are chosen as those of that card."
    cuda, chosen = torch.device("cuda"), gpu.amp_type
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    for module in (runs, recipes, engine):
        monkeypatch.setattr(module, "amp_type", lambda amp, device: chosen(amp, cuda))
    said = says("begun in bf16", "Tesla T4", "7.5", "fp16 will do")
    with pytest.warns(UserWarning, match=said):
        history = resume_run(begun_in_16_bits)
    assert len(history["dice"]) == 2 and bits(begun_in_16_bits) == "torch.float16"
    with pytest.warns(UserWarning, match=said):
        assert evaluate_run(begun_in_16_bits)["dice"] >= 0


@pytest.mark.parametrize(("capability", "kept"), [((6, 1), False), ((8, 0), "bf16")])
def test_a_format_is_kept_where_a_card_has_it(
    begun_in_16_bits, monkeypatch, capability, kept
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plan = read_plan(begun_in_16_bits)
        here = runs._format_here(begun_in_16_bits, plan, torch.device("cuda"))
    assert here == kept and len(told) == (kept is False)


# What older versions left


OLD = {
    "about": "Ten years later.",
    "net": asdict(NET) | {"variant": "paper"},
    "tile": 16,
    "tiles": 8,
    "batch": 2,
    "augment": "auto",
    "loss": "cross-entropy",
    "optimizer": {"name": "AdamW", "lr": 0.002, "weight_decay": 0.01},
    "schedule": "cosine",
    "warmup": 0.05,
    "accumulate": 2,
    "clip": 1.0,
    "ema": 0.99,
    "amp": "auto",
    "epochs": None,
    "patience": None,
    "watch": "pixel error",
    "kind": "isbi",
    "size": None,
    "seed": 0,
    "held_out": [2, 3],
    "name": None,
    "options": {},
    "steps": 6,
    "minutes": None,
}


def test_a_flat_recipe_of_an_older_version_is_still_read(stack, tmp_path):
    del OLD["net"]["variant"]  # it had none
    (tmp_path / "recipe.json").write_text(json.dumps(OLD | {"data": str(stack)}))
    (tmp_path / "environment.json").write_text('{"amp": "torch.float32"}')
    found = read_plan(tmp_path)
    assert (found.steps, found.epochs, found.held_out) == (6, None, (2, 3))
    assert found.amp is False and found.recipe.amp == "auto"
    assert found.recipe.augment == Augment("auto") and found.recipe.net == NET
    (tmp_path / "environment.json").write_text('{"amp": "torch.bfloat16"}')
    assert read_plan(tmp_path).amp == "bf16"


def test_an_older_run_in_bf16_is_read_where_there_is_no_bf16(
    stack, tmp_path, monkeypatch
):
    def refuse(amp, device):
        raise ValueError("this device has no bf16")

    monkeypatch.setattr(recipes, "amp_type", refuse)
    flat = OLD | {"amp": "bf16", "data": str(stack)}
    (tmp_path / "recipe.json").write_text(json.dumps(flat))
    assert read_plan(tmp_path).amp == "bf16"
    (tmp_path / "environment.json").write_text('{"amp": "torch.bfloat16"}')
    assert read_plan(tmp_path).amp == "bf16"


def test_a_run_of_an_older_version_goes_on_and_is_measured(stack, tmp_path):
    given = {"recipe": recipe(), "steps": 6, "held_out": [2, 3]}
    train_run("isbi", stack, tmp_path / "new", **given)
    for name in ("first", "old"):
        with pytest.raises(Stop):
            how = {"report": stop_at(0, 4), "save_every": 0}
            train_run("isbi", stack, tmp_path / name, **given, **how)
    flat = OLD | {"amp": False, "data": str(stack), "options": None}
    without_id(tmp_path / "old")
    (tmp_path / "old" / "recipe.json").write_text(json.dumps(flat))
    resume_run(tmp_path / "old")
    for name in ("old", "new"):
        without_id(tmp_path / name)
    assert_equal_runs(tmp_path / "old", tmp_path / "new")
    assert evaluate_run(tmp_path / "old") == evaluate_run(tmp_path / "new")


# What is read


class Counted:
    "A source that notes which images and labels are decoded."

    def __init__(self, source, seen):
        self.source, self.seen = source, seen

    def __getattr__(self, name):
        return getattr(self.source, name)

    def __len__(self):
        return len(self.source)

    def image(self, i, size=None):
        self.seen.append(("image", self.source.items[i].image.name))
        return self.source.image(i, size)

    def labels(self, i, size=None):
        self.seen.append(("labels", self.source.items[i].image.name))
        return self.source.labels(i, size)

    def size(self, i):
        with Image.open(self.source.items[i].image) as image:
            return image.size[::-1]

    def subset(self, indices):
        return Counted(self.source.subset(indices), self.seen)

    def split(self, held_out=None, seed=0):
        parts = self.source.split(held_out, seed)
        return tuple(Counted(part, self.seen) for part in parts)


@pytest.mark.parametrize("tile", [16, 64])  # windows; whole images
def test_only_what_is_held_out_is_read_to_measure(tmp_path, tile):
    images, options = folder_of_three_classes(tmp_path)
    options["classes"] = ["background", "left", "right"]
    values = recipe(tile=tile)
    out = tmp_path / "run"
    train_run("folder", images, out, values, steps=1, options=options, size=(32, 32))
    source = open_source("folder", images, **options)
    held_out = {item.image.name for item in source.split()[1].items}
    seen = []
    assert evaluate_run(out, Counted(source, seen)) == evaluate_run(out)
    assert {name for _, name in seen} == held_out
    assert len(seen) == 2 * len(held_out)  # image and labels


@pytest.mark.parametrize("tile", [16, 64])
def test_images_are_read_once_to_learn_and_to_note_what_was_learned(tmp_path, tile):
    images, options = folder_of_three_classes(tmp_path)
    options["classes"] = ["background", "left", "right"]
    source, seen = open_source("folder", images, **options), []
    out = tmp_path / "run"
    how = {"steps": 1, "size": (32, 32), "seed": 0}
    train_run("folder", Counted(source, seen), out, recipe(tile=tile), **how)
    assert len(seen) == len(set(seen)) == 2 * len(source)
    _, notes = load_net(out / "last.safetensors")
    assert notes["learned"] == measure_learned(source.split()[0], (32, 32))


def test_only_the_weight_maps_of_what_is_held_out_are_made(
    stack, tmp_path, monkeypatch
):
    from unet_tutorial.data import crops

    train_run("isbi", stack, tmp_path / "run", recipe("paper"), steps=1)
    made, honest = [], crops.weight_map
    monkeypatch.setattr(crops, "weight_map", lambda x: made.append(1) or honest(x))
    evaluate_run(tmp_path / "run")
    assert len(made) == len(open_source("isbi", stack).split()[1])


def test_images_are_not_decoded_to_learn_their_size(tmp_path):
    images, options = folder_of_three_classes(tmp_path)
    seen = []
    source = Counted(open_source("folder", images, **options), seen)
    assert recipes.usual_size("folder", source) == (240, 240)
    assert recipes._taken_whole(plan(recipe=recipe(tile=32)), source)
    assert not recipes._taken_whole(plan(recipe=recipe(tile=31)), source)
    assert seen == []


def test_the_size_is_settled_when_a_run_begins(tmp_path):
    images, options = folder_of_three_classes(tmp_path)
    options["classes"] = ["background", "left", "right"]
    train_run("folder", images, tmp_path / "run", recipe(), steps=1, options=options)
    assert read_plan(tmp_path / "run").size == (240, 240)


def test_masks_may_have_moved(tmp_path):
    images, options = folder_of_three_classes(tmp_path)
    options["classes"] = ["background", "left", "right"]
    out, moved = tmp_path / "run", tmp_path / "elsewhere"
    train_run("folder", images, out, recipe(), steps=1, options=options)
    before = evaluate_run(out)
    (tmp_path / "truth").rename(moved)
    with pytest.raises(FileNotFoundError):
        evaluate_run(out)
    assert evaluate_run(out, masks=moved) == before
    resume_run(out, options={"masks": str(moved)})


def test_masks_elsewhere_are_for_folders(stack, tmp_path):
    train_run("isbi", stack, tmp_path / "run", recipe(), steps=1)
    with pytest.raises(ValueError, match=says("masks=", "folder", "isbi")):
        evaluate_run(tmp_path / "run", masks=stack)


def test_options_that_json_cannot_keep_are_refused(tmp_path):
    images, options = folder_of_three_classes(tmp_path)
    options |= {"classes": ["background", "left", "right"], "group": str}
    with pytest.raises(TypeError, match=says("recipe.json", "open_source")):
        train_run("folder", images, tmp_path / "run", recipe(), options=options)
    assert not (tmp_path / "run").exists()


def test_a_run_says_what_it_is_about_to_do(stack, tmp_path):
    told, out = [], tmp_path / "run"

    def announce(text):
        assert not (out / "last.safetensors").exists()
        told.append(text)

    with pytest.raises(Stop):
        how = {"announce": announce, "report": stop_at(1, 0), "save_every": 0}
        train_run("isbi", stack, out, recipe(), epochs=3, **how)
    expected = [
        "3 to learn from, 2 held out",
        "32 x 32 pixels, as they",
        "on cpu in 32",
    ]
    assert says(*expected, "3 epochs, 6 steps", "2 steps").search(told[0])
    resume_run(out, announce=told.append)
    assert any("2 steps done" in text for text in told[1:])


# In a notebook


def test_the_live_figure_is_replaced_in_place(monkeypatch):
    shown = []

    class Handle:
        def update(self, picture):
            shown.append(("updated", picture.data))

    def display(picture, display_id):
        assert display_id is True
        shown.append(("shown", picture.data))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    show, png = report.live_figure(), b"\x89PNG\r\n\x1a\n"
    show(png + b"1"), show(png + b"2")
    assert shown == [("shown", png + b"1"), ("updated", png + b"2")]
