"""Tiles against the whole image: exact for the unpadded net, and within the memory."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_tutorial import tiles
from unet_tutorial.model import UNet
from unet_tutorial.sizes import nearest_valid_sizes, output_size, valid_sizes
from unet_tutorial.tiles import (
    lost_pixels,
    mean_and_std,
    mirror_positions,
    predict_blended,
    predict_tiled,
    read_window,
    tile_starts,
)

ROOT = Path(__file__).resolve().parent.parent


def thin(depth=2, dtype=torch.float64, **switches):
    torch.manual_seed(0)
    return UNet(base_channels=2, depth=depth, **switches).eval().to(dtype)


def noise(*shape, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape)).to(dtype)


def bytes_of(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@torch.no_grad()
def whole(net, image):
    "The prediction in one piece, mirrored by numpy and not by the module."
    lost, sides = lost_pixels(net.depth), image.shape[1:]
    valid = [nearest_valid_sizes(side + 2 * lost, net.depth)[1] for side in sides]
    rims = [(lost, full - side - lost) for side, full in zip(sides, valid, strict=True)]
    around = np.pad(image.numpy(), [(0, 0), *rims], mode="reflect")
    return net(torch.from_numpy(around)[None])[0, :, : sides[0], : sides[1]]


@torch.no_grad()
def whole_padded(net, image):
    "The prediction of a padded net in one piece."
    return net(image[None])[0]


def output_tiles(depth, stop):
    "Output tiles that can step, smallest first."
    every = [output_size(side, depth) for side in valid_sizes(stop, depth=depth)]
    return [tile for tile in every if tile >= 2**depth]


# Positions and windows


@pytest.mark.parametrize("size", [1, 2, 3, 5, 40])
def test_positions_are_numpys_reflect(size):
    axis = np.arange(size)
    padded = np.pad(axis, 100, mode="reflect")
    assert mirror_positions(-100, size + 100, size).tolist() == padded.tolist()


def test_a_window_is_a_cut_of_the_mirrored_image():
    image = np.random.default_rng(0).random((2, 7, 5))
    around = np.pad(image, [(0, 0), (30, 30), (30, 30)], mode="reflect")
    for top, left, height, width in [(-30, -30, 67, 65), (2, 1, 3, 4), (9, -4, 8, 1)]:
        cut = around[:, top + 30 :, left + 30 :][:, :height, :width]
        assert np.array_equal(read_window(image, top, left, height, width), cut)
        window = read_window(torch.tensor(image), top, left, height, width)
        assert np.array_equal(window.numpy(), cut)
        window = read_window(image[0], top, left, height, width)
        assert np.array_equal(window, cut[0])


def test_a_window_is_a_copy():
    image = np.zeros((4, 4))
    read_window(image, 0, 0, 2, 2)[:] = 1
    assert image.sum() == 0


class Recorder:
    "Something like an array that remembers how much of it was read at once."

    def __init__(self, pixels):
        self.pixels, self.shape, self.most = pixels, pixels.shape, 0

    def __getitem__(self, key):
        part = self.pixels[key]
        self.most = max(self.most, part.size)
        return part


def test_no_more_is_read_than_the_window():
    image = Recorder(np.zeros((500, 400)))
    for top, left in [(-92, -92), (100, 50), (400, 350)]:
        read_window(image, top, left, 120, 130)
    assert image.most == 120 * 130


@pytest.mark.parametrize("depth", range(5))
def test_tiles_cover_the_image_and_step_as_the_poolings_do(depth):
    for tile in output_tiles(depth, 500)[:6]:
        for size in range(1, 300):
            starts = tile_starts(size, tile, depth)
            assert starts[0] == 0 and starts[-1] + tile >= size
            assert all(start % 2**depth == 0 for start in starts)
            assert starts.step <= tile
            assert len(starts) == 1 or starts[-2] + tile < size  # none too many


def test_the_papers_numbers():
    assert lost_pixels() == 92
    assert list(tile_starts(20_000))[-1] + 388 >= 20_000
    assert tile_starts(1000).step == 384


# Equal to the whole image


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_size_tile_and_batch_equals_the_whole_image(data):
    depth = data.draw(st.integers(1, 3))
    net = thin(depth, in_channels=2, num_classes=3)
    image = noise(2, data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90)))
    every = [tile for tile in output_tiles(depth, 200) if tile >= 12]  # not too many
    tile = data.draw(st.sampled_from(every))
    found = predict_tiled(net, image, tile, data.draw(st.integers(1, 5)))
    assert found.dtype == torch.float64
    assert torch.allclose(found, whole(net, image), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (389, 53), (97, 401), (20, 300)])
def test_the_papers_depth_in_single_precision(size):
    net = thin(4, torch.float32)
    image = noise(1, *size, dtype=torch.float32)
    expected = whole(net, image)
    bound = 1e-5 * expected.abs().max().clamp(min=1)
    for tile, batch in [(388, 1), (84, 3)]:
        found = predict_tiled(net, image, tile, batch)
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() <= bound


@pytest.mark.parametrize("variant", [{"variant": "release"}, {"norm": "batch"}])
def test_other_unpadded_nets(variant):
    net = thin(3, **variant)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
    image = noise(1, 61, 83)
    found = predict_tiled(net, image, 36)
    assert torch.allclose(found, whole(net, image), rtol=0, atol=1e-10)


def test_the_stride_of_the_output_tile_would_be_wrong():
    net, image, tile = thin(3), noise(1, 116, 116), 36
    right = whole(net, image)
    window = read_window(image, 36 - 44, -44, tile + 88, tile + 88)
    with torch.no_grad():
        shifted = net(window[None])[0]
    assert (shifted - right[:, 36:72, :36]).abs().max() > 1e-3


def test_drop_out_and_batch_norm_are_at_rest():
    net, image = thin(2, norm="batch", dropout=0.9), noise(1, 40, 50)
    expected = whole(net, image)
    found = predict_tiled(net.train(), image, 20)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    assert not found.requires_grad


def test_a_net_without_depth_is_taken_for_the_papers():
    net = thin(4)
    plain = torch.nn.Sequential(net)
    found = predict_tiled(plain, noise(1, 30, 30), 20)
    assert torch.allclose(found, whole(net, noise(1, 30, 30)), rtol=0, atol=1e-10)


def test_half_precision_is_answered_in_single():
    net, image = thin(2, torch.bfloat16), noise(1, 30, 30, dtype=torch.bfloat16)
    assert predict_tiled(net, image, 20).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu():
    net, image = thin(3).cuda(), noise(1, 61, 83)
    expected = whole(thin(3), image)
    for x in (image, image.cuda()):
        found = predict_tiled(net, x, 36, 2)
        assert found.device.type == "cpu"
        assert torch.allclose(found, expected, rtol=0, atol=1e-8)


def test_a_progress_bar_counts_tiles(monkeypatch):
    bars = []

    class Bar(tiles.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs | {"disable": False, "delay": 0})
            bars.append(self)

    monkeypatch.setattr(tiles, "tqdm", Bar)
    predict_tiled(thin(2), noise(1, 50, 30), 20, batch_size=4)
    assert (bars[0].n, bars[0].total) == (6, 6)


# Arrays, files and numbers of other types


def test_mean_and_deviation_of_the_whole_image():
    for image in (bytes_of(200, 31), bytes_of(3, 130, 20), noise(2, 65, 9) + 1000):
        mean, std = mean_and_std(image)
        pixels = np.asarray(image, dtype=float)
        assert np.isclose(mean, pixels.mean()) and np.isclose(std, pixels.std())
    assert mean_and_std(np.full((5, 5), 7)) == (7, 1e-6)


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "i4", "f2", ">f4", "f8"])
def test_any_numbers_are_standardised_like_the_tensor(kind):
    pixels, net = bytes_of(40, 50).astype(kind), thin(2)
    mean, std = mean_and_std(pixels)
    x = torch.from_numpy((pixels.astype(float) - mean) / std)[None]
    expected = whole(net, x)
    for image in (pixels, pixels[None]):
        found = predict_tiled(net, image, 20, 2, standardise=(mean, std))
        assert torch.allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, np.float32])
def test_two_numbers_of_any_kind_standardise(kind):
    net, image = thin(2), bytes_of(30, 30)
    expected = predict_tiled(net, image, 20, standardise=(3.0, 2.0))
    found = predict_tiled(net, image, 20, standardise=kind([3.0, 2.0]))
    assert torch.equal(found, expected)


def test_a_constant_image():
    found = predict_tiled(thin(2), np.full((9, 9), 7), 20, standardise=(7, 1e-6))
    assert torch.isfinite(found).all()


def test_colours_that_come_last_can_be_moved():
    net, pixels = thin(2, in_channels=3), bytes_of(30, 40, 3)
    channels_first = np.moveaxis(pixels, -1, 0)
    both = mean_and_std(pixels), mean_and_std(channels_first)
    assert np.allclose(*both)
    found = predict_tiled(net, channels_first, 20, standardise=both[1])
    assert found.shape == (2, 30, 40)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_from_file_to_file(tmp_path, classes):
    net = thin(2, num_classes=classes)
    np.save(tmp_path / "image.npy", bytes_of(70, 45))
    image = np.load(tmp_path / "image.npy", mmap_mode="r")
    standardise = mean_and_std(image)
    logits = predict_tiled(net, image, 20, 3, standardise)
    for kind, shape in [("f4", (classes, 70, 45)), ("u1", (70, 45))]:
        path = tmp_path / "out.npy"
        out = np.lib.format.open_memmap(path, "w+", kind, shape)
        assert predict_tiled(net, image, 20, 3, standardise, out) is out
        del out
        labels = logits.argmax(0) if classes > 1 else (logits[0] > 0).int()
        expected = logits.numpy() if kind == "f4" else labels.numpy()
        assert np.allclose(np.load(path), expected)


def test_a_copy_on_write_image_keeps_what_was_changed(tmp_path):
    np.save(tmp_path / "image.npy", bytes_of(70, 45))
    image = np.load(tmp_path / "image.npy", mmap_mode="c")
    image[:] = 3  # in memory only
    assert mean_and_std(image)[0] == 3 and (image == 3).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_that_of_a_tile():
    command = [sys.executable, "benchmarks/tiles.py", "--size", "4000", "--logits"]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    peak, before = map(int, re.search(r"peak (\d+).*before (\d+)", run.stdout).groups())
    assert peak - before < 130 < 4000**2 * 9 / 2**20  # the two files: 137 MB


# What is refused


BAD_IMAGES = [
    (noise(9, 9), ValueError, r"\(9, 9\).*image\[None\]"),
    (noise(1, 1, 9, 9), ValueError, r"\(1, 1, 9, 9\).*image\[0\]"),
    (bytes_of(1, 1, 9, 9), ValueError, r"\(1, 1, 9, 9\)"),
    (noise(1, 0, 9), ValueError, r"\(1, 0, 9\)"),
    (noise(3, 9, 9), ValueError, r"\(3, 9, 9\).*C = 1"),
    (bytes_of(9, 9, 3), ValueError, r"\(9, 9, 3\).*moveaxis"),
    (bytes_of(9, 9), TypeError, r"uint8.*mean_and_std"),
    (torch.zeros(1, 9, 9, dtype=torch.long), TypeError, r"int64.*mean_and_std"),
    (torch.zeros(1, 9, 9, dtype=torch.bool), TypeError, r"bool.*floats"),
    (np.zeros((9, 9), complex), TypeError, r"complex128"),
    (np.array([["a"]]), TypeError, "integers or floats"),
    ([[1.0]], TypeError, "list"),
]


@pytest.mark.parametrize("image, kind, words", BAD_IMAGES)
def test_bad_images(image, kind, words):
    with pytest.raises(kind, match=words):
        predict_tiled(thin(), image, 20)
    with pytest.raises(kind, match=words):
        predict_blended(thin(padding=1), image, 16, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_is_named_where_it_is(value):
    image = noise(1, 50, 60)
    image[0, 33, 47] = value
    for x in (image, image.numpy()):
        for ask in (lambda x: predict_tiled(thin(), x, 20), mean_and_std):
            with pytest.raises(ValueError, match="row 33, column 47.*nan_to_num"):
                ask(x)


@pytest.mark.parametrize(
    "tile, depth, near",
    [
        (386, 4, "372 and 388"),
        (572, 4, "564 and 580"),
        (4, 4, "20"),
        (0, 4, "20"),
        (-5, 4, "20"),
        (37, 3, "36 and 44"),
    ],
)
def test_a_tile_that_does_not_fit(tile, depth, near):
    with pytest.raises(ValueError, match=f"{tile} does not fit.*: {near}$"):
        predict_tiled(thin(depth), noise(1, 9, 9), tile)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_a_tile_at_least(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size}.*1 or more"):
        predict_tiled(thin(), noise(1, 9, 9), 20, batch_size)


NO_PAIRS = [(0, 0), (np.nan, 1), (0, -1), (0, np.inf), True, 5, (), (1,), (1, 2, 3)]


@pytest.mark.parametrize(
    "standardise", [*NO_PAIRS, ("a", "b"), (None, 1), {1: 2, 2: 3}]
)
def test_two_numbers_that_would_spoil_the_image(standardise):
    with pytest.raises(ValueError, match="standardise=.*mean_and_std"):
        predict_tiled(thin(), bytes_of(9, 9), 20, standardise=standardise)


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
        predict_tiled(thin(), noise(1, 9, 9), 20, out=out)


def test_an_output_that_is_the_image_or_too_small():
    image = bytes_of(9, 9)
    with pytest.raises(ValueError, match="lies in the image"):
        predict_tiled(thin(), image, 20, standardise=(0, 1), out=image)
    with pytest.raises(ValueError, match="int8, 200 classes"):
        out = np.zeros((9, 9), np.int8)
        predict_tiled(thin(num_classes=200), noise(1, 9, 9), 20, out=out)


def test_each_kind_of_net_has_its_function():
    with pytest.raises(ValueError, match="Is it padded.*predict_blended would work"):
        predict_tiled(thin(padding=1), noise(1, 9, 9), 20)
    for tile in (64, 188):  # 188 is what the net itself would advise
        with pytest.raises(ValueError, match="is unpadded; predict_tiled would work"):
            predict_blended(thin(4), noise(1, 300, 300), tile, 16)
    hidden = torch.nn.Sequential(thin())  # from the outside nobody can tell
    with pytest.raises(ValueError, match="Is it unpadded.*predict_tiled would work"):
        predict_blended(hidden, noise(1, 90, 90), 64, 16)


def test_a_wrapped_net_is_not_taken_for_a_padded_one():
    words = "loses 20 pixels a side, not 92: set model.depth, or .*model.module"
    with pytest.raises(ValueError, match=words):
        predict_tiled(torch.nn.Sequential(thin(2)), noise(1, 90, 90), 388)


def test_a_tile_smaller_than_the_step_is_named():
    for tile, depth, step in [(4, 4, 16), (0, 4, 16), (-5, 3, 8)]:
        words = f"output tile of {tile} is smaller than the step of {step}"
        with pytest.raises(ValueError, match=words):
            tile_starts(512, tile, depth)


# The padded net


def test_one_tile_is_the_whole_image():
    net, image = thin(3, padding=1), noise(1, 61, 83)
    expected = whole_padded(net, image)
    found = predict_blended(net, image, 96, 32)
    assert torch.allclose(found, expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 8), st.integers(0, 7))
def test_weights_sum_to_one(height, width, tile, overlap):
    keep = torch.nn.Identity()
    image, overlap = noise(1, height, width), min(overlap, tile - 1)
    found = predict_blended(keep, image, 16 * tile, 16 * overlap)
    assert torch.allclose(found, image.float(), atol=1e-5)


def test_blending_keeps_the_precision_of_the_net():
    net, image = thin(2, padding=1), noise(1, 40, 50)
    expected = whole_padded(net, image)
    found = predict_blended(net, image, 64, 16)
    assert found.dtype == torch.float64
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    low = predict_blended(net.bfloat16(), image.bfloat16(), 32, 16)
    assert low.dtype == torch.float32


def test_blending_removes_the_step():
    net, image = thin(2, padding=1), noise(1, 96, 160)
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
        predict_blended(thin(4, padding=1), noise(1, 9, 9), tile, overlap)
