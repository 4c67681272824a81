"""The tasks of 07_weight_map: a line between cells, a gap, a target with its weights."""

import numpy as np
from scipy import ndimage

from unet_tutorial.tasks import Task
from unet_tutorial.weight_map import border_weights, separate_cells


def crowd():
    "Eight touching cells and one apart, as a label map (60, 80)."
    rows, columns = np.mgrid[:60, :80]
    centres = [
        (8, 9),
        (11, 30),
        (7, 48),
        (26, 14),
        (31, 37),
        (28, 50),
        (48, 20),
        (47, 42),
    ]
    away = [np.hypot(rows - y, columns - x) for y, x in centres]
    labels = np.argmin(away, axis=0) + 1
    labels[np.min(away, axis=0) > 13] = 0
    labels[20:34, 66:78] = 9
    return labels


def check_part(part):
    pair = np.zeros((8, 12), int)
    pair[2:6, 2:6], pair[2:6, 6:10] = 4, 7
    before = pair.copy()
    found = np.asarray(part(pair))
    if not np.array_equal(pair, before):
        return "the label map that was passed is changed: work on a copy"
    if found.shape != pair.shape:
        return f"the map has the shape {pair.shape}; yours has {found.shape}"
    lost = (pair > 0) & (found == 0)
    if not lost.any():
        return "two cells side by side still touch"
    if lost[:, [2, 9]].any():
        return (
            "a border to the background loses pixels, too: part only cells from cells"
        )
    if lost[2:6, 5:7].all():
        return "both cells give up a pixel; a line of one is enough"
    if set(np.unique(found)) != {0, 4, 7}:
        return f"cells keep their ids, 4 and 7; yours are {np.unique(found).tolist()}"
    if lost.sum() != 4:
        return f"the seam is 4 pixels long, and {lost.sum()} are lost"
    if ndimage.label(np.asarray(part(pair.T)) > 0)[1] != 2:
        return "two cells one above the other still touch"
    return check_more_cells(part)


def check_more_cells(part):
    "What is wrong with cells at the edge, or with many cells."
    apart = np.zeros((6, 9), int)
    apart[1:5, :3], apart[1:5, 6:] = 1, 2
    if not np.array_equal(part(apart), apart):
        return "cells at opposite edges of the frame lose pixels: `np.roll` goes round"
    labels = crowd()
    found = np.asarray(part(labels))
    cells, pieces = len(np.unique(labels)) - 1, ndimage.label(found > 0)[1]
    if pieces < cells:
        return f"a frame of {cells} touching cells still has only {pieces} pieces"
    if not np.array_equal(found[found > 0], labels[found > 0]):
        return "pixels that are left must keep the id of their cell"
    return None


def weight_of(gap, w0, sigma):
    "The weight in a gap between two long cells, computed by the library."
    row = np.repeat([1, 0, 2], [3, gap, 3])[None]
    return float(border_weights(row, w0, sigma)[0, 3])


def check_widest_gap(widest_gap):
    given = widest_gap(0.1, 50.0, 6.0)
    if isinstance(given, float) and given != int(given):
        return f"a gap is a whole number of pixels, and {given:.2f} is none"
    known = {
        21: "21 pixels weigh less than 0.1: in a gap of g pixels d1 + d2 is g + 1",
        13: "the 2 is missing: the exponent is divided by 2 * sigma**2",
        14: "the 2 is missing, and in a gap of g pixels d1 + d2 is g + 1",
        12: "a logarithm of base 10: the inverse of exp is math.log",
        17: "`w0` is not used: it need not be 10",
        16: "`sigma` is not used: it need not be 5",
    }
    if given in known:
        return known[given]
    for w0, sigma in [(50.0, 6.0), (10.0, 5.0), (10.0, 2.0), (3.0, 9.0)]:
        for weight in (0.1, 0.5, 1.0, 2.0):
            found = widest_gap(weight, w0, sigma)
            best = max(g for g in range(1, 40) if weight_of(g, w0, sigma) >= weight)
            if found != best:
                text = f"widest_gap({weight}, {w0}, {sigma}) is {found}"
                why = ": round down, not to the nearest" if found == best + 1 else ""
                return f"{text}, and the map says {best}{why}"
    return None


