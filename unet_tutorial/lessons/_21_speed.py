"""The tasks of 21_speed: what can be gained, how it is timed, and a fold."""

import math
from random import Random

import torch
from torch import nn

from unet_tutorial.tasks import Task


def check_at_most(at_most):
    times = {"convolution": 60, "batch norm": 20, "all else": 20}
    ratio = float(at_most(dict(times), {"convolution": 4}))
    known = {
        0.55: "0.55 of the time is left, so it is 1 / 0.55 times as fast",
        2.8: "add up times, not factors: at four times the speed, 60 ms become 15 ms",
        6.6667: "what is not made faster takes its time, too",
        4.0: "only one kind is four times as fast; the times of the others are left as they were",
        2.2222: "you divide by the time that is saved; divide by the time that is left",
        1.45: "0.45 of the time is saved, which is more than 1.45 times as fast",
        2.0: "the mean of the factors does not know how long each kind takes",
        0.0182: "both `before` and `after` are times: divide the one by the other",
    }
    if round(ratio, 4) in known:
        return known[round(ratio, 4)]
    if not math.isclose(ratio, 100 / 55):
        return f"100 ms become 55, which is 1.8182 times as fast, not {ratio:.4f}"
    both = float(at_most(dict(times), {"convolution": 2, "batch norm": 4}))
    if not math.isclose(both, 100 / 55):
        return f"30, 5 and 20 ms are left of 100: 1.8182 times as fast, not {both:.4f}"
    if not math.isclose(float(at_most({"a": 3.0, "b": 1.0}, {"b": math.inf})), 4 / 3):
        return "a part that becomes `inf` times as fast takes no time at all"
    if not math.isclose(float(at_most(dict(times), {"pooling": 9})), 1):
        return "what takes no time in this profile brings nothing"
    if not math.isclose(float(at_most(dict(times), {"convolution": 0.5})), 100 / 160):
        return "a part may become slower, too: at half the speed 60 ms become 120"
    return None


class Machine:
    "A clock, and works that take time on it: the first calls, and an interruption, more."

    def __init__(self, costs, first=0.0, interrupted=(), slows=0.0):
        self.now, self.log, self.costs = 0.0, [], costs
        self.first, self.interrupted, self.slows = first, interrupted, slows
        self.works = [self.work(number) for number in range(len(costs))]

    def work(self, number):
        def run():
            cost = self.costs[number] + self.slows * len(self.log)
            cost += self.first * (number not in self.log)
            cost += 1000 * (len(self.log) in self.interrupted)
            self.log.append(number)
            self.now += cost

        return run

    def clock(self):
        return self.now


def check_in_turns(in_turns):
    machine = Machine([2.0, 3.0])
    times = in_turns(machine.works, 3, machine.clock)
    if not hasattr(times, "__len__"):
        return f"return a list, one median per work, and not {type(times).__name__}"
    times, log = list(times), machine.log
    if len(times) != 2:
        return f"two works have two times; yours are {len(times)}"
    if not log:
        return "nothing has been called"
    if log == sorted(log) and len(log) > 2:
        return "first all calls of one, then of the other: take turns, round by round"
    if len(log) == 6:
        return "call each work once before the rounds, and do not count that call"
    if len(log) != 8:
        return f"one call of each and three rounds are 8 calls, and you make {len(log)}"
    if times == [0, 0]:
        return "no time has passed: read the `clock` before a call and after it"
    if times in ([6.0, 9.0], [8.0, 12.0]):
        return "these are sums over the rounds; return the median of each work"
    if times == [5.0, 5.0]:
        return "the time of a round is in both: read the clock around each call"
    if times == [2.0, 5.0]:
        return "the second time has the first work in it: read the clock before each"
    if times != [2.0, 3.0]:
        return f"they take 2 and 3, not {times[0]:g} and {times[1]:g}"
    machine = Machine([2.0, 3.0], first=50.0)
    if list(in_turns(machine.works, 1, machine.clock)) != [2.0, 3.0]:
        return "the first call, which is slow, is in the result: leave it out"
    machine = Machine([2.0, 3.0], interrupted=[4, 7])
    times = list(in_turns(machine.works, 5, machine.clock))
    if times != [2.0, 3.0]:
        return "an interruption of one call changes the result: take the median"
    machine = Machine([2.0], slows=1.0)
    (time,) = in_turns(machine.works, 3, machine.clock)
    if time != 4:
        return f"the rounds take 3, 4 and 5: their median is 4, not {time:g}"
    machine = Machine([2.0, 3.0, 2.0], slows=0.001)
    times = list(in_turns(machine.works, 4, machine.clock))
    if abs(times[0] - times[2]) > 0.003:
        return "a machine that gets slower makes two equal works differ"
    return None


