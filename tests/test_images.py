"""Files of every kind, good and bad, to images and masks."""

import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
import unicodedata
import zlib
from threading import Event, Thread

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from samples import (
    BLACK_WHITE,
    cut_off,
    deep_colours,
    noise,
    png,
    save,
    save_palette,
    save_stack,
    says,
    square,
)

from unet_tutorial.data import images
from unet_tutorial.data.images import (
    BadFile,
    common_channels,
    find_files,
    list_files,
    name_some,
    open_image,
    read_image,
    read_labels,
    read_mask,
    read_page,
    read_pixels,
    read_stack,
    stack_shape,
    to_bytes,
    upright_size,
    why_not_two,
)


def channels_of(path):
    return common_channels([path])


# Images


def test_a_grey_and_a_colour_image_come_out_as_they_are(tmp_path):
    grey, colour = noise(20, 30), noise(20, 30, 3)
    assert np.array_equal(read_image(save(tmp_path / "g.png", grey)), grey)
    assert np.array_equal(read_image(str(save(tmp_path / "c.png", colour))), colour)


COLOURS = [
    ("RGBA", "png"),
    ("RGBA", "tif"),
    ("P", "png"),
    ("P", "gif"),
    ("P", "bmp"),
    ("RGB", "bmp"),
    ("RGB", "webp"),
    ("CMYK", "tif"),
    ("CMYK", "jpg"),
    ("YCbCr", "tif"),
]


@pytest.mark.parametrize("mode, ending", COLOURS)
def test_other_colours_become_rgb(tmp_path, mode, ending):
    colour = Image.new("RGB", (30, 20), (200, 30, 40))
    path = tmp_path / f"image.{ending}"
    (colour.quantize(4) if mode == "P" else colour.convert(mode)).save(path)
    image = read_image(path)
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    assert np.abs(image[5, 5].astype(int) - [200, 30, 40]).max() < 12


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation, corner", [(1, 0), (3, -1), (5, 0), (6, 19)])
def test_a_turned_tiff_in_grey(tmp_path, compression, orientation, corner):
    grey, exif = np.zeros((20, 30), np.uint8), Image.Exif()
    grey[0, 0], exif[0x0112] = 9, orientation
    path = tmp_path / "a.tif"
    save(path, grey, exif=exif, compression=compression)
    image = read_image(path)
    assert image.shape == ((30, 20) if orientation > 4 else (20, 30))
    assert image.shape == upright_size(path) and image.ravel()[corner] == 9


def test_transparency_is_dropped(tmp_path):
    colour = Image.new("RGBA", (30, 20), (200, 30, 40, 0))
    colour.save(tmp_path / "image.png")
    assert (read_image(tmp_path / "image.png") == (200, 30, 40)).all()
    colour.quantize(4).save(tmp_path / "palette.png", transparency=0)
    assert read_image(tmp_path / "palette.png").shape == (20, 30, 3)


@pytest.mark.parametrize("mode", ["1", "LA"])
def test_other_greys_become_grey(tmp_path, mode):
    Image.new("L", (30, 20), 255).convert(mode).save(tmp_path / "image.png")
    assert (read_image(tmp_path / "image.png") == np.full((20, 30), 255)).all()


