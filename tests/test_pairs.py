"""The mask of every image, whatever the names."""

import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image
from samples import says

from unet_tutorial.data.pairs import Pair, Problem, find_pairs, match_names


def make(folder, *names):
    "Empty files of these names; pairing looks at names only."
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(pairs, folder):
    "Pairs as text."
    return [
        " ".join(Path(path).relative_to(folder).as_posix() for path in pair[:2])
        for pair in pairs
    ]


SAME = [
    ("1.png", "1.png"),
    ("1.jpg", "1_mask.gif"),
    ("1.JPG", "1_MASK.PNG"),
    ("1.jpeg", "1-mask.png"),
    ("1.tif", "mask_1.tif"),
    ("1.tif", "1.mask.tif"),
    ("1.tif", "seg1.tif"),
    ("img_1.png", "mask_1.png"),
    ("image1.png", "label1.png"),
    ("1_image.png", "1_label.png"),
    ("1_sat.jpg", "1_mask.png"),
    ("1.bmp", "1_segmentation.png"),
    ("1.bmp", "1_gt.png"),
    ("mask_factory_1.jpg", "mask_factory_1.png"),
    ("a.b.c.png", "a.b.c_mask.png"),
    ("v1.2.png", "v1.2.png"),
    ("scan 7 (2).png", "scan 7 (2) mask.png"),
    ("Zürich.png", "Zürich_mask.png"),
    ("细胞1.png", "细胞1_mask.png"),
]


@pytest.mark.parametrize("image, mask", SAME)
def test_names_that_belong_together(tmp_path, image, mask):
    make(tmp_path, f"images/{image}", f"masks/{mask}")
    due = [Pair(tmp_path / "images" / image, tmp_path / "masks" / mask)]
    assert find_pairs(tmp_path / "images", tmp_path / "masks") == due
    if not image.startswith("mask"):  # in one folder that would say what it is
        assert find_pairs(str(tmp_path)) == due


OTHER = [
    ("1.png", "10.png"),
    ("1.png", "1_2_mask.png"),
    ("1.png", "01.png"),
    ("a.png", "a.b.png"),
    ("a.b.png", "a.c_mask.png"),
    ("cell.png", "cellmask.png"),
    ("a.png", "A_mask.png"),
]


@pytest.mark.parametrize("image, mask", OTHER)
def test_names_that_do_not(tmp_path, image, mask):
    make(tmp_path, f"images/{image}", f"masks/{mask}")
    with pytest.raises(ValueError, match=says("no mask", image, "no image", mask)):
        find_pairs(tmp_path / "images", tmp_path / "masks")


def test_one_is_not_ten(tmp_path):
    for n in range(1, 21):
        make(tmp_path, f"x/{n}.jpg", f"y/{n}_mask.gif")
    pairs = find_pairs(tmp_path / "x", tmp_path / "y")
    assert len(pairs) == 20
    assert all(mask.stem == f"{image.stem}_mask" for image, mask, _ in pairs)


def test_accents_in_another_form(tmp_path):
    name = "Zürich"
    composed, apart = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    make(tmp_path, f"images/{composed}.png", f"masks/{apart}_mask.png")
    assert len(find_pairs(tmp_path / "images", tmp_path / "masks")) == 1


def test_one_folder_for_both(tmp_path):
    make(tmp_path, "a.jpg", "a_mask.png", "b.jpg", "mask-b.png")
    for masks in (None, tmp_path, tmp_path / "." / "."):
        pairs = find_pairs(tmp_path, masks)
        assert names(pairs, tmp_path) == ["a.jpg a_mask.png", "b.jpg mask-b.png"]


def test_masks_below_the_images_and_the_reverse(tmp_path):
    make(tmp_path, "a/1.jpg", "a/2.jpg", "a/truth/1.jpg", "a/truth/2.jpg")
    assert len(find_pairs(tmp_path / "a", tmp_path / "a" / "truth")) == 2
    make(tmp_path, "m/1.png", "m/in/1.png")
    pairs = find_pairs(tmp_path / "m" / "in", tmp_path / "m")
    assert names(pairs, tmp_path) == ["m/in/1.png m/1.png"]


def test_sub_folders_count_where_names_repeat(tmp_path):
    for case in ("anna", "bert"):
        make(tmp_path, f"images/{case}/1.png", f"masks/{case}/1.png")
        make(tmp_path, f"images/{case}/{case}9.png")
    make(tmp_path, "masks/anna9.png", "masks/elsewhere/bert9.png")
    assert names(find_pairs(tmp_path / "images", tmp_path / "masks"), tmp_path) == [
        "images/anna/1.png masks/anna/1.png",
        "images/anna/anna9.png masks/anna9.png",
        "images/bert/1.png masks/bert/1.png",
        "images/bert/bert9.png masks/elsewhere/bert9.png",
    ]


def test_a_folder_for_each_sample(tmp_path):
    for case in ("s1", "s2"):
        make(tmp_path, f"{case}/image.png", f"{case}/mask.png")
    due = [f"{case}/image.png {case}/mask.png" for case in ("s1", "s2")]
    assert names(find_pairs(tmp_path), tmp_path) == due


def test_train_and_train_masks(tmp_path):
    make(tmp_path, "train/1_01.jpg", "train_masks/1_01_mask.gif")
    make(tmp_path, "val/1_01.jpg", "val_masks/1_01_mask.gif")
    assert names(find_pairs(tmp_path), tmp_path) == [
        "train/1_01.jpg train_masks/1_01_mask.gif",
        "val/1_01.jpg val_masks/1_01_mask.gif",
    ]