def check_target_and_weights(target_and_weights):
    labels = crowd()
    target, weights = target_and_weights(labels, (0.8, 1.5))
    parted = separate_cells(labels)
    cell, line = parted > 0, (parted == 0) & (labels > 0)
    target, border = np.asarray(target), border_weights(parted)
    pieces, cells = ndimage.label(target)[1], len(np.unique(labels)) - 1
    if target.max() > 1:
        return "the target is a mask, 0 and 1: the net does not learn the ids of cells"
    if pieces < cells:
        return f"{cells} cells, and the target has {pieces} pieces: separate them first"
    if not np.array_equal(target > 0, cell):
        return "the target is not the mask of the separated cells"
    weights = np.asarray(weights)
    if weights.shape != labels.shape:
        return f"the weights are {weights.shape}, the labels {labels.shape}"
    if (weights[cell] == 0).all():
        return "cells weigh nothing: only the border term is for the background alone"
    if np.allclose(weights[cell], 1.5 + border[cell], atol=1e-4):
        return "the border term is on the cells, too: on the background alone, it helps"
    if np.allclose(weights[cell], 0.8):
        return "`classes` holds the weight of the background first, then that of cells"
    if not np.allclose(weights[cell], 1.5):
        return "on cells the weight is classes[1], as counted over the training set"
    if np.allclose(weights[line], 0.8):
        return "the line has no border term: compute it from the separated cells"
    if not np.allclose(weights[~cell], 0.8 + border[~cell], atol=1e-4):
        return "on the background the weight is classes[0] plus the border term"
    return None


