"""Measure a graphics card: one command, at most eight minutes, no network.

    make gpu                                       # python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --small  # try the script without a card

Everything is drawn from a seed. Measured are: the rate of a plain matrix product in
each format; training of the padded `UNet` at 512x512 with the loop of `train`, in
images and steps per second and as a share of that rate; the peak of the memory beside
what `training_memory` predicts; how often the loop waits for the card; the seconds for
a 512x512 image by tiles through the paper's net; how far a training that was begun on
the processor and resumed on the card is from one that stayed; the tests for devices.

Each result is printed as it comes. They are written to results/gpu_<card>.csv, with the
card, versions, command and seed in each row; a measurement that failed or was left out
has its reason there instead of a number. On a processor nothing is written unless --out
names a file. The exit status is 1 if something failed.
"""

import argparse
import platform
import re
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from table import write
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unet_tutorial.gpu import (
    amp_type,
    median_seconds,
    pick_device,
    training_memory,
    wait_for,
)
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.engine import Training
from unet_tutorial.synthetic import draw_membranes
from unet_tutorial.train import Step, train_one_epoch

ROOT = Path(__file__).resolve().parent.parent
CRITERION = nn.CrossEntropyLoss()
WAIT = "synchronizing CUDA operation"  # torch's words in its debug mode
ORDER = ["what", "setting", "value", "unit", "note"]


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
        self.side = 64 if self.small else 512
        self.channels = 4 if self.small else 64
        self.rates = {}  # TFLOP/s of a matrix product by format

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

    def attempt(self, what, setting, work, *args):
        "Do one measurement; whatever goes wrong becomes a row."
        if self.left() < 20 and not self.small:
            self.add(what, setting, "-", note="left out: the time is used up")
            return
        try:
            work(self, setting, *args)
        except Exception as error:
            self.failed = True
            text = " ".join(str(error).split())[:200]
            self.add(what, setting, "-", note=f"{type(error).__name__}: {text}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def set_tf32(wanted):
    "Allow or forbid 19-bit products inside operations of 32 bits."
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    torch.backends.cudnn.allow_tf32 = wanted


def format_of(setting, device):
    "The format of a setting: torch.dtype, or None for 32 bits."
    if setting in ("fp32", "tf32"):
        return None
    if setting in ("fp16", "bf16"):
        return amp_type(setting, device)
    return amp_type(True, device)  # channels_last and compile: the best there is


def name_of(dtype, setting):
    "The name of a format, by which its rate is kept."
    names = {torch.float16: "fp16", torch.bfloat16: "bf16"}
    return names.get(dtype, "tf32" if setting == "tf32" else "fp32")


def can_be_asked(bench, what, setting):
    "Whether a card has a format; a row says why where it has not."
    reason = ""
    if setting == "tf32" and bench.device.type != "cuda":
        reason = "TF32 is a format of NVIDIA's cards"
    if setting == "tf32" and bench.device.type == "cuda":
        if torch.cuda.get_device_capability(bench.device) < (8, 0):
            reason = "this card has no TF32"
    try:
        format_of(setting, bench.device)
    except ValueError as error:
        reason = str(error)
    if reason:
        bench.add(what, setting, "-", note=f"left out: {reason}")
    return not reason


# The measurements


def matrix_rate(bench, setting):
    "TFLOP/s of a product of two square matrices."
    set_tf32(setting == "tf32")
    dtype = format_of(setting, bench.device) or torch.float32
    n = 256 if bench.small else 8192 if dtype.itemsize == 2 else 4096
    a = torch.randn(n, n, device=bench.device).to(dtype)
    seconds = median_seconds(lambda: a @ a, bench.device, rounds=10)
    bench.rates[setting] = 2 * n**3 / seconds / 1e12
    bench.add("matrix product", setting, bench.rates[setting], "TFLOP/s", f"{n} x {n}")


def net_and_batch(bench, setting):
    "A padded UNet on the device with its step, and one batch there."
    torch.manual_seed(bench.seed)
    net = UNet(padding=1, norm="batch", base_channels=bench.channels).to(bench.device)
    images = torch.randn(bench.batch, 1, bench.side, bench.side)
    labels = (images[:, 0] > 0.5).long().to(bench.device)
    images = images.to(bench.device)
    if setting in ("channels_last", "compile"):
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    step = Step(net, optimizer, amp=format_of(setting, bench.device))
    return net, step, (images, labels)


def flops(bench):
    "Floating-point operations of one step, forward and backward."
    with torch.device("meta"):
        net = UNet(padding=1, norm="batch", base_channels=bench.channels)
        images = torch.empty(bench.batch, 1, bench.side, bench.side)
    with FlopCounterMode(display=False) as counter:
        net(images).sum().backward()
    return counter.get_total_flops()


def training(bench, setting):
    "Images per second of the loop, one batch again and again."
    set_tf32(setting != "fp32")
    net, step, batch = net_and_batch(bench, setting)
    model = torch.compile(net) if setting == "compile" else net

    def epoch(steps):
        train_one_epoch(model, [batch] * steps, CRITERION, step, bench.device)

    start = perf_counter()
    epoch(2)
    first = perf_counter() - start
    one = median_seconds(lambda: epoch(1), bench.device, rounds=1)
    steps = max(2, min(50, int((0.2 if bench.small else 3) / one)))
    per_step = median_seconds(lambda: epoch(steps), bench.device, 3, 0) / steps
    name = name_of(step.amp, setting)
    note = f"in {name}; the first two steps took {first:.1f} s"
    bench.add("training", setting, bench.batch / per_step, "images/s", note)
    bench.add("training, steps", setting, 1 / per_step, "steps/s", f"{steps} at a time")
    if name in bench.rates:
        share = flops(bench) / per_step / 1e12 / bench.rates[name]
        note = f"of the {bench.rates[name]:.3g} TFLOP/s of a matrix product"
        bench.add("share of matrix rate", setting, 100 * share, "%", note)


def memory(bench, setting):
    "The peak of one step beside what training_memory predicts."
    set_tf32(setting != "fp32")
    shape = (bench.batch, 1, bench.side, bench.side)
    net, step, batch = net_and_batch(bench, setting)
    parts = training_memory(net, shape, step.amp)
    predicted = sum(parts.values()) / 2**30
    bench.add("memory, predicted", setting, predicted, "GiB", f"batch {bench.batch}")
    if bench.device.type != "cuda":
        note = "left out: only NVIDIA cards keep the peak"
        bench.add("memory, peak", setting, "-", note=note)
        return
    train_one_epoch(net, [batch] * 2, CRITERION, step, bench.device)
    torch.cuda.reset_peak_memory_stats()
    train_one_epoch(net, [batch], CRITERION, step, bench.device)
    peak = torch.cuda.max_memory_allocated() / 2**30
    note = f"{peak / predicted:.2f} times the prediction"
    bench.add("memory, peak", setting, peak, "GiB", note)


def waits(bench, setting):
    "How often an epoch waits for the card, as torch itself counts."
    if bench.device.type != "cuda":
        bench.add("waits per step", setting, "-", note="left out: needs an NVIDIA card")
        return
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


def tiles(bench, setting):
    "Seconds for a drawn image of 512x512 through the paper's net."
    set_tf32(setting == "tf32")
    side = 96 if bench.small else 512
    image, _ = draw_membranes(size=side, seed=bench.seed)
    net = UNet(base_channels=bench.channels)
    predictor = Predictor(net, device=bench.device)
    seconds = median_seconds(lambda: predictor(image), bench.device)
    note = "labels of the paper's net, in tiles of 388"
    bench.add(f"{side}x{side} image by tiles", setting, seconds, "s", note)


def resume(bench, setting):
    "Resume a training of the processor on the device, and compare the losses."
    torch.manual_seed(bench.seed)
    images = torch.randn(2, 1, 64, 64)
    batch = images, (images[:, 0] > 0.5).long()

    def begin(device):
        torch.manual_seed(bench.seed)
        net = UNet(padding=1, norm="batch", base_channels=4, depth=2, dropout=0.0)
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
        return net, Training(net, optimizer, device=device, ema=0.9)

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
        bench.add("tests", setting, "-", note="left out: --small")
        return
    files = ["tests/test_gpu.py", "tests/test_second_device.py", "tests/test_cuda.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-k", "not benchmark", *files]
    limit = max(bench.left(), 1)
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=limit
    )
    last = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else ""
    if run.returncode:
        raise RuntimeError(run.stdout[-200:])
    bench.add("tests", setting, "passed", note=last)


def measure(bench):
    "All of it, the quick and certain things first."
    formats = ["fp32", "tf32", "fp16", "bf16"]
    known = [x for x in formats if can_be_asked(bench, "training", x)]
    for setting in known:
        bench.attempt("matrix product", setting, matrix_rate)
    for setting in [x for x in ("fp32", "tf32") if x in known]:
        bench.attempt("image by tiles", setting, tiles)
    for setting in ("Step", "Training"):
        bench.attempt("waits per step", setting, waits)
    bench.attempt("resumed elsewhere", "fp32", resume)
    best = name_of(format_of("compile", bench.device), "")
    for setting in ("fp32", best):
        bench.attempt("memory", setting, memory)
    for setting in [*known, "channels_last"]:
        bench.attempt("training", setting, training)
    bench.attempt("tests", "pytest", tests)
    if not bench.small:  # it may need a compiler, and takes a minute
        bench.attempt("training", "compile", training)


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
            "python benchmarks/gpu.py --device cpu --small tries the script."
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
