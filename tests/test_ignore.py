"""Pixels that nobody annotated: read in one place, and counted nowhere."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from unet_tutorial import losses, metrics, weight_map
from unet_tutorial.augment import elastic_deform
from unet_tutorial.cli import main
from unet_tutorial.data.check import check_pairs
from unet_tutorial.data.crops import Whole, Windows, read_example
from unet_tutorial.data.datasets import mask_notes, open_folder
from unet_tutorial.data.images import BadFile, read_labels, read_mask
from unet_tutorial.data.pairs import Pair
from unet_tutorial.data.photo_changes import PhotoChanges
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.data.tissue import TissueChanges
from unet_tutorial.runs import planner, recipes
from unet_tutorial.runs.run import evaluate_run, resume_run, train_run
from unet_tutorial.runs.summary import report_run
from unet_tutorial.synthetic import draw_cells
from unet_tutorial.train import evaluate

UNKNOWN = -100


def marked(unknown, values):
    """Return label maps with -100 where they are unknown."""
    return np.where(unknown, UNKNOWN, np.asarray(values).astype(int))


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def rimmed(seed, size=64):  # -> image, truth 0 and 1, what is unknown
    image, cells = draw_cells(size, seed=seed)
    inside = ndimage.binary_erosion(cells > 0)
    unknown = (cells > 0) & ~inside  # as in Pascal VOC
    unknown[:, -size // 4 :] = True  # and a strip that nobody looked at
    return image, (cells > 0).astype(np.uint8), unknown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six images; the masks of `clean` have no unknown pixels, those of `masks` do."""
    home = tmp_path_factory.mktemp("rims")
    for number in range(6):
        image, truth, unknown = rimmed(number)
        save(home / f"images/{number}.png", image)
        save(home / f"clean/{number}.png", truth)
        save(home / f"masks/{number}.png", np.where(unknown, 255, truth).astype("u1"))
    return home


def opened(folder, masks="masks", **options):
    return open_folder(folder / "images", folder / masks, **options)


# Reading


def test_a_rim_of_255_is_minus_100_and_the_rest_as_without_it(folder):
    source = opened(folder, ignore=255)
    for number in range(6):
        _, truth, unknown = rimmed(number)
        labels = source.labels(number)
        assert ((labels == UNKNOWN) == unknown).all()
        assert (labels[~unknown] == truth[~unknown]).all()


@pytest.mark.parametrize(("ignore", "thing"), [(128, 255), (255, 128)])
def test_a_trimap_of_three_values_either_way(tmp_path, ignore, thing):
    drawn = np.random.default_rng(0).choice([0, 128, 255], (20, 30)).astype(np.uint8)
    labels = read_mask(save(tmp_path / "a.png", drawn), ignore=ignore)
    wanted = marked(drawn == ignore, drawn == thing)
    assert (labels == wanted).all()


@pytest.mark.parametrize("alpha", [False, True])
def test_a_colour_that_means_unknown(tmp_path, alpha):
    values = np.random.default_rng(0).integers(0, 3, (20, 30))
    colours = np.uint8([(0, 0, 0), (255, 255, 255), (255, 0, 0)])[values]
    if alpha:
        colours = np.dstack([colours, np.full((20, 30), 255, np.uint8)])
    path = save(tmp_path / "a.png", colours)
    with pytest.raises(BadFile, match=r"ignore=\(255, 0, 0\) leaves it out"):
        read_mask(path)
    for ignore in ((255, 0, 0), [255, 0, 0]):  # a list, as recipe.json has it
        labels = read_mask(path, ignore=ignore)
        assert (labels == marked(values == 2, values)).all()
    by_list = [(255, 255, 255), (0, 0, 0)]
    labels = read_labels(path, colours=by_list, ignore=(255, 0, 0))
    assert (labels == marked(values == 2, 1 - values)).all()
    with pytest.raises(ValueError, match=r"ignore=\(red, green, blue\)"):
        read_labels(path, colours=by_list, ignore=255)


def test_a_palette_counts_by_its_index_and_its_colours_are_found(tmp_path):
    values = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    values[values == 2] = 255  # as Pascal VOC has it
    image = Image.fromarray(values, "P")
    palette = np.zeros((256, 3), np.uint8)
    palette[1], palette[255] = (128, 0, 0), (224, 224, 192)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "a.png")
    wanted = marked(values == 255, values)
    for ignore in (255, (224, 224, 192)):
        assert (read_mask(tmp_path / "a.png", ignore=ignore) == wanted).all()
        assert (read_labels(tmp_path / "a.png", ignore=ignore) == wanted).all()


