"""The tasks of 19_ablation: the same start, and what a few seeds can tell."""

import math
from itertools import permutations

import numpy as np
import torch
from torch import nn

from unet_tutorial.tasks import Task


class Net(nn.Module):
    "A few layers: what a base and a change have in common, and what they do not."

    def __init__(self, seed, changed=False):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(1, 2, 3, bias=False)
        if changed:
            self.added = nn.Conv2d(2, 2, 3, bias=False)  # as large as the next one
        self.second = nn.Conv2d(2, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.last = nn.Conv2d(4 if changed else 1, 2, 1, bias=False)
        with torch.no_grad():
            self.norm.running_mean += seed


def state_of(net):
    "A copy of all that a net holds."
    return {name: value.clone() for name, value in net.state_dict().items()}


def check_same_start(same_start):
    base, changed = Net(1), Net(2, changed=True)
    theirs, before = state_of(base), state_of(changed)
    names = same_start(base, changed)
    now, mine = changed.state_dict(), base.state_dict()

    def same(state, name, other):
        return torch.equal(state[name], other)

    if not all(same(mine, name, theirs[name]) for name in theirs):
        return "it is the base that has changed; the other net has to follow it"
    if all(same(now, name, before[name]) for name in before):
        return "nothing has arrived: a state is a dictionary; put it back into the net"
    if not same(now, "last.weight", before["last.weight"]):
        return "a weight of another shape was spread over a larger one: compare shapes"
    if not same(now, "added.weight", before["added.weight"]):
        return "the new layer has got the weights of another one: go by name, not order"
    if not same(now, "second.weight", theirs["second.weight"]):
        return "`second` is in both nets, and has not been copied"
    if not same(now, "norm.running_mean", theirs["norm.running_mean"]):
        return "running mean and variance are no parameters, but belong to the state: copy them"
    shared = {value.data_ptr() for value in base.state_dict().values()}
    if any(value.data_ptr() in shared for value in changed.state_dict().values()):
        return "the two nets share their weights now: train one, and the other moves"
    right = [name for name in theirs if name != "last.weight"]
    if hasattr(names, "missing_keys"):
        return "`load_state_dict` gives what did *not* arrive; return what was copied"
    if not isinstance(names, list | tuple | set):
        return f"return the names of what was copied, not {type(names).__name__}"
    if set(names) != set(right):
        wrong = sorted(set(names) ^ set(right))
        return f"the names that you return are not those copied: look at {wrong[0]!r}"
    return None


def luck(differences):
    "The share of all signs whose mean is as far from zero."
    signs = 2 * np.indices((2,) * len(differences)).reshape(len(differences), -1) - 1
    sums = np.abs(np.dot(differences, signs))
    return float((sums >= abs(sum(differences)) * (1 - 1e-9)).mean())


def check_by_luck(by_luck):
    share = float(by_luck([3.0, 2.0, 1.0]))
    known = {
        0.0: "the measured signs are one of the ways: count means that are *as* far, too",
        0.125: "you count one side only; three seeds below zero would be as surprising",
        0.75: "that is the share of means that are nearer to zero",
        1.0: "all your means are equally far: change signs, and not the order of the values",
        2.0: "2 of the 8 cases are as far; return the share, 0.25",
    }
    mixed = float(by_luck([1.0, -2.0, 4.0]))
    if share == 0.125 and float(by_luck([1.0, -3.0, 2.5])) == 0.875:
        return "0 or 1 leaves differences out; a sign is -1 or 1"
    if share == 0.75 and mixed != 1 - luck([1.0, -2.0, 4.0]):
        return "a sum is compared with a mean: divide both, or none"
    if share == 0 and mixed != 0.5:
        return "turn several signs at once, too: three differences have eight ways"
    if share in known:
        return known[share]
    if not math.isclose(share, 0.25):
        return f"3, 2 and 1: of 8 means 2 are as far from zero, 0.25, not {share:.4f}"
    below = float(by_luck([-3.0, -2.0, -1.0]))
    if not math.isclose(below, 0.25):
        return f"with the signs of all three turned the share is the same, not {below}"
    for values in ([1.0, -2.0, 4.0], [2.0, 1.0, 1.0, -0.5, 3.0]):
        if not math.isclose(float(by_luck(list(values))), luck(values)):
            got = float(by_luck(list(values)))
            return f"{values}: the share is {luck(values):.4f}, not {got:.4f}"
    for values in permutations([0.3, 0.2, 0.1]):
        if not math.isclose(float(by_luck(list(values))), 0.25):
            text = "0.3 + 0.2 + 0.1 and 0.1 + 0.2 + 0.3 differ in the last digit"
            return f"{text}: allow for rounding when you compare"
    return None


# Student's t: its 97.5 % quantile for 2, 3, 4 ... values
QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
    *(2.040, 2.037, 2.035, 2.032, 2.030, 2.028, 2.026, 2.024, 2.023, 2.021),
)
STUDENT = dict(enumerate(QUANTILES, start=2))


