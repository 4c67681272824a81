"""Pairs of files as tensors of one size, each file unpacked once."""

import copy
import csv
import json
import os
import pickle
import re
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from samples import Drawn, carvana, noise, save, save_palette, says, square
from torch.utils.data import DataLoader, Subset

from unet_tutorial.data import photos
from unet_tutorial.data.datasets import find_carvana
from unet_tutorial.data.images import read_mask
from unet_tutorial.data.loader import make_loader
from unet_tutorial.data.pairs import Pair
from unet_tutorial.data.photos import ByteImage, ImagePairs, byte_image, to_tensor
from unet_tutorial.train import to_device

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


# Bytes on the way


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (1, 7)])
def test_bytes_become_the_tensor_where_they_arrive(shape):
    image = noise(*shape)
    sent = byte_image(image)
    assert sent.pixels.dtype == torch.uint8 and sent.scale.shape == (2,)
    assert torch.allclose(sent.to("cpu"), to_tensor(image), atol=2e-6)
    assert torch.allclose(byte_image(image, (3, 2)).to("cpu"), (sent.pixels - 3.0) / 2)


@pytest.mark.parametrize("value", [0, 7, 201])
def test_bytes_of_a_constant_image_give_zeros(value):
    assert (byte_image(np.full((513, 777), value, np.uint8)).to("cpu") == 0).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_that_travel_as_bytes_are_the_same_pairs(tmp_path, workers):
    pairs = find_carvana(carvana(tmp_path, ["a_01", "a_02", "b_01"]))
    loaders = [
        make_loader(ImagePairs(pairs, (32, 48), as_bytes=flag), 2, workers=workers)
        for flag in (False, True)
    ]
    for floats, sent in zip(*loaders, strict=True):
        assert isinstance(sent[0], ByteImage) and sent[1].dtype == torch.int16
        images, labels = to_device(sent, "cpu")
        assert images.dtype == torch.float32 and torch.equal(labels, floats[1])
        assert torch.allclose(images, floats[0], atol=2e-6)


def test_a_change_that_makes_floats_lets_floats_travel(tmp_path):
    def halve(image, mask):
        return {"image": image.astype(np.float32) / 2, "mask": mask}

    pairs = find_carvana(carvana(tmp_path, ["a_01"]))
    image, labels = ImagePairs(pairs, (32, 48), halve, as_bytes=True)[0]
    assert image.dtype == torch.float32 and labels.dtype == torch.int64


@pytest.mark.parametrize("value", [0, 7, 201, 0.1])
def test_a_constant_image_gives_zeros(value):
    x = to_tensor(np.full((513, 777), value))
    assert x.abs().max() < 1e-6


def test_flipped_and_read_only_arrays_are_fine():
    image = noise(20, 30, 3)
    image.flags.writeable = False
    assert torch.equal(to_tensor(image[:, ::-1]), to_tensor(image).flip(-1))


def test_the_tensor_is_that_of_plain_arithmetic():
    for image in (
        noise(160, 240, 3),
        noise(20, 30) * np.int64(257),
        noise(9, 9) / 7 + 1e6,
    ):
        x = np.moveaxis(np.atleast_3d(image).astype(np.float64), -1, 0)
        expected, before = (x - x.mean()) / x.std(), image.copy()
        assert np.abs(to_tensor(image).numpy() - expected).max() < 1e-6
        assert np.array_equal(image, before)


def save_gif(path, index, interlaced=False):
    image = Image.fromarray(index)
    image.putpalette([value for value in range(256) for _ in range(3)][::-1])
    image.save(path, format="GIF", interlace=int(interlaced))
    return path


def shape_of(height=1280, width=1918):  # as a mask of Carvana: one object
    ys, xs = np.ogrid[:height, :width]
    return (((ys / height - 0.5) / 0.3) ** 2 + ((xs / width - 0.5) / 0.4) ** 2 < 1) * 1


# The data set of pairs


def counted(monkeypatch):
    "A list to which each reading of an image file adds its name."
    names, read = [], photos.read_image

    def note(path, *size, **options):
        names.append(path.name)
        return read(path, *size, **options)

    monkeypatch.setattr(photos, "read_image", note)
    return names