def test_numbers_of_16_bits_and_below_0(tmp_path):
    values = np.array([[0, 1, 700], [65535, 2, 0]], np.uint16)
    labels = read_labels(save(tmp_path / "a.tif", values), ignore=65535)
    assert labels.tolist() == [[0, 1, 700], [UNKNOWN, 2, 0]]
    signed = np.array([[0, 1, -1]], np.int32)
    path = save(tmp_path / "b.tif", signed)
    assert read_mask(path, ignore=-1).tolist() == [[0, 1, UNKNOWN]]
    assert read_mask(path, ignore=-1, invert=True).tolist() == [[1, 0, UNKNOWN]]
    assert read_mask(path, ignore=(255, 0, 0), threshold=0).tolist() == [[0, 1, 0]]


def test_the_value_first_then_the_threshold_then_the_exchange(tmp_path):
    grey = np.array([[0, 10, 90, 128, 200, 255]], np.uint8)
    path = save(tmp_path / "a.png", grey)

    def read(**options):
        return read_mask(path, ignore=128, **options)[0].tolist()

    assert read(threshold=50) == [0, 0, 1, UNKNOWN, 1, 1]
    assert read(threshold=50, invert=True) == [1, 1, 0, UNKNOWN, 0, 0]
    assert read_mask(path, threshold=50, ignore=255)[0, -1] == UNKNOWN
    lonely = save(tmp_path / "b.png", np.array([[0, 10, 255]], np.uint8))
    with pytest.raises(BadFile, match="one side of the threshold"):
        read_mask(lonely, threshold=50, ignore=255)  # what is left is below it


def test_a_jpeg_has_no_exact_value(tmp_path):
    path = save(tmp_path / "a.jpg", np.full((16, 16), 255, np.uint8))
    with pytest.raises(BadFile, match="JPEG, in which no value is exact"):
        read_mask(path, threshold=127, ignore=255)


def test_resized_the_nearest_label_is_taken(folder):
    path = folder / "masks/0.png"
    wanted = read_labels(path, (24, 40))  # 255 is a label like others
    small = read_mask(path, (24, 40), ignore=255)
    assert (small == marked(wanted == 255, wanted)).all() and 255 in wanted


def test_a_mask_of_nothing_but_unknown(tmp_path):
    path = save(tmp_path / "a.png", np.full((9, 9), 255, np.uint8))
    for options in ({}, {"invert": True}, {"threshold": 3}):
        assert (read_mask(path, ignore=255, **options) == UNKNOWN).all()
    assert (read_labels(path, ignore=255) == UNKNOWN).all()


def test_several_classes_and_a_value_that_is_one_of_them(folder):
    names = ("background", "cell", "dirt")
    source = opened(folder, classes=names, ignore=255)
    _, truth, unknown = rimmed(0)
    assert (source.labels(0) == marked(unknown, truth)).all()
    with pytest.raises(ValueError, match="ignore=2 is also a class"):
        opened(folder, classes=names, ignore=2)
    with pytest.raises(ValueError, match="does 255 mark what nobody annotated"):
        opened(folder, classes=names).labels(0)
    turned = opened(folder, classes=names[:2], values=(1, 0), ignore=255)
    assert (turned.labels(0) == marked(unknown, 1 - truth)).all()


# Losses and metrics, against what is left when the pixels are dropped by hand


@pytest.fixture
def batch():
    torch.manual_seed(0)
    labels = torch.randint(3, (2, 12, 14))
    unknown = torch.rand(labels.shape) < 0.4
    logits = torch.randn(2, 3, 12, 14, requires_grad=True)
    return logits, labels, unknown


def dropped(logits, labels, unknown):  # -> (1, K, 1, n), (1, 1, n): known pixels only
    pixels = logits.movedim(1, -1)[~unknown]  # (n, K)
    return pixels.T[None, :, None], labels[~unknown][None, None]


def spoilt(logits, labels, unknown):  # what the net says there must not matter
    noise = 50 * torch.randn_like(logits) * unknown[:, None]
    return logits + noise, torch.where(unknown, UNKNOWN, labels)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["cross-entropy", "weighted", "dice", "both"])
def test_each_loss_is_that_of_the_known_pixels(batch, name, classes):
    logits, labels, unknown = batch
    logits, labels = logits[:, :classes], labels % classes
    weights = torch.rand(labels.shape) + 0.1
    few = weights[~unknown][None, None]
    recipe = replace(recipes.read_recipe("modern"), loss="cross-entropy")
    if name == "weighted":
        loss = losses.weighted_cross_entropy
        found = loss(*spoilt(*(logits, labels, unknown)), weights)
        wanted = loss(*dropped(logits, labels, unknown), few)
    elif name == "dice" and classes == 3:
        return  # soft Dice is for one object
    else:
        of = {"cross-entropy": recipes.criterion_for(recipe)}
        of |= {"dice": losses.soft_dice_loss, "both": losses.dice_ce_loss}
        found = of[name](*spoilt(logits, labels, unknown))
        wanted = of[name](*dropped(logits, labels, unknown))
    assert torch.allclose(found, wanted, atol=1e-5)
    gradient = torch.autograd.grad(found, batch[0])[0]  # (B, K, H, W)
    assert (gradient.abs().sum(1)[unknown] == 0).all()


