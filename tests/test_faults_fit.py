"""What importers give fit, evaluate, losses and metrics: it works, or is refused first.

`CASES` holds a function for each; `benchmarks/faults.py` counts them too. Where
something is refused, no weight has moved, and the message says what would work.
"""

import warnings

import pytest
import torch
from samples import says
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from unet_tutorial.losses import (
    dice_bce_loss,
    soft_dice_loss,
    weighted_cross_entropy,
)
from unet_tutorial.metrics import count_pixels, dice, dice_of, pixel_error_of
from unet_tutorial.model import UNet
from unet_tutorial.runs.guards import MappedLoader
from unet_tutorial.train import evaluate, fit

LOSS = nn.CrossEntropyLoss()
RATES = torch.optim.lr_scheduler


def drawn():
    "Four images of noise, and which of their pixels are bright."
    images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return images, (images[:, 0] > 0).long()


def loader_of(*parts, batch=2):
    return DataLoader(list(zip(*parts, strict=True)), batch)


def named():
    images, labels = drawn()
    parts = zip(images, labels, strict=True)
    return DataLoader([{"image": x, "label": y, "file": "a.png"} for x, y in parts], 2)


def net(**switches):
    torch.manual_seed(0)
    return UNet(base_channels=2, depth=1, padding=1, norm="batch", **switches)


class Answers(nn.Module):
    "A net that wraps its logits, as those of torchvision do."

    def __init__(self, wrap):
        super().__init__()
        self.net, self.wrap = net(), wrap

    def forward(self, x):
        return self.wrap(self.net(x))


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def train(model=None, train=None, valid="the same", criterion=LOSS, **options):
    model = net() if model is None else model
    given = loader_of(*drawn()) if train is None else train
    valid = given if isinstance(valid, str) else valid
    optimizer = options.pop("optimizer", None)
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1)
    epochs = options.pop("epochs", 1)
    return fit(model, given, valid, criterion, optimizer, epochs, **options)


def refused(*words, **given):
    "A case: fit refuses this with these words, and before any weight has moved."

    def case(folder):
        model = net() if given.get("made") is None else given["made"]()
        options = {name: make() for name, make in given.items() if name != "made"}
        before = {name: x.clone() for name, x in model.state_dict().items()}
        with pytest.raises((TypeError, ValueError), match=says(*words)):
            train(model, **options)
        after = model.state_dict()
        learnt = [name for name, _ in model.named_parameters()]
        assert all(torch.equal(before[name], after[name]) for name in learnt)

    return case


def works(**given):
    "A case: fit takes this."

    def case(folder):
        made = {name: make() for name, make in given.items()}
        history = train(made.pop("made", None), **made)
        assert all(torch.tensor(values).isfinite().all() for values in history.values())

    return case


def third(part):
    return lambda: loader_of(*drawn(), part)


def typed(kind):
    images, labels = drawn()
    return lambda: loader_of(images, labels.to(kind))


def rate(*words, kind, **options):
    "A case: fit refuses this schedule as one that steps per batch."

    def case(folder):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        schedule = kind(optimizer, **options)
        with pytest.raises(ValueError, match=says(*words)):
            train(model, optimizer=optimizer, scheduler=schedule, epochs=3)

    return case


def a_schedule_of_another_optimizer(folder):
    schedule = RATES.StepLR(torch.optim.SGD(net().parameters(), 0.1), 1)
    with pytest.raises(ValueError, match=says("scheduler", "another optimizer")):
        train(scheduler=schedule)
    with pytest.raises(ValueError, match=says("epoch_scheduler", "another optimizer")):
        train(epoch_scheduler=schedule)


def a_cosine_in_epochs_is_pointed_out(folder):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = RATES.CosineAnnealingLR(optimizer, T_max=3)
    with pytest.warns(UserWarning, match=says("T_max=6", "epoch_scheduler")):
        train(model, optimizer=optimizer, scheduler=schedule, epochs=3)


def a_stream_is_not_shortened_by_a_look(folder):
    images, labels = drawn()
    items, seen = list(zip(images, labels, strict=True)), []

    class Once(IterableDataset):
        def __iter__(self):
            while items:
                seen.append(items.pop(0))
                yield seen[-1]

    history = train(valid=DataLoader(Once(), 2), epochs=1)
    assert len(seen) == 4 and len(history["valid_loss"]) == 1
    whole = evaluate_after_the_same(loader_of(images, labels))
    assert history["valid_loss"] == whole


def evaluate_after_the_same(loader):
    return train(valid=loader, epochs=1)["valid_loss"]