def test_resizing_averages_and_does_not_pick(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    small = read_image(save(tmp_path / "stripes.png", stripes), size=(16, 16))
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() < 25


@pytest.mark.parametrize("size", [(160, 240), (100, 500), (1280, 1918), (320, 479)])
def test_the_jpeg_shortcut_gives_the_pixels_of_the_slow_way(tmp_path, size):
    blobs = Image.fromarray(noise(20, 30, 3)).resize((1918, 1280), Image.BICUBIC)
    blobs.save(tmp_path / "image.jpg", quality=95)
    with Image.open(tmp_path / "image.jpg") as whole:
        slow = np.array(whole.resize(size[::-1], Image.Resampling.BILINEAR))
    fast = read_image(tmp_path / "image.jpg", size)
    assert fast.shape == (*size, 3)
    difference = np.abs(fast.astype(int) - slow)
    assert difference.mean() < 1 and np.percentile(difference, 99) < 8


@pytest.mark.parametrize("height", [1, 2, 5, 17, 35])
@pytest.mark.parametrize("width", [1, 3, 5, 9, 17, 37, 200])
def test_a_tiny_jpeg_can_be_read_small(tmp_path, height, width):
    path = save(tmp_path / "tiny.jpg", np.full((height, width, 3), 90, np.uint8))
    for size in [(1, 1), (2, 3), (4, 4), (300, 2)]:
        small = read_image(path, size)
        assert small.shape == (*size, 3)
        assert np.abs(small.astype(int) - 90).max() < 4


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(tmp_path, orientation, ending):
    blobs = np.array(Image.fromarray(noise(4, 6, 3)).resize((96, 64), Image.BICUBIC))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if ending == "jpg" else {}
    path = save(tmp_path / f"image.{ending}", blobs, exif=exif, **options)
    upright = {
        1: blobs,
        2: blobs[:, ::-1],
        3: blobs[::-1, ::-1],
        4: blobs[::-1],
        5: blobs.swapaxes(0, 1),
        6: np.rot90(blobs, -1),
        7: blobs[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(blobs),
    }[orientation]
    image = read_image(path)
    assert image.shape == upright.shape and upright_size(path) == upright.shape[:2]
    assert np.abs(image.astype(int) - upright).mean() < 6
    half = (upright.shape[0] // 2, upright.shape[1] // 2)
    small = Image.fromarray(np.ascontiguousarray(upright)).resize(half[::-1])
    assert np.abs(read_image(path, half).astype(int) - np.array(small)).mean() < 6


# Files that cannot be read


@pytest.mark.parametrize("read", [read_image, read_mask, read_labels, read_stack])
class TestUnreadable:
    def test_missing(self, tmp_path, read):
        with pytest.raises(FileNotFoundError, match=says("no.png", "check")):
            read(tmp_path / "no.png")

    def test_a_folder(self, tmp_path, read):
        with pytest.raises(FileNotFoundError, match=says(tmp_path.name, "no file")):
            read(tmp_path)

    def test_zero_bytes(self, tmp_path, read):
        (tmp_path / "empty.tif").touch()
        with pytest.raises(ValueError, match=says("empty.tif", "0 bytes", "download")):
            read(tmp_path / "empty.tif")

    def test_not_an_image(self, tmp_path, read):
        (tmp_path / "page.jpg").write_text("<html>Please log in</html>")
        with pytest.raises(ValueError, match=says("page.jpg", "web page", "download")):
            read(tmp_path / "page.jpg")

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
    def test_a_truncated_jpeg(self, tmp_path, read, share):
        path = cut_off(save(tmp_path / "half.jpg", noise(64, 96, 3)), share)
        with pytest.raises(ValueError, match=says("half.jpg", "cut off", "download")):
            read(path)

    def test_a_truncated_gif(self, tmp_path, read):
        path = cut_off(save_palette(tmp_path / "a_mask.gif", noise(64, 96) % 2))
        with pytest.raises(ValueError, match=says("a_mask.gif", "cut off", "download")):
            read(path)


def test_a_truncated_jpeg_read_small(tmp_path):
    path = cut_off(save(tmp_path / "half.jpg", noise(512, 768, 3)))
    with pytest.raises(ValueError, match=says("half.jpg", "cut off")):
        read_image(path, size=(64, 96))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stack_cut_off_in_the_list_of_a_page_is_no_shorter_stack(tmp_path):
    path = tmp_path / "stack.tif"
    save_stack(path, noise(4, 20, 20))
    with Image.open(path) as image:
        image.seek(1)
        third = image.tag_v2.next  # where the list of the third page begins
    path.write_bytes(path.read_bytes()[: third + 2])
    for read in (read_stack, read_pixels):
        with pytest.raises(ValueError, match=says("stack.tif", "cut off")):
            read(path)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_truncated_stack_is_never_a_shorter_stack(tmp_path, compression, share):
    first, *rest = [Image.fromarray(page) for page in noise(6, 64, 64)]
    path = tmp_path / "stack.tif"
    first.save(path, save_all=True, append_images=rest, compression=compression)
    with pytest.raises(ValueError, match=says("stack.tif", "download")):
        read_stack(cut_off(path, share))


@pytest.mark.parametrize("name, kind", [("a.png", "u2"), ("a.tif", ">u2")])
def test_an_image_of_sixteen_bits_needs_a_range(tmp_path, name, kind):
    deep = (np.arange(600).reshape(20, 30) + 100).astype(kind)
    path = save(tmp_path / name, deep)
    with pytest.raises(ValueError, match=says(name, "8 bits", "100 to 699", "1023")):
        read_image(path)
    image = read_image(path, value_range=(100, 610))
    assert image.dtype == np.uint8 and image.shape == (20, 30)
    assert image[0, 0] == 0 and image[0, 2] == 1 and image[-1, -1] == 255
    assert np.abs(image - np.clip((deep.astype(float) - 100) / 2, 0, 255)).max() <= 0.5


def test_fractions_need_a_range(tmp_path):
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    path = save(tmp_path / "a.tif", values)
    with pytest.raises(ValueError, match=says("a.tif", "0 to 1; (0, 1) would hold")):
        read_image(path)
    assert np.array_equal(
        read_image(path, value_range=(0, 1)), (255 * values).round().astype(np.uint8)
    )
    values[3, 4] = np.nan
    with pytest.raises(ValueError, match=says("b.tif", "finite")):
        read_image(save(tmp_path / "b.tif", values), value_range=(0, 1))


def test_a_range_holds_for_eight_bits_too_and_for_grey_only(tmp_path):
    grey = np.array([[0, 50, 100, 150]], np.uint8)
    path = save(tmp_path / "grey.png", grey)
    assert read_image(path, value_range=(50, 100)).tolist() == [[0, 0, 255, 255]]
    with pytest.raises(ValueError, match=says("grey.png", "rising")):
        read_image(path, value_range=(9, 9))
    path = save(tmp_path / "colour.png", noise(20, 30, 3))
    with pytest.raises(ValueError, match=says("colour.png", "colours", "grey")):
        read_image(path, value_range=(0, 9))


def test_sixteen_bits_of_colour_are_not_cut_to_eight(tmp_path):
    path = tmp_path / "deep.png"
    path.write_bytes(deep_colours())
    with Image.open(path) as image:
        assert image.size == (2, 1) and image.mode == "RGB"  # Pillow cuts
    with pytest.raises(
        ValueError, match=says("deep.png", "cut to 8 bits", "8-bit RGB")
    ):
        read_image(path)


@pytest.mark.parametrize("name", ["animation.gif", "animation.png", "animation.webp"])
def test_a_film_is_not_its_first_picture(tmp_path, name):
    path = save_stack(tmp_path / name, noise(3, 20, 30, 3))
    with pytest.raises(ValueError, match=says(name, "3 pages", "frame.seek(0)")):
        read_image(path)


def test_the_second_picture_of_a_camera_is_no_second_page(tmp_path):
    first, second = (Image.fromarray(noise(20, 30, 3)) for _ in "ab")
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.n_frames == 2
    assert read_image(tmp_path / "a.jpg").shape == (20, 30, 3)


# What is nobody's fault, or everybody's


@pytest.mark.parametrize("read", [read_image, read_mask, read_labels, upright_size])
def test_a_decompression_bomb(tmp_path, read):
    size = (60_000).to_bytes(4, "big")
    head = size + size + b"\x08\x00\x00\x00\x00"
    path = tmp_path / "bomb.png"
    path.write_bytes(png(("IHDR", head), ("IDAT", zlib.compress(bytes(10**6)))))
    words = says("bomb.png", "3600000000 pixels", "MAX_IMAGE_PIXELS")
    with pytest.raises(ValueError, match=words):
        read(path)


def test_the_environment_moves_the_limit_of_pixels(tmp_path):
    path = save(tmp_path / "a.png", noise(20, 30))
    line = "import sys; from unet_tutorial.data.images import read_image; "
    line += "read_image(sys.argv[1])"
    for limit, words in (
        ("500", ["600 pixels", "UNET_TUTORIAL_PIXELS=600"]),
        ("600", []),
    ):
        environment = os.environ | {"UNET_TUTORIAL_PIXELS": limit}
        command = [sys.executable, "-W", "ignore", "-c", line, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == bool(words)
        assert all(word in done.stderr for word in words)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are of POSIX")
def test_a_file_that_must_not_be_read(tmp_path, monkeypatch):
    path = save(tmp_path / "secret.png", noise(20, 30))
    path.chmod(0)
    if os.geteuid() == 0:  # root may read all: play a system that refuses

        def refuse(name, *args, **options):
            raise PermissionError(13, "Permission denied", str(name))

        monkeypatch.setattr("PIL.Image.builtins.open", refuse)
    with pytest.raises(PermissionError, match="secret.png"):
        read_image(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_to_itself_or_to_nothing(tmp_path):
    for name, target in (("loop.png", "loop.png"), ("dead.png", "nothing.png")):
        (tmp_path / name).symlink_to(tmp_path / target)
        with pytest.raises(FileNotFoundError, match=says(name, "link")):
            read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["Zürich (1).v2.1.png", "细胞.png", "ñ.tar.tif"])
def test_names_with_dots_and_accents(tmp_path, name):
    pixels = noise(20, 30)
    for form in ("NFC", "NFD"):
        path = save(tmp_path / form / unicodedata.normalize(form, name), pixels)
        assert np.array_equal(read_image(path), pixels)


def test_what_is_wrong_is_kept_in_parts_and_survives_a_worker(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(BadFile) as error:
        read_image(tmp_path / "a.png")
    for wrong in (error.value, pickle.loads(pickle.dumps(error.value))):
        assert "a.png" in str(wrong) and isinstance(wrong, ValueError)
        assert (wrong.cause, wrong.found) == ("is empty", "0 bytes")
    assert str(BadFile("only words")) == "only words"  # as torch passes it on


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_stack_where_an_image_is_due(tmp_path, read):
    path = save_stack(tmp_path / "stack.tif", noise(3, 20, 30))
    with pytest.raises(ValueError, match=says("stack.tif", "3 pages", "read_stack")):
        read(path)


def test_what_fails_inside_open_image_names_the_file(tmp_path):
    path = save(tmp_path / "fine.png", noise(20, 30))
    with pytest.raises(ValueError, match="fine.png"), open_image(path):
        raise SyntaxError("as Pillow does")


# Masks


@pytest.mark.parametrize(
    "palette",
    [BLACK_WHITE, [0, 0, 0, 128, 0, 0], [0, 0, 0, 1, 1, 1], [9, 9, 9, 9, 9, 9]],
)
@pytest.mark.parametrize("name", ["mask.gif", "mask.png"])
def test_a_palette_counts_by_its_index(tmp_path, palette, name):
    path = save_palette(tmp_path / name, square(), palette)
    mask = read_mask(path)
    assert mask.dtype == np.uint8 and np.array_equal(mask, square())


@pytest.mark.parametrize("value", [1, 2, 128, 255])
@pytest.mark.parametrize("name", ["mask.png", "mask.tif", "mask.bmp"])
def test_any_other_value_becomes_one(tmp_path, value, name):
    path = save(tmp_path / name, (square() * value).astype(np.uint8))
    assert np.array_equal(read_mask(path), square())


def test_a_mask_of_one_bit(tmp_path):
    Image.fromarray(square().astype(bool)).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), square())


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_of_one_value(tmp_path, value):
    path = save(tmp_path / "mask.png", np.full((20, 30), value, np.uint8))
    assert (read_mask(path) == (value > 0)).all()


def test_a_resized_mask_holds_labels_only(tmp_path):
    path = save_palette(tmp_path / "mask.gif", noise(128, 192) % 2)
    small = read_mask(path, size=(37, 91))
    assert small.shape == (37, 91) and set(np.unique(small)) == {0, 1}
    path = save_palette(tmp_path / "square.gif", square(40, 60))
    assert np.array_equal(read_mask(path, size=(80, 120))[::2, ::2], square())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_grey_mask_saved_in_colours(tmp_path, mode):
    image = Image.fromarray(square() * 255).convert(mode)
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), square())


def test_a_mask_in_colours(tmp_path):
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)
    labels = square()
    labels[:5] = 2
    path = save(tmp_path / "mask.png", colours[labels])
    words = says("mask.png", "in colours", "(255, 0, 0)", "read_labels", "colours=")
    with pytest.raises(ValueError, match=words):
        read_mask(path)
    found = read_labels(path, colours=[tuple(c) for c in colours.tolist()])
    assert found.dtype == np.uint8 and np.array_equal(found, labels)
    words = says("mask.png", "not in the list", "(0, 255, 0)", "300 pixels")
    with pytest.raises(ValueError, match=words):
        read_labels(path, colours=[(0, 0, 0), (255, 0, 0)])


