"""Pairs and slices to tensors."""

import copy
import multiprocessing
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from samples import carvana, noise, save, save_palette, says, square
from torch.utils.data import DataLoader, Dataset, Subset

from unet_tutorial.data import photos as loading
from unet_tutorial.data.crops import Tiles
from unet_tutorial.data.datasets import find_carvana
from unet_tutorial.data.images import read_mask
from unet_tutorial.data.loader import Seeded, SeededSampler, make_loader
from unet_tutorial.data.pairs import Pair
from unet_tutorial.data.photos import ImagePairs, to_tensor
from unet_tutorial.data.pipelines import car_pipeline, cv2, membrane_pipeline
from unet_tutorial.sizes import output_size
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


# Masks by runs


def blocks(values, side, height=40, width=60):
    "An image of random squares, each of one value."
    coarse = np.random.default_rng(values).integers(0, values, (height, width))
    return np.kron(coarse, np.ones((side, side))).astype(np.uint8)


def save_gif(path, index, interlaced=False):
    image = Image.fromarray(index)
    image.putpalette([value for value in range(256) for _ in range(3)][::-1])
    image.save(path, format="GIF", interlace=int(interlaced))
    return path


def shape_of(height=1280, width=1918):  # as a mask of Carvana: one object
    ys, xs = np.ogrid[:height, :width]
    return (((ys / height - 0.5) / 0.3) ** 2 + ((xs / width - 0.5) / 0.4) ** 2 < 1) * 1


@pytest.mark.parametrize("interlaced", [False, True])
def test_runs_are_the_pixels_that_pillow_finds(tmp_path, interlaced):
    found = 0
    masks = [shape_of().astype(np.uint8), shape_of(900, 700).astype(np.uint8) * 3]
    for index in [*masks, blocks(2, 100, 8, 12), blocks(3, 300, 4, 6)]:
        path = save_gif(tmp_path / "mask.gif", index, interlaced)
        runs = loading._read_runs(path)
        with Image.open(path) as image:
            assert runs is None or np.array_equal(runs, np.asarray(image))
        found += runs is not None
    assert found == 4


@pytest.mark.parametrize("values", [2, 3, 5, 17, 256])
@pytest.mark.parametrize("side", [3, 17])
def test_codes_of_every_length_are_unpacked(tmp_path, monkeypatch, values, side):
    monkeypatch.setattr(loading, "prod", lambda sides: float("inf"))
    index = blocks(values, side)
    path = save_gif(tmp_path / "mask.gif", index)
    with Image.open(path) as image:
        _, _, offset, (bits, *_) = image.tile[0]
    data, raw, place = b"", path.read_bytes(), offset
    while raw[place]:
        data += raw[place + 1 : place + 1 + raw[place]]
        place += 1 + raw[place]
    with Image.open(path) as image:
        assert loading._unpack_runs(data, bits) == image.tobytes()


def test_what_is_left_to_pillow(tmp_path):
    mask = shape_of(640, 959).astype(np.uint8)
    first, second = Image.fromarray(mask), Image.fromarray(1 - mask)
    first.save(tmp_path / "two.gif", save_all=True, append_images=[second])
    Image.fromarray(noise(640, 959)).save(tmp_path / "noise.gif")
    first.save(tmp_path / "png.gif", format="PNG")
    save_gif(tmp_path / "good.gif", mask)
    for name in ("two", "noise", "png"):
        assert loading._read_runs(tmp_path / f"{name}.gif") is None
    assert loading._read_runs(tmp_path / "good.gif") is not None
    assert np.array_equal(
        loading._read_small_labels(tmp_path / "png.gif", (40, 60), 2),
        loading._read_small_labels(tmp_path / "good.gif", (40, 60), 2),
    )


def test_small_masks_are_those_of_the_reader(tmp_path):
    path = save_gif(tmp_path / "mask.gif", 255 * shape_of().astype(np.uint8), True)
    assert loading._read_runs(path) is not None
    for size in [(160, 240), (1280, 1918), (7, 1000)]:
        found = loading._read_small_labels(path, size, 2)
        assert np.array_equal(found, read_mask(path, size))
    grey = np.where(shape_of(), 200, 100).astype(np.uint8)
    grey[0, 0] = 0
    with pytest.raises(ValueError, match=says("grey.gif", "100", "200")):
        loading._read_small_labels(save_gif(tmp_path / "grey.gif", grey), (9, 9), 2)


