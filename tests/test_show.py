"""The pictures: what they accept, what they refuse, and what they leave alone."""

import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

from unet_tutorial.show import (
    OKABE_ITO,
    as_colour,
    as_picture,
    border,
    colour_labels,
    differences,
    overlay,
    show_differences,
    show_images,
)

LABELS = np.zeros((24, 36), dtype=int)
LABELS[4:12, 5:15] = 1
LABELS[4:12, 15:20] = 2  # touches label 1
LABELS[15:22, 20:30] = 3
IMAGE = np.random.default_rng(0).integers(0, 256, LABELS.shape).astype(np.uint8)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def panel_axes():
    "The visible axes of the current figure, after its layout is done."
    figure = plt.gcf()
    figure.canvas.draw()
    return [ax for ax in figure.axes if ax.images]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 7), (5, 7)),
        ((5, 7, 1), (5, 7)),
        ((5, 7, 3), (5, 7, 3)),
        ((1, 5, 7), (5, 7)),
        ((3, 5, 7), (5, 7, 3)),
    ],
)
def test_as_picture_puts_the_channels_last(shape, expected):
    array = np.arange(np.prod(shape)).reshape(shape)
    assert as_picture(array).shape == expected
    assert as_picture(array.tolist()).shape == expected
    assert sorted(as_picture(array).ravel()) == sorted(array.ravel())


@pytest.mark.parametrize("shape", [(), (5,), (2, 5, 7), (5, 7, 4), (0, 7), (3, 0, 7)])
def test_as_picture_names_a_shape_that_is_no_image(shape):
    with pytest.raises(ValueError, match="is no image"):
        as_picture(np.zeros(shape))


def test_a_batch_is_refused_with_the_remedy():
    for function in (as_picture, as_colour, show_images):
        with pytest.raises(ValueError, match=r"\(8, 1, 5, 7\).*pass one image, x\[0\]"):
            function(np.zeros((8, 1, 5, 7)))


def test_text_and_objects_are_refused():
    with pytest.raises(ValueError, match="numbers or booleans"):
        as_picture(np.array([["a", "b"]]))


def test_colour_labels_gives_each_label_its_color_everywhere():
    colors = colour_labels(LABELS)
    assert colors.shape == (24, 36, 3)
    assert (colors[LABELS == 0] == 0).all()
    assert len({tuple(color) for color in colors.reshape(-1, 3)}) == 4
    alone = np.where(LABELS == 3, 3, 0)
    assert (colour_labels(alone)[LABELS == 3] == colors[LABELS == 3]).all()


def test_21_labels_have_21_colors_in_any_integer_type():
    labels = np.arange(22).reshape(1, 22)
    reference = colour_labels(labels)
    assert len(np.unique(reference.reshape(-1, 3), axis=0)) == 22
    for dtype in (np.uint8, np.uint16, np.int32, np.uint64):
        assert (colour_labels(labels.astype(dtype)) == reference).all()
    other = colour_labels(labels, seed=1)
    assert not np.allclose(other, reference)
    assert (colour_labels(labels, seed=1) == other).all()


@pytest.mark.parametrize("labels", [np.zeros((4, 4)), np.zeros((4, 4, 3), dtype=int)])
def test_colour_labels_wants_a_label_map(labels):
    with pytest.raises(ValueError, match=r"a label map is \(H, W\) integers"):
        colour_labels(labels)


def test_as_color_draws_by_type():
    assert set(np.unique(as_colour(LABELS > 0))) == {0.0, 1.0}
    assert np.allclose(as_colour(IMAGE)[..., 1], IMAGE / 255)
    assert np.allclose(as_colour(LABELS.astype(np.uint16)), colour_labels(LABELS))
    color = np.random.default_rng(0).random((6, 8, 3))
    assert np.allclose(as_colour(color), color)
    assert np.allclose(as_colour((255 * color).astype(np.uint8)), color, atol=1 / 255)


