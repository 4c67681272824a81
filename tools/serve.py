"""Serve a page that takes an image and shows its mask: make app NET=runs/cars

Masks are saved into the folder `masks`, or that which UNET_MASKS names. The net is a
run's folder, a .safetensors file or a shipped net's name; without one, the newest that
the notebooks or a training have left here. What comes after it is told to Voilà, such
as --port=8899.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from notebooks import ROOT, settings

PLACES = ("runs", "nbs/runs", "build/course")


def newest_net(
    root=ROOT,  # the repository
):  # Path of a .safetensors file, or None
    "The best net of the latest run; without any run, the latest net."
    nets = [net for place in PLACES for net in (root / place).rglob("*.safetensors")]
    best = [net for net in nets if net.name == "best.safetensors"]
    return max(best or nets, key=lambda net: net.stat().st_mtime, default=None)


def install(
    module="voila",  # what the page needs
):
    "Get what the page needs, once."
    if importlib.util.find_spec(module) is None:
        needs = settings()["app_requirements"].split()
        print("Installing", *needs, flush=True)
        command = [sys.executable, "-m", "pip", "install", "-q", *needs]
        if subprocess.call(command) != 0:
            sys.exit(f"app: pip failed; try by hand: pip install {' '.join(needs)}")


def main():
    "Find the net, and start the server; Ctrl-C ends it."
    net = Path(sys.argv[1]) if len(sys.argv) > 1 else newest_net()
    if net is None:
        sys.exit(
            "app: there is no trained net here yet. Name one: make app NET=folder; or "
            "train a small one in a minute: make course NB=14_predict"
        )
    from unet_tutorial.runs.weights import find_net, load_net

    try:
        net = find_net(net)
        load_net(net)
    except (OSError, ValueError) as error:
        sys.exit(f"app: {error}")
    install()
    masks = Path(os.environ.get("UNET_MASKS") or ROOT / "masks").resolve()
    print(f"The net is {net}; masks are saved into {masks}", flush=True)
    page = [str(ROOT / "tools" / "page.py"), str(ROOT / "app" / "segment.ipynb")]
    command = [sys.executable, *page, *sys.argv[2:]]
    with tempfile.TemporaryDirectory() as folder:
        told = {
            "UNET_NET": str(net.resolve()),
            "UNET_MASKS": str(masks),
            "UNET_TURN": str(Path(folder) / "image"),  # its pages ask one at a time
        }
        return subprocess.call(command, env={**os.environ, **told})


def stop(*_):
    "End as Ctrl-C does."
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)  # the server must not outlive this
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
