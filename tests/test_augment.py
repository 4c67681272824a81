"""The elastic grid on tensors: the arrows, the field, fetching, one field for all."""

import numpy as np
import pytest
import torch
from samples import ramps

from unet_tutorial.augment import (
    control_displacements,
    displacement_field,
    elastic_deform,
    warp,
)

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def seeded(seed=0):  # torch.Generator
    return torch.Generator().manual_seed(seed)


# The grid and the field


@pytest.mark.parametrize(("std", "grid"), [(10.0, 3), (4, 5), (0.5, 2)])
def test_control_displacements_have_the_stated_deviation(std, grid):
    draws = control_displacements(std, grid, batch=4000, generator=seeded())
    assert draws.shape == (4000, 2, grid, grid)
    assert abs(draws.mean()) < 0.02 * std
    assert abs(draws.std() - std) < 0.02 * std
    assert ((draws.std(0) - std).abs() < 0.06 * std).all()
    standard = (draws / std).double()  # a Gaussian: 68.3 % within one deviation
    assert abs((standard.abs() < 1).double().mean() - 0.683) < 0.01
    assert abs((standard.abs() < 2).double().mean() - 0.954) < 0.01


def test_arrows_are_independent_of_each_other():
    draws = control_displacements(1, 3, batch=4000, generator=seeded()).flatten(1)
    apart = torch.corrcoef(draws.T) - torch.eye(18)
    assert apart.abs().max() < 0.07


@pytest.mark.parametrize("grid", [2, 3, 5])
def test_the_field_passes_through_the_grid(grid):
    control = control_displacements(10, grid, batch=2, generator=seeded())
    field = displacement_field(control, (40 * (grid - 1) + 1, 16 * (grid - 1) + 1))
    assert torch.allclose(field[..., ::40, ::16], control, atol=1e-3)


def cubic(distance):  # weight of cubic convolution, a = -0.75
    near, a = np.abs(distance), -0.75
    inner = (a + 2) * near**3 - (a + 3) * near**2 + 1
    outer = a * (near**3 - 5 * near**2 + 8 * near - 4)
    return np.where(near <= 1, inner, np.where(near < 2, outer, 0))


def test_the_field_is_bicubic_by_definition():
    """Between the points: sixteen neighbours, those outside repeat the outermost."""
    control = control_displacements(10, 3, generator=seeded())
    sides = [np.linspace(0, 2, n)[:, None] for n in (23, 40)]
    beyond = np.pad(np.eye(3), [(2, 2), (0, 0)], mode="edge")  # points -2 to 4
    down, across = (cubic(side - np.arange(-2, 5)) @ beyond for side in sides)
    wanted = down @ control[0].double().numpy() @ across.T
    found = displacement_field(control, (23, 40))[0].numpy()
    assert np.abs(found - wanted).max() < 1e-3