def layers(inputs, outputs):
    "A normalisation and a linear layer behind it, with numbers of their own."
    norm, linear = nn.BatchNorm1d(inputs).eval(), nn.Linear(inputs, outputs)
    rng = Random(inputs)
    with torch.no_grad():
        for number in (norm.weight, norm.bias, norm.running_mean):
            number.copy_(torch.tensor([rng.uniform(0.5, 2) for _ in range(inputs)]))
        norm.running_var.copy_(torch.logspace(-5, 0.5, inputs))
        values = [rng.uniform(-1, 1) for _ in range(inputs * outputs)]
        linear.weight.copy_(torch.tensor(values).view(outputs, inputs))
        linear.bias.copy_(torch.tensor([rng.uniform(20, 40) for _ in range(outputs)]))
    return norm, linear


def nearly(a, b):
    "Whether two tensors have one shape and, but for rounding, the same numbers."
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def check_fold_before(fold_before):
    norm, linear = layers(4, 4)
    weight, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    result = fold_before(norm, linear)
    if not isinstance(result, tuple | list) or len(result) != 2:
        return "return two tensors, the weight and the bias of one layer"
    got, shift = (part.detach() for part in result)
    if not torch.equal(weight, linear.weight) or not torch.equal(bias, linear.bias):
        return "the layer itself has changed; make new tensors"
    if got.shape != weight.shape or shift.shape != bias.shape:
        return f"a weight of (4, 4) and a bias of (4,), not {(*got.shape,)}, {(*shift.shape,)}"
    g, mean, beta, var = norm.weight, norm.running_mean, norm.bias, norm.running_var
    g, beta = g.detach(), beta.detach()
    right = g / (var + norm.eps).sqrt()
    if nearly(got, weight * right[:, None]) and not nearly(got, weight * right):
        return "the norm comes first: its factors belong to the inputs, the columns of the weight"
    if nearly(got, weight * (g / var.sqrt())):
        return "`eps` is missing, and one channel hardly varies"
    if nearly(got, weight * (g / (var + norm.eps))):
        return "divide by the deviation, the root of the variance"
    if nearly(got, weight * (g / (var.sqrt() + norm.eps))):
        return "`eps` is added to the variance, below the root"
    if nearly(got, weight / (var + norm.eps).sqrt()):
        return "gamma, the `weight` of the norm, is missing"
    if not nearly(got, weight * right):
        return "the weight is wrong: each column is multiplied by gamma / sigma"
    added = beta - right * mean
    sentences = [
        (
            bias,
            "the bias has not changed, though the norm subtracts a mean and adds beta",
        ),
        (
            bias + added,
            "what the norm adds goes through the layer, too: multiply it by the weight",
        ),
        (bias + got @ added, "the bias has the factor twice: use the old weight in it"),
        (weight @ added, "the bias of the layer itself is lost"),
        (
            bias + weight @ (right * mean - beta),
            "the norm subtracts the mean, and you add it",
        ),
        (bias + added @ weight, "the weight is (out, in): multiply it from the left"),
        (
            bias + weight @ (beta - mean),
            "you forget to multiply the mean by the factor: norm(x) is factor (x - mean) + beta",
        ),
        (
            right * bias + weight @ added,
            "the factor changes the bias of the layer, which is added after the norm",
        ),
    ]
    for value, text in sentences:
        if nearly(shift, value):
            return text
    if not nearly(shift, bias + weight @ added):
        return "the bias is wrong: send beta - gamma / sigma times mu through the layer"
    norm, linear = layers(3, 5)
    x = torch.rand(6, 3)
    got, shift = fold_before(norm, linear)
    if not torch.allclose(x @ got.T + shift, linear(norm(x)), rtol=1e-3, atol=1e-4):
        return "with 3 inputs and 5 outputs the answers differ"
    return None


