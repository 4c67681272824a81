"""The tasks of 11_metrics: Dice from the counts of all images, and cells that match."""

import numpy as np
import torch

from unet_tutorial.metrics import count_pixels
from unet_tutorial.tasks import Task


def dices(counts):
    "The Dice of each class."
    right, total = counts.diagonal(), counts.sum(0) + counts.sum(1)
    return torch.where(total > 0, 2 * right / total.clamp(min=1), 1.0)


def mistaken_dices(batches, num_classes):
    "What the usual mistakes make of some batches -> what is wrong with them."
    parts = [count_pixels(pred, true, num_classes) for pred, true in batches]
    counts = sum(parts)
    right, true, pred = counts.diagonal(), counts.sum(1), counts.sum(0)
    images = [pair for batch in batches for pair in zip(*batch, strict=True)]
    each = [dices(count_pixels(*pair, num_classes))[1:].mean() for pair in images]
    means = torch.stack([dices(part)[1:].mean() for part in parts])
    sizes = torch.tensor([len(pred) for pred, _ in batches])
    objects = 2 * right[1:].sum() / (true + pred)[1:].sum()
    told = {
        means.mean(): "this is the mean over batches: add the counts first, then take Dice",
        torch.stack(each).mean(): "this is the mean over images: add the counts first",
        means[-1]: "only the last batch is counted",
        means[0]: "only the first batch is counted",
        (means * sizes).sum() / sizes.sum(): (
            "this is the mean over batches, weighted by their size: add the counts first"
        ),
        (dices(counts) * true)[1:].sum() / true[1:].sum(): (
            "you weight the classes by their size: each counts alike"
        ),
        dices(counts).mean(): "the background is in your mean: it is class 0",
        objects: "you added all classes up, so the largest decides: take a mean over classes",
        (right / (true + pred - right))[1:].mean(): "this is IoU; Dice counts 2 TP",
        (right / true)[1:].mean(): "this is recall: invented pixels cost nothing",
        (right / pred)[1:].mean(): "this is precision: missed pixels cost nothing",
        right.sum() / counts.sum(): "this is the share of right pixels, all classes",
    }
    return told


def check_mean_dice(mean_dice):
    true = torch.zeros(6, 8, 8, dtype=torch.int64)
    true[0, 1:7, 1:6], true[1, 2:4, 2:4], true[2, 5:, 5:], true[4, :2] = 1, 2, 1, 2
    pred = true.roll((1, 1), (1, 2))
    pred[3, 3, 3], pred[4, 5:, 3:] = 2, 1
    batches = list(zip(pred.split(4), true.split(4), strict=True))
    value = mean_dice(list(batches), 3)
    if np.asarray(value).size > 1:
        return f"{len(value)} numbers come back: return one, their mean"
    value = float(value)
    right = float(dices(count_pixels(pred, true, 3))[1:].mean())
    for number, told in mistaken_dices(batches, 3).items():
        if np.isclose(value, float(number)) and not np.isclose(value, right):
            return told
    if not np.isclose(value, right):
        return f"three classes give {right:.4f}; yours is {value:.4f}"
    true[:, :, 0] = -100  # no truth there
    batches = list(zip(pred.split(4), true.split(4), strict=True))
    right = float(dices(count_pixels(pred, true, 3))[1:].mean())
    if not np.isclose(float(mean_dice(batches, 3)), right):
        return "pixels labelled -100 have no truth, and yours count"
    value, some = float(mean_dice([(pred, true)], 4)), right
    right = (2 * right + 1) / 3
    told = {
        some: "a class that is nowhere is left out of your mean: it counts, with Dice 1",
        2 * some / 3: "a class that is nowhere and predicted nowhere has Dice 1, not 0",
    }
    for number, text in told.items():
        if np.isclose(value, number):
            return text
    if not np.isclose(value, right, equal_nan=False):
        text = "a class that is nowhere and predicted nowhere has Dice 1"
        return f"{text}, not nan" if np.isnan(value) else f"{text}: {right:.4f} in all"
    return None


def cells_of(*boxes):
    "A label map of 12 x 20 pixels with cells (id, top, bottom, left, right)."
    cells = np.zeros((12, 20), np.int64)
    for number, top, bottom, left, right in boxes:
        cells[top:bottom, left:right] = number
    return cells


