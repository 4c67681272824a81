"""An image of any size and depth, and labels of that size."""

import numpy as np
import pytest
import torch
from PIL import Image
from samples import says

from unet_tutorial import predict as module
from unet_tutorial.data import prepared, slides
from unet_tutorial.data.photos import to_tensor
from unet_tutorial.model import UNet
from unet_tutorial.predict import (
    Predictor,
    class_probabilities,
    fold_batch_norm,
    label_map,
    labels_at,
)
from unet_tutorial.runs.weights import find_net, save_net
from unet_tutorial.sizes import nearest_valid_sizes


def thin(**switches):
    torch.manual_seed(0)
    return UNet(base_channels=2, **switches).eval()


def picture(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def predictor(**switches):
    return Predictor(thin(**switches), torch.device("cpu"))


NETS = [{}, {"depth": 2}, {"padding": 1, "norm": "batch"}, {"num_classes": 3}]


@pytest.mark.parametrize("switches", NETS)
@pytest.mark.parametrize("size", [(64, 64), (37, 91), (1, 1), (5, 130)])
def test_labels_have_the_size_of_the_image(switches, size):
    ask = predictor(**switches)
    labels, p = ask(picture(*size)), ask.probabilities(picture(*size))
    assert labels.shape == size and labels.dtype == np.uint8
    assert p.shape == (ask.model.num_classes, *size) and p.dtype == np.float32
    assert np.array_equal(p.argmax(0), labels)


def test_the_prediction_is_that_of_a_larger_image_inside():
    """Where the margin shows real pixels, mirroring must not change the answer."""
    net, image = thin(depth=1), to_tensor(picture(64, 64))
    whole = class_probabilities(net, image[0].numpy())
    with torch.no_grad():
        inside = net(image[None])[0].softmax(0)  # (2, 48, 48), no mirror
    assert torch.allclose(whole[:, 8:-8, 8:-8], inside, atol=1e-5)


def test_a_padded_net_is_asked_once_about_the_whole():
    net, image = thin(padding=1, norm="batch"), picture(37, 50)
    with torch.no_grad():
        due = net(to_tensor(image)[None])[0].softmax(0)
    assert torch.allclose(class_probabilities(net, image), due, atol=1e-6)


def test_a_large_image_is_blended_for_a_padded_net(monkeypatch):
    net, image = thin(padding=1, depth=1), picture(700, 520)
    whole = class_probabilities(net, image)
    monkeypatch.setattr(module, "_WHOLE", 1000)
    blended = class_probabilities(net, image)
    assert not torch.equal(blended, whole)
    assert (blended - whole).abs().mean() < 1e-3


def test_probabilities_sum_to_one():
    p = class_probabilities(thin(num_classes=4), picture(50, 60))
    assert p.shape == (4, 50, 60) and p.min() >= 0
    assert torch.allclose(p.sum(0), torch.ones(50, 60), atol=1e-5)


# In the units of the training

DEPTHS = {
    "16 bits": lambda x: x.astype(np.uint16) * 257,
    "12 bits with an offset": lambda x: 1000 + 12 * x.astype(np.uint16),
    "32 bits": lambda x: x.astype(np.int32) - 70_000,
    "floats": lambda x: x / 255,
    "half": lambda x: (x / 255).astype(np.float16),
}


@pytest.mark.parametrize("kind", DEPTHS)
@pytest.mark.parametrize("size", [None, (20, 30)])
def test_the_depth_of_an_image_does_not_matter(kind, size):
    net, image = thin(padding=1, norm="batch"), picture(40, 60)
    p = class_probabilities(net, image, size)
    other = class_probabilities(net, DEPTHS[kind](image), size)
    wrong = (p - other).abs()  # shrunk, 8 bits are rounded
    assert (
        wrong.mean() < 0.01
        if size
        else wrong.max() < (0.01 if kind == "half" else 1e-4)
    )


def test_fixed_numbers_are_in_grey_values_whatever_the_depth():
    net, image = thin(padding=1), picture(40, 60)
    rule = 100.0, 40.0
    with torch.no_grad():
        x = torch.tensor((image - 100.0) / 40.0).float()
        due = net(x[None, None])[0].softmax(0)
    for same in (image, image.astype(np.uint16) * 257, image.astype(float)):
        p = class_probabilities(net, same, normalisation=rule)
        assert torch.allclose(p, due, atol=1e-4)


def test_a_net_trained_small_answers_at_the_size_of_the_image(tmp_path):
    net = thin(in_channels=3, padding=1, norm="batch")
    path = save_net(tmp_path / "net.safetensors", net, size=(16, 24))
    ask = Predictor.load(path)
    image = picture(80, 120, 3)
    assert ask(image).shape == (80, 120)
    Image.fromarray(image).save(tmp_path / "image.png")
    assert np.array_equal(ask(tmp_path / "image.png"), ask(image))
    small = class_probabilities(net, np.full((40, 60, 3), 7, np.uint8), (16, 24))
    assert small.shape == (2, 40, 60)


def test_the_notes_of_the_net_are_obeyed(tmp_path):
    notes = {"size": [20, 30], "normalisation": [90, 30], "tile": 36, "epoch": 7}
    net = thin(depth=1, padding=1)
    path = save_net(tmp_path / "n.safetensors", net, classes=["a", "b"], **notes)
    ask = Predictor.load(path, torch.device("cpu"), views=4)
    due = class_probabilities(net, picture(40, 60), (20, 30), 4, 36, (90, 30))
    assert np.allclose(ask.probabilities(picture(40, 60)), due, atol=1e-6)
    assert ask.notes.classes == ["a", "b"] and ask.notes.size == [20, 30]
    assert ask.notes.tile == 36 and ask.notes.views == 4


@pytest.mark.parametrize("views", [4, 7, 8])
@pytest.mark.parametrize("switches", [{"depth": 2}, {"padding": 1, "in_channels": 3}])
def test_views_are_averaged(views, switches):
    net = thin(**switches)
    image = picture(40, 61, 3) if net.in_channels == 3 else picture(40, 61)
    ask = Predictor(net, torch.device("cpu"), views=views)
    p = ask.probabilities(image)
    assert p.shape == (2, 40, 61) and np.allclose(p.sum(0), 1, atol=1e-4)
    assert not np.allclose(p, class_probabilities(net, image), atol=1e-4)


def test_eight_views_are_blind_to_direction():
    ask, image = Predictor(thin(depth=2), torch.device("cpu"), views=8), picture(40, 61)
    p = ask.probabilities(image)
    turned = ask.probabilities(np.rot90(image))
    assert np.allclose(turned, np.rot90(p, axes=(1, 2)), atol=1e-5)
    assert np.allclose(ask.probabilities(image[::-1]), p[:, ::-1], atol=1e-5)


# Larger than the memory

BIG = [{"depth": 1}, {"depth": 2, "num_classes": 3}, {"padding": 1, "depth": 1}]


@pytest.mark.parametrize("switches", BIG)
@pytest.mark.parametrize("rule", ["image", (100, 40)])
def test_a_large_image_goes_from_file_to_file(tmp_path, monkeypatch, switches, rule):
    net, image = thin(**switches), picture(300, 170)
    due = label_map(net, image, tile=52, normalisation=rule)
    monkeypatch.setattr(module, "_LARGE", 1000)
    monkeypatch.setattr(slides, "_BAND", 64)
    monkeypatch.setattr(slides, "_MARGIN", 32)
    monkeypatch.setattr(module, "_probabilities", None)  # never all at once
    np.save(tmp_path / "a.npy", image)
    slide = np.load(tmp_path / "a.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "l.npy", "w+", np.uint8, (300, 170))
    answer = label_map(net, slide, out, tile=52, normalisation=rule)
    assert answer is out and (out == due).mean() > 0.999
    out.flush()
    assert np.array_equal(np.load(tmp_path / "l.npy"), out)


@pytest.mark.parametrize("switches", BIG)
def test_a_threshold_of_a_large_image_goes_tile_by_tile(monkeypatch, switches):
    net, image = thin(**switches), picture(300, 170)
    predictor = Predictor(net, "cpu", tile=52, threshold=0.6)
    due = labels_at(predictor.probabilities(image), 0.6)
    assert np.array_equal(predictor(image), due) and 0 < due.astype(bool).mean() < 1
    monkeypatch.setattr(module, "_LARGE", 1000)
    monkeypatch.setattr(slides, "_BAND", 64)
    monkeypatch.setattr(slides, "_MARGIN", 32)
    monkeypatch.setattr(module, "_probabilities", None)  # never all at once
    assert (predictor(image) == due).mean() > 0.999


def test_a_slide_costs_no_more_memory_than_its_tiles(monkeypatch):
    """No array or tensor on the way is larger than a share of the image."""
    monkeypatch.setattr(module, "_LARGE", 1000)
    net, largest = thin(depth=1), 0
    image = picture(900, 1000)
    softmax, stack = torch.Tensor.argmax, torch.stack

    def watch(x, *how, **more):
        nonlocal largest
        largest = max(largest, x.numel())
        return softmax(x, *how, **more)

    def watched(parts, *how):
        nonlocal largest
        largest = max(largest, sum(part.numel() for part in parts))
        return stack(parts, *how)

    monkeypatch.setattr(torch.Tensor, "argmax", watch)
    monkeypatch.setattr(torch, "stack", watched)
    label_map(net, image, tile=100)
    assert 0 < largest < image.size / 30


@pytest.mark.parametrize("out", [np.zeros((9, 8), np.uint8), np.zeros((9, 9))], ids=str)
def test_an_output_that_does_not_fit_is_refused(out):
    with pytest.raises(ValueError, match=r"out is a .*integers \(9, 9\)"):
        label_map(thin(depth=1), picture(9, 9), out)


# Every form of an image


def test_files_stacks_and_pil_images(tmp_path):
    ask, pages = predictor(depth=1), picture(3, 20, 33)
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "stack.tif", save_all=True, append_images=rest)
    first.save(tmp_path / "one.png")
    due = ask(pages)
    assert due.shape == (3, 20, 33)
    assert np.array_equal(ask(tmp_path / "stack.tif"), due)
    assert np.array_equal(ask(str(tmp_path / "one.png")), due[0])
    assert np.array_equal(ask(first), due[0])
    assert ask.probabilities(pages).shape == (3, 2, 20, 33)


def test_arrays_that_are_views_are_taken(tmp_path):
    ask, image = predictor(depth=1), picture(20, 30)
    assert np.array_equal(ask(image[:, ::-1]), ask(image[:, ::-1].copy()))
    image.setflags(write=False)
    assert ask(image).shape == (20, 30)


def test_grey_saved_as_colours_is_grey():
    grey, ask = picture(40, 50), predictor()
    assert np.array_equal(ask(np.stack([grey] * 3, -1)), ask(grey))
    assert np.array_equal(ask(grey[..., None]), ask(grey))


# Made ready for prediction

SWITCHES = [
    {"padding": 1, "norm": "batch"},
    {"depth": 2, "norm": "batch", "residual": True},
    {"padding": 1, "depth": 2, "norm": "batch", "upsampling": "bilinear"},
    {"depth": 1, "norm": "batch", "variant": "release"},
    {"padding": 1, "norm": "instance"},
    {"depth": 2},
]


def lived_in(**switches):
    """A net whose batch norms have seen something, and learned something."""
    net = thin(**switches)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.2, 3)
            torch.nn.init.uniform_(layer.weight, 0.5, 2)
            torch.nn.init.normal_(layer.bias)
    return net