def test_a_mask_hidden_in_the_transparency(tmp_path):
    image = Image.new("RGBA", (60, 40))
    image.putalpha(Image.fromarray(square() * 255))
    image.save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=says("mask.png", "getchannel('A')")):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("read", [read_mask, read_labels])
def test_a_photograph_in_the_place_of_a_mask(tmp_path, read):
    path = save(tmp_path / "photo.jpg", noise(40, 60, 3))
    words = says("photo.jpg", "3 channels", "swapped")
    with pytest.raises(ValueError, match=words):
        read(path)


def test_a_mask_saved_as_jpeg(tmp_path):
    path = save(tmp_path / "mask.jpg", square() * 255)
    with pytest.raises(ValueError, match=says("mask.jpg", "JPEG", "PNG", "NEAREST")):
        read_mask(path)


def test_a_mask_of_several_classes(tmp_path):
    labels = square()
    labels[:5] = 2
    path = save(tmp_path / "mask.png", labels)
    with pytest.raises(
        ValueError, match=says("mask.png", "2 in 300 pixels", "read_labels")
    ):
        read_mask(path)


@pytest.mark.parametrize("size", [(20, 30), (80, 120), (33, 47)])
def test_an_interpolated_mask_is_told_from_classes(tmp_path, size):
    soft = Image.fromarray(square() * 255).resize(size[::-1], Image.BILINEAR)
    soft.save(tmp_path / "mask.png")
    remedy = says("is blurred", "NEAREST", "threshold=127")
    with pytest.raises(ValueError, match=remedy):
        read_mask(tmp_path / "mask.png")


