"""How far the labels of the ISBI stack are displaced, and what a net makes of it.

    make results-15 DATA=folder                    # membranes.py, and then this
    python experiments/offset.py --data folder
    python experiments/offset.py --data folder --minutes 6  # train twice, 6 min each

Membranes are dark. So the labels of a slice are moved over it pixel by pixel, down and
to the right, and the mean grey under them is taken; the lowest point of the parabola
through it says how far they should be moved. The same is done with the masks that the
net of `modern` gives for its held-out slices: upright, and turned upside down and back
in two ways. Then each mask is moved down by -3 to 3 pixels, and its wrong pixels are
counted (threshold 0.5; a rim of 6 pixels is left out).

Written: results/membranes_offset.csv, and membranes_offset.png, a corner of a held-out
slice, enlarged. The net is the one that membranes.py keeps in --runs; without it only
the labels are measured. With --minutes, the recipe `membranes` is trained in 16 bits,
and once more with slices turned by any angle; nothing is written then, the last two
lines are a table.
"""

import platform
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import membranes
import numpy as np
import torch
from options import parser_of, read
from PIL import Image
from rows import Rows, about
from scipy import ndimage

from unet_tutorial.data.datasets import load_isbi, open_isbi
from unet_tutorial.gpu import pick_device
from unet_tutorial.metrics import pixel_error
from unet_tutorial.predict import class_probabilities
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.runs.run import train_run
from unet_tutorial.show import OKABE_ITO

KEYS = "slices", "mask", "moved_down"
MOVES, EDGE = range(-3, 4), 6  # pixels
INNER = (slice(EDGE, -EDGE),) * 2
CORNER, ZOOM = np.s_[236:276, 214:254], 7  # of a slice; screen pixels per pixel
VIEWS = {  # each undoes itself
    "upright": lambda image: image,
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "turned by 180 degrees": lambda image: np.rot90(image, 2),
}


def best_move(image, membrane, axis):  # float
    "By how many pixels a mask should be moved along an axis: to where it is darkest."
    smooth = ndimage.gaussian_filter(image.astype(float), 1)[INNER]
    moved = [np.roll(membrane, move, axis)[INNER] == 1 for move in MOVES]
    square, linear, _ = np.polyfit(MOVES, [smooth[under].mean() for under in moved], 2)
    return -linear / (2 * square)


def best_moves(images, masks):  # dict
    "Mean and deviation of the best moves over slices, down and to the right."
    pairs = list(zip(images, masks, strict=True))
    values = {}
    for axis, name in enumerate(("down", "right")):
        moves = [best_move(image, mask, axis) for image, mask in pairs]
        values[name] = f"{np.mean(moves):.2f}"
        values[f"{name}_deviation"] = f"{np.std(moves):.2f}"
    return values


def error_of(masks, truth, move):  # float
    "The pixel error of masks that are moved down, without the rim."
    moved = np.roll(masks, move, axis=1)
    inner = (slice(None), *INNER)
    return pixel_error(moved[inner], truth[inner])


def ask(net, images, view):  # (N, H, W) float32
    "How likely each pixel is membrane, asked in one position and put back."
    change = VIEWS[view]
    some = [class_probabilities(net, change(x).copy())[1] for x in images]
    return np.stack([change(p.float().cpu().numpy()) for p in some])