@pytest.mark.parametrize("switches", SWITCHES)
def test_a_folded_net_gives_the_same_logits(switches):
    net = lived_in(**switches).double().train()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    folded = fold_batch_norm(net)
    x = torch.randn(2, 1, *2 * [nearest_valid_sizes(140, net.depth)[1]]).double()
    assert not any(
        isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules()
    )
    assert not any(layer.training for layer in folded.modules())
    assert all(layer.training for layer in net.modules())
    after = net.state_dict()
    assert all(torch.equal(after[name], x) for name, x in before.items())
    with torch.no_grad():
        torch.testing.assert_close(folded(x), net.eval()(x), rtol=1e-9, atol=1e-9)


def test_a_folded_net_can_be_saved(tmp_path):
    net, image = lived_in(padding=1, norm="batch"), picture(32, 48)
    path = save_net(tmp_path / "folded.safetensors", fold_batch_norm(net))
    assert np.array_equal(Predictor.load(path, "cpu")(image), Predictor(net)(image))


def test_a_predictor_asks_a_copy_in_channels_last():
    net, image = lived_in(padding=1, norm="batch").train(), picture(32, 48)
    ask = Predictor(net)
    before = ask.probabilities(image)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1)  # a training that goes on
    assert np.array_equal(ask.probabilities(image), before)
    assert not np.allclose(Predictor(net).probabilities(image), before)
    assert all(layer.training for layer in net.modules())
    assert net.contracting.steps[0].conv.conv1.weight.is_contiguous()
    copy = ask.model.contracting.steps[0].conv.conv1.weight
    assert copy.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("switches", [*SWITCHES[:2], SWITCHES[4]])