def test_an_item_is_an_image_and_its_label_map(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), size=(20, 30))
    x, label = data[0]
    assert len(data) == 3 and x.shape == (3, 20, 30) and x.dtype == torch.float32
    assert label.dtype == torch.int64
    assert np.array_equal(label, square()[1::2, 1::2])
    assert torch.equal(data[-1][0], data[2][0])
    with pytest.raises(IndexError):
        data[3]


@pytest.mark.parametrize("size", [(160, 240), (200, 300), (100, 101)])
def test_pixels_are_those_of_the_slow_way(tmp_path, size):
    coarse = Image.fromarray(noise(32, 48, 3)).resize((1918, 1280), Image.BICUBIC)
    path = save(tmp_path / "a_01.jpg", np.asarray(coarse), quality=90)
    mask = save_gif(tmp_path / "a_01_mask.gif", shape_of().astype(np.uint8))
    image, labels = ImagePairs([Pair(path, mask)], size).small[0]
    with Image.open(path) as full:
        slow = full.resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(slow).astype(int) - image).mean() < 1
    assert np.array_equal(labels, read_mask(mask, size))


def test_each_file_is_decoded_once(tmp_path, monkeypatch):
    pairs, names = find_carvana(carvana(tmp_path)), counted(monkeypatch)
    kept, fresh = ImagePairs(pairs), ImagePairs(pairs, cache=False)
    first, again = [kept[0], kept[2]], [kept[0], kept[2]]
    assert names == ["a_01.jpg", "b_01.jpg"]
    for (x, label), (x2, label2) in zip(first, again, strict=True):
        assert torch.equal(x, x2) and torch.equal(label, label2)
    assert torch.equal(fresh[0][0], first[0][0]) and fresh[0] and len(names) == 4


