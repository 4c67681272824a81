"""Images that are far from what was learned: named, and not where there is nothing."""

import csv
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import noise, says, thin_net

from unet_tutorial.cli import main
from unet_tutorial.data.far import (
    FarImage,
    Remark,
    count_far,
    far_signs,
    image_signs,
    measure_learned,
    object_breadths,
    read_far,
    remarks,
    summarise,
    usual_breadth,
)
from unet_tutorial.data.inputs import one_channel_of, take_images
from unet_tutorial.data.pairs import Pair
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.deploy.folder import predict_files
from unet_tutorial.deploy.live import Desk
from unet_tutorial.predict import Predictor, look_at, silent
from unet_tutorial.runs.weights import check_notes, load_net, save_net
from unet_tutorial.synthetic import draw_cars, draw_cells, draw_membranes

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    import far as bench
finally:
    sys.path.remove(str(BENCHMARKS))

DRAW = {
    "cells": lambda n: draw_cells(size=128, seed=n),
    "membranes": lambda n: draw_membranes(size=128, seed=n),
    "cars": lambda n: draw_cars(n % 16, (96, 144), seed=n),
}
FAR = {  # change -> of which kinds most must be noticed, by which rule
    "inverted": ("membranes", "image"),
    "a quarter of the light": ("cells membranes cars", "set"),
    "twice the scale": ("cells membranes", "image"),
    "half the scale": ("membranes", "image"),
    "other stain": ("cells membranes cars", "image"),
}


@pytest.fixture(scope="module")
def counted():
    "Alarms of each kind: 8 images are learned from, 24 others are asked about."
    pairs = {kind: [draw(n) for n in range(32)] for kind, draw in DRAW.items()}
    return {kind: bench.alarms(some, 8, rounds=1) for kind, some in pairs.items()}


def test_at_most_one_in_fifty_alarms_is_false(counted):
    rows = [
        counted[kind]["as it is", rule] for kind in DRAW for rule in ("image", "set")
    ]
    alarms, images = sum(row[0] for row in rows), sum(row[1] for row in rows)
    assert images == 144 and alarms <= images / 50, rows


@pytest.mark.parametrize("change", FAR)
def test_most_of_the_far_ones_are_noticed(counted, change):
    kinds, rule = FAR[change]
    for kind in kinds.split():
        alarms, images, why = counted[kind][change, rule]
        assert alarms > 0.6 * images, (kind, why)


@pytest.fixture(scope="module")
def tissue():
    return [draw_membranes(size=128, seed=n) for n in range(8)]


@pytest.fixture(scope="module")
def learned(tissue):
    return measure_learned(bench.as_source(tissue))