def test_16_bits_are_a_choice(switches):
    net, image = lived_in(**switches), picture(64, 80)
    exact, short = Predictor(net), Predictor(net, amp="bf16")
    types = {x.dtype for x in exact.model.parameters()}
    assert types == {torch.float32}
    assert {x.dtype for x in short.model.parameters()} == {torch.bfloat16}
    p = short.probabilities(image)
    assert p.dtype == np.float32
    assert np.abs(p - exact.probabilities(image)).mean() < 0.02
    assert (short(image) == exact(image)).mean() > 0.95
    assert short(image).dtype == np.uint8


# Several at once


def calls(monkeypatch):
    """Write down the shape of what a net is asked."""
    shapes, forward = [], UNet.forward
    watched = lambda self, x: shapes.append(tuple(x.shape)) or forward(self, x)  # noqa: E731
    monkeypatch.setattr(UNet, "forward", watched)
    return shapes


@pytest.mark.parametrize(
    "options", [{}, {"views": 8}, {"views": 7}, {"size": (16, 24)}]
)
def test_a_stack_is_asked_at_once_and_answers_as_one_by_one(monkeypatch, options):
    ask = Predictor(lived_in(padding=1, norm="batch"), **options)
    stack = picture(5, 33, 48)
    one_by_one = [ask(image) for image in stack]
    p = [ask.probabilities(image) for image in stack]
    shapes = calls(monkeypatch)
    assert (ask(stack) == np.stack(one_by_one)).mean() > 0.999
    assert len(shapes) == options.get("views", 1)
    assert {shape[0] for shape in shapes} == {5}
    np.testing.assert_allclose(ask.probabilities(stack), np.stack(p), atol=1e-4)


