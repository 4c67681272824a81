"""How long one 512 x 512 image takes, tile by tile, through the net of Figure 1.

    python experiments/one_image.py                   # on this processor
    python experiments/one_image.py --device cuda

The paper: "less than a second on a recent GPU", of 2015. The net has random weights,
which take as long as trained ones; the image is drawn. Seconds are the median of five
after one that is not counted, from an array to a label map, four tiles of 444 pixels.
One row per device goes into results/one_image.csv.
"""

import argparse
import sys
from pathlib import Path

import torch
from rows import ROOT, Rows, about, peak_memory

from unet_tutorial.gpu import median_seconds, pick_device
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.synthetic import draw_membranes


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    options = parser.parse_args()
    device = pick_device(options.device)
    table, row = (
        Rows(options.out / "one_image.csv", ("device", "threads")),
        about(device),
    )
    if table.find(**row):
        print(f"{row['device']}, {row['threads']} threads: already in {table.path}")
        return 0
    torch.manual_seed(0)
    predictor = Predictor(UNet().eval(), device)
    image, _ = draw_membranes(size=512, seed=0)
    seconds = median_seconds(lambda: predictor(image), device, warm_up=1)
    row |= {"seconds": f"{seconds:.3f}"}
    table.add(row | {"memory_mb": peak_memory(device)})
    print(f"{seconds:.3f} s on {row['device']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
