"""Whatever holds an image, and which of its axes is which."""

import numpy as np
import pytest
import torch
from PIL import Image
from samples import bytes_of, says, thin_net

from unet_tutorial.data.inputs import channels_first, take_images
from unet_tutorial.predict import Predictor, class_probabilities, label_map

READINGS = [  # shape, channels of the net, axes; how many images of (H, W), and kind
    ((9, 8), 1, None, 1, "one"),
    ((9, 8, 1), 1, None, 1, "one"),
    ((9, 8, 2), 2, None, 1, "one"),
    ((2, 9, 8), 2, None, 1, "one"),
    ((9, 8, 5), 5, None, 1, "one"),
    ((5, 9, 8), 5, None, 1, "one"),
    ((5, 9, 8), 1, None, 5, "stack"),
    ((2, 9, 8), 1, None, 2, "stack"),
    ((1, 9, 8), 1, None, 1, "stack"),
    ((5, 9, 8, 3), 3, None, 5, "stack"),
    ((5, 3, 9, 8), 3, None, 5, "stack"),
    ((5, 1, 9, 8), 1, None, 5, "stack"),
    ((5, 9, 8, 1), 1, None, 5, "stack"),
    ((8, 9), 1, "WH", 1, "one"),
    ((9, 8, 2), 2, "HWC", 1, "one"),
    ((3, 9, 3), 3, "CHW", 1, "one"),
    ((2, 9, 8), 2, "chw", 1, "one"),
    ((9, 8, 2), 1, "HWN", 2, "stack"),
    ((5, 9, 8), 1, "BHW", 5, "stack"),
    ((5, 9, 8, 3), 3, "NHWC", 5, "stack"),
]


@pytest.mark.parametrize("shape, channels, axes, count, kind", READINGS)
def test_the_channels_of_the_net_decide(shape, channels, axes, count, kind):
    array = np.random.default_rng(0).random(shape)
    images, found = take_images(array, channels, axes)
    assert found == kind and len(images) == count
    size = (9, 3) if axes == "CHW" else (9, 8)
    for image in images:
        assert channels_first(image, channels).shape == (channels, *size)


@pytest.mark.parametrize("shape, channels, axes, count, kind", READINGS)
def test_pixels_stay_where_they_are(shape, channels, axes, count, kind):
    array = np.random.default_rng(0).random(shape)
    images, _ = take_images(array, channels, axes)
    assert all(np.may_share_memory(image, array) for image in images)  # views
    assert sorted(np.ravel(images)) == sorted(array.ravel())


REFUSED = [
    ((50, 70, 2), 1, None, "2 channels"),
    ((50, 70, 4), 1, None, "4 channels"),
    ((9, 8, 4), 3, None, "an axis of 3"),
    ((7, 9, 8), 3, None, "an axis of 3"),
    ((2, 9, 2), 2, None, 'axes="CHW"'),
    ((3, 3, 3), 3, None, 'axes="HWC"'),
    ((5, 3, 9, 3), 3, None, 'axes="NCHW"'),
    ((5, 9, 8, 2), 3, None, "2 channels"),
    ((9, 8), 1, "HWC", "one letter per axis"),
    ((9, 8), 1, "HQ", "one letter per axis"),
    ((9, 8, 2), 2, "HWCC", "one letter per axis"),
    ((), 1, None, "at least one pixel"),
    ((9,), 1, None, "at least one pixel"),
    ((0, 9), 1, None, "at least one pixel"),
]


@pytest.mark.parametrize("shape, channels, axes, words", REFUSED)
def test_what_the_channels_cannot_decide_is_refused(shape, channels, axes, words):
    with pytest.raises(ValueError, match=says(words, "would work")):
        take_images(np.ones(shape), channels, axes)


def test_a_grey_net_does_not_take_two_channels_for_fifty_images():
    ask = Predictor(thin_net())
    with pytest.raises(ValueError, match=says("(50, 70, 2)", "2 channels", "NHW")):
        ask(np.zeros((50, 70, 2)))
    assert ask(np.zeros((50, 70, 2)), axes="NHW").shape == (50, 70, 2)