def test_cross_entropy_is_torchs_own_and_0_without_a_known_pixel(batch):
    logits, labels, unknown = batch
    criterion = recipes.criterion_for(recipes.read_recipe("modern"))
    labels = torch.where(unknown, UNKNOWN, labels)
    assert torch.allclose(criterion(logits, labels), F.cross_entropy(logits, labels))
    nothing = torch.full_like(labels, UNKNOWN)
    assert math.isnan(F.cross_entropy(logits, nothing).item())
    for loss in (criterion, losses.dice_ce_loss):
        value = loss(logits, nothing)
        assert value == 0
        assert (torch.autograd.grad(value, logits)[0] == 0).all()


def test_each_metric_is_that_of_the_known_pixels():
    rng = np.random.default_rng(0)
    pred, true = rng.integers(0, 2, (2, 30, 40)) > 0
    unknown = rng.random(true.shape) < 0.3
    labels = torch.tensor(marked(unknown, true))
    counts = metrics.count_pixels(torch.tensor(pred).long(), labels, 2)
    by_hand = pred[~unknown], true[~unknown]
    assert metrics.pixel_error_of(counts) == metrics.pixel_error(*by_hand)
    assert metrics.dice_of(counts) == metrics.dice(*by_hand)
    assert metrics.iou_of(counts) == metrics.iou(*by_hand)
    mean = recipes.mean_dice_of(counts)
    assert mean == pytest.approx(metrics.dice(*by_hand))


def test_segments_and_cells_are_compared_where_they_are_known():
    rng = np.random.default_rng(1)
    pred, true = rng.integers(0, 4, (2, 20, 20))
    unknown = rng.random(true.shape) < 0.3
    labels = marked(unknown, true)
    by_hand = pred[~unknown], true[~unknown]
    assert metrics.rand_error(pred, labels) == metrics.rand_error(*by_hand)
    rows = tuple(part[None] for part in by_hand)  # (1, n) is a label map, too
    assert metrics.cell_ious(pred, labels) == metrics.cell_ious(*rows)
    assert metrics.seg_score(pred, labels) == metrics.seg_score(*rows)
    with pytest.raises(ValueError, match="pred has ids"):
        metrics.seg_score(labels, true)
    nothing = np.full_like(true, UNKNOWN)
    assert metrics.seg_score(pred, nothing) == 1
    assert metrics.rand_error(pred, nothing) == 0


# Weight maps


@pytest.fixture(scope="module")
def cells():
    labels = draw_cells(96, seed=4)[1].astype(np.int32)
    unknown = np.zeros(labels.shape, bool)
    unknown[:, 70:] = True
    return labels, unknown


@pytest.mark.parametrize("variant", ["paper", "later"])
def test_what_is_unknown_is_no_cell_and_weighs_nothing(cells, variant):
    labels, unknown = cells
    holed = marked(unknown, labels)
    parted = weight_map.separate_cells(holed, variant)
    assert ((parted == UNKNOWN) == unknown).all()
    alone = weight_map.separate_cells(np.where(unknown, 0, labels), variant)
    assert (parted[~unknown] == alone[~unknown]).all()  # it takes no pixel of a cell
    for of in (weight_map.border_weights, weight_map.weight_map):
        weights = of(parted, variant=variant)
        assert (weights[unknown] == 0).all()
        if of is weight_map.border_weights or variant == "later":
            wanted = of(alone, variant=variant)
            assert (weights[~unknown] == wanted[~unknown]).all()
    near = weight_map.nearest_two(parted), weight_map.nearest_two(alone)
    assert np.array_equal(*near)


def test_class_weights_count_the_known_pixels(cells):
    labels, unknown = cells
    holed = marked(unknown, labels)
    assert weight_map.class_weights(holed) == weight_map.class_weights(labels[:, :70])
    pair = weight_map.class_weights(holed)
    first = weight_map.weight_map(holed) - weight_map.border_weights(holed)
    assert np.allclose(first[~unknown], np.where(labels > 0, *pair[::-1])[~unknown])
    with pytest.raises(ValueError, match="ids of cells are positive"):
        weight_map.border_weights(labels - 1)


def test_wide_ids_with_unknown_pixels():
    row = np.array([[70000, 0, UNKNOWN, 0, 90000, 0]])
    d1, d2 = weight_map.nearest_two(row)
    assert d1[0].tolist() == [0, 1, 2, 1, 0, 1]
    assert d2[0].tolist() == [4, 3, 2, 3, 4, 5]


# Windows, images, augmentation


