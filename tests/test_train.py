"""The training loop and its engine: they learn, measure right, go on exactly."""

import faulthandler
import sys
import time
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from samples import says
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from unet_tutorial.data.loader import SeededSampler
from unet_tutorial.losses import dice_bce_loss, weighted_cross_entropy
from unet_tutorial.metrics import dice_of, pixel_error_of
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor, predict_blended
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.engine import Training, find_not_finite, go_on
from unet_tutorial.runs.guards import MappedLoader
from unet_tutorial.train import (
    Step,
    evaluate,
    fit,
    precision,
    to_device,
    train_one_epoch,
)

pytestmark = pytest.mark.filterwarnings("error::UserWarning")
CPU = torch.device("cpu")
LOSS = nn.CrossEntropyLoss()


def unit_cross_entropy(logits, labels):
    return weighted_cross_entropy(logits, labels, torch.ones(labels.shape))


def weights_of(model):
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def small_net(**switches):
    torch.manual_seed(0)
    return UNet(base_channels=2, depth=1, padding=1, norm="batch", **switches)


def sgd(model, rate=0.1):
    return torch.optim.SGD(model.parameters(), rate)


@pytest.fixture
def squares():
    """Bright squares on noise, and where they are: (16, 1, 24, 24), (16, 24, 24)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(16, 24, 24, dtype=torch.long)
    for index in range(16):
        row, column = torch.randint(0, 14, (2,), generator=generator).tolist()
        labels[index, row : row + 10, column : column + 10] = 1
    noise = torch.randn(16, 1, 24, 24, generator=generator)
    return TensorDataset(noise + 2 * labels[:, None], labels)


def test_training_learns(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-2)
    metrics = {"dice": dice_of, "error": pixel_error_of}
    history = fit(model, loader, loader, LOSS, optimizer, 15, metrics)
    assert set(history) == {"train_loss", "valid_loss", "dice", "error"}
    assert all(len(values) == 15 for values in history.values())
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]
    assert history["dice"][-1] > 0.85


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_what_is_measured_does_not_depend_on_the_batch(squares, batch):
    model, metrics = small_net(), {"dice": dice_of, "error": pixel_error_of}
    whole = evaluate(model, DataLoader(squares, 16), LOSS, metrics)
    parts = evaluate(model, DataLoader(squares, batch), LOSS, metrics)
    assert parts["dice"] == whole["dice"] and parts["error"] == whole["error"]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)


@pytest.mark.parametrize("loss", [LOSS, dice_bce_loss, unit_cross_entropy])
def test_a_corner_tile_weighs_as_much_as_its_known_pixels(squares, loss):
    images, labels = squares.tensors
    labels = labels.clone()
    labels[12:, 6:] = -100  # of the last batch a quarter is known
    labels[4:8] = -100  # and of the second nothing at all
    model, loader = small_net(), DataLoader(TensorDataset(images, labels), 4)
    model.eval()
    with torch.no_grad():
        losses = [loss(model(x), y) for x, y in loader]
    known = [(y >= 0).sum() for _, y in loader]
    assert losses[1] == 0 or losses[1].isnan()
    due = sum(x * n for x, n in zip(losses, known, strict=True) if n) / sum(known)
    assert evaluate(model, loader, loss)["loss"] == pytest.approx(due.item(), rel=1e-5)
    plain = (losses[0] + losses[2] + losses[3]) / 3
    assert due.item() != pytest.approx(plain.item(), rel=1e-3)


def test_a_set_without_any_label_cannot_be_measured(squares):
    images, labels = squares.tensors
    loader = DataLoader(TensorDataset(images, torch.full_like(labels, -100)), 4)
    with pytest.raises(ValueError, match=says("no pixel", "-100")):
        evaluate(small_net(), loader, LOSS)


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_changes_nothing(squares, training):
    model = small_net().train(training)
    model.contracting.dropout.train(not training)  # one layer in another mode
    modes = [layer.training for layer in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    evaluate(model, DataLoader(squares, 4), LOSS)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [layer.training for layer in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


def test_the_mode_is_put_back_after_an_error_too(squares):
    model = small_net().train()
    with pytest.raises(ZeroDivisionError):
        evaluate(model, DataLoader(squares, 4), lambda logits, labels: 1 / 0)
    assert all(layer.training for layer in model.modules())


def test_the_scheduler_steps_once_a_batch(squares):
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    step = Step(model, optimizer, schedule)
    train_one_epoch(model, DataLoader(squares, 4), LOSS, step, "cpu")
    assert schedule.get_last_lr() == [0.5**4]


def test_time_is_up(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    assert fit(model, loader, loader, LOSS, optimizer, 5, minutes=0) == {}


def test_time_may_be_up_in_the_middle_of_an_epoch(squares, monkeypatch):
    model, loader, seconds = small_net(), DataLoader(squares, 4), iter(range(99))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer := sgd(model), float)
    loaders = loader, loader
    history = fit(model, *loaders, LOSS, optimizer, 5, scheduler=schedule, minutes=0.05)
    assert len(history["valid_loss"]) == 1 and schedule.last_epoch == 2  # steps of 4


def test_the_data_set_is_told_the_epoch(squares):
    told = []
    squares.set_epoch = told.append
    model, loader = small_net(), DataLoader(squares, 16)
    fit(model, loader, loader, LOSS, torch.optim.SGD(model.parameters(), 1e-3), 3)
    assert told == [0, 1, 2]


def test_bfloat16_gives_nearly_the_same_loss(squares):
    model, loader = small_net(), DataLoader(squares, 16)
    exact = evaluate(model, loader, LOSS)["loss"]
    half = evaluate(model, loader, LOSS, amp=torch.bfloat16)["loss"]
    assert half == pytest.approx(exact, 0.02) and half != exact


def test_an_empty_loader_is_an_error_not_a_dice_of_zero(squares):
    loader = DataLoader(squares, 32, drop_last=True)
    model = small_net()
    with pytest.raises(ValueError, match="no batch.*drop_last"):
        evaluate(model, loader, LOSS)
    with pytest.raises(ValueError, match="no batch.*drop_last"):
        train_one_epoch(model, loader, LOSS, Step(model, sgd(model)), "cpu")
    with pytest.raises(ValueError, match="no batch.*drop_last"):
        go_on(Training(model, sgd(model), device="cpu"), loader, loader, LOSS, 1)


def test_labels_of_the_input_size_are_refused_with_the_remedy():
    net = UNet(base_channels=1)
    batch = [(torch.zeros(1, 1, 188, 188), torch.zeros(1, 188, 188).long())]
    with pytest.raises(ValueError, match=r"\(1, 188, 188\).*\(1, 4, 4\).*center_crop"):
        evaluate(net, batch, LOSS)


def test_labels_with_a_channel_axis_are_refused_with_the_remedy(squares):
    image, label = squares[0]
    batch = [(image[None], label[None, None])]
    with pytest.raises(ValueError, match=r"labels\[:, 0\]"):
        evaluate(small_net(), batch, LOSS)


def test_one_class_is_refused_by_name(squares):
    with pytest.raises(ValueError, match="background"):
        evaluate(nn.Conv2d(1, 1, 3, padding=1), DataLoader(squares, 4), LOSS)


def test_a_loader_may_give_weights(squares):
    def criterion(logits, labels, weights):
        return (weights * F.cross_entropy(logits, labels, reduction="none")).sum()

    images, labels = squares.tensors
    weights = torch.zeros(labels.shape)
    weighted = DataLoader(TensorDataset(images, labels, weights), 4)
    assert evaluate(small_net(), weighted, criterion)["loss"] == 0


def test_a_device_may_be_named(squares):
    evaluate(small_net(), DataLoader(squares, 16), LOSS, device="cpu")


def test_only_cuda_is_not_waited_for():
    asked = []

    class Part:
        def to(self, device, non_blocking):
            asked.append((torch.device(device).type, non_blocking))

    for device in ("cpu", "mps", "cuda", "cuda:1", torch.device("cuda")):
        to_device([Part()], device)
    cuda = [("cuda", True)] * 3
    assert asked == [("cpu", False), ("mps", False), *cuda]


class Recorder(nn.Module):
    "A net that notes where it was asked to go."

    def __init__(self):
        super().__init__()
        self.layer, self.asked = nn.Conv2d(1, 2, 1), []

    def to(self, device):
        self.asked.append(device)
        return self

    def forward(self, x):
        return self.layer(x)


def test_a_model_stays_where_it_is_unless_it_is_sent(squares, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # it would be faster
    model, loader = Recorder(), DataLoader(squares, 8)
    evaluate(model, loader, LOSS)
    fit(model, loader, loader, LOSS, sgd(model), 1)
    assert set(model.asked) == {None}
    evaluate(model, loader, LOSS, device="cpu")
    assert model.asked[-1] == "cpu"


# What is refused


def test_a_data_set_is_no_loader(squares):
    model = small_net()
    pattern = says("TensorDataset", "DataLoader(dataset, batch_size=8)")
    with pytest.raises(TypeError, match=pattern):
        fit(model, squares, squares, LOSS, sgd(model), 1)
    with pytest.raises(TypeError, match=pattern):
        evaluate(model, squares, LOSS)


def test_a_class_is_no_criterion(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    with pytest.raises(TypeError, match=says("CrossEntropyLoss() would work")):
        fit(model, loader, loader, nn.CrossEntropyLoss, sgd(model), 1)


def test_a_list_is_no_dictionary_of_metrics(squares):
    with pytest.raises(TypeError, match=says("metrics is a list", '{"dice": dice_of}')):
        evaluate(small_net(), DataLoader(squares, 4), LOSS, [dice_of])


def test_a_loader_that_is_missing_is_refused_before_the_first_epoch(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    before = weights_of(model).clone()
    with pytest.raises(TypeError, match=says("is None", "DataLoader(dataset")):
        fit(model, None, loader, LOSS, sgd(model), 1)
    with pytest.raises(TypeError, match=says("is None", "DataLoader(dataset")):
        evaluate(model, None, LOSS)
    with pytest.raises(TypeError, match=says("only once", "list(...)")):
        fit(model, iter(loader), loader, LOSS, sgd(model), 2)
    assert torch.equal(weights_of(model), before)


def test_a_text_is_no_criterion(squares):
    with pytest.raises(TypeError, match=says("'dice'", "nn.CrossEntropyLoss()")):
        evaluate(small_net(), DataLoader(squares, 4), "dice")


class Endless(IterableDataset):
    """A data set that does not know how many items it has."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        return iter(self.dataset)


