"""Annotations of other programs, in and out: pixel rule, files, refusals, fuzz."""

import base64
import io
import json
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from samples import names, says

from unet_tutorial.cli import main
from unet_tutorial.data.annotations import (
    draw_annotations,
    fill_polygon,
    measure_objects,
    pixel_size,
    read_annotations,
    write_coco,
    write_masks,
    write_rois,
    write_table,
)
from unet_tutorial.data.datasets import open_folder
from unet_tutorial.data.images import BadFile, read_labels, read_mask
from unet_tutorial.data.outputs import source_of, write_polygons

roifile = pytest.importorskip("roifile")
SQUARE = [[2, 1], [6, 1], [6, 4], [2, 4]]
FLAT = [2, 1, 6, 1, 6, 4, 2, 4]
IN_SQUARE = np.zeros((8, 9), bool)
IN_SQUARE[1:4, 2:6] = True
NAN = float("nan")
CLASSES = ["background", "cell", "debris"]


# The files as their programs write them


def labelme(*shapes, size=(8, 9)):
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def shape(label, points, kind="polygon", group=None, **more):
    known = {"group_id": group, "description": "", "shape_type": kind, "flags": {}}
    return {"label": label, "points": points, **known, "mask": None, **more}


def coco(*annotations, images=None):
    image = {"id": 7, "file_name": "a.png", "height": 8, "width": 9}
    kinds = [{"id": 3, "name": "cell"}, {"id": 18, "name": "debris"}]
    data = {"info": {}, "licenses": [], "images": images or [image]}
    return {**data, "categories": kinds, "annotations": list(annotations)}


def drawn(segmentation, kind=3, number=900100, image=7, crowd=0):
    known = {"id": number, "image_id": image, "category_id": kind, "iscrowd": crowd}
    return {**known, "segmentation": segmentation, "area": 12.0, "bbox": [2, 1, 4, 3]}


def qupath(*features, bare=False):
    every = list(features)
    return every if bare else {"type": "FeatureCollection", "features": every}


def feature(kind, *rings, geometry="Polygon", **more):
    closed = [[*ring, ring[0]] for ring in rings]
    if geometry == "MultiPolygon":
        closed = [[ring] for ring in closed]
    notes = {"objectType": "annotation"}
    if kind:
        notes["classification"] = {"name": kind, "color": [200, 0, 0]}
    body = {"type": geometry, "coordinates": closed, **more}
    identity = "0c7b8f3e-7f1c-4a52-9d5e-1d0a9d3f8a11"
    return {"type": "Feature", "id": identity, "geometry": body, "properties": notes}


def roi(points=None, **values):
    one = roifile.ImagejRoi.frombytes(
        roifile.ImagejRoi.frompoints(points or SQUARE, name="cell-1").tobytes()
    )
    one.roitype = roifile.ROI_TYPE.POLYGON
    for name, value in values.items():
        setattr(one, name, value)
    return one


def box_roi(kind, box, **values):
    one = roifile.ImagejRoi()
    one.roitype, one.name = kind, values.pop("name", "")
    one.left, one.top, one.right, one.bottom = box
    for name, value in values.items():
        setattr(one, name, value)
    return one


