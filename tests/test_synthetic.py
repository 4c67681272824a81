"""Drawn pictures: the same for the same seed, and what their masks promise."""

import numpy as np
import pytest
from PIL import Image, ImageSequence
from scipy import ndimage

from unet_tutorial.synthetic import (
    draw_cars,
    draw_cells,
    draw_membranes,
    write_carvana,
    write_ctc,
    write_isbi,
)


def small_car(size=(96, 144), seed=0, angle=2):
    return draw_cars(angle, size, seed)


DRAWERS = [draw_membranes, draw_cells, small_car]


def best_iou(image, mask):
    """The best IoU that any threshold reaches, in either direction."""
    inside = np.bincount(image[mask], minlength=256).cumsum()
    outside = np.bincount(image[~mask], minlength=256).cumsum()
    dark = inside / (mask.sum() + outside)
    light = (mask.sum() - inside) / (mask.sum() + outside[-1] - outside)
    return max(dark.max(), light.max())


def touching_pairs(labels):
    """The pairs of different cells that have pixels side by side."""
    pairs = set()
    for first, second in (labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:]):
        meet = (first != second) & (first > 0) & (second > 0)
        pairs |= {tuple(sorted(p)) for p in zip(first[meet], second[meet], strict=True)}
    return pairs


# All three


@pytest.mark.parametrize("draw", DRAWERS)
@pytest.mark.parametrize("size", [64, 97, (64, 150), (131, 80)])
def test_shapes_and_types(draw, size):
    image, truth = draw(size, 5)
    shape = (size, size) if isinstance(size, int) else size
    assert image.shape[:2] == truth.shape == shape
    assert image.dtype == np.uint8
    assert image.shape[2:] == ((3,) if draw is small_car else ())
    assert truth.dtype.kind == ("i" if draw is draw_cells else "b")
    assert truth.any() and not truth.all()
    assert image.flags.writeable and truth.flags.writeable  # torch asks for it


@pytest.mark.parametrize("draw", DRAWERS)
def test_same_seed_same_picture(draw):
    once, again, other = draw(128, 3), draw(128, 3), draw(128, 4)
    for first, second, different in zip(once, again, other, strict=True):
        np.testing.assert_array_equal(first, second)
        assert (first != different).mean() > 0.01


@pytest.mark.parametrize("draw", DRAWERS)
def test_the_global_generator_plays_no_part(draw):
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = draw(64, 0)[0]
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    np.testing.assert_array_equal(first, draw(64, 0)[0])


@pytest.mark.parametrize("draw", DRAWERS)
def test_a_small_size_is_refused(draw):
    with pytest.raises(ValueError, match=r"size 63 is too small.*64"):
        draw(63)
    with pytest.raises(ValueError, match=r"size \(64, 20\) is too small"):
        draw((64, 20))


@pytest.mark.parametrize(
    "draw, bound", [(draw_membranes, 0.6), (draw_cells, 0.65), (small_car, 0.8)]
)
def test_a_threshold_fails(draw, bound):
    for seed in range(10):
        image, truth = draw((192, 288), seed)
        if image.ndim == 3:
            image = np.asarray(Image.fromarray(image).convert("L"))
        assert best_iou(image, truth > 0) < bound


# Membranes


@pytest.mark.parametrize("seed", range(5))
def test_membranes_close_into_cells(seed):
    _, mask = draw_membranes(512, seed)
    assert 0.15 < mask.mean() < 0.25
    cells, _ = ndimage.label(~mask)
    areas = np.bincount(cells.ravel())[1:]
    assert (areas > 50).sum() > 50
    assert areas.max() < 0.1 * mask.size
    assert areas.max() > 5 * np.median(areas[areas > 50])  # large beside small


def test_membranes_are_dark_and_a_few_pixels_thick():
    image, mask = draw_membranes(512, 0)
    assert image[mask].mean() < image[~mask].mean() - 30
    thick = 2 * ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    ridge = thick[mask & (thick == ndimage.maximum_filter(thick, 3))]
    assert 3 <= np.median(ridge) <= 7


def test_something_inside_a_cell_is_as_dark_as_a_membrane():
    image, mask = draw_membranes(512, 0)
    dark = ndimage.gaussian_filter(image.astype(float), 1) < np.median(image[mask])
    assert (dark & ~mask).sum() > 0.2 * (dark & mask).sum()


# Cells


