"""The tasks of 06_tiles: what a tile needs, where the last begins, one scale for all."""

import weakref

import numpy as np

from unet_tutorial.tasks import Task

FLAT = "a tile at the border is wrong: beyond it there must be the mirror"


def ramp(height, width):
    "An image in which every pixel is another number, (H, W)."
    return np.arange(float(height * width)).reshape(height, width)


def check_input_tile(input_tile):
    image, side, m = ramp(40, 50), 8, 6
    inside = input_tile(image, 16, 24, side, m)
    if inside.shape == (side + m, side + m):
        return "the margin is needed on both sides: a tile of 8 needs 8 + 2 * 6 pixels"
    if inside.shape != (20, 20):
        return (
            f"8 pixels with a margin of 6 on each side are 20; yours are {inside.shape}"
        )
    expected = image[10:30, 18:38]
    if np.array_equal(inside, np.pad(image[16:24, 24:32], m, mode="reflect")):
        return "the tile is its own mirror: inside the image, take the real neighbours"
    if not np.isin(inside, image).all():
        return "numbers come out that the image does not hold"
    if inside[0, 0] != expected[0, 0]:
        place = tuple(int(n) for n in divmod(inside[0, 0], 50))
        return (
            f"the input tile of (16, 24) begins at (10, 18) of the image, not {place}"
        )
    if not np.array_equal(inside, expected):
        return "the first pixel is right, and others are not in their place"
    return check_corners(input_tile, image, side, m)


def check_corners(input_tile, image, side, m):
    "What is wrong with tiles at the border of the image."
    around = np.pad(image, m, mode="reflect")
    twice = np.pad(image, m, mode="symmetric")
    for top, left in [(0, 0), (32, 42), (0, 24)]:
        found = input_tile(image, top, left, side, m)
        place = np.s_[top : top + side + 2 * m, left : left + side + 2 * m]
        if found.shape != (side + 2 * m,) * 2:
            return (
                f"the tile at ({top}, {left}) is {found.shape}: its margin is cut off"
            )
        if np.array_equal(found, twice[place]):
            return (
                "the border pixel is there twice: the paper's mirror does not repeat it"
            )
        if not np.array_equal(found, around[place]):
            return FLAT
    return None


def check_starts_inside(starts_inside):
    first = list(starts_inside(1000, 388, 4))
    known = {
        (0, 384, 768): "the last tile is where it was: it reaches beyond the image",
        (
            0,
            384,
            612,
        ): "612 is no multiple of 16: the poolings of this tile are shifted",
        (0, 384, 608): "608 + 388 is 996: the last 4 pixels get no answer; round up",
        (0, 388, 612): "388 is no multiple of 16: bug one",
        (0, 388, 776): "388 is no multiple of 16: bug one",
    }
    if tuple(first) in known:
        return known[tuple(first)]
    if first != [0, 384, 624]:
        return f"1000 pixels, tiles of 388: [0, 384, 624], and not {first}"
    for size in range(1, 130):
        for tile, depth in [(36, 3), (20, 2), (24, 3), (18, 1)]:
            given, step = list(starts_inside(size, tile, depth)), 2**depth
            if min(given) < 0:
                return f"{size} pixel, a tile of {tile}: it begins before the image"
            if given[-1] + tile < size:
                return f"{size} pixels, tiles of {tile}: {given} do not reach the end"
            if any(start % step for start in given):
                return f"depth {depth}: {given} are not all multiples of {step}"
            if given[-1] - step >= 0 and given[-1] - step + tile >= size:
                return f"{size} pixels, tiles of {tile}: the last could begin earlier"
    return None


def most_kept(one_scale, parts):
    "How many tiles that have come one by one are in use at the same time."
    alive, counts = weakref.WeakSet(), []

    class Tile(np.ndarray):
        __hash__ = object.__hash__

    def one_by_one():
        for part in parts:
            tile = part.copy().view(Tile)
            alive.add(tile)
            yield tile
            del tile
            counts.append(len(alive))

    one_scale(one_by_one())
    return max(counts)


