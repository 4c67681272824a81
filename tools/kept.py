"""Keep a net and a run of this version, so that later versions prove they open them.

    python tools/kept.py

writes tests/kept/VERSION.zip, which is small: six drawn images of 48x48 pixels, a run
on them that was stopped in its third epoch, and what its net answers. Once a version is
released, its file stays as it is. `tests/test_kept.py` opens every file there is.
"""

import json
import os
import platform
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from notebooks import ROOT, settings
from PIL import Image

from unet_tutorial.predict import Predictor
from unet_tutorial.runs.recipes import as_dict, read_recipe
from unet_tutorial.runs.run import train_run

KEPT = ROOT / "tests" / "kept"
SIDE, IMAGES = 48, 6


class Stopped(Exception):
    "Ends the training, as a machine that is switched off."


def disc(
    number,  # seed
):  # image, mask: uint8 arrays (SIDE, SIDE)
    "A noisy image of a bright disc, and where it is."
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    top, left, radius = rng.integers([14, 14, 7], [34, 34, 12])
    inside = (rows - top) ** 2 + (columns - left) ** 2 < radius**2
    image = rng.normal(90 + 60 * inside, 15).clip(0, 255)
    return image.astype(np.uint8), (255 * inside).astype(np.uint8)


def draw(
    folder,  # Path; images and masks go into folders below it
):
    "Write the data set."
    for name, part in (("images", 0), ("masks", 1)):
        (folder / name).mkdir()
        for number in range(IMAGES):
            picture = Image.fromarray(disc(number)[part])
            picture.save(folder / name / f"{number}.png")


def stop_in_third(
    training,  # where the training is
    row,  # of the history; None: after a step
):
    "Stop after the first step of the third epoch."
    if (training.epoch, training.batch) == (2, 1):
        raise Stopped


def train(
    folder,  # Path of the data set; the run goes below it
):
    "Leave a run that was stopped."
    recipe = read_recipe("modern")
    small = replace(recipe.net, base_channels=4, depth=2)
    recipe = replace(recipe, net=small, batch=2, amp=False)
    options = {"masks": "masks"}
    given = {"recipe": as_dict(recipe), "epochs": 4, "held_out": 2, "save_every": 0}
    given |= {"size": (SIDE, SIDE), "device": "cpu", "workers": 0, "options": options}
    try:
        train_run("folder", "images", folder / "run", report=stop_in_third, **given)
    except Stopped:
        return
    raise RuntimeError("the training was not stopped")


def answer(
    net,  # a file or a run's folder
):  # nested lists: probabilities (2, SIDE / 8, SIDE / 8)
    "What a net says of the last drawn image, at every eighth pixel."
    p = Predictor.load(net, device="cpu").probabilities(disc(IMAGES - 1)[0])
    return np.round(p[:, ::8, ::8].astype(float), 6).tolist()


def tidy(
    run,  # Path
):
    "Take the name of this system out of a run, and its pictures."
    for path in [*run.glob("*.png"), *run.glob("samples/*")]:
        path.unlink()
    path = run / "environment.json"
    text = path.read_text("utf-8").replace(platform.platform(), "Linux")
    path.write_text(text, encoding="utf-8")


def main():
    "Write the file of this version."
    path = KEPT / f"{settings(ROOT)['version']}.zip"
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # a run notes where its data are
        folder = Path(".")
        draw(folder)
        train(folder)
        tidy(folder / "run")
        told = {net: answer(f"run/{net}.safetensors") for net in ("best", "last")}
        Path("answers.json").write_text(json.dumps(told), encoding="utf-8")
        KEPT.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for one in sorted(folder.rglob("*")):
                if one.is_file():
                    file.write(one)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
