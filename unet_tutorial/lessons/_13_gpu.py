"""The tasks of 13_gpu: send a batch, wait once, and stop the clock at the right time."""

import torch
from torch.overrides import TorchFunctionMode

from unet_tutorial.tasks import Task


def check_send(send):
    inner = {"weights": torch.ones(3), "place": (torch.zeros(2), 7)}
    batch = {"image": torch.ones(2), "file": ["a.png", "b.png"], "more": inner}
    before = {**batch, "more": dict(inner)}
    try:
        sent = send(batch, "meta")
    except AttributeError as error:
        if "'to'" not in str(error):
            raise
        kind = str(error).split("'")[1]
        return f"a {kind} has no `to`: what is no tensor stays as it is"
    except RecursionError:
        return "the parts of a string are strings, without end: leave them as they are"
    if batch.keys() != before.keys() or batch["image"] is not before["image"]:
        return "the batch that was given has changed; return another one"
    if inner["weights"] is not before["more"]["weights"]:
        return "the dict *in* the batch has changed; build another one there, too"
    return check_sent(sent)


def check_sent(sent):
    "What is wrong with a batch that should be on another device."
    if not isinstance(sent, dict):
        return f"the batch was a dict, and what comes back is a {type(sent).__name__}"
    if sent.keys() != {"image", "file", "more"}:
        return f"what is no tensor is lost: only {', '.join(sent)} came back"
    if sent["image"].device.type != "meta":
        return "the image is still on the CPU: `x.to(device)` *returns* the copy"
    if sent["file"] != ["a.png", "b.png"]:
        return f"the file names were a list of strings, and are {sent['file']!r} now"
    weights, place = (sent["more"].get(name) for name in ("weights", "place"))
    if weights is None or weights.device.type != "meta":
        return "the weights are one level deeper, in `more`, and did not travel"
    if not isinstance(place, tuple):
        return f"a tuple went in, and a {type(place).__name__} came out"
    if place[0].device.type != "meta" or place[1] != 7:
        return "a tuple of a tensor and a number must keep one and move the other"
    return None


ASKS = "item", "tolist", "numpy", "cpu", "nonzero", "unique", "masked_select"
NUMBERS = "__float__", "__int__", "__bool__", "__index__", "__format__", "__repr__"


class Waits(TorchFunctionMode):
    "Notes each call for which Python would wait if the tensors were on a card."

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in ASKS:
            self.names.append(name)
        elif name in NUMBERS:
            shown = name in ("__format__", "__repr__")
            self.names.append("print" if shown else name.strip("_"))
        elif name == "__getitem__" and getattr(args[1], "dtype", 0) == torch.bool:
            self.names.append("x[mask]")
        elif name == "tensor" and isinstance(args[0], list):
            self.names += ["tensor([...])"] * len(args[0])
        return function(*args, **(kwargs or {}))


def epoch_of(batches):
    "Logits (B, 2, h, w) and labels (B, h, w); 4, 5, 6 ... rows of a batch are known."
    chosen = torch.Generator().manual_seed(0)
    for number in range(batches):
        rows = 5 + 2 * number
        logits = torch.randn(2, 2, rows, 4, generator=chosen)
        labels = torch.randint(2, (2, rows, 4), generator=chosen)
        labels[:, : 1 + number] = -100
        yield logits, labels


