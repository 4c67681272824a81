"""The elastic grid among torchvision's transforms, and tv_tensors in elastic_deform."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from samples import photo_and_mask, says
from test_package import BLOCKED

from unet_tutorial.augment import elastic_deform
from unet_tutorial.data.crops import Windows
from unet_tutorial.data.loader import Seeded, make_loader
from unet_tutorial.data.photos import ImagePairs

tv_tensors = pytest.importorskip("torchvision.tv_tensors")
v2 = pytest.importorskip("torchvision.transforms.v2")
from unet_tutorial.data.transforms import ElasticGrid, ForArrays  # noqa: E402

H, W = 40, 50
LABELS = torch.arange(H * W).view(H, W)


def ramps():  # image (2, H, W): row and column of each pixel; mask: its number
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    image = torch.stack([rows, columns]).float()
    return tv_tensors.Image(image), tv_tensors.Mask(LABELS.clone())


def boxes():
    options = {"format": "XYXY", "canvas_size": (H, W)}
    return tv_tensors.BoundingBoxes(torch.rand(2, 4), **options)


def aligned(image, mask):
    places = torch.stack([mask // W, mask % W])
    return (torch.as_tensor(image) - places).abs().max() < 0.502


# elastic_deform


@pytest.mark.parametrize("wrapped", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_what_comes_in_as_an_image_or_a_mask_comes_out_as_one(wrapped):
    given = [x if w else torch.Tensor(x) for x, w in zip(ramps(), wrapped, strict=True)]
    given[1] = given[1] if wrapped[1] else LABELS
    bent = elastic_deform(*given, std=4, generator=torch.Generator().manual_seed(0))
    plain = elastic_deform(
        ramps()[0].as_subclass(torch.Tensor),
        LABELS,
        std=4,
        generator=torch.Generator().manual_seed(0),
    )
    kinds = (torch.Tensor, tv_tensors.Image), (torch.Tensor, tv_tensors.Mask)
    for x, y, kind, w in zip(bent, plain, kinds, wrapped, strict=True):
        assert type(x) is kind[w] and torch.equal(x.as_subclass(torch.Tensor), y)


def test_weights_and_batches_keep_their_types():
    image, mask = ramps()
    weights = tv_tensors.Mask(torch.rand(2, H, W))
    images = tv_tensors.Image(torch.stack([image, image]))
    masks = tv_tensors.Mask(torch.stack([mask, mask]))
    bent = elastic_deform(images, masks, weights=weights)
    assert [type(x).__name__ for x in bent] == ["Image", "Mask", "Mask"]
    assert not torch.equal(bent[1][0], bent[1][1])  # one field each


WRONG = {
    "boxes for labels": (lambda x, y: (x, boxes()), "label is BoundingBoxes"),
    "a video": (lambda x, y: (tv_tensors.Video(x[None]), y[None]), "is Video"),
    "a mask with a channel": (lambda x, y: (x, y[None]), "label[0]"),
    "bytes": (lambda x, y: (x.to(torch.uint8), y), "image.float()"),
    "the two swapped": (lambda x, y: (y, x), "swapped?"),
    "an array": (lambda x, y: (x.numpy(), y), "torch.as_tensor"),
    "a PIL image": (lambda x, y: (Image.new("L", (W, H)), y), "torch.as_tensor"),
    "nothing": (lambda x, y: (None, y), "NoneType"),
    "no channel": (lambda x, y: (x[0], y), "image[None]"),
    "another size": (lambda x, y: (x, y[1:]), "(39, 50)"),
    "a label of floats": (lambda x, y: (x, y.float()), "label.long()"),
    "a line": (lambda x, y: (x[:, :1], y[:1]), "give (C, H, W)"),
    "NaN": (lambda x, y: (x / 0, y), "nan_to_num"),
    "large labels": (lambda x, y: (x, y + 2**24), "2**24"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_uses_of_the_function_get_a_sentence(name):
    make, words = WRONG[name]
    with pytest.raises(ValueError, match=says(words)):
        elastic_deform(*make(*ramps()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"std": -1}, "0 or more"),
        ({"std": "10"}, "std='10'"),
        ({"std": float("nan")}, "0 or more"),
        ({"grid": 1}, "from 2"),
        ({"grid": 3.0}, "grid=3.0"),
        ({"generator": 0}, "torch.Generator"),
        ({"generator": np.random.default_rng(0)}, "torch.Generator"),
        ({"interpolation": "cubic"}, "'bicubic'"),
        ({"interpolation": None}, "'bicubic'"),
        ({"weights": LABELS}, "weights.float()"),
        ({"weights": [1]}, "torch.as_tensor"),
    ],
)
def test_wrong_options_of_the_function_get_a_sentence(options, words):
    with pytest.raises(ValueError, match=says(words)):
        elastic_deform(*ramps(), **options)


@pytest.mark.parametrize("std", [1e4, 1e30, 1e300])
def test_a_deviation_beyond_reason_ends_and_stays_within_the_labels(std):
    image, mask = ramps()
    for bent in (
        elastic_deform(image, mask % 3 + 5, std),
        ElasticGrid(std)(image, tv_tensors.Mask(mask % 3 + 5)),
    ):
        assert set(bent[1].unique().tolist()) <= {5, 6, 7}


# ElasticGrid


@pytest.mark.parametrize("form", ["pair", "dictionary", "nested"])
def test_image_and_mask_get_one_field(form):
    image, mask = ramps()
    bend = v2.Compose([v2.Identity(), ElasticGrid(std=6)])
    if form == "pair":
        bent, named = bend(image, mask)
    elif form == "dictionary":
        out = bend({"image": image, "target": mask, "name": "a.png", "id": 3})
        bent, named = out["image"], out["target"]
        assert (out["name"], out["id"]) == ("a.png", 3)
    else:
        bent, (named, number) = bend(image, (mask, torch.tensor(4)))
        assert number == 4
    assert type(bent) is tv_tensors.Image and type(named) is tv_tensors.Mask
    assert named.dtype == mask.dtype and aligned(bent, named)
    assert not torch.equal(named, mask)


def test_a_plain_tensor_is_the_image_where_there_is_no_other():
    image, mask = ramps()
    bent, named = ElasticGrid(std=6)(image.as_subclass(torch.Tensor), mask)
    assert type(bent) is torch.Tensor and aligned(bent, named)
    labels = torch.arange(4)
    assert ElasticGrid()(image, labels)[1] is labels


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.float64, torch.bool])
def test_images_of_every_type_keep_it(kind):
    image = tv_tensors.Image((torch.rand(3, H, W) * 255).to(kind))
    bent = ElasticGrid(std=6)(image)
    assert bent.dtype == kind and bent.shape == image.shape
    assert kind != torch.uint8 or (bent.float() - image.float()).abs().mean() > 1
    still = ElasticGrid(std=0)(image)
    assert (still.float() - image.float()).abs().max() < 1e-3


def test_bytes_become_what_floats_become():
    x = tv_tensors.Image((torch.rand(3, H, W) * 255).to(torch.uint8))
    torch.manual_seed(3)
    whole = ElasticGrid(std=6)(x)
    torch.manual_seed(3)
    assert (ElasticGrid(std=6)(x.float()) - whole.float()).abs().max() <= 0.501


def test_many_masks_videos_batches_and_weights():
    image, mask = ramps()
    weights = tv_tensors.Mask(image[0].as_subclass(torch.Tensor))
    masks = tv_tensors.Mask(torch.stack([mask, mask, mask]))
    video = tv_tensors.Video(image.expand(5, 2, H, W))
    bend = ElasticGrid(std=6)
    bent, many, smooth, frames = bend(image, masks, weights, video)
    assert torch.equal(many[0], many[2]) and aligned(bent, many[1])
    assert torch.allclose(smooth, bent[0])  # interpolated
    assert type(frames) is tv_tensors.Video and torch.equal(frames[4], frames[0])


def test_seeds_of_torch_decide_and_copies_are_equal():
    bend = ElasticGrid(std=6)
    copies = bend, pickle.loads(pickle.dumps(bend)), copy.deepcopy(bend)
    found = []
    for one in copies:
        torch.manual_seed(5)
        found.append(one(*ramps())[1])
    assert all(torch.equal(found[0], other) for other in found)
    assert not torch.equal(bend(*ramps())[1], bend(*ramps())[1])
    assert repr(bend) == "ElasticGrid(std=6, grid=3)"
    v2.RandomApply([bend], p=0.5)(*ramps())


class Pairs(torch.utils.data.Dataset):
    def __init__(self):
        self.change = v2.Compose([ElasticGrid(std=6), v2.ToDtype(torch.float32)])

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.change(*ramps())


def test_workers_differ_and_a_seed_repeats():
    def items(seed):
        options = {"generator": torch.Generator().manual_seed(seed)}
        loader = torch.utils.data.DataLoader(Pairs(), 1, num_workers=2, **options)
        return [mask.numpy().tobytes() for _, mask in loader]

    assert len(set(items(0))) == 8
    assert items(0) == items(0) != items(1)


REFUSED = {
    "boxes": (lambda x, y: (x, boxes()), "masks_to_boxes"),
    "a PIL image": (lambda x, y: (Image.new("L", (W, H)), y), "ToImage"),
    "arrays": (lambda x, y: (x.numpy(), y.numpy()), "ForArrays"),
    "an array beside an image": (lambda x, y: (x, y.numpy()), "ForArrays"),
    "nothing": (lambda x, y: ("a", 3), "nothing to bend"),
    "two sizes": (lambda x, y: (x, tv_tensors.Mask(y[1:])), "of one size"),
    "a line": (lambda x, y: (tv_tensors.Image(x[:, :1]),), "2 x 2"),
    "no pixel": (lambda x, y: (tv_tensors.Image(x[:, :0]),), "2 x 2"),
    "a number": (lambda x, y: (torch.tensor(3.0),), "2 x 2"),
    "NaN": (lambda x, y: (tv_tensors.Image(x / 0),), "NaN"),
    "complex": (lambda x, y: (torch.complex(x[0], x[1]),), "complex"),
    "large labels": (lambda x, y: (x, tv_tensors.Mask(y + 2**24)), "2**24"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_uses_of_the_transform_get_a_sentence(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=says(words)):
        ElasticGrid()(*make(*ramps()))


@pytest.mark.parametrize("options", [{"std": -1}, {"std": None}, {"grid": 1}])
def test_wrong_options_of_the_transform_are_refused(options):
    with pytest.raises(ValueError, match="give"):
        ElasticGrid(**options)


# ForArrays


class Drawn:  # a Source of three photographs
    instances, classes, channels, name = False, ("ground", "car"), 3, "drawn"

    def __len__(self):
        return 3

    def image(self, index, size):
        return photo_and_mask()[0][: size[0], : size[1]]

    def labels(self, index, size):
        return photo_and_mask()[1][: size[0], : size[1]].astype(np.uint8)


def test_image_pairs_and_windows_take_them():
    both = ForArrays(v2.Compose([ElasticGrid(std=5), v2.RandomHorizontalFlip()]))
    pairs = ImagePairs(Drawn(), (H, W), transform=both, as_bytes=True)
    alone, helped = (make_loader(Seeded(pairs), 2, workers=n) for n in (0, 2))
    for (x, y), (x2, y2) in zip(alone, helped, strict=True):
        assert torch.equal(x.pixels, x2.pixels) and torch.equal(y, y2)
    image, mask = photo_and_mask()
    for x in (image, image[..., 0]):
        example = x, np.uint8(mask), np.float32(mask)
        one, two = (Windows([example], 48, 8, 3, both) for _ in range(2))
        assert [y.shape[-2:] for y in one[0]] == [(48, 48), (32, 32), (32, 32)]
        assert all(map(torch.equal, one[1], two[1]))


def test_without_torchvision_the_room_says_what_to_install():
    code = (
        BLOCKED.format(names={"torchvision"}) + "import unet_tutorial.data.transforms"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert 'pip install "unet_tutorial[course]"' in done.stderr.splitlines()[-1]
