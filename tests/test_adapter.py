"""Nets of other libraries, imitated by small ones, asked as if they were ours."""

import numpy as np
import pytest
import torch
from samples import bytes_of, normal, says, thin_net
from torch import nn
from torch.nn.functional import interpolate, max_pool2d

from unet_tutorial.data.adapter import Adapter, known_net, unwrapped, whole_steps
from unet_tutorial.data.slides import predict_blended, predict_slide
from unet_tutorial.predict import (
    Averaged,
    Predictor,
    class_probabilities,
    label_map,
)
from unet_tutorial.tiles import predict_tiled, tile_rules
from unet_tutorial.train import evaluate, fit


class Padded(nn.Module):
    "Keeps the size, as smp's nets do, and takes multiples of 2**depth only."

    def __init__(self, channels=1, classes=2, depth=2, width=3):
        super().__init__()
        ins = [channels] + [width] * depth
        self.down = nn.ModuleList([nn.Conv2d(n, width, 3, padding=1) for n in ins])
        ups = [nn.Conv2d(2 * width, width, 3, padding=1) for _ in range(depth)]
        self.up, self.norm = nn.ModuleList(ups), nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        maps = [self.norm(self.down[0](x).relu())]
        for conv in self.down[1:]:
            maps.append(conv(max_pool2d(maps[-1], 2)).relu())
        x = maps.pop()
        for conv in self.up:
            x = conv(torch.cat([interpolate(x, scale_factor=2), maps.pop()], 1)).relu()
        return self.last(x)


class InDict(nn.Module):
    "Answers with a dict, as torchvision's nets do, or with whatever it is given."

    def __init__(self, net, wrap=lambda y: {"out": y, "aux": y[:, :1]}):
        super().__init__()
        self.inside, self.wrap = net, wrap

    def forward(self, x):
        return self.wrap(self.inside(x))


class Threshold(nn.Module):
    "Has no parameters: the brighter, the likelier class 1."

    def forward(self, x):
        return torch.cat([-x, x], 1)


class Valid(nn.Module):
    "Unpadded, three convolutions: loses three pixels on each side."

    def __init__(self):
        super().__init__()
        convs = [nn.Conv2d(a, b, 3) for a, b in ((1, 3), (3, 3), (3, 2))]
        self.layers = nn.Sequential(*convs)

    def forward(self, x):
        return self.layers(x)


def made(kind, *arguments, **options):
    torch.manual_seed(0)
    return kind(*arguments, **options).double().eval()


@torch.no_grad()
def whole(net, image, margin, multiple):
    "The answer in one piece, mirrored by numpy and cut by hand."
    sides = [-(-(n + 2 * margin) // multiple) * multiple for n in image.shape[1:]]
    rims = [
        (margin, full - n - margin)
        for n, full in zip(image.shape[1:], sides, strict=True)
    ]
    around = np.pad(image.numpy(), [(0, 0), *rims], mode="reflect")
    logits = net(torch.from_numpy(around)[None])
    logits = logits["out"] if isinstance(logits, dict) else logits
    lost = (sides[0] - logits.shape[2]) // 2
    cut = slice(margin - lost, None)
    height, width = image.shape[1:]
    return logits[0, :, cut, cut][:, :height, :width]


# The same answers


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (64, 64), (67, 41), (131, 35)])
@pytest.mark.parametrize("in_dict", [False, True])
def test_tiles_of_a_padded_net_are_equal_to_the_whole(size, in_dict):
    channels = 3 if in_dict else 1
    net = made(Padded, channels)
    net = InDict(net) if in_dict else net
    image = normal(channels, *size)
    adapted = Adapter(net, channels, 2, margin=16, multiple=4)
    due = whole(net, image, 16, 4)
    for tile, batch_size in ((24, 3), (37, 1), (388, 1)):
        found = predict_tiled(adapted, image, tile, batch_size)
        assert torch.allclose(found, due, rtol=0, atol=1e-10)


def test_a_smaller_margin_would_leave_seams():
    net, image = made(Padded), normal(1, 67, 41)
    adapted = Adapter(net, 1, 2, margin=4, multiple=4)
    found = predict_tiled(adapted, image, 24)
    assert (found - whole(net, image, 4, 4)).abs().max() > 1e-4


def test_a_step_that_the_poolings_do_not_know_would_too():
    net, image = made(Padded), normal(1, 80, 80)
    due = whole(net, image, 16, 4)
    wrong = Adapter(Adapter(net, 1, 2, multiple=4), 1, 2, margin=16, multiple=1)
    assert (predict_tiled(wrong, image, 27) - due).abs().max() > 1e-4


@pytest.mark.parametrize("margin", [3, 8])
def test_an_unpadded_net_loses_by_itself(margin):
    net, image = made(Valid), normal(1, 40, 33)
    adapted = Adapter(net, 1, 2, margin=margin, multiple=1)
    due = whole(net, image, margin, 1)
    assert torch.allclose(predict_tiled(adapted, image, 10), due, rtol=0, atol=1e-12)