def test_what_values_tell():
    def cause(counts):
        return why_not_two(np.array([*counts]), np.array([*counts.values()]))[0]

    assert cause({0: 90, 1: 5, 2: 5}) == "holds more than two values"
    assert cause({0: 50, 127: 9, 255: 50}) == "holds more than two values"
    assert cause({n: 100 for n in range(6)}) == "holds more than two values"
    assert cause({0: 90, 3: 1, 9: 1, 250: 1, 255: 90}) == "is blurred"
    dark = {n: 1000 // (n + 1) for n in range(200)}  # a photograph by night
    assert cause(dark) == "does not look like a mask"


# Label maps


@pytest.mark.parametrize(
    "name, kind, top",
    [
        ("a.png", "u1", 255),
        ("a.png", "u2", 60_000),
        ("a.tif", "u2", 60_000),
        ("a.tif", ">u2", 60_000),
        ("a.tif", "i4", 100_000),
        ("a.tif", "f4", 5_000),
        ("a.bmp", "u1", 255),
        ("a.gif", "u1", 255),
    ],
)
def test_labels_come_as_the_file_holds_them(tmp_path, name, kind, top):
    labels = np.linspace(0, top, 600).astype(int).reshape(20, 30)
    path = save(tmp_path / name, labels.astype(kind))
    found = read_labels(path)
    due = np.uint8 if kind == "u1" else np.int32
    assert found.dtype == due and np.array_equal(found, labels)
    small = read_labels(path, size=(7, 9))
    assert small.shape == (7, 9) and small.dtype == due
    assert set(np.unique(small)) <= set(np.unique(labels))


def test_a_palette_of_classes_counts_by_its_index(tmp_path):
    labels = np.indices((20, 30)).sum(0).astype(np.uint8) % 4
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0, 9, 9, 9]
    path = save_palette(tmp_path / "a.png", labels, palette)
    assert np.array_equal(read_labels(path), labels)
    listed = [tuple(palette[i : i + 3]) for i in (0, 3, 6, 9)]
    assert np.array_equal(read_labels(path, colours=listed), labels)


