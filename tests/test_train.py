"""The training loop: it learns, and it measures right."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unet_tutorial.metrics import dice_of, pixel_error_of
from unet_tutorial.model import UNet
from unet_tutorial.train import evaluate, fit, pick_device, train_one_epoch

CPU = torch.device("cpu")
LOSS = nn.CrossEntropyLoss()


def small_net(**switches):
    torch.manual_seed(0)
    return UNet(base_channels=2, depth=1, padding=1, norm="batch", **switches)


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
def test_metrics_do_not_depend_on_the_batch(squares, batch):
    model, metrics = small_net(), {"dice": dice_of, "error": pixel_error_of}
    whole = evaluate(model, DataLoader(squares, 16), LOSS, metrics)
    parts = evaluate(model, DataLoader(squares, batch), LOSS, metrics)
    assert parts["dice"] == whole["dice"] and parts["error"] == whole["error"]


def test_evaluate_changes_nothing(squares):
    model = small_net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    evaluate(model, DataLoader(squares, 4), LOSS)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not model.training and all(p.grad is None for p in model.parameters())


def test_the_scheduler_steps_once_a_batch(squares):
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    train_one_epoch(model, DataLoader(squares, 4), LOSS, optimizer, CPU, schedule)
    assert schedule.get_last_lr() == [0.5**4]


def test_time_is_up(squares):
    model, loader = small_net(), DataLoader(squares, 4)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    assert fit(model, loader, loader, LOSS, optimizer, 5, minutes=0) == {}


def test_the_data_set_is_told_the_epoch(squares):
    told = []
    squares.set_epoch = told.append
    model, loader = small_net(), DataLoader(squares, 16)
    fit(model, loader, loader, LOSS, torch.optim.SGD(model.parameters(), 1e-3), 3)
    assert told == [0, 1, 2]


def test_bfloat16_gives_nearly_the_same_loss(squares):
    model, loader = small_net(), DataLoader(squares, 16)
    exact = evaluate(model, loader, LOSS)["loss"]
    assert evaluate(model, loader, LOSS, amp=True)["loss"] == pytest.approx(exact, 0.02)


def test_an_empty_loader_is_an_error_not_a_dice_of_zero(squares):
    loader = DataLoader(squares, 32, drop_last=True)
    model = small_net()
    with pytest.raises(ValueError, match="no batch.*drop_last"):
        evaluate(model, loader, LOSS)
    with pytest.raises(ValueError, match="no batch.*drop_last"):
        train_one_epoch(model, loader, LOSS, torch.optim.SGD(model.parameters(), 1.0))


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
        evaluate(small_net(num_classes=1), DataLoader(squares, 4), LOSS)


def test_a_loader_may_give_weights(squares):
    def criterion(logits, labels, weights):
        return (weights * F.cross_entropy(logits, labels, reduction="none")).sum()

    images, labels = squares.tensors
    weights = torch.zeros(labels.shape)
    weighted = DataLoader(TensorDataset(images, labels, weights), 4)
    assert evaluate(small_net(), weighted, criterion)["loss"] == 0


def test_a_device_may_be_named(squares):
    evaluate(small_net(), DataLoader(squares, 16), LOSS, device="cpu")


def test_pick_device_gives_one_that_works():
    assert torch.ones(3, device=pick_device()).sum() == 3
