"""The tasks of 20_since_2015: coarse labels, averaged weights, rare again."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from unet_tutorial.tasks import Task


def map_of(*rows):
    "A batch of one label map, each row as the digits of a text."
    return torch.tensor([[[int(digit) for digit in row] for row in rows]])


def check_majority(majority):
    labels = map_of("0030", "0300", "3303", "0333")
    small = majority(labels.clone(), 2)
    if not isinstance(small, torch.Tensor):
        return f"a tensor is meant, not {type(small).__name__}"
    if small.shape != (1, 2, 2):
        return f"(1, 4, 4) in squares of 2 is (1, 2, 2), not {tuple(small.shape)}"
    if small.dtype != torch.int64:
        return f"cross-entropy wants labels of torch.int64, not {small.dtype}"
    known = {
        "0330": "one pixel of four decides, the upper left one",
        "3033": "one pixel of four decides, the one near the centre; let all vote",
        "3333": "the class with the highest number wins: that is max pooling",
        "0000": "0 wins, also where 3 has three votes of four",
    }
    found = "".join(str(value) for value in small.flatten().tolist())
    if found in known:
        return known[found]
    if {"1", "2"} & set(found):
        return "the mean of 0 and 3 is a class that nobody has drawn: let classes vote"
    if found != "0033":
        return f"the winners are 0, 0, 3 and 3, not {', '.join(found)}"
    three = majority(map_of("001", "021", "022"), 3)
    if three.tolist() == [[[1]]]:
        return "the median is no vote: 4 zeros, 2 ones and 3 twos are a 0, not a 1"
    if three.tolist() != [[[0]]]:
        return "4 zeros, 2 ones and 3 twos are a 0: the most frequent class"
    torch.manual_seed(0)
    labels = torch.randint(2, (2, 9, 15))
    right = F.avg_pool2d(labels[:, None].float(), 3)[:, 0] > 0.5
    if not torch.equal(majority(labels.clone(), 3), right.long()):
        return "two drawn maps of 9x15 do not come out right: which axis has the votes?"
    return None


def net_at(value, batches):
    "A net whose numbers are all alike, and which has seen some batches."
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    for number in net.state_dict().values():
        number.fill_(value)
    net[1].num_batches_tracked.fill_(batches)
    return net


def check_follow(follow):
    average, net = net_at(0.0, 0), net_at(10.0, 7)
    follow(average, net, 0.9)
    got, theirs = average.state_dict(), net.state_dict()
    if any(float(value.double().max()) < 7 for value in theirs.values()):
        return "the net itself has moved; only the average follows"
    weight = float(got["0.weight"].mean())
    known = {
        0.0: "the average has not moved: change its tensors in place",
        9.0: "a decay of 0.9 keeps nine tenths of the average; you keep one tenth",
        10.0: "the average is the net now: it has to move a tenth of the way",
        5.0: "you go half of the way, to the mean of both; `decay` says how much is left",
    }
    if round(weight, 4) in known:
        return known[round(weight, 4)]
    if not math.isclose(weight, 1.0, rel_tol=1e-5):
        return f"from 0, a tenth of the way to 10 is 1, not {weight:.4f}"
    if float(got["1.running_mean"].mean()) == 0:
        return "the running mean of the batch norm stays behind: it is no parameter"
    if int(got["1.num_batches_tracked"]) != 7:
        return "`num_batches_tracked` is a counter: copy it"
    moved = [float(v.mean()) for k, v in got.items() if not k.endswith("_tracked")]
    if not np.allclose(moved, 1, rtol=1e-5):
        return "a part of the state has not moved a tenth of the way"
    follow(average, net, 0.9)
    weight = float(average.state_dict()["0.weight"].mean())
    if not math.isclose(weight, 1.9, rel_tol=1e-5):
        return f"two steps from 0 to 10 are 1 and 1.9, not {weight:.4f}"
    if not math.isclose(float(net.state_dict()["0.weight"].mean()), 10.0):
        return "the net moves with its average: the two share their tensors"
    if not all(weight.requires_grad for weight in net.parameters()):
        return "the net cannot learn any more: its weights need no gradient now"
    return None


def check_as_rare(as_rare):
    p = float(as_rare(0.6, 0.25, 0.05))
    known = {
        0.12: "p is scaled, and 1 - p is not: the two no longer add up to 1",
        0.9048: "rarer than in training, and p goes up: `trained` and `here` are swapped",
        0.2368: "these are odds; a probability is odds / (1 + odds)",
        0.2308: "1 - p changes, too: multiply it by (1 - here) / (1 - trained)",
        0.0732: "you multiply by `here`, and forget to divide by `trained`",
        0.2754: "there is more background here than in training: its probability must grow",
        0.6: "both classes get the same factor, and dividing by the sum removes it",
    }
    if round(p, 4) in known:
        return known[round(p, 4)]
    if not math.isclose(p, 9 / 47, rel_tol=1e-6):
        return f"0.6, learned at 1 in 4, is 0.1915 where it is 1 in 20, not {p:.4f}"
    ends = as_rare(np.array([0.0, 1.0]), 0.25, 0.05)
    if not np.allclose(ends, [0, 1]):
        return f"what is certain stays certain: 0 and 1, not {np.round(ends, 4)}"
    values = np.linspace(0.05, 0.95, 7)
    if not np.allclose(as_rare(values, 0.3, 0.3), values):
        return "as frequent as in training: nothing has to change, and it does"
    back = as_rare(as_rare(values, 0.3, 0.01), 0.01, 0.3)
    if not np.allclose(back, values):
        return "there and back again is not where it began"
    return None


TASKS = [
    Task(
        number="20.1",
        title="A vote of the pixels",
        ask="""
            `DeepSupervision` asks one pixel of each square for its label. Let all of them vote. Make the
            labels of a level that is `step` times as coarse: each is the class that most pixels of
            its square have. Classes are numbered from 0; ties may go to either.
        """,
        code='''
            def majority(labels, step):
                """Return (B, H / step, W / step) of labels (B, H, W), both int64."""
                # solution
                votes = F.one_hot(labels).movedim(-1, 1).float()  # (B, K, H, W)
                return F.avg_pool2d(votes, step).argmax(dim=1)
                # end
        ''',
        checker=check_majority,
        hints=(
            "The mean of a dog and a horse is no animal. Of which numbers could you take a mean here?",
            """
            Give each class a map of its own, 1 where it is and 0 elsewhere. The mean over a square is
            then the share of votes for this class. `one_hot` puts the classes last; pooling wants them second.
            """,
            """
            votes = F.one_hot(labels)....float()  # (B, K, H, W)
            return F.avg_pool2d(...).argmax(...)
            """,
        ),
        wrong={
            "the mean of 0 and 3 is a class that nobody has drawn: let classes vote": """
                return F.avg_pool2d(labels[:, None].float(), step)[:, 0].round().long()
            """,
            "the class with the highest number wins: that is max pooling": """
                return F.max_pool2d(labels[:, None].float(), step)[:, 0].long()
            """,
            "0 wins, also where 3 has three votes of four": """
                votes = F.one_hot(labels).movedim(-1, 1).float()
                return F.max_pool2d(votes, step).argmax(dim=1)
            """,
            "one pixel of four decides, the upper left one": """
                return labels[:, ::step, ::step]
            """,
            "one pixel of four decides, the one near the centre; let all vote": """
                return labels[:, step // 2 :: step, step // 2 :: step]
            """,
            "cross-entropy wants labels of torch.int64, not torch.float32": """
                small = F.interpolate(labels[:, None].float(), scale_factor=1 / step)
                return small[:, 0]
            """,
            "the median is no vote: 4 zeros, 2 ones and 3 twos are a 0, not a 1": """
                squares = labels.unfold(1, step, step).unfold(2, step, step)
                return squares.flatten(-2).median(dim=-1).values
            """,
            "(1, 4, 4) in squares of 2 is (1, 2, 2), not (1, 4, 2)": """
                votes = F.one_hot(labels).float()
                return F.avg_pool2d(votes, step).argmax(dim=-1)
            """,
        },
        why="""
            A thin membrane loses every vote against the cells on both sides of it, so it is gone from the
            coarse labels. If one pixel near the centre decides, the share of membrane stays the same on
            average.
        """,
    ),
    Task(
        number="20.2",
        title="The net that follows",
        ask="""
            Averaged weights need a second net, `average`. After each step of training, everything in its
            state moves towards `net`, until the share `decay` of the distance is left. Change `average` in
            place. Counters (they are integers) are copied.
        """,
        code='''
            def follow(average, net, decay):
                """Move the state of average towards that of net, in place."""
                # solution
                present = net.state_dict()
                for name, value in average.state_dict().items():
                    if value.is_floating_point():
                        value.lerp_(present[name], 1 - decay)
                    else:
                        value.copy_(present[name])
                # end
        ''',
        checker=check_follow,
        hints=(
            "How far does the average go in a step if `decay` is 0.99? And what is in a state?",
            """
            A `state_dict` holds the tensors of the net itself. An operation whose name ends in `_`
            changes a tensor in place, and so the net. `lerp_` goes a share of the way.
            """,
            """
            present = ...
            for name, value in ...:
                if value.is_floating_point():
                    value.lerp_(..., ...)
                else:
                    ...
            """,
        ),
        wrong={
            "a decay of 0.9 keeps nine tenths of the average; you keep one tenth": """
                present = net.state_dict()
                for name, value in average.state_dict().items():
                    value.copy_((1 - decay) * value + decay * present[name])
            """,
            "the running mean of the batch norm stays behind: it is no parameter": """
                for mine, other in zip(average.parameters(), net.parameters()):
                    mine.data.lerp_(other.data, 1 - decay)
            """,
            "the average has not moved: change its tensors in place": """
                present, state = net.state_dict(), average.state_dict()
                for name in state:
                    state[name] = decay * state[name] + (1 - decay) * present[name]
            """,
            "`num_batches_tracked` is a counter: copy it": """
                present = net.state_dict()
                for name, value in average.state_dict().items():
                    if value.is_floating_point():
                        value.lerp_(present[name], 1 - decay)
            """,
            "the net itself has moved; only the average follows": """
                state = average.state_dict()
                for name, value in net.state_dict().items():
                    value.copy_(decay * state[name] + (1 - decay) * value)
            """,
            "you go half of the way, to the mean of both; `decay` says how much is left": """
                present = net.state_dict()
                for name, value in average.state_dict().items():
                    value.copy_((value + present[name]) / 2)
            """,
            "the average is the net now: it has to move a tenth of the way": """
                average.load_state_dict(net.state_dict())
            """,
        },
        why="""
            If you forget the running mean, the averaged net normalises with the numbers that it had before
            the training. The library averages as here, with a smaller decay during the first steps.
        """,
    ),
    Task(
        number="20.3",
        title="As rare as it is",
        ask="""
            Oversampling showed a net more of an object than there is. In the windows that it learned from, the
            share `trained` of all pixels was object; in your images it is `here`. Correct the net's probability `p`
            of object. By Bayes' rule, multiply it by `here / trained`. Multiply the probability of background by the
            ratio of the two shares of background. Then scale both, so that they add up to 1. `p` is a number or an
            array, and may be 0 or 1.
        """,
        code='''
            def as_rare(p, trained, here):
                """Return the probability where the object has the share `here`."""
                # solution
                yes = p * here / trained
                no = (1 - p) * (1 - here) / (1 - trained)
                return yes / (yes + no)
                # end
        ''',
        checker=check_as_rare,
        hints=(
            "If there is less object here than in training, of what is there more?",
            """
            Weigh both classes, each by its share here divided by its share in training. Then divide
            by the sum.
            """,
            """
            yes = p * ...
            no = (1 - p) * ...
            return yes / ...
            """,
        ),
        wrong={
            "p is scaled, and 1 - p is not: the two no longer add up to 1": """
                return p * here / trained
            """,
            "rarer than in training, and p goes up: `trained` and `here` are swapped": """
                yes = p * trained / here
                no = (1 - p) * (1 - trained) / (1 - here)
                return yes / (yes + no)
            """,
            "these are odds; a probability is odds / (1 + odds)": """
                odds = p / (1 - p)
                return odds * (here / (1 - here)) / (trained / (1 - trained))
            """,
            "1 - p changes, too: multiply it by (1 - here) / (1 - trained)": """
                odds = p / (1 - p) * here / trained
                return odds / (1 + odds)
            """,
            "there is more background here than in training: its probability must grow": """
                yes, no = p * here / trained, (1 - p) * (1 - trained) / (1 - here)
                return yes / (yes + no)
            """,
            "both classes get the same factor, and dividing by the sum removes it": """
                yes, no = p * here / trained, (1 - p) * here / trained
                return yes / (yes + no)
            """,
            "you multiply by `here`, and forget to divide by `trained`": """
                yes, no = p * here, (1 - p) * (1 - here)
                return yes / (yes + no)
            """,
            "what is certain stays certain: 0 and 1, not [ 0. nan]": """
                with np.errstate(all="ignore"):
                    odds = p / (1 - p)
                    odds = odds * (here / (1 - here)) / (trained / (1 - trained))
                    return odds / (1 + odds)
            """,
        },
        why="""
            In the live part 3.7 % of the pixels of the oversampled windows are disc, and 0.3 % of the
            images' pixels, so a p of 0.5 should be 0.06. Correct the probabilities if you add them up to
            an area, or compare one of them with another risk. Do not correct them for a mask at the
            threshold 0.5: all three nets would lose discs.
        """,
    ),
]