def test_one_bit_and_fractions(tmp_path):
    Image.fromarray(square().astype(bool)).save(tmp_path / "a.png")
    assert np.array_equal(read_labels(tmp_path / "a.png"), square())
    path = save(tmp_path / "b.tif", np.full((20, 30), 0.5, np.float32))
    with pytest.raises(ValueError, match=says("b.tif", "fractions", "whole")):
        read_labels(path)


# Finding


def test_the_first_of_many():
    assert name_some([]) == "nothing" and name_some("abc") == "a, b, c"
    assert name_some(range(2003)) == "0, 1, 2 and 2,000 more"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_are_followed_but_not_in_circles(tmp_path):
    save(tmp_path / "elsewhere" / "x.png", noise(20, 30))
    save(tmp_path / "data" / "a" / "y.png", noise(20, 30))
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "a" / "out").symlink_to(tmp_path)
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data" / "self")
    found = [path.as_posix() for path in list_files(tmp_path / "data")]
    assert found == ["a/y.png", "link/x.png", "self"]


def test_a_folder_that_must_not_be_read_stops_the_search(tmp_path, monkeypatch):
    save(tmp_path / "a" / "x.png", noise(20, 30))
    save(tmp_path / "b" / "y.png", noise(20, 30))
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError):
        list_files(tmp_path)


