"""Changes of tissue: one fetch, of the pixels that are wanted, and the old pictures."""

import csv
import json
import pickle
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import photo_and_mask, says

from unet_tutorial.augment import displacement_field, warp
from unet_tutorial.data.crops import Windows
from unet_tutorial.data.loader import Seeded, make_loader, reseed
from unet_tutorial.data.pipelines import _similarity, membrane_pipeline
from unet_tutorial.data.tissue import TissueChanges, _fold, change_window, draw_place
from unet_tutorial.synthetic import draw_membranes
from unet_tutorial.tiles import read_window

STRONG = TissueChanges(std=6, zoom=0.2, grey=0)


def slice_parts(size=120):
    image, truth = draw_membranes(size=size, seed=4)
    weights = np.indices(image.shape)[0].astype(np.float32)
    return [image[None], truth.astype(np.uint8), weights]


def by_parts(changes, parts, seed, corner, size, rim, margin):
    "The same change in four steps: cut, mirror, warp by a whole field, cut again."
    matrix, grid = draw_place(changes, np.random.default_rng(seed), size), changes.grid
    side = np.sign(np.linalg.det(matrix[:, [-2, -1], [-1, -2]]))
    matrix[1] *= side
    control = torch.tensor(matrix[None, :, :grid, :grid]).float()
    factor = matrix[0, -2, -1] + 1j * matrix[0, -1, -2]
    shift = matrix[:, -1, -1].reshape(2, 1, 1)
    turn = np.degrees(np.angle(factor)), abs(factor), shift
    field = displacement_field(control, size) + _similarity(size, *turn)
    found = []
    for number, part in enumerate(parts):
        part = read_window(part, *corner, *size)[..., :: int(side)].copy()
        x = torch.from_numpy(part).view(1, -1, *size)
        bent = warp(x.float() if number != 1 else x, field)[0].numpy()
        cut = rim + (margin if number else 0)
        bent = bent[..., cut : size[0] - cut, cut : size[1] - cut]
        found.append(bent if number == 0 else bent[0])
    places = field[0] + torch.stack(
        torch.meshgrid(*map(torch.arange, size), indexing="ij")
    )
    ends = torch.tensor(size).view(2, 1, 1) - 1
    known = ((places >= 0) & (places <= ends)).all(0).numpy()
    return found, known[rim : size[0] - rim, rim : size[1] - rim]