def test_an_example_of_instances_and_of_classes(tmp_path, cells):
    labels, unknown = cells
    save(tmp_path / "images/a.png", draw_cells(96, seed=4)[0])
    drawn = np.where(unknown, 255, labels).astype(np.uint8)
    save(tmp_path / "masks/a.png", drawn)
    source = opened(tmp_path, instances=True, ignore=255)
    _, classes, weights = read_example(source, 0, weighted=True)
    assert ((classes == UNKNOWN) == unknown).all() and set(np.unique(classes)) == {
        UNKNOWN,
        0,
        1,
    }
    assert (weights[unknown] == 0).all() and (weights[~unknown] > 0).all()
    save(tmp_path / "masks/a.png", np.where(unknown, 255, labels > 0).astype(np.uint8))
    _, again, more = read_example(opened(tmp_path, ignore=255), 0, weighted=True)
    assert ((again == UNKNOWN) == unknown).all() and (more[unknown] == 0).all()


def changes():
    from torchvision.transforms import v2

    from unet_tutorial.data.pipelines import car_pipeline, membrane_pipeline
    from unet_tutorial.data.transforms import ElasticGrid, ForArrays

    grid = ForArrays(v2.Compose([v2.RandomRotation(30), ElasticGrid()]))
    ours = [TissueChanges(zoom=0.2, noise=0.02), PhotoChanges(), None]
    return [*ours, membrane_pipeline(), car_pipeline(), grid]


@pytest.mark.parametrize("number", range(6))
def test_no_change_of_place_invents_a_label(folder, number):
    source, change = opened(folder, ignore=255), changes()[number]
    examples = [read_example(source, index) for index in range(6)]
    if number == 4:  # of colours
        examples = [(np.stack([x] * 3, -1), y) for x, y in examples]
    windows = Windows(examples, 32, 0, 24, pipeline=change, as_bytes=True)
    seen = torch.stack([windows[index][1] for index in range(24)])
    assert set(seen.unique().tolist()) == {UNKNOWN, 0, 1} and seen.dtype == torch.int16
    share = np.mean([(y == UNKNOWN).mean() for _, y in examples])
    assert (seen == UNKNOWN).float().mean() == pytest.approx(share, abs=0.15)
    if number != 4:
        pairs = ImagePairs(source, (64, 64), transform=change)
        assert set(pairs[0][1].unique().tolist()) == {UNKNOWN, 0, 1}


def test_the_papers_deformation_takes_the_nearest_label(cells):
    labels, unknown = cells
    holed = torch.tensor(marked(unknown, labels))
    image = torch.rand(1, *labels.shape)
    seeded = torch.Generator().manual_seed(3)
    both = [
        elastic_deform(image, x, generator=seeded.manual_seed(3))[1]
        for x in (holed, torch.tensor(unknown), torch.tensor(labels))
    ]
    assert torch.equal(both[0] == UNKNOWN, both[1])
    assert torch.equal(both[0][~both[1]], both[2][~both[1]])


def test_windows_are_placed_where_something_is_known(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8)
    labels = np.full((200, 200), UNKNOWN, np.int16)
    labels[90:110, 30:50] = 0
    labels[95:100, 35:40] = 1
    windows = Windows([(image, labels)], 32, 0, 60, turn=False)
    assert all((windows[index][1] >= 0).any() for index in range(60))
    windows = Windows([(image, labels)], 32, 0, 60, turn=False, objects=1.0)
    assert all((windows[index][1] == 1).any() for index in range(60))
    known = Windows([(image, labels.clip(0))], 32, 0, 60, turn=False)
    assert not all((known[index][1] == 1).any() for index in range(60))


def test_whole_images_keep_them_and_measure_without_them(folder):
    source = opened(folder, ignore=255)
    examples = [read_example(source, index) for index in range(2)]
    whole = Whole(examples, as_bytes=True)
    for index, (_, labels) in enumerate(examples):
        assert (whole[index][1].numpy() == labels).all()
    net = torch.nn.Conv2d(1, 2, 1)
    loader = torch.utils.data.DataLoader(Whole(examples), 1)
    row = evaluate(net, loader, torch.nn.CrossEntropyLoss(), {"dice": metrics.dice_of})
    with torch.no_grad():
        answers = [net(x)[0].argmax(0) for x, _ in loader]
    known = np.stack([labels >= 0 for _, labels in examples])
    pred = torch.stack(answers).numpy()[known] == 1
    true = np.stack([labels == 1 for _, labels in examples])[known]
    assert row["dice"] == pytest.approx(metrics.dice(pred, true))


def test_pairs_of_files_and_their_small_versions(folder):
    files = [
        Pair(folder / f"images/{n}.png", folder / f"masks/{n}.png") for n in range(3)
    ]
    data = ImagePairs(files, (64, 64), ignore=255)
    for _ in range(2):  # read, and then kept
        for number in range(3):
            _, truth, unknown = rimmed(number)
            wanted = marked(unknown, truth)
            assert (data[number][1].numpy() == wanted).all()
    with pytest.raises(ValueError, match=r"open_folder\(..., ignore=255\)"):
        ImagePairs(opened(folder), (64, 64), ignore=255)
    with pytest.raises(BadFile, match="ignore=255 leaves it out"):
        ImagePairs(files, (64, 64))[0]


