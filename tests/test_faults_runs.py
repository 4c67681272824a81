"""Runs under faults: two writers, files of other runs, damage, full disks, signals."""

import functools
import json
import os
import random
import shutil
import signal
import tempfile
import time
import warnings
import zipfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from conftest import wait_for
from PIL import Image
from processes import forked
from samples import names, without_id

from unet_tutorial import cli
from unet_tutorial.data.loader import end_workers, make_loader
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.runs import logbook, owner, report, results
from unet_tutorial.runs.checkpoint import load_state
from unet_tutorial.runs.recipes import Net, as_dict, read_plan, read_recipe
from unet_tutorial.runs.run import (
    begin_or_resume,
    evaluate_run,
    resume_run,
    train_run,
)
from unet_tutorial.runs.weights import load_net, read_tensors, write_tensors

HERE = Path(__file__).parent
NET = Net(base_channels=1, depth=1, padding=1, norm="batch", dropout=0.3)
SMALL = {"net": NET, "tile": 16, "tiles": 4, "batch": 2, "augment": None, "amp": False}
FILES = "best.safetensors", "last.safetensors", "history.csv", "recipe.json"
CASES = {}


def case(function):
    "Put a function into the table, under its name in words."
    CASES[function.__name__.replace("_", " ")] = function
    return function


# What the cases share


