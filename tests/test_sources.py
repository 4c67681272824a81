"""The data sets, and splits that do not leak."""

import random

import numpy as np
import pytest
from samples import carvana, isbi, noise, save, save_stack, says

from unet_tutorial.data import Pair
from unet_tutorial.loading import ImagePairs, Tiles
from unet_tutorial.sources import find_carvana, load_isbi, split_by_car

# Membranes


def test_membranes_are_one(tmp_path):
    images, inside = isbi(tmp_path)
    got, masks = load_isbi(tmp_path)
    assert np.array_equal(got, images) and masks.dtype == np.uint8
    assert np.array_equal(masks, inside == 0)


def test_one_of_the_two_files_is_missing(tmp_path):
    isbi(tmp_path)
    (tmp_path / "unpacked" / "train-labels.tif").unlink()
    words = says("train-labels.tif", "found unpacked", "train-volume.tif", "https://")
    with pytest.raises(FileNotFoundError, match=words):
        load_isbi(tmp_path)


def test_a_file_that_is_there_twice(tmp_path):
    isbi(tmp_path / "one")
    isbi(tmp_path / "two")
    words = says("one/unpacked", "two/unpacked", "train-volume.tif", "give a folder")
    with pytest.raises(ValueError, match=words):
        load_isbi(tmp_path)
    load_isbi(tmp_path / "two")


def test_volume_and_labels_swapped(tmp_path):
    images, inside = isbi(tmp_path)
    save_stack(tmp_path / "unpacked" / "train-volume.tif", inside)
    save_stack(tmp_path / "unpacked" / "train-labels.tif", images)
    with pytest.raises(ValueError, match=says("train-labels.tif", "values", "swapped")):
        load_isbi(tmp_path)


@pytest.mark.parametrize("shape", [(2, 32, 32), (3, 32, 33)])
def test_volume_and_labels_of_different_sizes(tmp_path, shape):
    isbi(tmp_path)
    save_stack(tmp_path / "unpacked" / "train-labels.tif", noise(*shape) % 2)
    words = says("train-volume.tif", "train-labels.tif", str(shape), "get both again")
    with pytest.raises(ValueError, match=words):
        load_isbi(tmp_path)


# Pairs


def test_pairs_are_sorted_and_know_their_car(tmp_path):
    pairs = find_carvana(carvana(tmp_path, ["b_01", "a_10", "a_01"]))
    assert [(p.group, int(p.image.stem[-2:])) for p in pairs] == [
        ("a", 1),
        ("a", 10),
        ("b", 1),
    ]
    assert all(pair.mask.name == f"{pair.image.stem}_mask.gif" for pair in pairs)


def test_names_that_begin_alike_are_not_confused(tmp_path):
    names = ["1_01", "10_01", "1_10", "1.5_01", "a.jpg_01", "a_b_01", "01_01_01"]
    pairs = find_carvana(carvana(tmp_path, names))
    assert sorted(pair.image.stem for pair in pairs) == sorted(names)
    assert all(pair.mask.name == f"{pair.image.stem}_mask.gif" for pair in pairs)
    assert {p.group for p in pairs} == {"1", "10", "1.5", "a.jpg", "a_b", "01_01"}


def test_folders_as_the_archives_unpack(tmp_path):
    carvana(tmp_path / "train")
    (tmp_path / "train" / "train_masks").rename(tmp_path / "train_masks")
    save(tmp_path / "test" / "z_01.jpg", noise(40, 60, 3))
    save(tmp_path / "train" / "train" / "._a_01.jpg", noise(40, 60, 3))
    save(tmp_path / "train" / "train" / "other.jpg", noise(40, 60, 3))
    assert len(find_carvana(tmp_path)) == 3


def test_all_in_one_folder(tmp_path):
    carvana(tmp_path)
    for path in list(tmp_path.rglob("*_*.*")):
        path.rename(tmp_path / path.name)
    assert len(find_carvana(tmp_path)) == 3


