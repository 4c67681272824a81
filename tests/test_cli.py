"""The command line: what is typed, what is called and said, and the exit status."""

import json
import os
import re
import signal
import subprocess
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import carvana, ctc, isbi, save, says

from unet_tutorial import __version__, cli, draw_membranes
from unet_tutorial.cli import COMMANDS, Command, build_parser, main
from unet_tutorial.data import check, download, far
from unet_tutorial.data.pairs import Problem
from unet_tutorial.predict import Averaged
from unet_tutorial.runs import guards, report
from unet_tutorial.runs.checkpoint import load_state
from unet_tutorial.runs.recipes import Net, as_dict, read_recipe

ROOT = Path(__file__).resolve().parent.parent
NAMES = "get check pages masks train enough evaluate predict report".split()
NAMES += "export package doctor".split()


def child(code_or_module, *arguments, **options):
    "Run Python on this clone's library; `-m unet_tutorial` if it is a module's name."
    how = "-m" if code_or_module == "unet_tutorial" else "-c"
    return subprocess.run(
        [sys.executable, how, code_or_module, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        timeout=600,
        **options,
    )


def module(monkeypatch, name, **functions):
    "Put a module with these functions where the commands look for it."
    fake = types.ModuleType(f"unet_tutorial.{name}")
    vars(fake).update(functions)
    monkeypatch.setitem(sys.modules, f"unet_tutorial.{name}", fake)


@pytest.fixture
def command(monkeypatch):
    "command(run) makes a command `try` that runs this function."

    def make(run):
        made = Command("try it", "now", lambda parser: None, run)
        monkeypatch.setitem(COMMANDS, "try", made)

    return make


# Help and usage


def test_the_commands_are_those_of_the_course(capsys):
    assert list(COMMANDS) == NAMES
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(re.search(rf"^    {name} ", told, re.MULTILINE) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_examples_that_parse(name, capsys):
    assert main([name, "--help"]) == 0
    told = capsys.readouterr().out
    examples = re.findall(r"^  unet-tutorial (.*)$", told, re.MULTILINE)
    assert examples and "--debug" in told
    for example in examples:
        assert example.split()[0] == name
        assert callable(build_parser().parse_args(example.split()).run)


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"unet-tutorial {__version__}\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["COMMAND"]),
        ("fly", ["fly", "predict"]),
        ("get", ["NAME"]),
        ("get isbn", ["isbn", "isbi"]),
        ("check", ["IMAGES"]),
        ("check a --classes 1", ["--classes", "'1'", "from 2 on"]),
        ("check a --range 3", ["--range", "LOW"]),
        ("train --kind isbi --data a --out b --workers -1", ["-1"]),
        ("train --kind isbi --data a --out b --range 0 9", ["--kind folder"]),
        ("predict run a.png --to b --views 3", ["3", "8"]),
        ("train --kind isbi --data a --out b --seed x", ["'x'"]),
        ("train --kind isbi --data a", ["--out"]),
        ("train --out a", ["--kind", "--data", "--resume"]),
        ("train --out a --kind isbi", ["--data"]),
        ("train --out a --kind fmri --data b", ["fmri", "carvana"]),
        ("train --out a --kind isbi --data b --size 160", ["'160'", "160x240"]),
        ("train --out a --kind isbi --data b --size 0x9", ["'0x9'"]),
        ("train --out a --kind isbi --data b --epochs 1 --steps 2", ["not allowed"]),
        ("train --out a --kind isbi --data b --steps -3", ["-3"]),
        ("enough --data a", ["--out"]),
        ("enough --data a --out b --seeds 1", ["--seeds", "from 2 on"]),
        ("evaluate", ["RUN"]),
        ("predict run --to a", ["IMAGE"]),
        ("predict run a.png", ["--to"]),
        ("predict run a.png --to b --write film", ["film", "overlay"]),
        ("export run", ["--to"]),
        ("package run", ["--to"]),
        ("report", ["RUN"]),
        ("doctor --fast", ["--fast"]),
        ("predict run new --too nm", ["required: --to;", "--too", "mean --to?"]),
        ("predict run a --to b --overwite", ["--overwite", "mean --overwrite?"]),
    ],
)
def test_wrong_usage_is_2_and_says_what_would_work(line, words, capsys):
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == "" and says("usage: unet-tutorial", *words).search(told.err)


