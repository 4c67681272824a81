"""Build wheel and source distribution, check them, and use the wheel: `make package`.

    python tools/packages.py build            into build/dist; twine checks both
    python tools/packages.py use              in a new environment of this Python

The second installs the wheel of build/dist with what it requires, and nothing else,
imports every module, trains a step, saves the net, loads it and asks it. With
`--lowest`, everything it requires at the lowest version that settings.ini states; with
`--sdist`, the source distribution instead of the wheel; `--keep DIR` makes the
environment in that folder and leaves it there, to try more with.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lowest import constraints
from notebooks import ROOT, settings

DIST = ROOT / "build" / "dist"
USE = """
import importlib, pkgutil, sys, tempfile, warnings
import torch, unet_tutorial
from torch.nn.functional import cross_entropy
from unet_tutorial.runs.weights import load_net, save_net

assert unet_tutorial.__file__.startswith(sys.prefix), unet_tutorial.__file__
names = [found.name for found in pkgutil.walk_packages(
    unet_tutorial.__path__, "unet_tutorial.") if not found.name.endswith("__main__")]
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:  # of an extra that is not installed, if it says so
        assert 'pip install "unet_tutorial[' in str(error), error
        print(error)
net = unet_tutorial.UNet(base_channels=4, depth=2)
image, labels = torch.rand(1, 1, 92, 92), torch.ones(1, 52, 52, dtype=torch.long)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
before = cross_entropy(net(image), labels)
before.backward()
optimizer.step()
assert cross_entropy(net(image), labels) < before
with tempfile.TemporaryDirectory() as folder:
    save_net(f"{folder}/net.safetensors", net)
    again, _ = load_net(f"{folder}/net.safetensors")
assert torch.equal(again(image), net.eval()(image))
drawn, truth = unet_tutorial.draw_membranes(size=256, seed=1000)
assert (unet_tutorial.Predictor.load("membranes")(drawn) == truth).mean() > 0.9
print(len(names), "modules and one step, Python", sys.version.split()[0],
      "torch", torch.__version__)
"""


def build():
    "Build both from the files of this clone, and let twine look at them."
    shutil.rmtree(DIST, ignore_errors=True)
    tools = [sys.executable, "-m"]
    subprocess.run([*tools, "build", "--outdir", str(DIST), str(ROOT)], check=True)
    made = sorted(map(str, DIST.iterdir()))
    subprocess.run([*tools, "twine", "check", "--strict", *made], check=True)


def use(
    folder,  # an empty one, for the environment
    lowest=False,  # True: with the lowest versions that are stated
    kind="*.whl",  # or "*.tar.gz", the source distribution
):
    "Install the package where nothing else is, and work with it."
    built = sorted(DIST.glob(kind))
    if not built:
        sys.exit(f"no {kind} in build/dist; python tools/packages.py build makes it")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(Path(folder) / "bin" / "python")
    pins = Path(folder) / "pins.txt"
    stated = constraints(settings()["requirements"]) if lowest else []
    pins.write_text("\n".join(stated), encoding="utf-8")
    pip = [python, "-I", "-m", "pip", "install", "-q", "-c", str(pins)]  # not ours
    subprocess.run([*pip, str(built[-1])], check=True)
    subprocess.run([python, "-I", "-c", USE], cwd=folder, check=True)


def main():
    "Read the command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["build", "use"])
    parser.add_argument("--lowest", action="store_true", help="with lowest versions")
    parser.add_argument("--sdist", action="store_true", help="instead of the wheel")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make and keep it")
    args = parser.parse_args()
    kind = "*.tar.gz" if args.sdist else "*.whl"
    if args.action == "build":
        build()
    elif args.keep is None:
        with tempfile.TemporaryDirectory() as folder:
            use(folder, args.lowest, kind)
    elif args.keep.exists():
        sys.exit(f"{args.keep} is there already; a new folder would work")
    else:
        use(args.keep.resolve(), args.lowest, kind)


if __name__ == "__main__":
    main()