def test_a_file_that_changes_is_read_again(tmp_path, monkeypatch):
    pairs, names = find_carvana(carvana(tmp_path)), counted(monkeypatch)
    data = ImagePairs(pairs, (40, 60))
    before = data[0][0], data[0][1]
    time.sleep(0.02)
    save(pairs[0].image, noise(40, 60, 3))
    after = data[0]
    assert not torch.equal(after[0], before[0]) and torch.equal(after[1], before[1])
    stat = pairs[0].mask.stat()
    save_palette(pairs[0].mask, 1 - square())
    os.utime(pairs[0].mask, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert torch.equal(data[0][1], 1 - before[1])
    assert names == ["a_01.jpg"] * 3 and data[1] and data[0] and len(names) == 4
    pairs[0].image.unlink()
    with pytest.raises(FileNotFoundError, match="a_01.jpg"):
        data[0]


def test_what_is_kept_is_bounded(tmp_path, monkeypatch):
    pairs, names = find_carvana(carvana(tmp_path)), counted(monkeypatch)
    data = ImagePairs(pairs, (20, 30), cache=2 * 20 * 30 * 4 + 5)  # room for two
    plain = ImagePairs(pairs, (20, 30), cache=False)
    for _ in range(3):
        for one, two in zip(data, plain, strict=True):
            assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert names.count("a_01.jpg") == 1 + 3 and names.count("b_01.jpg") == 3 + 3
    kept = data.small.kept
    assert kept.images.nbytes + kept.labels.nbytes == 2 * 20 * 30 * 4


def test_labels_of_two_bytes_count_as_two(tmp_path):
    pair = pair_of(tmp_path, noise(20, 30), square(20, 30))
    limit = 20 * 30 * (1 + 2)  # bytes of one grey image and its labels
    for bytes_, room in ((limit, 1), (limit - 1, 0)):
        data = ImagePairs([pair], (20, 30), cache=bytes_, num_classes=300)
        assert len(data.small.kept.stamps) == room


def test_a_transform_changes_both_and_not_what_is_kept(tmp_path):
    def flip(image, mask):
        assert image.dtype == mask.dtype == np.uint8 and image.shape[:2] == mask.shape
        image[:], mask[:] = image[:, ::-1].copy(), mask[:, ::-1].copy()
        return {"image": image, "mask": mask}

    pairs = find_carvana(carvana(tmp_path))
    plain, data = ImagePairs(pairs)[0], ImagePairs(pairs, transform=flip)
    for _ in range(3):
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


def pair_of(folder, image, labels, name="a"):
    image = save(folder / f"{name}.png", image)
    return Pair(image, save(folder / "masks" / f"{name}.png", labels))


def test_a_kind_that_pillow_does_not_know_is_named_as_what_it_is(tmp_path):
    paths = tmp_path / "a.tif", tmp_path / "a_mask.png"
    tifffile.imwrite(paths[0], np.linspace(0, 1, 40 * 60).reshape(40, 60))  # float64
    save(paths[1], square())
    data = ImagePairs([Pair(*paths)], (20, 30))
    assert data.source.channels == 1
    with pytest.raises(ValueError, match=says("a.tif", "more than 8 bits", "range")):
        data[0]


def test_grey_images_stay_grey_unless_one_has_colours(tmp_path):
    grey = pair_of(tmp_path, noise(40, 60), square())
    coloured = pair_of(tmp_path, noise(40, 60, 3), square(), "b")
    assert ImagePairs([grey], (20, 30))[0][0].shape == (1, 20, 30)
    mixed = ImagePairs([grey, coloured], (20, 30))
    (x, _), *_ = DataLoader(mixed, 2)
    assert x.shape == (2, 3, 20, 30)
    assert torch.equal(x[0, 0], x[0, 1]) and torch.equal(x[0, 0], x[0, 2])
    assert not torch.equal(x[1, 0], x[1, 1])


@pytest.mark.parametrize("largest", [2, 200, 300])
def test_several_classes(tmp_path, largest):
    labels = square().astype(np.uint8 if largest < 256 else np.uint16) * largest
    labels[:5] = 1
    pair = pair_of(tmp_path, noise(40, 60, 3), labels)
    data = ImagePairs([pair], (40, 60), num_classes=largest + 1)
    for _ in range(2):
        assert data[0][1].dtype == torch.int64
        assert np.array_equal(data[0][1], labels)


def test_labels_of_a_file_outside_the_classes(tmp_path):
    pair = pair_of(tmp_path, noise(40, 60, 3), square() * 7)
    words = says(str(pair.mask), "labels 7;", "num_classes=4 allows 0 to 3")
    with pytest.raises(ValueError, match=words):
        ImagePairs([pair], (40, 60), num_classes=4)[0]


def test_a_source_is_asked_once():
    source = Drawn()
    data = ImagePairs(source, (40, 60))
    assert len(data) == 6 and [data[i][1].max() for i in (0, 1, 2, 2)] == [0, 1, 2, 2]
    assert source.read == [0, 1, 2]
    words = says("item 3 of drawn", "labels 3;", "num_classes=3", "0 to 2")
    with pytest.raises(ValueError, match=words):
        data[3]
    assert ImagePairs(source, (40, 60), num_classes=6)[5][1].max() == 5


def test_instances_are_one_class():
    data = ImagePairs(Drawn(instances=True), (40, 60))
    assert [data[i][1].max() for i in range(6)] == [0, 1, 1, 1, 1, 1]


def test_files_of_a_source_are_watched(tmp_path):
    source = Drawn()
    source.files = lambda index: [tmp_path / "all"]
    (tmp_path / "all").write_text("1")
    data = ImagePairs(source, (40, 60))
    assert data[1] and data[1] and source.read == [1]
    (tmp_path / "all").write_text("22")
    assert data[1] and data[1] and source.read == [1, 1]


# Read ahead, and copied


def test_a_copy_begins_empty_and_works(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), (20, 30))
    x, label = data[0]
    for other in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):
        assert not other.small.kept.stamps.any() and data.small.kept.stamps.any()
        assert torch.equal(other[0][0], x) and torch.equal(other[0][1], label)


class Meeting:
    "A source whose image and labels wait for each other."

    channels, classes, instances = 1, range(2), False

    def __init__(self):
        self.both = threading.Barrier(2, timeout=120)

    def __len__(self):
        return 1

    def image(self, index, size):
        self.both.wait()
        return np.zeros(size, np.uint8)

    labels = image


def test_image_and_mask_are_read_at_the_same_time():
    assert ImagePairs(Meeting(), (8, 8), cache=False)[0][0].shape == (1, 8, 8)


class Queue(Drawn):
    "A source that notes what was asked for, and by which thread."

    def __init__(self):
        super().__init__(True)
        self.asked, self.all_read = [], threading.Event()

    def image(self, index, size):
        self.asked.append((index, "image", threading.current_thread().name))
        return super().image(index, size)

    def labels(self, index, size):
        self.asked.append((index, "labels", threading.current_thread().name))
        if len(self.asked) == 6:
            self.all_read.set()
        return super().labels(index, size)