TASKS = [
    Task(
        number="7.1",
        title="A line of background",
        ask="""
            Separate the cells in the simplest way: wherever the right or the lower neighbour of a pixel
            belongs to another cell, the pixel becomes background. Cells beside each other then have a
            line of one pixel between them. Return a new label map; `separate_cells` is not needed.
        """,
        code='''
            def part(labels):
                """Return a label map (H, W) in which no two cells share an edge."""
                # solution
                parted = labels.copy()
                right, below = labels[:, 1:], labels[1:]
                parted[:, :-1][(right > 0) & (right != labels[:, :-1])] = 0
                parted[:-1][(below > 0) & (below != labels[:-1])] = 0
                return parted
                # end
        ''',
        checker=check_part,
        hints=(
            "How do you compare each pixel with its right neighbour, without a loop?",
            """
            Compare the map with itself, one column further. Where the neighbour is background, leave the
            pixel as it is: 0 is no cell. Then do the same one row further down.
            """,
            """
            parted = labels.copy()
            right, below = labels[:, 1:], labels[1:]
            parted[:, :-1][...] = 0
            parted[:-1][...] = 0
            return parted
            """,
        ),
        wrong={
            "a border to the background loses pixels, too: part only cells from cells": """
                parted = labels.copy()
                for axis in (0, 1):
                    for step in (1, -1):
                        parted[np.roll(labels, step, axis) != labels] = 0
                return parted
            """,
            "both cells give up a pixel; a line of one is enough": """
                lowest = np.where(labels > 0, labels, labels.max())
                lowest = ndimage.minimum_filter(lowest, size=3)
                return labels * (ndimage.maximum_filter(labels, size=3) == lowest)
            """,
            "two cells one above the other still touch": """
                parted, right = labels.copy(), labels[:, 1:]
                parted[:, :-1][(right > 0) & (right != labels[:, :-1])] = 0
                return parted
            """,
            "the label map that was passed is changed: work on a copy": """
                right, below = labels[:, 1:].copy(), labels[1:].copy()
                labels[:, :-1][(right > 0) & (right != labels[:, :-1])] = 0
                labels[:-1][(below > 0) & (below != labels[:-1])] = 0
                return labels
            """,
            "cells at opposite edges of the frame lose pixels: `np.roll` goes round": """
                parted = labels.copy()
                for axis in (0, 1):
                    beside = np.roll(labels, -1, axis)
                    parted[(beside > 0) & (beside != labels)] = 0
                return parted
            """,
            "two cells side by side still touch": """
                return ndimage.label(labels > 0)[0]
            """,
            "cells keep their ids, 4 and 7; yours are [0, 1]": """
                right, below = labels[:, 1:], labels[1:]
                parted = (labels > 0).astype(int)
                parted[:, :-1][(right > 0) & (right != labels[:, :-1])] = 0
                parted[:-1][(below > 0) & (below != labels[:-1])] = 0
                return parted
            """,
        },
        why="""
            Here the upper or left cell always pays. `separate_cells` lets the larger one pay, so that a
            small cell is not consumed, and parts cells that meet only at a corner, too.
        """,
    ),
    Task(
        number="7.2",
        title="How wide a gap still matters",
        ask="""
            Two cells with long parallel borders have a gap between them. How many pixels wide may the
            gap be, if the border term in it must be at least `weight`? Solve the border term for the
            width of the gap; `widest_gap(1.0)` is 9.
        """,
        code='''
            def widest_gap(weight, w0=10.0, sigma=5.0):
                """Return the largest number of background pixels, an int."""
                # solution
                distance = sigma * math.sqrt(2 * math.log(w0 / weight))  # d1 + d2
                return math.floor(distance) - 1
                # end
        ''',
        checker=check_widest_gap,
        hints=(
            "What is d1 + d2 on a pixel of the gap?",
            """
            Divide by w0, take the logarithm, and solve for d1 + d2, which is g + 1. Then round down:
            in a gap that is one pixel wider, the weight is too small.
            """,
            """
            distance = ... * math.sqrt(... * math.log(...))  # d1 + d2
            return ...
            """,
        ),
        wrong={
            "21 pixels weigh less than 0.1: in a gap of g pixels d1 + d2 is g + 1": """
                return math.floor(sigma * math.sqrt(2 * math.log(w0 / weight)))
            """,
            "the 2 is missing: the exponent is divided by 2 * sigma**2": """
                return math.floor(sigma * math.sqrt(math.log(w0 / weight))) - 1
            """,
            "the 2 is missing, and in a gap of g pixels d1 + d2 is g + 1": """
                return math.floor(sigma * math.sqrt(math.log(w0 / weight)))
            """,
            "a logarithm of base 10: the inverse of exp is math.log": """
                return math.floor(sigma * math.sqrt(2 * math.log10(w0 / weight))) - 1
            """,
            "a gap is a whole number of pixels, and 20.15 is none": """
                return sigma * math.sqrt(2 * math.log(w0 / weight)) - 1
            """,
            "widest_gap(1.0, 50.0, 6.0) is 16, and the map says 15: round down, not to the nearest": """
                return round(sigma * math.sqrt(2 * math.log(w0 / weight))) - 1
            """,
            "`w0` is not used: it need not be 10": """
                return math.floor(sigma * math.sqrt(2 * math.log(10 / weight))) - 1
            """,
        },
        why="""
            With the paper's constants a gap of 10 pixels weighs 0.89, less than an ordinary pixel of a
            balanced loss. That is what *small* separation borders means in pixels.
        """,
    ),
    Task(
        number="7.3",
        title="The target and the weights that helped",
        ask="""
            `labels` is the label map of a frame in which cells touch. Return what the loss needs: the
            target as a mask, and the weights. Take those of the third row of the table above, with the
            border term on the background only. `classes` holds the two class weights, counted over the training set.
        """,
        code='''
            def target_and_weights(labels, classes):
                """Return the target (H, W), a mask, and its weights (H, W)."""
                # solution
                parted = separate_cells(labels)
                target = parted > 0
                first = np.where(target, classes[1], classes[0])
                return target, first + border_weights(parted) * ~target
                # end
        ''',
        checker=check_target_and_weights,
        hints=(
            "What must happen before anything is computed from the label map?",
            """
            Separate once, and make target and weights from the result. The first term is there on every
            pixel; only the second is multiplied by the mask of the background.
            """,
            """
            parted = ...
            target = ...
            first = np.where(target, ..., ...)
            return target, first + ...
            """,
        ),
        wrong={
            "the border term is on the cells, too: on the background alone, it helps": """
                parted = separate_cells(labels)
                return parted > 0, weight_map(parted, classes=classes)
            """,
            "cells weigh nothing: only the border term is for the background alone": """
                parted = separate_cells(labels)
                weights = weight_map(parted, classes=classes) * (parted == 0)
                return parted > 0, weights
            """,
            "the line has no border term: compute it from the separated cells": """
                parted = separate_cells(labels)
                first = np.where(parted > 0, classes[1], classes[0])
                return parted > 0, first + border_weights(labels) * (labels == 0)
            """,
            "9 cells, and the target has 2 pieces: separate them first": """
                parted = separate_cells(labels)
                first = np.where(parted > 0, classes[1], classes[0])
                return labels > 0, first + border_weights(parted) * (parted == 0)
            """,
            "`classes` holds the weight of the background first, then that of cells": """
                parted = separate_cells(labels)
                first = np.where(parted > 0, *classes)
                return parted > 0, first + border_weights(parted) * (parted == 0)
            """,
            "on cells the weight is classes[1], as counted over the training set": """
                parted = separate_cells(labels)
                first = weight_map(parted, w0=0)
                return parted > 0, first + border_weights(parted) * (parted == 0)
            """,
            "the target is a mask, 0 and 1: the net does not learn the ids of cells": """
                parted = separate_cells(labels)
                first = np.where(parted > 0, classes[1], classes[0])
                return parted, first + border_weights(parted) * (parted == 0)
            """,
        },
        why="""
            Both come from one separated map, so the loss pulls hardest exactly where the target says
            background.
        """,
    ),
]