def saved(folder, content, name=None):
    "The path of a file with this content, JSON or ROIs."
    if isinstance(content, dict) or (content and isinstance(content[0], dict)):
        path = folder / (name or "a.json")
        path.write_text(json.dumps(content))
        return path
    path = folder / (name or "a.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for count, one in enumerate(content):
            archive.writestr(f"{one.name or 'roi'}-{count}.roi", one.tobytes())
    return path


def objects(folder, content, size=(8, 9), **how):
    return draw_annotations(read_annotations(saved(folder, content)), size, **how)


# The pixel rule


def by_hand(rings, size):
    "The even-odd rule pixel by pixel, in fractions."
    inside = np.zeros(size, bool)
    for row, column in np.ndindex(*size):
        y, x, odd = Fraction(2 * row + 1, 2), Fraction(2 * column + 1, 2), False
        for ring in rings:
            for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
                if min(y1, y2) <= y < max(y1, y2):
                    at = x1 + (y - y1) * Fraction(x2 - x1) / Fraction(y2 - y1)
                    odd ^= at <= x
        inside[row, column] = odd
    return inside


quarters = st.integers(-8, 48).map(lambda n: Fraction(n, 4))
ring = st.lists(st.tuples(quarters, quarters), min_size=3, max_size=8)


@given(st.lists(ring, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_a_pixel_is_inside_if_its_centre_is(rings):
    numbers = [np.array([[float(x), float(y)] for x, y in ring]) for ring in rings]
    inside = by_hand(rings, (10, 11))
    assert (fill_polygon(numbers, (10, 11)) == inside).all()
    window = fill_polygon(numbers, (5, 6), corner=(3, 2))
    assert (window == inside[3:8, 2:8]).all()


@given(ring, st.integers(0, 7), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_polygons_that_share_an_edge_share_no_pixel(points, start, length):
    points = np.array([[float(x), float(y)] for x, y in points]) / 3  # no quarters
    points, length = np.roll(points, start, 0), min(length, len(points) - 1)
    one, other = points[: length + 1], np.append(points[length:], points[:1], 0)
    both = [fill_polygon([part], (10, 11)) for part in (one, other)]
    whole = fill_polygon([points], (10, 11))
    assert ((both[0] ^ both[1]) == whole).all()


@pytest.mark.parametrize(
    "content",
    [
        labelme(shape("cell", SQUARE)),
        labelme(shape("cell", [[6, 4], [2, 1]], "rectangle")),
        coco(drawn([FLAT])),
        coco(drawn({"size": [8, 9], "counts": [17, 3, 5, 3, 5, 3, 5, 3, 28]})),
        qupath(feature("cell", SQUARE)),
        qupath(feature("cell", SQUARE), bare=True),
        feature("cell", SQUARE),
        qupath(feature("cell", SQUARE[:3], [SQUARE[2], SQUARE[3], SQUARE[0]],
                       geometry="MultiPolygon")),
        [roi()],
        [roi([[x + 0.1, y - 0.1] for x, y in SQUARE])],
        [box_roi(roifile.ROI_TYPE.RECT, (2, 1, 6, 4), name="cell")],
    ],
)  # fmt: skip
def test_one_rule_for_all_kinds_of_file(tmp_path, content):
    assert (objects(tmp_path, content) == IN_SQUARE).all()
    labels = objects(tmp_path, content, classes=CLASSES)
    assert (labels == IN_SQUARE).all()


def test_holes_and_pieces(tmp_path):
    hole = [[3, 2], [5, 2], [5, 3], [3, 3]]
    ring = IN_SQUARE.copy()
    ring[2, 3:5] = False
    assert (objects(tmp_path, qupath(feature("cell", SQUARE, hole))) == ring).all()
    both = coco(drawn([FLAT, np.ravel(hole).tolist()]))  # joined: no hole in COCO
    assert (objects(tmp_path, both) == IN_SQUARE).all()
    path = []
    for one in (SQUARE, hole):
        path += [0, *one[0]] + [n for point in one[1:] for n in (1, *point)] + [4]
    made = box_roi(roifile.ROI_TYPE.RECT, (2, 1, 6, 4), name="cell")
    made.multi_coordinates = np.array(path, np.float32)
    made.shape_roi_size = len(path)
    assert (objects(tmp_path, [made]) == ring).all()


def test_ovals_and_circles_hold_the_centres_inside(tmp_path):
    rows, columns = np.mgrid[:8, :9] + 0.5
    disc = (rows - 4) ** 2 + (columns - 4) ** 2 < 9
    circle = labelme(shape("cell", [[4, 4], [4, 7]], "circle"))
    assert (objects(tmp_path, circle) == disc).all()
    oval = box_roi(roifile.ROI_TYPE.OVAL, (1, 1, 7, 7))
    assert (objects(tmp_path, [oval]) == disc).all()
    wide = box_roi(roifile.ROI_TYPE.OVAL, (0, 2, 9, 6))
    inside = ((rows - 4) / 2) ** 2 + ((columns - 4.5) / 4.5) ** 2 < 1
    assert (objects(tmp_path, [wide]) == inside).all()


def test_labelme_masks_and_groups(tmp_path):
    file = io.BytesIO()
    Image.fromarray(IN_SQUARE[1:4, 2:6]).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    mask = shape("cell", [[2, 1], [5, 3]], "mask", mask=text)
    assert (objects(tmp_path, labelme(mask)) == IN_SQUARE).all()
    halves = [[[2, 1], [4, 4]], [[4, 1], [6, 4]]]
    pair = [shape("cell", half, "rectangle", group=5) for half in halves]
    other = shape("cell", [[0, 6], [3, 8]], "rectangle")
    labels = objects(tmp_path, labelme(pair[0], other, pair[1]))
    assert (labels[IN_SQUARE] == 1).all() and (labels[6:, :3] == 2).all()


# Strings that pycocotools 2.0 made of these masks.
RLES = {
    0: "2110000000151KN000010O00001021M00O22ONO00033M",
    1: "08120J0=0F0M070I",
    2: "?180N0O0=0M",
    3: "0`2`2hNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1h"
    "NhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX"
    "1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1h"
    "NhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX"
    "1h3hNXLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X"
    "1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLh"
    "Nh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X"
    "1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLX"
    "10hN0hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X100"
    "0hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0"
    "X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X100"
    "0hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0"
    "000X10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX1"
    "0hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX1"
    "0hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX1"
    "0hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX1"
    "0hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hNX10hN00"
    "0X10hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000"
    "hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X"
    "1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000"
    "hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X"
    "10hNX1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hN"
    "hN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hN"
    "hN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hN"
    "hN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hN"
    "hN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hNhN00X1X1hN"
    "hNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3"
    "X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XL"
    "hNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3"
    "X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XL"
    "00hNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhN"
    "h3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1"
    "XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhN"
    "h3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNh3X1XLhNX60h"
    "IX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h"
    "3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNX"
    "LX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h"
    "3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1h3hNXLX1X1",
    4: "X1`2X1`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0"
    "`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0"
    "`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0"
    "h30`20000000000000000000000000000000000000000000000000000000"
    "00hN0`M0`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`"
    "20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`"
    "20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`"
    "2000h3000000000000000000000000000000000000000000000000000000"
    "000P50PK0000000000000000000000000000000000000000000000000000"
    "00000hI0hN0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P"
    "50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P"
    "50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P50PK0P"
    "50PK0`<0PK00000000000000000000000000000000000000000000000000"
    "0000000`H0`2X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1"
    "X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hN"
    "hNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1"
    "X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hNhNX1X1hN"
    "hNX1X1hNhNhN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN"
    "0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X10"
    "00hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN"
    "0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X1000hN0X10"
    "00hN0X10hN",
    5: "`^9X1h800000000000000000000000000000000000000000000000000000"
    "0000X10hN000000000000000000000000000000000000000000000000000"
    "000000`20`M0000000000000000000000000000000000000000000000000"
    "00000000hI000`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M"
    "0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M"
    "0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M"
    "0`20`M0P50PK0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M"
    "0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M"
    "0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M0`20`M"
    "0`20`M0P\\90XjF0000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000"
    "000000000000",
}


@pytest.mark.parametrize("seed", RLES)
def test_compressed_rle_is_that_of_pycocotools(tmp_path, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((8, 9)) < [0.5, 0.9, 0.1][seed % 3]
    if seed > 2:
        mask = np.kron(mask, np.ones((40, 30), bool))
    content = coco(drawn({"size": list(mask.shape), "counts": RLES[seed]}))
    content["images"][0] |= {"height": mask.shape[0], "width": mask.shape[1]}
    assert (objects(tmp_path, content, mask.shape) == mask).all()
    path = write_coco(tmp_path / "b.json", mask.astype(int))
    (ours,) = json.loads(path.read_text())["annotations"]
    assert ours["segmentation"]["counts"] == RLES[seed]


# Round trips


maps = arrays(
    np.int32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.integers(0, 4),
)


def back(folder, labels, classes):
    "The label map after each kind of file."
    for number, write in enumerate(
        [write_coco, write_coco, write_rois, write_polygons]
    ):
        ending = ["json", "json", "zip", "geojson"][number]
        how = {"rle": False} if number == 1 else {}
        path = write(folder / f"a.{ending}", labels, True, classes, **how)
        yield draw_annotations(read_annotations(path), labels.shape, classes)


@given(maps)
@settings(max_examples=60, deadline=None)
def test_label_maps_come_back_to_the_pixel(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("round")
    for classes in (None, ["background", "a", "class 2", "c/d", "é"]):
        assert all((one == labels).all() for one in back(folder, labels, classes))


def test_large_numbers_and_empty_maps_come_back(tmp_path):
    labels = np.zeros((5, 6), int)
    assert all((one == 0).all() for one in back(tmp_path, labels, None))
    labels[0, 0], labels[4, 5], labels[1, 1] = 70_000, 3, 70_000
    assert all((one == labels).all() for one in back(tmp_path, labels, None))
    full = np.ones((5, 6), int)
    assert all((one == full).all() for one in back(tmp_path, full, None))


def test_polygons_of_coco_are_polygons_where_there_is_no_hole(tmp_path):
    labels = np.zeros((8, 9), int)
    labels[1:4, 1:4], labels[2, 2], labels[5:7, 2:8] = 1, 0, 2
    path = write_coco(tmp_path / "a.json", labels, rle=False)
    one, two = json.loads(path.read_text())["annotations"]
    assert "counts" in one["segmentation"] and two["segmentation"] == [
        [2, 5, 8, 5, 8, 7, 2, 7]
    ]
    assert two["bbox"] == [2, 5, 6, 2] and two["area"] == 12


def test_rois_are_what_imagej_makes(tmp_path):
    labels = np.zeros((8, 9), int)
    labels[1:4, 1:4], labels[2, 2], labels[5:7, 2:8] = 1, 0, 2
    path = write_rois(tmp_path / "a.zip", labels, classes=CLASSES, source="a.tif")
    ring, box = roifile.roiread(path)
    assert ring.composite and ring.name == "cell-0001" and ring.group == 1
    assert box.roitype == roifile.ROI_TYPE.TRACED and box.name == "debris-0002"
    assert sorted(box.coordinates().tolist()) == [[2, 5], [2, 7], [8, 5], [8, 7]]
    assert source_of(path) == "a.tif"


def test_a_corrected_roi_keeps_numbers_and_a_new_one_gets_the_next(tmp_path):
    path = write_rois(tmp_path / "a.zip", np.array([[0, 5, 5, 0, 2]]))
    with zipfile.ZipFile(path) as archive:
        rois = {name: archive.read(name) for name in archive.namelist()}
    twin = bytearray(rois["0005.roi"])
    twin[8:16] = np.array([0, 0, 1, 1], ">i2").tobytes()  # its box
    twin[6] = 1  # a rectangle; the properties are copied
    fresh = box_roi(roifile.ROI_TYPE.RECT, (3, 0, 4, 1), name="new").tobytes()
    for more, wanted in [
        ({"new": fresh}, [0, 5, 5, 6, 2]),
        ({"twin": bytes(twin)}, None),
    ]:
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:  # as ImageJ saves it
            for name, content in (rois | more).items():
                archive.writestr(name, content)
        labels = draw_annotations(read_annotations(tmp_path / "b.zip"), (1, 5))
        if wanted:
            assert labels.tolist() == [wanted]
        else:
            assert len(np.unique(labels)) == 4  # a copy is an object of its own


def test_files_of_an_old_imagej_are_read(tmp_path):
    content = bytearray(roi().tobytes())
    content[60:64] = bytes(4)  # no second header: no name, no properties
    (tmp_path / "cell.roi").write_bytes(content)
    labels = draw_annotations(read_annotations(tmp_path / "cell.roi"), (8, 9), CLASSES)
    assert (labels == IN_SQUARE).all()


# Classes, overlaps, sizes


def test_names_of_rois(tmp_path):
    for name, number in [("debris-12", 2), ("cell 3", 1), ("debris", 2)]:
        labels = objects(tmp_path, [roi(name=name)], classes=CLASSES)
        assert labels.max() == number
    labels = objects(tmp_path, [roi(name="0012-0034", group=2)], classes=CLASSES)
    assert labels.max() == 2
    assert objects(tmp_path, [roi(name="0012-0034")], classes=CLASSES[:2]).max() == 1
    with pytest.raises(BadFile, match=says("names no class", "'debris'")):
        objects(tmp_path, [roi(name="0012-0034")], classes=CLASSES)
    with pytest.raises(BadFile, match=says("group 7")):
        objects(tmp_path, [roi(name="0012", group=7)], classes=CLASSES)


def test_unknown_classes_are_named_with_the_nearest(tmp_path):
    content = qupath(feature("Cell", SQUARE), feature("nerve", SQUARE))
    with pytest.raises(
        BadFile, match=says("feature 1", "did you mean 'cell'", "nerve")
    ):
        objects(tmp_path, content, classes=CLASSES)


def test_the_first_class_is_what_nobody_drew(tmp_path):
    half = [[2, 1], [4, 1], [4, 4], [2, 4]]
    content = labelme(shape("cell", SQUARE), shape("background", half))
    with pytest.raises(BadFile, match=says("shape 1", "('background', 'cell')")):
        objects(tmp_path, content, classes=["cell", "debris"])
    assert objects(tmp_path, content, classes=CLASSES).sum() == 6  # half is erased


def test_rois_of_one_name_are_all_read(tmp_path):
    other = roi([[0, 5], [3, 5], [3, 8]])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one/cell.roi", roi().tobytes())
        archive.writestr("two/cell.roi", other.tobytes())
        archive.writestr("__MACOSX/one/._cell.roi", b"Mac OS X")
    drawn_ = read_annotations(tmp_path / "a.zip")
    assert draw_annotations(drawn_, (8, 9)).max() == 2


def overlapping(*boxes):
    return labelme(*(shape("cell", box, "rectangle") for box in boxes))


def test_the_later_one_wins_or_the_smaller_or_none(tmp_path):
    content = overlapping([[2, 1], [4, 3]], [[3, 2], [8, 7]])
    assert objects(tmp_path, content)[2, 3] == 2
    assert objects(tmp_path, content, overlap="smaller")[2, 3] == 1
    with pytest.raises(BadFile, match=says("shape 2", "overlaps with shape 1")):
        objects(tmp_path, content, overlap="refuse")
    with pytest.raises(ValueError, match="later, smaller or refuse"):
        objects(tmp_path, content, overlap="first")
    touching = overlapping([[2, 1], [4, 3]], [[4, 1], [8, 7]])
    assert objects(tmp_path, touching, overlap="refuse").max() == 2


def test_no_object_vanishes(tmp_path):
    content = overlapping([[3, 2], [4, 3]], [[2, 1], [8, 7]])
    with pytest.raises(BadFile, match=says("shape 1", "covered by shape 2", "smaller")):
        objects(tmp_path, content)
    assert objects(tmp_path, content, overlap="smaller").max() == 2
    assert objects(tmp_path, content, classes=CLASSES).max() == 1  # nothing is lost


def test_what_is_covered_by_its_own_class_is_not_lost(tmp_path):
    boxes = [("cell", 2, 6), ("cell", 2, 4), ("debris", 4, 6)]
    kinds = [shape(name, [[x, 1], [x2, 4]], "rectangle") for name, x, x2 in boxes]
    labels = objects(tmp_path, labelme(*kinds), classes=CLASSES)
    assert labels[2].tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("content", "size", "words"),
    [
        (labelme(shape("c", SQUARE)), (9, 8), ["(8, 9)", "(9, 8)", "turned"]),
        (labelme(shape("c", SQUARE)), (80, 90), ["(8, 9)", "(80, 90)"]),
        (coco(drawn([FLAT])), (16, 18), ["(8, 9)", "(16, 18)"]),
        (qupath(feature("c", [[20, 1], [30, 1], [30, 9]])), (8, 9), ["outside"]),
        (qupath(feature("c", [[1, 1], [30, 1], [30, 7]])), (8, 9), ["outside"]),
        (qupath(feature("c", [[1, 1], [1.2, 1], [1, 1.2]])), (8, 9), ["no pixel"]),
        (labelme(shape("c", [[1, 1]], "point")), (8, 9), ["shape 1", "point"]),
        (labelme(shape("c", [[1, 1], [3, 3]], "line")), (8, 9), ["line", "no area"]),
        (labelme(shape("c", [[1, 1], [3, 3]])), (8, 9), ["2 corners"]),
        (labelme(shape("c", SQUARE, "rectangle")), (8, 9), ["of 4 corners", "2"]),
        (labelme(shape("c", [[1, 1], [3, "x"], [2, 2]])), (8, 9), ["pairs of numbers"]),
        (labelme(shape("c", [[1, 1], [3, None], [2, 2]])), (8, 9), ["pairs"]),
        (labelme(shape("c", [[1, 1], [NAN, 3], [2, 2]])), (8, 9), ["no image"]),
        (labelme(shape(4, SQUARE)), (8, 9), ["label 4"]),
        (labelme(shape("c", [[2, 1], [5, 3]], "mask", mask="!")), (8, 9), ["no image"]),
        (coco(drawn([])), (8, 9), ["annotation 900100", "no segmentation"]),
        (coco(drawn([[1, 2, 3]])), (8, 9), ["x, y"]),
        (coco(drawn([FLAT], kind=99)), (8, 9), ["category 99"]),
        (coco(drawn([FLAT], image=8)), (8, 9), ["does not list", "900100"]),
        (coco(drawn({"size": [9, 8], "counts": [0, 72]})), (8, 9), ["(9, 8)"]),
        (coco(drawn({"size": [8, 9], "counts": [0, 71]})), (8, 9), ["add up"]),
        (coco(drawn({"size": [8, 9], "counts": [0, -2, 74]})), (8, 9), ["add up"]),
        (coco(drawn({"size": [8, 9], "counts": "6~"})), (8, 9), ["add up"]),
        (coco(drawn([FLAT], crowd=1)), (8, 9), ["crowd"]),
        (qupath({"type": "Feature", "geometry": {"type": "Point",
          "coordinates": [1, 2]}, "properties": {}}), (8, 9), ["feature 1", "Point"]),
        (qupath({"type": "Feature", "geometry": None}), (8, 9), ["no area"]),
        (qupath(feature("a", SQUARE, plane={"z": 0}), feature("a", SQUARE,
          plane={"z": 1})), (8, 9), ["2 slices"]),
        ([roi(position=1), roi(position=2)], (8, 9), ["2 slices"]),
        ([roi(roitype=roifile.ROI_TYPE.POINT)], (8, 9), ["point", "no pixels"]),
        ([roi(roitype=roifile.ROI_TYPE.POLYLINE)], (8, 9), ["polyline"]),
        ([roi(options=roifile.ROI_OPTIONS.SPLINE_FIT)], (8, 9), ["curves"]),
        ({"_via_img_metadata": {}}, (8, 9), ["VGG", "COCO"]),
        ({"a": 1}, (8, 9), ["unknown kind"]),
    ],
)  # fmt: skip
def test_refusals_name_file_place_and_remedy(tmp_path, content, size, words):
    path = saved(tmp_path, content)
    with pytest.raises(BadFile, match=says(str(path), ": ", *words)):
        draw_annotations(read_annotations(path), size)


def test_what_crosses_the_border_is_cut_there(tmp_path):
    content = qupath(feature("c", [[-2, 2], [4, 2], [4, 5], [-2, 5]]))
    labels = objects(tmp_path, content)
    assert labels[2:5, :4].all() and labels.sum() == 12


def test_a_size_is_needed_where_the_file_has_none(tmp_path):
    drawn_ = read_annotations(saved(tmp_path, qupath(feature("c", SQUARE))))
    with pytest.raises(BadFile, match=says("does not say how large", "size=")):
        draw_annotations(drawn_)
    known = read_annotations(saved(tmp_path, labelme(shape("c", SQUARE))))
    assert draw_annotations(known).shape == (8, 9)
    huge = read_annotations(saved(tmp_path, labelme(size=(2**20, 2**20))))
    with pytest.raises(BadFile, match=says("size=(1048576, 1048576)")):
        draw_annotations(huge)


def test_an_image_of_a_coco_file_is_asked_for_by_name(tmp_path):
    names_ = ["one/a.png", "b.png", "two/a.png", "c.png"]
    images = [
        {"id": n, "file_name": name, "height": 8, "width": 9}
        for n, name in enumerate(names_)
    ]
    some = [drawn([FLAT], image=n, number=n + 1) for n in (0, 1, 1)]
    path = saved(tmp_path, coco(*some, images=images))
    assert len(read_annotations(path, "b.png").items) == 2
    assert len(read_annotations(path, "one/a.png").items) == 1
    assert not draw_annotations(read_annotations(path, "c.png")).any()
    for wish, words in [(None, "4 images"), ("a.png", "2 images"), ("d.png", "0 im")]:
        with pytest.raises(BadFile, match=says(words)):
            read_annotations(path, wish)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="check name"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "a.txt").write_text("{}")
    with pytest.raises(BadFile, match="does not end like"):
        read_annotations(tmp_path / "a.txt")
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(BadFile, match="is no JSON"):
            read_annotations(tmp_path / "a.json")
    for content in (b"", b"Iout", b"PK\3\4", b"Iout" + bytes(100)):
        (tmp_path / "a.roi").write_bytes(content)
        with pytest.raises(BadFile, match=says("a.roi")):
            draw_annotations(read_annotations(tmp_path / "a.roi"), (8, 9))


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    path = saved(tmp_path, labelme(shape("cell", SQUARE)))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert draw_annotations(read_annotations(path)).any()


def test_roifile_is_asked_for_by_name(tmp_path, monkeypatch):
    path = saved(tmp_path, [roi()])
    monkeypatch.setitem(__import__("sys").modules, "roifile", None)
    with pytest.raises(ImportError, match=says('pip install "unet_tutorial[annot')):
        read_annotations(path)
    assert main(["masks", str(tmp_path), "--to", str(tmp_path / "m")]) == 1


# Fuzz


def mutated(rng, value):
    "A value with one place in it changed."
    odd = [None, -1, 1e308, "x", [], {}, True, 2**40, float("nan"), [[]], 0.5]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[rng.integers(len(value))]
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: mutated(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = int(rng.integers(len(value)))
        return [*value[:at], mutated(rng, value[at]), *value[at + 1 :]]
    return odd[rng.integers(len(odd))]


def test_json_with_anything_wrong_in_it_is_right_or_a_sentence(tmp_path):
    rng, read = np.random.default_rng(0), 0
    good = [
        labelme(shape("cell", SQUARE), shape("cell", [[1, 5], [4, 7]], "rectangle")),
        coco(drawn([FLAT]), drawn({"size": [8, 9], "counts": [17, 3, 52]})),
        coco(drawn({"size": [8, 9], "counts": "a03e1"})),
        qupath(feature("cell", SQUARE), feature("cell", SQUARE)),
    ]
    for count in range(1200):
        content = mutated(rng, good[count % len(good)])
        path = tmp_path / "a.json"
        path.write_text(json.dumps(content))
        try:
            labels = draw_annotations(read_annotations(path), (8, 9), CLASSES)
        except BadFile as error:
            assert str(path) in str(error)
        else:
            read += 1
            assert labels.shape == (8, 9) and labels.max() <= 2
    assert read > 50


def test_rois_with_any_byte_wrong_are_right_or_a_sentence(tmp_path):
    rng = np.random.default_rng(0)
    ring = np.ones((6, 6), int)
    ring[2:4, 2:4] = 0
    write_rois(tmp_path / "b.zip", ring)
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        composite = archive.read(archive.namelist()[0])
    for count in range(1200):
        content = bytearray([roi().tobytes(), composite][count % 2])
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        if rng.random() < 0.2:
            content = content[: rng.integers(len(content))]
        path = tmp_path / "a.roi"
        path.write_bytes(content)
        try:
            labels = draw_annotations(read_annotations(path), (8, 9))
        except BadFile as error:
            assert str(path) in str(error)
        else:
            assert labels.shape == (8, 9)


# Measurements


def test_measurements(tmp_path):
    labels = np.zeros((4, 5), int)
    labels[1:3, 1:4], labels[3, 4] = 2, 9
    image = np.arange(20).reshape(4, 5)
    one, two = measure_objects(labels, image, pixel=(0.5, 2.0), source="a.tif")
    assert (one["object"], one["area_px"], one["area_um2"]) == (2, 6, 6.0)
    assert (one["x_px"], one["y_px"], one["x_um"], one["y_um"]) == (2.5, 2, 5, 1)
    assert one["mean"] == image[1:3, 1:4].mean() and two["x_px"] == 4.5
    assert (two["left_px"], two["top_px"], two["width_px"], two["height_px"]) == (
        4,
        3,
        1,
        1,
    )
    path = write_table(tmp_path / "a.csv", labels, np.dstack([image] * 2), source="a")
    head, *rows = path.read_text().splitlines()
    assert head.endswith("mean_0,mean_1") and len(rows) == 2 and source_of(path) == "a"
    empty = write_table(tmp_path / "b.csv", labels * 0, image)
    assert empty.read_text() == head.replace("mean_0,mean_1", "mean\n")
    with pytest.raises(ValueError, match="one size"):
        measure_objects(labels, image.T)
    with pytest.raises(ValueError, match="names of classes"):
        measure_objects(labels, image, CLASSES)


@pytest.mark.parametrize(
    ("how", "size"),
    [
        ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um"}},
         (0.5, 0.25)),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "micron"}},
         (0.25, 0.25)),
        ({"imagej": True, "resolution": (0.004, 0.004), "metadata": {"unit": "nm"}},
         (0.25, 0.25)),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.3,
          "PhysicalSizeY": 0.2}}, (0.2, 0.3)),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 300,
          "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.2}}, (0.2, 0.3)),
        ({"ome": True, "metadata": {"axes": "YX"}}, None),
        ({"resolution": (20_000, 10_000), "resolutionunit": "CENTIMETER"}, (1, 0.5)),
        ({"resolution": (118, 118), "resolutionunit": "CENTIMETER"}, None),  # 300 dpi
        ({"resolution": (20_000, 20_000), "resolutionunit": "INCH"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_size_of_a_pixel(tmp_path, how, size):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint8), **how)
    found = pixel_size(tmp_path / "a.tif")
    assert found == (size if size is None else pytest.approx(size, rel=1e-4))


