"""The tasks of 16_touching_cells: SEG, cells from cores, and what a weight moves."""

import numpy as np
from scipy import ndimage

from unet_tutorial.metrics import cell_ious
from unet_tutorial.tasks import Task


def frame(*rows):
    "A label map, each row as the digits of a text."
    return np.array([[int(digit) for digit in row] for row in rows])


def check_seg(seg):
    truth = frame("1111110022222200")
    if np.ndim(seg(truth, truth)) > 0:
        return "one number is meant, the mean over the true cells"
    other = frame("5555550033333300")
    if seg(other, truth) != 1:
        if seg(truth, truth) == 1:
            return "the numbers of the cells mean nothing: match them by their overlap"
        return f"a perfect prediction has a SEG of 1, not {seg(truth, truth):.4f}"
    lost = frame("1111110000000000")
    known = {
        1.0: "a cell that was not found counts with 0; you leave it out of the mean",
    }
    known[0.8] = "a cell that was lost has no match: 0 in `pred` is background, no part"
    if round(float(seg(lost, truth)), 4) in known:
        return known[round(float(seg(lost, truth)), 4)]
    gap, touch = frame("1111110055555500"), frame("1111112222220000")
    if seg(gap, gap) != 1:
        return "the numbers of true cells may have gaps: take those that occur"
    if seg(touch, touch) != 1:
        return (
            "cells that touch are told apart by their numbers: do not label them anew"
        )
    spread = frame("1111111122222222")
    if np.isclose(seg(spread, truth), 0.375):
        return (
            "where no pixel is 0, `[1:]` drops a part: leave out the 0, not the first"
        )
    invented = frame("1111113322222244")
    if np.isclose(seg(invented, truth), 2 / 3):
        return "0 is the background and no cell: leave it out of the truth"
    if seg(invented, truth) != 1:
        return "an invented cell costs nothing: the mean is over the *true* cells"
    small = frame("1100000022222200")
    if np.isclose(seg(small, truth), 2 / 3):
        return "a part that covers a third of a cell is no match, and counts with 0"
    half = frame("1110000022222200")
    if np.isclose(seg(half, truth), 0.75):
        return "half of a cell is no match: *more* than half of it must be covered"
    large = frame("1111111122222200")
    ratios = {
        1.0: "you divide by the true cell; the union is larger",
        0.9286: "that is Dice: the IoU divides what both share by their union",
        0.5: "more than half of the *true* cell must be covered, and all of it is",
    }
    if round(float(seg(large, truth)), 4) in ratios:
        return ratios[round(float(seg(large, truth)), 4)]
    if not np.isclose(seg(large, truth), (6 / 8 + 1) / 2):
        return (
            f"6 of 8 pixels and a perfect cell are 0.875, not {seg(large, truth):.4f}"
        )
    merged = frame("7777777777777700")
    if not np.isclose(seg(merged, truth), 6 / 14):
        return "two cells in one part: each has an IoU of 6/14 with it"
    rng = np.random.default_rng(0)
    for _ in range(20):
        pred, true = np.kron(rng.integers(0, 4, (2, 4, 4)), np.ones((2, 2), int))
        pred = np.where(rng.random(pred.shape) < 0.3, 0, pred)
        right = np.mean([*cell_ious(pred, true).values()])
        if not np.isclose(seg(pred, true), right):
            return f"the SEG of a drawn frame is {right:.4f}, not {seg(pred, true):.4f}"
    return None


