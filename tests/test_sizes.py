"""The arithmetic of sizes, against a net that is walked through step by step."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_tutorial.sizes import (
    crop_margins,
    nearest_valid_sizes,
    output_size,
    receptive_field,
    valid_sizes,
)

DEPTHS = range(6)


def convolve_twice(size):
    "The size after two unpadded 3x3 convolutions, or None when a window does not fit."
    for _ in range(2):
        if size < 3:
            return None
        size -= 2
    return size


def walk(size, depth):
    "Go through the net step by step: (output size, crops); None for a wrong size."
    skips = []
    for _ in range(depth):
        size = convolve_twice(size)
        if size is None or size % 2:
            return None
        skips.append(size)
        size //= 2
    size = convolve_twice(size)
    crops = []
    for skip in reversed(skips):
        if size is None:
            return None
        size *= 2
        assert (skip - size) % 2 == 0
        crops.append((skip - size) // 2)
        size = convolve_twice(size)
    return None if size is None else (size, tuple(crops))


def dependencies(size, depth):
    "Which input pixels (columns) each pixel of output and bottom (rows) depends on."

    def convolve_twice(seen):
        for _ in range(2):
            seen = seen[:-2] | seen[1:-1] | seen[2:]
        return seen

    seen, skips = np.eye(size, dtype=bool), []
    for _ in range(depth):
        seen = convolve_twice(seen)
        skips.append(seen)
        seen = seen[::2] | seen[1::2]  # pooling
    bottom = seen = convolve_twice(seen)
    for skip in reversed(skips):
        seen = np.repeat(seen, 2, axis=0)  # up-convolution
        crop = (len(skip) - len(seen)) // 2
        seen = convolve_twice(seen | skip[crop : crop + len(seen)])
    return seen, bottom


def test_the_numbers_of_the_paper():
    assert output_size() == output_size(572) == 388
    assert crop_margins() == crop_margins(572) == (4, 16, 40, 88)
    assert nearest_valid_sizes(570) == (556, 572)
    assert nearest_valid_sizes(572) == (572, 572)
    assert nearest_valid_sizes(100) == (None, 188)
    assert valid_sizes(220) == [188, 204]
    assert output_size(188) == 4
    assert {len(receptive_field(pixel)) for pixel in range(388)} == {188, 204}
    assert len(receptive_field(0, at="bottom")) == 140


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_size_to_2000_against_the_walk(depth):
    walked = {size: walk(size, depth) for size in range(-3, 2001)}
    right = [size for size, result in walked.items() if result]
    assert valid_sizes(2001, start=-3, depth=depth) == right
    for size, result in walked.items():
        if result:
            assert (output_size(size, depth), crop_margins(size, depth)) == result
            assert nearest_valid_sizes(size, depth) == (size, size)
        else:
            for function in (output_size, crop_margins):
                with pytest.raises(
                    ValueError, match=f"^{size} is not a valid tile size"
                ):
                    function(size, depth)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_neighbour_to_2000(depth):
    right = np.array(valid_sizes(2100, depth=depth))
    for size in range(2001):
        below, above = nearest_valid_sizes(size, depth)
        assert above == right[right >= size].min()
        assert below == (right[right <= size].max() if size >= right[0] else None)


@pytest.mark.parametrize("depth", DEPTHS)
def test_receptive_fields_against_propagated_dependencies(depth):
    smallest = valid_sizes(1000, depth=depth)[0]
    size = smallest + 2 * 2**depth
    for at, seen in zip(("output", "bottom"), dependencies(size, depth), strict=True):
        for pixel, row in enumerate(seen):
            assert (
                list(receptive_field(pixel, depth, at)) == np.flatnonzero(row).tolist()
            )
        assert seen.any(axis=0).all()  # no input pixel is without use


@pytest.mark.parametrize("depth", DEPTHS)
def test_no_field_leaves_its_tile(depth):
    for size in valid_sizes(2000, depth=depth)[::5]:
        last = output_size(size, depth) - 1
        assert receptive_field(0, depth).start == 0
        assert receptive_field(last, depth).stop == size


@given(st.integers(-10, 10**6), st.integers(0, 10))
def test_the_neighbours_of_any_size(size, depth):
    below, above = nearest_valid_sizes(size, depth)
    step = 2**depth
    assert valid_sizes(above + 1, start=above, depth=depth) == [above]
    if below is None:
        assert size < above == valid_sizes(above + 1, depth=depth)[0]
    else:
        assert below <= size <= above
        assert above - below == (0 if below == size else step)
        assert output_size(below, depth) == below - (12 * step - 8)


@given(st.integers(0, 10**4), st.integers(0, 6))
def test_fields_move_with_the_pixel(pixel, depth):
    step = 2**depth
    here, there = receptive_field(pixel, depth), receptive_field(pixel + step, depth)
    assert there == range(here.start + step, here.stop + step)
    margin = (12 * step - 8) // 2
    assert here.start <= pixel
    assert here.stop > pixel + 2 * margin


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 5))
def test_valid_sizes_is_a_slice_of_all(start, stop, depth):
    everything = valid_sizes(3000, depth=depth)
    expected = [size for size in everything if start <= size < stop]
    assert valid_sizes(stop, start, depth) == expected


def test_a_wrong_size_names_the_right_ones():
    with pytest.raises(ValueError) as error:
        output_size(570)
    message = "570 is not a valid tile size; the nearest are 556 and 572"
    assert str(error.value) == message
    with pytest.raises(ValueError) as error:
        crop_margins(100)
    assert str(error.value) == "100 is not a valid tile size; the smallest is 188"


@pytest.mark.parametrize("value", [572.0, "572", None, True, np.True_, (572, 572)])
def test_only_integers_are_sizes(value):
    calls = [
        lambda: output_size(value),
        lambda: output_size(572, value),
        lambda: valid_sizes(value),
        lambda: valid_sizes(600, start=value),
        lambda: valid_sizes(600, depth=value),
        lambda: nearest_valid_sizes(value),
        lambda: nearest_valid_sizes(572, depth=value),
        lambda: crop_margins(value),
        lambda: receptive_field(value),
        lambda: receptive_field(0, depth=value),
    ]
    for call in calls:
        with pytest.raises(
            TypeError, match=r"(size|depth|stop|start|pixel) must be an int"
        ):
            call()


def test_negative_depths_and_pixels_are_refused():
    for call in (output_size, nearest_valid_sizes, crop_margins, valid_sizes):
        with pytest.raises(ValueError, match="depth must be at least 0, got -1"):
            call(572, depth=-1)
    with pytest.raises(ValueError, match="depth must be at least 0, got -1"):
        receptive_field(0, depth=-1)
    with pytest.raises(ValueError, match="pixel must be at least 0, got -5"):
        receptive_field(-5)
    with pytest.raises(ValueError, match='"output" or "bottom", got \'top\''):
        receptive_field(0, at="top")


def test_integers_of_numpy_are_welcome():
    sizes = [output_size(np.int64(572)), *nearest_valid_sizes(np.uint8(200))]
    assert sizes == [388, 188, 204]
    assert {type(size) for size in sizes} == {int}
    assert type(receptive_field(np.int32(3)).start) is int


def test_a_real_net_sees_what_the_arithmetic_says():
    torch = pytest.importorskip("torch")
    depth, size = 4, 220
    ones = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)

    def convolve_twice(x):
        for _ in range(2):
            x = torch.nn.functional.conv2d(x, ones)
        return x

    image = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    x, skips = image, []
    for _ in range(depth):
        x = convolve_twice(x)
        skips.append(x)
        # Max pooling would send the gradient to one pixel of the four that it sees.
        x = torch.nn.functional.avg_pool2d(x, 2)
    bottom = x = convolve_twice(x)
    for skip, crop in zip(reversed(skips), crop_margins(size, depth), strict=True):
        x = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
        x = convolve_twice(x + skip[..., crop:-crop, crop:-crop])
    assert x.shape[-1] == output_size(size, depth) == 36

    for at, feature, pixels in [
        ("output", x, (0, 3, 4, 35)),
        ("bottom", bottom, (0, 5)),
    ]:
        for pixel in pixels:
            value = feature[0, 0, pixel, 0]
            (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
            rows = gradient[0, 0].sum(dim=1).nonzero().flatten().tolist()
            assert rows == list(receptive_field(pixel, depth, at))


def test_only_the_standard_library_is_imported():
    code = (
        "import sys, unet_tutorial.sizes;"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