def test_equal_arrows_shift_the_image():
    control = torch.tensor([3.0, -2.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    field = displacement_field(control, (20, 30))
    x = torch.rand(1, 1, 20, 30)
    moved = warp(x, field)
    assert torch.allclose(moved[..., :17, 2:], x[..., 3:, :-2], atol=1e-4)


def test_what_lies_outside_is_the_mirror_image():
    """The border pixel is not repeated, and it goes on again and again."""
    x = torch.rand(1, 1, 6, 9)
    field = torch.zeros(1, 2, 6, 9)
    field[:, 0], field[:, 1] = -14, 20
    wide = np.pad(x[0, 0].numpy(), [(14, 0), (0, 20)], mode="reflect")
    assert np.allclose(warp(x, field)[0, 0], wide[:6, 20:], atol=1e-4)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_warp_is_that_of_scipy(mode):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(1, 1, 40, 50, dtype=torch.float64)
    control = control_displacements(6, 3, generator=seeded()).double()
    field = displacement_field(control, (40, 50))
    places = np.indices((40, 50)) + field[0].numpy()
    wanted = ndimage.map_coordinates(x[0, 0].numpy(), places, order=1, mode="mirror")
    found = warp(x, field, mode)[0, 0].numpy()
    assert np.abs(found - wanted).max() < (1e-9 if mode == "bilinear" else 0.5)
    assert mode == "bilinear" or np.abs(found - wanted).mean() < 0.06


# Image, labels and weights together


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(64, 64), (97, 200), (2, 31), (572, 572)])
def test_image_labels_and_weights_stay_aligned(size, device):
    image, label = (x.to(device) for x in ramps(*size))
    how = {"std": 15, "generator": seeded(1), "weights": image[0]}
    moved, named, weights = elastic_deform(image, label, **how)
    places = torch.stack([named // size[1], named % size[1]])
    assert (moved - places).abs().max() < 0.502
    assert torch.equal(weights, moved[0])
    assert moved.device == named.device == weights.device == image.device
    assert (moved - image).abs().max() > min(1, size[0] / 4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grid", [2, 3, 7])
def test_zero_deviation_is_the_identity(grid, device):
    image = torch.rand(2, 3, 301, 200, device=device)
    label = torch.randint(0, 2**24, (2, 301, 200), device=device)
    same, same_label = elastic_deform(image, label, std=0, grid=grid)
    assert (same - image).abs().max() < 1e-4
    assert torch.equal(same_label, label)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64]
)
def test_labels_stay_in_their_set_and_keep_their_type(dtype):
    values = torch.tensor([0, 1] if dtype == torch.bool else [0, 3, 7, 100])
    label = values[torch.randint(len(values), (4, 80, 90))].to(dtype)
    _, bent = elastic_deform(torch.rand(4, 1, 80, 90), label, generator=seeded())
    assert bent.dtype == dtype and bent.shape == label.shape
    assert set(bent.unique().tolist()) <= set(label.unique().tolist())


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_pixels_that_nobody_annotated_survive(dtype):
    label = torch.full((80, 90), -100, dtype=dtype)
    label[:, 45:] = 3
    _, bent = elastic_deform(torch.rand(1, 80, 90), label, generator=seeded())
    assert bent.dtype == dtype and set(bent.unique().tolist()) == {-100, 3}
    assert not torch.equal(bent, label)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32])
def test_labels_of_unsigned_types(dtype):
    label = torch.full((40, 50), 60_000)
    label[:20] = 0
    _, bent = elastic_deform(torch.rand(1, 40, 50), label.to(dtype))
    assert bent.dtype == dtype and set(bent.long().unique().tolist()) == {0, 60_000}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_keep_their_type_and_their_places(dtype):
    """In half precision the places must still be exact to a fraction of a pixel."""
    image, label = torch.rand(1, 400, 400), torch.zeros(400, 400).long()
    wanted, _ = elastic_deform(image, label, generator=seeded())
    found, _ = elastic_deform(image.to(dtype), label, generator=seeded())
    assert found.dtype == dtype
    assert (found.float() - wanted).abs().max() < 0.01


def test_grey_values_stay_in_their_range_unless_bicubic():
    image, label = torch.rand(1, 1, 64, 64).round(), torch.zeros(1, 64, 64).long()
    plain, _ = elastic_deform(image, label, generator=seeded())
    cubic, _ = elastic_deform(image, label, generator=seeded(), interpolation="bicubic")
    assert 0 <= plain.min() and plain.max() <= 1
    assert cubic.max() > 1 and not torch.equal(plain, cubic)


def test_a_batch_is_its_images_one_by_one():
    images, labels = torch.rand(3, 2, 50, 60), torch.randint(0, 5, (3, 50, 60))
    weights = torch.rand(3, 50, 60)
    how = {"generator": seeded(3)}
    batch = elastic_deform(images, labels, **how, weights=weights)
    how = {"generator": seeded(3)}
    single = [
        elastic_deform(x, y, **how, weights=w)
        for x, y, w in zip(images, labels, weights, strict=True)
    ]
    for found, *wanted in zip(batch, *single, strict=True):
        assert torch.equal(found, torch.stack(wanted))
    assert not torch.equal(batch[1][0], elastic_deform(images[0], labels[0])[1])


def test_the_generator_decides_alone():
    image, label = ramps(60, 60)
    first = elastic_deform(image, label, generator=seeded(5))
    torch.manual_seed(1)
    again = elastic_deform(image, label, generator=seeded(5))
    other = elastic_deform(image, label, generator=seeded(6))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    torch.manual_seed(2)
    one = elastic_deform(image, label)[1]
    torch.manual_seed(2)
    assert torch.equal(one, elastic_deform(image, label)[1])


def test_the_input_is_left_alone():
    image, label = ramps(40, 40)
    kept = image.clone(), label.clone()
    elastic_deform(image, label)
    assert torch.equal(image, kept[0]) and torch.equal(label, kept[1])


