"""The tasks of 15_membranes: hold out a block, choose a threshold, thicken the walls."""

import numpy as np
from scipy import ndimage

from unet_tutorial.tasks import Task


def check_hold_out(hold_out):
    whole = set(range(30))
    answer = hold_out(30, 12, 18)
    if len(answer) != 2:
        text = "return two lists, to learn from and held out"
        return f"{text}, not {len(answer)} things"
    learned, checked = answer
    if set(learned) & set(checked):
        return f"slice {min(set(learned) & set(checked))} is in both lists"
    sizes = {
        5: "you hold out 12 to 16; six slices are meant, 12 to 17",
        7: "you hold out 12 to 18; `last` is not held out itself",
    }
    if len(checked) in sizes and sorted(checked) == list(range(12, 12 + len(checked))):
        return sizes[len(checked)]
    if sorted(learned) == list(range(12, 18)):
        return "the two lists are swapped: first the slices to learn from"
    if sorted(checked) != list(range(12, 18)):
        return f"slices 12 to 17 are to be held out, not {sorted(checked)}"
    unused = whole - set(learned) - set(checked)
    words = {
        (): "slice 11 is trained on and is 50 nm from slice 12, which is held out",
        (11,): "the block has two ends: slice 18 is trained on, beside slice 17",
        (18,): "the block has two ends: slice 11 is trained on, beside slice 12",
    }
    if tuple(sorted(unused)) in words:
        return words[tuple(sorted(unused))]
    if unused != {11, 18}:
        return f"unused are {sorted(unused)}; 11 and 18 are enough"
    for first, last, gap in ((0, 6, {6}), (24, 30, {23})):
        learned, checked = hold_out(30, first, last)
        missing = whole - set(learned) - set(checked)
        where = f"hold_out(30, {first}, {last})"
        if both := set(learned) & set(checked):
            return f"{where}: slice {min(both)} is in both lists"
        if outside := (set(learned) | set(checked)) - whole:
            return f"{where}: there is no slice {min(outside)} in a stack of 30"
        if missing != gap:
            return f"{where}: unused are {sorted(missing)}, and {sorted(gap)} would do"
    return None


def table_of(errors):
    "An error that is read from a table; the two parts are told apart by their p."

    def error_of(p, truth, threshold):
        return errors[p][threshold]

    return error_of


def check_fair_error(fair_error):
    errors = {
        "p of training": {0.2: 0.30, 0.4: 0.14, 0.6: 0.15, 0.8: 0.40},
        "p of held-out": {0.2: 0.35, 0.4: 0.22, 0.6: 0.20, 0.8: 0.50},
    }
    seen, unseen = (("p of " + name, "truth") for name in ("training", "held-out"))
    result = fair_error(table_of(errors), seen, unseen, [0.2, 0.4, 0.6, 0.8])
    if not isinstance(result, tuple | list) or len(result) != 2:
        return f"two numbers are meant, threshold and error, not {result!r}"
    threshold, error = result
    known = {
        (0.6, 0.20): "0.6 was chosen on held-out slices; choose on training slices",
        (0.4, 0.14): "0.14 is the error of training slices; report the held-out one",
        (0.22, 0.4): "the two numbers are swapped: first the threshold, then the error",
        (0.4, 0.20): "0.20 is not the error at 0.4; report the held-out error there",
        (0.8, 0.50): "0.8 has the largest error of the training slices: take the least",
        (
            1,
            0.22,
        ): "1 is the place of the threshold in the list, and the threshold is 0.4",
    }
    if (threshold, error) in known:
        return known[threshold, error]
    if (threshold, error) != (0.4, 0.22):
        return f"the threshold is 0.4 and its error 0.22, not {threshold} and {error}"
    return None