def test_an_empty_folder_and_empty_folders_in_it(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert list_files(tmp_path) == []


def test_files_are_found_below_and_hidden_ones_are_not(tmp_path):
    for name in ("a/b/x.tif", ".hidden/y.tif", "__MACOSX/a/._x.tif", "a/.z.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path, "*.tif", "") == {"x.tif": tmp_path / "a/b/x.tif"}


def test_a_folder_with_dots_in_its_own_path_is_not_hidden(tmp_path):
    (tmp_path / ".cache" / "v1.0").mkdir(parents=True)
    (tmp_path / ".cache" / "v1.0" / "x.tif").touch()
    assert find_files(tmp_path / ".cache", "x.tif", "")


def find(folder):
    return find_files(folder, "*.jpg", "it from https://example.org")


@pytest.mark.parametrize("read", [find])
class TestFolders:
    def test_no_such_folder(self, tmp_path, read):
        (tmp_path / "carvana").mkdir()
        with pytest.raises(FileNotFoundError, match=says("carvanna", "holds carvana")):
            read(tmp_path / "carvanna")

    def test_a_file(self, tmp_path, read):
        (tmp_path / "data.zip").touch()
        with pytest.raises(FileNotFoundError, match=says("data.zip", "not a folder")):
            read(tmp_path / "data.zip")

    def test_an_empty_folder(self, tmp_path, read):
        words = says(tmp_path.name, "looked for", "found nothing", "https://", "unpack")
        with pytest.raises(FileNotFoundError, match=words):
            read(tmp_path)

    def test_it_says_what_it_found_instead(self, tmp_path, read):
        for name in "abcde":
            (tmp_path / f"{name}.zip").touch()
        words = says("a.zip, b.zip, c.zip and 2 more", "https://")
        with pytest.raises(FileNotFoundError, match=words):
            read(tmp_path)


# The stack


def test_a_stack_comes_out_page_by_page(tmp_path):
    pages = noise(4, 20, 30)
    assert np.array_equal(read_stack(save_stack(tmp_path / "s.tif", pages)), pages)


def test_one_page_where_a_stack_is_due(tmp_path):
    path = save(tmp_path / "stack.tif", noise(20, 30))
    with pytest.raises(
        ValueError, match=says("stack.tif", "one page", "save_all=True")
    ):
        read_stack(path)


def test_pages_of_different_sizes(tmp_path):
    path = save_stack(tmp_path / "stack.tif", [noise(20, 30), noise(20, 31)])
    with pytest.raises(ValueError, match=says("stack.tif", "20x30 8-bit grey, 20x31")):
        read_stack(path)


def test_pages_of_sixteen_bits(tmp_path):
    for kind in ("u2", ">u2"):
        pages = (noise(3, 20, 30).astype("u2") * 200).astype(kind)
        found = read_stack(save_stack(tmp_path / f"{kind[-3:]}.tif", pages))
        assert found.dtype == np.uint16 and np.array_equal(found, pages)


def test_pages_in_colour(tmp_path):
    path = save_stack(tmp_path / "stack.tif", noise(2, 20, 30, 3))
    with pytest.raises(ValueError, match=says("stack.tif", "colour", "grey")):
        read_stack(path)


# Pages of TIFF files: what is decoded, by whom, and what is refused


COMPRESSIONS = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]


def pages_of(folder, compression=None, kind=np.uint8, count=6):
    "A stack and its file, written by Pillow."
    pages = noise(count, 20, 30).astype(kind)
    first, *rest = [Image.fromarray(page) for page in pages]
    path, more = folder / "stack.tif", {"save_all": True, "append_images": rest}
    first.save(path, compression=compression, **more)
    return pages, path


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_one_page_of_many_is_decoded_once(tmp_path, decoded, compression, kind):
    pages, path = pages_of(tmp_path, compression, kind)
    assert stack_shape(path) == (6, 20, 30) and upright_size(path) == (20, 30)
    assert decoded == []
    for number in (4, 0, 5):
        page = read_page(path, number)
        assert page.dtype == kind and np.array_equal(page, pages[number])
    assert len(decoded) == 3
    assert np.array_equal(read_stack(path), pages) and len(decoded) == 9
    assert np.array_equal(read_pixels(path), pages) and len(decoded) == 15


@pytest.mark.parametrize("number", [-1, 6])
def test_a_page_that_is_not_there(tmp_path, number):
    _, path = pages_of(tmp_path)
    with pytest.raises(BadFile, match=says("stack.tif", f"page {number}", "0 to 5")):
        read_page(path, number)


def test_a_page_that_is_no_slice(tmp_path):
    path = save(tmp_path / "colour.tif", noise(20, 30, 3))
    with pytest.raises(BadFile, match=says("colour.tif", "20x30 8-bit colour")):
        read_page(path, 0)
    assert channels_of(path) == 3


def test_another_format_is_no_stack(tmp_path):
    path = save_stack(tmp_path / "film.gif", noise(3, 20, 30))
    for read in (read_stack, stack_shape, lambda path: read_page(path, 0)):
        with pytest.raises(BadFile, match=says("film.gif", "no TIFF", "GIF")):
            read(path)


FORMS = {
    "half": (np.float16, {}),
    "double": (np.float64, {}),
    "signed": (np.int16, {}),
    "signed bytes": (np.int8, {}),
    "large": (np.uint32, {}),
    "big": (np.uint16, {"bigtiff": True}),
    "other end": (np.uint16, {"byteorder": ">"}),
    "big other end": (np.float32, {"bigtiff": True, "byteorder": ">"}),
    "tiles": (np.uint16, {"tile": (16, 16)}),
    "strips": (np.uint16, {"rowsperstrip": 3}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_depth_and_layout_is_read_as_it_is(tmp_path, form):
    kind, options = FORMS[form]
    pixels, path = (noise(20, 30) // 3).astype(kind), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    found = read_pixels(path)
    assert found.dtype == kind and np.array_equal(found, pixels)
    assert np.array_equal(read_labels(path), pixels)  # whole numbers are labels
    assert upright_size(path) == (20, 30) and channels_of(path) == 1
    scaled = read_image(path, value_range=(0, 85))
    assert np.array_equal(scaled, (pixels.astype(float) * 3).round())


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_in_every_layout(tmp_path, planar, bits, channels):
    kind, path = {8: np.uint8, 16: np.uint16}[bits], tmp_path / "a.tif"
    pixels = noise(20, 30, channels).astype(kind) * (1 if bits == 8 else 257)
    stored = np.moveaxis(pixels, 2, 0) if planar == "separate" else pixels
    more = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, **more)
    assert np.array_equal(read_pixels(path), pixels[..., :3])
    if bits == 8:
        assert np.array_equal(read_image(path), pixels[..., :3])
    else:
        with pytest.raises(BadFile, match=says("a.tif", "8 bits", "value_range")):
            read_image(path)
        found = read_image(path, value_range=(0, 65535))
        assert np.array_equal(found, pixels[..., :3] // 257)


def test_where_white_is_zero(tmp_path):
    grey, path = noise(20, 30), tmp_path / "a.tif"
    tifffile.imwrite(path, grey, photometric="miniswhite")
    assert np.array_equal(read_pixels(path), 255 - grey)
    assert np.array_equal(read_image(path), 255 - grey)


def imagej(path, pages, listed=True):
    "A stack as ImageJ writes it; over 4 GB it lists the first page alone."
    if listed:
        tifffile.imwrite(path, pages, imagej=True, metadata={"axes": "ZYX"})
        return path
    text = f"ImageJ=1.54f\nimages={len(pages)}\nslices={len(pages)}\nloop=false\n"
    one = {"description": text, "metadata": None, "byteorder": ">"}
    tifffile.imwrite(path, pages[0], photometric="minisblack", **one)
    with open(path, "ab") as file:
        file.write(pages[1:].astype(pages.dtype.newbyteorder(">")).tobytes())
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("listed", [True, False])
def test_a_stack_of_imagej_is_read_to_its_end(tmp_path, kind, listed):
    pages = noise(5, 20, 30).astype(kind)
    path = imagej(tmp_path / "stack.tif", pages, listed)
    found = read_pixels(path)
    assert found.dtype == kind and np.array_equal(found, pages)
    if kind != np.float32:
        assert np.array_equal(read_stack(path), pages)
        assert np.array_equal(read_page(path, 3), pages[3])
    with pytest.raises(BadFile, match=says("stack.tif", "5 pages", "read_stack")):
        read_image(path)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore")
def test_a_stack_of_imagej_that_is_cut_off(tmp_path, listed, share):
    path = imagej(tmp_path / "stack.tif", noise(5, 64, 64), listed)
    cut_off(path, share)
    for read in (read_stack, read_pixels):
        with pytest.raises(BadFile, match=says("stack.tif", "download")):
            read(path)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"compression": "zlib"}])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore")
def test_what_tifffile_wrote_is_never_shortened(tmp_path, options, share):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, noise(6, 64, 64), photometric="minisblack", **options)
    cut_off(path, share)
    for read in (read_stack, read_pixels):
        with pytest.raises(BadFile, match=says("stack.tif", "download")):
            read(path)