def check_one_scale(one_scale):
    parts = [np.full((4, 9), 10.0), np.full((4, 3), 30.0), np.full((4, 3), 50.0)]
    parts[0][:, :3] = 16.0
    every = np.concatenate([part.ravel() for part in parts])
    mean, std = one_scale(parts)
    means = np.array([part.mean() for part in parts])
    sizes = np.array([part.size for part in parts])
    if np.isclose(mean, means.mean()):
        return "the mean of means counts a pixel of a small tile more: weigh by `size`"
    if not np.isclose(mean, every.mean()):
        return f"the mean of these tiles is {every.mean():g}, not {mean:g}"
    variances = np.array([part.var() for part in parts])
    wrong = {
        "the deviations are averaged, and how far the tiles are apart is forgotten": (
            np.average(np.sqrt(variances), weights=sizes),
            np.average(variances, weights=sizes) ** 0.5,
            np.sqrt(variances).mean(),
            variances.mean() ** 0.5,
        ),
        "that is the variance; its root is missing": (every.var(),),
        "that is the root of the mean square; subtract the square of the mean": (
            np.mean(every**2) ** 0.5,
        ),
        "that is the deviation of the tiles' means, without what is inside them": (
            means.std(),
        ),
    }
    for text, numbers in wrong.items():
        if np.isclose(std, numbers).any():
            return text
    if not np.isclose(std, every.std()):
        return f"the deviation of these tiles is {every.std():.4g}, not {std:.4g}"
    bytes_ = [np.full((4, 4), 200, np.uint8), np.full((4, 4), 100, np.uint8)]
    with np.errstate(invalid="ignore"):
        scale = one_scale(bytes_)
    if not np.allclose(scale, (150, 50)):
        return "bytes overflow when they are squared: make them float first"
    mean, std = one_scale(part for part in parts)
    if not np.allclose([mean, std], [every.mean(), every.std()]):
        return "tiles that come one by one are gone after the first walk over them"
    if most_kept(one_scale, parts) == len(parts):
        return "all tiles are in memory at once: keep three numbers, and no tile"
    return None


