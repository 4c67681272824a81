"""Files of every kind, good and bad, to images, masks, pairs, tiles."""

import pickle
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from unet_tutorial.data import (
    ImagePairs,
    Pair,
    Tiles,
    find_carvana,
    find_files,
    load_isbi,
    mirror,
    open_image,
    read_image,
    read_mask,
    read_stack,
    split_by_car,
    to_tensor,
    upright_size,
)
from unet_tutorial.sizes import output_size
from unet_tutorial.tiles import lost_pixels

BLACK_WHITE = [0, 0, 0, 255, 255, 255]
RNG = np.random.default_rng(0)


def says(*words):
    "A pattern for pytest.raises: all these words, in any order."
    return re.compile("".join(f"(?=.*{re.escape(word)})" for word in words), re.DOTALL)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def square(height=40, width=60):  # a mask with an object in it
    mask = np.zeros((height, width), np.uint8)
    mask[10:30, 15:40] = 1
    return mask


def save_palette(path, index, palette=BLACK_WHITE):
    image = Image.fromarray(index)
    image.putpalette(palette)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def save_stack(path, pages):
    first, *rest = [Image.fromarray(page) for page in pages]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=rest)
    return path


def cut_off(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def carvana(folder, names=("a_01", "a_02", "b_01"), size=(40, 60)):
    "A folder in the layout of Carvana."
    for name in names:
        save(folder / "train" / f"{name}.jpg", noise(*size, 3))
        save_palette(folder / "train_masks" / f"{name}_mask.gif", square(*size))
    return folder


def isbi(folder, slices=3, size=32):
    "A folder in the layout of ISBI 2012, one folder further down."
    images = noise(slices, size, size)
    inside = np.where(noise(slices, size, size) > 50, 255, 0).astype(np.uint8)
    save_stack(folder / "unpacked" / "train-volume.tif", images)
    save_stack(folder / "unpacked" / "train-labels.tif", inside)
    return images, inside


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


def test_membranes_are_one(tmp_path):
    images, inside = isbi(tmp_path)
    got, masks = load_isbi(tmp_path)
    assert np.array_equal(got, images) and masks.dtype == np.uint8
    assert np.array_equal(masks, inside == 0)


def test_one_of_the_two_files_is_missing(tmp_path):
    isbi(tmp_path)
    (tmp_path / "unpacked" / "train-labels.tif").unlink()
    words = says("train-labels.tif", "found unpacked", "train-volume.tif", "https://")
    with pytest.raises(FileNotFoundError, match=words):
        load_isbi(tmp_path)


def test_a_file_that_is_there_twice(tmp_path):
    isbi(tmp_path / "one")
    isbi(tmp_path / "two")
    words = says("one/unpacked", "two/unpacked", "train-volume.tif", "give a folder")
    with pytest.raises(ValueError, match=words):
        load_isbi(tmp_path)
    load_isbi(tmp_path / "two")


def test_volume_and_labels_swapped(tmp_path):
    images, inside = isbi(tmp_path)
    save_stack(tmp_path / "unpacked" / "train-volume.tif", inside)
    save_stack(tmp_path / "unpacked" / "train-labels.tif", images)
    with pytest.raises(ValueError, match=says("train-labels.tif", "values", "swapped")):
        load_isbi(tmp_path)


@pytest.mark.parametrize("shape", [(2, 32, 32), (3, 32, 33)])
def test_volume_and_labels_of_different_sizes(tmp_path, shape):
    isbi(tmp_path)
    save_stack(tmp_path / "unpacked" / "train-labels.tif", noise(*shape) % 2)
    words = says("train-volume.tif", "train-labels.tif", str(shape), "get both again")
    with pytest.raises(ValueError, match=words):
        load_isbi(tmp_path)


# Pairs


def test_pairs_are_sorted_and_know_their_car(tmp_path):
    pairs = find_carvana(carvana(tmp_path, ["b_01", "a_10", "a_01"]))
    assert [(p.car, p.view) for p in pairs] == [("a", 1), ("a", 10), ("b", 1)]
    assert all(pair.mask.name == f"{pair.image.stem}_mask.gif" for pair in pairs)


def test_names_that_begin_alike_are_not_confused(tmp_path):
    names = ["1_01", "10_01", "1_10", "1.5_01", "a.jpg_01", "a_b_01", "01_01_01"]
    pairs = find_carvana(carvana(tmp_path, names))
    assert sorted(pair.image.stem for pair in pairs) == sorted(names)
    assert all(pair.mask.name == f"{pair.image.stem}_mask.gif" for pair in pairs)
    assert {p.car for p in pairs} == {"1", "10", "1.5", "a.jpg", "a_b", "01_01"}


def test_folders_as_the_archives_unpack(tmp_path):
    carvana(tmp_path / "train")
    (tmp_path / "train" / "train_masks").rename(tmp_path / "train_masks")
    save(tmp_path / "test" / "z_01.jpg", noise(40, 60, 3))
    save(tmp_path / "train" / "train" / "._a_01.jpg", noise(40, 60, 3))
    save(tmp_path / "train" / "train" / "other.jpg", noise(40, 60, 3))
    assert len(find_carvana(tmp_path)) == 3


def test_all_in_one_folder(tmp_path):
    carvana(tmp_path)
    for path in list(tmp_path.rglob("*_*.*")):
        path.rename(tmp_path / path.name)
    assert len(find_carvana(tmp_path)) == 3


@pytest.mark.parametrize(
    ("folder", "wanted"),
    [("train", r"*_[0-9][0-9]_mask.gif"), ("train_masks", r"*_[0-9][0-9].jpg")],
)
def test_only_the_images_or_only_the_masks(tmp_path, folder, wanted):
    carvana(tmp_path)
    words = says(wanted, folder, "a_01", "Give the folder that holds all", "https://")
    with pytest.raises(FileNotFoundError, match=words):
        find_carvana(tmp_path / folder)


@pytest.mark.parametrize("name", ["train/a_02.jpg", "train_masks/a_02_mask.gif"])
def test_an_image_or_a_mask_alone(tmp_path, name):
    (carvana(tmp_path) / name).unlink()
    with pytest.raises(
        FileNotFoundError,
        match=says("1 files", "a_02", "no partner", "train_masks.zip"),
    ):
        find_carvana(tmp_path)


def test_many_files_alone_are_counted(tmp_path):
    carvana(tmp_path, [f"a_{view:02}" for view in range(1, 17)])
    for path in (tmp_path / "train_masks").glob("a_0*"):
        path.unlink()
    words = says("9 files", "a_01.jpg, a_02.jpg, a_03.jpg and 6 more")
    with pytest.raises(FileNotFoundError, match=words):
        find_carvana(tmp_path)


def test_swapped_folders(tmp_path):
    carvana(tmp_path)
    (tmp_path / "train").rename(tmp_path / "other")
    (tmp_path / "train_masks").rename(tmp_path / "train")
    (tmp_path / "other").rename(tmp_path / "train_masks")
    with pytest.raises(
        ValueError, match=says("swapped", "train_masks/a_01.jpg", "Exchange")
    ):
        find_carvana(tmp_path)


def test_the_same_image_in_two_folders(tmp_path):
    carvana(tmp_path)
    save(tmp_path / "train_hq" / "a_01.jpg", noise(40, 60, 3))
    words = says("train/a_01.jpg", "train_hq/a_01.jpg", "same name", "one of them")
    with pytest.raises(ValueError, match=words):
        find_carvana(tmp_path)


# Splits


def cars(count):
    return [
        Pair(f"{car}_{view:02}.jpg", "", str(car), view)
        for car in range(count)
        for view in range(1, 17)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("held_out", [1, 4, 14])
def test_no_car_is_in_both_parts(seed, held_out):
    pairs = cars(15)
    train, valid = split_by_car(pairs, held_out, seed)
    assert {p.car for p in train}.isdisjoint({p.car for p in valid})
    assert sorted(train + valid) == sorted(pairs) and len(valid) == 16 * held_out


def test_a_split_depends_on_the_seed_and_on_nothing_else():
    pairs = cars(15)
    expected = random.Random(3).sample(sorted({p.car for p in pairs}), 4)
    shuffled = random.Random(1).sample(pairs, len(pairs))
    for order in (pairs, shuffled):
        assert {p.car for p in split_by_car(order, seed=3)[1]} == set(expected)
    assert split_by_car(pairs, seed=0) != split_by_car(pairs, seed=1)


@pytest.mark.parametrize("held_out", [-1, 0, 3, 4])
def test_a_split_leaves_something_on_both_sides(held_out):
    with pytest.raises(ValueError, match=says(f"held_out={held_out}", "3 cars", "one")):
        split_by_car(cars(3), held_out)


# Tensors


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (1, 7)])
def test_mean_zero_and_deviation_one(shape):
    x = to_tensor(noise(*shape))
    assert x.dtype == torch.float32 and x.is_contiguous()
    assert x.shape == (shape[2] if len(shape) == 3 else 1, *shape[:2])
    assert abs(x.mean()) < 1e-6 and abs(x.std(correction=0) - 1) < 1e-5


