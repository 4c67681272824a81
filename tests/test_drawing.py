"""The parts of the drawn pictures: what each promises, and that pictures stay."""

import numpy as np
import pytest

from unet_tutorial.data import drawing
from unet_tutorial.synthetic import draw_cars, draw_cells, draw_membranes

DRAW = {
    "membranes": lambda seed: draw_membranes(128, seed),
    "cells": lambda seed: draw_cells(128, seed),
    "cars": lambda seed: draw_cars(3, (96, 144), seed),
}


@pytest.mark.parametrize(
    "kind, seed, mean, spread, foreground",
    [
        ("membranes", 0, 146.90, 46.78, 2583),
        ("membranes", 7, 160.42, 34.09, 3208),
        ("cells", 0, 121.70, 10.43, 8359),
        ("cells", 7, 121.29, 9.87, 7939),
        ("cars", 0, 146.63, 68.03, 3236),
        ("cars", 7, 143.86, 68.60, 3443),
    ],
)
def test_the_picture_of_a_seed_stays_what_it_was(kind, seed, mean, spread, foreground):
    """Measured results depend on them; another order of random numbers shows here."""
    image, truth = DRAW[kind](seed)
    assert image.mean() == pytest.approx(mean, abs=0.03)
    assert image.std() == pytest.approx(spread, abs=0.03)
    assert np.count_nonzero(truth) == pytest.approx(foreground, abs=4)


def test_clouds_are_smooth_and_around_zero():
    field = drawing.clouds(np.random.default_rng(0), 200, 300, grain=20)
    assert field.shape == (200, 300) and field.dtype == np.float32
    assert abs(field.mean()) < 0.2 and 0.3 < field.std() < 1
    assert np.abs(np.diff(field, axis=1)).max() < 0.25 * np.ptp(field)


def test_stretch_keeps_a_constant_and_a_ramp_rising():
    assert (drawing.stretch(np.full((3, 3), 7), 10, 12) == 7).all()
    ramp = drawing.stretch([[0, 1, 2, 3]], 8, 64)
    assert (np.diff(ramp, axis=1) >= 0).all() and ramp.shape == (8, 64)


def test_a_grid_without_waves_is_the_plain_one():
    ys, xs = drawing.bent_grid(np.random.default_rng(0), 4, 5, waves=[])
    np.testing.assert_array_equal(ys, np.indices((4, 5))[0])
    np.testing.assert_array_equal(xs, np.indices((4, 5))[1])


def test_two_nearest_circles():
    """For circles the distance is exact: to the middle, less the radius."""
    ys, xs = np.indices((60, 90)).astype(np.float32)
    circles = np.array([[30, 20, 10, 10, 0.3], [30, 70, 5, 5, 1.0]])
    first, second, number = drawing.two_nearest(ys, xs, circles, reach=99)
    one = np.hypot(ys - 30, xs - 20) - 10
    two = np.hypot(ys - 30, xs - 70) - 5
    np.testing.assert_allclose(first, np.minimum(one, two), atol=1e-3)
    np.testing.assert_allclose(second, np.maximum(one, two), atol=1e-3)
    np.testing.assert_array_equal(number, np.where(one <= two, 1, 2))


def test_what_is_out_of_reach_belongs_to_no_cell():
    ys, xs = np.indices((64, 200)).astype(np.float32)
    first, _, number = drawing.two_nearest(ys, xs, np.array([[32, 20, 9, 9, 0]]), 5)
    assert number[32, 199] == 0 and first[32, 199] == 99


def test_packed_cells_keep_their_distance():
    cells = drawing.pack(np.random.default_rng(3), 200, 200)
    radii = np.sqrt(cells[:, 2] * cells[:, 3])
    gaps = np.hypot(*(cells[:, None, :2] - cells[None, :, :2]).transpose(2, 0, 1))
    closest = 0.82 * (radii[:, None] + radii[None])
    assert (gaps + 1e3 * np.eye(len(cells)) > closest).all()
    assert radii.max() <= 12 + min(46, 200 / 4)


def test_a_full_turn_is_none_and_a_quarter_turn_swaps_axes():
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 1.0]])
    np.testing.assert_allclose(drawing.turn_points(points, 16), points, atol=1e-12)
    quarter = drawing.turn_points(points, 4)
    np.testing.assert_allclose(quarter[0], [2, -1, 3], atol=1e-12)


def test_what_is_farther_away_is_smaller():
    ends = np.array([0.0, 0.0]), np.array([-1.0, 1.0]), np.array([0.0, 0.0])
    near = drawing.project(ends[0] + 2, ends[1], ends[2], 160, 240)
    far = drawing.project(ends[0] - 2, ends[1], ends[2], 160, 240)
    assert near[2] - near[0] > 1.5 * (far[2] - far[0])


def test_a_surface_under_the_lamp_is_brighter():
    grey, up, down = np.full(3, 100.0), np.array([0, 0, 1.0]), np.array([0, 0, -1.0])
    bright = drawing.lit_colours(grey, up, gloss=0)
    dark = drawing.lit_colours(grey, down, gloss=0)
    assert (bright > dark).all() and (dark == 50).all()


def test_the_shape_of_a_car_is_one_of_four_and_symmetric():
    skin, glass, door = drawing.car_body(np.random.default_rng(2))
    np.testing.assert_allclose(skin[:, ::-1, 1], -skin[:, :, 1], atol=1e-12)
    np.testing.assert_array_equal(glass, glass[:, ::-1])
    lengths = [shape[0] for shape in drawing.SHAPES]
    length = np.ptp(skin[..., 0])
    assert any(0.97 <= length / known <= 1.03 for known in lengths)
    assert 0.2 < door < 0.4
