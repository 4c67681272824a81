"""Every diagnosis of check_pairs, each with files that show it."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from samples import (
    carvana,
    cut_off,
    noise,
    save,
    save_palette,
    save_stack,
    says,
    square,
)

import unet_tutorial.data.check as drawn_by
from unet_tutorial.cli import main
from unet_tutorial.data.check import Report, check_pairs
from unet_tutorial.data.datasets import open_folder


def good(folder, count=4, size=(48, 64), value=1):
    "Images and masks without a fault."
    for n in range(count):
        save(folder / "images" / f"{n}.jpg", noise(*size, 3))
        save(folder / "masks" / f"{n}_mask.png", square(*size) * np.uint8(value))
    return folder


def check(folder, **options):
    return check_pairs(folder / "images", folder / "masks", **options)


def only(report, cause, *files):
    "The one problem of a report, which has these files and takes them out of pairs."
    (problem,) = report.problems
    assert cause in problem.cause and problem.remedy
    assert sorted(path.name for path in problem.files) == sorted(files)
    used = {path.name for pair in report.pairs for path in pair[:2]}
    assert used.isdisjoint(files)
    text = "".join(str(report).split())  # it is wrapped, also within long paths
    assert all("".join(f.split()) in text for f in files[:3])
    return str(problem)


def test_all_is_well(tmp_path):
    report = check(good(tmp_path))
    assert isinstance(report, Report) and report.problems == report.notes == []
    assert len(report.pairs) == 4 and "names are equal" in report.rule
    assert says("4 pairs", report.rule[:40], "no problem").match(
        str(report).replace("\n", " ")
    )


def test_one_folder_and_text(tmp_path):
    assert len(check_pairs(str(good(tmp_path))).pairs) == 4


def test_carvana_in_its_own_form(tmp_path):
    carvana(tmp_path, size=(48, 64))
    report = check_pairs(tmp_path / "train", tmp_path / "train_masks")
    assert not report.problems and not report.notes and len(report.pairs) == 3


# Names


def test_a_mask_is_missing(tmp_path):
    (good(tmp_path) / "masks" / "2_mask.png").unlink()
    report = check(tmp_path)
    only(report, "no mask", "2.jpg")
    assert len(report.pairs) == 3


def test_an_image_is_missing(tmp_path):
    (good(tmp_path) / "images" / "2.jpg").unlink()
    only(check(tmp_path), "no image", "2_mask.png")


def test_two_masks_for_an_image(tmp_path):
    save(good(tmp_path) / "masks" / "2.png", square(48, 64))
    only(check(tmp_path), "several", "2.jpg", "2.png", "2_mask.png")


def test_swapped_by_name(tmp_path):
    good(tmp_path)
    report = check_pairs(tmp_path / "masks", tmp_path / "images")
    only(report, "swapped", "masks", "images")
    assert report.pairs == []


def test_swapped_in_truth(tmp_path):
    for n in range(4):
        save(tmp_path / "a" / f"{n}.png", 255 * square(48, 64))
        save(tmp_path / "b" / f"{n}.jpg", noise(48, 64, 3))
    assert not check_pairs(tmp_path / "b", tmp_path / "a").problems
    report = check_pairs(tmp_path / "a", tmp_path / "b")
    only(report, "images look like masks", "0.png", "1.png", "2.png", "3.png")
    grey = tmp_path / "c"
    for n in range(4):
        save(grey / f"{n}.png", noise(48, 64))
    for num_classes in (2, 3, None):
        report = check_pairs(tmp_path / "a", grey, num_classes=num_classes)
        assert "look like masks" in report.problems[0].cause


# Files that cannot be read


def test_files_of_every_damage(tmp_path):
    good(tmp_path, count=9)
    images, masks = tmp_path / "images", tmp_path / "masks"
    cut_off(images / "1.jpg", 0.9)
    cut_off(images / "2.jpg", 0.5)
    cut_off(masks / "3_mask.png", 0.7)
    (images / "4.jpg").write_bytes(b"")
    (masks / "5_mask.png").write_text("<html>log in</html>")
    save_stack(masks / "6_mask.tif", [square(48, 64)] * 3)
    (masks / "6_mask.png").unlink()
    report = check(tmp_path)
    found = {p.cause: sorted(f.name for f in p.files) for p in report.problems}
    assert found == {
        "is damaged or cut off": ["1.jpg", "2.jpg", "3_mask.png"],
        "is empty": ["4.jpg"],
        "is a web page, not an image": ["5_mask.png"],
        "has several pages": ["6_mask.tif"],
    }
    assert [pair.image.name for pair in report.pairs] == ["0.jpg", "7.jpg", "8.jpg"]


def test_a_cut_gif_and_a_cut_bmp(tmp_path):
    good(tmp_path, count=3)
    for n, ending in ((1, "gif"), (2, "bmp")):
        (tmp_path / "masks" / f"{n}_mask.png").unlink()
        path = tmp_path / "masks" / f"{n}_mask.{ending}"
        cut_off(save_palette(path, noise(48, 64) % 2), 0.5)
    only(check(tmp_path), "damaged or cut off", "1_mask.gif", "2_mask.bmp")


def test_a_file_that_must_not_be_read(tmp_path, monkeypatch):
    good(tmp_path)
    read = open

    def refuse(path, *args, **options):
        if str(path).endswith("1.jpg"):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **options)

    monkeypatch.setattr("PIL.Image.builtins.open", refuse)
    assert "permission" in only(check(tmp_path), "cannot be read", "1.jpg")


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_that_leads_nowhere(tmp_path):
    path = good(tmp_path) / "images" / "1.jpg"
    path.unlink()
    path.symlink_to(tmp_path / "gone.jpg")
    only(check(tmp_path), "cannot be read", "1.jpg")


def test_sixteen_bits(tmp_path):
    good(tmp_path)
    for n in range(4):
        (tmp_path / "images" / f"{n}.jpg").unlink()
        deep = noise(48, 64).astype(np.uint16) * (16 - n)
        save(tmp_path / "images" / f"{n}.png", deep)
    text = only(check(tmp_path), "8 bits", "0.png", "1.png", "2.png", "3.png")
    assert text.count("value_range=(0, 4095) would hold all") == 1
    assert not check(tmp_path, value_range=(0, 4095)).problems


# The values of masks


def test_masks_of_0_and_255_are_well_and_told(tmp_path):
    report = check(good(tmp_path, value=255))
    assert not report.problems and len(report.pairs) == 4
    (note,) = report.notes
    assert "0 and 255" in note.cause and "read_mask" in note.remedy


def test_masks_saved_as_jpeg(tmp_path):
    good(tmp_path)
    for n in (1, 2):
        (tmp_path / "masks" / f"{n}_mask.png").unlink()
        save(tmp_path / "masks" / f"{n}_mask.jpg", 255 * square(48, 64), quality=80)
    text = only(check(tmp_path), "blurred", "1_mask.jpg", "2_mask.jpg")
    assert says("JPEG", "PNG", "threshold=127", "pixels").match(text)


def test_masks_resized_with_interpolation(tmp_path):
    good(tmp_path)
    path = tmp_path / "masks" / "1_mask.png"
    big = Image.fromarray(255 * square(96, 128))
    big.resize((64, 48), Image.Resampling.LANCZOS).save(path)
    assert "NEAREST" in only(check(tmp_path), "blurred", "1_mask.png")


def test_classes_in_a_mask_of_two(tmp_path):
    labels = square(48, 64)
    labels[:4, :5] = 2
    save(good(tmp_path) / "masks" / "1_mask.png", labels)
    text = only(check(tmp_path), "more than two values", "1_mask.png")
    assert says("2 in 20 pixels", "num_classes").match(text)
    labels[:4, :5] = 0
    labels[0, 0] = 2
    save(tmp_path / "masks" / "1_mask.png", labels)
    text = only(check(tmp_path), "more than two values", "1_mask.png")
    assert "2 in 1 pixel" in text and "in 1 pixels" not in text


def test_one_class_a_mask(tmp_path):
    good(tmp_path)
    save(tmp_path / "masks" / "1_mask.png", 2 * square(48, 64))
    text = only(
        check(tmp_path), "differ in value", *(f"{n}_mask.png" for n in range(4))
    )
    assert "num_classes" in text


def test_1_and_255_are_the_same_object(tmp_path):
    save(good(tmp_path) / "masks" / "1_mask.png", 255 * square(48, 64))
    assert not check(tmp_path).problems


def test_masks_in_colours(tmp_path):
    colours = np.array([(0, 0, 0), (255, 0, 0)], np.uint8)[square(48, 64)]
    for n in (1, 2):
        save(good(tmp_path) / "masks" / f"{n}_mask.png", colours)
    save(tmp_path / "masks" / "1_mask.png", colours)
    text = only(check(tmp_path), "in colours", "1_mask.png", "2_mask.png")
    assert says("(255, 0, 0)", "colours=[...]").match(text)


def test_one_photograph_among_masks(tmp_path):
    save(good(tmp_path) / "masks" / "1_mask.png", noise(48, 64))
    assert "swapped" in only(check(tmp_path), "not look like a mask", "1_mask.png")


def test_a_mask_that_is_object_everywhere_is_told(tmp_path):
    for number, fill in enumerate((0, 255)):
        pixels = np.full((32, 32), fill, np.uint8)
        pixels[:5] = 255
        save(tmp_path / "masks" / f"{number}.png", pixels)
        save(tmp_path / "images" / f"{number}.png", noise(32, 32))
    report = check_pairs(tmp_path / "images", tmp_path / "masks")
    (note,) = [note for note in report.notes if "everywhere" in note.cause]
    assert [path.name for path in note.files] == ["1.png"] and not report.problems


def test_empty_masks(tmp_path):
    good(tmp_path)
    empty = np.zeros((48, 64), np.uint8)
    save(tmp_path / "masks" / "1_mask.png", empty)
    report = check(tmp_path)
    assert not report.problems and len(report.pairs) == 4
    (note,) = report.notes
    assert "no object" in note.cause and [p.name for p in note.files] == ["1_mask.png"]
    for n in range(4):
        save(tmp_path / "masks" / f"{n}_mask.png", empty)
    only(check(tmp_path), "no mask holds", *(f"{n}_mask.png" for n in range(4)))


CLASSES = [
    ([0, 1, 2], 3, None, None),
    ([1, 2, 3], 3, "labels 1 to 3", "values=(1, 2, 3)"),
    ([0, 85, 170], 3, "beyond 0 to 2", "values=(0, 85, 170)"),
    ([0, 1, 2, 255], 3, "beyond 0 to 2", "255 often marks"),
    ([0, 1, 2, 3, 4], 3, "beyond 0 to 2", "num_classes=5"),
    ([*range(0, 250, 2)], 3, "beyond 0 to 2", "JPEG"),
    ([0, 1, 2, 200], None, None, None),
]


@pytest.mark.parametrize("values, num_classes, cause, remedy", CLASSES)
def test_labels(tmp_path, values, num_classes, cause, remedy):
    good(tmp_path, count=2)
    labels = np.resize(np.array(values, np.uint8), (48, 64))
    for n in range(2):
        save_palette(tmp_path / "masks" / f"{n}_mask.png", labels, [*range(256)] * 3)
    report = check(tmp_path, num_classes=num_classes)
    if cause is None:
        assert not report.problems and len(report.pairs) == 2
    else:
        text = only(report, cause, "0_mask.png", "1_mask.png")
        assert remedy.lower() in text.lower()


def test_a_class_that_never_occurs(tmp_path):
    report = check(good(tmp_path), num_classes=4)
    assert not report.problems and "[2, 3]" in report.notes[0].cause


def test_instances_of_sixteen_bits(tmp_path):
    good(tmp_path, count=2)
    for n in range(2):
        (tmp_path / "masks" / f"{n}_mask.png").unlink()
        labels = np.indices((48, 64)).sum(0).astype(np.uint16) * 40
        save(tmp_path / "masks" / f"{n}_mask.tif", labels)
    assert not check(tmp_path, num_classes=None).problems
    text = only(check(tmp_path, num_classes=3), "beyond", "0_mask.tif", "1_mask.tif")
    assert "Instances? num_classes=None" in text


# Sizes


def test_a_mask_of_another_size(tmp_path):
    save(good(tmp_path) / "masks" / "1_mask.png", square(50, 64))
    text = only(check(tmp_path), "not have the size", "1_mask.png")
    assert says("50x64, the image 48x64", "NEAREST").match(text)


def test_a_photograph_of_a_phone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(good(tmp_path) / "images" / "1.jpg", noise(48, 64, 3), exif=exif)
    text = only(check(tmp_path), "not have the size", "1_mask.png")
    assert says("48x64, the image 64x48", "EXIF", "90 degrees").match(text)


def test_a_mask_wrong_in_two_ways_is_told_of_both(tmp_path):
    labels = square(50, 64)
    labels[:3, :3] = 7
    save(good(tmp_path) / "masks" / "1_mask.png", labels)
    causes = [problem.cause for problem in check(tmp_path).problems]
    assert len(causes) == 2 and "not have the size" in causes[0]
    assert "more than two values" in causes[1]


def test_what_is_only_noted(tmp_path, capsys):
    good(tmp_path)
    for n, size in ((1, (50, 64)), (2, (64, 80))):
        save(tmp_path / "images" / f"{n}.jpg", noise(*size, 3))
        save(tmp_path / "masks" / f"{n}_mask.png", square(*size))
    save(tmp_path / "images" / "3.jpg", noise(48, 64))
    (tmp_path / "images" / "list.csv").touch()
    report = check(tmp_path)
    assert not report.problems and len(report.pairs) == 4
    notes = {n.cause: sorted(path.name for path in n.files) for n in report.notes}
    assert notes == {
        "neither image nor mask": ["list.csv"],
        "not of the usual size": ["1.jpg", "2.jpg"],
        "differs in colour from most": ["3.jpg"],
    }
    assert "ImagePairs(pairs, size=(48, 64))" in str(report)
    assert main(["check", str(tmp_path / "images"), str(tmp_path / "masks")]) == 0
    assert "train needs no one size; --size 48x64 makes it" in capsys.readouterr().out


def test_masks_of_0_and_255_are_two_classes_before_255_is_the_unknown(tmp_path, capsys):
    good(tmp_path, value=255)
    names = [str(tmp_path / "images"), str(tmp_path / "masks")]
    assert main(["check", *names, "--classes", "3"]) == 1
    said = capsys.readouterr().out
    remedy = "two classes? Leave --classes 3 away. Else 255 often marks what nobody"
    assert f"{remedy} annotated: --ignore 255" in " ".join(said.split())


def test_sides_that_four_poolings_do_not_halve(tmp_path):
    report = check(good(tmp_path, size=(50, 60)))
    (note,) = report.notes
    assert "multiple of 16" in note.cause and len(note.files) == 4
    assert "(48, 64)" in note.remedy and not report.problems


# All at once


def test_a_thousand_of_a_kind_are_one_line(tmp_path):
    good(tmp_path, count=1)
    for n in range(30):
        shutil.copy(tmp_path / "images" / "0.jpg", tmp_path / "images" / f"a{n}.jpg")
    report = check(tmp_path)
    (problem,) = report.problems
    assert len(problem.files) == 30 and "and 27 more" in str(problem)
    assert max(map(len, str(report).splitlines())) <= 120


def test_show_draws_pairs(tmp_path):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    report = check(good(tmp_path))
    report.show(count=3)
    assert len([axes for axes in plt.gcf().axes if axes.images]) == 3
    plt.close("all")


def test_no_folder_is_wrong_usage(tmp_path):
    with pytest.raises(FileNotFoundError, match=says("masks is not a folder")):
        check_pairs(good(tmp_path) / "images", tmp_path / "images" / "masks")


def test_masks_of_one_bit_and_of_fractions(tmp_path):
    good(tmp_path)
    Image.fromarray(square(48, 64) > 0).save(tmp_path / "masks" / "1_mask.png")
    (tmp_path / "masks" / "2_mask.png").unlink()
    save(tmp_path / "masks" / "2_mask.tif", square(48, 64).astype(np.float32))
    assert not check(tmp_path).problems
    halves = square(48, 64).astype(np.float32)
    halves[0, :9] = 0.5
    save(tmp_path / "masks" / "2_mask.tif", halves)
    assert "0.5 in 9 pixels" in only(check(tmp_path), "more than two", "2_mask.tif")


def test_a_picture_shows_classes_in_several_colours(tmp_path):
    truth = np.zeros((40, 60), np.uint8)
    truth[5:15, 5:15], truth[20:35, 20:50] = 1, 2
    for name, pixels in (("images", truth * 0 + 100), ("masks", truth)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    colours = {}
    for classes in (3, 2):
        if classes == 2:
            Image.fromarray((truth > 0).astype(np.uint8)).save(tmp_path / "masks/a.png")
        folders = tmp_path / "images", tmp_path / "masks"
        report = check_pairs(*folders, num_classes=classes)
        picture = drawn_by._picture(report, report.pairs[0], 40)
        colours[classes] = {tuple(x) for x in picture.reshape(-1, 3).round(3)}
    assert len(colours[3]) == 3 and len(colours[2]) == 2


def test_a_picture_shows_what_is_unknown_if_any_mask_has_it(tmp_path):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    good(tmp_path, count=12)
    for number, rows in ((7, 4), (10, 12)):  # neither is the first of a third
        mask = square(48, 64)
        mask[:rows] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}_mask.png")
    report = check(tmp_path, ignore=255)
    assert [path.stem for path in report.marked] == ["10_mask", "7_mask"]
    report.show(count=3)
    titles = [axes.get_title() for axes in plt.gcf().axes if axes.images]
    assert titles[-1] == "10.jpg" and len(titles) == 3
    picture = drawn_by._picture(report, report.pairs[-1], 48)
    plt.close("all")
    report.marked = []
    report.show(count=3)
    titles = [axes.get_title() for axes in plt.gcf().axes if axes.images]
    assert "10.jpg" not in titles and picture.shape == (48, 64, 3)
    plt.close("all")


def test_masks_of_several_pages_are_told_what_masks_need(tmp_path):
    import tifffile

    good(tmp_path)
    for side, name in (("images", "s"), ("masks", "s_mask")):
        pages = np.stack([square(48, 64)] * 5)
        tifffile.imwrite(tmp_path / side / f"{name}.tif", pages)
    told = [str(problem) for problem in check(tmp_path).problems]
    assert "channels=5" in told[0] and "s.tif" in told[0]
    assert "channels" not in told[1] and "unet-tutorial pages" in told[1]


def test_a_turned_photograph_whose_size_tells_nothing(tmp_path):
    good(tmp_path)
    exif = Image.Exif()
    exif[274] = 3
    path = tmp_path / "images" / "1.jpg"
    Image.open(path).save(path, exif=exif)
    report = check(tmp_path)
    cause = "is turned by its EXIF orientation, and its mask is not"
    (note,) = [note for note in report.notes if note.cause == cause]
    assert note.files == {path: "orientation 3"} and not report.problems
    mask = tmp_path / "masks" / "1_mask.png"
    Image.open(mask).save(mask, exif=exif)
    assert cause not in {note.cause for note in check(tmp_path).notes}


def test_one_inverted_mask_where_objects_are_most_of_each(tmp_path):
    good(tmp_path, count=5)
    for number in range(5):
        mask = np.full((48, 64), number != 3, np.uint8)
        mask[:10] = number == 3
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}_mask.png")
    notes = check(tmp_path).notes
    notes = [note for note in notes if "mostly background" in note.cause]
    assert [path.name for note in notes for path in note.files] == ["3_mask.png"]
    assert "255 - mask" in notes[0].remedy


def test_masks_of_two_values_without_a_0(tmp_path):
    good(tmp_path)
    for number in range(4):
        mask = 5 + 3 * square(48, 64)
        Image.fromarray(mask.astype(np.uint8)).save(
            tmp_path / "masks" / f"{number}_mask.png"
        )
    (problem,) = check(tmp_path).problems
    assert problem.cause == "holds no 0" and "threshold=6" in problem.remedy
    report = check(tmp_path, threshold=6)
    assert not report.problems
    assert abs(report.share - square(48, 64).mean()) < 1e-6


@pytest.mark.parametrize("classes", [2, 3])
def test_palettes_that_number_their_colours_otherwise(tmp_path, classes):
    colours = np.array([(0, 0, 0), (200, 0, 0), (0, 180, 0)])
    good(tmp_path, count=5)
    truth = square(48, 64).astype(np.uint8)
    truth[-4:] = classes - 1
    masks = [tmp_path / "masks" / f"{n}_mask.png" for n in range(5)]
    for path in masks:
        save_palette(path, truth, colours.ravel().tolist())
    folders = tmp_path / "images", tmp_path / "masks"
    names = ("background", "red", "green")[:classes]
    assert not check(tmp_path, num_classes=classes).problems
    save_palette(masks[1], truth, [*colours.ravel().tolist(), 9, 9, 9])  # alike
    assert len(open_folder(*folders, classes=names)) == 5
    order = np.array([1, 0, 2] if classes == 2 else [0, 2, 1])
    numbers = order[truth].astype(np.uint8)
    save_palette(masks[2], numbers, colours[order].ravel().tolist())
    (problem,) = check(tmp_path, num_classes=classes).problems
    assert [*problem.files] == [masks[2]] and "elsewhere" in problem.files[masks[2]]
    with pytest.raises(ValueError, match=says("numbers its colours", "2_mask.png")):
        open_folder(*folders, classes=names)
    assert not check(tmp_path, num_classes=None).problems
    Image.fromarray(np.array(Image.open(masks[2]))).save(masks[2])  # the remedy
    assert not check(tmp_path, num_classes=classes).problems
