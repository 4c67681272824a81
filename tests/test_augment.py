"""The elastic grid, its transform, and random numbers in worker processes."""

import multiprocessing
import os
import pickle
import warnings

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from unet_tutorial.augment import (
    control_displacements,
    displacement_field,
    elastic_deform,
    warp,
)
from unet_tutorial.data.datasets import find_carvana
from unet_tutorial.data.loader import Seeded, reseed
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.data.pipelines import (
    ElasticDeform,
    _similarity,
    car_pipeline,
    membrane_pipeline,
)
from unet_tutorial.synthetic import draw_cars, draw_membranes, write_carvana

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def seeded(seed=0):  # torch.Generator
    return torch.Generator().manual_seed(seed)


def ramps(height, width):  # image (2, H, W) of row and column, label of both
    rows, columns = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing="ij"
    )
    return torch.stack([rows, columns]).float(), rows * width + columns


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
    array = label.numpy()
    out = ElasticDeform()(image=np.zeros((80, 90), np.uint8), mask=array)
    assert set(np.unique(out["mask"])) == {-100, 3}
    if dtype != torch.int64:
        out = membrane_pipeline()(image=np.zeros((80, 90), np.uint8), mask=array)
        assert set(np.unique(out["mask"])) <= {-100, 3}


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


# The transform


def photo_and_mask():  # (160, 240, 3) uint8, (160, 240) uint8
    image, mask = draw_cars(angle=3, size=(160, 240), seed=2)
    return image, mask.astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("colours", [True, False])
def test_the_transform_bends_as_the_function_does(dtype, colours):
    image, mask = photo_and_mask()
    image = (image if colours else image[..., 0]).astype(dtype)
    transform = ElasticDeform(std=12, grid=4)
    transform.set_random_seed(9)
    out = transform(image=image, mask=mask)
    control = np.random.default_rng(9).normal(0, 12, (1, 2, 4, 4))
    field = displacement_field(torch.tensor(control).float(), (160, 240))
    x = torch.tensor(np.atleast_3d(image)).permute(2, 0, 1)[None].float()
    wanted = warp(x, field)[0].permute(1, 2, 0).numpy().reshape(image.shape)
    assert out["image"].dtype == dtype and out["mask"].dtype == np.uint8
    assert np.abs(out["image"] - wanted).max() <= (0.51 if dtype == np.uint8 else 1e-3)
    assert (
        out["mask"] == warp(torch.tensor(mask)[None, None], field)[0, 0].numpy()
    ).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.int64])
def test_masks_of_every_integer_type(dtype):
    image, mask = photo_and_mask()
    out = ElasticDeform()(image=image, mask=mask.astype(dtype), masks=[mask, mask])
    assert out["mask"].dtype == dtype and set(np.unique(out["mask"])) == {0, 1}
    assert all((one == out["mask"]).all() for one in out["masks"])


def test_a_weight_map_goes_along():
    pixels, mask = draw_membranes(size=128, seed=0)
    weights = np.indices((128, 128))[1].astype(np.float32)
    bend = A.Compose([ElasticDeform()], additional_targets={"weights": "mask"}, seed=1)
    image = weights.astype(np.float32)
    out = bend(image=image, mask=mask, weights=weights)
    assert np.array_equal(out["weights"], out["image"])
    assert "weights" in membrane_pipeline()(
        image=pixels, mask=mask.astype(np.uint8), weights=weights
    )


def test_zero_deviation_leaves_arrays_as_they_are():
    image, mask = photo_and_mask()
    out = ElasticDeform(std=0)(image=image, mask=mask)
    assert (out["image"] == image).all() and (out["mask"] == mask).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint16), r"uint16: give uint8"),
        (
            np.full((8, 8), np.nan, np.float32),
            r"float32: give uint8, or floats without",
        ),
    ],
)
def test_the_transform_refuses_bad_images(image, message):
    with pytest.raises(ValueError, match=message):
        ElasticDeform()(image=image)