# The plan


@pytest.mark.parametrize("instances", [False, True])
def test_shares_and_breadths_are_of_what_is_known(tmp_path, instances):
    drawn = np.zeros((120, 160), np.uint8)
    drawn[20:40, 10:60], drawn[70:80, 10:60] = 1, 2 if instances else 1
    save(tmp_path / "half/images/a.png", drawn[:, :80])
    save(tmp_path / "half/masks/a.png", drawn[:, :80])
    drawn[:, 80:] = 255
    save(tmp_path / "whole/images/a.png", drawn)
    save(tmp_path / "whole/masks/a.png", drawn)
    half, whole = (
        planner.measure_folder(opened(tmp_path / n, instances=instances, ignore=255))
        for n in ("half", "whole")
    )
    assert whole.shares == half.shares and whole.breadths == half.breadths


def test_otsus_threshold_is_measured_where_the_truth_is_known(folder):
    source = opened(folder, ignore=255)
    found = planner.dice_of_otsu(source.subset([0, 1]), source.subset([2, 3]))
    counts = np.zeros((2, 2))
    for number in (2, 3):
        image, truth, unknown = rimmed(number)
        bright = image > planner.otsu_threshold(image)
        np.add.at(counts, (truth[~unknown], bright[~unknown].astype(int)), 1)
    by_hand = [
        2 * c[1, 1] / (c[1].sum() + c[:, 1].sum()) for c in (counts, counts[:, ::-1])
    ]
    assert found == pytest.approx(max(by_hand))


# check


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_check_says_how_much_nobody_annotated(folder, capsys):
    images, masks = str(folder / "images"), str(folder / "masks")
    share = np.mean([rimmed(number)[2].mean() for number in range(6)])
    thing = np.mean([t[~u].mean() for _, t, u in map(rimmed, range(6))])
    assert main(["check", images, masks, "--ignore", "255"]) == 0
    told = "\n".join(lines(capsys))
    assert f"Nobody annotated {share:.1%} of a mask, on average (value 255" in told
    assert "in 6 of 6 masks" in told
    assert f"objects cover {thing:.1%}" in told  # of what is known
    assert main(["check", images, masks]) == 1
    assert "--ignore 255 leaves it out" in lines(capsys)[0]


def test_check_of_classes_and_objects_suggests_it_as_well(folder, capsys):
    images, masks = str(folder / "images"), str(folder / "masks")
    assert main(["check", images, masks, "--classes", "3"]) == 1
    assert "--ignore 255 leaves it out" in lines(capsys)[0]
    assert main(["check", images, masks, "--instances"]) == 0
    assert "holds 255, far beyond" in lines(capsys)[0]
    assert main(["check", images, masks, "--instances", "--ignore", "255"]) == 0
    assert "far beyond" not in "\n".join(lines(capsys))


def test_a_value_that_occurs_nowhere_and_one_that_is_the_object(folder, capsys):
    report = check_pairs(folder / "images", folder / "clean", ignore=255)
    (note,) = [n for n in report.notes if n.cause == "no pixel has the value 255"]
    assert len(note.files) == 6 and {*note.files.values()} == {"values 0, 1"}
    assert not report.problems and "Nobody" not in str(report)
    report = check_pairs(folder / "images", folder / "clean", ignore=1)
    (problem,) = report.problems
    assert "is the value 1 the object?" in problem.remedy
    note, *_ = mask_notes(opened(folder, "clean", ignore=255))
    assert note.startswith("no pixel has the value 255; the masks hold 0, 1")
    with pytest.raises(ValueError, match="is it the object"):
        mask_notes(opened(folder, "clean", ignore=1))


def test_a_mask_of_which_nothing_is_annotated(tmp_path):
    drawn = np.zeros((16, 16), np.uint8)
    drawn[4:8] = 1
    for name, mask in (("a", drawn), ("b", np.full_like(drawn, 255))):
        save(tmp_path / f"images/{name}.png", drawn)
        save(tmp_path / f"masks/{name}.png", mask)
    report = check_pairs(tmp_path / "images", tmp_path / "masks", ignore=255)
    (problem,) = report.problems
    assert problem.cause == "nothing is annotated"
    assert [path.name for path in problem.files] == ["b.png"]
    assert [pair.mask.name for pair in report.pairs] == ["a.png"]


def test_the_order_of_check_is_that_of_the_reader(tmp_path):
    grey = np.uint8([[0, 10, 90, 128, 200, 255]] * 4)
    save(tmp_path / "images/a.png", grey)
    save(tmp_path / "masks/a.png", grey)
    both = tmp_path / "images", tmp_path / "masks"
    report = check_pairs(*both, threshold=50, invert=True, ignore=128)
    assert report.share == pytest.approx(2 / 5)
    assert report.unknown == [pytest.approx(1 / 6)]


