"""The library on a second device: nothing is misplaced, and nobody waits for nothing.

`test_second_device.py` runs this file in a process of its own, since the device cannot
be taken out of torch again; `pytest tests/on_second_device.py` runs it by hand.
"""

import numpy as np
import pytest
import second_device
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unet_tutorial.augment import elastic_deform
from unet_tutorial.data.adapter import Adapter
from unet_tutorial.data.crops import Whole, Windows
from unet_tutorial.data.loader import make_loader
from unet_tutorial.data.tissue import TissueChanges
from unet_tutorial.gpu import median_seconds, pick_device, recompute
from unet_tutorial.losses import (
    dice_bce_loss,
    soft_dice_loss,
    weighted_cross_entropy,
)
from unet_tutorial.metrics import count_pixels, dice_of, pixel_error_of
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.engine import Training
from unet_tutorial.runs.weights import load_net, save_net
from unet_tutorial.scale import predict_array
from unet_tutorial.train import Step, evaluate, train_one_epoch

if not second_device.can_be_installed():
    pytest.skip("this torch takes no device in Python", allow_module_level=True)
second_device.install()

DEVICE = second_device.DEVICE
CRITERIA = {
    "cross-entropy": nn.CrossEntropyLoss(),
    "weighted": weighted_cross_entropy,
    "dice": soft_dice_loss,
    "dice and cross-entropy": dice_bce_loss,
}
BATCHES = 4


def small_net(**switches):
    torch.manual_seed(0)
    return UNet(base_channels=2, depth=2, norm="batch", dropout=0.0, **switches)


def adam(model):
    return torch.optim.AdamW(model.parameters(), 1e-2)


@pytest.fixture
def batches():
    "Four batches of images and labels, on the CPU: (2, 1, 60, 60), (2, 20, 20)."
    random = torch.Generator().manual_seed(0)
    images = torch.randn(2 * BATCHES, 1, 60, 60, generator=random)
    labels = (images[:, 0, 20:40, 20:40] > 0.5).long()
    return DataLoader(TensorDataset(images, labels), 2)


def weighted(batches):
    "The same batches with a weight for each pixel."
    parts = batches.dataset.tensors
    return DataLoader(TensorDataset(*parts, torch.rand(parts[1].shape)), 2)


def value(x):
    return x.detach().to("cpu") if torch.is_tensor(x) else x


# The device itself


def test_tensors_of_two_devices_do_not_meet():
    here, there = torch.ones(3), torch.ones(3, device=DEVICE)
    assert there.device == DEVICE and (there + 1).device == DEVICE
    with pytest.raises(RuntimeError, match=r"CPU tensor of shape \(3,\) meets"):
        here + there
    with pytest.raises(RuntimeError, match="meets the device"):
        here[there.long()]
    with pytest.raises(RuntimeError, match="CPU generator"):
        torch.randn(3, device=DEVICE, generator=torch.Generator())
    assert (there + torch.tensor(2.0)).tolist() == [3, 3, 3]  # one number may


WAITS = {
    "item": lambda x: x.sum().item(),
    "if": lambda x: bool((x > 0).all()),
    "float": lambda x: float(x.max()),
    "to the CPU": lambda x: x.cpu(),
    "list": lambda x: x.tolist(),
    "boolean index": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "bincount": lambda x: x.long().bincount(),
}


@pytest.mark.parametrize("kind", WAITS)
def test_what_waits_is_counted(kind):
    x = torch.ones(3).to(DEVICE)
    with second_device.watch() as seen:
        WAITS[kind](x)
    assert seen.waits == 1


def test_what_does_not_wait_is_not_counted():
    x = torch.arange(3.0).to(DEVICE)
    with second_device.watch() as seen:
        y = torch.where(x > 1, x, -x).sum() / x.clamp(min=1).max()
        x[x > 1] = 0
        torch._assert_async(y.isfinite())
    assert seen.waits == 0 and seen.kernels > 6
    assert seen.to_host == seen.to_device == 0


def test_bytes_are_counted():
    with second_device.watch() as seen:
        torch.ones(3).to(DEVICE).byte().cpu()
    assert (seen.to_device, seen.to_host) == (12, 3)
    assert seen.returns == [(torch.uint8, (3,))]


def test_the_device_may_be_named():
    assert pick_device("fake").type == "fake" and pick_device().type != "fake"
    with pytest.raises(ValueError, match="no fake:1 here; fake:0 would work"):
        pick_device("fake:1")