def test_numbers_of_numpy_are_numbers():
    drawn = control_displacements(np.float32(3), np.int64(4), generator=seeded())
    assert torch.equal(drawn, control_displacements(3.0, 4, generator=seeded()))
    assert ElasticDeform(np.float64(3), np.uint8(4)).grid == 4


@pytest.mark.parametrize("options", [{"std": -1}, {"grid": 1}, {"grid": "3"}])
def test_the_transform_refuses_bad_settings(options):
    with pytest.raises(ValueError, match=r"give"):
        ElasticDeform(**options)


def test_pickled_and_saved_it_is_the_same():
    image, mask = photo_and_mask()
    reseed(pipeline := car_pipeline(), 4)
    copy = pickle.loads(pickle.dumps(pipeline))
    for _ in range(3):
        one, two = (t(image=image, mask=mask) for t in (pipeline, copy))
        assert (one["image"] == two["image"]).all()
        assert (one["mask"] == two["mask"]).all()
    saved = A.to_dict(A.Compose([ElasticDeform(std=7, grid=5, p=0.5)]))
    (loaded,) = A.from_dict(saved).transforms
    assert (loaded.std, loaded.grid, loaded.p) == (7, 5, 0.5)


def test_no_warnings_and_no_question_about_versions():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        membrane_pipeline(), car_pipeline(), ElasticDeform()
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


# The pipelines


@pytest.mark.parametrize("make", [membrane_pipeline, car_pipeline])
def test_pipelines_keep_shape_type_and_labels(make):
    image, mask = photo_and_mask()
    if make is membrane_pipeline:
        image = image[..., 0]
    reseed(pipeline := make(), 0)
    outs = [pipeline(image=image, mask=mask) for _ in range(12)]
    for out in outs:
        assert out["image"].shape == image.shape and out["image"].dtype == np.uint8
        assert out["mask"].shape == mask.shape and out["mask"].dtype == np.uint8
        assert set(np.unique(out["mask"])) <= {0, 1}
    assert len({out["image"].tobytes() for out in outs}) == 12


@pytest.mark.parametrize("make", [membrane_pipeline, car_pipeline])
def test_pipelines_keep_image_and_mask_aligned(make):
    """A bright disk on black must come out where its mask does."""
    ys, xs = np.mgrid[:160, :240]
    mask = ((ys - 80) ** 2 + (xs - 120) ** 2 < 40**2).astype(np.uint8)
    image = np.stack([mask * 200] * 3, axis=-1)
    reseed(pipeline := make(), 1)
    for _ in range(12):
        out = pipeline(image=image, mask=mask)
        grey = out["image"].mean(-1)
        bright = grey > (grey.min() + grey.max()) / 2
        assert (bright != out["mask"]).mean() < 0.01


@pytest.mark.parametrize("make", [membrane_pipeline, car_pipeline])
def test_no_black_comes_in_from_outside(make):
    white = np.full((96, 144, 3), 255, np.uint8)
    pipeline = make()
    light = A.RandomBrightnessContrast, A.ColorJitter
    kept = [t for t in pipeline.transforms if not isinstance(t, light)]
    assert len(kept) < len(pipeline.transforms)
    reseed(pipeline := A.Compose(kept), 0)
    for _ in range(30):
        out = pipeline(image=white, mask=np.ones((96, 144), np.uint8))
        assert out["mask"].all() and out["image"].min() > 200


def test_a_drawn_mask_of_booleans_is_taken_as_it_is():
    pixels, mask = draw_membranes(size=64, seed=0)
    one, two = membrane_pipeline(), membrane_pipeline()
    reseed(one, 3), reseed(two, 3)
    out = one(image=pixels, mask=mask)
    assert out["mask"].dtype == bool
    expected = two(image=pixels, mask=mask.astype(np.uint8))
    assert (out["mask"] == expected["mask"]).all()


