"""Carvana: Dice on cars that were held out, and how soon a net gets there.

    make results-17 DATA=folder
    python experiments/cars.py --data folder --only large --steps 20000
    python experiments/cars.py --data folder --only race

Four of the cars, chosen by the seed, are held out with all their views. Dice is that of
all pixels of all their views together, of the last net, not of the best. Pictures are
changed by `car_pipeline` of `data.pipelines` (albumentations, in the group `course`),
as in all rows that are there; `train_run` changes them by `PhotoChanges` today.

    small   160 x 240 pixels, the recipe `modern`
    large   320 x 480 pixels, the same net
    race    until Dice 0.98 at 160 x 240, measured after each epoch, two side by side on
            one core of the processor each: `library`, this library with its recipe, and
            `textbook`, the loop of the textbooks: the same net with the same first
            weights, in 32 bits, contiguous, Adam with a rate of 0.001, no augmentation,
            values divided by 255, every photograph decoded in each epoch. Measuring
            counts as time for both

Rows go into results/cars.csv, cars_curves.csv and cars_race.csv (after each epoch), the
picture of the row `large` into results/cars.jpg.
"""

import os
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from queue import Empty

import numpy as np
import torch
from learn import curve_of, learn
from matplotlib.font_manager import findfont
from options import parser_of, read
from PIL import Image, ImageDraw, ImageFont
from rows import Rows, about, peak_memory
from torch import nn
from torch.utils.data import DataLoader, Dataset

from unet_tutorial.data.datasets import open_carvana
from unet_tutorial.data.loader import Seeded
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.data.pipelines import car_pipeline
from unet_tutorial.gpu import pick_device
from unet_tutorial.metrics import count_pixels, dice, dice_of
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.show import differences

KEYS = "row", "seed", "steps"
SIZES = {"small": (160, 240), "large": (320, 480)}
WIDTHS = {"small": 16, "large": 16}
STEPS = {"small": 800, "large": 400}
GOAL, LONGEST = 0.98, 900.0  # Dice; seconds after which a race is over
EVERY = range(0, 64, 4)  # of the held-out views: four of each car
RACE_STEPS = 1200  # of the library, whose cosine has to have an end


def recipe_of(row):  # Recipe
    "The recipe `modern`, as wide as a row has it."
    recipe = read_recipe("modern")
    return replace(recipe, net=replace(recipe.net, base_channels=WIDTHS[row]))


def net_of(recipe, seed):  # UNet
    "A net for photographs, with the first weights of a seed."
    torch.manual_seed(seed)
    return UNet(in_channels=3, **vars(recipe.net))


def data_sets(source, row, seed):
    "Photographs to learn from, changed anew in each epoch, and those held out."
    learned, checked = source.split(4, seed)
    changed = ImagePairs(learned, SIZES[row], transform=car_pipeline())
    return Seeded(changed, seed), ImagePairs(checked, SIZES[row]), checked


def full_size_dice(net, source, size):  # float
    "Dice at the size of the photographs, to which the answer is enlarged."
    predictor = Predictor(net.eval(), size=size)
    pairs = [(predictor(source.image(i)) == 1, source.labels(i) == 1) for i in EVERY]
    return dice(*(np.stack(part) for part in zip(*pairs, strict=True)))


def truth_dice(source, size):  # float
    "Dice of the truth itself, shrunk to a size and enlarged as an answer is."
    counts = 0
    for index in EVERY:
        small = torch.from_numpy(source.labels(index, size)).float()[None, None]
        true = torch.from_numpy(source.labels(index)).long()
        large = nn.functional.interpolate(small, true.shape, mode="bilinear") > 0.5
        counts = counts + count_pixels(large[0, 0].long(), true, 2)
    return dice_of(counts)


VIEWS = 1, 20, 39, 58  # of the held-out views: one of each car
TITLES = "photograph", "truth", "answer", "differences", "enlarged 4 times"
PANEL = 128, 192  # pixels of a panel


