"""The tasks of 18_your_data: unknown pixels, and which image to correct first."""

import numpy as np

from unet_tutorial.tasks import Task


def halves(pred, true):
    "The Dice of two masks."
    return 2 * (pred & true).sum() / (pred.sum() + true.sum())


def check_known_dice(known_dice):
    rng = np.random.default_rng(0)
    true = rng.choice([0, 0, 0, 1, 1, -100], (9, 12)).astype(np.int64)
    pred = np.where(rng.random((9, 12)) < 0.2, true != 1, true == 1)
    pred[true == -100] = rng.random((true == -100).sum()) < 0.7
    known = true != -100
    got, right = known_dice(pred, true), halves(pred[known], true[known] == 1)
    if np.shape(got) != ():
        return f"one number is asked for, and it has shape {np.shape(got)}"
    both, either = pred & (true == 1), known & (pred | (true == 1))
    mistakes = {
        "what the net says about unknown pixels counts as invented: leave them out": (
            halves(pred, true == 1)
        ),
        "unknown pixels count as objects; only those with a 1 are": (
            halves(pred, true != 0)
        ),
        "the background counts as object; only a 1 is object": halves(pred, known),
        "each -100 is added up as if it were a number of pixels": (
            2 * (pred * true).sum() / (pred.sum() + true.sum())
        ),
        "that is the share of right pixels; Dice does not count the background": (
            (pred == true)[known].mean()
        ),
        "that is the IoU: Dice divides by the sum of both masks, not by their union": (
            both.sum() / either.sum()
        ),
        "unknown pixels count as if the net were right there: leave them out": (
            halves(pred, np.where(known, true == 1, pred))
        ),
        "that is how much of the object was found; what was invented counts, too": (
            both.sum() / (true == 1).sum()
        ),
        "that is how much of the prediction is right; what was missed counts, too": (
            both.sum() / (pred & known).sum()
        ),
        "the background is known, too: it is 0, and only -100 is unknown": (
            halves(pred[true == 1], true[true == 1] == 1)
        ),
        "that is half of it: the common pixels count twice": right / 2,
        "the unknown pixels are kept and the others thrown away": (
            halves(pred[~known], true[~known] != 0)
        ),
    }
    for says, wrong in mistakes.items():
        if np.isclose(got, wrong):
            return says
    if not np.isclose(got, right):
        return f"this pair has a Dice of {right:.3f}, yours is {got:.3f}"
    nothing = np.full((4, 4), -100)
    nothing[0] = 1
    if not np.isclose(known_dice(nothing == 1, nothing), 1):
        return "if the net is right at every known pixel, the Dice must be 1"
    return None


def answers_of_a_net(seed):
    "Probabilities (3, H, W) of six images of several sizes."
    rng = np.random.default_rng(seed)
    found = []
    for sharpness in rng.permutation([0.5, 0.8, 1.2, 1.7, 2.5, 4.0]):
        size = rng.integers(4, 15, 2)
        logits = sharpness * rng.normal(0, 1, (3, *size)) + rng.normal(
            0, 0.5, (3, 1, 1)
        )
        p = np.exp(logits)
        found.append(p / p.sum(0))
    return found


def even_answers():
    "Probabilities of six images that are nearly the same at each pixel."
    pixels = [(0.5, 0.49, 0.01), (0.54, 0.24, 0.22), (0.94, 0.04, 0.02)]
    pixels += [(0.9, 0.06, 0.04), (0.3, 0.3, 0.4), (0.98, 0.005, 0.015)]
    rng, found = np.random.default_rng(0), []
    for p in pixels:
        p = np.reshape(p, (3, 1, 1)) * np.exp(rng.normal(0, 0.03, (3, 4, 5)))
        found.append(p / p.sum(0))
    return found


def largest(score, probabilities, few=3):
    "Return the places of the largest scores, the largest first."
    return np.argsort([-score(p) for p in probabilities]).tolist()[:few]


def doubt(p):
    return (1 - p.max(0)).mean()


