"""Where a net computes, in how many bits, how long it takes, and what it needs."""

import os
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from samples import says
from torch import nn

from unet_tutorial.gpu import (
    amp_type,
    layout_rule,
    median_seconds,
    pick_device,
    pick_layout,
    training_memory,
    wait_for,
)
from unet_tutorial.model import UNet

CPU, CUDA, APPLE = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture
def cards(monkeypatch):
    "Pretend to have NVIDIA cards, as many as wanted, or none."

    def pretend(count, level=(8, 0), name="NVIDIA A100-SXM4-40GB"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d: level)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: name)

    return pretend


@pytest.fixture
def apple(monkeypatch):
    "Pretend to have an Apple chip, under some version of torch and of macOS."

    def pretend(version="2.8.0", macos=15):
        def is_newer(major, minor):
            return macos >= major

        monkeypatch.setattr(torch, "__version__", version)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", is_newer)
        monkeypatch.setattr(torch.mps, "device_count", lambda: 1)

    return pretend


# Where to compute


def test_pick_device_gives_one_that_works():
    assert torch.ones(3, device=pick_device()).sum() == 3
    assert pick_device("auto") == pick_device()
    assert pick_device("cpu") == pick_device(CPU) == CPU


def test_the_fastest_is_taken(cards, apple):
    cards(0)
    apple()
    assert pick_device() == APPLE
    cards(1)
    assert pick_device() == CUDA and pick_device("mps") == APPLE


def test_a_device_that_is_not_there_is_refused(cards, monkeypatch):
    cards(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=says("no cuda device here", "cpu would work")):
        pick_device("cuda")
    with pytest.raises(ValueError, match=says("'gpu'", "auto or cpu would work")):
        pick_device("gpu")
    with pytest.raises(ValueError, match=says("no meta device")):
        pick_device("meta")


def test_a_card_that_is_not_there_is_refused(cards):
    cards(2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=says("no cuda:9 here", "cuda:0 to cuda:1")):
        pick_device("cuda:9")
    cards(1)
    with pytest.raises(ValueError, match=says("no cuda:9 here", "cuda:0 would work")):
        pick_device("cuda:9")


def test_any_accelerator_of_torch_may_be_named(monkeypatch):
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    assert pick_device("xpu") == torch.device("xpu")
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="no xpu device here"):
        pick_device("xpu")


# In how many bits


@pytest.mark.parametrize("amp, dtype", [(True, torch.bfloat16), (False, None)])
def test_the_format_of_mixed_precision(amp, dtype):
    assert amp_type(amp, CPU) == dtype
    assert amp_type("fp16", CPU) == torch.float16
    assert amp_type(None, CPU) is None
    with pytest.raises(ValueError, match=says("'half'", '"bf16"')):
        amp_type("half", CPU)


@pytest.mark.parametrize("known", [True, False])
def test_sixteen_bits_are_taken_where_they_are_faster(monkeypatch, cards, known):
    name = "_is_avx512_bf16_supported"
    monkeypatch.setattr(torch.cpu, name, lambda: known, raising=False)
    assert amp_type("auto", CPU) == (torch.bfloat16 if known else None)
    assert amp_type("auto", APPLE) is None
    for level, dtype in (6, None), (7, torch.float16), (8, torch.bfloat16):
        cards(1, (level, 0))
        assert amp_type("auto", CUDA) == dtype
    monkeypatch.delattr(torch.cpu, name)  # it is no public name of torch
    assert amp_type("auto", CPU) is None


def test_a_t4_gets_float16_and_says_why_not_bfloat16(cards):
    cards(1, (7, 5), "Tesla T4")
    assert amp_type(True, CUDA) == amp_type("fp16", CUDA) == torch.float16
    with pytest.raises(ValueError, match=says("Tesla T4", "7.5", "8.0", "amp='fp16'")):
        amp_type("bf16", CUDA)
    cards(1, (8, 9), "NVIDIA L4")
    assert amp_type(True, CUDA) == amp_type("bf16", CUDA) == torch.bfloat16


def test_an_apple_chip_under_an_old_torch_has_no_16_bits(apple):
    for version in ("2.4.1", "2.5.0+cpu"):
        apple(version)
        for amp in (True, "bf16", "fp16"):
            with pytest.raises(ValueError, match=says(version, "2.6", "amp=False")):
                amp_type(amp, APPLE)
        assert amp_type("auto", APPLE) is None and amp_type(False, APPLE) is None
    apple("2.6.0")
    assert amp_type(True, APPLE) == torch.bfloat16


def test_an_apple_chip_under_an_old_torch_has_no_scaler(apple):
    apple("2.7.1")
    assert amp_type("bf16", APPLE) == torch.bfloat16
    with pytest.raises(ValueError, match=says("2.7.1", "scaler", "2.8", "amp='bf16'")):
        amp_type("fp16", APPLE)
    apple("2.10.0a0+git12")
    assert amp_type("fp16", APPLE) == torch.float16


def test_an_old_macos_has_no_bfloat16(apple):
    apple(macos=13)
    assert amp_type(True, APPLE) == torch.float16
    with pytest.raises(ValueError, match=says("macOS 14", "amp='fp16'")):
        amp_type("bf16", APPLE)


# How long, and how much


