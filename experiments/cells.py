"""Table 2 and Figure 3 of the paper: cells that touch, of DIC-HeLa or PhC-U373.

    make results-16 DATA=folder
    python experiments/cells.py --data folder --only background --steps 20000 --width 64

A net is trained on one sequence, on its silver truth, and measured on the gold truth of
the other; then the reverse. Images are halved. The target is the mask after
`separate_cells`; four trainings of a sequence have the same first weights, frames and
changes, and differ in the weights of the loss:

    none        every pixel weighs the same
    equation    Equation 2 as printed: its border term on every pixel
    background  its border term on the background only
    later       the authors' later map, which has other constants and another first term

SEG is the measure of the challenge and of Table 2: the mean IoU over all gold cells,
0 for a cell that no predicted one covers by more than half. A frame that is annotated
in part counts with the cells that it has; the IoU of the mask is of complete frames.
Cells are the connected parts of p(cell) > 0.5 (`seg_half`); or of p(cell) > t, grown
into the mask p(cell) > 0.5 by the nearest part (`seg`), with the t that was best on
the gold frames of the sequence that was trained on.

Rows go into results/cells.csv, pictures of seed 0 into results/cells_<sequence>.png.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from learn import learn
from options import parser_of, read
from PIL import Image
from rows import Rows, about, peak_memory
from scipy import ndimage

from unet_tutorial.data.crops import Whole, Windows
from unet_tutorial.data.datasets import open_ctc
from unet_tutorial.data.pipelines import membrane_pipeline
from unet_tutorial.gpu import pick_device
from unet_tutorial.losses import weighted_cross_entropy
from unet_tutorial.metrics import cell_ious, iou, seg_score
from unet_tutorial.model import UNet
from unet_tutorial.predict import class_probabilities
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.show import as_colour, border, colour_labels
from unet_tutorial.weight_map import (
    border_weights,
    class_weights,
    separate_cells,
    weight_map,
)

KEYS = "data", "trained_on", "weights", "width", "steps", "seed"
KINDS = "none", "equation", "background", "later"
SEEDS_AT = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SMALLEST = 200  # pixels of a cell at full size; DIC-HeLa has none below 1,000


def weigh(kind, target, classes):  # (H, W) float32
    "The weights of one frame, from its separated cells."
    if kind == "none":
        return np.ones(target.shape, np.float32)
    if kind == "later":
        return weight_map(target, variant="later")
    if kind == "equation":
        return weight_map(target, classes=classes)
    plain = weight_map(target, w0=0, classes=classes)
    return plain + border_weights(target) * (target == 0)


def examples_of(source, size, kind):
    "Image, mask and weights of each frame, halved."
    targets = [separate_cells(source.labels(i, size)) for i in range(len(source))]
    classes = class_weights(*targets)
    return [
        (source.image(i, size), (t > 0).astype(np.uint8), weigh(kind, t, classes))
        for i, t in enumerate(targets)
    ]


def of_sequence(source, name):  # Source
    "The frames of one sequence."
    return source.subset(
        [i for i, item in enumerate(source.items) if item.group == name]
    )


def parts_of(p, threshold):  # (H, W) integers
    "The connected parts of a mask, without specks."
    parts, count = ndimage.label(p > threshold)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    return np.where(sizes[parts] >= SMALLEST, parts, 0)


def grown(p, threshold):  # (H, W) integers
    "The parts above a threshold, grown into the mask p > 0.5 by the nearest part."
    parts = parts_of(p, threshold)
    if not parts.any():
        return parts
    _, nearest = ndimage.distance_transform_edt(parts == 0, return_indices=True)
    return np.where(p > 0.5, parts[tuple(nearest)], 0)


def probabilities(net, source, size):  # list of (H, W) float32
    "How likely each pixel is cell, at full size."
    frames = (source.image(i) for i in range(len(source)))
    some = [class_probabilities(net, x, size=size)[1] for x in frames]
    return [p.float().cpu().numpy() for p in some]


def score(p, truth, threshold):  # float
    "SEG of all frames together."
    return seg_score(np.stack([grown(a, threshold) for a in p]), np.stack(truth))


def measure(net, learned, checked, size):  # dict
    "The best threshold of seeds on the gold of what was trained on; SEG on the other."
    truths = [[s.labels(i) for i in range(len(s))] for s in (learned, checked)]
    p = probabilities(net, learned, size)
    best = max(SEEDS_AT, key=lambda t: score(p, truths[0], t))
    p, truth = probabilities(net, checked, size), truths[1]
    half = [parts_of(a, 0.5) for a in p]
    pairs = list(zip(half, truth, strict=True))
    ious = [x for pair in pairs for x in cell_ious(*pair).values()]
    whole = [i for i, item in enumerate(checked.items) if not item.partial]
    masks = np.stack([p[i] > 0.5 for i in whole])
    true_masks = np.stack([separate_cells(truth[i]) > 0 for i in whole])
    return {
        "cells": len(ious),
        "right_half": sum(x > 0.5 for x in ious),
        "seg_half": f"{seg_score(np.stack(half), np.stack(truth)):.4f}",
        "seed_threshold": best,
        "seg": f"{score(p, truth, best):.4f}",
        "mask_iou": f"{iou(masks, true_masks):.4f}",
        "frames": len(truth),
        "complete_frames": len(whole),
    }


def folder_of(options, key):  # Path
    "Where the training of a row is kept."
    return options.runs / " ".join(["cells", *map(str, key.values())])


def train(options, key):  # Training, gold frames (trained on, other), size, device
    "Train the net of a row, go on with it, or only read it if it is done."
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    silver = open_ctc(options.data, "silver")
    gold = open_ctc(options.data, partial=True)
    size = tuple(n // 2 for n in silver.size(0))
    name, seed = key["trained_on"], key["seed"]
    other = next(group for group in sorted(set(gold.groups)) if group != name)
    examples = examples_of(of_sequence(silver, name), size, key["weights"])
    pipeline = membrane_pipeline(turn=20, zoom=0.15)
    windows = Windows(examples, 256, 0, 200, pipeline, seed)
    recipe = read_recipe("modern")
    recipe = replace(recipe, net=replace(recipe.net, base_channels=key["width"]))
    torch.manual_seed(seed)
    training = learn(
        folder_of(options, key),
        recipe,
        UNet(**vars(recipe.net)),
        windows,
        Whole(examples[:4]),
        key["steps"],
        seed,
        weighted_cross_entropy,
        device=device,
    )
    both = of_sequence(gold, name), of_sequence(gold, other)
    return training, both, size, device


def train_row(options, key):  # dict
    "Train one net on one sequence, and measure it on the other."
    training, (learned, checked), size, device = train(options, key)
    values = measure(training.net.eval(), learned, checked, size)
    values |= {"minutes": f"{training.seconds / 60:.1f}"}
    return {**key, **values, "memory_mb": peak_memory(device), **about(device)}


def draw(options, keys, path):
    "Ask the nets of all weights about one frame; nothing is trained."
    answers = []
    for key in keys:
        training, (_, checked), size, _ = train(options, key)
        answers.append(answer(training.net.eval(), checked, size))
    save_picture(path, checked, answers)


def answer(net, source, size):  # (H, W) float32
    "The probability of cells in the complete gold frame with the most cells."
    return probabilities(net, source.subset([busiest(source)]), size)[0]


def busiest(source):  # int
    "The complete frame with the most cells."
    whole = [i for i, item in enumerate(source.items) if not item.partial]
    return max(whole, key=lambda i: len(np.unique(source.labels(i))))


def save_picture(path, source, answers):
    "A gold frame with its outlines, and the parts of each mask at 0.5, side by side."
    index = busiest(source)
    image, truth = as_colour(source.image(index)), source.labels(index)
    image[border(truth)] = (0.9, 0.6, 0)
    panels = [image, *(colour_labels(parts_of(p, 0.5)) for p in answers)]
    panels = [panel[::2, ::2] for panel in panels]
    strip = (255 * np.concatenate(panels, axis=1)).astype(np.uint8)
    Image.fromarray(strip).quantize(64).save(path, optimize=True)


def wanted(options, gold):
    "The keys of all rows."
    name = gold.name.split(",")[0]
    sequences = sorted(set(gold.groups))
    values = {"width": options.width, "steps": options.steps, "seed": options.seed}
    kinds = [kind for kind in KINDS if not options.only or kind in options.only]
    return [
        {"data": name, "trained_on": sequence, "weights": kind, **values}
        for sequence in sequences
        for kind in kinds
    ]


def leave_open(table):
    "Note what needs a GPU, or data that are not here."
    row = {"trained_on": "01", "weights": "background", "width": 64, "seed": 0}
    names = {"DIC-C2DH-HeLa": "needs a GPU", "PhC-C2DH-U373": "needs its data"}
    for name, why in names.items():
        table.leave_open(why, data=name, **row, steps=20000)


def read_options():
    "Read the command line."
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400, help="the budget of each row")
    parser.add_argument("--width", type=int, default=16, help="channels at the top")
    parser.add_argument("--only", nargs="*", choices=KINDS, help="weights")
    parser.add_argument("--jobs", type=int, default=2, help="rows side by side")
    parser.add_argument("--threads", type=int, default=1, help="of each row")
    return read(parser)


def main():
    options = read_options()
    gold = open_ctc(options.data, partial=True)
    table = Rows(options.out / "cells.csv", KEYS)
    if pick_device(options.device).type != "cuda":
        leave_open(table)
    keys = wanted(options, gold)
    rest = [key for key in keys if not table.find(**key)]
    print(f"{len(rest)} rows to measure, the others are in {table.path}")
    tasks = [(options, key) for key in rest]
    table.measure(train_row, tasks, options.jobs, shown=15)
    for sequence in sorted(set(gold.groups)):
        own = [key for key in keys if key["trained_on"] == sequence]
        kept = [
            (folder_of(options, key) / "state.safetensors").is_file() for key in own
        ]
        path = options.out / f"cells_{sequence}.png"
        if options.seed == 0 and len(own) == len(KINDS) and all(kept) and rest:
            draw(options, own, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
