"""Changes of photographs: place, shape, light, colour, and no albumentations."""

import csv
import json
import pickle
import random
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from layers import ORDER
from samples import photo_and_mask, says
from test_package import BLOCKED

from unet_tutorial.data.crops import Windows
from unet_tutorial.data.loader import Seeded, make_loader, reseed
from unet_tutorial.data.photo_changes import PhotoChanges, colour_matrix
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.data.pipelines import car_pipeline
from unet_tutorial.data.tissue import TissueChanges, change_image, change_window
from unet_tutorial.runs import report
from unet_tutorial.runs.recipes import Augment, Net, read_recipe
from unet_tutorial.runs.run import resume_run, train_run
from unet_tutorial.synthetic import write_carvana

CHANGES = [PhotoChanges, TissueChanges]
STILL = {"std": 0, "turn": 0, "zoom": 0, "shift": 0}
DARK = {"light": 0, "hue": 0, "saturation": 0, "tint": 0}  # no change of colour

# Colour


@pytest.mark.parametrize("hue", [-170, -30, 0, 45, 120])
@pytest.mark.parametrize("saturation", [0, 0.5, 1, 1.4])
def test_greys_stay_and_turns_add_up(hue, saturation):
    matrix = colour_matrix(hue, saturation)
    assert np.allclose(matrix @ np.full(3, 0.3), 0.3)
    assert np.allclose(matrix.sum(0), 1)  # brightness stays
    if saturation:
        back = colour_matrix(-hue, 1 / saturation)
        assert np.allclose(back @ matrix, np.eye(3))
    assert np.allclose(colour_matrix(60) @ matrix, colour_matrix(60 + hue, saturation))


def test_every_part_of_the_light_is_in_the_picture():
    image = np.full((40, 60, 3), (90, 120, 150), np.uint8)
    image[:20] //= 2

    def spread(**options):
        changes = PhotoChanges(**STILL | DARK | options)
        seen = np.stack([changes(image=image)["image"] for _ in range(200)])
        return seen.std(0).max(), seen.astype(float)

    assert spread()[0] == 0
    for name, amount in {
        "light": 0.2,
        "hue": 90,
        "saturation": 0.3,
        "tint": 0.1,
    }.items():
        assert spread(**{name: amount})[0] > 2, name
    grey = image[..., :1].repeat(3, 2)
    only = PhotoChanges(**STILL | DARK | {"hue": 180, "saturation": 1})
    assert np.abs(only(image=grey)["image"].astype(int) - grey).max() <= 1


def moments(pipeline, rounds=300):
    "Mean and deviation of where pixels come from, and of the values."
    image = photo_and_mask()[0]
    image = np.ascontiguousarray(image[:96, :96])
    number = np.arange(96 * 96, dtype=np.int32).reshape(96, 96)
    found = []
    for seed in range(rounds):
        reseed(pipeline, seed)
        out = pipeline(image=image, mask=number)
        places = out["mask"][[48, 20, 70], [48, 30, 60]]
        light = out["image"].mean(), out["image"].std()
        found.append([*np.concatenate(np.divmod(places, 96)), *light])
    return np.mean(found, 0), np.std(found, 0)


def test_places_and_light_are_near_those_of_the_former_pipeline():
    """Not the same distribution: near enough to train with the same recipe."""
    (mean, std), (mean2, std2) = moments(car_pipeline()), moments(PhotoChanges())
    assert (np.abs(mean - mean2) < 6).all(), (mean, mean2)
    assert (np.abs(np.log(std / std2)) < 0.7).all(), (std, std2)


def test_about_a_share_of_the_images_is_bent():
    changes, rng = PhotoChanges(bent=0.3), np.random.default_rng(0)
    drawn = [changes.place(rng, (40, 60))[:, :3, :3].any() for _ in range(1000)]
    assert 0.25 < np.mean(drawn) < 0.35
    assert not PhotoChanges(bent=0).place(rng, (40, 60))[:, :3, :3].any()