PIXELS = draw_membranes(size=64, seed=0)[0]


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (PIXELS.astype(np.float32), "float32 from"),
        (np.float32((PIXELS - PIXELS.mean()) / PIXELS.std()), "float32 from -"),
        (np.full((8, 8), np.nan, np.float32), "float32 from nan"),
        (PIXELS / 255, "float64"),
        (np.float16(PIXELS / 255), "float16"),
        (PIXELS.astype(np.uint16), "uint16"),
        (PIXELS.astype(int), "int64"),
    ],
)
def test_images_that_brightness_would_ruin_are_refused(image, found):
    words = f"image is {found}.*uint8, or float32 from 0 to 1.*standardise afterwards"
    with pytest.raises(ValueError, match=words):
        membrane_pipeline()(image=image, mask=np.zeros(image.shape, np.uint8))


def test_floats_from_0_to_1_become_the_same_picture_as_bytes():
    one, two = membrane_pipeline(), membrane_pipeline()
    reseed(one, 5), reseed(two, 5)
    found = one(image=np.float32(PIXELS / 255))["image"]
    expected = two(image=PIXELS)["image"] / 255
    assert found.std() > 0.05 and np.abs(found - expected).max() < 0.02


def test_the_cars_get_each_of_the_three_relatives():
    bends = car_pipeline().transforms[2]
    kinds = {type(t).__name__ for t in bends.transforms}
    assert kinds == {"ElasticDeform", "ElasticTransform", "GridDistortion"}
    assert np.allclose(bends.transforms_ps, 1 / 3)


def displacement_of(transform, size):  # rms in pixels
    found = []
    for seed in range(8):
        transform.set_random_seed(seed)
        maps = transform.get_params_dependent_on_data({"shape": size}, {})
        found.append(((maps["map_x"] - np.indices(size)[1]) ** 2).mean())
    return np.mean(found) ** 0.5


def test_what_the_notebook_says_of_elastictransform():
    assert displacement_of(A.ElasticTransform(p=1), (256, 256)) < 0.05
    assert displacement_of(A.ElasticTransform(alpha=1000, sigma=25), (256, 256)) > 3
    ours = car_pipeline(std=3).transforms[2].transforms[1]
    assert 1.5 < displacement_of(ours, (160, 240)) < 4.5


# Random numbers


def test_one_seed_for_each_transform_makes_coins_fall_alike():
    """The defect of albumentations that reseed mends: else reseed may go."""
    corners = np.arange(4, dtype=np.uint8).reshape(2, 2)

    def outcomes(pipeline):
        return {int(pipeline(image=corners)["image"][0, 0]) for _ in range(200)}

    flips = A.Compose([A.HorizontalFlip(), A.VerticalFlip()], seed=0)
    assert len(outcomes(flips)) == 2
    reseed(flips, 0)
    assert len(outcomes(flips)) == 4


def test_reseed_reaches_nested_transforms_and_depends_on_the_whole_key():
    image, mask = photo_and_mask()
    pipeline = A.Compose([A.OneOf([ElasticDeform(), A.GridDistortion()], p=1)])

    def made(*key):
        reseed(pipeline, *key)
        return pipeline(image=image, mask=mask)["image"].tobytes()

    keys = [(0,), (1,), (0, 1), (1, 0), (0, 0, 1), (0, 1, 0)]
    assert len({made(*key) for key in keys}) == len(keys)
    assert [made(*key) for key in keys] == [made(*np.array(key)) for key in keys]


class Photos(Dataset):
    "Twelve times the same photo, and a note of how many threads OpenCV has."

    def __init__(self, transform):
        self.photo, self.transform = photo_and_mask(), transform

    def __len__(self):
        return 12

    def __getitem__(self, index):
        image, mask = self.photo
        out = self.transform(image=image, mask=mask)
        return index, out["image"], out["mask"], cv2.getNumThreads()


