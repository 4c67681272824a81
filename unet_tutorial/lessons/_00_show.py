"""The tasks of 00_show: which cells touch, and in which way a pixel is wrong."""

import numpy as np

from unet_tutorial.tasks import Task


def check_touching(touching):
    def pairs(*rows):
        return {(int(a), int(b)) for a, b in touching(np.array(rows))}

    found = pairs([1, 1, 2, 0, 3], [1, 1, 2, 0, 3])
    if any(0 in pair for pair in found):
        return "0 is in one of your pairs: it is the background, not a cell"
    if any(a == b for a, b in found):
        return "a cell is paired with itself: two neighbours of one label do not count"
    if (1, 2) not in found:
        return "cells side by side, [1, 2], are not found"
    if pairs([1], [2]) != {(1, 2)}:
        return "cells one above the other, [[1], [2]], are not found"
    if pairs([2, 1]) != {(1, 2)}:
        return "for [2, 1] the pair is (1, 2) and nothing else: the smaller label first"
    if pairs([1, 0, 0, 2]):
        return "the left and the right edge are no neighbours: `np.roll` makes them so"
    if pairs([0, 1, 0, 2, 0]):
        return "in [1, 0, 2] there is background between the cells: they do not touch"
    if pairs([1, 0], [0, 2]):
        return "in [[1, 0], [0, 2]] the cells meet at a corner; count four neighbours"
    for row, right in {(1, 3, 2): {(1, 3), (2, 3)}, (4, 9, 4): {(4, 9)}}.items():
        if pairs(row) != right:
            return (
                f"{list(row)}: the pairs are {sorted(right)}, not {sorted(pairs(row))}"
            )
    return None


def check_mistakes(mistakes):
    pred = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    true = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    found = mistakes(pred > 0, true > 0)
    if np.size(found) != 2:
        return "two numbers are asked for: wrong foreground, and missed foreground"
    wrong, missed = found
    known = {
        (1, 3): "these are swapped: wrong foreground is in `pred` and not in `true`",
        (
            4,
            4,
        ): "4 counts both kinds together; `!=` does not say which of the two masks is 0",
        (5, 3): "5 and 3 are the sizes of the masks: pixels that are right count too",
        (2, 2): "2 pixels are foreground in both masks: these are right",
    }
    if (wrong, missed) in known:
        return known[wrong, missed]
    if 0 < wrong < 1:
        return f"{wrong} is a share of the pixels; count them"
    if (wrong, missed) != (3, 1):
        return (
            f"3 pixels are wrong foreground and 1 is missed, not {wrong} and {missed}"
        )
    wrong, missed = mistakes(np.uint8(255 * pred), true)
    if (wrong, missed) != (3, 1):
        return f"3 and 1 become {wrong} and {missed} if `pred` holds 0 and 255: mind the type"
    wrong, missed = mistakes(pred * [6, 2, 5, 5, 5], 9 * true)
    if (wrong, missed) != (3, 1):
        return (
            "a cell may be 2 in `pred` and 9 in `true`: labels are names, not amounts"
        )
    return None


