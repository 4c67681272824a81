"""From a folder of images to a folder of answers, nothing replaced unasked."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from samples import noise, save, save_stack, says, thin_net

from unet_tutorial.data.annotations import draw_annotations, read_annotations
from unet_tutorial.data.images import read_mask
from unet_tutorial.deploy.folder import predict_files
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.weights import save_net


@pytest.fixture(scope="module")
def predictor():
    return Predictor(thin_net(), torch.device("cpu"), classes=["a", "b"])


@pytest.fixture
def run(tmp_path):
    save_net(tmp_path / "run" / "best.safetensors", thin_net(), classes=["a", "b"])
    for name in ("one", "two"):
        save(tmp_path / "images" / f"{name}.png", noise(20, 33))
    return tmp_path


def names(paths):
    return sorted(path.name for path in paths)


def test_a_folder_becomes_a_folder(run, predictor):
    done = predict_files(run / "run", run / "images", run / "to" / "here")
    assert names(done) == ["one_mask.png", "two_mask.png"]
    assert names((run / "to" / "here").iterdir()) == names(done)
    assert np.array_equal(read_mask(done[0]), predictor(run / "images" / "one.png"))


ALL = ["mask", "labels", "probabilities", "overlay", "polygons"]


def test_all_kinds_of_answers_agree(run, predictor):
    image = run / "images" / "one.png"
    done = predict_files(predictor, image, run / "to", write=ALL)
    mask, labels, p, overlay, polygons = done
    due = predictor(image)
    assert np.array_equal(read_mask(mask), due)
    assert np.array_equal(np.asarray(Image.open(labels)), due)
    assert np.array_equal(np.load(p), predictor.probabilities(image))
    assert Image.open(overlay).size == (33, 20)
    features = json.loads(polygons.read_text())["features"]
    assert sum(one["properties"]["area"] for one in features) == due.sum()
    assert {one["properties"]["class"] for one in features} == {"b"}


def test_what_other_programs_open_comes_back(run, predictor):
    pytest.importorskip("roifile")
    image, write = run / "images" / "one.png", ["polygons", "coco", "rois", "table"]
    done = predict_files(predictor, image, run / "images", write=write)
    ends = ["one.geojson", "one.coco.json", "one.rois.zip", "one.table.csv"]
    assert [path.name for path in done] == ends
    due = predictor(image)
    for path in done[:3]:
        drawn = read_annotations(path, "one.png")
        assert np.array_equal(draw_annotations(drawn, due.shape, ["a", "b"]), due)
    head, *rows = done[3].read_text().splitlines()
    assert sum(int(row.split(",")[3]) for row in rows) == due.sum()
    assert head.split(",")[3] == "area_px" and "one.png,1,b," in rows[0]
    again = predict_files(predictor, image, run / "images", True, write)
    assert again == done  # ours, beside its image: replaced
    done[3].write_text("mine")
    with pytest.raises(FileExistsError, match=says("one.table.csv", "the truth?")):
        predict_files(predictor, image, run / "images", True, write)


def test_a_net_without_names_writes_plain_ones(run):
    net = Predictor(thin_net(num_classes=3), torch.device("cpu"))
    image = run / "images" / "one.png"
    (path,) = predict_files(net, image, run / "to", write=["coco"])
    kinds = json.loads(path.read_text())["categories"]
    assert [one["name"] for one in kinds] == ["class 1", "class 2"]


def test_rois_are_refused_before_any_work(run, predictor, monkeypatch, no_work):
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(ImportError, match="annotations"):
        predict_files(predictor, run / "images", run / "to", write=["mask", "rois"])


def test_probabilities_are_asked_for_once(run, predictor, monkeypatch):
    asked = []
    monkeypatch.setattr(Predictor, "__call__", None)
    ask = Predictor.probabilities

    def watched(self, image, axes=None):
        asked.append(1)
        return ask(self, image, axes)

    monkeypatch.setattr(Predictor, "probabilities", watched)
    predict_files(predictor, run / "images", run / "to", write=ALL)
    assert len(asked) == 1  # both images at once


def test_a_stack_becomes_numbered_files(run, predictor):
    pages = noise(3, 20, 33)
    stack = save_stack(run / "stack.tif", pages)
    done = predict_files(predictor, stack, run / "to")
    assert names(done) == [f"stack_00{page}_mask.png" for page in range(3)]
    assert np.array_equal(read_mask(done[2]), predictor(pages[2]))


def test_three_classes_are_written_in_colours(run):
    net = Predictor(thin_net(num_classes=3), torch.device("cpu"))
    [path, *_] = predict_files(net, run / "images", run / "to")
    assert Image.open(path).mode == "P"
    due = net(run / "images" / "one.png")
    assert np.array_equal(np.asarray(Image.open(path)), due)


def test_grey_images_among_colours_are_read_as_in_training(tmp_path):
    net = thin_net(in_channels=3, padding=1)
    predictor = Predictor(net, torch.device("cpu"))
    grey = noise(16, 24)
    save(tmp_path / "in" / "a.png", np.stack([grey] * 3, axis=-1))
    save(tmp_path / "in" / "b.png", grey)
    with pytest.warns(UserWarning, match="1 of 2 images are grey") as told:
        predict_files(predictor, tmp_path / "in", tmp_path / "out")
    assert "b.png" in str(told[0].message)
    both = [read_mask(path) for path in sorted((tmp_path / "out").glob("*.png"))]
    assert len(both) == 2 and np.array_equal(*both)


def test_options_reach_the_predictor(run):
    one = predict_files(run / "run", run / "images", run / "1", write=["probabilities"])
    options = {"views": 8, "device": torch.device("cpu")}
    eight = predict_files(
        run / "run", run / "images", run / "8", write=["probabilities"], **options
    )
    assert not np.allclose(np.load(one[0]), np.load(eight[0]), atol=1e-4)


# What is refused, before anything is done


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr(Predictor, "__call__", None)


@pytest.mark.parametrize("name", ["two_mask.png", "pile_000_mask.png"])
def test_nothing_is_begun_if_something_is_there(run, predictor, no_work, name):
    (run / "to").mkdir()
    save(run / "images" / "pile.tif", noise(5, 5))
    (run / "to" / name).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=says(name, "overwrite=True")):
        predict_files(predictor, run / "images", run / "to")
    assert (run / "to" / name).read_bytes() == b"precious"
    assert names((run / "to").iterdir()) == [name]


def test_a_page_of_another_image_is_in_nobodys_way(run, predictor):
    (run / "to").mkdir()
    (run / "to" / "two_000_mask.png").write_bytes(b"of a stack")  # two.png is none
    assert predict_files(predictor, run / "images", run / "to")
    assert (run / "to" / "two_000_mask.png").read_bytes() == b"of a stack"


def test_it_is_replaced_when_told(run, predictor):
    predict_files(predictor, run / "images", run / "to")
    (run / "to" / "one_mask.png").write_bytes(b"old")
    predict_files(predictor, run / "images", run / "to", overwrite=True)
    assert read_mask(run / "to" / "one_mask.png").shape == (20, 33)


def test_two_images_of_one_name_are_noticed(run, predictor, no_work):
    save(run / "other" / "one.tif", noise(5, 5))
    with pytest.raises(ValueError, match=says("one.png", "one.tif", "two folders")):
        predict_files(predictor, [run / "images", run / "other"], run / "to")
    assert not (run / "to").exists()


def test_a_stack_and_an_image_of_its_number_are_noticed(run, predictor, no_work):
    save_stack(run / "images" / "one.tif", noise(2, 9, 9))
    files = [run / "images" / "one.tif", run / "images" / "one_000.png"]
    save(files[1], noise(9, 9))
    with pytest.raises(ValueError, match=says("one.tif", "one_000.png", "one name")):
        predict_files(predictor, files, run / "to")


def test_an_output_that_is_a_file_is_refused(run, predictor, no_work):
    image = run / "images" / "one.png"
    with pytest.raises(NotADirectoryError, match=r"one\.png is a file"):
        predict_files(predictor, image, image)


def test_a_kind_that_is_not_known_is_refused(run, predictor, no_work):
    with pytest.raises(ValueError, match=says("masks", "mask, labels", "polygons")):
        predict_files(predictor, run / "images", run / "to", write=["masks"])


def test_no_images_are_an_error(run, predictor):
    (run / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty"):
        predict_files(predictor, run / "empty", run / "to")


def test_broken_images_are_named_and_do_not_stop_the_others(run, predictor):
    for name in "abcd":
        (run / "images" / f"{name}.png").write_bytes(b"no image")
    save(run / "images" / "colour.png", noise(9, 9, 3))
    words = "for 5 of 7", f"others are in {run / 'to'}", "a.png", "b.png", "c.png"
    words += "d.png", "colour.png", "channels"
    with pytest.raises(ValueError, match=says(*words)):
        predict_files(predictor, run / "images", run / "to")
    assert "one_mask.png" in names((run / "to").iterdir())
    with pytest.raises(ValueError, match=r"1 of 1 images\. \S*a\.png is"):
        predict_files(predictor, run / "images" / "a.png", run / "to")


def test_the_folder_of_the_images_can_take_the_answers(run, predictor):
    first = predict_files(predictor, run / "images", run / "images")
    again = predict_files(predictor, run / "images", run / "images", overwrite=True)
    assert first == again


def test_options_of_a_predictor_that_is_ready_are_refused(run, predictor):
    with pytest.raises(ValueError, match=says("views", "Predictor.load")):
        predict_files(predictor, run / "images", run / "to", views=8)


# Several at once


def test_files_of_one_size_share_a_call_and_the_others_do_not_mind(tmp_path):
    "The answers are those of one file at a time, whatever is between them."
    net = Predictor(thin_net(padding=1, norm="batch"), torch.device("cpu"))
    for number, size in enumerate([(20, 33), (20, 33), (9, 7), (20, 33)]):
        save(tmp_path / "images" / f"{number}.png", noise(*size))
    save_stack(tmp_path / "images" / "2_stack.tif", noise(3, 20, 33))
    done = predict_files(net, tmp_path / "images", tmp_path / "to", write="labels")
    assert len(done) == 7
    for number in range(4):
        labels = np.asarray(Image.open(tmp_path / "to" / f"{number}_labels.png"))
        assert np.array_equal(labels, net(tmp_path / "images" / f"{number}.png"))
    page = np.asarray(Image.open(tmp_path / "to" / "2_stack_001_labels.png"))
    assert np.array_equal(page, net(tmp_path / "images" / "2_stack.tif")[1])


def test_one_image_at_fault_does_not_cost_its_neighbours(tmp_path):
    net = Predictor(thin_net(), torch.device("cpu"))
    for number in range(3):
        save(tmp_path / "images" / f"{number}.tif", noise(20, 33) / 255)
    gap = np.ones((20, 33), np.float32)
    gap[3, 4] = np.nan
    save(tmp_path / "images" / "1.tif", gap)
    with pytest.raises(ValueError, match=says("1 of 3 images", "1.tif", "row 3")):
        predict_files(net, tmp_path / "images", tmp_path / "to")
    assert names((tmp_path / "to").iterdir()) == ["0_mask.png", "2_mask.png"]


def test_swapped_and_misspelt_names_are_told(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "new_images" / "a.png", noise(30, 30))
    with pytest.raises(ValueError, match=says("named first", "run new_images")):
        predict_files("new_images", ["run"], "out")
    with pytest.raises(FileNotFoundError, match="Is it new_images?"):
        predict_files("run", "new_image", "out")
    with pytest.raises(FileNotFoundError, match="Is it run?"):
        predict_files("runn", "new_images", "out")


def test_answers_among_the_images_are_announced(run, tmp_path):
    place, said = save(tmp_path / "images" / "a.png", noise(30, 30)).parent, []
    predict_files(tmp_path / "run", place, tmp_path / "out", announce=said.append)
    assert not [text for text in said if "among them" in text]
    predict_files(tmp_path / "run", place, place, announce=said.append)
    assert [text for text in said if "among them" in text and "far.csv" in text]
