"Broken, lying and huge image files: each is refused with a sentence, none crashes."

import io
import random
import re
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_tutorial.data.check import check_pairs
from unet_tutorial.data.images import (
    BadFile,
    as_images,
    common_channels,
    read_image,
    read_labels,
    read_mask,
    read_pixels,
    upright_size,
)

READERS = read_image, read_mask, read_labels, read_pixels, as_images, upright_size


def refused(read, path, *words, **options):
    "Assert that a reader refuses a file in a sentence that names it and says these."
    try:
        found = read(path, **options)
    except BadFile as error:
        text = str(error)
        assert path.name in text and error.cause and error.remedy, text
        for word in words:
            assert word in text, f"{word!r} is not in {text!r}"
        return
    raise AssertionError(f"{path.name} was read as {np.shape(found)}")


# The head of a .npy file


def npy(text, numbers=b"", version=b"\1\0"):
    "The bytes of a .npy file with this first line."
    text = text if isinstance(text, bytes) else text.encode("utf-8")
    size = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + version + len(text).to_bytes(size, "little") + text + numbers


def head(shape="(2, 3)", descr="'|u1'", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


HEADS = {
    "a .npy whose first line is cut off": npy("{'descr': '|u1', 'fortran_"),
    "a .npy whose first line is not closed": npy("{'descr': ((((((((((", b"123456"),
    "a .npy whose first line is no text": npy(b"\xff\xfe\x00\x80" * 8, b"123456"),
    "a .npy whose first line is a program": npy("__import__('os').abort()", b"1"),
    "a .npy whose first line is nested deeply": npy("(" * 9000 + ")" * 900, b"1"),
    "a .npy whose first line never ends": npy(b" " * 50_000, b"", b"\2\0"),
    "a .npy whose first line is longer than the file": npy("{}")[:8] + b"\xff\xff{}",
    "a .npy of a version to come": npy(head(), b"123456", b"\7\0"),
    "a .npy of exabytes": npy(head("(4000000000, 4000000000)"), b"123456"),
    "a .npy of more digits than a number has": npy(head(f"({'9' * 5000}, 2)"), b"1"),
    "a .npy of fewer than no rows": npy(head("(-1, 3)"), b"123456"),
    "a .npy of a fraction of a row": npy(head("(1.5, 4)"), b"123456"),
    "a .npy that lacks some of its numbers": npy(head("(2, 4)"), b"123456"),
    "a .npy with more numbers than it says": npy(head("(1, 3)"), b"123456"),
    "a .npy without pixels": npy(head("(0, 3)")),
    "a .npy of one number": npy(head("()"), b"1"),
    "a .npy of objects, which would be unpickled": npy(head(descr="'|O'"), b"123456"),
    "a .npy of records": npy(head(descr="[('a', '|u1')]"), b"123456"),
    "a .npy of texts": npy(head("(2, 3)", "'<U1'"), bytes(24)),
    "a .npy of dates": npy(head("(1, 3)", "'<M8[s]'"), bytes(24)),
    "a .npy of a type that is none": npy(head(descr="'|u7'"), b"123456"),
    "a .npy that says its shape twice": npy(head("(2, 3), 'shape': (3, 2)"), b"123456"),
    "a .npy that is a pickle": b"\x80\x04]\x94.",
    "a .npy that is a page of a website": b"<!DOCTYPE html><html>",
    "a .npy that is an archive of several": b"PK\x03\x04" + bytes(40),
    "a .npy of eight bytes": b"\x93NUMPY\1\0",
}


def bad_head(data):
    "A case: no reader takes this .npy file, and each says why."

    def case(folder):
        path = folder / "broken.npy"
        path.write_bytes(data)
        for read in READERS:
            refused(read, path)
        for options in ({"channels": 3}, {"axes": "HWC"}):
            refused(read_image, path, **options)

    return case


# Small files that unpack into large ones


def chunk(kind, data):
    check = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + check


def black_png(side):
    "A black square as a PNG, without ever having its pixels."
    squeeze, row = zlib.compressobj(9), bytes(1 + side)
    data = b"".join(squeeze.compress(row) for _ in range(side)) + squeeze.flush()
    size = side.to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    parts = chunk(b"IHDR", size), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def peak_of(work):
    "The bytes that Python and NumPy take while something is done, at most."
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb_png(folder):
    "164 kB that unpack into 169 million pixels: refused by the head, in no memory."
    path = folder / "bomb.png"
    path.write_bytes(black_png(13_000))
    assert path.stat().st_size < 200_000
    assert upright_size.__name__ and peak_of(lambda: None) < 2**20
    words = "169000000 pixels", "134217727", "MAX_IMAGE_PIXELS", "UNET_TUTORIAL_PIXELS"
    for read in READERS:
        assert peak_of(lambda read=read: refused(read, path, *words)) < 2**23
    (folder / "masks").mkdir()
    Image.new("L", (8, 8)).save(folder / "masks" / "bomb.png")
    report = check_pairs(folder / "bomb.png" and _alone(folder, path), folder / "masks")
    assert any("large" in problem.cause for problem in report.problems)


def _alone(folder, path):
    (folder / "images").mkdir()
    return path.replace(folder / "images" / path.name).parent


def a_photograph_of_108_million(folder):
    "A phone's largest photographs are within the limit: their heads are read."
    path = folder / "phone.png"
    path.write_bytes(black_png(10_392))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns above 89 million
        assert upright_size(path) == (10_392, 10_392)


def _tags(pixels, data, compression, side):
    "The bytes of a TIFF of one strip that says it is a square of this side."
    entries = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, compression)]
    entries += [(262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, side)]
    entries += [(279, 4, len(data))]
    out = b"II*\0" + (8 + len(data)).to_bytes(4, "little") + data
    out += struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        out += struct.pack("<HHII", tag, kind, 1, value)
    return out + bytes(4)


