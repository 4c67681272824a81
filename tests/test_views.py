"""Several views of an image: turned back to the pixel, and blind to direction."""

import numpy as np
import pytest
import torch

from unet_tutorial import predict as module
from unet_tutorial.model import UNet
from unet_tutorial.predict import Averaged, average_views, rotate, turn, turn_back
from unet_tutorial.tiles import predict_tiled


def image(*size, channels=1):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(channels, *size, generator=generator)


@pytest.fixture(scope="module")
def ask():
    torch.manual_seed(0)
    net = UNet(base_channels=2, depth=2, norm="batch").eval()
    return lambda x: predict_tiled(net, x, 36).softmax(0)


@pytest.mark.parametrize("size", [(9, 9), (7, 12), (1, 5), (1, 1)])
@pytest.mark.parametrize("view", range(8))
def test_a_position_of_a_square_comes_back(size, view):
    x = image(*size, channels=2)
    there = turn(x, view, 8)
    assert torch.equal(turn_back(there, view, 8, size), x)


def test_the_eight_positions_differ_and_four_are_the_rotations():
    x = image(5, 5)
    eight = {turn(x, view, 8).numpy().tobytes() for view in range(8)}
    four = {torch.rot90(x, k, (1, 2)).numpy().tobytes() for k in range(4)}
    assert len(eight) == 8
    assert {turn(x, view, 4).numpy().tobytes() for view in range(4)} == four


@pytest.mark.parametrize("size", [(40, 40), (31, 57)])
@pytest.mark.parametrize("view", range(8))
def test_the_average_of_eight_does_not_know_a_direction(ask, size, view):
    x = image(*size)
    due = turn(average_views(ask, x, 8), view, 8)
    got = average_views(ask, turn(x, view, 8), 8)
    assert torch.allclose(got, due, atol=1e-5)


def test_one_view_does_know_it_so_that_the_test_above_can_fail(ask):
    x = image(40, 40)
    due = torch.rot90(ask(x), 1, (1, 2))
    assert not torch.allclose(ask(torch.rot90(x, 1, (1, 2))), due, atol=1e-3)


def test_the_average_of_two_is_blind_to_left_and_right_only(ask):
    x = image(40, 40)
    p = average_views(ask, x, 2)
    assert torch.allclose(p, (ask(x) + ask(x.flip(-1)).flip(-1)) / 2, atol=1e-6)
    assert torch.allclose(average_views(ask, x.flip(-1), 2), p.flip(-1), atol=1e-5)
    assert not torch.allclose(average_views(ask, x.flip(-2), 2), p.flip(-2), atol=1e-3)


@pytest.mark.parametrize("switches", [{"padding": 1}, {}])
@pytest.mark.parametrize("views", [2, 4, 8])
def test_an_averaged_net_is_measured_like_any(views, switches):
    torch.manual_seed(0)
    net = UNet(base_channels=2, depth=1, norm="batch", **switches).eval()
    x = torch.rand(3, 1, 30, 30)
    p = Averaged(net, views).eval()(x).softmax(1)
    for one, found in zip(x, p, strict=True):
        due = average_views(lambda x: net(x[None])[0].softmax(0), one, views)
        assert torch.allclose(found, due, atol=1e-6)
    with pytest.raises(ValueError, match="views=3"):
        Averaged(net, 3)


def test_the_average_of_four_knows_mirror_images_only(ask):
    x = image(40, 40)
    p = average_views(ask, x, 4)
    turned = average_views(ask, torch.rot90(x, 1, (1, 2)), 4)
    mirrored = average_views(ask, x.flip(-1), 4)
    assert torch.allclose(turned, torch.rot90(p, 1, (1, 2)), atol=1e-5)
    assert not torch.allclose(mirrored, p.flip(-1), atol=1e-3)


@pytest.mark.parametrize("views", [1, 2, 4, 7, 8])
@pytest.mark.parametrize("size", [(40, 40), (31, 57), (1, 1), (1, 9)])
def test_averages_are_probabilities_of_the_right_size(ask, views, size):
    p = average_views(ask, image(*size), views)
    assert p.shape == (2, *size) and p.min() >= 0
    assert torch.allclose(p.sum(0), torch.ones(size), atol=1e-4)


@pytest.mark.parametrize("views", [1, 2, 4, 7, 8])
def test_an_answer_without_neighbours_is_the_same_from_all_sides(views):
    """A smooth image through a net that sees one pixel: nothing may move."""
    y, x = np.mgrid[:61, :80]
    blob = np.exp(-((y - 20) ** 2 + (x - 55) ** 2) / 200)
    blob = torch.tensor(blob, dtype=torch.float32)[None]
    p = average_views(lambda x: torch.cat([1 - x, x]), blob, views)
    assert (p[1] - blob[0]).abs().max() < 0.01


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90, 360])
def test_right_angles_are_exact(degrees):
    x = image(17, 24, channels=3)
    due = torch.rot90(x, degrees // 90 % 4, (1, 2))
    assert rotate(x, degrees).shape == due.shape
    assert torch.allclose(rotate(x, degrees), due, atol=1e-3)


@pytest.mark.parametrize("view", range(7))
def test_every_pixel_is_in_the_frame(view):
    """Each corner of the image can be found again in the turned frame."""
    for row, column in [(0, 0), (0, 29), (19, 0), (19, 29)]:
        x = torch.zeros(1, 20, 30)
        x[0, row, column] = 1
        assert turn(x, view, 7).max() > 0.2


def test_beyond_the_border_is_the_mirror():
    x = image(20, 20)
    wide = rotate(x, 0, size=(30, 30))
    due = np.pad(x[0].numpy(), 5, mode="reflect")
    assert np.allclose(wide[0], due, atol=1e-4)


def test_a_device_without_bicubic_interpolates_bilinearly(monkeypatch):
    x = image(20, 30)
    expected, exact = rotate(x, 20, mode="bilinear"), rotate(x, 20)
    monkeypatch.setattr(module, "_NO_BICUBIC", ("cpu",))
    assert torch.equal(rotate(x, 20), expected)
    assert not torch.equal(exact, expected)


def test_rotation_is_counter_clockwise():
    x = torch.zeros(1, 41, 41)
    x[0, 20, 38] = 1  # at the right
    found = int(rotate(x, 45, (41, 41))[0].argmax())
    assert found // 41 < 12 and found % 41 > 28  # above, at the right


def test_an_unknown_number_of_views_is_refused(ask):
    with pytest.raises(ValueError, match=r"views=5.*4.*8.*7"):
        average_views(ask, image(8, 8), 5)
