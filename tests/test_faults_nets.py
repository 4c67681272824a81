"""A stranger's net: each lie in its file is a ValueError that names it, at once."""

import json
import random
import time
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from samples import Malicious, thin_net
from torch import nn

from unet_tutorial.deploy.export import export_net
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.weights import find_net, load_net, save_net, write_tensors

SWITCHES = {"base_channels": 2, "depth": 1}


@cache
def warm():
    "What torch imports when the first net is read is not what a fault costs."
    load_net(find_net("membranes"))


def refused(call, *words, kind=ValueError, seconds=5.0, megabytes=64):
    "Whether a call ends with this error, all these words in it, soon and with little."
    warm()
    tracemalloc.start()
    begin = time.process_time()
    try:
        call()
    except kind as error:
        text = str(error)
    else:
        raise AssertionError("nothing was refused")
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert all(word in text for word in words), text
    assert len(text) < 2000 and "os.PathLike" not in text, text
    assert time.process_time() - begin < seconds
    assert most < megabytes * 2**20


def lying(folder, switches=None, notes=None, texts=None, change=lambda tensors: None):
    "A file as save_net writes it, checksum included, whose contents are a lie."
    net = thin_net()
    all_switches = {"in_channels": 1, "num_classes": 2, **SWITCHES}
    honest = {"unet": json.dumps(all_switches | (switches or {})), "notes": "{}"}
    if notes is not None:
        honest["notes"] = json.dumps(notes)
    tensors = dict(net.state_dict())
    change(tensors)
    path = folder / "net.safetensors"
    return write_tensors(path, honest | (texts or {}), tensors, overwrite=True)


def switch(name, value, *words):
    def case(folder):
        path = lying(folder, {name: value})
        refused(lambda: load_net(path), "net.safetensors", name, *words)

    return case


def note(name, value):
    def case(folder):
        path = lying(folder, notes={name: value})
        refused(lambda: load_net(path), "net.safetensors", name, "would work")
        if not (isinstance(value, float) and value != value):
            refused(
                lambda: save_net(folder / "b.safetensors", thin_net(), **{name: value}),
                name,
            )

    return case


def text(name, value, *words):
    def case(folder):
        path = lying(folder, texts={name: value})
        refused(lambda: load_net(path), "net.safetensors", *words)

    return case


def tensor(change, *words):
    def case(folder):
        path = lying(folder, change=change)
        refused(lambda: load_net(path), "net.safetensors", "undamaged", *words)

    return case


def filled(name, value):
    def change(tensors):
        x = tensors[name].clone()
        x.view(-1)[-1] = value
        tensors[name] = x

    return change


def header(content, size=0):
    "A .safetensors file with this header, and some zeros after it."

    def write(folder):
        path = folder / "net.safetensors"
        path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(size))
        return path

    return write


def file_case(write, *words):
    def case(folder):
        for load in (load_net, load_state, Predictor.load):
            refused(partial(load, write(folder)), "net.safetensors", *words)

    return case


def many_keys(folder):
    path = folder / "net.safetensors"
    entry = b'"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    with path.open("wb") as file:
        body = b"".join(entry % i for i in range(300_000))
        file.write((len(body) + 1).to_bytes(8, "little") + b"{" + body[:-1] + b"}")
    return path


def announced(length):
    def write(folder):
        path = folder / "net.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(100))
        return path

    return write


def state_tree(tree, *words):
    def case(folder):
        path = folder / "state.safetensors"
        value = tree if isinstance(tree, str) else json.dumps(tree)
        write_tensors(path, {"state": value}, {"0 x": torch.zeros(2)}, overwrite=True)
        refused(lambda: load_state(path), "state.safetensors", *words)

    return case


def state_into(tree):
    def case(folder):
        path = save_state(folder / "state.safetensors", tree)
        net = thin_net()
        for into in (torch.optim.AdamW(net.parameters()), net):
            load = partial(load_state, path, into=into)
            refused(load, "state.safetensors", "sound")

    return case


def changed_net(change, *words, kind=ValueError):
    def case(folder):
        net = deepcopy(thin_net())
        net = change(net) or net
        path = folder / "net.safetensors"
        path.write_bytes(b"precious")
        refused(lambda: save_net(path, net, overwrite=True), *words, kind=kind)
        assert path.read_bytes() == b"precious" and len(list(folder.iterdir())) == 1

    return case