# What stays


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_shape_and_type_stay_for_any_number_of_channels(channels, kind):
    rng = np.random.default_rng(0)
    shape = (40, 60) if channels is None else (40, 60, channels)
    image = rng.integers(0, 256, shape, np.uint8)
    image = image if kind == np.uint8 else (image / 255).astype(kind)
    labels, weights = np.uint8(rng.random((40, 60)) > 0.5), rng.random((40, 60))
    out = PhotoChanges()(image=image, mask=labels, weights=weights.astype(np.float32))
    assert out["image"].shape == shape and out["image"].dtype == kind
    assert out["mask"].dtype == np.uint8 and set(np.unique(out["mask"])) == {0, 1}
    assert out["weights"].dtype == np.float32 and out["weights"].shape == (40, 60)
    assert kind == np.uint8 or 0 <= out["image"].min() <= out["image"].max() <= 1


def test_floats_from_0_to_1_become_the_same_picture_as_bytes():
    image, _ = photo_and_mask()
    one, two = PhotoChanges(), PhotoChanges()
    found = one(image=np.float32(image / 255))["image"]
    assert np.abs(found - two(image=image)["image"] / 255).max() < 0.01


def test_nothing_changes_where_nothing_may():
    image, mask = photo_and_mask()
    still, found = PhotoChanges(**STILL | DARK), set()
    for _ in range(8):
        out = still(image=image, mask=mask)
        mirrored = not np.array_equal(out["image"], image)
        step = -1 if mirrored else 1
        assert np.array_equal(out["image"], image[:, ::step])
        assert np.array_equal(out["mask"], mask[:, ::step])
        found.add(mirrored)
    assert found == {True, False}


def test_the_border_of_the_labels_stays_on_the_car():
    _, mask = photo_and_mask()
    bent = PhotoChanges(**DARK, bent=0.99)
    for _ in range(10):
        out = bent(image=np.uint8(255 * mask), mask=np.uint8(mask))
        assert ((out["image"] > 127) == out["mask"]).mean() > 0.995


# Seeds


def test_a_generator_decides():
    image, mask = photo_and_mask()
    one, two = PhotoChanges(), pickle.loads(pickle.dumps(PhotoChanges(std=3)))
    reseed(one, 3, 4), reseed(two, 3, 4)
    for _ in range(3):
        a, b = (changes(image=image, mask=mask) for changes in (one, two))
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(one(image=image)["image"], a["image"])


class Drawn:  # a Source of three photographs
    instances, classes, channels, name = False, ("ground", "car"), 3, "drawn"

    def __len__(self):
        return 3

    def image(self, index, size):
        return photo_and_mask()[0][: size[0], : size[1]]

    def labels(self, index, size):
        return photo_and_mask()[1][: size[0], : size[1]].astype(np.uint8)


def test_any_worker_makes_the_same_and_each_epoch_others():
    def loader(workers):
        pairs = ImagePairs(Drawn(), (40, 60), transform=PhotoChanges(), as_bytes=True)
        return make_loader(Seeded(pairs, 1), 2, workers=workers)

    alone, helped, seen = loader(0), loader(2), []
    for epoch in range(2):
        alone.set_epoch(epoch), helped.set_epoch(epoch)
        for (x, y), (x2, y2) in zip(alone, helped, strict=True):
            assert torch.equal(x.pixels, x2.pixels) and torch.equal(y, y2)
            seen += [image.numpy().tobytes() for image in x.pixels]
    assert len(set(seen)) == len(seen) == 6


def test_windows_take_them_for_no_more_pixels_than_are_wanted():
    image, mask = photo_and_mask()
    example = image, np.uint8(mask), np.float32(mask)
    first, again = (
        Windows([example], 48, 8, 5, PhotoChanges(), as_bytes=True) for _ in range(2)
    )
    for one, two in zip(first, again, strict=True):
        assert one[0].pixels.shape == (3, 48, 48)
        assert one[1].shape == one[2].shape == (32, 32)
        assert torch.equal(one[0].pixels, two[0].pixels)


# Recipes


def test_recipes_name_every_amount_and_read_as_before():
    old = {"name": "photographs", "std": 2.0}
    assert Augment(**old).std == 2.0
    assert Augment("photographs", hue=90, tint=0).hue == 90
    with pytest.raises(ValueError, match=says("membranes", "does not take hue")):
        Augment("membranes", hue=90)
    assert read_recipe("modern").augment == Augment("auto")


# Wrong uses


