"""The tasks of 01_synthetic: truths of three challenges, and a picture of one's own."""

import numpy as np

from unet_tutorial.tasks import Task


def check_foreground(foreground):
    car = np.uint8([[0, 1, 1, 0], [0, 1, 0, 0]])
    found = np.asarray(foreground(car, "carvana"))
    if found.dtype.kind == "f" and 0 < found.max() < 0.01:
        return (
            "1 / 255 is 0.004: in a mask with a palette 1 is the car, not a grey value"
        )
    if found.dtype != bool:
        return f"a mask is boolean, and yours is {found.dtype}: compare, do not convert"
    if not found.any():
        return "there is no car: the file holds 0 and 1, and only its palette says 255"
    if (found == (car == 0)).all():
        return "in the masks of Carvana 1 is the car, and you return its surroundings"
    membranes = np.uint8([[0, 0, 255, 255], [255, 0, 255, 255]])
    found = np.asarray(foreground(membranes, "isbi"))
    if (found == (membranes > 0)).all():
        return "in the labels of ISBI 0 is the membrane, and you return the inside of cells"
    cells = np.uint16([[0, 1, 1, 2], [0, 256, 0, 2]])
    missed = cells[(cells > 0) & ~np.asarray(foreground(cells, "ctc"))]
    if 256 in missed and 2 in missed:
        return (
            "of the cells 1, 2 and 256 only the first is found: each has its own number"
        )
    if 256 in missed:
        return "cell 256 is lost: the truth has 16 bits, and 256 in 8 bits is 0"
    if missed.size:
        return f"cell {missed[0]} is not found: each number but 0 is a cell"
    truths = {"carvana": (car, car > 0), "isbi": (membranes, membranes == 0)}
    truths["ctc"] = cells, cells > 0
    for challenge, (values, mask) in truths.items():
        if not np.array_equal(foreground(values, challenge), mask):
            return f"for {challenge} and {values.tolist()} the mask is {mask.tolist()}"
    return None


def check_draw_disc(draw_disc):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    (image, mask), again, other = draw_disc(96, 0), draw_disc(96, 0), draw_disc(96, 1)
    after = np.random.get_state()[1].tolist()  # noqa: NPY002
    if not np.array_equal(mask, again[1]):
        return "twice the same seed, and the disc is elsewhere: make a generator from `seed`"
    if not np.array_equal(image, again[0]):
        return (
            "twice the same seed, and the noise differs: one generator draws everything"
        )
    if before != after:
        return "you set the seed of everybody's random numbers: make a generator of your own"
    if np.array_equal(mask, other[1]):
        return "seeds 0 and 1 put the disc at the same place: is the seed fixed?"
    if mask.dtype != bool or image.dtype != np.uint8 or not image.shape == (96, 96):
        return f"image and mask are {image.dtype} {image.shape} and {mask.dtype}"
    for seed in range(4):
        image, mask = draw_disc(96, seed)
        if abs(mask.sum() - np.pi * 24**2) > 60:
            return "the mask is not the disc, of about 1810 pixels: make it before the noise"
        rows, columns = mask.nonzero()
        if np.hypot(rows - np.median(rows), columns - np.median(columns)).max() > 28:
            return (
                "pixels far from the disc are in the mask: no threshold finds the truth"
            )
        inside, outside = image[mask].astype(int), image[~mask].astype(int)
        bright, dark = np.median(inside), np.median(outside)
        if bright < dark:
            return "the disc is dark, 60, and the rest is bright, 200: exchange the two"
        if abs(bright - 200) > 5 or abs(dark - 60) > 5:
            return (
                f"the disc is about {bright:.0f}, the rest {dark:.0f}: not 200 and 60"
            )
        if (inside < 40).any() or (outside > 220).any():
            return "black dots in the disc, white ones around it: 260 in 8 bits is 4; clip first"
        if not 20 < outside.std() < 35:
            return f"the noise has a deviation of {outside.std():.0f}, not of 30"
    return None