REST = "the doubt is 1 minus the largest probability; yours also looks at the other classes"
SCORES = {
    REST: lambda p: (p * (1 - p)).mean(),
    f"{REST} (entropy)": lambda p: -(p * np.log(p)).sum(0).mean(),
    "1 - p is largest for the *least* likely class: take 1 - p.max(0)": (
        lambda p: (1 - p).max(0).mean()
    ),
    "the classes are axis 0, and you take the maximum along the columns": (
        lambda p: (1 - p.max(-1)).mean()
    ),
    "the surest images come first; turn the order round": lambda p: -doubt(p),
    "large images win because doubt is added up: take the mean over the pixels": (
        lambda p: (1 - p.max(0)).sum()
    ),
    "p[1] says how much of one class there is, not how much doubt": (
        lambda p: p[1].mean()
    ),
    "1 - p[1] says how little of one class there is, not how much doubt": (
        lambda p: 1 - p[1].mean()
    ),
    "1 - p[0] says how much foreground there is, and the net may be sure of it": (
        lambda p: 1 - p[0].mean()
    ),
    "one doubtful pixel decides, and each outline has doubtful pixels: take the mean": (
        lambda p: (1 - p.max(0)).max()
    ),
    "p.max() is the surest pixel of the image; the likeliest class is p.max(0)": (
        lambda p: 1 - p.max()
    ),
}


def check_correct_first(correct_first):
    cases = [*(answers_of_a_net(seed) for seed in range(8)), even_answers()]
    got = [correct_first(case, 3) for case in cases]
    if any(np.ndim(place) > 0 for place in got[0]):
        return "these are the images; their *places* in the list are asked for"
    got = [np.asarray(one) for one in got]
    if all(one.shape == (6,) for one in got):
        return "three places are asked for, and there are six: use `few`"
    if not all(one.shape == (3,) for one in got):
        return f"three places in a list are asked for; the shape is {got[0].shape}"
    if any(one.dtype.kind == "f" for one in got):
        return "these are doubts; the *places* of the images in the list are asked for"
    got, right = [one.tolist() for one in got], [largest(doubt, c) for c in cases]
    if got == right:
        return None
    if got == [[place + 1 for place in one] for one in right]:
        return "places in a list count from 0, and yours from 1"
    for says, score in SCORES.items():
        if got == [largest(score, case) for case in cases]:
            return says
    if [sorted(one) for one in got] == [sorted(one) for one in right]:
        return "these are the right images, but the most doubtful one must come first"
    at = [one == two for one, two in zip(got, right, strict=True)].index(False)
    return f"for six images, {right[at]} are in doubt most, and yours are {got[at]}"


