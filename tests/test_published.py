"Sets as they are published: what is typed works, and what is typed first leads to it."

import re
import shlex

import numpy as np
import published
import pytest
import readable
from PIL import Image

from unet_tutorial.cli import main
from unet_tutorial.data import check, datasets
from unet_tutorial.data.check import check_pairs
from unet_tutorial.data.datasets import open_folder, open_nuclei
from unet_tutorial.data.pairs import find_pairs

NAMES = [each.name for each in published.SETS]


def told(line, capsys):
    "Type a line, and return the exit status and what is printed."
    capsys.readouterr()
    status = main(shlex.split(line))
    return status, "".join(capsys.readouterr())


@pytest.mark.parametrize("each", published.SETS, ids=NAMES)
def test_what_the_page_says_is_typed(each, tmp_path, monkeypatch, capsys):
    published.write(each, tmp_path)
    monkeypatch.chdir(tmp_path)
    if each.obvious:
        status, text = told(each.obvious, capsys)
        assert status == 1 and each.told in text
    for line in each.lines:
        status, text = told(line, capsys)
        assert status == 0, text
    assert "3 pairs without a problem" in text
    if "--kind" not in line:  # an eighth is object, as it was drawn
        share = re.search("objects cover ([0-9.]+)%", text)
        assert float(share[1]) == pytest.approx(12.5, abs=0.5), text


def test_the_page_has_every_set():
    text = readable.PAGE.read_text(encoding="utf-8")
    assert all(f"| {name} | `unet-tutorial" in text for name in NAMES)


def test_a_field_of_view_is_no_annotation(tmp_path, monkeypatch, capsys):
    published.write(published.SETS[0], tmp_path)
    monkeypatch.chdir(tmp_path / "training")
    text = told("check images mask", capsys)[1]
    assert "a field of view" in text and "is nearly the same mask" in text
    fine = told('check images 1st_manual --suffix "_training,_manual1"', capsys)[1]
    assert "a field of view" not in fine
    assert check.field_note(find_pairs("images", "mask"))
    monkeypatch.setattr(check, "upright_size", lambda path: (20_000, 20_000))
    assert not check.field_note(find_pairs("images", "mask"))  # it would take long


def test_values_name_classes_in_training_as_in_the_check(tmp_path):
    for n in (1, 2, 3):
        for name, pixels in (("a", published.photo(n)), ("b", published.trimap(n))):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name / f"{n}.png")
    folders = tmp_path / "a", tmp_path / "b"
    problem = str(check_pairs(*folders, values=(2, 1)).problems[0])
    assert "(3)" in problem and "ignore=3" in problem
    report = check_pairs(*folders, values=(2, 1, 3))
    assert not report.problems and len(report.pairs) == 3
    labels = open_folder(*folders, values=(2, 1), ignore=3).labels(0)
    assert (labels == 1).sum() == published.object_of(1).sum()
    assert set(np.unique(labels)) == {-100, 0, 1}


REFUSED = {
    "--values 2,1 --classes 3": "2 values for 3 classes",
    "--values 2,1 --ignore 1": "--ignore 1 is also a class",
    "--values 1,1,2": "names a number twice",
    "--values 2,1,3 --instances": "values name classes",
    "--values 2,1,3 --threshold 0": "invert are for --classes 2, without values",
    "--values 2,1 --kind pets": "--values and --only-annotated are for a folder of",
    "--suffix *_mask*": "has 2 stars",
}


@pytest.mark.parametrize("options", REFUSED)
def test_what_does_not_go_together_is_refused(options, tmp_path, capsys):
    Image.fromarray(published.photo(1)).save(tmp_path / "1.png")
    Image.fromarray(published.trimap(1)).save(tmp_path / "1_mask.png")
    status, text = told(f"check {tmp_path} {options}", capsys)
    assert status and REFUSED[options] in text


def test_training_refuses_the_same_values(tmp_path):
    names, known = ("background", "pet", "rim"), {"values": (2, 1, 1)}
    with pytest.raises(ValueError, match="names a number twice"):
        open_folder(tmp_path, classes=names, **known)
    with pytest.raises(ValueError, match="masks that number objects have none"):
        open_folder(tmp_path, instances=True, **known)