def check_count_cells(count_cells):
    one = cells_of((1, 0, 4, 0, 4), (2, 0, 4, 6, 10), (3, 6, 10, 0, 4))
    swapped = cells_of((2, 0, 4, 0, 4), (3, 0, 4, 6, 10), (1, 6, 10, 0, 4))
    ints = [tuple(map(int, count_cells(a, one))) for a in (one.copy(), swapped)]
    if ints[0] == (4, 0, 0):
        return "4 cells are found where there are 3: 0 is the background, no cell"
    if ints == [(3, 0, 1)] * 2:
        return "one cell invented too many: the 0 of the prediction is background"
    if ints == [(3, 1, 0)] * 2:
        return "one cell missed too many: the 0 of the truth is background"
    if ints == [(3, 0, 0), (0, 3, 3)]:
        return "the same cells with other numbers are not found: match by overlap"
    if ints != [(3, 0, 0)] * 2:
        return f"the same three cells give {ints[0]} and, renumbered, {ints[1]}"
    return check_mistaken_cells(count_cells, one)


def check_mistaken_cells(count_cells, one):
    gaps = one + cells_of((7, 8, 12, 12, 16), (9, 8, 12, 17, 20))
    merged = np.where(one == 2, 1, one)
    merged[:4, 4:6] = 1  # 40 pixels, over two cells of 16
    half, whole = cells_of((1, 0, 4, 0, 2)), cells_of((1, 0, 4, 0, 4))
    full = np.where(one == 0, 8, one)  # no pixel is background
    cases = [
        ("two cells too many", gaps, one, (3, 0, 2)),
        ("two cells merged, one right", merged, one, (1, 2, 1)),
        ("half a cell", half, whole, (0, 1, 1)),
        ("twice a cell", whole, half, (0, 1, 1)),
        ("two cells lost", one, gaps, (3, 2, 0)),
        ("an empty prediction", np.zeros_like(one), one, (0, 3, 0)),
        ("a prediction without background", full, one, (3, 0, 1)),
        ("a truth without background", one, full, (3, 1, 0)),
    ]
    equal = "has an IoU of exactly 0.5, and more is asked for"
    none = "has no 0 that could be left out: count the ids above 0"
    told = {
        "two cells too many": {
            (3, 0, 6): "ids may have gaps: with 3, 7 and 9 there are no cells 4, 5, 6",
        },
        "two cells merged, one right": {
            (3, 0, -1): (
                "a cell over two others finds neither: its IoU with each is below 0.5"
            ),
        },
        "half a cell": {(1, 0, 0): f"half a cell {equal}"},
        "twice a cell": {(1, 0, 0): f"a prediction twice as large as the cell {equal}"},
    }
    for name in ("a prediction without background", "a truth without background"):
        told[name] = dict.fromkeys([(3, 0, 0), (2, 1, 1)], f"{name} {none}")
    for name, pred, true, right in cases:
        got = tuple(map(int, count_cells(pred.copy(), true.copy())))
        if got != right:
            return told.get(name, {}).get(got, f"{name}: {right}, and not {got}")
    return None