def test_the_picture_shows_what_is_unknown(folder):
    from unet_tutorial.data.check import _picture

    report = check_pairs(folder / "images", folder / "masks", ignore=255)
    plain = check_pairs(folder / "images", folder / "clean")
    found, other = (_picture(r, r.pairs[0], 64) for r in (report, plain))
    strip = np.s_[:, -10:]
    assert (found[strip][..., 2] > found[strip][..., 0]).mean() > 0.9  # light blue
    assert (other[strip][..., 2] > other[strip][..., 0]).mean() < 0.1


@pytest.mark.parametrize("channels", [1, 2])
def test_what_a_range_would_cut_off(tmp_path, capsys, channels):
    for name, top in (("a", 900), ("b", 1200), ("c", 5000)):
        pixels = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(np.uint16)
        stack = pixels if channels == 1 else np.stack([pixels, pixels])
        (tmp_path / "images").mkdir(exist_ok=True)
        if channels == 1:
            Image.fromarray(stack).save(tmp_path / f"images/{name}.tif")
        else:
            np.save(tmp_path / f"images/{name}.npy", stack)
        save(tmp_path / f"masks/{name}.png", (pixels > top / 2).astype(np.uint8))
    both = [str(tmp_path / "images"), str(tmp_path / "masks")]
    axes = [] if channels == 1 else ["--channels", "2"]
    assert main(["check", *both, *axes, "--range", "0", "1000"]) == 1
    said = lines(capsys)
    (problem, note) = [line for line in said if "cut off" in line]
    assert (
        problem.startswith("problem: ") and "is mostly cut off by the range" in problem
    )
    assert "c." in problem and "80.0% above" in problem
    assert "--range 0 5000 would hold all" in problem and "b." in note
    assert note.startswith("note: ") and "16.6% above" in note
    assert "2 pairs without a problem" in said
    assert main(["check", *both, *axes, "--range", "0", "5000"]) == 0
    assert "cut off" not in "\n".join(lines(capsys))
    assert main(["check", *both, *axes, "--range", "10", "5000"]) == 0
    (note,) = [line for line in lines(capsys) if "cut off" in line]
    assert note.startswith("note: 3 files") and "below" in note
    assert main(["check", *both, *axes, "--range", "600", "5000"]) == 0  # dark, as air
    assert "66.7% below" in "\n".join(lines(capsys))
    run = ["train", "--kind", "folder", "--data", both[0], "--masks", both[1], *axes]
    run += ["--out", str(tmp_path / "run"), "--steps", "1", "--device", "cpu"]
    assert main([*run, "--range", "0", "255"]) == 0
    said = lines(capsys)
    (at,) = [n for n, line in enumerate(said) if "mostly cut off by the range" in line]
    assert said[at].startswith("problem: is mostly") and "--range 0 5000" in said[at]
    assert not any(line.startswith("epoch") for line in said[:at])


def test_notes_of_many_files_are_one_line_with_their_number(folder, capsys):
    assert main(["check", str(folder / "images"), str(folder / "clean")]) == 0
    before = lines(capsys)
    assert (
        main(["check", str(folder / "images"), str(folder / "clean"), "--ignore", "9"])
        == 0
    )
    (more,) = set(lines(capsys)) - set(before)
    first = folder / "clean/0.png"
    assert more.startswith(f"note: 6 files: no pixel has the value 9, first {first} (")


def test_wrong_usage(folder, capsys):
    images = str(folder / "images")
    for wrong in ("grey", "1,2", "1.5"):
        assert main(["check", images, "--ignore", wrong]) == 2
        assert "255 or 255,0,0 would work" in capsys.readouterr().err
    assert main(["check", images, "--kind", "isbi", "--ignore", "255"]) == 2
    line = [
        "train",
        "--kind",
        "isbi",
        "--data",
        images,
        "--out",
        "x",
        "--ignore",
        "255",
    ]
    assert main(line) == 2


# A run remembers it


SHORT = {"device": "cpu", "size": (48, 48), "steps": 4, "workers": 0, "amp": False}


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out, told = tmp_path_factory.mktemp("runs") / "run", []
    options = {"masks": str(folder / "masks"), "ignore": 255}
    known = {"options": options, "recipe": "modern", **SHORT}
    train_run("folder", folder / "images", out, announce=told.append, **known)
    return out, told


def test_a_run_says_it_first_and_keeps_it(run):
    out, told = run
    assert told[0].startswith("Nobody annotated ") and "6 of 6 masks" in told[0]
    assert json.loads((out / "recipe.json").read_text())["options"]["ignore"] == 255


