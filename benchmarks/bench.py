"""This library beside others: training and prediction, on the processor at hand.

    make bench                                    # OMP_NUM_THREADS=2 make bench
    python benchmarks/bench.py --what sides --isa native
    python benchmarks/bench.py --small --only textbook fit --out build/speed

The same drawn photographs (3 x 160 x 240), the same batch of 2, nets as wide as each
other (32 channels at the top). Each side runs as its user runs it, its loader included:

    textbook    the padded U-Net of the tutorials, Adam, 32 bits, contiguous
    milesial    net and loop of milesial/Pytorch-UNet, rebuilt from its description
    smp         segmentation_models_pytorch: Unet("resnet34"), four steps down; its net
    monai       MONAI: BasicUNet; its net, both in the loop of the textbook
    fit         `fit` with UNet(3, 2, 32, padding=1, norm="batch"), Adam, a loader
    fit, amp    the same with the number format of amp_type("auto")
    train_run   `train_run` with the recipe `modern`, 32 channels, batch 2
    Predictor   for predictions: one image at a time, and a stack of 8, which the
                textbook takes in batches of 2; Predictor, amp: with amp="auto"

and, for comparison, what the machine can do: products of matrices, a large convolution,
copies of memory, decoding of a JPEG of 1918 x 1280. All take turns; a row holds the
median. Nets of the same architecture must give the same answer. `--isa avx2` lets torch
use AVX2 and nothing newer. `--what tricks` measures single changes of a plain step on a
processor, see tricks.py.

Rows go into results/speed.csv and speed_tricks.csv: those of the same processor are
replaced, those of others stay.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("experiments", "tools")]

import others  # noqa: E402
import rows  # noqa: E402
import tricks  # noqa: E402
from times import processor  # noqa: E402
from turns import Paced, Side, take_turns  # noqa: E402

from unet_tutorial.data.datasets import open_carvana  # noqa: E402
from unet_tutorial.data.loader import make_loader  # noqa: E402
from unet_tutorial.data.photos import ImagePairs  # noqa: E402
from unet_tutorial.gpu import amp_type, pick_device  # noqa: E402
from unet_tutorial.model import UNet  # noqa: E402
from unet_tutorial.predict import Predictor  # noqa: E402
from unet_tutorial.runs.recipes import read_recipe  # noqa: E402
from unet_tutorial.runs.run import train_run  # noqa: E402
from unet_tutorial.synthetic import draw_cars, write_carvana  # noqa: E402
from unet_tutorial.train import fit  # noqa: E402

KEYS = "what", "who", "processor", "instructions"
STACK = 8  # images that a prediction is given at once
OTHERS = "textbook", "milesial", "smp", "monai"
PACKAGES = {"monai": "monai", "smp": "segmentation-models-pytorch"}
BASE, ANY, LIMIT = "textbook", "any", ", limited to AVX2"
ISA, WHAT = ["native", "avx2"], ["sides", "tricks"]
OUT = ROOT / "results"


@dataclass
class Case:
    "What all sides share."

    folder: str  # photographs in the layout of Carvana
    device: torch.device
    seed: int = 0
    size: tuple = (160, 240)
    width: int = 32  # channels at the top
    batch: int = 2
    cars: int = 5  # of which one is held out

    @property
    def widths(self):
        return [self.width * 2**level for level in range(5)]

    @property
    def shape(self):  # (B, C, H, W)
        return self.batch, 3, *self.size

    def net(self):  # UNet
        torch.manual_seed(self.seed)
        return UNet(3, 2, self.width, padding=1, norm="batch", dropout=0.0)

    def learned(self):  # Source
        return open_carvana(self.folder).split(1, self.seed)[0]

    def images(self):  # (STACK, H, W, 3) uint8
        drawn = [draw_cars(n, self.size, self.seed)[0] for n in range(STACK)]
        return np.stack(drawn)


# Trainings


def train_other(turn, case, name):
    "The loop of the textbook with somebody's net, or milesial's own."
    from cars import Textbook, one_epoch  # the race of 17_cars

    torch.manual_seed(case.seed)
    model = others.net_of(name, case.widths).to(case.device)
    turn.watch(model, case.shape, trained=True)
    data = Textbook(case.learned(), case.size)
    loader = Paced(DataLoader(data, case.batch, shuffle=True), turn)
    if name == "milesial":
        others.milesial_training(model, loader, case.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    one_epoch(model, loader, nn.CrossEntropyLoss(), optimizer, case.device)


def train_fit(turn, case, amp):
    "`fit`, as notebook 12 calls it."
    model = case.net()
    turn.watch(model, case.shape, trained=True)
    data = ImagePairs(case.learned(), case.size)
    loader = make_loader(data, case.batch, shuffle=True, seed=case.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(
        model,
        Paced(loader, turn),
        loader,
        nn.CrossEntropyLoss(),
        optimizer,
        epochs=1,
        device=case.device,
        amp=amp_type(amp, case.device),
    )


def train_recipe(turn, case):
    "`train_run` with the recipe `modern`."
    recipe = read_recipe("modern")
    net = replace(recipe.net, base_channels=case.width)
    recipe = replace(recipe, net=net, batch=case.batch)

    def report(training, row):
        if turn.model is None:
            turn.watch(training.model, case.shape, trained=True)
        if row is None:  # after a step
            turn()

    with tempfile.TemporaryDirectory() as folder:
        train_run(
            "carvana",
            case.folder,
            Path(folder, "run"),
            recipe,
            size=case.size,
            steps=10**6,
            seed=case.seed,
            device=str(case.device),
            held_out=1,
            save_every=3600,  # it waits for the others most of the time
            report=report,
        )


# Predictions: from an image of bytes to its label map


@torch.no_grad()
def predict_other(turn, case, name, together):
    "A net in the hands of a tutorial: images of bytes in, label maps out."
    torch.manual_seed(case.seed)
    model = others.net_of(name, case.widths).to(case.device).eval()
    turn.watch(model, case.shape, trained=False)
    every, batch = case.images(), case.batch if together else 1
    for at in count():
        turn()
        images = every if together else every[[at % STACK]]
        for part in np.split(images, len(images) // batch):
            x = torch.tensor(part).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
            model(x.to(case.device)).argmax(1).cpu().numpy()


def predict_ours(turn, case, together, amp):
    "A `Predictor`, asked about an image or about a stack."
    model, every = case.net().eval(), case.images()
    turn.watch(model, case.shape, trained=False)
    predictor = Predictor(model, case.device, amp, normalisation=(0, 255))
    turn.model = predictor.model  # a copy
    for at in count():
        turn()
        predictor(every if together else every[at % STACK])


# What the machine can do


def multiply(turn, case, dtype, n):
    "Products of two matrices."
    a = torch.randn(n, n, device=case.device).to(dtype)
    while True:
        turn()
        a @ a


@torch.no_grad()
def convolve(turn, case, dtype, n):
    "A convolution of n maps of 64x64 to as many, which other code computes."
    form = {"dtype": dtype, "memory_format": torch.channels_last}
    layer = nn.Conv2d(n, n, 3, padding=1, bias=False).to(case.device, **form)
    x = torch.randn(1, n, 64, 64, device=case.device).to(**form)
    while True:
        turn()
        layer(x)


def copy(turn, case, megabytes):
    "Copies of more memory than any cache holds."
    a = torch.zeros(megabytes * 2**20 // 4, device=case.device)
    b = torch.ones_like(a)
    while True:
        turn()
        b.copy_(a)


def decode(turn, case, size):
    "A photograph from its file, by Pillow, in one thread."
    image, _ = draw_cars(0, size, case.seed)
    path = Path(case.folder, f"decode {os.getpid()}.jpeg")
    Image.fromarray(image).save(path, quality=92)
    while True:
        turn()
        np.asarray(Image.open(path).convert("RGB"))


# Sides and rows


def sixteen(device, limited):  # torch.dtype, or None
    "The format of 16 bits that is faster here than 32, if there is one."
    return None if limited and device.type == "cpu" else amp_type("auto", device)


def trainings(case, limited):  # list of Side
    "Who is trained."
    sides = [Side(x, train_other, (case, x), case.batch) for x in OTHERS]
    sides.append(Side("fit", train_fit, (case, False), case.batch))
    if sixteen(case.device, limited):
        sides.append(Side("fit, amp", train_fit, (case, "auto"), case.batch))
    return [*sides, Side("train_run", train_recipe, (case,), case.batch)]


def predictions(case, together, limited):  # list of Side
    "Who predicts: one image at a time, or all of a stack."
    images, names = (STACK, [BASE]) if together else (1, OTHERS)
    sides = [Side(x, predict_other, (case, x, together), images) for x in names]
    formats = {"Predictor": False}
    if sixteen(case.device, limited):
        formats["Predictor, amp"] = "auto"
    for name, amp in formats.items():
        sides.append(Side(name, predict_ours, (case, together, amp), images))
    return sides


def limit_sizes(small):  # side of a matrix, maps, MiB, (H, W) of a photograph
    return (64, 8, 1, (64, 96)) if small else (1536, 256, 256, (1280, 1918))


def limits(case, limited, small):  # list of Side
    "What the machine can do."
    n, maps, megabytes, size = limit_sizes(small)
    dtypes = {"fp32": torch.float32}
    if dtype := sixteen(case.device, limited):
        dtypes["bf16" if dtype == torch.bfloat16 else "fp16"] = dtype
    every = []
    for name, dtype in dtypes.items():
        every.append(Side(f"matmul {name}", multiply, (case, dtype, n), 1))
    for name, dtype in dtypes.items():
        every.append(Side(f"convolution {name}", convolve, (case, dtype, maps), 1))
    every.append(Side("memory copy", copy, (case, megabytes), 1))
    return [*every, Side("JPEG decoding", decode, (case, size), 1)]


def row_of(side, what, same):  # dict
    "What was measured of a side; `same` is what all rows share."
    if side.failure:
        found = {"note": f"not yet measured: {side.failure}"}
    else:
        seconds = side.seconds()
        spread = max(side.rounds) / min(side.rounds)
        found = {"seconds": f"{seconds:.4g}", "spread": f"{spread:.2f}"}
        found |= {"first": f"{side.first:.1f}", "rounds": len(side.rounds)}
    return {"what": what, "who": side.name, **found, **same, **side.facts}


def with_ratios(table, base):  # list of dict
    "Rows of one task and machine, each with how many times as fast it is as the base."
    seconds = {row["who"]: float(row["seconds"]) for row in table if "seconds" in row}
    if base not in seconds:
        return table
    ratios = {who: seconds[base] / own for who, own in seconds.items()}
    return [
        row | ({"ratio": f"{ratios[row['who']]:.2f}"} if row["who"] in ratios else {})
        for row in table
    ]


def with_shares(table, rates):  # list of dict
    "Rows with the share of the best rate in their format, in per cent."
    found = []
    for row in table:
        rate = rates.get(row.get("format"))
        if rate and "seconds" in row:
            share = float(row["gflop"]) / float(row["seconds"]) / rate
            row = row | {"share": f"{100 * share:.0f}"}
        found.append(row)
    return found


def limit_rows(sides, case, small, same):  # list of dict, {format: GFLOP/s}
    "Rows of what the machine can do, and its best rate in each format."
    n, maps, megabytes, _ = limit_sizes(small)
    flops = {"matmul": 2 * n**3, "convolution": 2 * 9 * (maps * 64) ** 2}
    table, rates = [], {}
    for side in sides:
        row = row_of(side, "limit", same)
        kind, _, name = side.name.partition(" ")
        if side.rounds and kind in flops:
            rate = flops[kind] / side.seconds() / 1e9
            rates[name] = max(rate, rates.get(name, 0))
            row |= {"value": f"{rate:.4g}", "unit": "GFLOP/s"}
        elif side.rounds and kind == "memory":
            both = 2 * megabytes / 1024 / side.seconds()  # read and written
            row |= {"value": f"{both:.3g}", "unit": "GiB/s"}
        elif side.rounds:
            row |= {"value": f"{1 / side.seconds():.3g}", "unit": "images/s"}
        table.append(row)
    return table, rates


# Equal answers


def take_weights(net, other):
    "Give a net the weights of another one, whose layers come in the same order."
    pairs = zip(net.state_dict().values(), other.state_dict().values(), strict=True)
    for mine, theirs in pairs:
        mine.copy_(theirs)


@torch.no_grad()
def answers(case):  # dict: who -> (K, H, W) probabilities of one image
    "What nets of one architecture say with the same weights."
    ours, image = case.net(), case.images()[0]
    x = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
    ours.train()(torch.rand(4, *x.shape[1:]))  # the averages of batch normalisation
    found = {"fit": ours.eval()(x).softmax(1)[0].numpy()}
    for name in ("textbook", "milesial"):
        net = others.net_of(name, case.widths)
        take_weights(net, ours)
        found[name] = net.eval()(x).softmax(1)[0].numpy()
    predictor = Predictor(ours, normalisation=(0, 255))
    return found | {"Predictor": predictor.probabilities(image)}


def differences(case):  # dict: who -> the largest difference to the textbook
    "Check that equal architectures give equal answers; a Predictor may take 16 bits."
    found = answers(case)
    apart = {who: float(np.abs(p - found[BASE]).max()) for who, p in found.items()}
    for who, difference in apart.items():
        if not difference < (0.05 if who == "Predictor" else 1e-4):
            raise ValueError(f"{who} differs from the textbook by {difference}")
    return apart


# All of it


def machine(device, limited):  # dict
    "Where it was measured."
    if device.type == "cuda":
        return {"processor": torch.cuda.get_device_name(device), "instructions": "GPU"}
    known = rows.instructions() + (LIMIT if limited else "")
    return {"processor": processor(), "instructions": known}


def versions():  # dict
    "Of the packages that are beside this one."
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = ""
    return found


def leave_open(table, base, tasks):
    "Say which machines are missing; a measured one needs no open row any more."
    measured = {row["instructions"] for row in table.rows if row.get("seconds")}
    old = [row for row in table.rows if row["processor"] == ANY]
    table.rows = [row for row in table.rows if row not in old]
    for kind, why in (("AMX", "needs a processor with AMX"), ("GPU", "needs a GPU")):
        for what in tasks:
            if kind not in measured:
                row = {"what": what, "who": base, "processor": ANY}
                row |= {"instructions": kind, "note": f"not yet measured: {why}"}
                table.rows.append(row)
    table.write()


def show(table):
    "Print rows as they come."
    for row in table:
        value = f"{row['seconds']} s" if "seconds" in row else row["note"]
        ratio = f"{row['ratio']} x" if "ratio" in row else row.get("unit", "")
        ratio = f"{row['value']} {ratio}" if "value" in row else ratio
        share = f"{row['share']} %" if "share" in row else ""
        how = f"{row.get('format', '')} {row.get('layout', '')}"
        words = f"{row['what']:<23}", f"{row['who']:<34}"
        numbers = f"{value:>12}", f"{ratio:>19}", f"{share:>6}"
        print(*words, *numbers, how, flush=True)


@dataclass
class Bench:
    "What is measured, and where the rows go."

    case: Case
    options: argparse.Namespace
    limited: bool = False

    def __post_init__(self):
        device = self.case.device
        self.same = machine(device, self.limited) | rows.about(device)
        self.same |= versions() | {"seed": self.case.seed}
        self.same["device"] = "GPU" if device.type == "cuda" else "CPU"

    def turns(self, sides, steps, rounds):
        "Measure those of the sides that are wanted."
        wanted, small = self.options.only, self.options.small
        sides = [x for x in sides if not wanted or x.name in (*wanted, BASE, "plain")]
        rounds, steps = (2, 1) if small else (rounds, steps)
        take_turns(sides, rounds, steps, self.case.device, self.limited)
        return sides

    def keep(self, name, table, base, rates=None, equal=None):
        "Print rows and add them to their file."
        table = with_shares(with_ratios(table, base), rates or {})
        for row in table:
            if row["who"] in (equal or {}):
                row["difference"] = f"{equal[row['who']]:.1e}"
        show(table)
        out = rows.Rows(self.options.out / name, KEYS)
        out.add_all(table)
        return out

    def sides(self, equal):
        "This library beside others."
        small, case = self.options.small, self.case
        found = self.turns(limits(case, self.limited, small), 5, 7)
        table, rates = limit_rows(found, case, small, self.same)
        self.keep("speed.csv", table, BASE)
        found = self.turns(trainings(case, self.limited), 2, 7)
        table = [row_of(side, "training", self.same) for side in found]
        self.keep("speed.csv", table, BASE, rates, equal)
        tasks = {"prediction, one image": False, "prediction, stack": True}
        for what, together in tasks.items():
            found = predictions(case, together, self.limited)
            found = self.turns(found, 2 if together else 8, 7)
            table = [row_of(side, what, self.same) for side in found]
            out = self.keep("speed.csv", table, BASE, rates, equal)
        leave_open(out, BASE, ("training", "prediction, one image"))

    def tricks(self):
        "Single changes of a plain step."
        for what, steps in (("training", 2), ("prediction", 6)):
            found = self.turns(tricks.sides(self.case, what, self.limited), steps, 5)
            table = [row_of(side, what, self.same) for side in found]
            out = self.keep("speed_tricks.csv", table, "plain")
        leave_open(out, "plain", ("training", "prediction"))


def parse():
    "Read the command line."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", nargs="*", default=WHAT, choices=WHAT)
    parser.add_argument("--isa", nargs="*", default=ISA, choices=ISA)
    parser.add_argument("--only", nargs="*", help="these sides, beside the first one")
    parser.add_argument(
        "--small", action="store_true", help="tiny nets, only to try it: some minutes"
    )
    parser.add_argument("--device", default="cpu", help="cuda, or cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder; small: none if not said")
    return parser.parse_args()


def main():
    options = parse()
    device, start = pick_device(options.device), perf_counter()
    os.environ["TQDM_DISABLE"] = "1"  # of all that is started here
    with tempfile.TemporaryDirectory() as folder:
        options.out = options.out or (Path(folder) if options.small else OUT)
        tiny = {"size": (64, 96), "width": 4, "cars": 2} if options.small else {}
        case = Case(folder, device, options.seed, **tiny)
        write_carvana(folder, case.cars, case.seed, case.size)
        equal = differences(case)
        for isa in options.isa:
            limited = isa == "avx2"
            if limited and (device.type == "cuda" or rows.instructions() == "AVX2"):
                continue
            bench = Bench(case, options, limited)
            print(bench.same["processor"], bench.same["instructions"], flush=True)
            if "sides" in options.what:
                bench.sides(equal)
            if "tricks" in options.what and device.type == "cpu":
                bench.tricks()
    print(f"{perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
