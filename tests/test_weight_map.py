"""Equation 2 against its definition: every pixel with every pixel of every cell."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from unet_tutorial.synthetic import draw_cells
from unet_tutorial.weight_map import (
    border_weights,
    class_weights,
    nearest_two,
    separate_cells,
    weight_map,
)

CORNERS = np.ones((3, 3))  # pixels that meet at a corner are connected


def distances(labels):
    """Return the distances from pixels to cells, (cells, H, W), by definition."""
    ys, xs = np.indices(labels.shape)
    found = []
    for i in np.unique(labels[labels > 0]):
        cell = np.argwhere(labels == i)  # (pixels, 2)
        squares = (ys[..., None] - cell[:, 0]) ** 2 + (xs[..., None] - cell[:, 1]) ** 2
        found.append(np.sqrt(squares.min(axis=-1)))
    return np.array(found).reshape(-1, *labels.shape)


def brute_force(labels, w0=10.0, sigma=5.0):
    """Return the second term of Eq. 2 by definition, 0 without two cells."""
    two = np.sort(distances(labels), axis=0)[:2]
    if len(two) < 2:
        return np.zeros(labels.shape)
    return w0 * np.exp(-((two[0] + two[1]) ** 2) / (2 * sigma**2))


def random_cells(seed, touching=True):
    """Draw discs and bars with odd ids, some across the edge, some over another."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 50, 2)
    ys, xs = np.indices((height, width))
    labels = np.zeros((height, width), int)
    for i in rng.choice(np.arange(1, 300), rng.integers(0, 8), replace=False):
        y, x = rng.uniform(-5, [height + 5, width + 5])
        a, b = rng.uniform(1, 9, 2)
        labels[((ys - y) / a) ** 2 + ((xs - x) / b) ** 2 < 1] = i
    return labels if touching else separate_cells(without_thin(labels))


def without_thin(labels):
    """Return the cells that hold a square of 3x3 pixels, which parting cannot lose."""
    square = np.ones((3, 3))
    for i in np.unique(labels):
        if not ndimage.binary_erosion(labels == i, square, border_value=1).any():
            labels = np.where(labels == i, 0, labels)
    return labels


@pytest.mark.parametrize("seed", range(40))
def test_equal_to_the_definition(seed):
    rng = np.random.default_rng(seed)
    w0, sigma = rng.uniform(0.5, 50), rng.choice([0.3, 2, 5, 6.5, 30])
    for labels in (random_cells(seed), random_cells(seed, touching=False)):
        weights = border_weights(labels, w0, sigma)
        assert weights.dtype == np.float32 and weights.shape == labels.shape
        assert np.abs(weights - brute_force(labels, w0, sigma)).max() < 1e-5


@pytest.mark.parametrize("sigma", [1.0, 5.0, 12.5])
def test_equal_to_the_definition_on_a_frame(sigma):
    labels = separate_cells(draw_cells(128, 3)[1])
    labels[labels == 2] = 0  # a gap in the ids
    expected = brute_force(labels, 10, sigma)
    assert np.abs(border_weights(labels, 10, sigma) - expected).max() < 1e-5


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 7, 12, 40])
@pytest.mark.parametrize("sigma", [2.0, 5.0, 9.0])
def test_two_parallel_half_planes(gap, sigma):
    width = 60
    line = np.repeat([1, 0, 2], [width, gap, width])
    steps = np.arange(2 * width + gap)
    depth = np.maximum(0, np.maximum(width - 1 - steps, steps - width - gap))
    expected = 10 * np.exp(-((gap + 1 + depth) ** 2) / (2 * sigma**2))
    for labels in (np.tile(line, (9, 1)), np.tile(line, (9, 1)).T):
        weights = border_weights(labels, sigma=sigma)
        weights = weights if weights.shape[0] == 9 else weights.T
        assert np.abs(weights - expected).max() < 1e-5
    if gap:  # constant across it
        assert np.ptp(weights[:, line == 0]) < 1e-6


def test_without_two_cells_there_is_no_border():
    empty, one = np.zeros((20, 30), int), np.zeros((20, 30), int)
    one[3:8, 4:9] = 7
    for labels in (empty, one, np.ones((5, 5), int), np.zeros((1, 1), int)):
        assert (border_weights(labels) == 0).all()
        assert np.isfinite(weight_map(labels)).all()
        assert np.isfinite(weight_map(labels, variant="later")).all()
    assert np.isinf(nearest_two(empty)).all()
    assert np.isinf(nearest_two(one)[1]).all()
    assert np.array_equal(nearest_two(one)[0], distances(one)[0])


