"""Tiles against the whole image: the same for the unpadded net, whatever the tile."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import bytes_of, normal, thin_net
from torch import nn

from unet_tutorial import tiles
from unet_tutorial.sizes import nearest_valid_sizes, output_size, valid_sizes
from unet_tutorial.tiles import (
    ask_tiles,
    lost_pixels,
    mean_and_std,
    mirror_positions,
    predict_tiled,
    read_window,
    tile_starts,
)


def thin(depth=2, dtype=torch.float64, **switches):
    return thin_net(depth, dtype, **switches)


@torch.no_grad()
def whole(net, image):
    "The prediction in one piece, mirrored by numpy and not by the module."
    lost, sides = lost_pixels(net.depth), image.shape[1:]
    valid = [nearest_valid_sizes(side + 2 * lost, net.depth)[1] for side in sides]
    rims = [(lost, full - side - lost) for side, full in zip(sides, valid, strict=True)]
    around = np.pad(image.numpy(), [(0, 0), *rims], mode="reflect")
    return net(torch.from_numpy(around)[None])[0, :, : sides[0], : sides[1]]


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
    image = normal(2, data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90)))
    every = [tile for tile in output_tiles(depth, 200) if tile >= 12]  # not too many
    tile = data.draw(st.sampled_from(every))
    found = predict_tiled(net, image, tile, data.draw(st.integers(1, 5)))
    assert found.dtype == torch.float64
    assert torch.allclose(found, whole(net, image), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (389, 53), (97, 401), (20, 300)])
def test_the_papers_depth_in_single_precision(size):
    net = thin(4, torch.float32)
    image = normal(1, *size, dtype=torch.float32)
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
    image = normal(1, 61, 83)
    found = predict_tiled(net, image, 36)
    assert torch.allclose(found, whole(net, image), rtol=0, atol=1e-10)


def test_the_stride_of_the_output_tile_would_be_wrong():
    net, image, tile = thin(3), normal(1, 116, 116), 36
    right = whole(net, image)
    window = read_window(image, 36 - 44, -44, tile + 88, tile + 88)
    with torch.no_grad():
        shifted = net(window[None])[0]
    assert (shifted - right[:, 36:72, :36]).abs().max() > 1e-3


def test_drop_out_and_batch_norm_are_at_rest():
    net, image = thin(2, norm="batch", dropout=0.9), normal(1, 40, 50)
    expected = whole(net, image)
    found = predict_tiled(net.train(), image, 20)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    assert not found.requires_grad


def test_each_layer_gets_its_mode_back():
    net = thin(2, norm="batch", dropout=0.5).train()
    norms = (x for x in net.modules() if isinstance(x, nn.BatchNorm2d))
    frozen = next(norms)
    frozen.eval()
    before = [layer.training for layer in net.modules()]
    predict_tiled(net, normal(1, 40, 50), 20)
    assert [layer.training for layer in net.modules()] == before
    assert net.training and not frozen.training


def test_an_error_on_the_way_leaves_the_mode_and_gradients_alone():
    net = thin(2).train()
    with pytest.raises(ValueError, match="set model.depth"):
        predict_tiled(nn.Sequential(net), normal(1, 90, 90), 388)
    assert net.training and torch.is_grad_enabled()
    next(iter(ask_tiles(net, normal(1, 90, 90), 20)))  # looked at, then left
    assert torch.is_grad_enabled()


def test_a_net_without_depth_is_taken_for_the_papers():
    net = thin(4)
    plain = torch.nn.Sequential(net)
    found = predict_tiled(plain, normal(1, 30, 30), 20)
    assert torch.allclose(found, whole(net, normal(1, 30, 30)), rtol=0, atol=1e-10)


def test_half_precision_is_answered_in_single():
    net, image = thin(2, torch.bfloat16), normal(1, 30, 30, dtype=torch.bfloat16)
    assert predict_tiled(net, image, 20).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu():
    net, image = thin(3).cuda(), normal(1, 61, 83)
    expected = whole(thin(3), image)
    for x in (image, image.cuda()):
        found = predict_tiled(net, x, 36, 2)
        assert found.device.type == "cuda"  # where the net is
        assert torch.allclose(found.cpu(), expected, rtol=0, atol=1e-8)


def test_a_progress_bar_counts_tiles(monkeypatch):
    bars = []

    class Bar(tiles.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs | {"disable": False, "delay": 0})
            bars.append(self)

    monkeypatch.setattr(tiles, "tqdm", Bar)
    predict_tiled(thin(2), normal(1, 50, 30), 20, batch_size=4)
    assert (bars[0].n, bars[0].total) == (6, 6)


# Arrays, and numbers of other types


def test_mean_and_deviation_of_the_whole_image():
    for image in (bytes_of(200, 31), bytes_of(3, 130, 20), normal(2, 65, 9) + 1000):
        mean, std = mean_and_std(image)
        pixels = np.asarray(image, dtype=float)
        assert np.isclose(mean, pixels.mean()) and np.isclose(std, pixels.std())
    assert mean_and_std(np.full((5, 5), 7)) == (7, 1e-6)


@pytest.mark.parametrize("kind", ["f2", ">f4", "<f4", "f8"])
def test_floats_of_any_kind_are_the_tensor(kind):
    pixels, net = normal(40, 50).numpy().astype(kind), thin(2)
    expected = whole(net, torch.from_numpy(pixels.astype(float))[None])
    for image in (pixels, pixels[None]):
        found = predict_tiled(net, image, 20, 2)
        assert torch.allclose(found, expected, rtol=0, atol=1e-9)


# What is refused


BAD_IMAGES = [
    (normal(9, 9), ValueError, r"\(9, 9\).*image\[None\]"),
    (normal(1, 1, 9, 9), ValueError, r"\(1, 1, 9, 9\).*image\[0\]"),
    (normal(1, 1, 9, 9).numpy(), ValueError, r"\(1, 1, 9, 9\)"),
    (normal(1, 0, 9), ValueError, r"\(1, 0, 9\)"),
    (normal(3, 9, 9), ValueError, r"\(3, 9, 9\).*C = 1"),
    (normal(9, 9, 3).numpy(), ValueError, r"\(9, 9, 3\).*moveaxis"),
    (bytes_of(9, 9), TypeError, r"uint8.*floats.*mean_and_std"),
    (torch.zeros(1, 9, 9, dtype=torch.long), TypeError, r"int64.*mean_and_std"),
    (torch.zeros(1, 9, 9, dtype=torch.bool), TypeError, r"bool.*floats"),
    (np.zeros((9, 9), complex), TypeError, r"complex128"),
    (np.array([["a"]]), TypeError, "floats would work"),
    ([[1.0]], TypeError, "list"),
]


@pytest.mark.parametrize("image, kind, words", BAD_IMAGES)
def test_bad_images(image, kind, words):
    with pytest.raises(kind, match=words):
        predict_tiled(thin(), image, 20)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_is_named_where_it_is(value):
    image = normal(1, 50, 60)
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
        predict_tiled(thin(depth), normal(1, 9, 9), tile)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_a_tile_at_least(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size}.*1 or more"):
        predict_tiled(thin(), normal(1, 9, 9), 20, batch_size)


def test_each_kind_of_net_has_its_function():
    with pytest.raises(ValueError, match="Is it padded.*predict_blended would work"):
        predict_tiled(thin(padding=1), normal(1, 9, 9), 20)


def test_a_wrapped_net_is_not_taken_for_a_padded_one():
    words = "loses 20 pixels a side, not 92: set model.depth, or .*model.module"
    with pytest.raises(ValueError, match=words):
        predict_tiled(torch.nn.Sequential(thin(2)), normal(1, 90, 90), 388)


def test_a_tile_smaller_than_the_step_is_named():
    for tile, depth, step in [(4, 4, 16), (0, 4, 16), (-5, 3, 8)]:
        words = f"output tile of {tile} is smaller than the step of {step}"
        with pytest.raises(ValueError, match=words):
            tile_starts(512, tile, depth)


# No larger than needed


@pytest.mark.parametrize("shape", [(64, 64), (37, 91), (36, 36), (5, 80)])
def test_no_smaller_tiles_would_do(monkeypatch, shape):
    "As many tiles as before, each as small as it can be."
    net, sides = thin(), []
    ask = tiles.ask_net

    def watched(model, windows, margin):
        sides.extend(window.shape[-2:] for window in windows)
        return ask(model, windows, margin)

    monkeypatch.setattr(tiles, "ask_net", watched)
    image = torch.rand(1, *shape, dtype=torch.float64)
    predict_tiled(net, image, 36)
    assert len(sides) == np.prod([len(tile_starts(n, 36, 2)) for n in shape])
    [(high, wide)] = set(sides)
    for side, size in ((high, shape[0]), (wide, shape[1])):
        tile, count = side - 2 * lost_pixels(2), len(tile_starts(size, 36, 2))
        assert tile <= 36
        smaller = tile - 4
        assert smaller < 4 or len(tile_starts(size, smaller, 2)) > count
