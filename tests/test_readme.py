"""README: its code and its commands are run as they are printed there.

Two things are done so that hours become seconds. The minutes of each `train` become
0.02; and the planner is told that a step takes 90 seconds, so that it takes a small
net, and that three steps are all that fits into the thirty minutes of `enough`.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from notebooks import settings
from PIL import Image

from unet_tutorial import draw_membranes
from unet_tutorial.cli import main
from unet_tutorial.runs import enough, planner

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")]
SCREEN = README.split("\n## ")[0]  # what is above the first heading


def blocks(text, language):
    "The blocks of code in a text."
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text, first):
    "The lines of the blocks that begin with a command, without their comments."
    lines = "\n".join(blocks(text, "bash")).splitlines()
    return [line.split(" #")[0].split() for line in lines if line.startswith(first)]


def test_the_first_screen_says_what_it_is_and_how_to_begin():
    assert len(SCREEN.splitlines()) <= 35
    assert SCREEN.index("![Membranes") < SCREEN.index("make course")
    assert commands(SCREEN, "make") == [["make", "course"], ["make", "lab"]]
    (code,) = blocks(SCREEN, "python")
    assert len(code.strip().splitlines()) <= 10


def test_its_code_runs_in_an_empty_folder(tmp_path):
    (code,) = blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split("%")[0]) > 90
    assert not list(tmp_path.iterdir())


@pytest.fixture
def folder(tmp_path, monkeypatch):  # Path, the current one
    "Drawn images and masks, where the commands look for them."
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks", "new_images"):
        Path(name).mkdir()
    for number in range(7):
        image, mask = draw_membranes(size=64, seed=number)
        Image.fromarray(image).save(f"images/{number}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(f"masks/{number}.png")
    shutil.copy("images/0.png", "new_images/new.png")
    for name in ("images", "masks"):
        Path("test", name).mkdir(parents=True)
        shutil.move(Path(name, "5.png"), Path("test", name))
    return tmp_path


def test_its_commands_run_in_their_order(folder, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime")
    monkeypatch.setattr(planner, "time_step", lambda *rest: 90.0)  # the smallest net
    monkeypatch.setattr(enough, "_LEAST", 3)
    monkeypatch.setattr(enough, "_try", lambda *rest: (80.0, 0.0))
    typed = commands(README, "unet-tutorial")
    assert len(typed) >= 8
    for _, command, *words in typed:
        if command == "train" and "--minutes" in words:
            words[words.index("--minutes") + 1] = "0.02"
        assert main([command, *words]) == 0, capsys.readouterr().err
    made = "run/report.html better/best.safetensors curve/curve.png net.onnx"
    made = [*made.split(), "new_masks/new_mask.png"]
    assert [name for name in made if not (folder / name).exists()] == []


def test_its_pip_line_installs_this_repository():
    (line,) = re.findall(r"`pip install \"(git\+[^\"]+)\"`", SCREEN)
    ours = settings(ROOT)
    assert line == f"git+{ours['git_url']}@{ours['branch']}"


def asked_of_make():  # set of str
    "Each `make ...` in README and CONTRIBUTING, as it is printed."
    found = set()
    for text in TEXTS:
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        found |= set(re.findall(r"`(make\b[^`]*)`", prose))
        found |= {" ".join(words) for words in commands(text, "make")}
    return found


def test_what_make_is_asked_for_exists():
    asked = asked_of_make()
    assert len(asked) > 20
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"\b([A-Z_]+)\b", makefile))
    for line in asked:
        for word in set(shlex.split(line)) - {"make", "&&"}:
            name, is_variable, _ = word.partition("=")
            assert name in (variables if is_variable else targets), line