def test_colours_are_standardised_together():
    image = noise(20, 30, 3) // [1, 2, 4]
    x = to_tensor(image).movedim(0, -1)
    expected = (image - image.mean()) / image.std()
    assert np.allclose(x, expected, atol=1e-5)


@pytest.mark.parametrize("value", [0, 7, 201, 0.1])
def test_a_constant_image_gives_zeros(value):
    x = to_tensor(np.full((513, 777), value))
    assert x.abs().max() < 1e-6


def test_flipped_and_read_only_arrays_are_fine():
    image = noise(20, 30, 3)
    image.flags.writeable = False
    assert torch.equal(to_tensor(image[:, ::-1]), to_tensor(image).flip(-1))


# The data set of pairs


def test_an_item_is_an_image_and_its_label_map(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), size=(20, 30))
    x, label = data[0]
    assert len(data) == 3 and x.shape == (3, 20, 30) and x.dtype == torch.float32
    assert label.dtype == torch.int64
    assert np.array_equal(label, square()[1::2, 1::2])
    with pytest.raises(IndexError):
        data[3]


def test_each_file_is_decoded_once(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    kept, fresh = ImagePairs(pairs), ImagePairs(pairs, cache=False)
    first = kept[0], fresh[0]
    pairs[0].image.unlink()
    assert torch.equal(kept[0][0], first[0][0])
    with pytest.raises(FileNotFoundError, match=says("a_01.jpg")):
        fresh[0]


def test_a_transform_changes_both_and_not_what_is_kept(tmp_path):
    def flip(image, mask):
        assert image.dtype == mask.dtype == np.uint8 and image.shape[:2] == mask.shape
        image[:], mask[:] = image[:, ::-1].copy(), mask[:, ::-1].copy()
        return {"image": image, "mask": mask}

    pairs = find_carvana(carvana(tmp_path))
    plain, data = ImagePairs(pairs)[0], ImagePairs(pairs, transform=flip)
    for _ in range(2):
        assert torch.allclose(data[0][0], plain[0].flip(-1), atol=1e-6)
        assert torch.equal(data[0][1], plain[1].flip(-1))


def test_a_mask_of_another_size(tmp_path):
    carvana(tmp_path)
    save_palette(tmp_path / "train_masks" / "a_02_mask.gif", square(40, 61))
    words = says(
        "a_02.jpg is (40, 60)", "a_02_mask.gif is (40, 61)", "size of its image"
    )
    with pytest.raises(ValueError, match=words):
        ImagePairs(find_carvana(tmp_path))


def test_the_file_that_cannot_be_opened_is_the_one_named(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    pairs[1].mask.write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=says("a_02_mask.gif", "not an image")
    ) as error:
        ImagePairs(pairs)
    assert "a_02.jpg" not in str(error.value)
    pairs[1].mask.unlink()
    with pytest.raises(FileNotFoundError, match="a_02_mask.gif"):
        ImagePairs(pairs)


def test_images_and_masks_swapped(tmp_path):
    pair = find_carvana(carvana(tmp_path))[0]
    data = ImagePairs([pair._replace(image=pair.mask, mask=pair.image)])
    with pytest.raises(ValueError, match=says("a_01.jpg", "3 channels", "swapped")):
        data[0]


def test_workers_give_the_same_pairs(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), size=(20, 30))
    pickle.loads(pickle.dumps(data))
    alone = list(DataLoader(data, batch_size=2))
    helped = list(DataLoader(data, batch_size=2, num_workers=2))
    for (x, label), (x2, label2) in zip(alone, helped, strict=True):
        assert torch.equal(x, x2) and torch.equal(label, label2)