def test_a_run_goes_on_and_is_measured_as_it_was_begun(run, folder):
    out, _ = run
    told = []
    assert resume_run(out, device="cpu", announce=told.append)
    assert told[0].startswith("Nobody annotated ")
    with pytest.raises(ValueError, match="ignore"):
        resume_run(out, device="cpu", options={"ignore": 254})
    found = evaluate_run(out, device="cpu")
    plan = recipes.read_plan(out)
    check = recipes.split(plan, opened(folder, ignore=255))[1]
    from unet_tutorial.runs.weights import load_net

    net, pred, true = load_net(out / "best.safetensors")[0].eval(), [], []
    for x, labels in ImagePairs(check, (48, 48)):
        with torch.no_grad():
            answer = net(x[None])[0].argmax(0)
        pred.append((answer == 1)[labels >= 0])
        true.append((labels == 1)[labels >= 0])
    assert found["dice"] == pytest.approx(
        metrics.dice(torch.cat(pred), torch.cat(true))
    )


def test_a_report_counts_what_is_known(run, folder, tmp_path):
    out, _ = run
    page = report_run(out, tmp_path, device="cpu").with_suffix(".md").read_text()
    plan = recipes.read_plan(out)
    check = recipes.split(plan, opened(folder, ignore=255))[1]
    from unet_tutorial.predict import Predictor

    predictor = Predictor.load(out, "cpu")
    for index in range(len(check)):
        labels = check.labels(index)
        pred = predictor(check.image(index)) == 1
        known = labels >= 0
        dice = metrics.dice(pred[known], (labels == 1)[known])
        assert f"| {check.items[index].image.name} | {dice:.3f} |" in page


@pytest.mark.parametrize("recipe", ["auto", "paper", "modern"])
def test_every_recipe_trains_on_a_small_share_of_known_pixels(tmp_path, recipe):
    for number in range(4):
        image, cells = draw_cells(64, seed=number)
        mask = np.full((64, 64), 255, np.uint8)
        mask[20:34, 20:34] = cells[20:34, 20:34] > 0
        mask[20, 20], mask[21, 20] = 0, 1
        save(tmp_path / f"images/{number}.png", image)
        save(tmp_path / f"masks/{number}.png", mask)
    small = recipes.read_recipe(recipe) if recipe != "auto" else recipe
    if recipe == "paper":
        net = replace(small.net, base_channels=4, depth=2)
        small = replace(small, net=net, tile=60, tiles=4)
    elif recipe == "modern":
        net = replace(small.net, base_channels=4, depth=2)
        small = replace(small, net=net, tile=32, tiles=8)
    options = {"masks": str(tmp_path / "masks"), "ignore": 255}
    known = {"options": options, "size": "native", "steps": 2, "device": "cpu"}
    history = train_run("folder", tmp_path / "images", tmp_path / "run", small, **known)
    assert all(map(math.isfinite, history["train_loss"] + history["valid_loss"]))


def test_training_without_it_leads_to_it(folder, tmp_path, capsys):
    line = ["train", "--kind", "folder", "--data", str(folder / "images"), "--masks"]
    line += [str(folder / "masks"), "--device", "cpu", "--steps", "2"]
    assert main([*line, "--out", str(tmp_path / "a")]) == 1
    assert "--ignore 255 leaves it out" in capsys.readouterr().err
    wrong = [*line[:5], "--masks", str(folder / "clean"), "--ignore", "1"]
    assert main([*wrong, "--device", "cpu", "--out", str(tmp_path / "b")]) == 1
    assert "is it the object?" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    short = ["--size", "48x48", "--recipe", "modern"]
    assert main([*line, *short, "--out", str(tmp_path / "c"), "--ignore", "255"]) == 0
    out = capsys.readouterr().out
    assert out.index("Nobody annotated") < out.index("epoch   1")


def test_objects_written_as_what_is_left_out_are_noticed(tmp_path):
    "As `masks` and `predict` write them: 255 is the object in some masks."
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        labels = np.zeros((32, 32), np.uint8)
        labels[4:12, 4:12] = 255 if number == 2 else 1
        labels[20:, 20:] = 255 if number < 2 else 0
        Image.fromarray(np.full((32, 32), 9, np.uint8)).save(
            tmp_path / "images" / f"{number}.png"
        )
        Image.fromarray(labels).save(tmp_path / "masks" / f"{number}.png")
    report = check_pairs(tmp_path / "images", tmp_path / "masks", ignore=255)
    told = [note for note in report.notes if "alone" in note.cause]
    assert [path.name for note in told for path in note.files] == ["2.png"]
    assert "write it as 1" in told[0].remedy
    source = open_folder(tmp_path / "images", tmp_path / "masks", ignore=255)
    assert "1 of them (first 2.png)" in mask_notes(source)[0]


def stray(home, count=8):
    """Masks of 0 and 255; one of them has a pixel of 7."""
    for number in range(count):
        image, truth, _ = rimmed(number)
        mask = 255 * truth
        mask[0, 0] = 7 if number == 3 else 0
        save(home / f"images/{number}.png", image)
        save(home / f"masks/{number}.png", mask)
    return str(home / "images"), str(home / "masks")


