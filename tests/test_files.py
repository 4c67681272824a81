"""Files that are whole or absent, and replace nothing unasked."""

import os

import pytest
from samples import names, says

from unet_tutorial.runs.files import is_part, name_key, new_file, remove_rests


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


def test_what_a_killed_save_left_is_removed_by_the_next_process(tmp_path):
    rest = tmp_path / f".unet-{'0123456789abcdef'}.part"
    rest.write_text("rest of a save that was killed")
    (tmp_path / "a.txt.part").write_text("the user's own")
    assert is_part(rest) and not is_part(tmp_path / "a.txt.part")
    with new_file(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert is_part(part) and remove_rests(tmp_path) == []  # it is being written
    assert names(tmp_path) == ["a.txt", "a.txt.part"]
    rest.write_text("another")
    assert remove_rests(tmp_path) == [rest] and names(tmp_path)[0] == "a.txt"


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch, overwrite):
    calls, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda n: (calls.append("sync"), sync(n)))
    for name in ("link", "rename", "replace"):
        give = getattr(os, name)
        noted = lambda *a, give=give: (calls.append("name"), give(*a))  # noqa: E731
        monkeypatch.setattr(os, name, noted)
    with new_file(tmp_path / "a.txt", overwrite) as part:
        part.write_text("new")
    folder = ["sync"] if os.name == "posix" else []
    assert calls == ["sync", "name", *folder]


def test_names_are_compared_as_the_strictest_disk_does():
    assert name_key("Stra\u00dfe \u00e9.PNG") == name_key("STRASSE E\u0301.png")
    assert name_key("a.png") != name_key("b.png")


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    old = os.umask(0o027)
    try:
        with new_file(tmp_path / "a.txt") as part:
            part.write_text("new")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_written_is_named_by_the_file(tmp_path, monkeypatch):
    def refuse(path, *rest):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    words = "a.txt cannot be written: permission denied; a folder of yours would work"
    with pytest.raises(PermissionError, match=words), new_file(tmp_path / "a.txt"):
        pass