def bomb_tiff(folder):
    "A TIFF of one compressed strip that would be unpacked at once."
    path = folder / "bomb.tif"
    for compression in (5, 8):  # LZW, deflate
        path.write_bytes(_tags(None, zlib.compress(bytes(10**6)), compression, 60_000))
        for read in (read_image, read_mask, read_pixels):
            work = lambda read=read: refused(read, path, "MAX_IMAGE_PIXELS")  # noqa: E731
            assert peak_of(work) < 2**23


def a_lying_tiff(folder):
    "A TIFF without compression whose pixels are not in the file."
    path = folder / "lie.tif"
    path.write_bytes(_tags(None, bytes(1000), 1, 60_000))
    for read in (read_image, read_mask, read_pixels):
        assert (
            peak_of(lambda read=read: refused(read, path, "bytes are missing")) < 2**23
        )


def a_strip_that_inflates_without_end(folder):
    "A strip of 64 x 64 pixels that unpacks into 300 MB."
    path, squeeze = folder / "strip.tif", zlib.compressobj(9)
    data = b"".join(squeeze.compress(bytes(2**20)) for _ in range(300))
    path.write_bytes(_tags(None, data + squeeze.flush(), 8, 64))
    assert peak_of(lambda: refused(read_pixels, path, "more than")) < 2**24


def a_large_tiff_is_mapped(folder):
    "A large TIFF without compression is legitimate: it is opened, not read."
    path = folder / "slide.tif"
    shape = (70, 1000, 1000)
    tifffile.memmap(path, shape=shape, dtype=np.uint8, photometric="minisblack").flush()
    assert path.stat().st_size > 2**26
    found = []
    assert peak_of(lambda: found.append(as_images(path))) < 2**23
    images, stack = found[0]
    assert stack and len(images) == 70 and isinstance(images[0], np.memmap)


