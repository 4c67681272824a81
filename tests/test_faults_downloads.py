"""Lies of a server: each ends with a sentence, and nothing false bears the name."""

import contextlib
import hashlib
import io
import os
import random
import socket
import struct
import threading
import time
import zipfile
import zlib
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unet_tutorial.data.download import SETS, DataSet, download, get

BODY = random.Random(0).randbytes(60_000)  # SIZE
SIZE, HALF = 60_000, 30_000
LIMITS = {
    "limit": 200_000,
    "tries": 2,
    "wait": 0.001,
    "timeout": 60,
    "slowest": 1,
    "longest": 300,
}
SOON = LIMITS | {"tries": 1, "timeout": 0.5, "slowest": 1000}
TIME_IS_UP = ("timed out", "no answer", "bytes in")  # told of who is too slow for SOON


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has left: what we want to see
            answer(self)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False

    def handle_error(self, *_):
        pass


@contextlib.contextmanager
def served(*answers):
    "A server that gives these answers, the last one for ever; its address."
    server = Server(("127.0.0.1", 0), Handler)
    server.answers = list(answers)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    before = os.environ.get("no_proxy")
    os.environ["no_proxy"] = "127.0.0.1"
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/set.zip"
    finally:
        server.shutdown()
        server.server_close()
        os.environ.pop("no_proxy")
        if before is not None:
            os.environ["no_proxy"] = before


# What a server may answer


def raw(*pieces, pause=0.1):
    "These bytes, with a pause between the pieces."

    def answer(handler):
        for number, piece in enumerate(pieces):
            time.sleep(pause if number else 0)
            handler.wfile.write(piece)

    return answer


def head(status=200, *lines, length=SIZE, tag='"1"'):
    "The header of an answer; None leaves a line out."
    known = {"Content-Length": length, "ETag": tag}
    told = [f"{name}: {value}" for name, value in known.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status} Told", *told, *lines, "", ""]).encode()


def says(*arguments, body=BODY, **options):
    return raw(head(*arguments, **options) + body)


def honest(handler):
    "The file, or the rest that was asked for."
    first = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
    if handler.headers.get("If-Range") != '"1"':
        first = 0
    if first == len(BODY):
        return says(416, f"Content-Range: bytes */{first}", length=0, body=b"")(handler)
    place = f"Content-Range: bytes {first}-{len(BODY) - 1}/{len(BODY)}"
    lines, status = ([place], 206) if first else ([], 200)
    return says(status, *lines, length=len(BODY) - first, body=BODY[first:])(handler)


def rest(first=HALF, last=SIZE - 1, total=SIZE, **options):
    "A rest, told in numbers that may be false."
    place = f"Content-Range: bytes {first}-{last}/{total}"
    options = {"length": len(BODY) - HALF, "body": BODY[HALF:]} | options
    return says(206, place, **options)


def drip(before, piece):
    "A beginning, and then a byte from time to time, for as long as anyone listens."

    def answer(handler):
        handler.wfile.write(before)
        for number in range(10_000):
            time.sleep(0.02)
            handler.wfile.write(piece[number % len(piece) :][:1])

    return answer


def endless(before, piece):
    "A beginning, and then the same for as long as anyone listens."

    def answer(handler):
        handler.wfile.write(before)
        start = time.monotonic()
        while time.monotonic() < start + 200:
            handler.wfile.write(piece * 99)

    return answer


def silent(before=b""):
    def answer(handler):
        handler.wfile.write(before)
        time.sleep(200)

    return answer


def reset(handler):
    "Half a file; then the connection is torn."
    handler.wfile.write(head() + BODY[:HALF])
    handler.wfile.flush()
    time.sleep(0.05)
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def leads(place):
    return says(302, f"Location: {place}", length=0, tag=None, body=b"")


def ever_new(handler):
    leads(f"/{time.monotonic_ns()}")(handler)


def chunks(*pieces):
    "A body in chunks, as it is given."
    start = head(200, "Transfer-Encoding: chunked", length=None)
    return raw(start + b"".join(pieces))


def chunk(body):
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


broken = says(body=BODY[:HALF])  # an honest server whose connection breaks
CHUNKED = head(200, "Transfer-Encoding: chunked", length=None)
HTML = b"<!doctype html><title>Log in</title>"
ENCODED = zlib.compress(BODY, wbits=31)


