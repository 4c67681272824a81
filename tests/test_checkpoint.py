"""States that are whole or absent, notice damage, and run nobody's program."""

import errno
import os
import pickle
import sys
from functools import partial

import pytest
import torch
from samples import Malicious, names, says, thin_net

from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.weights import load_net, save_net

thin = partial(thin_net, base_channels=1)


# A full disk


def test_a_full_disk_is_named_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = save_state(tmp_path / "state.safetensors", {"step": 1})

    def no_space(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=says("No space", "state.safetensors")) as caught:
        save_state(path, {"step": 2}, overwrite=True)
    assert caught.value.errno == errno.ENOSPC
    assert load_state(path) == {"step": 1} and names(tmp_path) == [path.name]


@pytest.mark.skipif(sys.platform != "linux", reason="limits as on Linux")
def test_a_limit_of_the_system_fails_the_save_only(tmp_path):
    import resource
    import signal

    path = save_state(tmp_path / "state.safetensors", {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(OSError, match=r"state\.safetensors"):
            save_state(path, {"w": torch.zeros(4096)}, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_state(path) == {"step": 1} and names(tmp_path) == [path.name]


# What is no state


@pytest.mark.parametrize("name", ["net.pt", "net.PTH", "net.ckpt", "net.pkl"])
def test_the_name_of_a_pickle_is_refused_with_the_reason(tmp_path, name):
    pattern = says(name, "pickle", "stranger", "net.safetensors")
    with pytest.raises(ValueError, match=pattern):
        save_state(tmp_path / name, {})
    torch.save(thin().state_dict(), tmp_path / name)
    with pytest.raises(ValueError, match=pattern):
        load_state(tmp_path / name)


@pytest.mark.parametrize("writer", ["pickle", "torch", "old torch"])
def test_a_pickle_is_never_opened(tmp_path, writer):
    path, content = tmp_path / "net.safetensors", Malicious(tmp_path / "ran")
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(ValueError, match=says("net.safetensors is not a", "pickle")):
        load_state(path)
    assert not (tmp_path / "ran").exists()


def test_a_state_is_no_net_and_a_net_no_state(tmp_path):
    state = save_state(tmp_path / "state.safetensors", {"step": 1})
    net = save_net(tmp_path / "net.safetensors", thin())
    with pytest.raises(ValueError, match=says("state.safetensors is not a net")):
        load_net(state)
    with pytest.raises(ValueError, match=says("net.safetensors is not a state")):
        load_state(net)


def test_a_folder_is_no_state(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        load_state(tmp_path)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_state(tmp_path / "nowhere.safetensors")


# States


def same(a, b):
    "Whether two nests are equal, bit for bit and type for type."
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        parts = zip(a, b, strict=True)
        return type(a) is type(b) and all(same(*pair) for pair in parts)
    return type(a) is type(b) and repr(a) == repr(b)


def test_a_nest_survives_the_disk(tmp_path):
    nest = {
        "text": "Übergröße",
        "numbers": [1, -2.5, 0.1 + 0.2, float("inf"), float("nan"), True, None],
        "tuple": (0.9, (1, [2])),
        0: {"0": torch.arange(3), 0: torch.tensor(1.5, dtype=torch.float64)},
        "tensors": [torch.zeros(0), torch.ones(2, 2).bool(), torch.ones(3).bfloat16()],
        "turned": torch.arange(6).reshape(2, 3).T,
        "empty": [{}, [], ()],
    }
    path = save_state(tmp_path / "state.safetensors", nest)
    assert same(load_state(path), nest)


OPTIMIZERS = {
    "SGD": lambda w: torch.optim.SGD(w, 0.1, momentum=0.99, nesterov=True),
    "AdamW": lambda w: torch.optim.AdamW(w, 0.1, amsgrad=True),
    "RMSprop": lambda w: torch.optim.RMSprop(w, 0.1),
}
SCHEDULES = {
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, 20),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda n: 0.9**n),
    "steps": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 8]),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_and_schedules_go_on_exactly(tmp_path, optimizer, schedule):
    def start():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        steps = OPTIMIZERS[optimizer](layer.parameters())
        return layer, steps, SCHEDULES[schedule](steps)

    def learn(layer, steps, rate, count):
        for _ in range(count):
            layer(torch.ones(4, 3)).square().sum().backward()
            steps.step()
            steps.zero_grad()
            rate.step()

    whole = start()
    learn(*whole, 5)
    path = tmp_path / "state.safetensors"
    save_state(path, {str(i): part.state_dict() for i, part in enumerate(whole)})
    learn(*whole, 5)
    other = start()
    for part, state in zip(other, load_state(path).values(), strict=True):
        part.load_state_dict(state)
    learn(*other, 5)
    for a, b in zip(whole, other, strict=True):
        assert same(a.state_dict(), b.state_dict())


def test_objects_are_saved_and_set(tmp_path):
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    load_state(save_state(tmp_path / "a.safetensors", a), into=b)
    assert torch.equal(a.weight, b.weight)
    with pytest.raises(ValueError, match=says("a.safetensors", "size mismatch")):
        load_state(tmp_path / "a.safetensors", into=torch.nn.Linear(3, 2))


class Failing:
    "An object that cannot be set, for a reason that has nothing to do with the file."

    def __init__(self, error):
        self.error = error

    def load_state_dict(self, state):
        raise self.error


def test_only_what_does_not_fit_is_laid_to_the_file(tmp_path):
    path = save_state(tmp_path / "a.safetensors", {"step": 1})
    memory = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    for error in (memory, RuntimeError("CUDA error: device-side assert triggered")):
        with pytest.raises(type(error)) as caught:
            load_state(path, into=Failing(error))
        assert caught.value is error
    for error in (KeyError("momentum"), ValueError("loaded state dict has 3 groups")):
        with pytest.raises(ValueError, match=says("a.safetensors", "sound", "Failing")):
            load_state(path, into=Failing(error))


def test_what_cannot_be_kept_is_named_by_its_place(tmp_path):
    with pytest.raises(TypeError, match=r"state/a/1 is a function"):
        save_state(tmp_path / "a.safetensors", {"a": [1, lambda: 0]})
    assert not names(tmp_path)