@pytest.mark.parametrize("make", CHANGES)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *product(["std", "turn", "zoom", "shift"], [-1, float("nan"), "3", None]),
        *product(["zoom", "shift"], [1.5, float("inf")]),
        ("zoom", 1),
        ("grid", 1),
        ("grid", 2.5),
        ("turn", float("inf")),
    ],
)
def test_amounts_that_make_no_sense_are_refused(make, option, value):
    with pytest.raises(ValueError, match=rf"{option}=.*give"):
        make(**{option: value})


@pytest.mark.parametrize("option", ["bent", "light", "saturation", "tint"])
def test_shares_above_1_are_refused(option):
    with pytest.raises(ValueError, match=says(option, "from 0 to 1")):
        PhotoChanges(**{option: 1.01})


IMAGE = np.zeros((20, 30, 3), np.uint8)
MASK = np.zeros((20, 30), np.uint8)
WRONG = {
    "an image of torch": ({"image": torch.zeros(3, 20, 30)}, "array (H, W)"),
    "a list": ({"image": [[0, 1], [1, 0]]}, "array (H, W)"),
    "nothing": ({"image": None}, "array (H, W)"),
    "a batch": ({"image": IMAGE[None]}, "array (H, W)"),
    "a line": ({"image": IMAGE[0, :, 0]}, "array (H, W)"),
    "no pixel": ({"image": IMAGE[:0]}, "no pixel"),
    "no channel": ({"image": IMAGE[..., :0]}, "no pixel"),
    "texts": ({"image": IMAGE.astype(str)}, "numbers"),
    "complex": ({"image": IMAGE.astype(complex)}, "numbers"),
    "objects": ({"image": IMAGE.astype(object)}, "numbers"),
    "64-bit floats": ({"image": IMAGE / 255}, "float32 from 0 to 1"),
    "16-bit": ({"image": IMAGE.astype(np.uint16)}, "uint8"),
    "floats to 255": ({"image": np.full((9, 9), 255, np.float32)}, "from 0 to 1"),
    "NaN": ({"image": np.full((9, 9), np.nan, np.float32)}, "from 0 to 1"),
    "a mask of torch": ({"image": IMAGE, "mask": torch.zeros(20, 30)}, "arrays"),
    "no mask": ({"image": IMAGE, "mask": None}, "arrays"),
    "a smaller mask": ({"image": IMAGE, "mask": MASK[1:]}, "of its size"),
    "a mask in colour": ({"image": IMAGE, "mask": IMAGE}, "maps (H, W)"),
    "labels too large": ({"image": IMAGE, "mask": MASK + np.int64(2**24)}, "2**24"),
}


@pytest.mark.parametrize("make", CHANGES)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_images_and_maps_get_a_sentence(make, name):
    given, words = WRONG[name]
    with pytest.raises(ValueError, match=says(words)):
        make()(**given)


@pytest.mark.parametrize("make", CHANGES)
@pytest.mark.parametrize(
    "options", [{"std": 1e4}, {"std": 1e30}, {"std": 1e300}, {"zoom": 1 - 1e-9}]
)
def test_amounts_beyond_reason_end_and_stay_within_the_labels(make, options):
    changes = make(**options)
    for _ in range(5):
        out = changes(image=IMAGE + np.uint8(9), mask=MASK + np.uint8(3))
        assert out["image"].shape == IMAGE.shape and (out["mask"] == 3).all()


WINDOWS = {
    "a seed for a generator": ({"rng": 0}, "np.random.default_rng(0)"),
    "outside": ({"corner": (50, 0)}, "no pixel of an image"),
    "nothing left": ({"rim": 5, "margin": 5}, "nothing is left"),
}


@pytest.mark.parametrize("make", CHANGES)
@pytest.mark.parametrize("name", WINDOWS)
def test_wrong_windows_get_a_sentence(make, name):
    given, words = WINDOWS[name]
    options = {"rng": np.random.default_rng(0), "corner": (0, 0), "size": (20, 20)}
    with pytest.raises(ValueError, match=says(words)):
        change_window(make(), [IMAGE.transpose(2, 0, 1), MASK], **options | given)


def test_a_record_of_ones_own_may_change_images():
    class Negative:
        def place(self, rng, size):
            return TissueChanges(std=0, turn=0, shift=0).place(rng, size)

        def recolour(self, image, rng, white):
            return white - image

    out = change_image(Negative(), np.random.default_rng(0), IMAGE, {"mask": MASK})
    assert (out["image"] == 255).all() and (out["mask"] == 0).all()


