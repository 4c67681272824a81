"""What does each part of the net bring? One change at a time, on the ISBI 2012 stack.

    make results-19 DATA=folder         # python experiments/one_change.py ablation
    make results-20 DATA=folder         # python experiments/one_change.py since_2015
    python experiments/one_change.py ablation --data folder --only "no skips" --seeds 0

`ablation` begins with the paper in small: its net with 8 channels at the top instead of
64, tiles of 380 pixels, its loss and its changes, but AdamW with a cosine, because SGD
needs hours where AdamW needs minutes (it has rows of its own). One thing is taken away
or exchanged. `since_2015` begins with what is usual ten years later (padded, AdamW, a
cosine, no normalisation) and adds one thing. All trainings of a table see the same
number of tiles; those of one seed see the same tiles in the same order, unless the
change is one of the tiles (padded nets have no margin around what they answer for).
Slices 24 to 29 are held out. Errors and thresholds are those of membranes.py.

Rows go into results/ablation.csv and results/since_2015.csv. Each is one training on
one thread; --jobs says how many run side by side.
"""

import sys
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from learn import learn
from membranes import LAST, data_sets, measure
from options import parser_of, read
from rows import Rows, about
from torch import nn

from unet_tutorial.data.crops import Windows
from unet_tutorial.data.datasets import open_isbi
from unet_tutorial.data.slides import predict_blended
from unet_tutorial.gpu import pick_device
from unet_tutorial.losses import dice_bce_loss, weighted_cross_entropy
from unet_tutorial.model import UNet
from unet_tutorial.runs.recipes import Optimizer, Recipe, read_recipe
from unet_tutorial.tiles import mean_and_std
from unet_tutorial.weight_map import weight_map

KEYS = "change", "seed", "tiles"


class NoSkips(UNet):
    """The U-Net with nothing on its skips: zeros come across instead of the maps."""

    def forward(self, x):  # (B, C, H, W) -> (B, K, h, w)
        *skips, bottom = self.contracting(x)
        skips = [torch.zeros_like(skip) for skip in skips]
        return self.last(self.expansive([*skips, bottom]))


