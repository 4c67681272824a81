"""What goes wrong while answers are written, and what must hold then.

`CASES` names each fault in plain words; its function gets an empty folder and asserts
what must hold. They need no pytest, so that benchmarks/faults.py can count them too.
"""

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from samples import names, noise, save, save_stack, thin_net

from unet_tutorial.runs.files import new_file

CASES = {}


def case(name):
    "Enter a function into the table under a name that says the fault."

    def enter(function):
        assert name not in CASES
        CASES[name] = function
        return function

    return enter


@contextmanager
def refused(kind, *words):
    "Expect an error of a kind whose text holds all these words."
    try:
        yield
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{missing} not in: {error}"
    else:
        raise AssertionError(f"no {kind} was raised")


def write(path, text="new", overwrite=False):
    "Write a text as the library writes all files."
    with new_file(path, overwrite) as part:
        part.write_text(text)


# One file


@case("a file of the user's own is called a.txt.part")
def _(folder):
    (folder / "a.txt.part").write_text("precious")
    write(folder / "a.txt")
    assert (folder / "a.txt.part").read_text() == "precious"
    assert names(folder) == ["a.txt", "a.txt.part"]


@case("a.txt.part is a link to another file")
def _(folder):
    (folder / "diary").write_text("precious")
    (folder / "a.txt.part").symlink_to("diary")
    write(folder / "a.txt")
    assert (folder / "diary").read_text() == "precious"
    assert (folder / "a.txt").read_text() == "new"
    assert not (folder / "a.txt").is_symlink()


@case("the very name of the temporary file is a link to another file")
def _(folder):
    (folder / "diary").write_text("precious")
    drawn = iter(["0" * 16, "1" * 16])
    (folder / f".unet-{'0' * 16}.part").symlink_to("diary")
    with patch("unet_tutorial.runs.files.token_hex", lambda _: next(drawn)):
        write(folder / "a.txt")
    assert (folder / "a.txt").read_text() == "new" and next(drawn, None) is None
    assert (folder / "diary").read_text() == "precious"


@case("a file appears while we write one of its name")
def _(folder):
    path = folder / "a.txt"
    with refused(FileExistsError, "a.txt", "appeared", "overwrite=True"):
        with new_file(path) as part:
            part.write_text("new")
            path.write_text("precious")
    assert path.read_text() == "precious" and names(folder) == ["a.txt"]


@case("a file appears while we write, on a disk without links")
def _(folder):
    def no_link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    with patch("os.link", no_link):
        write(folder / "b.txt")
        path = folder / "a.txt"
        with refused(FileExistsError, "a.txt", "appeared"):
            with new_file(path) as part:
                part.write_text("new")
                path.write_text("precious")
    assert (folder / "b.txt").read_text() == "new"
    assert path.read_text() == "precious" and names(folder) == ["a.txt", "b.txt"]


@case("the target is a link that leads nowhere")
def _(folder):
    link = folder / "a.txt"
    link.symlink_to("nowhere")
    with refused(FileExistsError, "a.txt", "leads nowhere", "overwrite=True"):
        write(link)
    assert link.is_symlink() and names(folder) == ["a.txt"]
    write(link, overwrite=True)  # the link is replaced, not followed
    assert not link.is_symlink() and names(folder) == ["a.txt"]


@case("the target is a link to a file, and is to be replaced")
def _(folder):
    (folder / "diary").write_text("precious")
    (folder / "a.txt").symlink_to("diary")
    write(folder / "a.txt", overwrite=True)
    assert (folder / "diary").read_text() == "precious"
    assert (folder / "a.txt").read_text() == "new"


@case("the target is a link to a folder")
def _(folder):
    (folder / "photos").mkdir()
    (folder / "a.txt").symlink_to("photos")
    with refused(IsADirectoryError, "is a folder"):
        write(folder / "a.txt", overwrite=True)
    assert (folder / "a.txt").is_symlink()


@case("a name is longer than a file system takes")
def _(folder):
    path = folder / ("a" * 260 + ".txt")
    try:
        with new_file(path):
            raise AssertionError("the block was begun")
    except OSError as error:
        assert error.errno == errno.ENAMETOOLONG and "255" in str(error)
    assert names(folder) == []


@case("a name is as long as a file system takes")
def _(folder):
    path = folder / ("a" * 251 + ".txt")
    write(path)
    assert path.read_text() == "new" and len(names(folder)) == 1


@case("the disk becomes full, read-only, used up, or breaks")
def _(folder):
    words = {"ENOSPC": "No space", "EROFS": "read-only", "EDQUOT": "quota"}
    words |= {"EIO": "error", "EACCES": "permission", "EFBIG": "too large"}
    for name, word in words.items():
        number = getattr(errno, name)
        try:
            with new_file(folder / "a.txt") as part:
                part.write_text("half")
                raise OSError(number, os.strerror(number))
        except OSError as error:
            assert error.errno == number and type(error) is type(OSError(number, ""))
            text = str(error)
        assert word in text and str(folder / "a.txt") in text and "rrno" not in text
    assert names(folder) == []


@case("a library says nothing about a full disk")
def _(folder):
    path = folder / "a.txt"
    with refused(OSError, str(path), "encoder error -2"), new_file(path) as part:
        part.write_text("half")
        raise OSError("encoder error -2 when writing image file")
    full = patch("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with full, refused(OSError, str(path), "No space"), new_file(path) as part:
        part.write_text("half")
        raise OSError("1000 requested and 0 written")
    assert names(folder) == []


@case("the folder is removed while we write")
def _(folder):
    path = folder / "to" / "a.txt"
    with refused(FileNotFoundError, str(path), "removed"), new_file(path) as part:
        part.unlink()
        path.parent.rmdir()
    assert names(folder) == []


@case("a parent of the target is a file")
def _(folder):
    (folder / "to").write_text("precious")
    with refused(OSError, "is a file", str(folder / "to")):
        write(folder / "to" / "here" / "a.txt")
    assert (folder / "to").read_text() == "precious"


@case("an error about another file is left as it is")
def _(folder):
    with refused(FileNotFoundError, "other"), new_file(folder / "a.txt"):
        (folder / "other").read_text()


_KILLED = """
import os, signal, sys
from unet_tutorial.runs.files import new_file
with new_file(sys.argv[1]) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@case("a process is killed while it writes")
def _(folder):
    if os.name == "nt":
        return
    ask = [sys.executable, "-c", _KILLED, str(folder / "a.txt")]
    assert subprocess.run(ask).returncode != 0
    assert len(names(folder)) == 1  # half a file, under no name of ours
    write(folder / "b.txt")
    assert names(folder) == ["b.txt"]


@case("a new file is for the eyes that the user's umask allows")
def _(folder):
    if os.name == "nt":
        return
    old = os.umask(0o022)
    try:
        write(folder / "a.txt")
    finally:
        os.umask(old)
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", CASES)
def test_what_must_hold(name, tmp_path):
    CASES[name](tmp_path)
