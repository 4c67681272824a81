"""Files that are whole or absent, notice damage, and run nobody's program."""

import errno
import json
import os
import pickle
import random
import sys

import pytest
import torch
from safetensors.torch import save_file
from samples import says

from unet_tutorial.model import UNet
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.files import new_file
from unet_tutorial.runs.weights import load_net, save_net


def thin(**switches):
    torch.manual_seed(0)
    return UNet(base_channels=1, depth=1, **switches).eval()


def names(folder):
    return sorted(file.name for file in folder.iterdir())


class Malicious:
    "Its pickle makes a file as soon as it is opened."

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (self.flag.touch, ())


# new_file


def test_a_new_file_is_renamed_when_it_is_whole(tmp_path):
    with new_file(tmp_path / "new" / "a.txt") as part:
        part.write_text("half")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "half"
    assert names(tmp_path / "new") == ["a.txt"]


def test_a_failure_keeps_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with (
        pytest.raises(ZeroDivisionError),
        new_file(tmp_path / "a.txt", overwrite=True) as part,
    ):
        part.write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_nothing_is_replaced_unasked(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    pattern = says("a.txt", "overwrite=True")
    with pytest.raises(FileExistsError, match=pattern), new_file(tmp_path / "a.txt"):
        raise AssertionError("not reached")
    with pytest.raises(IsADirectoryError, match="is a folder"), new_file(tmp_path):
        raise AssertionError("not reached")


def test_what_a_killed_save_left_is_no_obstacle(tmp_path):
    (tmp_path / "a.txt.part").write_text("rest of a save that was killed")
    with new_file(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    calls, replace, sync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda n: (calls.append("sync"), sync(n)))
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("name"), replace(*a)))
    save_net(tmp_path / "net.safetensors", thin())
    folder = ["sync"] if os.name == "posix" else []
    assert calls == ["sync", "name", *folder]


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    old = os.umask(0o027)
    try:
        path = save_net(tmp_path / "net.safetensors", thin())
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


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


# Nets

SWITCHES = [
    {},
    {"variant": "release", "num_classes": 3},
    {"padding": 1, "norm": "batch", "in_channels": 3, "dropout": 0.1},
]


@pytest.mark.parametrize("switches", SWITCHES)
def test_a_net_survives_the_disk(tmp_path, switches):
    net = thin(**switches)
    path = save_net(tmp_path / "new" / "net.safetensors", net, size=[160, 240])
    before = torch.get_rng_state()
    again, notes = load_net(path)
    assert torch.equal(before, torch.get_rng_state())  # no number was drawn
    x = torch.randn(1, net.in_channels, 60, 60)
    assert torch.equal(net(x), again(x)) and notes == {"size": [160, 240]}
    assert not again.training and again.variant == net.variant
    assert all(weight.requires_grad for weight in again.parameters())
    assert names(path.parent) == ["net.safetensors"]


def test_a_net_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"net\.safetensors.*overwrite=True"):
        save_net(path, thin())
    assert path.read_bytes() == b"precious"
    save_net(path, thin(), overwrite=True)
    load_net(path)


def test_equal_nets_are_equal_files(tmp_path):
    files = [save_net(tmp_path / f"{n}.safetensors", thin(), a=1, b="ö") for n in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_wrapped_net_is_not_saved_under_other_names(tmp_path):
    wrapped = torch.nn.DataParallel(thin())
    with pytest.raises(TypeError, match=r"DataParallel.*model\.module"):
        save_net(tmp_path / "net.safetensors", wrapped)


@pytest.mark.parametrize("name", ["net.pt", "net.PTH", "net.ckpt", "net.pkl"])
def test_the_name_of_a_pickle_is_refused_with_the_reason(tmp_path, name):
    pattern = says(name, "pickle", "stranger", "net.safetensors")
    with pytest.raises(ValueError, match=pattern):
        save_net(tmp_path / name, thin())
    with pytest.raises(ValueError, match=pattern):
        save_state(tmp_path / name, {})
    torch.save(thin().state_dict(), tmp_path / name)
    with pytest.raises(ValueError, match=pattern):
        load_net(tmp_path / name)
    with pytest.raises(ValueError, match=pattern):
        load_state(tmp_path / name)


@pytest.mark.parametrize("writer", ["pickle", "torch", "old torch"])
@pytest.mark.parametrize("load", [load_net, load_state])
def test_a_pickle_is_never_opened(tmp_path, writer, load):
    path, content = tmp_path / "net.safetensors", Malicious(tmp_path / "ran")
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(ValueError, match=says("net.safetensors is not a", "pickle")):
        load(path)
    assert not (tmp_path / "ran").exists()


def damaged(kind, whole, path):
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "longer":
        path.write_bytes(whole + b"0")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "foreign":
        save_file({"weight": torch.zeros(2)}, path)
    elif kind == "without a checksum":
        notes = {"unet": json.dumps({"base_channels": 3}), "notes": "{}"}
        save_file({"weight": torch.zeros(2)}, path, notes)


DAMAGES = ["cut", "longer", "empty", "foreign", "without a checksum"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_file_that_is_no_net_is_named(tmp_path, kind):
    path = save_net(tmp_path / "net.safetensors", thin())
    damaged(kind, path.read_bytes(), path)
    with pytest.raises(ValueError, match=r"net\.safetensors is not a net that"):
        load_net(path)


def test_any_flipped_bit_is_noticed(tmp_path):
    path = save_net(tmp_path / "net.safetensors", thin(), size=[160, 240])
    whole, draw = path.read_bytes(), random.Random(0)
    places = [*range(0, 8 * 1200, 37), *draw.choices(range(8 * len(whole)), k=150)]
    for place in places:  # the header's, and any
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"net\.safetensors is not a net that"):
            load_net(path)


def test_weights_of_another_architecture_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(UNet, "state_dict", lambda self: {"weight": torch.zeros(2)})
    path = save_net(tmp_path / "net.safetensors", thin())
    with pytest.raises(ValueError, match=says("net.safetensors", "Missing key")):
        load_net(path)


def test_a_state_is_no_net_and_a_net_no_state(tmp_path):
    state = save_state(tmp_path / "state.safetensors", {"step": 1})
    net = save_net(tmp_path / "net.safetensors", thin())
    with pytest.raises(ValueError, match=says("state.safetensors is not a net")):
        load_net(state)
    with pytest.raises(ValueError, match=says("net.safetensors is not a state")):
        load_state(net)


def test_a_folder_is_no_net(tmp_path):
    for load in (load_net, load_state):
        with pytest.raises(ValueError, match="is a folder"):
            load(tmp_path)


def test_a_missing_file_is_a_missing_file(tmp_path):
    for load in (load_net, load_state):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load(tmp_path / "nowhere.safetensors")


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