def test_a_loader_need_not_know_its_length(squares):
    found = []
    for dataset in (squares, Endless(squares)):
        model, loader = small_net(), DataLoader(dataset, 4)
        found.append(fit(model, loader, loader, LOSS, sgd(model), 2))
        training = Training(model, sgd(model), device="cpu")
        go_on(training, loader, loader, LOSS, 2)
        assert training.step == 8
        found.append(training.history)
    assert found[:2] == found[2:]


@pytest.mark.parametrize("ema", [0, 0.9])
def test_a_compiled_net_is_trained_like_any_other(squares, ema):
    found = []
    for wrap in (lambda net: net, lambda net: torch.compile(net, backend="eager")):
        model, loader = wrap(small_net()), DataLoader(squares, 4)
        found.append(fit(model, loader, loader, LOSS, sgd(model), 1))
        assert not model.training
        training = Training(model, sgd(model), device="cpu", ema=ema)
        found.append(go_on(training, loader, loader, LOSS, 1))
    assert found[:2] == found[2:]


@pytest.mark.parametrize("kind", [Step, Training])
def test_the_optimizer_of_another_model_is_refused(squares, kind):
    with pytest.raises(ValueError, match=says("optimizer", "model.parameters()")):
        kind(small_net(), sgd(small_net()))


