"""Remove what the tools and the notebooks wrote, and say what is removed."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = (
    "build dist unet_tutorial.egg-info .pytest_cache .ruff_cache .hypothesis "
    "nbs/.ipynb_checkpoints nbs/.last_checked nbs/data nbs/runs"
).split()
SOURCES = ("benchmarks", "nbs", "tests", "tools", "unet_tutorial")


def leftovers(
    root=ROOT,  # the repository
):  # list of Path that exist
    "Everything that can be made again."
    paths = [root / name for name in NAMES]
    paths += [root / "__pycache__"]
    for name in SOURCES:
        paths += sorted((root / name).rglob("__pycache__"))
    return [path for path in paths if path.is_symlink() or path.exists()]


def remove(
    path,  # file, folder or link; what a link points to stays
):
    "Remove one thing."
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def main():
    "Remove everything but a virtual environment that stands inside."
    venv = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else None
    for path in leftovers():
        if venv and path in venv.parents:
            print(f"kept {path.relative_to(ROOT)}: it holds the virtual environment")
        else:
            remove(path)
            print(f"removed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
