"""How fast a trained net answers, step by step from the textbook to the Predictor.

    python benchmarks/predict.py --out results/predict.csv    # as it is, and as on AVX2
    python benchmarks/predict.py --native-only --threads 1

Images of 160x240 pixels in colour with UNet(3, 2, base_channels=32, padding=1,
norm="batch"); an image of 512x512 with the paper's net, in tiles. The *textbook* asks
in batches of 2 (tiles: one at a time), in 32 bits, in the order of torch; it is
1.0. Then each step is added to those before it. All begins with grey values in memory
and ends with labels in memory. The rounds are interleaved and the medians compared.
Labels of each way are compared with those of the textbook. With one thread on a CPU the
clock counts this program's own seconds, so that others who use the machine count less.

On a processor with AVX-512 a second process is held to AVX2, by what LIMITED sets in
turns.py; that is an imitation, and not a processor of that kind.
"""

import argparse
import csv
import io
import os
import platform
import statistics
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import table
import torch
from turns import LIMITED

from unet_tutorial.gpu import pick_device, wait_for
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor, fold_batch_norm
from unet_tutorial.synthetic import draw_membranes
from unet_tutorial.tiles import read_window

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from times import processor

LAST = {"memory_format": torch.channels_last}


def trained(net, channels, device):
    """Train a net for some steps: its norms have seen images, its logits decide."""
    drawn = [draw_membranes(size=188, seed=seed) for seed in range(4)]
    x = torch.tensor(np.stack([image for image, _ in drawn])).float()[:, None]
    x = ((x - x.mean()) / x.std()).expand(-1, channels, -1, -1).to(device)
    labels = torch.tensor(np.stack([truth for _, truth in drawn])).long().to(device)
    if not net.padding:
        labels = labels[:, 92:-92, 92:-92]
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


# The ways to ask


@torch.no_grad()
def in_batches(net, images, device, batch):
    """Ask as a textbook does: labels of grey values (N, H, W, C), batch by batch."""
    labels = []
    for first in range(0, len(images), batch):
        part = images[first : first + batch].astype(np.float32)
        mean = part.mean((1, 2, 3), keepdims=True)
        part = (part - mean) / part.std((1, 2, 3), keepdims=True)
        x = torch.from_numpy(part).permute(0, 3, 1, 2).contiguous().to(device)
        labels.append(net(x.to(next(net.parameters()).dtype)).argmax(1).cpu().numpy())
    return np.concatenate(labels)


@torch.no_grad()
def in_tiles(net, image, device):
    """Ask the paper's net as Figure 2 does: tiles of 572 pixels, 388 apart."""
    pixels = image.astype(np.float32)
    pixels = (pixels - pixels.mean()) / pixels.std()
    found = np.empty(image.shape, np.int64)
    for top in range(0, image.shape[0], 384):
        for left in range(0, image.shape[1], 384):
            window = read_window(pixels, top - 92, left - 92, 572, 572)
            logits = net(torch.from_numpy(window)[None, None].to(device))
            place = found[top : top + 388, left : left + 388]
            high, wide = place.shape
            place[:] = logits.argmax(1)[0, :high, :wide].cpu().numpy()
    return found


def predictors(net):
    """The Predictor in 32 bits and in 16, which needs units for them to be fast."""
    return {"Predictor": Predictor(net), "Predictor, 16 bits": Predictor(net, amp=True)}


def small_images(device):
    """Ways to ask about eight photographs of 160x240."""
    torch.manual_seed(0)
    net = UNet(3, 2, base_channels=32, padding=1, norm="batch").to(device)
    net = trained(net, 3, device)
    images = [draw_membranes(size=(160, 240), seed=50 + n)[0] for n in range(8)]
    images = np.stack([np.stack([x] * 3, -1) for x in images])  # (8, 160, 240, 3)
    folded = fold_batch_norm(net)
    last = fold_batch_norm(net).to(**LAST)

    def plain(model, batch):
        return lambda: in_batches(model, images, device, batch)

    ways = {
        "textbook, batches of 2": plain(net, 2),
        "textbook, batches of 4": plain(net, 4),
        "one image at a time": plain(net, 1),
        "+ batch norm folded": plain(folded, 1),
        "+ channels last": plain(last, 1),
        "+ batches of 2": plain(last, 2),
    }
    for name, ask in predictors(net).items():
        ways[name] = lambda ask=ask: ask(images)
    return ways


def large_image(device):
    """Ways to ask the paper's net about 512x512 pixels."""
    torch.manual_seed(0)
    net = UNet(dropout=0.0).to(device).eval()
    image = draw_membranes(size=512, seed=60)[0]
    last = fold_batch_norm(net).to(**LAST)
    ways = {
        "textbook, tiles of 572": lambda: in_tiles(net, image, device),
        "+ channels last": lambda: in_tiles(last, image, device),
    }
    for name, ask in predictors(net).items():
        ways[name] = lambda ask=ask: ask(image)
    return ways