def check_thicker(thicker):
    masks = np.zeros((3, 9, 9), bool)
    masks[1, 4] = True  # a line in the middle slice
    grown = np.asarray(thicker(masks.copy(), 1))
    if grown.shape != masks.shape:
        return f"three slices of 9 x 9 pixels come back as {grown.shape}"
    if grown[0].any() or grown[2].any():
        return "a membrane of one slice grows into the next: treat each by itself"
    grown = grown > 0
    if grown[1].sum() < 9:
        return "the membranes have become thinner: what grows are the cells"
    point = np.zeros((1, 9, 9), bool)
    point[0, 0, 4] = True  # at the upper edge
    around = np.asarray(thicker(point.copy(), 1))[0] > 0
    if around[-1].any():
        return "what leaves the slice at one edge comes back at the other"
    if around[1, 3]:
        return "a pixel has four direct neighbours; yours grow over corners, too"
    if grown[1].sum() != 27 or not grown[1, 3:6].all():
        return f"a line of 9 pixels becomes 27 in three rows, not {grown[1].sum()}"
    none = np.asarray(thicker(masks.copy(), 0)) > 0
    if none.all(axis=(1, 2)).any():
        return (
            "with 0 pixels a whole slice fills up: `iterations=0` repeats without end"
        )
    if not np.array_equal(none, masks):
        return "with 0 pixels nothing should change"
    wide = np.asarray(thicker(masks.copy(), 2)) > 0
    if wide.sum() != 45:
        return f"with 2 pixels a line is five rows wide, not {wide.sum() / 9:g}"
    random = np.random.default_rng(0).random((2, 12, 12)) < 0.1
    right = np.stack([ndimage.binary_dilation(mask) for mask in random])
    if not np.array_equal(np.asarray(thicker(random.copy(), 1)) > 0, right):
        return "a line grows as it should, and scattered pixels do not"
    return None


