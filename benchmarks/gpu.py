"""Measure a graphics card: one command, at most eight minutes, no network.

    make gpu                                       # python benchmarks/gpu.py
    make gpu ARGS="--device cpu --small"           # try the script without a card

Everything is drawn from a seed. Measured are: the rate of a plain matrix product in
each format; training of the padded `UNet` at 512x512 with the loop of `train`, in
images and steps per second and as a share of that rate, in each format, compiled, as a
CUDA graph and with several batch sizes; the peak of the memory beside what
`predict_memory` says, also with `recompute` and with the largest batch that should fit;
how often the loop waits for the card; the loader of the paper's windows, bent, beside
the step that they are for; the seconds for a 512x512 image by tiles through the paper's
net; how far a training that was begun on the processor and resumed on the card is from
one that stayed; the tests for devices.

Each result is printed as it comes. They are written to results/gpu_<card>.csv, with the
card, versions, command and seed in each row; a measurement that failed or was left out
has its reason there instead of a number. On a processor nothing is written unless --out
names a file. The exit status is 1 if something failed.
"""

import argparse
import gc
import platform
import re
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from table import write
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unet_tutorial.data.crops import Windows
from unet_tutorial.data.loader import make_loader, pick_workers
from unet_tutorial.data.tissue import TissueChanges
from unet_tutorial.gpu import (
    amp_type,
    largest_batch,
    median_seconds,
    peak_memory,
    pick_device,
    predict_memory,
    recompute,
    wait_for,
)
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.engine import Training
from unet_tutorial.synthetic import draw_membranes
from unet_tutorial.tiles import lost_pixels
from unet_tutorial.train import Step, to_device, train_one_epoch

ROOT = Path(__file__).resolve().parent.parent
CRITERION = nn.CrossEntropyLoss()
WAIT = "synchronizing CUDA operation"  # torch's words in its debug mode
ORDER = ["what", "setting", "value", "unit", "note"]


class LeftOut(Exception):
    "Why something is not measured here."


@dataclass
class Bench:
    "What is measured, where, and what came of it."

    device: torch.device
    minutes: float
    seed: int
    small: bool
    batch: int

    def __post_init__(self):
        self.rows, self.failed, self.start = [], False, perf_counter()
        self.side = 32 if self.small else 512
        self.channels = 4 if self.small else 64
        self.rates = {}  # TFLOP/s of a matrix product by format
        self.flops = 0  # of a training step for one image, once it is counted

    @property
    def on_card(self):  # bool
        return self.device.type == "cuda"

    def left(self):  # float
        "Seconds until the time is used up."
        return 60 * self.minutes - (perf_counter() - self.start)

    def add(self, what, setting, value, unit="", note=""):
        "Print a result and keep it."
        if isinstance(value, float):
            value = f"{value:.4g}"
        print(f"{what:<24}{setting:<16}{value:>12} {unit:<10} {note}", flush=True)
        row = zip(ORDER, (what, setting, value, unit, note), strict=True)
        self.rows.append(dict(row))

    def attempt(self, what, setting, work, *args, needs=20):
        "Do one measurement; whatever goes wrong becomes a row."
        if self.left() < needs and not self.small:
            self.add(what, setting, "-", note="left out: the time is used up")
            return
        try:
            work(self, setting, *args)
        except LeftOut as reason:
            self.add(what, setting, "-", note=f"left out: {reason}")
        except torch.cuda.OutOfMemoryError:
            self.add(what, setting, "-", note="the card's memory was not enough")
        except Exception as error:
            self.failed = True
            text = " ".join(str(error).split())[:200]
            self.add(what, setting, "-", note=f"{type(error).__name__}: {text}")
        gc.collect()
        if self.on_card:
            torch.cuda.empty_cache()


def set_tf32(wanted):
    "Allow or forbid 19-bit products inside operations of 32 bits."
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    torch.backends.cudnn.allow_tf32 = wanted


def format_of(setting, device):
    "The format of a setting: torch.dtype, or None for 32 bits."
    if setting in ("fp32", "tf32", "recomputed"):
        return None
    if setting in ("fp16", "bf16"):
        return amp_type(setting, device)
    return amp_type(True, device)  # the best there is


def name_of(dtype, setting=""):
    "The name of a format, by which its rate is kept."
    names = {torch.float16: "fp16", torch.bfloat16: "bf16"}
    return names.get(dtype, "tf32" if setting == "tf32" else "fp32")


def check_format(bench, setting):
    "Say why a card has not got a format."
    if setting == "tf32":
        if not bench.on_card:
            raise LeftOut("TF32 is a format of NVIDIA's cards")
        if torch.cuda.get_device_capability(bench.device) < (8, 0):
            raise LeftOut("this card has no TF32")
    try:
        format_of(setting, bench.device)
    except ValueError as error:
        raise LeftOut(error) from None