def test_the_files_of_a_batch_are_read_ahead_by_two_other_threads():
    queue = Queue()

    def change(image, mask):
        assert queue.all_read.wait(120), "the batch is not read ahead of its first item"
        return {"image": image, "mask": mask}

    data = ImagePairs(queue, (40, 60), transform=change)
    for _ in range(2):
        x, y = next(iter(DataLoader(Subset(data, [2, 0, 5]), 3)))
        plain = [ImagePairs(Drawn(True), (40, 60))[index] for index in (2, 0, 5)]
        assert torch.equal(x, torch.stack([image for image, _ in plain]))
        assert torch.equal(y, torch.stack([labels for _, labels in plain]))
    asked = [(index, part) for index, part, _ in queue.asked]  # kept the second time
    assert sorted(asked) == [
        (i, part) for i in (0, 2, 5) for part in ("image", "labels")
    ]
    threads = {name for *_, name in queue.asked}
    assert len(threads) <= 2 and threading.current_thread().name not in threads


def test_indices_of_all_kinds_are_read_once():
    data = ImagePairs(Drawn(True), (40, 60))
    part = Subset(data, torch.tensor([4, 1, -1, 4]))
    x, _ = next(iter(DataLoader(part, 4)))
    assert torch.equal(x[0], x[3]) and sorted(data.source.read) == [1, 4, 5]


def test_after_a_failure_a_mended_file_is_read_anew(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    data, good = ImagePairs(pairs, (8, 8)), pairs[1].image.read_bytes()
    for pair in pairs[:2]:
        pair.image.write_bytes(b"")
    with pytest.raises(ValueError, match=says(pairs[0].image.name)):
        next(iter(DataLoader(data, 3)))
    pairs[1].image.write_bytes(good)
    assert torch.equal(data[1][0], ImagePairs(pairs[1:2], (8, 8))[0][0])


def test_a_batch_that_failed_leaves_nothing_behind(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    data, bytes_ = ImagePairs(pairs, (8, 8)), pairs[0].image.read_bytes()
    pairs[0].image.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(ValueError, match=says(pairs[0].image.name, "is empty")):
            next(iter(DataLoader(data, 3)))
    pairs[0].image.write_bytes(bytes_)
    Image.new("RGB", Image.open(pairs[1].image).size, "red").save(pairs[1].image)
    x, _ = next(iter(DataLoader(data, 3)))
    assert torch.equal(x[1], ImagePairs(pairs, (8, 8))[1][0])  # the new file


def test_a_broken_image_beside_a_good_mask_is_named(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    data = ImagePairs(pairs, (8, 8))
    pairs[0].image.write_bytes(b"")
    with pytest.raises(ValueError, match=says(pairs[0].image.name, "is empty")):
        data[0]


# What was measured

ROOT = Path(__file__).resolve().parent.parent


def test_what_the_notebook_says_of_its_speed_is_what_was_measured():
    with open(ROOT / "results" / "loading.csv") as file:
        rows = list(csv.DictReader(file))
    book = json.loads((ROOT / "nbs/workshop/data/photos.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in book["cells"]]
    (said,) = [
        " ".join(text.split()) for text in cells if "## What it is worth" in text
    ]
    found = {}
    for epoch in ("first", "later"):
        ratios = [float(row[epoch]) / float(row["textbook"]) for row in rows]
        found[epoch] = statistics.median(ratios), min(ratios), max(ratios)
    (first, *reach), (later, *later_reach) = found["first"], found["later"]
    assert first >= 4, "with less than this, masks need a reader of their own"
    assert f"the first epoch ran {first:.1f} times" in said
    assert f"and later ones {later:.1f} times" in said
    assert "from {:.1f} to {:.1f} and".format(*reach) in said
    assert "from {:.1f} to {:.1f}:".format(*later_reach) in said
    spent = {
        key[3:]: float(value) for key, value in rows[0].items() if key[:3] == "ms "
    }
    table = re.findall(r"\| ([^|]+) \| ([\d.]*) ?\| ([\d.]+) \|", said)
    numbers = [float(value) for row in table for value in row[1:] if value]
    names = ["JPEG, all pixels", "JPEG, reduced", "GIF", "GIF", "both, kept"]
    names += ["car_pipeline", "to_tensor"]
    assert numbers == pytest.approx([spent[name] for name in names], abs=0.06)
