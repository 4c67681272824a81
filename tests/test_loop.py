"""Predict, correct, train on: what is written is read back right."""

import json
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from samples import save, says, thin_net

from unet_tutorial.cli import main
from unet_tutorial.data.annotations import write_masks
from unet_tutorial.data.check import check_pairs
from unet_tutorial.data.datasets import mask_notes, open_folder
from unet_tutorial.data.images import BadFile, check_free, mask_values, read_mask
from unet_tutorial.data.outputs import write_mask
from unet_tutorial.deploy.folder import predict_files
from unet_tutorial.deploy.live import Desk
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.recipes import read_recipe
from unet_tutorial.runs.weights import check_notes, load_net, save_net

UNKNOWN = -100
SQUARE = np.zeros((32, 40), np.uint8)
SQUARE[8:20, 10:30] = 1
HALF = np.s_[:, 20:]  # what nobody annotated
SHORT = "--device cpu --size 32x40 --steps 2 --workers 0".split()
SMALL = {"base_channels": 4, "depth": 2}


def image_of(number):
    noise = np.random.default_rng(number).integers(0, 60, SQUARE.shape)
    return np.uint8(150 * SQUARE + noise)


def data(home, thing, unknown=None, count=4):
    """Draw images, and masks in which the object, and perhaps a half, has a number."""
    for number in range(count):
        mask = thing * SQUARE
        if unknown is not None:
            mask[HALF] = unknown
        save(home / f"images/{number}.png", image_of(number))
        save(home / f"masks/{number}_mask.png", mask)
    return str(home / "images"), str(home / "masks")


def train(home, out, *more):
    images, masks = str(home / "images"), str(home / "masks")
    recipe = asdict(read_recipe("modern"))
    recipe |= {"net": recipe["net"] | SMALL, "tile": 32, "tiles": 4}
    file = home / "small.json"
    file.write_text(json.dumps(recipe))
    line = ["train", "--kind", "folder", "--data", images, "--masks", masks]
    return main([*line, "--out", str(out), "--recipe", str(file), *SHORT, *more])


def see_objects_only(run):
    """Let the net of a run answer 1 everywhere: two steps have taught it nothing."""
    net, notes = load_net(run / "best.safetensors")
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.copy_(torch.tensor([-5.0, 5.0]))
    save_net(run / "best.safetensors", net, overwrite=True, **notes)


def add_corrected(home, answer, unknown):
    """Correct a mask as a person would: clear the ground, and say what is unknown."""
    image = Image.open(answer)
    mask = np.array(image)
    mask[SQUARE == 0] = 0
    if unknown is not None:
        mask[HALF] = unknown
    save(home / "images/new.png", image_of(9))
    Image.fromarray(mask).save(home / "masks/new_mask.png")


# The whole loop


PAIRS = [(255, 1), (1, 200)]


@pytest.mark.parametrize(("ignore", "thing"), PAIRS)
def test_first_ignored_then_predicted_and_trained_on(tmp_path, capsys, ignore, thing):
    data(tmp_path, thing, ignore)
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(tmp_path, first, "--ignore", str(ignore)) == 0
    see_objects_only(first)
    save(tmp_path / "new/new.png", image_of(9))
    capsys.readouterr()
    line = ["predict", str(first), str(tmp_path / "new"), "--to", str(tmp_path / "to")]
    assert main(line) == 0
    told = capsys.readouterr().out
    free = 1 if ignore == 255 else 255
    assert ("1 for object (for ignore 255" in told) == (ignore == 255)
    answer = np.array(Image.open(tmp_path / "to/new_mask.png"))
    assert (answer == free).all()
    add_corrected(tmp_path, tmp_path / "to/new_mask.png", ignore)
    folders = tmp_path / "images", tmp_path / "masks"
    labels = open_folder(*folders, ignore=ignore).labels(4)
    wanted = SQUARE.astype(int)
    wanted[HALF] = UNKNOWN
    assert (labels == wanted).all()
    report = check_pairs(*folders, ignore=ignore)
    assert not any("alone" in note.cause for note in report.notes)
    assert (report.problems == []) == (thing == 1)  # 200 and 255 differ
    line = ["train", "--from", str(first), "--out", str(second), "--device", "cpu"]
    assert main([*line, "--steps", "2", "--workers", "0"]) == 0
    assert "in 5 of 5 masks" in capsys.readouterr().out
    notes = load_net(second / "best.safetensors")[1]
    assert notes["masks"] == {"ignore": ignore}


