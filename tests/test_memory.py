"""Memory that a training keeps: few page faults inside, given back afterwards."""

import threading

import pytest
import torch
from torch import nn

from unet_tutorial.runs import memory
from unet_tutorial.runs.memory import keep_memory
from unet_tutorial.train import Step, train_one_epoch

resource = pytest.importorskip("resource")  # not on Windows
glibc = pytest.mark.skipif(memory._glibc() is None, reason="another library of C")
BLOCK = 2**24  # floats, 64 MB


def faults_of(work):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def touch():
    torch.ones(BLOCK)  # dropped at once


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.fixture
def calls(monkeypatch):
    "What is asked of the C library, which is not really asked."

    class Library:
        def __init__(self):
            self.calls = []

        def mallopt(self, setting, value):
            self.calls.append((setting, value))

        def malloc_trim(self, pad):
            self.calls.append("trim")

    library = Library()
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    return library.calls


@glibc
def test_steps_of_training_fault_outside_and_not_inside():
    net, image = nn.Conv2d(1, 4, 3, padding=1), torch.zeros(1, 1, 1600, 1600)
    pages = 4 * image.numel() * image.itemsize // resource.getpagesize()  # of a map
    pages = pages // 512  # where the system hands out pages of 2 MB

    def step():
        net(image).relu().mean().backward()

    def fewest():
        return min(faults_of(step) for _ in range(5))

    assert fewest() >= pages
    with keep_memory():
        assert fewest() < pages / 2
    assert fewest() >= pages


@glibc
def test_the_memory_is_given_back():
    with keep_memory():
        touch()
        inside = resident()
    assert resident() < inside - 3 * BLOCK


def test_one_inside_another_gives_back_at_the_end_only(calls):
    with keep_memory():
        begun = list(calls)
        with keep_memory():
            pass
        assert calls == begun and "trim" not in calls
    assert calls[-1] == "trim" and len(calls) > len(begun)


def test_two_threads_share_the_setting(calls):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with keep_memory():
            inside.set()
            leave.wait(120)

    thread = threading.Thread(target=other)
    with keep_memory():
        thread.start()
        assert inside.wait(120)
    assert "trim" not in calls
    leave.set()
    thread.join(120)
    assert calls[-1] == "trim"


def test_an_error_ends_it_too(calls):
    with pytest.raises(ZeroDivisionError), keep_memory():
        raise ZeroDivisionError
    assert calls[-1] == "trim"


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    assert memory._glibc() is None
    with keep_memory():
        pass


def test_an_epoch_runs_inside(calls):
    seen = []
    net = nn.Conv2d(1, 2, 3)
    step = Step(net, torch.optim.SGD(net.parameters(), 0.1))

    def criterion(logits, labels):
        seen.append(list(calls))
        return nn.functional.cross_entropy(logits, labels)

    batch = torch.zeros(1, 1, 5, 5), torch.zeros(1, 3, 3, dtype=torch.long)
    train_one_epoch(net, [batch], criterion, step, "cpu")
    assert seen[0] and "trim" not in seen[0] and calls[-1] == "trim"
