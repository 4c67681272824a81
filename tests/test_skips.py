"""One step down, one step up, and the crop between them."""

import pytest
import torch

from unet_tutorial.skips import Down, Up, center_crop


def test_center_crop_cuts_the_same_from_both_sides():
    rows, columns = torch.meshgrid(torch.arange(10), torch.arange(8), indexing="ij")
    crop = center_crop(torch.stack([rows, columns])[None], (4, 6))
    assert crop[0, 0, :, 0].tolist() == [3, 4, 5, 6]
    assert crop[0, 1, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_center_crop_to_the_same_size_changes_nothing():
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(center_crop(x, (5, 7)), x)


def test_center_crop_cannot_enlarge():
    with pytest.raises(ValueError, match=r"\(6, 7\).*\(5, 7\)"):
        center_crop(torch.zeros(1, 1, 5, 7), (6, 7))


def test_down_is_a_pooling_and_a_block():
    down = Down(2, 4)
    x = torch.randn(1, 2, 20, 16)
    pooled = x.reshape(1, 2, 10, 2, 8, 2).amax(dim=(3, 5))
    assert torch.equal(down(x), down.conv(pooled))


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (16, 9)])
def test_padded_down_and_up_keep_every_size(size):
    x = torch.randn(1, 2, *size)
    low = Down(2, 4, padding=1)(x)
    assert low.shape[-2:] == tuple(-(-side // 2) for side in size)
    assert Up(4, 2, padding=1)(low, x).shape == x.shape


def test_up_joins_the_skip_pixel_on_pixel():
    """With weights that only copy, the skip's middle must come out unmoved."""
    up = Up(2, 1)
    for weight in up.parameters():
        torch.nn.init.zeros_(weight)
    for conv in (up.conv.conv1, up.conv.conv2):
        conv.weight.data[0, 0, 1, 1] = 1  # channel 0 of the joined map is the skip
    skip = torch.rand(1, 1, 40, 40)
    out = up(torch.randn(1, 2, 14, 14), skip)  # 28, less 4
    assert torch.equal(out, skip[..., 8:-8, 8:-8])


@pytest.mark.parametrize("size", [26, 33])
def test_a_skip_that_cannot_be_cut_equally_is_refused(size):
    with pytest.raises(ValueError, match=f"skip of {size}.*28"):
        Up(2, 1)(torch.zeros(1, 2, 14, 14), torch.zeros(1, 1, size, size))


def test_release_switches_of_up():
    up = Up(8, 4, up_channels=8, up_relu=True)
    assert up.up.out_channels == 8 and up.conv.conv1.in_channels == 12
    assert isinstance(up.relu, torch.nn.ReLU)
    assert Up(8, 4).up.out_channels == 4


def test_a_bilinear_step_enlarges_smoothly_and_keeps_a_plane():
    up = Up(1, 1, padding=1, upsampling="bilinear")
    torch.nn.init.ones_(up.up[1].weight)
    torch.nn.init.zeros_(up.up[1].bias)
    plane = torch.arange(8.0).expand(1, 1, 6, 8)
    large = up.up(plane)[0, 0, 3, 1:-1]  # its ends repeat the border
    assert torch.allclose(large.diff(), torch.full((13,), 0.5))
    assert up(plane, torch.zeros(1, 1, 11, 16)).shape == (1, 1, 11, 16)


@pytest.mark.parametrize(
    ("name", "padding"), [("bilinear", 0), ("nearest", 1), ("cubic", 0)]
)
def test_an_enlargement_that_would_leave_seams_is_refused(name, padding):
    with pytest.raises(ValueError, match=f"{name}.*padding is {padding}.*would work"):
        Up(2, 1, padding, upsampling=name)
