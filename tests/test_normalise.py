"""One mean and deviation for all images: a crop and its slide must not differ."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from samples import noise, says, thin_net

from unet_tutorial.cli import main
from unet_tutorial.data.crops import Whole, Windows
from unet_tutorial.data.datasets import open_folder
from unet_tutorial.data.far import mean_and_std_of_set
from unet_tutorial.data.photos import ImagePairs, byte_image, to_tensor
from unet_tutorial.data.slides import predict_slide
from unet_tutorial.deploy.folder import predict_files
from unet_tutorial.deploy.package import _applied, _before
from unet_tutorial.predict import Predictor, class_probabilities, label_map
from unet_tutorial.runs.recipes import Net, as_dict, read_plan, read_recipe, split
from unet_tutorial.runs.run import evaluate_run, resume_run, train_run
from unet_tutorial.runs.weights import check_notes, load_net, save_net

RULE = [[90.0, 120.0, 60.0], [40.0, 30.0, 55.0]]


@pytest.fixture
def folder(tmp_path):
    "Six images and masks, each darker than the one before."
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for n in range(6):
        image = (noise(48, 48) * (1 - 0.12 * n)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{n}.png")
        mask = np.zeros((48, 48), np.uint8)
        mask[8 : 20 + n, 8:30] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{n}.png")
    return tmp_path


def small_recipe():
    values = as_dict(read_recipe("modern"))
    net = Net(base_channels=2, depth=2, padding=1, norm="batch", dropout=0.0)
    few = {"tile": 32, "tiles": 4, "batch": 2, "epochs": 1, "amp": False}
    return values | {"net": as_dict(net)} | few


def trained(folder, out="run", **options):
    data = {"kind": "folder", "data": folder / "images", "out": folder / out}
    data |= {"options": {"masks": str(folder / "masks")}, "recipe": small_recipe()}
    return train_run(**data, size="native", device="cpu", **options)


@pytest.mark.parametrize("normalisation", ["image", [100.0, 50.0], [[100.0], [50.0]]])
def test_a_crop_answers_as_its_slide_where_all_are_standardised_alike(normalisation):
    slide = noise(160, 160)
    slide[100:] //= 4  # so that the crop is brighter than the slide
    net = thin_net(depth=2, in_channels=1, padding=1, norm="batch")
    ask = {"normalisation": normalisation}
    whole = class_probabilities(net, slide, **ask)
    part = class_probabilities(net, slide[16:96, 32:128], **ask)
    middle = np.s_[:, 24:56, 24:72]  # the margin sees less
    alike = torch.allclose(whole[:, 16:96, 32:128][middle], part[middle], atol=1e-6)
    assert alike == (normalisation != "image")


def test_the_same_holds_for_logits_of_slides_and_unpadded_nets():
    slide = np.stack([noise(150, 170), noise(150, 170) // 2, noise(150, 170) // 3])
    for switches in ({"padding": 1, "norm": "batch"}, {}):
        net = thin_net(depth=1, in_channels=3, **switches)
        whole = np.empty((2, 150, 170), np.float32)
        predict_slide(net, slide, whole, tile=40, standardise=RULE)
        crop, part = slide[:, 20:110, 40:140], np.empty((2, 90, 100), np.float32)
        predict_slide(net, crop, part, tile=40, standardise=RULE)
        inner = np.s_[:, 20:-20, 20:-20]
        there = whole[:, 20:110, 40:140][inner]
        assert np.allclose(there, part[inner], atol=1e-5)
        assert np.array_equal(there.argmax(0), part[inner].argmax(0))


def test_mean_and_deviation_are_exact_per_channel():
    pages = [noise(9, 11, 3) for _ in range(5)]

    class Pages:
        def __len__(self):
            return len(pages)

        def image(self, index, size):
            return pages[index]

    mean, std = mean_and_std_of_set(Pages())
    every = np.concatenate([page.reshape(-1, 3) for page in pages]).astype(np.float64)
    assert np.allclose(mean, every.mean(0), rtol=1e-13)
    assert np.allclose(std, every.std(0), rtol=1e-12)
    few, _ = mean_and_std_of_set(Pages(), limit=2)  # the first and the last
    ends = np.concatenate([pages[0].reshape(-1, 3), pages[4].reshape(-1, 3)])
    assert np.allclose(few, ends.mean(0))
    pages[:] = [np.full((4, 4), 7, np.uint8)]
    assert mean_and_std_of_set(Pages()) == ((7.0,), (1.0,))


def test_all_data_sets_give_what_prediction_sees(tmp_path):
    image, labels = noise(32, 32, 3), np.zeros((32, 32), np.uint8)
    expected = (image - np.array(RULE[0])) / np.array(RULE[1])
    expected = torch.tensor(np.moveaxis(expected, 2, 0)).float()
    assert torch.allclose(to_tensor(image, RULE), expected, atol=1e-6)
    assert torch.allclose(byte_image(image, RULE).to("cpu"), expected, atol=1e-6)
    two = torch.utils.data.default_collate([byte_image(image, RULE)] * 2)
    assert torch.allclose(two.to("cpu")[1], expected, atol=1e-6)
    for as_bytes in (False, True):
        options = {"as_bytes": as_bytes, "scale": RULE}
        window = Windows([(image, labels)], 32, 0, turn=False, **options)[0][0]
        whole = Whole([(image, labels)], **options)[0][0]
        for x in (window, whole):
            assert torch.allclose(x.to("cpu"), expected, atol=1e-6)
    save = Image.fromarray
    save(image).save(tmp_path / "a.png"), save(labels).save(tmp_path / "a_mask.png")
    source = open_folder(tmp_path)
    x = ImagePairs(source, (32, 32), as_bytes=True, scale=RULE)[0][0]
    assert torch.allclose(x.to("cpu"), expected, atol=1e-6)


def test_a_run_keeps_the_numbers_and_uses_them_everywhere(folder):
    said = []
    history = trained(folder, normalisation="set", announce=said.append)
    plan = read_plan(folder / "run")
    source = open_folder(folder / "images", folder / "masks")
    expected = mean_and_std_of_set(split(plan, source)[0])
    assert plan.normalisation == expected and "training set" in " ".join(said)
    _, notes = load_net(folder / "run" / "best.safetensors")
    assert notes["normalisation"] == [list(part) for part in expected]
    found = evaluate_run(folder / "run", device="cpu")
    assert abs(found["pixel error"] - history["pixel error"][-1]) < 1e-6
    predictor = Predictor.load(folder / "run", "cpu")
    assert predictor.notes.normalisation == notes["normalisation"]
    image = source.image(0)
    same = label_map(predictor.model, image, normalisation=notes["normalisation"])
    assert np.array_equal(predictor(image), same)
    assert resume_run(folder / "run", device="cpu", normalisation="set") == history
    with pytest.raises(ValueError, match=says("normalisation", "begun")):
        resume_run(folder / "run", device="cpu", normalisation="image")


def test_without_it_a_run_is_as_before(folder):
    trained(folder)
    text = (folder / "run" / "recipe.json").read_text("utf-8")
    assert "normalisation" not in json.loads(text)  # so its id is the old one
    assert load_net(folder / "run" / "best.safetensors")[1]["normalisation"] == "image"
    with pytest.raises(ValueError, match=says("normalisation='all'", '"set"')):
        trained(folder, out="other", normalisation="all")


def test_an_old_net_without_the_entries_works(tmp_path):
    net, image = thin_net(padding=1), noise(40, 40)
    path = save_net(tmp_path / "old.safetensors", net, classes=["background", "cell"])
    old = Predictor.load(path, "cpu")
    assert old.notes.normalisation == "image" and old.notes.learned is None
    assert np.array_equal(old(image), Predictor(net, "cpu")(image))
    Image.fromarray(image).save(tmp_path / "a.png")
    assert len(predict_files(path, tmp_path / "a.png", tmp_path / "to")) == 1


@pytest.mark.parametrize("depth", [8, 16])
def test_a_package_does_the_same_sum(depth):
    notes = {"normalisation": RULE}
    image = noise(20, 24, 3)
    if depth == 16:
        notes["value_range"] = [0, 4080]
    [*_, step] = _before(notes)
    assert step["id"] == "fixed_zero_mean_unit_variance"
    assert step["kwargs"]["axis"] == "channel" and len(step["kwargs"]["mean"]) == 3
    x = np.moveaxis(image, 2, 0)[None].astype(np.float32) * (16 if depth == 16 else 1)
    ready = _applied(_before(notes), x)[0]
    assert np.allclose(ready, to_tensor(image, RULE), atol=1e-5)
    one = _before({"normalisation": [[90.0], [40.0]]})[-1]["kwargs"]
    assert one == {"mean": 90.0, "std": 40.0}


@pytest.mark.parametrize(
    "rule",
    [[[1.0], [2.0, 3.0]], [[1.0], [0.0]], [[], []], [1.0, [2.0]], ["a", 1], "set"],
)
def test_numbers_that_are_none_are_refused(rule):
    with pytest.raises(ValueError, match="normalisation"):
        check_notes({"normalisation": rule})
    with pytest.raises(ValueError, match="normalisation"):
        Predictor(thin_net(padding=1), "cpu", normalisation=rule)


def test_numbers_of_other_channels_are_refused():
    with pytest.raises(ValueError, match=says("3 channels", "the image has 1")):
        Predictor(thin_net(padding=1), "cpu", normalisation=RULE)(noise(20, 20))


def test_the_command_takes_it(folder, capsys):
    small = folder / "small.json"
    small.write_text(json.dumps(small_recipe()), "utf-8")
    words = ["train", "--kind", "folder", "--data", folder / "images", "--masks"]
    words += [folder / "masks", "--out", folder / "run", "--recipe", small]
    words += ["--size", "native", "--device", "cpu", "--normalise", "set"]
    assert main([str(word) for word in words]) == 0
    assert "normalised by the training set" in capsys.readouterr().out
    assert read_plan(folder / "run").normalisation
