"""Random windows and whole images."""

import pickle

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from samples import noise, says
from torch.utils.data import DataLoader

from unet_tutorial.data.crops import Whole, Windows, random_windows
from unet_tutorial.data.loader import make_loader
from unet_tutorial.data.photos import ByteImage
from unet_tutorial.data.tissue import TissueChanges
from unet_tutorial.losses import weighted_cross_entropy
from unet_tutorial.metrics import pixel_error_of
from unet_tutorial.model import UNet
from unet_tutorial.runs.engine import find_not_finite
from unet_tutorial.sizes import output_size
from unet_tutorial.tiles import lost_pixels
from unet_tutorial.train import Step, evaluate, to_device, train_one_epoch

# Windows of a stack


def stack(slices=3, size=100):
    "Images whose labels can be read off: 1 where a pixel is brighter than 127."
    images = noise(slices, size, size)
    return images, (images > 127).astype(np.uint8)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("turn", [True, False])
def test_labels_belong_to_the_centre_of_their_tile(depth, turn):
    _, labels = stack()
    images = np.where(labels, 200, 50).astype(np.uint8)
    margin, size = lost_pixels(depth), {1: 44, 2: 84, 3: 148}[depth]
    tiles = random_windows(images, labels, size, depth, count=20, turn=turn)
    for x, label in tiles:
        assert x.shape == (1, size, size) and x.dtype == torch.float32
        assert label.shape == (output_size(size, depth),) * 2
        assert label.dtype == torch.int64
        centre = x[0, margin:-margin, margin:-margin]
        assert torch.equal((centre > 0).long(), label)


def test_all_slices_places_and_positions_are_drawn():
    images, labels = stack(slices=3, size=20)
    tiles = random_windows(
        images, labels, input_tile=32, depth=1, count=600
    )  # output 16
    assert len({label.numpy().tobytes() for _, label in tiles}) > 300
    plain = random_windows(
        images, labels, input_tile=32, depth=1, count=600, turn=False
    )
    places = {label.numpy().tobytes() for _, label in plain}
    assert len(places) == 3 * 5 * 5


def test_a_tile_is_standardised_with_its_whole_slice():
    images = np.concatenate([np.full((1, 50, 100), 50), np.full((1, 50, 100), 150)], 1)
    labels = (images > 100).astype(np.uint8)
    tiles = random_windows(images, labels, input_tile=32, depth=1, count=50)
    values = torch.cat([x.flatten() for x, _ in tiles]).unique()
    assert torch.allclose(values, torch.tensor([-1.0, 1.0]))


def test_an_item_depends_on_seed_epoch_and_index():
    keys = {"input_tile": 44, "depth": 1, "count": 6}
    images, labels = stack()
    tiles, same = (
        random_windows(images, labels, **keys),
        random_windows(images, labels, **keys),
    )
    other = random_windows(images, labels, **keys, seed=1)
    _ = same[5], same[0]  # what was asked before does not matter
    assert torch.equal(tiles[3][0], same[3][0])
    assert not torch.equal(tiles[3][0], other[3][0])
    before = tiles[3][0]
    tiles.set_epoch(7)
    assert not torch.equal(tiles[3][0], before)
    tiles.set_epoch(0)
    assert torch.equal(tiles[3][0], before)
    assert len(tiles) == 6
    with pytest.raises(IndexError):
        tiles[6]


@pytest.mark.parametrize("persistent", [False, True])
def test_any_number_of_workers_gives_the_same_tiles(persistent):
    tiles = random_windows(*stack(), input_tile=44, depth=1, count=6)
    pickle.loads(pickle.dumps(tiles))
    alone = DataLoader(tiles, batch_size=2)
    keys = {"num_workers": 2, "persistent_workers": persistent}
    helped = DataLoader(tiles, batch_size=2, **keys)
    for epoch in range(3):
        tiles.set_epoch(epoch)
        for (x, label), (x2, label2) in zip(alone, helped, strict=True):
            assert torch.equal(x, x2) and torch.equal(label, label2)


@pytest.mark.parametrize("wrong", [2, 255, -1])
def test_labels_outside_the_classes(wrong):
    images, labels = stack()
    labels = labels.astype(np.int64)
    labels[1, 5, 5] = wrong
    words = says(
        "page 1", f"labels {wrong};", "num_classes=2", "0 to 1", "labels == 255"
    )
    with pytest.raises(ValueError, match=words):
        random_windows(images, labels, input_tile=44, depth=1)
    if wrong == 2:
        random_windows(images, labels, input_tile=44, depth=1, num_classes=3)


def test_an_output_tile_larger_than_the_image():
    with pytest.raises(ValueError, match=says("388", "(3, 100, 100)", "smaller")):
        random_windows(*stack())


@pytest.mark.parametrize("shape", [(2, 100, 100), (3, 100, 99), (100, 100)])
def test_images_and_labels_of_different_shapes(shape):
    with pytest.raises(
        ValueError, match=says("(3, 100, 100)", str(shape), "(N, H, W)")
    ):
        random_windows(stack()[0], np.zeros(shape, np.uint8), input_tile=44, depth=1)