def test_in_a_folder_of_too_many_files_no_known_set_is_sought(tmp_path, monkeypatch):
    published.single(tmp_path)
    assert datasets.known_sets(tmp_path) == ["nuclei"]
    monkeypatch.setattr(datasets, "_VAST", 3)
    assert datasets.known_sets(tmp_path) == []


def test_numbers_of_classes_are_not_called_blurred(tmp_path):
    for n, numbers in enumerate([(0, 1, 3, 4, 150), (0, 1, 2, 3, 4)]):
        labels = np.resize(np.uint8(numbers), (40, 40))
        labels[:30] = 0
        for side in ("a", "b"):
            (tmp_path / f"{n}{side}").mkdir()
        Image.fromarray(published.photo(1)).resize((40, 40)).save(
            tmp_path / f"{n}a/1.png"
        )
        Image.fromarray(labels).save(tmp_path / f"{n}b/1.png")
        text = str(check_pairs(tmp_path / f"{n}a", tmp_path / f"{n}b").problems[0])
        assert "blurred" not in text and f"num_classes={numbers[-1] + 1}" in text


def test_numbers_in_one_channel_and_a_shared_folder_of_masks(tmp_path):
    for name in ("set/images", "set/masks"):
        (tmp_path / name).mkdir(parents=True)
    for n in (1, 2):
        red = np.dstack([published.objects(n) % 251, *2 * [np.zeros(published.SIZE)]])
        Image.fromarray(published.photo(n)).save(tmp_path / f"set/images/{n}.png")
        Image.fromarray(red.astype(np.uint8)).save(tmp_path / f"set/masks/{n}.png")
    text = str(check_pairs(tmp_path / "set").problems[0])
    assert "of red alone" in text and "getchannel(0)" in text
    with pytest.raises(ValueError, match="share the masks"):
        open_nuclei(tmp_path)


def test_pages_keep_their_numbers_and_replace_nothing(tmp_path, monkeypatch, capsys):
    published.stacks(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert told("pages training.tif --to a", capsys)[0] == 0
    assert (np.array(Image.open("a/0002.png")) == published.grey(2)).all()
    status, text = told("pages training.tif --to a", capsys)
    assert status == 1 and "--overwrite" in text


def test_training_says_which_known_set_a_folder_is(tmp_path, monkeypatch, capsys):
    published.single(tmp_path)
    monkeypatch.chdir(tmp_path)
    status, text = told("train --kind folder --data stage1_train --out r", capsys)
    assert status == 1 and "check stage1_train --kind nuclei" in text
    line = "train --kind folder --data stage1_train --out r --from none.safetensors"
    status, text = told(line, capsys)  # of something else that is missing
    assert status == 1 and "none.safetensors" in text and "nuclei" not in text


def test_an_image_that_lacks_the_suffix_is_not_called_damaged(tmp_path):
    Image.fromarray(published.photo(1)).save(tmp_path / "1_test.tif")
    with pytest.raises(FileNotFoundError, match="1_test.tif does not fit the suffix"):
        check_pairs(tmp_path, suffix=("_training", "_manual1"))


def test_a_stack_where_a_folder_is_expected_leads_to_its_pages(
    tmp_path, monkeypatch, capsys
):
    published.stacks(tmp_path)
    monkeypatch.chdir(tmp_path)
    status, text = told("check training.tif training_groundtruth.tif", capsys)
    assert status == 1 and "unet-tutorial pages training.tif --to DIR" in text


def test_no_rule_is_suggested_that_pairs_across_two_parts(
    tmp_path, monkeypatch, capsys
):
    for part in ("training", "testing"):
        for n in (0, 1, 2):
            for name in (part, f"{part}_groundtruth"):
                (tmp_path / name).mkdir(exist_ok=True)
                path = tmp_path / name / f"{name}{n:04}.png"
                Image.fromarray(published.mask(n)).save(path)
    monkeypatch.chdir(tmp_path)
    text = told("check .", capsys)[1]
    assert "testing*,testing_groundtruth*" in text
    assert "testing*,training_groundtruth*" not in text