TASKS = [
    Task(
        number="0.1",
        title="Which cells touch?",
        ask="""
            Write a function that names the pairs of cells that touch: the set of `(smaller label,
            larger label)`, each pair once. Two cells touch if a pixel of one has a pixel of the
            other above, below, left or right of it. For the label map of this notebook the answer is
            `{(1, 2), (4, 5)}`.
        """,
        code='''
            def touching(labels):
                """Return the pairs of cells that touch, a set of (smaller, larger)."""
                pairs = set()
                # solution
                down = labels[1:], labels[:-1]
                right = labels[:, 1:], labels[:, :-1]
                for a, b in (down, right):
                    meet = (a != b) & (a > 0) & (b > 0)
                    small, large = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
                    pairs |= set(zip(small.tolist(), large.tolist(), strict=True))
                # end
                return pairs
        ''',
        checker=check_touching,
        hints=(
            "`border` compares each pixel with its neighbours. What must hold besides `!=`?",
            """
            Shift the map against itself by one row, then by one column. Where both labels are cells,
            and not the same one, note the smaller and the larger of the two.
            """,
            """
            down = labels[1:], labels[:-1]
            right = ...
            for a, b in (down, right):
                meet = (a != b) & ...  # and neither is background
                small, large = ...
                pairs |= set(zip(small.tolist(), large.tolist(), strict=True))
            """,
        ),
        wrong={
            "0 is in one of your pairs: it is the background, not a cell": """
                down = labels[1:], labels[:-1]
                right = labels[:, 1:], labels[:, :-1]
                for a, b in (down, right):
                    meet = a != b
                    small, large = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
                    pairs |= set(zip(small.tolist(), large.tolist(), strict=True))
            """,
            "a cell is paired with itself: two neighbours of one label do not count": """
                down = labels[1:], labels[:-1]
                right = labels[:, 1:], labels[:, :-1]
                for a, b in (down, right):
                    meet = (a > 0) & (b > 0)
                    small, large = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
                    pairs |= set(zip(small.tolist(), large.tolist(), strict=True))
            """,
            "cells one above the other, [[1], [2]], are not found": """
                a, b = labels[:, 1:], labels[:, :-1]
                meet = (a != b) & (a > 0) & (b > 0)
                small, large = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
                pairs |= set(zip(small.tolist(), large.tolist(), strict=True))
            """,
            "for [2, 1] the pair is (1, 2) and nothing else: the smaller label first": """
                down = labels[:-1], labels[1:]
                right = labels[:, :-1], labels[:, 1:]
                for a, b in (down, right):
                    meet = (a != b) & (a > 0) & (b > 0)
                    pairs |= set(zip(a[meet].tolist(), b[meet].tolist(), strict=True))
            """,
            "the left and the right edge are no neighbours: `np.roll` makes them so": """
                for axis in (0, 1):
                    a, b = labels, np.roll(labels, 1, axis)
                    meet = (a != b) & (a > 0) & (b > 0)
                    small, large = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
                    pairs |= set(zip(small.tolist(), large.tolist(), strict=True))
            """,
            "in [1, 0, 2] there is background between the cells: they do not touch": """
                for cell in range(1, labels.max() + 1):
                    grown = ndimage.binary_dilation(labels == cell, iterations=2)
                    for other in set(labels[grown].tolist()) - {0, cell}:
                        pairs.add((min(cell, other), max(cell, other)))
            """,
            "in [[1, 0], [0, 2]] the cells meet at a corner; count four neighbours": """
                for cell in range(1, labels.max() + 1):
                    grown = ndimage.binary_dilation(labels == cell, np.ones((3, 3)))
                    for other in set(labels[grown].tolist()) - {0, cell}:
                        pairs.add((min(cell, other), max(cell, other)))
            """,
            "[1, 3, 2]: the pairs are [(1, 3), (2, 3)], not [(2, 3)]": """
                down = labels[1:], labels[:-1]
                right = labels[:, 1:], labels[:, :-1]
                for a, b in (down, right):
                    meet = (abs(a - b) == 1) & (a > 0) & (b > 0)
                    small, large = np.minimum(a, b)[meet], np.maximum(a, b)[meet]
                    pairs |= set(zip(small.tolist(), large.tolist(), strict=True))
            """,
        },
        why="It is `border` with one more condition: neither of the two labels is 0.",
    ),
    Task(
        number="0.2",
        title="Two ways to be wrong",
        ask="""
            Count what `differences` paints: how many pixels are wrong foreground, and how many are
            missed. Prediction and truth come as masks of booleans, as masks of 0 and 1 or of 0 and
            255 (files hold both), or as label maps; everything but 0 is foreground.
        """,
        code='''
            def mistakes(pred, true):
                """Return how many pixels are wrong foreground, and how many missed."""
                # solution
                pred, true = pred != 0, true != 0
                wrong = pred & ~true
                missed = true & ~pred
                return wrong.sum(), missed.sum()
                # end
        ''',
        checker=check_mistakes,
        hints=(
            "Which question about a pixel has the same answer for `True`, 1, 255 and cell 6?",
            """
            Make both arrays boolean. Then a pixel is wrong foreground if it is in one mask and not
            in the other; for a missed one the masks change places.
            """,
            """
            pred, true = pred != 0, ...
            wrong = pred & ...
            missed = ...
            return wrong.sum(), missed.sum()
            """,
        ),
        wrong={
            "these are swapped: wrong foreground is in `pred` and not in `true`": """
                pred, true = pred != 0, true != 0
                return (true & ~pred).sum(), (pred & ~true).sum()
            """,
            "4 counts both kinds together; `!=` does not say which of the two masks is 0": """
                wrong = (pred != 0) != (true != 0)
                return wrong.sum(), wrong.sum()
            """,
            "two numbers are asked for: wrong foreground, and missed foreground": """
                return ((pred != 0) != (true != 0)).sum()
            """,
            "5 and 3 are the sizes of the masks: pixels that are right count too": """
                return (pred != 0).sum(), (true != 0).sum()
            """,
            "0.3 is a share of the pixels; count them": """
                pred, true = pred != 0, true != 0
                return (pred & ~true).mean(), (true & ~pred).mean()
            """,
            "3 and 1 become 1273 and 1 if `pred` holds 0 and 255: mind the type": """
                return (pred & ~true).sum(), (true & ~pred).sum()
            """,
            "3 and 1 become 5 and 1 if `pred` holds 0 and 255: mind the type": """
                return (pred > true).sum(), (true > pred).sum()
            """,
            "3 and 1 become 0 and 3 if `pred` holds 0 and 255: mind the type": """
                pred, true = pred == 1, true == 1
                return (pred & ~true).sum(), (true & ~pred).sum()
            """,
            "a cell may be 2 in `pred` and 9 in `true`: labels are names, not amounts": """
                pred, true = pred / pred.max(), true / true.max()
                return (pred > true).sum(), (true > pred).sum()
            """,
        },
        why="""
            Without the first line, `~` on numbers flips every bit: `~1` is -2, and `255 & ~1` is 254.
        """,
    ),
]
