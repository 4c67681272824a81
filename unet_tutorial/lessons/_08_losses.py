"""The tasks of 08_losses: the energy of each pixel, and Dice with squares."""

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from unet_tutorial.tasks import Task

READY = {  # what task 8.1 does without
    "cross_entropy": "a finished loss",
    "nll_loss": "a finished loss",
    "log_softmax": "a soft-max",
    "softmax": "a soft-max",
}


class Calls(TorchFunctionMode):
    "Notes which functions of torch are called."

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


def check_pixel_energy(pixel_energy):
    draws = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, 4, 5, generator=draws)
    labels = torch.randint(3, (2, 4, 5), generator=draws)
    given = logits.clone()
    found = pixel_energy(given, labels)
    shapes = {
        (2, 3, 4, 5): "one energy per pixel is asked for; yours has one per class",
        (2, 1, 4, 5): "the axis of the classes is still there: (B, 1, H, W)",
        (): "one number comes out: leave the energies of the pixels apart",
    }
    if tuple(found.shape) in shapes:
        return shapes[tuple(found.shape)]
    if found.shape != labels.shape:
        return f"the shape must be (2, 4, 5), as the labels; it is {(*found.shape,)}"
    right = F.cross_entropy(logits, labels, reduction="none")
    p = logits.softmax(dim=1)
    known = {
        "the minus sign is missing, as in print: all energies are below 0": -right,
        "p comes out, and the energy is -log p": right.neg().exp(),
        "a second soft-max: the sum takes scores, and yours takes probabilities": (
            F.cross_entropy(p, labels, reduction="none")
        ),
        "that is the energy of class 1 in each pixel; the labels say which class": (
            logits.logsumexp(dim=1) - logits[:, 1]
        ),
        "the score of the true class is not subtracted": logits.logsumexp(dim=1),
        "you take the *highest* score, not that of the true class: use the labels": (
            logits.logsumexp(dim=1) - logits.amax(dim=1)
        ),
    }
    for axis in (0, 2, 3):
        energies = -logits.log_softmax(dim=axis)
        says = f"axis 1 holds the classes, and your sum runs along axis {axis}"
        known[says] = energies.gather(1, labels[:, None])[:, 0]
    for says, wrong in known.items():
        if torch.allclose(found.float(), wrong, atol=1e-5):
            return says
    if not torch.allclose(found.float(), right, atol=1e-5):
        return f"the first pixel has the energy {right[0, 0, 0]:.3f}, not " + (
            f"{found[0, 0, 0]:.3f}"
        )
    if not torch.equal(given, logits):
        return (
            "your function changes the logits it is given: no `-=`, write `a = a - b`"
        )
    return check_large(pixel_energy)


def check_large(pixel_energy):
    "What is wrong with energies where the exponential overflows."
    logits = torch.tensor([[1e4, 0.0], [-1e4, 0.0]])[None, :, None]  # (1, 2, 1, 2)
    for label, right in enumerate([0, 2e4]):
        large, small = pixel_energy(logits.clone(), torch.tensor([[[label, 0]]]))[0, 0]
        if large != right:
            says = f"scores 10000 and -10000, class {label}: the energy is {right:.0f}"
            cure = "no `exp` may overflow"
            if large == torch.inf:
                cure = "a p of 0 has no logarithm, so do not compute p"
            return f"{says}, and yours is {large.item()}; {cure}"
        if not small.isfinite():
            says = "a pixel with the scores 0 and 0 gets no finite energy beside one"
            return f"{says} with 10000: subtract the maximum of each pixel, `dim=1`"
    with Calls() as calls:
        pixel_energy(logits.clone(), torch.tensor([[[0, 0]]]))
    for name in calls.names:
        if name in READY:
            says = f"the numbers are right, but `{name}` is {READY[name]}"
            return f"{says}: write the logarithm of the fraction out yourself"
    return None


def scores_of(truth, p):
    "Scores (B, 1, H, W): a probability of p on the object, and of 0 elsewhere."
    return torch.where(truth > 0, torch.tensor(p).logit(), -torch.tensor(100.0))[
        :, None
    ]