PLACES = {
    "whole": ((0, 0), (120, 120), 0, 0),
    "inside": ((20, 30), (60, 50), 10, 5),
    "over the border": ((-40, 70), (90, 80), 20, 3),
    "larger than the slice": ((-100, -60), (300, 260), 30, 20),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("place", PLACES)
def test_one_fetch_gives_what_four_steps_give(place, seed):
    parts, place = slice_parts(), PLACES[place]
    old, known = by_parts(STRONG, parts, seed, *place)
    rng = np.random.default_rng(seed)
    new = change_window(STRONG, parts, rng, *place)
    assert [part.shape for part in new] == [part.shape for part in old]
    assert [part.dtype for part in new] == [np.uint8, np.uint8, np.float32]
    margin = place[3]
    middle = known[margin : len(known) - margin, margin : known.shape[1] - margin]
    assert known.mean() > 0.5  # elsewhere the old way mirrors at the end of the rim
    assert np.abs(new[0] - old[0].astype(float))[0][known].max() < 0.6
    assert (new[1] != old[1])[middle].mean() < 0.001  # halves may be rounded either way
    assert np.abs(new[2] - old[2])[middle].max() < 0.01


def moments(pipeline, rounds=300):
    "Mean and deviation of where some pixels come from, and of the grey values."
    image = np.tile(np.linspace(60, 180, 96), (96, 1)).astype(np.uint8)
    number = np.arange(96 * 96, dtype=np.int32).reshape(96, 96)
    places, greys = [], []
    for seed in range(rounds):
        reseed(pipeline, seed)
        out = pipeline(image=image, mask=number)
        found = out["mask"][[48, 20, 70], [48, 30, 60]]
        places.append(np.concatenate(np.divmod(found, 96)))
        greys.append([out["image"].mean(), out["image"].std()])
    found = np.concatenate([places, greys], 1).astype(float)
    return found.mean(0), found.std(0)


def test_the_pictures_are_those_of_the_pipeline_in_distribution():
    options = {"std": 5, "zoom": 0.1, "grey": 0.3, "noise": 0.05}
    (mean, std), (mean2, std2) = (
        moments(make(**options)) for make in (membrane_pipeline, TissueChanges)
    )
    error = np.hypot(std, std2) / np.sqrt(300)
    assert (np.abs(mean - mean2) < 4 * error).all(), (mean, mean2, error)
    assert (np.abs(np.log(std / std2)) < 0.25).all(), (std, std2)


@pytest.mark.parametrize("size", [(1, 7), (2, 2), (5, 9)])
def test_places_are_folded_as_grid_sample_would(size):
    x = torch.rand(1, 1, *size)
    places = 7 * torch.rand(1, 20, 30, 2) - 3.5
    options = {"align_corners": True}
    far = torch.nn.functional.grid_sample(
        x, places, padding_mode="reflection", **options
    )
    near = torch.nn.functional.grid_sample(x, _fold(places), **options)
    assert _fold(places).abs().max() <= 1
    assert torch.allclose(far, near, atol=1e-4)
    assert torch.allclose(_fold(places + 400), _fold(places), atol=1e-4)


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.int32, np.int64])
def test_shape_and_type_stay(kind, colours):
    image, mask = photo_and_mask()
    image = image if colours else image[..., 0]
    out = TissueChanges()(image=image, mask=mask.astype(kind))
    assert out["image"].shape == image.shape and out["image"].dtype == np.uint8
    assert out["mask"].shape == mask.shape and out["mask"].dtype == kind
    assert set(np.unique(out["mask"])) == {0, 1}


def test_pixels_that_nobody_annotated_survive():
    label = np.full((80, 90), -100, np.int64)
    label[:, 45:] = 3
    out = TissueChanges()(image=np.zeros((80, 90), np.uint8), mask=label)
    assert set(np.unique(out["mask"])) == {-100, 3}


def test_nothing_changes_where_nothing_may():
    image, mask = photo_and_mask()
    still = TissueChanges(std=0, turn=0, shift=0, grey=0)
    found = set()
    for _ in range(8):
        out = still(image=image, mask=mask)
        mirrored = not np.array_equal(out["image"], image)
        step = -1 if mirrored else 1
        assert np.array_equal(out["image"], image[:, ::step])
        assert np.array_equal(out["mask"], mask[:, ::step])
        found.add(mirrored)
    assert found == {True, False}


def test_floats_from_0_to_1_become_the_same_picture_as_bytes():
    image = draw_membranes(size=64, seed=0)[0]
    one, two = TissueChanges(noise=0.02), TissueChanges(noise=0.02)
    found = one(image=np.float32(image / 255))["image"]
    assert found.dtype == np.float32
    assert np.abs(found - two(image=image)["image"] / 255).max() < 0.01


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16, int])
def test_images_that_brightness_would_ruin_are_refused(kind):
    image = draw_membranes(size=64, seed=0)[0].astype(kind)
    with pytest.raises(ValueError, match=says("image is", "uint8, or float32 from 0")):
        TissueChanges()(image=image)


def test_maps_of_another_size_are_refused():
    image, mask = photo_and_mask()
    with pytest.raises(ValueError, match=says("(3, 160, 240)", "(159, 240)", "maps")):
        TissueChanges()(image=image, mask=mask[1:])


@pytest.mark.parametrize("options", [{"std": -1}, {"grid": 1}])
def test_bad_settings_are_refused(options):
    with pytest.raises(ValueError, match="give"):
        TissueChanges(**options)


def test_a_generator_decides():
    image, mask = photo_and_mask()
    one, two = TissueChanges(), pickle.loads(pickle.dumps(TissueChanges(std=10)))
    reseed(one, 3, 4), reseed(two, 3, 4)
    for _ in range(3):
        a, b = (changes(image=image, mask=mask) for changes in (one, two))
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(one(image=image)["image"], a["image"])


