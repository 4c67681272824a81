"""Orders, changes and workers that depend on seed, epoch and index alone."""

import multiprocessing
import os
import signal
import subprocess
import sys

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from samples import Drawn, carvana, photo_and_mask, says
from torch.utils.data import DataLoader, Dataset, Subset

from unet_tutorial.data import photos
from unet_tutorial.data.datasets import find_carvana
from unet_tutorial.data.loader import (
    Seeded,
    SeededSampler,
    make_loader,
    pick_workers,
    reseed,
)
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.data.pipelines import (
    ElasticDeform,
    car_pipeline,
    membrane_pipeline,
)
from unet_tutorial.synthetic import write_carvana

# Random numbers


def test_one_seed_for_each_transform_makes_coins_fall_alike():
    """The defect of albumentations that reseed mends: else reseed may go."""
    corners = np.arange(4, dtype=np.uint8).reshape(2, 2)

    def outcomes(pipeline):
        return {int(pipeline(image=corners)["image"][0, 0]) for _ in range(200)}

    flips = A.Compose([A.HorizontalFlip(), A.VerticalFlip()], seed=0)
    assert len(outcomes(flips)) == 2
    reseed(flips, 0)
    assert len(outcomes(flips)) == 4


def test_reseed_reaches_nested_transforms_and_depends_on_the_whole_key():
    image, mask = photo_and_mask()
    pipeline = A.Compose([A.OneOf([ElasticDeform(), A.GridDistortion()], p=1)])

    def made(*key):
        reseed(pipeline, *key)
        return pipeline(image=image, mask=mask)["image"].tobytes()

    keys = [(0,), (1,), (0, 1), (1, 0), (0, 0, 1), (0, 1, 0)]
    assert len({made(*key) for key in keys}) == len(keys)
    assert [made(*key) for key in keys] == [made(*np.array(key)) for key in keys]


class Photos(Dataset):
    "Twelve times the same photo, and a note of how many threads OpenCV has."

    def __init__(self, transform):
        self.photo, self.transform = photo_and_mask(), transform

    def __len__(self):
        return 12

    def __getitem__(self, index):
        image, mask = self.photo
        out = self.transform(image=image, mask=mask)
        return index, out["image"], out["mask"], cv2.getNumThreads()


def items(data, workers, **how):  # list of (index, image, mask, threads)
    "What a loader hands out; a worker that hangs is an error after two minutes."
    how |= {"batch_size": None, "num_workers": workers}
    return list(DataLoader(data, timeout=120 if workers else 0, **how))


def contents(found):  # comparable
    return [
        (int(index), np.asarray(image).tobytes(), np.asarray(mask).tobytes())
        for index, image, mask, _ in found
    ]


def busy_pipeline():  # every relative, each time
    bends = [ElasticDeform(), A.ElasticTransform(p=1), A.GridDistortion(p=1)]
    return A.Compose([A.HorizontalFlip(), *bends, A.RandomBrightnessContrast()])


def forked():  # dict
    "Fork where there is fork: the case that has been reported to hang."
    methods = multiprocessing.get_all_start_methods()
    return {"multiprocessing_context": "fork"} if "fork" in methods else {}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_same_in_any_number_of_workers():
    cv2.setNumThreads(2)  # threads in the parent, as in a user's program
    try:
        data = Seeded(Photos(busy_pipeline()), seed=3)
        alone = items(data, 0)
        assert len({image for _, image, _ in contents(alone)}) == 12
        for workers in (1, 2, 3):
            assert contents(items(data, workers, **forked())) == contents(alone)
        assert {threads for *_, threads in items(data, 2, **forked())} <= {0, 1}
        assert contents(items(data, 0, sampler=[5, 2])) == [
            contents(alone)[5],
            contents(alone)[2],
        ]
    finally:
        cv2.setNumThreads(-1)


def test_without_it_workers_repeat_each_other():
    """The trap of the notebook: half of the variety is lost with two workers."""
    found = items(Photos(A.Compose([ElasticDeform()])), 2, **forked())
    assert len({image for _, image, _ in contents(found)}) == 6


def test_epochs_differ_and_reach_running_workers():
    data = Seeded(Photos(A.Compose([ElasticDeform()])), seed=3)
    how = {"batch_size": None, "num_workers": 2, "timeout": 120, **forked()}
    loader = DataLoader(data, persistent_workers=True, **how)
    first = contents(loader)
    assert contents(loader) == first
    data.set_epoch(1)
    second = contents(loader)
    assert len({*first, *second}) == 24
    other = Seeded(Photos(A.Compose([ElasticDeform()])), seed=4)
    assert contents([other[0]]) != contents([data[0]])


def test_seeded_travels_to_spawned_workers():
    data = Seeded(Photos(A.Compose([ElasticDeform()])), seed=3)
    how = {"multiprocessing_context": "spawn", "sampler": [4]}
    (found,) = contents(items(data, 1, **how))
    assert found == contents([data[4]])[0]


