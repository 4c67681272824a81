"""The tasks of 23_debugging: refuse early, a Dice that survives, a size that fits."""

import math
import re

import numpy as np
import torch
import torch.nn.functional as F

from unet_tutorial.lessons import instead
from unet_tutorial.tasks import Task

FILE = "masks/tray.png"


def refusal(refuse, values, classes=3):
    "What a refusal says of labels; None, if they pass."
    labels = torch.tensor(values).repeat(7, 1)
    try:
        refuse(labels, classes, FILE)
    except ValueError as error:
        return str(error)
    return None


def check_refuse(refuse):
    if refusal(refuse, [0, 1, 2, 2]) is not None:
        return "0, 1 and 2 are the labels of three classes, and they are refused"
    try:
        says = refusal(refuse, [0, 1, 5, 255, 5, 0])
    except AssertionError:
        return "`assert` is gone when Python runs with `-O`: raise a ValueError"
    if says is None:
        return (
            "5 and 255 pass: to print or to return a sentence stops nothing; raise it"
        )
    if refusal(refuse, [0, 1, 2, -100]) is not None:
        return "-100 means unknown, and losses leave it out; you refuse it"
    if refusal(refuse, [0, 1, 3]) is None:
        return "3 passes, and the labels of three classes are 0, 1 and 2"
    if refusal(refuse, [-1, 0, 1]) is None:
        return "-1 passes; it is no class, and only -100 means unknown"
    if FILE.split("/")[1] not in says:
        return f"{FILE} is not named: of a thousand masks, which one is it?"
    says = re.sub("0, 1,?( and| or)? 2", "0 to 2", says)  # may name what would work
    numbers = [int(n) for n in re.findall(r"(?<!\d)-?\d+", says)]
    for good, bad in [(5, 255), (255, 5)]:
        if good in numbers and bad not in numbers:
            return f"5 and 255 are strange, and your sentence names only {good}"
    if 5 not in numbers:
        return "say which labels are strange: here 5 and 255"
    if 1 in numbers:
        return "1 is a good label, and your sentence has it among the strange ones"
    if numbers.count(5) > 1:
        return "name each strange label once, and not once per pixel"
    if not {2, 3} & set(numbers):
        return "say what would work: for three classes, 0 to 2"
    says = refusal(refuse, [0, 4, 9], classes=5)
    if says is None or "9" not in says or not re.search("[45]", says):
        return "with five classes 9 is strange, and 0 to 4 would work"
    return None


def masks_and_answers():
    "Probabilities (2, H, W) of 16 bits, and two masks of 0 and 1, one of them small."
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(2, 400, 500, generator=generator).half()
    true = torch.zeros(2, 400, 500, dtype=torch.uint8)
    true[0, 20:390, 10:490], true[1, 200:220, 200:230] = 1, 1
    p[1] *= 0.125
    return p, true


def exact_dice(p, true):
    "The Dice of probabilities and a mask, over all their pixels."
    p, true = p.double(), true.double()
    return (2 * (p * true).sum() / (p.sum() + true.sum())).item()


def check_safe_dice(safe_dice):
    p, true = masks_and_answers()
    right = exact_dice(p, true)
    got = float(safe_dice(p.clone(), true * 255))
    if not abs(got - right) < 1e-4:  # true for nan, too
        wide = float(safe_dice(p.float(), true * 255))
        if not math.isfinite(got) or abs(wide - right) < 1e-4:
            return (
                "a sum of float16 ends at 65,504: make p 32 bits *before* it is added"
            )
    each = [exact_dice(*pair) for pair in zip(p, true, strict=True)]
    decided = (p > 0.5).double()
    both, every = (p.double() * true).sum(), p.double().sum() + true.sum()
    known = {
        "the mask holds 255, and each of its pixels counts 255 times": exact_dice(
            p, true.double() * 255
        ),
        "no pixel of 0 and 255 is equal to 1; compare with 0": 0,
        "that is the mean of two Dices; the batch is asked for": sum(each) / 2,
        "you decide with a threshold first; the probabilities themselves count": (
            exact_dice(decided, true)
        ),
        "that is the IoU": (both / (every - both)).item(),
        "that is half of it: the pixels that both have count twice": (
            (both / every).item()
        ),
    }
    for says, wrong in known.items():
        if abs(got - wrong) < 1e-4:
            return says
    if not abs(got - right) < 1e-4:
        return f"the Dice of this batch is {right:.4f}, and yours is {got:.4f}"
    got = float(safe_dice(p.clone(), true))
    if not abs(got - right) < 1e-4:
        return "you make a mask of 0 and 1 almost empty: there 1 is object, not 255"
    return check_small(safe_dice)