@pytest.mark.parametrize("amp", [True, False, "bf16", torch.float32])
def test_a_format_that_is_no_dtype_is_refused_by_name(squares, amp):
    model, loader = small_net(), DataLoader(squares, 4)
    pattern = says("amp is", "torch.bfloat16", "None", "gpu.amp_type")
    with pytest.raises(ValueError, match=pattern):
        precision(CPU, amp)
    with pytest.raises(ValueError, match=pattern):
        evaluate(model, loader, LOSS, amp=amp)
    with pytest.raises(ValueError, match=pattern):
        fit(model, loader, loader, LOSS, sgd(model), 1, amp=amp)


def test_a_naked_loop_does_the_same(squares):
    nets = [small_net(dropout=0) for _ in range(2)]
    optimizers = [torch.optim.AdamW(net.parameters()) for net in nets]
    for x, y in DataLoader(squares, 4):
        LOSS(nets[0](x), y).backward()
        optimizers[0].step()
        optimizers[0].zero_grad()
    step = Step(nets[1], optimizers[1])
    train_one_epoch(nets[1], DataLoader(squares, 4), LOSS, step, "cpu")
    assert torch.equal(weights_of(nets[0]), weights_of(nets[1]))


class Counted:
    "A loader that counts how often it is begun."

    def __init__(self, batches):
        self.batches, self.begun = batches, 0

    def __iter__(self):
        self.begun += 1
        return iter(self.batches)


def test_a_loader_is_begun_once_per_epoch(squares):
    model, loader = small_net(), Counted(list(DataLoader(squares, 8)))
    train_one_epoch(model, loader, LOSS, Step(model, sgd(model)), "cpu")
    assert loader.begun == 1
    evaluate(model, loader, LOSS)
    assert loader.begun == 2


def test_fit_and_the_engine_are_one_loop(squares):
    nets, loader = [small_net(dropout=0) for _ in range(2)], DataLoader(squares, 4)
    history = fit(nets[0], loader, loader, LOSS, sgd(nets[0]), 2)
    training = Training(nets[1], sgd(nets[1]), device="cpu")
    again = go_on(training, loader, loader, LOSS, 2)
    assert torch.equal(weights_of(nets[0]), weights_of(nets[1]))
    assert again["valid_loss"] == history["valid_loss"]


def test_fit_stops_when_the_loss_is_no_number(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    with torch.no_grad():
        model.last.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match=says("nan in epoch 1", "clip")):
        fit(model, loader, loader, LOSS, sgd(model), 3)


def test_fit_tells_the_callback_after_each_epoch(squares):
    model, loader, told = small_net(), DataLoader(squares, 8), []
    history = fit(
        model,
        loader,
        loader,
        LOSS,
        sgd(model),
        2,
        callback=lambda epoch, row: told.append((epoch, row["valid_loss"])),
    )
    assert told == list(enumerate(history["valid_loss"], 1)) and not model.training


def test_a_plain_step_scales_for_float16_and_clips(squares):
    model = small_net()
    step = Step(model, sgd(model, 1.0), clip=1e-3, amp=torch.float16)
    before = weights_of(model)
    train_one_epoch(model, DataLoader(squares, 16), LOSS, step, "cpu")
    assert step.scaler.is_enabled()
    assert (weights_of(model) - before).norm() == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("kind", [Step, Training])
def test_gradients_that_were_left_do_not_enter_the_first_step(squares, kind):
    nets = [small_net(dropout=0) for _ in range(2)]
    for weight in nets[1].parameters():
        weight.grad = torch.full_like(weight, 1e3)
    for net in nets:
        on_cpu = {"device": "cpu"} if kind is Training else {}
        step = kind(net, sgd(net), **on_cpu)
        train_one_epoch(net, DataLoader(squares, 16), LOSS, step, "cpu")
    assert torch.equal(weights_of(nets[0]), weights_of(nets[1]))


def test_two_trainings_are_two():
    model = small_net()
    one, other = (Training(model, sgd(model), device="cpu") for _ in range(2))
    assert one != other and one == one and len({one, other}) == 2


def test_labels_of_0_and_255_are_refused_with_the_remedy(squares):
    images, labels = squares.tensors
    loader = DataLoader(TensorDataset(images, 255 * labels), 4)
    with pytest.raises(ValueError, match=says("[255]", "0 to 1", "labels == 255")):
        evaluate(small_net(), loader, LOSS)


def test_labels_that_are_left_out_are_allowed(squares):
    images, labels = squares.tensors
    loader = DataLoader(TensorDataset(images, torch.where(labels == 0, -100, 1)), 4)
    assert evaluate(small_net(), loader, LOSS, {"error": pixel_error_of})["error"] > 0


def test_what_is_watched_must_be_measured(squares):
    model, loader = small_net(), DataLoader(squares, 8)
    with pytest.raises(ValueError, match=says("'dice'", "valid_loss")):
        fit(model, loader, loader, LOSS, sgd(model), 1, watch="dice")