# In windows


def windows(**options):
    parts = [slice_parts(90), slice_parts(100)]
    examples = [(image[0], *maps) for image, *maps in parts]
    return Windows(examples, 44, 8, 12, pipeline=TissueChanges(), **options)


def test_windows_have_their_middle_and_its_weights():
    for x, labels, weights in windows():
        assert x.shape == (1, 44, 44)
        assert labels.shape == weights.shape == (28, 28)
        assert labels.dtype == torch.int64 and weights.dtype == torch.float32


def test_labels_of_a_window_stay_on_their_pixels():
    truth = draw_membranes(size=160, seed=1)[1].astype(np.uint8)
    bent = Windows([(truth * 255, truth)], 48, 6, 40, pipeline=TissueChanges(grey=0))
    for x, labels in bent:
        middle = x[0, 6:-6, 6:-6]
        light = middle > (x.min() + x.max()) / 2
        assert (light == (labels > 0)).float().mean() > 0.97


def test_windows_depend_on_seed_epoch_and_index_in_any_worker():
    alone = make_loader(windows(), 3)
    helped = make_loader(windows(), 3, workers=2)
    seen = []
    for epoch in range(2):
        alone.set_epoch(epoch), helped.set_epoch(epoch)
        for one, two in zip(alone, helped, strict=True):
            assert all(map(torch.equal, one, two))
            seen.append(one[0].numpy().tobytes())
    assert len(set(seen)) == len(seen)
    other = windows(seed=1)
    assert not torch.equal(other[0][0], windows()[0][0])


def test_an_object_is_in_the_window_before_it_is_bent():
    labels = np.zeros((300, 300), np.uint8)
    labels[250, 40] = 1
    still = TissueChanges(std=0, turn=0, shift=0, grey=0)
    bent = Windows([(labels, labels)], 48, 8, 30, still, objects=1.0)
    assert all(found.sum() == 1 for _, found in bent)


class Photos(torch.utils.data.Dataset):
    def __init__(self, transform):
        self.transform, self.pair = transform, photo_and_mask()

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.transform(image=self.pair[0], mask=self.pair[1])["image"]


def test_seeded_takes_them():
    one, two = Seeded(Photos(TissueChanges())), Seeded(Photos(TissueChanges()))
    for index, data in product((2, 0, 2), (one, two)):
        _ = data[index]
    assert np.array_equal(one[1], two[1]) and not np.array_equal(one[1], one[2])


def test_albumentations_is_not_needed():
    code = "import sys; sys.modules['albumentations'] = None\n"
    code += "from unet_tutorial.data.tissue import TissueChanges\n"
    code += "import unet_tutorial.data.crops"
    subprocess.run([sys.executable, "-c", code], check=True)


ROOT = Path(__file__).parent.parent


def test_the_table_says_that_it_is_at_least_five_times_cheaper():
    with (ROOT / "results" / "augment.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["parts"] for row in rows] == ["image, labels", "image, labels, weights"]
    for row in rows:
        before, after = float(row["albumentations ms"]), float(row["tissue ms"])
        assert float(row["factor"]) >= 5 and float(row["factor as bytes"]) >= 5
        assert before / after == pytest.approx(float(row["factor"]), rel=0.3)
    book = json.loads((ROOT / "nbs/workshop/data/tissue.ipynb").read_text())
    text = " ".join(" ".join("".join(cell["source"]) for cell in book["cells"]).split())
    row = rows[1]
    assert f"{row['factor']} times less work" in text
    assert f"{row['tissue ms']} ms instead of {row['albumentations ms']}" in text


def test_the_table_has_the_bytes_that_travel():
    with (ROOT / "results" / "augment.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, weights in zip(rows, (0, 4), strict=True):
        floats = 4 * 572**2 + (8 + weights) * 388**2
        sent = 572**2 + 8 + (2 + weights) * 388**2
        found = float(row["MB floats"]), float(row["MB bytes"])
        assert found == pytest.approx((floats / 1e6, sent / 1e6), abs=0.006)
