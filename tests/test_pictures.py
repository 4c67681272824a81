"""Images as somebody has them: every form, every depth, no value changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import cut_off, deep_colours, noise, save, save_palette, save_stack, says

from unet_tutorial.data.images import as_images, find_images, read_pixels

DEEP = noise(9, 12).astype(np.uint16) * 257
FORMS = {
    "grey.png": noise(9, 12),
    "colour.png": noise(9, 12, 3),
    "deep.png": DEEP,
    "deep.tif": DEEP,
    "whole.tif": DEEP.astype(np.int32) * 100,
    "float.tif": DEEP.astype(np.float32) / 7,
    "one.bmp": noise(1, 1),
}


@pytest.mark.parametrize("name", FORMS)
def test_no_value_is_changed(tmp_path, name):
    path = save(tmp_path / name, FORMS[name])
    assert np.array_equal(read_pixels(path), FORMS[name])
    assert np.array_equal(read_pixels(str(path)), FORMS[name])


def test_what_the_eye_would_see_is_read(tmp_path):
    colour = noise(9, 12, 3)
    clear = np.concatenate([colour, noise(9, 12, 1)], axis=-1)
    assert np.array_equal(read_pixels(save(tmp_path / "rgba.png", clear)), colour)
    index = np.arange(108, dtype=np.uint8).reshape(9, 12) % 2
    path = save_palette(tmp_path / "palette.png", index, [9, 8, 7, 1, 2, 3])
    assert read_pixels(path)[0, :2].tolist() == [[9, 8, 7], [1, 2, 3]]
    Image.fromarray(index * 255).convert("1").save(tmp_path / "bits.png")
    assert np.array_equal(read_pixels(tmp_path / "bits.png"), index * 255)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_turned_photograph_is_upright(tmp_path, name):
    grey = noise(9, 12)
    note = Image.Exif()
    note[0x0112] = 6
    path = tmp_path / name
    Image.fromarray(np.rot90(grey).copy()).save(path, exif=note)
    assert np.array_equal(read_pixels(path), grey)
    assert np.array_equal(as_images(path)[0][0], grey)


def test_a_turned_image_of_pil_is_upright(tmp_path):
    grey, note = noise(9, 12), Image.Exif()
    note[0x0112] = 6
    Image.fromarray(np.rot90(grey).copy()).save(tmp_path / "a.png", exif=note)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(as_images(image)[0][0], grey)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_stack_has_all_its_pages(tmp_path, kind):
    pages = noise(5, 9, 12).astype(kind)
    path = save_stack(tmp_path / "stack.tif", pages)
    assert np.array_equal(read_pixels(path), pages)
    images, stack = as_images(path)
    assert stack and len(images) == 5 and np.array_equal(images[3], pages[3])


def test_a_stack_of_colours(tmp_path):
    pages = noise(2, 9, 12, 3)
    images, stack = as_images(save_stack(tmp_path / "stack.tif", pages))
    assert stack and np.array_equal(images, pages)


def test_pages_of_two_sizes_are_refused(tmp_path):
    path = save_stack(tmp_path / "stack.tif", [noise(4, 4), noise(5, 4)])
    with pytest.raises(ValueError, match=says("stack.tif", "several sizes")):
        read_pixels(path)


def test_an_array_on_the_disk_is_opened_not_read(tmp_path):
    slide = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (500, 400))
    slide[7, 8] = 9
    slide.flush()
    opened = read_pixels(tmp_path / "a.npy")
    assert isinstance(opened, np.memmap) and opened[7, 8] == 9
    assert np.shares_memory(as_images(opened)[0][0], opened)


def test_a_pickle_is_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([print, None]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy is no array"):
        read_pixels(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.npy"])
@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_broken_file_is_named(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "a.npy":
        np.save(path, noise(30, 30))
        cut_off(path)
    else:
        cut_off(save(path, noise(30, 30)))
    with pytest.raises(ValueError, match=says(name)) as caught:
        read_pixels(path)
    assert str(caught.value).count(name) == 1


@pytest.mark.parametrize("name", ["none.png", "none.npy"])
def test_a_missing_file_is_missing(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        read_pixels(tmp_path / name)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(OSError, match=tmp_path.name):
        as_images(tmp_path)


def test_more_pixels_than_pillow_dares_have_a_way_out(tmp_path, monkeypatch):
    path = save(tmp_path / "slide.png", noise(30, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=says("slide.png", "MAX_IMAGE_PIXELS")):
        read_pixels(path)


SHAPES = {
    (5, 6): (1, False),
    (5, 6, 1): (1, False),
    (5, 6, 3): (1, False),
    (5, 6, 4): (1, False),
    (5, 6, 7): (5, True),
    (1, 6, 7): (1, True),
    (2, 5, 6, 3): (2, True),
    (1, 1): (1, False),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_shape_says_whether_it_is_a_stack(shape):
    images, stack = as_images(np.zeros(shape))
    assert (len(images), stack) == SHAPES[shape]


@pytest.mark.parametrize("shape", [(), (7,), (0, 5), (5, 0, 3), (0, 5, 6)], ids=str)
def test_an_empty_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"has shape .*at least one pixel"):
        as_images(np.zeros(shape))


@pytest.mark.parametrize("what", [torch.zeros(1, 4, 4), None, [[1, 2]]], ids=type)
def test_what_is_no_image_is_refused(what):
    with pytest.raises(TypeError, match=rf"{type(what).__name__}: an array"):
        as_images(what)


# Files, folders and patterns


@pytest.fixture
def folder(tmp_path):
    for name in ["b.png", "a.JPG", "c.tif", ".hidden.png", "notes.txt"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "masks.png").mkdir()
    (tmp_path / "masks.png" / "d.png").write_bytes(b"")
    return tmp_path


def names(files):
    return [file.name for file in files]


def test_a_folder_means_its_images(folder):
    assert names(find_images(folder)) == ["a.JPG", "b.png", "c.tif"]
    assert names(find_images(str(folder))) == ["a.JPG", "b.png", "c.tif"]


def test_a_pattern_means_the_images_it_fits(folder):
    assert names(find_images(f"{folder}/*.png")) == ["b.png"]
    assert names(find_images(folder / "*")) == ["a.JPG", "b.png", "c.tif"]


def test_a_file_is_taken_at_its_word(folder):
    assert names(find_images(folder / "notes.txt")) == ["notes.txt"]


def test_each_file_is_listed_once_in_the_order_named(folder):
    some = [folder / "c.tif", folder, f"{folder}/*.tif"]
    assert names(find_images(some)) == ["c.tif", "a.JPG", "b.png"]


def test_a_name_with_brackets_is_a_name(tmp_path):
    (tmp_path / "a[1].png").write_bytes(b"")
    assert names(find_images(tmp_path / "a[1].png")) == ["a[1].png"]


def test_answers_beside_their_image_are_not_asked_about(folder):
    for name in ["a_mask.gif", "b_overlay.png", "c_007_labels.png", "d_mask.png"]:
        (folder / name).write_bytes(b"")
    (folder / "c_1000_mask.png").write_bytes(b"")
    assert names(find_images(folder)) == ["a.JPG", "b.png", "c.tif", "d_mask.png"]
    (folder / "b_polygons.png").write_bytes(b"")  # polygons are no image
    assert "b_polygons.png" in names(find_images(folder))
    (folder / "masks.png" / "b_mask.png").write_bytes(b"")  # beside no b
    assert names(find_images(f"{folder}/*/*.png")) == ["b_mask.png", "d.png"]
    assert names(find_images(folder / "a_mask.gif")) == ["a_mask.gif"]


def test_images_in_folders_of_a_folder_are_not_left_out_in_silence(folder):
    for name in ("day 1/a.png", "day 2/x.png", "out/b_mask.png", ".git/z.png"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"")
    words = "(day 1, day 2)", "left out", str(folder / "*" / "*")
    with pytest.warns(UserWarning, match=says(*words)):
        assert names(find_images(folder)) == ["a.JPG", "b.png", "c.tif"]
    for name in ("a.JPG", "b.png", "c.tif"):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=says("But folders in", "day 1")):
        find_images(folder)


def test_a_folder_that_may_not_be_read_does_not_hide_the_images(folder, monkeypatch):
    (folder / "lost+found").mkdir()
    honest = Path.iterdir

    def listed(path):
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path)

    monkeypatch.setattr(Path, "iterdir", listed)
    assert names(find_images(folder)) == ["a.JPG", "b.png", "c.tif"]


@pytest.mark.parametrize("name", ["none.png", "*.gif", "empty"])
def test_nothing_found_says_what_would_work(folder, name):
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=says(name, "cars/*.jpg", ".tif")):
        find_images([folder / "b.png", folder / name])


def test_sixteen_bits_of_colour_are_not_cut_in_silence(tmp_path):
    (tmp_path / "deep.png").write_bytes(deep_colours())
    with pytest.raises(ValueError, match=says("deep.png", "cut to 8 bits", ".npy")):
        read_pixels(tmp_path / "deep.png")