def test_what_is_measured_has_been_waited_for(monkeypatch):
    events = []
    fake = SimpleNamespace(synchronize=lambda: events.append("wait"))
    monkeypatch.setattr(torch, "xpu", fake)
    seconds = median_seconds(lambda: events.append("work"), "xpu", 3, warm_up=2)
    assert seconds >= 0
    assert events == ["work"] * 2 + ["wait"] + ["work", "wait"] * 3


def test_the_median_is_not_moved_by_one_slow_round(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 19.0, 20.0, 22.0])  # rounds of 1, 9 and 2 seconds
    monkeypatch.setattr("unet_tutorial.gpu.perf_counter", lambda: next(clock))
    assert median_seconds(lambda: None, "cpu", 3) == 2.0


def test_a_processor_need_not_be_waited_for():
    assert wait_for("cpu") is None


def test_memory_of_a_net_that_can_be_counted_by_hand():
    net = nn.Conv2d(1, 2, 3, bias=False)
    parts = training_memory(net, (5, 1, 10, 10))
    weights, logits = 4 * 18, 4 * 5 * 2 * 8 * 8
    assert parts["weights"] == parts["gradients"] == weights
    assert parts["optimizer"] == 2 * weights
    kept = 4 * 5 * 100 + logits + 8 * 5 * 8 * 8  # images, log-softmax, labels
    assert kept <= parts["activations"] <= kept + 64  # and a scalar or two
    assert next(net.parameters()).device == CPU  # the net itself was not moved


def test_memory_grows_with_the_batch_and_shrinks_with_the_bits():
    net = UNet(base_channels=4, depth=2, padding=1, norm="batch")
    one, four = (training_memory(net, (b, 1, 64, 64)) for b in (1, 4))
    assert one["weights"] == four["weights"]
    assert four["activations"] == pytest.approx(4 * one["activations"], rel=0.02)
    few = training_memory(net, (4, 1, 64, 64), torch.bfloat16)
    assert 0.45 < few["activations"] / four["activations"] < 0.7
    assert few["weights"] == 1.5 * four["weights"]  # a copy in 16 bits


def test_memory_of_a_net_that_was_trained_before():
    net = UNet(base_channels=2, depth=1)
    fresh = training_memory(net, (1, 1, 44, 44))
    net(torch.zeros(1, 1, 44, 44)).sum().backward()
    assert training_memory(net.eval(), (1, 1, 44, 44)) == fresh
    assert not net.training


# The benchmark, as far as it goes without a card


def run_benchmark(*options):
    env = dict(os.environ, CUDA_VISIBLE_DEVICES="")
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", *options]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_the_benchmark_says_that_there_is_no_card():
    if torch.backends.mps.is_available():
        pytest.skip("an Apple chip is here")
    run = run_benchmark()
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("\n") == 1
    assert "no GPU here" in run.stdout and "--device cpu --small" in run.stdout
    assert run_benchmark("--device", "cpu").returncode == 2  # it would take hours


def test_the_benchmark_can_be_tried_on_a_processor(tmp_path):
    before, out = sorted((ROOT / "results").iterdir()), tmp_path / "gpu.csv"
    run = run_benchmark("--device", "cpu", "--small", "--out", str(out))
    assert run.returncode == 0, run.stdout + run.stderr
    for what in ("matrix product", "training", "memory, predicted", "image by tiles"):
        assert what in run.stdout
    assert "Error" not in run.stdout
    assert sorted((ROOT / "results").iterdir()) == before
    head, *rows = out.read_text().splitlines()
    named = {"what", "setting", "value", "card", "torch", "seed", "command"}
    assert named < set(head.split(","))
    assert len(rows) > 12 and all("--small" in row for row in rows)


def test_nothing_is_written_that_nobody_asked_for(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--small"])
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"))
    monkeypatch.setitem(benchmark["main"].__globals__, "measure", lambda bench: None)
    before = sorted((ROOT / "results").iterdir())
    assert benchmark["main"]() == 0
    assert sorted((ROOT / "results").iterdir()) == before
    assert "written to" not in capsys.readouterr().out


# In which order

LAST, DEFAULT = torch.channels_last, torch.contiguous_format
ORDERS = [
    ("AVX512", CPU, False, True, LAST),
    ("AVX2", CPU, False, True, DEFAULT),
    ("DEFAULT", CPU, None, True, DEFAULT),
    ("AVX2", CPU, "bf16", True, LAST),
    ("AVX2", CPU, False, False, LAST),
    ("AVX512", CPU, "bf16", False, LAST),
    ("AVX2", CUDA, False, True, LAST),
    ("AVX2", CUDA, "fp16", False, LAST),
    ("DEFAULT", APPLE, False, True, DEFAULT),
    ("DEFAULT", APPLE, False, False, DEFAULT),
]


@pytest.mark.parametrize(("level", "device", "amp", "training", "due"), ORDERS)
def test_the_order_follows_what_computes(
    monkeypatch, level, device, amp, training, due
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    assert pick_layout(device, amp, training) == due
    form, why = layout_rule(device, amp, training)
    assert form == due and why
    if device == CPU and training and not amp:
        assert level in why


def test_an_instruction_set_can_be_forbidden():
    "As torch does it: the variable is read when torch is loaded."
    code = "from unet_tutorial.gpu import pick_layout, torch; "
    code += "print(pick_layout(torch.device('cpu')))"
    env = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "torch.contiguous_format", run.stderr