def test_two_cells_of_one_pixel():
    labels = np.zeros((5, 9), int)
    labels[2, 1], labels[2, 7] = 3, 90
    weights = border_weights(labels)
    assert weights[2, 4] == np.float32(10 * np.exp(-36 / 50))  # 3 + 3
    assert weights[2, 1] == np.float32(10 * np.exp(-36 / 50))  # on a cell: 0 + 6
    ends = np.hypot(2, 1) + np.hypot(2, 7)
    assert weights[0, 0] == pytest.approx(10 * np.exp(-(ends**2) / 50), abs=1e-5)


def test_on_a_cell_the_distance_to_it_is_zero():
    labels = random_cells(11)
    first, second = nearest_two(labels)
    inside = labels > 0
    assert inside.any() and (first[inside] == 0).all()
    assert (second[inside] >= 1).all() and (first[~inside] >= 1).all()


def test_two_parts_with_one_id_are_one_cell():
    labels = np.zeros((9, 30), int)
    labels[:, :5], labels[:, 10:15], labels[:, 25:] = 1, 1, 2
    first, second = nearest_two(labels)
    assert first[4, 7] == 3 and second[4, 7] == 18
    assert (border_weights(np.minimum(labels, 1)) == 0).all()


def test_what_lies_beyond_the_reach_is_infinitely_far():
    labels = separate_cells(draw_cells(128, 0)[1])
    exact = nearest_two(labels)
    for reach in (0, 0.5, 1, 7.5, 40, 1e300):
        for some, true in zip(nearest_two(labels, reach), exact, strict=True):
            assert np.array_equal(some, np.where(true > reach, np.inf, true))


def test_ids_are_names_and_not_numbers():
    labels = draw_cells(96, 2)[1]
    expected = weight_map(labels)
    names = np.random.default_rng(0).permutation(np.arange(1, labels.max() + 1))
    renamed = np.append(0, names)[labels]
    assert np.array_equal(weight_map(renamed), expected)
    for factor, kind in [(7, np.uint8), (999, np.uint16), (10**12, np.int64)]:
        assert np.array_equal(weight_map((labels * factor).astype(kind)), expected)
    assert np.array_equal(weight_map(labels.astype(np.uint64) << 59), expected)
    full = np.where(labels == 0, labels.max() + 1, labels) * 10**9  # no background
    assert np.array_equal(border_weights(full), border_weights(full // 10**9))


def test_other_forms_of_a_map():
    torch = pytest.importorskip("torch")
    labels = draw_cells(64, 2)[1]
    expected, before = weight_map(labels), labels.copy()
    assert np.array_equal(weight_map(torch.tensor(labels)), expected)
    assert np.array_equal(weight_map(labels.tolist()), expected)
    assert np.array_equal(weight_map(np.asfortranarray(labels)), expected)
    assert np.array_equal(weight_map(labels[::-1, ::-1]), expected[::-1, ::-1])
    labels.flags.writeable = False
    weights, parted = weight_map(labels, variant="later"), separate_cells(labels)
    assert weights.flags.c_contiguous and parted.dtype == labels.dtype
    assert np.array_equal(labels, before)


# Parting touching cells


@pytest.mark.parametrize("variant", ["paper", "later"])
@pytest.mark.parametrize("seed", range(6))
def test_parted_cells_are_told_apart_by_the_mask_alone(seed, variant):
    connected = CORNERS if variant == "paper" else None
    for labels in (draw_cells(200, seed)[1], without_thin(random_cells(seed))):
        parted = separate_cells(labels, variant)
        kept = parted > 0
        assert (parted[kept] == labels[kept]).all()  # nothing gets another id
        pieces, count = ndimage.label(kept, connected)
        for piece in range(1, count + 1):
            assert len(np.unique(parted[pieces == piece])) == 1
        assert np.array_equal(separate_cells(parted, variant), parted)


def test_the_line_is_one_pixel_wide_and_taken_from_the_larger_cell():
    labels = np.repeat([[5] * 9 + [2] * 6], 8, axis=0)
    parted = separate_cells(labels)
    assert parted[0].tolist() == [5] * 8 + [0] + [2] * 6
    assert (parted == parted[0]).all()
    assert separate_cells(labels, "later")[0].tolist() == [5] * 8 + [0] * 2 + [2] * 5
    tiny = np.full((7, 7), 1)
    tiny[3, 3] = 2  # inside of another cell
    parted = separate_cells(tiny)
    assert parted[3, 3] == 2 and (parted == 0).sum() == 8
    corner = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 2]])
    assert separate_cells(corner).tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 2]]


def test_only_what_touches_is_parted():
    labels = np.zeros((10, 21), int)
    labels[2:8, 2:10], labels[2:8, 11:19] = 1, 2
    assert np.array_equal(separate_cells(labels), labels)
    assert np.array_equal(separate_cells(labels, "later"), labels)
    for few in (labels * 0, np.minimum(labels, 1)):
        assert np.array_equal(separate_cells(few), few)
    assert (separate_cells(np.ones((4, 4), np.uint8)) == 1).all()