def check_small(safe_dice):
    "What is wrong with the Dice of small and of empty masks."
    p, true = torch.zeros(2, 1, 8, 8, dtype=torch.float16)
    true = (true > 0).byte()
    got = float(safe_dice(p, true))
    if got != got:
        return "nothing to find and nothing found gives 0 / 0 here; make it 1"
    if got == 0:
        return "nothing to find and nothing found is perfect: 1, and not 0"
    if abs(got - 1) > 1e-3:
        return f"nothing to find and nothing found: 1, and not {got:.3f}"
    p[0, 0, :3], true[0, 0, 1:5] = 0.5, 255
    right, got = exact_dice(p, true > 0), float(safe_dice(p, true))
    if abs(got - right) > 1e-3:
        text = "is what you add against 0 / 0 too large?"
        return f"of five pixels the Dice is {right:.3f}, and yours {got:.3f}: {text}"
    got = float(safe_dice(p, torch.zeros_like(true)))
    if abs(got) > 1e-3:
        return f"nothing to find, and something was found: 0, and not {got:g}"
    return None


class Net:
    "A stand-in for a net: it answers, and remembers what it was asked."

    def __init__(self, step):
        self.step, self.asked = step, []

    def __call__(self, x):
        self.asked.append(x.detach().clone())
        return torch.cat([x[:, :1], -2 * x[:, :1], x[:, :1] + 1], dim=1)


def mirrored(asked, x):
    "Whether an image was enlarged by its mirror, on whatever sides."
    more = [a - b for a, b in zip(asked.shape[-2:], x.shape[-2:], strict=True)]
    for top in range(more[0] + 1):
        for left in range(more[1] + 1):
            sides = (left, more[1] - left, top, more[0] - top)
            if torch.equal(asked, F.pad(x, sides, mode="reflect")):
                return True
    return False