def test_a_batch_is_limited_by_its_pixels(monkeypatch):
    ask = Predictor(thin(padding=1, depth=1))
    monkeypatch.setattr(prepared, "_NUMBERS", 3 * 2 * 20 * 30)
    shapes = calls(monkeypatch)
    ask(picture(8, 20, 30))
    assert [shape[0] for shape in shapes] == [3, 3, 2]
    shapes.clear()
    ask(picture(2, 200, 300))  # larger than the limit: one at a time
    assert [shape[0] for shape in shapes] == [1, 1]


def test_enlarged_answers_are_limited_too(monkeypatch):
    ask = Predictor(thin(padding=1, depth=1), size=(8, 8))
    monkeypatch.setattr(prepared, "_ENLARGED", 2 * 80 * 90)
    shapes = calls(monkeypatch)
    assert ask(picture(5, 80, 90)).shape == (5, 80, 90)
    assert [shape[0] for shape in shapes] == [2, 2, 1]


def test_a_list_may_hold_images_of_any_size(tmp_path, monkeypatch):
    ask = predictor(padding=1, depth=1)
    images = [picture(*size) for size in ((20, 30), (20, 30), (9, 7), (20, 30))]
    Image.fromarray(images[2]).save(tmp_path / "small.png")
    due = [ask(image) for image in images]
    images[2] = tmp_path / "small.png"
    shapes = calls(monkeypatch)
    found = ask(images)
    assert isinstance(found, list) and len(found) == 4
    assert all(np.array_equal(a, b) for a, b in zip(found, due, strict=True))
    assert [shape[0] for shape in shapes] == [2, 1, 1]
    assert [p.shape for p in ask.probabilities(images)][2] == (2, 9, 7)
    assert ask([]) == []


def test_a_stack_in_a_list_is_refused():
    with pytest.raises(ValueError, match="holds a stack"):
        predictor(depth=1)([picture(9, 9), picture(2, 20, 30)])


# What is refused


def test_one_class_is_refused_by_name():
    with pytest.raises(ValueError, match="background"):
        net = thin()
        net.num_classes = 1
        Predictor(net)(picture(32, 32))


