"Which files belong together, and what is suggested where none do."

import pytest

from unet_tutorial.data.images import SUFFIXES, find_images
from unet_tutorial.data.pairs import find_pairs, match_names


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


RULES = [  # images, masks, the suffix that is suggested
    (
        ["road_001_0000.png", "road_002_0000.png"],
        ["road_001.png", "road_002.png"],
        ("_0000", ""),
    ),
    (
        ["21_training.tif", "22_training.tif"],
        ["21_manual1.gif", "22_manual1.gif"],
        ("_training", "_manual1"),
    ),
    (["1.png", "10.png"], ["1_inst.png", "10_inst.png"], "_inst"),
]


@pytest.mark.parametrize(("images", "masks", "suffix"), RULES)
def test_the_rule_that_is_suggested_fits(tmp_path, images, masks, suffix):
    touch(tmp_path / "a", *images)
    touch(tmp_path / "b", *masks)
    folders = tmp_path / "a", tmp_path / "b"
    with pytest.raises(ValueError, match="or is it suffix=") as error:
        find_pairs(*folders)
    assert f"suffix={suffix!r}?" in str(error.value)
    assert len(find_pairs(*folders, suffix=suffix)) == 2


def test_both_in_one_folder_where_only_images_have_an_ending(tmp_path):
    touch(tmp_path, "r_1_0000.png", "r_1.png", "r_2_0000.png", "r_2.png")
    pairs = find_pairs(tmp_path, suffix=("_0000", ""))
    assert [pair.image.name for pair in pairs] == ["r_1_0000.png", "r_2_0000.png"]
    assert [pair.mask.name for pair in pairs] == ["r_1.png", "r_2.png"]


def test_names_that_differ_only_in_case(tmp_path):
    touch(tmp_path / "a", "Cell_1.png")
    touch(tmp_path / "b", "cell_1.png")
    with pytest.raises(ValueError, match="only in upper and lower case"):
        find_pairs(tmp_path / "a", tmp_path / "b")


def test_several_masks_of_one_image_are_named_and_the_pair_is_left_out(tmp_path):
    names = "benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png"
    touch(tmp_path, *names, "benign (2).png", "benign (2)_mask.png")
    pairs, (problem,), _ = match_names(tmp_path)
    assert [pair.image.name for pair in pairs] == ["benign (2).png"]
    assert problem.cause == "several masks of one image"
    assert sorted(path.name for path in problem.files) == sorted(names[1:])


def test_one_list_of_endings_for_training_and_prediction(tmp_path):
    touch(tmp_path / "images", *(f"{n:02}{end}" for n, end in enumerate(SUFFIXES)))
    touch(tmp_path / "masks", *(f"{n:02}{end}" for n, end in enumerate(SUFFIXES)))
    pairs = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert len(pairs) == len(SUFFIXES) == len(find_images(tmp_path / "images"))
    assert {".pgm", ".jfif", ".jp2"} <= set(SUFFIXES)


def test_overlays_of_pairs_are_left_out_and_noted(tmp_path):
    touch(tmp_path / "a", "1.png", "2.png", "3.png", "2-overlay.png")
    touch(tmp_path / "b", "1_mask.png", "2_mask.png", "1_overlay.png", "2 Overlay.jpg")
    touch(tmp_path / "b", "3_overlay.png")
    folders = tmp_path / "a", tmp_path / "b"
    pairs, (alone, problem), (note,) = match_names(*folders)
    assert [pair.image.name for pair in pairs] == ["1.png", "2.png"]
    assert [path.name for path in alone.files] == ["3.png"]
    assert "suffix" not in str(alone)
    assert [path.name for path in problem.files] == ["3_overlay.png"]
    assert problem.cause == note.cause == "is an overlay, no mask" and note.remedy
    assert len(note.files) == 3
    touch(tmp_path / "b", "3.png")
    assert len(find_pairs(*folders)) == 3
    touch(tmp_path / "c", "1.png", "1_mask.png", "1_overlay.png")  # in one folder
    assert len(find_pairs(tmp_path / "c")) == 1


def test_an_image_called_overlay_stays_one(tmp_path):
    touch(tmp_path / "a", "x.png", "x_overlay.png")
    touch(tmp_path / "b", "x.png", "x_overlay.png")
    assert len(find_pairs(tmp_path / "a", tmp_path / "b")) == 2


def test_a_stack_with_a_mask_per_page_is_recognised(tmp_path):
    touch(tmp_path / "a", "film.tif")
    touch(tmp_path / "b", *(f"film_{n:03}_mask.png" for n in range(4)))
    with pytest.raises(ValueError, match="is film a stack, with a mask per page"):
        find_pairs(tmp_path / "a", tmp_path / "b")