@pytest.mark.parametrize("seed", range(8))
def test_cells_touch_and_are_numbered(seed):
    image, labels = draw_cells(256, seed)
    numbers = np.unique(labels)
    np.testing.assert_array_equal(numbers, np.arange(len(numbers)))
    assert 8 <= labels.max() <= 14
    assert 0.3 < (labels > 0).mean() < 0.65
    assert len(touching_pairs(labels)) >= 4
    inside, outside = image[labels > 0], image[labels == 0]
    assert abs(inside.mean() - outside.mean()) < 5
    assert inside.std() > 1.5 * outside.std()  # the texture tells them apart


def test_a_smaller_picture_shows_the_same_cells():
    large, small = draw_cells(512, 2)[1], draw_cells(256, 2)[1]
    assert large.max() == small.max()
    assert (large[::2, ::2] == small).mean() > 0.8


# Cars


@pytest.mark.parametrize("seed", range(6))
def test_a_car_is_one_piece_and_stays_in_the_picture(seed):
    for angle in range(16):
        mask = draw_cars(angle, (160, 240), seed)[1]
        assert ndimage.label(mask)[1] == 1
        assert not (mask[0].any() or mask[-1].any())
        assert not (mask[:, 0].any() or mask[:, -1].any())
        assert 0.06 < mask.mean() < 0.35


def test_image_and_mask_of_a_car_agree():
    """Turning the car changes nothing but the car, its shadow and some noise."""
    front, mask = draw_cars(0, (160, 240), 1)
    side, other = draw_cars(4, (160, 240), 1)
    differ = (abs(front.astype(int) - side) > 40).any(axis=-1)
    wall = np.s_[:60]  # rows that no shadow reaches
    assert (differ[wall] & ~(mask | other)[wall]).sum() == 0
    assert (differ & (mask ^ other)).sum() > 0.5 * (mask ^ other).sum()


def test_a_car_keeps_its_color_over_the_views():
    medians = []
    for angle in (2, 3, 13, 14):
        image, mask = draw_cars(angle, (160, 240), 4)
        medians.append(np.median(image[mask], axis=0))
    assert np.ptp(medians, axis=0).max() < 60
    hues = [np.argsort(m).tolist() for m in medians]
    assert hues.count(hues[0]) == len(hues)