@pytest.mark.parametrize("thing", [1, 255])
def test_first_predicted_then_ignored(tmp_path, capsys, thing):
    data(tmp_path, thing)
    first = tmp_path / "first"
    assert train(tmp_path, first) == 0
    assert "masks" not in load_net(first / "best.safetensors")[1]
    see_objects_only(first)
    save(tmp_path / "new/new.png", image_of(9))
    line = ["predict", str(first), str(tmp_path / "new"), "--to", str(tmp_path / "to")]
    assert main(line) == 0
    answer = tmp_path / "to/new_mask.png"
    assert (np.array(Image.open(answer)) == 255).all()  # one can see it
    save(tmp_path / "images/new.png", image_of(9))
    (tmp_path / "masks/new_mask.png").write_bytes(answer.read_bytes())
    assert check_pairs(tmp_path / "images", tmp_path / "masks").problems == []
    again = ["train", "--from", str(first), "--out", str(tmp_path / "second")]
    again += ["--device", "cpu", "--steps", "2", "--workers", "0", "--ignore", "255"]
    capsys.readouterr()
    assert main(again) == 1
    told = capsys.readouterr().err
    assert says("new_mask.png", "255 as a class", "--ignore 255").match(told)
    assert not (tmp_path / "second").exists()
    assert main([*line, "--overwrite", "--ignore", "255"]) == 0
    assert "1 for object" in capsys.readouterr().out
    add_corrected(tmp_path, answer, 255)
    if thing == 1:
        assert main(again) == 0
        assert "in 1 of 5 masks" in capsys.readouterr().out
        return
    assert main(again) == 1  # the four first masks would have their object left out
    told = " ".join(capsys.readouterr().err.split())
    assert says("255 is in 5 of 5", "left in 4 of them", "is it the object").match(told)
    assert not (tmp_path / "second").exists()


def test_masks_of_annotations_join_those_with_an_ignored_value(tmp_path, capsys):
    data(tmp_path, 1, 255)
    drawn = save(tmp_path / "drawn/new.png", image_of(9))
    corners = [[10, 8], [30, 20]]
    shape = {"label": "cell", "points": corners, "shape_type": "rectangle"}
    drawn.with_suffix(".json").write_text(json.dumps({"shapes": [shape]}))
    line = ["masks", str(tmp_path / "drawn"), "--to", str(tmp_path / "masks")]
    assert main(line) == 0
    assert "--ignore 255" in capsys.readouterr().out
    save(tmp_path / "images/new.png", image_of(9))
    folders = tmp_path / "images", tmp_path / "masks"
    (problem,) = check_pairs(*folders, ignore=255).problems
    assert problem.cause == "was written with 255 as a class"
    with pytest.raises(BadFile, match="255 as a class"):
        open_folder(*folders, ignore=255).labels(4)
    assert main([*line, "--overwrite", "--ignore", "255"]) == 0
    assert "--ignore 255" not in capsys.readouterr().out
    assert check_pairs(*folders, ignore=255).problems == []
    assert (open_folder(*folders, ignore=255).labels(4) == SQUARE).all()
    with pytest.raises(ValueError, match="ignore=0 is also a class"):
        write_masks(tmp_path / "drawn", tmp_path / "none", ignore=0)
    three = {"classes": ("background", "cell", "dirt")}
    with pytest.raises(ValueError, match="ignore=2 is also a class"):
        write_masks(tmp_path / "drawn", tmp_path / "none", ignore=2, **three)