def data(folder):
    "Four images and their masks, in two folders."
    numbers = np.random.default_rng(0)
    for number in range(0 if (folder / "masks" / "3.png").exists() else 4):
        mask = np.kron(numbers.integers(0, 2, (4, 4)), np.ones((4, 4))).astype(np.uint8)
        for name, pixels in (("images", 200 * mask + number), ("masks", 255 * mask)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder / "images", {"masks": str(folder / "masks")}


@contextmanager
def quiet():
    "No pictures, which take longest, no bars, and warnings in a list."
    with (
        patch.object(report, "draw_run", lambda *args: b""),
        redirect_stdout(StringIO()),
        redirect_stderr(StringIO()),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        yield told


def train(out, where, go=train_run, **options):
    images, masks = data(where)
    recipe = replace(read_recipe("modern"), **SMALL)
    asked = {"recipe": recipe, "epochs": 2, "size": (16, 16), "save_every": 0}
    asked |= {"options": masks, "device": "cpu", "workers": 0}
    with quiet() as told:
        go("folder", images, out, **asked | options)
    return [str(warning.message) for warning in told]


def resume(out, go=resume_run, **options):
    "Go on; what was warned of."
    with quiet() as told:
        go(out, device="cpu", **options)
    return [str(warning.message) for warning in told]


def measure(*where, **options):
    with quiet():
        return evaluate_run(*where, **options)


@functools.cache
def _made(seed):
    place = tempfile.TemporaryDirectory()
    train(Path(place.name, "run"), Path(place.name), seed=seed)
    return place


def run(folder, seed=0):
    "A copy of a run that is done, beside its data."
    shutil.copytree(Path(_made(seed).name, "run"), folder)
    return folder


class Stop(Exception):
    pass


def stopped(folder, epoch=1, batch=2, seed=0):
    "A run that was stopped in the middle, by an error."

    def fail(training, row):
        if (training.epoch, training.batch) == (epoch, batch):
            raise Stop

    with suppress(Stop):
        train(folder, Path(_made(0).name), seed=seed, report=fail)
    return folder


def refused(kind, *words):
    "A context: an error of this kind must come, with these words."
    pattern = "(?s)" + "".join(f"(?=.*{word})" for word in words)
    return pytest.raises(kind, match=pattern)


def same(a, b):
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in FILES)


def fits(told, *words):
    return any(all(word in text for word in words) for text in told)


def long(out, **options):
    "Work for a child process: a long run that saves after each step."
    _made(0)  # what is imported at first use is imported here, for all children

    def stepped(training, row):
        (out.parent / "stepped").touch()

    def work():
        try:
            train(out, out.parent, epochs=10**5, report=stepped, **options)
        except KeyboardInterrupt as error:
            print(error)
            return 128 + getattr(error, "number", 2)
        return 0

    return work


POSIX = hasattr(os, "fork")
SOON, PATIENCE = 40, 120  # seconds; what takes one here may take ten elsewhere


# One folder, one writer


@case
def a_resume_beside_a_running_run(folder):
    if not POSIX:
        return
    out, log = folder / "run", folder / "log"
    with forked(long(out), log) as child:
        wait_for((out / "state.safetensors").exists)
        before = (out / "recipe.json").read_bytes()
        for go in (resume_run, functools.partial(resume_run, seed=0)):
            with refused(FileExistsError, f"process {child.pid} on", "since", "wait"):
                resume(out, go)
        with refused(FileExistsError, "is not replaced"):
            train(out, folder)
        assert child.is_alive() and before == (out / "recipe.json").read_bytes()
        child.kill()  # SIGKILL: its lock stays
        if hasattr(os, "waitid"):  # not on macOS
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert (out / owner.LOCK).exists()
        with refused(Stop):  # goes on at once
            resume(out, report=_fail)
    assert not (out / owner.LOCK).exists()


def _fail(training, row):
    raise Stop


@case
def two_trainings_at_the_same_moment(folder):
    if not POSIX:
        return
    out, gate = folder / "run", folder / "gate"
    train(folder / "first", folder, steps=1, epochs=None)  # which draws the data

    def work():
        wait_for(gate.exists)
        try:
            train(out, folder, epochs=3)
        except FileExistsError as error:
            print(error)
            return 9
        return 0

    with (
        forked(work, folder / "1") as one,
        forked(work, folder / "2") as two,
    ):
        gate.touch()
        one.join(PATIENCE), two.join(PATIENCE)
        assert sorted([one.exitcode, two.exitcode]) == [0, 9]
    told = (folder / "1").read_text() + (folder / "2").read_text()
    assert "is written by process" in told or "is not replaced" in told
    assert load_state(out / "state.safetensors")["progress"]["epoch"] == 3


def _lock(out, **changes):
    "A lock of this very process, changed."
    out.mkdir(exist_ok=True)
    with owner.locked(out):
        lock = json.loads((out / owner.LOCK).read_text())
    (out / owner.LOCK).write_text(json.dumps(lock | changes))


@case
def a_lock_of_a_process_whose_number_another_has_now(folder):
    out = run(folder / "run")
    _lock(out, born="long ago")
    assert resume(out) == [] and not (out / owner.LOCK).exists()


@case
def a_lock_of_a_process_that_is_gone(folder):
    for number in (2**22 + 5, 10**30, 0, -1):
        out = folder / str(number)
        _lock(out, pid=number)
        with owner.locked(out):
            assert json.loads((out / owner.LOCK).read_text())["pid"] == os.getpid()


@case
def an_empty_lock(folder):
    (folder / owner.LOCK).touch()
    with owner.locked(folder):
        pass
    assert names(folder) == []


@case
def a_lock_of_another_machine(folder):
    out = run(folder / "run")
    _lock(out, host="node7")
    with refused(FileExistsError, "on node7", "remove .*run.lock"):
        resume(out)
    assert (out / owner.LOCK).exists() and same(out, Path(_made(0).name, "run"))
    (out / owner.LOCK).unlink()
    assert resume(out) == []


@case
def a_file_of_ones_own_with_the_name_of_the_lock(folder):
    for text in ("do not touch", "[]", '{"pid": "x"}'):
        (folder / owner.LOCK).write_text(text)
        with refused(FileExistsError, "run.lock", "move it away"), owner.locked(folder):
            pass
        assert (folder / owner.LOCK).read_text() == text


@case
def a_lock_goes_after_an_error_and_after_ctrl_c(folder):
    out = stopped(folder / "run")
    assert owner.LOCK not in names(out)

    def ask(training, row):
        signal.raise_signal(signal.SIGINT)

    with refused(KeyboardInterrupt, "all is saved"):
        resume(out, report=ask)
    assert owner.LOCK not in names(out)
    with refused(ValueError, "begun with seed"):
        resume(out, seed=5)
    assert owner.LOCK not in names(out) and resume(out) == []


@case
def a_folder_that_could_not_be_begun_is_not_left(folder):
    with refused(ValueError, "batch"):
        train(
            folder / "new", folder, recipe=as_dict(read_recipe("modern")) | {"batch": 0}
        )
    with suppress(Stop), owner.locked(folder / "locked"):
        raise Stop
    assert not (folder / "new").exists() and not (folder / "locked").exists()


@case
def a_folder_that_cannot_be_made(folder):
    (folder / "file").write_text("mine")
    with refused(OSError, "file.run cannot be written", "another would work"):
        train(folder / "file" / "run", folder)
    assert (folder / "file").read_text() == "mine"


# Files that belong together


@case
def a_state_of_another_run(folder):
    out, other = stopped(folder / "run"), run(folder / "other", seed=1)
    shutil.copy(other / "state.safetensors", out)
    with refused(
        ValueError, "state.safetensors is of the run", "recipe.json of", "own"
    ):
        resume(out)


@case
def a_recipe_of_another_run(folder):
    out, other = stopped(folder / "run"), run(folder / "other", seed=1)
    shutil.copy(other / "recipe.json", out)
    with refused(ValueError, "state.safetensors is of the run", "recipe.json of"):
        resume(out)


@case
def a_net_of_another_run(folder):
    for name in ("best.safetensors", "last.safetensors"):
        out, other = stopped(folder / name), run(folder / f"other {name}", seed=1)
        shutil.copy(other / name, out)
        there = (out / name).read_bytes()
        with refused(ValueError, f"{name} is of the run", "recipe.json of"):
            resume(out)
        with refused(ValueError, f"{name} is of the run", "recipe.json of"):
            measure(out, weights=name.split(".")[0], device="cpu")
        (out / "state.safetensors").unlink()
        with refused(ValueError, f"{name} is of the run", "recipe.json of"):
            resume(out)
        assert (out / name).read_bytes() == there


@case
def a_net_of_another_epoch_of_the_same_run(folder):
    out, half = run(folder / "run"), stopped(folder / "half")
    shutil.copy(half / "last.safetensors", out)  # of the epoch before
    assert fits(resume(out), "last.safetensors is of epoch 1", "written again")
    assert same(out, Path(_made(0).name, "run"))


@case
def a_net_whose_numbers_are_not_in_the_history(folder):
    out = stopped(folder / "run")
    path = out / "best.safetensors"
    texts, tensors = read_tensors(path)
    notes = json.loads(texts["notes"])
    notes["measured"]["dice"] = 0.99
    write_tensors(path, texts | {"notes": json.dumps(notes)}, tensors, overwrite=True)
    assert fits(resume(out), "best.safetensors", "not the net of epoch 1")


@case
def a_plan_that_was_changed_by_hand(folder):
    out = run(folder / "run")
    text = (out / "recipe.json").read_text()
    for old, new in (('"seed": 0', '"seed": 5'), ('"epochs": 2,', '"epochs": 3,')):
        assert old in text
        (out / "recipe.json").write_text(text.replace(old, new))
        with refused(ValueError, "recipe.json was changed", "put the old file back"):
            resume(out)


@case
def a_run_of_an_older_version(folder):
    with zipfile.ZipFile(HERE / "run_of_an_older_version.zip") as file:
        file.extractall(folder)
    images, masks = data(folder)
    out = folder / "run"
    load_net(out / "best.safetensors")
    assert read_plan(out).id is None
    told = resume(out, data=images, options=masks)
    assert told == []
    assert load_state(out / "state.safetensors")["progress"]["epoch"] == 2
    assert len((out / "history.csv").read_text().splitlines()) == 3
    measure(out, images, masks=masks["masks"], device="cpu")


@case
def a_run_without_ids_goes_on_exactly(folder):
    out = without_id(stopped(folder / "run"))
    assert resume(out) == []
    whole = without_id(run(folder / "whole"))
    assert same(without_id(out), whole)


@case
def the_id_of_equal_commands_is_equal(folder):
    a, b = stopped(folder / "a", 0, 2), stopped(folder / "b", 0, 2)
    assert (a / "recipe.json").read_bytes() == (b / "recipe.json").read_bytes()
    other = run(folder / "c", seed=1)
    assert read_plan(a).id == read_plan(b).id != read_plan(other).id
    mark = owner.mark_of(a / "state.safetensors")
    assert mark == {"run": read_plan(a).id, "step": 0, "epoch": 0} | mark
    notes = owner.mark_of(other / "best.safetensors")
    assert notes["run"] == read_plan(other).id and notes["step"] > 0


# Damaged texts

DAMAGE = {
    "empty": b"",
    "a list": b"[]",
    "nothing in it": b"{}",
    "null": b"null",
    "a number": b"17",
    "a text": b'"recipe"',
    "cut off": b'{"recipe": {"about": "x", ',
    "NUL bytes": bytes(500),
    "not UTF-8": b'{"recipe": "\xff\xfe"}',
    "deep": b"[" * 100_000,
    "a recipe of null": b'{"recipe": null}',
    "a recipe that is a list": b'{"recipe": [1]}',
    "a recipe that is a name": b'{"recipe": "modern"}',
    "unknown keys": b'{"recipe": {}, "color": 3}',
    "twice": b'{"recipe": {}, "recipe": {}}',
    "old, of wrong types": b'{"net": 3, "epochs": [], "amp": {}}',
}


@case
def a_damaged_recipe_of_a_run(folder):
    out = run(folder / "run")
    for name, content in DAMAGE.items():
        (out / "recipe.json").write_bytes(content)
        for call in (resume, measure):
            with pytest.raises(ValueError) as caught:
                call(out)
            text = str(caught.value)
            assert str(out / "recipe.json") in text, (name, text)
            assert "Traceback" not in text and len(text) < 2000
        assert (out / "recipe.json").read_bytes() == content
    (out / "recipe.json").unlink()
    (out / "recipe.json").mkdir()
    with refused(ValueError, "recipe.json is a folder"):
        resume(out)
    (out / "recipe.json").rmdir()
    with refused(FileNotFoundError, "recipe.json"):
        resume(out)


@case
def a_value_of_a_wrong_type_in_a_recipe_of_a_run(folder):
    out = without_id(run(folder / "run"))
    path = out / "recipe.json"
    values = json.loads(path.read_text())
    wrong = [None, [], {}, "x", -1, 1.5, 10**400, float("nan"), float("inf"), True]
    allowed = 0
    for key in [*values, *(f"recipe/{name}" for name in values["recipe"])]:
        for value in wrong:
            plan = json.loads(json.dumps(values))
            inner = plan["recipe"] if "/" in key else plan
            inner[key.split("/")[-1]] = value
            path.write_text(json.dumps(plan))
            try:
                read_plan(out)
                allowed += 1
            except ValueError as error:
                assert str(path) in str(error)
                assert key.split("/")[-1] in str(error) or key == "recipe", error
    assert allowed < 0.3 * len(wrong) * (len(values) + len(values["recipe"]))


@case
def a_recipe_of_ones_own_that_is_damaged(folder):
    path = folder / "own.json"
    values = as_dict(read_recipe("modern"))
    for content in DAMAGE.values():
        path.write_bytes(content)
        with refused(ValueError, "own.json"):
            read_recipe(path)
    path.write_text(json.dumps(values | {"batch": "many"}))
    with refused(ValueError, "own.json", "batch is 'many'", "would work"):
        read_recipe(path)
    path.write_text("\N{BOM}" + json.dumps(values), encoding="utf-8")
    assert read_recipe(path) == read_recipe("modern")  # some editors begin so


def mutated(text, chance):
    "A text in which a few bytes were changed, left out, doubled or moved."
    text = bytearray(text)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        at, kind = chance.randrange(len(text)), chance.randrange(5)
        if kind == 0:
            text[at] = chance.randrange(256)
        elif kind == 1:
            text[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del text[at : at + chance.choice([1, 3, 40])]
        elif kind == 3:
            text[at:at] = text[at : at + chance.choice([1, 10, 80])]
        else:
            text[at:at] = chance.choice(
                [b"0", b"-", b"e9", b"null", b"[]", b"{}", b'"']
            )
        if not text:
            break
    return bytes(text)


@case
def three_thousand_mutations_of_a_recipe(folder):
    out = run(folder / "run")
    path = out / "recipe.json"
    text, plan, chance = path.read_bytes(), read_plan(out), random.Random(0)
    refused_ones = 0
    with path.open("r+b", 0) as file:
        for _ in range(3000):
            file.seek(0)
            file.truncate(file.write(mutated(text, chance)))
            try:
                assert read_plan(out) == plan  # or it means the same
            except ValueError as error:
                assert str(path) in str(error)
                refused_ones += 1
    assert refused_ones > 2000


@case
def a_damaged_environment(folder):
    out = run(folder / "run")
    for name in ("empty", "a list", "null", "NUL bytes", "not UTF-8", "cut off"):
        (out / "environment.json").write_bytes(DAMAGE[name])
        assert fits(resume(out), "environment.json is damaged", "written anew"), name
        assert json.loads((out / "environment.json").read_text())["device"] == "cpu"
    (out / "environment.json").write_text('{"device": 3}')
    assert resume(out) == []


@case
def a_damaged_history(folder):
    whole = Path(_made(0).name, "run")
    text = (whole / "history.csv").read_bytes()
    for content in (b"", text[:40], text[:-3]):  # what a crash may leave
        out = run(folder / str(len(content)))
        (out / "history.csv").write_bytes(content)
        assert resume(out) == [] and same(out, whole)
    for content in (b"mine, my notes\n1, good\n", bytes(100), b"\xff\xfe", text[::-1]):
        out = run(folder / f"other {len(content)} {content[0]}")
        (out / "history.csv").write_bytes(content)
        assert fits(resume(out), "history.csv", "history.1.csv") and same(out, whole)
        assert (out / "history.1.csv").read_bytes() == content


@case
def damaged_results(folder):
    path = folder / "own.csv"
    for content in (
        b"",
        bytes(100),
        b"\xff\xfea,b\n1,2\n",
        b"a,b\n1\n",
        b"a,b\n1,2,3\n",
    ):
        path.write_bytes(content)
        with (
            patch.object(results, "result_file", lambda name, folder: path),
            refused(ValueError, "own.csv"),
        ):
            results.read_results("own.csv")


# What is lost is said


@case
def a_best_net_that_is_empty_or_missing(folder):
    for number, spoil in enumerate((Path.unlink, lambda path: path.write_bytes(b""))):
        out = stopped(folder / str(number))
        spoil(out / "best.safetensors")
        what = ("is missing", "is empty")[number]
        with refused(
            (ValueError, FileNotFoundError), f"best.safetensors {what}", "1 epoch"
        ):
            measure(out, device="cpu")
        before = (out / "last.safetensors").read_bytes()
        told = resume(out)
        assert fits(told, "best.safetensors", what, "1 epoch was kept in state")
        if (out / "best.safetensors").is_file() and (
            out / "best.safetensors"
        ).stat().st_size:
            assert load_net(out / "best.safetensors")[1]["epoch"] == 2
        else:
            assert fits(told, "best.safetensors", what, "2 epochs were kept")
        assert (out / "last.safetensors").read_bytes() != before


@case
def a_best_net_that_goes_while_the_run_runs(folder):
    def spoil(training, row):
        best = folder / "run" / "best.safetensors"
        if row is None and training.epoch == 1 and training.batch == 2:
            best.write_bytes(b"")

    told = train(folder / "run", folder, report=spoil)
    best = (folder / "run" / "best.safetensors").stat().st_size
    assert best or fits(told, "best.safetensors is empty", "2 epochs were kept")
    if best:  # the second epoch was better
        assert load_net(folder / "run" / "best.safetensors")[1]["epoch"] == 2


@case
def a_last_net_is_written_again_from_the_state(folder):
    for spoil in (Path.unlink, lambda path: path.write_bytes(b"half")):
        out = run(folder / spoil.__name__)
        spoil(out / "last.safetensors")
        assert fits(resume(out), "last.safetensors", "written again")
        assert same(out, Path(_made(0).name, "run")) and resume(out) == []
        shutil.rmtree(out)


@case
def a_state_that_is_empty_or_missing(folder):
    out = run(folder / "run")
    (out / "state.safetensors").write_bytes(b"")
    with refused(ValueError, "state.safetensors is empty", "begins anew"):
        resume(out)
    (out / "state.safetensors").unlink()
    assert fits(resume(out), "no state.safetensors", "begins anew")
    assert same(out, Path(_made(0).name, "run"))


# What is not ours


@case
def files_of_ones_own_in_the_folder_of_a_new_run(folder):
    recipe = json.dumps(as_dict(replace(read_recipe("modern"), **SMALL)), indent=1)
    own = {"history.csv": "year,dice\n2015,0.9\n", "recipe.json": recipe}
    own |= {"environment.json": '{"name": "lab"}', "best.safetensors": "x"}
    for name, text in own.items():
        out = folder / name.split(".")[0]
        out.mkdir()
        (out / name).write_text(text)
        for go in (train_run, begin_or_resume):
            with refused((FileExistsError, ValueError), name):
                train(out, folder, go=go, recipe=read_recipe("modern"))
        assert names(out) == [name] and (out / name).read_text() == text


@case
def a_recipe_that_lies_in_the_folder_to_write(folder):
    out, (images, masks) = folder / "run", data(folder)
    out.mkdir()
    text = json.dumps(as_dict(replace(read_recipe("modern"), **SMALL)), indent=1)
    (out / "recipe.json").write_text(text)
    line = f"train --kind folder --data {images} --masks {masks['masks']} --out {out}"
    line += f" --recipe {out}/recipe.json --device cpu --steps 1"
    with quiet():
        assert cli.main(line.split()) == 1
        assert cli.main([*line.split(), "--resume-if-there"]) == 1
    assert names(out) == ["recipe.json"] and (out / "recipe.json").read_text() == text


@case
def a_run_that_failed_before_its_first_step_does_not_block(folder):
    def fail(plan):
        raise Stop

    with suppress(Stop):
        train(folder / "run", folder, announce=fail)
    assert names(folder / "run") == [
        "environment.json",
        "history.csv",
        "recipe.json",
        "split.json",
    ]
    assert train(folder / "run", folder, seed=3) == []


# Data that have moved


@case
def data_and_masks_that_have_moved_together(folder):
    train(folder / "run", folder / "here")
    (folder / "here").rename(folder / "there")
    for call in (resume, functools.partial(measure, device="cpu")):
        with refused(FileNotFoundError, "here", "--masks|--data"):
            call(folder / "run")
        call(folder / "run", data=folder / "there" / "images")


@case
def masks_that_have_moved_alone(folder):
    train(folder / "run", folder)
    (folder / "masks").rename(folder / "elsewhere")
    with refused(FileNotFoundError, "masks of .*run were in .*masks", "--masks"):
        resume(folder / "run")
    resume(folder / "run", options={"masks": str(folder / "elsewhere")})
    where = {"masks": folder / "elsewhere", "device": "cpu"}
    assert measure(folder / "run", **where)["loss"] > 0
    (folder / "images").rename(folder / "photos")
    with refused(FileNotFoundError, "data of .*run were in .*images", "--data"):
        measure(folder / "run", **where)
    assert measure(folder / "run", folder / "photos", **where)["loss"] > 0


@case
def masks_that_were_named_from_another_folder(folder):
    data(folder)
    before = Path.cwd()
    try:
        os.chdir(folder)
        train(folder / "run", folder, options={"masks": Path("masks")})
    finally:
        os.chdir(before)
    assert resume(folder / "run") == []


# Disks


def full(*moment):
    raise OSError(28, "No space left on device")


@case
def a_full_disk_while_a_run_saves(folder):
    out = folder / "run"

    def fill(training, row):
        if training.step == 3:
            patches.append(patch.object(logbook, "_write", full))
            patches[-1].start()

    patches = []
    try:
        with refused(OSError, "No space", "what was saved before is whole", "--resume"):
            train(out, Path(_made(0).name), report=fill)
    finally:
        patches[0].stop()
    assert owner.LOCK not in names(out)
    assert resume(out) == [] and same(out, Path(_made(0).name, "run"))


@case
def a_disk_on_which_small_files_still_fit(folder):
    if not POSIX:
        return
    import resource

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            train(folder / "run", folder, save_every=1e9)
        except OSError as error:
            print(error)
            return 7
        return 0

    data(folder)
    with forked(work, folder / "log") as child:
        child.join(PATIENCE)
        assert child.exitcode == 7
    told = (folder / "log").read_text()
    assert "state.safetensors is too large" in told and "--resume" in told
    assert {"best.safetensors", "last.safetensors"} <= {*names(folder / "run")}
    assert not [name for name in names(folder / "run") if "part" in name]
    assert fits(resume(folder / "run"), "no state.safetensors", "begins anew")


@case
def a_disk_that_is_full_at_the_last_save(folder):
    with (
        patch.object(logbook, "_write", full),
        refused(OSError, "No space", "resume_run"),
    ):
        train(folder / "run", folder, save_every=1e9)


@case
def a_folder_that_is_removed_while_a_run_writes(folder):
    out = folder / "run"

    def remove(training, row):
        if (training.epoch, training.batch) == (1, 2):
            out.rename(folder / "moved away")  # at once, with what is being written

    told = train(out, folder, report=remove)
    assert fits(told, "was removed while the run writes", "made again")
    assert {"recipe.json", "state.safetensors", "history.csv"} <= {*names(out)}
    assert all("None" not in text for text in told)
    assert resume(out) is not None


@case
def pictures_that_cannot_be_written(folder):
    images, masks = data(folder)
    recipe = replace(read_recipe("modern"), **SMALL)
    with (
        patch.object(report, "draw_run", full),
        redirect_stderr(StringIO()),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        asked = {"options": masks, "device": "cpu", "workers": 0, "size": (16, 16)}
        train_run("folder", images, folder / "run", recipe, steps=2, **asked)
    assert fits([str(warning.message) for warning in told], "pictures", "No space")
    assert (folder / "run" / "last.safetensors").is_file()


# Signals


def ended(folder, *signals, workers=0):
    "Send signals to a long run; its exit status, how long it took, what it said."
    out, log = folder / "run", folder / "log"
    with forked(long(out, workers=workers, save_every=1e9), log) as child:
        wait_for((folder / "stepped").exists)  # before, there is nothing to save
        start = time.monotonic()
        for number in signals:
            os.killpg(child.pid, number)
        child.join(PATIENCE)
        assert not child.is_alive()
        return child.exitcode, time.monotonic() - start, log.read_text()


def _saves(folder, number, workers):
    status, seconds, told = ended(folder, number, workers=workers)
    assert status == 128 + number and seconds < SOON, (status, seconds, told)
    assert "all is saved" in told and owner.LOCK not in names(folder / "run")
    step = int(told.split("stopped after ")[1].split()[0])
    assert load_state(folder / "run" / "state.safetensors")["progress"]["step"] == step


for _number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
    if POSIX:
        for _workers in (0, 2):
            _name = f"{_number.name} to the group of a run with {_workers} workers"
            CASES[_name] = functools.partial(_saves, number=_number, workers=_workers)


@case
def two_signals_end_a_run_at_once(folder):
    if POSIX:
        status, seconds, told = ended(folder, signal.SIGINT, signal.SIGINT)
        assert status == 130 and seconds < SOON and "saved" in told


def _workers_of(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(number) for number in found.read_text().split()]


def _is_quiet(path):
    "Whether a file has not been written for a while: what was read ahead is used up."
    return time.time() - path.stat().st_mtime > 0.7


def _stuck(folder, what, number):
    "Do something to the workers of a run, and ask it to stop."
    out, log = folder / "run", folder / "log"
    with forked(long(out, workers=2, save_every=0), log) as child:
        wait_for((out / "state.safetensors").exists)
        for worker in _workers_of(child.pid):
            os.kill(worker, what)
        wait_for(lambda: _is_quiet(out / "state.safetensors") or not child.is_alive())
        start = time.monotonic()
        if child.is_alive():
            os.kill(child.pid, number)
        child.join(PATIENCE)
        assert not child.is_alive()
        return child.exitcode, time.monotonic() - start, log.read_text()


@case
def a_stopped_worker_does_not_make_ctrl_c_wait(folder):
    if POSIX and Path("/proc/self/task").exists():
        with patch.object(logbook, "_PATIENCE", 0.5):
            found = _stuck(folder, signal.SIGSTOP, signal.SIGINT)
        status, seconds, told = found
        assert status == 130 and seconds < SOON and "all is saved" in told, found
        assert fits([told], "stopped after")
        load_state(folder / "run" / "state.safetensors")


@case
def a_killed_worker_ends_a_run_with_a_sentence(folder):
    if POSIX and Path("/proc/self/task").exists():
        with patch.object(logbook, "_PATIENCE", 0.5):
            status, seconds, told = _stuck(folder, signal.SIGKILL, signal.SIGINT)
        assert status in (1, 130) and seconds < SOON
        assert "DataLoader worker" in told or "all is saved" in told
        load_state(folder / "run" / "state.safetensors")


@case
def workers_end_although_one_is_stopped(folder):
    if not POSIX:
        return
    images = torch.utils.data.TensorDataset(torch.zeros(8, 1))
    how = {"multiprocessing_context": "fork"}
    loader = make_loader(images, 2, workers=2, **how)
    next(iter(loader))
    workers = loader._iterator._workers
    os.kill(workers[0].pid, signal.SIGSTOP)
    start = time.monotonic()
    end_workers(loader)
    assert time.monotonic() - start < 4
    assert not any(worker.is_alive() for worker in workers)
    assert len(list(loader)) == 4  # it can be gone through again
    end_workers(loader)


@case
def an_interrupted_run_that_waited_for_data_goes_on_exactly(folder):
    whole, out = Path(_made(0).name, "run"), folder / "run"

    honest, seen = ImagePairs.__getitem__, []

    def late(self, index):
        seen.append(index)
        if len(seen) == limit:
            raise logbook.Stuck
        return honest(self, index)

    for limit in (1, 4, 6):
        seen.clear()
        with (
            patch.object(ImagePairs, "__getitem__", late),
            refused(KeyboardInterrupt, "all is saved"),
        ):
            train(out, Path(_made(0).name), save_every=1e9)
        assert resume(out) == [] and same(out, whole), limit
        shutil.rmtree(out)


# The command


@case
def a_command_that_is_started_again_needs_no_data(folder):
    out = run(folder / "run")
    line = ["train", "--out", str(out), "--resume-if-there", "--device", "cpu"]
    with quiet():
        assert cli.main(line) == 0
    assert same(out, Path(_made(0).name, "run"))
    line[2] = str(folder / "nothing")
    told = StringIO()
    with quiet(), redirect_stderr(told):
        assert cli.main(line) == 1
    text = told.getvalue()
    assert "holds no run yet" in text and "--kind" in text and "--data" in text
    assert not (folder / "nothing").exists()


@case
def a_kind_that_the_data_are_not(folder):
    images, _ = data(folder)
    for kind in ("isbi", "ctc", "carvana", "pets", "nuclei"):
        told = StringIO()
        line = f"train --kind {kind} --data {images} --out {folder}/run --device cpu"
        with quiet(), redirect_stderr(told):
            assert cli.main(line.split()) == 1
        assert "error: " in told.getvalue() and str(images) in told.getvalue(), kind
        assert not (folder / "run").exists()


@case
def help_tells_the_exit_statuses(folder):
    for words in (["--help"], ["train", "--help"]):
        told = StringIO()
        with redirect_stdout(told):
            assert cli.main(words) == 0
        for status in ("0", "1", "2", "129", "130", "141", "143"):
            assert f" {status}" in told.getvalue()


@pytest.mark.parametrize("name", CASES)
def test_under_faults(name, tmp_path):
    CASES[name](tmp_path)