def test_no_size_of_a_pixel_where_there_is_no_tiff(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    assert pixel_size(tmp_path / "a.tif") is None
    assert pixel_size(tmp_path / "a.png") is None


def test_writers_refuse_what_would_be_wrong(tmp_path):
    labels = np.eye(3, dtype=int)
    with pytest.raises(ValueError, match="ends in .json"):
        write_coco(tmp_path / "a.png", labels)
    with pytest.raises(ValueError, match="32767"):
        write_rois(tmp_path / "a.zip", np.zeros((1, 40_000), int))
    with pytest.raises(ValueError, match=says("go up to 3", "4 would work")):
        write_coco(tmp_path / "a.json", labels * 3, classes=CLASSES)
    write_coco(tmp_path / "a.json", labels)
    with pytest.raises(FileExistsError):
        write_coco(tmp_path / "a.json", labels)
    assert names(tmp_path) == ["a.json"]


# Folders


def test_pairs_say_what_to_do_with_annotations(annotated):
    with pytest.raises(FileNotFoundError, match="unet-tutorial masks makes masks"):
        open_folder(annotated)


@pytest.fixture
def annotated(tmp_path):
    "A folder with four images, three of them annotated in three ways."
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b.1", "c", "d"):
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(folder / f"{name}.png")
    saved(folder, labelme(shape("cell", SQUARE)))
    saved(folder, qupath(feature("cell", SQUARE)), "b.1.png.geojson")
    saved(folder, [roi()], "c_RoiSet.zip")
    return folder


def test_a_folder_of_annotations_becomes_masks(tmp_path, annotated):
    masks, bare = write_masks(annotated, tmp_path / "masks")
    assert [path.name for path in masks] == ["a_mask.png", "b.1_mask.png", "c_mask.png"]
    assert [path.name for path in bare] == ["d.png"]
    assert all((read_mask(path) == IN_SQUARE).all() for path in masks)
    (annotated / "d.png").unlink()
    source = open_folder(annotated, tmp_path / "masks")
    assert len(source) == 3 and (source.labels(2) == IN_SQUARE).all()
    objects_, _ = write_masks(annotated, tmp_path / "objects", objects=True)
    assert (read_labels(objects_[0]) == IN_SQUARE).all()


def test_a_turned_photograph_is_refused_where_nobody_would_notice(tmp_path, annotated):
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(annotated / "c.png", exif=exif)
    with pytest.raises(BadFile, match=says("c_RoiSet.zip", "EXIF", "upright")):
        write_masks(annotated, tmp_path / "masks")


def test_one_coco_file_about_all(tmp_path, annotated):
    images = [
        {"id": n, "file_name": f"{name}.png", "height": 8, "width": 9}
        for n, name in enumerate("acd")
    ]
    path = saved(tmp_path, coco(drawn([FLAT], image=1), images=images))
    masks, bare = write_masks(annotated, tmp_path / "m", path, classes=CLASSES)
    assert [read_labels(one).any() for one in masks] == [False, True, False]
    assert [one.name for one in bare] == ["b.1.png"]


def test_nothing_is_written_unless_all_is_clear(tmp_path, annotated):
    saved(annotated, qupath(feature("debris", SQUARE)), "d.geojson")
    with pytest.raises(ValueError, match=says("('background', 'cell', 'debris')")):
        write_masks(annotated, tmp_path / "masks")
    masks, _ = write_masks(annotated, tmp_path / "masks", classes=CLASSES)
    assert read_labels(masks[3]).max() == 2
    saved(annotated, qupath(feature("nerve", SQUARE)), "d.geojson")
    with pytest.raises(BadFile, match=says("d.geojson", "nerve")):
        write_masks(annotated, tmp_path / "none", classes=CLASSES)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("z.json", ["no image", "z.json"]), ("a.geojson", ["both about a.png"])],
)
def test_what_is_unclear_in_a_folder_is_refused(tmp_path, annotated, name, words):
    saved(annotated, qupath(feature("cell", SQUARE)), name)
    with pytest.raises(ValueError, match=says(*words)):
        write_masks(annotated, tmp_path / "masks")


