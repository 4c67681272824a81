"""`make app`: which net is served, what it says when there is none, and the page."""

import json
import os
import sys

import pytest
import serve
from conftest import ROOT

from unet_tutorial.model import UNet
from unet_tutorial.runs.weights import save_net

PAGE = ROOT / "app" / "segment.ipynb"


def net(path, age=0):
    save_net(path, UNet(base_channels=1, depth=1))
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_newest_best_net_is_served(tmp_path):
    assert serve.newest_net(tmp_path) is None
    other = net(tmp_path / "runs" / "a.safetensors")
    assert serve.newest_net(tmp_path) == other
    old = net(tmp_path / "nbs" / "runs" / "old" / "best.safetensors", age=99)
    assert serve.newest_net(tmp_path) == old
    new = net(tmp_path / "build" / "course" / "x" / "best.safetensors", age=9)
    assert serve.newest_net(tmp_path) == new


def test_no_net_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.py"])
    monkeypatch.setattr(serve, "newest_net", lambda: None)
    with pytest.raises(SystemExit, match="make course NB=14_predict"):
        serve.main()


def test_a_missing_net_is_named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.py", "runs/none"])
    with pytest.raises(SystemExit, match="no runs.none"):
        serve.main()


def test_the_server_is_told_which_net(tmp_path, monkeypatch):
    path, asked = net(tmp_path / "n.safetensors"), {}

    def started(command, env):
        asked.update(env, command=command)
        return 0

    monkeypatch.setattr(sys, "argv", ["serve.py", str(path)])
    monkeypatch.setattr(serve.subprocess, "call", started)
    monkeypatch.setattr(serve, "install", lambda: None)
    assert serve.main() == 0
    assert asked["UNET_NET"] == str(path) and asked["UNET_MASKS"].endswith("masks")
    assert asked["command"][1:3] == ["-m", "voila"] and str(PAGE) in asked["command"]


def test_voila_is_an_extra_that_is_installed_once(monkeypatch):
    commands = []
    monkeypatch.setattr(serve.subprocess, "call", lambda c: commands.append(c) or 1)
    serve.install("json")  # is there
    assert not commands
    with pytest.raises(SystemExit, match="pip install voila"):
        serve.install("a_module_that_nobody_has")
    assert commands[0][1:4] == ["-m", "pip", "install"]


def test_the_page_runs(tmp_path, monkeypatch):
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("UNET_NET", str(net(tmp_path / "n.safetensors")))
    monkeypatch.setenv("UNET_MASKS", str(tmp_path / "masks"))
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    *lines, last = "\n".join(code).strip().splitlines()
    space = {}
    exec("\n".join([*lines, f"page = {last}"]), space)
    button = space["page"].children[0].children[0]
    assert button.accept == "image/*"


def test_the_page_has_no_outputs():
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