def test_seeded_wraps_pairs_of_files(tmp_path):
    pairs = find_carvana(write_carvana(tmp_path, cars=1, size=(64, 96)))
    data = Seeded(ImagePairs(pairs, (48, 72), transform=car_pipeline()), seed=1)
    alone, by_two = (
        list(DataLoader(data, 8, num_workers=workers, timeout=120 * workers, **how))
        for workers, how in [(0, {}), (2, forked())]
    )
    assert alone[0][0].shape == (8, 3, 48, 72) and len(alone) == 2
    for one, two in zip(alone, by_two, strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    still = ImagePairs(pairs, (48, 72))
    assert sum(torch.equal(data[i][0], still[i][0]) for i in range(16)) < 4


def test_seeded_says_what_it_needs():
    with pytest.raises(ValueError, match=r"TensorDataset has no `transform`.*give it"):
        Seeded(torch.utils.data.TensorDataset(torch.zeros(3)))
    subset = torch.utils.data.Subset(Photos(car_pipeline()), [3, 1])
    with pytest.raises(ValueError, match=r"Subset\(Seeded\(data\), indices\)"):
        Seeded(subset)
    for seed in (-1, 1.5, None, "0"):
        with pytest.raises(ValueError, match=f"seed={seed!r}: give an integer from 0"):
            Seeded(Photos(car_pipeline()), seed)
    right = torch.utils.data.Subset(Seeded(Photos(car_pipeline()), np.int64(3)), [3, 1])
    again = Seeded(Photos(car_pipeline()), 3)
    assert contents([right[0]]) == contents([again[3]])
    data = Seeded(Photos(A.Compose([])))
    assert data[-1][0] == 11
    with pytest.raises(IndexError):
        data[12]


# Order and workers


def fork(workers=2, **how):
    "Two forked workers; one that hangs is an error after two minutes."
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    return {
        "workers": workers,
        "multiprocessing_context": "fork",
        "timeout": 120,
        **how,
    }


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
    monkeypatch.setattr(photos, "read_image", None)  # nobody reads any more
    assert digest(make_loader(data, 2)) == first
    assert digest(make_loader(data, 2, **fork())) == first


def test_spawned_workers_give_the_same(tmp_path):
    data = ImagePairs(find_carvana(carvana(tmp_path)), (20, 30))
    how = {"workers": 1, "multiprocessing_context": "spawn", "timeout": 120}
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


class Expecting(ImagePairs):
    "Pairs that note which items were announced."

    def expect(self, indices):
        self.expected = list(indices)
        super().expect(indices)


def test_seeded_items_are_read_ahead_and_changed_alike():
    options = {"size": (40, 60), "transform": membrane_pipeline()}
    ahead, alone = (
        Seeded(kind(Drawn(True), **options)) for kind in (Expecting, ImagePairs)
    )
    x, y = next(iter(make_loader(ahead, 4)))
    assert ahead.dataset.expected == [0, 1, 2, 3]
    assert torch.equal(x, torch.stack([alone[index][0] for index in range(4)]))
    assert torch.equal(y, torch.stack([alone[index][1] for index in range(4)]))


def test_set_epoch_reaches_a_data_set_inside_a_subset():
    data = Seeded(ImagePairs(Drawn(True), (40, 60), transform=membrane_pipeline()))
    loader = make_loader(Subset(data, [4, 1]), 2)
    first = digest(loader)
    assert digest(loader) == first
    loader.set_epoch(1)
    assert int(data.epoch) == 1 and digest(loader) != first


def test_a_sampler_and_a_data_set_without_epochs_are_left_alone():
    loader = make_loader(States(), 1, sampler=[0])
    assert loader.set_epoch(3) is None and len(list(loader)) == 1


def test_the_loader_needs_no_albumentations():
    """It works where there is no albumentations, and loads no OpenCV."""
    hide = "import sys; sys.modules.update(albumentations=None)\n"
    use = """
import torch
from unet_tutorial.data.loader import Seeded, make_loader

class Changed(torch.utils.data.Dataset):
    transform = type("T", (), {"set_random_state": lambda self, rng, old: None})()
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return torch.tensor(index)

loader = make_loader(Seeded(Changed()), 2, workers=1)
loader.set_epoch(1)
assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]
assert "cv2" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", hide + use], check=True, timeout=600)


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


# How many workers


@pytest.mark.parametrize("device", ["cpu", "mps", torch.device("cpu")])
def test_no_worker_takes_a_core_from_a_cpu_that_trains(device):
    assert pick_workers(device) == 0


@pytest.mark.parametrize(
    ("cores", "processes", "workers"),
    [(1, 1, 1), (2, 1, 2), (6, 1, 6), (64, 1, 8), (16, 4, 4), (2, 4, 1)],
)
def test_beside_cuda_the_cores_are_shared(monkeypatch, cores, processes, workers):
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda pid: range(cores), raising=False
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert pick_workers("cuda") == pick_workers(torch.device("cuda", 1)) == workers
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert pick_workers("cuda") == workers


def test_a_loader_decides_nothing_by_itself():
    loader = make_loader(Photos(A.Compose([ElasticDeform()])))
    assert loader.num_workers == 0 and not loader.pin_memory
