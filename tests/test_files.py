"""Files that are whole or absent, and replace nothing unasked."""

import os

import pytest
from samples import names, says

from unet_tutorial.runs.files import new_file


def test_a_new_file_is_renamed_when_it_is_whole(tmp_path):
    with new_file(tmp_path / "new" / "a.txt") as part:
        part.write_text("half")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "half"
    assert names(tmp_path / "new") == ["a.txt"]


def test_a_failure_keeps_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with (
        pytest.raises(ZeroDivisionError),
        new_file(tmp_path / "a.txt", overwrite=True) as part,
    ):
        part.write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_nothing_is_replaced_unasked(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    pattern = says("a.txt", "overwrite=True")
    with pytest.raises(FileExistsError, match=pattern), new_file(tmp_path / "a.txt"):
        raise AssertionError("not reached")
    with pytest.raises(IsADirectoryError, match="is a folder"), new_file(tmp_path):
        raise AssertionError("not reached")


def test_what_a_killed_save_left_is_no_obstacle(tmp_path):
    (tmp_path / "a.txt.part").write_text("rest of a save that was killed")
    with new_file(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    calls, replace, sync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda n: (calls.append("sync"), sync(n)))
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("name"), replace(*a)))
    with new_file(tmp_path / "a.txt") as part:
        part.write_text("new")
    folder = ["sync"] if os.name == "posix" else []
    assert calls == ["sync", "name", *folder]


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    old = os.umask(0o027)
    try:
        with new_file(tmp_path / "a.txt") as part:
            part.write_text("new")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
