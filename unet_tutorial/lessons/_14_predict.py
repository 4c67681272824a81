"""The tasks of 14_predict: ask from two sides, and choose a threshold."""

import numpy as np
import torch
import torch.nn.functional as F

from unet_tutorial.tasks import Task


def lopsided(x):
    "Logits (B, 3, H, W) of a net with a left and a right, for (B, 1, H, W)."
    before = F.pad(x, (1, 0))[..., :-1]  # the neighbour on the left
    above = F.pad(x, (0, 0, 2, 0))[..., :-2, :]
    return torch.cat([x, 3 * before, 2 * above - x], dim=1)


def check_both_sides(both_sides):
    x = torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    given, p = x.clone(), both_sides(lopsided, x)
    logits, other = lopsided(given), lopsided(given.flip(-1))
    back = other.flip(-1)
    one, two = logits.softmax(1), back.softmax(1)
    if p.shape == one[:, 0].shape:
        return "these are labels; average probabilities, and decide afterwards"
    if p.shape != one.shape:
        return f"the shape must be {tuple(one.shape)}, and it is {tuple(p.shape)}"
    upside = lopsided(given.flip(-2)).flip(-2).softmax(1)
    known = {
        "the second answer must be mirrored back before it is added": other.softmax(1),
        "that is top and bottom exchanged; left and right are the last axis": upside,
        "you ask twice about the same image": one,
    }
    for says, second in known.items():
        if torch.allclose(p, (one + second) / 2):
            return says
    known = {
        "the two answers are added; half of their sum is the mean": one + two,
        "these are logits; make probabilities of both, then average": (logits + back)
        / 2,
        "you average logits, and the surer answer outvotes the other": (
            ((logits + back) / 2).softmax(1)
        ),
        "that is the soft-max of a sum; make probabilities of each answer first": (
            (logits + back).softmax(1)
        ),
        "your soft-max runs over the images, dim=0; the classes are dim=1": (
            (logits.softmax(0) + back.softmax(0)) / 2
        ),
    }
    for says, wrong in known.items():
        if torch.allclose(p, wrong):
            return says
    if not torch.allclose(p.sum(1), torch.ones(2, 5, 7)):
        return "at each pixel the probabilities of the classes must add up to 1"
    if not torch.allclose(p, (one + two) / 2):
        return "these are probabilities, but not the mean of the two answers"
    return None


THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def sections(seed):
    "Probabilities (2, H, W) of four images of several sizes, and their truths."
    rng = np.random.default_rng(seed)
    probabilities, truths = [], []
    for side in (6, 8, 11, 40):
        truth = rng.random((side, side)) < rng.uniform(0.03, 0.3)
        shift = -2.4 if seed == 11 else 2.4  # one net has it the wrong way round
        logit = shift * truth + rng.normal(-1.5, 1.2, truth.shape) + rng.normal(0, 0.8)
        p = 1 / (1 + np.exp(-logit))
        probabilities.append(np.stack([1 - p, p]))
        truths.append(truth)
    return probabilities, truths


def picked_by(score, probabilities, truths, channel=1):
    "Return the first threshold with the highest score of three counts per image."
    scores = []
    for threshold in THRESHOLDS:
        masks = [p[channel] > threshold for p in probabilities]
        both = [(m & t).sum() for m, t in zip(masks, truths, strict=True)]
        counts = [both, [m.sum() for m in masks], [t.sum() for t in truths]]
        scores.append(score(*np.array(counts, float)))
    return THRESHOLDS[int(np.argmax(scores))]


def pooled(both, found, true):
    return 2 * both.sum() / max(found.sum() + true.sum(), 1)


MISTAKES = {  # what is said: the score, and the channel that is compared
    "that threshold has the highest mean of all Dices; add up the counts first": (
        lambda both, found, true: (2 * both / np.maximum(found + true, 1)).mean(),
        1,
    ),
    "that threshold has the fewest wrong pixels; the highest Dice is asked for": (
        lambda both, found, true: 2 * both.sum() - found.sum(),
        1,
    ),
    "that threshold invents least, but it may miss much: the Dice counts both": (
        lambda both, found, true: both.sum() / max(found.sum(), 1),
        1,
    ),
    "that threshold has the lowest Dice; the highest is asked for": (
        lambda both, found, true: -pooled(both, found, true),
        1,
    ),
    "p[0] is the background: compare p[1], or 1 - p[0], with the threshold": (
        pooled,
        0,
    ),
}


