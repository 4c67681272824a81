"""Where a net computes, in how many bits, how long it takes, and what it needs."""

import csv
import json
import os
import runpy
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from samples import says
from torch import nn

from unet_tutorial.blocks import DoubleConv
from unet_tutorial.gpu import (
    amp_type,
    largest_batch,
    layout_rule,
    median_seconds,
    peak_memory,
    pick_device,
    pick_layout,
    predict_memory,
    recompute,
    wait_for,
)
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.weights import load_net, save_net
from unet_tutorial.train import Step, train_one_epoch

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


def test_the_peak_of_a_processor_is_measured():
    def work():
        a = torch.empty(3000, dtype=torch.uint8)
        del a
        b = torch.empty(2000, dtype=torch.uint8)
        c = torch.empty(1500, dtype=torch.uint8)
        return b.data_ptr() + c.data_ptr()

    assert peak_memory(work) == 3500


def test_the_peak_of_a_card_is_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", seen.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 350)
    assert peak_memory(lambda: seen.append("work"), CUDA) == 250
    assert seen == [CUDA, "work"]
    with pytest.raises(ValueError, match=says("mps", "cpu or cuda")):
        peak_memory(lambda: None, "mps")


def test_memory_of_a_net_that_can_be_counted_by_hand():
    net = nn.Conv2d(1, 2, 3, bias=False).to(memory_format=torch.channels_last)
    parts = predict_memory(net, (5, 1, 10, 10))
    assert parts["weights"] == 4 * 18
    assert parts["optimizer"] == 2 * 4 * 18 + 4  # and the number of steps
    labels, logits = 8 * 5 * 64, 4 * 5 * 2 * 64
    assert parts["batch"] == 4 * 5 * 100 + labels
    # logits, log-softmax, gradients of both; besides the loss and what it weighs
    assert 0 <= parts["passing"] - 4 * logits <= 16
    assert next(net.parameters()).device == CPU  # the net itself was not moved


SIZES = {"valid": (0, 220), "same": (1, 112)}


def peaks(net, shape, amp, optimizer):
    "What is predicted, and what the loop takes."

    def work():
        mine, images = deepcopy(net), torch.zeros(shape)
        with torch.no_grad():
            labels = mine(images).argmax(1)
        step = Step(mine, optimizer(mine.parameters()), amp=amp)
        train_one_epoch(mine, [(images, labels)] * 2, F.cross_entropy, step, CPU)

    predicted = predict_memory(net, shape, amp, optimizer)
    return sum(predicted.values()), peak_memory(work)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_the_prediction_of_memory_is_within_ten_percent(size, amp, again):
    if amp and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no instructions for bfloat16")
    if amp and torch.get_num_threads() > 8:
        pytest.skip("of many threads not all turn an image around")
    padding, side = SIZES[size]
    norm = "batch" if padding else None
    net = UNet(base_channels=16, padding=padding, norm=norm)
    shape = (4, 1, side, side)
    predicted, measured = peaks(recompute(net, again), shape, amp, torch.optim.AdamW)
    assert abs(predicted / measured - 1) < 0.1


@pytest.mark.parametrize("size", SIZES)
def test_another_optimizer_and_another_order_are_predicted_too(size):
    padding, side = SIZES[size]
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    net = UNet(base_channels=16, padding=padding)
    net = net.to(memory_format=torch.channels_last)
    predicted, measured = peaks(net, (1, 1, side, side), None, sgd)
    assert abs(predicted / measured - 1) < 0.1
    parts = predict_memory(net, (1, 1, side, side), optimizer=sgd)
    assert parts["optimizer"] == parts["weights"]


def test_what_the_library_copies_is_predicted():
    net, shape = UNet(base_channels=16, depth=2, padding=1), (4, 1, 96, 96)
    predicted, measured = peaks(net, shape, None, torch.optim.AdamW)
    assert abs(predicted / measured - 1) < 0.1  # 0.125 without the copies
    last = predict_memory(net.to(memory_format=torch.channels_last), shape)
    assert sum(last.values()) < 0.9 * predicted


