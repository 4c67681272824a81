"""The tasks of 17_cars: a mask as the competition wants it, at its full size."""

import numpy as np
import torch
import torch.nn.functional as F

from unet_tutorial.tasks import Task


def mask_of(*rows):
    "A mask, each row as the digits of a text."
    return np.array([[int(digit) for digit in row] for row in rows])


def check_run_lengths(run_lengths):
    text = run_lengths(mask_of("0110", "0011"))
    if not isinstance(text, str):
        return f"the competition reads text, not {type(text).__name__}"
    known = {
        "1 2 6 2": "the first pixel has the number 1; you count from 0",
        "3 1 5 2 8 1": "columns come first; pixels are numbered row by row",
        "2 3 7 8": "the second number of a pair is a length, and yours is where it ends",
        "2 4 7 9": "the second number of a pair is a length, and yours is where it ends",
        "2 2": "the last run is lost: it ends where the mask ends",
        "2 2 2 7": "of each pair, the start comes first and then the length",
        "2 2 3 2": "in the second row you begin at 1 again; numbers go on",
        "2 2 7 1": "the first and the last pixel are lost: put a 0 before and after the row",
        "1 1 2 2 3 3 2": "the zeros are not sent: pairs of start and length of the ones",
        "2,2,7,2": "a blank separates the numbers",
    }
    if text in known:
        return known[text]
    if text.split() != ["2", "2", "7", "2"]:
        return f"0110 0011 is pixels 2, 3, 7 and 8, so `2 2 7 2`, not {text!r}"
    if "".join(text) != "2 2 7 2":
        return f"one blank between two numbers and none at the ends, not {text!r}"
    corners = run_lengths(mask_of("1100", "0011"))
    if corners in ("2 1 7 1", "2 1 7"):
        return "the first and the last pixel are lost: put a 0 before and after the row"
    if corners != "1 2 7 2":
        return f"1100 0011 touches both ends and is `1 2 7 2`, not {corners!r}"
    over = run_lengths(mask_of("0011", "1100"))
    if over == "3 2 5 2":
        return "a run goes on over the end of a row: `3 4`, not `3 2 5 2`"
    if over != "3 4":
        return f"0011 1100 is one run of four, `3 4`, not {over!r}"
    if run_lengths(mask_of("000", "000")) != "":
        return "a mask without a car is an empty text"
    as_bytes = run_lengths(mask_of("0110", "0011").astype(np.uint8))
    if as_bytes != "2 2 7 2":
        return "a mask of uint8 goes wrong: 0 - 1 is 255 there"
    if run_lengths(mask_of("0110", "0011") > 0) != "2 2 7 2":
        return "a mask of booleans goes wrong"
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.integers(0, 2, (5, 7))
        pairs = np.array(run_lengths(mask).split(), int).reshape(-1, 2)
        pixels = np.zeros(35, int)
        for start, length in pairs:
            pixels[start - 1 : start - 1 + length] = 1
        if not np.array_equal(pixels.reshape(5, 7), mask):
            return "a drawn mask comes back changed from its runs"
    return None


def check_full_size(full_size):
    logits = torch.full((2, 4, 6), -1.0)
    logits[0] = 1.0
    logits[:, 1:3, 2:4] = torch.tensor([-1.0, 1.0])[:, None, None]
    mask = full_size(logits.clone(), (12, 30))
    if not isinstance(mask, torch.Tensor):
        return f"a tensor is meant, not {type(mask).__name__}"
    if mask.shape == (30, 12):
        return "height comes first: (12, 30) is 12 rows, and you give 30"
    if mask.shape != (12, 30):
        return (
            f"the photograph has 12 rows and 30 columns; yours is {tuple(mask.shape)}"
        )
    if mask.dtype != torch.bool:
        return f"a mask is boolean: p > 0.5, not {mask.dtype}"
    if mask.float().mean() > 0.5:
        return "car and background are swapped: class 1 is car"
    torch.manual_seed(0)
    for scale in (1.0, 6.0):
        logits = scale * F.avg_pool2d(torch.randn(2, 14, 20), 3, 1)
        right = torch.softmax(logits, 0)[1]
        far = F.interpolate(right[None, None], (60, 90), mode="bilinear")[0, 0]
        got = full_size(logits.clone(), (60, 90))
        if torch.equal(got, far > 0.5):
            continue
        small = (right > 0.5).float()[None, None]
        if torch.equal(got, F.interpolate(small, (60, 90))[0, 0] > 0.5):
            return "steps as large as the net's pixels: use `bilinear`, and decide afterwards"
        blurred = F.interpolate(small, (60, 90), mode="bilinear")[0, 0] > 0.5
        if torch.equal(got, blurred):
            return "you enlarge a mask: what the net was unsure of is lost before"
        corners = F.interpolate(
            right[None, None], (60, 90), mode="bilinear", align_corners=True
        )
        if torch.equal(got, corners[0, 0] > 0.5):
            return (
                "`align_corners=True` moves the outline: pixels are areas, not points"
            )
        raw = F.interpolate(logits[None], (60, 90), mode="bilinear")[0]
        if torch.equal(got, raw.softmax(0)[1] > 0.5):
            return "enlarge probabilities, not logits: a large logit moves the outline"
        if torch.equal(got, torch.sigmoid(raw[1]) > 0.5):
            return "two logits belong together: softmax over the classes, no sigmoid"
        if torch.equal(got, raw[1] > 0.5):
            return "a logit above 0.5 is no probability above 0.5: softmax comes first"
        flat = logits.softmax(1)[None, 1:]
        rows = F.interpolate(flat, (60, 90), mode="bilinear")[0, 0] > 0.5
        if torch.equal(got, rows):
            return "the softmax runs along the rows of pixels; the classes are axis 0"
        return f"{(got != (far > 0.5)).sum()} of 5,400 pixels are not as they should be"
    return None


