"""A child process dies, and what it leaves is read right."""

import getpass
import os
from pathlib import Path

import numpy as np
import pytest

from unet_tutorial.doctor import (
    Check,
    Child,
    check_memory,
    judge,
    run_child,
    without_names,
)

SEGFAULT = """\
import ctypes
def read():
    ctypes.string_at(1)
read()
"""


def test_a_child_that_lives():
    child = run_child("-c", "import sys; print('well'); print('so', file=sys.stderr)")
    assert child == (0, child.out, child.err)
    assert child.ended == "" and child.out.split() == ["well"]
    assert child.err.split() == ["so"] and child.stack == []


def test_a_segmentation_fault_leaves_its_python_stack(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(SEGFAULT)
    child = run_child(script)
    assert child.ended in ("SIGSEGV", "SIGBUS", "access violation")
    assert child.stack[-2:] == ["dies.py, line 3 in read", "__init__.py, " + _in(child)]
    assert child.stack[0] == "dies.py, line 4 in <module>"


def _in(child):
    return child.stack[-1].partition(", ")[2]


def test_a_traceback_is_read_in_the_same_order(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("def read():\n    raise KeyError('mask')\nread()\n")
    child = run_child(script)
    assert child.ended == "KeyError: 'mask'" and child.code == 1
    assert child.stack == ["fails.py, line 3 in <module>", "fails.py, line 2 in read"]


def test_a_child_that_hangs_is_stopped():
    child = run_child(
        "-c", "print('x', flush=True); import time; time.sleep(60)", seconds=2
    )
    assert child.code is None and child.ended == "no end"


def test_a_child_that_stops_itself_tells_where():
    program = "import faulthandler as f, time; f.dump_traceback_later(1, exit=True)"
    child = run_child("-c", program + "\ntime.sleep(60)")
    assert child.ended == "no end" and child.stack == ["<string>, line 2 in <module>"]


def test_a_child_has_the_paths_of_its_parent(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("print('found')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run_child("-c", "import only_here").out.split() == ["found"]


@pytest.mark.parametrize(
    ("code", "err", "ended"),
    [
        (-9, "", "SIGKILL"),
        (3, "", "exit code 3"),
        (0xC0000005, "Windows fatal exception", "access violation"),
        (-1073741819, "", "access violation"),
        (1, "Timeout (0:00:03)!\n", "no end"),
        (0, "a warning", ""),
    ],
)
def test_exit_codes(code, err, ended):
    if code == -9 and os.name != "posix":
        pytest.skip("there are no signals on Windows")
    assert Child(code, "", err).ended == ended


def test_the_paths_of_windows_are_shortened():
    err = 'Thread 0x1 (most recent call first):\n  File "C:\\a b\\c.py", line 7 in f'
    assert Child(1, "", err).stack == ["c.py, line 7 in f"]


def test_the_verdict_follows_from_the_remedies():
    assert judge("a", "b") == Check("a", "fine", "b", "")
    assert judge("a", "b", warning="c") == Check("a", "warning", "b", "c")
    assert judge("a", "b", "d", "c") == Check("a", "wrong", "b", "d")


def test_no_name_of_user_or_home_folder(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    text = without_names("/home/ada/x, /mnt/ada/y, ada: adam, /data/ada_1")
    assert text == "~/x, /mnt/user/y, user: adam, /data/user_1"
    check = judge("disk", "/home/ada is full", wrong="ask ada")
    assert check[2:] == ("~ is full", "ask user")


def test_a_user_without_a_name(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: 1 / 0)
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert without_names("a/b") == "a/b"


def test_a_flipped_bit_is_found(monkeypatch):
    assert check_memory(32) == ("memory", "fine", "32 MB copied, 0 bytes wrong", "")

    def flip(block):
        copy = block.copy()
        copy[12345] ^= 4
        return copy

    monkeypatch.setattr(np, "copy", flip)
    check = check_memory(32)
    assert check.verdict == "wrong" and "2 bytes" in check.seen
    assert "memtest" in check.remedy
