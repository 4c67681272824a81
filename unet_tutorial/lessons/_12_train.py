"""The tasks of 12_train: add gradients up, count what is wrong, and know when to end."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from unet_tutorial.tasks import Task


class Plain:
    "Plain gradient descent that counts its steps; torch's own takes seconds to load."

    def __init__(self, weight):
        self.weight, self.steps = weight, 0

    def step(self):
        self.steps += 1
        with torch.no_grad():
            self.weight -= 0 if self.weight.grad is None else self.weight.grad

    def zero_grad(self, set_to_none=True):
        self.weight.grad = None


def points(seed, batches, size):
    "Batches of vectors (B, 3) and classes (B,)."
    chosen = torch.Generator().manual_seed(seed)
    xs = torch.randn(batches, size, 3, generator=chosen)
    ys = torch.randint(2, (batches, size), generator=chosen)
    return list(zip(xs, ys, strict=True))


def slope(weight, batches):
    "The gradient of the mean loss over all that is in these batches."
    weight = weight.clone().requires_grad_()
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return torch.autograd.grad(F.cross_entropy(x @ weight.T, y), weight)[0]


def check_one_step(one_step):
    net = nn.Linear(3, 2, bias=False)
    nn.init.ones_(net.weight)
    seen = []  # before each pass: how many go through, and the gradients so far
    net.register_forward_pre_hook(
        lambda _, given: seen.append((len(given[0]), net.weight.grad is not None))
    )
    modes, gradients = [], []  # of each pass; of each call of backward
    net.register_forward_hook(lambda *_: modes.append(net.training))
    net.weight.register_hook(gradients.append)
    optimizer = Plain(net.weight)
    batches = points(0, batches=4, size=3)
    start = net.weight.detach().clone()
    one_step(net, batches, F.cross_entropy, optimizer)
    if optimizer.steps == 0:
        return "the weights stay as they are: `optimizer.step()` is missing"
    if optimizer.steps > 1:
        return f"four batches are one step, and you take {optimizer.steps}"
    if max(size for size, _ in seen) > 3:
        return "the batches go through the net together, and only one fits at a time"
    moved, right = start - net.weight.detach(), slope(start, batches)
    if not gradients:
        return "there are no gradients to follow: `loss.backward()` is missing"
    if not moved.any():
        return "the gradients are forgotten before the step: `zero_grad` comes after it"
    if torch.allclose(moved, slope(start, batches[-1:]), atol=1e-5) or torch.allclose(
        moved, slope(start, batches[-1:]) / 4, atol=1e-5
    ):
        return "only the last batch counts: forget the gradients once, not in between"
    if torch.allclose(moved, 4 * right, atol=1e-5):
        return "the step is four times too long: means must be averaged, not added up"
    if any(torch.allclose(moved, x * right, atol=1e-5) for x in (4 / 3, 1 / 3)):
        return "divide by the number of batches, and not by the number of images"
    if not torch.allclose(moved, right, atol=1e-5):
        return "the step is not the one that all four batches together would give"
    if not seen[1][1]:
        text = "`backward` waits for the last batch, so all must fit into memory"
        return f"{text}: call it for each"
    if not all(modes):
        return "the net learns in `eval` mode, without drop-out: leave its mode alone"
    if not net.training:
        return "the net was in `train` mode, and after the step it is in `eval` mode"
    return check_again(one_step, net, optimizer, points(1, batches=2, size=5))


def check_again(one_step, net, optimizer, batches):
    "Another step, of another number of batches."
    start = net.weight.detach().clone()
    one_step(net, batches, F.cross_entropy, optimizer)
    right = slope(start, batches)
    moved = start - net.weight.detach()
    if torch.allclose(moved, right / 2, atol=1e-5):
        return "you divide two batches by four: their number is `len(batches)`"
    if not torch.allclose(moved, right, atol=1e-5):
        return "the second step still holds the gradients of the first: forget them"
    return None


class Told(nn.Module):
    "A net whose images hold its answers; in train mode it gives others."

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.with_gradients = False

    def forward(self, x):  # (B, 1, h, w) -> (B, 3, h, w)
        self.with_gradients |= torch.is_grad_enabled()
        answers = x[:, 0].long() + 2 * self.training
        return self.weight * F.one_hot(answers % 3, 3).movedim(3, 1).float()


def check_error_of(error_of):
    with torch.enable_grad():  # also for the next task, whatever the answer does
        return error_checked(error_of)


def error_checked(error_of):
    "Return what is wrong, or None."
    large, small = torch.zeros(3, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    large[:, :, 0] = 2
    labels = [torch.zeros(3, 4, 4).long(), torch.zeros(1, 4, 4).long()]
    labels[1][:, :2] = 1
    labels[1][:, 3:] = -100
    loader = list(zip((large, small), labels, strict=True))
    # wrong: 12 of 48 and 8 of 12; 4 more are unknown
    net = Told().train()
    share = float(error_of(net, loader))
    left_off = not torch.is_grad_enabled()
    if math.isclose(share, 8 / 60, rel_tol=1e-5) and error_of(net, loader[:1]) == 0:
        text = "this net has three classes, and you know only 0 and 1"
        return f"{text}: the highest score wins, `argmax(1)`"
    known = {
        (12 / 48 + 8 / 12) / 2: "the second batch has 12 known pixels, and counts as "
        "much as the first with 48: add up pixels, and divide once",
        24 / 64: "the 4 pixels of -100 count as wrong; nobody knows what they are",
        20 / 64: "the 4 pixels of -100 are among the 64 that you divide by",
        40 / 60: "a third is wrong, and you say two thirds: that is what is right",
        20: "20 pixels are wrong; the question is which share of the known ones",
    }
    for value, text in known.items():
        if math.isclose(share, value, rel_tol=1e-5):
            return text
    if not math.isclose(share, 20 / 60, rel_tol=1e-5):
        if math.isclose(share, float(error_of(net.eval(), loader)), rel_tol=1e-5):
            return f"20 of 60 known pixels are wrong, and you say {share:.3f}"
        return "the net answers as in training, with drop-out: use `eval_mode`"
    if not net.training:
        return "the net was training before, and afterwards it is in `eval` mode"
    if left_off:
        text = "gradients are switched off for all that comes after"
        return f"{text}: use `with torch.no_grad()`, which puts them back"
    if net.with_gradients:
        return "the net keeps its maps for gradients that nobody asks for: `torch.no_grad()`"
    error_of(net.eval(), loader)
    if net.training:
        return "the net was in `eval` mode, and now it is training"
    return None


def check_last_epoch(last_epoch):
    falling = [5, 4, 3, 2]
    if last_epoch(falling, 1) != 4:
        known = {
            3: "count epochs from 1: the fourth is the last of four",
            2: "a loss that falls is a better one: this training needs all 4 epochs",
        }
        got = last_epoch(falling, 1)
        return known.get(got, f"each of 4 epochs is better, and yours ends after {got}")
    if last_epoch([3, 4, 5, 6], 1) == 3:
        text = "3, 4, 5, 6 with patience 1 ends after epoch 2"
        return f"{text}: you wait one epoch too long"
    detour = [5, 3, 6, 5, 4, 2]
    if last_epoch(detour, 3) == 6 == last_epoch([5, 3, 4, 5, 6, 2], 3):
        text = "after 5, 3, 4, 5, 6 nobody knows of the 2 that would follow"
        return f"{text}: the best is the best *so far*"
    known = {
        6: "5, 3, 6, 5, 4: after the 6 the loss falls, but not below the *best*, the 3",
        2: "with patience 3 you wait 3 epochs after the best one, and then end",
        4: "after 5, 3, 6, 5 only 2 epochs have passed without a better one, not 3",
    }
    got = last_epoch(detour, 3)
    if got in known:
        return known[got]
    if last_epoch([5, 3, 3, 3, 3, 3], 3) == 6:
        return "as good as the best is not better: 5, 3, 3, 3, 3 ends after the fifth"
    if last_epoch([5, 6, 4, 5, 3, 4, 2, 3], 3) != 8:
        return "a better epoch starts the count anew; yours adds up all that were worse"
    cases = [(detour, 3, 5), (detour, 4, 6), ([1, 2], 1, 2), ([1], 1, 1)]
    cases.append(([3, 4, 5, 6], 1, 2))
    for losses, patience, right in cases:
        got = last_epoch(losses, patience)
        if got != right:
            return f"last_epoch({losses}, {patience}) is {got}, and should be {right}"
    return None


TASKS = [
    Task(
        number="12.1",
        title="A batch that does not fit",
        ask="""
            You want batches of sixteen images, and four fit into memory. Take **one** step from
            several small batches, as if they had been one. They are equally large, each pixel has
            a label, and `criterion` is a mean. At no time may more than one of them be in the net.
        """,
        code='''
            def one_step(model, batches, criterion, optimizer):
                """Take one step from a list of batches (x, y), as if they were one."""
                # solution
                for x, y in batches:
                    loss = criterion(model(x), y) / len(batches)
                    loss.backward()  # adds to the gradients
                optimizer.step()
                optimizer.zero_grad()
                # end
        ''',
        checker=check_one_step,
        hints=(
            "What does `backward` do with the gradients that are on the weights already?",
            """
            Gradients are added up until you forget them. So the step and the forgetting come
            once, after the loop. And the mean over all is the mean of the means, not their sum.
            """,
            """
            for x, y in batches:
                loss = criterion(model(x), y) ...  # its share of the mean
                ...  # adds to the gradients
            optimizer.step()
            ...
            """,
        ),
        wrong={
            "the step is four times too long: means must be averaged, not added up": """
                for x, y in batches:
                    criterion(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
            """,
            "only the last batch counts: forget the gradients once, not in between": """
                for x, y in batches:
                    optimizer.zero_grad()
                    loss = criterion(model(x), y) / len(batches)
                    loss.backward()
                optimizer.step()
            """,
            "four batches are one step, and you take 4": """
                for x, y in batches:
                    loss = criterion(model(x), y) / len(batches)
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
            """,
            "the weights stay as they are: `optimizer.step()` is missing": """
                for x, y in batches:
                    loss = criterion(model(x), y) / len(batches)
                    loss.backward()
            """,
            "the batches go through the net together, and only one fits at a time": """
                x, y = (torch.cat(parts) for parts in zip(*batches))
                criterion(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
            """,
            "`backward` waits for the last batch, so all must fit into memory: "
            "call it for each": """
                total = sum(criterion(model(x), y) for x, y in batches)
                (total / len(batches)).backward()
                optimizer.step()
                optimizer.zero_grad()
            """,
            "the second step still holds the gradients of the first: forget them": """
                for x, y in batches:
                    loss = criterion(model(x), y) / len(batches)
                    loss.backward()
                optimizer.step()
            """,
            "the gradients are forgotten before the step: `zero_grad` comes after it": """
                for x, y in batches:
                    loss = criterion(model(x), y) / len(batches)
                    loss.backward()
                optimizer.zero_grad()
                optimizer.step()
            """,
            "there are no gradients to follow: `loss.backward()` is missing": """
                for x, y in batches:
                    loss = criterion(model(x), y) / len(batches)
                optimizer.step()
                optimizer.zero_grad()
            """,
            "divide by the number of batches, and not by the number of images": """
                for x, y in batches:
                    loss = criterion(model(x), y) / len(x)
                    loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            """,
            "the net learns in `eval` mode, without drop-out: leave its mode alone": """
                model.eval()
                for x, y in batches:
                    loss = criterion(model(x), y) / len(batches)
                    loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            """,
            "the net was in `train` mode, and after the step it is in `eval` mode": """
                for x, y in batches:
                    loss = criterion(model(x), y) / len(batches)
                    loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                model.eval()
            """,
            "you divide two batches by four: their number is `len(batches)`": """
                for x, y in batches:
                    loss = criterion(model(x), y) / 4
                    loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            """,
        },
        why="""
            With batch norm it is not quite one batch: mean and deviation are still those of the
            small ones.
        """,
    ),
    Task(
        number="12.2",
        title="How much is wrong",
        ask="""
            Measure the pixel error of a net: among the known pixels of a loader, the share for which
            the net's class is not that of the label. Unknown pixels are labelled -100. Ask for no
            gradients, switch drop-out off, and leave the net in the mode in which it was.
            (`evaluate` could do it. Write the loop yourself, then compare the two.)
        """,
        code='''
            def error_of(model, loader):
                """Return the share of known pixels that are wrong, from 0 to 1."""
                # solution
                wrong = known = 0
                with eval_mode(model), torch.no_grad():
                    for images, labels in loader:
                        predicted = model(images).argmax(1)  # (B, h, w)
                        has_label = labels != -100
                        wrong += ((predicted != labels) & has_label).sum().item()
                        known += has_label.sum().item()
                return wrong / known
                # end
        ''',
        checker=check_error_of,
        hints=(
            "Which two numbers of each batch do you have to add up?",
            """
            Count the pixels that are known, and those that are known *and* wrong. Divide once, at
            the end. `eval_mode` of notebook 06 puts the net back into its mode afterwards.
            """,
            """
            wrong = known = 0
            with eval_mode(model), ...:
                for images, labels in loader:
                    predicted = ...  # (B, h, w)
                    has_label = ...
                    wrong += ...
                    known += has_label.sum().item()
            return wrong / known
            """,
        ),
        wrong={
            "the second batch has 12 known pixels, and counts as much as the first with "
            "48: add up pixels, and divide once": """
                errors = []
                with eval_mode(model), torch.no_grad():
                    for images, labels in loader:
                        has_label = labels != -100
                        is_wrong = model(images).argmax(1) != labels
                        errors.append(is_wrong[has_label].float().mean().item())
                return sum(errors) / len(errors)
            """,
            "the 4 pixels of -100 count as wrong; nobody knows what they are": """
                wrong = known = 0
                with eval_mode(model), torch.no_grad():
                    for images, labels in loader:
                        wrong += (model(images).argmax(1) != labels).sum().item()
                        known += labels.numel()
                return wrong / known
            """,
            "the 4 pixels of -100 are among the 64 that you divide by": """
                wrong = known = 0
                with eval_mode(model), torch.no_grad():
                    for images, labels in loader:
                        is_wrong = model(images).argmax(1) != labels
                        wrong += (is_wrong & (labels != -100)).sum().item()
                        known += labels.numel()
                return wrong / known
            """,
            "the net answers as in training, with drop-out: use `eval_mode`": """
                wrong = known = 0
                with torch.no_grad():
                    for images, labels in loader:
                        has_label = labels != -100
                        is_wrong = model(images).argmax(1) != labels
                        wrong += (is_wrong & has_label).sum().item()
                        known += has_label.sum().item()
                return wrong / known
            """,
            "the net was training before, and afterwards it is in `eval` mode": """
                model.eval()
                wrong = known = 0
                with torch.no_grad():
                    for images, labels in loader:
                        has_label = labels != -100
                        is_wrong = model(images).argmax(1) != labels
                        wrong += (is_wrong & has_label).sum().item()
                        known += has_label.sum().item()
                return wrong / known
            """,
            "the net was in `eval` mode, and now it is training": """
                model.eval()
                wrong = known = 0
                with torch.no_grad():
                    for images, labels in loader:
                        has_label = labels != -100
                        is_wrong = model(images).argmax(1) != labels
                        wrong += (is_wrong & has_label).sum().item()
                        known += has_label.sum().item()
                model.train()
                return wrong / known
            """,
            "this net has three classes, and you know only 0 and 1: the highest score "
            "wins, `argmax(1)`": """
                wrong = known = 0
                with eval_mode(model), torch.no_grad():
                    for images, labels in loader:
                        has_label = labels != -100
                        is_wrong = (model(images)[:, 1] > 0.5) != labels
                        wrong += (is_wrong & has_label).sum().item()
                        known += has_label.sum().item()
                return wrong / known
            """,
            "gradients are switched off for all that comes after: use "
            "`with torch.no_grad()`, which puts them back": """
                torch.set_grad_enabled(False)
                wrong = known = 0
                with eval_mode(model):
                    for images, labels in loader:
                        has_label = labels != -100
                        is_wrong = model(images).argmax(1) != labels
                        wrong += (is_wrong & has_label).sum().item()
                        known += has_label.sum().item()
                return wrong / known
            """,
            "the net keeps its maps for gradients that nobody asks for: `torch.no_grad()`": """
                wrong = known = 0
                with eval_mode(model):
                    for images, labels in loader:
                        has_label = labels != -100
                        is_wrong = model(images).argmax(1) != labels
                        wrong += (is_wrong & has_label).sum().item()
                        known += has_label.sum().item()
                return wrong / known
            """,
            "a third is wrong, and you say two thirds: that is what is right": """
                right = known = 0
                with eval_mode(model), torch.no_grad():
                    for images, labels in loader:
                        has_label = labels != -100
                        right += (model(images).argmax(1) == labels).sum().item()
                        known += has_label.sum().item()
                return right / known
            """,
        },
        why="""
            `item` asks for two numbers per batch. On a CPU that costs nothing; on a GPU it does,
            and notebook 13 has a task about it.
        """,
    ),
    Task(
        number="12.3",
        title="When patience ends",
        ask="""
            A training ends when the held-out loss has not become better than its best for
            `patience` epochs in a row, or when the epochs are used up. After which epoch is that?
            The losses of all epochs are given, and the first epoch is number 1. With the losses
            `[5, 3, 6, 5, 4, 2]` and patience 3 it ends after epoch 5.
        """,
        code='''
            def last_epoch(losses, patience):
                """Return the number of the last epoch that is trained."""
                # solution
                best = 0
                for epoch, loss in enumerate(losses):
                    if loss < losses[best]:
                        best = epoch
                    if epoch - best >= patience:
                        return epoch + 1
                return len(losses)
                # end
        ''',
        checker=check_last_epoch,
        hints=(
            "What must you remember while you go through the losses?",
            """
            Keep the place of the best loss so far. The training ends when that was `patience`
            epochs ago. A better loss moves the place, and so the count begins again.
            """,
            """
            best = 0  # where the best loss is
            for epoch, loss in enumerate(losses):
                if ...:
                    best = epoch
                if epoch - best ...:
                    return ...  # counted from 1
            return len(losses)
            """,
        ),
        wrong={
            "5, 3, 6, 5, 4: after the 6 the loss falls, but not below the *best*, the 3": """
                worse = 0
                for epoch in range(1, len(losses)):
                    worse = worse + 1 if losses[epoch] >= losses[epoch - 1] else 0
                    if worse >= patience:
                        return epoch + 1
                return len(losses)
            """,
            "3, 4, 5, 6 with patience 1 ends after epoch 2: you wait one epoch too "
            "long": """
                best, waited = math.inf, 0
                for epoch, loss in enumerate(losses, start=1):
                    waited = 0 if loss < best else waited + 1
                    best = min(best, loss)
                    if waited > patience:
                        return epoch
                return len(losses)
            """,
            "after 5, 3, 4, 5, 6 nobody knows of the 2 that would follow: the best is the "
            "best *so far*": """
                best = losses.index(min(losses)) + 1
                return min(best + patience, len(losses))
            """,
            "count epochs from 1: the fourth is the last of four": """
                best = 0
                for epoch, loss in enumerate(losses):
                    if loss < losses[best]:
                        best = epoch
                    if epoch - best >= patience:
                        return epoch
                return epoch
            """,
            "as good as the best is not better: 5, 3, 3, 3, 3 ends after the fifth": """
                best = 0
                for epoch, loss in enumerate(losses):
                    if loss <= losses[best]:
                        best = epoch
                    if epoch - best >= patience:
                        return epoch + 1
                return len(losses)
            """,
            "a better epoch starts the count anew; yours adds up all that were worse": """
                worse = 0
                for epoch, loss in enumerate(losses):
                    worse += epoch > 0 and loss >= min(losses[:epoch])
                    if worse >= patience:
                        return epoch + 1
                return len(losses)
            """,
            "with patience 3 you wait 3 epochs after the best one, and then end": """
                best = 0
                for epoch, loss in enumerate(losses):
                    if loss < losses[best]:
                        best = epoch
                    if epoch - best >= patience:
                        return best + 1
                return len(losses)
            """,
            "after 5, 3, 6, 5 only 2 epochs have passed without a better one, not 3": """
                best = 0
                for epoch, loss in enumerate(losses):
                    if loss < losses[best]:
                        best = epoch
                    if epoch - best >= patience - 1 and best < epoch:
                        return epoch + 1
                return len(losses)
            """,
        },
        why="""
            In the example the epoch with 2, the best of all, is never trained. Patience saves time
            and may cost the best epoch.
        """,
    ),
]