def need_card(bench):
    if not bench.on_card:
        raise LeftOut("needs an NVIDIA card")


# The measurements


def matrix_rate(bench, setting):
    "TFLOP/s of a product of two square matrices."
    check_format(bench, setting)
    set_tf32(setting == "tf32")
    dtype = format_of(setting, bench.device) or torch.float32
    n = 256 if bench.small else 8192 if dtype.itemsize == 2 else 4096
    a = torch.randn(n, n, device=bench.device).to(dtype)
    seconds = median_seconds(lambda: a @ a, bench.device, rounds=10)
    bench.rates[setting] = 2 * n**3 / seconds / 1e12
    bench.add("matrix product", setting, bench.rates[setting], "TFLOP/s", f"{n} x {n}")


PLAIN = "fp32", "tf32", "fp16", "bf16"  # trained in the default order


def adamw(net, **options):
    return torch.optim.AdamW(net.parameters(), 1e-3, **options)


def net_and_batch(bench, setting, size=None):
    "A padded UNet on the device with its step, and one batch there."
    torch.manual_seed(bench.seed)
    net = UNet(padding=1, norm="batch", base_channels=bench.channels).to(bench.device)
    images = torch.randn(size or bench.batch, 1, bench.side, bench.side)
    labels = (images[:, 0] > 0.5).long().to(bench.device)
    images = images.to(bench.device)
    if setting not in PLAIN:
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    options = {"capturable": True} if setting == "CUDA graph" and bench.on_card else {}
    optimizer = adamw(net, **options)
    step = Step(net, optimizer, amp=format_of(setting, bench.device))
    return net, step, (images, labels)


def flops(bench):
    "Floating-point operations of a step for one image, forward and backward."
    if not bench.flops:
        with torch.device("meta"):
            net = UNet(padding=1, norm="batch", base_channels=bench.channels)
            image = torch.empty(1, 1, bench.side, bench.side)
        with FlopCounterMode(display=False) as counter:
            net(image).sum().backward()
        bench.flops = counter.get_total_flops()
    return bench.flops


def seconds_per_step(bench, work):
    "Seconds of a step, from work(steps), and how many were done at a time."
    one = median_seconds(lambda: work(1), bench.device, rounds=1)
    steps = max(2, min(50, int((0.1 if bench.small else 3) / one)))
    seconds = median_seconds(lambda: work(steps), bench.device, 3, 0)
    return seconds / steps, steps


def add_rates(bench, setting, size, step, measured, note=""):
    "The rows of a training: images, steps, share of the matrix rate."
    per_step, steps = measured
    name = name_of(step.amp, setting)
    note = f"batch {size} in {name}{note}"
    bench.add("training", setting, size / per_step, "images/s", note)
    bench.add("training, steps", setting, 1 / per_step, "steps/s", f"{steps} at a time")
    if name in bench.rates:
        rate = size * flops(bench) / per_step / 1e12
        note = f"of the {bench.rates[name]:.3g} TFLOP/s of a matrix product"
        share = 100 * rate / bench.rates[name]
        bench.add("share of matrix rate", setting, share, "%", note)


def training(bench, setting, size=None):
    "Images per second of the loop, one batch again and again."
    check_format(bench, setting)
    set_tf32(setting != "fp32")
    size = size or bench.batch
    net, step, batch = net_and_batch(bench, setting, size)
    model = net
    if setting == "compile":  # a small trial goes without a compiler
        model = torch.compile(net, backend="eager" if bench.small else "inductor")

    def epoch(steps):
        train_one_epoch(model, [batch] * steps, CRITERION, step, bench.device)

    start = perf_counter()
    epoch(2)
    first = f"; the first two steps took {perf_counter() - start:.1f} s"
    add_rates(bench, setting, size, step, seconds_per_step(bench, epoch), first)


def whole_step(net, step, batch):
    "A function that does one step of training, always on the same tensors."
    images, labels = batch

    def one():
        with step.precision():
            logits = net(images)
        CRITERION(logits.float(), labels).backward()
        step.optimizer.step()
        step.optimizer.zero_grad()  # a graph must begin without old gradients

    return one


def recorded(one):
    "A CUDA graph of a step: replay() does it again."
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            one()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        one()  # is written down, not computed
    return graph


def graph_training(bench, setting):
    "The same as training, with each step launched as a whole."
    set_tf32(True)
    net, step, batch = net_and_batch(bench, setting)
    one = whole_step(net.train(), step, batch)
    if not bench.on_card:
        one()  # so that a trial has met it
        need_card(bench)
    if step.scaler.is_enabled():
        raise LeftOut("float16 has a scaler, which looks at the gradients")
    graph = recorded(one)

    def replay(steps):
        for _ in range(steps):
            graph.replay()

    add_rates(bench, setting, bench.batch, step, seconds_per_step(bench, replay))