# Tiles


@pytest.mark.parametrize(("depth", "margin"), [(1, 8), (2, 20), (3, 44), (4, 92)])
def test_lost_pixels(depth, margin):
    assert lost_pixels(depth) == margin


@pytest.mark.parametrize("margin", [0, 1, 5, 92])
def test_the_mirror_goes_on_again_and_again(margin):
    image = RNG.random((2, 7, 5), dtype=np.float32)
    out = mirror(torch.from_numpy(image), margin, extra=(3, 1)).numpy()
    expected = np.pad(
        image, [(0, 0), (margin, margin + 3), (margin, margin + 1)], mode="reflect"
    )
    assert np.array_equal(out, expected)
    for axis, side in ((1, 7), (2, 5)):  # by hand: there and back, without the border
        period = np.r_[0:side, side - 2 : 0 : -1]
        index = period[(np.arange(out.shape[axis]) - margin) % len(period)]
        line = np.take(image, index, axis)
        there = [slice(None), slice(margin, margin + 7), slice(margin, margin + 5)]
        there[axis] = slice(None)
        assert np.array_equal(out[tuple(there)], line)


def stack(slices=3, size=100):
    "Images whose labels can be read off: 1 where a pixel is brighter than 127."
    images = noise(slices, size, size)
    return images, (images > 127).astype(np.uint8)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("augment", [True, False])
