"""What is dropped on the page for one image: large, false, and with an evil name."""

import io
import threading
import time
import zlib
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from samples import noise, png, thin_net

from unet_tutorial.data.images import read_mask
from unet_tutorial.deploy import live
from unet_tutorial.deploy.live import Desk, read_upload
from unet_tutorial.predict import Predictor

NET = Predictor(thin_net(padding=1), torch.device("cpu"))


def as_file(image, form="png", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=form, **options)
    return buffer.getvalue()


GOOD = as_file(noise(20, 33))


def blank(height, width, told=None):
    "A PNG of zeros, packed as tight as zeros can be; its head may tell another size."
    sides = b"".join(side.to_bytes(4, "big") for side in told or (width, height))
    packer, row = zlib.compressobj(9), bytes(1 + width)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(("IHDR", sides + b"\x08\0\0\0\0"), ("IDAT", body))


def refused(data, words, folder, name="a.png", **limits):
    "A sentence, at once; what was on the desk stays, and nothing is written."
    desk = Desk(NET, folder / "masks", **limits)
    desk.open("good.png", GOOD)
    start, said = time.process_time(), desk.open(name, data)
    assert time.process_time() - start < 2  # whatever else this machine does
    assert words in said and said.isprintable() and len(said) < 400, said
    assert desk.name == "good.png" and desk.image.shape == (20, 33)
    assert not (folder / "masks").exists()


def huge(folder):
    "13,000 x 13,000 pixels in 165 kB: refused by its head, before a pixel is made."
    data = blank(13_000, 13_000)
    assert len(data) < 200_000
    refused(data, "13,000 x 13,000 pixels; this page takes 32,000,000", folder)


def lying_head(folder):
    "A head of few pixels, with a body of many: the rest is not unpacked."
    desk = Desk(NET, folder)
    assert "9 x 9 pixels" in desk.open("a.png", blank(4000, 4000, told=(9, 9)))
    assert desk.image.shape == (9, 9)


def named(name, expected, folder):
    "A mask is written into the folder, under a name without tricks."
    desk = Desk(NET, folder / "in" / "masks")
    said = desk.open(name, GOOD)
    assert "20 x 33" in said, said
    assert not set("<>&$\\\"'`") & set(said) and said.isprintable()
    assert desk.save(0.5).startswith("written"), desk.save(0.5)
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in found] == [expected]
    assert found[0].parent == folder / "in" / "masks"


def two_at_once(folder):
    "The second image is told to wait, and the desk keeps the first."
    asked, go = threading.Event(), threading.Event()

    class Slow:
        model = NET.model

        def probabilities(self, image):
            asked.set()
            go.wait(120)
            return np.full((2, *image.shape), 0.5, np.float32)

    desk, said = Desk(Slow(), folder), []
    first = threading.Thread(target=lambda: said.append(desk.open("a.png", GOOD)))
    first.start()
    assert asked.wait(120)
    with patch.object(live, "_PATIENCE", 0):
        assert "another image is being asked about" in desk.open("b.png", GOOD)
    go.set()
    first.join()
    assert said == ["a.png: 20 x 33 pixels"] and desk.name == "a.png"
    assert "pixels" in desk.open("c.png", GOOD)


def two_pages(folder):
    "Two desks that share a file take turns; without it, each works for itself."
    asked, go = threading.Event(), threading.Event()

    class Slow:
        model = NET.model

        def probabilities(self, image):
            asked.set()
            go.wait(120)
            return np.full((2, *image.shape), 0.5, np.float32)

    turn = folder / "turn"
    slow, other = Desk(Slow(), folder, turn=turn), Desk(NET, folder, turn=turn)
    first = threading.Thread(target=slow.open, args=("a.png", GOOD))
    first.start()
    assert asked.wait(120)
    with patch.object(live, "_PATIENCE", 0):
        assert "another image is being asked about" in other.open("b.png", GOOD)
    assert "20 x 33" in Desk(NET, folder).open("b.png", GOOD)
    go.set()
    first.join()
    assert "20 x 33" in other.open("b.png", GOOD)


def stack(form, folder):
    "Of a stack the first page counts; the others are not decoded."
    pages = [Image.fromarray(np.full((20, 33), value, np.uint8)) for value in (9, 99)]
    buffer = io.BytesIO()
    pages[0].save(buffer, form, save_all=True, append_images=pages[1:])
    desk = Desk(NET, folder)
    assert "20 x 33" in desk.open(f"a.{form}", buffer.getvalue())
    assert desk.image.max() < 20
    assert desk.save(0.5).startswith("written")
    assert read_mask(folder / "a_mask.png").shape == (20, 33)


