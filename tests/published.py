"""Well-known sets in the folders, names and kinds of masks in which they are published.

Each is drawn in small, so that an eighth of what is known of every image is object.
`tests/test_published.py` types the lines, and `tools/readable.py` writes the table of
the page "What can be read" from them.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32, 48


def object_of(n):
    "A block that covers an eighth of a picture, at another place for each number."
    labels = np.zeros(SIZE, np.uint8)
    row, column = 2 + 5 * n % 15, 3 + 11 * n % 28
    labels[row : row + 12, column : column + 16] = 1
    return labels


def photo(n):
    grey = 60 + 120 * object_of(n) + np.random.default_rng(n).integers(0, 20, SIZE)
    return np.dstack([grey, grey // 2, grey // 3]).astype(np.uint8)


def eye(n):
    return photo(n) * (field_of_view(n)[..., None] > 0)


def field_of_view(n):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.uint8(255 * (np.hypot(y - 15.5, x - 23.5 - n % 2) < 22))


def grey(n):
    return photo(n)[..., 0]


def mask(n):
    return 255 * object_of(n)


def bits(n):
    return object_of(n)


def objects(n):
    "Two objects with numbers."
    left = np.arange(SIZE[1]) < 3 + 11 * n % 28 + 8
    return (object_of(n) * np.where(left, 7, 300)).astype(np.uint16)


def rim(n, values):
    "Numbers of background, object and a rim of a sixth of the picture."
    labels = np.full(SIZE, values[0], np.uint8)
    labels[object_of(n) == 1] = values[1]
    labels[-1:] = values[2]
    return labels


def trimap(n):
    return rim(n, (2, 1, 3))


def voc(n):
    return rim(n, (0, 15, 255))


def streets(n):
    return rim(n, (0, 13, 255))


def parts(n):
    return np.where(object_of(n) == 1, np.uint8(n % 3 * 60 + 20), np.uint8(0))


@dataclass
class Published:
    """A set, and what is typed."""

    name: str
    files: dict[str, Callable]  # path with {n} -> what draws the picture of a number
    lines: list[str]  # the last one is a check in which nothing is wrong
    obvious: str = ""  # what a newcomer types first
    told: str = ""  # what that prints
    numbers: tuple = (1, 2, 3)
    also: list = field(default_factory=list)  # functions of the folder


def write(published, folder):
    "Draw a set into a folder."
    for n in published.numbers:
        for name, draw in published.files.items():
            path = Path(folder, name.format(n=n, id=f"{n:04}"))
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(n)).save(path)
    for further in published.also:
        further(Path(folder))


def stacks(folder):
    for name, draw in (("training", grey), ("training_groundtruth", mask)):
        first, *others = (Image.fromarray(draw(n)) for n in range(3))
        first.save(folder / f"{name}.tif", save_all=True, append_images=others)


def hidden(folder):
    for n in (1, 2, 3):
        (folder / f"annotations/trimaps/._Bengal_{n}.png").write_bytes(b"\0\5\x16\7")
    (folder / "annotations/list.txt").write_text("Bengal_1 1 1 1\n")


def single(folder):
    "A folder per image, and in it a file for each object."
    for n in (1, 2, 3):
        place = folder / f"stage1_train/{n:08x}"
        for name, pixels in (("images", photo(n)), ("masks", mask(n))):
            (place / name).mkdir(parents=True)
            Image.fromarray(pixels).save(place / name / f"{n:08x}.png")
        Image.fromarray(mask(n)).save(place / "masks" / f"{n + 9:08x}.png")


def pickled(folder):
    for n in (1, 2, 3):
        pixels = {"masks": object_of(n)}
        np.save(folder / f"train/00{n}_img_seg.npy", pixels, allow_pickle=True)


def coco(folder):
    said = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    for n in (1, 2, 3):
        name, (y, x) = f"A172_{n}.tif", np.argwhere(object_of(n))[0].tolist()
        shape = [x, y, x + 16, y, x + 16, y + 12, x, y + 12]
        size = {"height": SIZE[0], "width": SIZE[1]}
        said["images"].append({"id": n, "file_name": name, **size})
        of = {"id": n, "image_id": n, "category_id": 1}
        said["annotations"].append(of | {"segmentation": [shape]})
    (folder / "livecell.json").write_text(json.dumps(said))


def in_jpeg(n):
    "A mask as JPEG leaves it."
    file = io.BytesIO()
    Image.fromarray(mask(n)).save(file, "JPEG", quality=75)
    return np.array(Image.open(file))


SETS = [
    Published(
        "DRIVE: retinal vessels",
        {
            "training/images/2{n}_training.tif": eye,
            "training/1st_manual/2{n}_manual1.gif": mask,
            "training/mask/2{n}_training_mask.gif": field_of_view,
        },
        ['check training/images training/1st_manual --suffix "_training,_manual1"'],
        "check training",
        '--suffix "_training,_manual1"',
    ),
    Published(
        "CHASE_DB1: two observers",
        {
            "Image_0{n}L.jpg": eye,
            "Image_0{n}L_1stHO.png": mask,
            "Image_0{n}L_2ndHO.png": bits,
        },
        ["check . --suffix _1stHO --only-annotated"],
        "check .",
        "--suffix '_1stHO' or --suffix '_2ndHO'",
    ),
    Published(
        "STARE, unpacked",
        {
            "stare-images/im000{n}.ppm": eye,
            "labels-ah/im000{n}.ah.ppm": mask,
        },
        ["check stare-images labels-ah --suffix .ah"],
        "check stare-images labels-ah",
        "--suffix '.ah'",
    ),
    Published(
        "Lucchi (EPFL): mitochondria, two stacks",
        {},
        [
            "pages training.tif --to images",
            "pages training_groundtruth.tif --to masks",
            "check images masks",
        ],
        "check .",
        "unet-tutorial pages FILE --to FOLDER",
        also=[stacks],
    ),
    Published(
        "Lucchi++, slices",
        {
            "training/training{id}.png": grey,
            "training_groundtruth/training_groundtruth{id}.png": mask,
        },
        [
            "check training training_groundtruth "
            '--suffix "training*,training_groundtruth*"'
        ],
        "check training training_groundtruth",
        '--suffix "training*,training_groundtruth*"',
    ),
    Published(
        "Kasthuri++: mitochondria",
        {"Train_In/{id}.png": grey, "Train_Out/{id}.png": mask},
        ["check Train_In Train_Out"],
    ),
    Published(
        "MitoEM: numbered mitochondria",
        {"EM30-R-im/im{id}.png": grey, "EM30-R-mito/seg{id}.tif": objects},
        ['check EM30-R-im EM30-R-mito --suffix "im*,seg*" --threshold 0'],
        "check EM30-R-im EM30-R-mito",
        '--suffix "im*,seg*"',
    ),
    Published(
        "Oxford-IIIT pets: border left out",
        {"images/Bengal_{n}.jpg": photo, "annotations/trimaps/Bengal_{n}.png": trimap},
        ["check images annotations/trimaps --values 2,1 --ignore 3"],
        "check images annotations/trimaps",
        "--values 2,1 and --ignore 3",
        also=[hidden],
    ),
    Published(
        "Data Science Bowl 2018: a file per nucleus",
        {},
        ["check stage1_train --kind nuclei"],
        "check stage1_train",
        "unet-tutorial check stage1_train --kind nuclei",
        also=[single],
    ),
    Published(
        "Cellpose: numbered cells",
        {"train/00{n}_img.png": photo, "train/00{n}_masks.png": objects},
        ["check train --threshold 0"],
        also=[pickled],
    ),
    Published(
        "LIVECell: COCO",
        {"images/train/A172/A172_{n}.tif": grey},
        [
            'masks "images/*/*/*" livecell.json --to masks',
            "check images masks",
        ],
        "masks images livecell.json --to masks",
        "the pattern images/*/*/* takes them",
        also=[coco],
    ),
    Published(
        "Kvasir-SEG, masks as JPEG",
        {"images/cju{n}.jpg": photo, "masks/cju{n}.jpg": in_jpeg},
        ["check images masks --threshold 127"],
        "check images masks",
        "--threshold 127",
    ),
    Published(
        "ISIC 2018",
        {
            "Training_Input/ISIC_{id}.jpg": photo,
            "Training_GroundTruth/ISIC_{id}_segmentation.png": mask,
        },
        ["check Training_Input Training_GroundTruth"],
    ),
    Published(
        "Cityscapes: numbers of the classes to train",
        {
            "leftImg8bit/train/ulm/ulm_{id}_leftImg8bit.png": photo,
            "gtFine/train/ulm/ulm_{id}_gtFine_color.png": photo,
            "gtFine/train/ulm/ulm_{id}_gtFine_labelTrainIds.png": streets,
        },
        [
            "check leftImg8bit gtFine "
            '--suffix "_leftImg8bit,_gtFine_labelTrainIds" --classes 19 --ignore 255'
        ],
        "check leftImg8bit gtFine",
        '--suffix "_leftImg8bit,_gtFine_labelTrainIds"',
    ),
    Published(
        "Pascal VOC 2012",
        {
            "JPEGImages/2007_{id}.jpg": photo,
            "SegmentationClass/2007_{id}.png": voc,
            "SegmentationObject/2007_{id}.png": voc,
        },
        [
            "check JPEGImages SegmentationClass --classes 21 --ignore 255 "
            "--only-annotated"
        ],
        "check .",
        "name the very folder of the images and that of the masks",
    ),
    Published(
        "ADE20K: 150 classes and 0",
        {
            "images/training/ADE_{id}.jpg": photo,
            "annotations/training/ADE_{id}.png": parts,
        },
        ["check images/training annotations/training --classes 151"],
    ),
    Published(
        "Massachusetts roads",
        {"sat/1007866{n}_15.tiff": photo, "map/1007866{n}_15.tif": mask},
        ["check sat map"],
    ),
    Published(
        "DeepGlobe roads",
        {"train/10003{n}_sat.jpg": photo, "train/10003{n}_mask.png": mask},
        ["check train"],
    ),
    Published(
        "nnU-Net, one channel",
        {"imagesTr/road_{id}_0000.png": grey, "labelsTr/road_{id}.png": bits},
        ['check imagesTr labelsTr --suffix "_0000,"'],
        "check imagesTr labelsTr",
        '--suffix "_0000,"',
    ),
    Published(
        "Warwick GlaS: numbered glands",
        {"train_{n}.bmp": photo, "train_{n}_anno.bmp": parts},
        ["check . --suffix _anno --threshold 0"],
        "check .",
        "--suffix '_anno'",
    ),
]
