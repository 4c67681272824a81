"""Masks that can be seen, labels that come back, outlines that lose no pixel."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import same_color
from PIL import Image
from samples import noise, says

from unet_tutorial.data.images import read_mask
from unet_tutorial.data.outputs import (
    outlines,
    painted,
    write_labels,
    write_mask,
    write_overlay,
    write_polygons,
    write_probabilities,
)
from unet_tutorial.show import ROLES


def test_a_mask_can_be_seen_and_read_back(tmp_path):
    mask = noise(20, 30) > 127
    path = write_mask(tmp_path / "new" / "mask.png", mask)
    assert set(np.unique(np.asarray(Image.open(path)))) == {0, 255}
    assert np.array_equal(read_mask(path), mask)
    assert [file.name for file in path.parent.iterdir()] == ["mask.png"]


@pytest.mark.parametrize("value", [0, 1])
def test_an_empty_and_a_full_mask(tmp_path, value):
    path = write_mask(tmp_path / "mask.png", np.full((4, 4), value))
    assert (read_mask(path) == value).all()


def test_many_classes_keep_their_numbers_and_get_colours(tmp_path):
    labels = np.arange(256).reshape(16, 16)
    path = write_mask(tmp_path / "labels.png", labels, num_classes=256)
    image = Image.open(path)
    assert np.array_equal(np.asarray(image), labels)
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert colours[0].sum() == 0 and colours[1:].sum(1).min() > 60  # not black


BAD_LABELS = {
    "beyond the classes": np.array([[0, 2]]),
    "negative": np.array([[-1, 0]]),
    "probabilities": np.array([[0.2, 0.9]]),
    "NaN": np.array([[np.nan, 1.0]]),
    "a batch": np.zeros((1, 4, 4)),
    "empty": np.zeros((0, 4)),
}


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS)
def test_what_is_no_label_map_is_refused(tmp_path, labels):
    with pytest.raises(ValueError, match=r"labels\.png: (labels|a label map)"):
        write_mask(tmp_path / "labels.png", labels)
    assert not list(tmp_path.iterdir())


def test_a_three_class_map_is_written_alike_whatever_it_holds(tmp_path):
    path = write_mask(tmp_path / "labels.png", np.eye(4, dtype=int), num_classes=3)
    assert np.asarray(Image.open(path)).max() == 1


WRITERS = {
    "mask.png": lambda path, **how: write_mask(path, np.eye(4), **how),
    "labels.tif": lambda path, **how: write_labels(path, np.eye(4), **how),
    "p.npy": lambda path, **how: write_probabilities(path, np.eye(4), **how),
    "a.png": lambda path, **how: write_overlay(path, noise(4, 4), np.eye(4), **how),
    "a.geojson": lambda path, **how: write_polygons(path, np.eye(4, dtype=int), **how),
}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_replaced_unasked(tmp_path, name):
    path, write = tmp_path / name, WRITERS[name]
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=says(name, "overwrite=True")):
        write(path)
    assert path.read_bytes() == b"precious"
    assert write(path, overwrite=True) == path
    assert path.read_bytes() != b"precious"
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_a_file_cannot_hold_a_file(tmp_path, name):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(OSError, match="file"):
        WRITERS[name](tmp_path / "file" / name)
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_masks_are_never_written_as_jpeg(tmp_path):
    with pytest.raises(ValueError, match=r"mask\.jpg.*\.png"):
        write_mask(tmp_path / "mask.jpg", np.eye(4))


LARGEST = {
    "8.png": (255, np.uint8),
    "16.png": (65535, np.uint16),
    "8.tif": (7, np.uint8),
    "16.tiff": (256, np.uint16),
    "32.tif": (70_000, np.int32),
}


@pytest.mark.parametrize("name", LARGEST)
def test_labels_come_back_in_the_smallest_type(tmp_path, name):
    largest, kind = LARGEST[name]
    labels = np.random.default_rng(0).integers(0, largest, (20, 30))
    labels[3, 4] = largest
    again = np.asarray(Image.open(write_labels(tmp_path / name, labels)))
    assert np.array_equal(again, labels)
    assert again.dtype.itemsize >= np.dtype(kind).itemsize


def test_labels_too_large_for_a_png_are_sent_to_tiff(tmp_path):
    with pytest.raises(ValueError, match=r"l\.png: labels.*65535.*70000.*\.tif"):
        write_labels(tmp_path / "l.png", np.array([[0, 70_000]]))


def test_probabilities_come_back(tmp_path):
    p = np.random.default_rng(0).random((3, 20, 30)).astype(np.float32)
    path = write_probabilities(tmp_path / "p.npy", p)
    assert np.array_equal(np.load(path), p) and np.load(path).dtype == np.float32
    path = write_probabilities(tmp_path / "p.png", p[1])
    assert np.abs(np.asarray(Image.open(path)) / 65535 - p[1]).max() < 1e-5


@pytest.mark.parametrize(
    "p", [[[2.0]], [[-0.1]], [[np.nan]], np.zeros((2, 0))], ids=str
)
def test_what_is_no_probability_is_refused(tmp_path, p):
    with pytest.raises(ValueError, match=r"p\.npy: probabilities are 0 to 1"):
        write_probabilities(tmp_path / "p.npy", np.array(p))
    assert not list(tmp_path.iterdir())


def test_a_png_holds_one_class(tmp_path):
    with pytest.raises(ValueError, match=says("p.png", "(2, 4, 4)", ".npy", "p[1]")):
        write_probabilities(tmp_path / "p.png", np.zeros((2, 4, 4)))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("shape", [(12, 15), (12, 15, 3)])
def test_paint_lies_where_the_labels_are(kind, shape):
    image = (noise(*shape) // 2).astype(kind)
    labels = np.zeros((12, 15), np.uint8)
    labels[3:6, 4:9] = 1
    plain, paint = painted(image, 0 * labels), painted(image, labels, opacity=1)
    changed = (plain != paint).any(-1)
    assert paint.shape == (12, 15, 3) and paint.dtype == np.uint8
    assert np.array_equal(changed, labels == 1)
    (paint_of_object,) = np.unique(paint[labels == 1], axis=0)  # one colour
    assert same_color(paint_of_object / 255, ROLES["prediction"])
    assert plain.std() > 5  # the image can be seen


def test_classes_have_colours_of_their_own():
    labels = np.arange(4).reshape(2, 2)
    paint = painted(np.zeros((2, 2), np.uint8), labels, opacity=1)
    assert len(np.unique(paint.reshape(-1, 3), axis=0)) == 4


# Outlines


def filled(rings, size):  # pixels with an odd number of upright edges to their left
    inside = np.zeros(size, bool)
    for ring in rings:
        for (x, y), (x2, y2) in zip(ring, np.roll(ring, -1, 0), strict=True):
            if x == x2:
                inside[min(y, y2) : max(y, y2), x:] ^= True
    return inside


def shoelace(ring):  # its area; positive: clockwise on the screen
    x, y = ring.T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


def check(labels):
    "Every promise about outlines, on one label map."
    back = np.zeros(labels.shape, int)
    for one in outlines(labels):
        inside = filled(one.rings, labels.shape)
        assert (back[inside] == 0).all() and inside.sum() == one.area
        back[inside] = one.label
        areas = [shoelace(ring) for ring in one.rings]
        assert areas[0] > 0 and all(area < 0 for area in areas[1:])
        assert sum(areas) == one.area
        for ring in one.rings:
            steps = np.roll(ring, -1, 0) - ring
            assert (np.count_nonzero(steps, axis=1) == 1).all()  # along pixel edges
            upright = steps[:, 1] != 0
            assert (upright != np.roll(upright, 1)).all()  # a corner is a turn
            assert len(np.unique(ring, axis=0)) == len(ring)  # none is passed twice
    assert np.array_equal(back, labels)


@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.integers(0, 2),
    )
)
def test_an_outline_gives_back_its_pixels(labels):
    check(labels)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6, 0.9])
def test_noise_with_holes_and_corners_is_given_back(share):
    check((np.random.default_rng(0).random((40, 50)) < share).astype(int))


def test_a_square_has_four_corners():
    labels = np.zeros((9, 9), int)
    labels[2:5, 3:7] = 4
    [one] = outlines(labels)
    assert (one.label, one.area) == (4, 12)
    assert one.rings[0].tolist() == [[3, 2], [7, 2], [7, 5], [3, 5]]


def test_corners_do_not_hang_together_and_labels_do_not_merge():
    assert len(outlines(np.eye(5, dtype=int))) == 5
    touching = np.repeat([[1, 2]], 4, axis=0)
    assert [one.label for one in outlines(touching)] == [1, 2]


def test_a_hole_that_touches_the_outside_by_a_corner_is_a_ring_of_its_own():
    ring = np.ones((4, 4), int)
    ring[1:3, 1:3] = ring[3, 3] = 0
    [one] = outlines(ring)
    assert len(one.rings) == 2 and one.area == 11


def test_small_objects_can_be_left_out():
    labels = np.zeros((9, 9), int)
    labels[0, 0] = labels[4:7, 4:7] = 1
    assert [one.area for one in outlines(labels, smallest=2)] == [9]


def test_nothing_has_no_outline():
    assert outlines(np.zeros((4, 4), int)) == []


def test_large_numbers_cost_nothing():
    labels = np.zeros((5, 5), np.int64)
    labels[1, 1] = 2_000_000_000
    assert [one.label for one in outlines(labels)] == [2_000_000_000]


def test_polygons_are_geojson(tmp_path):
    labels = np.ones((4, 5), int)
    labels[1, 1] = 0
    labels[3, 4] = 2
    path = write_polygons(tmp_path / "a.geojson", labels, classes=["a", "b", "c"])
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["type"] == "FeatureCollection"
    first, second = found["features"]
    assert first["type"] == "Feature" and first["geometry"]["type"] == "Polygon"
    known = {"label": 1, "class": "b", "area": 18}
    of_qupath = {"objectType": "annotation", "classification": {"name": "b"}}
    assert first["properties"] == {**known, **of_qupath}
    assert second["properties"]["class"] == "c"
    for ring in first["geometry"]["coordinates"]:
        assert ring[0] == ring[-1] and len(ring) >= 5
    rings = [np.array(ring[:-1]) for ring in first["geometry"]["coordinates"]]
    assert np.array_equal(filled(rings, labels.shape), labels == 1)


def area_with_sign(ring):  # above 0: counterclockwise, if y points up
    (x, y), (x2, y2) = ring[:-1].T, ring[1:].T
    return (x * y2 - x2 * y).sum() / 2


def check_feature(feature):
    "RFC 7946, sections 3.1.6 and 3.2; and what QuPath reads of a feature."
    assert feature["type"] == "Feature"
    geometry, notes = feature["geometry"], feature["properties"]
    assert geometry["type"] == "Polygon" and notes["objectType"] == "annotation"
    assert isinstance(notes["classification"]["name"], str)
    for number, ring in enumerate(geometry["coordinates"]):
        assert len(ring) >= 4 and ring[0] == ring[-1]  # closed
        assert all(len(corner) == 2 for corner in ring)
        corners = [tuple(corner) for corner in ring[:-1]]
        assert len(set(corners)) == len(corners)  # it does not touch itself
        assert (area_with_sign(np.array(ring)) > 0) == (number == 0)  # right-hand rule
    areas = [area_with_sign(np.array(ring)) for ring in geometry["coordinates"]]
    assert sum(areas) == notes["area"] and areas[0] == max(areas)


@pytest.mark.parametrize("seed", range(20))
def test_polygons_are_as_rfc_7946_and_qupath_want_them(tmp_path, seed):
    labels = np.random.default_rng(seed).integers(0, 3, (9, 12))
    path = write_polygons(tmp_path / "a.geojson", labels, classes=["a", "b", "c"])
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["type"] == "FeatureCollection" and isinstance(found["features"], list)
    assert not {"coordinates", "geometry", "properties"} & found.keys()  # section 7.1
    for feature in found["features"]:
        check_feature(feature)


def test_a_label_without_a_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=says("a.geojson", "0 to 1", "2")):
        write_polygons(tmp_path / "a.geojson", np.array([[0, 2]]), classes=["a", "b"])


def test_polygons_want_a_name_of_their_own(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png.*\.geojson"):
        write_polygons(tmp_path / "a.png", np.eye(4, dtype=int))