def test_what_a_library_takes_is_known_of_processors_only(monkeypatch):
    net, shape = UNet(base_channels=16, depth=1, padding=1), (1, 1, 32, 32)
    peaks = []
    for device, threads in ((CPU, 1), (CPU, 4), (CUDA, 1), (CUDA, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        parts = predict_memory(net, shape, torch.bfloat16, device=device)
        peaks.append(sum(parts.values()))
    assert peaks[1] > peaks[0] > peaks[2] == peaks[3]


def test_a_criterion_may_have_weights_of_its_classes():
    net, shape = UNet(base_channels=2, depth=1, padding=1), (1, 1, 16, 16)
    weighted = nn.CrossEntropyLoss(torch.tensor([1.0, 3.0]))
    parts = predict_memory(net, shape, criterion=weighted)
    assert sum(parts.values()) >= sum(predict_memory(net, shape).values())


def test_a_prediction_takes_no_memory():
    with torch.device("meta"):
        net = UNet()
    parts = {}
    held = peak_memory(lambda: parts.update(predict_memory(net, (8, 1, 572, 572))))
    assert held < 2**20 < 6 * 2**30 < sum(parts.values())


def test_memory_grows_with_the_batch_and_shrinks_with_the_bits():
    net = UNet(base_channels=4, depth=2, padding=1, norm="batch")
    one, four = (predict_memory(net, (b, 1, 64, 64)) for b in (1, 4))
    assert one["weights"] == four["weights"] and one["optimizer"] == four["optimizer"]
    assert four["batch"] == 4 * one["batch"]
    assert four["passing"] == pytest.approx(4 * one["passing"], rel=0.05)
    few = predict_memory(net, (4, 1, 64, 64), torch.float16)
    assert 0.45 < few["passing"] / four["passing"] < 0.7


def test_memory_of_a_net_that_was_trained_before():
    net = UNet(base_channels=2, depth=1)
    fresh = predict_memory(net, (1, 1, 44, 44))
    net(torch.zeros(1, 1, 44, 44)).sum().backward()
    assert predict_memory(net.eval(), (1, 1, 44, 44)) == fresh
    assert not net.training


def test_the_largest_batch_fits_and_one_more_does_not():
    net = UNet(base_channels=4, depth=1, padding=1)

    def need(batch):
        return sum(predict_memory(net, (batch, 1, 32, 32)).values())

    assert largest_batch(net, 32, need(3) / 2**30) == 3
    assert largest_batch(net, 32, (need(3) - 1) / 2**30) == 2
    assert largest_batch(net, 32, (need(1) - 1) / 2**30) == 0
    assert largest_batch(net, 32, need(2) / 2**30, amp=torch.bfloat16) > 2
    with pytest.raises(ValueError, match="bytes / 2\\*\\*30"):
        largest_batch(net, 32, 80 * 2**30)  # bytes of a card, taken for GiB


# Memory for time


def learn(net):
    "Gradients and buffers after one step."
    torch.manual_seed(1)  # of dropout
    net(
        torch.linspace(-1, 1, 2 * 44 * 44).view(2, 1, 44, 44)
    ).square().mean().backward()
    return [*(weight.grad for weight in net.parameters()), *net.buffers()]


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"norm": "batch"},
        {"norm": "instance", "padding": 1, "residual": True, "upsampling": "bilinear"},
        {"variant": "release"},
    ],
    ids=str,
)
def test_recomputing_changes_no_bit(switches):
    torch.manual_seed(0)
    plain = UNet(base_channels=4, depth=2, **switches)
    again = recompute(deepcopy(plain))
    copy = deepcopy(again)
    expected = learn(plain)
    for net in (again, copy):  # two steps, so that what is left behind would show
        for a, b in zip(learn(net), expected, strict=True):
            assert torch.equal(a, b)
    assert again.state_dict().keys() == plain.state_dict().keys()


def test_recomputing_leaves_the_momentum_of_batch_norm():
    net = recompute(UNet(base_channels=2, depth=1, norm="batch"))
    learn(net)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}
    assert {int(norm.num_batches_tracked) for norm in norms} == {1}