def needed(values, ddof=1, root=0.5, factor=None, times=1):
    "The number of seeds by a formula that is right, or nearly so."
    mean, spread = abs(np.mean(values)), np.std(values, ddof=ddof)
    half = {n: times * (factor or t) * spread / n**root for n, t in STUDENT.items()}
    return next((n for n in half if half[n] < mean), max(half) + 1)


def check_seeds_needed(seeds_needed):
    values = [0.6, -0.3, 0.9, 1.4]
    number = seeds_needed(list(values), dict(STUDENT))
    if number != seeds_needed([value / 10 for value in values], dict(STUDENT)):
        return (
            "in another unit the number changes: take the deviation, not the variance"
        )
    formulas = {
        needed(
            values, times=2
        ): "`student[n]` gives *half* the width; do not double it",
        needed(values, factor=STUDENT[4]): "you keep one factor of `student`; look it "
        "up again for each number of seeds",
        needed(values, factor=1.96): "1.96 is for many seeds; for a few take `student`",
        needed(values, root=1): "the half width falls with the root of the number",
        needed(values, ddof=0): "the spread of a few values: divide by n - 1, `ddof=1`",
    }
    right, few = needed(values), [1.0, -0.2, 2.0]
    if number == right - 4 and seeds_needed(few, dict(STUDENT)) == needed(few) - 3:
        return "that is how many seeds to add; return the number of all seeds together"
    if number != right and number in formulas:
        return formulas[number]
    if number == right - 1:
        return f"{number} seeds still have zero in the interval: one more is needed"
    if number != right:
        return f"0.6, -0.3, 0.9 and 1.4 need {right} seeds, not {number}"
    try:
        below = seeds_needed([-value for value in values], dict(STUDENT))
    except Exception:  # whatever happens when nothing is found
        below = None
    if below != right:
        return "a mean below zero needs as many seeds: compare with its size, `abs`"
    for values in ([0.7, 0.8, 0.9], [1.0, -0.2, 2.0], [3.0, 1.0, 2.0, 4.0, 0.0]):
        number = seeds_needed(list(values), dict(STUDENT))
        if number != needed(values):
            return f"{values} need {needed(values)} seeds, not {number}"
    return None


