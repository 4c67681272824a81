"""The losses: right values, right gradients, in every precision, on every mask."""

from functools import partial
from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unet_tutorial.losses import dice_bce_loss, soft_dice_loss, weighted_cross_entropy
from unet_tutorial.metrics import count_pixels, dice_of

OBJECT_LOSSES = [soft_dice_loss, dice_bce_loss]
HALVES = [torch.float16, torch.bfloat16]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def unit_cross_entropy(logits, labels):
    return weighted_cross_entropy(logits, labels, torch.ones(labels.shape))


ALL_LOSSES = [unit_cross_entropy, *OBJECT_LOSSES]


def example(classes=2, channels=None, shape=(2, 5, 7), dtype=torch.float32, seed=0):
    """Return logits (B, K, H, W), labels (B, H, W) and weights (B, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    batch, *size = shape
    logits = torch.randn(batch, channels or classes, *size, generator=generator)
    labels = torch.randint(classes, shape, generator=generator)
    weights = 10 * torch.rand(shape, generator=generator)
    return 3 * logits.to(dtype), labels, weights


def gradient(loss, logits, *others, **switches):
    logits = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(logits, *others, **switches), logits)[0]


# Equation 1


def test_equation_1_pixel_by_pixel():
    logits, labels, weights = example(classes=3)
    energy = 0.0
    for b, y, x in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        scores = logits[b, :, y, x].tolist()
        p = exp(scores[labels[b, y, x]]) / sum(map(exp, scores))
        energy -= weights[b, y, x].item() * log(p)
    total = weighted_cross_entropy(logits, labels, weights, reduction="sum")
    assert total.item() == pytest.approx(energy, rel=1e-5)
    mean = weighted_cross_entropy(logits, labels, weights)
    assert mean.item() == pytest.approx(energy / labels.numel(), rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_unit_weights_are_torchs_cross_entropy(classes, dtype, reduction):
    logits, labels, weights = example(classes, dtype=dtype)
    labels[0, :2] = -100
    args = logits, labels, torch.ones_like(weights)
    ours = partial(weighted_cross_entropy, reduction=reduction)
    torchs = partial(F.cross_entropy, reduction=reduction)
    assert ours(*args).dtype == dtype
    torch.testing.assert_close(ours(*args), torchs(logits, labels))
    expected = gradient(torchs, logits, labels)
    torch.testing.assert_close(gradient(ours, *args), expected)


def test_class_weights_differ_from_torchs_by_their_mean_only():
    logits, labels, _ = example(classes=3)
    by_class = torch.tensor([1.0, 2.0, 5.0])
    ours = weighted_cross_entropy(logits, labels, by_class[labels])
    torchs = F.cross_entropy(logits, labels, by_class)  # over the sum of weights
    torch.testing.assert_close(ours, torchs * by_class[labels].mean())


def test_ten_times_the_weights_pull_ten_times_as_hard():
    logits, labels, weights = example()
    once = gradient(weighted_cross_entropy, logits, labels, weights)
    ten = gradient(weighted_cross_entropy, logits, labels, 10 * weights)
    torch.testing.assert_close(ten, 10 * once)


def test_the_gradient_is_predicted_minus_true_times_the_weight():
    logits, labels, weights = example(classes=4)
    p, one_hot = logits.softmax(1), F.one_hot(labels, 4).movedim(-1, 1)
    expected = weights[:, None] * (p - one_hot)
    found = gradient(weighted_cross_entropy, logits, labels, weights, reduction="sum")
    torch.testing.assert_close(found, expected)


def test_the_sign_that_is_missing_in_print():
    """A sure and right net has energy 0, a sure and wrong one a large positive one."""
    _, labels, weights = example()
    right = 50.0 * F.one_hot(labels, 2).movedim(-1, 1)
    assert weighted_cross_entropy(right, labels, weights) < 1e-6
    assert weighted_cross_entropy(right, 1 - labels, weights) > 100


def test_pixels_of_weight_0_do_not_pull_and_still_count():
    logits, labels, weights = example()
    weights[:, :, 3] = 0
    pull = gradient(weighted_cross_entropy, logits, labels, weights)
    assert pull[..., 3].eq(0).all() and pull[..., 2].ne(0).all()
    assert weighted_cross_entropy(logits, labels, 0 * weights) == 0


def test_the_weight_map_may_have_another_precision():
    logits, labels, weights = example()
    for dtype in (torch.float64, torch.bfloat16, torch.int64):
        value = weighted_cross_entropy(logits, labels, weights.to(dtype))
        expected = weighted_cross_entropy(logits, labels, weights.to(dtype).float())
        assert value.dtype == torch.float32 and value == expected


# Dice


def test_soft_dice_by_hand():
    p = torch.tensor([[[0.9, 0.5], [0.2, 0.1]]])
    labels = torch.tensor([[[1, 1], [0, 0]]])
    loss = soft_dice_loss(p.logit()[:, None], labels, smooth=0.5)
    assert loss.item() == pytest.approx(1 - (2 * 1.4 + 0.5) / (1.7 + 2 + 0.5))


def test_a_sure_net_has_the_dice_of_its_mask():
    logits, labels, _ = example(shape=(3, 20, 30))
    counts = count_pixels(logits.argmax(1), labels, 2)
    loss = soft_dice_loss(1e4 * logits, labels, smooth=1e-6)
    assert 1 - loss.item() == pytest.approx(dice_of(counts), abs=1e-6)


def test_dice_is_over_the_batch_not_a_mean_of_images():
    labels = torch.zeros(2, 10, 10).long()
    labels[0, :5] = 1  # 50 pixels, and an image without an object
    sure = (2.0 * labels - 1)[:, None] * 1e4
    sure[1, 0, 0, :3] = 1e4  # all found, and three stray pixels on the empty image
    assert soft_dice_loss(sure, labels).item() == pytest.approx(3 / (53 + 50 + 1))
    alone = [soft_dice_loss(sure[i : i + 1], labels[i : i + 1]) for i in (0, 1)]
    assert alone == [0, 3 / 4]  # of which the mean is 0.375


def test_how_the_batch_is_cut_into_images_does_not_matter():
    logits, labels, _ = example(shape=(4, 6, 6))
    side_by_side = torch.cat(list(logits), dim=1)[None], labels.reshape(1, 24, 6)
    for loss in ALL_LOSSES:
        torch.testing.assert_close(loss(logits, labels), loss(*side_by_side))


def test_empty_masks_have_a_rule():
    empty, full = torch.zeros(2, 10, 10).long(), torch.ones(2, 10, 10).long()
    sure = torch.full((2, 1, 10, 10), 1e4)
    assert soft_dice_loss(-sure, empty) == 0  # nothing there, nothing found
    assert soft_dice_loss(sure, full) == 0
    assert soft_dice_loss(sure, empty).item() == pytest.approx(200 / 201)
    assert soft_dice_loss(-sure, full).item() == pytest.approx(200 / 201)
    stray = -sure
    stray[0, 0, 0, :3] = 1e4
    assert soft_dice_loss(stray, empty, smooth=7.0).item() == pytest.approx(3 / 10)


def test_an_empty_mask_teaches_to_find_nothing():
    logits, empty = torch.zeros(1, 1, 8, 8), torch.zeros(1, 8, 8).long()
    pull = gradient(soft_dice_loss, logits, empty)
    assert (pull > 0).all()  # a step against it lowers every score


def test_easy_background_dilutes_cross_entropy_and_not_dice():
    truth = torch.ones(1, 10, 10).long()
    pred = truth.clone()
    pred[:, :5] = 0
    found = []
    for margin in (0, 45):
        labels, shown = (F.pad(mask, [margin] * 4) for mask in (truth, pred))
        score = 30.0 * shown[:, None] - 15
        logits = torch.cat([-score, score], 1) / 2
        losses = unit_cross_entropy, soft_dice_loss
        found.append([loss(logits, labels) for loss in losses])
    (entropy, dice), (diluted, same) = found
    torch.testing.assert_close(diluted, entropy / 100)
    torch.testing.assert_close(same, dice, atol=1e-3, rtol=0)


def test_a_surely_missed_object_pulls_in_cross_entropy_and_not_in_dice():
    logits, labels = torch.full((1, 1, 4, 4), -20.0), torch.ones(1, 4, 4).long()
    assert gradient(soft_dice_loss, logits, labels).abs().max() < 1e-8
    pull = gradient(dice_bce_loss, logits, labels)
    torch.testing.assert_close(pull, torch.full_like(pull, -1 / 16))


def test_dice_bce_is_the_sum_of_both():
    logits, labels, _ = example()
    labels[1, 2] = -100
    expected = F.cross_entropy(logits, labels) + soft_dice_loss(logits, labels, 3.0)
    torch.testing.assert_close(dice_bce_loss(logits, labels, 3.0), expected)


@pytest.mark.parametrize("loss", OBJECT_LOSSES)
def test_one_channel_is_the_difference_of_two(loss):
    logits, labels, _ = example()
    one = logits[:, 1:] - logits[:, :1]
    torch.testing.assert_close(loss(one, labels), loss(logits, labels))


# All of them


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_pixels_without_truth_are_left_out(loss):
    logits, labels, _ = example()
    known = loss(logits[..., :4], labels[..., :4])
    labels[..., 4:] = -100
    torch.testing.assert_close(loss(logits, labels), known)
    assert gradient(loss, logits, labels)[..., 4:].eq(0).all()


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_without_any_truth_nothing_is_lost_or_learned(loss):
    logits, labels, _ = example()
    labels[:] = -100
    assert loss(logits, labels) == 0
    assert gradient(loss, logits, labels).eq(0).all()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_gradients_in_double_precision(loss, channels):
    if loss is unit_cross_entropy:
        channels += 1  # it wants 2 at least; here 2 and 3
    classes = max(2, channels)
    logits, labels, _ = example(classes, channels, (2, 3, 4), torch.float64)
    labels[0, 0] = -100
    logits.requires_grad_()
    assert torch.autograd.gradcheck(loss, (logits, labels))
    assert torch.autograd.gradcheck(loss, (logits, torch.zeros_like(labels)))


def test_gradients_of_weights_in_double_precision():
    logits, labels, weights = example(3, shape=(2, 3, 4), dtype=torch.float64)
    logits.requires_grad_()
    for reduction in ("mean", "sum"):
        args = logits, labels, weights.double(), reduction
        assert torch.autograd.gradcheck(weighted_cross_entropy, args)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_saturated_logits(loss, dtype, device):
    """Scores of 10,000 and more, right and wrong: exact values, finite gradients."""
    labels = torch.tensor([[[0, 1], [0, 1]]], device=device)
    score = torch.tensor([[-1e4, 1e4], [-1e4, -1e4]], device=device)  # one is wrong
    logits = torch.stack([-score, score])[None].to(dtype)
    entropy = 2 * logits.max().item() / 4
    dice = 1 - (2 * 1 + 1) / (1 + 2 + 1)
    with torch.autocast(device, dtype, enabled=dtype in HALVES):
        weigh = partial(weighted_cross_entropy, weights=torch.ones_like(score)[None])
        loss = weigh if loss is unit_cross_entropy else loss
        value = loss(logits, labels)
        pull = gradient(loss, logits, labels)
    expected = {soft_dice_loss: dice, dice_bce_loss: entropy + dice}.get(loss, entropy)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected)
    assert pull.dtype == dtype and pull.isfinite().all()


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("loss", [weighted_cross_entropy, *OBJECT_LOSSES])
def test_half_precision_loses_only_what_the_logits_lost(loss, dtype, device, empty):
    """A tile with more pixels than float16 can count, as autocast delivers it."""
    logits, labels, weights = example(shape=(1, 300, 300))
    labels = labels * (not empty)
    others = (labels, weights) if loss is weighted_cross_entropy else (labels,)
    others = tuple(other.to(device) for other in others)
    low = logits.to(device, dtype)
    with torch.autocast(device, dtype):
        value, pull = loss(low, *others), gradient(loss, low, *others)
    assert value.dtype == torch.float32 and pull.dtype == dtype
    torch.testing.assert_close(value, loss(low.float(), *others))
    exact = gradient(loss, low.float(), *others)
    torch.testing.assert_close(pull.float(), exact, rtol=0.02, atol=6e-8)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_a_net_learns_under_autocast(loss, dtype):
    torch.manual_seed(0)
    _, labels, _ = example(shape=(2, 16, 16))
    labels[1] = 0  # an empty mask in the batch
    x = labels[:, None] - 0.5 + 0.1 * torch.randn(2, 1, 16, 16)
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    optimizer, values = torch.optim.Adam(net.parameters(), lr=0.05), []
    for _ in range(30):
        with torch.autocast("cpu", dtype):
            value = loss(net(x), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert values[-1] < 0.6 * values[0]


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_labels_of_any_integer_kind(loss, dtype):
    logits, labels, _ = example()
    assert loss(logits, labels.to(dtype)) == loss(logits, labels)


@pytest.mark.parametrize("loss", [weighted_cross_entropy, *OBJECT_LOSSES])
def test_arguments_are_left_as_they_were(loss):
    given = example()
    args = given if loss is weighted_cross_entropy else given[:2]
    before = [arg.clone() for arg in args]
    loss(*args)
    assert all(torch.equal(*pair) for pair in zip(args, before, strict=True))


# What does not fit


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize(
    "logits, labels",
    [
        ((2, 2, 5, 7), (2, 9, 11)),  # labels of the input tile
        ((2, 2, 5, 7), (2, 1, 5, 7)),
        ((2, 2, 5, 7), (2, 7, 5)),
        ((2, 2, 5, 7), (1, 5, 7)),
        ((2, 5, 7), (5, 7)),
        ((), (2, 5, 7)),
    ],
)
def test_shapes_that_do_not_fit_are_both_named(loss, logits, labels):
    with pytest.raises(ValueError) as error:
        loss(torch.zeros(logits), torch.zeros(labels).long())
    text = str(error.value)
    assert str(logits) in text and str(labels) in text and "(B, H, W)" in text


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("bad", [2, 255, -1, -99])
def test_labels_outside_the_classes(loss, bad):
    logits, labels, _ = example()
    labels[0, 0, 0] = bad
    cure = "mask of 0 and 255.*labels == 255" if bad == 255 else "label map of cells"
    text = rf"labels hold \[{bad}\]; 0 to 1, and -100.* A {cure}"
    with pytest.raises(ValueError, match=text):
        loss(logits, labels)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_a_label_map_of_cells_is_not_taken_for_a_mask_of_255(loss):
    logits, labels, _ = example()
    labels.view(-1)[:5] = torch.tensor([0, 1, 2, 7, 255])
    with pytest.raises(ValueError, match=r"hold \[2, 7, 255\].*labels > 0") as error:
        loss(logits, labels)
    assert "== 255" not in str(error.value)


def test_a_byte_of_156_is_not_taken_for_minus_100():
    logits, labels, _ = example()
    labels[0, 0, 0] = 156
    with pytest.raises(ValueError, match=r"\[156\]"):
        dice_bce_loss(logits, labels.to(torch.uint8))


@pytest.mark.parametrize("loss", [weighted_cross_entropy, *OBJECT_LOSSES])
def test_arrays_are_refused_where_tensors_are_due(loss):
    given = example()
    args = given if loss is weighted_cross_entropy else given[:2]
    names = ["logits are", "labels", "weights are"]
    for i, name in enumerate(names[: len(args)]):
        for wrong in (args[i].numpy(), None, 1.0):
            kind = type(wrong).__name__
            words = rf"{name} {kind}.*torch.as_tensor\(\.\.\.\)"
            with pytest.raises(ValueError, match=words):
                loss(*args[:i], wrong, *args[i + 1 :])


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_wrong_types(loss):
    logits, labels, _ = example()
    with pytest.raises(ValueError, match=r"float32, labels torch.float32.*labels.long"):
        loss(logits, labels.float())
    with pytest.raises(ValueError, match="logits are torch.int64.*floating-point"):
        loss(logits.long(), labels)


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers(loss, bad):
    logits, labels, _ = example()
    logits[0, :, 1, 1] = bad
    with pytest.raises(ValueError, match="2 of 140 logits are NaN or infinite.*rate"):
        loss(logits, labels)


def test_nan_where_nobody_looks_is_found_too():
    logits, labels, weights = example()
    logits[0, 0, 0, 0], labels[0, 0, 0], weights[0, 0, 0] = torch.nan, -100, 0
    for loss in (partial(weighted_cross_entropy, weights=weights), *OBJECT_LOSSES):
        with pytest.raises(ValueError, match="1 of 140"):
            loss(logits, labels)


@pytest.mark.parametrize("shape", [(2, 1, 5, 7), (5, 7), (1, 5, 7), (2, 7, 5)])
def test_weights_of_another_shape_never_broadcast(shape):
    logits, labels, _ = example()
    with pytest.raises(ValueError) as error:
        weighted_cross_entropy(logits, labels, torch.ones(shape))
    assert str(shape) in str(error.value) and "(2, 5, 7)" in str(error.value)


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
def test_weights_that_make_no_sense(bad):
    logits, labels, weights = example()
    weights[0, 0, 0] = bad
    with pytest.raises(ValueError, match=f"{bad}.*at least 0"):
        weighted_cross_entropy(logits, labels, weights)


def test_other_mistakes_say_what_would_work():
    logits, labels, weights = example()
    with pytest.raises(ValueError, match="one channel.*dice_bce_loss"):
        weighted_cross_entropy(logits[:, :1], labels, weights)
    with pytest.raises(ValueError, match='"mean" or "sum"'):
        weighted_cross_entropy(logits, labels, weights, reduction="none")
    for loss in OBJECT_LOSSES:
        with pytest.raises(ValueError, match="3 channels.*weighted_cross_entropy"):
            loss(torch.zeros(2, 3, 5, 7), labels)
        with pytest.raises(ValueError, match="smooth is 0.*1.0"):
            loss(logits, labels, smooth=0)
