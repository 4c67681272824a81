"""Training on: what stays of a net, what is compared, and what a run refuses."""

import hashlib
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import isbi, says, without_id

from unet_tutorial import cli
from unet_tutorial.data.datasets import open_source
from unet_tutorial.model import UNet
from unet_tutorial.runs import report, tuning
from unet_tutorial.runs import run as runs
from unet_tutorial.runs.recipes import Net, as_dict, read_plan, read_recipe, split
from unet_tutorial.runs.run import begin_or_resume, resume_run, train_run
from unet_tutorial.runs.weights import load_net, read_tensors, save_net, write_tensors

NET = Net(base_channels=2, depth=1, padding=1, norm="batch", dropout=0.0)
SMALL = {"net": NET, "tile": 16, "tiles": 8, "batch": 4, "epochs": 2, "amp": False}
RECIPE = replace(read_recipe("modern"), **SMALL)


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    "No pictures, and the CPU: there, runs are equal to the last bit."
    monkeypatch.setattr(report, "draw_run", lambda *args: b"")
    monkeypatch.setattr(runs, "pick_device", lambda wanted: torch.device("cpu"))
    monkeypatch.setattr(runs.planner, "time_step", lambda *args: 0.05)


def draw(folder, numbers, classes=2, channels=1):
    "Write images of bright squares, and their masks."
    for number in numbers:
        rng = np.random.default_rng(number)
        labels = np.zeros((32, 32), np.uint8)
        for value in range(1, classes):
            top, left = rng.integers(0, 20, 2)
            labels[top : top + 10, left : left + 10] = value
        image = np.uint8(60 + 60 * labels + rng.integers(0, 20, labels.shape))
        if channels > 1:
            image = np.repeat(image[..., None], channels, 2)
        for name, pixels in (("images", image), ("masks", labels)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return {"data": folder / "images", "options": {"masks": str(folder / "masks")}}


def bytes_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    "A run on six images."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_run", lambda *args: b"")
        patch.setattr(runs, "pick_device", lambda wanted: torch.device("cpu"))
        folder = tmp_path_factory.mktemp("first")
        where = draw(folder, range(6)) | {"size": "native"}
        train_run("folder", out=folder / "run", recipe=RECIPE, **where)
    return folder


@pytest.fixture
def home(first, tmp_path):
    "A copy of that run and its images."
    shutil.copytree(first, tmp_path / "home")
    plan = json.loads((first / "run" / "recipe.json").read_text())
    home = tmp_path / "home"
    plan |= {"data": str(home / "images"), "options": {"masks": str(home / "masks")}}
    plan["id"] = None
    path = home / "run" / "recipe.json"
    path.write_text(json.dumps(plan))
    known = runs.plan_id(read_plan(home / "run"))
    path.write_text(json.dumps(plan | {"id": known}))
    for file in (home / "run").glob("*.safetensors"):
        texts, tensors = read_tensors(file)
        for name in ("run", "notes"):
            if name in texts:
                texts[name] = texts[name].replace(read_plan(first / "run").id, known)
        write_tensors(file, texts, tensors, overwrite=True)
    return home


def tune(home, out="new", **options):
    said = []
    asked = {"epochs": 1, "start": home / "run", "announce": said.append} | options
    train_run(asked.pop("kind", None), asked.pop("data", None), home / out, **asked)
    return "\n".join(said)


# What stays


def test_weights_architecture_and_data_stay_and_the_old_run_is_only_read(home):
    before = bytes_of(home / "run")
    told = tune(home, rate=1e-12, epochs=1)
    assert bytes_of(home / "run") == before
    old, _ = load_net(home / "run" / "best.safetensors")
    new, _ = load_net(home / "new" / "last.safetensors")
    pairs = zip(old.parameters(), new.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    plan, begun = read_plan(home / "new"), read_plan(home / "run")
    assert plan.data == begun.data and plan.options["masks"] == str(home / "masks")
    assert plan.recipe.net == NET and plan.start["run"] == begun.id
    assert plan.start["checksum"] == tuning.read_old(home / "run").checksum
    file = (home / "run" / "best.safetensors").read_bytes()
    assert f"(SHA-256 {hashlib.sha256(file).hexdigest()[:16]}...)" in told
    assert plan.start["net"] == str(home / "run" / "best.safetensors")
    assert begun.id in told and "keep the old images in the folder" in told


def test_the_rate_is_a_tenth_or_as_asked_and_no_tenth_of_a_tenth(home):
    told = tune(home)
    recipe = read_plan(home / "new").recipe
    assert recipe.optimizer.lr == RECIPE.optimizer.lr / 10 and recipe.warmup == 0.05
    assert "0.0002, a tenth of the usual one" in told
    assert "0.003, as asked for" in tune(home, "own", rate=0.003)
    tune(home, "third", start=home / "new")
    assert read_plan(home / "third").recipe.optimizer.lr == recipe.optimizer.lr


def test_auto_takes_width_size_and_tile_of_the_old_run(home):
    said = []
    options = draw(home, range(6)) | {"size": (48, 48), "announce": said.append}
    train_run("folder", out=home / "resized", recipe=RECIPE, epochs=1, **options)
    told = tune(home, start=home / "resized", recipe="auto")
    plan = read_plan(home / "new")
    assert plan.name == "auto" and plan.recipe.net == NET and plan.recipe.tile == 16
    assert plan.size == (48, 48) and "48 x 48 pixels, image by image, as in its" in told
    assert told.count("\nnet: ") == 2  # how wide it is, and on which device
    assert "another scale" in tune(
        home, "native", start=home / "resized", size="native"
    )


@pytest.mark.parametrize("switch", [{"base_channels": 4}, {"depth": 2}, {"norm": None}])
def test_another_architecture_is_refused_by_name(home, switch):
    (name, value), old = next(iter(switch.items())), home / "run" / "best.safetensors"
    other = replace(RECIPE, net=replace(NET, **switch))
    sentence = says(name, f"is {value!r}", str(old), f"{getattr(NET, name)!r}")
    with pytest.raises(ValueError, match=sentence):
        tune(home, recipe=other)
    assert not (home / "new").exists()
    tune(home, recipe=replace(RECIPE, net=replace(NET, dropout=0.4)))


# What is new


def test_other_classes_get_a_new_head_and_no_comparison(home):
    where = draw(home / "three", range(5), classes=3)
    where["options"]["classes"] = ["background", "class 1", "class 2"]
    told = tune(home, kind="folder", **where)
    net, notes = load_net(home / "new" / "last.safetensors")
    assert net.num_classes == 3 and len(notes["classes"]) == 3
    assert "classes: 3 instead of 2" in told and "before the first epoch" not in told
    old, _ = load_net(home / "run" / "best.safetensors")
    kept = old.contracting.first.conv1.weight, net.contracting.first.conv1.weight
    assert torch.allclose(*kept, atol=0.01)
    last = told.split("\n")[-1]
    assert says("not compared", "background, object; now", "class 2").search(last)


def test_masks_that_lack_a_class_are_no_comparison(home):
    """Three classes before, two in the new masks, and nobody said --classes 2."""
    names = ["background", "class 1", "class 2"]
    where = draw(home / "three", range(5), classes=3)
    where["options"]["classes"] = names
    train_run("folder", out=home / "run3", recipe=RECIPE, size="native", **where)
    two = draw(home / "two", range(5, 10), classes=2)
    told = tune(home, "new3", start=home / "run3", kind="folder", **two)
    assert load_net(home / "new3" / "last.safetensors")[1]["classes"] == names
    sentence = says("NOT comparable", "no held-out mask has class 2", "--classes")
    assert sentence.search(told.split("\n")[-1]) and "better" not in told
    three = draw(home / "more", range(5, 10), classes=3)
    told = tune(home, "alike", start=home / "run3", kind="folder", **three)
    assert "NOT comparable" not in told and "of the net it began from" in told
    three["options"]["classes"] = ["background", "cell", "debris"]
    told = tune(home, "named", start=home / "run3", kind="folder", **three)
    assert "other names (background, class 1, class 2; now background, cell" in told


def test_other_channels_are_told(home):
    where = draw(home / "colours", range(5), channels=3)
    told = tune(home, kind="folder", **where)
    net, _ = load_net(home / "new" / "last.safetensors")
    assert net.in_channels == 3 and "channels: 3 instead of 1" in told
    assert "before the first epoch" in told


# What is compared


def test_nothing_that_the_old_net_learned_from_is_held_out(home):
    draw(home, range(6, 14))
    told = tune(home)
    before, now = (
        json.loads((home / name / "split.json").read_text()) for name in ("run", "new")
    )
    held = {*now["held out"]}
    assert {*before["held out"]} < held and held.isdisjoint(before["learned from"])
    assert len(held) == len(before["held out"]) + 2  # a quarter of eight
    assert {*before["learned from"]} < {*now["learned from"]}
    assert "learned from none of them" in told
    with pytest.raises(
        ValueError,
        match=says("held_out=11", "has not seen 10 images", "From 1 to 10 would"),
    ):
        tune(home, "many", held_out=11)


def test_what_was_seen_and_is_held_out_is_said(home):
    learned = json.loads((home / "run" / "split.json").read_text())["learned from"]
    told = tune(home, held_out=[int(min(learned)[:2])])
    assert says("1 of 1 images", "too good").search(told)
    single = shutil.copy(home / "run" / "best.safetensors", home / "net.safetensors")
    where = draw(home, range(6))
    told = tune(home, "single", kind="folder", start=single, **where)
    assert says("not known what that net has learned from", "too good").search(told)


def test_scores_of_old_images_alone_are_called_so(home):
    draw(home, [6, 7])  # too few for a quarter of them to be held out
    told = []
    train_run(None, None, home / "new", start=home / "run", announce=told.append)
    assert "0 new" in "".join(told) and "say nothing of them" in "".join(told)
    asked = {"start": home / "run", "held_out": 3}
    train_run(None, None, home / "newer", **asked, announce=told.append)
    assert "1 new" in "".join(told)


def test_another_image_of_the_same_name_is_new(home):
    learned = json.loads((home / "run" / "split.json").read_text())["learned from"]
    where = draw(home / "elsewhere", range(6), channels=3)
    old = tuning.read_old(home / "run")
    source = open_source("folder", where["data"], **where["options"])
    assert learned and tuning.hold_out(source, old) is None


def test_both_scores_are_told_and_which_is_better(home):
    told = tune(home, rate=0.01, epochs=2)
    before = float(told.split("pixel error ")[1].split()[0])
    text = f"of the net it began from {before:.3f}"
    assert text in told and told.index("before the first") < told.index(text)
    found = runs.evaluate_run(home / "run")["pixel error"]
    assert before == pytest.approx(found, abs=6e-4)  # the same images are held out


def test_grey_values_mean_the_same_as_in_the_old_training(tmp_path):
    where = draw(tmp_path, range(6)) | {"size": "native", "normalisation": "set"}
    train_run("folder", out=tmp_path / "run", recipe=RECIPE, **where)
    told = []
    asked = {"start": tmp_path / "run", "announce": told.append}
    train_run(None, None, tmp_path / "new", **asked)
    before, after = (read_plan(tmp_path / name) for name in ("run", "new"))
    assert after.normalisation == before.normalisation is not None
    assert "by mean and deviation of a training set, as in its training" in "".join(
        told
    )
    asked["normalisation"] = "image"
    train_run(None, None, tmp_path / "apart", **asked)
    assert read_plan(tmp_path / "apart").normalisation is None
    assert "image by image, not as in its training" in "".join(told)


def test_the_verdict_knows_which_way_is_up():
    assert "is better" in tuning.verdict("dice", 0.9, 0.8, "a")
    assert "NOT better, keep a" in tuning.verdict("dice", 0.8, 0.8, "a")
    assert "NOT better" in tuning.verdict("pixel error", 0.3, 0.2, "a")
    assert "no difference to speak of" in tuning.verdict("dice", 0.802, 0.8, "a")
    assert "NOT better" in tuning.verdict("dice", float("nan"), 0.8, "a")


# Going on


class Stop(Exception):
    pass


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_tuned_run_goes_on_exactly_even_if_the_old_one_is_gone(home, step):
    tune(home, "whole", epochs=2)

    def stop(training, row):
        if training.step == step:
            raise Stop

    options = {"report": stop, "save_every": 0}
    if step == 0:
        options = {"announce": lambda text: (_ for _ in ()).throw(Stop())}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, "_carry_out", lambda *args: stop(args[2], None))
            with pytest.raises(Stop):
                tune(home, "stopped", epochs=2)
    else:
        with pytest.raises(Stop):
            tune(home, "stopped", epochs=2, **options)
    shutil.rmtree(home / "run")
    said = []
    resume_run(home / "stopped", announce=said.append)
    names = "last.safetensors", "best.safetensors", "history.csv", "start.safetensors"
    for name in names:
        whole = (home / "whole" / name).read_bytes()
        assert (home / "stopped" / name).read_bytes() == whole, name
    assert "of the net it began from" in said[-1]


def test_a_run_that_goes_on_measures_no_image_again(home, monkeypatch):
    """The range of what was learned is in its net already."""

    def refuse(*args):
        raise AssertionError("measured again")

    file = home / "run" / "last.safetensors"
    _, before = load_net(file)
    monkeypatch.setattr(runs.far, "measure_learned", refuse)
    resume_run(home / "run")
    assert load_net(file)[1]["learned"] == before["learned"]
    file.unlink()
    with (
        pytest.raises(AssertionError, match="measured again"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        resume_run(home / "run")


def test_one_command_begins_and_goes_on(home):
    options = {"start": home / "run", "epochs": 1, "held_out": 2, "kind": None}
    history = begin_or_resume(data=None, out=home / "new", **options)
    assert begin_or_resume(data=None, out=home / "new", **options) == history
    other = save_net(home / "other.safetensors", UNet(1, 2, 2, 1, 1, "batch", 0.0))
    with pytest.raises(ValueError, match="was begun with start="):
        begin_or_resume(data=None, out=home / "new", **options | {"start": other})


def test_a_run_that_failed_before_its_first_step_does_not_block(home):
    def fail(text):
        raise Stop

    with pytest.raises(Stop):
        tune(home, announce=fail)
    assert "NOT better" in tune(home, rate=1e-12)


def test_a_changed_copy_is_noticed_and_costs_only_the_comparison(home):
    tune(home)
    other = UNet(1, 2, 2, 1, 1, "batch", 0.0)
    save_net(home / "new" / "start.safetensors", other, overwrite=True)
    with pytest.warns(UserWarning, match="not compared with the old net"):
        resume_run(home / "new", announce=print)
    (home / "new" / "state.safetensors").unlink()
    with warnings.catch_warnings(), pytest.raises(ValueError, match="plan of this fol"):
        warnings.simplefilter("ignore")
        resume_run(home / "new")


def test_a_net_of_an_older_version_is_as_good(home):
    path = home / "old.safetensors"
    texts, tensors = read_tensors(home / "run" / "best.safetensors")
    switches = json.loads(texts["unet"])
    for name in ("residual", "upsampling", "variant"):  # that it did not know
        switches.pop(name)
    texts |= {"unet": json.dumps(switches), "notes": json.dumps({"about": "squares"})}
    write_tensors(path, texts, tensors, overwrite=False)
    where = draw(home, range(6))
    told = tune(home, kind="folder", start=path, recipe="auto", **where)
    assert "that of its training is not known" in told and "before the first" in told
    without_id(home / "run")  # and a run that an older version left
    (home / "run" / "split.json").unlink()
    assert "not known what that net has learned from" in tune(home, "second")


def test_without_data_a_single_net_asks_for_them(home):
    path = shutil.copy(home / "run" / "best.safetensors", home / "net.safetensors")
    with pytest.raises(ValueError, match=says("net.safetensors", "--kind, --data")):
        tune(home, start=path)
    with pytest.raises(FileNotFoundError, match="a shipped net"):
        tune(home, start=home / "nothing")


def test_nothing_is_written_into_the_old_run(home):
    before = bytes_of(home / "run")
    for out in ("run", "run/inside"):
        with pytest.raises((ValueError, FileExistsError), match="new folder"):
            tune(home, out)
    assert bytes_of(home / "run") == before


def test_stacks_hold_out_the_same_slices(tmp_path):
    isbi(tmp_path / "stack", slices=6, size=32)
    asked = {"recipe": RECIPE, "epochs": 1}
    train_run("isbi", tmp_path / "stack", tmp_path / "run", **asked)
    assert "learned from none of them" in tune(tmp_path)
    first, second = (read_plan(tmp_path / name) for name in ("run", "new"))
    source = open_source("isbi", tmp_path / "stack")
    parts = [[part.items for part in split(p, source)] for p in (first, second)]
    assert parts[0] == parts[1] and second.kind == "isbi"


# A run that goes on is the run that was begun


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"rate": 0.05}, ["rate=0.002", "0.05", "--from", "--out NEW --rate 0.05"]),
        ({"epochs": 5}, ["epochs=2", "epochs=5", "--out NEW --epochs 3", "For less"]),
        ({"epochs": 1}, ["epochs=2", "epochs=1", "the best net is kept"]),
        ({"minutes": 3.0}, ["epochs=2, not minutes=3.0", "--out NEW --minutes 3"]),
        ({"size": (48, 64)}, ["size=None", "--out NEW --size 48x64"]),
        ({"start": "membranes"}, ["start=None", "another folder"]),
    ],
)
def test_resume_names_both_values_and_the_remedy(first, asked, sentence):
    before = bytes_of(first / "run")
    with pytest.raises(ValueError, match=says("run was begun with", *sentence)):
        resume_run(first / "run", **asked)
    assert bytes_of(first / "run") == before