def test_a_damaged_gif_gives_no_other_pixels_than_pillow(tmp_path):
    path = save_gif(tmp_path / "mask.gif", shape_of(640, 959).astype(np.uint8))
    good, rng, same = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        bad = bytearray(good)
        bad[rng.integers(6, len(bad))] = rng.integers(256)
        path.write_bytes(bad[: rng.choice([len(bad), rng.integers(30, len(bad))])])
        try:
            runs = loading._read_runs(path)
        except ValueError as error:
            assert "mask.gif" in str(error)
            continue
        if runs is not None:
            with Image.open(path) as image:
                assert np.array_equal(runs, np.asarray(image))
            same += 1
    assert same > 5


# The data set of pairs


def counted(monkeypatch):
    "A list to which each reading of an image file adds its name."
    names, read = [], loading.read_image

    def note(path, size=None):
        names.append(path.name)
        return read(path, size)

    monkeypatch.setattr(loading, "read_image", note)
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
    small = data.small
    assert small.images.nbytes + small.labels.nbytes == 2 * 20 * 30 * 4


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


class Drawn:
    "A Source in memory: squares of several values, and perhaps files."

    name, classes, channels = "drawn", ("nothing", "left", "right"), 1

    def __init__(self, instances=False, deadly=None):
        self.instances, self.deadly, self.read = instances, deadly, []

    def __len__(self):
        return 6

    def image(self, index, size):
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        self.read.append(index)
        return np.full(size, 10 * index, np.uint8) + square(*size)

    def labels(self, index, size):
        return square(*size) * np.int64(index)


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


# Order and workers


def fork(workers=2, **how):
    "Two forked workers; one that hangs is an error after 30 seconds."
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    return {"workers": workers, "multiprocessing_context": "fork", "timeout": 30, **how}


def failure(loader, kind, words):
    "The words of the error of a loader, which must let its workers go at once."
    try:
        list(loader)
    except kind as error:
        text = str(error)
    assert words.search(text)
    return text


def digest(loader):
    return [[part.numpy().tobytes() for part in batch] for batch in loader]


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = {}
    for seed in range(3):
        sampler = SeededSampler(20, seed)
        for epoch in range(3):
            torch.manual_seed(epoch % 2)
            sampler.set_epoch(epoch)
            orders[seed, epoch] = tuple(sampler)
            assert tuple(sampler) == orders[seed, epoch] and sampler.epoch == epoch
    assert len(set(orders.values())) == 9
    assert all(sorted(order) == list(range(20)) for order in orders.values())
    assert list(SeededSampler(4, shuffle=False)) == [0, 1, 2, 3]


def test_each_item_comes_first_about_equally_often():
    firsts = []
    for epoch in range(400):
        (sampler := SeededSampler(4)).set_epoch(epoch)
        firsts.append(next(iter(sampler)))
    assert min(np.bincount(firsts)) > 60


@pytest.mark.parametrize("shuffle", [True, False])
def test_start_skips_once(shuffle):
    sampler = SeededSampler(10, 3, shuffle)
    whole = list(sampler)
    for start in (4, 10, 12):
        sampler.start = start
        assert len(sampler) == max(10 - start, 0)
        assert list(sampler) == whole[start:]
        assert list(sampler) == whole and len(sampler) == 10


def test_a_loader_goes_on_in_the_middle_of_an_epoch():
    loader = make_loader(ImagePairs(Drawn(True), (40, 60)), 2, shuffle=True, seed=5)
    loader.set_epoch(3)
    whole = digest(loader)
    assert len(loader) == 3
    loader.sampler.start = 2
    assert len(loader) == 2 and digest(loader) == whole[1:] and digest(loader) == whole