def test_no_object_gets_the_number_that_is_ignored(tmp_path):
    save(tmp_path / "a.png", np.zeros((8, 40), np.uint8))
    boxes = [[[2 * n, 1], [2 * n + 1, 5]] for n in range(8)]
    shapes = [{"label": "cell", "points": b, "shape_type": "rectangle"} for b in boxes]
    (tmp_path / "a.json").write_text(json.dumps({"shapes": shapes}))
    options = {"objects": True, "ignore": 5}
    (path,), _ = write_masks(tmp_path, tmp_path / "masks", **options)
    assert np.unique(Image.open(path)).tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]


# The numbers


IGNORED = [None, 255, 1, 127, 254, (255, 255, 255), (255, 0, 0), [1, 1, 1]]


@pytest.mark.parametrize("ignore", IGNORED, ids=str)
@pytest.mark.parametrize("threshold", [None, 0, 0.5, 127, 254, 300])
@pytest.mark.parametrize("invert", [False, True])
def test_what_is_written_is_read_as_it_was_meant(tmp_path, ignore, threshold, invert):
    options = {"ignore": ignore, "threshold": threshold, "invert": invert}
    values = mask_values(**options)
    path = write_mask(tmp_path / "a.png", SQUARE, values=values)
    assert (read_mask(path, **options) == SQUARE).all()
    assert mask_values(2) == (0, 255)
    if threshold is None and ignore not in (255, (255, 255, 255)):
        assert set(values) == {0, 255}  # one can see it


def test_numbers_of_several_classes(tmp_path):
    labels = np.arange(6).reshape(2, 3) % 3
    assert mask_values(3) == (0, 1, 2) and mask_values(3, values=(7, 9, 4)) == (7, 9, 4)
    for values in ((0, 128, 255), (3, 1000, 2)):
        path = write_mask(tmp_path / "a.png", labels, True, 3, "", values)
        assert (np.array(Image.open(path)) == np.array(values)[labels]).all()
    for wrong in ((0, 1), (0, -1, 2), (0, 1, 2**16)):
        with pytest.raises(ValueError, match="one number per class"):
            write_mask(tmp_path / "b.png", labels, num_classes=3, values=wrong)
    with pytest.raises(ValueError, match="ignore=0 is also a class"):
        check_free(mask_values(ignore=0), 0)


def test_a_net_remembers_how_its_masks_were_read(tmp_path, capsys):
    images, _ = data(tmp_path, 1)
    out = tmp_path / "run"
    for number in range(4):  # the object is 0
        save(tmp_path / f"masks/{number}_mask.png", 255 - 255 * SQUARE)
    assert train(tmp_path, out, "--invert") == 0
    see_objects_only(out)
    assert Predictor.load(out, "cpu").notes.masks == {"invert": True}
    (path,) = predict_files(out, f"{images}/0.png", tmp_path / "to", device="cpu")
    assert (np.array(Image.open(path)) == 0).all()  # where every pixel is object
    with pytest.warns(UserWarning, match="take the masks"):
        kinds = {"write": ["labels"], "device": "cpu"}
        predict_files(out, f"{images}/0.png", tmp_path / "labels", **kinds)


def test_notes_of_masks_are_checked():
    check_notes({"masks": {"ignore": [255, 0, 0], "threshold": 0.5, "invert": True}})
    wrong = {"ignore": "255"}, {"values": 3}, {"what": 1}, {"invert": 1}, [255]
    for masks in wrong:
        with pytest.raises(ValueError, match="note masks is"):
            check_notes({"masks": masks})


def test_a_predictor_says_nothing_about_usual_masks_and_is_not_changed(tmp_path):
    net = Predictor(thin_net(), "cpu", masks={"invert": True})
    save(tmp_path / "a.png", image_of(0))
    said = []
    known = {"announce": said.append, "ignore": 255}
    (path,) = predict_files(net, tmp_path / "a.png", tmp_path / "to", **known)
    assert said == [
        "masks hold 1 for background, 0 for object (for invert True, ignore 255, as in "
        "training); they look black, the overlays do not"
    ]
    assert net.notes.masks == {"invert": True}
    labels = net(image_of(0))
    assert (np.array(Image.open(path)) == 1 - labels).all()
    with pytest.raises(ValueError, match="ignore=0 is also a class"):
        predict_files(net, tmp_path / "a.png", tmp_path / "none", ignore=0)
    said.clear()
    plain = Predictor(thin_net(), "cpu")
    predict_files(plain, tmp_path / "a.png", tmp_path / "b", announce=said.append)
    assert said == []