# What must hold


def is_a_sentence(error, *known):
    "One line that can be printed, and that names the address or the file."
    text = str(error)
    assert any(str(name) in text for name in known), text
    assert text.isprintable() and 20 < len(text) < 1000, text


def refused(*answers, words="", sha256=None, folder):
    "It ends with a sentence and no file; an honest server then brings the file."
    path, start = folder / "set.zip", time.monotonic()
    limits = SOON if words in TIME_IS_UP else LIMITS
    with served(*answers) as (server, url):
        with pytest.raises((OSError, ValueError)) as caught:
            download(url, path, sha256, **limits)
        assert time.monotonic() - start < 60  # no lie ends before
        is_a_sentence(caught.value, url, path)
        assert words in str(caught.value), str(caught.value)
        part = folder / "set.zip.part"
        assert not path.exists()
        assert not part.exists() or BODY.startswith(part.read_bytes())
        server.answers = [honest]
        assert download(url, path, **LIMITS).read_bytes() == BODY
        assert [file.name for file in folder.iterdir()] == ["set.zip"]


def outdone(*answers, folder):
    "In spite of it, the file comes whole."
    with served(*answers) as (_, url):
        path = download(url, folder / "set.zip", **LIMITS)
        assert path.read_bytes() == BODY
        assert [file.name for file in folder.iterdir()] == ["set.zip"]


def kept(*answers, words, folder):
    "It ends with a sentence, and the half that came before stays to be resumed."
    with served(broken, *answers) as (_, url):
        with pytest.raises((OSError, ValueError), match=words):
            download(url, folder / "set.zip", **LIMITS)
        assert (folder / "set.zip.part").read_bytes() == BODY[:HALF]


def packed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.tif", b"a" * 1000)
    return buffer.getvalue()


def got(body, *, words, sha256=None, holds="a.tif", folder, tag='"1"'):
    "`get` ends with a sentence, and leaves no data set and no archive."
    length = None if tag is None else len(body)
    with served(says(length=length, tag=tag, body=body)) as (_, url):
        SETS["lies"] = DataSet(url, "none", holds, 10**6, sha256)
        try:
            with pytest.raises((OSError, ValueError), match=words) as caught:
                get("lies", folder)
        finally:
            del SETS["lies"]
        is_a_sentence(caught.value, url, folder)
        assert not (folder / "lies").exists() and not (folder / "lies.zip").exists()