def test_parts_are_computed_twice_only_while_they_learn(monkeypatch):
    calls = []
    forward = DoubleConv.forward

    def counted(block, x):
        calls.append(block)
        return forward(block, x)

    monkeypatch.setattr(DoubleConv, "forward", counted)
    net = recompute(UNet(base_channels=2, depth=1))  # three blocks
    for mode, on, count in ((True, True, 6), (False, True, 3), (True, False, 3)):
        calls.clear()
        learn(recompute(net, on).train(mode))
        assert len(calls) == count
    assert not any("forward" in vars(part) for part in net.modules())


def test_a_net_that_recomputes_is_saved_as_any_other(tmp_path):
    torch.manual_seed(0)
    net = UNet(base_channels=2, depth=1)
    plain = save_net(tmp_path / "plain.safetensors", net).read_bytes()
    path = save_net(tmp_path / "again.safetensors", recompute(net))
    assert path.read_bytes() == plain
    assert "forward" not in vars(load_net(path)[0].contracting.first)


def test_a_net_that_recomputes_can_be_compiled_and_exported():
    torch.manual_seed(0)
    plain = UNet(base_channels=2, depth=1, norm="batch", dropout=0.0)
    again = recompute(deepcopy(plain))
    learn(torch.compile(again, backend="aot_eager"))
    expected = learn(plain)
    found = [*(weight.grad for weight in again.parameters()), *again.buffers()]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    x = torch.ones(1, 1, 44, 44)
    program = torch.export.export(again.eval(), (x,))
    torch.testing.assert_close(program.module()(x), plain.eval()(x))


def test_a_net_that_recomputes_predicts_as_any_other():
    torch.manual_seed(0)
    plain = UNet(base_channels=2, depth=1, padding=1, norm="batch")
    image = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    expected = Predictor(plain).probabilities(image)
    again = Predictor(recompute(deepcopy(plain))).probabilities(image)
    np.testing.assert_array_equal(again, expected)


def test_only_a_unet_can_recompute():
    with pytest.raises(TypeError, match=says("Sequential is no UNet", "torch.compile")):
        recompute(nn.Sequential())


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
    assert "Error" not in run.stdout
    assert sorted((ROOT / "results").iterdir()) == before
    head, *rows = out.read_text().splitlines()
    named = {"what", "setting", "value", "card", "torch", "seed", "command"}
    assert named < set(head.split(","))
    assert all("--small" in row for row in rows)
    with out.open(newline="") as lines:
        found = {(row["what"], row["setting"]): row for row in csv.DictReader(lines)}
    open_here = {key for key, row in found.items() if row["value"] == "-"}
    assert {setting for _, setting in open_here} == {*LEFT_OUT}
    assert all(found[key]["note"].startswith("left out: ") for key in open_here)
    asked = {(what, setting) for what, known in asked_of_a_card() for setting in known}
    asked = {(what.replace("512x512", "96x96"), setting) for what, setting in asked}
    missing = {(what, setting) for what, setting in asked if setting not in LEFT_OUT}
    assert missing <= found.keys()


LEFT_OUT = "tf32", "Step", "Training", "CUDA graph", "pytest"


def asked_of_a_card():
    "What the notebook shows of a card: (what, settings)."
    path = ROOT / "nbs" / "13_gpu.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    names = {}
    [source] = [c["source"] for c in cells if c["id"] == "measured-table"]
    exec("".join(source), names)
    return names["ASKED"].items()


def test_a_step_is_recorded_once_and_played_again(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"))
    seen, stream = [], SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "graph")
    monkeypatch.setattr(
        torch.cuda, "graph", lambda graph: nullcontext(seen.append(graph))
    )
    torch.manual_seed(0)
    net = UNet(base_channels=4, depth=1, padding=1)
    step = Step(net, torch.optim.AdamW(net.parameters(), 1e-2))
    x = torch.randn(2, 1, 16, 16)
    one = benchmark["whole_step"](net, step, (x, (x[:, 0] > 0).long()))
    step.optimizer.register_step_post_hook(lambda *args: seen.append("step"))
    assert benchmark["recorded"](one) == "graph"
    assert seen == ["step"] * 3 + ["graph", "step"]


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


def test_a_layout_is_picked_for_a_name_too():
    assert pick_layout("cpu", "bf16") == torch.channels_last
    assert layout_rule("cpu") == layout_rule(CPU)