class DeepSupervision(nn.Module):
    """A padded U-Net whose middle levels must answer, too, while it is trained."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        steps = list(net.expansive.steps)[1:-1]  # not the lowest, as in nnU-Net
        widths = [step.conv.conv2.out_channels for step in steps]
        self.heads = nn.ModuleList(nn.Conv2d(n, net.num_classes, 1) for n in widths)
        self.lower = []  # logits of the middle levels, the coarsest first

    def forward(self, x):  # (B, C, H, W) -> (B, K, H, W)
        *skips, x = self.net.contracting(x)
        self.lower, heads = [], [None, *self.heads, None]
        for step, head in zip(self.net.expansive.steps, heads, strict=True):
            x = step(x, skips.pop())
            if head is not None and self.training:
                self.lower.append(head(x))
        return self.net.last(x)

    def loss(self, logits, labels):  # (B, K, H, W), (B, H, W) -> scalar
        """Average over the levels; each one further down weighs half as much."""
        total, weight, weights = F.cross_entropy(logits, labels), 1.0, 1.0
        for lower in reversed(self.lower if self.training else []):
            step = labels.shape[-1] // lower.shape[-1]
            small = labels[:, step // 2 :: step, step // 2 :: step]  # near the centre
            weight, weights = weight / 2, weights + weight / 2
            total = total + weight * F.cross_entropy(lower.float(), small)
        return total / weights


@dataclass(frozen=True)
class Change:
    """A net and a way to train it that differ from the base of a table in one thing."""

    recipe: Recipe
    kind: str = "UNet"  # "NoSkips", "DeepSupervision"
    start: str = "He"  # "torch": the weights with which torch begins
    weights: str = "equation"  # of a weighted loss: "equation", "classes"
    objects: float = 0.0  # share of windows that must hold a membrane
    blended: bool = False  # True: asked in tiles of 128 pixels that overlap
    tiled: bool = False  # True: asked in tiles of 128 pixels side by side
    trained_as: str = ""  # the row whose net is asked; "": its own


def paper_in_small():  # Change
    "The net, loss and changes of the paper, an eighth of its channels, and AdamW."
    recipe = read_recipe("paper")
    return Change(
        replace(
            recipe,
            net=replace(recipe.net, base_channels=8),
            tile=380,
            optimizer=Optimizer("AdamW", lr=0.001),
            schedule="cosine",
            warmup=0.05,
            amp="auto",
        )
    )


def usual_since():  # Change
    "Padded, AdamW, a cosine: `modern` in small, without its normalisation."
    recipe = read_recipe("modern")
    return Change(
        replace(
            recipe,
            net=replace(recipe.net, base_channels=8, norm=None),
            tile=192,
            tiles=400,
            augment=replace(recipe.augment, name="membranes"),
            ema=0.0,
        )
    )


def with_recipe(change, **values):  # Change
    "The same with other values of the recipe; those of net and changes by name."
    recipe = change.recipe
    for part in ("net", "augment"):
        if part in values:
            values[part] = replace(getattr(recipe, part), **values[part])
    return replace(change, recipe=replace(recipe, **values))


def ablation():  # name -> Change
    "The rows of notebook 19, the base first."
    base = paper_in_small()
    slow = Optimizer("SGD", lr=0.003, momentum=0.99)
    quick = Optimizer("SGD", lr=0.03, momentum=0.9)  # as long a step in the end
    padded = with_recipe(base, net={"padding": 1})
    return {
        "the paper in small": base,
        "no skips": replace(base, kind="NoSkips"),
        "no elastic deformation": with_recipe(base, augment={"std": 0.0}),
        "class weights only": replace(base, weights="classes"),
        "no weights": with_recipe(base, loss="cross-entropy"),
        "no drop-out": with_recipe(base, net={"dropout": 0.0}),
        "torch's first weights": replace(base, start="torch"),
        "SGD, momentum 0.99": replace(
            base, recipe=replace(base.recipe, optimizer=slow)
        ),
        "SGD, momentum 0.9": replace(
            base, recipe=replace(base.recipe, optimizer=quick)
        ),
        "same convolution": padded,
        "same, bilinear": with_recipe(padded, net={"upsampling": "bilinear"}),
    }


def since_2015():  # name -> Change
    "The rows of notebook 20, the base first."
    base = usual_since()
    batch = with_recipe(base, net={"norm": "batch"})
    return {
        "no norm": base,
        "batch norm": batch,
        "instance norm": with_recipe(base, net={"norm": "instance"}),
        "batch norm, residual": with_recipe(batch, net={"residual": True}),
        "batch norm, Dice": with_recipe(batch, loss="dice and cross-entropy"),
        "batch norm, deep supervision": replace(batch, kind="DeepSupervision"),
        "batch norm, oversampling": replace(batch, objects=0.33),
        "batch norm, averaged weights": with_recipe(batch, ema=0.99),
        "small tiles": replace(batch, tiled=True, trained_as="batch norm"),
        "blended tiles": replace(batch, blended=True, trained_as="batch norm"),
    }


TABLES = {"ablation": (ablation, 400), "since_2015": (since_2015, 800)}


def begin_net(change, seed):
    "A net with the first weights of a seed."
    torch.manual_seed(seed)
    kind = NoSkips if change.kind == "NoSkips" else UNet
    net = kind(**asdict(change.recipe.net))
    if change.start == "torch":
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.reset_parameters()
    return DeepSupervision(net) if change.kind == "DeepSupervision" else net


def windows_of(change, windows, examples):  # Windows
    "The windows of a change: other weights, or more membranes."
    weighted = change.recipe.loss == "weighted cross-entropy"
    if weighted and change.weights == "classes":
        examples = [(x, y, weight_map(1 - y, w0=0)) for x, y, _ in examples]
    elif not change.objects:
        return windows
    return Windows(
        examples,
        windows.side,
        windows.margin,
        windows.count,
        windows.pipeline,
        windows.seed,
        objects=change.objects,
    )


def criterion_of(change, net):
    "The loss of a change."
    if change.kind == "DeepSupervision":
        return net.loss
    losses = {
        "weighted cross-entropy": weighted_cross_entropy,
        "dice and cross-entropy": dice_bce_loss,
    }
    return losses.get(change.recipe.loss)


def in_tiles(net, examples, overlap):  # (N, H, W)
    "How likely membrane is, from tiles of 128 pixels."
    found = []
    for image, *_ in examples:
        mean, std = mean_and_std(image[None])
        x = torch.tensor((image[None] - mean) / std).float()
        found.append(predict_blended(net, x, 128, overlap).softmax(0)[1].cpu().numpy())
    return np.stack(found)


def train_row(table, name, seed, tiles, data, device, runs):  # dict
    "Train one net of a table, and measure it."
    torch.set_num_threads(1)
    change, device = TABLES[table][0]()[name], pick_device(device)
    source, recipe = open_isbi(data), replace(change.recipe, tiles=tiles)  # one epoch
    windows, whole, learned, checked = data_sets(recipe, source, LAST, seed)
    net = begin_net(change, seed)
    training = learn(
        runs / f"{table} {change.trained_as or name} {seed} {tiles}",
        recipe,
        net,
        windows_of(change, windows, learned),
        whole,
        tiles // recipe.batch,
        seed,
        criterion_of(change, net),
        device=device,
    )
    asked = getattr(training.net, "net", training.net).eval()
    values = measure(asked, learned, checked, 1, **tiles_of(change))
    row = {"change": name, "seed": seed, "tiles": tiles, **values}
    row |= {"minutes": f"{training.seconds / 60:.1f}"}
    return row | about(device)


def tiles_of(change):  # dict, for measure
    "How a net is asked, where that is what was changed."
    if not (change.blended or change.tiled):
        return {}
    overlap = 64 if change.blended else 0
    return {"ask": lambda net, examples, views: in_tiles(net, examples, overlap)}


def read_options():
    "Read the command line."
    parser = parser_of(__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    names = sorted({name for changes, _ in TABLES.values() for name in changes()})
    parser.add_argument("--only", nargs="*", choices=names, metavar="ROW", help="rows")
    parser.add_argument("--tiles", type=int, help="the budget of each row")
    parser.add_argument("--jobs", type=int, default=2, help="rows side by side")
    return read(parser)


def main():
    options = read_options()
    changes, tiles = TABLES[options.table]
    tiles, table = (
        options.tiles or tiles,
        Rows(options.out / f"{options.table}.csv", KEYS),
    )
    names = [name for name in changes() if not options.only or name in options.only]
    wanted = [
        (options.table, name, seed, tiles, options.data, options.device, options.runs)
        for seed, name in product(options.seeds, names)
        if not table.find(change=name, seed=seed, tiles=tiles)
    ]
    print(f"{len(wanted)} rows to measure, the others are in {table.path}")
    wanted.sort(key=lambda row: bool(changes()[row[1]].trained_as))  # those come last
    table.measure(train_row, wanted, options.jobs, shown=10)
    return 0


if __name__ == "__main__":
    sys.exit(main())