def test_a_stray_value_does_not_make_the_object_of_the_others_unknown(tmp_path, capsys):
    both = stray(tmp_path)
    assert main(["check", *both]) == 1
    told = lines(capsys)[0]
    assert "7 in 1 pixel)" in told and "--ignore" not in told and "3.png" in told
    assert "are pixels of 7 stray? --threshold 127 makes 255 the object" in told
    assert main(["check", *both, "--threshold", "127"]) == 0
    thing = np.mean([rimmed(number)[1].mean() for number in range(8)])
    assert f"objects cover {thing:.1%}" in "\n".join(lines(capsys))


def test_a_value_that_is_the_object_of_nearly_all_masks_is_not_left_out(
    tmp_path, capsys
):
    both = stray(tmp_path)
    assert main(["check", *both, "--ignore", "255"]) == 1
    told = lines(capsys)[0]
    assert "7 of 8 masks" in told and "is the value 255 the object?" in told
    with pytest.raises(ValueError, match="nothing but background is left in 7 of them"):
        mask_notes(open_folder(*both, ignore=255))
    line = ["train", "--kind", "folder", "--data", both[0], "--masks", both[1]]
    line += ["--device", "cpu", "--steps", "2", "--out", str(tmp_path / "run")]
    assert main([*line, "--ignore", "255"]) == 1
    assert "is it the object?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(line) == 1
    assert "threshold 127 makes 255 the object" in capsys.readouterr().err


def test_a_rim_stays_right_where_some_masks_show_no_object(folder, tmp_path):
    for number in range(6):
        image, truth, unknown = rimmed(number)
        mask = np.where(unknown, 255, truth if number < 2 else 0).astype(np.uint8)
        save(tmp_path / f"images/{number}.png", image)
        save(tmp_path / f"masks/{number}.png", mask)
    both = tmp_path / "images", tmp_path / "masks"
    assert not check_pairs(*both, ignore=255).problems
    assert mask_notes(open_folder(*both, ignore=255))[0].startswith("Nobody annotated")


def framed(home, count=10):
    """Masks with a frame of 255 in all of them, and an object of 1 in one."""
    for number in range(count):
        mask = np.full((32, 32), 255, np.uint8)
        mask[4:-4, 4:-4] = 0
        if number == 3:
            mask[10:20, 10:20] = 1
        save(home / f"images/{number}.png", np.uint8(mask == 1) * 120 + 60)
        save(home / f"masks/{number}.png", mask)
    return str(home / "images"), str(home / "masks")


def test_one_who_means_it_can_say_that_objects_are_rare(tmp_path, capsys):
    both = framed(tmp_path)
    assert main(["check", *both, "--ignore", "255"]) == 1
    told = lines(capsys)[0]
    assert "it is right that few masks show an object, --threshold 0 says so" in told
    with pytest.raises(ValueError, match="few masks show an object, threshold=0 says"):
        mask_notes(open_folder(*both, ignore=255))
    meant = ["--ignore", "255", "--threshold", "0"]
    assert main(["check", *both, *meant]) == 0
    told = "\n".join(lines(capsys))
    assert "10 pairs without a problem" in told and "write it as" not in told
    source = open_folder(*both, ignore=255, threshold=0)
    (note,) = mask_notes(source)
    assert note.endswith("(value 255, in 10 of 10 masks)")
    assert np.unique(source.labels(3)).tolist() == [-100, 0, 1]
    line = ["train", "--kind", "folder", "--data", both[0], "--masks", both[1], *meant]
    line += ["--device", "cpu", "--steps", "1", "--out", str(tmp_path / "run")]
    line += ["--recipe", "modern", "--size", "32x32"]
    assert main(line) == 0
    assert main(["train", "--help"]) == 0
    assert "--threshold 0" in capsys.readouterr().out


def test_to_mean_it_does_not_help_where_no_mask_has_an_object(tmp_path, capsys):
    both = framed(tmp_path, 3)  # the object is in the fourth
    assert main(["check", *both, "--ignore", "255", "--threshold", "0"]) == 1
    assert "no mask holds an object" in lines(capsys)[0]
    with pytest.raises(ValueError, match="nothing but background is left"):
        mask_notes(open_folder(*both, ignore=255, threshold=0))


def test_of_many_masks_all_are_read_if_objects_are_rare(tmp_path):
    both = framed(tmp_path, 6)
    source = open_folder(*both, ignore=255)
    with pytest.raises(ValueError, match="few masks show an object, threshold=0"):
        mask_notes(source, limit=2)  # those that are read show none
    assert mask_notes(open_folder(*both, ignore=255, threshold=0), limit=2)


def test_without_ignore_a_threshold_of_0_reads_no_more_masks(tmp_path, monkeypatch):
    source, read = open_folder(*framed(tmp_path, 6), threshold=0), []
    labels = type(source).labels
    monkeypatch.setattr(
        type(source), "labels", lambda of, i: read.append(i) or labels(of, i)
    )
    mask_notes(source, limit=2)
    assert len(read) == 2