def check_grow(grow):
    p = np.full((3, 13), 0.1)
    p[:, 1:12] = 0.6
    p[:, 2:5] = p[:, 8:11] = 0.9
    p[:, 6] = 0.55  # the seam
    cells = np.asarray(grow(p.copy(), 0.8))
    if cells.shape != p.shape:
        return f"a frame of {p.shape} comes back as {cells.shape}"
    if cells.dtype == bool:
        return "a mask comes back; number the cells"
    cells = cells.astype(int)
    names = set(np.unique(cells[cells > 0]).tolist())
    if (cells[p < 0.5] > 0).any():
        return "cells grow into the background: they must stay in the mask at 0.5"
    if not names:
        return "no cell comes back: `distance_transform_edt` looks for False; make the cores False"
    if len(names) == 1:
        return "the two cells are one again: number the cores *before* they grow"
    if (cells[p < 0.8] == 0).all():
        return "only the cores come back; let them grow into the mask at 0.5"
    if (cells[p > 0.5] == 0).any():
        return "a part of the mask belongs to no cell: each pixel has a nearest core"
    if cells[1, 5] != cells[1, 4] or cells[1, 7] != cells[1, 8]:
        return "a pixel gets the number of its *nearest* core, and yours does not"
    p[:] = 0.6
    if np.asarray(grow(p.copy(), 0.8)).any():
        return "a mask without a core has no cell, and you find one"
    rng = np.random.default_rng(1)
    p = ndimage.gaussian_filter(rng.random((24, 24)), 2) * 8 - 3.5
    cores, count = ndimage.label(p > 0.8)
    cells = np.asarray(grow(p.copy(), 0.8))
    if len(np.unique(cells[cells > 0])) != count:
        return "a drawn frame comes back with more cells than cores, or with fewer"
    own = [len(np.unique(cells[cores == n])) for n in range(1, count + 1)]
    if set(own) - {1}:
        return "a core of a drawn frame is parted while it grows"
    return check_nearest(grow)


def check_nearest(grow):
    "A frame with two cores in a wide mask: how far is each pixel from its own core?"
    p = np.full((24, 30), 0.1)
    p[2:22, 2:28] = 0.7
    p[2:12, 14] = 0.1  # a wall, to be looked across
    p[4:7, 5:12] = p[14:20, 18:21] = 0.9
    cells = np.asarray(grow(p.copy(), 0.8))
    if (cells[p > 0.5] == 0).any():
        return (
            "far from its core, a pixel of the mask belongs to no cell: grow to the end"
        )
    cores, _ = ndimage.label(p > 0.8)
    far = [ndimage.distance_transform_edt(cores != n) for n in (1, 2)]
    names = [cells[5, 8], cells[16, 19]]
    own = np.where(cells == names[0], *far)
    if (own > np.minimum(*far) + 1e-9)[p > 0.5].any():
        return "the nearest core is meant in a straight line, not by steps in the mask"
    return None


def check_threshold(same_mask):
    result = same_mask(1.0, 9.0)
    known = {
        0.1: "you have swapped the weights: at 0.1 only a line that is almost certain shows",
        9.0: "9 are the odds of q; a share is odds / (1 + odds)",
        0.5: "0.5 is the threshold with the weights; the question is the one without",
    }
    if round(float(result), 4) in known:
        return known[round(float(result), 4)]
    if not np.isclose(result, 0.9):
        return f"w1 = 1 and w0 = 9 make 0.5 the same as 0.9, not {result:.4f}"
    if not np.isclose(same_mask(10.0, 90.0), 0.9):
        return "only the ratio of the weights counts: ten times both changes nothing"
    higher = same_mask(1.0, 9.0, 0.8)
    if np.isclose(higher, 0.9):
        return "`threshold` is not used: 0.8 with the weights is more than 0.9 without"
    if not 0 <= higher <= 1:
        return (
            f"a threshold of {higher:.4f} is no probability: multiply odds, not shares"
        )
    if np.isclose(higher, 14.4 / 15.4):
        return "the odds of a threshold t are t / (1 - t); yours are t / 0.5"
    for w1, w0, threshold in ((1, 1, 0.3), (2, 1, 0.5), (1, 9, 0.8), (1, 4, 0.2)):
        q = same_mask(w1, w0, threshold)
        p = w1 * q / (w1 * q + w0 * (1 - q))
        if not np.isclose(p, threshold):
            return f"at q = {q:.4f}, w1 = {w1}, w0 = {w0} the answer is {p:.4f}, not {threshold}"
    return None