TASKS = [
    Task(
        number="1.1",
        title="Three truths, one mask",
        ask="""
            Files of truth are read by `values = np.array(Image.open(path))`. Turn such an array into a
            boolean mask that is true where there is membrane (`challenge` is `"isbi"`), a cell
            (`"ctc"`) or a car (`"carvana"`). What each file holds is said above.
        """,
        code='''
            def foreground(values, challenge):
                """Return the mask (H, W) bool of a truth, from what its file holds."""
                # solution
                if challenge == "isbi":
                    return values == 0  # 255 is the inside of a cell
                return values > 0  # the number of a cell; entry 1 of a palette
                # end
        ''',
        checker=check_foreground,
        hints=(
            "Which numbers are in each of the three files, and which of them is background?",
            """
            ISBI: 0 is the membrane. Cell Tracking Challenge: each cell has a number, up to 65535.
            Carvana: 0 and 1 are entries of a palette, and 1 is the car.
            """,
            """
            if challenge == "isbi":
                return values == ...
            return values ...  # one comparison is enough for the other two
            """,
        ),
        wrong={
            "1 / 255 is 0.004: in a mask with a palette 1 is the car, not a grey value": """
                mask = values / 255
                return 1 - mask if challenge == "isbi" else mask
            """,
            "there is no car: the file holds 0 and 1, and only its palette says 255": """
                mask = values > 127
                return ~mask if challenge == "isbi" else mask
            """,
            "in the labels of ISBI 0 is the membrane, and you return the inside of cells": """
                return values > 0
            """,
            "of the cells 1, 2 and 256 only the first is found: each has its own number": """
                if challenge == "isbi":
                    return values == 0
                return values == 1
            """,
            "cell 256 is lost: the truth has 16 bits, and 256 in 8 bits is 0": """
                values = values.astype(np.uint8)
                return values == 0 if challenge == "isbi" else values > 0
            """,
            "a mask is boolean, and yours is uint8: compare, do not convert": """
                if challenge == "isbi":
                    return np.uint8(values == 0)
                return np.uint8(values > 0)
            """,
        },
        why="`> 0` serves cells and cars alike, and would turn the labels of ISBI inside out.",
    ),
    Task(
        number="1.2",
        title="A picture and its truth",
        ask="""
            Draw a data set of your own: a bright disc of radius `size / 4` whose middle is anywhere
            between `size / 4` and `3 * size / 4` in both directions. The disc has the grey value 200,
            the rest 60, and everything has normal noise with a deviation of 30. Return the image
            `(size, size)` uint8 and its mask. The same seed gives the same picture.
        """,
        code='''
            def draw_disc(size, seed):
                """Return an image (size, size) uint8 and its mask (size, size) bool."""
                # solution
                rows, columns = np.mgrid[:size, :size]
                rng = np.random.default_rng(seed)
                row, column = rng.uniform(size / 4, 3 * size / 4, 2)
                mask = np.hypot(rows - row, columns - column) < size / 4
                grey = np.where(mask, 200, 60) + rng.normal(0, 30, mask.shape)
                return np.clip(grey, 0, 255).astype(np.uint8), mask
                # end
        ''',
        checker=check_draw_disc,
        hints=(
            "What does 200 become with a noise of +60, and does that fit into 8 bits?",
            """
            Everything random comes from one generator that is made from the seed. The mask comes from
            the shape, before there is any noise. Clip to 0 and 255, then change the type.
            """,
            """
            rng = ...
            rows, columns = np.mgrid[:size, :size]
            row, column = rng.uniform(size / 4, 3 * size / 4, 2)
            mask = np.hypot(...) < size / 4
            grey = np.where(mask, 200, 60) + ...
            return ..., mask
            """,
        ),
        wrong={
            "twice the same seed, and the disc is elsewhere: make a generator from `seed`": """
                rows, columns = np.mgrid[:size, :size]
                row, column = np.random.uniform(size / 4, 3 * size / 4, 2)
                mask = np.hypot(rows - row, columns - column) < size / 4
                grey = np.where(mask, 200, 60) + np.random.normal(0, 30, mask.shape)
                return np.clip(grey, 0, 255).astype(np.uint8), mask
            """,
            "twice the same seed, and the noise differs: one generator draws everything": """
                rng = np.random.default_rng(seed)
                rows, columns = np.mgrid[:size, :size]
                row, column = rng.uniform(size / 4, 3 * size / 4, 2)
                mask = np.hypot(rows - row, columns - column) < size / 4
                grey = np.where(mask, 200, 60) + np.random.normal(0, 30, mask.shape)
                return np.clip(grey, 0, 255).astype(np.uint8), mask
            """,
            "you set the seed of everybody's random numbers: make a generator of your own": """
                np.random.seed(seed)
                rows, columns = np.mgrid[:size, :size]
                row, column = np.random.uniform(size / 4, 3 * size / 4, 2)
                mask = np.hypot(rows - row, columns - column) < size / 4
                grey = np.where(mask, 200, 60) + np.random.normal(0, 30, mask.shape)
                return np.clip(grey, 0, 255).astype(np.uint8), mask
            """,
            "seeds 0 and 1 put the disc at the same place: is the seed fixed?": """
                rng = np.random.default_rng(0)
                rows, columns = np.mgrid[:size, :size]
                row, column = rng.uniform(size / 4, 3 * size / 4, 2)
                mask = np.hypot(rows - row, columns - column) < size / 4
                grey = np.where(mask, 200, 60) + rng.normal(0, 30, mask.shape)
                return np.clip(grey, 0, 255).astype(np.uint8), mask
            """,
            "black dots in the disc, white ones around it: 260 in 8 bits is 4; clip first": """
                rng = np.random.default_rng(seed)
                rows, columns = np.mgrid[:size, :size]
                row, column = rng.uniform(size / 4, 3 * size / 4, 2)
                mask = np.hypot(rows - row, columns - column) < size / 4
                noise = rng.normal(0, 30, mask.shape).astype(int)
                return (np.where(mask, 200, 60) + noise).astype(np.uint8), mask
            """,
            "pixels far from the disc are in the mask: no threshold finds the truth": """
                rng = np.random.default_rng(seed)
                row, column = rng.uniform(size / 4, 3 * size / 4, 2)
                rows, columns = np.mgrid[:size, :size]
                inside = np.hypot(rows - row, columns - column) <= size / 4
                noise = rng.normal(0, 30, inside.shape)
                image = np.clip(np.where(inside, 200, 60) + noise, 0, 255)
                return image.astype(np.uint8), image > 135
            """,
            "the mask is not the disc, of about 1810 pixels: make it before the noise": """
                rng = np.random.default_rng(seed)
                rows, columns = np.mgrid[:size, :size]
                row, column = rng.uniform(size / 4, 3 * size / 4, 2)
                disc = np.hypot(rows - row, columns - column) < size / 4
                grey = np.where(disc, 200, 60) + rng.normal(0, 60, disc.shape)
                return np.clip(grey, 0, 255).astype(np.uint8), grey > 100
            """,
            "the disc is dark, 60, and the rest is bright, 200: exchange the two": """
                rng = np.random.default_rng(seed)
                rows, columns = np.mgrid[:size, :size]
                row, column = rng.uniform(size / 4, 3 * size / 4, 2)
                mask = np.hypot(rows - row, columns - column) < size / 4
                grey = np.where(mask, 60, 200) + rng.normal(0, 30, mask.shape)
                return np.clip(grey, 0, 255).astype(np.uint8), mask
            """,
        },
        why="""
            The truth is drawn first, and the image from it: whatever the noise does, the mask is right.
        """,
    ),
]