TASKS = [
    Task(
        number="11.1",
        title="Dice of many classes, from counts",
        ask="""
            `batches` is a list of pairs (predicted classes, true classes), each (B, H, W). Return
            the Dice of the classes 1 to K - 1, averaged: one number per class from the pixels of
            *all* batches, then their mean. Pixels whose true class is -100 do not count. A class
            that is nowhere in truth and prediction has Dice 1. `count_pixels` is allowed, and
            `dice_of` will not do: it is for two classes.
        """,
        code='''
            def mean_dice(batches, num_classes):
                """Return the mean Dice of classes 1 to K - 1, over all pixels."""
                # solution
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                right = counts.diagonal()  # (K,), TP of each class
                total = counts.sum(dim=0) + counts.sum(dim=1)  # predicted + true
                dice_of_each = torch.where(total > 0, 2 * right / total, 1.0)
                return dice_of_each[1:].mean().item()
                # end
        ''',
        checker=check_mean_dice,
        hints=(
            "Which numbers of two batches can be added, and which cannot?",
            """
            Add the tables. For class k, TP is on the diagonal, the row k sums up to TP + FN, and
            the column k to TP + FP. How do you write Dice with these three?
            """,
            """
            counts = sum(... for batch in batches)  # (K, K)
            right = counts.diagonal()
            total = ...  # (K,), pixels predicted as a class, plus pixels of that class
            dice_of_each = torch.where(total > 0, ..., 1.0)
            return ...  # without class 0
            """,
        ),
        wrong={
            "this is the mean over batches: add the counts first, then take Dice": """
                parts = []
                for batch in batches:
                    counts = count_pixels(*batch, num_classes)
                    total = counts.sum(dim=0) + counts.sum(dim=1)
                    each = torch.where(total > 0, 2 * counts.diagonal() / total, 1.0)
                    parts.append(each[1:].mean())
                return torch.stack(parts).mean().item()
            """,
            "this is the mean over images: add the counts first": """
                parts = []
                for pred, true in batches:
                    for pair in zip(pred, true):
                        counts = count_pixels(*pair, num_classes)
                        total = counts.sum(dim=0) + counts.sum(dim=1)
                        each = torch.where(total > 0, 2 * counts.diagonal() / total, 1.0)
                        parts.append(each[1:].mean())
                return torch.stack(parts).mean().item()
            """,
            "the background is in your mean: it is class 0": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                total = counts.sum(dim=0) + counts.sum(dim=1)
                return (2 * counts.diagonal() / total).mean().item()
            """,
            "2 numbers come back: return one, their mean": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                total = counts.sum(dim=0) + counts.sum(dim=1)
                each = torch.where(total > 0, 2 * counts.diagonal() / total, 1.0)
                return each[1:]
            """,
            "only the first batch is counted": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches[:1])
                total = counts.sum(dim=0) + counts.sum(dim=1)
                each = torch.where(total > 0, 2 * counts.diagonal() / total, 1.0)
                return each[1:].mean().item()
            """,
            "this is the mean over batches, weighted by their size: add the counts first": """
                whole, images = 0, 0
                for pred, true in batches:
                    counts = count_pixels(pred, true, num_classes)
                    total = counts.sum(dim=0) + counts.sum(dim=1)
                    each = torch.where(total > 0, 2 * counts.diagonal() / total, 1.0)
                    whole, images = whole + len(pred) * each[1:].mean(), images + len(pred)
                return (whole / images).item()
            """,
            "you weight the classes by their size: each counts alike": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                total = counts.sum(dim=0) + counts.sum(dim=1)
                each = torch.where(total > 0, 2 * counts.diagonal() / total, 1.0)
                sizes = counts.sum(dim=1)[1:]
                return (each[1:] * sizes).sum().item() / sizes.sum().item()
            """,
            "a class that is nowhere is left out of your mean: it counts, with Dice 1": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                total = counts.sum(dim=0) + counts.sum(dim=1)
                there = total[1:] > 0
                return (2 * counts.diagonal() / total)[1:][there].mean().item()
            """,
            "a class that is nowhere and predicted nowhere has Dice 1, not 0": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                total = counts.sum(dim=0) + counts.sum(dim=1)
                each = 2 * counts.diagonal() / total.clamp(min=1)
                return each[1:].mean().item()
            """,
            "this is IoU; Dice counts 2 TP": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                right = counts.diagonal()
                total = counts.sum(dim=0) + counts.sum(dim=1)
                return (right / (total - right))[1:].mean().item()
            """,
            "this is recall: invented pixels cost nothing": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                return (counts.diagonal() / counts.sum(dim=1))[1:].mean().item()
            """,
            "you added all classes up, so the largest decides: take a mean over classes": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                total = counts.sum(dim=0) + counts.sum(dim=1)
                return (2 * counts.diagonal()[1:].sum() / total[1:].sum()).item()
            """,
            "pixels labelled -100 have no truth, and yours count": """
                each = []
                for k in range(1, num_classes):
                    right = sum(((p == k) & (t == k)).sum() for p, t in batches)
                    total = sum((p == k).sum() + (t == k).sum() for p, t in batches)
                    each.append(2 * right / total if total else torch.tensor(1.0))
                return torch.stack(each).mean().item()
            """,
            "a class that is nowhere and predicted nowhere has Dice 1, not nan": """
                counts = sum(count_pixels(*batch, num_classes) for batch in batches)
                total = counts.sum(dim=0) + counts.sum(dim=1)
                return (2 * counts.diagonal() / total)[1:].mean().item()
            """,
        },
        why="""
            Row plus column holds TP twice, and FP and FN once: the denominator of Dice. For two
            classes this is `dice_of`.
        """,
    ),
    Task(
        number="11.2",
        title="Cells found, missed and invented",
        ask="""
            Invented cells cost nothing in SEG. Another count, used in many challenges, sees them: a
            true cell is *found* if a predicted cell has an IoU of more than 0.5 with it, otherwise
            *missed*; a predicted cell that finds none is *invented*. Return the three numbers, in
            this order. 0 is background; ids mean nothing, and may have gaps.
        """,
        code='''
            def count_cells(pred, true):
                """Return how many cells of two label maps are found, missed, invented."""
                # solution
                cells = [true == i for i in np.unique(true) if i > 0]
                others = [pred == i for i in np.unique(pred) if i > 0]
                found = sum(iou(o, c) > 0.5 for c in cells for o in others)
                return found, len(cells) - found, len(others) - found
                # end
        ''',
        checker=check_count_cells,
        hints=(
            "Can two predicted cells both have an IoU of more than 0.5 with the same true cell?",
            """
            They cannot, since each would cover more than half of that cell. So it is enough to count the
            pairs of a true and a predicted cell above 0.5; all other cells are missed or invented.
            """,
            """
            cells = [true == i for i in ... if i > 0]  # a mask per cell
            others = ...
            found = sum(iou(o, c) > 0.5 for ...)
            return found, ..., ...
            """,
        ),
        wrong={
            "the same cells with other numbers are not found: match by overlap": """
                numbers = [i for i in np.unique(true) if i > 0]
                others = [i for i in np.unique(pred) if i > 0]
                found = sum(iou(pred == i, true == i) > 0.5 for i in numbers)
                return found, len(numbers) - found, len(others) - found
            """,
            "4 cells are found where there are 3: 0 is the background, no cell": """
                cells = [true == i for i in np.unique(true)]
                others = [pred == i for i in np.unique(pred)]
                found = sum(iou(o, c) > 0.5 for c in cells for o in others)
                return found, len(cells) - found, len(others) - found
            """,
            "a cell over two others finds neither: its IoU with each is below 0.5": """
                cells = [true == i for i in np.unique(true) if i > 0]
                others = [pred == i for i in np.unique(pred) if i > 0]
                found = sum((o & c).sum() > c.sum() / 2 for c in cells for o in others)
                return found, len(cells) - found, len(others) - found
            """,
            "one cell invented too many: the 0 of the prediction is background": """
                cells = [true == i for i in np.unique(true) if i > 0]
                others = [pred == i for i in np.unique(pred)]
                found = sum(iou(o, c) > 0.5 for c in cells for o in others)
                return found, len(cells) - found, len(others) - found
            """,
            "one cell missed too many: the 0 of the truth is background": """
                cells = [true == i for i in np.unique(true)]
                others = [pred == i for i in np.unique(pred) if i > 0]
                found = sum(iou(o, c) > 0.5 for c in cells for o in others)
                return found, len(cells) - found, len(others) - found
            """,
            "a prediction without background has no 0 that could be left out: "
            "count the ids above 0": """
                ious = cell_ious(pred, true).values()
                found = sum(value > 0.5 for value in ious)
                return found, len(ious) - found, len(np.unique(pred)) - 1 - found
            """,
            "a truth without background has no 0 that could be left out: "
            "count the ids above 0": """
                cells = [true == i for i in np.unique(true)[1:]]
                others = [pred == i for i in np.unique(pred) if i > 0]
                found = sum(iou(o, c) > 0.5 for c in cells for o in others)
                return found, len(cells) - found, len(others) - found
            """,
            "a prediction twice as large as the cell has an IoU of exactly 0.5, "
            "and more is asked for": """
                ious = cell_ious(pred, true).values()
                found = sum(value >= 0.5 for value in ious)
                others = [i for i in np.unique(pred) if i > 0]
                return found, len(ious) - found, len(others) - found
            """,
            "half a cell has an IoU of exactly 0.5, and more is asked for": """
                cells = [true == i for i in np.unique(true) if i > 0]
                others = [pred == i for i in np.unique(pred) if i > 0]
                found = sum(iou(o, c) >= 0.5 for c in cells for o in others)
                return found, len(cells) - found, len(others) - found
            """,
            "ids may have gaps: with 3, 7 and 9 there are no cells 4, 5, 6": """
                cells = [true == i for i in range(1, true.max() + 1)]
                others = [pred == i for i in range(1, pred.max() + 1)]
                found = sum(iou(o, c) > 0.5 for c in cells for o in others)
                return found, len(cells) - found, len(others) - found
            """,
            "two cells merged, one right: (1, 2, 1), and not (1, 2, 0)": """
                cells = [true == i for i in np.unique(true) if i > 0]
                others = [pred == i for i in np.unique(pred) if i > 0]
                found = sum(iou(o, c) > 0.5 for c in cells for o in others)
                return found, len(cells) - found, max(0, len(others) - len(cells))
            """,
        },
        why="""
            `found / (found + missed + invented)` is the score of the Data Science Bowl at the
            threshold 0.5, and the mean of this score over several thresholds ranked the nets.
        """,
    ),
]
