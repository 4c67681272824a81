"""Table 1 of the paper on what is public: membranes in the ISBI 2012 stack.

    make results-15 DATA=folder                 # every row that is not there yet
    python experiments/membranes.py --data folder --only modern --steps modern=2800

A row is one training: a recipe, a block of slices that is held out (with a gap of one
slice on either side), a seed, a number of steps. After it the last net, not the best,
is asked about the held-out slices, from one or more sides. Two thresholds of its
probabilities are chosen on four of the slices that were trained on, one for the pixel
error, one for the Rand error, and used on the held-out ones. Cells are the connected
parts of what is not membrane; a pixel has four neighbours.

    paper     UNet() of Figure 1, one tile of 572 pixels a step, SGD with momentum 0.99,
              Equation 2; its ten hours on a GPU are a row that is left open
    modern    the recipe `membranes` of the library
    block 0.. the recipe `membranes`, shorter, with slices 0-5, 6-11, ... held out

Written: results/membranes.csv (rows), membranes_curves.csv (after each epoch),
membranes.jpg (a held-out slice). The state of each training is kept in --runs, so that
the same command goes on after Ctrl-C; offset.py asks the net of `modern` again.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from learn import curve_of, learn
from options import parser_of, read
from PIL import Image
from rows import Rows, about, peak_memory
from scipy import ndimage

from unet_tutorial.data.crops import Whole, Windows, read_example
from unet_tutorial.data.datasets import open_isbi
from unet_tutorial.data.pipelines import membrane_pipeline
from unet_tutorial.gpu import pick_device
from unet_tutorial.losses import weighted_cross_entropy
from unet_tutorial.metrics import pixel_error, rand_error, warping_error
from unet_tutorial.model import UNet
from unet_tutorial.predict import class_probabilities
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.show import differences
from unet_tutorial.sizes import output_size

KEYS = "row", "held_out", "seed", "steps", "views"
LAST = (24, 30)  # the block that is held out unless a row says otherwise
STEPS = {"modern": 2800, "paper": 150, "block": 200}  # an hour of a processor each
GPU_STEPS = {"modern": 20000, "paper": 30000}  # what a processor would need days for
THRESHOLDS = np.arange(0.1, 0.91, 0.05).round(2)


def recipe_of(name):  # Recipe
    "The recipe of a row, with its averaged weights and its format."
    if name == "paper":  # 16 bits where the device is good at them: more steps an hour
        return replace(read_recipe("paper"), amp="auto")
    return replace(read_recipe("membranes"), schedule="cosine", tiles=400)


def data_sets(recipe, source, block, seed):
    "What is trained on, what is measured on: windows, and whole slices."
    weighted = recipe.loss == "weighted cross-entropy"
    near = range(block[0] - 1, block[1] + 1)
    learned = [n for n in range(len(source)) if n not in near]
    examples = [read_example(source, n, weighted=weighted) for n in learned]
    net, tile = recipe.net, recipe.tile
    margin = 0 if net.padding else (tile - output_size(tile, net.depth)) // 2
    options = "std", "grid", "turn", "zoom", "shift", "grey", "noise"
    given = {name: getattr(recipe.augment, name) for name in options}
    pipeline = membrane_pipeline(**{k: v for k, v in given.items() if v is not None})
    windows = Windows(examples, tile, margin, recipe.tiles, pipeline, seed)
    checked = [read_example(source, n, weighted=weighted) for n in range(*block)]
    side = None if net.padding else tile
    return windows, Whole(checked, side, net.depth), examples, checked


def membrane(net, examples, views):  # (N, H, W) float32
    "How likely each pixel is membrane."
    some = [class_probabilities(net, x, views=views)[1] for x, *_ in examples]
    return torch.stack(some).float().cpu().numpy()


def rand_of(p, masks, threshold):  # float, mean over slices
    "The Rand error of cells cut apart at a threshold."
    pairs = zip(p, masks, strict=True)
    cells = ((ndimage.label(a <= threshold)[0], ndimage.label(~b)[0]) for a, b in pairs)
    return float(np.mean([rand_error(*pair) for pair in cells]))


def pixel_of(p, masks, threshold):  # float
    return pixel_error(p > threshold, masks)


def warping_of(p, masks, threshold):  # float, mean over slices
    pairs = zip(p, masks, strict=True)
    return float(np.mean([warping_error(a > threshold, b) for a, b in pairs]))


def measure(net, learned, checked, views, ask=membrane):  # dict
    "Thresholds from slices that were trained on; errors on those held out."
    some = learned[:: len(learned) // 4][:4]
    p, masks = ask(net, some, views), np.stack([y == 1 for _, y, *_ in some])
    at = {
        name: float(min(THRESHOLDS, key=lambda t, of=of: of(p, masks, t)))
        for name, of in (("pixel", pixel_of), ("rand", rand_of))
    }
    p, masks = ask(net, checked, views), np.stack([y == 1 for _, y, *_ in checked])
    return {
        "threshold_pixel": at["pixel"],
        "pixel_error": f"{pixel_of(p, masks, at['pixel']):.4f}",
        "threshold_rand": at["rand"],
        "rand_error": f"{rand_of(p, masks, at['rand']):.4f}",
        "warping_error": f"{warping_of(p, masks, at['rand']):.6f}",
        "pixel_error_half": f"{pixel_of(p, masks, 0.5):.4f}",
        "rand_error_half": f"{rand_of(p, masks, 0.5):.4f}",
    }


def save_picture(path, net, example):
    "Image, truth, probability and differences of a corner of a slice, side by side."
    (image, labels), p = example[:2], membrane(net, [example], 1)[0]
    cut = np.s_[130:330, 130:330]
    image, truth, p = image[cut], labels[cut] == 1, p[cut]
    wrong = differences(image, p > 0.5, truth)
    panels = [image, 255 * ~truth, 255 * (1 - p), 255 * wrong]
    panels = [np.broadcast_to(np.atleast_3d(x), (200, 200, 3)) for x in panels]
    strip = np.concatenate(panels, axis=1).clip(0, 255).astype(np.uint8)
    Image.fromarray(strip).save(path, quality=75)


def wanted(options):
    "The rows: name, block, steps, views, seed."
    steps, seed = STEPS | dict(options.steps), options.seed
    rows = [("modern", LAST, steps["modern"], (1, 2, 8), seed)]
    for start in range(0, 30, 6):
        rows.append(("block", (start, start + 6), steps["block"], (1,), seed))
    rows.append(("paper", LAST, steps["paper"], (1,), seed))
    return [row for row in rows if not options.only or row[0] in options.only]


def for_a_gpu(seed):
    "The rows that are left open where there is no GPU."
    return [
        ("modern", LAST, GPU_STEPS["modern"], (1, 2, 8), seed),
        ("paper", LAST, GPU_STEPS["paper"], (1, 7), seed),
    ]


def leave_open(options):
    "Note the rows that need a GPU in the table."
    table = Rows(options.out / "membranes.csv", KEYS)
    for row in for_a_gpu(options.seed):
        for view in row[3]:
            table.leave_open("needs a GPU", **key_of(row), views=view)


def key_of(row):  # dict
    "What a row of the table is known by, but for its views."
    name, block, steps, _, seed = row
    held_out = f"{block[0]}-{block[1] - 1}"
    return {"row": name, "held_out": held_out, "seed": seed, "steps": steps}


def state_folder(options, row):  # Path
    "Where the state of a row's training is kept."
    return options.runs / "membranes {row} {held_out} {seed} {steps}".format(
        **key_of(row)
    )


def train(options, source, device, row):  # Training, and what data_sets gives
    "Train the net of a row, go on with it, or only read it if it is done."
    name, block, steps, _, seed = row
    recipe = recipe_of(name)
    windows, whole, learned, checked = data_sets(recipe, source, block, seed)
    torch.manual_seed(seed)
    net = UNet(**vars(recipe.net))
    weighted = recipe.loss == "weighted cross-entropy"
    criterion = weighted_cross_entropy if weighted else None
    training = learn(
        state_folder(options, row),
        recipe,
        net,
        windows,
        whole,
        steps,
        seed,
        criterion,
        device=device,
    )
    return training, windows, learned, checked


def run(options, source, device, row):
    "Train one net, and write what it reaches."
    name, _, steps, views, _ = row
    table, key = Rows(options.out / "membranes.csv", KEYS), key_of(row)
    if all(table.find(**key, views=view) for view in views):
        print(f"{name}, {key['held_out']}, {steps} steps: already in {table.path}")
        return
    print(f"membranes: {name}, slices {key['held_out']} held out, {steps} steps")
    training, windows, learned, checked = train(options, source, device, row)
    curves = Rows(options.out / "membranes_curves.csv", (*KEYS[:4], "step"))
    for point in curve_of(training, recipe_of(name), len(windows), **key):
        curves.add(point)
    for view in views:
        values = measure(training.net.eval(), learned, checked, view)
        values |= {"minutes": f"{training.seconds / 60:.1f}"}
        values |= {"memory_mb": peak_memory(device), **about(device)}
        table.add({**key, "views": view, **values})
        print(", ".join(f"{k} {v}" for k, v in list(values.items())[:7]))
    picture = options.out / "membranes.jpg"
    longest = row[2] >= STEPS["modern"] or not picture.is_file()
    if name == "modern" and longest:
        save_picture(picture, training.net, checked[2])


def read_options():
    "Read the command line."
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=STEPS, help="rows")
    parser.add_argument(
        "--steps",
        nargs="*",
        default=[],
        type=lambda text: (text.split("=")[0], int(text.split("=")[1])),
        help="the budget of rows, such as modern=9000",
    )
    return read(parser)


def main():
    options = read_options()
    device, source = pick_device(options.device), open_isbi(options.data)
    rows = wanted(options)
    if device.type == "cuda":
        rows += for_a_gpu(options.seed)
    else:
        leave_open(options)
    for row in rows:
        run(options, source, device, row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