@pytest.mark.parametrize("seed", range(10))
def test_later_parting_is_the_overlap_of_dilated_cells(seed):
    labels = without_thin(random_cells(seed))
    disk = ndimage.generate_binary_structure(2, 1)
    covered = np.zeros(labels.shape, int)
    for i in np.unique(labels[labels > 0]):
        covered += ndimage.binary_dilation(labels == i, disk)
    expected = np.where(covered > 1, 0, labels)
    assert np.array_equal(separate_cells(labels, "later"), expected)


@pytest.mark.parametrize("variant", ["paper", "later"])
def test_a_cell_that_would_vanish_is_refused_and_the_advice_works(variant):
    column = np.full((5, 5), 2)
    column[1:4, :2], column[1:4, 3:] = 1, 3  # cell 2 is a column of one pixel here
    column[[0, 4]] = 0
    for labels, words in [
        (np.arange(1, 17).reshape(4, 4), r"of the cells \[\d+, .*too thin"),
        (column if variant == "later" else np.array([[7, 9, 9, 8]]), r"\[\d"),
    ]:
        with pytest.raises(ValueError, match=words) as error:
            separate_cells(labels, variant)
        assert "np.kron(labels, np.ones((3, 3), int))" in str(error.value)
        large = np.kron(labels, np.ones((3, 3), int))
        parted = separate_cells(large, variant)
        assert set(np.unique(labels)) <= set(np.unique(parted))


def test_parted_or_not_the_seam_is_heavy_but_on_the_other_class():
    labels = np.repeat([[1] * 20 + [2] * 20], 5, axis=0)
    assert border_weights(labels)[:, 19:21].min() == np.float32(10 * np.exp(-1 / 50))
    parted = separate_cells(labels)
    line = border_weights(parted)[parted == 0]
    assert len(line) == 5 and (line == np.float32(10 * np.exp(-4 / 50))).all()


# The classes, and the sum


def test_both_classes_weigh_the_same():
    maps = [separate_cells(draw_cells(100, seed)[1]) for seed in range(3)]
    background, cell = class_weights(*maps)
    mask = np.stack(maps) > 0
    assert background * (~mask).sum() == pytest.approx(cell * mask.sum())
    total = background * (~mask).sum() + cell * mask.sum()
    assert total == pytest.approx(mask.size)  # an average of 1
    assert class_weights(maps[0]) != class_weights(*maps)
    different = [np.eye(3, dtype=int), np.zeros((2, 5), np.uint8)]  # sizes may differ
    assert class_weights(*different) == (19 / 32, 19 / 6)


def test_a_class_that_is_missing_changes_nothing():
    assert class_weights(np.zeros((4, 4), int)) == (1, 1)
    assert class_weights(np.ones((4, 4), int)) == (1, 1)
    assert (weight_map(np.zeros((4, 4), int)) == 1).all()


def test_the_map_is_the_sum_of_its_terms():
    labels = separate_cells(draw_cells(128, 1)[1])
    background, cell = class_weights(labels)
    border = border_weights(labels)
    expected = np.where(labels > 0, cell, background) + border
    weights = weight_map(labels)
    assert weights.dtype == np.float32 and np.abs(weights - expected).max() < 1e-6
    chosen = weight_map(labels, w0=3, sigma=2.5, classes=(0.5, 4))
    expected = np.where(labels > 0, 4, 0.5) + border_weights(labels, 3, 2.5)
    assert np.abs(chosen - expected).max() < 1e-6
    alone = weight_map(labels, w0=0)  # class weights only
    assert np.unique(alone).tolist() == sorted(np.float32([background, cell]).tolist())


@pytest.mark.parametrize("seed", range(12))
def test_the_later_map_is_what_the_authors_wrote(seed):
    labels = separate_cells(without_thin(random_cells(seed)), "later")
    away = np.sort(distances(labels), axis=0)
    expected = np.full(labels.shape, 0.1)
    if len(away) > 0:
        expected += 0.9 * np.exp(-(away[0] ** 2) / (2 * 10**2))
    if len(away) > 1:
        expected += 50 * np.exp(-((away[0] + away[1]) ** 2) / 6**2)
    expected[labels > 0] = 1
    found = weight_map(labels, variant="later")
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-5
    border = border_weights(labels, variant="later")
    assert (border[labels > 0] == 0).all() and (border <= found).all()


# What is refused

