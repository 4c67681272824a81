"""A net for another task: new ends, frozen parts, and all else as it was."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from samples import says, thin_net

from unet_tutorial.gpu import recompute
from unet_tutorial.model import UNet
from unet_tutorial.runs.weights import load_net, save_net
from unet_tutorial.tiles import eval_mode

KINDS = [
    {},
    {"variant": "release"},
    {"padding": 1, "norm": "batch", "residual": True, "upsampling": "bilinear"},
    {"norm": "instance", "dropout": 0.0},
]


def image(net, count=2, size=28):
    return torch.randn(count, net.in_channels, size, size)


def learn(net, steps=2):
    "Some steps with weight decay, which moves all that an optimizer can reach."
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(steps):
        logits = net.train()(image(net))
        labels = torch.randint(net.num_classes, (2, *logits.shape[2:]))
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()


def moved(net, before):
    "The parts of a net of which any number has changed."
    now = net.state_dict().items()
    return {name.split(".")[0] for name, x in now if not torch.equal(x, before[name])}


@pytest.mark.parametrize("switches", KINDS)
def test_only_the_last_layer_is_new_with_other_classes(switches):
    old = thin_net(**switches)
    before = deepcopy(old.state_dict())
    net = old.with_classes(5)
    assert net.num_classes == 5 and net(image(net)).shape[1] == 5
    assert old.num_classes == 2 and moved(old, before) == set()
    same = {name: w for name, w in net.state_dict().items() if "last" not in name}
    assert all(torch.equal(w, before[name]) for name, w in same.items())
    assert not net.last.bias.any() and net.last.weight.std() > 0


def test_a_new_last_layer_begins_as_in_a_new_net():
    net = thin_net(base_channels=512, depth=1).with_classes(400)
    assert net.last.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.01)
    torch.manual_seed(3)
    one = thin_net().with_classes(2)
    torch.manual_seed(0)  # by thin_net, so equal seeds give equal layers
    assert torch.equal(thin_net().with_classes(2).last.weight, one.last.weight)


@pytest.mark.parametrize("switches", KINDS)
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_grey_image_in_all_channels_is_seen_as_before(switches, channels):
    old = thin_net(**switches)
    net, x = old.with_channels(channels), image(old)
    assert net.in_channels == channels and old.in_channels == 1
    seen = net(x.expand(-1, channels, -1, -1))
    assert torch.allclose(seen, old(x), atol=1e-5)
    back = net.with_channels(1)
    assert torch.allclose(back(x), old(x), atol=1e-5)


def test_as_many_channels_as_before_change_nothing():
    old = thin_net(in_channels=3)
    new = old.with_channels(3)
    assert moved(new, old.state_dict()) == set()
    assert new.last.weight.data_ptr() != old.last.weight.data_ptr()  # still a copy


@pytest.mark.parametrize("switches", KINDS)
def test_a_changed_net_survives_the_disk(tmp_path, switches):
    net = thin_net(**switches).with_channels(4).with_classes(5)
    again, _ = load_net(save_net(tmp_path / "net.safetensors", net))
    assert (again.in_channels, again.num_classes) == (4, 5)
    x = image(net)
    assert torch.equal(again(x), net.eval()(x))


def test_device_format_and_mode_are_kept():
    net = thin_net(dtype=torch.float64).train().with_channels(2).with_classes(3)
    assert {w.dtype for w in net.parameters()} == {torch.float64}
    assert net.training and net.last.training
    there = thin_net().to("meta").with_channels(2).with_classes(3)
    assert {w.device.type for w in there.parameters()} == {"meta"}
    assert not thin_net().with_classes(3).last.training


@pytest.mark.parametrize("wrong", [0, -3, 2.0, "4", None, True, 2**20])
def test_what_no_net_can_have_is_refused(wrong):
    net = thin_net()
    with pytest.raises(ValueError, match="in_channels is"):
        net.with_channels(wrong)
    with pytest.raises(ValueError, match="num_classes is"):
        net.with_classes(wrong)
    assert (net.in_channels, net.num_classes) == (1, 2)


def test_one_class_is_refused_here_too():
    with pytest.raises(ValueError, match=says("num_classes is 1", "soft-max")):
        thin_net().with_classes(1)


@pytest.mark.parametrize("switches", KINDS)
@pytest.mark.parametrize("parts", [["contracting"], ["contracting", "expansive"]])
def test_frozen_parts_stay_to_the_last_bit(switches, parts):
    torch.manual_seed(0)
    net = thin_net(**switches).frozen(*parts)
    before = deepcopy(net.state_dict())
    learn(net)
    assert moved(net, before) == {"contracting", "expansive", "last"} - set(parts)


def test_a_frozen_part_stays_still_whoever_sets_the_mode():
    net = thin_net(norm="batch", dropout=0.9).frozen("contracting")
    still = [net.contracting.first.norm1, net.contracting.dropout]
    for _ in range(2):
        assert net.train() is net and net.expansive.training
        assert not any(layer.training for layer in still)
        with eval_mode(net):
            assert not net.expansive.training
        assert net.expansive.training and not any(layer.training for layer in still)
    x = image(net)
    maps, again = net.contracting(x), net.contracting(x)
    assert all(torch.equal(a, b) for a, b in zip(maps, again, strict=True))
    assert not net.eval().expansive.training


def test_old_gradients_do_not_move_what_is_frozen():
    net = thin_net()
    net(image(net)).sum().backward()
    frozen = net.frozen("contracting")
    assert all(w.grad is None for w in frozen.parameters())
    assert all(w.grad is not None for w in net.parameters())


def test_a_frozen_net_thaws():
    net = thin_net(norm="batch", dropout=0.5).train().frozen("contracting", "expansive")
    net = net.frozen()
    assert all(w.requires_grad for w in net.parameters())
    assert all(layer.training for layer in net.modules())
    before = deepcopy(net.state_dict())
    learn(net)
    assert moved(net, before) == {"contracting", "expansive", "last"}


def test_other_ends_of_a_frozen_net_stay_frozen():
    net = thin_net(norm="batch").frozen("contracting").with_channels(4).with_classes(3)
    assert not any(w.requires_grad for w in net.contracting.parameters())
    assert all(w.requires_grad for w in net.last.parameters())
    assert not net.train().contracting.training


@pytest.mark.parametrize("part", ["encoder", "last", "", 1])
def test_an_unknown_part_is_refused(part):
    with pytest.raises(ValueError, match=says("cannot be frozen", "contracting")):
        thin_net().frozen(part)


def test_a_net_that_recomputes_can_be_changed():
    net = recompute(thin_net(norm="batch").train()).with_classes(3)
    learn(net, steps=1)
    assert all(w.grad is not None for w in net.parameters())
    assert isinstance(net, UNet)
