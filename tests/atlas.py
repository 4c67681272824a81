"""The input atlas: kinds of file that people have, how each is made, and its outcome.

Each kind is **right** (with the pixels that are expected) or **refused** (with words
that the sentence holds). `test_atlas.py` reads every one of them, and
`tools/readable.py` writes the page "What can be read" from this table.
"""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from unet_tutorial.data.images import mask_values
from unet_tutorial.data.outputs import write_mask

RNG = np.random.default_rng(0)
SIZE = 24, 32
GREY = RNG.integers(0, 256, SIZE, dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
FOUR = RNG.integers(0, 256, (*SIZE, 4), dtype=np.uint8)
FIVE = RNG.integers(0, 256, (*SIZE, 5), dtype=np.uint8)
DEEP = RNG.integers(0, 4096, SIZE, dtype=np.uint16)
DEEP_COLOUR = RNG.integers(0, 65536, (*SIZE, 3), dtype=np.uint16)
STACK = RNG.integers(0, 256, (7, *SIZE), dtype=np.uint8)
MASK = np.zeros(SIZE, np.uint8)  # 8 per cent of the pixels are object
MASK[5:11, 6:17] = 1
LABELS = np.zeros(SIZE, np.uint8)
LABELS[3:9, 4:12], LABELS[12:20, 10:25], LABELS[2:6, 20:30] = 1, 2, 3
PALETTE = [9, 8, 7, 250, 0, 0, 0, 250, 0, 0, 0, 250]
BLACK_WHITE, WHITE_BLACK = [0, 0, 0, 255, 255, 255], [255, 255, 255, 0, 0, 0]
IMAGEJ = {"imagej": True}


class Kind(NamedTuple):
    "A kind of file, and what must come of it."

    name: str  # what it is, for the page
    file: str  # the name that it is given
    write: Any  # function of the path
    use: str  # "image", "stack", "mask" or "labels"
    outcome: Any  # the pixels (a list of them: a stack), or words of the refusal
    options: Any = MappingProxyType({})  # for the readers
    remark: str = ""  # for the page: how it is understood


# How files are made


def pil(pixels, mode=None, palette=None, **options):
    "Save with Pillow."

    def write(path):
        image = Image.fromarray(pixels)
        image = image.convert(mode) if mode else image
        if palette is not None:
            image.putpalette(palette)
        image.save(path, **options)

    return write


def tiff(pixels, **options):
    "Save with tifffile."
    return lambda path: tifffile.imwrite(path, pixels, **options)


def pages(*several):
    "Save pages one by one with tifffile: (pixels, options) each."

    def write(path):
        with tifffile.TiffWriter(path) as file:
            for pixels, options in several:
                file.write(pixels, metadata=None, **options)

    return write


def patched(write, **tags):
    "Change tags of the first page of a TIFF."

    def change(path):
        write(path)
        with tifffile.TiffFile(path, mode="r+b") as file:
            for name, value in tags.items():
                file.pages[0].tags[name].overwrite(value)

    return change


def film(frames, **options):
    "Save an animation with Pillow."

    def write(path):
        first, *rest = map(Image.fromarray, frames)
        first.save(path, save_all=True, append_images=rest, **options)

    return write


def raw(data):
    return lambda path: path.write_bytes(data)


def numpy(pixels):
    return lambda path: np.save(path, pixels)


def unlisted(stack):
    "As ImageJ saves more than 4 GB: one page is listed, the others follow it."

    def write(path):
        count = f"ImageJ=1.54f\nimages={len(stack)}\nslices={len(stack)}\n"
        tifffile.imwrite(path, stack[0], description=count, metadata=None)
        with open(path, "ab") as file, tifffile.TiffFile(path) as first:
            page = first.pages[0]
            assert page.dataoffsets[0] + page.nbytes == path.stat().st_size
            file.write(stack[1:].tobytes())

    return write


def unlisted_bare(stack):
    "The same with a description that tifffile does not take for ImageJ's."

    def write(path):
        count = f"images={len(stack)}\nslices={len(stack)}\n"
        tifffile.imwrite(path, stack[0], description=count, metadata=None)
        with open(path, "ab") as file:
            file.write(stack[1:].tobytes())

    return write


def stk(path):
    "As MetaMorph saves a stack: one page, and a tag that only MetaMorph has."
    tag = (33629, 4, 3, (0, 0, 0), True)
    tifffile.imwrite(path, STACK[0], extratags=[tag], metadata=None)


def outlines(path):
    "A TIFF in which ImageJ keeps the outlines that were drawn."
    tag = (50839, 1, 8, b"IJIJroi ", True)
    tifffile.imwrite(path, GREY, extratags=[tag], metadata=None)


def jpeg_of(pixels, **options):
    "What becomes of pixels that are saved as JPEG."
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def nibbles(pixels):
    "Two numbers of 4 bits in each byte."
    return pixels[:, ::2] << 4 | pixels[:, 1::2]


def png_of_4_bits(pixels):
    "A grey PNG of 4 bits, which Pillow reads and does not write."
    height, width = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    return png(head, nibbles(pixels))


def png(head, rows):
    "The bytes of a PNG file."

    def chunk(kind, data):
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    rows = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # a row begins with its filter
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def png_of_16_bits(pixels):
    "An RGB PNG of 16 bits, which Pillow reads as 8 bits, and does not write."
    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    return png(head, rows)


def pnm(pixels, white=255, kind=b"P5"):
    "A PGM (P5) or PPM (P6) that states which number is white; 2 bytes each above 255."
    height, width = pixels.shape[:2]
    numbers = pixels.astype(">u2" if white > 255 else np.uint8).tobytes()
    return raw(b"%s\n%d %d\n%d\n" % (kind, width, height, white) + numbers)


def pgm_in_words(pixels, white):
    "A PGM (P2) whose numbers are written in digits."
    head = f"P2\n{pixels.shape[1]} {pixels.shape[0]}\n{white}\n"
    return raw((head + " ".join(map(str, pixels.ravel()))).encode())


def jpeg_2000(pixels, bits, signed=False):
    """A JPEG 2000 of so many bits, which Pillow reads and does not write.

    It writes whole bytes, from which it takes half their range before it packs them; a
    reader adds half of what the head states. So the numbers are moved, and two places
    of the head are changed: the box `ihdr` and the marker `SIZ`.
    """
    half = max(2 ** (8 * pixels.dtype.itemsize - 1) - 2 ** (bits - 1), 0)
    file = io.BytesIO()
    image = Image.fromarray(pixels + pixels.dtype.type(half))
    image.save(file, "JPEG2000", irreversible=False)
    data, stated = bytearray(file.getvalue()), bits - 1 | 128 * signed
    start = data.index(b"\xff\x4f\xff\x51") + 42
    for channel in range(3 if pixels.ndim == 3 else 1):
        data[start + 3 * channel] = stated
    data[data.index(b"ihdr") + 14] = stated
    return raw(bytes(data))


def turned(path):
    "A photograph of a camera that was held on its side."
    note = Image.Exif()
    note[0x0112] = 5  # the first row is the left column
    Image.fromarray(GREY[:, ::-1]).save(path, exif=note)


def four_bits(path):
    "A grey TIFF of 4 bits."
    tifffile.imwrite(path, nibbles(LABELS), metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["BitsPerSample"].overwrite(4)
        file.pages[0].tags["ImageWidth"].overwrite(SIZE[1])


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", "no image")
    return file.getvalue()


def npz(path):
    with open(path, "wb") as file:
        np.savez(file, image=GREY)


def ramp(step=1):
    "A grey palette: 0 to 255, or the other way round."
    return np.repeat(np.arange(256)[::step], 3).tolist()


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)))


