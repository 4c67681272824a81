"""One interface for every data set, and splits that do not leak."""

import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import says

from unet_tutorial.data.datasets import load_isbi
from unet_tutorial.data.source import Item, Source, split_by_car


def read_page(item, size):
    return np.full(size or (4, 6), item.page, np.uint8)


def source(count=12, views=3, **options):
    items = [
        Item(Path(f"{n}.png"), Path(f"{n}.gif"), f"car {n // views}", n)
        for n in range(count)
    ]
    how = {"read_truth": read_page, "read_pixels": read_page, "unit": "car"}
    return Source("drawn", items, ("background", "car"), **how | options)


def groups(part):
    return set(part.groups)


# A source


def test_a_source_reads_when_it_is_asked():
    calls = []
    cars = source(read_pixels=lambda item, size: calls.append((item.page, size)))
    assert len(cars) == 12 and cars.groups[4] == "car 1" and calls == []
    cars.image(7, (2, 3))
    assert calls == [(7, (2, 3))] and cars.labels(7).max() == 7


def test_a_subset_keeps_the_order_that_was_asked_for():
    part = source().subset([5, 0, 7])
    assert [part.labels(n)[0, 0] for n in range(3)] == [5, 0, 7]
    assert part.name == "drawn" and part.subset([1]).labels(0)[0, 0] == 0


def test_what_is_beyond_the_end_is_an_error():
    with pytest.raises(IndexError):
        source().image(12)


def test_a_source_goes_to_workers():
    again = pickle.loads(pickle.dumps(source()))
    assert again.items == source().items and again.image(3)[0, 0] == 3


def test_it_says_what_it_holds():
    text = repr(source(note="2 left out"))
    assert text == (
        "drawn: 12 images in 4 groups (by car); classes: background, car. 2 left out"
    )
    assert "instances" in repr(source(instances=True, unit="image"))


