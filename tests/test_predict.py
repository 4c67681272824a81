"""An image of any size, and a mask of that size."""

import numpy as np
import pytest
import torch
from PIL import Image

from unet_tutorial.checkpoint import save_net
from unet_tutorial.data import read_mask
from unet_tutorial.loading import to_tensor
from unet_tutorial.model import UNet
from unet_tutorial.predict import (
    Predictor,
    class_probabilities,
    mirror_to_fit,
    write_mask,
)
from unet_tutorial.sizes import output_size


def thin(**switches):
    torch.manual_seed(0)
    return UNet(base_channels=2, **switches).eval()


def picture(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (37, 91), (200, 188), (388, 3)])
@pytest.mark.parametrize("depth", [1, 4])
def test_the_mirror_is_large_enough_and_a_mirror(size, depth):
    image = torch.rand(2, *size)
    out = mirror_to_fit(image, depth)
    margins = [n - output_size(n, depth) for n in out.shape[1:]]  # valid, or an error
    for side, mirrored, margin in zip(size, out.shape[1:], margins, strict=True):
        assert side <= mirrored - margin < side + 2**depth
    margin = margins[0] // 2
    rims = [(0, 0)] + [
        (margin, n - side - margin) for n, side in zip(out.shape[1:], size, strict=True)
    ]
    assert np.array_equal(out, np.pad(image.numpy(), rims, mode="reflect"))


NETS = [{}, {"depth": 2}, {"padding": 1, "norm": "batch"}, {"num_classes": 3}]


@pytest.mark.parametrize("switches", NETS)
@pytest.mark.parametrize("size", [(64, 64), (37, 91), (1, 1), (5, 130)])
def test_labels_have_the_size_of_the_image(switches, size):
    net = thin(**switches)
    labels = Predictor(net)(picture(*size))
    assert labels.shape == size and labels.dtype == np.uint8
    assert labels.max() < net.num_classes


def test_the_mirrored_prediction_is_that_of_a_larger_image_inside():
    """Where the margin shows real pixels, mirroring must not change the answer."""
    net, image = thin(depth=1), to_tensor(picture(64, 64))
    whole = class_probabilities(net, image[0].numpy())
    with torch.no_grad():
        inside = net(image[None])[0].softmax(0)  # (2, 48, 48), no mirror
    assert torch.allclose(whole[:, 8:-8, 8:-8], inside, atol=1e-5)


def test_probabilities_sum_to_one():
    p = class_probabilities(thin(num_classes=4), picture(50, 60))
    assert p.shape == (4, 50, 60) and p.min() >= 0
    assert torch.allclose(p.sum(0), torch.ones(50, 60), atol=1e-5)


def test_a_net_trained_small_answers_at_the_size_of_the_image(tmp_path):
    net = thin(in_channels=3, padding=1, norm="batch")
    path = save_net(tmp_path / "net.safetensors", net, size=(16, 24))
    predictor = Predictor.load(path)
    image = picture(80, 120, 3)
    assert predictor(image).shape == (80, 120)
    Image.fromarray(image).save(tmp_path / "image.png")
    from_file = predictor(tmp_path / "image.png")
    assert np.array_equal(from_file, predictor(image))
    small = class_probabilities(net, np.full((40, 60, 3), 7, np.uint8), (16, 24))
    assert small.shape == (2, 40, 60)


def test_one_class_is_refused_by_name():
    with pytest.raises(ValueError, match="background"):
        Predictor(thin(num_classes=1))(picture(32, 32))


def test_what_is_no_image_is_refused():
    with pytest.raises(TypeError, match=r"Tensor.*\(H, W\)"):
        Predictor(thin())(torch.zeros(1, 32, 32))


def test_an_image_with_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"has 3 channels, the net takes 1.*convert"):
        Predictor(thin())(picture(32, 32, 3))
    with pytest.raises(ValueError, match="has 1 channels, the net takes 3"):
        Predictor(thin(in_channels=3))(picture(32, 32))


def test_grey_saved_as_colours_is_grey():
    grey = picture(40, 50)
    predictor = Predictor(thin())
    assert np.array_equal(predictor(np.stack([grey] * 3, -1)), predictor(grey))


def test_a_missing_or_broken_image_is_named(tmp_path):
    predictor = Predictor(thin())
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        predictor(tmp_path / "none.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        predictor(tmp_path / "broken.jpg")


def test_a_mask_can_be_seen_and_read_back(tmp_path):
    mask = picture(20, 30) > 127
    path = write_mask(tmp_path / "new" / "mask.png", mask)
    assert set(np.unique(np.asarray(Image.open(path)))) == {0, 255}
    assert np.array_equal(read_mask(path), mask)
    assert [file.name for file in path.parent.iterdir()] == ["mask.png"]


@pytest.mark.parametrize("value", [0, 1])
def test_an_empty_and_a_full_mask(tmp_path, value):
    path = write_mask(tmp_path / "mask.png", np.full((4, 4), value))
    assert (read_mask(path) == value).all()


def test_many_classes_keep_their_numbers_and_get_colours(tmp_path):
    labels = np.arange(256).reshape(16, 16)
    path = write_mask(tmp_path / "labels.png", labels, num_classes=256)
    image = Image.open(path)
    assert np.array_equal(np.asarray(image), labels)
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert colours[0].sum() == 0 and colours[1:].sum(1).min() > 60  # not black


BAD_LABELS = {
    "beyond the classes": np.array([[0, 2]]),
    "negative": np.array([[-1, 0]]),
    "probabilities": np.array([[0.2, 0.9]]),
    "NaN": np.array([[np.nan, 1.0]]),
    "a batch": np.zeros((1, 4, 4)),
    "empty": np.zeros((0, 4)),
}


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS)
def test_what_is_no_label_map_is_refused(tmp_path, labels):
    with pytest.raises(ValueError, match=r"labels\.png: (labels|a label map)"):
        write_mask(tmp_path / "labels.png", labels)
    assert not list(tmp_path.iterdir())


def test_a_three_class_map_is_written_alike_whatever_it_holds(tmp_path):
    path = write_mask(tmp_path / "labels.png", np.eye(4, dtype=int), num_classes=3)
    assert np.asarray(Image.open(path)).max() == 1


def test_masks_are_not_replaced_unasked(tmp_path):
    path = write_mask(tmp_path / "mask.png", np.eye(4))
    with pytest.raises(FileExistsError, match=r"mask\.png.*overwrite=True"):
        write_mask(path, np.zeros((4, 4)))
    assert read_mask(path).sum() == 4
    write_mask(path, np.zeros((4, 4), int), overwrite=True)
    assert read_mask(path).sum() == 0


def test_masks_are_never_written_as_jpeg(tmp_path):
    with pytest.raises(ValueError, match=r"mask\.jpg.*\.png"):
        write_mask(tmp_path / "mask.jpg", np.eye(4))