def check_error_of_epoch(error_of_epoch):
    counted = {}
    for batches in (3, 7):
        with Waits() as waits:
            share = error_of_epoch(epoch_of(batches))
        counted[batches] = waits.names
    if isinstance(share, torch.Tensor):
        return (
            "what comes back is a tensor, still on the card; the caller needs a number"
        )
    wrong, right, unknown = [], [], 0
    for logits, labels in epoch_of(7):
        known = labels != -100
        wrong.append(((logits.argmax(1) != labels) & known).sum().item())
        right.append(known.sum().item())
        unknown += (~known).sum().item()
    parts = [a / b for a, b in zip(wrong, right, strict=True)]
    known = {
        sum(parts) / 7: "batches with few known pixels count as much as the others",
        (sum(wrong) + unknown)
        / (sum(right) + unknown): "pixels of -100 count as wrong",
        sum(wrong) / (sum(right) + unknown): "pixels of -100 are in the divisor",
    }
    for value, text in known.items():
        if abs(share - value) < 1e-5:
            return text
    if abs(share - sum(wrong) / sum(right)) > 1e-5:
        return f"the share is {sum(wrong) / sum(right):.4f}, and yours is {share:.4f}"
    few, many = counted[3], counted[7]
    if len(many) > len(few):
        times = f"{len(many)} waits in 7 batches"
        return f"`{max(many, key=many.count)}` waits in each batch: {times}"
    if len(many) > 1:
        return (
            f"{len(many)} waits at the end: divide on the card, and ask for one number"
        )
    return None


class Card:
    "A pretend card with a queue, and the clock of the program that fills it."

    def __init__(self):
        self.now, self.free, self.rounds = 0, 40, 0  # busy with earlier work

    def clock(self):
        return self.now

    def wait(self):
        self.now = max(self.now, self.free)

    def work(self):
        self.now += 0 if self.rounds else 100  # the first time libraries are loaded
        self.rounds += 1
        for _ in range(3):
            self.now += 1
            self.free = max(self.now, self.free) + 4


def check_two_times(two_times):
    card = Card()
    times = two_times(card.work, card)
    if not isinstance(times, tuple | list) or len(times) != 2:
        return f"two times are asked for: `return launched, done`, not {times!r}"
    launched, done = times
    if launched > 100:
        return "the first round loads libraries: run the work once before you measure"
    known = {
        (3, 3): "3 and 3 ms: you read the clock when Python was done, not the card",
        (13, 13): "13 and 13 ms: you waited for the card before the first reading",
        (3, 10): "10 ms is the time from the last launch on; count from the *start*",
        (13, 3): "both are right, but in the wrong order: first launched, then done",
        (3, 25): "two rounds are in the second time; start the clock after the warm-up",
    }
    if (launched, done) in known:
        return known[launched, done]
    if launched == 3 and done > 13:
        text = "the card was still busy with the round before"
        return f"{text}: wait before you start the clock"
    if (launched, done) != (3, 13):
        return f"this work takes 3 ms to launch, 13 in all, and not {launched}, {done}"
    return None


