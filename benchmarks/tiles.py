"""How much memory a slide takes that is far larger than it: from memmap to memmap.

    python benchmarks/tiles.py                     # 20,000 x 20,000 pixels
    python benchmarks/tiles.py --size 5000         # less, where time is short
    python benchmarks/tiles.py --channels 64       # the paper's net, best with --device
    python benchmarks/tiles.py --threshold 0.6     # as `predict --threshold` asks

A slide of drawn membranes is written to a temporary file, a byte a pixel, and
`predict_slide` writes its labels into another. Both files are deleted at the end.
With a threshold a `Predictor` is asked, and the labels, a byte a pixel, stay in memory.
Printed: the time, the peak of resident memory (of the process, with Python, torch and
the pages of both files), what it was just before, and the versions. The exit status is
1 if the peak is above --limit.
"""

import argparse
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from unet_tutorial.data.slides import predict_slide
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.synthetic import draw_membranes


def peak_memory():
    """Return the most MB that this process has had resident so far."""
    status = Path("/proc/self/status")  # Linux; ru_maxrss there includes the parent's
    if status.exists():
        line = next(s for s in status.read_text().splitlines() if "VmHWM" in s)
        return int(line.split()[1]) / 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes


def write_slide(path, size):
    """Write size x size bytes of drawn membranes, a strip of rows at a time."""
    drawn, _ = draw_membranes(size=512, seed=0)
    across = np.tile(drawn, (1, size // 512 + 1))[:, :size]
    with path.open("wb") as file:
        for top in range(0, size, 512):
            file.write(across[: size - top].tobytes())


def measure(folder, size, channels, output_tile, batch_size, device, logits, threshold):
    """Predict a slide; return the seconds, and the peak of memory before and after."""
    slide_file, out_file = folder / "slide.raw", folder / "out.raw"
    write_slide(slide_file, size)
    slide = np.memmap(slide_file, np.uint8, "r", shape=(size, size))
    shape, kind = ((2, size, size), np.float32) if logits else (slide.shape, np.uint8)
    out = np.memmap(out_file, kind, "w+", shape=shape)
    torch.manual_seed(0)
    net = UNet(base_channels=channels).to(device)
    notes = {"tile": output_tile, "threshold": threshold}
    predictor = Predictor(net, **notes)
    before, start = peak_memory(), perf_counter()
    if threshold is None:
        predict_slide(net, slide, out, output_tile, batch_size)
    else:
        predictor(slide)
    return perf_counter() - start, before, peak_memory()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=20_000, help="pixels a side")
    parser.add_argument("--channels", type=int, default=1, help="base_channels")
    parser.add_argument("--output-tile", type=int, default=388)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--logits", action="store_true", help="8 bytes a pixel, not 1")
    parser.add_argument("--threshold", type=float, help="0 to 1, of the foreground")
    parser.add_argument("--limit", type=float, default=1500, help="MB")
    args = vars(parser.parse_args())
    limit = args.pop("limit")
    with tempfile.TemporaryDirectory() as folder:
        seconds, before, peak = measure(Path(folder), **args)
    print(", ".join(f"{name} {value}" for name, value in args.items()))
    print(
        f"{seconds:.1f} s, {args['size'] ** 2 / seconds / 1e6:.2f} million pixels a s"
    )
    print(f"resident memory: peak {peak:.0f} MB of {limit:.0f}, before {before:.0f} MB")
    packages = [f"{name} {version(name)}" for name in ("numpy", "torch")]
    python = f"Python {platform.python_version()}"
    print(platform.platform(), python, *packages, sep=", ")
    return int(peak > limit)


if __name__ == "__main__":
    sys.exit(main())