TASKS = [
    Task(
        number="17.1",
        title="A mask in one line of text",
        ask="""
            100,000 masks of 1280x1918 are too much to send. So the competition took *runs*: pixels are
            numbered row by row from the upper left, the first is 1, and each run of car pixels becomes
            two numbers, where it starts and how long it is. All numbers are in one line, separated by
            blanks: the rows `0110` and `0011` are `2 2 7 2`. A run may go on over the end of a row.
        """,
        code='''
            def run_lengths(mask):
                """Return the runs of a mask (H, W) of 0 and 1 as text."""
                # solution
                row = np.concatenate([[0], np.ravel(mask), [0]]).astype(int)
                changes = np.flatnonzero(np.diff(row)) + 1  # where 0 and 1 meet
                starts, ends = changes[::2], changes[1::2]
                pairs = np.stack([starts, ends - starts], axis=1)
                return " ".join(map(str, pairs.ravel()))
                # end
        ''',
        checker=check_run_lengths,
        hints=(
            "In one long row of zeros and ones, where does a run start and where does it end?",
            """
            Both are places where a pixel differs from the one before. Put a 0 before the first and after
            the last pixel, so that every run has a start and an end; then they alternate.
            """,
            """
            row = np.concatenate([[0], ..., [0]])
            changes = np.flatnonzero(...) + 1
            starts, ends = changes[::2], changes[1::2]
            pairs = np.stack([starts, ...], axis=1)
            return " ".join(map(str, pairs.ravel()))
            """,
        ),
        wrong={
            "columns come first; pixels are numbered row by row": """
                row = np.concatenate([[0], np.ravel(mask, order="F"), [0]]).astype(int)
                changes = np.flatnonzero(np.diff(row)) + 1
                changes[1::2] -= changes[::2]
                return " ".join(map(str, changes))
            """,
            "the first pixel has the number 1; you count from 0": """
                row = np.concatenate([[0], np.ravel(mask), [0]]).astype(int)
                changes = np.flatnonzero(np.diff(row))
                changes[1::2] -= changes[::2]
                return " ".join(map(str, changes))
            """,
            "the second number of a pair is a length, and yours is where it ends": """
                row = np.concatenate([[0], np.ravel(mask), [0]]).astype(int)
                return " ".join(map(str, np.flatnonzero(np.diff(row)) + 1))
            """,
            "the first and the last pixel are lost: put a 0 before and after the row": """
                row = np.array(mask).ravel()
                row[0] = row[-1] = 0  # so that runs have a start and an end
                changes = np.flatnonzero(row[1:] != row[:-1]) + 2
                changes[1::2] -= changes[::2]
                return " ".join(map(str, changes))
            """,
            "a run goes on over the end of a row: `3 4`, not `3 2 5 2`": """
                runs = []
                for y, line in enumerate(np.asarray(mask)):
                    row = np.concatenate([[0], line, [0]]).astype(int)
                    changes = np.flatnonzero(np.diff(row)) + 1
                    for start, end in zip(changes[::2], changes[1::2], strict=True):
                        runs += [y * len(line) + start, end - start]
                return " ".join(map(str, runs))
            """,
            "the last run is lost: it ends where the mask ends": """
                runs, length = [], 0
                for place, value in enumerate(np.ravel(mask), 1):
                    if value:
                        length += 1
                    elif length:
                        runs += [place - length, length]
                        length = 0
                return " ".join(map(str, runs))
            """,
            "of each pair, the start comes first and then the length": """
                row = np.concatenate([[0], np.ravel(mask), [0]]).astype(int)
                changes = np.flatnonzero(np.diff(row)) + 1
                pairs = [f"{e - s} {s}" for s, e in zip(changes[::2], changes[1::2])]
                return " ".join(pairs)
            """,
            "the competition reads text, not list": """
                row = np.concatenate([[0], np.ravel(mask), [0]]).astype(int)
                changes = np.flatnonzero(np.diff(row)) + 1
                changes[1::2] -= changes[::2]
                return changes.tolist()
            """,
        },
        why="""
            A drawn mask of 153,600 pixels is some 170 runs, a line of 1,700 characters. Some later
            competitions number the pixels column by column, from top to bottom. The text does not say
            in which order it is, and a mask that is read in the other order is still a mask.
        """,
    ),
    Task(
        number="17.2",
        title="The mask of the whole photograph",
        ask="""
            A net answers with logits of two classes, (2, h, w), at the size of its training. Make the
            mask of the photograph: as large as `shape` says, (H, W), and boolean. One pixel of the net is
            many pixels of the photograph, and the outline must not go in steps of that size. Between
            two pixels of the net, the probabilities say where the outline runs.
        """,
        code='''
            def full_size(logits, shape):
                """Return the mask (H, W) of logits (2, h, w), at the size of the photograph."""
                # solution
                p = logits.softmax(dim=0)[None, 1:]  # (1, 1, h, w): how likely it is car
                large = F.interpolate(p, shape, mode="bilinear", align_corners=False)
                return large[0, 0] > 0.5
                # end
        ''',
        checker=check_full_size,
        hints=(
            "What knows where between two pixels an outline is: the mask, or what it is made from?",
            """
            Make probabilities of the logits, enlarge the one of class 1 with `F.interpolate`, and decide
            at the very end. `F.interpolate` needs a tensor of four axes, and `mode="bilinear"`.
            """,
            """
            p = ...[None, 1:]  # (1, 1, h, w)
            large = F.interpolate(p, ..., mode=...)
            return large[0, 0] > ...
            """,
        ),
        wrong={
            "steps as large as the net's pixels: use `bilinear`, and decide afterwards": """
                mask = logits.argmax(dim=0).float()
                return F.interpolate(mask[None, None], shape)[0, 0] > 0.5
            """,
            "you enlarge a mask: what the net was unsure of is lost before": """
                mask = logits.argmax(dim=0).float()[None, None]
                return F.interpolate(mask, shape, mode="bilinear")[0, 0] > 0.5
            """,
            "enlarge probabilities, not logits: a large logit moves the outline": """
                large = F.interpolate(logits[None], shape, mode="bilinear")[0]
                return large.argmax(dim=0) == 1
            """,
            "`align_corners=True` moves the outline: pixels are areas, not points": """
                p = logits.softmax(dim=0)[None, 1:]
                large = F.interpolate(p, shape, mode="bilinear", align_corners=True)
                return large[0, 0] > 0.5
            """,
            "height comes first: (12, 30) is 12 rows, and you give 30": """
                p = logits.softmax(dim=0)[None, 1:]
                return F.interpolate(p, shape[::-1], mode="bilinear")[0, 0] > 0.5
            """,
            "car and background are swapped: class 1 is car": """
                p = logits.softmax(dim=0)[None, :1]
                return F.interpolate(p, shape, mode="bilinear")[0, 0] > 0.5
            """,
            "a logit above 0.5 is no probability above 0.5: softmax comes first": """
                large = F.interpolate(logits[None], shape, mode="bilinear")[0]
                return large[1] > 0.5
            """,
            "the softmax runs along the rows of pixels; the classes are axis 0": """
                p = logits.softmax(dim=1)[None, 1:]
                return F.interpolate(p, shape, mode="bilinear")[0, 0] > 0.5
            """,
            "two logits belong together: softmax over the classes, no sigmoid": """
                large = F.interpolate(logits[None], shape, mode="bilinear")[0]
                return large[1].sigmoid() > 0.5
            """,
            "a mask is boolean: p > 0.5, not torch.float32": """
                p = logits.softmax(dim=0)[None, 1:]
                return F.interpolate(p, shape, mode="bilinear")[0, 0]
            """,
        },
        why="""
            Say the logit of car is 9 in one pixel and -1 in the next, and the logit of background is 0 in
            both. If you enlarge the logits, the outline is at nine tenths of the way, because the large one
            wins nearly everywhere. If you enlarge the probabilities, 1.00 and 0.27, it is at two thirds.
            `Predictor` does the same as this function.
        """,
    ),
]