def test_a_net_moves_with_its_optimizer():
    model = small_net()
    optimizer = adam(model)
    model.to(DEVICE)
    assert next(model.parameters()).device == DEVICE
    before = value(model.last.weight).clone()
    model(torch.ones(1, 1, 60, 60, device=DEVICE)).sum().backward()
    optimizer.step()
    assert not torch.equal(value(model.last.weight), before)


def test_autocast_reaches_the_convolutions():
    model = small_net().to(DEVICE)
    with torch.autocast("fake", torch.bfloat16):
        logits = model(torch.ones(1, 1, 60, 60, device=DEVICE))
    assert logits.dtype == torch.bfloat16


def test_time_is_measured_by_waiting():
    x = torch.ones(3).to(DEVICE)
    with second_device.watch() as seen:
        assert median_seconds(lambda: x + 1, DEVICE, rounds=3, warm_up=2) > 0
    assert seen.waits == 1 + 3


# Losses and metrics


@pytest.mark.parametrize("kind", CRITERIA)
def test_a_loss_gives_on_the_device_what_it_gives_on_the_cpu(kind, batches):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 20, 20)
    _, *targets = next(iter(weighted(batches) if kind == "weighted" else batches))
    targets[0][0, :5] = -100
    there = logits.to(DEVICE).requires_grad_()
    here = logits.clone().requires_grad_()
    CRITERIA[kind](here, *targets).backward()
    loss = CRITERIA[kind](there, *[x.to(DEVICE) for x in targets])
    loss.backward()
    assert loss.device == DEVICE
    torch.testing.assert_close(value(there.grad), here.grad)


@pytest.mark.parametrize("kind", CRITERIA)
def test_a_loss_does_not_wait(kind, batches):
    _, *targets = next(iter(weighted(batches) if kind == "weighted" else batches))
    logits = torch.randn(2, 2, 20, 20).to(DEVICE).requires_grad_()
    targets = [x.to(DEVICE) for x in targets]
    with second_device.watch() as seen:
        CRITERIA[kind](logits, *targets).backward()
    assert seen.waits == 0, seen.places


def test_the_confusion_matrix_is_counted_on_the_device():
    random = torch.Generator().manual_seed(0)
    true = torch.randint(3, (2, 20, 20), generator=random)
    pred = torch.randint(3, (2, 20, 20), generator=random)
    true[0, :5] = -100
    with second_device.watch() as seen:
        counts = count_pixels(pred.to(DEVICE), true.to(DEVICE), 3)
    assert counts.device == DEVICE and seen.waits == 0, seen.places
    assert torch.equal(value(counts), count_pixels(pred, true, 3))
    assert value(counts).sum() == (true >= 0).sum()


# Training


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", CRITERIA)
def test_an_epoch_waits_once(kind, amp, batches):
    model = small_net().to(DEVICE)
    loader = weighted(batches) if kind == "weighted" else batches
    step = Step(model, adam(model), clip=1.0, amp=amp)
    with second_device.watch() as seen:
        loss = train_one_epoch(model, loader, CRITERIA[kind], step, DEVICE)
    assert isinstance(loss, float)
    assert seen.waits == 1, seen.places
    images, *targets = loader.dataset.tensors
    sent = sum(x.numel() * x.element_size() for x in (images, *targets))
    assert seen.to_device <= sent + 1024
    assert seen.to_host <= 64


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
def test_recomputing_costs_kernels_and_no_wait(amp, batches):
    seen, losses = [], []
    for again in (False, True):
        model = recompute(small_net().to(DEVICE), again)
        step = Step(model, adam(model), amp=amp)
        with second_device.watch() as traffic:
            args = model, batches, CRITERIA["cross-entropy"], step, DEVICE
            losses += [train_one_epoch(*args)]
        seen.append(traffic)
    assert losses[0] == losses[1]
    assert seen[0].waits == seen[1].waits == 1, seen[1].places
    count = [traffic.seen["convolution"] for traffic in seen]
    assert count[1] == 2 * count[0] - BATCHES  # all but the last, of 1x1


def test_float16_waits_once_per_step(batches):
    model = small_net().to(DEVICE)
    step = Step(model, adam(model), clip=1.0, amp=torch.float16)
    with second_device.watch() as seen:
        train_one_epoch(model, batches, nn.CrossEntropyLoss(), step, DEVICE)
    assert BATCHES < seen.waits <= BATCHES + 1, seen.places


