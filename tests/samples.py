"""Files of every kind for the tests, good and bad."""

import json
import os
import re
import signal
import zlib

import numpy as np
import torch
from PIL import Image

from unet_tutorial.model import UNet
from unet_tutorial.runs.weights import read_tensors, write_tensors
from unet_tutorial.synthetic import draw_cars

BLACK_WHITE = [0, 0, 0, 255, 255, 255]
RNG = np.random.default_rng(0)


def says(*words):
    "A pattern for pytest.raises: all these words, in any order."
    return re.compile("".join(f"(?=.*{re.escape(word)})" for word in words), re.DOTALL)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def normal(*shape, dtype=torch.float64):
    "Numbers of a normal distribution, the same each time."
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape)).to(dtype)


def bytes_of(*shape):
    "Random bytes, the same each time."
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def thin_net(depth=1, dtype=torch.float32, base_channels=2, **switches):
    "A net of few weights, the same each time, in eval mode."
    torch.manual_seed(0)
    net = UNet(base_channels=base_channels, depth=depth, **switches)
    return net.eval().to(dtype)


def with_scores(net, classes):
    "The net with so many scores; with one, as a net of another library has it."
    if classes > 1:
        return net.with_classes(classes)
    net.last = torch.nn.Conv2d(net.last.in_channels, 1, 1, dtype=net.last.weight.dtype)
    net.num_classes = 1
    return net


def names(folder):
    "The names of what is in a folder."
    return sorted(path.name for path in folder.iterdir())


class Malicious:
    "Its pickle makes a file as soon as it is opened."

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (self.flag.touch, ())


def square(height=40, width=60):  # a mask with an object in it
    mask = np.zeros((height, width), np.uint8)
    mask[10:30, 15:40] = 1
    return mask


def save_palette(path, index, palette=BLACK_WHITE):
    image = Image.fromarray(index)
    image.putpalette(palette)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def save_stack(path, pages):
    first, *rest = [Image.fromarray(page) for page in pages]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=rest)
    return path


def cut_off(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def carvana(folder, names=("a_01", "a_02", "b_01"), size=(40, 60)):
    "A folder in the layout of Carvana."
    for name in names:
        save(folder / "train" / f"{name}.jpg", noise(*size, 3))
        save_palette(folder / "train_masks" / f"{name}_mask.gif", square(*size))
    return folder


def isbi(folder, slices=3, size=32):
    "A folder in the layout of ISBI 2012, one folder further down."
    images = noise(slices, size, size)
    inside = np.where(noise(slices, size, size) > 50, 255, 0).astype(np.uint8)
    save_stack(folder / "unpacked" / "train-volume.tif", images)
    save_stack(folder / "unpacked" / "train-labels.tif", inside)
    return images, inside


def ctc(folder, gold=(0, 2), silver=(0, 1, 2), name="DIC"):
    "A folder in the layout of the Cell Tracking Challenge, of two sequences."
    for sequence in ("01", "02"):
        for frame in {*gold, *silver}:
            save(folder / name / sequence / f"t{frame:03}.tif", noise(40, 60))
        for truth, frames in (("GT", gold), ("ST", silver)):
            for frame in frames:
                path = folder / name / f"{sequence}_{truth}" / "SEG"
                save(path / f"man_seg{frame:03}.tif", two_cells())
    return folder / name


def two_cells(height=40, width=60):
    labels = np.zeros((height, width), np.uint16)
    labels[5:15, 5:25], labels[20:35, 30:50] = 3, 300
    return labels


def pets(folder, train=("b_1", "a_1", "a_2"), test=("c_1",)):
    "A folder in the layout of the Oxford-IIIT pets."
    folder = folder / "oxford-iiit-pet"
    for name in (*train, *test):
        save(folder / "images" / f"{name}.jpg", noise(40, 60, 3))
        trimap = np.where(square() == 1, 1, 2).astype(np.uint8)
        trimap[9] = 3
        save(folder / "annotations" / "trimaps" / f"{name}.png", trimap)
    for part, names in (("trainval", train), ("test", test)):
        lines = "".join(f"{name} 1 1 1\n" for name in names)
        (folder / "annotations" / f"{part}.txt").write_text(lines)
    return folder


def nuclei(folder, names=("aa", "bb"), top="stage1_train"):
    "A folder in the layout of the Data Science Bowl 2018."
    for name in names:
        place = folder / top / name
        save(place / "images" / f"{name}.png", noise(40, 60, 4))
        for number, value in enumerate((3, 300)):
            mask = 255 * (two_cells() == value).astype(np.uint8)
            save(place / "masks" / f"{number}.png", mask)
    return folder / top


def png(*chunks):
    "A PNG file by hand."
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in (*chunks, ("IEND", b"")):
        body = name.encode() + body
        crc = zlib.crc32(body).to_bytes(4, "big")
        data += (len(body) - 4).to_bytes(4, "big") + body + crc
    return data


def deep_colours():
    "A PNG of 2 x 1 pixels in colours of 16 bits."
    head = b"\x00\x00\x00\x02\x00\x00\x00\x01\x10\x02\x00\x00\x00"
    pixels = np.zeros((1, 1 + 12), np.uint8).tobytes()
    return png(("IHDR", head), ("IDAT", zlib.compress(pixels)))


def ramps(height, width):  # image (2, H, W) of row and column, label of both
    rows, columns = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing="ij"
    )
    return torch.stack([rows, columns]).float(), rows * width + columns


def photo_and_mask():  # (160, 240, 3) uint8, (160, 240) uint8
    image, mask = draw_cars(angle=3, size=(160, 240), seed=2)
    return image, mask.astype(np.uint8)


class Drawn:
    "A Source in memory: squares of several values, and perhaps files."

    name, classes, channels = "drawn", ("nothing", "left", "right"), 1

    def __init__(self, instances=False, deadly=None):
        self.instances, self.deadly, self.read = instances, deadly, []

    def __len__(self):
        return 6

    def image(self, index, size):
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        self.read.append(index)
        return np.full(size, 10 * index, np.uint8) + square(*size)

    def labels(self, index, size):
        return square(*size) * np.int64(index)


def without_id(run):
    "Make a run as older versions left it: nothing says which run its files are of."
    plan = json.loads((run / "recipe.json").read_text())
    plan.pop("id", None)
    (run / "recipe.json").write_text(json.dumps(plan))
    for path in run.glob("*.safetensors"):
        texts, tensors = read_tensors(path)
        texts.pop("run", None)
        if "notes" in texts:
            notes = json.loads(texts["notes"])
            kept = {key: notes[key] for key in notes if key not in ("run", "step")}
            texts["notes"] = json.dumps(kept)
        write_tensors(path, texts, tensors, overwrite=True)
    return run