def test_the_page_of_a_net_writes_for_the_same_reader(tmp_path):
    net = Predictor(thin_net(), "cpu", masks={"ignore": 255})
    desk = Desk(net, tmp_path)
    desk.open("a.png", image_of(0))
    assert desk.save(0.0, False).startswith("written: ")
    assert set(np.unique(Image.open(tmp_path / "a_mask.png"))) <= {0, 1}


def test_a_mask_of_ours_that_somebody_has_renumbered_is_read(tmp_path):
    path = write_mask(tmp_path / "a.png", SQUARE)
    with pytest.raises(BadFile, match="255 as a class"):
        read_mask(path, ignore=255)
    assert (read_mask(path, ignore=127) == SQUARE).all()
    with Image.open(path) as image:
        notes = image.info
    changed = SQUARE.copy()
    changed[HALF] = 255
    kept = PngImagePlugin.PngInfo()
    for name in ("Software", "Source", "Values"):
        kept.add_text(name, notes[name])
    Image.fromarray(changed).save(path, pnginfo=kept)
    assert (read_mask(path, ignore=255)[HALF] == UNKNOWN).all()


# The object named as what is unknown


def test_a_value_that_is_the_object_is_named_with_what_would_work(tmp_path, capsys):
    images, masks = data(tmp_path, 1)
    folders = tmp_path / "images", tmp_path / "masks"
    with pytest.raises(ValueError) as error:
        mask_notes(open_folder(*folders, ignore=1))
    words = "in 4 of 4 masks", "is it the object", "ignore=1 away", "hold 0, 1"
    assert says(*words).match(str(error.value))
    assert main(["check", images, masks, "--ignore", "1"]) == 1
    told = capsys.readouterr().out
    assert says("in 4 of the masks", "--ignore 1 away").match(told)


def test_the_background_named_as_what_is_unknown(tmp_path):
    data(tmp_path, 255)
    folders = tmp_path / "images", tmp_path / "masks"
    with pytest.raises(ValueError, match="nothing but object is left"):
        mask_notes(open_folder(*folders, ignore=0))
    (problem,) = check_pairs(*folders, ignore=0).problems
    assert problem.cause == "no mask holds background"
    assert "is the value 0 the background?" in problem.remedy


def test_object_and_unknown_exchanged(tmp_path, capsys):
    images, masks = data(tmp_path, 1, 255)
    folders = tmp_path / "images", tmp_path / "masks"
    source = open_folder(*folders, ignore=1)
    assert says("other way round", "1 the object", "ignore=255").match(
        mask_notes(source)[0]
    )
    assert main(["check", images, masks, "--ignore", "1"]) == 0
    told = capsys.readouterr().out
    assert says("4 files: has 255 as its object", "--ignore 255").match(told)
    assert "other way" not in str(mask_notes(open_folder(*folders, ignore=255)))


# Images without masks


def only_some(home):
    images, masks = data(home, 255, count=6)
    for number in (1, 4):
        (home / f"masks/{number}_mask.png").unlink()
    return images, masks


def test_images_without_a_mask_are_refused_and_the_option_is_named(tmp_path, capsys):
    images, masks = only_some(tmp_path)
    assert main(["check", images, masks]) == 1
    assert "--only-annotated" in capsys.readouterr().out
    assert train(tmp_path, tmp_path / "run") == 1
    assert says("1.png", "4.png", "--only-annotated").match(capsys.readouterr().err)
    with pytest.raises(ValueError, match="only_annotated=True"):
        open_folder(images, masks)