def test_as_color_stretches_floats_without_heeding_single_pixels():
    image = np.linspace(-3, 5, 10_000).reshape(100, 100)
    image[0, 0] = 1e6
    grey = as_colour(image)[..., 0]
    assert grey.min() == 0
    assert grey.max() == 1
    assert 0.45 < grey[50, 0] < 0.55
    assert np.allclose(as_colour(np.full((4, 4), 0.5), limits=(0, 2)), 0.25)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_float_keeps_its_grey(value):
    assert np.allclose(as_colour(np.full((4, 4), value)), value)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32])
def test_as_color_is_always_finite_and_in_range(dtype):
    for values in (np.zeros((5, 6)), np.ones((5, 6)), 200 * IMAGE[:5, :6]):
        with np.errstate(all="raise"):
            picture = as_colour(values.astype(dtype))
        assert picture.shape == (5, 6, 3)
        assert picture.min() >= 0
        assert picture.max() <= 1


def test_as_color_survives_nan_and_infinity():
    image = np.array([[np.nan, np.inf, -np.inf], [0.0, 0.5, 1.0]])
    assert np.isfinite(as_colour(image)).all()
    assert np.isfinite(as_colour(np.full((3, 3), np.nan))).all()


def test_border_is_where_a_neighbour_differs():
    found = border(LABELS)
    for row in range(LABELS.shape[0]):
        for column in range(LABELS.shape[1]):
            near = [(row - 1, column), (row + 1, column), (row, column - 1)]
            near += [(row, column + 1)]
            near = [p for p in near if 0 <= p[0] < 24 and 0 <= p[1] < 36]
            differs = any(LABELS[p] != LABELS[row, column] for p in near)
            assert found[row, column] == differs
    assert found.dtype == bool
    assert not border(np.ones((5, 5), dtype=int)).any()
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        border(np.zeros((5, 5, 3), dtype=int))


def test_overlay_changes_the_foreground_only():
    painted = overlay(IMAGE, LABELS > 0, color="#0072B2", alpha=1)
    assert np.allclose(painted[LABELS > 0], to_rgb("#0072B2"))
    assert np.allclose(painted[LABELS == 0], as_colour(IMAGE)[LABELS == 0])
    assert np.allclose(overlay(IMAGE, LABELS, alpha=0), as_colour(IMAGE))
    half = overlay(IMAGE, LABELS)
    expected = 0.5 * as_colour(IMAGE) + 0.5 * colour_labels(LABELS)
    assert np.allclose(half[LABELS > 0], expected[LABELS > 0])


def test_overlay_takes_color_images_and_uint8_masks():
    color = np.stack([IMAGE] * 3, axis=-1)
    mask = np.where(LABELS > 0, 255, 0).astype(np.uint8)
    assert np.allclose(overlay(color, mask), overlay(IMAGE, LABELS > 0))
    assert np.allclose(overlay(color.transpose(2, 0, 1), mask), overlay(color, mask))


def test_differences_has_one_color_an_error():
    pred = np.roll(LABELS > 0, 2, axis=1)
    picture = differences(IMAGE, pred, LABELS)
    wrong, missed = pred & (LABELS == 0), ~pred & (LABELS > 0)
    assert wrong.any()
    assert missed.any()
    assert np.allclose(picture[wrong], to_rgb(OKABE_ITO["vermillion"]))
    assert np.allclose(picture[missed], to_rgb(OKABE_ITO["blue"]))
    right = picture[~wrong & ~missed]
    assert np.allclose(right, right[:, :1])  # grey
    assert picture[pred & (LABELS > 0)].min() >= 0.5 >= picture[~pred & ~missed].max()


def test_sizes_that_differ_are_both_named():
    with pytest.raises(ValueError, match=r"\(24, 36\) but mask is \(20, 36\)"):
        overlay(IMAGE, LABELS[:20])
    with pytest.raises(ValueError, match=r"\(24, 36\) but pred is \(20, 36\)"):
        differences(IMAGE, LABELS[:20], LABELS)
    with pytest.raises(ValueError, match=r"\(24, 36\) but true is \(24, 30\)"):
        show_differences(IMAGE, LABELS, LABELS[:, :30])