GOOD = np.eye(6, dtype=int)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (GOOD / 2, r"holds integers.*float64.*astype\(int\)"),
        (GOOD > 0, r"integers.*bool.*scipy.ndimage.label"),
        (GOOD.astype(complex), "integers.*complex"),
        (GOOD[None], r"\(H, W\), got shape \(1, 6, 6\).*one map"),
        (np.zeros((6, 6, 3), np.uint8), r"\(6, 6, 3\)"),
        (GOOD[0], r"\(6,\)"),
        (np.zeros((0, 6), int), r"\(0, 6\)"),
        (GOOD - 1, r"got -1.*clip\(0\)"),
    ],
)
def test_what_is_no_label_map(labels, words):
    calls = (weight_map, border_weights, nearest_two, separate_cells, class_weights)
    for call in calls:
        with pytest.raises(ValueError, match=words):
            call(labels)


def test_a_mask_is_not_advised_to_become_a_single_cell():
    with pytest.raises(ValueError, match="bool: number the cells of a mask") as error:
        weight_map(GOOD > 0)
    assert "astype" not in str(error.value)


@pytest.mark.parametrize("call", [weight_map, border_weights])
def test_constants_without_a_meaning(call):
    for w0 in (-1, np.nan, np.inf, None, "10"):
        with pytest.raises(ValueError, match="w0 must be a number of at least 0"):
            call(GOOD, w0)
    for sigma in (0, -5.0, np.nan, np.inf, None, "5"):
        with pytest.raises(ValueError, match="sigma must be more than 0 pixels"):
            call(GOOD, sigma=sigma)
    with pytest.raises(ValueError, match='"paper" or "later", got \'nn\''):
        call(GOOD, variant="nn")
    with pytest.raises(ValueError, match="its own w0=50 and sigma=6, got 3, 5.0"):
        call(GOOD, w0=3, variant="later")
    assert np.isfinite(call(GOOD, np.float32(2), np.int64(3))).all()


def test_wide_and_narrow_extremes_stay_finite():
    labels = draw_cells(64, 0)[1]
    with np.errstate(all="raise", under="ignore"):
        assert (border_weights(labels, sigma=1e-200) == 0).all()
        assert np.allclose(border_weights(labels, sigma=1e200), 10)
        assert (border_weights(labels, w0=0) == 0).all()


def test_classes_and_variants_without_a_meaning():
    pairs = [(-1, 1), (np.nan, 1), (1, np.nan), (1, np.inf), ("a", "b"), (1, None)]
    for classes in [*pairs, 5, (), (1,), (1, 2, 3), {0: 1, 1: 2}, "12", [[1], [2]]]:
        with pytest.raises(ValueError, match="background and of cells.*class_weights"):
            weight_map(GOOD, classes=classes)
    for classes in [[1, 3], np.array([1, 3]), np.float32([1, 3]), (np.int64(1), 3.0)]:
        assert np.array_equal(weight_map(GOOD, classes=classes) > 2, GOOD > 0)
    with pytest.raises(ValueError, match="its own classes"):
        weight_map(GOOD, classes=(1, 1), variant="later")
    with pytest.raises(ValueError, match='"paper" or "later"'):
        separate_cells(GOOD, "disk")
    with pytest.raises(ValueError, match="no label map"):
        class_weights()


# What it costs, and real cells


def test_only_numpy_and_scipy_are_imported():
    code = (
        "import sys, unet_tutorial.weight_map;"
        "assert not {'torch', 'matplotlib', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_far_fewer_pixels_are_transformed_than_by_whole_images(monkeypatch):
    labels = np.zeros((512, 512), int)
    for i in range(100):
        y, x = 51 * (i // 10), 51 * (i % 10)
        labels[y + 5 : y + 46, x + 5 : x + 46] = i + 1
    seen, transform = [], ndimage.distance_transform_edt

    def counted(mask):
        seen.append(mask.size)
        return transform(mask)

    monkeypatch.setattr(ndimage, "distance_transform_edt", counted)
    border_weights(labels)
    assert len(seen) == 100 and sum(seen) < 100 * labels.size / 20


def test_real_cells(real_data):
    frames = sorted(real_data.rglob("0[12]_ST/SEG/man_seg000.tif"))
    if not frames:
        pytest.skip("the real data have no 01_ST/SEG/man_seg000.tif (DIC-C2DH-HeLa)")
    labels = np.asarray(Image.open(frames[0]))
    for variant in ("paper", "later"):
        parted = separate_cells(labels, variant)
        assert set(np.unique(parted)) == set(np.unique(labels))
        cells = [i for i in np.unique(parted) if i > 0]
        away = [ndimage.distance_transform_edt(parted != i) for i in cells]
        total = np.sort(away, axis=0)[:2].sum(axis=0)
        if variant == "paper":
            found, expected = border_weights(parted), 10 * np.exp(-(total**2) / 50)
        else:
            found = border_weights(parted, variant="later")
            expected = 50 * np.exp(-(total**2) / 36) * (parted == 0)
        assert np.abs(found - expected).max() < 1e-5