def test_a_recipe_file_that_was_changed_is_not_overlooked(home):
    path = home / "own.json"
    path.write_text(json.dumps(as_dict(RECIPE)))
    where = draw(home, range(6))
    train_run("folder", out=home / "own", recipe=path, epochs=1, rate=0.01, **where)
    resume_run(home / "own", recipe=path, rate=0.01)
    changed = replace(RECIPE, optimizer=replace(RECIPE.optimizer, weight_decay=0.5))
    path.write_text(json.dumps(as_dict(changed)))
    with pytest.raises(ValueError, match=says("optimizer.weight_decay=0.01, not 0.5")):
        resume_run(home / "own", recipe=path)


def test_images_that_were_added_or_taken_away_are_noticed(home):
    draw(home, [6, 7])
    with pytest.raises(
        ValueError, match=says("others (2 new", "06.png", "train --from")
    ):
        resume_run(home / "run")
    for name in ("06.png", "07.png", "00.png"):
        (home / "images" / name).unlink()
        (home / "masks" / name).unlink()
    with pytest.raises(ValueError, match=says("1 missing", "00.png")):
        resume_run(home / "run")
    draw(home, [6])
    both = says("1 new, such as 06.png; 1 missing, such as 00.png", "or begin a new")
    with pytest.raises(ValueError, match=both):
        resume_run(home / "run")