def items(data, workers, **how):  # list of (index, image, mask, threads)
    "What a loader hands out; a worker that hangs is an error after 30 seconds."
    how |= {"batch_size": None, "num_workers": workers}
    return list(DataLoader(data, timeout=30 if workers else 0, **how))


def digest(found):  # comparable
    return [
        (int(index), np.asarray(image).tobytes(), np.asarray(mask).tobytes())
        for index, image, mask, _ in found
    ]


def busy_pipeline():  # every relative, each time
    bends = [ElasticDeform(), A.ElasticTransform(p=1), A.GridDistortion(p=1)]
    return A.Compose([A.HorizontalFlip(), *bends, A.RandomBrightnessContrast()])


def fork():  # dict
    "Fork where there is fork: the case that has been reported to hang."
    methods = multiprocessing.get_all_start_methods()
    return {"multiprocessing_context": "fork"} if "fork" in methods else {}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_same_in_any_number_of_workers():
    cv2.setNumThreads(2)  # threads in the parent, as in a user's program
    try:
        data = Seeded(Photos(busy_pipeline()), seed=3)
        alone = items(data, 0)
        assert len({image for _, image, _ in digest(alone)}) == 12
        for workers in (1, 2, 3):
            assert digest(items(data, workers, **fork())) == digest(alone)
        assert {threads for *_, threads in items(data, 2, **fork())} <= {0, 1}
        assert digest(items(data, 0, sampler=[5, 2])) == [
            digest(alone)[5],
            digest(alone)[2],
        ]
    finally:
        cv2.setNumThreads(-1)


def test_without_it_workers_repeat_each_other():
    """The trap of the notebook: half of the variety is lost with two workers."""
    found = items(Photos(A.Compose([ElasticDeform()])), 2, **fork())
    assert len({image for _, image, _ in digest(found)}) == 6


def test_epochs_differ_and_reach_running_workers():
    data = Seeded(Photos(A.Compose([ElasticDeform()])), seed=3)
    how = {"batch_size": None, "num_workers": 2, "timeout": 30, **fork()}
    loader = DataLoader(data, persistent_workers=True, **how)
    first = digest(loader)
    assert digest(loader) == first
    data.set_epoch(1)
    second = digest(loader)
    assert len({*first, *second}) == 24
    other = Seeded(Photos(A.Compose([ElasticDeform()])), seed=4)
    assert digest([other[0]]) != digest([data[0]])


def test_seeded_travels_to_spawned_workers():
    data = Seeded(Photos(A.Compose([ElasticDeform()])), seed=3)
    how = {"multiprocessing_context": "spawn", "sampler": [4]}
    (found,) = digest(items(data, 1, **how))
    assert found == digest([data[4]])[0]