def check_any_size(any_size):
    generator = torch.Generator().manual_seed(0)
    for height, width, step in [(37, 50, 16), (32, 48, 16), (32, 41, 8)]:
        net = Net(step)
        x = 1 + torch.rand(2, 1, height, width, generator=generator)
        found, size = any_size(net, x.clone(), step), f"{height} x {width}"
        if not net.asked:
            return "the net was not asked: `net(...)` gives the logits"
        asked = net.asked[0]
        up = [-(-n // step) * step for n in (height, width)]
        got, wanted = tuple(asked.shape[-2:]), tuple(up)
        big = f"{got[0]} x {got[1]}"
        if got == (height + up[1] - width, width + up[0] - height) != wanted:
            return f"{size} became {big}: `F.pad` begins with the *last* axis"
        if got[0] < height or got[1] < width:
            return f"{size} became {big}, and pixels get no answer: round up"
        if (got[0] % step, got[1] % step) != (0, 0):
            return f"{size} became {big}, which is no multiple of {step}"
        if got != wanted:
            return f"{size} became {big}, and {up[0]} x {up[1]} would do"
        if 0 in found.shape:
            return (
                f"nothing is left of {size}, which fits: `-0` is 0, so cut by the size"
            )
        if found.shape[-2:] != x.shape[-2:]:
            there = " x ".join(map(str, found.shape[-2:]))
            return f"the answer to {size} is {there}: cut off what was added"
        if (asked == 0).any():
            return "the net sees a black rim, an edge that is not in the image: mirror"
        if not mirrored(asked, x):
            if not torch.isin(asked, x).all():
                return "the image is stretched, and with it all objects: add pixels"
            more = [(0, a - b) for a, b in zip(up, x.shape[-2:], strict=True)]
            twice = np.pad(x.numpy(), ((0, 0), (0, 0), *more), mode="symmetric")
            if np.array_equal(asked.numpy(), twice):
                return "the border pixel is there twice; `reflect` does not repeat it"
            return "the pixels that were added are not the mirror of the image"
        if not torch.equal(found, net(x)):
            return "the answer is shifted: cut it where the image is"
    return None


REFUSE = '''
def refuse(labels, num_classes, file):
    """Raise a ValueError if labels (H, W) do not suit a net of so many classes."""
    # solution
    known = (labels == -100) | ((labels >= 0) & (labels < num_classes))
    strange = labels[~known].unique().tolist()
    if strange:
        works = f"0 to {num_classes - 1} would work, and -100 for unknown"
        raise ValueError(f"{file} holds the labels {strange}; {works}")
    # end
'''
DICE = '''
def safe_dice(p, mask):
    """Return the Dice of probabilities and masks (B, H, W), over the whole batch."""
    # solution
    p, true = p.float(), (mask > 0).float()
    every = (p.sum() + true.sum()).item()
    if every == 0:
        return 1.0
    return 2 * (p * true).sum().item() / every
    # end
'''
ANY_SIZE = '''
def any_size(net, x, step):
    """Return the logits (B, K, H, W) to images (B, C, H, W) of any size."""
    # solution
    height, width = x.shape[-2:]
    more = (0, -width % step, 0, -height % step)  # left, right, top, bottom
    logits = net(F.pad(x, more, mode="reflect"))
    return logits[..., :height, :width]
    # end
'''


TASKS = [
    Task(
        number="23.1",
        title="Refuse early",
        ask="""
            The fourth exhibit cost somebody a day. Write the check that would have cost a second:
            `labels` (H, W) of a `file` may hold 0 to K - 1, and -100 where nobody knows. Raise a
            `ValueError` if they hold anything else. One sentence, please, that names the file, each
            strange label once, and what would work.
        """,
        code=REFUSE,
        checker=check_refuse,
        hints=(
            "Which labels are good? And which labels should your sentence name?",
            """
            Make a mask of the pixels whose label is known: -100, or both at least 0 and less than
            the number of classes. `unique` gives each value of the other pixels once.
            """,
            """
            known = (labels == -100) | (...)
            strange = labels[...].unique().tolist()
            if strange:
                raise ValueError(f"{file} holds the labels {strange}; ...")
            """,
        ),
        wrong={
            "3 passes, and the labels of three classes are 0, 1 and 2": instead(
                REFUSE, ("labels < num_classes", "labels <= num_classes")
            ),
            "-100 means unknown, and losses leave it out; you refuse it": instead(
                REFUSE, ("(labels == -100) | ", "")
            ),
            "-1 passes; it is no class, and only -100 means unknown": instead(
                REFUSE, ("(labels == -100) | ((labels >= 0) & ", "((labels < 0) | ")
            ),
            "5 and 255 pass: to print or to return a sentence stops nothing; raise it": instead(
                REFUSE, ("raise ValueError", "print")
            ),
            "`assert` is gone when Python runs with `-O`: raise a ValueError": """
                assert labels.max() < num_classes, f"{file}: {labels.max()} is strange"
            """,
            "5 and 255 are strange, and your sentence names only 255": instead(
                REFUSE, ("{strange}", "{labels.max()}")
            ),
            "1 is a good label, and your sentence has it among the strange ones": instead(
                REFUSE, ("{strange}", "{labels.unique().tolist()}")
            ),
            "name each strange label once, and not once per pixel": instead(
                REFUSE, (".unique()", "")
            ),
            "masks/tray.png is not named: of a thousand masks, which one is it?": instead(
                REFUSE, ("{file} holds the labels", "strange labels:")
            ),
            "say what would work: for three classes, 0 to 2": instead(
                REFUSE, ("; {works}", "")
            ),
        },
        why="""
            Call this check where masks are read. In the training loop the CPU would have to wait for
            the GPU at each step, to see the labels.
        """,
    ),
    Task(
        number="23.2",
        title="A Dice that survives",
        ask=r"""
            Exhibits 3, 7 and 8 in one function. `p` holds the probabilities of a net that computes
            in half precision, `mask` is what a file holds, 0 and 1 or 0 and 255. Return

            $$\frac{2 \sum p\,t}{\sum p + \sum t}$$

            with sums over *all* pixels of the batch, whatever its size. If there is nothing to find
            and nothing was found, the Dice is 1.
        """,
        code=DICE,
        checker=check_safe_dice,
        hints=(
            "Which of the three exhibits is about values, which about types, which about sums?",
            """
            `mask > 0` is the truth for both kinds of file. Change the type before anything is
            added up, because a sum that is infinite stays infinite. Look at the divisor last.
            """,
            """
            p, true = p..., (mask ...).float()
            every = (p.sum() + true.sum()).item()
            if ...:
                return 1.0
            return ... / every
            """,
        ),
        wrong={
            "a sum of float16 ends at 65,504: make p 32 bits *before* it is added": instead(
                DICE, ("p.float(), (mask > 0).float()", "p, (mask > 0).to(p.dtype)")
            ),
            "the mask holds 255, and each of its pixels counts 255 times": instead(
                DICE, ("(mask > 0).float()", "mask.float()")
            ),
            "you make a mask of 0 and 1 almost empty: there 1 is object, not 255": instead(
                DICE, ("(mask > 0).float()", "mask.float() / 255")
            ),
            "no pixel of 0 and 255 is equal to 1; compare with 0": instead(
                DICE, ("mask > 0", "mask == 1")
            ),
            "that is the mean of two Dices; the batch is asked for": """
                p, true = p.float(), (mask > 0).float()
                every = p.sum((1, 2)) + true.sum((1, 2))
                return (2 * (p * true).sum((1, 2)) / every).mean().item()
            """,
            "you decide with a threshold first; the probabilities themselves count": (
                instead(DICE, ("p.float(), ", "(p > 0.5).float(), "))
            ),
            "nothing to find and nothing found gives 0 / 0 here; make it 1": """
                p, true = p.float(), (mask > 0).float()
                return 2 * (p * true).sum() / (p.sum() + true.sum())
            """,
            "nothing to find and nothing found is perfect: 1, and not 0": instead(
                DICE, ("return 1.0", "return 0.0")
            ),
            "nothing to find, and something was found: 0, and not 1": instead(
                DICE, ("every == 0", "not true.any()")
            ),
            "of five pixels the Dice is 0.364, and yours 0.462: is what you add against "
            "0 / 0 too large?": """
                p, true = p.float(), (mask > 0).float()
                return (2 * (p * true).sum() + 1) / (p.sum() + true.sum() + 1)
            """,
        },
        why="""
            With `bfloat16` the sum would not be infinite, but it has only two to three digits. So add
            up in 32 bits, whichever kind of half precision the net has.
        """,
    ),
    Task(
        number="23.3",
        title="A size that fits",
        ask="""
            The ninth exhibit has three cures. Write the second: a padded net takes only sizes that
            are multiples of `step`, 16 for instance. Enlarge the images with their own mirror, by as
            few pixels as possible, ask the net, and return its logits at the size of the images.
            (No side is shorter than `step`.)
        """,
        code=ANY_SIZE,
        checker=check_any_size,
        hints=(
            "How many pixels are missing at 97, how many at 96?",
            """
            `-97 % 16` is what is missing to the next multiple, and `-96 % 16` is 0. `F.pad` with
            `mode="reflect"` takes four numbers: left, right, top, bottom.
            """,
            """
            height, width = x.shape[-2:]
            more = (0, ..., 0, ...)  # left, right, top, bottom
            logits = net(F.pad(x, more, mode=...))
            return logits[...]
            """,
        ),
        wrong={
            "37 x 50 became 51 x 61: `F.pad` begins with the *last* axis": instead(
                ANY_SIZE,
                (
                    "-width % step, 0, -height % step",
                    "-height % step, 0, -width % step",
                ),
            ),
            "32 x 48 became 48 x 64, and 32 x 48 would do": instead(
                ANY_SIZE,
                ("-width % step", "step - width % step"),
                ("-height % step", "step - height % step"),
            ),
            "the answer to 37 x 50 is 48 x 64: cut off what was added": instead(
                ANY_SIZE, ("[..., :height, :width]", "")
            ),
            "nothing is left of 32 x 48, which fits: `-0` is 0, so cut by the size": instead(
                ANY_SIZE, ("[..., :height, :width]", "[..., : -more[3], : -more[1]]")
            ),
            "the net sees a black rim, an edge that is not in the image: mirror": instead(
                ANY_SIZE, (', mode="reflect"', "")
            ),
            "37 x 50 became 32 x 48, and pixels get no answer: round up": """
                height, width = (n // step * step for n in x.shape[-2:])
                return net(x[..., :height, :width])
            """,
            "the image is stretched, and with it all objects: add pixels": """
                size = x.shape[-2:]
                fits = [-(-n // step) * step for n in size]
                logits = net(F.interpolate(x, fits, mode="bilinear"))
                return F.interpolate(logits, size, mode="bilinear")
            """,
            "the border pixel is there twice; `reflect` does not repeat it": """
                height, width = x.shape[-2:]
                wide = torch.cat([x, x.flip(-1)[..., : -width % step]], dim=-1)
                wide = torch.cat([wide, wide.flip(-2)[..., : -height % step, :]], dim=-2)
                return net(wide)[..., :height, :width]
            """,
            "the pixels that were added are not the mirror of the image": instead(
                ANY_SIZE, ("reflect", "replicate")
            ),
        },
        why="""
            Only two sides grow, so nothing has to be shifted back: the image begins where it
            began.
        """,
    ),
]