# Without albumentations

TRAIN = """
from pathlib import Path
import importlib
for name in {modules}:
    importlib.import_module("unet_tutorial." + name)
from dataclasses import replace
import numpy as np
from PIL import Image
from unet_tutorial.runs.recipes import Net, read_recipe
from unet_tutorial.runs.run import train_run
from unet_tutorial.synthetic import draw_cells, write_carvana, write_isbi
net = Net(4, 2, 1, "batch", 0.0)
small = replace(read_recipe("modern"), net=net, tile=64, tiles=4, batch=2, amp=False)
write_carvana("carvana", cars=2, size=(64, 96))
write_isbi("isbi", slices=4, size=64)
for name in "images", "masks":
    Path("folder", name).mkdir(parents=True)
for seed in range(4):
    image, labels = draw_cells(size=64, seed=seed)
    for name, part in ("images", image), ("masks", np.uint8(255 * (labels > 0))):
        Image.fromarray(part).save(f"folder/{{name}}/{{seed}}.png")
for kind in "carvana", "isbi", "folder":
    size = (32, 48) if kind == "carvana" else None
    history = train_run(kind, kind, "run_" + kind, small, size=size, steps=3,
                        held_out=1, device="cpu")
    assert len(history["train_loss"]) > 0, history
    assert Path("run_" + kind, "best.safetensors").is_file()
try:
    import unet_tutorial.data.pipelines
except ImportError as error:
    assert 'pip install "unet_tutorial[course]"' in str(error), error
else:
    raise AssertionError("data.pipelines was imported without albumentations")
print("trained")
"""


def test_training_needs_no_albumentations(tmp_path):
    """All rooms but data.pipelines are imported, and three kinds of data trained on."""
    optional = ("data.pipelines", "data.transforms", "scale")
    modules = [name for name in ORDER if name not in optional]
    code = BLOCKED.format(names={"albumentations", "cv2", "torchvision"})
    code += TRAIN.format(modules=modules)
    root = Path(__file__).parent.parent
    environment = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "trained" in done.stdout


# Whatever else changes images


def flip(image, mask):
    return image[:, ::-1], mask[:, ::-1]


def flip_other_names(x, y):
    return [x[:, ::-1], y[:, ::-1]]


def flip_dict(mask, image):  # another order: by name
    return {"mask": mask[:, ::-1], "image": image[:, ::-1], "more": 1}


def flip_words(**parts):
    return {name: part[:, ::-1] for name, part in parts.items()}


@pytest.mark.parametrize("change", [flip, flip_other_names, flip_dict, flip_words])
def test_any_function_of_image_and_mask_is_a_transform(change):
    plain, data = (
        ImagePairs(Drawn(), (40, 60), transform=transform)[1]
        for transform in (None, change)
    )
    assert torch.allclose(data[0], plain[0].flip(-1), atol=1e-6)
    assert torch.equal(data[1], plain[1].flip(-1))
    image, mask = photo_and_mask()
    windows = Windows([(image, np.uint8(mask))], 48, 8, 3, change)
    assert [x.shape for x in windows[0]] == [(3, 48, 48), (32, 32)]


def test_weights_go_along_where_there_are_some():
    seen = []

    def look(image, mask, weights):
        seen.append((image.shape, mask.dtype, weights.dtype))
        return image, mask, weights

    image, mask = photo_and_mask()
    windows = Windows([(image, np.uint8(mask), np.float32(mask))], 48, 8, 3, look)
    assert len(windows[0]) == 3 and windows[0][2].shape == (32, 32)
    assert seen[0] == ((72, 72, 3), np.uint8, np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda image, mask: image,
        lambda image, mask: None,
        lambda image, mask: {"image": image},
        lambda image, mask: (image, mask[1:]),
        lambda image, mask: (image, mask, mask),
        lambda image, mask: [image, 3],
    ],
)
def test_what_a_transform_must_return_is_said(change):
    data = ImagePairs(Drawn(), (40, 60), transform=change)
    with pytest.raises(ValueError, match=says("returned", "image and mask")):
        data[0]