# What is kept, and which way the rate goes


def wander(model, values):
    "A metric that gives these values, and notes the weights that had them."
    seen, values = [], iter(values)

    def measure(counts):
        seen.append(weights_of(model).clone())
        return next(values)

    return measure, seen


WRAPS = {
    "plain": lambda net: net,
    "compiled": lambda net: torch.compile(net, backend="eager"),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("restore", [True, False, None])
def test_fit_ends_with_the_best_weights_where_it_is_asked(squares, restore, wrap):
    model, loader = WRAPS[wrap](small_net()), DataLoader(squares, 8)
    measure, seen = wander(model, [0.5, 0.9, 0.7, 0.9])
    end = {"watch": "dice", "restore_best": restore}
    fit(model, loader, loader, LOSS, sgd(model), 4, {"dice": measure}, **end)
    best = 1 if restore else 3  # counted from 0; of two that are equal the first
    assert torch.equal(weights_of(model), seen[best]) and not model.training
    assert not torch.equal(seen[1], seen[3])


@pytest.mark.parametrize("restore", [None, False])
def test_patience_ends_with_the_best_weights(squares, restore):
    model, loader = small_net(), DataLoader(squares, 8)
    measure, seen = wander(model, [0.5, 0.9, 0.7, 0.6, 1.0])
    end = {"watch": "dice", "patience": 2, "restore_best": restore}
    fit(model, loader, loader, LOSS, sgd(model), 9, {"dice": measure}, **end)
    assert len(seen) == 4
    assert torch.equal(weights_of(model), seen[1 if restore is None else 3])


def test_the_best_weights_are_those_that_were_measured(squares):
    model, loader = small_net(), DataLoader(squares, 8)
    measure, seen = wander(model, [0.5, 0.9, 0.7])

    def average(epoch, row):  # a callback that changes the net behind fit's back
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(0.5)

    end = {"watch": "dice", "restore_best": True, "callback": average}
    before = model.state_dict()
    fit(model, loader, loader, LOSS, sgd(model), 3, {"dice": measure}, **end)
    assert torch.equal(weights_of(model), seen[1])
    assert all(
        x.data_ptr() == before[n].data_ptr() for n, x in model.state_dict().items()
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_training_has_its_best_weights(squares, error):
    model, loader = small_net(), DataLoader(squares, 8)
    measure, seen = wander(model, [0.9, 0.5, 0.4])

    def stop(epoch, row):
        if epoch == 3:
            raise error

    end = {"watch": "dice", "restore_best": True, "callback": stop}
    with pytest.raises(error):
        fit(model, loader, loader, LOSS, sgd(model), 9, {"dice": measure}, **end)
    assert torch.equal(weights_of(model), seen[0]) and not model.training


def test_a_nan_is_no_best_epoch(squares):
    model, loader = small_net(), DataLoader(squares, 8)
    measure, seen = wander(model, [float("nan"), 0.5, 0.4, 0.3])
    end = {"watch": "dice", "patience": 2}
    history = fit(model, loader, loader, LOSS, sgd(model), 9, {"dice": measure}, **end)
    assert len(history["dice"]) == 4
    assert torch.equal(weights_of(model), seen[1])


RATES = torch.optim.lr_scheduler


def test_a_schedule_by_epoch_ends_where_it_should(squares):
    model, loader, rates = small_net(), DataLoader(squares, 4), []
    optimizer = sgd(model)
    cosine = RATES.CosineAnnealingLR(optimizer, T_max=5, eta_min=1e-3)
    note = {"callback": lambda epoch, row: rates.append(cosine.get_last_lr()[0])}
    fit(model, loader, loader, LOSS, optimizer, 5, epoch_scheduler=cosine, **note)
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(1e-3)


def test_a_schedule_by_step_and_one_by_epoch(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    optimizer = sgd(model, 1.0)
    warm = RATES.LinearLR(optimizer, 0.1, total_iters=8)
    halve = RATES.StepLR(optimizer, 1, gamma=0.5)
    both = {"scheduler": warm, "epoch_scheduler": halve}
    fit(model, loader, loader, LOSS, optimizer, 2, **both)
    assert (warm.last_epoch, halve.last_epoch) == (8, 2)


def test_a_plateau_is_told_what_is_watched(squares):
    model, loader = small_net(), DataLoader(squares, 8)
    values = iter([0.5, 0.4, 0.3, 0.9])
    optimizer = sgd(model)
    plateau = RATES.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=1)
    end = {"watch": "dice", "epoch_scheduler": plateau}
    metrics = {"dice": lambda counts: next(values)}
    fit(model, loader, loader, LOSS, optimizer, 4, metrics, **end)
    assert plateau.best == 0.9
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    with pytest.raises(ValueError, match=says("'valid_loss'", 'mode="min"')):
        fit(model, loader, loader, LOSS, optimizer, 4, epoch_scheduler=plateau)


# The loss of an epoch


@pytest.mark.parametrize("loss", [LOSS, dice_bce_loss, unit_cross_entropy])
def test_the_loss_of_an_epoch_is_a_mean_over_known_pixels(squares, loss):
    images, labels = squares.tensors
    labels = labels.clone()
    labels[8:, 3:] = -100  # an eighth is known
    loader = DataLoader(TensorDataset(images, labels), 6)  # 6, 6 and 4 images
    found, given = [], []

    def noted(logits, labels):
        given.append((loss(logits, labels), int((labels >= 0).sum())))
        return given[-1][0]

    for kind in ("fit", "engine"):
        model = small_net(dropout=0)
        if kind == "fit":
            history = fit(model, loader, None, noted, sgd(model), 1)
        else:
            training = Training(model, sgd(model), device="cpu")
            history = go_on(training, loader, None, noted, 1)
        found.append(history["train_loss"])
    due = sum(x.item() * n for x, n in given[:3]) / sum(n for _, n in given[:3])
    assert found[0] == found[1] == [pytest.approx(due, rel=1e-6)]
    plain = sum(x.item() for x, _ in given[:3]) / 3
    assert due != pytest.approx(plain, rel=1e-3)


def test_weights_count_in_the_loss_of_an_epoch(squares):
    images, labels = squares.tensors
    weights = 1 + 9 * torch.rand(
        labels.shape, generator=torch.Generator().manual_seed(0)
    )
    parts = TensorDataset(images, labels, weights)
    losses = []
    for batch in (16, 5):  # the net does not move: the rate is 0
        model = small_net(dropout=0).eval()
        model.train = lambda mode=True, model=model: model  # stays in eval mode
        optimizer = sgd(model, 0.0)
        loader = DataLoader(parts, batch)
        history = fit(model, loader, None, weighted_cross_entropy, optimizer, 1)
        losses += history["train_loss"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_batch_without_a_label_is_no_number_for_torch(squares):
    images, labels = squares.tensors
    labels = labels.clone()
    labels[12:] = -100
    loader = DataLoader(TensorDataset(images, labels), 4)
    model = small_net()
    with pytest.raises(FloatingPointError, match=says("nan", "-100")):
        fit(model, loader, None, LOSS, sgd(model), 1)  # 0 / 0, in the last batch
    history = fit(model := small_net(), loader, None, dice_bce_loss, sgd(model), 1)
    assert 0 < history["train_loss"][0] < 3  # ours are 0 there


def test_an_epoch_can_be_resumed_from_a_state_without_pixels(squares, tmp_path):
    loader = DataLoader(squares, 4, sampler=SeededSampler(16))
    training = Training(model := small_net(), sgd(model), device="cpu")
    with pytest.raises(Interrupted):
        go_on(training, loader, None, LOSS, 1, callback=stop_after(2))
    state = training.state_dict()
    assert state["progress"]["known"] == [4 * 24 * 24] * 2
    del state["progress"]["known"]  # as versions before wrote it
    training.load_state_dict(state)
    history = go_on(training, loader, None, LOSS, 1)
    assert 0 < history["train_loss"][0] < 3


def stop_after(steps):
    def callback(training, row):
        if row is None and training.step == steps:
            raise Interrupted

    return callback


# The mode of a net, and what else is given


def test_a_preview_in_a_callback_leaves_the_net_in_training(squares):
    model, loader, modes = small_net(), DataLoader(squares, 4), []
    image = squares[0][0]

    def preview(training, row):
        if row is None:
            predict_blended(training.model, image)
            Predictor(training.model)(image.numpy()[0])
            evaluate(training.model, loader, LOSS)
            modes.append({layer.training for layer in training.model.modules()})

    training = Training(model, sgd(model), device="cpu")
    go_on(training, loader, loader, LOSS, 1, callback=preview)
    assert modes == [{True}] * 4


class Share:
    "A metric that counts by itself."

    def reset(self):
        self.right = self.all = 0

    def update(self, predicted, labels):
        self.right = self.right + (predicted == labels).sum()
        self.all += labels.numel()

    def compute(self):
        return self.right / self.all


def test_a_metric_may_count_by_itself(squares):
    model, loader = small_net(), DataLoader(squares, 5)
    metrics = {"right": Share(), "error": pixel_error_of}
    for _ in range(2):  # the second time it has forgotten the first
        row = evaluate(model, loader, LOSS, metrics)
        assert row["right"] == pytest.approx(1 - row["error"])
    history = fit(model, loader, loader, LOSS, sgd(model), 2, metrics, watch="right")
    assert [len(values) for values in history.values()] == [2, 2, 2, 2]


def test_metrics_of_torchmetrics(squares):
    kinds = pytest.importorskip("torchmetrics.classification")
    images, labels = squares.tensors
    labels = labels.clone()
    labels[:, :5] = -100
    model, loader = small_net(), DataLoader(TensorDataset(images, labels), 5)
    options = {"ignore_index": -100, "validate_args": False}
    theirs = (
        kinds.BinaryF1Score(**options),
        kinds.MulticlassAccuracy(2, average="micro", **options),
    )
    metrics = {"f1": theirs[0], "right": theirs[1], "dice": dice_of}
    row = evaluate(model, loader, LOSS, {**metrics, "error": pixel_error_of})
    assert row["f1"] == pytest.approx(row["dice"])
    assert row["right"] == pytest.approx(1 - row["error"])
    bad = {
        "per class": (kinds.MulticlassAccuracy(2, average=None), "not one number"),
        "of probabilities": (kinds.MulticlassAUROC(2), "Does it expect probabilities?"),
    }
    for name, (metric, words) in bad.items():
        with pytest.raises((TypeError, ValueError), match=says(name, words)):
            fit(model, loader, loader, LOSS, sgd(model), 1, {name: metric})
    with pytest.raises(ValueError, match=says("'f1'", "ignore_index=-100")):
        evaluate(model, loader, LOSS, {"f1": kinds.BinaryF1Score()})


def test_a_look_changes_no_random_number(squares):
    ends = []
    for valid in (DataLoader(squares, 4), [*DataLoader(squares, 4)]):
        model, loader = small_net(), DataLoader(squares, 4, shuffle=True)
        fit(model, loader, valid, LOSS, sgd(model), 1)
        ends.append(weights_of(model))
    model, loader = small_net(), DataLoader(squares, 4, shuffle=True)
    train_one_epoch(model, loader, LOSS, Step(model, sgd(model)), "cpu")
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], weights_of(model))


def test_items_with_names_of_their_own_are_no_obstacle(squares):
    class Named(dict):
        def __getitem__(self, name):
            _, number = name
            return squares[number]

    names = [("item", number) for number in range(8)]
    loaders = (
        DataLoader(Named(), 4, sampler=names),
        DataLoader(Named(), batch_sampler=[names[:4], names[4:]]),
    )
    for loader in loaders:
        model = small_net()
        history = fit(model, DataLoader(squares, 8), loader, LOSS, sgd(model), 1)
        assert len(history["valid_loss"]) == 1


def test_a_mapped_loader_tells_its_data_set_the_epoch(squares):
    told = []
    squares.set_epoch = told.append
    loader = MappedLoader(DataLoader(squares, 8), lambda batch: (batch[0], batch[1]))
    model = small_net()
    fit(model, loader, loader, LOSS, sgd(model), 2)
    assert told == [0, 1] and len(loader) == 2
    training = Training(model, sgd(model), device="cpu")
    assert len(go_on(training, loader, loader, LOSS, 2)["valid_loss"]) == 2
    with pytest.raises(TypeError, match=says("function", 'batch["image"]')):
        MappedLoader(loader, "image")


# What a training needs besides


def one_epoch(training, loader, loss=LOSS, callback=None):
    "One epoch more of a training."
    epochs = training.epoch + 1
    go_on(training, loader, loader, loss, epochs, callback=callback)


def after_step(function):
    "A callback of the engine that calls a function after each step."

    def callback(training, row):
        if row is None:
            function()

    return callback


def test_accumulated_gradients_are_those_of_a_large_batch(squares):
    torch.manual_seed(0)
    nets = [UNet(base_channels=2, depth=1, padding=1, dropout=0) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    large = Training(nets[0], sgd(nets[0]), device="cpu")
    small = Training(nets[1], sgd(nets[1]), device="cpu", accumulate=4)
    one_epoch(large, DataLoader(squares, 8))
    one_epoch(small, DataLoader(squares, 2))
    assert large.step == small.step == 2
    assert torch.allclose(weights_of(nets[0]), weights_of(nets[1]), atol=1e-6)


def test_the_last_group_may_be_smaller(squares):
    model = small_net()
    training = Training(model, sgd(model), device="cpu", accumulate=3)
    one_epoch(training, DataLoader(squares, 4))
    assert training.step == 2 and training.epoch == 1 and training.batch == 0


def test_a_group_may_be_longer_than_an_epoch(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    training = Training(model, sgd(model), device="cpu", accumulate=100)
    go_on(training, loader, loader, LOSS, 2)
    assert training.step == 2  # one per epoch
    with pytest.raises(ValueError, match=says("accumulate is 0", "1")):
        Training(model, sgd(model), device="cpu", accumulate=0)


def test_a_long_gradient_is_clipped(squares):
    model = small_net()
    before = weights_of(model)
    training = Training(model, sgd(model, 1.0), device="cpu", clip=1e-3)
    one_epoch(training, DataLoader(squares, 16))
    assert (weights_of(model) - before).norm() == pytest.approx(1e-3, rel=1e-3)


def test_the_average_follows_the_weights(squares):
    model, seen = small_net(), []
    training = Training(model, sgd(model), device="cpu", ema=0.9)
    expected = weights_of(model)
    note = after_step(lambda: seen.append(weights_of(model)))
    one_epoch(training, DataLoader(squares, 2), callback=note)
    for number, weights in enumerate(seen, 1):
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * weights
    assert torch.allclose(weights_of(training.net), expected, atol=1e-6)
    assert training.net is not model and not training.net.training


def test_training_stops_after_so_many_steps(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    seen = []
    told = {"callback": lambda training, row: seen.append((training.step, bool(row)))}
    training = Training(model, sgd(model), device="cpu")
    history = go_on(training, loader, loader, LOSS, 9, steps=6, **told)
    assert len(history["valid_loss"]) == 2  # the second epoch has two steps
    steps = [(n, False) for n in range(1, 7)]
    assert seen == [*steps[:4], (4, True), *steps[4:], (6, True)]


def test_training_stops_when_nothing_gets_better(squares):
    model, loader = small_net(), DataLoader(squares, 8)
    values = iter([0.5, 0.7, 0.6, 0.7, 0.2, 0.9])
    metrics, watched = {"dice": lambda counts: next(values)}, {"watch": "dice"}
    end = {"patience": 2, **watched}
    history = fit(model, loader, loader, LOSS, sgd(model), 9, metrics, **end)
    assert history["dice"] == [0.5, 0.7, 0.6, 0.7]
    values = iter([0.5, 0.7, 0.6, 0.7, 0.2, 0.9])
    training = Training(model, sgd(model), device="cpu")
    history = go_on(training, loader, loader, LOSS, 9, metrics, **end)
    assert history["dice"] == [0.5, 0.7, 0.6, 0.7] and training.best_epoch == 2


# Going on exactly


def start():
    torch.manual_seed(0)
    model = UNet(base_channels=2, depth=1, padding=1, norm="batch")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=20)
    how = {"amp": "fp16", "accumulate": 2, "clip": 1.0, "ema": 0.9}
    return Training(model, optimizer, schedule, "cpu", **how)


class Interrupted(Exception):
    pass


def run(training, squares, epochs, workers=0, path=None, stop_at=None):
    "Train; keep the state at a step, or after an epoch; stop there by an exception."
    loader = DataLoader(squares, 3, sampler=SeededSampler(16), num_workers=workers)
    check = DataLoader(squares, 8)

    def callback(training, row):
        place = (training.epoch, training.batch)
        if place == stop_at:
            save_state(path, training, overwrite=True)
            raise Interrupted

    metrics = {"dice": dice_of}
    how = {"callback": callback, "watch": "dice"}
    return go_on(training, loader, check, LOSS, epochs, metrics, **how)


def assert_same(a, b, place="state"):
    "Two states are equal to the last bit, but for the time that they took."
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), place
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a.keys() - {"seconds"}:
            assert_same(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, list | tuple):
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}/{number}")
    else:
        assert repr(a) == repr(b), place


# epochs that are done, batches of the next: 6 batches of 3 images, 3 steps an epoch
PLACES = [(0, 2), (1, 0), (1, 4), (1, 6), (2, 2)]


@pytest.mark.parametrize("place", PLACES)
def test_a_training_goes_on_exactly(squares, tmp_path, place):
    whole = start()
    run(whole, squares, 3)
    with pytest.raises(Interrupted):
        run(start(), squares, 3, path=tmp_path / "a.safetensors", stop_at=place)
    resumed = start()
    torch.manual_seed(99)  # another process, other random numbers
    load_state(tmp_path / "a.safetensors", into=resumed)
    assert (resumed.epoch, resumed.batch) == place
    run(resumed, squares, 3)
    assert_same(whole.state_dict(), resumed.state_dict())


def test_workers_change_nothing(squares, tmp_path):
    run(whole := start(), squares, 2)
    path = tmp_path / "a.safetensors"
    with pytest.raises(Interrupted):
        run(start(), squares, 2, workers=2, path=path, stop_at=(1, 2))
    other = start()
    load_state(path, into=other)
    run(other, squares, 2, workers=2)
    assert_same(whole.state_dict(), other.state_dict())


def test_random_numbers_matter_to_the_test_above(squares, tmp_path):
    with pytest.raises(Interrupted):
        run(start(), squares, 2, path=tmp_path / "a.safetensors", stop_at=(1, 2))
    ends = []
    for seed in (1, 2):
        resumed = start()
        load_state(tmp_path / "a.safetensors", into=resumed)
        torch.manual_seed(seed)
        run(resumed, squares, 2)
        ends.append(weights_of(resumed.model))
    assert not torch.equal(*ends)


def test_shuffle_cannot_go_on_in_the_middle(squares):
    training = start()
    training.batch = 2
    with pytest.raises(ValueError, match=says("shuffle=True", "SeededSampler")):
        one_epoch(training, DataLoader(squares, 3, shuffle=True))


def test_shuffle_goes_on_between_epochs(squares, tmp_path):
    def learn(training, epochs):
        for _ in range(epochs):
            one_epoch(training, DataLoader(squares, 3, shuffle=True))
        return training

    learn(whole := start(), 2)
    path = save_state(tmp_path / "a.safetensors", learn(start(), 1))
    load_state(path, into=(resumed := start()))
    learn(resumed, 1)
    assert_same(whole.state_dict(), resumed.state_dict())


def test_the_state_of_another_training_is_refused(squares, tmp_path):
    path = save_state(tmp_path / "a.safetensors", start())
    model = small_net()
    with pytest.raises(ValueError, match=says("a.safetensors", "average", "options")):
        load_state(path, into=Training(model, sgd(model)))


FORMATS = [False, "bf16", "fp16"]


@pytest.mark.parametrize("after", FORMATS)
@pytest.mark.parametrize("before", FORMATS)
def test_a_training_goes_on_in_another_format(squares, tmp_path, before, after):
    model, path = small_net(), tmp_path / "a.safetensors"
    training = Training(model, sgd(model), device="cpu", amp=before)
    loader = DataLoader(squares, 4)
    one_epoch(training, loader)
    save_state(path, training)
    other = small_net()
    resumed = Training(other, sgd(other), device="cpu", amp=after)
    load_state(path, into=resumed)
    assert torch.equal(weights_of(model), weights_of(other))
    one_epoch(resumed, loader)
    assert resumed.epoch == 2 and resumed.step > training.step


def test_a_state_without_a_scaler_is_taken(squares):
    model = small_net()
    training = Training(model, sgd(model), device="cpu", amp="fp16")
    state = training.state_dict()
    del state["scaler"]
    training.load_state_dict(state)
    one_epoch(training, DataLoader(squares, 4))


# NaN


def poisoned(squares, images=None, labels=None, weights=None):
    "A loader whose sixth item holds a NaN in one of its parts."
    parts = [part.clone() for part in squares.tensors]
    weight = torch.ones(parts[1].shape)
    for part, value in ((parts[0], images), (weight, weights)):
        if value is not None:
            part[5, ..., 7, 3] = value
    return DataLoader(TensorDataset(*parts, weight), 4)


def criterion(logits, labels, weights):
    return (weights * F.cross_entropy(logits, labels, reduction="none")).mean()


BAD = {
    "a NaN in an image": ({"images": torch.nan}, "images[1, 0, 7, 3] is nan"),
    "an infinite image": ({"images": torch.inf}, "images[1, 0, 7, 3] is inf"),
    "a NaN in a weight": ({"weights": torch.nan}, "weights[1, 7, 3] is nan"),
}


@pytest.mark.parametrize("loss", [criterion, weighted_cross_entropy])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", BAD)
def test_nan_stops_before_the_net_is_ruined(squares, kind, accumulate, loss):
    poison, where = BAD[kind]
    model = small_net()
    training = Training(model, sgd(model), device="cpu", accumulate=accumulate)
    states = [{k: v.clone() for k, v in model.state_dict().items()}]
    keep = after_step(lambda: states.append(deepcopy(model.state_dict())))
    pattern = says("epoch 1, batch 2:", where, "not taken")
    with pytest.raises(FloatingPointError, match=pattern):
        one_epoch(training, poisoned(squares, **poison), loss, keep)
    assert training.step == len(states) - 1 == (1 if accumulate == 1 else 0)
    assert_same(states[-1], dict(model.state_dict()))
    assert all(weight.grad is None for weight in model.parameters())
    one_epoch(training, DataLoader(squares, 4))
    assert training.epoch == 1 and training.step == (4 if accumulate == 1 else 2)


class Overflow(nn.Module):
    def forward(self, x):
        return x * 1e38 * 1e38


def test_the_first_layer_that_overflows_is_named(squares):
    model = small_net()
    model.contracting.dropout = Overflow()
    training = Training(model, sgd(model), device="cpu")
    pattern = says("contracting.dropout (Overflow)", "learning rate", "clip")
    with pytest.raises(FloatingPointError, match=pattern):
        one_epoch(training, DataLoader(squares, 4))
    assert all(x.isfinite().all() for x in model.state_dict().values())


class BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.inf


def test_an_infinite_gradient_is_named(squares):
    model = small_net()
    training = Training(model, sgd(model), device="cpu")
    before = weights_of(model)

    def loss(logits, labels):
        return LOSS(BadGradient.apply(logits), labels)

    with pytest.raises(FloatingPointError, match=says("the gradient is", "last.")):
        one_epoch(training, DataLoader(squares, 4), loss)
    assert torch.equal(weights_of(model), before)


def test_a_net_that_is_ruined_already_is_named(squares):
    model = small_net()
    with torch.no_grad():
        model.last.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match=says("last.bias", "older weights")):
        one_epoch(Training(model, sgd(model), device="cpu"), DataLoader(squares, 4))