TASKS = [
    Task(
        number="19.1",
        title="The same start",
        ask="""
            With the same seed, two nets begin alike only up to the first layer that one of them does
            not have: from there on every random number is a different one. Write the function that copies
            into `changed` everything of the state of `base` (its `state_dict`) that fits, by name and by shape.
            The rest stays as it is. Return the names of what was copied.
        """,
        code='''
            def same_start(base, changed):
                """Copy the state of base into changed where it fits; return the names."""
                # solution
                theirs, mine = base.state_dict(), changed.state_dict()
                fits = {
                    name: value
                    for name, value in theirs.items()
                    if name in mine and mine[name].shape == value.shape
                }
                changed.load_state_dict(fits, strict=False)
                return list(fits)
                # end
        ''',
        checker=check_same_start,
        hints=(
            "What does a net hold besides its parameters, and what are these things called?",
            """
            A state is a dictionary from names to tensors, for both nets. Choose what is in both with the
            same shape. A net takes a part of a state if you do not ask for strictness.
            """,
            """
            theirs, mine = ..., ...
            fits = {name: value for name, value in theirs.items() if ... and ...}
            changed.load_state_dict(..., strict=...)
            return ...
            """,
        ),
        wrong={
            "nothing has arrived: a state is a dictionary; put it back into the net": """
                theirs, mine = base.state_dict(), changed.state_dict()
                same = [n for n in theirs if n in mine and mine[n].shape == theirs[n].shape]
                mine.update({name: theirs[name] for name in same})
                return same
            """,
            "the new layer has got the weights of another one: go by name, not order": """
                pairs = zip(base.state_dict().items(), changed.state_dict().items())
                names = []
                for (name, value), (_, mine) in pairs:
                    if value.shape == mine.shape:
                        mine.copy_(value)
                        names.append(name)
                return names
            """,
            "a weight of another shape was spread over a larger one: compare shapes": """
                theirs, mine = base.state_dict(), changed.state_dict()
                same = [name for name in theirs if name in mine]
                for name in same:
                    mine[name].copy_(theirs[name])
                return same
            """,
            "running mean and variance are no parameters, but belong to the state: copy them": """
                theirs, names = dict(base.named_parameters()), []
                for name, weight in changed.named_parameters():
                    if name in theirs and theirs[name].shape == weight.shape:
                        weight.data.copy_(theirs[name].data)
                        names.append(name)
                return names
            """,
            "the two nets share their weights now: train one, and the other moves": """
                theirs, mine = base.state_dict(), changed.state_dict()
                same = [n for n in theirs if n in mine and mine[n].shape == theirs[n].shape]
                fits = {name: theirs[name] for name in same}
                changed.load_state_dict(fits, strict=False, assign=True)
                return same
            """,
            "it is the base that has changed; the other net has to follow it": """
                theirs, mine = base.state_dict(), changed.state_dict()
                same = [n for n in theirs if n in mine and mine[n].shape == theirs[n].shape]
                base.load_state_dict({name: mine[name] for name in same}, strict=False)
                return same
            """,
            "`load_state_dict` gives what did *not* arrive; return what was copied": """
                theirs, mine = base.state_dict(), changed.state_dict()
                same = [n for n in theirs if n in mine and mine[n].shape == theirs[n].shape]
                fits = {name: theirs[name] for name in same}
                return changed.load_state_dict(fits, strict=False)
            """,
            "the names that you return are not those copied: look at 'last.weight'": """
                theirs, mine = base.state_dict(), changed.state_dict()
                same = [n for n in theirs if n in mine and mine[n].shape == theirs[n].shape]
                changed.load_state_dict({name: theirs[name] for name in same}, strict=False)
                return [name for name in theirs if name in mine]
            """,
        },
        why="""
            The table of this notebook needs none of it: where layers are the same, they are drawn in the
            same order. In notebook 20 a residual block has one layer more, so its net does not begin
            with the weights of its partner.
        """,
    ),
    Task(
        number="19.2",
        title="How far by luck?",
        ask="""
            If a part brings nothing, each pair could as well have come out the other way round, and its
            difference would have the other sign. Go through *all* ways of giving each difference a
            plus or a minus: three differences, such as 3, 2 and 1, have eight. Compute the mean of
            each way. Return the share of these means that are at least as far from zero, on either
            side, as the measured mean.
        """,
        code='''
            def by_luck(differences):
                """Return the share of signs with a mean as far from zero as the measured one."""
                # solution
                n = len(differences)
                signs = 2 * np.indices((2,) * n).reshape(n, -1) - 1  # (n, 2^n): -1 or 1
                means = np.abs(np.dot(differences, signs)) / n
                measured = abs(np.mean(differences))
                return np.mean(means >= measured - 1e-9)  # 1e-9: sums are rounded
                # end
        ''',
        checker=check_by_luck,
        hints=(
            "Three pairs, each + or -: how many ways, and which two means are farthest from zero?",
            """
            Make a table of -1 and 1, with a row per pair and a column per way. The product of the
            differences with the table gives all sums. Compare their sizes with that of the measured
            sum, and allow for rounding.
            """,
            """
            n = len(differences)
            signs = 2 * np.indices((2,) * n).reshape(n, -1) - 1  # (n, 2^n): -1 or 1
            means = np.abs(...) / n
            return np.mean(means >= ...)
            """,
        ),
        wrong={
            "the measured signs are one of the ways: count means that are *as* far, too": """
                n = len(differences)
                signs = 2 * np.indices((2,) * n).reshape(n, -1) - 1
                sums = np.abs(np.dot(differences, signs))
                return np.mean(sums > abs(sum(differences)) + 1e-9)
            """,
            "turn several signs at once, too: three differences have eight ways": """
                values, ways = np.array(differences), 1 - 2 * np.eye(len(differences))
                means = np.abs(ways @ values) / len(values)
                return np.mean(means >= abs(values.mean()) - 1e-9)
            """,
            "you count one side only; three seeds below zero would be as surprising": """
                n = len(differences)
                signs = 2 * np.indices((2,) * n).reshape(n, -1) - 1
                return np.mean(np.dot(differences, signs) >= sum(differences) - 1e-9)
            """,
            "all your means are equally far: change signs, and not the order of the values": """
                rng = np.random.default_rng(0)
                means = [np.mean(rng.permutation(differences)) for _ in range(1000)]
                return np.mean(np.abs(means) >= abs(np.mean(differences)) - 1e-9)
            """,
            "a sum is compared with a mean: divide both, or none": """
                n = len(differences)
                signs = 2 * np.indices((2,) * n).reshape(n, -1) - 1
                sums = np.abs(np.dot(differences, signs))
                return np.mean(sums >= abs(np.mean(differences)) - 1e-9)
            """,
            "0 or 1 leaves differences out; a sign is -1 or 1": """
                n = len(differences)
                signs = np.indices((2,) * n).reshape(n, -1)
                sums = np.abs(np.dot(differences, signs))
                return np.mean(sums >= abs(sum(differences)) - 1e-9)
            """,
            "2 of the 8 cases are as far; return the share, 0.25": """
                n = len(differences)
                signs = 2 * np.indices((2,) * n).reshape(n, -1) - 1
                sums = np.abs(np.dot(differences, signs))
                return np.sum(sums >= abs(sum(differences)) - 1e-9)
            """,
            "that is the share of means that are nearer to zero": """
                n = len(differences)
                signs = 2 * np.indices((2,) * n).reshape(n, -1) - 1
                sums = np.abs(np.dot(differences, signs))
                return np.mean(sums < abs(sum(differences)) - 1e-9)
            """,
        },
        why="""
            Three seeds that agree give 2 of 8 at best: by this count alone no row of the table could
            ever be told from luck, not even the one without skips. Six seeds that agree give 2 of 64. The
            intervals above conclude more from three, because they assume that differences are spread
            like a bell curve.
        """,
    ),
    Task(
        number="19.3",
        title="How many seeds?",
        ask=r"""
            A row cannot be told from zero. Suppose that more seeds change neither its mean difference nor
            the spread of the differences. With how many would the interval no longer contain zero? Its half
            width is $t_n\,s / \sqrt n$, where $s$ is the standard deviation that is estimated from the
            values. `student[n]` is $t_n$: 12.706 for 2 seeds, 4.303 for 3, and so on, as far as you need.
        """,
        code='''
            def seeds_needed(differences, student):
                """Return the smallest number of seeds whose interval misses zero."""
                # solution
                mean, spread = abs(np.mean(differences)), np.std(differences, ddof=1)
                for n in sorted(student):
                    if student[n] * spread / n**0.5 < mean:
                        return n
                # end
        ''',
        checker=check_seeds_needed,
        hints=(
            "Which two numbers of the half width change with $n$, and which one does not?",
            """
            Take mean and spread of the differences once. Then go up with the number of seeds until the
            half width, with the factor of that number, is smaller than the size of the mean.
            """,
            """
            mean, spread = ..., np.std(differences, ddof=...)
            for n in sorted(student):
                if ... < mean:
                    return n
            """,
        ),
        wrong={
            "that is how many seeds to add; return the number of all seeds together": """
                mean, spread = abs(np.mean(differences)), np.std(differences, ddof=1)
                every = (n for n in student if student[n] * spread / n**0.5 < mean)
                return next(every) - len(differences)
            """,
            "the spread of a few values: divide by n - 1, `ddof=1`": """
                mean, spread = abs(np.mean(differences)), np.std(differences)
                return next(n for n in student if student[n] * spread / n**0.5 < mean)
            """,
            "you keep one factor of `student`; look it up again for each number of seeds": """
                mean, spread = abs(np.mean(differences)), np.std(differences, ddof=1)
                n, factor = len(differences), student[len(differences)]
                while factor * spread / n**0.5 >= mean:
                    n = n + 1
                return n
            """,
            "in another unit the number changes: take the deviation, not the variance": """
                mean, spread = abs(np.mean(differences)), np.var(differences, ddof=1)
                return next(n for n in student if student[n] * spread / n**0.5 < mean)
            """,
            "`student[n]` gives *half* the width; do not double it": """
                mean, spread = abs(np.mean(differences)), np.std(differences, ddof=1)
                return next(n for n in student if 2 * student[n] * spread / n**0.5 < mean)
            """,
            "1.96 is for many seeds; for a few take `student`": """
                mean, spread = abs(np.mean(differences)), np.std(differences, ddof=1)
                return int(np.ceil((1.96 * spread / mean) ** 2))
            """,
            "the half width falls with the root of the number": """
                mean, spread = abs(np.mean(differences)), np.std(differences, ddof=1)
                return next(n for n in student if student[n] * spread / n < mean)
            """,
            "a mean below zero needs as many seeds: compare with its size, `abs`": """
                mean, spread = np.mean(differences), np.std(differences, ddof=1)
                return next(n for n in student if student[n] * spread / n**0.5 < mean)
            """,
            "7 seeds still have zero in the interval: one more is needed": """
                mean, spread = abs(np.mean(differences)), np.std(differences, ddof=1)
                return max(n for n in student if student[n] * spread / n**0.5 > mean)
            """,
        },
        why="""
            By this count 6 seeds would do for the two padded rows, 11 for torch's first weights, 22 for
            deformation and 32 for drop-out. These numbers are rough, because three values do not tell
            their spread well.
        """,
    ),
]