def other_head(net):
    net.last = nn.Conv2d(2, 5, 1)


def deep_head(net):
    net.last = nn.Sequential(nn.Conv2d(2, 8, 1), nn.Conv2d(8, 2, 1))


def other_stem(net):
    net.contracting.first.conv1 = nn.Conv2d(4, 2, 3)


def other_pooling(net):
    net.contracting.steps[0].pool = nn.AvgPool2d(2)


def diverged(net):
    with torch.no_grad():
        net.expansive.steps[0].up.bias[0] = float("nan")


class Mine(UNet):
    "A U-Net with code of its own."


def mine(net):
    return Mine(**SWITCHES)


def swapped(folder):
    path = str(folder / "net.safetensors")
    refused(lambda: save_net(thin_net(), path), "UNet", "save_net(path", kind=TypeError)
    refused(lambda: load_net(thin_net()), "UNet", "load_net(path)", kind=TypeError)
    refused(lambda: load_state(thin_net()), "UNet", kind=TypeError)
    refused(lambda: save_state({"a": 1}, path), "dict", kind=TypeError)
    refused(lambda: find_net(thin_net()), "UNet", "folder", kind=TypeError)
    refused(lambda: save_net(path, "net"), "str is no net", kind=TypeError)
    refused(
        lambda: save_net(path, thin_net().state_dict()), "is no net", kind=TypeError
    )
    assert not list(folder.iterdir())


def foreign(folder):
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    path = folder / "net.onnx"
    refused(
        lambda: save_net(folder / "a.safetensors", net), "Sequential", kind=TypeError
    )
    refused(lambda: export_net(net, path), "Sequential", "torch.onnx", kind=TypeError)
    refused(lambda: Predictor.load(net), "Sequential", kind=TypeError)


def pickles(folder):
    path = folder / "net.safetensors"
    torch.save(Malicious(folder / "ran"), path)
    for load in (load_net, load_state, Predictor.load):
        refused(partial(load, path), "net.safetensors", "pickle")
    assert not (folder / "ran").exists()


def no_file(folder):
    for place in (Path("/dev/null"), Path("/dev/zero")):
        if place.exists():
            refused(partial(load_net, place), str(place), "no file")


def long_notes(folder):
    path = folder / "net.safetensors"
    notes = {"log": "x" * 2**24}
    refused(lambda: save_net(path, thin_net(), **notes), "net.safetensors", "header")
    assert not list(folder.iterdir())


def only_value_errors(path, contents, loads):
    "Whether each of these files is refused by its name, or as it was."
    begin = time.process_time()
    for content in contents:
        path.write_bytes(content)
        for load in loads:
            try:
                load(path)
            except ValueError as error:
                assert path.name in str(error) and len(str(error)) < 1000
            else:
                raise AssertionError(f"accepted: {content[:2000]!r}")
    assert time.process_time() - begin < 60


def shuffled(folder):
    "Bytes of a whole file, changed at random: never another error."
    draw, path = random.Random(0), folder / "net.safetensors"
    whole = lying(folder, notes={"size": [32, 32]}).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    contents, marks = [], [0, 255, *b'0919{}[]",:-e']
    for _ in range(2000):
        broken = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 8])):
            place = draw.choice([draw.randrange(8), draw.randrange(length + 8)])
            broken[place] = draw.choice([*marks, draw.randrange(256)])
        contents.append(bytes(broken))
    contents = [broken for broken in contents if broken != whole]
    only_value_errors(path, contents, [load_net, load_state])


def rewritten(folder):
    "Entries of the header exchanged at random, in sound JSON: never another error."
    draw, path = random.Random(0), folder / "net.safetensors"
    whole = lying(folder).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    contents = []
    for _ in range(1000):
        entries = json.loads(whole[8 : 8 + length])
        name = draw.choice(list(entries))
        entry = entries[name]
        field = draw.choice(list(entry))
        before, value = entry[field], draw.choice([*VALUES, [2**62, 4], [0, 2**40]])
        if value == before:
            continue
        if draw.random() < 0.7:
            entry[field] = value
        else:  # an entry that is none
            entries[draw.choice([name, "x"])] = value
        header = json.dumps(entries).encode()
        body = whole[8 + length :]
        contents.append(len(header).to_bytes(8, "little") + header + body)
    only_value_errors(path, contents, [load_net, load_state])