def test_not_contiguous_and_with_a_gradient():
    image, label = torch.rand(40, 50, 3).permute(2, 0, 1), torch.ones(50, 40).long().T
    image.requires_grad_(True)
    bent, _ = elastic_deform(image, label, generator=seeded())
    bent.sum().backward()
    assert bent.shape == (3, 40, 50)


# Bad input

IMAGE, LABEL = torch.zeros(1, 8, 8), torch.zeros(8, 8).long()
NAN = IMAGE.clone()
NAN[0, 2, 3] = float("nan")
BAD = {
    "an array": ((IMAGE.numpy(), LABEL), {}, r"image is ndarray: .*as_tensor"),
    "no label": ((IMAGE, None), {}, r"label is NoneType: give"),
    "whole grey values": (
        (IMAGE.byte(), LABEL),
        {},
        r"image is torch.uint8.*float\(\)",
    ),
    "labels of floats": (
        (IMAGE, LABEL.float()),
        {},
        r"label is torch.float32.*long\(\)",
    ),
    "complex labels": ((IMAGE, LABEL + 0j), {}, r"label is torch.complex64.*long\(\)"),
    "(H, W)": ((IMAGE[0], LABEL), {}, r"image \(8, 8\).*\(C, H, W\).*image\[None\]"),
    "no image": ((IMAGE[None, :0], LABEL[None]), {}, r"\(1, 0, 8, 8\).*give"),
    "one row": ((IMAGE[:, :1], LABEL[:1]), {}, r"image \(1, 1, 8\)"),
    "a batch and one": ((IMAGE[None], LABEL), {}, r"\(1, 1, 8, 8\), label \(8, 8\)"),
    "a label with C": ((IMAGE, LABEL[None]), {}, r"\(1, 8, 8\), label \(1, 8, 8\)"),
    "the middle": ((IMAGE, LABEL[1:-1, 1:-1]), {}, r"label \(6, 6\).*Bend first"),
    "weights of a size": ((IMAGE, LABEL), {"weights": IMAGE}, r"weights \(1, 8, 8\)"),
    "whole weights": ((IMAGE, LABEL), {"weights": LABEL}, r"weights is torch.int64"),
    "NaN": ((NAN, LABEL), {}, r"image holds NaN.* 1 times in 64.*nan_to_num\(image\)"),
    "infinity": ((IMAGE, LABEL), {"weights": 1 / IMAGE[0]}, r"weights holds .* 64 "),
    "too small": ((IMAGE, LABEL - 2**24), {}, r"holds -16777216 to .*within 2\*\*24"),
    "too large": ((IMAGE, LABEL + 2**24), {}, r"16777216 to 16777216: give whole"),
    "another device": ((IMAGE, LABEL.to("meta")), {}, r"label is on meta.*cpu"),
    "deviation": ((IMAGE, LABEL), {"std": -1}, r"std=-1: give pixels, 0 or more"),
    "NaN deviation": ((IMAGE, LABEL), {"std": float("nan")}, r"std=nan: give"),
    "text deviation": ((IMAGE, LABEL), {"std": "10"}, r"std='10': give"),
    "a grid of one": ((IMAGE, LABEL), {"grid": 1}, r"grid=1: give an integer from 2"),
    "half a grid": ((IMAGE, LABEL), {"grid": 2.5}, r"grid=2.5: give an integer"),
    "a seed": ((IMAGE, LABEL), {"generator": 0}, r"generator is 0: give a torch.Gen"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_says_what_was_got_and_what_would_work(case):
    inputs, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        elastic_deform(*inputs, **options)


def test_a_field_of_another_size():
    with pytest.raises(ValueError, match=r"\(9, 9\), the rest \(8, 8\)"):
        warp(IMAGE[None], torch.zeros(1, 2, 9, 9))


def test_numbers_of_numpy_are_numbers():
    drawn = control_displacements(np.float32(3), np.int64(4), generator=seeded())
    assert torch.equal(drawn, control_displacements(3.0, 4, generator=seeded()))


# On a device


@pytest.mark.parametrize("generator", [None, seeded()])
def test_nothing_waits_for_a_device(generator):
    """Tensors on "meta" have no values: whoever asks for one gets an error."""
    image, label = torch.rand(2, 1, 30, 40), torch.ones(2, 30, 40).long()
    parts = [x.to("meta") for x in (image, label, image[:, 0])]
    bent = elastic_deform(*parts[:2], weights=parts[2], generator=generator)
    for before, after in zip(parts, bent, strict=True):
        assert after.device.type == "meta" and after.dtype == before.dtype
        assert after.shape == before.shape