def test_they_are_left_out_when_asked_for_and_a_run_remembers_it(tmp_path, capsys):
    images, masks = only_some(tmp_path)
    assert main(["check", images, masks, "--only-annotated"]) == 0
    told = capsys.readouterr().out
    assert says("2 files: no mask", "left out", "4 pairs").match(told)
    source = open_folder(images, masks, only_annotated=True)
    assert [
        item.image.name for item in source.items
    ] == "0.png 2.png 3.png 5.png".split()
    assert says("2 images", "left out", "1.png, 4.png").match(source.note)
    run = tmp_path / "run"
    assert train(tmp_path, run, "--only-annotated") == 0
    told = capsys.readouterr().out
    assert "2 images have no mask and are left out (1.png, 4.png)" in told
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    save(tmp_path / "masks/1_mask.png", 255 * SQUARE)  # one more is annotated
    line = ["train", "--from", str(run), "--out", str(tmp_path / "on"), "--device"]
    assert main([*line, "cpu", "--steps", "2", "--workers", "0"]) == 0
    assert "1 images have no mask" in capsys.readouterr().out


def test_a_mask_without_an_image_is_still_a_problem(tmp_path):
    images, masks = only_some(tmp_path)
    save(tmp_path / "masks/7_mask.png", SQUARE)
    with pytest.raises(ValueError, match=says("no image of that name", "7_mask.png")):
        open_folder(images, masks, only_annotated=True)
    report = check_pairs(images, masks, only_annotated=True)
    assert [problem.cause for problem in report.problems] == ["no image of that name"]


def test_a_rule_that_pairs_nothing_is_no_empty_source(tmp_path):
    images, masks = data(tmp_path, 255)
    with pytest.raises((ValueError, FileNotFoundError)):
        open_folder(images, masks, "_label", only_annotated=True)


def test_empty_masks_are_counted_before_training(tmp_path, capsys):
    images, masks = data(tmp_path, 255, count=6)
    for number in (2, 3):
        save(tmp_path / f"masks/{number}_mask.png", 0 * SQUARE)
    source = open_folder(images, masks)
    (note,) = mask_notes(source)
    assert says("2 of 6 masks hold no object", "2_mask.png, 3_mask.png").match(note)
    assert train(tmp_path, tmp_path / "run") == 0
    told = capsys.readouterr().out
    assert says("2 of 6 masks hold no object", "--only-annotated").match(told)
    assert main(["check", images, masks]) == 0
    assert says("2 files: shows no object", "--only-annotated").match(
        capsys.readouterr().out
    )


# COCO


@pytest.fixture
def listed(tmp_path):
    """A COCO file that lists four images, and says something about two of them."""
    names = [f"{number}.png" for number in range(4)]
    for number, name in enumerate(names):
        save(tmp_path / "images" / name, image_of(number))
    box = [10, 8, 30, 8, 30, 20, 10, 20]
    drawn = {"id": 1, "category_id": 1, "segmentation": [box]}
    found = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{**drawn, "id": n, "image_id": n} for n in (0, 2)],
    }
    path = tmp_path / "all.json"
    path.write_text(json.dumps(found))
    return tmp_path, path


def test_images_that_are_listed_without_annotations_are_named(listed, capsys):
    home, path = listed
    line = ["masks", str(home / "images"), str(path), "--to", str(home / "masks")]
    assert main(line) == 0
    told = capsys.readouterr()
    words = "nothing is drawn on 2 of 4 images (1.png, 3.png)", "--only-annotated"
    assert says(*words).match(told.err)
    assert "4 masks written" in told.out
    (note,) = mask_notes(open_folder(home / "images", home / "masks"))
    assert "2 of 4 masks hold no object" in note


