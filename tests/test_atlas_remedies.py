"The remedies that refusals print are followed to the letter, and the file is read."

import re

import atlas
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_tutorial.cli import main
from unet_tutorial.data.images import (
    BadFile,
    as_images,
    read_image,
    read_labels,
    read_mask,
    read_stack,
)

KINDS = {kind.name: kind for kind in atlas.KINDS}
TOOLS = {"Image": Image, "np": np, "tifffile": tifffile}


def remedy(read, name, folder, **options):
    "The file of a kind, and what its refusal says would work."
    path = atlas.make(KINDS[name], folder)
    with pytest.raises(BadFile) as error:
        read(path, **options)
    return path, error.value.remedy


def follow(code, path, folder, monkeypatch, **more):
    "Carry out a line of Python that a remedy shows, in the folder of the file."
    monkeypatch.chdir(folder)
    names = {**TOOLS, "path": path, **more}
    exec(code, names)
    return names


FILMS = ["Animated GIF", "Animated PNG", "Animated WebP"]


@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize("read", [as_images, read_image])
def test_a_frame_of_an_animation(tmp_path, monkeypatch, name, read):
    path, text = remedy(read, name, tmp_path)
    follow(text.removesuffix(" keeps one"), path, tmp_path, monkeypatch)
    kept = read_image(tmp_path / "one.png")
    first = atlas.STACK[0]
    kept = kept if kept.ndim == 2 else kept[..., 0]
    assert np.array_equal(kept, first)


def test_a_slice_of_a_stack(tmp_path, monkeypatch):
    path, text = remedy(read_image, "TIFF of several pages", tmp_path)
    assert np.array_equal(read_stack(path), atlas.STACK)  # "read_stack reads them all"
    code = re.search(r"tifffile\.imwrite.*?\)\)", text)[0]
    follow(code, path, tmp_path, monkeypatch)
    assert np.array_equal(read_image(tmp_path / "one.tif"), atlas.STACK[0])
    (count,) = re.findall(r"channels=(\d+) says so", text)
    channels = read_image(path, channels=int(count))
    assert np.array_equal(channels, np.moveaxis(atlas.STACK, 0, 2))


def test_a_slice_of_an_array(tmp_path, monkeypatch):
    path, text = remedy(read_image, "`.npy` stack", tmp_path)
    follow(re.search(r"np\.save.*?\[0\]\)", text)[0], path, tmp_path, monkeypatch)
    assert np.array_equal(read_image(tmp_path / "one.npy"), atlas.STACK[0])


def test_slices_saved_as_pages(tmp_path):
    name = "TIFF with several slices in one page (volumetric)"
    path, text = remedy(as_images, name, tmp_path)
    assert "without compression" in text and "one slice per page" in text
    slices = tifffile.imread(path)
    tifffile.imwrite(tmp_path / "b.tif", slices, photometric="minisblack")
    assert np.array_equal(np.stack(as_images(tmp_path / "b.tif")[0]), atlas.STACK[:4])


@pytest.mark.parametrize(
    "name",
    [
        "ImageJ hyperstack for a grey net",
        "ImageJ file of slices that tifffile wrote without `axes`, for a grey net",
    ],
)
def test_what_an_array_of_other_channels_is_told_works(tmp_path, name):
    path, text = remedy(as_images, name, tmp_path, channels=1)
    count = int(re.search(r"channels=(\d+) would read it", text)[1])
    (image, *_), _ = as_images(path, channels=count)
    assert image.shape == (*atlas.SIZE, count)
    assert "channel=0 the first" in text
    (image, *_), _ = as_images(path, channel=0)
    assert np.array_equal(image, atlas.STACK[0])
    axes = re.search('axes="([A-Z]+)"', text)[1]
    images, stack = as_images(path, channels=1, axes=axes)
    assert stack and np.array_equal(np.stack(images), atlas.STACK[: len(images)])


