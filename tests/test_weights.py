"""A net in a file, which notices any damage and runs nobody's program."""

import json
import pickle
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from samples import Malicious, names, says, thin_net

from unet_tutorial.model import UNet
from unet_tutorial.runs.weights import (
    find_net,
    load_net,
    save_net,
    shipped_nets,
    write_tensors,
)

thin = partial(thin_net, base_channels=1)


def write_malice(folder, writer):
    "Write a pickle under the name of a net; opening it would make the file `ran`."
    path, content = folder / "net.safetensors", Malicious(folder / "ran")
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    return path


# Tensors


@pytest.mark.parametrize("kind", [torch.complex64, torch.uint16])
def test_a_type_that_the_file_cannot_hold_is_named(tmp_path, kind):
    path, tensors = tmp_path / "a.safetensors", {"phase": torch.zeros(2, dtype=kind)}
    with pytest.raises(TypeError, match=says("phase", str(kind), "float32", "work")):
        write_tensors(path, {}, tensors, overwrite=False)
    assert not any(tmp_path.iterdir())


# Nets


SWITCHES = [
    {},
    {"variant": "release", "num_classes": 3},
    {"padding": 1, "norm": "instance", "residual": True, "upsampling": "bilinear"},
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
    torch.save(thin().state_dict(), tmp_path / name)
    with pytest.raises(ValueError, match=pattern):
        load_net(tmp_path / name)


@pytest.mark.parametrize("writer", ["pickle", "torch", "old torch"])
def test_a_pickle_is_never_opened(tmp_path, writer):
    path = write_malice(tmp_path, writer)
    with pytest.raises(ValueError, match=says("net.safetensors is not a", "pickle")):
        load_net(path)
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


def test_a_folder_is_no_net(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        load_net(tmp_path)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_net(tmp_path / "nowhere.safetensors")


# The net of a run


def test_the_net_of_a_run_is_its_best(tmp_path):
    path = save_net(tmp_path / "best.safetensors", thin())
    assert find_net(tmp_path) == find_net(path) == path


def test_a_run_without_a_net_says_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=says("nothing", "a run's folder")):
        find_net(tmp_path)
    for number in range(5):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(FileNotFoundError, match=says("0.txt, 1.txt, 2.txt...")):
        find_net(tmp_path)


@pytest.mark.parametrize("name", ["a.PNG", "a.tif", "no_ending"])
def test_an_image_is_no_net(tmp_path, name):
    start = b"\x89PNG" if name == "no_ending" else b""
    (tmp_path / name).write_bytes(start)
    with pytest.raises(ValueError, match=says(name, "is an image", "RUN", "folder")):
        find_net(tmp_path / name)


def test_weights_import_no_data():
    "Reading a net is needed by data and by learning, so it stands below both."
    code = "import sys, unet_tutorial.runs.weights\n"
    code += (
        "print([name for name in sys.modules if name.startswith('unet_tutorial.d')])"
    )
    command, root = [sys.executable, "-c", code], Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, check=True, cwd=root)
    assert done.stdout.split() == [b"[]"]


def test_a_shipped_net_is_found_by_its_name(tmp_path, monkeypatch):
    assert "membranes" in shipped_nets()
    assert find_net("membranes").is_file()
    monkeypatch.chdir(tmp_path)
    thin_net = save_net(tmp_path / "membranes" / "best.safetensors", thin())
    assert find_net("membranes").resolve() == thin_net  # a folder of one's own is first


def test_a_misspelt_net_is_answered_with_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no membrane; .*\(membranes\)"):
        find_net("membrane")