def save_picture(path, image, truth, answers):
    "A corner of a slice with the border of the labels, and of two masks."
    image, truth = image[CORNER], truth[CORNER]
    answers = [p[CORNER] for p in answers]
    side = len(image) * ZOOM / 100  # inches
    figure, axes = plt.subplots(1, 3, figsize=(3 * side, side), dpi=100)
    figure.subplots_adjust(0, 0, 1, 1, 0, 0)  # panels side by side, without a gap
    for axis, p in zip(axes, [None, *answers], strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.contour(truth, [0.5], colors=OKABE_ITO["orange"], linewidths=2)
        if p is not None:
            axis.contour(p, [0.5], colors=OKABE_ITO["sky blue"], linewidths=2)
        axis.set_axis_off()
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
    picture.quantize(64).save(path, optimize=True)
    plt.close(figure)


def measure(options, device):
    "Write where labels and answers are, and what it costs to move the answers."
    table = Rows(options.out / "membranes_offset.csv", KEYS)
    images, masks = load_isbi(options.data)
    values = best_moves(images, masks)
    row = {"slices": "0-29", "mask": "labels", "moved_down": 0, **values}
    table.add({**row, **about(device)})
    print(f"labels of all slices, best move in pixels: {values}")
    source = open_isbi(options.data)
    steps = options.steps or membranes.STEPS["modern"]
    row = "modern", membranes.LAST, steps, (1,), options.seed
    if not (membranes.state_folder(options, row) / "state.safetensors").is_file():
        text = "membranes.py with --out and --runs of your own trains it"
        print(f"no net of {steps} steps in {options.runs}: {text}")
        return
    training, _, _, checked = membranes.train(options, source, device, row)
    net = training.net.eval()
    images, truth = (np.stack(part) for part in zip(*checked, strict=True))
    truth, key = truth == 1, {"slices": membranes.key_of(row)["held_out"]}
    p = {view: ask(net, images, view) for view in VIEWS}
    p["upright and turned, averaged"] = (p["upright"] + p["turned by 180 degrees"]) / 2
    up = np.roll(p["turned by 180 degrees"], -1, axis=1)
    p["upright and turned, that moved up, averaged"] = (p["upright"] + up) / 2
    shared = {"steps": steps, "seed": options.seed, **about(device)}
    row = {**key, "mask": "labels", "moved_down": 0}
    table.add({**row, **best_moves(images, truth), **shared})
    for name, some in p.items():
        values = best_moves(images, some > 0.5)
        for move in MOVES:
            error = {"pixel_error": f"{error_of(some > 0.5, truth, move):.4f}"}
            given = {**key, "mask": name, "moved_down": move}
            table.add({**given, **(values if move == 0 else {}), **error, **shared})
        best = min(MOVES, key=lambda move, some=some: error_of(some > 0.5, truth, move))
        print(f"{name}: {values}, error {error_of(some > 0.5, truth, 0):.4f}", end="")
        print(f", moved down by {best} {error_of(some > 0.5, truth, best):.4f}")
    two = [p[view][2] for view in ("upright", "turned by 180 degrees")]
    save_picture(options.out / "membranes_offset.png", images[2], truth[2], two)


def train_turned(data, minutes, seed, turn):  # float
    "The pixel error of the last net, which saw slices turned so far."
    recipe = read_recipe("membranes")
    recipe = replace(recipe, augment=replace(recipe.augment, turn=turn))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        history = train_run(
            "isbi", data, out, recipe, minutes=minutes, seed=seed, amp=True
        )
    return history["pixel error"][-1]


def train_twice(options):
    "Train upright and turned by any angle, for some minutes each, and print a table."
    row = {"minutes": options.minutes, "seed": options.seed}
    for turn in (read_recipe("membranes").augment.turn, 180):
        error = train_turned(options.data, options.minutes, options.seed, turn)
        row[f"error, turned by {turn} degrees"] = f"{error:.4f}"
    row |= {"device": pick_device().type, "threads": torch.get_num_threads()}
    row |= {"torch": version("torch"), "python": platform.python_version()}
    row |= {"command": " ".join(["experiments/offset.py", *sys.argv[1:]])}
    print(*row, sep=";")
    print(*row.values(), sep=";")


def read_options():
    "Read the command line."
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of the row modern of membranes.py")
    parser.add_argument("--minutes", type=float, help="train twice for so long")
    return read(parser)


def main():
    options = read_options()
    if options.minutes:
        train_twice(options)
    else:
        measure(options, pick_device(options.device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
