"""The convolution block, its field of view, and how its weights begin."""

import pytest
import torch
from torch import nn

from unet_tutorial.blocks import DoubleConv, incoming_nodes, init_weights


@pytest.mark.parametrize("size", [(5, 5), (33, 20), (572, 6)])
def test_an_unpadded_block_takes_four_pixels(size):
    out = DoubleConv(2, 3)(torch.zeros(1, 2, *size))
    assert out.shape == (1, 3, size[0] - 4, size[1] - 4)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_padded_block_keeps_the_size(norm):
    out = DoubleConv(2, 3, padding=1, norm=norm)(torch.zeros(2, 2, 7, 9))
    assert out.shape == (2, 3, 7, 9)


def test_each_convolution_is_followed_by_a_relu():
    torch.manual_seed(0)
    block = DoubleConv(1, 8)
    x = torch.randn(1, 1, 16, 16)
    middle = block.conv1(x).clamp(min=0)
    assert torch.equal(block(x), block.conv2(middle).clamp(min=0))


def test_normalised_convolutions_have_no_bias():
    block = DoubleConv(1, 2, norm="batch")
    assert block.conv1.bias is None and block.conv2.bias is None
    assert isinstance(block.norm2, nn.BatchNorm2d)
    assert DoubleConv(1, 2).conv1.bias is not None


@pytest.mark.parametrize("switch", [{"padding": 2}, {"norm": "layer"}])
def test_unknown_switches_are_refused(switch):
    (name, value) = next(iter(switch.items()))
    with pytest.raises(ValueError, match=f"{name} is {value!r}.* would work"):
        DoubleConv(1, 1, **switch)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 3),
        nn.Conv2d(4, 2, 1),
        nn.ConvTranspose2d(6, 3, 2, stride=2),
    ],
)
def test_incoming_nodes_are_the_products_summed_into_one_number(layer):
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    x = torch.ones(1, layer.in_channels, 8, 8)
    assert incoming_nodes(layer) == int(layer(x)[0, 0, 4, 4])


def test_init_weights_sets_the_deviation_and_is_repeatable():
    layers = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ConvTranspose2d(256, 128, 2, 2))
    init_weights(layers, torch.Generator().manual_seed(1))
    for layer in layers:
        expected = (2 / incoming_nodes(layer)) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.02)
        assert abs(layer.weight.mean().item()) < 0.05 * expected
        assert not layer.bias.any()
    before = layers[0].weight.clone()
    init_weights(layers, torch.Generator().manual_seed(1))
    assert torch.equal(layers[0].weight, before)
    init_weights(layers, torch.Generator().manual_seed(2))
    assert not torch.equal(layers[0].weight, before)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("norm", [None, "batch", "instance"])
def test_a_residual_block_adds_the_middle_of_its_input(padding, norm):
    torch.manual_seed(0)
    block = DoubleConv(2, 3, padding, norm, residual=True).eval()
    x = torch.randn(1, 2, 12, 9)
    y = block(x)
    nn.init.zeros_(block.shortcut.weight)
    nn.init.zeros_(block.shortcut.bias)
    without = block.norm2(block.conv2(block.norm1(block.conv1(x)).clamp(min=0)))
    assert torch.equal(block(x), without.clamp(min=0))
    nn.init.ones_(block.shortcut.weight)
    added = x if padding else x[..., 2:-2, 2:-2]
    expected = without + added.sum(1, keepdim=True)
    assert torch.allclose(block(x), expected.clamp(min=0), atol=1e-6)
    assert y.shape == expected.shape


def test_instance_norm_standardises_each_image_by_itself():
    torch.manual_seed(0)
    block = DoubleConv(1, 4, padding=1, norm="instance").eval()
    images = torch.stack([torch.randn(1, 16, 16), 50 * torch.rand(1, 16, 16)])
    alone = torch.cat([block(image[None]) for image in images])
    assert torch.allclose(block(images), alone, atol=1e-5)
    assert block.conv1.bias is None and block.norm1.affine
