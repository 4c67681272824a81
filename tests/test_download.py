"""Downloads from a server that breaks, lies and attacks; evil archives."""

import errno
import hashlib
import io
import os
import random
import stat
import subprocess
import sys
import threading
import time
import types
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import wait_for
from samples import names, says

from unet_tutorial.data import download as module
from unet_tutorial.data.download import SETS, DataSet, checksum, download, get, unpack

BODY = random.Random(0).randbytes(200_000)
QUICK = {"wait": 0.001, "timeout": 5.0}


class Server(ThreadingHTTPServer):
    "A server on loopback that answers as its list of answers says, the last for ever."

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.body = [], [], BODY
        self.url = f"http://127.0.0.1:{self.server_port}/set.zip"

    def handle_error(self, *_):
        "A client that hangs up is no news."


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(dict(self.headers))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self, self.server.body)

    def log_message(self, *_):
        pass


def send(handler, status, headers, body):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(body)


def serve(
    stop=None,  # bytes after which the connection breaks
    tag='"one"',  # None: without a version
    ranges=True,  # False: a server that does not know Range
    shift=0,  # how many bytes too late a rest begins
    **headers,  # Content_Length="5" tells another length
):  # function for Server.answers
    "A whole answer, or a part if one is asked for and the version is the same."

    def answer(handler, body):
        asked, first = handler.headers, 0
        told = {"ETag": tag} if tag else {}
        if ranges and asked.get("Range") and asked.get("If-Range") == tag:
            first = int(asked["Range"][6:-1])
            if first >= len(body):
                told["Content-Range"] = f"bytes */{len(body)}"
                return send(handler, 416, told, b"")
            first += shift
            told["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        told["Content-Length"] = len(body) - first
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        rest = body[first:] if stop is None else body[first : first + stop]
        send(handler, 206 if first else 200, told, rest)

    return answer


def fail(status, **headers):
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: send(handler, status, {"Content-Length": 0} | told, b"")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def checksum_of(body):
    return hashlib.sha256(body).hexdigest()


def zipped(entries):  # bytes of a zip of name -> bytes
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, body in entries.items():
            file.writestr(name, body)
    return buffer.getvalue()


@pytest.fixture
def drawn(server, monkeypatch):  # the zip of a set "drawn"
    server.body = zipped({"top/a.tif": b"a" * 1000, "top/b/c.tif": b"c"})
    server.answers = [serve()]
    monkeypatch.setitem(SETS, "drawn", DataSet(server.url, "none", "a.tif", 10**6))
    return server.body


# The table


def test_the_sets_are_told_whole():
    assert list(SETS) == ["isbi", "u373", "hela", "nuclei", "pets", "carvana"]
    for entry in SETS.values():
        assert entry.url.startswith("https://") and len(entry.terms) > 10
        assert 10**8 < entry.limit < 10**10
        assert entry.sha256 is None or len(bytes.fromhex(entry.sha256)) == 32
    assert SETS["hela"].url.endswith("/training-datasets/DIC-C2DH-HeLa.zip")
    assert SETS["hela"].sha256.startswith("832fed2d")
    assert SETS["u373"].sha256.startswith("b18185c1")


# Downloading


def test_a_file_comes_whole_and_only_once(server, tmp_path):
    server.answers = [serve()]
    path = tmp_path / "new" / "set.zip"
    assert download(server.url, path, checksum_of(BODY)) == path
    assert path.read_bytes() == BODY and names(path.parent) == ["set.zip"]
    assert server.asked[0]["User-Agent"].startswith("unet-tutorial/")
    download(server.url, path)
    assert len(server.asked) == 1


def test_the_checksum_is_that_of_sha256sum(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checksum(tmp_path / "a") == expected


def test_what_broke_off_is_resumed(server, tmp_path):
    server.answers = [serve(50_000), serve(70_000), serve()]
    path = download(server.url, tmp_path / "a", **QUICK)
    assert path.read_bytes() == BODY and names(tmp_path) == ["a"]
    asked = [headers.get("Range") for headers in server.asked]
    assert asked == [None, "bytes=50000-", "bytes=120000-"]
    assert server.asked[1]["If-Range"] == '"one"'


def test_what_broke_off_is_resumed_by_the_next_run(server, tmp_path):
    server.answers = [serve(50_000)]
    with pytest.raises(ConnectionError, match=says(server.url, "50,000 of 200,000")):
        download(server.url, tmp_path / "a", tries=1)
    assert names(tmp_path) == [".a.lock", "a.part", "a.part.tag"]
    server.answers = [serve()]
    assert download(server.url, tmp_path / "a").read_bytes() == BODY
    assert server.asked[1]["Range"] == "bytes=50000-"
    assert names(tmp_path) == ["a"]


def test_a_changed_file_is_not_joined_to_the_old_part(server, tmp_path):
    server.answers = [serve(50_000), serve(tag='"two"')]
    server.body = b"old" * 50_000
    with pytest.raises(ConnectionError):
        download(server.url, tmp_path / "a", tries=1)
    server.body = BODY
    assert download(server.url, tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize(
    "second",
    [
        serve(ranges=False),  # knows no ranges
        serve(shift=5),  # sends another place than was asked for
        serve(Content_Range="bytes from here on"),
    ],
)
def test_a_rest_that_is_none_makes_it_begin_again(server, tmp_path, second):
    server.answers = [serve(50_000), second, serve()]
    assert download(server.url, tmp_path / "a", **QUICK).read_bytes() == BODY


@pytest.mark.parametrize(
    ("headers", "resumed"),
    [
        ({"tag": None}, False),
        ({"tag": 'W/"weak"'}, False),
        ({"tag": None, "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, True),
        ({"tag": 'W/"w"', "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, True),
    ],
)
def test_without_a_version_nothing_is_resumed(server, tmp_path, headers, resumed):
    server.answers = [serve(50_000, **headers), serve(**headers)]
    assert download(server.url, tmp_path / "a", **QUICK).read_bytes() == BODY
    assert ("Range" in server.asked[1]) == resumed


def test_a_part_that_only_lacks_its_name_is_named(server, tmp_path):
    (tmp_path / "a.part").write_bytes(BODY)
    (tmp_path / "a.part.tag").write_text('"one"')
    server.answers = [serve()]
    assert download(server.url, tmp_path / "a").read_bytes() == BODY
    assert len(server.asked) == 1 and names(tmp_path) == ["a"]


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "a.part").write_bytes(BODY + b"more")
    (tmp_path / "a.part.tag").write_text('"one"')
    server.answers = [serve()]
    assert download(server.url, tmp_path / "a", **QUICK).read_bytes() == BODY


def test_a_part_without_its_note_is_thrown_away(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"of another file")
    server.answers = [serve()]
    assert download(server.url, tmp_path / "a").read_bytes() == BODY


def test_a_length_that_is_too_large_never_ends_well(server, tmp_path):
    server.answers = [serve(tag=None, Content_Length=300_000)]
    with pytest.raises(ConnectionError, match=says("200,000 of 300,000")):
        download(server.url, tmp_path / "a", tries=2, **QUICK)
    assert not (tmp_path / "a").exists() and len(server.asked) == 2


def test_a_length_that_is_too_small_is_seen(server, tmp_path):
    server.answers = [serve(Content_Length=1000)]
    with pytest.raises(ConnectionError, match=says("more came", "1,000 bytes")):
        download(server.url, tmp_path / "a", checksum_of(BODY), tries=2, **QUICK)
    assert names(tmp_path) == [".a.lock"] and len(server.asked) == 2


def test_a_length_that_is_no_number_and_none_at_all(server, tmp_path):
    server.answers = [serve(Content_Length="many")]
    assert download(server.url, tmp_path / "a").read_bytes() == BODY


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.answers = [serve()]
    with pytest.raises(ValueError, match=says("checksum", "0" * 64, "do not use")):
        download(server.url, tmp_path / "a", "0" * 64)
    assert names(tmp_path) == [".a.lock"]


def test_a_file_that_is_there_must_have_the_checksum_and_stays(server, tmp_path):
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(ValueError, match=says(str(tmp_path / "a"), "checksum")):
        download(server.url, tmp_path / "a", checksum_of(BODY))
    assert (tmp_path / "a").read_bytes() == b"mine" and server.asked == []


def test_nobody_is_believed_beyond_the_limit(server, tmp_path):
    server.answers = [serve(), serve(Content_Length="many")]
    for _ in range(2):  # announced, and not announced
        with pytest.raises(ValueError, match=says("more than 1,000 bytes")):
            download(server.url, tmp_path / "a", limit=1000)
        assert names(tmp_path) == [".a.lock"]


@pytest.mark.parametrize("status", [404, 401, 403, 410])
def test_what_will_not_pass_is_not_tried_again(server, tmp_path, status):
    server.answers = [fail(status)]
    with pytest.raises(ConnectionError, match=says(server.url, str(status), "by hand")):
        download(server.url, tmp_path / "a", **QUICK)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again_and_not_for_ever(server, tmp_path, status):
    server.answers = [fail(status), fail(status), serve()]
    assert download(server.url, tmp_path / "a", **QUICK).read_bytes() == BODY
    server.answers, server.asked = [fail(status)], []
    with pytest.raises(ConnectionError, match=says(str(status))):
        download(server.url, tmp_path / "b", tries=3, **QUICK)
    assert len(server.asked) == 3


def test_the_pauses_grow(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.answers = [fail(500)]
    with pytest.raises(ConnectionError):
        download(server.url, tmp_path / "a", tries=5, wait=1)
    assert pauses == [0, 1, 2, 4, 8]


def test_silence_ends_a_try(server, tmp_path):
    done = threading.Event()

    def silent(handler, body):
        send(handler, 200, {"Content-Length": len(body), "ETag": '"one"'}, body[:9])
        handler.wfile.flush()
        done.wait(600)

    server.answers = [silent, serve()]
    start = time.monotonic()
    path = download(server.url, tmp_path / "a", wait=0, timeout=1)
    assert time.monotonic() - start < 300
    done.set()
    assert path.read_bytes() == BODY and server.asked[1]["Range"] == "bytes=9-"


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionError, match=says("http://127.0.0.1:1/a.zip")):
        download("http://127.0.0.1:1/a.zip", tmp_path / "a", tries=2, **QUICK)


def test_redirects_are_followed_but_not_everywhere(server, tmp_path):
    server.answers = [fail(302, Location="/elsewhere.zip"), serve()]
    assert download(server.url, tmp_path / "a").read_bytes() == BODY
    for place in (Path(__file__).resolve().as_uri(), "ftp://127.0.0.1/a"):
        server.answers = [fail(302, Location=place)]
        with pytest.raises((ConnectionError, ValueError), match=says(place)):
            download(server.url, tmp_path / "b", **QUICK)
    server.answers = [fail(302, Location="/set.zip")]  # in a circle
    with pytest.raises(ConnectionError, match=says("302")):
        download(server.url, tmp_path / "b", **QUICK)
    assert not (tmp_path / "b").exists()


def test_no_redirect_leads_out_of_https():
    request = module.Request("https://a.org/set.zip")
    with pytest.raises(ValueError, match=says("http://b.org", "not followed")):
        module._Redirects().redirect_request(request, None, 302, "", {}, "http://b.org")


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://a.org/b", "a.zip", ""])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match=says("https://")):
        download(url, tmp_path / "a")


def test_a_disk_too_small_is_seen_before(server, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=150_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    server.answers = [serve()]
    with pytest.raises(OSError, match=says(str(tmp_path), "0.1 MB free", "0.2 MB")):
        download(server.url, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_disk_that_fills_leaves_nothing_under_the_name(server, tmp_path, monkeypatch):
    def on_a_full_disk(path, mode):
        return open("/dev/full" if mode == "wb" else path, mode)

    monkeypatch.setattr(module, "open", on_a_full_disk, raising=False)
    server.answers = [serve()]
    with pytest.raises(OSError, match=says("the disk is full")) as caught:
        download(server.url, tmp_path / "a", **QUICK)
    assert caught.value.errno == errno.ENOSPC and len(server.asked) == 1
    assert not (tmp_path / "a").exists()


def test_two_at_once_do_not_disturb_each_other(server, tmp_path):
    arrived, go = threading.Event(), threading.Event()

    def slow(handler, body):
        arrived.set()
        go.wait(120)
        serve()(handler, body)

    server.answers = [slow]
    first = threading.Thread(target=download, args=(server.url, tmp_path / "a"))
    first.start()
    assert arrived.wait(120)
    with pytest.raises(BlockingIOError, match=says(str(tmp_path / "a"), "another run")):
        download(server.url, tmp_path / "a")
    go.set()
    first.join()
    assert (tmp_path / "a").read_bytes() == BODY and names(tmp_path) == ["a"]


KILLED = """
import sys
from unet_tutorial.data.download import download
download(sys.argv[1], sys.argv[2])
"""


def test_a_run_that_is_killed_is_resumed(server, tmp_path):
    half, done = threading.Event(), threading.Event()

    def hang(handler, body):
        head = {"Content-Length": len(body), "ETag": '"one"'}
        send(handler, 200, head, body[:100_000])
        half.set()
        done.wait(600)

    server.answers = [hang, serve()]
    run = [sys.executable, "-c", KILLED, server.url, str(tmp_path / "a")]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    with subprocess.Popen(run, env=env, stderr=subprocess.DEVNULL) as child:
        assert half.wait(600)
        part = tmp_path / "a.part"
        wait_for(lambda: part.exists() and part.stat().st_size)
        child.kill()
    done.set()
    assert not (tmp_path / "a").exists()
    assert download(server.url, tmp_path / "a").read_bytes() == BODY
    assert "Range" in server.asked[-1] and names(tmp_path) == ["a"]


# Unpacking


def write(path, entries):
    path.write_bytes(zipped(entries))
    return path


def test_a_zip_is_unpacked_whole(tmp_path):
    archive = write(tmp_path / "a.zip", {"x/": b"", "x/y.tif": b"1", "Ä ö/.z": b"2"})
    folder = unpack(archive, tmp_path / "deep" / "new", holds="*.tif")
    assert (folder / "x" / "y.tif").read_bytes() == b"1"
    assert (folder / "Ä ö" / ".z").read_bytes() == b"2"
    assert names(folder.parent) == ["new"]


EVIL = [
    "../a",
    "x/../../a",
    "/a",
    "//a",
    "x//a",
    "x/./a",
    "x/.. /a",
    "...",
    "",
    "C:/a",
    "a:stream",
    "x\\..\\a",
    "\\a",
    "a\nb",
]


@pytest.mark.parametrize("name", EVIL)
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    archive = write(inside / "a.zip", {"good.tif": b"1", "Q" * len(name) or "Q": b"2"})
    if name:  # as a zip from another system has it
        bytes_ = archive.read_bytes().replace(b"Q" * len(name), name.encode())
        archive.write_bytes(bytes_)
    else:
        archive.write_bytes(archive.read_bytes().replace(b"Q", b"/"))
    with pytest.raises(ValueError, match=says(str(archive), "refused")):
        unpack(archive, inside / "new")
    assert names(inside) == ["a.zip"] and names(tmp_path) == ["inside"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("data")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(entry, "..")
        file.writestr("data/escaped", "b")
    with pytest.raises(ValueError, match=says("'data'", "link or a device")):
        unpack(tmp_path / "a.zip", tmp_path / "new")
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("other", ["a.tif", "A.TIF"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path, other):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.tif", "1")
        file.writestr(other, "2")
    with pytest.raises(ValueError, match=says(f"'{other}' is there twice")):
        unpack(tmp_path / "a.zip", tmp_path / "new")


def test_a_file_and_a_folder_of_one_name_leave_nothing(tmp_path):
    archive = write(tmp_path / "a.zip", {"a": b"1", "a/b": b"2"})
    with pytest.raises(ValueError, match=says("'a/b'", "a file of the same name")):
        unpack(archive, tmp_path / "new")
    assert names(tmp_path) == ["a.zip"]


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    archive = write(tmp_path / "a.zip", {"zeros": bytes(10**7)})
    assert archive.stat().st_size < 20_000
    with pytest.raises(ValueError, match=says("10,000,000 bytes", "1,000,000 at most")):
        unpack(archive, tmp_path / "new", limit=10**6)
    many = write(tmp_path / "b.zip", {f"{n}": bytes(600_000) for n in range(2)})
    with pytest.raises(ValueError, match=says("2 files, 1,200,000 bytes")):
        unpack(many, tmp_path / "new", limit=10**6)
    assert names(tmp_path) == ["a.zip", "b.zip"]


def test_an_entry_that_lies_about_its_size_writes_no_more(tmp_path):
    honest = zipped({"zeros": bytes(10**6)})
    lying = honest.replace((10**6).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(lying)
    with pytest.raises(ValueError, match=says("a.zip", "damaged")):
        unpack(tmp_path / "a.zip", tmp_path / "new", limit=1000)
    assert names(tmp_path) == ["a.zip"]


def test_other_methods_and_encryption_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a", "1")
    with pytest.raises(ValueError, match=says("unusual method")):
        unpack(tmp_path / "a.zip", tmp_path / "new")
    secret = bytearray(zipped({"a": b"1"}))
    secret[secret.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(secret)
    with pytest.raises(ValueError, match=says("'a' is encrypted")):
        unpack(tmp_path / "b.zip", tmp_path / "new")


@pytest.mark.parametrize("spoil", ["flip", "cut", "html", "empty"])
def test_a_damaged_zip_is_named_and_leaves_nothing(tmp_path, spoil):
    body = zipped({"a.tif": BODY})
    damaged = bytearray(body)
    damaged[len(body) // 2] ^= 1
    bodies = {"flip": damaged, "cut": body[:-30], "html": b"<html>", "empty": b""}
    (tmp_path / "a.zip").write_bytes(bodies[spoil])
    with pytest.raises(ValueError, match=says(str(tmp_path / "a.zip"), "damaged")):
        unpack(tmp_path / "a.zip", tmp_path / "new")
    assert names(tmp_path) == ["a.zip"]


def test_mutated_zips_raise_what_is_promised_and_write_nothing(tmp_path):
    body, rng = zipped({"a/b.tif": BODY[:300], "c": b"1"}), random.Random(1)
    archive = tmp_path / "in" / "a.zip"
    archive.parent.mkdir()
    for number in range(150):
        spoilt = bytearray(body)
        for _ in range(rng.randint(1, 4)):
            spoilt[rng.randrange(len(body))] = rng.randrange(256)
        archive.write_bytes(spoilt)
        new = archive.parent / f"new{number}"
        try:
            unpack(archive, new, limit=10**6)
        except (ValueError, OSError):
            assert not new.exists()
    assert names(tmp_path) == ["in"]
    assert not list(archive.parent.glob(".*"))


def test_a_folder_that_is_there_stays_as_it_is(tmp_path):
    archive = write(tmp_path / "a.zip", {"a": b"1"})
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match=says(str(tmp_path / "new"))):
        unpack(archive, tmp_path / "new")
    assert names(tmp_path / "new") == ["mine"]
    (tmp_path / "new" / "mine").unlink()  # an empty one is filled
    assert names(unpack(archive, tmp_path / "new")) == ["a"]


def test_what_a_killed_run_left_is_swept_away(tmp_path):
    (tmp_path / ".new.unpacking").mkdir()
    (tmp_path / ".new.unpacking" / "half").touch()
    archive = write(tmp_path / "a.zip", {"a": b"1"})
    assert names(unpack(archive, tmp_path / "new")) == ["a"]
    assert names(tmp_path) == ["a.zip", "new"]


def test_a_disk_too_small_for_what_is_inside(tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    archive = write(tmp_path / "a.zip", {"a": bytes(10**6)})
    with pytest.raises(OSError, match=says("1.0 MB are needed")):
        unpack(archive, tmp_path / "new")
    assert names(tmp_path) == ["a.zip"]


# Getting


def test_getting_a_set_twice(drawn, server, tmp_path, capsys):
    folder = get("drawn", tmp_path / "data")
    assert folder == tmp_path / "data" / "drawn"
    assert (folder / "top" / "b" / "c.tif").exists()
    told = capsys.readouterr().out
    assert "Terms of use: none" in told and f"{folder} is ready" in told
    assert get("drawn", tmp_path / "data") == folder
    assert "is there already: nothing to do" in capsys.readouterr().out
    assert len(server.asked) == 1 and names(tmp_path / "data") == ["drawn"]


def test_getting_goes_on_after_a_break(drawn, server, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server.answers = [serve(40)]
    server.body = server.body * 10  # so that all tries break
    with pytest.raises(ConnectionError, match=says("drawn.zip")):
        get("drawn", tmp_path)
    assert "drawn" not in names(tmp_path) and "drawn.zip" not in names(tmp_path)
    server.body, server.answers = drawn, [serve(tag='"two"')]
    assert (get("drawn", tmp_path) / "top" / "a.tif").exists()
    assert names(tmp_path) == ["drawn"]


@pytest.mark.parametrize("body", [b"<html>moved</html>", zipped({"other.tif": b"1"})])
def test_a_wrong_zip_is_deleted(drawn, server, tmp_path, body):
    server.body = body
    with pytest.raises(ValueError, match=says("drawn.zip")):
        get("drawn", tmp_path)
    assert names(tmp_path) == [".drawn.lock"]


def test_a_wrong_checksum_stops_before_unpacking(drawn, server, tmp_path, monkeypatch):
    entry = SETS["drawn"]._replace(sha256="0" * 64)
    monkeypatch.setitem(SETS, "drawn", entry)
    with pytest.raises(ValueError, match=says("checksum")):
        get("drawn", tmp_path)
    assert "drawn" not in names(tmp_path)


def test_a_zip_put_there_by_hand_is_used_and_kept(drawn, server, tmp_path):
    (tmp_path / "drawn.zip").write_bytes(drawn)
    assert (get("drawn", tmp_path) / "top" / "a.tif").exists()
    assert server.asked == [] and names(tmp_path) == ["drawn", "drawn.zip"]


def test_a_damaged_zip_put_there_by_hand_is_kept(drawn, server, tmp_path):
    (tmp_path / "drawn.zip").write_bytes(drawn[:-5])
    with pytest.raises(ValueError, match=says("drawn.zip", "damaged")):
        get("drawn", tmp_path)
    assert "drawn.zip" in names(tmp_path)


def test_another_folder_of_that_name_is_no_data_set(drawn, server, tmp_path):
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "letters.txt").touch()
    with pytest.raises(FileExistsError, match=says(str(tmp_path / "drawn"))):
        get("drawn", tmp_path)
    assert server.asked == [] and names(tmp_path / "drawn") == ["letters.txt"]


def test_an_unknown_set_is_named_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=says("'isbn'", "isbi, u373, hela")):
        get("isbn", tmp_path)
    assert names(tmp_path) == []


# What needs more than an address


def fake_kaggle(monkeypatch, fetch):
    fake = types.ModuleType("kagglehub")
    fake.competition_download = fetch
    monkeypatch.setitem(sys.modules, "kagglehub", fake)


def test_carvana_takes_the_two_files_needed(tmp_path, monkeypatch):
    asked = []

    def fetch(slug, path):
        asked.append((slug, path))
        name = "a_01_mask.gif" if "mask" in path else "a_01.jpg"
        return str(write(tmp_path / path, {f"{path[:-4]}/{name}": b"1"}))

    fake_kaggle(monkeypatch, fetch)
    folder = get("carvana", tmp_path / "data")
    slug = "carvana-image-masking-challenge"
    assert asked == [(slug, "train.zip"), (slug, "train_masks.zip")]
    assert (folder / "train" / "train" / "a_01.jpg").exists()
    assert (folder / "train_masks" / "train_masks" / "a_01_mask.gif").exists()
    assert names(tmp_path / "data") == ["carvana"]
    get("carvana", tmp_path / "data")
    assert len(asked) == 2


class UnauthenticatedError(Exception):
    "As in kagglehub."


def http_error(status):
    error = OSError(f"{status} Client Error")
    error.response = types.SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnauthenticatedError(), ["kagglehub.login()"]),
        (http_error(401), ["join the competition", "/rules"]),
        (http_error(403), ["join the competition", "carvana-image-masking-challenge"]),
    ],
)
def test_the_refusals_of_kaggle_become_a_sentence(tmp_path, monkeypatch, error, words):
    def fetch(slug, path):
        raise error

    fake_kaggle(monkeypatch, fetch)
    with pytest.raises(PermissionError, match=says(*words)):
        get("carvana", tmp_path)
    assert names(tmp_path) == [".carvana.lock"]


def test_other_errors_of_kaggle_are_passed_on(tmp_path, monkeypatch):
    def fetch(slug, path):
        raise http_error(500)

    fake_kaggle(monkeypatch, fetch)
    with pytest.raises(OSError, match="500"):
        get("carvana", tmp_path)


@pytest.mark.parametrize(
    ("name", "package"), [("carvana", "kagglehub"), ("pets", "torchvision")]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, package):
    for module_name in (package, f"{package}.datasets"):
        monkeypatch.setitem(sys.modules, module_name, None)
    with pytest.raises(ImportError, match=says("pip install", package)):
        get(name, tmp_path)
    assert names(tmp_path) == [f".{name}.lock"]


def fake_torchvision(monkeypatch, fetch):
    fake = types.ModuleType("torchvision.datasets")
    fake.OxfordIIITPet = fetch
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", fake)


def test_the_pets_come_through_torchvision(tmp_path, monkeypatch):
    def fetch(root, download):
        trimaps = root / "oxford-iiit-pet" / "annotations" / "trimaps"
        trimaps.mkdir(parents=True)
        (trimaps / "a.png").touch()
        (root / "oxford-iiit-pet" / "images.tar.gz").touch()

    fake_torchvision(monkeypatch, fetch)
    folder = get("pets", tmp_path)
    assert names(folder / "oxford-iiit-pet") == ["annotations"]


def test_pets_that_broke_off_are_not_there(tmp_path, monkeypatch):
    def fetch(root, download):
        (root / "oxford-iiit-pet" / "images").mkdir(parents=True)
        raise RuntimeError("File not found or corrupted.")

    fake_torchvision(monkeypatch, fetch)
    with pytest.raises(RuntimeError):
        get("pets", tmp_path)
    assert names(tmp_path) == [".pets.lock"]