def test_they_are_left_out_from_masks_to_training(listed, capsys):
    home, path = listed
    line = ["masks", str(home / "images"), str(path), "--to", str(home / "masks")]
    assert main([*line, "--only-annotated"]) == 0
    told = capsys.readouterr()
    assert told.err == "" and "2 masks written" in told.out
    assert says("no annotations", "1.png", "3.png").match(told.out)
    both = str(home / "images"), str(home / "masks")
    assert main(["check", *both]) == 1
    assert main(["check", *both, "--only-annotated"]) == 0
    source = open_folder(*both, only_annotated=True)
    assert [(source.labels(n) == SQUARE).all() for n in range(len(source))] == [
        True
    ] * 2


def test_a_file_about_nothing_is_no_folder_of_masks(tmp_path):
    save(tmp_path / "a.png", image_of(0))
    (tmp_path / "a.json").write_text(json.dumps({"shapes": []}))
    with pytest.warns(UserWarning, match="nothing is drawn on 1 of 1 images"):
        masks, bare = write_masks(tmp_path, tmp_path / "empty")
    assert not read_mask(masks[0]).any() and bare == []
    with pytest.raises(ValueError, match="nothing is drawn on any image"):
        write_masks(tmp_path, tmp_path / "none", only_annotated=True)


# Channels and range in one go


def deep(home, name, tops, kind=np.uint16, channels=5):
    """Write images of several channels and more than 8 bits; their masks are small."""
    rng = np.random.default_rng(0)
    (home / "images").mkdir(parents=True)
    for number, top in enumerate(tops):
        pixels = (rng.random((*SQUARE.shape, channels)) * top).astype(kind)
        pixels[0, 0] = top
        pixels = pixels[..., 0] if channels == 1 else pixels
        if name == "first":
            pixels = np.moveaxis(pixels, 2, 0)
        np.save(home / f"images/{number}.npy", pixels)
        save(home / f"masks/{number}_mask.png", 255 * SQUARE)
    return str(home / "images"), str(home / "masks")


KINDS = [(np.uint16, "0 32767"), (np.float32, "0 19900")]
CASES = [*product(["first", "last"], KINDS)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_channels_and_range_are_asked_for_at_once(tmp_path, capsys, name, kind):
    both = deep(tmp_path, name, (900, 4000, 19900), kind[0])
    assert main(["check", *both]) == 1
    told = capsys.readouterr().out
    options = f"--channels 5 and --range {kind[1]}"
    assert f"all images would be read with {options}\n" in told
    assert "size of its image" not in told
    line = ["check", *both, *options.replace(" and", "").split()]
    assert main(line) == 0
    told = capsys.readouterr().out
    assert "3 pairs without a problem" in told and "cut off" not in told
    report = check_pairs(*both)
    assert set(report.suggested) == {"channels", "value_range"}
    assert "Remedy: all images would be read with channels=5 and" in str(report)
    assert not check_pairs(*both, **report.suggested).problems


def test_one_range_for_all_files_and_not_one_per_file(tmp_path, capsys):
    both = deep(tmp_path, "last", (900, 4000, 19900), channels=1)
    assert main(["check", *both]) == 1
    told = capsys.readouterr().out
    assert told.count("--range 0 32767 would hold all") == 1
    assert "problem: 3 files: has more than 8 bits" in told
    assert "1023" not in told and "4095" not in told and "(0 to 900)" in told
    assert main(["check", *both, "--channels", "1"]) == 1
    assert "--range 0 32767" in capsys.readouterr().out


def test_fractions_and_numbers_below_0(tmp_path):
    both = deep(tmp_path, "last", (0.5, -3.25, 0.97), np.float32)
    low, high = check_pairs(*both).suggested["value_range"]
    assert low <= -3.25 and 0.97 <= high <= 1


def test_nothing_is_suggested_that_would_not_do(tmp_path):
    both = deep(tmp_path, "last", (900, 4000, 19900))
    np.save(tmp_path / "images/2.npy", np.zeros((*SQUARE.shape, 4), np.uint16))
    assert check_pairs(*both).suggested == {}
    (tmp_path / "images/2.npy").write_bytes(b"text")
    report = check_pairs(*both)  # a damaged file has its own problem
    assert report.suggested == {"channels": 5, "value_range": (0, 4095)}