def test_light_is_nothing_to_a_net_that_standardises_each_image(learned):
    image = draw_membranes(size=128, seed=50)[0]
    darker = (image / 4).round().astype(np.uint8)
    assert not remarks(learned, darker) and not remarks(learned, image / 255)
    kinds = [remark.kind for remark in remarks(learned, darker, fixed=True)]
    assert kinds == ["brightness", "contrast"]
    deep = image.astype(np.uint16) * 257
    assert not remarks(learned, deep, fixed=True)
    empty = (image // 40 + 100).astype(np.uint8)
    assert "contrast" in [remark.kind for remark in remarks(learned, empty)]


def test_inverted_is_called_so(learned):
    [remark] = remarks(learned, 255 - draw_membranes(size=128, seed=50)[0])
    assert remark.kind == "inverted" and "exchanged" in remark.text


def test_objects_of_another_breadth_are_named(learned):
    image, labels = draw_membranes(size=128, seed=50)
    assert not remarks(learned, image, labels)
    thick = np.zeros((128, 128), np.uint8)
    thick[30:90, 30:90] = 1
    [remark] = remarks(learned, image, thick)
    assert remark.kind == "breadth" and "broader" in remark.text
    enlarged = labels.repeat(2, 0).repeat(2, 1)  # the net saw it at half the size
    assert not remarks(learned, image, enlarged, size=(128, 128))
    assert remarks(learned, image, enlarged)[0].kind == "breadth"


def test_breadth_and_signs_of_odd_images():
    line = np.zeros((60, 60), int)
    line[:, 20:26] = 1
    assert usual_breadth(line) == pytest.approx(6 * 4 / np.pi)
    assert usual_breadth(np.zeros((4, 4), int)) is None
    assert usual_breadth(np.ones((4, 4), int)) is None
    assert image_signs(noise(15, 99)) == {}
    for constant in (np.zeros((40, 40)), np.full((40, 40, 3), 9, np.uint8)):
        assert np.isfinite(list(image_signs(constant).values())).all()


def test_one_by_one_and_together_are_one_measure():
    """The sums over objects are what a loop over neighbours counts, -100 left out."""
    rng = np.random.default_rng(0)
    for dtype in (np.int64, np.int16):
        labels = rng.integers(-1, 3, (40, 50)).repeat(3, 0).repeat(3, 1).astype(dtype)
        labels[labels < 0] = -100
        edge = 0
        for here, there in (labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]):
            for side in (here, there):
                edge += np.count_nonzero((here != there) & (side > 0))
        area = np.count_nonzero(labels > 0)
        assert usual_breadth(labels) == pytest.approx(2 * area / (edge * np.pi / 4))
    squares = np.zeros((60, 60), int)
    squares[5:15, 5:15], squares[30:50, 30:50] = 2**31 + 7, 3  # numbers, however large
    small, large = sorted(object_breadths(squares, instances=True))
    assert (small, large) == pytest.approx((20 / np.pi, 40 / np.pi))
    assert small < usual_breadth(squares) < large


def test_it_costs_little_whatever_the_size():
    slide = np.broadcast_to(noise(1, 4096), (4096 * 16, 4096))  # 268 million pixels
    assert image_signs(slide)["brightness"] > 0  # all of it in floats would be 2 GB


def test_what_is_learned_is_small_and_goes_with_the_net(learned, tmp_path):
    path = save_net(tmp_path / "net.safetensors", thin_net(padding=1), learned=learned)
    assert load_net(path)[1]["learned"] == learned
    assert len(str(learned)) < 2000
    for wrong in ({"detail": [1, 2, 3]}, {"images": 3, "detail": [2, 1, 0]}, [1]):
        with pytest.raises(ValueError, match="learned"):
            check_notes({"learned": wrong})