def test_a_transform_of_torchvision_is_not_passed_by_without_a_word():
    data = ImagePairs(Drawn(), (40, 60), transform=torch.nn.Identity())
    with pytest.raises(ValueError, match=says("takes tensors", "ForArrays")):
        data[0]


GLOBAL = np.random  # its generator of old


def noisy(image, mask):
    "Draws from all three global generators."
    kind = GLOBAL.randint(1, 20) + random.randrange(20) + int(torch.randint(20, ()))
    return np.roll(image, kind, 1), np.roll(mask, kind, 1)


def test_what_draws_globally_is_seeded_per_item_and_disturbs_nothing():
    def loader(workers):
        data = Seeded(ImagePairs(Drawn(), (40, 60), transform=noisy), 1)
        return make_loader(data, 2, workers=workers)

    alone, helped, seen = loader(0), loader(2), set()
    for epoch in range(2):
        alone.set_epoch(epoch), helped.set_epoch(epoch)
        torch.manual_seed(7), random.seed(7), GLOBAL.seed(7)
        for (x, y), (x2, y2) in zip(alone, helped, strict=True):
            assert torch.equal(x, x2) and torch.equal(y, y2)
            seen |= {image.numpy().tobytes() for image in x}
        found = torch.rand(()), random.random(), GLOBAL.random()
        torch.manual_seed(7), random.seed(7), GLOBAL.seed(7)
        assert found[1:] == (random.random(), GLOBAL.random())
    assert len(seen) > 3
    image, mask = photo_and_mask()
    first, again = (Windows([(image, np.uint8(mask))], 48, 8, 3, noisy) for _ in "ab")
    assert all(torch.equal(first[k][0], again[k][0]) for k in range(3))
    before = torch.get_rng_state()
    _ = first[0]
    assert torch.equal(before, torch.get_rng_state())


def test_prose_and_table_of_what_it_costs_agree():
    root = Path(__file__).parent.parent
    with (root / "results" / "augment_cars.csv").open() as file:
        small, large = csv.DictReader(file)
    book = json.loads((root / "nbs/workshop/data/photo_changes.ipynb").read_text())
    text = " ".join(" ".join("".join(cell["source"]) for cell in book["cells"]).split())
    assert f"{small['factor']} times as long as ours at {small['size']}" in text
    assert f"{large['factor']} times at {large['size']}" in text
    lowest = min(small["lowest"], large["lowest"])
    highest = max(small["highest"], large["highest"])
    assert f"went from {lowest} to {highest}" in text


# Runs


class Stop(Exception):
    pass


def stop(training, row):
    if training.step == 3:
        raise Stop


@pytest.fixture
def train_cars(tmp_path, monkeypatch):
    "Train on drawn cars for some steps; draw nothing."
    monkeypatch.setattr(report, "draw_run", lambda *args: b"")
    write_carvana(tmp_path / "cars", cars=2, size=(64, 96))
    net = Net(4, 2, 1, "batch", 0.0)
    options = {"tile": 64, "batch": 2, "amp": False, "accumulate": 1}
    small = replace(read_recipe("modern"), net=net, **options)

    how = {"size": (32, 48), "steps": 6, "held_out": 1, "device": "cpu"}

    def train(name, stopped=False, **values):
        more = {"report": stop, "save_every": 0, "workers": 1} if stopped else {}
        given = "carvana", tmp_path / "cars", tmp_path / name, replace(small, **values)
        with pytest.raises(Stop) if stopped else nullcontext():
            train_run(*given, **how, **more)

    return train


def test_a_run_on_photographs_goes_on_exactly(tmp_path, train_cars):
    train_cars("whole"), train_cars("parts", stopped=True)
    resume_run(tmp_path / "parts", device="cpu")
    for name in ("last.safetensors", "history.csv"):
        one, two = (tmp_path / run / name for run in ("whole", "parts"))
        assert one.read_bytes() == two.read_bytes(), name


def test_a_plan_that_an_older_version_wrote_goes_on(tmp_path, train_cars):
    train_cars("old", True, augment=Augment("photographs", std=3.0))
    path = tmp_path / "old" / "recipe.json"
    values = json.loads(path.read_text())
    values["recipe"]["augment"] = {"name": "photographs", "std": 3.0}
    path.write_text(json.dumps(values))
    history = resume_run(tmp_path / "old", device="cpu")
    assert len(history["train_loss"]) >= 1