def test_after_a_nan_in_float16_the_training_can_go_on(squares):
    model = small_net()
    training = Training(model, sgd(model), device="cpu", amp="fp16", clip=1.0)
    with pytest.raises(FloatingPointError, match="images.* is nan"):
        one_epoch(training, poisoned(squares, images=torch.nan), criterion)
    scale = training.scaler.get_scale()
    one_epoch(training, DataLoader(squares, 4))
    assert training.epoch == 1 and training.step == 4
    assert training.scaler.get_scale() == scale


def test_an_error_of_the_callback_is_not_taken_for_a_bad_step(squares):
    model = small_net()
    training = Training(model, sgd(model), device="cpu")
    seen = []

    def callback(training, row):
        seen.append(deepcopy(model.state_dict()))
        raise ValueError("the disk is full")

    with pytest.raises(ValueError, match=r"^the disk is full$"):
        one_epoch(training, DataLoader(squares, 4), callback=callback)
    assert_same(seen[0], dict(model.state_dict()))
    assert training.step == training.batch == 1


def test_what_an_interruption_left_of_a_group_does_not_enter_the_next(squares):
    ends = []
    for interrupted in (False, True):
        model = small_net(dropout=0)
        for layer in model.modules():  # a forward pass leaves no trace in them
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.0
        training = Training(model, sgd(model), device="cpu", accumulate=2)
        if interrupted:
            numbers = iter(range(2))

            def stops(logits, labels, numbers=numbers):
                if next(numbers) == 1:
                    raise KeyboardInterrupt
                return LOSS(logits, labels)

            with pytest.raises(KeyboardInterrupt):
                one_epoch(training, DataLoader(squares, 4), stops)
        one_epoch(training, DataLoader(squares, 4))
        ends.append(weights_of(model))
    assert torch.equal(*ends)


