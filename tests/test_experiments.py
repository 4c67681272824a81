"""The scripts of the experiments: rows that are kept, trainings that go on."""

import os
import signal
import subprocess
import sys
from argparse import Namespace
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from unet_tutorial.metrics import pixel_error_of
from unet_tutorial.model import UNet
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.synthetic import draw_membranes

FOLDER = Path(__file__).resolve().parent.parent / "experiments"
sys.path.insert(0, str(FOLDER))
try:
    import cars
    import learn as learning
    import membranes
    import one_change
    import rows
finally:
    sys.path.remove(str(FOLDER))

KEYS = "row", "seed"
SCRIPTS = [p.name for p in sorted(FOLDER.glob("*.py")) if "def main" in p.read_text()]


# Rows


def table(folder):
    return rows.Rows(folder / "table.csv", KEYS)


def test_a_row_is_known_by_its_key_alone(tmp_path):
    table(tmp_path).add({"row": "a", "seed": 0, "value": 0.5})
    again = table(tmp_path)
    assert again.find(row="a", seed=0)["value"] == "0.5"
    assert again.find(row="a", seed=1) is None and again.find(row="b", seed=0) is None


def test_a_row_that_is_measured_again_takes_its_own_place(tmp_path):
    for value in (0.5, 0.6):
        table(tmp_path).add({"row": "a", "seed": 0, "value": value})
    assert [row["value"] for row in table(tmp_path).rows] == ["0.6"]


def test_an_open_row_makes_room_and_never_takes_it(tmp_path):
    first = table(tmp_path)
    first.leave_open("needs a GPU", row="a", seed=0)
    assert first.rows[0]["note"] == "not yet measured: needs a GPU"
    assert first.find(row="a", seed=0) is None  # it is still to be measured
    first.add({"row": "a", "seed": 0, "value": 0.5})
    first.leave_open("needs a GPU", row="a", seed=0)
    (row,) = table(tmp_path).rows
    assert row["value"] == "0.5" and not row.get("note")


def test_two_processes_keep_the_rows_of_each_other(tmp_path):
    one, other = table(tmp_path), table(tmp_path)  # both have read an empty file
    one.add({"row": "a", "seed": 0, "value": 1})
    other.add({"row": "b", "seed": 0, "value": 2})
    one.leave_open("needs a GPU", row="b", seed=0)
    assert [row["value"] for row in table(tmp_path).rows] == ["1", "2"]