def memory(bench, setting, size=None):
    "The peak of one step beside what predict_memory says."
    set_tf32(setting != "fp32")
    size, again = size or bench.batch, setting in ("recomputed", "recomputed, 16")

    def options():
        adam = partial(torch.optim.AdamW, foreach=bench.on_card)
        amp = format_of(setting, bench.device)
        return {"amp": amp, "optimizer": adam, "device": bench.device}

    with torch.device("meta"):
        net = UNet(padding=1, norm="batch", base_channels=bench.channels)
    if setting not in PLAIN:
        net = net.to(memory_format=torch.channels_last)
    recompute(net, again)
    if setting == "largest batch":
        size = largest_batch(net, bench.side, free_memory(bench), **options())
    shape = (size, 1, bench.side, bench.side)
    predicted = sum(predict_memory(net, shape, **options()).values()) / 2**30
    bench.add("memory, predicted", setting, predicted, "GiB", f"batch {size}")

    def work():
        net, step, batch = net_and_batch(bench, setting, size)
        recompute(net, again)
        train_one_epoch(net, [batch] * 2, CRITERION, step, bench.device)

    try:
        peak = peak_memory(work, bench.device) / 2**30
    except ValueError as error:  # not every device tells
        raise LeftOut(error) from None
    note = f"batch {size}: {peak / predicted:.2f} times the prediction"
    bench.add("memory, peak", setting, peak, "GiB", note)


def free_memory(bench):
    "GiB that a training may take: nine tenths of what is free; a trial takes little."
    if bench.on_card:
        return 0.9 * torch.cuda.mem_get_info(bench.device)[0] / 2**30
    if bench.small:
        return 0.005
    raise LeftOut("how much memory is free is known on NVIDIA cards")


def waits(bench, setting):
    "How often an epoch waits for the card, as torch itself counts."
    need_card(bench)
    net, step, batch = net_and_batch(bench, "fp32")
    if setting == "Training":  # clipped, averaged: what a run has
        step = Training(net, step.optimizer, device=bench.device, clip=1.0, ema=0.99)
    train_one_epoch(net, [batch] * 2, CRITERION, step, bench.device)
    wait_for(bench.device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_one_epoch(net, [batch] * 8, CRITERION, step, bench.device)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    count = sum(WAIT in str(warning.message) for warning in caught)
    note = f"{count} in an epoch of 8 steps"
    bench.add("waits per step", setting, count / 8, "", note)


def windows(bench, count):
    "The paper's windows of drawn membranes, bent, and the net that they are for."
    depth, side, size = (2, 92, 128) if bench.small else (4, 572, 512)
    net = UNet(base_channels=bench.channels, depth=depth)
    drawn = [draw_membranes(size=size, seed=bench.seed + n) for n in range(4)]
    options = {"pipeline": TissueChanges(), "seed": bench.seed, "as_bytes": True}
    return net, Windows(drawn, side, lost_pixels(depth), count, **options)


def pipeline(bench, setting):
    "The loader alone, the step on one batch, and the two together, in images/s."
    set_tf32(True)
    torch.manual_seed(bench.seed)
    net, data = windows(bench, (4 if bench.small else 32) * bench.batch)
    net = net.to(bench.device, memory_format=torch.channels_last)
    step = Step(net, adamw(net), amp=format_of("16 bits", bench.device))
    workers = pick_workers(bench.device)
    options = {"workers": workers, "pin_memory": bench.on_card, "shuffle": True}
    loader = make_loader(data, bench.batch, **options)
    batch = to_device(next(iter(loader)), bench.device)

    def learn(batches):
        train_one_epoch(net, batches, CRITERION, step, bench.device)

    works = {
        "loader alone": lambda: [None for _ in loader],
        "step alone": lambda: learn([batch] * len(loader)),
        "together": lambda: learn(loader),
    }
    rates = {}
    for name, work in works.items():
        seconds = median_seconds(work, bench.device, rounds=1, warm_up=1)
        rates[name] = len(data) / seconds
        note = "one batch" if name == "step alone" else f"{workers} workers"
        bench.add("input pipeline", name, rates[name], "images/s", note)
    share = 100 * rates["together"] / rates["step alone"]
    bench.add("input pipeline", "share", share, "%", "together / step alone")


def tiles(bench, setting):
    "Seconds for a drawn image of 512x512 through the paper's net."
    check_format(bench, setting)
    set_tf32(setting != "fp32")
    side = 96 if bench.small else 512
    image, _ = draw_membranes(size=side, seed=bench.seed)
    net, amp = UNet(base_channels=bench.channels), format_of(setting, bench.device)
    predictor = Predictor(net, device=bench.device, amp=amp is not None)
    seconds = median_seconds(lambda: predictor(image), bench.device, rounds=20)
    note = f"{name_of(amp, setting)}; labels of the paper's net, in tiles of 388"
    bench.add(f"{side}x{side} image by tiles", setting, seconds, "s", note)


def resume(bench, setting):
    "Resume a training of the processor on the device, and compare the losses."
    torch.manual_seed(bench.seed)
    images = torch.randn(2, 1, 64, 64)
    batch = images, (images[:, 0] > 0.5).long()

    def begin(device):
        torch.manual_seed(bench.seed)
        net = UNet(padding=1, norm="batch", base_channels=4, depth=2, dropout=0.0)
        return net, Training(net, adamw(net), device=device, ema=0.9)

    def learn(net, step):
        return train_one_epoch(net, [batch] * 5, CRITERION, step, step.device)

    set_tf32(False)
    cpu = begin("cpu")
    learn(*cpu)
    with tempfile.TemporaryDirectory() as folder:
        path = save_state(Path(folder) / "state.safetensors", cpu[1])
        moved = begin(bench.device)
        load_state(path, into=moved[1])
    stayed, went = learn(*cpu), learn(*moved)
    bench.add(
        "resumed elsewhere", setting, abs(went / stayed - 1), "", "loss, relative"
    )


def tests(bench, setting):
    "The tests that need a second device or a card."
    if bench.small:
        raise LeftOut("--small")
    files = ["tests/test_gpu.py", "tests/test_second_device.py", "tests/test_cuda.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-k", "not benchmark", *files]
    limit = max(bench.left() - 5, 1)
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=limit
    )
    last = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else ""
    if run.returncode:
        raise RuntimeError(run.stdout[-200:])
    bench.add("tests", setting, "passed", note=last)