def test_options_of_an_unknown_command_are_not_called_unknown(capsys):
    assert main("trian --kind isbi".split()) == 2
    assert "no option" not in capsys.readouterr().err


def test_help_waits_for_nothing_heavy():
    code = "import sys; from unet_tutorial.cli import main; main(['--help'])\n"
    code += "print({'torch', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules))"
    done = child(code)
    assert done.stdout.decode().splitlines()[-1] == "set()", done.stderr


def test_python_m_is_the_same():
    done = child("unet_tutorial", "get", "isbn")
    assert done.returncode == 2 and b"usage: unet-tutorial get" in done.stderr
    done = child("unet_tutorial", "--version")
    assert done.returncode == 0 and done.stdout.decode().split()[1] == __version__


# Errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.png is empty"), "error: a.png is empty"),
        (FileNotFoundError(2, "No such file", "a.png"), "a.png: no such file"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ImportError("pip install kagglehub"), "error: pip install kagglehub"),
        (
            FileExistsError("a: overwrite=True replaces it"),
            "a: --overwrite replaces it",
        ),
        (RuntimeError("two\n  lines"), "error: two lines"),
        (ValueError("one.\ntwo"), "error: one. two"),
        (ValueError("b.png...; an epoch must"), "b.png...; an epoch must"),
        (KeyError("best"), "error: KeyError: 'best' (--debug shows where)"),
        (ZeroDivisionError(), "error: ZeroDivisionError:  (--debug shows where)"),
        (ValueError(), "error: ValueError:  (--debug shows where)"),
    ],
)
def test_an_error_is_one_line(error, line, command, capsys):
    def run(args):
        raise error

    command(run)
    assert main(["try"]) == 1
    told = capsys.readouterr()
    assert told.out == "" and line in told.err and told.err.count("\n") == 1
    for arguments in (["try", "--debug"], ["--debug", "try"]):
        with pytest.raises(type(error)):
            main(arguments)


def test_lines_of_an_error_are_told_apart(command, capsys):
    def fail(args):
        raise ValueError("no mask: a.png\n\nno image:  b.png.\nBoth are needed")

    command(fail)
    assert main(["try"]) == 1
    line = "error: no mask: a.png; no image: b.png. Both are needed\n"
    assert capsys.readouterr().err == line


def test_a_warning_is_one_line(command, capsys):
    def run(args):
        warnings.warn("it will\n be slow", stacklevel=1)
        return 0

    before = warnings.showwarning
    command(run)
    assert main(["try"]) == 0 and warnings.showwarning is before
    assert capsys.readouterr().err == "warning: it will be slow\n"


def test_the_exit_status_is_that_of_the_command(command):
    for status in (0, 1):
        command(lambda args, status=status: status)
        assert main(["try"]) == status


def test_ctrl_c_is_130(command, capsys):
    def run(args):
        raise KeyboardInterrupt("saved: --resume goes on")

    command(run)
    assert main(["try"]) == 130
    assert capsys.readouterr().err == "saved: --resume goes on\n"