def test_an_epoch_gives_what_it_gives_on_the_cpu(batches):
    losses = []
    for device in ("cpu", DEVICE):
        model = small_net().to(device)
        schedule = torch.optim.lr_scheduler.ExponentialLR(adam(model), 0.9)
        step = Step(model, schedule.optimizer, schedule, clip=1.0)
        for _ in range(2):
            loss = train_one_epoch(model, batches, CRITERIA["dice"], step, device)
        losses.append(loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


NIGHTS = {
    "plain": {},
    "accumulated": {"accumulate": 2},
    "averaged": {"ema": 0.9},
    "clipped": {"clip": 0.1},
    "bfloat16": {"amp": "bf16"},
    "float16": {"amp": "fp16"},
    "everything": {"accumulate": 2, "ema": 0.9, "clip": 1.0, "amp": "fp16"},
}


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("kind", NIGHTS)
def test_a_night_of_training_waits_once_per_step(kind, criterion, batches):
    model = small_net()
    training = Training(model, adam(model), device="fake", **NIGHTS[kind])
    loader = weighted(batches) if criterion == "weighted" else batches
    with second_device.watch() as seen:
        train_one_epoch(model, loader, CRITERIA[criterion], training, DEVICE)
    steps = BATCHES // NIGHTS[kind].get("accumulate", 1)
    assert training.step == steps
    assert seen.waits <= steps + 1, seen.places


@pytest.mark.parametrize("kind", NIGHTS)
def test_a_training_begun_on_the_cpu_goes_on_on_the_device(kind, batches, tmp_path):
    def begin(device):
        model = small_net()
        return Training(model, adam(model), device=device, **NIGHTS[kind])

    def learn(training, device):
        criterion = nn.CrossEntropyLoss()
        return train_one_epoch(training.model, batches, criterion, training, device)

    learn(first := begin("cpu"), "cpu")
    path = save_state(tmp_path / "a.safetensors", first)
    goes_on, moves = begin("cpu"), begin("fake")
    load_state(path, into=goes_on)
    load_state(path, into=moves)
    memory = [x for kept in moves.optimizer.state.values() for x in kept.values()]
    assert {x.device for x in memory if x.dim()} == {DEVICE}
    here, there = learn(goes_on, "cpu"), learn(moves, DEVICE)
    assert here == pytest.approx(there, rel=0.02 if "16" in str(kind) else 1e-3)
    assert moves.step == goes_on.step > first.step


def test_a_state_of_the_device_goes_back_to_the_cpu(batches, tmp_path):
    model = small_net()
    training = Training(model, adam(model), device="fake", ema=0.9)
    train_one_epoch(model, batches, nn.CrossEntropyLoss(), training, DEVICE)
    path = save_state(tmp_path / "a.safetensors", training)
    other = small_net()
    back = Training(other, adam(other), device="cpu", ema=0.9)
    load_state(path, into=back)
    assert torch.equal(value(model.last.weight), other.last.weight)
    assert train_one_epoch(other, batches, nn.CrossEntropyLoss(), back, "cpu") > 0


def test_a_net_is_saved_from_the_device(tmp_path):
    model = small_net().to(DEVICE)
    loaded, _ = load_net(save_net(tmp_path / "a.safetensors", model))
    assert torch.equal(value(model.last.weight), loaded.last.weight)


# Windows that travel as bytes


def examples():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 80, 80), dtype=np.uint8)
    labels = (images > 127).astype(np.uint8)
    return [
        (x, y, 1 + y.astype(np.float32)) for x, y in zip(images, labels, strict=True)
    ]


def windows(as_bytes=True):
    "Four batches of two windows of 60 x 60, answered for in 20 x 20."
    options = {"side": 60, "margin": 20, "count": 2 * BATCHES, "as_bytes": as_bytes}
    return make_loader(Windows(examples(), pipeline=TissueChanges(), **options), 2)


def epoch_on_the_device(loader):
    model = small_net()
    training = Training(model, adam(model), device="fake")
    with second_device.watch() as seen:
        loss = train_one_epoch(
            model, loader, weighted_cross_entropy, training, training.device
        )
    return loss, seen


def test_windows_cross_as_bytes_and_nothing_waits_for_them():
    loss, seen = epoch_on_the_device(windows())
    pixels, answers = 2 * BATCHES * 60**2, 2 * BATCHES * 20**2
    sent = pixels + 2 * answers + 4 * answers + 2 * BATCHES * 2 * 4  # int16, float32
    assert sent <= seen.to_device <= sent + 1024
    assert seen.waits == BATCHES + 1, seen.places  # one per step, and the mean loss
    floats, more = epoch_on_the_device(windows(as_bytes=False))
    assert loss == pytest.approx(floats, rel=1e-3)
    assert more.waits == seen.waits
    assert more.to_device > 2.5 * seen.to_device