def test_cars_differ_in_shape_and_color():
    drawn = [draw_cars(4, (96, 144), seed) for seed in range(12)]
    areas = {int(mask.sum()) for _, mask in drawn}
    colors = {tuple(np.median(i[m], axis=0) // 32) for i, m in drawn}
    assert len(areas) > 6 and len(colors) > 4


def test_the_full_size_and_a_smaller_one_show_the_same_car():
    large, small = draw_cars(3, seed=2)[1], draw_cars(3, (320, 480), 2)[1]
    assert large.shape == (1280, 1918)
    reduced = Image.fromarray(large).resize((480, 320), Image.Resampling.NEAREST)
    assert (np.asarray(reduced) == small).mean() > 0.99


@pytest.mark.parametrize("angle", [-1, 16, 2.5])
def test_a_wrong_angle_is_refused(angle):
    with pytest.raises(ValueError, match=rf"angle {angle} .*0 to 15"):
        draw_cars(angle, (64, 64))


# On disk


def pages(path):
    with Image.open(path) as picture:
        return [np.array(page) for page in ImageSequence.Iterator(picture)]


def names(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_isbi_layout(tmp_path):
    folder = tmp_path / "new" / "isbi"
    assert write_isbi(str(folder), slices=3, seed=1, size=96) == folder
    assert names(folder) == ["test-volume.tif", "train-labels.tif", "train-volume.tif"]
    train, labels, test = (
        pages(folder / f"{name}.tif")
        for name in ("train-volume", "train-labels", "test-volume")
    )
    assert len(train) == len(labels) == len(test) == 3
    for page in train + labels + test:
        assert page.shape == (96, 96) and page.dtype == np.uint8
    assert np.unique(labels).tolist() == [0, 255]
    assert 0.7 < np.mean(np.array(labels) == 255) < 0.9
    with Image.open(folder / "train-volume.tif") as picture:
        assert picture.mode == "L" and picture.info["compression"] == "raw"
    everything = {page.tobytes() for page in train + test}
    assert len(everything) == 6  # the test volume is other tissue


def test_one_slice_is_a_stack_too(tmp_path):
    write_isbi(tmp_path, slices=1, size=64)
    assert len(pages(tmp_path / "train-volume.tif")) == 1


def test_ctc_layout(tmp_path):
    assert write_ctc(tmp_path, frames=4, size=128) == tmp_path
    expected = []
    for s in ("01", "02"):
        expected += [f"{s}/t{t:03d}.tif" for t in range(4)]
        expected += [f"{s}_GT/SEG/man_seg{t:03d}.tif" for t in (0, 3)]
        expected += [f"{s}_ST/SEG/man_seg{t:03d}.tif" for t in range(4)]
    assert names(tmp_path) == sorted(expected)
    (image,), (silver,), (gold,) = (
        pages(tmp_path / name)
        for name in (
            "01/t003.tif",
            "01_ST/SEG/man_seg003.tif",
            "01_GT/SEG/man_seg003.tif",
        )
    )
    assert image.dtype == np.uint8 and silver.dtype == np.uint16
    np.testing.assert_array_equal(silver, gold)
    assert 8 <= silver.max() <= 14 and image.shape == silver.shape == (128, 128)
    with Image.open(tmp_path / "01/t000.tif") as picture:
        assert picture.info["compression"] == "tiff_lzw"


def test_carvana_layout(tmp_path):
    assert write_carvana(tmp_path, cars=2, size=(64, 96)) == tmp_path
    photos = sorted((tmp_path / "train").iterdir())
    masks = sorted((tmp_path / "train_masks").iterdir())
    assert len(photos) == len(masks) == 32
    cars = {photo.name.split("_")[0] for photo in photos}
    assert len(cars) == 2
    assert all(len(car) == 12 and int(car, 16) >= 0 for car in cars)
    views = [f"{car}_{view:02d}" for car in sorted(cars) for view in range(1, 17)]
    assert [photo.name for photo in photos] == [f"{view}.jpg" for view in views]
    assert [mask.name for mask in masks] == [f"{view}_mask.gif" for view in views]
    for photo, mask in zip(photos, masks, strict=True):
        with Image.open(photo) as picture:
            assert picture.mode == "RGB" and picture.size == (96, 64)
        with Image.open(mask) as picture:
            assert picture.mode == "P" and picture.size == (96, 64)
            assert picture.getpalette()[:6] == [0, 0, 0, 255, 255, 255]
            assert np.unique(np.asarray(picture)).tolist() == [0, 1]


def test_files_hold_what_the_drawers_return(tmp_path):
    write_ctc(tmp_path / "cells", frames=1, seed=7, size=64)
    image, labels = draw_cells(64, [7, 0, 0])
    np.testing.assert_array_equal(pages(tmp_path / "cells/01/t000.tif")[0], image)
    path = tmp_path / "cells/01_ST/SEG/man_seg000.tif"
    np.testing.assert_array_equal(pages(path)[0], labels)


WRITERS = [
    lambda folder, seed: write_isbi(folder, slices=1, seed=seed, size=64),
    lambda folder, seed: write_ctc(folder, frames=1, seed=seed, size=64),
    lambda folder, seed: write_carvana(folder, cars=1, seed=seed, size=(64, 64)),
]


@pytest.mark.parametrize("write", WRITERS)
def test_a_second_run_changes_nothing(write, tmp_path):
    write(tmp_path, 0)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in names(tmp_path)}
    write(tmp_path, 0)
    after = {name: (tmp_path / name).stat().st_mtime_ns for name in names(tmp_path)}
    assert before == after  # nothing was written again, and no half file is left


@pytest.mark.parametrize("write", WRITERS[:2])
def test_other_files_are_never_overwritten(write, tmp_path):
    write(tmp_path, 0)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(
        FileExistsError, match=r"\.tif is there with other content; del"
    ):
        write(tmp_path, 1)
    assert before == {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}


def test_a_foreign_file_is_never_overwritten(tmp_path):
    write_carvana(tmp_path, cars=1, size=(64, 64))
    mine = sorted((tmp_path / "train_masks").iterdir())[5]
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match=mine.name):
        write_carvana(tmp_path, cars=1, size=(64, 64))
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    "write, name",
    [(write_isbi, "slices"), (write_ctc, "frames"), (write_carvana, "cars")],
)
def test_too_few_are_refused(write, name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        write(tmp_path / "none", **{name: 0})
    with pytest.raises(ValueError, match="size 32 is too small"):
        write(tmp_path / "none", size=32)
    assert not (tmp_path / "none").exists()