def labels_of_any_integer(folder):
    images, labels = drawn()
    logits, weights = net()(images), torch.ones(labels.shape)
    kinds = torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16
    for loss in (dice_bce_loss, soft_dice_loss):
        found = {loss(logits, labels.to(kind)).item() for kind in kinds}
        assert found == {loss(logits, labels).item()}
    for kind in kinds:
        weighted = weighted_cross_entropy(logits, labels.to(kind), weights)
        assert weighted == weighted_cross_entropy(logits, labels, weights)
        table = count_pixels(labels.to(kind), labels.to(kind), 2)
        assert table.equal(count_pixels(labels, labels, 2))


def a_byte_of_156_is_not_minus_100(folder):
    images, labels = drawn()
    bad = (156 * labels).byte()  # as a byte, -100 is 156
    with pytest.raises(ValueError, match=says("[156]")):
        train(train=loader_of(images, bad))
    with pytest.raises(ValueError, match=says("[156]")):
        soft_dice_loss(net()(images), bad)


def a_list_is_no_table(folder):
    for metric in (dice_of, pixel_error_of):
        with pytest.raises(ValueError, match=says("list", "count_pixels")):
            metric([[1, 2], [3, 4]])


def evaluate_refuses_the_same(folder):
    images, labels = drawn()
    loader = loader_of(images, labels)
    with pytest.raises(TypeError, match=says("dict of out", "Adapter")):
        evaluate(Answers(lambda x: {"out": x}), loader, LOSS)
    with pytest.raises(TypeError, match=says("function", "nn.Module")):
        evaluate(lambda x: x, loader, LOSS)
    with pytest.raises(TypeError, match=says("loader is None")):
        evaluate(net(), None, LOSS)
    with pytest.raises(TypeError, match=says("shape (2, 16, 16)", "mean")):
        evaluate(net(), loader, nn.CrossEntropyLoss(reduction="none"))


def a_net_without_weights_can_be_measured(folder):
    images, labels = drawn()
    two = loader_of(images.expand(-1, 2, -1, -1), labels)
    assert evaluate(nn.Identity(), two, LOSS)["loss"] == pytest.approx(0.6931, abs=1e-4)


def dictionaries_are_mapped(folder):
    def pair(batch):
        return batch["image"], batch["label"]

    mapped = train(train=MappedLoader(named(), pair))
    assert mapped == train()


