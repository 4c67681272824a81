"Every kind of file of the atlas is read right, or refused with its remedy."

import atlas
import numpy as np
import pytest
import readable
from PIL import Image

from unet_tutorial.data.check import check_pairs
from unet_tutorial.data.images import (
    SUFFIXES,
    as_images,
    read_image,
    read_labels,
    read_mask,
)

NAMES = [f"{number:03} {kind.name}" for number, kind in enumerate(atlas.KINDS)]


def holds(error, words):
    "Assert that a sentence of refusal holds these words."
    text = str(error)
    missing = [word for word in words if word.lower() not in text.lower()]
    assert not missing, f"{missing} not in: {text}"


def known(options, *names):
    return {name: value for name, value in options.items() if name in names}


def is_words(outcome):
    return isinstance(outcome, tuple)


def answer(read, *paths, **options):
    "What a reader returns, or the error by which it refuses."
    try:
        return read(*paths, **options)
    except (ValueError, OSError) as error:
        return error


def test_image(kind, path):
    "Prediction reads it by `as_images`, training by `read_image`."
    options = known(kind.options, "channels", "axes", "channel")
    found = answer(as_images, path, **options)
    trained = answer(read_image, path, **kind.options)
    if is_words(kind.outcome):
        for error in (found, trained):
            assert isinstance(error, Exception), f"read as {np.shape(error)}"
            holds(error, kind.outcome)
        return
    for error in (found, trained):
        if isinstance(error, Exception):
            raise error
    images, stack = found
    assert not stack and len(images) == 1
    if isinstance(kind.outcome, str):
        seen = np.atleast_3d(np.int32(images[0])).mean(axis=2)
        assert abs(seen - atlas.GREY).max() < 40
        return
    assert images[0].dtype == kind.outcome.dtype
    np.testing.assert_array_equal(images[0], kind.outcome)
    low, high = kind.options.get("value_range", (0, 255))
    scaled = 255 * (kind.outcome.astype(float) - low) / (high - low)
    assert trained.dtype == np.uint8 and trained.shape == kind.outcome.shape
    assert abs(trained - scaled.clip(0, 255)).max() <= 0.51


def test_stack(kind, path):
    options = known(kind.options, "channels", "axes", "channel")
    found = answer(as_images, path, **options)
    trained = answer(read_image, path, **kind.options)
    assert isinstance(trained, Exception), "training took one of its pages"
    if is_words(kind.outcome):
        assert isinstance(found, Exception), f"read as {np.shape(found[0])}"
        return holds(found, kind.outcome)
    if isinstance(found, Exception):
        raise found
    assert found[1] and len(found[0]) == len(kind.outcome)
    np.testing.assert_array_equal(np.stack(found[0]), np.stack(kind.outcome))


def test_truth(kind, path):
    read = read_mask if kind.use == "mask" else read_labels
    found = answer(read, path, **kind.options)
    if is_words(kind.outcome):
        assert isinstance(found, Exception), f"read as {np.unique(found)}"
        return holds(found, kind.outcome)
    if isinstance(found, Exception):
        raise found
    np.testing.assert_array_equal(found, kind.outcome)
    small = read(path, (12, 16), **kind.options)
    assert set(np.unique(small)) <= set(np.unique(kind.outcome))


READ = {"image": test_image, "stack": test_stack, "mask": test_truth}
READ["labels"] = test_truth
for function in set(READ.values()):
    function.__test__ = False


@pytest.mark.parametrize("kind", atlas.KINDS, ids=NAMES)
def test_the_atlas(kind, tmp_path, capfd):
    READ[kind.use](kind, atlas.make(kind, tmp_path))
    assert capfd.readouterr() == ("", "")  # a library in C prints nothing beside it


TRUTHS = [kind for kind in atlas.KINDS if kind.use in ("mask", "labels")]


@pytest.mark.parametrize("kind", TRUTHS, ids=[kind.name for kind in TRUTHS])
def test_check_says_the_same_as_the_reader(kind, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(atlas.GREY).save(tmp_path / "images" / "a.png")
    atlas.make(kind, tmp_path / "masks")
    classes = 2 if kind.use == "mask" else None
    folders = tmp_path / "images", tmp_path / "masks"
    report = check_pairs(*folders, num_classes=classes, **kind.options)
    if is_words(kind.outcome):
        assert report.problems
        holds(" ".join(map(str, report.problems)), kind.outcome[:1])
    else:
        assert not report.problems, report
        if kind.use == "mask":
            assert "8.6%" in str(report)


IMAGES = [kind for kind in atlas.KINDS if kind.use == "image"]


@pytest.mark.parametrize("kind", IMAGES, ids=[kind.name for kind in IMAGES])
def test_check_takes_the_images_that_training_takes(kind, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    path = atlas.make(kind, tmp_path / "images")
    upright = np.shape(kind.outcome)[:2] == atlas.SIZE[::-1]
    mask = atlas.MASK.T if upright else atlas.MASK
    Image.fromarray(mask).save(tmp_path / "masks" / f"{path.stem}.png")
    folders = tmp_path / "images", tmp_path / "masks"
    report = answer(check_pairs, *folders, **kind.options)
    if path.suffix not in SUFFIXES:  # neither image nor mask, and the only file
        holds(report, kind.outcome)
    elif is_words(kind.outcome):
        assert report.problems and not report.pairs
    else:
        assert not report.problems, report


def test_the_page_is_current():
    text = readable.PAGE.read_text(encoding="utf-8")
    assert text == readable.page(), "nbs/readable.md is stale: run make links"
