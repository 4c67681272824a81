"""The metrics: by hand, against brute force, scikit-image and torchmetrics."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, gaussian_filter, label
from skimage.measure import euler_number
from skimage.metrics import adapted_rand_error
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from unet_tutorial.metrics import (
    cell_ious,
    count_pixels,
    dice,
    dice_of,
    iou,
    iou_of,
    is_simple,
    pixel_error,
    pixel_error_of,
    rand_error,
    seg_score,
    warp_truth,
    warping_error,
)
from unet_tutorial.synthetic import draw_cells, draw_membranes

EIGHT = np.ones((3, 3))
RING = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]


MASK, LABELS = np.zeros((4, 4), bool), np.zeros((4, 4), int)


def read(text):
    """Read a mask from a drawing: # is membrane."""
    return np.array([[sign == "#" for sign in line] for line in text.split()])


def blobs(rng, shape, sigma=1.0):
    return gaussian_filter(rng.standard_normal(shape), sigma) > 0


# Counts


def test_count_pixels_against_brute_force():
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(0, 3, (2, 9, 7), generator=generator)
    pred = torch.randint(0, 3, (2, 9, 7), generator=generator)
    counts = count_pixels(pred, true, 3)
    for row in range(3):
        for column in range(3):
            assert counts[row, column] == ((true == row) & (pred == column)).sum()


def test_pixels_without_truth_are_not_counted():
    counts = count_pixels(torch.tensor([0, 1, 1]), torch.tensor([-100, 1, -100]), 2)
    assert counts.tolist() == [[0, 0], [0, 1]]
    nothing = count_pixels(torch.tensor([1]), torch.tensor([-100]), 2)
    assert nothing.tolist() == [[0, 0], [0, 0]] and np.isnan(pixel_error_of(nothing))


def test_small_integers_do_not_overflow():
    classes = torch.tensor([30], dtype=torch.uint8)  # 30 * 31 is more than 255
    assert count_pixels(classes, classes, 31)[30, 30] == 1


def test_numbers_by_hand():
    counts = torch.tensor([[5, 1], [2, 4]])  # right background, wrong; missed, right
    assert dice_of(counts) == pytest.approx(2 * 4 / (2 * 4 + 1 + 2))
    assert iou_of(counts) == pytest.approx(4 / (4 + 1 + 2))
    assert pixel_error_of(counts) == pytest.approx(3 / 12)
    assert dice_of(torch.tensor([[9, 0], [0, 0]])) == 1.0  # nothing to find or to miss
    assert iou_of(torch.tensor([[9, 0], [0, 0]])) == 1.0
    assert dice_of(torch.tensor([[8, 0], [1, 0]])) == 0.0


def test_a_small_error_among_many_pixels_is_exact():
    counts = torch.tensor([[10**9, 1], [0, 10**8]])
    assert pixel_error_of(counts) == 1 / (10**9 + 10**8 + 1)


@pytest.mark.parametrize(
    ("pred", "true", "words"),
    [
        (torch.zeros(4).long(), torch.zeros(5).long(), r"\(4,\).*\(5,\).*one shape"),
        (torch.zeros(4), torch.zeros(4).long(), r"pred \(4,\) torch.float32.*argmax"),
        (torch.zeros(4).long(), torch.zeros(4), r"true \(4,\) torch.float32.*classes"),
        (torch.zeros(4).long(), LABELS, r"true is ndarray.*torch.as_tensor\(\.\.\.\)"),
        (LABELS, None, r"pred is ndarray, true is NoneType.*as_tensor"),
        (torch.tensor([0, 2]), torch.tensor([0, 0]), "pred.*0 to 2.*2 allows 0 to 1"),
        (torch.tensor([0, 0]), torch.tensor([0, 255]), "true.*0 to 255.*allows 0 to 1"),
        (torch.tensor([0, -1]), torch.tensor([0, 0]), "pred.*-1 to 0.*allows 0 to 1"),
        (torch.tensor([0]), torch.tensor([156]).byte(), "true.*156 to 156.*0 to 1"),
    ],
)
def test_classes_that_cannot_be_counted(pred, true, words):
    with pytest.raises(ValueError, match=words):
        count_pixels(pred, true, 2)


# Masks


def test_masks_against_sets():
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        pred, true = rng.random((2, 3, 1, 8, 9)) < share
        a, b = (set(zip(*np.nonzero(mask), strict=True)) for mask in (pred, true))
        assert pixel_error(pred, true) == pytest.approx(len(a ^ b) / pred.size)
        assert iou(pred, true) == pytest.approx(len(a & b) / len(a | b))
        assert dice(pred, true) == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
        assert dice(pred, true) == pytest.approx(2 / (1 + 1 / iou(pred, true)))