def test_whole_images_are_measured_as_bytes():
    metrics, model = {"error": pixel_error_of}, small_net()
    rows = []
    for device, flag in (("cpu", False), ("fake", True)):
        data = Whole(examples(), side=60, depth=2, as_bytes=flag)
        with second_device.watch() as seen:
            loader, criterion = make_loader(data, 2), weighted_cross_entropy
            rows.append(evaluate(model.to(device), loader, criterion, metrics))
    assert rows[0] == pytest.approx(rows[1], rel=1e-3, abs=0.01)
    assert seen.waits <= 2, seen.places
    sent = len(data) * (60**2 + 6 * 20**2 + 8)
    assert (
        sent
        <= seen.to_device
        <= sent
        + 2048
        + sum(x.numel() * x.element_size() for x in model.state_dict().values())
    )


# Evaluation


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
def test_an_evaluation_waits_at_its_end_only(amp, batches):
    model, metrics = small_net(), {"dice": dice_of, "error": pixel_error_of}
    here = evaluate(model, batches, nn.CrossEntropyLoss(), metrics, amp=amp)
    model.to(DEVICE)
    with second_device.watch() as seen:
        there = evaluate(model, batches, nn.CrossEntropyLoss(), metrics, amp=amp)
    assert next(model.parameters()).device == DEVICE  # it stayed where it was
    assert there == pytest.approx(here, rel=1e-3 if amp is None else 0.05, abs=0.01)
    assert sum(seen.places.values()) == seen.waits
    assert seen.to_host <= 256, seen.returns  # some numbers, no pictures
    half = DataLoader(batches.dataset, 4)
    with second_device.watch() as fewer:
        evaluate(model, half, nn.CrossEntropyLoss(), metrics, amp=amp)
    assert seen.waits == fewer.waits <= 2, seen.places  # the loss, and the counts


class Share:
    "A metric that counts by itself, as those of torchmetrics do."

    def reset(self):
        self.right, self.all = 0, 0

    def update(self, predicted, labels):
        self.right = self.right + (predicted == labels).sum()
        self.all += labels.numel()

    def compute(self):
        return self.right / self.all


def test_a_metric_that_counts_by_itself_costs_no_wait(batches):
    model, metrics = small_net().to(DEVICE), {"right": Share(), "error": pixel_error_of}
    with second_device.watch() as seen:
        row = evaluate(model, batches, nn.CrossEntropyLoss(), metrics)
    assert row["right"] == pytest.approx(1 - row["error"])
    assert seen.waits == 1, seen.places


def test_weights_are_evaluated_on_the_device(batches):
    loader = weighted(batches)
    here = evaluate(small_net(), loader, weighted_cross_entropy)
    there = evaluate(small_net().to(DEVICE), loader, weighted_cross_entropy)
    assert here == pytest.approx(there, rel=1e-3)


# Prediction

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (70, 90), dtype=np.uint8)
CASES = {
    "unpadded": ({}, {}),
    "unpadded, tiled": ({}, {"tile": 36}),
    "unpadded, views": ({}, {"views": 8}),
    "padded": ({"padding": 1}, {}),
    "padded, views": ({"padding": 1}, {"views": 8}),
    "padded, sevenths": ({"padding": 1}, {"views": 7}),
    "padded, resized": ({"padding": 1}, {"size": (48, 64)}),
}


@pytest.mark.parametrize("kind", CASES)
def test_labels_come_back_as_one_byte_per_pixel(kind):
    switches, options = CASES[kind]
    expected = Predictor(small_net(**switches), device="cpu", **options)(IMAGE)
    predictor = Predictor(small_net(**switches), device="fake", **options)
    with second_device.watch() as seen:
        labels = predictor(IMAGE)
    assert labels.shape == IMAGE.shape and labels.dtype == np.uint8
    assert (labels == expected).mean() > 0.99
    assert IMAGE.size <= seen.to_host <= IMAGE.size + 64, seen.returns
    assert {dtype for dtype, shape in seen.returns if shape} == {torch.uint8}


@pytest.mark.parametrize("kind", CASES)
def test_probabilities_are_those_of_the_cpu(kind):
    switches, options = CASES[kind]
    here = Predictor(small_net(**switches), device="cpu", **options)
    there = Predictor(small_net(**switches), device="fake", **options)
    with second_device.watch() as seen:
        p = there.probabilities(IMAGE)
    np.testing.assert_allclose(p, here.probabilities(IMAGE), atol=1e-3)
    assert seen.to_host <= p.nbytes + 64, seen.returns  # once, not per view