TASKS = [
    Task(
        number="6.1",
        title="What the net must see",
        ask="""
            An output tile of `side` pixels begins at (`top`, `left`) of an image (H, W) and is wholly
            inside it. Return what the net must see: the same pixels with `margin` more on every side,
            mirrored where the image ends. Do it with numpy alone, without `read_window`; a mirrored
            copy of the image is allowed.
        """,
        code='''
            def input_tile(image, top, left, side, margin):
                """Return the input tile of the output tile at (top, left)."""
                # solution
                around = np.pad(image, margin, mode="reflect")
                width = side + 2 * margin
                return around[top : top + width, left : left + width]
                # end
        ''',
        checker=check_input_tile,
        hints=(
            "Where in the mirrored copy is pixel (0, 0) of the image?",
            """
            `np.pad` moves every pixel by the margin, down and to the right. The input tile begins one
            margin before the output tile. These two shifts cancel.
            """,
            """
            around = np.pad(image, ..., mode=...)
            width = ...
            return around[top : top + width, ...]
            """,
        ),
        wrong={
            "the tile is its own mirror: inside the image, take the real neighbours": """
                tile = image[top : top + side, left : left + side]
                return np.pad(tile, margin, mode="reflect")
            """,
            "the border pixel is there twice: the paper's mirror does not repeat it": """
                around = np.pad(image, margin, mode="symmetric")
                width = side + 2 * margin
                return around[top : top + width, left : left + width]
            """,
            "a tile at the border is wrong: beyond it there must be the mirror": """
                around = np.pad(image, margin)
                width = side + 2 * margin
                return around[top : top + width, left : left + width]
            """,
            "the margin is needed on both sides: a tile of 8 needs 8 + 2 * 6 pixels": """
                around = np.pad(image, margin, mode="reflect")
                width = side + margin
                return around[top : top + width, left : left + width]
            """,
            "the input tile of (16, 24) begins at (10, 18) of the image, not (16, 24)": """
                around = np.pad(image, margin, mode="reflect")
                start, begin, width = top + margin, left + margin, side + 2 * margin
                return around[start : start + width, begin : begin + width]
            """,
            "the tile at (0, 0) is (14, 14): its margin is cut off": """
                rows = slice(max(top - margin, 0), top + side + margin)
                return image[rows, max(left - margin, 0) : left + side + margin]
            """,
        },
        why="""
            The corner of the output tile in the image is the corner of the input tile in the mirrored
            copy. `read_window` gives the same without the copy, and for tiles that reach over the border.
        """,
    ),
    Task(
        number="6.2",
        title="The last tile, moved back",
        ask="""
            The last tile of `tile_starts` may reach far beyond the image, and what it says there is
            thrown away. Move it back as far as possible. It must still answer for the last pixel, and begin
            where the poolings form the same groups as in the other tiles. No tile begins before the
            image. For 1000 pixels and the paper's net that gives `[0, 384, 624]`.
        """,
        code='''
            def starts_inside(size, tile, depth):
                """List where the output tiles of one axis begin, the last moved back."""
                # solution
                starts, step = list(tile_starts(size, tile, depth)), 2**depth
                needed = max(size - tile, 0)
                starts[-1] = needed + -needed % step  # up to the next multiple
                return starts
                # end
        ''',
        checker=check_starts_inside,
        hints=(
            "Where would the last tile begin if the poolings did not matter?",
            """
            `size - tile` is the earliest start that still reaches the last pixel. It must be a multiple
            of `2**depth`: rounded down it leaves pixels without an answer, so round up.
            """,
            """
            starts, step = list(tile_starts(size, tile, depth)), ...
            needed = max(..., 0)
            starts[-1] = ...
            return starts
            """,
        ),
        wrong={
            "612 is no multiple of 16: the poolings of this tile are shifted": """
                starts = list(tile_starts(size, tile, depth))
                starts[-1] = max(size - tile, 0)
                return starts
            """,
            "608 + 388 is 996: the last 4 pixels get no answer; round up": """
                starts, step = list(tile_starts(size, tile, depth)), 2**depth
                starts[-1] = max(size - tile, 0) // step * step
                return starts
            """,
            "388 is no multiple of 16: bug one": """
                starts = list(range(0, size - tile, tile))
                return [*starts, size - tile]
            """,
            "the last tile is where it was: it reaches beyond the image": """
                return list(tile_starts(size, tile, depth))
            """,
            "1 pixel, a tile of 36: it begins before the image": """
                starts, step = list(tile_starts(size, tile, depth)), 2**depth
                starts[-1] = size - tile + (tile - size) % step
                return starts
            """,
        },
        why="""
            At 1000 pixels the last tile reaches 12 pixels beyond the border instead of 156. Some pixels
            get a second answer from it, and it equals the first.
        """,
    ),
    Task(
        number="6.3",
        title="Mean and deviation, tile by tile",
        ask="""
            An image too large for the memory arrives as tiles of different sizes that do not overlap,
            one after another, each only once. Return the mean and the deviation of the whole image as
            two numbers. (You may gather three numbers on the way; no tile may be kept.)
        """,
        code='''
            def one_scale(tiles):
                """Return mean and deviation of all pixels of all tiles."""
                # solution
                count, total, squares = 0, 0.0, 0.0
                for tile in tiles:
                    tile = np.asarray(tile, float)
                    count += tile.size
                    total += tile.sum()
                    squares += (tile**2).sum()
                mean = total / count
                return mean, (squares / count - mean**2) ** 0.5
                # end
        ''',
        checker=check_one_scale,
        hints=(
            "Which numbers of two tiles may simply be added?",
            """
            Three numbers can be added up from tile to tile: how many pixels there are, their sum, and
            the sum of their squares. The variance is the mean of the squares less the square of the
            mean.
            """,
            """
            count, total, squares = 0, 0.0, 0.0
            for tile in tiles:
                tile = np.asarray(tile, float)
                count += ...
                total += ...
                squares += ...
            mean = ...
            return mean, ...
            """,
        ),
        wrong={
            "the mean of means counts a pixel of a small tile more: weigh by `size`": """
                tiles = list(tiles)
                return np.mean([t.mean() for t in tiles]), np.mean([t.std() for t in tiles])
            """,
            "the deviations are averaged, and how far the tiles are apart is forgotten": """
                tiles = list(tiles)
                sizes = [tile.size for tile in tiles]
                mean = np.average([tile.mean() for tile in tiles], weights=sizes)
                return mean, np.average([tile.std() for tile in tiles], weights=sizes)
            """,
            "that is the variance; its root is missing": """
                every = np.concatenate([np.ravel(tile) for tile in tiles])
                return every.mean(), every.var()
            """,
            "that is the root of the mean square; subtract the square of the mean": """
                every = np.concatenate([np.ravel(tile) for tile in tiles])
                return every.mean(), np.mean(every**2) ** 0.5
            """,
            "all tiles are in memory at once: keep three numbers, and no tile": """
                every = np.concatenate([np.ravel(tile) for tile in tiles])
                return every.mean(), every.std()
            """,
            "bytes overflow when they are squared: make them float first": """
                count, total, squares = 0, 0.0, 0.0
                for tile in tiles:
                    count += tile.size
                    total += tile.sum()
                    squares += (tile**2).sum()
                mean = total / count
                return mean, (squares / count - mean**2) ** 0.5
            """,
            "tiles that come one by one are gone after the first walk over them": """
                count = sum(tile.size for tile in tiles)
                mean = sum(tile.sum(dtype=float) for tile in tiles) / max(count, 1)
                far = sum(((tile - mean) ** 2).sum() for tile in tiles)
                return mean, (far / max(count, 1)) ** 0.5
            """,
        },
        why="""
            If the mean of an image is far above its deviation, the difference of two large numbers loses
            digits. Programs that need these digits keep a running mean, and add up the squared
            distances from it.
        """,
    ),
]