LIES = {
    "a body longer than announced": (says(body=BODY + b"!"), "more came"),
    "a body that goes on after a pause": (raw(head() + BODY, b"more"), "more came"),
    "a body of a quarter of what is announced": (says(body=BODY[:15_000]), "15,000 of"),
    "two lengths": (says(200, "Content-Length: 5"), "lengths 5 and 60000"),
    "two lengths in one line": (says(length="60000, 7"), "lengths 60000 and 7"),
    "a length of 30 digits": (says(length=10**30, body=b""), "not a single byte"),
    "a length beyond the limit": (says(length=10**12), "more than 200,000 bytes"),
    "an empty file": (says(length=0, body=b""), "not a single byte"),
    "no length and no byte": (says(length=None, body=b""), "not a single byte"),
    "length 0 and a body": (says(length=0), "more came"),
    "no length and no end": (endless(head(length=None), bytes(9999)), "more than 200"),
    "chunks without end": (endless(CHUNKED, chunk(bytes(9999))), "more than 200,000"),
    "chunks that break off": (chunks(chunk(BODY[:HALF])), ""),
    "a chunk that breaks off": (chunks(chunk(BODY)[:HALF]), ""),
    "chunks of no number": (chunks(b"lots\r\n", BODY), ""),
    "a chunk of negative size": (chunks(b"-5\r\n", BODY), ""),
    "a chunk of more than everything": (chunks(b"f" * 99 + b"\r\n", BODY), ""),
    "a chunk's size of a megabyte": (endless(CHUNKED, b"1" * 9999), ""),
    "a connection torn in the middle": (reset, ""),
    "no answer at all": (raw(b""), "without response"),
    "an answer in no language": (raw(b"\x00\xff" * 99 + b"\r\n\r\n"), ""),
    "a body and no header": (raw(BODY), ""),
    "a header line of a megabyte": (endless(head()[:-4], b"A" * 9999), ""),
    "a million header lines": (endless(head()[:-4] + b"\r\n", b"A: b\r\n"), "headers"),
    "continue, continue, ...": (endless(b"", b"HTTP/1.1 100 C\r\n\r\n"), "no answer"),
    "status 202, with a text": (says(202, length=4, body=b"wait"), "answers 202"),
    "status 204": (says(204, length=None, body=b""), "answers 204"),
    "status 99 and status 999": (says(999, length=0, body=b""), "999"),
    "404, with control characters": (raw(b"HTTP/1.1 404 \x1b[2J\x07\r\n\r\n"), "404"),
    "404, with 60,000 characters": (raw(b"HTTP/1.1 404 " + b"A" * 60_000), "404"),
    "503 for ever, come back in 30 years": (says(503, "Retry-After: 999999999"), "503"),
    "401, log in": (says(401, "WWW-Authenticate: Basic", length=0), "401"),
    "it never answers": (silent(), "timed out"),
    "it stops after the header": (silent(head()), "timed out"),
    "it stops in the middle": (silent(head() + BODY[:HALF]), "timed out"),
    "a byte now and then, from the first line": (drip(b"", b"HTTP"), "no answer"),
    "a byte now and then, in the header": (drip(head()[:-4], b"A"), "no answer"),
    "a byte now and then, in the body": (drip(head(), BODY), "bytes in"),
    "a byte now and then, without length": (drip(head(length=None), BODY), "bytes in"),
    "a byte now and then, in a chunk's size": (drip(CHUNKED, b"1"), "bytes in"),
    "fast, then a byte now and then": (drip(head() + BODY[:9], BODY[9:]), "bytes in"),
    "redirects in a circle": (leads("/set.zip"), "302"),
    "redirects to ever new places": (ever_new, "302"),
    "a redirect to a file": (leads("file:///etc/hosts"), ""),
    "a redirect to ftp": (leads("ftp://127.0.0.1/a"), "not followed"),
    "a redirect to a text": (leads("data:text/plain,a"), ""),
    "a redirect to nowhere": (says(302, length=0, body=b""), "302"),
    "a redirect to no host": (leads("http:///a"), ""),
    "a redirect to half an address": (leads("http://[::1"), ""),
    "a redirect to a port of five nines": (leads("http://127.0.0.1:99999/"), ""),
    "a redirect to a port of letters": (leads("http://127.0.0.1:port/"), ""),
    "a redirect to a name of two dots": (leads("http://a..b/"), ""),
    "a redirect with a line's end": (leads("/a\r\n b\x00\x1b[2J"), ""),
    "a redirect of 60,000 characters": (leads("/" + "a" * 60_000), ""),
    "a web page": (
        says(200, "Content-Type: text/html", body=HTML, length=36),
        "log in",
    ),
    "packed, not asked for": (
        says(200, "Content-Encoding: gzip", body=ENCODED, length=len(ENCODED)),
        "packed as 'gzip'",
    ),
}
RESTS = {  # the second answer, after half the file: begin again, or end with a sentence
    "of a file of another length": rest(total=len(BODY) + 5),
    "of a shorter file": rest(total=HALF + 9, last=HALF + 8, length=9, body=BODY[:9]),
    "that begins elsewhere": rest(first=HALF + 1),
    "that begins before": rest(first=0),
    "that ends before the end": rest(last=HALF + 99, length=100, body=BODY[:100]),
    "that ends before it begins": rest(last=5),
    "of another version": rest(tag='"2"'),
    "of another length than its place": rest(length=7),
    "without a place": says(206, length=len(BODY) - HALF, body=BODY[HALF:]),
    "of unknown length": rest(total="*"),
    "in many parts": says(206, "Content-Type: multipart/byteranges; boundary=a"),
    "in numbers of 5,000 digits": rest(total="9" * 5000),
    "in other digits": rest(total="6e4"),
    "that is none, though half is lacking": says(
        416, f"Content-Range: bytes */{HALF}", length=0, body=b""
    ),
    "longer than announced": rest(body=BODY[HALF:] + b"!"),
}
HARMLESS = {
    "the whole file to who asks for a rest": (broken, says()),
    "another version, whole": (says(body=bytes(9), tag='"0"'), honest),
    "a rest to who asks for all": (rest(first=0, length=len(BODY), body=BODY),),
    "a negative length": (says(length=-5),),
    "a length with an underscore": (says(length="60_000"),),
    "the same length twice": (says(200, f"Content-Length: {len(BODY)}"),),
    "chunks and a length": (
        raw(head(200, "Transfer-Encoding: chunked") + chunk(BODY) + b"0\r\n\r\n"),
    ),
    "a connection that is not closed": (silent(head() + BODY),),
    "a version of 9,000 characters": (
        says(tag=f'"{"a" * 9000}"', body=BODY[:HALF]),
        honest,
    ),
    "a version of two lines": (says(tag='"a\r\n b"', body=BODY[:HALF]), honest),
    "no zone in its date": (
        says(200, "Last-Modified: yesterday", tag=None, body=BODY[:HALF]),
        honest,
    ),
}