images, labels = drawn()
CASES = {
    # the loaders
    "no images held out": works(valid=lambda: None),
    "watch a loss that is not measured": refused(
        "'valid_loss'", "train_loss", valid=lambda: None, watch=lambda: "valid_loss"
    ),
    "metrics without images held out": refused(
        "held out", valid=lambda: None, metrics=lambda: {"dice": dice_of}
    ),
    "batches that are gone after an epoch": refused(
        "only once", "list(...)", train=lambda: iter([(images, labels)])
    ),
    "dictionaries": refused('batch["image"], batch["label"]', train=named),
    "dictionaries held out only": refused("held out", "MappedLoader", valid=named),
    "dictionaries through MappedLoader": dictionaries_are_mapped,
    "a stream": works(
        train=lambda: DataLoader(Stream(list(zip(images, labels, strict=True))), 2)
    ),
    "a stream that is read once": a_stream_is_not_shortened_by_a_look,
    "a stream without a loader": refused(
        "DataLoader", "batch_size=None", train=lambda: Stream([(images, labels)])
    ),
    "a folder for a loader": refused("a str", "DataLoader", train=lambda: "images/"),
    "images for a loader": refused("a Tensor", train=lambda: images),
    "a pair of all images for a loader": refused(
        "a Tensor", "images alone", train=lambda: (images, labels)
    ),
    "an index as third part": refused(
        "part 3", "int64 of shape (1,)", "batch[:2]", train=third(range(4))
    ),
    "a file name as third part": refused("part 3", "of str", train=third("abcd")),
    "notes as third part": refused("part 3", "a dict", train=third([{"a": 1}] * 4)),
    "weights for a criterion of two": refused(
        "3 parts", "CrossEntropyLoss", train=third(torch.ones(4, 16, 16))
    ),
    "no weights for a criterion of three": refused(
        "weighted_cross_entropy", "third part", criterion=lambda: weighted_cross_entropy
    ),
    "weights for a criterion of three": works(
        train=third(torch.ones(4, 16, 16)), criterion=lambda: weighted_cross_entropy
    ),
    "images alone": refused(
        "images alone", train=lambda: DataLoader(TensorDataset(images), 2)
    ),
    "arrays for tensors": refused(
        "ndarray", "as_tensor", train=lambda: [(images.numpy(), labels.numpy())]
    ),
    "names for images": refused("a str", "as_tensor", train=lambda: [("a", "b")]),
    "images of 64 bits": refused(
        "float64", "images.float()", train=lambda: loader_of(images.double(), labels)
    ),
    # labels
    "labels of 8 bits": works(train=typed(torch.uint8)),
    "labels of 16 bits": works(train=typed(torch.uint16)),
    "labels of any integer": labels_of_any_integer,
    "a byte of 156": a_byte_of_156_is_not_minus_100,
    # the criterion
    "a criterion without a mean": refused(
        "shape (2, 16, 16)",
        "mean",
        criterion=lambda: nn.CrossEntropyLoss(reduction="none"),
    ),
    "a criterion that gives a float": refused(
        "float", criterion=lambda: lambda logits, labels: LOSS(logits, labels).item()
    ),
    "a criterion that gives a dictionary": refused(
        "dict", criterion=lambda: lambda logits, labels: {"loss": LOSS(logits, labels)}
    ),
    "a criterion without a gradient": refused(
        "gradient", criterion=lambda: lambda x, y: LOSS(x, y).detach()
    ),
    "a criterion of yes and no": refused(
        "BCEWithLogitsLoss", "dice_bce_loss", criterion=lambda: nn.BCEWithLogitsLoss()
    ),
    "an optimizer for a criterion": refused(
        "SGD",
        "function",
        criterion=lambda: torch.optim.SGD(net().parameters(), 0.1),
    ),
    # the metrics
    "a metric of prediction and truth": refused(
        "dice", "dice_of", "torchmetrics", metrics=lambda: {"dice": dice}
    ),
    "a lambda of prediction and truth": refused(
        "counts", metrics=lambda: {"same": lambda p, t: (p == t).float().mean()}
    ),
    "a metric that is None": refused("'a'", "None", metrics=lambda: {"a": None}),
    "a metric that is a class": refused(
        "class Linear", metrics=lambda: {"a": nn.Linear}
    ),
    "Dice for three classes": refused(
        "(3, 3)", made=lambda: net(num_classes=3), metrics=lambda: {"dice": dice_of}
    ),
    "a list for a table": a_list_is_no_table,
    # the schedules
    "a plateau per step": rate(
        "epoch_scheduler=ReduceLROnPlateau", kind=RATES.ReduceLROnPlateau
    ),
    "one cycle that is too short": rate(
        "3 of 6", "total_steps=6", kind=RATES.OneCycleLR, max_lr=0.1, total_steps=3
    ),
    "a cosine in epochs": a_cosine_in_epochs_is_pointed_out,
    "a schedule of another optimizer": a_schedule_of_another_optimizer,
    "a schedule by name": refused("'cosine'", "StepLR", scheduler=lambda: "cosine"),
    "a class of schedules": refused("StepLR", scheduler=lambda: RATES.StepLR),
    # the rest
    "an optimizer by name": refused("'adam'", "AdamW", optimizer=lambda: "adam"),
    "a class of optimizers": refused("AdamW", optimizer=lambda: torch.optim.AdamW),
    "half an epoch": refused("1.5", "whole number", epochs=lambda: 1.5),
    "epochs below none": refused("-1", epochs=lambda: -1),
    "no patience": refused("patience is 0", patience=lambda: 0),
    "a clip of 0": refused("clip is 0", "1.0", clip=lambda: 0),
    "a clip below 0": refused("clip is -1", clip=lambda: -1.0),
    "minutes as text": refused("'5'", "number", minutes=lambda: "5"),
    "a callback of one argument": refused(
        "callback(epoch, row)", callback=lambda: lambda epoch: None
    ),
    "a device of another name": refused("'gpu'", '"cuda"', device=lambda: "gpu"),
    "a net that gives a dictionary": refused(
        "dict of out", "Adapter", made=lambda: Answers(lambda x: {"out": x})
    ),
    "a net that gives a tuple": refused(
        "tuple", made=lambda: Answers(lambda x: (x, 1))
    ),
    "a net that gives a class per image": refused(
        "(2, 2)", "(B, K, h, w)", made=lambda: Answers(lambda x: x.mean((2, 3)))
    ),
    "a net that is frozen": refused("frozen", made=lambda: net().requires_grad_(False)),
    "a net without weights": a_net_without_weights_can_be_measured,
    "evaluate of all these": evaluate_refuses_the_same,
}


@pytest.mark.parametrize("name", CASES)
def test_an_importer_is_answered(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CASES[name](tmp_path)
