"""Slides from file to file within the memory of a tile, and padded nets in tiles."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import bytes_of, normal, thin_net, with_scores
from torch import nn

from unet_tutorial.data import slides
from unet_tutorial.data.slides import (
    Standardised,
    likeliest,
    predict_blended,
    predict_slide,
    slide_mean_and_std,
)
from unet_tutorial.tiles import predict_tiled


def thin(depth=2, dtype=torch.float64, **switches):
    return thin_net(depth, dtype, **switches)


@torch.no_grad()
def whole_padded(net, image):
    "The prediction of a padded net in one piece."
    return net(image[None])[0]


def logits_of(net, image, tile, batch_size=1, standardise=None):
    "The logits of an image, in a new array."
    size = image.shape[-2:]
    out = np.empty((net.num_classes, *size))
    return predict_slide(net, image, out, tile, batch_size, standardise)


# Read in pieces


def test_mean_and_deviation_of_the_whole_slide():
    for image in (
        bytes_of(200, 31),
        bytes_of(3, 130, 20),
        normal(2, 65, 9).numpy() + 9,
    ):
        mean, std = slide_mean_and_std(image)
        assert np.isclose(mean, image.mean()) and np.isclose(std, image.std())
    assert slide_mean_and_std(np.full((5, 5), 7)) == (7, 1e-6)


def test_a_part_is_read_in_the_units_of_the_whole():
    image = bytes_of(3, 50, 60)
    part = Standardised(image, 100, 50)[..., 10:20, 30:33]
    assert np.allclose(part, (image[:, 10:20, 30:33] - 100.0) / 50)


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "i4", "f2", ">f4", "f8"])
def test_any_numbers_are_standardised_like_the_tensor(kind):
    pixels, net = bytes_of(40, 50).astype(kind), thin(2)
    mean, std = slide_mean_and_std(pixels)
    x = torch.from_numpy((pixels.astype(float) - mean) / std)[None]
    expected = predict_tiled(net, x, 20).numpy()
    for image in (pixels, pixels[None]):
        found = logits_of(net, image, 20, 2, standardise=(mean, std))
        assert np.allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, np.float32])
def test_two_numbers_of_any_kind_standardise(kind):
    net, image = thin(2), bytes_of(30, 30)
    expected = logits_of(net, image, 20, standardise=(3.0, 2.0))
    found = logits_of(net, image, 20, standardise=kind([3.0, 2.0]))
    assert np.array_equal(found, expected)


def test_a_constant_image():
    found = logits_of(thin(2), np.full((9, 9), 7), 20)
    assert np.isfinite(found).all()


def test_colours_that_come_last_can_be_moved():
    net, pixels = thin(2, in_channels=3), bytes_of(30, 40, 3)
    channels_first = np.moveaxis(pixels, -1, 0)
    found = logits_of(net, channels_first, 20)
    x = (channels_first - pixels.mean()) / pixels.std()
    assert np.allclose(found, predict_tiled(net, x, 20))


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_from_file_to_file(tmp_path, classes):
    net = with_scores(thin(2), classes)
    np.save(tmp_path / "image.npy", bytes_of(70, 45))
    image = np.load(tmp_path / "image.npy", mmap_mode="r")
    x = (image - image.mean()) / image.std()
    logits = predict_tiled(net, x, 20, 3)
    for kind, shape in [("f4", (classes, 70, 45)), ("u1", (70, 45))]:
        path = tmp_path / "out.npy"
        out = np.lib.format.open_memmap(path, "w+", kind, shape)
        assert predict_slide(net, image, out, 20, 3) is out
        del out
        labels = logits.argmax(0) if classes > 1 else (logits[0] > 0).int()
        expected = logits.numpy() if kind == "f4" else labels.numpy()
        assert np.allclose(np.load(path), expected)


def test_a_copy_on_write_image_keeps_what_was_changed(tmp_path):
    np.save(tmp_path / "image.npy", bytes_of(70, 45))
    image = np.load(tmp_path / "image.npy", mmap_mode="c")
    image[:] = 3  # in memory only
    assert slide_mean_and_std(image)[0] == 3 and (image == 3).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_that_of_a_tile():
    command = [sys.executable, "benchmarks/tiles.py", "--size", "4000", "--logits"]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    peak, before = map(int, re.search(r"peak (\d+).*before (\d+)", run.stdout).groups())
    assert peak - before < 130 < 4000**2 * 9 / 2**20  # the two files: 137 MB


# The padded net


def test_one_tile_is_the_whole_image():
    net, image = thin(3, padding=1), normal(1, 61, 83)
    expected = whole_padded(net, image)
    found = predict_blended(net, image, 96, 32)
    assert torch.allclose(found, expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 8), st.integers(0, 7))
def test_weights_sum_to_one(height, width, tile, overlap):
    keep = torch.nn.Identity()
    image, overlap = normal(1, height, width), min(overlap, tile - 1)
    found = predict_blended(keep, image, 16 * tile, 16 * overlap)
    assert torch.allclose(found, image.float(), atol=1e-5)


def test_a_slide_of_a_padded_net_comes_in_bands(monkeypatch):
    monkeypatch.setattr(slides, "_BAND", 64)
    monkeypatch.setattr(slides, "_MARGIN", 32)
    net, image = thin(1, padding=1), bytes_of(200, 50)
    x = (torch.from_numpy(image).double() - image.mean()) / image.std()
    found = logits_of(net, image, 512)
    assert np.allclose(found, whole_padded(net, x[None]), rtol=0, atol=1e-9)


def test_each_layer_gets_its_mode_back():
    net = thin(2, padding=1, norm="batch", dropout=0.5).train()
    norms = (x for x in net.modules() if isinstance(x, nn.BatchNorm2d))
    frozen = next(norms)
    frozen.eval()
    before = [layer.training for layer in net.modules()]
    predict_blended(net, normal(1, 40, 50), 32, 16)
    assert [layer.training for layer in net.modules()] == before


def test_blending_keeps_the_precision_of_the_net():
    net, image = thin(2, padding=1), normal(1, 40, 50)
    expected = whole_padded(net, image)
    found = predict_blended(net, image, 64, 16)
    assert found.dtype == torch.float64
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    low = predict_blended(net.bfloat16(), image.bfloat16(), 32, 16)
    assert low.dtype == torch.float32


def test_blending_removes_the_step():
    net, image = thin(2, padding=1), normal(1, 96, 160)
    expected = whole_padded(net, image)
    steps = []
    for tile, overlap in [(32, 0), (64, 32)]:
        error = predict_blended(net, image, tile, overlap) - expected
        steps.append(error.diff().abs().mean((0, 1))[31::32].max())
    assert steps[1] < steps[0] / 3


@pytest.mark.parametrize(
    "tile, overlap, words",
    [
        (250, 64, "tile=250; the nearest that would work: 240 and 256$"),
        (256, 60, "overlap=60; the nearest that would work: 48 and 64$"),
        (32, 5, "overlap=5; the nearest that would work: 0 and 16$"),
        (256, -16, "overlap=-16; the nearest that would work: 0$"),
        (0, 0, "tile=0; the nearest that would work: 16$"),
        (4, 0, "tile=4; the nearest that would work: 16$"),
        (256, 256, "overlap=256; less than tile=256 would work"),
    ],
)
def test_tiles_that_cannot_be_blended(tile, overlap, words):
    with pytest.raises(ValueError, match=words):
        predict_blended(thin(4, padding=1), normal(1, 9, 9), tile, overlap)


# What is refused


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("standardise", [None, (0, 1)])
def test_nan_is_named_where_it_is(monkeypatch, value, padding, standardise):
    monkeypatch.setattr(slides, "_BAND", 16)
    monkeypatch.setattr(slides, "_MARGIN", 16)
    image = np.ones((150, 60))
    image[133, 47] = value
    with pytest.raises(ValueError, match="row 133, column 47.*nan_to_num"):
        logits_of(thin(padding=padding), image, 128 if padding else 20, 1, standardise)


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (normal(9, 9), ValueError, r"\(9, 9\).*image\[None\]"),
        (normal(3, 9, 9), ValueError, r"\(3, 9, 9\).*C = 1"),
        (bytes_of(9, 9), TypeError, r"uint8.*mean_and_std"),
    ],
)
def test_bad_images_of_a_padded_net(image, kind, words):
    with pytest.raises(kind, match=words):
        predict_blended(thin(padding=1), image, 16, 4)


def test_an_unpadded_net_is_not_blended():
    for tile in (64, 188):  # 188 is what the net itself would advise
        with pytest.raises(ValueError, match="is unpadded; predict_tiled would work"):
            predict_blended(thin(4), normal(1, 300, 300), tile, 16)
    hidden = nn.Sequential(thin())  # from the outside nobody can tell
    with pytest.raises(ValueError, match="Is it unpadded.*predict_tiled would work"):
        predict_blended(hidden, normal(1, 90, 90), 64, 16)


def test_labels_take_one_byte_each():
    for classes, kind in [(1, torch.uint8), (3, torch.uint8), (257, torch.int32)]:
        assert likeliest(normal(classes, 5, 6)).dtype == kind
    assert torch.equal(likeliest(normal(3, 5, 6)).long(), normal(3, 5, 6).argmax(0))


NO_PAIRS = [(0, 0), (np.nan, 1), (0, -1), (0, np.inf), True, 5, (), (1,), (1, 2, 3)]


@pytest.mark.parametrize(
    "standardise", [*NO_PAIRS, ("a", "b"), (None, 1), {1: 2, 2: 3}]
)
def test_two_numbers_that_would_spoil_the_image(standardise):
    with pytest.raises(ValueError, match="standardise=.*mean_and_std"):
        logits_of(thin(), bytes_of(9, 9), 20, standardise=standardise)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((9, 8), np.uint8),
        np.zeros((9, 9), np.float32),
        np.zeros((2, 9, 9), np.uint8),
        np.zeros((9, 9), bool),
        torch.zeros(2, 9, 9),
        "labels.npy",
    ],
)
def test_an_output_that_does_not_fit(out):
    with pytest.raises(ValueError, match=r"floats \(2, 9, 9\).*integers \(9, 9\)"):
        predict_slide(thin(), bytes_of(9, 9), out, 20)


def test_an_output_that_is_the_image_or_too_small():
    image = bytes_of(9, 9)
    with pytest.raises(ValueError, match="is a part of the image"):
        predict_slide(thin(), image, image, 20)
    with pytest.raises(ValueError, match="int8, 200 classes"):
        out = np.zeros((9, 9), np.int8)
        predict_slide(thin(num_classes=200), image, out, 20)