def a_large_tiff_in_tiles_stays_on_the_disk(folder):
    "A compressed slide in tiles is unpacked tile by tile, into a file."
    path, side = folder / "slide.tif", 8448
    tile = np.zeros((256, 256), np.uint8)
    count = (side // 256) ** 2
    options = {"tile": (256, 256), "compression": "zlib", "photometric": "minisblack"}
    tifffile.imwrite(
        path, iter([tile] * count), shape=(side, side), dtype="u1", **options
    )
    found = []
    assert peak_of(lambda: found.append(read_pixels(path))) < 2**25
    assert isinstance(found[0], np.memmap) and found[0].shape == (side, side)


# A thousand files with some bytes changed


def written(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def samples():
    "Small good files of every kind."
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    colour, grey = Image.fromarray(colours), Image.fromarray(colours[..., 0])
    found = {"c.png": written(colour, "png"), "g.png": written(grey, "png")}
    found |= {"a.png": written(colour.convert("RGBA"), "png")}
    found |= {"p.png": written(colour.convert("P"), "png")}
    found |= {"c.jpg": written(colour, "jpeg"), "g.jpg": written(grey, "jpeg")}
    found |= {"c.bmp": written(colour, "bmp"), "p.gif": written(grey, "gif")}
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        found[f"{name}.tif"] = written(colour, "tiff", compression=name)
    for name, axes in (("imagej", "CYX"), ("ome", "ZCYX"), ("plain", "")):
        shape = (4, 2, 20, 24) if len(axes) == 4 else (4, 20, 24)
        more = {"metadata": {"axes": axes}, name: True} if axes else {}
        out = io.BytesIO()
        pages = rng.integers(0, 256, shape, dtype=np.uint8)
        tifffile.imwrite(out, pages, photometric="minisblack", **more)
        found[f"{name}.tif"] = out.getvalue()
    for name, more in (("five", {}), ("planes", {"compression": "zlib"})):
        out = io.BytesIO()
        pages = rng.integers(0, 60000, (20, 24, 5), dtype=np.uint16)
        more |= {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(out, pages, **more)
        found[f"{name}.tif"] = out.getvalue()
    for name, kind in (("u1", np.uint8), ("f4", np.float32)):
        out = io.BytesIO()
        np.save(out, rng.integers(0, 256, (4, 20, 24)).astype(kind))
        found[f"{name}.npy"] = out.getvalue()
    return found


def mutated(good, rng):
    "Change, insert, remove or cut some bytes, most of them near the beginning."
    data = bytearray(good)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(min(len(data), 400 if rng.random() < 0.7 else len(data)))
        change = rng.random()
        if change < 0.6:
            data[at] = rng.randrange(256)
        elif change < 0.75:
            data[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\0\0\1\0"])
        elif change < 0.85:
            data[at:at] = rng.randbytes(rng.randint(1, 9))
        elif change < 0.95:
            del data[at : at + rng.randint(1, 9)]
        else:
            del data[max(at, 1) :]
        if not data:
            break
    return bytes(data)


def fuzz(name, good, count):
    "A case: however a file is damaged, a reader reads it or says what is wrong."

    def case(folder):
        rng, path = random.Random(name), folder / name
        calls = [(read, {}) for read in READERS] + [(read_image, {"channels": 4})]
        calls += [(as_images, {"channels": 5}), (read_image, {"axes": "CYX"})]
        calls += [(read_image, {"size": (9, 7), "value_range": (0, 9)})]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(count):
                path.write_bytes(mutated(good, rng))
                read, options = calls[number % len(calls)]
                try:
                    read(path, **options)
                except BadFile as error:
                    assert path.name in str(error) and error.cause and error.remedy
                except OSError as error:
                    assert path.name in str(error)

    return case


def heads_with_changed_letters(folder):
    "Six hundred .npy heads of valid letters in a wrong order."
    rng, path = random.Random(4), folder / "a.npy"
    pieces = re.findall(r"'|\w+|[(){}:,<>|]|\s", head("(20, 24)", "'<f8'"))
    for _ in range(600):
        some = list(pieces)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(some))
            some[at] = rng.choice(
                [*pieces, "O", "9" * 40, "((((", "'''", "\\x", "lambda:0"]
            )
        path.write_bytes(npy("".join(some), bytes(20 * 24 * 8)))
        try:
            assert read_pixels(path).size == 480
        except BadFile as error:
            assert path.name in str(error)


# Files that are not what they seem


def other_things(folder):
    "What is often saved under the name of an image."
    things = {
        "page.jpg": b"<!DOCTYPE html><html>Please log in</html>",
        "pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "empty.tif": b"",
        "zeros.png": bytes(4096),
        "head.tif": b"II*\0",
        "circle.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(40),
    }
    for name, data in things.items():
        (folder / name).write_bytes(data)
        for read in READERS:
            refused(read, folder / name)


def channels_that_are_not_there(folder):
    "A stated number that a file does not have: found, expected, and what would work."
    pixels = np.zeros((20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "c.png")
    Image.fromarray(pixels[..., 0]).save(folder / "g.png")
    np.save(folder / "a.npy", pixels[..., :2])
    more = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(folder / "b.tif", pixels[..., :2], **more)
    refused(read_image, folder / "c.png", "3 channels", "4 channels", "=3", channels=4)
    refused(read_image, folder / "c.png", "in colour, not in grey", channels=1)
    refused(read_image, folder / "g.png", "1 channel", "5 channels", "=1", channels=5)
    for name in ("a.npy", "b.tif"):
        for count in (1, 3, 4, 5):
            words = f"{count}", "channels=2"
            refused(read_image, folder / name, *words, channels=count)
            work = lambda path, channels: common_channels([path], channels)  # noqa: E731
            refused(work, folder / name, *words, channels=count)
    refused(read_image, folder / "b.tif", "one letter per axis", axes="HWCX")


CASES = {name: bad_head(data) for name, data in HEADS.items()} | {
    "a PNG of 164 kB that unpacks into 13,000 x 13,000 pixels": bomb_png,
    "a photograph of 108 million pixels is no bomb": a_photograph_of_108_million,
    "a compressed TIFF that says it is 60,000 x 60,000": bomb_tiff,
    "a TIFF of 60,000 x 60,000 whose pixels are missing": a_lying_tiff,
    "a strip of a TIFF that inflates without end": a_strip_that_inflates_without_end,
    "a large TIFF without compression is mapped": a_large_tiff_is_mapped,
    "a large TIFF in tiles stays on the disk": a_large_tiff_in_tiles_stays_on_the_disk,
    "heads of .npy files with changed letters": heads_with_changed_letters,
    "files that are no images": other_things,
    "a number of channels that a file does not have": channels_that_are_not_there,
}
CASES |= {f"{n} with changed bytes": fuzz(n, d, 160) for n, d in samples().items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_fault_of_an_image(tmp_path, name):
    CASES[name](tmp_path)
