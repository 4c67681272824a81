"""Files of every kind, good and bad, to images and masks."""

import numpy as np
import pytest
from PIL import Image
from samples import (
    BLACK_WHITE,
    cut_off,
    noise,
    save,
    save_palette,
    save_stack,
    says,
    square,
)

from unet_tutorial.data import (
    find_files,
    open_image,
    read_image,
    read_mask,
    read_stack,
    upright_size,
)
from unet_tutorial.sources import find_carvana, load_isbi

# Images


def test_a_grey_and_a_colour_image_come_out_as_they_are(tmp_path):
    grey, colour = noise(20, 30), noise(20, 30, 3)
    assert np.array_equal(read_image(save(tmp_path / "g.png", grey)), grey)
    assert np.array_equal(read_image(str(save(tmp_path / "c.png", colour))), colour)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "YCbCr"])
def test_other_colours_become_rgb(tmp_path, mode):
    colour = Image.new("RGB", (30, 20), (200, 30, 40))
    path = tmp_path / ("image.tif" if mode in ("CMYK", "YCbCr") else "image.png")
    (colour.quantize(4) if mode == "P" else colour.convert(mode)).save(path)
    image = read_image(path)
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    assert np.abs(image[5, 5].astype(int) - [200, 30, 40]).max() < 12


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(tmp_path, orientation):
    blobs = np.array(Image.fromarray(noise(4, 6, 3)).resize((96, 64), Image.BICUBIC))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "image.jpg", blobs, quality=95, exif=exif)
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


@pytest.mark.parametrize("read", [read_image, read_mask, read_stack])
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
        with pytest.raises(ValueError, match=says("page.jpg", "not an image", "PNG")):
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


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_truncated_stack_is_never_a_shorter_stack(tmp_path, compression, share):
    first, *rest = [Image.fromarray(page) for page in noise(6, 64, 64)]
    path = tmp_path / "stack.tif"
    first.save(path, save_all=True, append_images=rest, compression=compression)
    with pytest.raises(ValueError, match=says("stack.tif", "download")):
        read_stack(cut_off(path, share))


def test_an_image_of_sixteen_bits(tmp_path):
    for name, kind in [("deep.png", np.uint16), ("deep.tif", np.float32)]:
        path = save(tmp_path / name, np.arange(600).reshape(20, 30).astype(kind))
        with pytest.raises(ValueError, match=says(name, "8 bits", "0..255", "PNG")):
            read_image(path)


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
def test_a_mask_with_channels(tmp_path, mode):
    image = Image.fromarray(square() * 255).convert(mode)
    image.save(tmp_path / "mask.png")
    words = says("mask.png", f"{len(mode)} channels", mode, "getchannel(0)", "swapped")
    with pytest.raises(ValueError, match=words):
        read_mask(tmp_path / "mask.png")


def test_a_mask_saved_as_jpeg(tmp_path):
    path = save(tmp_path / "mask.jpg", square() * 255)
    with pytest.raises(ValueError, match=says("mask.jpg", "JPEG", "PNG", "NEAREST")):
        read_mask(path)


def test_a_mask_of_several_classes(tmp_path):
    labels = square()
    labels[:5] = 2
    path = save(tmp_path / "mask.png", labels)
    with pytest.raises(ValueError, match=says("mask.png", "0, 1, 2", "labels == 1")):
        read_mask(path)


# Finding


def test_files_are_found_below_and_hidden_ones_are_not(tmp_path):
    for name in ("a/b/x.tif", ".hidden/y.tif", "__MACOSX/a/._x.tif", "a/.z.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path, "*.tif", "") == {"x.tif": tmp_path / "a/b/x.tif"}


def test_a_folder_with_dots_in_its_own_path_is_not_hidden(tmp_path):
    (tmp_path / ".cache" / "v1.0").mkdir(parents=True)
    (tmp_path / ".cache" / "v1.0" / "x.tif").touch()
    assert find_files(tmp_path / ".cache", "x.tif", "")


@pytest.mark.parametrize("read", [load_isbi, find_carvana])
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
    with pytest.raises(ValueError, match=says("stack.tif", "20x30 L, 20x31 L")):
        read_stack(path)


@pytest.mark.parametrize("kind", ["RGB", "I;16"])
def test_pages_that_are_not_eight_bit_grey(tmp_path, kind):
    pages = noise(2, 20, 30, 3) if kind == "RGB" else noise(2, 20, 30).astype("uint16")
    path = save_stack(tmp_path / "stack.tif", pages)
    with pytest.raises(ValueError, match=says("stack.tif", kind, "8-bit grey")):
        read_stack(path)