def test_an_adapted_unet_answers_as_the_unet():
    net, image = thin_net(2, torch.float64), normal(1, 50, 61)
    rules = {"margin": 20, "multiple": 4, "smallest": 44}
    found = predict_tiled(Adapter(net, 1, 2, **rules), image, 20)
    assert torch.allclose(found, predict_tiled(net, image, 20), rtol=0, atol=1e-10)


@pytest.mark.parametrize("multiple", [4, 14, 32])
def test_a_net_without_margin_is_blended_whatever_its_multiple(multiple):
    net = Adapter(made(Padded), 1, 2, multiple=4)
    exact = Adapter(net, 1, 2, multiple=multiple)
    image = normal(1, 3 * multiple + 5, 2 * multiple + 1)
    tile = 5 * multiple  # one tile: the whole image, mirrored to a multiple
    found = predict_blended(exact, image, tile, 0)
    assert torch.allclose(found, whole(net, image, 0, multiple), atol=1e-10)
    small = predict_blended(exact, image, 2 * multiple, multiple)
    assert small.shape == found.shape and (small - found).abs().mean() < 0.1
    assert whole_steps(exact, 512) % multiple == 0


def test_a_tiny_image_is_mirrored_again_and_again():
    net, image = made(Padded), normal(1, 2, 3)
    found = Adapter(net, 1, 2)(image[None])[0]
    assert torch.allclose(found, whole(net, image, 0, 32), atol=1e-12)


def test_a_net_without_parameters():
    net = Adapter(Threshold(), 1, 2, multiple=1)
    image = bytes_of(40, 50)
    due = image > image.mean()
    assert np.array_equal(Predictor(net)(image), due)
    assert np.array_equal(label_map(net, image), due)
    found = predict_slide(net, image, np.empty(image.shape, np.uint8), tile=64)
    assert np.array_equal(found, due)
    raw = predict_blended(Threshold(), (image - image.mean()) / image.std(), 64, 0)
    assert np.array_equal(raw.argmax(0).numpy(), due)


def test_one_logit_becomes_two():
    net = made(Padded, classes=1)
    adapted, x = Adapter(net, 1, num_classes=1, multiple=4), normal(2, 1, 32, 32)
    assert adapted.num_classes == 2
    with torch.no_grad():
        p, due = adapted(x).softmax(1), net(x).sigmoid()
    assert torch.allclose(p[:, 1:], due, atol=1e-12)
    with torch.no_grad():
        net.last.bias.sub_(net(x).median())  # so that there is something of both
    image = bytes_of(33, 45)
    labels = Predictor(adapted)(image)
    p = class_probabilities(adapted, image)[1].numpy()
    assert np.array_equal(labels, p > 0.5) and 0 < labels.mean() < 1


# Everything that asks