def test_what_is_no_image_is_refused():
    for image in (None, 3, {}, b"image", object()):
        with pytest.raises(
            TypeError, match=r"an array \(H, W\), a PIL image or a file"
        ):
            predictor(depth=1)(image)


def test_an_image_with_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"has 3 channels, the net takes 1.*convert"):
        predictor()(picture(32, 32, 3))
    with pytest.raises(ValueError, match="has 1 channel, the net takes 3"):
        predictor(in_channels=3)(picture(32, 32))
    with pytest.raises(ValueError, match="an axis of 3.*an image with 3 would"):
        predictor(in_channels=3)(picture(32, 32, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("how", [{}, {"size": (9, 9)}, {"normalisation": (0, 1)}])
def test_a_pixel_that_is_no_number_is_named(value, padding, how):
    image = np.ones((20, 30))
    image[7, 11] = value
    ask = Predictor(thin(padding=padding, depth=1), torch.device("cpu"), **how)
    with pytest.raises(ValueError, match=says("NaN or infinite", "row", "column")):
        ask(image)


def test_its_place_is_that_in_the_image():
    image = np.ones((20, 30))
    image[7, 11] = np.nan
    for how in ({}, {"size": (9, 9)}):
        with pytest.raises(ValueError, match="row 7, column 11"):
            Predictor(thin(depth=1), torch.device("cpu"), **how)(image)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match=r"\(0, 30\).*at least one pixel"):
        predictor()(np.zeros((0, 30)))


@pytest.mark.parametrize("kind", [bool, str, complex, object])
def test_what_are_no_grey_values_is_refused(kind):
    image = np.zeros((9, 9), kind)
    with pytest.raises(TypeError, match="integers or floats would work"):
        predictor(depth=1)(image)


def test_a_constant_image_has_an_answer():
    assert predictor(depth=1)(np.full((9, 9), 3)).shape == (9, 9)


def test_a_net_for_two_classes_asked_for_three(tmp_path):
    path = save_net(tmp_path / "net.safetensors", thin(depth=1))
    with pytest.raises(ValueError, match="has 2 classes, 3 were asked for"):
        Predictor.load(path, num_classes=3)
    with pytest.raises(ValueError, match="has 2 classes, 3 were asked for"):
        Predictor.load(path, classes=["a", "b", "c"])
    Predictor.load(path, num_classes=2, classes=["a", "b"])


@pytest.mark.parametrize("rule", ["minmax", (1, 2, 3), (5, 0)])
def test_an_unknown_normalisation_is_refused(rule):
    with pytest.raises(ValueError, match=r"normalisation=.*two numbers"):
        Predictor(thin(depth=1), normalisation=rule)


def test_an_unknown_number_of_views_is_refused():
    with pytest.raises(ValueError, match=r"views=3.*8"):
        Predictor(thin(depth=1), views=3)


def test_deep_images_are_cut_where_training_cut_them():
    """A hot pixel of 16 bits counts as white, as in the 8 bits of training."""
    deep = 16 * picture(24, 30).astype(np.uint16)
    deep[3, 4] = 60_000
    shallow = np.minimum(deep / 16, 255).round().astype(np.uint8)
    net = thin(depth=1)
    plain, cut = Predictor(net), Predictor(net, value_range=(0, 16 * 255))
    expected = plain.probabilities(shallow)
    assert np.abs(cut.probabilities(deep) - expected).max() < 1e-6
    assert np.abs(cut.probabilities(deep[None][[0, 0]])[1] - expected).max() < 1e-6
    assert np.abs(plain.probabilities(deep) - expected).max() > 1e-3
    tall = np.tile(deep, (50, 1))  # more than one band
    assert (cut(tall)[:1000] == plain(np.tile(shallow, (50, 1)))[:1000]).mean() > 0.999


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.full((9, 9), 900, np.uint16), "900 to 900"),
        (np.full((9, 9), 5000, np.uint16), "5000 to 5000"),
        (picture(9, 9), "uint8"),
        (picture(9, 9) / 255, "float64"),
    ],
)
def test_images_of_another_range_are_refused(image, found):
    ask = Predictor(thin(depth=1), value_range=(1000, 4000))
    with pytest.raises(ValueError, match=says(found, "1000 to 4000")):
        ask(image)