@pytest.mark.parametrize(
    ("metric", "theirs"), [(dice, BinaryF1Score()), (iou, BinaryJaccardIndex())]
)
def test_masks_against_torchmetrics(metric, theirs):
    rng = np.random.default_rng(1)
    for share in (0.05, 0.5, 0.95):
        pred, true = rng.random((2, 4, 20, 30)) < share
        theirs.reset()
        for batch in ([0], [1, 2], [3]):  # counted over the set, whatever the batches
            theirs.update(torch.tensor(pred[batch]), torch.tensor(true[batch]))
        assert metric(pred, true) == pytest.approx(theirs.compute().item(), abs=1e-6)


def test_the_rule_for_empty_masks():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert (
        dice(empty, empty) == iou(empty, empty) == 1 and pixel_error(empty, empty) == 0
    )
    assert dice(full, empty) == iou(full, empty) == 0 and pixel_error(full, empty) == 1
    assert dice(empty, full) == iou(empty, full) == 0 and pixel_error(empty, full) == 1


@pytest.mark.parametrize("metric", [pixel_error, iou, dice])
def test_arrays_and_tensors_give_the_same(metric):
    pred, true = np.random.default_rng(0).random((2, 6, 7)) < 0.5
    expected = metric(pred, true)
    assert isinstance(expected, float)
    assert metric(torch.tensor(pred), true) == expected
    assert metric(torch.tensor(pred), torch.tensor(true)) == expected
    assert metric(pred[::-1].T, true[::-1].T) == expected  # views
    frozen = pred.copy()
    frozen.flags.writeable = False
    assert metric(frozen, true) == expected


@pytest.mark.parametrize("batch", [1, 3, 5, 16])
def test_counts_do_not_depend_on_the_batch(batch):
    pred, true = (
        torch.rand(2, 16, 8, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    )
    parts = zip(pred.split(batch), true.split(batch), strict=True)
    counts = sum(count_pixels(p.long(), t.long(), 2) for p, t in parts)
    assert pixel_error_of(counts) == pixel_error(pred, true)
    assert iou_of(counts) == iou(pred, true) and dice_of(counts) == dice(pred, true)


@pytest.mark.parametrize("metric", [pixel_error, iou, dice, warping_error, warp_truth])
@pytest.mark.parametrize(
    ("pred", "true", "words"),
    [
        (np.uint8(MASK), MASK, "pred is uint8.*boolean.*== 1"),
        (MASK, np.float32(MASK), "true is float32.*boolean.*> 0.5"),
        (torch.zeros(4, 4).bfloat16(), MASK, "pred is float32.*boolean"),
        (MASK[None], MASK, r"pred is \(1, 4, 4\), true is \(4, 4\).*one shape.*x\[0\]"),
        (MASK[None, None], MASK[None], r"pred is \(1, 1, 4, 4\).*x\[:, 0\] of a batch"),
        (MASK[:0], MASK[:0], r"\(0, 4\).*empty"),
    ],
)
def test_masks_that_are_refused(metric, pred, true, words):
    with pytest.raises(ValueError, match=words):
        metric(pred, true)


# Rand error


def brute_rand_error(pred, true):
    """Go through all pairs of pixels, one by one."""
    pixels = [(p, t) for p, t in zip(pred.flat, true.flat, strict=True) if t]
    both = in_pred = in_true = 0
    for (p, t), (q, u) in combinations(pixels, 2):
        both += p == q and t == u
        in_pred += p == q
        in_true += t == u
    return 1 - 2 * both / (in_pred + in_true) if in_pred + in_true else 0.0


def test_rand_error_by_hand():
    true = np.array([[1, 1, 1, 2, 2, 2]])
    assert rand_error(true, true) == 0
    assert rand_error(7 * np.ones_like(true), true) == 1 - 2 * 6 / (15 + 6)  # merged
    assert rand_error(np.arange(6)[None], true) == 1  # no pair is left together
    split = np.array([[1, 1, 3, 2, 2, 2]])
    assert rand_error(split, true) == pytest.approx(1 - 2 * 4 / (4 + 6))


def test_the_zero_of_the_truth_is_left_out_and_that_of_the_prediction_is_not():
    true = np.array([[1, 1, 0, 0, 2, 2]])
    assert rand_error(np.array([[5, 5, 5, 6, 6, 6]]), true) == 0
    assert rand_error(np.array([[5, 5, 0, 0, 0, 0]]), true) == 0
    assert rand_error(np.array([[0, 0, 5, 5, 0, 0]]), true) == 1 - 2 * 2 / (6 + 2)


@pytest.mark.parametrize("seed", range(10))
def test_rand_error_against_brute_force_and_scikit_image(seed):
    rng = np.random.default_rng(seed)
    pred, true = rng.integers(0, rng.integers(2, 9, 2)[:, None, None], (2, 8, 11))
    error = rand_error(pred, true)
    assert error == pytest.approx(brute_rand_error(pred, true), abs=1e-12)
    assert error == pytest.approx(adapted_rand_error(true, pred)[0], abs=1e-12)


def test_rand_error_of_drawn_tissue_against_scikit_image():
    _, true = draw_membranes(128, seed=0)
    pred = [label(~binary_dilation(true))[0], label(~draw_membranes(128, seed=1)[1])[0]]
    true = label(~true)[0]
    for segments in pred:
        expected = adapted_rand_error(true, segments)[0]
        assert rand_error(segments, true) == pytest.approx(expected, abs=1e-12)


def test_ids_are_only_names():
    rng = np.random.default_rng(0)
    pred, true = rng.integers(0, 6, (2, 12, 12))
    names = rng.permutation(2**31 - 6 + np.arange(6))
    expected, scores = rand_error(pred, true), cell_ious(pred, true)
    assert rand_error(names[pred], true) == pytest.approx(expected, abs=1e-12)
    renamed = np.where(true > 0, names[true], 0)
    assert rand_error(pred, renamed) == pytest.approx(expected, abs=1e-12)
    assert cell_ious(pred, renamed) == {
        int(names[i]): value for i, value in scores.items()
    }


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.uint64])
def test_every_integer_type_will_do(kind):
    pred, true = np.random.default_rng(0).integers(0, 6, (2, 12, 12))
    assert rand_error(kind(pred), kind(true)) == rand_error(pred, true)
    assert seg_score(kind(pred), kind(true)) == seg_score(pred, true)
    assert rand_error(torch.tensor(pred), torch.tensor(true)) == rand_error(pred, true)