def test_probabilities_are_no_mask():
    with pytest.raises(ValueError, match=r"pred is float64.*pred > threshold"):
        differences(IMAGE, LABELS / 3, LABELS)


def test_no_input_is_changed():
    image, labels, real = IMAGE.copy(), LABELS.copy(), IMAGE / 255
    colour_labels(labels)
    border(labels)
    overlay(image, labels)
    overlay(real, labels > 0)
    show_differences(real, labels, labels)
    assert (image == IMAGE).all()
    assert (labels == LABELS).all()
    assert (real == IMAGE / 255).all()


def test_results_share_no_memory_with_the_input():
    color = np.random.default_rng(0).random((6, 8, 3))
    for picture in (as_colour(color), overlay(color, np.zeros((6, 8), dtype=bool))):
        assert not np.shares_memory(picture, color)


def test_panels_are_equally_high_and_inside_the_figure():
    images = [np.zeros((20, 60)), LABELS, LABELS > 0, np.zeros((40, 20, 3))]
    titles = ["a title that is far too long for a single line", "b", "c", "two\nlines"]
    show_images(images, titles)
    axes, figure = panel_axes(), plt.gcf()
    assert figure.get_figwidth() <= 8.01
    heights = [ax.get_window_extent().height for ax in axes]
    assert max(heights) - min(heights) < 3  # pixels
    for ax in axes:
        box = ax.title.get_window_extent()
        assert box.x0 >= -2
        assert box.y1 <= figure.bbox.height + 2
        assert box.x1 <= figure.bbox.width + 2
    for left, right in itertools.pairwise(axes):
        assert left.title.get_window_extent().x1 < right.title.get_window_extent().x0


@pytest.mark.parametrize(
    ("count", "columns", "grid"),
    [
        (1, None, (1, 1)),
        (4, None, (1, 4)),
        (5, None, (2, 3)),
        (8, None, (2, 4)),
        (6, 2, (3, 2)),
        (3, 7, (1, 3)),
    ],
)
def test_the_grid(count, columns, grid):
    show_images([LABELS] * count, columns=columns)
    assert panel_axes()[0].get_gridspec().get_geometry() == grid
    assert len(panel_axes()) == count


def test_a_single_image_needs_no_list():
    show_images(IMAGE, "one")
    (ax,) = panel_axes()
    assert ax.get_title() == "one"
    assert abs(ax.get_window_extent().height / ax.figure.dpi - 2.6) < 0.1


def test_enlarged_pictures_show_whole_pixels():
    show_images([IMAGE, np.zeros((2000, 2000))])
    small, large = panel_axes()
    assert small.images[0].get_interpolation() == "nearest"
    assert large.images[0].get_interpolation() != "nearest"


def test_titles_and_images_must_match():
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        show_images([IMAGE, IMAGE], ["one"])
    with pytest.raises(ValueError, match="0 images"):
        show_images([])


def test_show_differences_has_four_panels_and_a_legend():
    show_differences(IMAGE, np.roll(LABELS, 1, axis=0), LABELS)
    titles = [ax.get_title() for ax in panel_axes()]
    assert titles == ["image", "truth", "prediction", "differences"]
    (legend,) = plt.gcf().legends
    top_of_legend = legend.get_window_extent().y1
    assert all(ax.get_window_extent().y0 > top_of_legend for ax in panel_axes())


def test_tensors_are_drawn_like_arrays():
    torch = pytest.importorskip("torch")
    image = torch.rand(3, 24, 36, requires_grad=True)
    assert as_picture(image).shape == (24, 36, 3)
    assert as_colour(image.to(torch.bfloat16)).shape == (24, 36, 3)
    labels = torch.from_numpy(LABELS)
    assert (border(labels) == border(LABELS)).all()
    assert (colour_labels(labels) == colour_labels(LABELS)).all()
    assert overlay(image, labels > 0).shape == (24, 36, 3)
    show_differences(image, labels, labels)
    show_images(image)
    assert len(panel_axes()) == 1


def test_torch_is_not_imported():
    code = "import sys, unet_tutorial.show; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