def test_a_predictor_warns_once_per_kind(learned, tissue):
    ask = Predictor(
        thin_net(padding=1), "cpu", learned={**learned, "breadth": [0, 99, 0]}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(tissue[0][0])
        silent(ask)(255 - tissue[0][0])
    with pytest.warns(FarImage, match=says("1 of 2 images", "image 1", "exchanged")):
        ask([tissue[0][0], 255 - tissue[1][0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(255 - tissue[2][0])  # it was said
        assert [one.kind for one in look_at(ask, 255 - tissue[2][0], ask(tissue[2][0]))]


@pytest.fixture
def files(learned, tissue, tmp_path):
    "A net's file, and five images of which two are inverted."
    known = {**learned, "breadth": [0, 99, 0]}
    save_net(tmp_path / "net.safetensors", thin_net(padding=1), learned=known)
    (tmp_path / "images").mkdir()
    for n in range(5):
        image = tissue[n][0] if n < 3 else 255 - tissue[n][0]
        Image.fromarray(image).save(tmp_path / "images" / f"{n}.png")
    return tmp_path


def test_files_are_counted_in_one_line_and_listed(files, capsys):
    net, to = files / "net.safetensors", files / "to"
    sentence = says(
        "2 of 5 images are unlike",
        "learned: bright and dark look exchanged",
        str(to / "far.csv"),
    )
    with pytest.warns(FarImage, match=sentence) as said:
        done = predict_files(net, files / "images", to, device="cpu")
    assert len(done) == 5 and len(said) == 1
    assert said[0].filename == __file__  # where it was asked
    assert [row[:2] for row in read_far(to / "far.csv")] == [
        ["3.png", "inverted"],
        ["4.png", "inverted"],
    ]
    words = [str(word) for word in ("predict", net, files / "images" / "4.png", "--to")]
    assert main([*words, str(files / "two"), "--device", "cpu"]) == 0
    told = capsys.readouterr().err
    assert says("warning: 4.png: unlike what the net", "two/far.csv").search(told)


def test_the_list_follows_the_answers(files):
    net, to = files / "net.safetensors", files / "to"
    asked = {"device": "cpu", "overwrite": True}
    with pytest.warns(FarImage):
        predict_files(net, files / "images", to, device="cpu")
    image = files / "images" / "3.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)  # it was mended
    predict_files(net, image, to, **asked)
    assert [row[0] for row in read_far(to / "far.csv")] == ["4.png"]
    Image.fromarray(255 - np.asarray(Image.open(image))).save(files / "images/4.png")
    (files / "images/4.png").write_bytes(image.read_bytes())
    predict_files(net, files / "images/4.png", to, **asked)
    assert not (to / "far.csv").exists()


def test_a_table_of_your_own_is_not_replaced(files):
    (files / "to").mkdir()
    (files / "to" / "far.csv").write_text("star,parsecs\nVega,7.7\n")
    with pytest.raises(FileExistsError, match=says("far.csv", "rename it")):
        predict_files(files / "net.safetensors", files / "images", files / "to")
    assert [path.name for path in (files / "to").iterdir()] == ["far.csv"]


def test_the_table_of_objects_has_the_kinds(files):
    net, to = files / "net.safetensors", files / "to"
    with pytest.warns(FarImage):
        predict_files(net, files / "images", to, device="cpu", write="table")
    for name, far in (("0", ""), ("3", "inverted")):
        with (to / f"{name}.table.csv").open(newline="") as file:
            table = csv.DictReader(file)
            assert {row["far"] for row in table} <= {far}
            assert table.fieldnames[-1] == "far"


@pytest.mark.parametrize("pages", [2, 6])
def test_pages_that_become_images_are_named(files, tissue, capsys, pages):
    stack = files / "stack.tif"
    first, *more = [Image.fromarray(tissue[n][0]) for n in range(pages)]
    first.save(stack, save_all=True, append_images=more)
    net, to = str(files / "net.safetensors"), str(files / "to")
    assert main(["predict", net, str(stack), "--to", to, "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    last = f"stack_{pages - 1:03d}"
    sentence = says(f"stack.tif holds {pages} images", f"stack_000 to {last}")
    assert sentence.search(told) and ("--axes CHW" in told) == (pages == 2)
    assert (files / "to" / f"{last}_mask.png").is_file()
    words = f"--to {to} --device cpu --overwrite --axes CHW --channel 0".split()
    assert main(["predict", net, str(stack), *words]) == 0  # what it says works
    assert [path.name for path in (files / "to").iterdir()] == ["stack_mask.png"]
    assert "holds" not in capsys.readouterr().out


def test_the_page_says_it(files, tissue):
    desk = Desk(Predictor.load(files / "net.safetensors", "cpu"), files)
    assert desk.open("a.png", tissue[0][0]).endswith("pixels")
    with pytest.warns(FarImage):
        assert "exchanged" in desk.open("b.png", 255 - tissue[0][0])


def test_sentences_count_images():
    one = Remark("detail", "finer", "detail 9, learned 1 to 2")
    found = {"a": [one], "b": [], "c": [one]}
    [sentence] = summarise(found, 3)
    assert (
        sentence.startswith("2 of 3 images (first a)") and "learned 1 to 2" in sentence
    )
    assert count_far(found) == (
        "2 of 3 images are unlike what the net has learned: finer"
    )
    thin = Remark("breadth", "thinner", "breadth 3, learned 9 to 12")
    assert "trained too little" in count_far({"a": [thin], "b": [thin]})
    mixed = count_far({"a": [thin, one], "b": [one]})
    assert "trained too little" not in mixed
    assert "learned: finer (2 of them), and other reasons" in mixed
    assert count_far({"a": [], "b": []}) == ""
    assert far_signs({"images": 3, "detail": [1, 2, 0]}, {"detail": 2.1}) == {}
    assert far_signs({"images": 3, "detail": [1, 2, 0]}, {"detail": 3, "new": 9}).keys()


def test_the_page_has_the_numbers_of_the_results():
    root = BENCHMARKS.parent
    with (root / "results" / "far.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    false = [row for row in rows if row["change"] == "as it is"]
    alarms, images = (sum(int(row[name]) for row in false) for name in ("alarms", "of"))
    page = (root / "nbs" / "workshop" / "data" / "far.ipynb").read_text("utf-8")
    assert f"**{alarms} of {images}** answers" in page and alarms <= images / 50
    changes = list(dict.fromkeys(row["change"] for row in rows))
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        told = [f"{kind} | {own[0]['learned from']}"]
        for change in changes:
            one, two = (row for row in own if row["change"] == change)
            assert (one["normalisation"], two["normalisation"]) == ("image", "set")
            told.append(f"{one['alarms']} / {two['alarms']} of {one['of']}")
        assert f"| {' | '.join(told)} |" in page


# The channel that was learned from


@pytest.fixture
def colours(tmp_path):
    "A coloured file, and a net that learned from its second channel."
    image = np.stack([np.full((32, 32), n, np.uint8) for n in (10, 20, 30)], -1)
    image[8:24, 8:24, 1] = 200
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image[..., 1]).save(tmp_path / "grey.png")
    save_net(tmp_path / "net.safetensors", thin_net(padding=1), channel=1)
    return tmp_path, image


def test_the_channel_of_the_training_is_taken(colours, capsys):
    folder, image = colours
    ask = Predictor.load(folder / "net.safetensors", "cpu")
    due = ask(image[..., 1])
    assert np.array_equal(ask(folder / "a.png"), due)
    assert np.array_equal(ask(Image.open(folder / "a.png")), due)
    assert np.array_equal(ask(folder / "grey.png"), due)  # a single channel is that one
    words = ["predict", folder / "net.safetensors", folder / "a.png", "--to"]
    words = [str(word) for word in (*words, folder / "to", "--device", "cpu")]
    assert main(words) == 0
    assert "channel 1, as in training" in capsys.readouterr().out
    assert main([*words, "--overwrite", "--channel", "0"]) == 0
    assert "learned from channel 1" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=says("channel 2", "channel 1")):
        predict_files(ask, folder / "a.png", folder / "two", channel=2)


def test_a_channel_that_is_not_there_is_refused(colours):
    folder, image = colours
    with pytest.raises(ValueError, match="has no channel 3"):
        one_channel_of(folder / "a.png", None, 3)
    images, kind = take_images(folder / "a.png", 1, channel=2)
    assert kind == "one" and np.array_equal(images[0], image[..., 2])


def test_pairs_take_a_channel(colours):
    folder, image = colours
    Image.fromarray(image[..., 1]).save(folder / "mask.png")
    pairs = [Pair(folder / "a.png", folder / "mask.png")]
    x = ImagePairs(pairs, (32, 32), channel=1, num_classes=256)[0][0]
    assert x.shape == (1, 32, 32) and x.std() > 0
    constant = ImagePairs(pairs, (32, 32), channel=0, num_classes=256)[0][0]
    assert (constant == 0).all()
    source = bench.as_source([(image[..., 1], image[..., 1])])
    with pytest.raises(ValueError, match=says("channel=1", "open_folder")):
        ImagePairs(source, (32, 32), channel=1)
