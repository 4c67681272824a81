"""Read the input atlas with other versions of Pillow, tifffile and numpy: `make atlas`.

    python tools/readers.py VENVS [lowest] [colab] [newest]

The lowest are those of settings.ini, Colab's those of tools/colab.txt, and the newest
what pip finds for this Python. Each gets a small environment of its own below the
folder VENVS: pytest and what the readers import, without PyTorch.
"""

import re
import subprocess
import sys
from pathlib import Path

import colab
from lowest import constraints
from notebooks import ROOT, settings

NAMES = ("matplotlib", "numpy", "pillow", "scipy", "tifffile", "tqdm")  # of the readers
TESTS = ("tests/test_atlas.py", "tests/test_atlas_names.py")
PYTHONS = {  # the lowest numpy has no wheel for a newer one
    "lowest": "3.11",
    "colab": colab.PYTHON,
    "newest": "{}.{}".format(*sys.version_info),
}


def pins(
    which,  # "lowest", "colab" or "newest"
):  # list of str such as ["pillow==10"]
    "What pip is asked for."
    if which == "lowest":
        return constraints(settings()["requirements"], NAMES)
    if which == "newest":
        return list(NAMES)
    lines = colab.PINS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.split("[=<>]", line)[0] in NAMES]


def make(
    which,  # "lowest", "colab" or "newest"
    folder,  # Path, where the environments are
):  # Path of its Python
    "Make an environment, or bring the one that is there up to date."
    version = PYTHONS[which]
    usual = colab.places(version)
    python = next((name for name in usual if colab.is_right(name, version)), None)
    if python is None:
        sys.exit(f"atlas: {which} needs Python {version}, which is not here")
    own = folder / which / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", str(folder / which)], check=True)
    pip = [str(own), "-m", "pip", "install", "-q", "--upgrade"]
    subprocess.run([*pip, "pytest", *pins(which)], check=True)
    return own


def read(
    python,  # of an environment
):  # int, 0: every kind of file is right or refused
    "Read the atlas; the first line says with what."
    code = "import numpy, PIL, tifffile\nfor it in (PIL, tifffile, numpy): "
    code += "print(it.__name__, it.__version__, end='  ')"
    subprocess.run([str(python), "-c", code], check=True)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    return subprocess.run(command, cwd=ROOT).returncode


def main():  # int, the exit status
    "Read the atlas in each environment that was named, or in all."
    folder, *asked = sys.argv[1:]
    if unknown := set(asked) - set(PYTHONS):
        sys.exit(f"atlas: {', '.join(unknown)}? {', '.join(PYTHONS)} would work")
    bad = []
    for which in asked or PYTHONS:
        print(f"== {which}", flush=True)
        if read(make(which, Path(folder).resolve())):
            bad.append(which)
    print(f"read otherwise with: {', '.join(bad)}" if bad else "the same with all")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