def test_a_loader_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    assert digest(make_loader(ImagePairs(Drawn(True), (40, 60)), shuffle=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_options_of_torch_have_the_last_word():
    data = ImagePairs(Drawn(True), (40, 60))
    assert len(make_loader(data, 4, drop_last=True)) == 1
    loader = make_loader(data, 4, sampler=[5, 1])
    assert loader.set_epoch(1) is None and len(list(loader)) == 1


@pytest.mark.parametrize("persistent", [False, True])
def test_any_number_of_workers_gives_the_same_batches(tmp_path, persistent):
    pairs = find_carvana(carvana(tmp_path))
    data = Seeded(ImagePairs(pairs, (40, 60), transform=car_pipeline()), seed=2)
    alone, seen = make_loader(data, 2, shuffle=True, seed=1), []
    helped = [
        make_loader(data, 2, True, 1, **fork(n, persistent_workers=persistent))
        for n in (1, 2)
    ]
    for epoch in range(3):
        for loader in (alone, *helped):
            loader.set_epoch(epoch)
        seen.append(digest(alone))
        assert all(digest(loader) == seen[-1] for loader in helped)
    assert seen[0] != seen[1] != seen[2]


def test_what_a_worker_has_read_its_parent_has(tmp_path, monkeypatch):
    data = ImagePairs(find_carvana(carvana(tmp_path)), (20, 30))
    first = digest(make_loader(data, 2, **fork(persistent_workers=False)))
    monkeypatch.setattr(loading, "read_image", None)  # nobody reads any more
    assert digest(make_loader(data, 2)) == first
    assert digest(make_loader(data, 2, **fork())) == first


def test_a_copy_begins_empty_and_works(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), (20, 30))
    x, label = data[0]
    for other in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):
        assert not other.small.stamps.any() and data.small.stamps.any()
        assert torch.equal(other[0][0], x) and torch.equal(other[0][1], label)


def test_spawned_workers_give_the_same(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), (20, 30))
    how = {"workers": 1, "multiprocessing_context": "spawn", "timeout": 60}
    assert digest(make_loader(data, 2, **how)) == digest(make_loader(data, 2))


def test_opencv_has_no_threads_in_workers():
    def threads(image, mask):
        return {"image": image, "mask": mask * 0 + cv2.getNumThreads()}

    data, before = ImagePairs(Drawn(True), (40, 60), threads), cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        found = {int(label.max()) for _, label in make_loader(data, **fork())}
        assert found <= {0, 1} and cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def of_one_worker(worker_id):
    torch.manual_seed(77 + (signal.getsignal(signal.SIGINT) is signal.SIG_IGN))