def check_pick_threshold(pick_threshold):
    cases = [sections(seed) for seed in range(12)]
    picked = [pick_threshold(*case, list(THRESHOLDS)) for case in cases]
    right = [picked_by(pooled, *case) for case in cases]
    if all(isinstance(one, int | np.integer) for one in picked):
        return "that is a place in the list; return the threshold at that place"
    if not all(one in THRESHOLDS for one in picked):
        return (
            "that is none of the thresholds; is it the Dice that one of them reaches?"
        )
    if picked == right:
        return None
    if len(set(picked)) == 1 and len(set(right)) > 1:
        return f"you always return {picked[0]}: is a mask made with each threshold?"
    for says, (score, channel) in MISTAKES.items():
        if picked == [picked_by(score, *case, channel) for case in cases]:
            return says
    at = [one == two for one, two in zip(picked, right, strict=True)].index(False)
    return f"four images that reach their best Dice at {right[at]} get {picked[at]}"


TASKS = [
    Task(
        number="14.1",
        title="Asked from both sides",
        ask="""
            The net of a colleague is padded: `net(x)` gives logits (B, K, H, W), as large as the
            images (B, C, H, W). His objects have an up and a down, but left and right are alike. Return
            the mean of two answers: about the images, and about their mirror images. Nothing but
            tensors and their methods, please.
        """,
        code='''
            def both_sides(net, x):
                """Return probabilities (B, K, H, W), the mean of two views."""
                # solution
                p = net(x).softmax(1)
                mirrored = net(x.flip(-1)).softmax(1)
                return (p + mirrored.flip(-1)) / 2
                # end
        ''',
        checker=check_both_sides,
        hints=(
            "Where is the left eye of a face in the answer about its mirror image?",
            """
            The last axis runs from left to right. Mirror the images along it before you ask, and mirror
            the answer afterwards. Make probabilities over the classes before you average.
            """,
            """
            p = ...  # probabilities for x
            mirrored = ...  # probabilities for the mirror image of x
            return ...  # the mean of p and of mirrored, flipped back
            """,
        ),
        wrong={
            "the second answer must be mirrored back before it is added": """
                return (net(x).softmax(1) + net(x.flip(-1)).softmax(1)) / 2
            """,
            "that is top and bottom exchanged; left and right are the last axis": """
                mirrored = net(x.flip(2)).flip(2)
                return (net(x).softmax(1) + mirrored.softmax(1)) / 2
            """,
            "you ask twice about the same image": """
                x.flip(-1)
                return (net(x).softmax(1) + net(x).softmax(1)) / 2
            """,
            "the two answers are added; half of their sum is the mean": """
                return net(x).softmax(1) + net(x.flip(-1)).flip(-1).softmax(1)
            """,
            "these are logits; make probabilities of both, then average": """
                return (net(x) + net(x.flip(-1)).flip(-1)) / 2
            """,
            "you average logits, and the surer answer outvotes the other": """
                return ((net(x) + net(x.flip(-1)).flip(-1)) / 2).softmax(1)
            """,
            "that is the soft-max of a sum; make probabilities of each answer first": """
                return (net(x) + net(x.flip(-1)).flip(-1)).softmax(1)
            """,
            "your soft-max runs over the images, dim=0; the classes are dim=1": """
                return (net(x).softmax(0) + net(x.flip(-1)).flip(-1).softmax(0)) / 2
            """,
            "these are labels; average probabilities, and decide afterwards": """
                p = net(x).softmax(1) + net(x.flip(-1)).flip(-1).softmax(1)
                return p.argmax(1)
            """,
            "at each pixel the probabilities of the classes must add up to 1": """
                p = torch.maximum(net(x).softmax(1), net(x.flip(-1)).flip(-1).softmax(1))
                return p
            """,
        },
        why="""
            A flip undoes itself, so the same flip leads back. A quarter turn does not: `turn_back`
            turns the other way.
        """,
    ),
    Task(
        number="14.2",
        title="A threshold for these images",
        ask="""
            Choose the threshold by its Dice (notebook 11). You get lists: the probabilities
            (2, H, W) of some held-out images, their truths (H, W) of booleans, and the thresholds to
            try. The images have several sizes, and the Dice is that of all their pixels together.
        """,
        code='''
            def pick_threshold(probabilities, truths, thresholds):
                """Return the threshold with the highest Dice."""
                # solution
                dices = []
                for threshold in thresholds:
                    both = sizes = 0
                    for p, truth in zip(probabilities, truths, strict=True):
                        mask = p[1] > threshold
                        both += (mask & truth).sum()
                        sizes += mask.sum() + truth.sum()
                    dices.append(2 * both / sizes)
                return thresholds[int(np.argmax(dices))]
                # end
        ''',
        checker=check_pick_threshold,
        hints=(
            "Should an image of 100 pixels count as much as one of 10,000?",
            """
            For each threshold go through all images and add up two numbers: the foreground that mask and
            truth share, and the foreground of the mask plus that of the truth. Divide once, after the
            last image.
            """,
            """
            dices = []
            for threshold in thresholds:
                both = sizes = 0
                for p, truth in zip(probabilities, truths, strict=True):
                    mask = ...
                    both += ...
                    sizes += ...
                dices.append(...)
            return thresholds[...]
            """,
        ),
        wrong={
            "that threshold has the highest mean of all Dices; add up the counts first": """
                dices = []
                for threshold in thresholds:
                    each = []
                    for p, truth in zip(probabilities, truths, strict=True):
                        mask = p[1] > threshold
                        sizes = mask.sum() + truth.sum()
                        each.append(2 * (mask & truth).sum() / max(sizes, 1))
                    dices.append(np.mean(each))
                return thresholds[int(np.argmax(dices))]
            """,
            "p[0] is the background: compare p[1], or 1 - p[0], with the threshold": """
                dices = []
                for threshold in thresholds:
                    both = sizes = 0
                    for p, truth in zip(probabilities, truths, strict=True):
                        mask = p[0] > threshold
                        both += (mask & truth).sum()
                        sizes += mask.sum() + truth.sum()
                    dices.append(2 * both / sizes)
                return thresholds[int(np.argmax(dices))]
            """,
            "that threshold has the fewest wrong pixels; the highest Dice is asked for": """
                wrong = []
                for threshold in thresholds:
                    pairs = zip(probabilities, truths, strict=True)
                    wrong.append(sum(((p[1] > threshold) != t).sum() for p, t in pairs))
                return thresholds[int(np.argmin(wrong))]
            """,
            "that is a place in the list; return the threshold at that place": """
                dices = []
                for threshold in thresholds:
                    masks = [p[1] > threshold for p in probabilities]
                    both = sum((m & t).sum() for m, t in zip(masks, truths))
                    dices.append(2 * both / sum(m.sum() + t.sum() for m, t in zip(masks, truths)))
                return int(np.argmax(dices))
            """,
            "that is none of the thresholds; is it the Dice that one of them reaches?": """
                dices = []
                for threshold in thresholds:
                    masks = [p[1] > threshold for p in probabilities]
                    both = sum((m & t).sum() for m, t in zip(masks, truths))
                    dices.append(2 * both / sum(m.sum() + t.sum() for m, t in zip(masks, truths)))
                return max(dices)
            """,
            "that threshold has the lowest Dice; the highest is asked for": """
                dices = []
                for threshold in thresholds:
                    masks = [p[1] > threshold for p in probabilities]
                    both = sum((m & t).sum() for m, t in zip(masks, truths))
                    dices.append(2 * both / sum(m.sum() + t.sum() for m, t in zip(masks, truths)))
                return thresholds[int(np.argmin(dices))]
            """,
            "you always return 0.1: is a mask made with each threshold?": """
                dices = []
                for threshold in thresholds:
                    masks = [p.argmax(0) == 1 for p in probabilities]
                    both = sum((m & t).sum() for m, t in zip(masks, truths))
                    dices.append(2 * both / sum(m.sum() + t.sum() for m, t in zip(masks, truths)))
                return thresholds[int(np.argmax(dices))]
            """,
            "that threshold invents least, but it may miss much: the Dice counts both": """
                shares = []
                for threshold in thresholds:
                    masks = [p[1] > threshold for p in probabilities]
                    both = sum((m & t).sum() for m, t in zip(masks, truths))
                    shares.append(both / max(sum(m.sum() for m in masks), 1))
                return thresholds[int(np.argmax(shares))]
            """,
        },
        why="""
            A threshold belongs to its images and its net. So choose the threshold on held-out images, and
            report the Dice of other ones.
        """,
    ),
]