def test_rand_error_without_pairs():
    zero, one = np.zeros((3, 3), int), np.ones((3, 3), int)
    assert rand_error(one, zero) == 0  # no pixel is counted
    single = np.arange(1, 10).reshape(3, 3)
    assert rand_error(single, single) == 0  # no two pixels are together in either
    assert rand_error(one, single) == 1


def test_a_volume_is_compared_flat():
    pred, true = np.random.default_rng(0).integers(0, 4, (2, 3, 5, 6))
    expected = adapted_rand_error(true, pred)[0]
    assert rand_error(pred.ravel(), true.ravel()) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match=r"\(3, 5, 6\).*one image"):
        rand_error(pred, true)


# Warping error


def simple_by_components(ring):
    """Tell it from the definition: flipping changes no number of components around."""
    block = np.zeros((3, 3), bool)
    block[tuple(np.transpose(RING))] = ring
    parts, _ = label(block, EIGHT)
    membranes = len(set(parts[block]))
    inside = ~block
    inside[1, 1] = False
    parts, _ = label(inside)
    direct = [parts[place] for place in RING[::2] if inside[place]]
    return membranes == 1 and len(set(direct)) == 1


def test_the_table_of_simple_points():
    rings = [[bool(code >> k & 1) for k in range(8)] for code in range(256)]
    assert [is_simple(ring) for ring in rings] == list(map(simple_by_components, rings))
    assert sum(map(is_simple, rings)) == 116


def tree(membranes):
    """Return the cells and membranes that touch, as numbers from the outside in."""
    framed = np.pad(membranes, 1, constant_values=True)
    cells, membranes = label(~framed)[0], label(framed, EIGHT)[0]
    return cells.max(), membranes.max(), euler_number(framed, connectivity=2)


@pytest.mark.parametrize("seed", range(20))
def test_warping_keeps_the_topology_and_goes_as_far_as_it_can(seed):
    rng = np.random.default_rng(seed)
    true, pred = blobs(rng, (30, 25)), blobs(rng, (30, 25))
    warped = warp_truth(pred, true)
    assert tree(warped) == tree(true)
    assert (warped != true).any() and ((warped == true) | (warped == pred)).all()
    framed = np.pad(warped, 1, constant_values=True)
    for y, x in np.argwhere(warped != pred):
        ring = [framed[y + dy, x + dx] for dy, dx in RING]
        assert not is_simple(ring)
    assert warping_error(pred, true) == pytest.approx((warped != pred).mean())