def check_square_dice(square_dice):
    labels = torch.zeros(2, 4, 5, dtype=torch.long)
    labels[0, :2] = 1  # the second image is empty
    logits = scores_of(labels, 0.5)
    loss = square_dice(logits.clone().requires_grad_() + 0, labels)
    if isinstance(loss, float):
        return "a loss stays a tensor: a float has no gradient"
    if loss.shape != ():
        return f"a loss is one number; yours has the shape {(*loss.shape,)}"
    top, below = 2 * 5 + 1, 10 / 4 + 10 + 1  # ten pixels at p = 0.5
    counted = abs(loss - 10 / 11) < 1e-6  # p = 0.5 counts as 0; or as 1: cost 0
    if counted or (not loss.requires_grad and abs(loss) < 1e-6):
        return "a count has no gradient: use probabilities"
    if not loss.requires_grad:
        return "your loss has no gradient: `detach`, `>` or a new tensor cuts it off"
    loss = loss.detach()
    known = {
        "Dice comes out, and a loss is 1 - Dice": top / below,
        "the squares are missing in the denominator": 1 - top / (5 + 10 + 1),
        "square each probability, then add; yours squares the sums": (
            1 - top / (5**2 + 10**2 + 1)
        ),
        "the 2 in the numerator is missing": 1 - (5 + 1) / below,
        "with squares, the rearranged numerator is sum (p - y)^2, not sum |p - y|": (
            5 / below
        ),
        "`smooth` is in the denominator only; the numerator has it too": 1 - 10 / below,
        "a mean of two losses, one per image: add over the whole batch": (
            (1 - top / below) / 2
        ),
        "scores are no probabilities: take their sigmoid first": (
            1 - 1 / (30 * 100**2 + 10 + 1)
        ),
        "the soft-max of a single channel is always 1: take the sigmoid": (
            1 - (20 + 1) / (40 + 10 + 1)
        ),
    }
    for says, wrong in known.items():
        if abs(loss - wrong) < 1e-6:
            return says
    if not abs(square_dice(scores_of(0 * labels, 0.5), 0 * labels)) < 1e-6:
        return "no object and none predicted must cost nothing: where is `smooth`?"
    if abs(loss - (1 - top / below)) > 1e-6:
        return f"ten pixels at p = 0.5 cost {1 - top / below:.4f}, not {loss:.4f}"
    labels[1, :, 0] = 1  # now 10 and 4 pixels, of which 2 are in the same place
    if abs(square_dice(scores_of(labels, 0.5), labels) - (1 - 19 / 18.5)) < 1e-6:
        return "each image meets the labels of all, (B, B, H, W): drop the channel axis"
    labels[1] = 0
    loss, right = square_dice(logits, labels, 9.0), 1 - (10 + 9) / (12.5 + 9)
    if abs(loss - right) > 1e-6:
        return f"the same with smooth=9.0 costs {right:.4f}, not {loss:.4f}"
    return None