NETS = {
    "padded": lambda: Adapter(made(Padded, 3).float(), 3, 2, multiple=4),
    "given away": lambda: Adapter(made(Padded, 3).float(), 3, 2, margin=16, multiple=4),
    "a dict": lambda: Adapter(InDict(made(Padded, 3, 5)).float(), 3, 5),
    "a tuple": lambda: Adapter(
        InDict(made(Padded, 3), lambda y: (y[:, :1], y)).float(), 3, 2, key=1
    ),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("options", [{}, {"views": 8}, {"size": (21, 33)}])
def test_a_predictor_of_any_net(name, options):
    net, image = NETS[name](), bytes_of(45, 38, 3)
    ask = Predictor(net, **options)
    labels, p = ask(image), ask.probabilities(image)
    assert labels.shape == (45, 38) and p.shape == (net.num_classes, 45, 38)
    assert np.array_equal(p.argmax(0), labels) and np.allclose(p.sum(0), 1, atol=1e-4)
    stack = np.stack([image, image[::-1]])
    assert (ask(stack)[0] == labels).mean() > 0.99
    assert np.allclose(class_probabilities(net, image, **options), p, atol=1e-4)


def test_a_predictor_asks_a_copy_and_leaves_the_net_alone():
    net = NETS["padded"]().train()
    net.net.norm.eval()
    before = [layer.training for layer in net.modules()]
    ask, image = Predictor(net), bytes_of(20, 20, 3)
    labels = ask(image)
    assert [layer.training for layer in net.modules()] == before
    assert all(x.requires_grad for x in net.parameters())
    with torch.no_grad():
        net.net.last.bias.add_(torch.tensor([100.0, 0]))
    assert np.array_equal(ask(image), labels)


def test_an_adapted_net_can_be_trained_and_measured():
    torch.manual_seed(0)
    net = Adapter(InDict(Padded(1)), 1, 2, multiple=4)
    images = torch.rand(8, 1, 21, 30)
    loader = torch.utils.data.DataLoader([(x, (x[0] > 0.5).long()) for x in images], 4)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    history = fit(net, loader, loader, nn.CrossEntropyLoss(), optimizer, epochs=6)
    assert history["valid_loss"][-1] < history["valid_loss"][0]
    views = evaluate(Averaged(net, 8), loader, nn.CrossEntropyLoss())
    assert views["loss"] < history["valid_loss"][0]


def test_the_views_of_an_adapted_net_are_tiled():
    net, image = Adapter(made(Padded), 1, 2, margin=16, multiple=4), normal(1, 50, 60)
    views = Averaged(net, 4)
    assert tile_rules(views) == tile_rules(net)
    assert predict_tiled(views, image, 40).shape == (2, 50, 60)


def test_chunks_of_any_net_are_equal_to_tiles():
    pytest.importorskip("dask.array")
    from unet_tutorial.scale import predict_array

    net = Adapter(made(Padded), 1, 2, margin=16, multiple=4)
    image = bytes_of(133, 90)
    standard = (image - image.mean()) / image.std()
    due = predict_tiled(net, standard, 40).numpy()
    lazy = predict_array(net, image, tile=40, chunk=40, logits=True)
    assert np.allclose(lazy.compute(scheduler="synchronous"), due, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match=says("how far", "margin=64")):
        predict_array(Adapter(made(Padded), 1, 2), image)


# Wrapped nets

WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "averaged": torch.optim.swa_utils.AveragedModel,
    "twice": lambda net: torch.compile(nn.DataParallel(net), backend="eager"),
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("padding", [0, 1])
def test_a_wrapped_unet_answers_as_the_unet(name, padding):
    net, image = thin_net(2, padding=padding, norm="batch"), bytes_of(40, 50)
    wrapped = WRAPPERS[name](net).train()
    wrapped.eval()
    expected = Predictor(net).probabilities(image)
    assert unwrapped(wrapped).depth == 2
    assert np.allclose(Predictor(wrapped).probabilities(image), expected, atol=1e-5)
    assert np.allclose(class_probabilities(wrapped, image), expected, atol=1e-5)
    assert np.array_equal(label_map(wrapped, image), expected.argmax(0))
    x = (image - image.mean()) / image.std()
    ask = predict_blended if padding else predict_tiled
    assert torch.allclose(ask(wrapped, x, 84), ask(net, x, 84), atol=1e-5)
    out = predict_slide(wrapped, image, np.empty(image.shape, np.uint8), 84)
    assert np.array_equal(out, expected.argmax(0))


@pytest.mark.parametrize("padding", [0, 1])
def test_chunks_of_a_wrapped_unet(padding):
    pytest.importorskip("dask.array")
    from unet_tutorial.scale import predict_array

    net, image = thin_net(1, padding=padding), bytes_of(70, 50)
    options = {"tile": 36, "chunk": 32}
    due = predict_array(net, image, **options).compute(scheduler="synchronous")
    found = predict_array(nn.DataParallel(net), image, **options)
    assert np.array_equal(found.compute(scheduler="synchronous"), due)


# What is noticed in the first call

WRONG = {
    "a margin too small": (lambda: Adapter(Valid(), 1, 2), "margin=3"),
    "other classes": (lambda: Adapter(Padded(), 1, 3), "num_classes=2"),
    "other channels": (lambda: Adapter(Padded(), 3, 2), "C = 3"),
    "a wrong key": (lambda: Adapter(InDict(Padded()), 1, 2, key="logits"), "'out'"),
    "a tuple": (lambda: Adapter(InDict(Padded(), lambda y: (y,)), 1, 2), "key=0"),
    "no tensor": (lambda: Adapter(InDict(Padded(), lambda y: 7), 1, 2), "a tensor"),
    "smaller": (
        lambda: Adapter(InDict(Padded(), lambda y: y[..., ::2, ::2]), 1, 2),
        "margin=8",
    ),
    "larger": (
        lambda: Adapter(InDict(Padded(), lambda y: y.repeat(1, 1, 2, 2)), 1, 2),
        "interpolate",
    ),
    "no pictures": (
        lambda: Adapter(InDict(Padded(), lambda y: y.mean((2, 3))), 1, 2),
        "(B, K, h, w)",
    ),
    "all given away": (lambda: Adapter(Padded(), 1, 2, margin=16), "33 or more"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_number_is_named(name):
    make, words = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=says(words, "would work")):
        make()(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 0},
        {"num_classes": 0},
        {"margin": -1},
        {"multiple": 0},
        {"multiple": 2.0},
        {"smallest": True},
    ],
)
def test_a_number_that_cannot_be(options):
    [name] = options
    with pytest.raises((TypeError, ValueError), match=says(f"{name} is", "would work")):
        Adapter(Padded(), **{"in_channels": 1, "num_classes": 2} | options)


def test_an_unknown_net_hears_of_the_adapter():
    net, image = Padded(), bytes_of(9, 9)
    for ask in (Predictor, lambda net: class_probabilities(net, image), known_net):
        with pytest.raises(TypeError, match="Padded is no UNet.*Adapter.*would work"):
            ask(net)
    with pytest.raises(TypeError, match="a dict.*Adapter"):
        predict_blended(InDict(net), normal(1, 32, 32), 32, 0)
    with pytest.raises(ValueError, match="Adapter with margin=3"):
        predict_tiled(Valid().double(), normal(1, 32, 32), 20)


def test_a_name_or_a_class_is_no_net():
    for wrong in ("net.pt", Padded, None):
        with pytest.raises(TypeError, match="Module would work"):
            Adapter(wrong, 1, 2)