@pytest.mark.parametrize("padding", [0, 1])
def test_a_stack_goes_and_comes_back_as_one_byte_per_pixel(padding):
    stack = RANDOM.integers(0, 256, (3, 70, 90), dtype=np.uint8)
    predictor = Predictor(small_net(padding=padding), device="fake")
    with second_device.watch() as seen:
        labels = predictor(stack)
    assert labels.shape == stack.shape and labels.dtype == np.uint8
    assert stack.size <= seen.to_host <= stack.size + 64, seen.returns
    pictures = [shape for _, shape in seen.returns if len(shape) > 1]
    assert len(pictures) == (1 if padding else 3)  # one copy for all that share a call
    assert stack.size <= seen.to_device <= stack.size + 20_000 * (1 - padding) + 64


@pytest.mark.parametrize("margin", [0, 16])
def test_an_adapted_net_leaves_one_byte_per_pixel_on_the_way(margin):
    inner = small_net(padding=1)
    net = Adapter(inner, 1, 2, margin=margin, multiple=16)
    expected = Predictor(net, device="cpu", tile=64)(IMAGE)
    predictor = Predictor(net, device="fake", tile=64)
    with second_device.watch() as seen:
        labels = predictor(IMAGE)
    assert next(inner.parameters()).device.type == "cpu"
    assert (labels == expected).mean() > 0.99 and labels.dtype == np.uint8
    assert IMAGE.size <= seen.to_host <= IMAGE.size + 64, seen.returns
    assert {dtype for dtype, shape in seen.returns if shape} == {torch.uint8}


def test_a_tensor_of_the_device_is_an_image():
    predictor = Predictor(small_net(padding=1), device="fake")
    there = torch.tensor(IMAGE)[None].to("fake")
    assert np.array_equal(predictor(there), predictor(IMAGE))


def test_16_bits_on_the_device():
    exact = Predictor(small_net(padding=1), device="fake")
    short = Predictor(small_net(padding=1), device="fake", amp="bf16")
    assert {x.dtype for x in short.model.parameters()} == {torch.bfloat16}
    with second_device.watch() as seen:
        p = short.probabilities(IMAGE)
    assert p.dtype == np.float32 and seen.to_host <= p.nbytes + 64, seen.returns
    assert np.abs(p - exact.probabilities(IMAGE)).mean() < 0.02


@pytest.mark.parametrize("padding", [0, 1])
def test_chunks_are_answered_on_the_device_of_the_workers(padding):
    pytest.importorskip("dask.array")
    net, options = small_net(padding=padding), {"tile": 36, "chunk": 32}
    expected = predict_array(net, IMAGE, **options).compute(scheduler="synchronous")
    promise = predict_array(net, IMAGE, **options, device="fake")
    with second_device.watch() as seen:
        labels = promise.compute(scheduler="synchronous")
    assert next(net.parameters()).device.type == "cpu"
    assert (labels == expected).mean() > 0.99 and labels.dtype == np.uint8
    assert IMAGE.size <= seen.to_host <= IMAGE.size + 64, seen.returns


# Elastic deformation


def test_the_transform_of_torchvision_bends_on_the_device():
    """Its field crosses; nobody waits for the image."""
    pytest.importorskip("torchvision")
    from unet_tutorial.data.transforms import ElasticGrid

    image = torch.rand(3, 40, 50)  # the device is no type that torchvision can wrap
    torch.manual_seed(0)
    here = ElasticGrid(std=4)(image)
    moved = image.to(DEVICE)
    torch.manual_seed(0)
    with second_device.watch() as seen:
        there = ElasticGrid(std=4)(moved)
    assert there.device == DEVICE
    assert seen.waits <= 1, seen.places
    torch.testing.assert_close(value(there), here)


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_elastic_deformation_on_the_device(interpolation, with_weights):
    parts = [torch.rand(2, 1, 40, 50), torch.randint(5, (2, 40, 50))]
    more = {"weights": torch.rand(2, 40, 50)} if with_weights else {}

    def bend(device):
        random = torch.Generator().manual_seed(0)
        there = [x.to(device) for x in parts]
        also = {name: x.to(device) for name, x in more.items()}
        options = {"generator": random, "interpolation": interpolation, **also}
        return elastic_deform(*there, std=3.0, **options)

    here = bend("cpu")
    with second_device.watch() as seen:
        there = bend(DEVICE)
    assert {x.device for x in there} == {DEVICE}
    assert seen.waits <= 1, seen.places
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(value(b), a)
