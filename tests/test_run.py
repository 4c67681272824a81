"""Runs: a folder that is whole at any moment, and goes on exactly after any end."""

import csv
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import types

import numpy as np
import pytest
import torch
from PIL import Image
from samples import carvana, isbi, says

from unet_tutorial.data.crops import Whole, Windows, read_example
from unet_tutorial.data.datasets import open_source
from unet_tutorial.data.pipelines import membrane_pipeline
from unet_tutorial.model import UNet
from unet_tutorial.predict import Averaged, Predictor
from unet_tutorial.runs import recipes, report
from unet_tutorial.runs import run as runs
from unet_tutorial.runs.checkpoint import load_state
from unet_tutorial.runs.recipes import rate_factor, read_recipe, recipe_names
from unet_tutorial.runs.run import evaluate_run, resume_run, train_run
from unet_tutorial.runs.weights import load_net
from unet_tutorial.tiles import predict_tiled

NET = {"base_channels": 1, "depth": 1, "padding": 1, "norm": "batch", "dropout": 0.3}
MODERN = {"net": NET, "tile": 16, "tiles": 8, "batch": 2, "accumulate": 2, "epochs": 2}
MODERN["amp"] = False  # the same on any processor
PAPER = {"net": NET | {"padding": 0, "norm": None}, "tile": 20, "tiles": 6}


def recipe(name="modern", **values):
    return read_recipe(name) | (MODERN if name == "modern" else PAPER) | values


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


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_equal_runs(a, b):
    "Nets, history and state of two runs are equal; the time they took may differ."
    for name in ("last.safetensors", "best.safetensors", "history.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    states = [load_state(folder / "state.safetensors") for folder in (a, b)]
    for state in states:
        state["progress"].pop("seconds")
    assert same(*states)


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
    assert paper["optimizer"]["name"] == "SGD"
    assert paper["optimizer"]["momentum"] == 0.99
    assert (paper["tile"], paper["batch"]) == (572, 1)
    assert paper["loss"] == "weighted cross-entropy"
    sizes = [sum(w.numel() for w in net.parameters()) for net in (UNet(),)]
    assert sizes == [sum(w.numel() for w in UNet(**paper["net"]).parameters())]


def test_a_recipe_may_be_a_file(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(recipe(batch=3)))
    assert read_recipe(path)["batch"] == 3


def test_wrong_recipes_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=says("'moderm'", "modern, paper")):
        read_recipe("moderm")
    with pytest.raises(ValueError, match=says("['bach']", "read_recipe")):
        read_recipe(recipe() | {"bach": 2})
    with pytest.raises(ValueError, match=says("['batch']")):
        read_recipe({key: x for key, x in recipe().items() if key != "batch"})


@pytest.mark.parametrize(
    "key, value",
    [
        ("loss", "hinge"),
        ("augment", "all"),
        ("augment", {"turn": 20}),
        ("augment", {"name": "membranes", "trun": 20}),
        ("augment", {"name": "photographs", "turn": 20}),
        ("augment", {"name": "auto", "turn": 20}),
        ("schedule", "linear"),
        ("optimizer", {"name": "Lion"}),
    ],
)
def test_a_wrong_value_leaves_no_folder(stack, tmp_path, key, value):
    with pytest.raises(ValueError, match=says(key, "would work")):
        train_run("isbi", stack, tmp_path / "run", recipe(**{key: value}))
    assert not (tmp_path / "run").exists()


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
    assert names(out) == (due + "state.safetensors").split()
    assert (
        len(history["pixel error"]) == 2
        and sum(row is not None for _, row in told) == 2
    )
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["dice"]) for row in rows] == history["dice"]
    plan = json.loads((out / "recipe.json").read_text())
    assert (
        plan["kind"] == "isbi" and plan["optimizer"] == read_recipe(name)["optimizer"]
    )
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
    plan = {"held_out": [2, 3], "seed": 0}
    learn, check = recipes._split(plan, open_source("isbi", stack))
    assert [item.page for item in check.items] == [2, 3]
    assert [item.page for item in learn.items] == [0, 5]  # the gap is left out


