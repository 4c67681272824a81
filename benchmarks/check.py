"""How long check_pairs takes for many large photographs.

    python benchmarks/check.py [--pairs 5000] [--to FOLDER]

Pairs of 1918 x 1280 pixels are written in the layout of Carvana, JPEG and GIF: 16 are
drawn, the others are copies of these files. Printed: how many megabytes they are, how
many seconds the check took (all threads, and of one processor), what it found; then the
platform and the versions. Without --to, the files go to a folder that is deleted.
"""

import argparse
import os
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time

from unet_tutorial.data.check import check_pairs
from unet_tutorial.synthetic import write_carvana


def copy_pairs(folder, count):
    """Write `count` pairs, as copies of 16 that are drawn."""
    drawn = write_carvana(folder / "drawn", cars=1)
    images = sorted((drawn / "train").iterdir())
    for part in ("train", "train_masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, name = images[number % 16], f"car{number // 16:05d}_{number % 16:02d}"
        mask = drawn / "train_masks" / f"{image.stem}_mask.gif"
        shutil.copyfile(image, folder / "train" / f"{name}.jpg")
        shutil.copyfile(mask, folder / "train_masks" / f"{name}_mask.gif")
    return folder / "train", folder / "train_masks"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--to", type=Path, help="keep the files in this new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = copy_pairs(options.to or Path(temporary), options.pairs)
        files = [path for folder in folders for path in folder.iterdir()]
        size = sum(path.stat().st_size for path in files) / 1e6
        wall, processor = perf_counter(), process_time()
        report = check_pairs(*folders)
        wall, processor = perf_counter() - wall, process_time() - processor
        assert not report.problems and len(report.pairs) == options.pairs
    print("| pairs | megabytes | seconds | processor seconds | cores | problems |")
    print("|---|---|---|---|---|---|")
    cores = os.cpu_count()
    row = f"{wall:.1f} | {processor:.1f} | {cores} | {len(report.problems)}"
    print(f"| {len(report.pairs)} | {size:.0f} | {row} |")
    packages = [f"{name} {version(name)}" for name in ("numpy", "pillow")]
    python = f"Python {platform.python_version()}"
    print(platform.platform(), python, *packages, sep=", ")


if __name__ == "__main__":
    main()
