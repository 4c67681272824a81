"""Five sets of images and masks as a reader's own: from what is at hand, and drawn.

Each set is two folders, `train` and `test`, with `images` and `masks` in them, as
`unet-tutorial train --kind folder` takes them. Test images come from other slices,
films or cars than those to train on.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from unet_tutorial.data.datasets import open_source


def write_set(
    folder,  # Path, is made
    part,  # train or test
    pairs,  # iterable of (image uint8, mask bool)
):  # int, how many
    """Write images and masks (0 and 255) under the same names."""
    for name in ("images", "masks"):
        (folder / part / name).mkdir(parents=True, exist_ok=True)
    count = 0
    for number, (image, mask) in enumerate(pairs):
        file = f"{number:03d}.png"
        Image.fromarray(image).save(folder / part / "images" / file)
        pixels = np.where(mask, 255, 0).astype(np.uint8)
        Image.fromarray(pixels).save(folder / part / "masks" / file)
        count += 1
    return count


def membranes(data, seed):
    """EM slices of ISBI 2012; foreground are the membranes. 16 and 6 slices."""
    source = open_source("isbi", data)
    for part, chosen in {"train": range(16), "test": range(24, 30)}.items():
        yield part, ((source.image(i), source.labels(i) == 1) for i in chosen)


def hela(data, seed):
    """HeLa cells in DIC: 12 frames of one film, 6 of the other; silver truth."""
    folder = next(Path(data).rglob("DIC-C2DH-HeLa"))
    for part, film, step in (("train", "01", 7), ("test", "02", 14)):
        files = sorted((folder / film).glob("t*.tif"))[::step]
        truth = folder / f"{film}_ST" / "SEG"
        yield (
            part,
            ((read(f), read(truth / f"man_seg{f.stem[1:]}.tif") > 0) for f in files),
        )


def cars(data, seed):
    """Photographs of cars, at a quarter of their side: 10 cars and 5, 4 views each."""
    folder = next(Path(data).rglob("carvana"))
    files = sorted((folder / "train").glob("*.jpg"))
    names = sorted({file.stem.rpartition("_")[0] for file in files})
    for part, chosen in {"train": names[:10], "test": names[10:]}.items():
        some = [file for file in files if file.stem.rpartition("_")[0] in chosen][::4]
        masks = [folder / "train_masks" / f"{file.stem}_mask.gif" for file in some]
        yield part, ((small(f), small(m) > 0) for f, m in zip(some, masks, strict=True))


def small(file):
    """Read an image at a quarter of its side."""
    image = Image.open(file)
    nearest = Image.Resampling.NEAREST
    how = nearest if file.suffix == ".gif" else Image.Resampling.BOX
    return np.asarray(image.resize((image.width // 4, image.height // 4), how))


def read(file):
    """Read an image as an array."""
    return np.asarray(Image.open(file))


def lines(data, seed):
    """Drawn vessels: dark branching lines of 2 to 7 pixels on an uneven ground."""
    for part, count in {"train": 12, "test": 6}.items():
        start = seed + (1000 if part == "test" else 0)
        yield part, (draw_lines(start + number) for number in range(count))


def draw_lines(seed, size=512):
    """Draw (image (H, W, 3) uint8, mask (H, W) bool)."""
    rng = np.random.default_rng(seed)
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    grow(rng, pen, *rng.uniform(0.3, 0.7, 2) * 2 * size, rng.uniform(0, 2 * np.pi), 14)
    for _ in range(5):
        angle = rng.uniform(0, 2 * np.pi)
        x, y = size + 0.7 * size * np.cos(angle), size + 0.7 * size * np.sin(angle)
        grow(rng, pen, x, y, rng.uniform(0, 2 * np.pi), rng.uniform(8, 14))
    mask = np.asarray(canvas.resize((size, size), Image.Resampling.BOX)) > 127
    soft = np.asarray(
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(1.2)
        )
    )
    return on_ground(rng, soft * (-45 / 255), colours=(0.55, 1.0, 0.35)), mask


def grow(rng, pen, x, y, angle, width):
    """Draw a line that wanders, thins out and branches; all at twice the size."""
    while width > 3.5:
        for _ in range(int(rng.integers(10, 26))):
            angle += rng.normal(0, 0.09)
            new = x + 9 * np.cos(angle), y + 9 * np.sin(angle)
            pen.line([x, y, *new], 255, int(width))
            pen.ellipse(
                [v - width / 2 for v in new] + [v + width / 2 for v in new], 255
            )
            x, y = new
        turn = rng.uniform(0.4, 0.9)
        grow(rng, pen, x, y, angle + turn, width * rng.uniform(0.5, 0.75))
        angle, width = angle - turn / 2, width * rng.uniform(0.75, 0.9)


def spots(data, seed):
    """Drawn rare spots: 6 to 14 bright dots in an image, and dust that is none."""
    for part, count in {"train": 12, "test": 6}.items():
        start = seed + (1000 if part == "test" else 0)
        yield part, (draw_spots(start + number) for number in range(count))


def draw_spots(seed, size=512):
    """Draw (image (H, W) uint8, mask (H, W) bool); under 0.5 % are foreground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    light, mask = np.zeros((size, size)), np.zeros((size, size), bool)
    for _ in range(int(rng.integers(6, 15))):
        y, x, r = *rng.uniform(8, size - 8, 2), rng.uniform(3, 6)
        far = np.hypot(rows - y, columns - x)
        light += rng.uniform(30, 70) / (1 + np.exp(np.minimum((far - r) / 0.6, 50)))
        mask |= far < r
    for _ in range(60):  # dust: as bright, of one or two pixels
        y, x = rng.integers(2, size - 2, 2)
        light[y : y + 2, x : x + 1 + rng.integers(2)] += rng.uniform(40, 90)
    return on_ground(rng, light, colours=None), mask


def on_ground(rng, light, colours):
    """Put light or shade on an uneven, noisy ground, grey or coloured."""
    size = light.shape[0]
    hills = Image.fromarray(rng.normal(0, 22, (6, 6)).astype(np.float32))
    hills = np.asarray(hills.resize((size, size), Image.Resampling.BICUBIC))
    grain = rng.normal(0, 7, (size, size))
    if colours is None:
        return np.clip(90 + hills + light + grain, 0, 255).astype(np.uint8)
    ground = np.stack([170 + hills, 110 + hills, 60 + hills / 2], -1)
    ground = ground + (light + grain)[..., None] * np.array(colours)
    return np.clip(ground, 0, 255).astype(np.uint8)


SETS = {
    "membranes": membranes,
    "hela": hela,
    "cars": cars,
    "lines": lines,
    "spots": spots,
}
NEEDS_DATA = ("membranes", "hela", "cars")
