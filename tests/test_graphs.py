"""The net as a graph of torch: one graph for all sizes, and a wrong size is refused."""

import io
import warnings

import pytest
import torch
from samples import thin_net

KINDS = {
    "paper": {},
    "release": {"variant": "release", "residual": True, "norm": "batch"},
    "padded": {"padding": 1, "norm": "batch", "residual": True},
    "bilinear": {"padding": 1, "upsampling": "bilinear"},
}
SIZES = [(44, 48), (60, 52), (52, 76), (48, 48)]
ANY = [(37, 51), (1, 5), (50, 64)]  # for padded nets


def scripted(net):
    "A net that went through a file of TorchScript."
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated
        torch.jit.save(torch.jit.script(net), file)
        file.seek(0)
        return torch.jit.load(file)


def traced(net):
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.trace(net, torch.zeros(1, net.in_channels, 44, 44))


@pytest.mark.parametrize("way", [scripted, traced])
@pytest.mark.parametrize("name", KINDS)
def test_torchscript_is_equal_at_every_size(name, way):
    net = thin_net(depth=2, **KINDS[name])
    graph = way(net)
    for size in SIZES + ANY * net.padding:
        x = torch.randn(2, 1, *size)
        assert torch.equal(graph(x), net(x)), size


@pytest.mark.parametrize("way", [scripted, traced])
@pytest.mark.parametrize("size", [(45, 44), (46, 44), (44, 47), (101, 101)])
def test_torchscript_refuses_what_the_net_refuses(way, size):
    net = thin_net(depth=2)
    with pytest.raises(ValueError, match="not a valid tile size"):
        net(torch.zeros(1, 1, *size))
    with pytest.raises(Exception, match=r"cannot be cropped|Sizes of tensors"):
        way(net)(torch.zeros(1, 1, *size))


def test_drop_out_works_in_torchscript():
    net = thin_net(depth=1, dropout=0.9).train()
    graph, x = scripted(net), torch.randn(1, 1, 28, 28)
    assert not torch.equal(graph(x), graph(x))
    assert torch.equal(graph.eval()(x), net.eval()(x))


@pytest.fixture
def graphs():  # a function: how many graphs torch.compile has made
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["paper", "release", "padded"])
def test_one_compiled_graph_serves_all_sizes(graphs, name):
    net = thin_net(depth=1, **KINDS[name])
    compiled = torch.compile(net, dynamic=True, backend="eager")
    for size in SIZES + [(37, 51), (50, 63)] * net.padding:
        x = torch.randn(2, 1, *size)
        assert torch.equal(compiled(x), net(x)), size
    assert graphs() <= (3 if net.padding else 1)  # torch 2.4: others for odd sizes


def test_a_compiled_net_refuses_what_the_net_refuses(graphs):
    compiled = torch.compile(thin_net(), dynamic=True, backend="eager")
    compiled(torch.zeros(2, 1, 44, 48))
    with pytest.raises(Exception, match="cannot be cropped"):
        compiled(torch.zeros(2, 1, 45, 48))


@pytest.mark.parametrize("strict", [True, False])
def test_the_net_itself_can_be_exported_with_dynamic_sizes(strict):
    net = thin_net(depth=2)
    sides = [4 * torch.export.Dim(name, min=12, max=512) - 4 for name in "hw"]
    sizes = {0: torch.export.Dim("batch", max=64), 2: sides[0], 3: sides[1]}
    example = (torch.zeros(2, 1, 48, 52),)
    program = torch.export.export(net, example, dynamic_shapes=(sizes,), strict=strict)
    graph = program.module()
    for size in SIZES:
        x = torch.randn(3, 1, *size)
        assert torch.equal(graph(x), net(x)), size
    with pytest.raises(Exception, match=r"Guard failed|of the form|Expected input"):
        graph(torch.zeros(2, 1, 46, 48))