def test_a_range_rises():
    with pytest.raises(ValueError, match=says("value_range=(5, 5)", "rising")):
        Predictor(thin(depth=1), value_range=(5, 5))


def test_a_missing_or_broken_image_is_named(tmp_path):
    ask = predictor()
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        ask(tmp_path / "none.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        ask(tmp_path / "broken.jpg")


# The threshold


def test_one_half_is_the_likeliest_of_two():
    p = np.random.default_rng(0).random((1, 9, 9))
    p = np.concatenate([1 - p, p])
    assert np.array_equal(labels_at(p), p.argmax(0))


def test_a_threshold_is_about_all_of_the_foreground():
    p = np.array([0.4, 0.35, 0.25]).reshape(3, 1, 1)
    assert labels_at(p, 0.59) == 1 and labels_at(p, 0.61) == 0
    assert labels_at(p[[0, 2, 1]], 0.5) == 2


def test_the_labels_of_a_stack_are_those_of_its_images():
    """They were image numbers once: the first axis was taken for the classes."""
    p = np.random.default_rng(0).dirichlet((1, 1, 1), (5, 7, 6)).transpose(0, 3, 1, 2)
    due = np.stack([labels_at(one, 0.7) for one in p])  # (5, 7, 6)
    assert np.array_equal(labels_at(p, 0.7), due) and due.max() == 2
    ask = predictor(depth=1)
    stack = picture(3, 20, 30)
    assert np.array_equal(labels_at(ask.probabilities(stack)), ask(stack))


def test_many_classes_need_a_larger_type():
    p = np.zeros((300, 2, 2))
    p[299] = 1
    assert (labels_at(p) == 299).all()
    net = thin(depth=1, num_classes=300)
    assert label_map(net, picture(9, 9)).dtype == np.int32
    with pytest.raises(ValueError, match="uint8.*takes 299"):
        label_map(net, picture(9, 9), np.zeros((9, 9), np.uint8))


def test_the_ends_of_the_slider():
    p = np.random.default_rng(0).random((1, 9, 9)) * 0.98 + 0.01
    p = np.concatenate([1 - p, p])
    assert labels_at(p, 0).all() and not labels_at(p, 1).any()


# The file of a net


def test_a_run_is_known_by_its_best_net(tmp_path):
    save_net(tmp_path / "last.safetensors", thin(depth=1))
    with pytest.raises(FileNotFoundError, match=says("no best.safet", "last.safet")):
        Predictor.load(tmp_path)
    best = save_net(tmp_path / "best.safetensors", thin(depth=2))
    assert find_net(tmp_path) == find_net(best) == best
    assert Predictor.load(tmp_path).model.depth == 2


def test_a_missing_net_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Predictor.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no best"):
        Predictor.load(tmp_path / "empty")


@pytest.mark.parametrize("padding", [0, 1])
def test_predicting_leaves_no_gradients_and_the_mode_as_it_was(padding):
    net = thin(depth=1, norm="batch", padding=padding)
    expected = Predictor(net)(picture(9, 9))
    ask = Predictor(net.train())
    assert net.training and np.array_equal(ask(picture(9, 9)), expected)
    assert net.training and net.last.training
    assert not class_probabilities(net, picture(9, 9)).requires_grad


def test_a_predictor_leaves_the_net_where_it_is(monkeypatch):
    asked, here = [], torch.device("cpu")
    monkeypatch.setattr(module, "pick_device", lambda d: asked.append(d) or here)
    Predictor(thin(depth=1))
    assert not asked
    Predictor(thin(depth=1), "cpu")
    assert asked == ["cpu"]


def test_only_bytes_leave_the_device(monkeypatch):
    """What is moved to the CPU are labels of one byte, not logits or 64 bits."""
    moved, cpu = [], torch.Tensor.cpu
    watch = lambda x: moved.append(x) or cpu(x)  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "cpu", watch)
    for net in (thin(depth=1), thin(depth=1, padding=1)):
        for views in (1, 2, 7):
            Predictor(net, views=views)(picture(30, 40))
    large = [x for x in moved if x.numel() >= 30 * 40]
    assert len(large) == 6 and {x.dtype for x in large} == {torch.uint8}


def test_a_name_in_place_of_a_net():
    with pytest.raises(TypeError, match="str.* is no UNet; Predictor.load"):
        Predictor("run")