def test_a_net_of_two_channels_takes_them_first_or_last():
    net, image = thin_net(in_channels=2), bytes_of(30, 40, 2)
    ask, first = Predictor(net), np.moveaxis(image, -1, 0)
    due = ask.probabilities(image)
    assert np.array_equal(ask.probabilities(first), due)
    assert np.array_equal(ask.probabilities(image.transpose(1, 0, 2), axes="WHC"), due)
    assert np.array_equal(ask(np.stack([first, first]))[1], ask(image))
    assert np.allclose(class_probabilities(net, first).numpy(), due, atol=1e-5)
    assert np.array_equal(label_map(net, image, axes="HWC"), ask(image))
    with pytest.raises(ValueError, match="1 channel, the net takes 2"):
        ask(image[..., 0])


# Tensors and lists


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_tensor_has_its_channels_first(channels):
    ask = Predictor(thin_net(in_channels=channels))
    image = bytes_of(30, 40, channels)
    due, x = ask.probabilities(image), torch.tensor(image).permute(2, 0, 1)
    assert np.array_equal(ask.probabilities(x), due)
    batch = torch.stack([x, x])
    assert np.array_equal(ask(batch)[1], ask(image))
    assert ask(batch[:1]).shape == (1, 30, 40)
    assert np.array_equal(ask(torch.tensor(image), axes="HWC"), ask(image))
    if channels == 1:
        assert np.array_equal(ask(x[0]), ask(image))


def test_a_square_tensor_is_no_riddle():
    ask = Predictor(thin_net(in_channels=3))
    assert ask(torch.rand(3, 3, 3)).shape == (3, 3)
    with pytest.raises(ValueError, match="40 channels, not 3"):
        ask(torch.rand(40, 30, 3))


def test_tensors_of_any_type():
    ask = Predictor(thin_net())
    x = torch.tensor(bytes_of(20, 30))[None]
    due = ask(x)
    for same in (x.float() / 255, x.double(), x.long(), x.float().requires_grad_()):
        assert (ask(same) == due).mean() > 0.999
    assert ask((x / 255).bfloat16()).shape == ask((x / 255).half()).shape == (20, 30)
    for wrong in (x > 3, x.to(torch.complex64), x[0].float().to_sparse()):
        with pytest.raises(TypeError, match="would work"):
            ask(wrong)


def test_lists_and_tuples():
    ask, image = Predictor(thin_net()), bytes_of(20, 30)
    due = ask(image)
    mixed = [image, torch.tensor(image), Image.fromarray(image), image.tolist()]
    for found in (ask(mixed), ask(tuple(mixed))):
        assert isinstance(found, list) and len(found) == 4
        assert all((one == due).mean() > 0.999 for one in found)
    assert (ask(image.tolist()) == due).mean() > 0.999  # rows of numbers: one image
    assert ask([]) == [] == ask(())
    with pytest.raises(ValueError, match="differ in length"):
        ask([[1, 2], [3]])
    with pytest.raises(ValueError, match="holds a stack of 3"):
        ask([np.zeros((3, 20, 30))])


def test_a_colour_image_three_pixels_high_is_one():
    ask = Predictor(thin_net(in_channels=3))
    assert ask(Image.fromarray(bytes_of(3, 9, 3))).shape == (3, 9)


# Numbers and layouts

LAYOUTS = {
    "upside down": lambda x: x[::-1].copy()[::-1],
    "mirrored": lambda x: x[:, ::-1].copy()[:, ::-1],
    "Fortran": np.asfortranarray,
    "every other": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "uint16": lambda x: x.astype(np.uint16),
    "other bytes": lambda x: x.astype(">u2"),
    "int64": lambda x: x.astype(np.int64) - 2**40,
    "uint64": lambda x: x.astype(np.uint64) * 2**50,
    "float16": lambda x: x.astype(np.float16),
    "large halves": lambda x: (x * 500.0 - 63_000).astype(np.float16),
    "long doubles": lambda x: x.astype(np.longdouble),
    "other floats": lambda x: x.astype(">f4"),
}


def frozen(x):
    x = x.copy()
    x.setflags(write=False)
    return x


@pytest.mark.parametrize("name", [*LAYOUTS, "read-only"])
def test_a_layout_changes_nothing(name):
    ask, image = Predictor(thin_net()), bytes_of(20, 30)
    odd = (LAYOUTS | {"read-only": frozen})[name](image)
    p = ask.probabilities(odd)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p, ask.probabilities(image), atol=2e-2)
