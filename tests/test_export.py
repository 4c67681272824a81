"""The same net as a graph: equal at every size, never written when it is not."""

import json
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from samples import says

from unet_tutorial.deploy.export import export_net, largest_difference, open_graph
from unet_tutorial.model import UNet
from unet_tutorial.runs.weights import save_net

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

NETS = {
    "paper": {},
    "release": {"variant": "release", "depth": 2, "num_classes": 3},
    "padded": {"padding": 1, "norm": "batch", "in_channels": 3, "depth": 2},
    "normed": {"norm": "batch", "depth": 1},
}


def thin(**switches):
    torch.manual_seed(0)
    net = UNet(base_channels=2, **switches)
    for layer in net.modules():  # running statistics that are not those of a new net
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("name", NETS)
def test_onnx_is_equal_at_every_size(tmp_path, name):
    net = thin(**NETS[name])
    path = export_net(net, tmp_path / "net.onnx")
    sizes = [(60, 76), (92, 60)] if net.depth == 2 else [(204, 188)]
    if net.padding:
        sizes = [(37, 91), (1, 1), (64, 5), (2, 3)]
    assert largest_difference(path, net, sizes=sizes) < 1e-4


@pytest.mark.parametrize("name", ["normed", "padded"])
def test_a_program_of_torch_is_equal_at_every_size(tmp_path, name):
    net = thin(**NETS[name])
    path = export_net(net, tmp_path / "net.pt2")
    sizes = [(64, 32), (48, 80)] if net.padding else [(18, 76), (92, 60)]
    assert largest_difference(path, net, sizes=sizes) < 1e-4


def test_batches_of_any_size(tmp_path):
    net = thin(depth=1)
    run = open_graph(export_net(net, tmp_path / "net.onnx"))
    x = np.random.default_rng(0).normal(size=(5, 1, 30, 44)).astype(np.float32)
    with torch.no_grad():
        assert np.allclose(run(x), net(torch.from_numpy(x)), atol=1e-4)


def test_drop_out_and_training_mode_are_left_alone(tmp_path):
    net = thin(depth=1).train()
    path = export_net(net, tmp_path / "net.onnx")
    assert net.training and net.contracting.training
    assert largest_difference(path, net.eval()) < 1e-4


def test_a_difference_is_found(tmp_path):
    net = thin(depth=1)
    path = export_net(net, tmp_path / "net.onnx")
    with torch.no_grad():
        net.last.bias += 0.01
    assert 1e-3 < largest_difference(path, net) < 0.011


def test_a_graph_that_differs_is_not_written(tmp_path):
    with pytest.raises(RuntimeError, match=r"net\.onnx differs.*not written"):
        export_net(thin(depth=1), tmp_path / "net.onnx", tolerance=-1.0)
    assert not list(tmp_path.iterdir())


def test_what_must_be_known_travels_along(tmp_path):
    import onnx

    run = tmp_path / "run"
    net = thin(depth=1, norm="batch")
    save_net(run / "best.safetensors", net, classes=["in", "out"], size=[30, 40])
    path = export_net(run, tmp_path / "net.onnx")
    facts = {fact.key: fact.value for fact in onnx.load(str(path)).metadata_props}
    assert json.loads(facts["notes"]) == {"classes": ["in", "out"], "size": [30, 40]}
    assert UNet(**json.loads(facts["unet"])).depth == 1
    assert "18, 20, 22" in facts["input"] and "deviation 1" in facts["input"]


def test_the_file_of_a_net_is_enough(tmp_path):
    net = thin(depth=1)
    file = save_net(tmp_path / "net.safetensors", net)
    assert largest_difference(export_net(file, tmp_path / "new/net.onnx"), net) < 1e-4


def test_a_graph_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"net\.onnx.*overwrite=True"):
        export_net(thin(depth=1), path)
    assert path.read_bytes() == b"precious"
    export_net(thin(depth=1), path, overwrite=True)


WRONG = [(45, 44), (46, 44), (44, 47), (101, 101), (40, 44)]