@pytest.mark.parametrize("suffix", ["_labelIds", "_labelIds.png", ("", "_labelIds")])
def test_a_suffix_of_ones_own(tmp_path, suffix):
    make(tmp_path, "x/a_mask.png", "x/b.png", "y/a_mask_labelIds.png", "y/b_color.png")
    make(tmp_path, "y/b_labelIds.png")
    pairs, problems, notes = match_names(tmp_path / "x", tmp_path / "y", suffix)
    assert not problems and names(pairs, tmp_path) == [
        "x/a_mask.png y/a_mask_labelIds.png",
        "x/b.png y/b_labelIds.png",
    ]
    assert [path.name for path in notes[0].files] == ["b_color.png"]


def test_a_suffix_on_both_sides(tmp_path):
    make(tmp_path, "x/a_0000.png", "y/a.png", "z/a_left.png", "z/a_right.png")
    assert len(find_pairs(tmp_path / "x", tmp_path / "y", ("_0000", ""))) == 1
    assert len(find_pairs(tmp_path / "z", suffix=("_left", "_right"))) == 1


# What is refused, and what is told


def test_a_mask_is_missing(tmp_path):
    make(tmp_path, *(f"images/{n}.png" for n in range(9)), "masks/0.png")
    words = says("no mask", "images/1.png", "and 5 more", "only_annotated=True")
    with pytest.raises(ValueError, match=words):
        find_pairs(tmp_path / "images", tmp_path / "masks")
    pairs, (problem,), _ = match_names(tmp_path / "images", tmp_path / "masks")
    assert len(pairs) == 1 and len(problem.files) == 8


def test_an_image_is_missing(tmp_path):
    make(tmp_path, "images/1.png", "masks/1.png", "masks/2.png")
    with pytest.raises(ValueError, match=says("no image", "masks/2.png")):
        find_pairs(tmp_path / "images", tmp_path / "masks")


def test_two_masks_for_an_image(tmp_path):
    make(tmp_path, "images/1.png", "masks/1_mask.png", "masks/1_mask.gif")
    words = says("several of one name", "1_mask.png", "1_mask.gif", "keep one")
    with pytest.raises(ValueError, match=words):
        find_pairs(tmp_path / "images", tmp_path / "masks")


def test_two_images_for_a_mask(tmp_path):
    make(tmp_path, "images/1.png", "images/1.jpg", "masks/1.png")
    with pytest.raises(ValueError, match=says("several of one name", "1.jpg")):
        find_pairs(tmp_path / "images", tmp_path / "masks")


@pytest.mark.parametrize(
    "images, masks",
    [("train_masks", "train"), ("masks", "images"), ("y", "x"), ("labels", "raw")],
)
def test_swapped_folders(tmp_path, images, masks):
    make(tmp_path, f"{images}/1_mask.png", f"{masks}/1.png")
    words = says("swapped", f"{images} (called masks)", "exchange")
    with pytest.raises(ValueError, match=words):
        find_pairs(tmp_path / images, tmp_path / masks)


def test_a_suffix_is_guessed(tmp_path):
    for n in (1, 10, 11):
        make(tmp_path, f"images/{n}.png", f"masks/{n}_inst.png")
    with pytest.raises(ValueError, match=says("no mask", "suffix='_inst'")):
        find_pairs(tmp_path / "images", tmp_path / "masks")
    assert len(find_pairs(tmp_path / "images", tmp_path / "masks", "_inst")) == 3


def test_other_files_are_told_and_hidden_ones_left_out(tmp_path):
    make(tmp_path, "images/1.png", "images/Thumbs.db", "images/.DS_Store")
    make(tmp_path, "masks/1.png", "masks/._1.png", "masks/.git/2.png", "masks/a.csv")
    (tmp_path / "images" / "empty").mkdir()
    pairs, problems, notes = match_names(tmp_path / "images", tmp_path / "masks")
    assert len(pairs) == 1 and not problems
    assert [path.name for path in notes[0].files] == ["Thumbs.db", "a.csv"]


def test_no_images_or_no_masks(tmp_path):
    make(tmp_path, "images/1.png", "empty/.hidden.png", "texts/a.txt")
    for masks, words in (
        ("empty", says("empty holds no images")),
        ("texts", says("1 images and 0 masks", "texts", "suffix=")),
    ):
        with pytest.raises(FileNotFoundError, match=words):
            find_pairs(tmp_path / "images", tmp_path / masks)
    with pytest.raises(FileNotFoundError, match=says("1 images and 0 masks")):
        find_pairs(tmp_path / "images")


def test_no_such_folder(tmp_path):
    make(tmp_path, "images/1.png")
    with pytest.raises(FileNotFoundError, match=says("mask is not", "holds images")):
        find_pairs(tmp_path / "images", tmp_path / "mask")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_that_leads_back_adds_nothing(tmp_path):
    make(tmp_path, "images/1.png", "masks/1.png")
    (tmp_path / "images" / "loop").symlink_to(tmp_path)
    assert len(find_pairs(tmp_path / "images", tmp_path / "masks")) == 1


def test_a_problem_is_one_line_with_its_files():
    files = {Path(f"x/{n}.png"): "" for n in range(5)} | {Path("x/0.png"): "9 of 3"}
    problem = Problem("is odd", "do something", files)
    text = "is odd: x/0.png (9 of 3), x/1.png, x/2.png and 2 more; do something"
    assert str(problem) == text


@pytest.mark.parametrize("form", ["NFC", "NFD"])  # NFD: as macOS stores names
def test_a_suffix_with_an_accent(form, tmp_path):
    for end in ("", "_maské"):
        path = tmp_path / f"1{unicodedata.normalize(form, end)}.png"
        Image.new("L", (8, 8)).save(path)
    for typed in ("NFC", "NFD"):
        suffix = unicodedata.normalize(typed, "_maské")
        assert len(find_pairs(tmp_path, suffix=suffix)) == 1