TASKS = [
    Task(
        number="16.1",
        title="SEG, cell by cell",
        ask="""
            Write the measure of Table 2 for one frame, without `cell_ious` and `seg_score`. For each
            true cell, look for the predicted part that covers more than half of *that cell*. The cell
            counts with the IoU of the two, or with 0 if there is no such part. Return the mean over
            the true cells; the checker's frames have at least one. The label 0 is background.
        """,
        code='''
            def seg(pred, truth):
                """Return the mean IoU of the true cells; pred, truth (H, W) integers."""
                # solution
                ious = []
                for cell in np.unique(truth[truth > 0]):
                    inside = truth == cell
                    part = np.bincount(pred[inside]).argmax()  # covers most of it
                    both = (inside & (pred == part)).sum()
                    found = part > 0 and both > inside.sum() / 2
                    union = (inside | (pred == part)).sum()
                    ious.append(both / union if found else 0.0)
                return np.mean(ious)
                # end
        ''',
        checker=check_seg,
        hints=(
            "How many parts can cover more than half of one cell?",
            """
            At most one: the most frequent number of `pred` inside the cell. Is this number a part, and
            not 0, the background? And does it fill more than half of the cell?
            """,
            """
            ious = []
            for cell in np.unique(truth[truth > 0]):
                inside = truth == cell
                part = ...  # the most frequent number of pred inside
                both = ...  # pixels of this part in the cell
                found = part > 0 and ...
                ious.append(... if found else 0.0)
            return np.mean(ious)
            """,
        ),
        wrong={
            "the numbers of the cells mean nothing: match them by their overlap": """
                ious = []
                for cell in np.unique(truth[truth > 0]):
                    both = ((truth == cell) & (pred == cell)).sum()
                    ious.append(both / ((truth == cell) | (pred == cell)).sum())
                return np.mean(ious)
            """,
            "a cell that was not found counts with 0; you leave it out of the mean": """
                ious = []
                for cell in np.unique(truth[truth > 0]):
                    inside = truth == cell
                    part = np.bincount(pred[inside]).argmax()
                    both = (inside & (pred == part)).sum()
                    if part > 0 and both > inside.sum() / 2:
                        ious.append(both / (inside | (pred == part)).sum())
                return np.mean(ious)
            """,
            "where no pixel is 0, `[1:]` drops a part: leave out the 0, not the first": """
                ious = []
                for cell in np.unique(truth)[1:]:
                    inside, iou = truth == cell, 0
                    for number in np.unique(pred)[1:]:
                        part = pred == number
                        if (inside & part).sum() > inside.sum() / 2:
                            iou = (inside & part).sum() / (inside | part).sum()
                    ious.append(iou)
                return np.mean(ious)
            """,
            "0 is the background and no cell: leave it out of the truth": """
                ious = []
                for cell in np.unique(truth):
                    inside, iou = truth == cell, 0
                    for number in np.unique(pred):
                        part = pred == number
                        if (inside & part).sum() > inside.sum() / 2:
                            iou = (inside & part).sum() / (inside | part).sum()
                    ious.append(iou)
                return np.mean(ious)
            """,
            "an invented cell costs nothing: the mean is over the *true* cells": """
                ious = []
                for part in np.unique(pred[pred > 0]):
                    own = pred == part
                    cell = np.bincount(truth[own]).argmax()
                    both = (own & (truth == cell)).sum()
                    found = cell > 0 and 2 * both > (truth == cell).sum()
                    ious.append(both / (own | (truth == cell)).sum() if found else 0)
                ious += [0] * (len(np.unique(truth[truth > 0])) - len(ious))
                return np.mean(ious)
            """,
            "a cell that was lost has no match: 0 in `pred` is background, no part": """
                ious = []
                for cell in np.unique(truth[truth > 0]):
                    inside = truth == cell
                    part = np.bincount(pred[inside]).argmax()
                    both = (inside & (pred == part)).sum()
                    found = both > inside.sum() / 2
                    ious.append(both / (inside | (pred == part)).sum() if found else 0)
                return np.mean(ious)
            """,
            "the numbers of true cells may have gaps: take those that occur": """
                ious = []
                for cell in range(1, truth.max() + 1):
                    inside = truth == cell
                    counts = np.bincount(pred[inside], minlength=2)
                    part = counts.argmax()
                    found = part > 0 and counts[part] > inside.sum() / 2
                    union = (inside | (pred == part)).sum()
                    ious.append(counts[part] / union if found else 0)
                return np.mean(ious)
            """,
            "cells that touch are told apart by their numbers: do not label them anew": """
                pred, ious = ndimage.label(pred > 0)[0], []
                for cell in np.unique(truth[truth > 0]):
                    inside = truth == cell
                    part = np.bincount(pred[inside]).argmax()
                    both = (inside & (pred == part)).sum()
                    found = part > 0 and both > inside.sum() / 2
                    ious.append(both / (inside | (pred == part)).sum() if found else 0)
                return np.mean(ious)
            """,
            "that is Dice: the IoU divides what both share by their union": """
                dices = []
                for cell in np.unique(truth[truth > 0]):
                    inside = truth == cell
                    part = np.bincount(pred[inside]).argmax()
                    both = (inside & (pred == part)).sum()
                    found = part > 0 and both > inside.sum() / 2
                    total = inside.sum() + (pred == part).sum()
                    dices.append(2 * both / total if found else 0)
                return np.mean(dices)
            """,
            "half of a cell is no match: *more* than half of it must be covered": """
                ious = []
                for cell in np.unique(truth[truth > 0]):
                    inside = truth == cell
                    counts = np.bincount(pred[inside], minlength=2)
                    part = counts[1:].argmax() + 1
                    found = counts[part] >= inside.sum() / 2
                    union = (inside | (pred == part)).sum()
                    ious.append(counts[part] / union if found else 0)
                return np.mean(ious)
            """,
            "a part that covers a third of a cell is no match, and counts with 0": """
                ious = []
                for cell in np.unique(truth[truth > 0]):
                    inside = truth == cell
                    best = 0
                    for part in np.unique(pred[pred > 0]):
                        both = (inside & (pred == part)).sum()
                        best = max(best, both / (inside | (pred == part)).sum())
                    ious.append(best)
                return np.mean(ious)
            """,
            "you divide by the true cell; the union is larger": """
                shares = []
                for cell in np.unique(truth[truth > 0]):
                    inside = truth == cell
                    part = np.bincount(pred[inside]).argmax()
                    share = (pred[inside] == part).mean()
                    shares.append(share if part > 0 and share > 0.5 else 0)
                return np.mean(shares)
            """,
            "a perfect prediction has a SEG of 1, not 0.6667": """
                ious = []
                for cell in np.unique(truth):  # the background, too
                    inside = truth == cell
                    part = np.bincount(pred[inside]).argmax()
                    both = (inside & (pred == part)).sum()
                    found = part > 0 and both > inside.sum() / 2
                    ious.append(both / (inside | (pred == part)).sum() if found else 0)
                return np.mean(ious)
            """,
        },
        why="""
            If one part covers two true cells, both have a match, but not a good one. A true cell that
            is cut into two halves has no match.
        """,
    ),
    Task(
        number="16.2",
        title="The same mask without the weights",
        ask="""
            One net was trained with weights: a pixel weighs $w_1$ as cell and $w_0$ as line. The net
            answers $p^*$, and its mask is $p^* > t$. Another net was trained without weights, and
            answers $q$. Which threshold on $q$ gives the same mask?
        """,
        code='''
            def same_mask(w1, w0, threshold=0.5):
                """Return the threshold on q that is `threshold` on the weighted answer."""
                # solution
                odds = threshold / (1 - threshold) * w0 / w1
                return odds / (1 + odds)
                # end
        ''',
        checker=check_threshold,
        hints=(
            "What do the weights multiply: the answer, or its odds?",
            """
            The odds of the weighted answer are $w_1 / w_0$ times those of $q$. So go from the threshold to
            its odds, undo the weights, and go back from odds to a share.
            """,
            """
            odds = ... * w0 / w1  # of the threshold, without the weights
            return ...  # from odds to a share
            """,
        ),
        wrong={
            "you have swapped the weights: at 0.1 only a line that is almost certain shows": """
                odds = threshold / (1 - threshold) * w1 / w0
                return odds / (1 + odds)
            """,
            "9 are the odds of q; a share is odds / (1 + odds)": """
                return threshold / (1 - threshold) * w0 / w1
            """,
            "`threshold` is not used: 0.8 with the weights is more than 0.9 without": """
                return w0 / (w0 + w1)
            """,
            "w1 = 1 and w0 = 9 make 0.5 the same as 0.9, not 4.5000": """
                return threshold * w0 / w1
            """,
            "the odds of a threshold t are t / (1 - t); yours are t / 0.5": """
                odds = threshold / 0.5 * w0 / w1
                return odds / (1 + odds)
            """,
            "only the ratio of the weights counts: ten times both changes nothing": """
                odds = threshold / (1 - threshold) * w0
                return odds / (1 + odds)
            """,
        },
        why="""
            With the border term on the background only, $w_0$ is about 10 and $w_1$ about 1. So the mask of
            that net at 0.5 is, at the seams, the mask of an unweighted one at 0.9. Elsewhere the
            weights are nearly equal, and the threshold is still about 0.5. No single threshold does both.
        """,
    ),
    Task(
        number="16.3",
        title="Cells from cores",
        ask="""
            The real cells above were found in a second way, too. The *cores* are the connected parts above a high
            threshold. Every pixel of the mask at 0.5 then gets the number of the core that is nearest
            to it. Write it for one frame; a mask without a core has no cell.
        """,
        code='''
            def grow(p, threshold):
                """Return cells (H, W), numbered; p (H, W): how likely each pixel is cell."""
                # solution
                cores = ndimage.label(p > threshold)[0]
                nearest = ndimage.distance_transform_edt(
                    cores == 0, return_distances=False, return_indices=True
                )  # (2, H, W): row and column of the nearest core
                return np.where(p > 0.5, cores[tuple(nearest)], 0)
                # end
        ''',
        checker=check_grow,
        hints=(
            "What has to be numbered first, the cores or the mask?",
            """
            Number the cores, then ask `ndimage.distance_transform_edt` with `return_indices=True` where
            the nearest core pixel is. It goes from each True pixel to the nearest False one.
            """,
            """
            cores = ...  # numbered
            nearest = ndimage.distance_transform_edt(
                ..., return_distances=False, return_indices=True
            )
            return np.where(..., cores[tuple(nearest)], 0)
            """,
        ),
        wrong={
            "cells grow into the background: they must stay in the mask at 0.5": """
                cores = ndimage.label(p > threshold)[0]
                _, nearest = ndimage.distance_transform_edt(cores == 0, return_indices=True)
                return cores[tuple(nearest)]
            """,
            "only the cores come back; let them grow into the mask at 0.5": """
                return ndimage.label(p > threshold)[0]
            """,
            "the two cells are one again: number the cores *before* they grow": """
                mask = p > 0.5
                grown = ndimage.binary_propagation(p > threshold, mask=mask)
                return ndimage.label(grown)[0]
            """,
            "a mask comes back; number the cells": """
                return ndimage.binary_propagation(p > threshold, mask=p > 0.5)
            """,
            "no cell comes back: `distance_transform_edt` looks for False; make the cores False": """
                cores = ndimage.label(p > threshold)[0]
                _, nearest = ndimage.distance_transform_edt(cores, return_indices=True)
                return np.where((p > 0.5) & (cores == 0), cores[tuple(nearest)], 0)
            """,
            "the nearest core is meant in a straight line, not by steps in the mask": """
                cells = ndimage.label(p > threshold)[0]
                cross = ndimage.generate_binary_structure(2, 1)
                for _ in range(sum(p.shape)):
                    grown = ndimage.grey_dilation(cells, footprint=cross)
                    cells = np.where((cells == 0) & (p > 0.5), grown, cells)
                return cells
            """,
            "far from its core, a pixel of the mask belongs to no cell: grow to the end": """
                cores = ndimage.label(p > threshold)[0]
                return np.where(p > 0.5, ndimage.grey_dilation(cores, size=5), 0)
            """,
            "a mask without a core has no cell, and you find one": """
                cores = ndimage.label(p > threshold)[0]
                if not cores.any():
                    return ndimage.label(p > 0.5)[0]
                _, nearest = ndimage.distance_transform_edt(cores == 0, return_indices=True)
                return np.where(p > 0.5, cores[tuple(nearest)], 0)
            """,
        },
        why="""
            A cell that is nowhere above the threshold has no core, and its pixels go to a neighbour. So
            cores do not bring back a cell that the threshold has eaten.
        """,
    ),
]
