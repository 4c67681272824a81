"""Hundreds of epochs over a small set with worker processes: no hang, no crash.

    python benchmarks/workers.py                      # 200 epochs, 2 workers
    python benchmarks/workers.py --epochs 20 --fresh  # new workers for each epoch

Sixteen small drawn pairs go through `car_pipeline` in worker processes, with threads of
OpenCV at work in the parent, as in a user's program. Each epoch must have the very
batches that one process gives. Printed: the epochs, the seconds, the versions. The exit
status is 1 if a batch differs, or if a batch takes longer than --limit seconds.
"""

import argparse
import platform
import sys
import tempfile
from importlib.metadata import version
from time import perf_counter

import torch

from unet_tutorial.data.datasets import find_carvana
from unet_tutorial.data.loader import Seeded, make_loader
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.data.pipelines import car_pipeline, cv2
from unet_tutorial.synthetic import write_carvana


def batches(loader, epoch):
    """Return all batches of an epoch, images and labels in one list."""
    loader.set_epoch(epoch)
    return [part for batch in loader for part in batch]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="not persistent")
    parser.add_argument("--limit", type=float, default=30, help="seconds a batch")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = find_carvana(write_carvana(folder, cars=1, size=(64, 96)))
        cv2.setNumThreads(2)
        data = Seeded(ImagePairs(pairs, (48, 72), transform=car_pipeline()))
        alone = make_loader(data, 4, shuffle=True)
        helped = make_loader(
            data,
            batch_size=4,
            shuffle=True,
            workers=args.workers,
            persistent_workers=not args.fresh,
            timeout=args.limit,
        )
        start = perf_counter()
        for epoch in range(args.epochs):
            pairs_of = zip(batches(alone, epoch), batches(helped, epoch), strict=True)
            if not all(torch.equal(one, two) for one, two in pairs_of):
                return f"epoch {epoch}: workers give other batches than one process"
        spent = perf_counter() - start
    print(f"{args.epochs} epochs, {args.workers} workers, all equal, {spent:.0f} s")
    packages = [f"{name} {version(name)}" for name in ("torch", "albumentations")]
    python = f"Python {platform.python_version()}"
    print(platform.platform(), python, *packages, sep=", ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
