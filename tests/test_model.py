"""The whole net against the numbers of the paper (A1 to A12, B4, B6)."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from unet_tutorial.blocks import incoming_nodes
from unet_tutorial.model import UNet
from unet_tutorial.sizes import output_size, receptive_field, valid_sizes


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.fixture(scope="module")
def paper_net():
    torch.manual_seed(0)
    return UNet().eval()


def thin(**switches):
    torch.manual_seed(0)
    return UNet(base_channels=2, **switches).eval()


@pytest.mark.parametrize(
    ("switches", "parameters"),
    [
        ({}, 31_030_658),
        ({"in_channels": 3, "num_classes": 3}, 31_031_875),
        ({"in_channels": 3}, 31_031_810),
        ({"variant": "release"}, 31_100_354),
    ],
)
def test_parameters(switches, parameters):
    with torch.device("meta"):  # counts without computing
        assert count(UNet(**switches)) == parameters


def test_figure_1(paper_net):
    with torch.no_grad():
        assert paper_net(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_there_are_23_convolutions(paper_net):
    layers = list(paper_net.modules())
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    ups = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [c.kernel_size for c in convs] == [(3, 3)] * 18 + [(1, 1)]
    assert [u.kernel_size for u in ups] == [(2, 2)] * 4
    assert [u.out_channels for u in ups] == [512, 256, 128, 64]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)


def test_every_layer_starts_as_the_paper_says(paper_net):
    for layer in paper_net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            expected = (2 / incoming_nodes(layer)) ** 0.5
            tolerance = 4 / layer.weight.numel() ** 0.5  # of a measured deviation
            assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
            assert not layer.bias.any()


def test_drop_out_stands_at_the_end_of_the_contracting_path():
    net = thin(dropout=0.5).train()
    x = torch.randn(1, 1, 188, 188)
    first, second = net.contracting(x), net.contracting(x)
    same = [torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert same == [True] * 4 + [False]
    release = thin(variant="release").train()
    first, second = release.contracting(x), release.contracting(x)
    same = [torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert same == [True] * 3 + [False] * 2  # and so it reaches a skip
    assert torch.equal(net.eval()(x), net(x))
    assert torch.equal(
        *(thin(dropout=0.0).train().contracting(x)[-1] for _ in range(2))
    )


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_sizes_are_those_of_the_arithmetic(depth):
    net = thin(depth=depth)
    for size in valid_sizes(260, depth=depth)[::3]:
        other = valid_sizes(260, depth=depth)[0]
        out = net(torch.zeros(1, 1, size, other))
        assert out.shape[-2:] == (output_size(size, depth), output_size(other, depth))


def test_a_wrong_size_names_the_right_ones():
    with pytest.raises(ValueError, match="570 .*556 and 572"):
        thin()(torch.zeros(1, 1, 572, 570))


@pytest.mark.parametrize("shape", [(1, 188, 188), (1, 3, 188, 188), (188, 188)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"C = 1"):
        thin()(torch.zeros(shape))


@pytest.mark.parametrize("size", [(1, 1), (37, 91), (160, 240), (17, 16), (2, 300)])
def test_the_padded_net_keeps_any_size(size):
    net = thin(in_channels=3, padding=1, norm="batch")
    assert net(torch.zeros(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("norm", [None, "batch", "instance"])
@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_every_mix_of_later_ideas_learns(norm, upsampling):
    """Each weight gets a gradient, and a step down it makes the loss smaller."""
    ideas = {"norm": norm, "upsampling": upsampling, "residual": True}
    net = thin(padding=1, depth=2, dropout=0.0, **ideas).train()
    x, labels = torch.randn(2, 1, 20, 24), torch.randint(0, 2, (2, 20, 24))
    loss = nn.functional.cross_entropy(net(x), labels)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with torch.no_grad():
        for weight in net.parameters():
            weight -= 1e-3 * weight.grad
        assert nn.functional.cross_entropy(net(x), labels) < loss


def test_the_unpadded_net_with_residual_blocks_has_no_seams():
    net = thin(depth=2, residual=True)
    x = torch.randn(1, 1, 76, 76)
    assert torch.allclose(net(x)[..., 8:, 8:], net(x[..., 8:, 8:]), atol=1e-5)


@pytest.mark.parametrize(
    "switch",
    [
        {"variant": "2015"},
        {"depth": 0},
        {"num_classes": 0},
        {"depth": 3.0},
        {"padding": 3},
        {"norm": "group"},
        {"upsampling": "bilinear"},
        {"upsampling": "nearest", "padding": 1},
    ],
)
def test_unknown_switches_are_refused(switch):
    with pytest.raises(ValueError, match="would work"):
        UNet(**switch)


@pytest.mark.parametrize("pixel", [0, 7, 100, 195])
def test_an_output_pixel_depends_on_its_receptive_field_only(pixel):
    """Positive weights and no maximum: the gradient finds every way in."""
    net = thin()
    for weight in net.parameters():
        nn.init.constant_(weight, 0.1)
    for step in net.contracting.steps:
        step.pool = nn.AvgPool2d(2)  # the maximum would let only one pixel through
    x = torch.zeros(1, 1, 380, 188, requires_grad=True)
    net(x)[0, 0, pixel, 2].backward()
    seen = x.grad[0, 0].abs().sum(1).nonzero()[:, 0]
    field = receptive_field(pixel)
    assert (seen[0], seen[-1]) == (field[0], field[-1])


def test_shifted_tiles_agree_where_they_overlap():
    """The overlap-tile strategy is seamless for shifts of whole pooling cells (A12)."""
    net = thin().double()  # in 32 bits, sums in another order differ by 1e-5
    x = torch.randn(1, 1, 188 + 64, 188, dtype=torch.float64)
    whole = net(x)
    for shift in range(0, 65, 16):
        tile = net(x[..., shift : shift + 188, :])
        assert torch.allclose(tile, whole[..., shift : shift + 4, :], atol=1e-12)


def test_gradients_reach_every_weight():
    net = thin().train()
    net(torch.randn(1, 1, 188, 188)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_importing_the_model_needs_torch_alone():
    """The import works where every other requirement is missing, but numpy."""
    blocked = ["matplotlib", "PIL", "scipy", "tqdm", "safetensors", "nbdev", "fastcore"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
    code += "from unet_tutorial.model import UNet; print(UNet(base_channels=1).depth)"
    run = [sys.executable, "-c", code]
    result = subprocess.run(run, capture_output=True, text=True, env=os.environ)
    assert result.stdout.strip() == "4", result.stderr


COUNTS = ["in_channels", "num_classes", "base_channels", "depth"]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [0, -1, 2**16 + 1])
def test_a_count_out_of_range_is_named(name, count):
    least = 2 if name == "num_classes" else 1
    with pytest.raises(ValueError, match=f"{name} is {count}; {least} or more"):
        UNet(**{name: count})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [8.0, "8", None, True, [8], float("nan")])
def test_a_count_that_is_no_whole_number_is_named(name, count):
    with pytest.raises(ValueError, match=rf"{name} is .*; a whole number from \d to"):
        UNet(**{name: count})


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan"), "0.5", None, True])
def test_a_rate_that_is_none_is_named(rate):
    with pytest.raises(ValueError, match="dropout is .*a rate from 0 to 1 would work"):
        UNet(base_channels=1, depth=1, dropout=rate)


def test_a_net_that_no_machine_can_hold_is_refused_before_it_is_built():
    with pytest.raises(ValueError, match="4194304 channels at the bottom"):
        UNet(depth=16)
    with torch.device("meta"):
        assert UNet(base_channels=2**12).contracting.steps[-1].conv.conv1  # 65,536


def test_one_class_is_told_how_to_become_two():
    pattern = "num_classes is 1; 2 would work.*soft-max.*CrossEntropyLoss"
    with pytest.raises(ValueError, match=pattern):
        UNet(num_classes=1)
    score = torch.randn(5)  # what the sentence claims
    two = torch.stack([torch.zeros(5), score])
    assert torch.allclose(two.softmax(0)[1], score.sigmoid())


def test_the_first_weights_of_a_seed_are_those_of_always():
    """Saved results stay what they are: names, order and numbers of the weights."""
    torch.manual_seed(0)
    state = UNet(base_channels=2, depth=1).state_dict()
    assert list(state)[:2] == [
        "contracting.first.conv1.weight",
        "contracting.first.conv1.bias",
    ]
    assert list(state)[-1] == "last.bias" and len(state) == 16
    assert sum(float(x.double().sum()) for x in state.values()) == pytest.approx(
        8.3294065, abs=1e-4
    )


def test_images_of_bytes_are_refused_with_a_remedy():
    net = UNet(base_channels=1, depth=1)
    with pytest.raises(
        ValueError, match=r"torch.uint8; floats would work: x.float\(\)"
    ):
        net(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