def test_the_files_of_an_item(tmp_path):
    for name in ("image.png", "masks/b.png", "masks/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    item = Item(tmp_path / "image.png", tmp_path / "masks")
    found = replace(source(), items=[item]).files(0)
    assert [path.name for path in found] == ["image.png", "a.png", "b.png"]
    assert source().files(0) == []  # they are not there


# By groups


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("held_out", [None, 1, 3])
def test_no_group_is_in_both_parts(seed, held_out):
    cars = source()
    train, valid = cars.split(held_out, seed)
    assert groups(train).isdisjoint(groups(valid))
    assert sorted(train.items + valid.items) == sorted(cars.items)
    assert len(groups(valid)) == (held_out or 1)
    assert train.items == [item for item in cars.items if item in train.items]


def test_a_quarter_is_held_out():
    for count, due in [(2, 1), (4, 1), (5, 2), (15, 4), (318, 80)]:
        train, valid = source(count, views=1).split()
        assert (len(train), len(valid)) == (count - due, due)


def test_a_split_depends_on_the_seed_and_on_nothing_else():
    cars = source(45)
    expected = set(random.Random(3).sample(sorted(groups(cars)), 4))
    for order in (1, 2):
        mixed = cars.subset(random.Random(order).sample(range(45), 45))
        assert groups(mixed.split(4, seed=3)[1]) == expected
    held = {tuple(sorted(groups(cars.split(4, seed)[1]))) for seed in range(9)}
    assert len(held) > 5


def test_the_choice_is_the_same_on_every_machine():
    held = groups(source(45).split(4, seed=0)[1])
    assert held == {"car 7", "car 8", "car 9", "car 14"}


@pytest.mark.parametrize("held_out", [-1, 0, 4, 5])
def test_a_split_leaves_something_on_both_sides(held_out):
    words = says(f"held_out={held_out} of 4 cars", "at least one")
    with pytest.raises(ValueError, match=words):
        source().split(held_out)


def test_one_group_can_not_be_split():
    with pytest.raises(ValueError, match=says("of 1 cars", "leave at least one")):
        source(3).split()


# A list


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("held_out", [1, 4, 14])
def test_no_car_is_in_both_lists(seed, held_out):
    items = source(15 * 16, views=16).items
    train, valid = split_by_car(items, held_out, seed)
    assert {i.group for i in train}.isdisjoint({i.group for i in valid})
    assert sorted(train + valid) == sorted(items) and len(valid) == 16 * held_out


def test_a_list_and_a_source_are_split_alike():
    cars = source(45)
    train, valid = split_by_car(cars.items, held_out=4, seed=2)
    assert [part.items for part in cars.split(4, seed=2)] == [train, valid]


@pytest.mark.parametrize("held_out", [-1, 0, 3, 4])
def test_a_list_leaves_something_on_both_sides(held_out):
    with pytest.raises(ValueError, match=says(f"held_out={held_out}", "3 cars", "one")):
        split_by_car(source(9).items, held_out)


# By a block


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("gap", [0, 1, 3])
def test_a_block_has_no_neighbour_in_training(seed, gap):
    train, block = source(30, gap=gap).split(6, seed)
    pages = [item.page for item in block.items]
    assert pages == list(range(pages[0], pages[0] + 6))
    near = [abs(i.page - page) for i in train.items for page in pages]
    assert min(near) == gap + 1
    assert len(train) >= 30 - 6 - 2 * gap


def test_seed_zero_holds_out_the_last_slices():
    train, block = source(30, gap=1).split()
    assert [item.page for item in block.items] == [24, 25, 26, 27, 28, 29]
    assert [item.page for item in train.items] == list(range(23))


def test_the_seed_places_the_block_anywhere():
    stack = source(30, gap=1)
    starts = {stack.split(6, seed)[1].items[0].page for seed in range(300)}
    assert starts == set(range(25))


def test_a_small_stack_keeps_something_to_train_on():
    for seed in range(20):
        train, block = source(3, gap=1).split(seed=seed)
        assert (len(train), len(block)) == (1, 1)


@pytest.mark.parametrize("held_out", [0, -2, 29, 30, 31])
def test_a_block_that_does_not_fit(held_out):
    words = says(f"held_out={held_out} of 30 slices", "gap=1", "at least one")
    with pytest.raises(ValueError, match=words):
        source(30, gap=1).split(held_out)


# As the makers say


def test_the_official_split_unless_another_is_asked_for():
    items = [item._replace(test=item.page in (1, 11)) for item in source().items]
    pets = Source("pets", items, ("background", "pet"), read_page, read_page)
    train, test = pets.split(seed=7)
    assert [item.page for item in test.items] == [1, 11] and len(train) == 10
    inner, valid = train.split()  # no test images are left in it: by groups
    assert groups(inner).isdisjoint(groups(valid)) and len(inner) + len(valid) == 10
    assert len(groups(pets.split(2)[1])) == 2


# The real stack


def test_how_much_a_neighbour_knows(real_isbi):
    masks = load_isbi(real_isbi)[1].astype(float).reshape(30, -1)
    common, sizes = masks @ masks.T, masks.sum(1)
    dice = 2 * common / (sizes[:, None] + sizes)  # of copying slice j for slice i
    means = [np.diag(dice, far).mean().round(2) for far in (1, 2, 3, 20)]
    assert means == [0.36, 0.29, 0.26, 0.22]  # as notebook 09c says


def test_the_size_of_an_image_that_is_drawn():
    assert source().size(0) == source().image(0).shape[:2]


def test_a_name_tells_images_of_one_name_apart():
    item = Item(Path("a/s1/1.png"), Path("b/1.png"), "1.png", folder="s1")
    assert item.name == "s1/1.png"
    assert item._replace(folder="").name == "1.png"
    assert item._replace(group="car 3", page=2).name == "car 3/s1/1.png, page 2"