def test_other_images_are_refused_in_one_sentence(home, capsys):
    where = draw(home / "other", range(20, 24))
    images, masks = str(where["data"]), where["options"]["masks"]
    words = ["train", "--resume", "--out", str(home / "run"), "--data", images]
    assert cli.main(words) == 1  # the masks of the run are not theirs
    told = capsys.readouterr().err
    way = f"train --from {home}/run --data {images} --masks DIR --out NEW"
    assert says("do not fit the masks", "--masks DIR (masks=)", way).search(told)
    assert told.count("add it") == 0 and told.count("\n") == 1
    assert cli.main([*words, "--masks", masks]) == 1
    told = capsys.readouterr().err
    way = f"train --from {home}/run --data {images} --masks {masks} --out"
    assert says("4 new, such as 20.png; 6 missing", way).search(told)
    assert cli.main([*way.split(), f"{home}/new", "--epochs", "1"]) == 0
    with pytest.raises(ValueError, match="do not fit the masks") as caught:
        runs.evaluate_run(home / "run", data=images)
    assert "To learn from them" not in str(caught.value)


def test_the_command(home, capsys):
    line = f"train --from {home}/run --out {home}/new --epochs 1 --rate 0.001"
    assert cli.main([*line.split(), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "begins from" in told and "of the net it began from" in told
    assert cli.main(["train", "--out", f"{home}/new", "--resume", "--rate", "0.1"]) == 1
    told = capsys.readouterr().err
    assert "rate=0.001, not 0.1" in told and f"--from {home}/new --out NEW" in told
    assert cli.main(["train", "--out", f"{home}/more"]) == 2
    assert "--from" in capsys.readouterr().err
    assert not Path(home, "more").exists()


@pytest.mark.parametrize("absolute", [False, True])
def test_paths_are_said_as_they_were_typed(home, monkeypatch, capsys, absolute):
    (home / "here").mkdir()
    monkeypatch.chdir(home / "here")
    monkeypatch.setattr(tuning, "watched", lambda row, watch: 0)  # never better
    place = f"{home}/" if absolute else "../"
    line = ["train", "--from", f"{place}run", "--out", f"{place}better", "--steps", "1"]
    assert cli.main(line) == 0
    told = capsys.readouterr().out
    assert f"begins from: {place}run/best.safetensors of" in told
    assert f"keep {place}run/best.safetensors. To try" in told
    assert f"{place}better is ready" in told
    assert absolute or str(home) not in told
    begun = json.loads((home / "better/recipe.json").read_text())["start"]["net"]
    assert Path(begun) == (home / "run/best.safetensors").resolve()