TASKS = [
    Task(
        number="21.1",
        title="What it can bring, at most",
        ask="""
            A profile says how long each kind of operation takes, in `times`. You could make some kinds
            faster: `faster` says how many times, 2 for twice as fast. Before you spend a week on it: how many
            times as fast will the whole be?
        """,
        code='''
            def at_most(times, faster):
                """Return the ratio; times and faster are dictionaries by kind."""
                # solution
                before = sum(times.values())
                after = sum(t / faster.get(kind, 1) for kind, t in times.items())
                return before / after
                # end
        ''',
        checker=check_at_most,
        hints=(
            "Of 100 ms, 60 are convolutions. They become twice as fast. How many ms are left?",
            """
            Do not add up factors; add up times, once as they are and once as they would be. What is not
            in `faster` stays as it is.
            """,
            """
            before = sum(...)
            after = sum(... for kind, t in times.items())
            return ...
            """,
        ),
        wrong={
            "add up times, not factors: at four times the speed, 60 ms become 15 ms": """
                total = sum(times.values())
                return sum(t / total * faster.get(kind, 1) for kind, t in times.items())
            """,
            "0.55 of the time is left, so it is 1 / 0.55 times as fast": """
                after = sum(t / faster.get(kind, 1) for kind, t in times.items())
                return after / sum(times.values())
            """,
            "what is not made faster takes its time, too": """
                after = sum(times[kind] / factor for kind, factor in faster.items())
                return sum(times.values()) / after
            """,
            "you divide by the time that is saved; divide by the time that is left": """
                saved = sum(t - t / faster.get(kind, 1) for kind, t in times.items())
                return sum(times.values()) / saved
            """,
            "0.45 of the time is saved, which is more than 1.45 times as fast": """
                saved = sum(t - t / faster.get(kind, 1) for kind, t in times.items())
                return 1 + saved / sum(times.values())
            """,
            "the mean of the factors does not know how long each kind takes": """
                return np.mean([faster.get(kind, 1) for kind in times])
            """,
            "only one kind is four times as fast; the times of the others are left as they were": """
                ratio = 1
                for factor in faster.values():
                    ratio = ratio * factor
                return ratio
            """,
            "both `before` and `after` are times: divide the one by the other": """
                return 1 / sum(t / faster.get(kind, 1) for kind, t in times.items())
            """,
        },
        why="""
            This is Amdahl's law. With a tenth of the time in batch norm, folding brings 1.11 times at
            most, even if nothing of it is left.
        """,
    ),
    Task(
        number="21.2",
        title="Timed in turns",
        ask="""
            Time several functions so that the numbers can be compared. Call each of them once without
            counting. Then do `rounds` rounds: in each, call all of them, one after the other, and time
            each call. Return the median of each. `clock()` says what time it is, in seconds.
        """,
        code='''
            def in_turns(works, rounds, clock):
                """Return the median seconds of each work, in a list."""
                # solution
                seconds = [[] for _ in works]
                for _ in range(1 + rounds):
                    for work, times in zip(works, seconds, strict=True):
                        begin = clock()
                        work()
                        times.append(clock() - begin)
                return [float(np.median(times[1:])) for times in seconds]
                # end
        ''',
        checker=check_in_turns,
        hints=(
            "Which loop is inside the other: the one over works, or the one over rounds?",
            """
            Keep a list of times per work. The outer loop goes over the rounds, one more than you count;
            the inner one over the works. At the end drop the first time of each.
            """,
            """
            seconds = [[] for _ in works]
            for _ in range(...):
                for work, times in ...:
                    begin = clock()
                    ...
            return [np.median(...) for times in seconds]
            """,
        ),
        wrong={
            "first all calls of one, then of the other: take turns, round by round": """
                medians = []
                for work in works:
                    work()
                    times = []
                    for _ in range(rounds):
                        begin = clock()
                        work()
                        times.append(clock() - begin)
                    medians.append(float(np.median(times)))
                return medians
            """,
            "call each work once before the rounds, and do not count that call": """
                seconds = [[] for _ in works]
                for _ in range(rounds):
                    for work, times in zip(works, seconds):
                        begin = clock()
                        work()
                        times.append(clock() - begin)
                return [float(np.median(times)) for times in seconds]
            """,
            "the first call, which is slow, is in the result: leave it out": """
                seconds = [[] for _ in works]
                for _ in range(1 + rounds):
                    for work, times in zip(works, seconds):
                        begin = clock()
                        work()
                        times.append(clock() - begin)
                return [float(np.median(times)) for times in seconds]
            """,
            "an interruption of one call changes the result: take the median": """
                seconds = [0.0 for _ in works]
                for turn in range(1 + rounds):
                    for number, work in enumerate(works):
                        begin = clock()
                        work()
                        seconds[number] += (clock() - begin) * (turn > 0)
                return [total / rounds for total in seconds]
            """,
            "the rounds take 3, 4 and 5: their median is 4, not 3": """
                seconds = [[] for _ in works]
                for _ in range(1 + rounds):
                    for work, times in zip(works, seconds):
                        begin = clock()
                        work()
                        times.append(clock() - begin)
                return [min(times[1:]) for times in seconds]
            """,
            "the second time has the first work in it: read the clock before each": """
                seconds = [[] for _ in works]
                for _ in range(1 + rounds):
                    begin = clock()
                    for work, times in zip(works, seconds):
                        work()
                        times.append(clock() - begin)
                return [float(np.median(times[1:])) for times in seconds]
            """,
            "return a list, one median per work, and not float": """
                times = []
                for _ in range(1 + rounds):
                    for work in works:
                        begin = clock()
                        work()
                        times.append(clock() - begin)
                return float(np.median(times[len(works) :]))
            """,
            "these are sums over the rounds; return the median of each work": """
                seconds = [0.0 for _ in works]
                for turn in range(1 + rounds):
                    for number, work in enumerate(works):
                        begin = clock()
                        work()
                        seconds[number] += (clock() - begin) * (turn > 0)
                return seconds
            """,
            "the time of a round is in both: read the clock around each call": """
                seconds = []
                for _ in range(1 + rounds):
                    begin = clock()
                    for work in works:
                        work()
                    seconds.append(clock() - begin)
                return [float(np.median(seconds[1:])) for _ in works]
            """,
        },
        why="""
            `make bench` does this, with each program in a process of its own. On a GPU a call returns
            before its work is done, and the clock has to wait for that (notebook 13).
        """,
    ),
    Task(
        number="21.3",
        title="A norm that comes before",
        ask=r"""
            Above, the batch norm comes after the convolution. Now it comes *before* a linear layer, as in
            `linear(norm(x))`, and is in evaluation mode: its mean and variance are fixed numbers. Fold it
            into the layer. Return the weight (out, in) and the bias (out,) of the one layer that does both. Write the formula down first.
        """,
        code='''
            def fold_before(norm, linear):
                """Return weight and bias of one layer that does linear(norm(x))."""
                # solution
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()  # (in,)
                shift = norm.bias - factor * norm.running_mean  # norm(x) is factor x + shift
                return linear.weight * factor, linear.bias + linear.weight @ shift
                # end
        ''',
        checker=check_fold_before,
        hints=(
            r"$W (f x + s) + b$ with a factor per input: which part multiplies $x$, which does not?",
            """
            In evaluation the norm is a factor and a shift per *input*. The factor goes into the columns of
            the weight. The shift goes through the layer, as any input would, and joins the bias.
            """,
            """
            factor = ... / (norm.running_var + ...).sqrt()  # (in,)
            shift = norm.bias - ...
            return linear.weight * ..., linear.bias + ... @ shift
            """,
        ),
        wrong={
            "the norm comes first: its factors belong to the inputs, the columns of the weight": """
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                bias = norm.bias + factor * (linear.bias - norm.running_mean)
                return factor[:, None] * linear.weight, bias
            """,
            "`eps` is missing, and one channel hardly varies": """
                factor = norm.weight / norm.running_var.sqrt()
                shift = norm.bias - factor * norm.running_mean
                return linear.weight * factor, linear.bias + linear.weight @ shift
            """,
            "`eps` is added to the variance, below the root": """
                factor = norm.weight / (norm.running_var.sqrt() + norm.eps)
                shift = norm.bias - factor * norm.running_mean
                return linear.weight * factor, linear.bias + linear.weight @ shift
            """,
            "gamma, the `weight` of the norm, is missing": """
                factor = 1 / (norm.running_var + norm.eps).sqrt()
                shift = norm.bias - factor * norm.running_mean
                return linear.weight * factor, linear.bias + linear.weight @ shift
            """,
            "the weight is (out, in): multiply it from the left": """
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                shift = norm.bias - factor * norm.running_mean
                return linear.weight * factor, linear.bias + shift @ linear.weight
            """,
            "you forget to multiply the mean by the factor: norm(x) is factor (x - mean) + beta": """
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                shift = norm.bias - norm.running_mean
                return linear.weight * factor, linear.bias + linear.weight @ shift
            """,
            "divide by the deviation, the root of the variance": """
                factor = norm.weight / (norm.running_var + norm.eps)
                shift = norm.bias - factor * norm.running_mean
                return linear.weight * factor, linear.bias + linear.weight @ shift
            """,
            "what the norm adds goes through the layer, too: multiply it by the weight": """
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                shift = norm.bias - factor * norm.running_mean
                return linear.weight * factor, linear.bias + shift
            """,
            "the bias has the factor twice: use the old weight in it": """
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                shift = norm.bias - factor * norm.running_mean
                weight = linear.weight * factor
                return weight, linear.bias + weight @ shift
            """,
            "the bias has not changed, though the norm subtracts a mean and adds beta": """
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                return linear.weight * factor, linear.bias
            """,
            "the layer itself has changed; make new tensors": """
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                shift = norm.bias - factor * norm.running_mean
                bias = linear.bias + linear.weight @ shift
                linear.weight.data *= factor
                return linear.weight, bias
            """,
        },
        why="""
            Before a *padded* convolution it would not be exact. The norm's shift is added to the pixels of
            the image and not to the zeros around it, so no single bias is right both at the rim and inside.
        """,
    ),
]
