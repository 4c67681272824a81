"""Pairs and slices to tensors."""

import pickle

import numpy as np
import pytest
import torch
from samples import carvana, noise, save_palette, says, square
from torch.utils.data import DataLoader

from unet_tutorial.loading import ImagePairs, Tiles, to_tensor
from unet_tutorial.sizes import output_size
from unet_tutorial.sources import find_carvana
from unet_tutorial.tiles import lost_pixels

# Tensors


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (1, 7)])
def test_mean_zero_and_deviation_one(shape):
    x = to_tensor(noise(*shape))
    assert x.dtype == torch.float32 and x.is_contiguous()
    assert x.shape == (shape[2] if len(shape) == 3 else 1, *shape[:2])
    assert abs(x.mean()) < 1e-6 and abs(x.std(correction=0) - 1) < 1e-5


def test_colours_are_standardised_together():
    image = noise(20, 30, 3) // [1, 2, 4]
    x = to_tensor(image).movedim(0, -1)
    expected = (image - image.mean()) / image.std()
    assert np.allclose(x, expected, atol=1e-5)


@pytest.mark.parametrize("value", [0, 7, 201, 0.1])
def test_a_constant_image_gives_zeros(value):
    x = to_tensor(np.full((513, 777), value))
    assert x.abs().max() < 1e-6


def test_flipped_and_read_only_arrays_are_fine():
    image = noise(20, 30, 3)
    image.flags.writeable = False
    assert torch.equal(to_tensor(image[:, ::-1]), to_tensor(image).flip(-1))


# The data set of pairs


def test_an_item_is_an_image_and_its_label_map(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), size=(20, 30))
    x, label = data[0]
    assert len(data) == 3 and x.shape == (3, 20, 30) and x.dtype == torch.float32
    assert label.dtype == torch.int64
    assert np.array_equal(label, square()[1::2, 1::2])
    with pytest.raises(IndexError):
        data[3]


def test_each_file_is_decoded_once(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    kept, fresh = ImagePairs(pairs), ImagePairs(pairs, cache=False)
    first = kept[0], fresh[0]
    pairs[0].image.unlink()
    assert torch.equal(kept[0][0], first[0][0])
    with pytest.raises(FileNotFoundError, match=says("a_01.jpg")):
        fresh[0]


def test_a_transform_changes_both_and_not_what_is_kept(tmp_path):
    def flip(image, mask):
        assert image.dtype == mask.dtype == np.uint8 and image.shape[:2] == mask.shape
        image[:], mask[:] = image[:, ::-1].copy(), mask[:, ::-1].copy()
        return {"image": image, "mask": mask}

    pairs = find_carvana(carvana(tmp_path))
    plain, data = ImagePairs(pairs)[0], ImagePairs(pairs, transform=flip)
    for _ in range(2):
        assert torch.allclose(data[0][0], plain[0].flip(-1), atol=1e-6)
        assert torch.equal(data[0][1], plain[1].flip(-1))


def test_a_mask_of_another_size(tmp_path):
    carvana(tmp_path)
    save_palette(tmp_path / "train_masks" / "a_02_mask.gif", square(40, 61))
    words = says(
        "a_02.jpg is (40, 60)", "a_02_mask.gif is (40, 61)", "size of its image"
    )
    with pytest.raises(ValueError, match=words):
        ImagePairs(find_carvana(tmp_path))


def test_the_file_that_cannot_be_opened_is_the_one_named(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    pairs[1].mask.write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=says("a_02_mask.gif", "not an image")
    ) as error:
        ImagePairs(pairs)
    assert "a_02.jpg" not in str(error.value)
    pairs[1].mask.unlink()
    with pytest.raises(FileNotFoundError, match="a_02_mask.gif"):
        ImagePairs(pairs)


def test_images_and_masks_swapped(tmp_path):
    pair = find_carvana(carvana(tmp_path))[0]
    data = ImagePairs([pair._replace(image=pair.mask, mask=pair.image)])
    with pytest.raises(ValueError, match=says("a_01.jpg", "3 channels", "swapped")):
        data[0]


def test_workers_give_the_same_pairs(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), size=(20, 30))
    pickle.loads(pickle.dumps(data))
    alone = list(DataLoader(data, batch_size=2))
    helped = list(DataLoader(data, batch_size=2, num_workers=2))
    for (x, label), (x2, label2) in zip(alone, helped, strict=True):
        assert torch.equal(x, x2) and torch.equal(label, label2)