def measure(bench):
    "All of it, the quick and certain things first."
    for setting in PLAIN:
        bench.attempt("matrix product", setting, matrix_rate)
    for setting in ("fp32", "tf32", "16 bits"):
        bench.attempt("512x512 image by tiles", setting, tiles)
    for setting in ("Step", "Training"):
        bench.attempt("waits per step", setting, waits)
    bench.attempt("resumed elsewhere", "fp32", resume)
    for setting in ("fp32", "16 bits", "recomputed", "recomputed, 16"):
        bench.attempt("memory, peak", setting, memory)
    for setting in [*PLAIN, "channels_last"]:
        bench.attempt("training", setting, training, needs=30)
    bench.attempt("training", "CUDA graph", graph_training, needs=30)
    for size in (1, 2, 8, 16, 32):
        bench.attempt("training", f"batch {size}", training, size, needs=40)
    bench.attempt("input pipeline", "together", pipeline, needs=60)
    bench.attempt("memory, peak", "largest batch", memory, needs=60)
    bench.attempt("tests", "pytest", tests, needs=60)
    # last, because it needs a compiler, and takes a minute
    bench.attempt("training", "compile", training, needs=100)


def about(bench):
    "What is the same in all rows."
    device, card, level = bench.device, platform.machine(), ""
    if device.type == "cuda":
        card = torch.cuda.get_device_name(device)
        level = "{}.{}".format(*torch.cuda.get_device_capability(device))
    return {
        "card": card,
        "capability": level,
        "net": f"UNet, {bench.channels} channels",
        "batch": bench.batch,
        "side": bench.side,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "cudnn": torch.backends.cudnn.version() or "",
        "seed": bench.seed,
        "command": " ".join(["benchmarks/gpu.py", *sys.argv[1:]]),
    }


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="such as cuda:1; cpu only with --small")
    parser.add_argument("--small", action="store_true", help="a tiny net, in seconds")
    parser.add_argument("--batch", type=int, help="images per batch (4; small: 2)")
    parser.add_argument("--minutes", type=float, default=8.0, help="at most (8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="results/gpu_<card>.csv on a card")
    args = parser.parse_args()
    if args.device == "cpu" and not args.small:
        parser.error("on a processor this takes hours; --device cpu --small would work")
    return args


def main():
    args = parse()
    device = pick_device(args.device)
    if device.type == "cpu" and args.device is None:
        print(
            "There is no GPU here, so there is nothing to measure; "
            'make gpu ARGS="--device cpu --small" tries the script.'
        )
        return 0
    batch = args.batch or (2 if args.small else 4)
    bench = Bench(device, args.minutes, args.seed, args.small, batch)
    measure(bench)
    out, rest = args.out, about(bench)
    if out is None and device.type != "cpu" and not args.small:
        slug = re.sub(r"[^a-z0-9]+", "_", rest["card"].lower()).strip("_")
        out = ROOT / "results" / f"gpu_{slug}.csv"
    if out is not None:
        write(out, [row | rest for row in bench.rows])
        print(f"written to {out}")
    print(f"{rest['card']}: {perf_counter() - bench.start:.0f} s")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
