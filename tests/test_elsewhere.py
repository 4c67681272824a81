"""Windows and macOS, as far as they can be tried elsewhere: names, texts, scripts."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from unet_tutorial.data import loader
from unet_tutorial.data.loader import make_loader, pick_workers

PACKAGE = ROOT / "unet_tutorial"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py", "_modidx.py")
)

# What Windows has not. Names that only we may ask for: torch and others have theirs.
POOR = """
import importlib, mmap, os, signal, sys

import PIL.Image, matplotlib.pyplot, numpy, safetensors, scipy.ndimage, tifffile, torch
import torchvision, tqdm.auto, torch.distributed, torch.utils.data

for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None
gone = {
    os: "fork forkpty sched_getaffinity getuid geteuid getgid kill killpg statvfs "
    "setsid getpgid mkfifo O_NOFOLLOW O_DIRECTORY O_CLOEXEC fchmod chown uname nice "
    "wait3 getloadavg posix_fallocate posix_fadvise sysconf".split(),
    signal: "SIGHUP SIGKILL SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGQUIT SIGPIPE alarm "
    "setitimer pthread_sigmask".split(),
    mmap: "MADV_DONTNEED MAP_PRIVATE MAP_SHARED PROT_READ".split(),
}
kept = {name: getattr(os, name, None) for name in gone[os]}
for module, names in gone.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""
USE = """
from dataclasses import replace
from pathlib import Path

import numpy as np
from unet_tutorial.cli import main
from unet_tutorial.data.loader import make_loader
from unet_tutorial.data.outputs import write_mask
from unet_tutorial.model import UNet
from unet_tutorial.runs.recipes import Net, read_recipe
from unet_tutorial.runs.run import train_run
from unet_tutorial.runs.weights import load_net, save_net
from unet_tutorial.synthetic import write_isbi

save_net("a.safetensors", UNet(base_channels=2, depth=1, padding=1))
load_net("a.safetensors")
write_mask("m.png", np.eye(9, dtype=np.uint8))
write_isbi("data", slices=4, size=64)
net = Net(base_channels=2, depth=1, padding=1, norm="batch", dropout=0)
recipe = replace(read_recipe("modern"), net=net, tile=32, tiles=4, batch=2)
train_run("isbi", Path("data"), Path("run"), recipe, epochs=1, device="cpu")
assert Path("run", "best.safetensors").exists()
for command in (["--help"], ["doctor"], ["info", "a.safetensors"]):
    try:
        main(command)
    except SystemExit as end:
        assert not end.code or command == ["doctor"], (command, end.code)
print("done")
"""


def run(code, folder):
    "Run lines of Python in a folder; its output, or its error as a failure."
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_module_is_imported_without_what_windows_lacks(tmp_path):
    names = "\n".join(f"importlib.import_module({name!r})" for name in MODULES)
    run(f"{POOR}\n{names}\n", tmp_path)


def test_the_library_works_without_it(tmp_path):
    assert "done" in run(f"{POOR}\n{USE}", tmp_path)


# Texts: the same bytes everywhere

MODES = ("rb", "wb", "ab", "xb", "r+b", "r", "w", "a", "x")
OWNERS = ("path", "log", "part", "file", "io")


def without_encoding(path):
    "Lines in which a text is opened in whatever encoding the system has."
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        plain = isinstance(node.func, ast.Name)  # the open of Python itself
        owner = getattr(getattr(node.func, "value", None), "id", "")
        given = [*node.args, *[word.value for word in node.keywords]]
        texts = [part.value for part in given if isinstance(part, ast.Constant)]
        if any(word.arg == "encoding" for word in node.keywords):
            continue
        if {"utf-8", "latin-1", "ascii"} & {*map(str, texts)}:
            continue
        binary = any("b" in text for text in texts if text in MODES)
        unknown = len(node.args) > 1 and not isinstance(node.args[1], ast.Constant)
        if name in ("read_text", "write_text"):
            found.append(node.lineno)
        elif name != "open" or binary or unknown:
            continue
        elif plain or owner in OWNERS:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("folder", ["unet_tutorial", "tools", "experiments"])
def test_texts_are_opened_as_utf8(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {str(file.relative_to(ROOT)): without_encoding(file) for file in files}
    assert not {name: lines for name, lines in found.items() if lines}


def test_a_text_of_unknown_encoding_is_found(tmp_path):
    lines = 'open("a")', 'open("a", "rb")', "p.read_text()", 'p.write_text(t, "utf-8")'
    (tmp_path / "a.py").write_text("\n".join(lines), encoding="utf-8")
    assert without_encoding(tmp_path / "a.py") == [1, 3]


# Scripts that workers run again


SCRIPT = """
import torch
from torch.utils.data import TensorDataset
from unet_tutorial.data.loader import make_loader

def main():
    data = TensorDataset(torch.arange(6.0))
    loader = make_loader(data, 2, workers=2, multiprocessing_context="spawn")
    print(len(list(loader)), "batches")
"""


@pytest.mark.parametrize("guarded", [False, True])
def test_a_script_without_a_guard_gets_a_sentence(tmp_path, guarded):
    end = 'if __name__ == "__main__":\n    main()\n' if guarded else "main()\n"
    (tmp_path / "mine.py").write_text(f"{SCRIPT}\n{end}", encoding="utf-8")
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "mine.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    if guarded:
        assert "3 batches" in done.stdout, done.stderr
    else:
        assert done.stderr.count("Traceback") == 1
        last = done.stderr.strip().splitlines()[-1]
        assert "mine.py is run again by each of 2 workers" in last
        assert 'if __name__ == "__main__":' in last and "workers=0" in last


def test_such_a_script_gets_no_workers_beside_a_gpu(tmp_path, monkeypatch):
    script = tmp_path / "mine.py"
    script.write_text("train()", encoding="utf-8")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(script), raising=False)
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(loader.multiprocessing, "get_start_method", lambda **_: "spawn")
    assert pick_workers("cuda") == 0
    with pytest.raises(RuntimeError, match="workers=0"):
        make_loader([1, 2], workers=1)
    assert make_loader([1, 2], workers=0).num_workers == 0
    script.write_text('if __name__ == "__main__": train()', encoding="utf-8")
    assert pick_workers("cuda") >= 1
    monkeypatch.setattr(loader.multiprocessing, "get_start_method", lambda **_: "fork")
    script.write_text("train()", encoding="utf-8")
    assert pick_workers("cuda") >= 1