SMALL = dict(subfiletype=1)
ORDINARY = [
    Kind("PNG, grey", "a.png", pil(GREY), "image", GREY),
    Kind("PNG, RGB", "a.png", pil(COLOUR), "image", COLOUR),
    Kind(
        "PNG, RGB with transparency",
        "a.png",
        pil(FOUR),
        "image",
        FOUR[..., :3],
        remark="transparency is left out",
    ),
    Kind(
        "PNG, palette of colours",
        "a.png",
        pil(LABELS, palette=PALETTE),
        "image",
        np.uint8(PALETTE).reshape(-1, 3)[LABELS],
    ),
    Kind(
        "PNG, 16-bit grey",
        "a.png",
        pil(DEEP),
        "image",
        DEEP,
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "PNG, grey with transparency",
        "a.png",
        pil(FOUR[..., :2], "LA"),
        "image",
        FOUR[..., 0],
        remark="transparency is left out",
    ),
    Kind("PNG, 1 bit", "a.png", pil(MASK == 1), "image", 255 * MASK),
    Kind(
        "PNG, 16-bit RGB",
        "a.png",
        raw(png_of_16_bits(DEEP_COLOUR)),
        "image",
        ("8 bits", "8-bit RGB", ".npy"),
    ),
    Kind(
        "JPEG, turned by its EXIF",
        "a.jpg",
        turned,
        "image",
        np.asarray(opened(jpeg_of(GREY[:, ::-1]))).T,
        remark="upright",
    ),
    Kind(
        "JPEG, inks (CMYK)",
        "a.jpg",
        pil(np.stack([GREY] * 3, -1), "CMYK", quality=100),
        "image",
        "near",
        remark="as RGB",
    ),
    Kind("JPEG", "a.jpg", raw(jpeg_of(GREY)), "image", opened(jpeg_of(GREY))),
    Kind(
        "JPEG named .jfif",
        "a.jfif",
        pil(GREY, format="JPEG"),
        "image",
        opened(jpeg_of(GREY)),
    ),
    Kind("GIF", "a.gif", pil(GREY), "image", np.stack([GREY] * 3, -1)),
    Kind("BMP", "a.bmp", pil(COLOUR), "image", COLOUR),
    Kind("WebP, lossless", "a.webp", pil(COLOUR, lossless=True), "image", COLOUR),
    Kind("PGM", "a.pgm", pil(GREY), "image", GREY),
    Kind(
        "PGM, 16 bits",
        "a.pgm",
        pnm(DEEP, 65535),
        "image",
        DEEP,
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "PGM, 12 bits",
        "a.pgm",
        pnm(DEEP, 4095),
        "image",
        DEEP,
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "PGM in digits, 12 bits",
        "a.pgm",
        pgm_in_words(DEEP, 4095),
        "image",
        DEEP,
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind("PPM", "a.ppm", pil(COLOUR), "image", COLOUR),
    Kind(
        "PPM, 16-bit RGB",
        "a.ppm",
        pnm(DEEP_COLOUR, 65535, b"P6"),
        "image",
        ("8 bits", "8-bit RGB", ".npy"),
    ),
    Kind("JPEG 2000", "a.jp2", pil(GREY, irreversible=False), "image", GREY),
    Kind(
        "JPEG 2000, 16 bits",
        "a.jp2",
        pil(DEEP, irreversible=False),
        "image",
        DEEP,
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "JPEG 2000, 12 bits",
        "a.jp2",
        jpeg_2000(DEEP, 12),
        "image",
        DEEP,
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "JPEG 2000, RGB of 16 bits",
        "a.jp2",
        jpeg_2000(COLOUR, 16),
        "image",
        ("8 bits", "8-bit RGB", ".npy"),
    ),
    Kind(
        "JPEG 2000, numbers below 0",
        "a.jp2",
        jpeg_2000(DEEP, 16, signed=True),
        "image",
        ("below 0", "TIFF"),
    ),
    Kind("`.npy`, uint8", "a.npy", numpy(GREY), "image", GREY),
    Kind(
        "`.npy`, 5 channels first",
        "a.npy",
        numpy(np.moveaxis(FIVE, 2, 0)),
        "image",
        FIVE,
        {"channels": 5},
        "with `channels=5`",
    ),
    Kind("`.npz`", "a.npz", npz, "image", ("several", ".npz", "np.save")),
]
TIFFS = [
    Kind("TIFF, grey", "a.tif", tiff(GREY), "image", GREY),
    Kind(
        "TIFF, grey, white is 0",
        "a.tif",
        tiff(GREY, photometric="miniswhite"),
        "image",
        255 - GREY,
        remark="as it is seen",
    ),
    Kind("TIFF, RGB", "a.tif", tiff(COLOUR, photometric="rgb"), "image", COLOUR),
    Kind(
        "TIFF, planes of RGB",
        "a.tif",
        tiff(
            np.ascontiguousarray(np.moveaxis(COLOUR, 2, 0)),
            photometric="rgb",
            planarconfig="separate",
        ),
        "image",
        COLOUR,
    ),
    Kind("TIFF, deflated", "a.tif", tiff(GREY, compression="zlib"), "image", GREY),
    Kind("TIFF, LZW", "a.tif", pil(GREY, compression="tiff_lzw"), "image", GREY),
    Kind(
        "TIFF, palette of colours",
        "a.tif",
        pil(LABELS, palette=PALETTE),
        "image",
        np.uint8(PALETTE).reshape(-1, 3)[LABELS],
    ),
    Kind(
        "TIFF, grey with transparency",
        "a.tif",
        pil(FOUR[..., :2], "LA"),
        "image",
        FOUR[..., 0],
        remark="transparency is left out",
    ),
    Kind(
        "TIFF, turned by its orientation",
        "a.tif",
        tiff(GREY, extratags=[(274, 3, 1, 6, True)]),
        "image",
        np.rot90(GREY, -1),
        remark="upright",
    ),
    Kind(
        "TIFF, JPEG inside",
        "a.tif",
        pil(GREY, compression="jpeg", quality=100),
        "image",
        "near",
    ),
    Kind("BigTIFF", "a.tif", tiff(GREY, bigtiff=True), "image", GREY),
    Kind(
        "TIFF, 16-bit grey",
        "a.tif",
        tiff(DEEP),
        "image",
        DEEP,
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, 16-bit RGB",
        "a.tif",
        tiff(DEEP_COLOUR, photometric="rgb"),
        "image",
        DEEP_COLOUR,
        {"value_range": (0, 65535)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, RGB of float32",
        "a.tif",
        tiff(np.float32(COLOUR), photometric="rgb"),
        "image",
        np.float32(COLOUR),
        {"value_range": (0, 255)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, RGB of float64",
        "a.tif",
        tiff(np.float64(COLOUR), photometric="rgb"),
        "image",
        np.float64(COLOUR),
        {"value_range": (0, 255)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, float32",
        "a.tif",
        tiff(np.float32(DEEP)),
        "image",
        np.float32(DEEP),
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, float64",
        "a.tif",
        tiff(np.float64(DEEP)),
        "image",
        np.float64(DEEP),
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, float16",
        "a.tif",
        tiff(np.float16(GREY)),
        "image",
        np.float16(GREY),
        {"value_range": (0, 255)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, int64",
        "a.tif",
        tiff(np.int64(DEEP)),
        "image",
        np.int64(DEEP),
        {"value_range": (0, 4095)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, int16 with negative numbers",
        "a.tif",
        tiff(np.int16(DEEP) - 2000),
        "image",
        np.int16(DEEP) - 2000,
        {"value_range": (-2000, 2095)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, int8",
        "a.tif",
        tiff(np.int8(GREY // 2) - 64),
        "image",
        np.int8(GREY // 2) - 64,
        {"value_range": (-64, 64)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, complex numbers",
        "a.tif",
        tiff(np.complex64(GREY)),
        "image",
        ("complex",),
    ),
    Kind(
        "TIFF, 2 channels in each pixel",
        "a.tif",
        tiff(FOUR[..., :2], photometric="minisblack", planarconfig="contig"),
        "image",
        FOUR[..., :2],
        {"channels": 2},
    ),
    Kind(
        "TIFF, RGB and a fourth, unspecified channel",
        "a.tif",
        tiff(FOUR, photometric="rgb", extrasamples=["unspecified"]),
        "image",
        FOUR,
    ),
    Kind(
        "TIFF, 5 channels in each pixel",
        "a.tif",
        tiff(FIVE, photometric="minisblack", planarconfig="contig"),
        "image",
        FIVE,
    ),
    Kind(
        "TIFF, 4 channels of 16 bits",
        "a.tif",
        tiff(np.uint16(FOUR), photometric="minisblack", planarconfig="contig"),
        "image",
        np.uint16(FOUR),
        {"value_range": (0, 255)},
        "with `value_range=`",
    ),
    Kind(
        "TIFF, 5 channels in planes",
        "a.tif",
        tiff(
            np.ascontiguousarray(np.moveaxis(FIVE, 2, 0)),
            photometric="minisblack",
            planarconfig="separate",
        ),
        "image",
        FIVE,
    ),
    Kind(
        "TIFF, second page is a thumbnail",
        "a.tif",
        pages((GREY, {}), (GREY[::4, ::4], SMALL)),
        "image",
        GREY,
    ),
    Kind(
        "TIFF, RGB with a thumbnail",
        "a.tif",
        pages(
            (COLOUR, {"photometric": "rgb"}),
            (COLOUR[::4, ::4], {"photometric": "rgb", **SMALL}),
        ),
        "image",
        COLOUR,
    ),
    Kind(
        "TIFF, a pyramid",
        "a.tif",
        pages(
            (GREY, {"tile": (16, 16)}),
            (GREY[::2, ::2], {"tile": (16, 16), **SMALL}),
            (GREY[::4, ::4], {"tile": (16, 16), **SMALL}),
        ),
        "image",
        GREY,
    ),
    Kind(
        "TIFF with an ImageJ outline",
        "a.tif",
        outlines,
        "image",
        GREY,
        remark="the outline is noticed by `check`",
    ),
    Kind(
        "TIFF, LERC inside",
        "a.tif",
        patched(tiff(GREY), Compression=34887),
        "image",
        ("LERC", "deflate"),
    ),
    Kind(
        "TIFF, WebP inside",
        "a.tif",
        patched(tiff(COLOUR, photometric="rgb"), Compression=50001),
        "image",
        ("webp", "deflate"),
    ),
    Kind(
        "TIFF, JPEG 2000 inside",
        "a.tif",
        patched(tiff(GREY), Compression=34712),
        "image",
        ("JPEG", "2000", "deflate"),
    ),
    Kind(
        "TIFF, JPEG XL inside",
        "a.tif",
        patched(tiff(GREY), Compression=52546),
        "image",
        ("JPEG", "XL", "deflate"),
    ),
    Kind(
        "TIFF, raw camera mosaic",
        "a.tif",
        patched(tiff(DEEP), PhotometricInterpretation=32803),
        "image",
        ("mosaic", "raw"),
    ),
]
STACKS = [
    Kind(
        "TIFF of several pages",
        "a.tif",
        tiff(STACK, photometric="minisblack", metadata=None),
        "stack",
        list(STACK),
    ),
    Kind(
        "ImageJ stack, ZYX",
        "a.tif",
        tiff(STACK, metadata={"axes": "ZYX"}, **IMAGEJ),
        "stack",
        list(STACK),
    ),
    Kind(
        "ImageJ stack, TYX",
        "a.tif",
        tiff(STACK, metadata={"axes": "TYX"}, **IMAGEJ),
        "stack",
        list(STACK),
    ),
    Kind(
        "ImageJ stack of more than 4 GB (one page is listed)",
        "a.tif",
        unlisted(STACK),
        "stack",
        list(STACK),
    ),
    Kind(
        "One page listed of seven, by another writer",
        "a.tif",
        unlisted_bare(STACK),
        "stack",
        ("images=7",),
    ),
    Kind(
        "tifffile's stack of one listed page",
        "a.tif",
        tiff(STACK, truncate=True, photometric="minisblack"),
        "stack",
        list(STACK),
    ),
    Kind("MetaMorph .stk", "a.stk", stk, "stack", ("MetaMorph", "Fiji")),
    Kind(
        "ImageJ file, CYX",
        "a.tif",
        tiff(STACK[:2], metadata={"axes": "CYX"}, **IMAGEJ),
        "image",
        np.moveaxis(STACK[:2], 0, 2),
    ),
    Kind(
        "ImageJ file, CYX, one channel of it",
        "a.tif",
        tiff(STACK[:2], metadata={"axes": "CYX"}, **IMAGEJ),
        "image",
        STACK[1],
        {"channel": 1},
        "with `channel=1`",
    ),
    Kind(
        "ImageJ hyperstack, ZCYX",
        "a.tif",
        tiff(STACK[:6].reshape(3, 2, *SIZE), metadata={"axes": "ZCYX"}, **IMAGEJ),
        "stack",
        list(np.moveaxis(STACK[:6].reshape(3, 2, *SIZE), 1, 3)),
    ),
    Kind(
        "ImageJ hyperstack, one channel of it",
        "a.tif",
        tiff(STACK[:6].reshape(3, 2, *SIZE), metadata={"axes": "ZCYX"}, **IMAGEJ),
        "stack",
        list(STACK[1:6:2]),
        {"channel": 1},
        "with `channel=1`",
    ),
    Kind(
        "ImageJ hyperstack for a grey net",
        "a.tif",
        tiff(STACK[:6].reshape(3, 2, *SIZE), metadata={"axes": "ZCYX"}, **IMAGEJ),
        "stack",
        ("2 channels", "channel="),
        {"channels": 1},
    ),
    Kind(
        "OME-TIFF, CYX",
        "a.ome.tif",
        tiff(STACK[:3], metadata={"axes": "CYX"}, ome=True, photometric="minisblack"),
        "image",
        np.moveaxis(STACK[:3], 0, 2),
    ),
    Kind(
        "OME-TIFF, ZCYX",
        "a.ome.tif",
        tiff(
            STACK[:6].reshape(3, 2, *SIZE),
            metadata={"axes": "ZCYX"},
            ome=True,
            photometric="minisblack",
        ),
        "stack",
        list(np.moveaxis(STACK[:6].reshape(3, 2, *SIZE), 1, 3)),
    ),
    Kind(
        "ImageJ file of slices that tifffile wrote without `axes`, for a grey net",
        "a.tif",
        tiff(STACK, imagej=True),
        "stack",
        ("7 channels", 'axes="NHW"'),
        {"channels": 1},
        'tifffile calls them channels; `axes="NHW"` reads them',
    ),
    Kind(
        "Such a file, with its axes named",
        "a.tif",
        tiff(STACK, imagej=True),
        "stack",
        list(STACK),
        {"channels": 1, "axes": "NHW"},
    ),
    Kind(
        "TIFF with several slices in one page (volumetric)",
        "a.tif",
        tiff(STACK[:4], volumetric=True, tile=(4, 16, 16), photometric="minisblack"),
        "stack",
        ("several slices in one page", "one slice per page"),
    ),
    Kind(
        "TIFF, pages of several sizes",
        "a.tif",
        pages((GREY, {}), (GREY[:9], {})),
        "stack",
        ("several sizes",),
    ),
    Kind("Animated GIF", "a.gif", film(STACK[:3]), "stack", ("3 pages",)),
    Kind("Animated PNG", "a.png", film(STACK[:3]), "stack", ("3 pages",)),
    Kind(
        "Animated WebP",
        "a.webp",
        film(np.stack([STACK[:3]] * 3, -1), lossless=True),
        "stack",
        ("3 pages",),
    ),
    Kind("`.npy` stack", "a.npy", numpy(STACK), "stack", list(STACK)),
]
NOT_IMAGES = [
    ("Empty file", "a.png", b"", ("is empty", "download")),
    (
        "HTML page named .jpg",
        "a.jpg",
        b"\n<!DOCTYPE html><html><body>404</body></html>",
        ("web page", "download"),
    ),
    (
        "Git LFS pointer",
        "a.png",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
        ("Git LFS", "git lfs pull"),
    ),
    ("zip named .png", "a.png", zipped(), ("zip", "unpack")),
    ("gzip named .tif", "a.tif", b"\x1f\x8b\x08\0" + bytes(40), ("gzip", "unpack")),
    ("PDF", "a.png", b"%PDF-1.7\n" + bytes(40), ("PDF", "PNG")),
    (
        "SVG",
        "a.png",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        ("SVG", "PNG"),
    ),
    ("DICOM", "a.png", bytes(128) + b"DICM" + bytes(40), ("DICOM", "pydicom")),
    (
        "NIfTI",
        "a.png",
        b"\x5c\1\0\0" + bytes(340) + b"n+1\0" + bytes(9),
        ("NIfTI", "nibabel"),
    ),
    (
        "HEIC of a telephone",
        "a.jpg",
        b"\0\0\0\x18ftypheic" + bytes(40),
        ("HEIC", "JPEG"),
    ),
    (
        "MATLAB .mat",
        "a.png",
        b"MATLAB 5.0 MAT-file, Platform".ljust(128) + bytes(9),
        ("MATLAB", "scipy.io.loadmat"),
    ),
    ("HDF5, .mat 7.3", "a.tif", b"\x89HDF\r\n\x1a\n" + bytes(40), ("HDF5", "h5py")),
    ("Nikon .nd2", "a.nd2", b"\xda\xce\xbe\x0a" + bytes(40), ("nd2", "Fiji")),
    ("Zeiss .czi", "a.czi", b"ZISRAWFILE" + bytes(40), ("czi", "Fiji")),
    (
        "Leica .lif",
        "a.lif",
        b"\x70\0\0\0" + (24).to_bytes(4, "little") + b"\x2a" + bytes(40),
        ("lif", "Fiji"),
    ),
    (
        "Olympus .oib, Zeiss .zvi",
        "a.oib",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40),
        ("OLE", "Fiji"),
    ),
    ("Photograph cut off", "a.jpg", jpeg_of(GREY)[:400], ("cut off", "download")),
    ("Text named .png", "a.png", b"no image at all, but words", ("text", "PNG")),
]
STRANGE = [
    Kind(name, file, raw(data), "image", words)
    for name, file, data, words in NOT_IMAGES
]
MASKS = [
    Kind("Mask of 0 and 1", "a.png", pil(MASK), "mask", MASK),
    Kind("Mask of 0 and 255", "a.png", pil(255 * MASK), "mask", MASK),
    Kind("Mask of 1 bit", "a.png", pil(MASK == 1), "mask", MASK),
    Kind("Mask, PBM", "a.pbm", pil(MASK == 1), "mask", MASK, remark="white is object"),
    Kind("Mask, PGM whose white is 1", "a.pgm", pnm(MASK, 1), "mask", MASK),
    Kind(
        "Mask, palette of black and white",
        "a.png",
        pil(MASK, palette=BLACK_WHITE),
        "mask",
        MASK,
    ),
    Kind(
        "Mask, palette whose index 0 is white, PNG",
        "a.png",
        pil(1 - MASK, palette=WHITE_BLACK),
        "mask",
        MASK,
        remark="white is object",
    ),
    Kind(
        "Mask, palette whose index 0 is white, BMP",
        "a.bmp",
        pil(1 - MASK, palette=WHITE_BLACK),
        "mask",
        MASK,
        remark="white is object",
    ),
    Kind(
        "Mask, palette whose index 0 is white, TIFF",
        "a.tif",
        pil(1 - MASK, palette=WHITE_BLACK),
        "mask",
        MASK,
        remark="white is object",
    ),
    Kind(
        "Mask, palette whose index 0 is white, GIF",
        "a.gif",
        pil(1 - MASK, palette=WHITE_BLACK),
        "mask",
        MASK,
        remark="white is object",
    ),
    Kind(
        "Mask, palette of colours (VOC)",
        "a.png",
        pil(MASK, palette=[0, 0, 0, 128, 0, 0]),
        "mask",
        MASK,
        remark="by index",
    ),
    Kind(
        "Mask, white background and a red object, palette",
        "a.png",
        pil(MASK, palette=[255, 255, 255, 200, 0, 0]),
        "mask",
        MASK,
        remark="by index",
    ),
    Kind(
        "Mask that `predict` or `masks` wrote",
        "a.png",
        lambda path: write_mask(path, MASK),
        "mask",
        MASK,
    ),
    Kind(
        "The same where 255 marks the unknown",
        "a.png",
        lambda path: write_mask(path, MASK, values=mask_values(ignore=255)),
        "mask",
        MASK,
        {"ignore": 255},
        "written as 0 and 1",
    ),
    Kind(
        "Mask that was written as 0 and 255, read with `ignore=255`",
        "a.png",
        lambda path: write_mask(path, MASK),
        "mask",
        ("255 as a class", "ignore=255"),
        {"ignore": 255},
    ),
    Kind(
        "Mask of ImageJ's Make Binary: inverting LUT, TIFF",
        "a.tif",
        tiff(255 * MASK, photometric="miniswhite"),
        "mask",
        MASK,
        remark="255 is object, however it is shown",
    ),
    Kind(
        "Mask of Make Binary, TIFF with LZW",
        "a.tif",
        patched(pil(255 * MASK, compression="tiff_lzw"), PhotometricInterpretation=0),
        "mask",
        MASK,
    ),
    Kind(
        "Mask of Make Binary, PNG",
        "a.png",
        pil(255 * MASK, palette=ramp(-1)),
        "mask",
        MASK,
        remark="255 is object, however it is shown",
    ),
    Kind(
        "Mask of Make Binary, 16 bits",
        "a.tif",
        tiff(np.uint16(255 * MASK), photometric="miniswhite"),
        "mask",
        ("white as 0", "black as 0"),
    ),
    Kind(
        "Mask of 1 bit, white is 0, TIFF",
        "a.tif",
        tiff(MASK == 1, photometric="miniswhite"),
        "mask",
        MASK,
    ),
    Kind(
        "Mask as a fax (group 4)",
        "a.tif",
        pil(MASK == 1, compression="group4"),
        "mask",
        MASK,
    ),
    Kind("Mask of float64", "a.tif", tiff(np.float64(MASK)), "mask", MASK),
    Kind("Mask of int64", "a.tif", tiff(np.int64(MASK)), "mask", MASK),
    Kind("Mask, `.npy` of bool", "a.npy", numpy(MASK == 1), "mask", MASK),
    Kind("Mask, `.npy` (1, H, W)", "a.npy", numpy(MASK[None]), "mask", MASK),
    Kind(
        "Mask, `.npy` (1, H, W, 1)",
        "a.npy",
        numpy(MASK[None, ..., None]),
        "mask",
        MASK,
    ),
    Kind(
        "Mask saved in RGB", "a.png", pil(np.stack([255 * MASK] * 3, -1)), "mask", MASK
    ),
    Kind(
        "Mask saved as JPEG",
        "a.jpg",
        raw(jpeg_of(255 * MASK, quality=60)),
        "mask",
        ("blurred", "threshold=127"),
    ),
    Kind(
        "Mask saved as JPEG, cut at 127",
        "a.jpg",
        raw(jpeg_of(255 * MASK, quality=60)),
        "mask",
        MASK,
        {"threshold": 127},
        "with `threshold=127`",
    ),
    Kind(
        "Black objects on white, chosen",
        "a.png",
        pil(255 - 255 * MASK),
        "mask",
        MASK,
        {"invert": True},
        "with `invert=True`",
    ),
    Kind(
        "Mask in the transparency",
        "a.png",
        pil(np.dstack([COLOUR, 255 * MASK])),
        "mask",
        ("transparent", "getchannel"),
    ),
    Kind(
        "Mask in colours",
        "a.png",
        pil(np.uint8([[0, 0, 0], [200, 0, 0]])[MASK]),
        "mask",
        ("colours", "read_labels"),
    ),
]
LABEL_MAPS = [
    Kind("Labels 0 to 3, PNG", "a.png", pil(LABELS), "labels", LABELS),
    Kind(
        "Labels, palette of colours",
        "a.png",
        pil(LABELS, palette=[0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 9]),
        "labels",
        LABELS,
        remark="by index",
    ),
    Kind(
        "Labels, 4-bit PNG",
        "a.png",
        pil(LABELS, palette=ramp()[:48], bits=4),
        "labels",
        LABELS,
    ),
    Kind(
        "Labels, 16-bit TIFF",
        "a.tif",
        tiff(np.uint16(LABELS) * 1000),
        "labels",
        np.int32(LABELS) * 1000,
    ),
    Kind(
        "Labels, uint32",
        "a.tif",
        tiff(np.uint32(LABELS) * 70000),
        "labels",
        np.int32(LABELS) * 70000,
    ),
    Kind("Labels, int64", "a.tif", tiff(np.int64(LABELS)), "labels", LABELS),
    Kind(
        "Labels, int64 with deflate",
        "a.tif",
        tiff(np.int64(LABELS), compression="zlib"),
        "labels",
        LABELS,
    ),
    Kind("Labels, float64", "a.tif", tiff(np.float64(LABELS)), "labels", LABELS),
    Kind(
        "Labels, float64 above 2^24",
        "a.tif",
        tiff(np.float64(LABELS) * 20_000_001),
        "labels",
        np.int32(LABELS) * 20_000_001,
    ),
    Kind("Labels, float16", "a.npy", numpy(np.float16(LABELS)), "labels", LABELS),
    Kind(
        "Labels, int8 with -1",
        "a.tif",
        tiff(np.int8(LABELS) - 1),
        "labels",
        np.int32(LABELS) - 1,
    ),
    Kind(
        "Labels, int8 with -1, LZW",
        "a.tif",
        pil(np.uint8(np.int8(LABELS) - 1), compression="tiff_lzw", tiffinfo={339: 2}),
        "labels",
        np.int32(LABELS) - 1,
    ),
    Kind("Labels, `.npy` of int64", "a.npy", numpy(np.int64(LABELS)), "labels", LABELS),
    Kind(
        "A label of 2^31 + 5",
        "a.tif",
        tiff(np.uint32(LABELS) + np.uint32(2**31 + 2)),
        "labels",
        ("more than 32 bits",),
    ),
    Kind(
        "Labels that are fractions",
        "a.tif",
        tiff(np.float32(LABELS) + 0.5),
        "labels",
        ("fractions", "whole"),
    ),
    Kind(
        "Labels, 4-bit grey PNG", "a.png", raw(png_of_4_bits(LABELS)), "labels", LABELS
    ),
    Kind("Labels, 4-bit grey TIFF", "a.tif", four_bits, "labels", LABELS),
    Kind("Labels, 4-bit JPEG 2000", "a.jp2", jpeg_2000(LABELS, 4), "labels", LABELS),
    Kind("Labels, PGM whose white is 3", "a.pgm", pnm(LABELS, 3), "labels", LABELS),
    Kind("Labels, PGM in digits", "a.pgm", pgm_in_words(LABELS, 3), "labels", LABELS),
    Kind(
        "Labels, PGM of 16 bits",
        "a.pgm",
        pnm(DEEP, 4095),
        "labels",
        np.int32(DEEP),
    ),
    Kind(
        "Labels that are infinite",
        "a.tif",
        tiff(np.where(LABELS > 2, np.inf, np.float32(LABELS))),
        "labels",
        ("fractions", "whole"),
    ),
    Kind(
        "Labels that are not a number",
        "a.tif",
        tiff(np.where(LABELS > 2, np.nan, np.float32(LABELS))),
        "labels",
        ("fractions", "whole"),
    ),
]
KINDS = ORDINARY + TIFFS + STACKS + STRANGE + MASKS + LABEL_MAPS


def make(
    kind,  # a Kind
    folder,  # an empty folder
):  # Path
    "Write a file of this kind into a folder."
    path = Path(folder, kind.file)
    kind.write(path)
    return path