def test_numbers_that_are_complex(tmp_path):
    path, text = remedy(as_images, "TIFF, complex numbers", tmp_path)
    assert "np.abs(x)" in text
    tifffile.imwrite(tmp_path / "b.tif", np.abs(tifffile.imread(path)))
    (image,), _ = as_images(tmp_path / "b.tif")
    assert np.array_equal(image, atlas.GREY)


def test_colours_of_16_bits(tmp_path):
    for name in ("PNG, 16-bit RGB", "PPM, 16-bit RGB"):
        path, text = remedy(as_images, name, tmp_path)
        assert "save it as 8-bit RGB" in text and "an .npy" in text
        Image.open(path).convert("RGB").save(tmp_path / "b.png")
        assert read_image(tmp_path / "b.png").shape == (*atlas.SIZE, 3)
    np.save(tmp_path / "b.npy", atlas.DEEP_COLOUR)
    (image,), _ = as_images(tmp_path / "b.npy")
    assert np.array_equal(image, atlas.DEEP_COLOUR)


def test_one_array_of_several(tmp_path):
    path, text = remedy(as_images, "`.npz`", tmp_path)
    assert text == "np.save one"
    np.save(tmp_path / "b.npy", np.load(path)["image"])
    assert np.array_equal(as_images(tmp_path / "b.npy")[0][0], atlas.GREY)


def test_a_mask_in_the_transparency(tmp_path, monkeypatch):
    path, text = remedy(read_mask, "Mask in the transparency", tmp_path)
    code = text.partition("? ")[2]
    follow(code, path, tmp_path, monkeypatch)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), atlas.MASK)


def test_a_mask_in_colours(tmp_path):
    path, text = remedy(read_mask, "Mask in colours", tmp_path)
    assert "read_labels(path, colours=[...])" in text and "save that as PNG" in text
    labels = read_labels(path, colours=[(0, 0, 0), (200, 0, 0)])
    Image.fromarray(labels).save(tmp_path / "b.png")
    assert np.array_equal(read_mask(tmp_path / "b.png"), atlas.MASK)


def test_a_mask_saved_as_jpeg(tmp_path):
    path, text = remedy(read_mask, "Mask saved as JPEG", tmp_path)
    cut = int(re.search(r"threshold=(\d+) mends it", text)[1])
    assert np.array_equal(read_mask(path, threshold=cut), atlas.MASK)


def test_white_as_0_in_16_bits(tmp_path):
    path, text = remedy(read_mask, "Mask of Make Binary, 16 bits", tmp_path)
    assert "black as 0" in text
    tifffile.imwrite(tmp_path / "b.tif", tifffile.imread(path))
    assert np.array_equal(read_mask(tmp_path / "b.tif"), atlas.MASK)


def test_labels_are_numbered_anew(tmp_path):
    path, text = remedy(read_labels, "A label of 2^31 + 5", tmp_path)
    labels = tifffile.imread(path)
    code = text.partition(": ")[2]
    anew = eval(code, {"np": np, "labels": labels}).reshape(labels.shape)
    Image.fromarray(anew.astype(np.uint8)).save(tmp_path / "b.png")
    assert np.array_equal(read_labels(tmp_path / "b.png"), atlas.LABELS)


def test_what_a_terminal_is_told_about_channels_works(tmp_path, capsys):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for stem in "ab":
        kind = KINDS["ImageJ file, CYX"]._replace(file=f"{stem}.tif")
        atlas.make(kind, tmp_path / "images")
        Image.fromarray(atlas.MASK).save(tmp_path / "masks" / f"{stem}.png")
    line = ["check", str(tmp_path / "images"), str(tmp_path / "masks")]
    assert main([*line, "--channels", "1"]) == 1
    told = capsys.readouterr().out
    (count,) = set(re.findall(r"(--channels \d+) would read it", told))
    (first,) = set(re.findall(r"(--channel \d+) the first", told))
    for remedy in (count, first):
        assert main([*line, *remedy.split()]) == 0, remedy