TASKS = [
    Task(
        number="13.1",
        title="A batch of everything",
        ask="""
            Some loaders give a batch as a dict, with file names beside the images and a dict or a
            tuple inside. Send such a batch to a device. Move each tensor, however deep it is, and keep
            everything else. The batch that you were given must stay as it was. (The checker sends
            to `meta`.)
        """,
        code='''
            def send(batch, device):
                """Return a batch of dicts, lists and tuples with its tensors moved."""
                # solution
                if isinstance(batch, torch.Tensor):
                    return batch.to(device)
                if isinstance(batch, dict):
                    return {name: send(part, device) for name, part in batch.items()}
                if isinstance(batch, list | tuple):
                    return type(batch)(send(part, device) for part in batch)
                return batch  # a file name, a number, None
                # end
        ''',
        checker=check_send,
        hints=(
            "Which kinds of things can a part be, and which of them have parts themselves?",
            """
            Ask what `batch` is: a tensor is moved, the parts of a dict, a list or a tuple are sent
            by the same function, and anything else is returned as it is.
            """,
            """
            if isinstance(batch, torch.Tensor):
                return ...
            if isinstance(batch, dict):
                return {name: ... for name, part in batch.items()}
            if isinstance(batch, list | tuple):
                return type(batch)(... for part in batch)
            return ...
            """,
        ),
        wrong={
            "the image is still on the CPU: `x.to(device)` *returns* the copy": """
                for part in batch.values():
                    if isinstance(part, torch.Tensor):
                        part.to(device)
                return batch
            """,
            "a list has no `to`: what is no tensor stays as it is": """
                return {name: part.to(device) for name, part in batch.items()}
            """,
            "a str has no `to`: what is no tensor stays as it is": """
                if isinstance(batch, dict):
                    return {name: send(part, device) for name, part in batch.items()}
                if isinstance(batch, list | tuple):
                    return type(batch)(send(part, device) for part in batch)
                return batch.to(device)
            """,
            "the weights are one level deeper, in `more`, and did not travel": """
                sent = dict(batch)
                for name, part in batch.items():
                    if isinstance(part, torch.Tensor):
                        sent[name] = part.to(device)
                return sent
            """,
            "the batch that was given has changed; return another one": """
                if isinstance(batch, torch.Tensor):
                    return batch.to(device)
                if isinstance(batch, dict):
                    for name in batch:
                        batch[name] = send(batch[name], device)
                if isinstance(batch, list | tuple):
                    return type(batch)(send(part, device) for part in batch)
                return batch
            """,
            "what is no tensor is lost: only image came back": """
                tensors = {k: x for k, x in batch.items() if isinstance(x, torch.Tensor)}
                return {name: x.to(device) for name, x in tensors.items()}
            """,
            "a tuple went in, and a list came out": """
                if isinstance(batch, torch.Tensor):
                    return batch.to(device)
                if isinstance(batch, dict):
                    return {name: send(part, device) for name, part in batch.items()}
                if isinstance(batch, list | tuple):
                    return [send(part, device) for part in batch]
                return batch
            """,
            "the parts of a string are strings, without end: leave them as they are": """
                if isinstance(batch, torch.Tensor):
                    return batch.to(device)
                if isinstance(batch, dict):
                    return {name: send(part, device) for name, part in batch.items()}
                return [send(part, device) for part in batch]
            """,
        },
        why="""
            `net.to` works in place, because a net owns its weights. A batch may belong to somebody
            else: a list of batches is read again in the next epoch.
        """,
    ),
    Task(
        number="13.2",
        title="Wait once",
        ask="""
            Task 12.2 asked the card for two numbers in each batch. Now wait for the card **once**,
            however many batches there are. `batches` gives pairs of logits (B, K, h, w) and labels
            (B, h, w) on a card; unknown pixels are labelled -100. Return a Python number: the share
            of known pixels that are wrong.
        """,
        code='''
            def error_of_epoch(batches):
                """Return the share of known pixels that are wrong, with a single wait."""
                # solution
                wrong = known = 0
                for logits, labels in batches:
                    has_label = labels != -100
                    wrong = wrong + ((logits.argmax(1) != labels) & has_label).sum()
                    known = known + has_label.sum()  # a tensor: nobody waits
                return (wrong / known).item()
                # end
        ''',
        checker=check_error_of_epoch,
        hints=(
            "Which rows of the table *waits, why* are in your loop?",
            """
            A sum of tensors is a tensor, and the card can add and divide. Do not pick the known
            pixels out, because Python would wait to learn how many they are. Use `&`.
            """,
            """
            wrong = known = 0
            for logits, labels in batches:
                has_label = labels != -100
                wrong = wrong + ...  # tensors, without any `item`
                known = known + ...
            return ...  # the only wait
            """,
        ),
        wrong={
            "`item` waits in each batch: 14 waits in 7 batches": """
                wrong = known = 0
                for logits, labels in batches:
                    has_label = labels != -100
                    wrong += ((logits.argmax(1) != labels) & has_label).sum().item()
                    known += has_label.sum().item()
                return wrong / known
            """,
            "`x[mask]` waits in each batch: 8 waits in 7 batches": """
                wrong = known = 0
                for logits, labels in batches:
                    has_label = labels != -100
                    wrong = wrong + (logits.argmax(1) != labels)[has_label].sum()
                    known = known + has_label.sum()
                return (wrong / known).item()
            """,
            "`bool` waits in each batch: 8 waits in 7 batches": """
                wrong = known = 0
                for logits, labels in batches:
                    has_label = labels != -100
                    if has_label.any():
                        wrong = wrong + ((logits.argmax(1) != labels) & has_label).sum()
                        known = known + has_label.sum()
                return (wrong / known).item()
            """,
            "2 waits at the end: divide on the card, and ask for one number": """
                wrong = known = 0
                for logits, labels in batches:
                    has_label = labels != -100
                    wrong = wrong + ((logits.argmax(1) != labels) & has_label).sum()
                    known = known + has_label.sum()
                return wrong.item() / known.item()
            """,
            "what comes back is a tensor, still on the card; the caller needs a number": """
                wrong = known = 0
                for logits, labels in batches:
                    has_label = labels != -100
                    wrong = wrong + ((logits.argmax(1) != labels) & has_label).sum()
                    known = known + has_label.sum()
                return wrong / known
            """,
            "batches with few known pixels count as much as the others": """
                shares = []
                for logits, labels in batches:
                    has_label = labels != -100
                    wrong = ((logits.argmax(1) != labels) & has_label).sum()
                    shares.append(wrong / has_label.sum())
                return torch.stack(shares).mean().item()
            """,
            "pixels of -100 count as wrong": """
                wrong = known = 0
                for logits, labels in batches:
                    wrong = wrong + (logits.argmax(1) != labels).sum()
                    known += labels.numel()
                return (wrong / known).item()
            """,
        },
        why="""
            `numel` would not wait either: Python knows the shape of a tensor that is not computed
            yet.
        """,
    ),
    Task(
        number="13.3",
        title="Two times",
        ask="""
            How long does Python need to launch some work, and how long until the card has done it?
            The card here is a pretend one: `card.clock()` says what time it is in ms, `card.wait()`
            waits until its queue is empty, and `work()` puts operations into the queue. When your
            function is called the card is still busy with something else. The first round of the
            work is slow, because it loads libraries; do not measure it.
        """,
        code='''
            def two_times(work, card):
                """Return the ms from the start until it is launched, and until it is done."""
                # solution
                work()  # the round that is not measured
                card.wait()
                start = card.clock()
                work()
                launched = card.clock() - start
                card.wait()
                return launched, card.clock() - start
                # end
        ''',
        checker=check_two_times,
        hints=(
            "At which three moments do you read the clock, and before which do you wait?",
            """
            Run the work once, and wait, so that the card is idle when the clock starts. The first
            time is read when `work()` has returned; then wait, and read the second one.
            """,
            """
            ...  # the round that is not measured
            ...
            start = card.clock()
            work()
            launched = ...
            ...
            return launched, card.clock() - start
            """,
        ),
        wrong={
            "3 and 3 ms: you read the clock when Python was done, not the card": """
                work()
                card.wait()
                start = card.clock()
                work()
                launched = card.clock() - start
                return launched, card.clock() - start
            """,
            "13 and 13 ms: you waited for the card before the first reading": """
                work()
                card.wait()
                start = card.clock()
                work()
                card.wait()
                launched = card.clock() - start
                return launched, card.clock() - start
            """,
            "the first round loads libraries: run the work once before you measure": """
                card.wait()
                start = card.clock()
                work()
                launched = card.clock() - start
                card.wait()
                return launched, card.clock() - start
            """,
            "the card was still busy with the round before: wait before you start the "
            "clock": """
                card.wait()
                work()
                start = card.clock()
                work()
                launched = card.clock() - start
                card.wait()
                return launched, card.clock() - start
            """,
            "10 ms is the time from the last launch on; count from the *start*": """
                work()
                card.wait()
                start = card.clock()
                work()
                launched = card.clock()
                card.wait()
                return launched - start, card.clock() - launched
            """,
            "both are right, but in the wrong order: first launched, then done": """
                work()
                card.wait()
                start = card.clock()
                work()
                launched = card.clock() - start
                card.wait()
                return card.clock() - start, launched
            """,
        },
        why="`median_seconds` measures the second time. The first one shows if Python keeps up.",
    ),
]