TASKS = [
    Task(
        number="8.1",
        title="The energy of each pixel",
        ask=r"""
            To *see* where a net is wrong, one needs the energy $-\log p_{l(x)}(x)$ of each pixel
            instead of their sum. Compute it from the scores, so that scores like 10000 do no harm.
            Do without a soft-max and without a finished loss; `torch.logsumexp` is allowed. All
            labels are classes, none is -100.
        """,
        code='''
            def pixel_energy(logits, labels):
                """Return -log p of the true class, (B, H, W), from logits (B, K, H, W)."""
                # solution
                score = logits.gather(1, labels[:, None])[:, 0]  # of the true class
                return logits.logsumexp(dim=1) - score
                # end
        ''',
        checker=check_pixel_energy,
        hints=(
            r"Write the soft-max into $-\log p$. What is the logarithm of a fraction?",
            """
            The logarithm of the denominator, less that of the numerator. The logarithm of the numerator
            is a score, and you need it for the true class only.
            """,
            """
            score = ...  # of the true class, (B, H, W)
            return logits.logsumexp(dim=...) - ...
            """,
        ),
        wrong={
            "the minus sign is missing, as in print: all energies are below 0": """
                score = logits.gather(1, labels[:, None])[:, 0]
                return score - logits.logsumexp(dim=1)
            """,
            "a second soft-max: the sum takes scores, and yours takes probabilities": """
                logits = logits.softmax(dim=1)
                score = logits.gather(1, labels[:, None])[:, 0]
                return logits.logsumexp(dim=1) - score
            """,
            "scores 10000 and -10000, class 0: the energy is 0, and yours is nan; "
            "no `exp` may overflow": """
                p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
                return -p.gather(1, labels[:, None])[:, 0].log()
            """,
            "scores 10000 and -10000, class 1: the energy is 20000, and yours is inf; "
            "a p of 0 has no logarithm, so do not compute p": """
                p = logits.softmax(dim=1)
                return -p.gather(1, labels[:, None])[:, 0].log()
            """,
            "the axis of the classes is still there: (B, 1, H, W)": """
                score = logits.gather(1, labels[:, None])
                return logits.logsumexp(dim=1, keepdim=True) - score
            """,
            "one energy per pixel is asked for; yours has one per class": """
                return logits.logsumexp(dim=1, keepdim=True) - logits
            """,
            "one number comes out: leave the energies of the pixels apart": """
                return F.cross_entropy(logits, labels)
            """,
            "that is the energy of class 1 in each pixel; the labels say which class": """
                return logits.logsumexp(dim=1) - logits[:, 1]
            """,
            "the shape must be (2, 4, 5), as the labels; it is (2, 2, 4, 5)": """
                score = logits.gather(1, labels[:, None])
                return logits.logsumexp(dim=1) - score
            """,
            "a pixel with the scores 0 and 0 gets no finite energy beside one with 10000: "
            "subtract the maximum of each pixel, `dim=1`": """
                z = logits - logits.max()
                log_p = z - z.exp().sum(dim=1, keepdim=True).log()
                return -log_p.gather(1, labels[:, None])[:, 0]
            """,
            "you take the *highest* score, not that of the true class: use the labels": """
                return logits.logsumexp(dim=1) - logits.amax(dim=1)
            """,
            "axis 1 holds the classes, and your sum runs along axis 3": """
                log_p = logits - logits.logsumexp(dim=-1, keepdim=True)
                return -log_p.gather(1, labels[:, None])[:, 0]
            """,
            "your function changes the logits it is given: no `-=`, write `a = a - b`": """
                logits -= logits.amax(dim=1, keepdim=True)
                score = logits.gather(1, labels[:, None])[:, 0]
                return logits.exp().sum(dim=1).log() - score
            """,
            "p comes out, and the energy is -log p": """
                return logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
            """,
            "the numbers are right, but `cross_entropy` is a finished loss: "
            "write the logarithm of the fraction out yourself": """
                return F.cross_entropy(logits, labels, reduction="none")
            """,
            "the numbers are right, but `log_softmax` is a soft-max: "
            "write the logarithm of the fraction out yourself": """
                log_p = F.log_softmax(logits, dim=1)
                return -log_p.gather(1, labels[:, None])[:, 0]
            """,
        },
        why="""
            Nothing was divided. If the axis of the true score is kept, (B, 1, H, W), the difference has the
            shape (B, B, H, W). That raises no error, and its mean looks like a loss.
        """,
    ),
    Task(
        number="8.2",
        title="Dice with squares",
        ask=r"""
            In V-Net's Dice, the probability and the truth of each pixel are squared in the
            denominator:

            $$L = 1 - \frac{2 \sum p y + s}{\sum p^2 + \sum y^2 + s}$$

            Write this loss for nets with one channel, the score of the object. As in
            `soft_dice_loss`, the sums go over the whole batch.
        """,
        code='''
            def square_dice(logits, labels, smooth=1.0):
                """Return V-Net's Dice loss of logits (B, 1, H, W) and labels (B, H, W)."""
                # solution
                p = torch.sigmoid(logits[:, 0])  # (B, H, W)
                y = labels.to(p.dtype)  # (B, H, W) of 0 and 1
                top = 2 * (p * y).sum() + smooth
                return 1 - top / (p.square().sum() + y.square().sum() + smooth)
                # end
        ''',
        checker=check_square_dice,
        hints=(
            "With one channel there is one score per pixel. Which function turns it into a probability?",
            """
            The sigmoid. Drop the axis of the channel before you multiply by the labels. Otherwise
            (B, 1, H, W) times (B, H, W) becomes (B, B, H, W).
            """,
            """
            p = ...  # (B, H, W)
            y = labels.to(p.dtype)
            top = 2 * ... + smooth
            return 1 - top / (... + ... + smooth)
            """,
        ),
        wrong={
            "the squares are missing in the denominator": """
                return soft_dice_loss(logits, labels, smooth)
            """,
            "a mean of two losses, one per image: add over the whole batch": """
                p, y = torch.sigmoid(logits[:, 0]), labels.float()
                top = 2 * (p * y).sum((1, 2)) + smooth
                below = p.square().sum((1, 2)) + y.square().sum((1, 2)) + smooth
                return (1 - top / below).mean()
            """,
            "scores are no probabilities: take their sigmoid first": """
                p, y = logits[:, 0], labels.float()
                top = 2 * (p * y).sum() + smooth
                return 1 - top / (p.square().sum() + y.square().sum() + smooth)
            """,
            "the soft-max of a single channel is always 1: take the sigmoid": """
                p, y = logits.softmax(dim=1)[:, 0], labels.float()
                top = 2 * (p * y).sum() + smooth
                return 1 - top / (p.square().sum() + y.square().sum() + smooth)
            """,
            "each image meets the labels of all, (B, B, H, W): drop the channel axis": """
                p, y = torch.sigmoid(logits), labels.float()
                top = 2 * (p * y).sum() + smooth
                return 1 - top / (p.square().sum() + y.square().sum() + smooth)
            """,
            "a loss stays a tensor: a float has no gradient": """
                p, y = torch.sigmoid(logits[:, 0]), labels.float()
                top = 2 * (p * y).sum() + smooth
                loss = 1 - top / (p.square().sum() + y.square().sum() + smooth)
                return loss.item()
            """,
            "a count has no gradient: use probabilities": """
                p, y = (logits[:, 0] > 0).float(), labels.float()
                top = 2 * (p * y).sum() + smooth
                return 1 - top / (p.square().sum() + y.square().sum() + smooth)
            """,
            "your loss has no gradient: `detach`, `>` or a new tensor cuts it off": """
                p, y = torch.sigmoid(logits[:, 0]).detach(), labels.float()
                top = 2 * (p * y).sum() + smooth
                return 1 - top / (p.square().sum() + y.square().sum() + smooth)
            """,
            "with squares, the rearranged numerator is sum (p - y)^2, not sum |p - y|": """
                p, y = torch.sigmoid(logits[:, 0]), labels.float()
                below = p.square().sum() + y.square().sum() + smooth
                return (p - y).abs().sum() / below
            """,
            "`smooth` is in the denominator only; the numerator has it too": """
                p, y = torch.sigmoid(logits[:, 0]), labels.float()
                top = 2 * (p * y).sum()
                return 1 - top / (p.square().sum() + y.square().sum() + smooth)
            """,
            "no object and none predicted must cost nothing: where is `smooth`?": """
                p, y = torch.sigmoid(logits[:, 0]), labels.float()
                top = 2 * (p * y).sum()
                return 1 - top / (p.square().sum() + y.square().sum())
            """,
            "square each probability, then add; yours squares the sums": """
                p, y = torch.sigmoid(logits[:, 0]), labels.float()
                top = 2 * (p * y).sum() + smooth
                return 1 - top / (p.sum() ** 2 + y.sum() ** 2 + smooth)
            """,
            "Dice comes out, and a loss is 1 - Dice": """
                p, y = torch.sigmoid(logits[:, 0]), labels.float()
                top = 2 * (p * y).sum() + smooth
                return top / (p.square().sum() + y.square().sum() + smooth)
            """,
            "the same with smooth=9.0 costs 0.1163, not 0.1852": """
                p, y = torch.sigmoid(logits[:, 0]), labels.float()
                top = 2 * (p * y).sum() + 1
                return 1 - top / (p.square().sum() + y.square().sum() + 1)
            """,
        },
        why=r"""
            Rearranged, it is $\sum (p - y)^2$ over the same denominator. A square of a number from 0
            to 1 is no larger than the number, so a pixel of which the net is unsure costs less than
            in `soft_dice_loss`.
        """,
    ),
]