def smallest_error(pred, true):
    """Try every order in which wrong pixels can be flipped."""
    framed = np.pad(true, 1, constant_values=True)
    wrong = [tuple(at) for at in np.argwhere(np.pad(true != pred, 1))]
    seen, stack, least = {frozenset()}, [frozenset()], len(wrong)
    while stack and least:
        flipped = stack.pop()
        least = min(least, len(wrong) - len(flipped))
        now = framed.copy()
        for at in flipped:
            now[at] ^= True
        for y, x in wrong:
            ring = [now[y + dy - 1, x + dx - 1] for dy, dx in RING]
            more = flipped | {(y, x)}
            if more not in seen and is_simple(ring):
                seen.add(more)
                stack.append(more)
    return least


def test_warping_error_against_all_orders():
    rng, gaps = np.random.default_rng(0), []
    for _ in range(80):
        true = blobs(rng, (7, 7), 0.8)
        pred = true.copy()
        pred.flat[rng.choice(49, 8, replace=False)] ^= True
        left = round(49 * warping_error(pred, true))
        gaps.append(left - smallest_error(pred, true))
    assert min(gaps) >= 0  # it is an upper bound
    assert np.mean(np.equal(gaps, 0)) > 0.9 and max(gaps) <= 3  # and a tight one


@pytest.mark.parametrize(
    ("true", "pred", "left"),
    [
        (".#.. .#.. .#..", "..#. ..#. ..#.", 0),  # a wall one pixel further
        (".#.. .#.. .#..", ".##. .##. .##.", 0),  # a thicker wall
        (".#... .#... .#...", "...#. ...#. ...#.", 4),  # too far: stuck
        (".#.. .#.. .#..", ".#.. .... .#..", 1),  # a hole: merged
        (".##. .##. .##.", ".##. .... .##.", 1),  # a deeper hole of the same length
        (".##. .##. .##. .##.", ".##. .... .... .##.", 2),  # a longer one
        (".... .... ....", ".#.. .#.. .#..", 1),  # a wall: split
        (".... .... .... ....", ".##. .##. .##. .##.", 2),  # a thicker one
        ("#... .#.. ..#. ...#", "##.. .##. ..## ...#", 0),  # a diagonal parts as well
        ("#... .#.. ..#. ...#", "#... .... ..#. ...#", 1),
        ("##### #...# #...# #...# #####", "##### " * 5, 1),  # a cell is lost: a pixel
        ("##### " * 5, "##### #...# #...# #...# #####", 9),  # invented: all of it
        ("..... " * 5, "..... .###. .###. .###. .....", 9),  # a false spot
    ],
)
def test_warping_error_by_hand(true, pred, left):
    true, pred = read(true), read(pred)
    assert warping_error(pred, true) * true.size == pytest.approx(left)
    assert warping_error(true, true) == 0
    assert warping_error(pred.T, true.T) * true.size == pytest.approx(left)
    turned = warping_error(torch.tensor(pred).flip(0), torch.tensor(true).flip(0))
    assert turned * true.size == pytest.approx(left)


def test_nothing_is_warped_outside_of_what_is_allowed():
    true, pred = read("..#... " * 4), read(".##... " * 2 + "..##.. " * 2)
    allowed = np.zeros_like(true)
    assert warping_error(pred, true) == 0
    assert warping_error(pred, true, allowed) == pixel_error(pred, true)
    allowed[:2] = True
    warped = warp_truth(pred, true, torch.tensor(allowed))
    assert (warped[:2] == pred[:2]).all() and (warped[2:] == true[2:]).all()
    with pytest.raises(ValueError, match="allowed is int64.*boolean"):
        warping_error(pred, true, allowed.astype(int))
    with pytest.raises(ValueError, match=r"allowed is \(2, 6\).*one shape"):
        warping_error(pred, true, allowed[:2])


def test_the_masks_that_are_given_stay_as_they_are():
    true, pred = read(".#.. .#.. .#.."), read("..#. ..#. ..#.")
    before = true.copy(), pred.copy()
    warp_truth(pred, true)
    assert (true == before[0]).all() and (pred == before[1]).all()


def test_warping_takes_one_image():
    stack = np.zeros((2, 4, 4), bool)
    with pytest.raises(ValueError, match=r"\(2, 4, 4\).*one image \(H, W\)"):
        warping_error(stack, stack)