def test_float16_leaves_out_a_step_that_overflows(squares):
    model = small_net()
    training = Training(model, sgd(model), device="cpu", amp="fp16")
    loader = DataLoader(squares, 4)
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    one_epoch(training, loader)
    assert 0 <= training.step < 4 and training.scaler.get_scale() < 2.0**40
    assert all(x.isfinite().all() for x in model.state_dict().values())


def test_what_is_finite_has_no_cause(squares):
    assert find_not_finite(small_net(), squares[:4]) is None


def test_a_bad_gradient_is_named_where_it_begins(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    name, weight = list(model.named_parameters())[2]
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match=f"gradient of {name}"):
        one_epoch(Training(model, sgd(model), device="cpu"), loader)
    assert torch.equal(weight, before)


def test_a_measure_that_is_not_there_is_noticed_at_once(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    with pytest.raises(ValueError, match=r"watch is 'dize'.*valid_loss"):
        fit(model, loader, loader, LOSS, sgd(model), 1, watch="dize")
    with pytest.raises(TypeError, match="DataLoader"):
        fit(model, loader, squares, LOSS, sgd(model), 1)


@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_labels_that_are_no_whole_numbers(squares, kind):
    images, labels = squares.tensors
    loader = DataLoader(list(zip(images, labels.to(kind), strict=True)), 4)
    with pytest.raises(ValueError, match=r"labels.long\(\) would work"):
        evaluate(small_net(), loader, LOSS)


def test_a_native_crash_will_name_its_line(squares):
    was = faulthandler.is_enabled()
    faulthandler.disable()
    try:
        model, loader = small_net(), DataLoader(squares, 16)
        fit(model, loader, loader, LOSS, sgd(model), 1)
        assert faulthandler.is_enabled() or sys.__stderr__ is None
    finally:
        faulthandler.enable(sys.__stderr__) if was else faulthandler.disable()
