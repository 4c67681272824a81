"""The elastic grid among the transforms of albumentations, and two pipelines."""

import os
import pickle
import warnings

import albumentations as A
import numpy as np
import pytest
import torch
from samples import photo_and_mask, ramps

from unet_tutorial.augment import displacement_field, warp
from unet_tutorial.data.loader import reseed
from unet_tutorial.data.pipelines import (
    ElasticDeform,
    _similarity,
    car_pipeline,
    membrane_pipeline,
)
from unet_tutorial.synthetic import draw_membranes

# The transform


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


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_pixels_that_nobody_annotated_survive(dtype):
    image, label = np.zeros((80, 90), np.uint8), np.full((80, 90), -100, dtype)
    label[:, 45:] = 3
    out = ElasticDeform()(image=image, mask=label)
    assert out["mask"].dtype == dtype and set(np.unique(out["mask"])) == {-100, 3}
    if dtype != np.int64:
        out = membrane_pipeline()(image=image, mask=label)
        assert set(np.unique(out["mask"])) <= {-100, 3}


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