COMMAND = """
import sys
from unet_tutorial.cli import COMMANDS, Command, main
def run(args):
    {run}
    return 0
COMMANDS["try"] = Command("try it", "", lambda parser: None, run)
sys.exit(main(["try"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="no such signals on this system")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_a_command_as_ctrl_c_does(command, name, capsys):
    number, tidied = getattr(signal, name), []

    def run(args):
        try:
            signal.raise_signal(number)
        finally:
            tidied.append(name)

    command(run)
    before = signal.signal(number, signal.SIG_DFL)  # also below nohup
    try:
        assert main(["try"]) == 128 + number and tidied == [name]
        assert signal.getsignal(number) == signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # what nohup does
        assert main(["try"]) is None
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == "stopped\n"


def test_what_fails_because_it_was_interrupted_is_no_error(command, capsys):
    def run(args):
        try:
            signal.raise_signal(signal.SIGINT)  # in the middle of an import
        except KeyboardInterrupt:
            raise RecursionError("maximum recursion depth exceeded") from None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command(run)
        assert main(["try"]) == 130 and capsys.readouterr().err == "stopped\n"
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reader_that_goes_away_is_no_error():
    code = COMMAND.format(run="[print('a' * 100) for _ in range(10_000)]")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": env}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as run:
        run.stdout.readline()
        run.stdout.close()
        assert (run.wait(600), run.stderr.read()) == (141, b"")


def test_any_name_can_be_printed():
    done = child(COMMAND.format(run=r"print('scan_\udcff.png')"))
    assert done.returncode == 0 and done.stdout.split() == [b"scan_\\udcff.png"]


def test_a_log_has_no_progress_bars():
    code = "from tqdm.auto import tqdm; [None for _ in tqdm(range(9))]; print('done')"
    done = child(COMMAND.format(run=code))
    assert done.stdout.split() == [b"done"] and done.stderr == b""


def test_a_native_crash_tells_the_line_of_python():
    done = child(COMMAND.format(run="import ctypes; ctypes.string_at(0)"))
    assert done.returncode not in (0, 1, 2)
    assert re.search(rb"(?s)(Fatal Python error|fatal exception).*in run", done.stderr)


# The commands


def test_get(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(download, "get", lambda *arguments: asked.append(arguments))
    assert main(["get", "isbi"]) == main(["get", "hela", "--to", "b"]) == 0
    assert asked == [("isbi", "data"), ("hela", "b")]


def test_get_says_what_went_wrong(monkeypatch, tmp_path, capsys):
    def refuse(*arguments, **options):
        raise ConnectionError("https://a.org/b.zip: HTTP Error 404: Not Found")

    monkeypatch.setattr(download, "download", refuse)
    assert main(["get", "isbi", "--to", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert told.err == "error: https://a.org/b.zip: HTTP Error 404: Not Found\n"
    assert "Terms of use" in told.out


@pytest.fixture
def folders(monkeypatch, tmp_path):  # the folder that holds a and b
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path


def test_check_of_no_folder_says_which_are_there(folders, capsys):
    (folders / "photos").mkdir()
    assert main(["check", "photo", "nowhere"]) == 1
    told = capsys.readouterr().err
    assert "photo is not a folder; . holds a, b, photos. Is it photos?" in told
    assert "usage" not in told


def test_check_of_one_folder_twice_and_of_empty_ones(folders, capsys):
    assert main(["check", "a", "b"]) == 1
    assert "a and b hold no images" in capsys.readouterr().err
    for number in range(2):
        Image.new("L", (16, 16), number).save(folders / f"a/{number}.png")
    assert main(["check", "a", "a"]) == 1
    assert "a and a are the same folder" in capsys.readouterr().err
    assert main(["check", "a", "b"]) == 1
    assert "b holds no images" in capsys.readouterr().err


def test_masks_in_colours_lead_to_python(folders, capsys):
    Image.new("L", (16, 16)).save(folders / "a/1.png")
    mask = Image.new("RGB", (16, 16))
    mask.putpixel((3, 3), (200, 0, 0))
    mask.save(folders / "b/1.png")
    assert main(["check", "a", "b"]) == 1
    told = capsys.readouterr().out
    assert "in Python, as no option does it: Image.fromarray(read_labels(" in told


def test_check(monkeypatch, folders, capsys):
    report = types.SimpleNamespace(pairs=[1, 2], problems=[], notes=[])
    report.notes = [Problem("is black", "look at it", {Path("b.gif"): ""})]
    report.share, report.unknown, report.suggested = 0.086, [], {}
    asked = []

    def check_pairs(*arguments, **options):
        asked.append((arguments, options))
        return report

    monkeypatch.setattr(check, "check_pairs", check_pairs, raising=False)
    assert main(["check", "a", "b", "--suffix", "_m", "--classes", "4"]) == 0
    values = {"values": None}
    assert asked.pop() == (("a", "b", "_m", 4, *[None] * 5, False, None, False), values)
    told = capsys.readouterr().out
    assert told == (
        "note: is black: b.gif; look at it\nobjects cover 8.6% of a mask, on average\n"
        "2 pairs without a problem\n"
    )
    files = {Path("a.jpg"): "", Path("b.jpg"): "3 bytes"}
    report.problems = [Problem("no mask", "add it", files)]
    assert main(["check", "a", "--instances"]) == 1
    assert asked.pop() == (("a", *[None] * 8, False, None, False), values)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "problem: 2 files: no mask: a.jpg, b.jpg (3 bytes); add it"
    assert told[1].startswith("note: ")
    assert main(["check", "a", "--instances", "--list"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "problem: no mask: a.jpg; add it"
    assert told[1] == "problem: no mask: b.jpg (3 bytes); add it"
    files = {Path(f"ignore={n}.jpg"): "channels=3" for n in range(300)}
    report.problems = [Problem("is deep", "value_range=(0, 9) would do", files)]
    assert main(["check", "a"]) == 1
    told = capsys.readouterr().out.splitlines()
    names = ", ".join(f"ignore={n}.jpg (--channels 3)" for n in range(3))
    assert told[0] == (
        f"problem: 300 files: is deep: {names} and 297 more; --range 0 9 would do"
    )


def test_check_of_deep_images_knows_what_is_black(tmp_path, capsys):
    for folder, top in (("a", 4000), ("b", 1)):
        pixels = np.full((9, 9), top, np.uint16)
        pixels[:4] = 0
        save(tmp_path / folder / "x.png", pixels)
    line = ["check", str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(line) == 1 and "--range 0 4095" in capsys.readouterr().out
    assert main([*line, "--range", "0", "4095"]) == 0


def test_advice_can_be_typed():
    text = cli._typed("num_classes=4, num_classes=None or suffix='_m'")
    assert text == "--classes 4, --instances or --suffix '_m'"


def test_advice_leaves_names_of_files_as_they_are(capsys):
    name = "runs/1e5/suffix=_a/ignore=255 and others"
    assert cli._typed(f"{name}: ignore=255") == f"{name}: --ignore 255"
    cli._announce("C:\\1e5\\channels=3 is ready; 1e5 is a folder")
    told = capsys.readouterr().out
    assert told == "C:\\1e5\\channels=3 is ready; 1e5 is a folder\n"
    assert cli._typed("classes=('a', 'b/c')") == "--classes 'a' 'b/c'"


def test_check_draws_a_picture_once(monkeypatch, folders, capsys):
    pytest.importorskip("unet_tutorial.runs.checkpoint")
    from unet_tutorial.show import plt, show_images

    def show():
        show_images([[[0, 1], [1, 0]]])

    report = types.SimpleNamespace(pairs=[1], problems=[], notes=[], show=show)
    report.unknown, report.suggested = [], {}
    report.share = None
    monkeypatch.setattr(check, "check_pairs", lambda *a, **b: report, raising=False)
    line = ["check", "a", "--picture", str(folders / "new" / "pairs.png")]
    assert main(line) == 0 and plt.get_fignums() == []
    assert [path.name for path in (folders / "new").iterdir()] == ["pairs.png"]
    assert main(line) == 1
    assert says("pairs.png", "--overwrite").search(capsys.readouterr().err)
    assert main([*line, "--overwrite"]) == 0
    report.pairs = []
    assert main([*line, "--overwrite"]) == 0
    assert "there is no pair without a problem" in capsys.readouterr().out


@pytest.fixture
def runs(monkeypatch):  # list of what train, resume and evaluate were asked
    asked = []

    def train_run(**options):
        report, announce = options.pop("report"), options.pop("announce")
        announce("images: 3")
        training = types.SimpleNamespace(epoch=3, step=9, seconds=1.0)
        report(training, None)
        report(training, {"train_loss": 0.25, "dice": 0.98765})
        asked.append(("train", options))

    def resume_run(**options):
        assert options.pop("report") and options.pop("announce")
        asked.append(("resume", options))

    def begin_or_resume(**options):
        asked.append(("begin or resume", options))

    def evaluate_run(run, **options):
        options.pop("announce")("measured on 2 images")
        report = options.pop("report")
        report("a.png", 0.75, 0.6)
        report("long name.png", None, None)
        given = {name: value for name, value in options.items() if value is not None}
        asked.append((run, given))
        return {"loss": 0.5, "dice": 0.98765}

    functions = [train_run, resume_run, begin_or_resume, evaluate_run]
    module(monkeypatch, "runs.run", **{each.__name__: each for each in functions})
    return asked


def test_train_asks_for_what_was_typed_and_no_more(runs, capsys):
    assert main("train --kind isbi --data a --out b".split()) == 0
    how = {"device": "auto", "workers": None}
    assert runs.pop() == ("train", {"out": "b", "kind": "isbi", "data": "a"} | how)
    told = capsys.readouterr().out
    lines = "images: 3\nepoch   3  train_loss 0.2500  dice 0.9877\nb is ready\n"
    lines += "next: unet-tutorial report b, or predict b IMAGES --to MASKS\n"
    assert told == lines
    line = (
        "train --kind carvana --data a --out b --size 160x240 --minutes 1.5 --seed 0 "
    )
    line += "--recipe paper --amp off --held-out 4 --device cpu --workers 2"
    assert main(line.split()) == 0
    _, asked = runs.pop()
    assert asked["size"] == (160, 240) and asked["minutes"] == 1.5
    assert asked["seed"] == 0 and asked["amp"] is False and asked["held_out"] == 4
    assert asked["device"] == "cpu" and asked["workers"] == 2
    line = "train --kind folder --data a --out b --range 0 4095"
    assert main(line.split()) == 0
    assert runs.pop()[1]["options"] == {"value_range": [0, 4095]}
    assert asked["recipe"] == "paper" and "epochs" not in asked


@pytest.mark.parametrize(
    ("typed", "amp"), [("on", True), ("bf16", "bf16"), ("auto", "auto")]
)
def test_train_with_mixed_precision(runs, typed, amp):
    assert main(f"train --kind isbi --data a --out b --amp {typed}".split()) == 0
    assert runs.pop()[1]["amp"] == amp


def test_a_command_that_is_started_again(runs):
    line = "train --kind isbi --data a --out b --resume-if-there --sync-batch-norm"
    assert main(line.split()) == 0
    name, options = runs.pop()
    assert name == "begin or resume" and options["sync_batch_norm"] is True


def test_resume_needs_nothing_but_the_folder(runs):
    assert main("train --out b --resume".split()) == 0
    assert runs.pop() == ("resume", {"out": "b", "device": "auto", "workers": None})
    assert main("train --out b --resume --data c --epochs 9".split()) == 0
    assert runs.pop()[1].items() >= {"data": "c", "epochs": 9}.items()


def test_evaluate(runs, capsys):
    assert main(["evaluate", "b"]) == 0
    assert runs.pop() == ("b", {"weights": "best", "device": "auto"})
    first, *told, last = capsys.readouterr().out.splitlines()
    assert first == "measured on 2 images" and "report b has" in last
    assert told[:2] == [
        "a.png          dice 0.7500  iou 0.6000",
        "long name.png  dice -  iou -",
    ]
    told = [line.split(maxsplit=2) for line in told[2:]]
    assert told == [["loss", "0.5000"], ["dice", "0.9877", "all pixels together"]]
    line = "evaluate b --data c --masks d --weights last --device cpu --json"
    assert main(line.split()) == 0
    where = {"data": "c", "options": {"masks": os.path.abspath("d")}}
    assert runs.pop() == ("b", where | {"weights": "last", "device": "cpu"})
    found = json.loads(capsys.readouterr().out)
    images = found.pop("images")
    assert images[0] == {"name": "a.png", "dice": 0.75, "iou": 0.6}
    assert images[1] == {"name": "long name.png", "dice": None, "iou": None}
    assert found == {"loss": 0.5, "dice": 0.98765, "said": "measured on 2 images"}
    line = (
        "evaluate b --data c --suffix _x,_y --threshold 0 --values 0,2,1 --ignore 255"
    )
    assert main([*line.split(), *"--only-annotated --channel 1 --invert".split()]) == 0
    assert runs.pop()[1]["options"] == {
        "suffix": ("_x", "_y"),
        "threshold": 0,
        "values": [0, 2, 1],
        "ignore": 255,
        "only_annotated": True,
        "channel": 1,
        "invert": True,
    }
    assert main("evaluate b --views 2".split()) == 0
    wrap = runs.pop()[1]["wrap"]
    assert wrap.func is Averaged and wrap.keywords == {"views": 2}


def test_a_folder_from_the_first_command_to_the_last(tmp_path, capsys):
    "What was typed, carried out: the run says first what it is about."
    carvana(tmp_path / "cars", ["a_01", "b_01", "c_01", "d_01"])
    (tmp_path / "masks").mkdir()
    for path in sorted((tmp_path / "cars").rglob("*_mask.gif")):
        path.rename(tmp_path / "masks" / path.name)
    where = f"--data {tmp_path}/cars --masks {tmp_path}/masks --out {tmp_path}/run"
    how = "--size 32x32 --steps 1 --device cpu --amp off"
    assert main(f"train --kind folder {where} {how}".split()) == 0
    told = capsys.readouterr().out.splitlines()
    begins = [line.startswith("images: 3 to learn from, 1 held out") for line in told]
    at = begins.index(True)
    assert told[at].endswith("pixels, resized to 32 x 32") and sum(begins) == 1
    assert told[0].startswith("classes: ") and "size: 32 x 32" in told[1]
    assert says("as asked for; objects are", "broad", "then still").search(told[1])
    assert says("weights, on cpu in 32 bits").search(told[at + 1])
    assert told[at + 2].startswith("length: 1 step; an epoch has")
    assert any(line.startswith("epoch   1  train_loss") for line in told)
    assert says("Otsu's threshold").search(told[-3])
    (tmp_path / "masks").rename(tmp_path / "elsewhere")
    moved = f"--masks {tmp_path}/elsewhere --device cpu"
    assert main(f"evaluate {tmp_path}/run --device cpu".split()) == 1
    assert main(f"evaluate {tmp_path}/run {moved}".split()) == 0
    assert main(f"train --out {tmp_path}/run --resume {moved}".split()) == 0


def test_the_walk_from_the_command_to_the_loop_is_short(tmp_path, monkeypatch):
    "From what was typed to the folder, the net, an item and the loop: 8 modules."
    monkeypatch.setattr(report, "draw_run", lambda *args: b"")  # leads aside, as do
    monkeypatch.setattr(guards, "first_checked", lambda batches, *args: batches)
    monkeypatch.setattr(far, "measure_learned", lambda *args: None)  # and this
    carvana(tmp_path / "cars", ["a_01", "b_01", "c_01", "d_01"])
    places = {"open_folder", "begin_training", "__getitem__", "train_one_epoch"}
    seen = {}

    def look(frame, event, argument):
        name = frame.f_code.co_name
        own = frame.f_globals.get("__name__", "").startswith("unet_tutorial")
        while event == "call" and name in places and own and frame:
            module = frame.f_globals["__name__"]
            if module.startswith("unet_tutorial."):
                seen.setdefault(module.removeprefix("unet_tutorial."), name)
            frame = frame.f_back

    line = f"train --kind folder --data {tmp_path}/cars --out {tmp_path}/run --steps 1"
    line += " --size 32x32 --device cpu --amp off --recipe modern"
    before = sys.getprofile()
    sys.setprofile(look)
    try:
        assert main(line.split()) == 0
    finally:
        sys.setprofile(before)
    walk = {"cli", "runs.run", "runs.recipes", "data.datasets", "data.photos", "train"}
    assert places == set(seen.values()) and walk <= seen.keys()
    assert len(seen) <= 8, sorted(seen)


def small_data(folder):
    "Write a stack and a small recipe."
    isbi(folder / "stack", slices=6, size=32)
    net = Net(base_channels=2, depth=1, padding=1, norm="batch", dropout=0.3)
    small = replace(read_recipe("modern"), net=net, tile=16, tiles=40, batch=2)
    (folder / "small.json").write_text(json.dumps(as_dict(small)))


@pytest.mark.skipif(os.name != "posix", reason="no SIGTERM on this system")
def test_a_run_ended_by_sigterm_goes_on_exactly(tmp_path):
    "In processes of their own, as a cluster would end them."
    small_data(tmp_path)
    command = [sys.executable, "-m", "unet_tutorial", "train", "--device", "cpu"]
    begin = ["--kind", "isbi", "--data", tmp_path / "stack", "--epochs", "8"]
    begin += ["--recipe", tmp_path / "small.json", "--amp", "off"]
    how = {"env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    subprocess.run([*command, *begin, "--out", whole], check=True, timeout=600, **how)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen([*command, *begin, "--out", ended], **pipes, **how)
    for line in run.stdout:
        if line.startswith("epoch   2"):
            run.send_signal(signal.SIGTERM)
    assert run.wait(600) == 143 and "--resume" in run.stderr.read()
    assert load_state(ended / "state.safetensors")["progress"]["epoch"] < 8
    resume = [*command, "--out", ended, "--resume"]
    subprocess.run(resume, check=True, timeout=600, **how)
    for name in ("history.csv", "last.safetensors", "best.safetensors"):
        assert (ended / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.skipif(os.name != "posix", reason="no terminals of this kind")
def test_a_closed_terminal_ends_a_run_in_order(tmp_path):
    "Its window is closed: what it prints goes nowhere, and it gets a SIGHUP."
    small_data(tmp_path)
    train = ["train", "--kind", "isbi", "--data", tmp_path / "stack", "--epochs", "999"]
    train += ["--recipe", tmp_path / "small.json", "--out", tmp_path / "run"]
    inside = (
        "import fcntl, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    )
    inside += "signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # also below nohup
    inside += "from unet_tutorial.cli import main; sys.exit(main())"  # its own terminal
    window, terminal = os.openpty()
    how = {"env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
    with open(tmp_path / "log", "w") as log:
        how |= {"stdin": terminal, "stdout": terminal, "stderr": log}
        command = [sys.executable, "-c", inside, *train, "--device", "cpu"]
        run = subprocess.Popen(command, start_new_session=True, **how)
    os.close(terminal)
    shown = b""
    while b"epoch   1" not in shown:
        shown += os.read(window, 1000)
    os.close(window)
    try:
        assert run.wait(600) == 128 + signal.SIGHUP
    finally:
        run.kill()
    told = (tmp_path / "log").read_text()
    assert "all is saved" in told and "--resume" in told and "Traceback" not in told
    step = int(told.split("stopped after ")[1].split()[0])
    saved = load_state(tmp_path / "run" / "state.safetensors")["progress"]
    assert saved["step"] == step and not (tmp_path / "run" / "crash.txt").exists()


def test_predict(monkeypatch, capsys):
    asked = []

    def predict_files(*arguments, **options):
        asked.append((arguments, options))
        return ["a_mask.png", "b_mask.png"]

    failed = type("SomeFailed", (ValueError,), {})
    module(monkeypatch, "deploy.folder", predict_files=predict_files, SomeFailed=failed)
    module(monkeypatch, "gpu", pick_device=lambda name: f"device {name}")
    assert main("predict run a.png b/* --to c".split()) == 0
    arguments, options = asked.pop()
    assert arguments == ("run", ["a.png", "b/*"], "c")
    assert (options.pop("overwrite"), options.pop("write")) == (False, ["mask"])
    assert callable(options.pop("announce"))
    assert options == {"views": 1, "device": "device auto", "axes": None}
    assert capsys.readouterr().out == "2 files written to c\n"
    line = "predict n.safetensors a --to c --overwrite --views 8 --write mask polygons"
    assert main(line.split()) == 0
    arguments, options = asked.pop()
    assert options["write"] == ["mask", "polygons"]
    assert options["overwrite"] and options["views"] == 8


def test_export(monkeypatch, capsys):
    module(monkeypatch, "deploy.export", export_net=lambda net, to, overwrite: to)
    assert main("export run --to net.onnx".split()) == 0
    assert capsys.readouterr().out == "net.onnx is ready\n"


def test_doctor(monkeypatch, capsys):
    functions = {
        "run_checks": lambda: ["fine", "wrong"],
        "report": lambda checks, as_json: json.dumps(checks) if as_json else "table",
        "exit_status": lambda checks: int("wrong" in checks),
    }
    module(monkeypatch, "doctor", **functions)
    assert main(["doctor"]) == 1 and capsys.readouterr().out == "table\n"
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == ["fine", "wrong"]


def test_a_back_end_that_fails_is_an_error_of_one_line(monkeypatch, capsys):
    module(monkeypatch, "runs.run")  # without its functions
    assert main(["evaluate", "b"]) == 1
    assert says("error:", "evaluate_run").search(capsys.readouterr().err)
    assert cli.COMMANDS is COMMANDS


def test_known_sets_are_checked_by_their_kind(tmp_path, capsys):
    carvana(tmp_path / "cars"), isbi(tmp_path / "slices"), ctc(tmp_path / "cells")
    for kind, name in ("carvana", "cars"), ("isbi", "slices"), ("ctc", "cells"):
        assert main(["check", str(tmp_path / name), "--kind", kind]) == 0
        assert "pairs without a problem" in capsys.readouterr().out
    (mask,) = (tmp_path / "cars").rglob("a_02_mask.gif")
    mask.write_bytes(mask.read_bytes()[:40])
    assert main(["check", str(tmp_path / "cars"), "--kind", "carvana"]) == 1
    told = capsys.readouterr().out
    assert says("problem: ", "a_02_mask.gif").search(told) and "2 pairs" in told
    assert main(["check", str(tmp_path / "cars"), "--kind", "isbi"]) == 1
    assert main(["check", str(tmp_path / "cars"), "--kind", "folder"]) == 2


def test_when_a_run_will_end_is_said_once_if_it_takes_longer(capsys):
    training = types.SimpleNamespace(step=1, seconds=9.0, due=(1000, 0), epoch=0)
    tell = cli._teller()
    for step, seconds in ((1, 9.0), (2, 10.0), (5, 13.0), (9, 17.0)):
        training.step, training.seconds = step, seconds
        tell(training, None)
    (line,) = capsys.readouterr().out.splitlines()
    assert re.search(r"step takes 1 s; the end is about \w+, \d\d:\d\d, or later", line)
    training.due, tell = (0, 15 * 60), cli._teller()
    for training.step, training.seconds in ((0, 800.0), (9, 809.0)):
        tell(training, None)
    assert "the end is about" in capsys.readouterr().out
    training.due, tell = (10, 0), cli._teller()
    for training.step, training.seconds in ((0, 0.0), (9, 9.0)):
        tell(training, None)
    tell(training, {"dice": 0.5})
    assert capsys.readouterr().out == "epoch   0  dice 0.5000\n"


def test_what_the_system_refuses_is_said_without_its_number(capsys, monkeypatch):
    def refuse(args):
        raise PermissionError(13, "Permission denied", "a folder #1/images")

    command = cli.COMMANDS["doctor"]._replace(run=refuse)
    monkeypatch.setitem(cli.COMMANDS, "doctor", command)
    assert cli.main(["doctor"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: a folder #1/images: permission denied; with other")
    assert "Errno" not in told


def test_one_pair_is_one_pair(tmp_path, capsys):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        pixels = np.eye(16, dtype=np.uint8) * (255 if name == "masks" else 9)
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    assert cli.main(["check", str(tmp_path / "images"), str(tmp_path / "masks")]) == 0
    assert "1 pair without a problem" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["transparent", "colours", "red"])
def test_check_prints_lines_that_mend_a_folder_of_masks(kind, tmp_path, capsys):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in (11, 21, 35):
        image, mask = draw_membranes(size=64, seed=number)
        mask = mask.astype(np.uint8)
        numbers = np.tile(np.uint8([0, 1, 2, 1]), (64, 16))
        wide = {
            "transparent": np.dstack([*3 * [image], 255 * mask]),
            "colours": np.uint8([[0, 0, 0], [200, 0, 0]])[mask],
            "red": np.dstack([numbers, 0 * numbers, 0 * numbers]),
        }
        Image.fromarray(image).save(tmp_path / f"images/{number}.png")
        Image.fromarray(wide[kind]).save(tmp_path / f"masks/{number}.png")
    folders, classes = [str(tmp_path / "images"), str(tmp_path / "masks")], []
    if kind == "red":
        classes = ["--classes", "3"]
    assert main(["check", *folders, *classes]) == 1
    _, lines = capsys.readouterr().out.split("in Python:\n")
    lines = lines.split("\n\n")[0]
    exec(compile(lines, "pasted", "exec"), {})
    assert len(list(Path(folders[1] + "_new").iterdir())) == 3
    assert main(["check", folders[0], folders[1] + "_new", *classes]) == 0