def test_seeded_wraps_the_pairs_of_notebook_10(tmp_path):
    pairs = find_carvana(write_carvana(tmp_path, cars=1, size=(64, 96)))
    data = Seeded(ImagePairs(pairs, (48, 72), transform=car_pipeline()), seed=1)
    alone, by_two = (
        list(DataLoader(data, 8, num_workers=workers, timeout=30 * workers, **how))
        for workers, how in [(0, {}), (2, fork())]
    )
    assert alone[0][0].shape == (8, 3, 48, 72) and len(alone) == 2
    for one, two in zip(alone, by_two, strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    still = ImagePairs(pairs, (48, 72))
    assert sum(torch.equal(data[i][0], still[i][0]) for i in range(16)) < 4


def test_seeded_says_what_it_needs():
    with pytest.raises(ValueError, match=r"TensorDataset has no `transform`.*give it"):
        Seeded(torch.utils.data.TensorDataset(torch.zeros(3)))
    subset = torch.utils.data.Subset(Photos(car_pipeline()), [3, 1])
    with pytest.raises(ValueError, match=r"Subset\(Seeded\(data\), indices\)"):
        Seeded(subset)
    for seed in (-1, 1.5, None, "0"):
        with pytest.raises(ValueError, match=f"seed={seed!r}: give an integer from 0"):
            Seeded(Photos(car_pipeline()), seed)
    right = torch.utils.data.Subset(Seeded(Photos(car_pipeline()), np.int64(3)), [3, 1])
    again = Seeded(Photos(car_pipeline()), 3)
    assert digest([right[0]]) == digest([again[3]])
    data = Seeded(Photos(A.Compose([])))
    assert data[-1][0] == 11
    with pytest.raises(IndexError):
        data[12]


@pytest.mark.parametrize("turn", [15, 180])
def test_a_small_turn_keeps_slices_upright(turn):
    rows, columns = np.mgrid[:64, :64]
    image = (2 * columns + rows).astype(np.uint8)  # brighter to the right, and down
    pipeline, seen = membrane_pipeline(std=0, turn=turn), []
    for seed in range(40):
        reseed(pipeline, seed)
        out = pipeline(image=image, mask=np.zeros_like(image))["image"].astype(float)
        down, right = (step[16:48, 16:48].mean() for step in np.gradient(out))
        seen.append(np.degrees(np.arctan2(down, abs(right))))  # mirrored or not
    least, most = min(seen), max(seen)
    assert (8 < least < 20 and 34 < most < 45) if turn == 15 else least < -60


def test_zoom_changes_the_length_of_each_side():
    rows, columns = np.mgrid[:64, :64]
    image = (2 * columns + rows).astype(np.uint8)
    pipeline, seen = membrane_pipeline(std=0, turn=0, zoom=0.15, grey=0), []
    for seed in range(40):
        reseed(pipeline, seed)
        out = pipeline(image=image, mask=np.zeros_like(image))["image"].astype(float)
        down, right = (step[16:48, 16:48].mean() for step in np.gradient(out))
        seen += [down, abs(right) / 2]
    assert 1 / 1.16 < min(seen) < 0.9 and 1.1 < max(seen) < 1 / 0.84


# Turning, resizing and shifting, along with the bending


def test_a_quarter_turn_is_that_of_torch():
    image = torch.rand(1, 3, 33, 33, dtype=torch.float64)
    field = _similarity((33, 33), 90, 1.0, np.zeros((2, 1, 1)))[None]
    assert torch.allclose(warp(image, field), torch.rot90(image, 1, (2, 3)), atol=1e-4)


def test_zoom_and_shift_move_places_as_said():
    field = _similarity((21, 41), 0, 1.5, np.reshape([3.0, -2.0], (2, 1, 1)))
    assert field.shape == (2, 21, 41) and field.dtype == torch.float32
    assert field[:, 10, 20].tolist() == [3, -2]  # the centre
    assert torch.allclose(field[0, :, 0], 3 + 0.5 * (torch.arange(21) - 10))
    assert torch.allclose(field[1, 0], -2 + 0.5 * (torch.arange(41) - 20))


def test_image_and_mask_get_the_same_turn_zoom_shift_and_bend():
    where, number = ramps(90, 120)
    image, mask = where.permute(1, 2, 0).numpy(), number.numpy()
    transform = ElasticDeform(std=5, turn=180, zoom=0.3, shift=0.1)
    pipeline, moved = A.Compose([transform]), []
    for seed in range(8):
        reseed(pipeline, seed)
        out = pipeline(image=image, mask=mask)
        places = np.stack([out["mask"] // 120, out["mask"] % 120], -1)
        assert np.abs(out["image"] - places).max() < 0.502
        moved.append(np.abs(out["image"] - image).mean())
    assert min(moved) > 1 and max(moved) > 20


def test_its_options_are_saved_with_it():
    saved = A.to_dict(A.Compose([ElasticDeform(turn=20, zoom=0.1, shift=0.2)]))
    (loaded,) = A.from_dict(saved).transforms
    assert (loaded.turn, loaded.zoom, loaded.shift) == (20, 0.1, 0.2)