def worst_part(wrong):  # (H, W) bool -> slices of rows and columns, a quarter each
    "The window of a quarter of the sides that has the most wrong pixels."
    height, width = (n // 4 for n in wrong.shape)
    sums = np.pad(wrong.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[height:, width:] - sums[:-height, width:]
    inside = inside - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(top, top + height), slice(left, left + width)


def panel(image):  # (H, W) or (H, W, 3), 0 to 255 -> (128, 192, 3)
    "An image in the size of a panel; thin lines fade, but none is lost."
    small = Image.fromarray(np.asarray(image).clip(0, 255).astype(np.uint8))
    return np.asarray(small.convert("RGB").resize(PANEL[::-1], Image.Resampling.BOX))


def heading():  # (24, W, 3)
    "The titles above the panels, readable where the picture is shown at half its size."
    head = Image.new("RGB", (len(TITLES) * PANEL[1], 24), "white")
    font = ImageFont.truetype(findfont("DejaVu Sans"), 19)
    for number, title in enumerate(TITLES):
        place = number * PANEL[1] + PANEL[1] // 2, 12
        ImageDraw.Draw(head).text(place, title, "black", font, anchor="mm")
    return np.asarray(head)


def save_picture(path, net, source, size):
    "Four held-out cars, one per row: see TITLES; all of them at full size."
    predictor, rows = Predictor(net.eval(), size=size), []
    for index in VIEWS:
        image, true = source.image(index), source.labels(index) == 1
        mask = predictor(image) == 1
        wrong = 255 * differences(image, mask, true)
        part = wrong[worst_part(mask != true)]
        panels = [image, 255 * true, 255 * mask, wrong, part]
        rows.append(np.concatenate([panel(x) for x in panels], axis=1))
    strip = Image.fromarray(np.concatenate([heading(), *rows]))
    strip.save(path, quality=70, subsampling=0, optimize=True)


def run(options, source, device, row):
    "Train one net, and write what it reaches."
    table, steps = Rows(options.out / "cars.csv", KEYS), options.steps or STEPS[row]
    key = {"row": row, "seed": options.seed, "steps": steps}
    if table.find(**key):
        print(f"{row}, {steps} steps: already in {table.path}")
        return
    recipe, size = recipe_of(row), SIZES[row]
    changed, whole, checked = data_sets(source, row, options.seed)
    training = learn(
        options.runs / f"cars {row} {options.seed} {steps}",
        recipe,
        net_of(recipe, options.seed),
        changed,
        whole,
        steps,
        options.seed,
        metrics={"dice": dice_of},
        device=device,
    )
    values = {"size": "{}x{}".format(*size), "width": WIDTHS[row]}
    values |= {"dice": f"{training.history['dice'][-1]:.4f}"}
    values |= {"dice_full_size": f"{full_size_dice(training.net, checked, size):.4f}"}
    values |= {"truth_full_size": f"{truth_dice(checked, size):.4f}"}
    values |= {"minutes": f"{training.seconds / 60:.1f}"}
    curves = Rows(options.out / "cars_curves.csv", (*KEYS, "step"))
    for point in curve_of(training, recipe, len(changed), **key):
        curves.add(point)
    if row == "large" and options.seed == 0:
        save_picture(options.out / "cars.jpg", training.net, checked, size)
    table.add({**key, **values, "memory_mb": peak_memory(device), **about(device)})
    print(key, values)


class Textbook(Dataset):
    """Photographs as the textbooks read them: decoded and shrunk each time."""

    def __init__(self, source, size):
        self.source, self.size = source, size

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        item, size = self.source.items[index], self.size[::-1]
        image = Image.open(item.image).convert("RGB").resize(size)
        mask = Image.open(item.mask).convert("L").resize(size, Image.NEAREST)
        x = torch.tensor(np.array(image)).permute(2, 0, 1).float() / 255
        return x, torch.tensor(np.array(mask) > 0).long()


def one_epoch(model, loader, criterion, optimizer, device="cpu"):
    "The five lines that every textbook has."
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        criterion(model(images.to(device)), labels.to(device)).backward()
        optimizer.step()


def textbook(source, seed, report, start):
    "The loop of the textbooks, until it is good enough."
    learned, checked = source.split(4, seed)
    train = DataLoader(Textbook(learned, SIZES["small"]), 4, shuffle=True)
    valid = DataLoader(Textbook(checked, SIZES["small"]), 4)
    model, criterion = net_of(recipe_of("small"), seed), nn.CrossEntropyLoss()
    optimizer, epoch = torch.optim.Adam(model.parameters(), lr=0.001), 0
    while time.monotonic() - start < LONGEST:
        one_epoch(model, train, criterion, optimizer)
        model.eval()
        counts, epoch = 0, epoch + 1
        with torch.no_grad():
            for images, labels in valid:
                pred = model(images).argmax(1)
                cells = (2 * labels + pred).flatten()
                counts = counts + torch.bincount(cells, minlength=4).reshape(2, 2)
        if report(epoch, time.monotonic() - start, dice_of(counts)):
            break


def library(source, seed, report, start):
    "This library, with a schedule that is as long as a row of the table."
    recipe = recipe_of("small")
    changed, whole, _ = data_sets(source, "small", seed)

    def stop(training, row):
        return report(training.epoch, time.monotonic() - start, row["dice"])

    learn(
        None,
        recipe,
        net_of(recipe, seed),
        changed,
        whole,
        RACE_STEPS,
        seed,
        metrics={"dice": dice_of},
        device="cpu",
        stop=stop,
    )


def race_one(who, options, queue, gate):
    "Run one side of the race on one thread, and tell how it ended, however it does."
    torch.set_num_threads(1)
    try:
        source = open_carvana(options.data)
        side = {"textbook": textbook, "library": library}[who]
        gate.wait(timeout=300)
        start = time.monotonic()

        def report(epoch, seconds, value):
            queue.put((who, epoch, seconds, value))
            return value >= GOAL or seconds > LONGEST

        side(source, options.seed, report, start)
        queue.put((who, "done", time.monotonic() - start, None))
    except BaseException as error:
        queue.put((who, "failed", 0, repr(error)))
        raise


def next_report(queue, sides):
    "Wait for a report; a side that was killed is an error, not a reason to wait on."
    while True:
        dead = [name for name, side in sides.items() if side.exitcode]
        try:
            who, epoch, seconds, value = queue.get(timeout=5)
        except Empty:
            if dead:
                raise RuntimeError(f"{dead[0]} was killed, no row is written") from None
            continue
        if epoch == "failed":
            raise RuntimeError(f"{who} failed, no row is written: {value}")
        return who, epoch, seconds, value


def start_apart(sides):
    "Start processes on a core each, helping threads included, where the system can."
    every = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    cores = sorted(every)
    for number, side in enumerate(sides):
        if len(cores) >= len(sides):
            os.sched_setaffinity(0, {cores[number]})  # the new process inherits it
        side.start()
    if every:
        os.sched_setaffinity(0, every)


def race(options):
    "Both sides at once, each on a core of its own; a row per epoch."
    out = Rows(options.out / "cars_race.csv", ("who", "seed", "epoch"))
    if any(row["seed"] == str(options.seed) for row in out.rows):
        return
    context = get_context("spawn")
    queue, gate, names = context.Queue(), context.Barrier(2), ["textbook", "library"]
    given = options, queue, gate
    sides = {
        name: context.Process(target=race_one, args=(name, *given), daemon=True)
        for name in names
    }
    start_apart(sides.values())
    torch.set_num_threads(1)
    described, rows = about(pick_device("cpu")), []
    while len(names):
        who, epoch, seconds, value = next_report(queue, sides)
        if epoch == "done":
            names.remove(who)
            print(f"{who}: over after {seconds:.0f} s", flush=True)
            continue
        print(f"{who}: epoch {epoch}, Dice {value:.4f}, {seconds:.0f} s", flush=True)
        row = {"who": who, "seed": options.seed, "epoch": epoch}
        row |= {"seconds": f"{seconds:.1f}", "dice": f"{value:.4f}"}
        rows.append(row | described)
    out.add_all(rows)
    for side in sides.values():
        side.join()


def leave_open(options):
    "Note the row that needs a GPU."
    table = Rows(options.out / "cars.csv", KEYS)
    table.leave_open("needs a GPU", row="large", seed=options.seed, steps=20000)


def read_options():
    "Read the command line."
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="the budget of a row")
    parser.add_argument("--only", nargs="*", choices=[*SIZES, "race"])
    return read(parser)


def main():
    options = read_options()
    device, source = pick_device(options.device), open_carvana(options.data)
    if device.type != "cuda":
        leave_open(options)
    for row in SIZES:
        if not options.only or row in options.only:
            run(options, source, device, row)
    if not options.only or "race" in options.only:
        race(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