def tried(device):
    """What did not help: other ways to the same answers about one small image."""
    torch.manual_seed(0)
    net = UNet(3, 2, base_channels=32, padding=1, norm="batch").eval().to(device)
    last = fold_batch_norm(net).to(**LAST)
    x = torch.randn(1, 3, 160, 240, device=device)

    def asks(model, mode=torch.no_grad):
        @mode()
        def work():
            return model(x).argmax(1).cpu().numpy()

        return work

    warnings.simplefilter("ignore")  # torch.jit is on its way out
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(last, x))
        whole = torch.jit.optimize_for_inference(frozen)
        for model in (frozen, whole):  # the first calls optimise
            for _ in range(3):
                model(x)
    return {
        "folded, channels last": asks(last),
        "inference_mode": asks(last, torch.inference_mode),
        "torch.jit.freeze": asks(frozen),
        "torch.jit.optimize_for_inference": asks(whole),
    }


TASKS = {  # and the share of the rounds
    "8 images 160x240, half width": (small_images, 1),
    "1 image 160x240, other ways": (tried, 1),
    "512x512, the paper's net": (large_image, 1 / 3),
}


# Measuring


def own_clock(device, threads):
    """The clock that is fair where others use the machine, too, and its name."""
    if device.type == "cpu" and threads == 1:
        return process_time, "processor"
    return perf_counter, "wall"


def measure(ways, device, rounds, clock):
    """Time all ways in turn, round after round: seconds, labels that differ."""
    answers = {name: work() for name, work in ways.items()}  # and warm up
    first = next(iter(answers.values()))
    changed = {name: (x != first).mean() for name, x in answers.items()}
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            wait_for(device)
            start = clock()
            work()
            wait_for(device)
            times[name].append(clock() - start)
    return {name: statistics.median(x) for name, x in times.items()}, changed


def name_of(device):
    """The name of what computes."""
    cuda = device.type == "cuda"
    return torch.cuda.get_device_name(device) if cuda else processor()


def instructions():
    """The instruction set that torch uses, and its 16-bit units."""
    level = torch.backends.cpu.get_cpu_capability()
    if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2":
        return f"{level}, imitated"
    units = {"bf16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
    for name, function in units.items():
        is_supported = getattr(torch.cpu, function, None)  # no public name
        if is_supported is not None and is_supported():
            level += f" {name}"
    return level


def rows_of(options):
    """Measure each task that is wanted, and return its rows."""
    device = pick_device(options.device)
    torch.set_num_threads(options.threads)
    clock, name_of_clock = own_clock(device, options.threads)
    rows = []
    for task, (make, share) in TASKS.items():
        rounds = max(2, round(share * options.rounds))
        seconds, changed = measure(make(device), device, rounds, clock)
        base = next(iter(seconds.values()))
        for name, value in seconds.items():
            rows.append(
                {
                    "task": task,
                    "way": name,
                    "seconds": f"{value:.3f}",
                    "ratio": f"{base / value:.2f}",
                    "labels changed": f"{changed[name]:.5f}",
                    "rounds": rounds,
                    "clock": name_of_clock,
                    "processor": name_of(device),
                    "instructions": instructions() if device.type == "cpu" else "",
                    "threads": options.threads,
                    "command": options.command,
                    "python": platform.python_version(),
                    "torch": version("torch"),
                    "numpy": version("numpy"),
                }
            )
    return rows


def imitated():
    """Run this script again, held to AVX2, and return its rows."""
    command = [sys.executable, *sys.argv, "--native-only", "--print"]
    env = os.environ | LIMITED
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return list(csv.DictReader(io.StringIO(done.stdout)))


def main():
    """Measure here and, on an AVX-512 processor, as on AVX2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--native-only", action="store_true", help="not as on AVX2")
    parser.add_argument("--print", action="store_true", help="CSV, and no file")
    parser.add_argument("--out", help="a CSV file")
    options = parser.parse_args()
    words = [word for word in sys.argv[1:] if word not in ("--native-only", "--print")]
    options.command = " ".join(["benchmarks/predict.py", *words])
    rows = rows_of(options)
    if options.print:
        lines = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
        return 0
    if not options.native_only and "AVX512" in rows[0]["instructions"]:
        rows += imitated()
    for row in rows:
        part = [row[name] for name in ("instructions", "task", "way", "seconds")]
        print(", ".join(part), f"s, x{row['ratio']}, labels {row['labels changed']}")
    if options.out:
        table.write(options.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
