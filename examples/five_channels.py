"""Images of five channels, from files to masks: draw, check, train, predict."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tifffile import imwrite

from unet_tutorial import Predictor, train_run
from unet_tutorial.data.check import check_pairs
from unet_tutorial.data.images import read_image, read_mask
from unet_tutorial.deploy.folder import predict_files
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.synthetic import draw_cells


def main(folder: Path) -> None:
    """Draw eight images, train for some steps, and look at the masks."""
    images, masks = folder / "images", folder / "masks"
    images.mkdir()
    masks.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        cells, labels = draw_cells(96, seed=number)  # (96, 96), 0 is background
        channels = rng.integers(0, 30, (5, 96, 96), dtype=np.uint8)
        channels[0] = cells
        channels[4] = np.where(labels > 0, 180, 20)  # shows what is cell
        metadata = {"axes": "CYX"}  # as ImageJ writes it
        imwrite(images / f"{number}.tif", channels, imagej=True, metadata=metadata)
        Image.fromarray(np.uint8(255 * (labels > 0))).save(masks / f"{number}.png")

    report = check_pairs(images, masks)
    assert not report.problems and len(report.pairs) == 8
    assert read_image(images / "0.tif").shape == (96, 96, 5)

    modern = read_recipe("modern")
    small = replace(modern.net, base_channels=4, depth=2)
    fast = replace(modern.optimizer, lr=0.01)
    recipe = replace(modern, net=small, optimizer=fast, tile=96)
    options = {"masks": str(masks.resolve())}
    train_run(
        "folder",
        images,
        folder / "run",
        recipe,
        size=(96, 96),
        steps=30,
        device="cpu",
        options=options,
    )

    answers = folder / "answers"
    predictor = Predictor.load(folder / "run", "cpu")
    written = predict_files(predictor, images, answers, write=("mask", "overlay"))
    found = [read_mask(answers / f"{number}_mask.png") for number in range(8)]
    right = [
        np.mean(mask == read_mask(masks / f"{n}.png")) for n, mask in enumerate(found)
    ]
    assert all(mask.shape == (96, 96) for mask in found) and len(written) == 16
    assert predictor.model.in_channels == 5 and np.mean(right) > 0.8
    print(f"8 masks of images of 5 channels, {np.mean(right):.0%} of the pixels right")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