def own_link(folder):
    "A part that is a link is not followed: what it leads to is another's."
    (folder / "mine").write_text("mine")
    (folder / "set.zip.part").symlink_to(folder / "mine")
    with served(honest) as (_, url):
        assert download(url, folder / "set.zip").read_bytes() == BODY
    assert (folder / "mine").read_text() == "mine"


def odd_note(folder):
    "A note that is no note is not sent to the server."
    (folder / "set.zip.part").write_bytes(BODY[:HALF])
    (folder / "set.zip.part.tag").write_bytes(b'"a\r\nHost: b"\x00\xff\nmany\n')
    with served(honest) as (_, url):
        assert download(url, folder / "set.zip").read_bytes() == BODY


def wrong_sum(folder):
    refused(honest, words="checksum", sha256="0" * 64, folder=folder)


def right_sum_in_capitals(folder):
    with served(honest) as (_, url):
        sha256 = hashlib.sha256(BODY).hexdigest().upper()
        assert download(url, folder / "a", sha256).read_bytes() == BODY


def long_in_all(folder):
    "Many tries, each of which brings something, end when the time for all is over."
    start, limits = time.monotonic(), SOON | {"longest": 1.2, "tries": 99}
    with served(drip(head() + BODY[:300], BODY[300:])) as (_, url):
        with pytest.raises(ConnectionError, match="took too long"):
            download(url, folder / "set.zip", **limits)
    assert time.monotonic() - start < 60


CASES = {
    **{
        f"a server tells: {name}": partial(
            lambda a, w, f: refused(a, words=w, folder=f), *lie
        )
        for name, lie in LIES.items()
    },
    **{
        f"a rest {name}, for ever": partial(
            lambda a, f: refused(broken, a, folder=f), answer
        )
        for name, answer in RESTS.items()
    },
    **{
        f"harmless: {name}": partial(lambda a, f: outdone(*a, folder=f), answers)
        for name, answers in HARMLESS.items()
    },
    "a web page to who asks for a rest": lambda folder: kept(
        says(200, "Content-Type: text/html", body=HTML), words="log in", folder=folder
    ),
    "a packed file to who asks for a rest": lambda folder: kept(
        says(200, "Content-Encoding: br"), words="packed as 'br'", folder=folder
    ),
    "the address is gone when a rest is asked for": lambda folder: kept(
        says(404, length=0, body=b""), words="404", folder=folder
    ),
    "a part that is a link": own_link,
    "a note of another's making": odd_note,
    "a wrong checksum": wrong_sum,
    "a checksum in capitals": right_sum_in_capitals,
    "tries that never end": long_in_all,
    "get: a web page that says it is a zip": lambda folder: got(
        HTML, words="web page", folder=folder
    ),
    "get: a zip cut off, without length": lambda folder: got(
        packed()[:-30], words="damaged", tag=None, folder=folder
    ),
    "get: another data set": lambda folder: got(
        packed(), words="another data set", holds="b.tif", folder=folder
    ),
    "get: a wrong checksum": lambda folder: got(
        packed(), words="checksum", sha256="0" * 64, folder=folder
    ),
}


@pytest.mark.parametrize("fault", CASES)
def test_fault(fault, tmp_path):
    CASES[fault](tmp_path)


def test_there_are_many():
    assert len(CASES) > 80
