"""Archives of a stranger: each is refused by name, and nothing is left of it."""

import io
import os
import stat
import struct
import unicodedata
import warnings
import zipfile
from functools import partial

import pytest

from unet_tutorial.data.download import unpack

FIRST = {"top/a.tif": b"a" * 100}  # what every archive holds besides


def packed(entries, method=zipfile.ZIP_DEFLATED):
    "The bytes of a zip; names are written as they are, twice if they are there twice."
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as file:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, body in [*FIRST.items(), *entries]:
            held = zipfile.ZipInfo("x")
            held.filename, held.compress_type = name, method
            file.writestr(held, body)
    return buffer.getvalue()


def refused(archive, words, folder, limit=10**6):
    "Unpacking ends with a sentence that names the zip; nothing but the zip is there."
    inside = folder / "inside"
    inside.mkdir()
    (inside / "a.zip").write_bytes(archive)
    with pytest.raises((ValueError, OSError)) as caught:
        unpack(inside / "a.zip", inside / "new", limit)
    said = str(caught.value)
    assert "a.zip" in said and words in said and said.isprintable(), said
    assert len(said) < 1000
    assert [path.name for path in folder.rglob("*")] == ["inside", "a.zip"]


def names(*all_names, words):
    "An archive of files of these names."
    return partial(refused, packed([(name, b"1") for name in all_names]), words)


def special(kind):
    "An entry that is no plain file, with a file below it."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        entry = zipfile.ZipInfo("data")
        entry.external_attr = (kind | 0o777) << 16
        file.writestr(entry, "..")
        file.writestr("data/key", "1")
    return partial(refused, buffer.getvalue(), "link or a device")


def patched(place, new, entries=(("b.tif", b"b" * 100),), words=""):
    "An archive whose last directory entry has other bytes at a place."
    body = bytearray(packed(entries))
    start = body.rindex(b"PK\x01\x02") + place
    body[start : start + len(new)] = new
    return partial(refused, bytes(body), words)


def overlapping(folder):
    "A thousand entries that share the packed bytes of one."
    zeros = bytes(90_000)
    body = packed([("z", zeros)], zipfile.ZIP_DEFLATED)
    first, last = body.rindex(b"PK\x01\x02"), body.rindex(b"PK\x05\x06")
    entry = body[first:last]
    local = struct.unpack("<I", entry[42:46])[0]
    directory = bytearray(entry)
    many, data = b"", body[:first]
    for number in range(1000):
        name = f"{number:05}".encode()
        offset = len(data)
        head = bytearray(body[local : local + 30])
        head[26:28] = struct.pack("<H", 5)
        head[28:30] = struct.pack("<H", 0)
        data += bytes(head) + name
        directory[28:30], directory[30:32] = struct.pack("<H", 5), b"\0\0"
        directory[42:46] = struct.pack("<I", offset)
        many += bytes(directory[:46]) + name
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1000, 1000, len(many), len(data), 0)
    refused(data + many + end, "", folder, limit=10**9)


def bomb(folder):
    "Zeros that pack a thousandfold, within the limit of bytes."
    body = packed([(f"{n}.tif", bytes(3 * 10**7)) for n in range(4)])
    assert len(body) < 200_000
    refused(body, "a bomb", folder, limit=10**9)


def many_bytes(folder):
    refused(packed([("b.tif", bytes(2 * 10**6))]), "at most", folder)


def many_files(folder):
    body = packed([(f"{n}", b"") for n in range(40)])
    end = bytearray(body)
    refused(bytes(end[:-22]), "", folder)  # without the end of the directory


def nested(folder):
    "An archive in an archive stays one; what is in it is never looked at."
    inner = packed([("../evil", b"1"), ("zeros", bytes(10**6))])
    (folder / "a.zip").write_bytes(packed([("inner.zip", inner)]))
    unpack(folder / "a.zip", folder / "new", 10**5)
    assert (folder / "new" / "inner.zip").read_bytes() == inner
    assert {path.name for path in folder.iterdir()} == {"a.zip", "new"}


def good(folder):
    "Names in other scripts and of many letters come as they are."
    many = [
        "Ä ö/ß.tif",
        "x/y/",
        "x/y/z",
        "細胞/一.tif",
        ".hidden",
        "a" * 255,
        "a-b (1).t",
    ]
    (folder / "a.zip").write_bytes(packed([(name, b"") for name in many]))
    new = unpack(folder / "a.zip", folder / "new", 10**5)
    for name in many:
        assert (new / name).exists()
    assert not any(
        stat.S_IXUSR & p.stat().st_mode for p in new.rglob("*") if p.is_file()
    )


def set_user(folder):
    "A file that would run as root does not become one."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        entry = zipfile.ZipInfo("run")
        entry.external_attr = (stat.S_IFREG | 0o4777) << 16
        file.writestr(entry, "#!/bin/sh")
    (folder / "a.zip").write_bytes(buffer.getvalue())
    mode = (unpack(folder / "a.zip", folder / "new") / "run").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IXUSR)