TASKS = [
    Task(
        number="18.1",
        title="Only what is known",
        ask="""
            Compute the Dice of one image whose mask has unknown pixels, as `read_mask(..., ignore=255)`
            returns it: 1 is object, 0 is background, -100 is unknown. `pred` (H, W) is the net's mask, of
            booleans. Unknown pixels must count neither for nor against the net.
        """,
        code='''
            def known_dice(pred, true):
                """Return the Dice of the known pixels."""
                # solution
                known = true != -100
                pred, true = pred[known], true[known] == 1
                return 2 * (pred & true).sum() / (pred.sum() + true.sum())
                # end
        ''',
        checker=check_known_dice,
        hints=(
            "Two masks go into a Dice. In which of them are there pixels to leave out?",
            """
            A mask of booleans chooses pixels. Choose the known ones from `pred` and from `true`.
            Then compute the Dice as always.
            """,
            """
            known = ...
            pred, true = ...  # of the known pixels, both as booleans
            return ...
            """,
        ),
        wrong={
            "the background counts as object; only a 1 is object": """
                true = true != -100
                return 2 * (pred & true).sum() / (pred.sum() + true.sum())
            """,
            "what the net says about unknown pixels counts as invented: leave them out": """
                true = true == 1
                return 2 * (pred & true).sum() / (pred.sum() + true.sum())
            """,
            "unknown pixels count as objects; only those with a 1 are": """
                true = true.astype(bool)
                return 2 * (pred & true).sum() / (pred.sum() + true.sum())
            """,
            "each -100 is added up as if it were a number of pixels": """
                return 2 * (pred * true).sum() / (pred.sum() + true.sum())
            """,
            "that is the share of right pixels; Dice does not count the background": """
                known = true != -100
                return (pred[known] == true[known]).mean()
            """,
            "that is the IoU: Dice divides by the sum of both masks, not by their union": """
                known = true != -100
                pred, true = pred[known], true[known] == 1
                return (pred & true).sum() / (pred | true).sum()
            """,
            "unknown pixels count as if the net were right there: leave them out": """
                true = np.where(true == -100, pred, true) == 1
                return 2 * (pred & true).sum() / (pred.sum() + true.sum())
            """,
            "that is how much of the object was found; what was invented counts, too": """
                return (pred & (true == 1)).sum() / (true == 1).sum()
            """,
            "that is how much of the prediction is right; what was missed counts, too": """
                known = true != -100
                return (pred & (true == 1)).sum() / pred[known].sum()
            """,
            "the background is known, too: it is 0, and only -100 is unknown": """
                known = true > 0
                pred, true = pred[known], true[known] == 1
                return 2 * (pred & true).sum() / (pred.sum() + true.sum())
            """,
            "that is half of it: the common pixels count twice": """
                known = true != -100
                pred, true = pred[known], true[known] == 1
                return (pred & true).sum() / (pred.sum() + true.sum())
            """,
        },
        why="Loss and metrics of this course do the same, with `ignore_index=-100`.",
    ),
    Task(
        number="18.2",
        title="Which to correct first",
        ask="""
            A thousand masks are waiting to be corrected, and you have an hour. Choose the images about
            which the net is most in doubt. The doubt about a pixel is 1 minus the probability of its
            likeliest class. The doubt about an image is the mean over its pixels. `probabilities` is a list
            of arrays (K, H, W), of several sizes and any number of classes. Return the places in this
            list, counted from 0, of the `few` most doubtful images, the most doubtful first.
        """,
        code='''
            def correct_first(probabilities, few):
                """Return the places of a few images in the list, the most doubtful first."""
                # solution
                doubts = [(1 - p.max(axis=0)).mean() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
                # end
        ''',
        checker=check_correct_first,
        hints=(
            "Which axis holds the classes, and which number per image is left in the end?",
            """
            Take the maximum over the classes and the mean over the pixels. `np.argsort` sorts places,
            the smallest value first.
            """,
            """
            doubts = [... for p in probabilities]
            return ...  # the places of the largest, as many as `few` says
            """,
        ),
        wrong={
            "the surest images come first; turn the order round": """
                doubts = [(1 - p.max(axis=0)).mean() for p in probabilities]
                return np.argsort(doubts)[:few].tolist()
            """,
            "large images win because doubt is added up: take the mean over the pixels": """
                doubts = [(1 - p.max(axis=0)).sum() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
            """,
            "p[1] says how much of one class there is, not how much doubt": """
                return np.argsort([-p[1].mean() for p in probabilities])[:few].tolist()
            """,
            "1 - p[0] says how much foreground there is, and the net may be sure of it": """
                return np.argsort([p[0].mean() for p in probabilities])[:few].tolist()
            """,
            "one doubtful pixel decides, and each outline has doubtful pixels: take the mean": """
                doubts = [(1 - p.max(axis=0)).max() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
            """,
            "the doubt is 1 minus the largest probability; yours also looks at the other "
            "classes": """
                doubts = [(p * (1 - p)).mean() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
            """,
            "the doubt is 1 minus the largest probability; yours also looks at the other "
            "classes (entropy)": """
                doubts = [-(p * np.log(p)).sum(axis=0).mean() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
            """,
            "1 - p is largest for the *least* likely class: take 1 - p.max(0)": """
                doubts = [(1 - p).max(axis=0).mean() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
            """,
            "the classes are axis 0, and you take the maximum along the columns": """
                doubts = [(1 - p.max(axis=-1)).mean() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
            """,
            "these are the images; their *places* in the list are asked for": """
                doubts = [(1 - p.max(axis=0)).mean() for p in probabilities]
                return [probabilities[at] for at in np.argsort(doubts)[::-1][:few]]
            """,
            "1 - p[1] says how little of one class there is, not how much doubt": """
                doubts = [(1 - p[1]).mean() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
            """,
            "places in a list count from 0, and yours from 1": """
                doubts = [(1 - p.max(axis=0)).mean() for p in probabilities]
                return (1 + np.argsort(doubts)[::-1][:few]).tolist()
            """,
            "p.max() is the surest pixel of the image; the likeliest class is p.max(0)": """
                doubts = [1 - p.max() for p in probabilities]
                return np.argsort(doubts)[::-1][:few].tolist()
            """,
            "three places are asked for, and there are six: use `few`": """
                doubts = [(1 - p.max(axis=0)).mean() for p in probabilities]
                return np.argsort(doubts)[::-1].tolist()
            """,
            "these are doubts; the *places* of the images in the list are asked for": """
                doubts = [(1 - p.max(axis=0)).mean() for p in probabilities]
                return sorted(doubts, reverse=True)[:few]
            """,
            "these are the right images, but the most doubtful one must come first": """
                doubts = [(1 - p.max(axis=0)).mean() for p in probabilities]
                return np.argsort(doubts)[-few:].tolist()
            """,
        },
        why="""
            Doubt finds the mistakes of which the net is unsure. Where the net is wrong and sure, doubt is
            small; so look at a few other images, too.
        """,
    ),
]
