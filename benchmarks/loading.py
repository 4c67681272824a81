"""How many images a second reach the net, beside the loader of the textbooks.

    python benchmarks/loading.py                    # 2 drawn cars of full size
    python benchmarks/loading.py --data DIR         # real ones: DIR holds Carvana
    python benchmarks/loading.py --out results/loading.csv

1918 x 1280 JPEG and GIF to 160 x 240, one process, one thread of torch and of OpenCV,
batches of 8 in random order. (Files that are new are read ahead by two other threads of
`ImagePairs`, while items are changed: the first epoch needs two cores.) The textbook
loader opens both files with PIL, converts them, and leaves the rest to albumentations:
Resize, Rotate, flips, Normalize, ToTensor. Ours is
`Seeded(ImagePairs(pairs, transform=car_pipeline()))`, made anew in each round, so that
nothing is kept in the first epoch; making it looks into each file once, and is timed on
its own. All files are in the cache of the operating system. Each round is a process of
its own, in which the textbook, the first epoch and the later ones take turns: what
earlier rounds leave on the heap can double the price of the textbook's arrays of 7 MB,
or halve it. Printed are the rates of each round, the milliseconds of the single steps,
and the median over the rounds of the ratio to the textbook's rate in the same round.
The exit status is 1 if the first epoch is less than 4 times as fast, or the later ones
less than 15 times. Run it on a quiet machine: neighbours that share its caches slow the
quick loader more than the slow one.
"""

import argparse
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from table import write
from torch.utils.data import DataLoader, Dataset

from unet_tutorial.data.datasets import find_carvana
from unet_tutorial.data.images import read_image, read_mask
from unet_tutorial.data.loader import Seeded, make_loader
from unet_tutorial.data.photos import ImagePairs, to_tensor
from unet_tutorial.data.pipelines import A, car_pipeline, cv2
from unet_tutorial.synthetic import write_carvana

SIZE, BATCH, LATER, AIMS = (160, 240), 8, 3, {"first": 4, "later": 15}
PACKAGES = ("torch", "albumentations", "pillow", "numpy")


class Textbook(Dataset):
    """Every pair opened, converted, resized and changed, in each epoch."""

    def __init__(self, pairs):
        self.pairs = pairs
        self.transform = A.Compose(
            [
                A.Resize(*SIZE),
                A.Rotate(limit=35, p=1.0),
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.1),
                A.Normalize(mean=(0, 0, 0), std=(1, 1, 1), max_pixel_value=255.0),
                A.ToTensorV2(),
            ]
        )

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image = np.array(Image.open(self.pairs[index].image).convert("RGB"))
        mask = Image.open(self.pairs[index].mask).convert("L")
        mask = np.array(mask, dtype=np.float32)
        mask[mask == 255.0] = 1.0
        out = self.transform(image=image, mask=mask)
        return out["image"], out["mask"]


def rate(loader, images, epochs=1):
    """Return images a second over some epochs."""
    start = perf_counter()
    for _ in range(epochs):
        for x, _ in loader:
            assert x.shape[1:] == (3, *SIZE)
    return images * epochs / (perf_counter() - start)


def measure(pairs, seed):
    """Return the rates of one round: textbook, first epoch, later epochs."""
    torch.manual_seed(seed)
    rates = {"textbook": rate(DataLoader(Textbook(pairs), BATCH, True), len(pairs))}
    data = Seeded(ImagePairs(pairs, SIZE, transform=car_pipeline()), seed)
    loader = make_loader(data, BATCH, shuffle=True, seed=seed)
    rates["first"] = rate(loader, len(pairs))
    loader.set_epoch(1)
    rates["later"] = rate(loader, len(pairs), LATER)
    return rates


def one_thread():
    """Let this process compute in one thread; decoders may use a second one."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def compare(pairs, rounds, seed):
    """Time all rounds, each in a new process, and return them as rows."""
    rows, spawn = [], get_context("spawn")
    for number in range(rounds):
        with spawn.Pool(1, one_thread) as pool:
            pool.apply(measure, (pairs[:BATCH], seed))  # what happens once only
            rates = pool.apply(measure, (pairs, seed + number))
        rows.append({"round": number, "seed": seed + number})
        rows[-1] |= {name: round(value, 1) for name, value in rates.items()}
        print(*[f"{name} {value}" for name, value in rows[-1].items()], sep=", ")
    return rows


def steps(pairs):
    """Return the milliseconds of each step of one item, the best of three rounds."""
    change, kept = car_pipeline(), ImagePairs(pairs, SIZE)
    items = [kept.small[index] for index in range(len(pairs))]
    jobs = {
        "making the set": lambda i: ImagePairs(pairs[i : i + 1], SIZE),
        "JPEG, all pixels": lambda i: read_image(pairs[i].image),
        "JPEG, reduced": lambda i: kept.source.image(i, SIZE),
        "GIF": lambda i: read_mask(pairs[i].mask, SIZE),
        "both, kept": lambda i: kept.small[i],
        "car_pipeline": lambda i: change(image=items[i][0], mask=items[i][1]),
        "to_tensor": lambda i: to_tensor(items[i][0]),
    }
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(3):
        for name, job in jobs.items():
            start = perf_counter()
            for index in range(len(pairs)):
                job(index)
            spent = 1000 * (perf_counter() - start) / len(pairs)
            best[name] = min(best[name], spent)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder that holds Carvana")
    parser.add_argument("--images", type=int, default=96, help="at most, of --data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a CSV file for the rows")
    args = parser.parse_args()
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        pairs = find_carvana(args.data or write_carvana(folder, cars=2))[: args.images]
        rows, spent = compare(pairs, args.rounds, args.seed), steps(pairs)
    about = {
        "images": len(pairs),
        "files": "Carvana" if args.data else "drawn",
        "command": " ".join(["benchmarks/loading.py", *sys.argv[1:]]),
        "device": f"cpu ({platform.machine()}), 1 thread, 2 more for new files",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "opencv": cv2.__version__,
    }
    print(*[f"{name} {value}" for name, value in about.items()], sep=", ")
    print("ms:", ", ".join(f"{name} {value:.2f}" for name, value in spent.items()))
    missed = False
    for name, aim in AIMS.items():
        ratio = statistics.median(row[name] / row["textbook"] for row in rows)
        print(f"{name} epoch: {ratio:.1f} times the textbook's rate (aim: {aim})")
        missed |= ratio < aim
    if args.out:
        spent = {f"ms {name}": round(value, 2) for name, value in spent.items()}
        write(args.out, [{**row, **spent, **about} for row in rows])
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