VALUES = [0, -1, 1, 2, 10**30, 1e308, float("nan"), float("inf"), "", "1", "x" * 9999]
VALUES += [None, True, False, [], {}, [[]], {"a": 1}, [1, 2], "batch", "release", 0.5]


def mutated(folder):
    "Switches and notes of any type under a true checksum: a net, or a ValueError."
    draw, names = random.Random(0), ["in_channels", "num_classes", "base_channels"]
    names += ["depth", "padding", "norm", "dropout", "variant", "residual"]
    names += ["upsampling", "colour", "training", "forward", "__class__"]
    keys = ["size", "normalisation", "classes", "tile", "value_range", "views"]
    kept = 0
    for _ in range(200):
        switches = {draw.choice(names): draw.choice(VALUES)}
        notes = {draw.choice(keys): draw.choice(VALUES)}
        path = lying(folder, switches, notes)
        try:
            net, found = load_net(path)
            kept += isinstance(net, UNet) and isinstance(found, dict)
        except ValueError as error:
            assert "net.safetensors" in str(error) and len(str(error)) < 2000
    assert 0 < kept < 100


CASES: dict[str, Callable[[Path], None]] = {
    # the switches in a file
    "no channels": switch("in_channels", 0, "1 or more"),
    "a negative depth": switch("depth", -4, "1 or more"),
    "a depth of 50": switch("depth", 50, "up to 16"),
    "a depth of a billion": switch("depth", 10**9, "up to 16"),
    "a depth with a fraction": switch("depth", 2.5, "whole number"),
    "channels enough for any machine": switch("base_channels", 10**12, "up to"),
    "a bottom of four million channels": switch(
        "base_channels", 2**16, "bottom", "131072"
    ),
    "a number with 5,000 digits": text(
        "unet", '{"depth": ' + "9" * 5000 + "}", "damaged"
    ),
    "channels that are text": switch("base_channels", "64", "whole number"),
    "channels that are true": switch("in_channels", True, "whole number"),
    "channels that are a list": switch("in_channels", [1], "whole number"),
    "one class alone": switch("num_classes", 1, "sigmoid", "CrossEntropyLoss"),
    "a drop-out that is NaN": switch("dropout", float("nan"), "0 to 1"),
    "a drop-out of text": switch("dropout", "half", "0 to 1"),
    "a padding that is true": switch("padding", True, "0 or 1"),
    "a padding of 1e308": switch("padding", 1e308, "0 or 1"),
    "an unknown norm": switch("norm", "layer", "batch"),
    "a norm that is a list": switch("norm", ["batch"], "batch"),
    "a residual of 1": switch("residual", 1, "False or True"),
    "a switch that UNet has not": switch("colour", "red", "no switch"),
    "a switch with a name of a megabyte": text(
        "unet", json.dumps({"a" * 2**20: 1}), "no switch"
    ),
    "switches that are a list": text("unet", "[1, 2]", "no dictionary"),
    "switches that are no JSON": text("unet", "{", "damaged"),
    "switches nested a hundred thousand deep": text("unet", "[" * 10**5, "damaged"),
    "switches nested and closed": text("unet", "[" * 10**5 + "]" * 10**5, "damaged"),
    "a switch nested 900 deep": text(
        "unet", '{"depth": ' + "[" * 900 + "]" * 900 + "}", "depth"
    ),
    # its notes
    "notes that are a list": text("notes", "[]", "dictionary"),
    "notes that are a number": text("notes", "NaN", "dictionary"),
    "a size below zero": note("size", [-5, 32]),
    "a size of one number": note("size", 32),
    "a size of text": note("size", "large"),
    "a size of a terapixel": note("size", [10**6, 10**6]),
    "a size with a fraction": note("size", [32.5, 32]),
    "a normalisation by zero": note("normalisation", [0, 0]),
    "a normalisation that is NaN": note("normalisation", [float("nan"), 1.0]),
    "a normalisation without a name": note("normalisation", "minmax"),
    "a tile of nothing": note("tile", 0),
    "a tile of text": note("tile", "388"),
    "a tile of a million": note("tile", 10**6),
    "classes that are numbers": note("classes", [1, 2]),
    "classes that are one name": note("classes", "cell"),
    "a value range upside down": note("value_range", [255, 0]),
    "a value range without end": note("value_range", [0, float("inf")]),
    # its weights
    "a weight that is NaN": tensor(
        filled("last.bias", float("nan")), "last.bias", "NaN"
    ),
    "a weight that is infinite": tensor(
        filled("contracting.first.conv1.weight", float("inf")),
        "contracting.first.conv1.weight",
    ),
    "a weight too few": tensor(lambda x: x.pop("last.bias"), "last.bias", "absent"),
    "a weight too many": tensor(
        lambda x: x.update(extra=torch.zeros(2)), "extra", "absent"
    ),
    "a weight of another shape": tensor(
        lambda x: x.update({"last.weight": torch.zeros(5, 2, 1, 1)}),
        "last.weight",
        "(5, 2, 1, 1)",
        "with_classes",
    ),
    "weights that are integers": tensor(
        lambda x: x.update({"last.bias": torch.zeros(2, dtype=torch.int64)}),
        "last.bias",
        "integers",
    ),
    # the file itself
    "a header of 20 MB of keys": file_case(many_keys, "header", "8,388,608"),
    "a header longer than the file": file_case(announced(10**6), "too short"),
    "a header of 2**63 bytes": file_case(announced(2**63), "too short"),
    "a header of nothing": file_case(announced(0), "net.safetensors"),
    "a header that is a list": file_case(header(b"[]"), "net.safetensors"),
    "a header nested deep": file_case(header(b"[" * 10**5), "net.safetensors"),
    "a tensor of 2**62 numbers": file_case(
        header(
            b'{"a":{"dtype":"F32","shape":[4611686018427387904,0],"data_offsets":[0,0]},'
            b'"__metadata__":{"sha256":"","unet":"{}","notes":"{}","state":"{}"}}'
        )
    ),
    "a tensor beyond the end": file_case(
        header(
            b'{"a":{"dtype":"F32","shape":[1000000000000],'
            b'"data_offsets":[0,4000000000000]}}',
            8,
        )
    ),
    "metadata that is no text": file_case(header(b'{"__metadata__":{"sha256":[1]}}')),
    "a pickle under another name": pickles,
    "a device instead of a file": no_file,
    "bytes changed at random": shuffled,
    "entries of the header changed at random": rewritten,
    "switches and notes changed at random": mutated,
    # the state of a training
    "a state that is no JSON": state_tree("{", "damaged"),
    "a state nested deep": state_tree("[" * 10**5 + "]" * 10**5, "damaged"),
    "a state nested 3,000 dictionaries deep": state_tree(
        '{"tuple": [' * 3000 + "]}" * 3000, "damaged"
    ),
    "a state of an unknown kind": state_tree({"set": [1]}),
    "a state of two kinds": state_tree({"tuple": [], "dict": []}),
    "a state that names no tensor": state_tree({"tensor": "1 y"}),
    "a state that names a list": state_tree({"tensor": ["0 x"]}),
    "a state whose tuple is a number": state_tree({"tuple": 5}),
    "a state whose pairs are none": state_tree({"dict": [[1, 2, 3]]}),
    "a state whose keys are lists": state_tree({"dict": [[[1], 2]]}),
    "a state that is a list, for an object": state_into([1, 2]),
    "a state that is a number, for an object": state_into(3),
    "a state that is empty, for an object": state_into({}),
    "a state of wrong parts, for an object": state_into(
        {"state": 5, "param_groups": [{"params": "x"}]}
    ),
    # what save_net is given
    "a net with another head": changed_net(other_head, "last", "with_classes(5)"),
    "a net with a head of two layers": changed_net(deep_head, "last", "with_classes"),
    "a net with another first layer": changed_net(
        other_stem, "contracting.first", "with_channels(4)"
    ),
    "a net with another pooling": changed_net(other_pooling, "AvgPool2d", "MaxPool2d"),
    "a net that has diverged": changed_net(diverged, "expansive.steps.0.up.bias"),
    "a net of a class of one's own": changed_net(mine, "Mine", kind=TypeError),
    "a net in a wrapper": changed_net(
        nn.DataParallel, "DataParallel", "model.module", kind=TypeError
    ),
    "arguments in the wrong order": swapped,
    "a net that is no UNet": foreign,
    "notes of 16 MB": long_notes,
}


@pytest.mark.parametrize("name", CASES)
def test_fault(tmp_path, name):
    CASES[name](tmp_path)