def test_a_tile_of_no_valid_size():
    with pytest.raises(ValueError, match=says("570", "556", "572")):
        random_windows(*stack(), input_tile=570)


def test_weights_are_cut_with_their_labels():
    images, labels = stack()
    weights = labels * 2.5 + 1
    tiles = random_windows(images, labels, 44, 1, count=20, weights=weights)
    plain = random_windows(images, labels, 44, 1, count=20)
    for (x, label, weight), (x2, label2) in zip(tiles, plain, strict=True):
        assert weight.dtype == torch.float32 and weight.shape == label.shape
        assert torch.equal(weight, label * 2.5 + 1)
        assert torch.equal(x, x2) and torch.equal(label, label2)
    batch = next(iter(make_loader(tiles, 4, shuffle=True)))
    assert [len(part) for part in batch] == [4, 4, 4]
    with pytest.raises(ValueError, match=says("weights (2, 100, 100)", "(N, H, W)")):
        random_windows(images, labels, 44, 1, weights=weights[:2])


# Windows of any examples


def examples():
    "Images of two sizes whose labels can be read off, the second in colour."
    images = noise(40, 50, 3), noise(64, 33, 3)
    return [(image, (image[..., 0] > 127).astype(np.uint8)) for image in images]


def agreement(windows):
    "The least share of labels, over all windows, that fit their image."
    margin, shares = windows.margin, []
    for x, label in windows:
        height, width = label.shape
        middle = x[0, margin : margin + height, margin : margin + width]
        mean, std = zip(*windows.scales, strict=True)
        limits = [(127.5 - m) / s for m, s in zip(mean, std, strict=True)]
        shares.append(max(((middle > v) == label).float().mean() for v in limits))
    return min(shares)


def test_a_stack_gives_the_windows_of_its_slices():
    images, labels = stack()
    one = random_windows(images, labels, 44, 1, count=5, seed=2)
    two = Windows(zip(images, labels, strict=True), 44, one.margin, 5, seed=2)
    for found, wanted in zip(one, two, strict=True):
        assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("margin", [0, 4])
@pytest.mark.parametrize("side", [3, 28])
@pytest.mark.parametrize("bend", [False, True])
def test_windows_of_every_size_and_change_fit_their_labels(side, margin, bend):
    side = side + 2 * margin
    pipeline = A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip()]) if bend else None
    windows = Windows(examples(), side, margin, count=12, pipeline=pipeline)
    assert windows[0][0].shape == (3, side, side)
    assert windows[0][1].shape == (side - 2 * margin,) * 2
    assert agreement(windows) > 0.999


def test_a_pipeline_without_changes_is_a_pipeline():
    """An empty composition is false in Python, and still no reason to turn."""
    still = Windows(examples(), 28, 4, count=9, pipeline=A.Compose([]))
    for x, label in still:
        assert x.shape == (3, 28, 28) and label.shape == (20, 20)
    assert not A.Compose([]).transforms
    flat = np.arange(64 * 64, dtype=np.float64).reshape(64, 64) / 64
    windows = Windows([(flat, flat.astype(np.uint8))], 8, 0, 20, A.Compose([]))
    assert all((x[0, 1:] > x[0, :-1]).all() for x, _ in windows)