@pytest.mark.parametrize(
    ("folder", "wanted"),
    [("train", r"*_[0-9][0-9]_mask.gif"), ("train_masks", r"*_[0-9][0-9].jpg")],
)
def test_only_the_images_or_only_the_masks(tmp_path, folder, wanted):
    carvana(tmp_path)
    words = says(wanted, folder, "a_01", "Give the folder that holds all", "https://")
    with pytest.raises(FileNotFoundError, match=words):
        find_carvana(tmp_path / folder)


@pytest.mark.parametrize("name", ["train/a_02.jpg", "train_masks/a_02_mask.gif"])
def test_an_image_or_a_mask_alone(tmp_path, name):
    (carvana(tmp_path) / name).unlink()
    with pytest.raises(
        FileNotFoundError,
        match=says("1 files", "a_02", "no partner", "train_masks.zip"),
    ):
        find_carvana(tmp_path)


def test_many_files_alone_are_counted(tmp_path):
    carvana(tmp_path, [f"a_{view:02}" for view in range(1, 17)])
    for path in (tmp_path / "train_masks").glob("a_0*"):
        path.unlink()
    words = says("9 files", "a_01.jpg, a_02.jpg, a_03.jpg and 6 more")
    with pytest.raises(FileNotFoundError, match=words):
        find_carvana(tmp_path)


def test_swapped_folders(tmp_path):
    carvana(tmp_path)
    (tmp_path / "train").rename(tmp_path / "other")
    (tmp_path / "train_masks").rename(tmp_path / "train")
    (tmp_path / "other").rename(tmp_path / "train_masks")
    with pytest.raises(
        ValueError, match=says("swapped", "train_masks/a_01.jpg", "Exchange")
    ):
        find_carvana(tmp_path)


def test_the_same_image_in_two_folders(tmp_path):
    carvana(tmp_path)
    save(tmp_path / "train_hq" / "a_01.jpg", noise(40, 60, 3))
    words = says("train/a_01.jpg", "train_hq/a_01.jpg", "same name", "one of them")
    with pytest.raises(ValueError, match=words):
        find_carvana(tmp_path)


# Splits


def cars(count):
    return [
        Pair(f"{car}_{view:02}.jpg", "", str(car))
        for car in range(count)
        for view in range(1, 17)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("held_out", [1, 4, 14])
def test_no_car_is_in_both_parts(seed, held_out):
    pairs = cars(15)
    train, valid = split_by_car(pairs, held_out, seed)
    assert {p.group for p in train}.isdisjoint({p.group for p in valid})
    assert sorted(train + valid) == sorted(pairs) and len(valid) == 16 * held_out


def test_a_split_depends_on_the_seed_and_on_nothing_else():
    pairs = cars(15)
    expected = random.Random(3).sample(sorted({p.group for p in pairs}), 4)
    shuffled = random.Random(1).sample(pairs, len(pairs))
    for order in (pairs, shuffled):
        assert {p.group for p in split_by_car(order, seed=3)[1]} == set(expected)
    assert split_by_car(pairs, seed=0) != split_by_car(pairs, seed=1)


@pytest.mark.parametrize("held_out", [-1, 0, 3, 4])
def test_a_split_leaves_something_on_both_sides(held_out):
    with pytest.raises(ValueError, match=says(f"held_out={held_out}", "3 cars", "one")):
        split_by_car(cars(3), held_out)


# The real files


def test_the_real_membranes(real_isbi):
    images, masks = load_isbi(real_isbi)
    assert images.shape == masks.shape == (30, 512, 512)
    assert set(np.unique(masks)) == {0, 1}
    assert round(masks.mean(), 4) == 0.2196
    x, label = Tiles(images, masks)[0]
    assert x.shape == (1, 572, 572) and label.shape == (388, 388)


def test_the_real_cars(real_carvana):
    pairs = find_carvana(real_carvana)
    names = {pair.group for pair in pairs}
    assert len(names) in (15, 318) and len(pairs) == 16 * len(names)
    train, valid = split_by_car(pairs)
    assert {p.group for p in train}.isdisjoint({p.group for p in valid})
    x, label = ImagePairs(valid[:3])[0]
    assert x.shape == (3, 160, 240) and label.unique().tolist() == [0, 1]