def test_a_run_stops_after_steps_or_minutes(stack, tmp_path):
    seen = []
    told = {"report": lambda training, row: seen.append(training.step)}
    train_run("isbi", stack, tmp_path / "a", recipe(accumulate=1), steps=5, **told)
    assert max(seen) == 5
    start = time.monotonic()
    train_run("isbi", stack, tmp_path / "b", recipe(), minutes=0.01, **told)
    assert time.monotonic() - start < 6
    with pytest.raises(ValueError, match=says("epochs=1", "steps=2", "one of them")):
        train_run("isbi", stack, tmp_path / "c", recipe(), epochs=1, steps=2)


def test_nothing_is_replaced(stack, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=says("thesis.txt", "resume_run")):
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
    resume_run(out)  # it is done: nothing changes
    assert_equal_runs(out, whole)


def test_workers_change_nothing(stack, whole, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Stop):
        how = {"workers": 2, "save_every": 0}
        train_run("isbi", stack, out, recipe(), epochs=3, report=stop_at(1, 2), **how)
    resume_run(out, workers=2)
    assert_equal_runs(out, whole)


def test_a_state_in_channels_last_goes_on_exactly(stack, tmp_path):
    values = recipe(
        net=NET | {"base_channels": 4}, optimizer={"name": "AdamW", "lr": 0.01}
    )
    train_run("isbi", stack, tmp_path / "a", values, epochs=2)
    with pytest.raises(Stop):
        train_run("isbi", stack, tmp_path / "b", values, epochs=2, report=stop_at(1, 0))
    resume_run(tmp_path / "b")
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
    resume_run(out, kind="isbi", epochs=1, seed=3, recipe=recipe(epochs=1), steps=None)
    for wrong in ({"epochs": 2}, {"seed": 1}, {"size": (32, 32)}, {"recipe": "paper"}):
        with pytest.raises(ValueError, match=says("run was begun with", "goes on as")):
            resume_run(out, **wrong)


@pytest.mark.parametrize(("kind", "name"), [("isbi", "membranes"), ("ctc", "modern")])
def test_the_usual_recipe_is_that_of_the_kind(tmp_path, monkeypatch, kind, name):
    monkeypatch.setattr(runs, "_open", lambda plan, data: None)
    monkeypatch.setattr(runs, "_run", lambda out, plan, *rest: plan)
    assert train_run(kind, tmp_path, tmp_path / "run")["name"] == name
    assert train_run(kind, tmp_path, tmp_path / "run", "paper")["name"] == "paper"


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
    with pytest.raises(ValueError, match=says("state.safetensors", "checksum")):
        resume_run(out)


def test_a_full_disk_keeps_the_last_state(stack, whole, tmp_path, monkeypatch):
    out, honest = tmp_path / "run", os.fsync

    def report(training, row):
        if training.step == 4:
            monkeypatch.setattr(os, "fsync", full)

    def full(handle):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=says("No space", "run")):
        how = {"report": report, "save_every": 0}
        train_run("isbi", stack, out, recipe(), epochs=3, **how)
    assert not list(out.glob("*.part"))
    monkeypatch.setattr(os, "fsync", honest)
    resume_run(out)
    assert_equal_runs(out, whole)


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


def test_no_minutes_at_all_are_refused(stack, tmp_path):
    for minutes in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            train_run("isbi", stack, tmp_path / "run", recipe(), minutes=minutes)


def test_a_crash_file_is_there_while_a_run_runs(stack, tmp_path):
    seen = []
    out = tmp_path / "run"
    told = {"report": lambda *args: seen.append((out / "crash.txt").exists())}
    train_run("isbi", stack, out, recipe(), epochs=1, **told)
    assert all(seen) and not (out / "crash.txt").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_run_that_is_killed_again_and_again_ends_the_same(stack, whole, tmp_path):
    fork, out = multiprocessing.get_context("fork"), tmp_path / "run"
    how = {"save_every": 0}

    def child():
        if (out / "recipe.json").exists():
            resume_run(out, **how)
        else:
            train_run("isbi", stack, out, recipe(), epochs=3, **how)

    for wait in (0.05, 0.12, 0.2, 0.16):
        process = fork.Process(target=child)
        process.start()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if (out / "state.safetensors").exists():
            load_state(out / "state.safetensors")  # it is never half a file
    child()
    assert_equal_runs(out, whole)


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