def test_an_interrupted_table_is_whole(tmp_path, monkeypatch):
    table(tmp_path).add({"row": "a", "seed": 0, "value": 1})
    before = (tmp_path / "table.csv").read_bytes()

    def interrupted(writer, rows):
        writer.writerow(rows[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(rows.csv.DictWriter, "writerows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        table(tmp_path).add({"row": "b", "seed": 0, "value": 2})
    assert (tmp_path / "table.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_columns_may_come_later(tmp_path):
    table(tmp_path).add({"row": "a", "seed": 0, "value": 1})
    table(tmp_path).add({"row": "b", "seed": 0, "value": 2, "more": 3})
    assert [row["more"] for row in table(tmp_path).rows] == ["", "3"]


def test_a_row_is_not_measured_twice(tmp_path, monkeypatch):
    def measured(*args, **options):
        raise RuntimeError("it is measured")

    options = Namespace(out=tmp_path, runs=tmp_path, seed=0, steps=7)
    monkeypatch.setattr(cars, "data_sets", measured)
    with pytest.raises(RuntimeError, match="it is measured"):
        cars.run(options, None, torch.device("cpu"), "small")
    done = {"row": "small", "seed": 0, "steps": 7, "dice": 0.9}
    rows.Rows(tmp_path / "cars.csv", cars.KEYS).add(done)
    assert cars.run(options, None, torch.device("cpu"), "small") is None


# Trainings


class Drawn(Dataset):
    "Noise with a truth that can be learned; after so many items somebody asks to stop."

    def __init__(self, count, stop_after=None):
        numbers = torch.Generator().manual_seed(0)
        self.images = torch.randn(count, 1, 16, 16, generator=numbers)
        self.given, self.stop_after = 0, stop_after

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.given += 1
        if self.given == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return self.images[index], (self.images[index][0] > 0).long()


def small_recipe():
    recipe = read_recipe("modern")
    net = replace(recipe.net, base_channels=2, depth=1, dropout=0.3)
    return replace(recipe, net=net, batch=4, amp=False)


def train(folder, stop_after=None, steps=8):
    "10 items in batches of 4: three steps per epoch, and two in the last one."
    torch.manual_seed(0)
    recipe = small_recipe()
    net = UNet(**vars(recipe.net))
    items = Drawn(10, stop_after), Drawn(3)
    return learning.learn(folder, recipe, net, *items, steps, 0, device="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stop_after", [1, 6, 15, 26, 27])
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, whole, stop_after):
    """In the first step, within an epoch, in another one, and in the last step."""
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        train(tmp_path, stop_after)
    training = train(tmp_path)
    assert training.step == whole.step == 8 and training.epoch == 3
    assert training.history == whole.history  # three epochs, all of them measured
    for one, other in ((training.net, whole.net), (training.model, whole.model)):
        state = other.state_dict()
        for name, value in one.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_signals_are_handled_as_before_after_a_training(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train(tmp_path, steps=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_training_that_is_done_is_not_begun_again(tmp_path, whole):
    train(tmp_path)
    training = train(tmp_path, stop_after=1)  # no item is asked for
    assert training.history == whole.history


def test_a_training_ends_when_it_is_good_enough():
    recipe, seen = small_recipe(), []

    def stop(training, row):
        seen.append((training.epoch, row["pixel error"]))
        return training.epoch == 2

    net, items = UNet(**vars(recipe.net)), (Drawn(10), Drawn(3))
    training = learning.learn(None, recipe, net, *items, 99, device="cpu", stop=stop)
    assert training.step == 6 and [epoch for epoch, _ in seen] == [1, 2]
    assert [error for _, error in seen] == training.history["pixel error"]


def test_what_is_measured_is_that_of_the_averaged_net(whole):
    counts = torch.zeros(2, 2, dtype=torch.long)
    net = whole.net.eval()
    for image, labels in (Drawn(3)[i] for i in range(3)):
        pred = net(image[None]).argmax(1)[0]
        counts += torch.bincount((2 * labels + pred).flatten(), minlength=4).view(2, 2)
    assert pixel_error_of(counts) == whole.history["pixel error"][-1]


def test_a_curve_has_the_steps_of_its_epochs(whole):
    points = learning.curve_of(whole, small_recipe(), 10, row="a", seed=0)
    assert [point["step"] for point in points] == [3, 6, 8]
    assert all(point["row"] == "a" for point in points)
    errors = [f"{value:.4f}" for value in whole.history["pixel error"]]
    assert [point["pixel error"] for point in points] == errors


def test_a_curve_counts_steps_not_batches(whole):
    recipe = replace(small_recipe(), accumulate=2)
    points = learning.curve_of(whole, recipe, 10)
    assert [point["step"] for point in points] == [2, 4, 6]


# Nets with one change


def tiny(kind=UNet, **options):
    torch.manual_seed(0)
    return kind(base_channels=2, depth=2, padding=1, norm="batch", **options)


def test_no_skips_lets_nothing_across():
    x, other = torch.randn(2, 1, 1, 16, 16)
    outputs = {}
    for kind in (UNet, one_change.NoSkips):
        net = tiny(kind).eval()
        bottom, others = net.contracting(x)[-1], net.contracting(other)[:-1]
        before = net(x)
        net.contracting.forward = lambda _, maps=(*others, bottom): list(maps)
        outputs[kind] = before, net(x)  # the same bottom, the skips of another image
    before, after = outputs[one_change.NoSkips]
    assert torch.equal(before, after)
    assert not torch.equal(*outputs[UNet])
    assert not torch.equal(before, outputs[UNet][0])


def test_no_skips_learns_with_the_weights_of_the_net():
    """The weights have the same names, and the bottom still gets its gradients."""
    net = tiny(one_change.NoSkips)
    assert list(net.state_dict()) == list(tiny().state_dict())
    net(torch.randn(1, 1, 16, 16)).sum().backward()
    assert all(weight.grad is not None for weight in net.contracting.parameters())


def supervised():
    "A net of four steps that is trained, its answer about noise, and labels for it."
    torch.manual_seed(0)
    net = UNet(base_channels=2, depth=4, padding=1, dropout=0.0, norm="batch")
    net = one_change.DeepSupervision(net).train()
    labels = torch.randint(2, (2, 32, 32))
    return net, net(torch.randn(2, 1, 32, 32)), labels


def test_deep_supervision_reaches_every_middle_level():
    net, logits, labels = supervised()
    assert [tuple(lower.shape) for lower in net.lower] == [(2, 2, 8, 8), (2, 2, 16, 16)]
    net.loss(logits.detach(), labels).backward()  # from the middle levels alone
    assert len(net.heads) == 2
    for head in net.heads:
        assert head.weight.grad.abs().sum() > 0
    *below, top = net.net.expansive.steps
    assert all(w.grad is None for w in top.parameters())
    for step in below:  # what a head looks at has learned from it
        assert all(w.grad is not None for w in step.parameters())


def test_deep_supervision_weighs_each_level_by_half():
    net, logits, labels = supervised()
    for lower in net.lower:  # sure and right, for the label near the middle
        side, step = lower.shape[-1], 32 // lower.shape[-1]
        middle = labels[:, step // 2 :: step, step // 2 :: step]
        assert middle.shape == (2, side, side)
        lower.data = 50 * nn.functional.one_hot(middle, 2).permute(0, 3, 1, 2).float()
    top = nn.functional.cross_entropy(logits, labels)
    assert torch.allclose(net.loss(logits, labels), top / 1.75)
    net.lower[0].data *= -1  # 50 wrong at the coarser level
    assert torch.allclose(net.loss(logits, labels), (top + 50 / 4) / 1.75)
    net.lower[1].data *= -1
    assert torch.allclose(net.loss(logits, labels), (top + 50 / 4 + 50 / 2) / 1.75)


def test_deep_supervision_is_the_net_when_it_is_asked():
    net, x = one_change.DeepSupervision(tiny(dropout=0.5)), torch.randn(1, 1, 16, 16)
    net.train()(x)
    net.eval()
    assert torch.equal(net(x), net.net(x)) and net.lower == []
    labels = torch.randint(2, (1, 16, 16))
    plain = nn.functional.cross_entropy(net(x), labels)
    assert torch.equal(net.loss(net(x), labels), plain)


def test_each_change_differs_from_its_base_in_what_it_says():
    for changes, _ in one_change.TABLES.values():
        found = list(changes().values())
        assert len(set(found)) == len(found)


# The race


def test_the_worst_part_is_where_most_pixels_are_wrong():
    wrong = torch.zeros(40, 80, dtype=torch.bool).numpy()
    wrong[22:30, 51:60] = True
    wrong[0, :3] = True
    rows, columns = cars.worst_part(wrong)
    assert wrong[rows, columns].sum() == 8 * 9
    assert wrong[rows, columns].shape == (10, 20)


class Told(list):
    "A queue that nobody else fills."

    def put(self, item):
        self.append(item)

    def get(self, timeout):
        if not self:
            raise Empty
        return self.pop(0)


def ended(monkeypatch, side):
    "What a side of the race tells, if its training is this function."
    told = Told()
    monkeypatch.setattr(cars, "open_carvana", lambda folder: None)
    monkeypatch.setattr(cars, "library", side)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    gate, options = Namespace(wait=lambda timeout: None), Namespace(data=None, seed=0)
    with suppress(ZeroDivisionError):
        cars.race_one("library", options, told, gate)
    return told


def test_a_side_of_the_race_tells_that_it_is_over(monkeypatch):
    """Also one whose steps are used up before it is good, or that fails."""
    over = []

    def side(source, seed, report, start):
        over.extend([report(1, 2.0, 0.5), report(2, 4.0, cars.GOAL)])

    told = ended(monkeypatch, side)
    assert told[:2] == [("library", 1, 2.0, 0.5), ("library", 2, 4.0, cars.GOAL)]
    assert over == [False, True] and told[2][:2] == ("library", "done")
    (last,) = ended(monkeypatch, lambda *given: None)
    assert last[:2] == ("library", "done")
    (last,) = ended(monkeypatch, lambda *given: 1 / 0)
    assert last[:2] == ("library", "failed") and "ZeroDivisionError" in last[3]


def test_the_race_does_not_wait_for_a_side_that_is_gone():
    alive, killed = Namespace(exitcode=None), Namespace(exitcode=-9)
    sides = {"textbook": alive, "library": killed}
    with pytest.raises(RuntimeError, match="library was killed"):
        cars.next_report(Told(), sides)
    with pytest.raises(RuntimeError, match="textbook failed"):
        cars.next_report(Told([("textbook", "failed", 0, "no file")]), sides)
    report = "textbook", 1, 2.0, 0.5
    assert cars.next_report(Told([report]), sides) == report


# Commands


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_says_how_it_is_run(name):
    command = [sys.executable, FOLDER / name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout and "--device" in done.stdout


def test_tiles_of_a_slice_are_asked_like_slices():
    """Blended or side by side: an array (N, H, W), near the answer in one piece."""
    torch.manual_seed(0)
    net = UNet(base_channels=2, depth=2, padding=1).eval()
    drawn = [draw_membranes(size=192, seed=seed) for seed in range(2)]
    whole = membranes.membrane(net, drawn, 1)
    for overlap in (0, 64):
        p = one_change.in_tiles(net, drawn, overlap)
        assert p.shape == whole.shape == (2, 192, 192)
        assert np.median(np.abs(p - whole)) < 0.01