def test_the_same_pixel_error_and_another_rand_error():
    _, true = draw_membranes(size=128, seed=11)
    rows, columns = np.indices(true.shape)
    holed = true & (np.hypot(rows - 48, columns - 40) > 4)
    beside = np.flatnonzero(binary_dilation(true) & ~true)
    crumbly = true.copy()
    crumbly.flat[beside[:: len(beside) // (holed != true).sum()]] = True
    cells = label(~true)[0]
    assert pixel_error(crumbly, true) >= pixel_error(holed, true)
    assert rand_error(label(~crumbly)[0], cells) < 0.01
    assert rand_error(label(~holed)[0], cells) > 0.2
    thick = binary_dilation(true)
    assert pixel_error(thick, true) > 0.05 and warping_error(thick, true) == 0


# Cells


def brute_seg(pred, true):
    """Try every true cell with every predicted one."""
    scores = []
    for i in set(true.flat) - {0}:
        a, best = true == i, 0.0
        for j in set(pred.flat) - {0}:
            b = pred == j
            if (a & b).sum() > 0.5 * a.sum():
                best = (a & b).sum() / (a | b).sum()
        scores.append(best)
    return np.mean(scores)


def test_seg_by_hand():
    true = np.array([[1, 1, 1, 1, 0, 2, 2, 2]])
    assert seg_score(true, true) == 1
    merged = np.array([[5, 5, 5, 5, 5, 5, 5, 5]])
    assert cell_ious(merged, true) == {1: 4 / 8, 2: 3 / 8}
    half = np.array([[3, 3, 4, 4, 0, 0, 9, 9]])  # two of four is not more than half
    assert cell_ious(half, true) == {1: 0.0, 2: 2 / 3}
    assert seg_score(half, true) == pytest.approx(1 / 3)
    invented = np.array([[1, 1, 1, 1, 6, 2, 2, 2]])
    assert seg_score(invented, true) == 1  # SEG does not see it


@pytest.mark.parametrize("seed", range(10))
def test_seg_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    true, _ = label(blobs(rng, (20, 20), 1.5))
    pred = np.where(rng.random(true.shape) < 0.2, 0, true * 3)
    pred[rng.random(true.shape) < 0.2] = rng.integers(0, 9)
    assert seg_score(pred, true) == pytest.approx(brute_seg(pred, true))


def test_the_rule_for_frames_without_cells():
    empty, cells = np.zeros((8, 8), int), np.ones((8, 8), int)
    assert seg_score(empty, empty) == seg_score(cells, empty) == 1  # nothing to miss
    assert seg_score(empty, cells) == 0
    assert cell_ious(cells, empty) == {}
    stack = np.stack([empty, cells])
    assert seg_score(stack, stack[::-1]) == 0  # an empty frame has no share in the mean


def test_a_stack_is_the_mean_over_the_cells_of_all_frames():
    frames = [draw_cells(64, seed)[1] for seed in range(3)]
    pred = [np.roll(frame, 2, axis=0) for frame in frames]
    values = [
        value
        for p, t in zip(pred, frames, strict=True)
        for value in cell_ious(p, t).values()
    ]
    assert seg_score(np.stack(pred), np.stack(frames)) == pytest.approx(np.mean(values))


@pytest.mark.parametrize("metric", [rand_error, seg_score, cell_ious])
@pytest.mark.parametrize(
    ("pred", "true", "words"),
    [
        (MASK, LABELS, r"is bool.*of cells .*label\(mask\).*membranes label\(~mask\)"),
        (LABELS, LABELS / 2, "true.* is float64.*integers"),
        (LABELS, LABELS - 1, "true.* ids from -1 to -1.*0"),
        (LABELS + 2**31, LABELS, "pred.* ids from 2147483648.*2147483647"),
        (LABELS, LABELS[:2], r"\(4, 4\).*\(2, 4\).*one shape"),
        (LABELS[:0], LABELS[:0], r"\(0, 4\).*empty"),
        (LABELS[None, None], LABELS[None, None], r"\(1, 1, 4, 4\).*one image"),
    ],
)
def test_label_maps_that_are_refused(metric, pred, true, words):
    with pytest.raises(ValueError, match=words):
        metric(pred, true)


BAD_COUNTS = [
    (torch.tensor([2]), torch.tensor([0]), "pred holds the classes 2 to 2"),
    (torch.tensor([0]), torch.tensor([255]), "true holds the classes 255"),
    (torch.tensor([0]), torch.tensor([-1]), "true holds the classes -1"),
    (torch.tensor([0, 1]), torch.tensor([0]), r"pred \(2,\).*true \(1,\)"),
]


@pytest.mark.parametrize(("pred", "true", "message"), BAD_COUNTS)
def test_what_cannot_be_counted_is_named(pred, true, message):
    with pytest.raises(ValueError, match=message):
        count_pixels(pred, true, 2)


def test_dice_of_more_classes_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        dice_of(torch.eye(3))