def test_what_is_outside_is_named_at_once_and_there_is_a_way_on(tmp_path, annotated):
    far, cut = [[20, 1], [30, 1], [30, 9]], [[5, 1], [14, 1], [14, 4], [5, 4]]
    saved(annotated, qupath(feature("cell", far), feature("cell", cut)), "d.geojson")
    saved(annotated, qupath(feature("cell", SQUARE), feature("cell", far)), "a.geojson")
    (annotated / "a.json").unlink()
    words = ["3 annotations", "a.geojson feature 2: x 20", "d.geojson feature 1: "]
    words += ["d.geojson feature 2: ", "outside='skip'", "outside='clip'"]
    with pytest.raises(BadFile, match=says(*words)):
        write_masks(annotated, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    for way, count in (("skip", 0), ("clip", 12)):
        with pytest.warns(UserWarning, match="3 annotations are outside"):
            masks, _ = write_masks(annotated, tmp_path / way, outside=way)
        assert (read_mask(masks[0]) == IN_SQUARE).all()
        mask = read_mask(masks[3])
        assert mask.sum() == count == mask[1:4, 5:].sum()
    with pytest.raises(ValueError, match=says("outside='crop'", "clip would work")):
        write_masks(annotated, tmp_path / "none", outside="crop")


def test_what_a_clip_leaves_without_a_pixel_is_left_out(tmp_path):
    sliver = feature("c", [[8.6, 1], [20, 1], [20, 4], [8.6, 4]])
    drawn_ = read_annotations(saved(tmp_path, qupath(sliver, feature("c", SQUARE))))
    with pytest.warns(UserWarning, match="1 annotation is outside"):
        labels = draw_annotations(drawn_, (8, 9), outside="clip")
    assert ((labels > 0) == IN_SQUARE).all()


@pytest.mark.parametrize("outside", ["refuse", "skip", "clip"])
def test_a_line_inside_an_image_is_not_outside(tmp_path, outside):
    line = read_annotations(
        saved(tmp_path, qupath(feature("c", [[1, 2], [5, 2], [3, 2]])))
    )
    with pytest.raises(BadFile, match="covers the centre of no pixel"):
        draw_annotations(line, (8, 9), outside=outside)


def test_a_file_of_labelmes_that_names_another_image_is_refused(tmp_path, annotated):
    content = labelme(shape("cell", SQUARE))
    saved(annotated, content | {"imagePath": "..\\elsewhere\\a.png"}, "a.json")
    assert len(write_masks(annotated, tmp_path / "masks")[0]) == 3
    saved(annotated, content | {"imagePath": "gone.png"}, "a.json")
    assert len(write_masks(annotated, tmp_path / "masks", overwrite=True)[0]) == 3
    saved(annotated, content | {"imagePath": "../photos/d.png"}, "a.json")
    with pytest.raises(BadFile, match=says("a.json says d.png", "Rename")):
        write_masks(annotated, tmp_path / "none")


def test_folders_of_windows_in_a_coco_file(tmp_path, annotated):
    images = [
        {"id": 1, "file_name": "C:\\photos\\a.png", "height": 8, "width": 9},
        {"id": 2, "file_name": "/home/me/c.png", "height": 8, "width": 9},
    ]
    both = drawn([FLAT], image=1), drawn([FLAT], image=2, number=2)
    content = coco(*both, images=images)
    masks, bare = write_masks(annotated, tmp_path / "m", saved(tmp_path, content))
    assert [path.name for path in masks] == ["a_mask.png", "c_mask.png"]
    assert [path.name for path in bare] == ["b.1.png", "d.png"]


def test_a_folder_without_annotations(tmp_path, annotated):
    for path in [*annotated.iterdir()]:
        if path.suffix != ".png":
            path.unlink()
    with pytest.raises(FileNotFoundError, match=says("no annotations", ".geojson")):
        write_masks(annotated, tmp_path / "masks")


def test_the_command(tmp_path, annotated, capsys):
    to = str(tmp_path / "masks")
    assert main(["masks", str(annotated), "--to", to]) == 0
    told = capsys.readouterr().out
    assert "3 masks written" in told and "no annotations" in told and "d.png" in told
    assert main(["masks", str(annotated), "--to", to]) == 1
    assert "--overwrite" in capsys.readouterr().err
    saved(annotated, qupath(feature("debris", SQUARE)), "d.geojson")
    assert main(["masks", str(annotated), "--to", to, "--overwrite"]) == 1
    told = capsys.readouterr().err
    assert "--classes 'background' 'cell' 'debris'" in told
    far = feature("cell", [[20, 1], [30, 1], [30, 9]])
    saved(annotated, qupath(feature("cell", SQUARE), far), "d.geojson")
    assert main(["masks", str(annotated), "--to", to, "--overwrite"]) == 1
    assert "--outside 'skip'" in capsys.readouterr().err
    line = ["masks", str(annotated), "--to", to, "--overwrite", "--outside", "skip"]
    assert main(line) == 0 and "1 annotation is outside" in capsys.readouterr().err
    line = [*line, "--objects"]
    assert main(line) == 0 and Path(to, "a_labels.png").is_file()


def test_one_file_of_annotations_is_taken_by_its_name(tmp_path, capsys):
    for name in ("cells.png", "other.png"):
        Image.new("L", (9, 8)).save(tmp_path / name)
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for name in ("cells.rois.zip", "nothing.rois.zip"):
        write_rois(drawn / name, IN_SQUARE.astype(np.uint8), ("background", "cell"))
    masks, bare = write_masks(tmp_path, tmp_path / "out", drawn / "cells.rois.zip")
    assert np.array_equal(read_mask(masks[0]), IN_SQUARE)
    assert [path.name for path in (*masks, *bare)] == ["cells_mask.png", "other.png"]
    with pytest.raises(ValueError, match="An image of the same name: add it"):
        write_masks(tmp_path, tmp_path / "out", drawn / "nothing.rois.zip")