# Tiles


def stack(slices=3, size=100):
    "Images whose labels can be read off: 1 where a pixel is brighter than 127."
    images = noise(slices, size, size)
    return images, (images > 127).astype(np.uint8)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("augment", [True, False])
def test_labels_belong_to_the_centre_of_their_tile(depth, augment):
    _, labels = stack()
    images = np.where(labels, 200, 50).astype(np.uint8)
    margin, size = lost_pixels(depth), {1: 44, 2: 84, 3: 148}[depth]
    tiles = Tiles(images, labels, size, depth, tiles=20, augment=augment)
    for x, label in tiles:
        assert x.shape == (1, size, size) and x.dtype == torch.float32
        assert label.shape == (output_size(size, depth),) * 2
        assert label.dtype == torch.int64
        centre = x[0, margin:-margin, margin:-margin]
        assert torch.equal((centre > 0).long(), label)


def test_all_slices_places_and_positions_are_drawn():
    images, labels = stack(slices=3, size=20)
    tiles = Tiles(images, labels, input_tile=32, depth=1, tiles=600)  # output 16
    assert len({label.numpy().tobytes() for _, label in tiles}) > 300
    plain = Tiles(images, labels, input_tile=32, depth=1, tiles=600, augment=False)
    places = {label.numpy().tobytes() for _, label in plain}
    assert len(places) == 3 * 5 * 5


def test_a_tile_is_standardised_with_its_whole_slice():
    images = np.concatenate([np.full((1, 50, 100), 50), np.full((1, 50, 100), 150)], 1)
    labels = (images > 100).astype(np.uint8)
    tiles = Tiles(images, labels, input_tile=32, depth=1, tiles=50)
    values = torch.cat([x.flatten() for x, _ in tiles]).unique()
    assert torch.allclose(values, torch.tensor([-1.0, 1.0]))


def test_an_item_depends_on_seed_epoch_and_index():
    keys = {"input_tile": 44, "depth": 1, "tiles": 6}
    images, labels = stack()
    tiles, same = Tiles(images, labels, **keys), Tiles(images, labels, **keys)
    other = Tiles(images, labels, **keys, seed=1)
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
    tiles = Tiles(*stack(), input_tile=44, depth=1, tiles=6)
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
    words = says("page 1", f"[{wrong}]", "num_classes=2", "0 to 1", "labels == 255")
    with pytest.raises(ValueError, match=words):
        Tiles(images, labels, input_tile=44, depth=1)
    if wrong == 2:
        Tiles(images, labels, input_tile=44, depth=1, num_classes=3)


def test_an_output_tile_larger_than_the_image():
    with pytest.raises(ValueError, match=says("388", "(3, 100, 100)", "smaller")):
        Tiles(*stack())


@pytest.mark.parametrize("shape", [(2, 100, 100), (3, 100, 99), (100, 100)])
def test_images_and_labels_of_different_shapes(shape):
    with pytest.raises(
        ValueError, match=says("(3, 100, 100)", str(shape), "(N, H, W)")
    ):
        Tiles(stack()[0], np.zeros(shape, np.uint8), input_tile=44, depth=1)


def test_a_tile_of_no_valid_size():
    with pytest.raises(ValueError, match=says("570", "556", "572")):
        Tiles(*stack(), input_tile=570)