def test_a_page_too_large_to_be_true(tmp_path, monkeypatch):
    _, path = pages_of(tmp_path, "tiff_lzw")  # without compression, no page can lie
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for read in (read_stack, read_pixels):
        with pytest.raises(BadFile, match=says("stack.tif", "MAX_IMAGE_PIXELS")):
            read(path)


def test_the_decoder_does_not_depend_on_what_else_is_installed(tmp_path, decoded):
    for compression in COMPRESSIONS:
        _, path = pages_of(tmp_path, compression, count=2)
        read_stack(path)
    assert (
        decoded == ["tifffile"] * 2 + ["Pillow"] * 2 + ["tifffile"] * 2 + ["Pillow"] * 2
    )


@pytest.mark.parametrize("behind", [False, True])
def test_the_size_of_a_turned_png_is_in_its_head(tmp_path, decoded, behind):
    path, exif = tmp_path / "a.png", Image.Exif()
    exif[0x0112] = 6
    save(path, noise(20, 30), exif=exif)
    if behind:  # the note may follow the pixels
        data = path.read_bytes()
        start = data.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        note, rest = data[start:end], data[:start] + data[end:]
        path.write_bytes(rest[:-12] + note + rest[-12:])
    assert upright_size(path) == (30, 20) and decoded == []
    assert read_image(path).shape == (30, 20) and decoded == ["Pillow"]


def test_bytes_are_scaled_in_bands_as_in_one():
    pixels = np.arange(3000.0 * 2).reshape(3000, 2) - 100
    due = np.clip(255 * (pixels - 10) / 4000, 0, 255)
    found = to_bytes(pixels, (10, 4010))
    assert found.dtype == np.uint8 and np.abs(found - due).max() <= 0.501


# Damage of every kind: what is raised is documented, and names the file

READERS = [read_image, read_mask, read_labels, read_pixels, read_stack]
READERS += [upright_size, stack_shape, channels_of]
SAMPLES = {
    "a.png": {},
    "p.png": {"mode": "P"},
    "a.jpg": {},
    "cmyk.jpg": {"mode": "CMYK"},
    "a.gif": {"mode": "P"},
    "a.bmp": {},
    "a.tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "deep.tif": {"mode": "I;16"},
    "deflate.tif": {"mode": "I;16", "compression": "tiff_adobe_deflate"},
    "stack.tif": {"save_all": True, "mode": "I;16"},
    "deep.png": {"mode": "I;16"},
}


def sample(name):
    "The bytes of a small good file, with EXIF where there can be some."
    options = dict(SAMPLES[name])
    mode, exif = options.pop("mode", "RGB"), Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(noise(24, 32, 3) // 64 * 64)
    if mode == "I;16":
        image = Image.fromarray(noise(24, 32).astype(np.uint16) * 9)
    elif mode != "RGB":
        image = image.convert(mode)
    if name[-3:] in ("jpg", "png", "tif"):
        options["exif"] = exif
    if "save_all" in options:
        options["append_images"], exif = [image, image], Image.Exif()
    out = io.BytesIO()
    image.save(out, {"jpg": "jpeg", "tif": "tiff"}.get(name[-3:], name[-3:]), **options)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_damage_is_told(tmp_path, monkeypatch, name):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 200_000)
    good, path = sample(name), tmp_path / name
    spots = st.tuples(st.integers(0, min(400, len(good) - 1)), st.integers(0, 255))
    anywhere = st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255))

    @settings(
        max_examples=120,
        deadline=2000,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(spots | anywhere, max_size=6), st.integers(0, len(good)))
    def check(changes, end):
        data = bytearray(good)
        for at, value in changes:
            data[at] = value
        path.write_bytes(data[:end] if end % 3 == 0 else data)
        for read in READERS:
            try:
                read(path)
            except ValueError as error:
                assert isinstance(error, BadFile) and name in str(error)
        for size in ((5, 7), (64, 40)):
            try:
                assert read_image(path, size, value_range=(0, 9)).shape[:2] == size
            except BadFile as error:
                assert error.cause and error.remedy

    check()


