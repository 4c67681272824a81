"""Wrong and odd uses of prediction: each ends with a sentence, or with an answer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import bytes_of, says, thin_net
from torch import nn

from unet_tutorial.data.adapter import Adapter
from unet_tutorial.data.slides import predict_blended, predict_slide
from unet_tutorial.predict import (
    Averaged,
    Predictor,
    class_probabilities,
    label_map,
    labels_at,
)
from unet_tutorial.tiles import ask_tiles, predict_tiled

GREY, COLOUR = bytes_of(20, 30), bytes_of(20, 30, 3)
FLOATS = (GREY - 127.5) / 74
CURES = "would work|Predictor.load|check name|ask about|convert|trained|adds it"
CURES = CURES.split("|")  # one of them stands in each sentence
TAKEN = (ValueError, TypeError, FileNotFoundError)  # with a sentence of ours


def refused(words, call) -> Callable[[Path], None]:
    "A case: the call must fail with these words, and say what would work."

    def case(folder):
        with pytest.raises(TAKEN, match=says(*words.split("|"))) as caught:
            call()
        assert any(cure in str(caught.value) for cure in CURES), caught.value

    return case


def answered(call) -> Callable[[Path], None]:
    "A case: the call must answer with labels of the size of the image."

    def case(folder):
        labels = np.asarray(call())
        assert labels.dtype.kind in "ui" and labels.shape[-2:] == (20, 30)

    return case


def ask(image, axes=None, net=None, **options):
    return Predictor(net or thin_net(), **options)(image, axes=axes)


def ask3(image, axes=None):
    return ask(image, axes, thin_net(in_channels=3))


def slide(image, out=None):
    out = np.zeros((20, 30), np.uint8) if out is None else out
    return predict_slide(thin_net(), image, out, 20)


class Breaks(nn.Module):
    "Fails when it is asked, with layers in both modes."

    def __init__(self, padding):
        super().__init__()
        self.padding, self.depth, self.in_channels, self.num_classes = padding, 1, 1, 2
        self.frozen, self.free = nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1)
        self.train()
        self.frozen.eval()

    def forward(self, x):
        assert not self.training and not self.free.training
        raise RuntimeError("out of order")


def stays(ask, padding) -> Callable[[Path], None]:
    "A case: a net that fails on the way keeps the mode of each of its layers."

    def case(folder):
        net = Breaks(padding)
        with pytest.raises(RuntimeError, match="out of order"):
            ask(net)
        modes = [net.training, net.frozen.training, net.free.training]
        assert modes == [True, False, True] and torch.is_grad_enabled()

    return case


def looked_at_only_once(folder):
    net, found = thin_net().train(), []
    tiles = ask_tiles(net, FLOATS, 6)
    for number, (_, _, logits) in enumerate(tiles):
        found.append(net.training and logits.requires_grad is False)
        if number == 2:
            break  # the generator is alive, and in the middle
    assert all(found) and net.training and torch.is_grad_enabled()


def in_other_units(unit) -> Callable[[Path], None]:
    "A case: the labels of an image are those of the image in other units."

    def case(folder):
        assert (ask(GREY * unit) == ask(GREY)).mean() > 0.999
        assert (slide(GREY * unit) == slide(GREY)).mean() > 0.999

    return case


def stack_of_probabilities(folder):
    p = np.zeros((5, 3, 4, 6))
    p[:, 2] = 1
    assert np.array_equal(labels_at(p), np.full((5, 4, 6), 2))


ARRAYS = {
    "an array without axes": (np.array(5), "()"),
    "an array of one axis": (np.zeros(5), "(5,)"),
    "an array of five axes": (np.zeros((1, 1, 1, 9, 9)), "(1, 1, 1, 9, 9)"),
    "an array without pixels": (np.zeros((0, 9)), "(0, 9)"),
    "an array of booleans": (GREY > 3, "bool"),
    "an array of objects": (GREY.astype(object), "object"),
    "an array of complex numbers": (GREY + 1j, "complex128"),
    "an array of letters": (np.full((9, 9), "a"), "<U1"),
    "an array of dates": (np.zeros((9, 9), "M8[s]"), "datetime64"),
    "an array with fields": (np.zeros((9, 9), [("a", "u1")]), "u1"),
    "an array of numbers that overflow": (GREY * 1e300, "too large"),
    "an array with a mask": (np.ma.masked_less(GREY, 9), "filled"),
    "an array with a NaN": (np.where(GREY > 250, np.nan, 1.0), "row|column"),
    "an array with an infinity": (np.where(GREY > 250, np.inf, 1.0), "row|column"),
    "a number": (3, "int"),
    "a number of numpy": (np.float32(3), "float32"),
    "nothing": (None, "NoneType"),
    "a dict": ({}, "dict"),
    "bytes": (b"abc", "bytes"),
    "a generator of images": ((x for x in [GREY]), "list(...)"),
    "a list with nothing in it": ([None], "NoneType"),
    "a list of numbers": ([1.0, 2.0], "(2,)"),
    "a list of rows that differ": ([[1, 2], [3]], "differ in length"),
    "a list that holds a stack": ([np.zeros((3, 9, 9))], "stack of 3"),
    "two channels for a grey net": (np.zeros((50, 70, 2)), "2 channels|NHW"),
    "a batch of a colour net": (np.zeros((5, 9, 9, 4)), "4 channels"),
    "colours for a grey net": (COLOUR, "3 channels|convert"),
    "a tensor of booleans": (torch.ones(1, 9, 9) > 0, "bool"),
    "a sparse tensor": (torch.eye(9).to_sparse(), "dense"),
    "a tensor without data": (torch.zeros(9, 9, device="meta"), "meta"),
    "a tensor of several channels": (torch.zeros(5, 9, 9), "5 channels"),
    "a file that is missing": ("nowhere.png", "nowhere.png"),
    "a folder": (".", "no file"),
}
COLOURS = {
    "a grey image for a colour net": (GREY, None, "1 channel,|np.stack"),
    "an image that could lie either way": (np.zeros((3, 3, 3)), None, "CHW|HWC"),
    "four channels for a colour net": (np.zeros((9, 9, 4)), None, "an axis of 3"),
    "a tensor with its channels last": (torch.tensor(COLOUR), None, "20 channels"),
    "letters for other axes": (COLOUR, "HW", "axes='HW'"),
    "letters that mean nothing": (COLOUR, "HQC", "axes='HQC'"),
    "a letter twice": (COLOUR, "HHC", "axes='HHC'"),
    "a number for letters": (COLOUR, 2, "axes=2"),
}
OPTIONS = {
    "a keyword with a letter missing": ({"view": 8}, "view|views"),
    "views that are unknown": ({"views": 3}, "views=3"),
    "views as text": ({"views": "8"}, "views='8'"),
    "a tile of nothing": ({"tile": 0}, "tile=0"),
    "a tile as text": ({"tile": "a"}, "tile='a'"),
    "a size of one number": ({"size": 5}, "size=5"),
    "a size of fractions": ({"size": (5.5, 3)}, "size="),
    "a size of nothing": ({"size": (0, 3)}, "size="),
    "a normalisation without a name": ({"normalisation": None}, "normalisation=None"),
    "a normalisation of another name": ({"normalisation": "x"}, "normalisation='x'"),
    "a normalisation that is NaN": ({"normalisation": (np.nan, 1)}, "normalisation="),
    "a deviation of nothing": ({"normalisation": (0, 0)}, "normalisation="),
    "a normalisation of letters": ({"normalisation": ("a", 1)}, "normalisation="),
    "a range of one number": ({"value_range": 5}, "value_range=5"),
    "a range that falls": ({"value_range": (5, 3)}, "value_range="),
    "classes in one text": ({"classes": "ab"}, "classes='ab'"),
    "classes as a number": ({"classes": 5}, "classes=5"),
    "a number of classes as text": ({"num_classes": "2"}, "num_classes='2'"),
    "another number of classes": ({"num_classes": 3}, "2 classes, 3"),
    "a device that is not there": ({"device": "cuda:63"}, "would work"),
    "a device without a name": ({"device": "gpu"}, "gpu"),
    "a device as a fraction": ({"device": 1.5}, "1.5"),
    "8 bits of floats": ({"amp": "fp8"}, "fp8"),
}


def one_class():
    """A net with one class, of another library: a UNet refuses to be one."""
    net = nn.Conv2d(1, 1, 1)
    net.num_classes, net.padding = 1, 1
    return net


NETS = {
    "a name for a net": ("run", "str"),
    "the class of a net": (type(thin_net()), "type"),
    "a function for a net": (lambda x: x, "function"),
    "a net of another library": (nn.Conv2d(1, 2, 1), "Adapter"),
    "a net with one class": (one_class(), "background|Adapter"),
    "an average of views": (Averaged(thin_net()), "Averaged|Adapter"),
}
TILED = {
    "tiles of nothing": (lambda: predict_tiled(None, FLOATS), "NoneType"),
    "tiles of a Predictor": (
        lambda: predict_tiled(Predictor(thin_net()), FLOATS),
        ".model",
    ),
    "tiles of a function": (
        lambda: predict_blended(lambda x: x, FLOATS, 16, 0),
        "function",
    ),
    "a tile of a fraction": (lambda: predict_tiled(thin_net(), FLOATS, 20.5), "20.5"),
    "a batch of a fraction": (
        lambda: predict_tiled(thin_net(), FLOATS, 20, 1.5),
        "batch_size|1.5",
    ),
    "a blended tile of a fraction": (
        lambda: predict_blended(thin_net(padding=1), FLOATS, 16.5, 0),
        "16.5",
    ),
    "tiles of bytes": (lambda: predict_tiled(thin_net(), GREY), "uint8|mean_and_std"),
    "tiles of an image with a mask": (
        lambda: predict_tiled(thin_net(), np.ma.masked_less(FLOATS, 0)),
        "filled",
    ),
    "tiles of a file": (lambda: predict_tiled(thin_net(), "a.png"), "str"),
    "a slide of nothing": (lambda: slide(None), "NoneType"),
    "a slide of five axes": (lambda: slide(np.zeros((1, 1, 1, 9, 9))), "shape"),
    "a slide without pixels": (lambda: slide(np.zeros((0, 9))), "(0, 9)"),
    "a slide of objects": (lambda: slide(GREY.astype(object)), "object"),
    "a slide of complex numbers": (lambda: slide(GREY + 0j), "complex"),
    "a slide with a mask": (lambda: slide(np.ma.masked_less(GREY, 9)), "mask"),
    "a slide for labels that cannot be written": (
        lambda: slide(GREY, np.broadcast_to(np.uint8(0), (20, 30))),
        "read-only",
    ),
    "labels of an image": (lambda: labels_at(np.zeros((4, 4))), "(4, 4)"),
    "labels of a tensor": (lambda: labels_at(torch.rand(2, 4, 4)), "Tensor|numpy"),
    "a threshold in percent": (lambda: labels_at(np.zeros((2, 4, 4)), 50), "50"),
    "a threshold as text": (lambda: labels_at(np.zeros((2, 4, 4)), "a"), "'a'"),
    "a label map into a list": (lambda: label_map(thin_net(), GREY, [1]), "list"),
    "a label map of a stack": (
        lambda: label_map(thin_net(), np.zeros((3, 9, 9))),
        "3 images|Predictor",
    ),
    "probabilities of another rule": (
        lambda: class_probabilities(thin_net(), GREY, normalisation="x"),
        "normalisation='x'",
    ),
    "probabilities at one number": (
        lambda: class_probabilities(thin_net(), GREY, size=5),
        "size=5",
    ),
    "no file to load": (lambda: Predictor.load(None), "NoneType"),
    "a net to load": (lambda: Predictor.load(thin_net()), "UNet|Predictor(net)"),
    "a wrong keyword before the file": (
        lambda: Predictor.load("nowhere", view=8),
        "view|views",
    ),
    "an adapter of nothing": (lambda: Adapter(None, 1, 2), "NoneType"),
    "an adapter of no channels": (
        lambda: Adapter(thin_net(), 0, 2),
        "in_channels is 0",
    ),
}
FINE = {
    "a view upside down": lambda: ask(GREY[::-1]),
    "a view that is mirrored": lambda: ask3(COLOUR[:, ::-1]),
    "an array that is read-only": lambda: ask(np.broadcast_to(np.uint8(3), (20, 30))),
    "an array in the order of Fortran": lambda: ask(np.asfortranarray(GREY)),
    "an array that is not contiguous": lambda: ask(COLOUR[..., 1]),
    "bytes in another order": lambda: ask(GREY.astype(">u2")),
    "halves": lambda: ask((GREY * 257.0 - 32767).astype(np.float16)),
    "integers of 64 bits": lambda: ask(GREY.astype(np.uint64) << 50),
    "a constant image": lambda: ask(np.full((20, 30), 7)),
    "rows of numbers": lambda: ask(GREY.tolist()),
    "a tensor": lambda: ask3(torch.tensor(COLOUR).permute(2, 0, 1)),
    "a tensor with gradients": lambda: ask(torch.rand(1, 20, 30, requires_grad=True)),
    "a tensor of bfloat16": lambda: ask(torch.rand(20, 30).bfloat16()),
    "a stack of tensors": lambda: ask(torch.rand(3, 1, 20, 30)),
    "a tuple of images": lambda: ask((GREY, GREY)),
    "an image with a palette": lambda: ask3(Image.fromarray(GREY).convert("P")),
    "a bitmap": lambda: ask(Image.fromarray(GREY).convert("1")),
}
CASES: dict[str, Callable[[Path], None]] = {
    **{name: refused(says_, lambda x=x: ask(x)) for name, (x, says_) in ARRAYS.items()},
    **{
        name: refused(says_, lambda x=x, axes=axes: ask3(x, axes))
        for name, (x, axes, says_) in COLOURS.items()
    },
    **{
        name: refused(says_, lambda options=options: ask(GREY, **options))
        for name, (options, says_) in OPTIONS.items()
    },
    **{
        name: refused(says_, lambda net=net: Predictor(net))
        for name, (net, says_) in NETS.items()
    },
    **{name: refused(says_, call) for name, (call, says_) in TILED.items()},
    **{name: answered(call) for name, call in FINE.items()},
    "a net that fails in a tile": stays(lambda net: predict_tiled(net, FLOATS, 6), 0),
    "a net that fails in a blended tile": stays(
        lambda net: predict_blended(net, FLOATS, 16, 0), 1
    ),
    "a net that fails in a slide": stays(
        lambda net: predict_slide(net, GREY, np.zeros((20, 30), np.uint8), 6), 0
    ),
    "a net that fails about an image": stays(
        lambda net: class_probabilities(net, GREY), 1
    ),
    "tiles that somebody stops looking at": looked_at_only_once,
    "labels of a stack of probabilities": stack_of_probabilities,
    "heights in metres": in_other_units(1e-9),
    "very small numbers": in_other_units(1e-150),
    "very large numbers": in_other_units(1e140),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_answered(name, tmp_path):
    CASES[name](tmp_path)