class States(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return torch.tensor(torch.initial_seed())


def test_what_a_caller_does_in_workers_comes_after_our_own():
    loader = make_loader(States(), 1, workers=1, worker_init_fn=of_one_worker)
    assert next(iter(loader)).tolist() == [78]


class Meeting:
    "A source whose image and labels wait for each other."

    channels, classes, instances = 1, range(2), False

    def __init__(self):
        self.both = threading.Barrier(2, timeout=9)

    def __len__(self):
        return 1

    def image(self, index, size):
        self.both.wait()
        return np.zeros(size, np.uint8)

    labels = image


def test_image_and_mask_are_read_at_the_same_time():
    assert ImagePairs(Meeting(), (8, 8), cache=False)[0][0].shape == (1, 8, 8)


class Queue(Drawn):
    "A source that notes which images were asked for, and by which thread."

    def __init__(self):
        super().__init__(True)
        self.asked = []

    def image(self, index, size):
        self.asked.append((index, threading.current_thread().name))
        return super().image(index, size)

    def labels(self, index, size):
        deadline = time.monotonic() + 9  # all images are read before the first mask
        while len(self.asked) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        if len(self.asked) < 3:
            raise TimeoutError("the images of the batch are not read ahead")
        return super().labels(index, size)


def test_the_images_of_a_batch_are_read_ahead_by_one_other_thread():
    data = ImagePairs(Queue(), (40, 60))
    for _ in range(2):
        x, y = next(iter(make_loader(Subset(data, [2, 0, 5]), 3)))
        plain = [ImagePairs(Drawn(True), (40, 60))[index] for index in (2, 0, 5)]
        assert torch.equal(x, torch.stack([image for image, _ in plain]))
        assert torch.equal(y, torch.stack([labels for _, labels in plain]))
    order, threads = zip(*data.source.asked, strict=True)
    assert order == (2, 0, 5) and len(set(threads)) == 1  # kept for the second time
    assert threads[0] != threading.current_thread().name


def test_seeded_items_are_read_ahead_and_changed_alike():
    change = {"size": (40, 60), "transform": membrane_pipeline()}
    kinds = Queue(), Drawn(True)
    ahead, alone = (Seeded(ImagePairs(kind, **change)) for kind in kinds)
    x, y = next(iter(make_loader(ahead, 4)))
    assert torch.equal(x, torch.stack([alone[index][0] for index in range(4)]))
    assert torch.equal(y, torch.stack([alone[index][1] for index in range(4)]))


def test_indices_of_all_kinds_are_read_once():
    data = ImagePairs(Drawn(True), (40, 60))
    part = Subset(data, torch.tensor([4, 1, -1, 4]))
    x, _ = next(iter(make_loader(part, 4)))
    assert torch.equal(x[0], x[3]) and sorted(data.source.read) == [1, 4, 5]


def test_after_a_failure_a_mended_file_is_read_anew(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    data, good = ImagePairs(pairs, (8, 8)), pairs[1].image.read_bytes()
    for pair in pairs[:2]:
        pair.image.write_bytes(b"")
    with pytest.raises(ValueError, match=says(pairs[0].image.name)):
        next(iter(make_loader(data, 3)))
    pairs[1].image.write_bytes(good)
    assert torch.equal(data[1][0], ImagePairs(pairs[1:2], (8, 8))[0][0])


def test_a_batch_that_failed_leaves_nothing_behind(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    data, bytes_ = ImagePairs(pairs, (8, 8)), pairs[0].image.read_bytes()
    pairs[0].image.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(ValueError, match=says(pairs[0].image.name, "is empty")):
            next(iter(make_loader(data, 3)))
    pairs[0].image.write_bytes(bytes_)
    Image.new("RGB", Image.open(pairs[1].image).size, "red").save(pairs[1].image)
    x, _ = next(iter(make_loader(data, 3)))
    assert torch.equal(x[1], ImagePairs(pairs, (8, 8))[1][0])  # the new file


def test_a_broken_image_beside_a_good_mask_is_named(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    data = ImagePairs(pairs, (8, 8))
    pairs[0].image.write_bytes(b"")
    with pytest.raises(ValueError, match=says(pairs[0].image.name, "is empty")):
        data[0]


def test_twenty_epochs_with_two_workers(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    data = Seeded(ImagePairs(pairs, (20, 30), transform=car_pipeline()))
    loader = make_loader(data, 2, shuffle=True, **fork())
    for epoch in range(20):
        loader.set_epoch(epoch)
        assert sum(len(x) for x, _ in loader) == 3


@pytest.mark.parametrize("kind", [ValueError, KeyError, FileNotFoundError])
def test_an_error_in_a_worker_keeps_its_words(kind):
    def fail(image, mask):
        raise kind("words of a transform")

    data = ImagePairs(Drawn(True), (40, 60), transform=fail)
    failure(make_loader(data, **fork()), kind, says("words of a transform"))


def test_a_worker_that_cannot_read_a_file_names_it(tmp_path):
    pairs = find_carvana(carvana(tmp_path))
    data = ImagePairs(pairs)
    pairs[1].image.unlink()
    failure(make_loader(data, 1, **fork()), FileNotFoundError, says("a_02.jpg"))


@pytest.mark.parametrize("items", [None, [4, 3, 5]])
def test_a_killed_worker_was_reading_a_file(items):
    deadly = items[0] if items else 0
    source = Drawn(True, deadly)
    source.files = lambda index: [f"photo_{index}.jpg"]
    data = ImagePairs(source, (40, 60))
    loader = make_loader(Subset(data, items) if items else data, 1, **fork())
    words = says("exited unexpectedly", f"photo_{deadly}.jpg", "memory")
    assert failure(loader, RuntimeError, words).count("photo_") == 1


def test_a_killed_worker_of_another_data_set():
    class Deadly(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            os.kill(os.getpid(), signal.SIGKILL)

    failure(make_loader(Deadly(), **fork()), RuntimeError, says("exited unexpectedly"))


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
    words = says(
        "page 1", f"labels {wrong};", "num_classes=2", "0 to 1", "labels == 255"
    )
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


def test_weights_are_cut_with_their_labels():
    images, labels = stack()
    weights = labels * 2.5 + 1
    tiles = Tiles(images, labels, 44, 1, tiles=20, weights=weights)
    plain = Tiles(images, labels, 44, 1, tiles=20)
    for (x, label, weight), (x2, label2) in zip(tiles, plain, strict=True):
        assert weight.dtype == torch.float32 and weight.shape == label.shape
        assert torch.equal(weight, label * 2.5 + 1)
        assert torch.equal(x, x2) and torch.equal(label, label2)
    batch = next(iter(make_loader(tiles, 4, shuffle=True)))
    assert [len(part) for part in batch] == [4, 4, 4]
    with pytest.raises(ValueError, match=says("weights (2, 100, 100)", "(N, H, W)")):
        Tiles(images, labels, 44, 1, weights=weights[:2])