def link_in_the_way(folder):
    "A link of the name of the new folder, or of the folder before it is one."
    other = folder / "other"
    other.mkdir()
    (other / "mine").write_text("mine")
    (folder / "a.zip").write_bytes(packed([]))
    for name in ("new", ".new.unpacking"):
        (folder / name).symlink_to(other)
        with pytest.raises(OSError):
            unpack(folder / "a.zip", folder / "new")
        assert [path.name for path in other.iterdir()] == ["mine"]
        (folder / name).unlink()


def no_zip(body, words="no zip"):
    return partial(refused, body, words)


ZIP = packed([("b.tif", os.urandom(5000))])
NFC, NFD = (unicodedata.normalize(form, "zellkörper.tif") for form in ("NFC", "NFD"))
TWICE, LEADS, ODD = "is there twice", "leads out", "no name for every system"
CASES = {
    "good names come as they are": good,
    "an archive in an archive": nested,
    "a file that runs as root": set_user,
    "a link in the way": link_in_the_way,
    # names
    "names that differ in case": names("b/A.tif", "b/a.tif", words=TWICE),
    "folders that differ in case": names("b/x.tif", "B/y.tif", words=TWICE),
    "names that differ in Unicode form": names(NFC, NFD, words=TWICE),
    "folders that differ in Unicode form": names(f"{NFC}/1", f"{NFD}/2", words=TWICE),
    "ß beside ss": names("groß.tif", "GROSS.tif", words=TWICE),
    "a Kelvin sign beside a k": names("\u212a.tif", "k.tif", words=TWICE),
    "the same name twice": names("b.tif", "b.tif", words=TWICE),
    "a file where a folder is due": names("b", "b/c", words="a file of the same name"),
    "a folder where a file is due": names("b/c", "b", words="folder of the same name"),
    "an entry of a folder, and a file": names("b/", "b", words="folder of the same"),
    "a file, and a folder in other case": names("b", "B/c", words="of the same name"),
    "an absolute name": names("/etc/b", words=LEADS),
    "two slashes first": names("//server/b", words=LEADS),
    "out of the folder": names("../b", words=LEADS),
    "in, and further out": names("x/../../b", words=LEADS),
    "out of it, with spaces": names("x/.. /b", words=LEADS),
    "three dots": names(".../b", words=LEADS),
    "only a slash": names("/", words=LEADS),
    "a drive": names("C:/b", words=ODD),
    "a stream of Windows": names("b.tif:hidden", words=ODD),
    "backslashes": names("x\\..\\..\\b", words=ODD),
    "a device of Windows": names("x/NUL.tif", words=ODD),
    "a printer": names("lpt1", words=ODD),
    "a dot at the end": names("b.tif.", words=ODD),
    "a space at the end": names("b.tif ", words=ODD),
    "a question mark": names("b?.tif", words=ODD),
    "a line's end": names("b\nc", words=ODD),
    "an escape sequence": names("b\x1b[2J", words=ODD),
    "letters that run backwards": names("b\u202efit.exe", words=ODD),
    "a name of 256 bytes": names("b" * 256, words="too long a name"),
    "128 letters of 2 bytes": names("ä" * 128, words="too long a name"),
    "a folder of 300 bytes": names("b" * 300 + "/c", words="too long a name"),
    "a path of 60,000 bytes": names("/".join(["b"] * 30_000), words="too long"),
    # kinds
    "a link": special(stat.S_IFLNK),
    "a pipe": special(stat.S_IFIFO),
    "a device": special(stat.S_IFBLK),
    "a terminal": special(stat.S_IFCHR),
    "a socket": special(stat.S_IFSOCK),
    "encrypted": patched(8, b"\x01", words="is encrypted"),
    "packed by LZMA": no_zip(packed([], zipfile.ZIP_LZMA), "unusual method"),
    "packed by method 99": patched(10, b"\x63", words="unusual method"),
    "another name than in the directory": patched(46, b"c", words="damaged"),
    # sizes
    "too many bytes": many_bytes,
    "a bomb of zeros": bomb,
    "entries that overlap": overlapping,
    "a size that is a lie": patched(24, b"\x05\0\0\0", words="damaged"),
    "a size of 4 GB": patched(24, b"\xfe\xff\xff\xff", words="at most"),
    "a packed size of 4 GB": patched(20, b"\xfe\xff\xff\xff", words="overlap"),
    "an offset beyond the end": patched(42, b"\xfe\xff\xff\x7f", words="damaged"),
    "a wrong sum": patched(16, b"\0\0\0\0", words="damaged"),
    # no zip
    "an empty file": no_zip(b""),
    "a web page": no_zip(b"<!doctype html>", "web page"),
    "a tar": no_zip(b"a.tif".ljust(257, b"\0") + b"ustar\x0000"),
    "half a zip": no_zip(ZIP[: len(ZIP) // 2]),
    "without its end": many_files,
    "a directory of nothing": no_zip(b"PK\x05\x06" + bytes(18), "holds no"),
    "a flipped bit": no_zip(ZIP[:2500] + bytes([ZIP[2500] ^ 1]) + ZIP[2501:]),
}


@pytest.mark.parametrize("fault", CASES)
def test_fault(fault, tmp_path):
    CASES[fault](tmp_path)