def test_labels_belong_to_the_centre_of_their_tile(depth, augment):
    _, labels = stack()
    images = np.where(labels, 200, 50).astype(np.uint8)
    margin, size = lost_pixels(depth), {1: 44, 2: 84, 3: 148}[depth]
    tiles = Tiles(images, labels, size, depth, tiles=20, augment=augment)
    for x, label in tiles:
        assert x.shape == (1, size, size) and x.dtype == torch.float32
        assert label.shape == (output_size(size, depth),) * 2
        assert label.dtype == torch.int64
        centre = x[0, margin:-margin, margin:-margin]
        assert torch.equal((centre > 0).long(), label)


def test_all_slices_places_and_positions_are_drawn():
    images, labels = stack(slices=3, size=20)
    tiles = Tiles(images, labels, input_tile=32, depth=1, tiles=600)  # output 16
    assert len({label.numpy().tobytes() for _, label in tiles}) > 300
    plain = Tiles(images, labels, input_tile=32, depth=1, tiles=600, augment=False)
    places = {label.numpy().tobytes() for _, label in plain}
    assert len(places) == 3 * 5 * 5


def test_a_tile_is_standardised_with_its_whole_slice():
    images = np.concatenate([np.full((1, 50, 100), 50), np.full((1, 50, 100), 150)], 1)
    labels = (images > 100).astype(np.uint8)
    tiles = Tiles(images, labels, input_tile=32, depth=1, tiles=50)
    values = torch.cat([x.flatten() for x, _ in tiles]).unique()
    assert torch.allclose(values, torch.tensor([-1.0, 1.0]))