def test_what_is_bent_in_comes_from_the_neighbours():
    """A window turned by 45 degrees shows no mirror image inside a large slice."""
    rows, columns = np.mgrid[:400, :400]
    image = ((rows + columns) // 4).astype(np.uint8)  # a slope without a fold
    turn = A.Rotate((45, 45), border_mode=cv2.BORDER_CONSTANT, fill=0, p=1)
    labels = np.ones_like(image)
    windows = Windows([(image, labels)], 40, 0, 30, A.Compose([turn]))
    assert all((label == 1).all() for _, label in windows)


def test_without_turn_windows_stay_upright():
    rows = np.mgrid[:64, :64][0].astype(np.uint8)
    upright = Windows([(rows, rows)], 16, 2, count=30, turn=False)
    assert all((label[1:] - label[:-1] == 1).all() for _, label in upright)
    turned = Windows([(rows, rows)], 16, 2, count=30)
    assert not all((label[1:] - label[:-1] == 1).all() for _, label in turned)


def test_whole_images_of_a_stack_may_have_weights():
    images, labels = stack(2, 50)
    parts = zip(images, labels, labels * 2.5, strict=True)
    for (x, label, weight), found in zip(Whole(parts), labels, strict=True):
        assert x.shape == (1, 50, 50) and torch.equal(weight, label * 2.5)
        assert np.array_equal(label, found)


# Windows that must hold an object


def spot(size=200, at=(150, 40)):
    "An image with one object of one pixel."
    labels = np.zeros((size, size), np.uint8)
    labels[at] = 1
    return [(noise(size, size), labels)]


@pytest.mark.parametrize("margin", [0, 8])
@pytest.mark.parametrize("at", [(150, 40), (0, 0), (199, 199), (3, 120)])
def test_a_window_that_must_hold_an_object_holds_it(margin, at):
    windows = Windows(spot(at=at), 48, margin, count=60, objects=1.0, turn=False)
    held = [labels.sum().item() for _, labels in windows]
    assert held == [1] * 60


def test_a_share_of_the_windows_holds_an_object():
    found = {}
    for share in (0.0, 0.33):
        windows = Windows(spot(), 48, 0, count=600, objects=share)
        found[share] = np.mean([labels.sum().item() for _, labels in windows])
    assert found[0.0] < 0.15 and 0.33 < found[0.33] < 0.48


def test_objects_are_found_under_a_pipeline():
    pipeline = A.Compose([A.HorizontalFlip(p=1)], additional_targets={})
    windows = Windows(spot(), 48, 0, 40, pipeline, objects=1.0)
    assert all(labels.sum() == 1 for _, labels in windows)


def test_without_objects_the_windows_are_those_of_before():
    images = spot()
    first = [x for x, _ in Windows(images, 48, 0, count=5)]
    second = [x for x, _ in Windows(images, 48, 0, count=5, objects=0.0)]
    assert all(map(torch.equal, first, second))
    empty = [(noise(60, 60), np.zeros((60, 60), np.uint8))]
    assert len([*Windows(empty, 48, 0, count=5, objects=1.0)]) == 5


def test_a_class_is_drawn_first_and_the_commonest_is_not():
    parts = [(noise(200, 200), np.ones((200, 200), np.uint8)) for _ in range(9)]
    parts[3][1][:90], parts[5][1][7, 7], parts[6][1][9, 9] = 2, 3, 0
    windows = Windows(parts, 48, 0, count=300, objects=1.0)
    seen = [set(labels.unique().tolist()) for _, labels in windows]
    held = {value: np.mean([value in one for one in seen]) for value in (0, 2, 3)}
    assert all(0.25 < share < 0.45 for share in held.values())


def test_labels_that_are_left_out_are_no_class_to_place_windows_on():
    labels = np.zeros((60, 60), np.int16)
    labels[:9], labels[50:, 50:] = -100, 1
    windows = Windows([(noise(60, 60), labels)], 16, 0, count=40, objects=1.0)
    assert all((labels == 1).any() for _, labels in windows)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="from 0 to 1 would work"):
        Windows(spot(), 48, 0, objects=share)


# Bytes on the way


def weighted_examples():
    images, labels = stack(3, 70)
    return list(zip(images, labels, 1 + 2.5 * labels.astype(np.float32), strict=True))


def both(kind, **options):
    "Loaders of floats and of bytes over the same windows, or whole images."
    given = weighted_examples()
    sets = [kind(given, **options, as_bytes=flag) for flag in (False, True)]
    return [make_loader(data, 2, shuffle=True) for data in sets]


KINDS = {
    "windows": (Windows, {"side": 44, "margin": 20, "count": 5}),
    "bent": (
        Windows,
        {"side": 44, "margin": 20, "pipeline": TissueChanges(), "count": 5},
    ),
    "whole": (Whole, {}),
    "tiles": (Whole, {"side": 44, "depth": 2}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_bring_what_floats_bring(kind):
    floats, sent = both(KINDS[kind][0], **KINDS[kind][1])
    for batch, small in zip(floats, sent, strict=True):
        assert isinstance(small[0], ByteImage) and small[1].dtype == torch.int16
        images, labels, weights = to_device(small, "cpu")
        assert images.dtype == torch.float32
        assert torch.allclose(images, batch[0], atol=2e-6)
        assert torch.equal(labels, batch[1]) and torch.equal(weights, batch[2])


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_other_numbers_travel_as_floats(kind):
    examples = [(x.astype(kind), y, w) for x, y, w in weighted_examples()]
    x, labels, _ = Windows(examples, 44, 20, as_bytes=True)[0]
    assert x.dtype == torch.float32 and labels.dtype == torch.int64
    mixed = Windows([weighted_examples()[0], examples[0]], 44, 20, as_bytes=True)
    assert all(item[0].dtype == torch.float32 for item in mixed)


def test_labels_over_one_byte_travel_as_they_are():
    images, labels = stack(1, 50)
    examples = [(images[0], labels[0].astype(int) + 40_000)]
    _, found = Windows(examples, 44, 20, as_bytes=True)[0]
    assert found.dtype == torch.int64 and found.min() >= 40_000


def test_a_net_learns_from_bytes_what_it_learns_from_floats():
    found = []
    for loader in both(Windows, **KINDS["bent"][1]):
        torch.manual_seed(0)
        net = UNet(base_channels=2, depth=2, dropout=0)
        step = Step(net, torch.optim.SGD(net.parameters(), 0.1))
        loss = train_one_epoch(net, loader, weighted_cross_entropy, step, "cpu")
        metrics = {"error": pixel_error_of}
        row = evaluate(net, loader, weighted_cross_entropy, metrics)
        found.append(
            [loss, *row.values(), *(w.norm().item() for w in net.parameters())]
        )
        assert find_not_finite(net, next(iter(loader))) is None
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6)