def no_memory(folder):
    "An error without words gets some."

    class Poor:
        model = NET.model

        def probabilities(self, image):
            raise MemoryError

    assert "not enough memory" in Desk(Poor(), folder).open("a.png", GOOD)


def nothing_yet(folder):
    "The button to save does nothing before an image is there."
    assert "no image yet" in Desk(NET, folder / "masks").save(0.5)
    assert not (folder / "masks").exists()


def full_of_masks(folder):
    "A mask that is there is not replaced unless that is wanted."
    desk = Desk(NET, folder)
    (folder / "a_mask.png").write_text("mine")
    desk.open("x/a.png", GOOD)
    assert "overwrite=True" in desk.save(0.5)
    assert (folder / "a_mask.png").read_text() == "mine"


def no_folder(folder):
    "A place that is no folder is named."
    (folder / "masks").write_text("a file")
    desk = Desk(NET, folder / "masks")
    desk.open("a.png", GOOD)
    assert "masks" in desk.save(0.5)


def buttons(folder):
    "The button of ipywidgets 7 and of 8, with nothing, and with several files."
    new = [{"name": n, "content": memoryview(n.encode())} for n in ("a", "b")]
    old = {n: {"metadata": {}, "content": n.encode()} for n in ("a", "b")}
    assert read_upload(tuple(new)) == read_upload(old) == ("b", b"b")
    assert read_upload(()) is read_upload({}) is None


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
CASES = {
    "13,000 x 13,000 pixels in 165 kB": huge,
    "a head that lies": lying_head,
    "2 billion x 2 billion pixels": partial(
        refused, png(("IHDR", b"\x7f\xff\xff\xff" * 2 + b"\x08\0\0\0\0")), ""
    ),
    "a wide strip": partial(refused, blank(1, 3000), "1 x 3,000", most=(10**6, 999)),
    "too many bytes": partial(
        refused, GOOD + bytes(10**6), "this page takes 1,000", most=(1000, 10**6)
    ),
    "no image": partial(refused, b"Dear reader", "not an image"),
    "no bytes": partial(refused, b"", "not an image"),
    "half an image": partial(refused, as_file(noise(99, 99))[:900], ""),
    "a program for a printer": partial(refused, EPS, "not an image"),
    "a drawing with a script": partial(refused, SVG, "not an image"),
    "a web page": partial(refused, b"<html><img src=x onerror=alert(1)>", "not an"),
    "colours for a grey net": partial(refused, as_file(noise(9, 9, 3)), "3 channels"),
    "no image, of an evil name": partial(
        refused, b"x", "not an image", name="<img src=x onerror=alert(1)>\n.png"
    ),
    "a GIF of two pages": partial(stack, "gif"),
    "a TIFF of two pages": partial(stack, "tiff"),
    "html in a name": partial(named, "<b>x</b>.png", "b__mask.png"),
    "a script in a name": partial(
        named, "<script>alert(1)<_script>.png", "_script_alert(1)__script__mask.png"
    ),
    "a formula in a name": partial(
        named, "$\\href{javascript:a}{b}$.png", "href_javascript_a__b___mask.png"
    ),
    "a name that leads out": partial(named, "../../evil.png", "evil_mask.png"),
    "a name of Windows that leads out": partial(
        named, "..\\..\\evil.png", "evil_mask.png"
    ),
    "an absolute name": partial(named, "/etc/passwd.png", "passwd_mask.png"),
    "a drive": partial(named, "C:\\Windows\\a.png", "a_mask.png"),
    "a name with NUL": partial(named, "a\0b.png", "a_b_mask.png"),
    "a name with a line's end": partial(named, "a\nb.png", "a_b_mask.png"),
    "a name that runs backwards": partial(named, "a\u202egnp.exe", "a_gnp_mask.png"),
    "a name of 10,000 letters": partial(
        named, "a" * 10_000 + ".png", "a" * 76 + "_mask.png"
    ),
    "a name in Japanese of 400 bytes": partial(
        named, "細" * 60 + ".png", "細" * 60 + "_mask.png"
    ),
    "no name": partial(named, "", "image_mask.png"),
    "only dots": partial(named, "..", "image_mask.png"),
    "two at once on one page": two_at_once,
    "two pages at once": two_pages,
    "no memory": no_memory,
    "saving without an image": nothing_yet,
    "saving over a file": full_of_masks,
    "saving where a file is": no_folder,
    "both versions of the button": buttons,
}


@pytest.mark.parametrize("fault", CASES)
def test_fault(fault, tmp_path):
    CASES[fault](tmp_path)