def test_an_item_depends_on_seed_epoch_and_index():
    keys = {"input_tile": 44, "depth": 1, "tiles": 6}
    images, labels = stack()
    tiles, same = Tiles(images, labels, **keys), Tiles(images, labels, **keys)
    other = Tiles(images, labels, **keys, seed=1)
    _ = same[5], same[0]  # what was asked before does not matter
    assert torch.equal(tiles[3][0], same[3][0])
    assert not torch.equal(tiles[3][0], other[3][0])
    before = tiles[3][0]
    tiles.set_epoch(7)
    assert not torch.equal(tiles[3][0], before)
    tiles.set_epoch(0)
    assert torch.equal(tiles[3][0], before)
    assert len(tiles) == 6
    with pytest.raises(IndexError):
        tiles[6]


@pytest.mark.parametrize("persistent", [False, True])
def test_any_number_of_workers_gives_the_same_tiles(persistent):
    tiles = Tiles(*stack(), input_tile=44, depth=1, tiles=6)
    pickle.loads(pickle.dumps(tiles))
    alone = DataLoader(tiles, batch_size=2)
    keys = {"num_workers": 2, "persistent_workers": persistent}
    helped = DataLoader(tiles, batch_size=2, **keys)
    for epoch in range(3):
        tiles.set_epoch(epoch)
        for (x, label), (x2, label2) in zip(alone, helped, strict=True):
            assert torch.equal(x, x2) and torch.equal(label, label2)


@pytest.mark.parametrize("wrong", [2, 255, -1])
def test_labels_outside_the_classes(wrong):
    images, labels = stack()
    labels = labels.astype(np.int64)
    labels[1, 5, 5] = wrong
    words = says("page 1", f"[{wrong}]", "num_classes=2", "0 to 1", "labels == 255")
    with pytest.raises(ValueError, match=words):
        Tiles(images, labels, input_tile=44, depth=1)
    if wrong == 2:
        Tiles(images, labels, input_tile=44, depth=1, num_classes=3)


def test_an_output_tile_larger_than_the_image():
    with pytest.raises(ValueError, match=says("388", "(3, 100, 100)", "smaller")):
        Tiles(*stack())


@pytest.mark.parametrize("shape", [(2, 100, 100), (3, 100, 99), (100, 100)])
def test_images_and_labels_of_different_shapes(shape):
    with pytest.raises(
        ValueError, match=says("(3, 100, 100)", str(shape), "(N, H, W)")
    ):
        Tiles(stack()[0], np.zeros(shape, np.uint8), input_tile=44, depth=1)


def test_a_tile_of_no_valid_size():
    with pytest.raises(ValueError, match=says("570", "556", "572")):
        Tiles(*stack(), input_tile=570)


# The real files


def test_the_real_membranes(real_isbi):
    images, masks = load_isbi(real_isbi)
    assert images.shape == masks.shape == (30, 512, 512)
    assert set(np.unique(masks)) == {0, 1}
    assert round(masks.mean(), 4) == 0.2196
    x, label = Tiles(images, masks)[0]
    assert x.shape == (1, 572, 572) and label.shape == (388, 388)


def test_the_real_cars(real_carvana):
    pairs = find_carvana(real_carvana)
    names = {pair.car for pair in pairs}
    assert len(names) in (15, 318) and len(pairs) == 16 * len(names)
    train, valid = split_by_car(pairs)
    assert {p.car for p in train}.isdisjoint({p.car for p in valid})
    x, label = ImagePairs(valid[:3])[0]
    assert x.shape == (3, 160, 240) and label.unique().tolist() == [0, 1]