@pytest.mark.parametrize("kind", [".onnx", ".pt2"])
def test_a_graph_refuses_what_the_net_refuses(tmp_path, kind):
    net = thin(depth=2)
    ask = open_graph(export_net(net, tmp_path / f"net{kind}"))
    for size in WRONG:
        with pytest.raises(ValueError, match="not a valid tile size"):
            net(torch.zeros(1, 1, *size))
        with pytest.raises(ValueError, match=r"not a valid size of this graph; the"):
            ask(np.zeros((1, 1, *size), np.float32))


def test_an_onnx_graph_fails_by_itself_at_a_wrong_size(tmp_path):
    """A program that reads no note must not get an answer that is shifted."""
    import onnxruntime

    path = export_net(thin(depth=2), tmp_path / "net.onnx")
    onnxruntime.set_default_logger_severity(4)  # it would print the error as well
    try:
        options = {"providers": ["CPUExecutionProvider"]}
        session = onnxruntime.InferenceSession(str(path), **options)
        for size in WRONG[:-1]:
            with pytest.raises(Exception, match="mismatched dimensions"):
                session.run(None, {"image": np.zeros((1, 1, *size), np.float32)})
    finally:
        onnxruntime.set_default_logger_severity(2)


@pytest.mark.parametrize(
    ("switches", "sides"),
    [
        ({"depth": 1}, "sides 18, 20, 22, ..."),
        ({"depth": 1, "padding": 1}, "sides 4, 6, 8, ..."),
    ],
)
def test_the_note_of_a_program_names_its_sizes(tmp_path, switches, sides):
    path, found = export_net(thin(**switches), tmp_path / "net.pt2"), {"input": ""}
    torch.export.load(str(path), extra_files=found)
    assert sides in str(found["input"])  # bytes in torch 2.4
    if "padding" in switches:
        with pytest.raises(ValueError, match="nearest are 36 and 38"):
            open_graph(path)(np.zeros((1, 1, 37, 64), np.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_net_of_another_format_is_exported_in_32_bits(tmp_path, dtype):
    net = thin(depth=1, norm="batch")
    path = export_net(deepcopy(net).to(dtype), tmp_path / "net.onnx")
    assert largest_difference(path, net) < 1e-2


def test_a_foreign_net_is_told_what_would_work(tmp_path):
    for net in (torch.nn.Conv2d(1, 2, 3), torch.nn.DataParallel(thin(depth=1))):
        pattern = says(type(net).__name__, "no UNet", "torch.onnx.export")
        with pytest.raises(TypeError, match=pattern):
            export_net(net, tmp_path / "net.onnx")
    with pytest.raises(TypeError, match=says("UNet", "export_net(net, path)")):
        export_net("membranes", thin(depth=1))
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"net\.tflite.*\.onnx or \.pt2"):
        export_net(thin(depth=1), tmp_path / "net.tflite")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_cure(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=says(package, "pip install onnx")):
        export_net(thin(depth=1), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_export_is_imported_without_onnx(monkeypatch):
    for package in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "unet_tutorial.deploy.export")
    import unet_tutorial.deploy.export as export

    assert export.export_net


HUB = {"source": "local", "verbose": False}


def test_a_clone_is_a_hub():
    from conftest import ROOT

    net = torch.hub.load(str(ROOT), "unet", in_channels=3, depth=1, **HUB)
    assert net.in_channels == 3 and net(torch.zeros(1, 3, 20, 20)).shape[-1] == 4
    whole = torch.hub.load(str(ROOT), "unet", **HUB)
    assert sum(w.numel() for w in whole.parameters()) == 31_030_658


def test_a_hub_hands_out_weights(tmp_path):
    from conftest import ROOT

    net = thin(depth=1)
    save_net(tmp_path / "best.safetensors", net)
    again = torch.hub.load(str(ROOT), "unet", weights=tmp_path, **HUB)
    x = torch.randn(1, 1, 20, 20)
    assert torch.equal(again(x), net(x))
    with pytest.raises(ValueError, match="switches"):
        torch.hub.load(str(ROOT), "unet", weights=tmp_path, depth=2, **HUB)


def test_a_net_in_training_mode_is_compared_as_it_will_be_used(tmp_path):
    net = thin(depth=1, dropout=0.9, norm="batch")
    path = export_net(net, tmp_path / "net.onnx")
    assert largest_difference(path, net.train()) < 1e-4
    assert net.training and net.last.training
