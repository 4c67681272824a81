"""What only an NVIDIA card can show; without one all of it is skipped."""

import warnings
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unet_tutorial.gpu import (
    amp_type,
    peak_memory,
    pick_device,
    predict_memory,
    recompute,
)
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.engine import Training
from unet_tutorial.train import Step, evaluate, train_one_epoch

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA card"
)
CRITERION = nn.CrossEntropyLoss()
CUDA = torch.device("cuda")


def net(seed=0, **switches):
    torch.manual_seed(seed)
    switches = {"base_channels": 8, "depth": 2, "padding": 1} | switches
    return UNet(norm="batch", dropout=0.0, **switches)


def adam(model):
    return torch.optim.AdamW(model.parameters(), 1e-2)


@pytest.fixture
def loader():
    random = torch.Generator().manual_seed(0)
    images = torch.randn(16, 1, 64, 64, generator=random)
    parts = TensorDataset(images, (images[:, 0] > 0.5).long())
    return DataLoader(parts, 4, pin_memory=True)


@pytest.fixture
def waits():
    "Call a function, and count how often it waited for the card."

    def count(work):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                work()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing CUDA" in str(one.message) for one in caught)

    return count


def test_the_card_is_chosen():
    assert pick_device().type == "cuda"
    with pytest.raises(ValueError, match="no cuda:99 here"):
        pick_device("cuda:99")


@pytest.mark.parametrize("amp", [False, True, "fp16"])
def test_training_learns_in_every_format(loader, amp):
    model = net().to(CUDA)
    step = Step(model, adam(model), clip=1.0, amp=amp_type(amp, CUDA))
    args = model, loader, CRITERION, step, CUDA
    losses = [train_one_epoch(*args) for _ in range(6)]
    assert losses[-1] < 0.6 * losses[0]


def test_an_epoch_waits_once(loader, waits):
    model = net().to(CUDA)
    step = Step(model, adam(model))
    train_one_epoch(model, loader, CRITERION, step, CUDA)
    count = waits(lambda: train_one_epoch(model, loader, CRITERION, step, CUDA))
    assert count <= 1


def test_a_night_of_training_waits_once_per_step(loader, waits):
    model = net()
    training = Training(model, adam(model), device=CUDA, clip=1.0, ema=0.9)
    train_one_epoch(model, loader, CRITERION, training, CUDA)
    count = waits(lambda: train_one_epoch(model, loader, CRITERION, training, CUDA))
    assert count <= len(loader) + 1


def test_an_evaluation_stays_on_the_card_and_waits_at_its_end(loader, waits):
    model = net().to(CUDA)
    evaluate(model, loader, CRITERION)
    assert waits(lambda: evaluate(model, loader, CRITERION)) <= 2
    assert next(model.parameters()).is_cuda


def test_a_training_of_the_processor_goes_on_on_the_card(loader, tmp_path):
    def begin(device):
        model = net()
        return Training(model, adam(model), device=device, ema=0.9)

    def learn(training):
        model, device = training.model, training.device
        return train_one_epoch(model, loader, CRITERION, training, device)

    learn(stays := begin("cpu"))
    path = save_state(tmp_path / "a.safetensors", stays)
    load_state(path, into=(moves := begin(CUDA)))
    assert learn(moves) == pytest.approx(learn(stays), rel=0.02)


@pytest.mark.parametrize("padding", [0, 1])
def test_a_prediction_is_that_of_the_processor(padding):
    image = np.random.default_rng(0).integers(0, 256, (150, 170), dtype=np.uint8)
    here = Predictor(net(padding=padding), device="cpu")(image)
    there = Predictor(net(padding=padding), device=CUDA)(image)
    assert (here == there).mean() > 0.99


@pytest.mark.parametrize("amp", [None, torch.float16])
@pytest.mark.parametrize("again", [False, True])
def test_the_prediction_of_memory_is_near_the_peak(amp, again):
    shape = (4, 1, 256, 256)
    model = net(base_channels=32, depth=4).to(memory_format=torch.channels_last)
    many = partial(torch.optim.AdamW, foreach=True)  # as on a card

    def work():
        mine, images = deepcopy(model).to(CUDA), torch.randn(shape, device=CUDA)
        step = Step(recompute(mine, again), adam(mine), amp=amp)
        batch = images, (images[:, 0] > 0).long()
        train_one_epoch(mine, [batch] * 2, CRITERION, step, CUDA)

    options = {"optimizer": many, "device": CUDA}
    predicted = predict_memory(recompute(model, again), shape, amp, **options)
    assert 0.7 < peak_memory(work, CUDA) / sum(predicted.values()) < 2


def test_a_net_that_recomputes_learns_the_same_on_the_card(loader):
    losses = []
    for again in (False, True):
        model = recompute(net().to(CUDA), again)
        step = Step(model, adam(model))
        losses += [train_one_epoch(model, loader, CRITERION, step, CUDA)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