def test_probabilities_are_no_mask(tmp_path):
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    with pytest.raises(ValueError, match=says("p.tif")):
        read_mask(save(tmp_path / "p.tif", values))


def test_one_bit_per_pixel_in_rows_of_whole_bytes(tmp_path):
    mask, path = square(40, 60) > 0, tmp_path / "a.tif"
    save(path, mask)  # 60 bits are 8 bytes, the last half empty
    assert np.array_equal(read_mask(path), mask)
    assert np.array_equal(read_pixels(path), 255 * mask)
    with pytest.raises(BadFile, match=says("a.tif", "damaged or cut off")):
        read_mask(cut_off(path, 0.6))


def write_packed(
    path,  # the file to write
    pixels,  # (H, W) grey, any numbers
    **options,  # of tifffile.imwrite
):
    "Write a TIFF in PackBits, which tifffile alone could not without imagecodecs."
    tifffile.imwrite(path, pixels, rowsperstrip=len(pixels), **options)
    raw = pixels.tobytes()
    pieces = [raw[at : at + 128] for at in range(0, len(raw), 128)]
    packed = b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)
    offset = path.stat().st_size
    with path.open("ab") as file:
        file.write(packed)
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages[0].tags
        tags["Compression"].overwrite(32773)
        tags["StripOffsets"].overwrite(offset)
        tags["StripByteCounts"].overwrite(len(packed))


@pytest.mark.parametrize("kind, value", [(np.uint32, 3 * 10**9), (np.int8, -5)])
def test_the_sign_of_a_compressed_number_is_kept(tmp_path, kind, value):
    pixels, path = np.full((20, 30), value, kind), tmp_path / "a.tif"
    write_packed(path, pixels)
    found = read_pixels(path)
    assert found.dtype == kind and np.array_equal(found, pixels)


UNREADABLE = {
    "float64": (np.ones((20, 30)), {}),
    "complex64": (np.ones((20, 30), np.complex64), {}),
    "several slices": (np.ones((4, 20, 30), np.uint8), {"volumetric": True}),
    "white as 0": (np.ones((20, 30), np.uint16), {"photometric": "miniswhite"}),
}


@pytest.mark.parametrize("read", [read_pixels, read_image, read_mask])
@pytest.mark.parametrize("found", UNREADABLE)
def test_a_tiff_that_pillow_would_change_or_not_know(tmp_path, found, read):
    pixels, options = UNREADABLE[found]
    path = tmp_path / "a.tif"
    if "volumetric" in options:
        options = options | {"tile": (16, 16, 16)}
    write = write_packed if found == "float64" else tifffile.imwrite
    write(path, pixels, **{"photometric": "minisblack"} | options)
    with pytest.raises(BadFile, match=says("a.tif", "of a kind", found, ": save ")):
        read(path)


@pytest.mark.parametrize("name", ["film.gif", "film.png", "film.webp"])
def test_a_film_is_not_predicted_by_its_first_picture(tmp_path, name):
    pictures = [Image.fromarray(noise(20, 30)) for _ in range(3)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    with pytest.raises(BadFile, match=says(name, "several pages", "keeps one")):
        read_pixels(tmp_path / name)


def test_an_archive_of_arrays_is_no_array(tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        np.savez(file, noise(20, 30))
    with pytest.raises(BadFile, match=says("a.npy", "archive", "np.save")):
        read_pixels(tmp_path / "a.npy")


def test_the_range_that_is_offered_holds_negative_numbers(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.array([[-300, 500]], np.int16))
    with pytest.raises(BadFile, match=says("(-300, 511) would hold this file")):
        read_image(path)


def test_what_libtiff_prints_is_muted_and_nothing_else(capfd):
    def print_inside(name):
        with images._muted():
            os.write(2, f"inside {name}".encode())

    threads = [Thread(target=print_inside, args=(name,)) for name in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(OSError, match="cut off"), images._muted():
        raise OSError("cut off")
    os.write(2, b"after")
    assert capfd.readouterr() == ("", "after")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_waits_until_nothing_is_muted():
    inside, usual = Event(), os.fstat(2)

    def hold():
        with images._muted():
            inside.set()
            time.sleep(0.3)

    def mute():
        assert os.path.samestat(os.fstat(2), usual)  # it inherits no silence
        with images._muted():
            os.write(2, b"unseen")

    thread = Thread(target=hold)
    thread.start()
    assert inside.wait(120)
    child = multiprocessing.get_context("fork").Process(target=mute)
    child.start()
    child.join(60)
    child.kill()  # one that waits for ever
    child.join()
    thread.join()
    assert child.exitcode == 0