TASKS = [
    Task(
        number="15.1",
        title="A block, and the slices beside it",
        ask="""
            Write the split of the five blocks: hold out the slices `first` to `last - 1` of a stack,
            learn from the others, and leave unused each slice directly beside the block. Where the
            stack ends there is none. Return two lists of numbers: to learn from, and held out.
        """,
        code='''
            def hold_out(slices, first, last):
                """Return the slices to learn from, and the slices to measure on."""
                # solution
                checked = list(range(first, last))
                below = range(first - 1)  # without first - 1
                above = range(last + 1, slices)  # without last
                return [*below, *above], checked
                # end
        ''',
        checker=check_hold_out,
        hints=(
            "How many slices are next to a block in the middle of the stack?",
            """
            One on either side. So learn from everything that is at least two slices away from
            the block, and let `range` take care of the ends of the stack.
            """,
            """
            checked = list(range(...))
            below = range(...)  # ends before the slice that is not used
            above = range(..., slices)
            return [*below, *above], checked
            """,
        ),
        wrong={
            "slice 11 is trained on and is 50 nm from slice 12, which is held out": """
                checked = list(range(first, last))
                return [n for n in range(slices) if n not in checked], checked
            """,
            "the block has two ends: slice 18 is trained on, beside slice 17": """
                checked = list(range(first, last))
                return [*range(first - 1), *range(last, slices)], checked
            """,
            "you hold out 12 to 18; `last` is not held out itself": """
                checked = list(range(first, last + 1))
                return [*range(first - 1), *range(last + 2, slices)], checked
            """,
            "the two lists are swapped: first the slices to learn from": """
                held = list(range(first, last))
                return held, [*range(first - 1), *range(last + 1, slices)]
            """,
            "return two lists, to learn from and held out, not 22 things": """
                return [*range(first - 1), *range(last + 1, slices)]
            """,
            "unused are [11, 18, 19]; 11 and 18 are enough": """
                checked = list(range(first, last))
                far = [n for n in range(slices) if n < first - 1 or n > last + 1]
                return far, checked
            """,
            "hold_out(30, 0, 6): there is no slice 30 in a stack of 30": """
                checked = list(range(first, last))
                return [*range(first - 1), *range(last + 1, slices + 1)], checked
            """,
            "hold_out(30, 0, 6): slice 0 is in both lists": """
                learned = list(range(slices))
                del learned[first - 1 : last + 1]  # of nothing, if first is 0
                return learned, list(range(first, last))
            """,
            "slices 12 to 17 are to be held out, not [0, 2, 3, 5, 20, 21]": """
                checked = [0, 2, 3, 5, 20, 21]  # drawn at random
                return [n for n in range(slices) if n not in checked], checked
            """,
        },
        why="""
            An empty `range` needs no `if`: `range(-1)` is empty, and so is `range(31, 30)`. Of the blocks
            of the notebook, three leave two slices unused and learn from 22; the two at the ends
            leave one unused and learn from 23.
        """,
    ),
    Task(
        number="15.2",
        title="A threshold that was chosen fairly",
        ask="""
            You get two pairs `(p, truth)`: `seen` is of slices that were trained on, `unseen` of
            held-out slices. `error_of(p, truth, threshold)` measures the error of a pair at a
            threshold. Which threshold do you choose, and which error may you report? Return both.
        """,
        code='''
            def fair_error(error_of, seen, unseen, thresholds):
                """Return the threshold that was chosen, and the error to report."""
                # solution
                errors = [error_of(*seen, t) for t in thresholds]
                threshold = thresholds[int(np.argmin(errors))]
                return threshold, error_of(*unseen, threshold)
                # end
        ''',
        checker=check_fair_error,
        hints=(
            "Which of the two pairs may you look at more than once?",
            """
            Measure every threshold on the slices that were trained on, and take the one with the least
            error. Then measure the held-out pair once, at this threshold.
            """,
            """
            errors = [error_of(..., t) for t in thresholds]
            threshold = thresholds[...]  # np.argmin says where
            return threshold, error_of(...)
            """,
        ),
        wrong={
            "0.6 was chosen on held-out slices; choose on training slices": """
                errors = [error_of(*unseen, t) for t in thresholds]
                at = int(np.argmin(errors))
                return thresholds[at], errors[at]
            """,
            "0.14 is the error of training slices; report the held-out one": """
                errors = [error_of(*seen, t) for t in thresholds]
                at = int(np.argmin(errors))
                return thresholds[at], errors[at]
            """,
            "0.20 is not the error at 0.4; report the held-out error there": """
                errors = [error_of(*seen, t) for t in thresholds]
                others = [error_of(*unseen, t) for t in thresholds]
                return thresholds[int(np.argmin(errors))], min(others)
            """,
            "0.8 has the largest error of the training slices: take the least": """
                errors = [error_of(*seen, t) for t in thresholds]
                threshold = thresholds[int(np.argmax(errors))]
                return threshold, error_of(*unseen, threshold)
            """,
            "the two numbers are swapped: first the threshold, then the error": """
                errors = [error_of(*seen, t) for t in thresholds]
                threshold = thresholds[int(np.argmin(errors))]
                return error_of(*unseen, threshold), threshold
            """,
            "1 is the place of the threshold in the list, and the threshold is 0.4": """
                at = int(np.argmin([error_of(*seen, t) for t in thresholds]))
                return at, error_of(*unseen, thresholds[at])
            """,
        },
        why="""
            In the checker's example the fair error is 0.22, and the held-out slices would give 0.20 at
            their own best threshold.
            That difference is what a choice with the answers in hand hides.
        """,
    ),
    Task(
        number="15.3",
        title="Thicker walls",
        ask="""
            A thick wall has no gap. Dilate the membranes of a stack: in each round, a pixel becomes
            membrane if one of its four direct neighbours in the *same slice* is. Do as many rounds as
            `pixels` says, none at 0. What does that do to the pixel error and to the Rand error?
        """,
        code='''
            def thicker(masks, pixels=1):
                """Return masks (N, H, W), True = membrane, dilated by so many pixels."""
                # solution
                grown = np.asarray(masks).copy()
                for _ in range(pixels):
                    grown = np.stack([ndimage.binary_dilation(mask) for mask in grown])
                return grown
                # end
        ''',
        checker=check_thicker,
        hints=(
            "How many axes has the array, and along how many may a membrane grow?",
            """
            `ndimage.binary_dilation` grows along every axis of what it gets. Give it one slice at a
            time, as often as wanted; and read what its documentation says of `iterations=0`.
            """,
            """
            grown = masks.copy()
            for _ in range(...):
                grown = np.stack([... for mask in grown])
            return grown
            """,
        ),
        wrong={
            "a membrane of one slice grows into the next: treat each by itself": """
                return ndimage.binary_dilation(masks, iterations=pixels)
            """,
            "with 0 pixels a whole slice fills up: `iterations=0` repeats without end": """
                return np.stack(
                    [ndimage.binary_dilation(mask, iterations=pixels) for mask in masks]
                )
            """,
            "the membranes have become thinner: what grows are the cells": """
                for _ in range(pixels):
                    masks = np.stack([ndimage.binary_erosion(mask) for mask in masks])
                return masks
            """,
            "what leaves the slice at one edge comes back at the other": """
                for _ in range(pixels):
                    moved = [np.roll(masks, by, axis) for by in (-1, 1) for axis in (1, 2)]
                    masks = np.logical_or.reduce([masks, *moved])
                return masks
            """,
            "a pixel has four direct neighbours; yours grow over corners, too": """
                size = 2 * pixels + 1
                return ndimage.maximum_filter(masks, size=(1, size, size))
            """,
            "with 2 pixels a line is five rows wide, not 3": """
                if pixels == 0:
                    return masks
                return np.stack([ndimage.binary_dilation(mask) for mask in masks])
            """,
        },
        why="""
            On the truth of three drawn slices, one pixel more on every side makes a pixel error of 0.05 and a
            Rand error of 0.06. Walls that are thinner by one pixel have the same pixel error,
            and a Rand error of 0.75.
        """,
    ),
]
