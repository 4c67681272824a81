"""Every data set behind the same interface."""

import pickle
import shutil

import numpy as np
import pytest
from samples import (
    carvana,
    ctc,
    cut_off,
    isbi,
    noise,
    nuclei,
    pets,
    save,
    save_palette,
    save_stack,
    says,
    square,
    two_cells,
)

from unet_tutorial.data.crops import random_windows
from unet_tutorial.data.datasets import (
    find_carvana,
    load_isbi,
    open_carvana,
    open_ctc,
    open_folder,
    open_isbi,
    open_nuclei,
    open_pets,
    open_source,
)
from unet_tutorial.data.photos import ImagePairs
from unet_tutorial.data.source import split_by_car

# Membranes


def test_membranes_are_one(tmp_path):
    images, inside = isbi(tmp_path)
    got, masks = load_isbi(tmp_path)
    assert np.array_equal(got, images) and masks.dtype == np.uint8
    assert np.array_equal(masks, inside == 0)


def test_one_of_the_two_files_is_missing(tmp_path):
    isbi(tmp_path)
    (tmp_path / "unpacked" / "train-labels.tif").unlink()
    words = says("train-labels.tif", "found unpacked", "train-volume.tif", "https://")
    with pytest.raises(FileNotFoundError, match=words):
        load_isbi(tmp_path)


def test_a_file_that_is_there_twice(tmp_path):
    isbi(tmp_path / "one")
    isbi(tmp_path / "two")
    words = says("one/unpacked", "two/unpacked", "train-volume.tif", "give a folder")
    with pytest.raises(ValueError, match=words):
        load_isbi(tmp_path)
    load_isbi(tmp_path / "two")


def test_volume_and_labels_swapped(tmp_path):
    images, inside = isbi(tmp_path)
    save_stack(tmp_path / "unpacked" / "train-volume.tif", inside)
    save_stack(tmp_path / "unpacked" / "train-labels.tif", images)
    with pytest.raises(ValueError, match=says("train-labels.tif", "values", "swapped")):
        load_isbi(tmp_path)


@pytest.mark.parametrize("shape", [(2, 32, 32), (3, 32, 33)])
def test_volume_and_labels_of_different_sizes(tmp_path, shape):
    isbi(tmp_path)
    save_stack(tmp_path / "unpacked" / "train-labels.tif", noise(*shape) % 2)
    words = says("train-volume.tif", "train-labels.tif", str(shape), "get both again")
    with pytest.raises(ValueError, match=words):
        load_isbi(tmp_path)


# Pairs


def test_pairs_are_sorted_and_know_their_car(tmp_path):
    pairs = find_carvana(carvana(tmp_path, ["b_01", "a_10", "a_01"]))
    assert [(p.group, int(p.image.stem[-2:])) for p in pairs] == [
        ("a", 1),
        ("a", 10),
        ("b", 1),
    ]
    assert all(pair.mask.name == f"{pair.image.stem}_mask.gif" for pair in pairs)


def test_names_that_begin_alike_are_not_confused(tmp_path):
    names = ["1_01", "10_01", "1_10", "1.5_01", "a.jpg_01", "a_b_01", "01_01_01"]
    pairs = find_carvana(carvana(tmp_path, names))
    assert sorted(pair.image.stem for pair in pairs) == sorted(names)
    assert all(pair.mask.name == f"{pair.image.stem}_mask.gif" for pair in pairs)
    assert {p.group for p in pairs} == {"1", "10", "1.5", "a.jpg", "a_b", "01_01"}


def test_folders_as_the_archives_unpack(tmp_path):
    carvana(tmp_path / "train")
    (tmp_path / "train" / "train_masks").rename(tmp_path / "train_masks")
    save(tmp_path / "test" / "z_01.jpg", noise(40, 60, 3))
    save(tmp_path / "train" / "train" / "._a_01.jpg", noise(40, 60, 3))
    save(tmp_path / "train" / "train" / "other.jpg", noise(40, 60, 3))
    assert len(find_carvana(tmp_path)) == 3


def test_all_in_one_folder(tmp_path):
    carvana(tmp_path)
    for path in list(tmp_path.rglob("*_*.*")):
        path.rename(tmp_path / path.name)
    assert len(find_carvana(tmp_path)) == 3


@pytest.mark.parametrize(
    ("folder", "wanted"),
    [("train", r"*_[0-9][0-9]_mask.gif"), ("train_masks", r"*_[0-9][0-9].jpg")],
)
def test_only_the_images_or_only_the_masks(tmp_path, folder, wanted):
    carvana(tmp_path)
    words = says(wanted, folder, "a_01", "Give the folder that holds all", "https://")
    with pytest.raises(FileNotFoundError, match=words):
        find_carvana(tmp_path / folder)


@pytest.mark.parametrize("name", ["train/a_02.jpg", "train_masks/a_02_mask.gif"])
def test_an_image_or_a_mask_alone(tmp_path, name):
    (carvana(tmp_path) / name).unlink()
    with pytest.raises(
        FileNotFoundError,
        match=says("1 files", "a_02", "no partner", "train_masks.zip"),
    ):
        find_carvana(tmp_path)


def test_many_files_alone_are_counted(tmp_path):
    carvana(tmp_path, [f"a_{view:02}" for view in range(1, 17)])
    for path in (tmp_path / "train_masks").glob("a_0*"):
        path.unlink()
    words = says("9 files", "a_01.jpg, a_02.jpg, a_03.jpg and 6 more")
    with pytest.raises(FileNotFoundError, match=words):
        find_carvana(tmp_path)


def test_swapped_folders(tmp_path):
    carvana(tmp_path)
    (tmp_path / "train").rename(tmp_path / "other")
    (tmp_path / "train_masks").rename(tmp_path / "train")
    (tmp_path / "other").rename(tmp_path / "train_masks")
    with pytest.raises(
        ValueError, match=says("swapped", "train_masks/a_01.jpg", "Exchange")
    ):
        find_carvana(tmp_path)


def test_the_same_image_in_two_folders(tmp_path):
    carvana(tmp_path)
    save(tmp_path / "train_hq" / "a_01.jpg", noise(40, 60, 3))
    words = says("train/a_01.jpg", "train_hq/a_01.jpg", "same name", "one of them")
    with pytest.raises(ValueError, match=words):
        find_carvana(tmp_path)


# Sources


def write_all(folder):
    "A folder of each kind; kind -> folder."
    isbi(folder / "isbi")
    ctc(folder / "ctc")
    carvana(folder / "carvana")
    pets(folder / "pets")
    nuclei(folder / "nuclei")
    save(folder / "folder" / "one.png", noise(40, 60, 3))
    save_palette(folder / "folder" / "one_mask.png", square())
    return {place.name: place for place in folder.iterdir()}


def test_every_kind_keeps_the_contract(tmp_path):
    for kind, folder in write_all(tmp_path).items():
        source = open_source(kind, folder)
        assert len(source) == len(source.groups) >= 1 and source.classes[0]
        for n in range(len(source)):
            for size in (None, (20, 30)):
                image, labels = source.image(n, size), source.labels(n, size)
                assert image.dtype == np.uint8 and image.shape[:2] == labels.shape
                assert image.shape[2:] == ((3,) if source.channels == 3 else ())
                assert labels.dtype.kind in "iu" and labels.shape == (
                    size or labels.shape
                )
                assert labels.min() >= 0
                assert source.instances or labels.max() < len(source.classes)
            assert source.files(n) and all(path.is_file() for path in source.files(n))
        again = pickle.loads(pickle.dumps(source))
        assert np.array_equal(again.labels(0), source.labels(0))
        assert source.subset([0]).groups == source.groups[:1]


def test_files_are_read_when_they_are_asked_for(tmp_path):
    for kind, folder in write_all(tmp_path).items():
        source = open_source(kind, folder)
        if kind != "isbi":  # whose stacks are compared at once
            shutil.rmtree(folder)
            with pytest.raises(FileNotFoundError):
                source.image(0)


def test_an_unknown_kind(tmp_path):
    words = says("'cars'", "isbi, ctc, carvana, pets, nuclei, folder")
    with pytest.raises(ValueError, match=words):
        open_source("cars", tmp_path)


@pytest.mark.parametrize("kind", ["isbi", "ctc", "carvana", "pets", "nuclei"])
def test_nothing_there(tmp_path, kind):
    with pytest.raises(
        FileNotFoundError, match=says("other.png", "get " + NAMES[kind])
    ):
        save(tmp_path / "other.png", noise(4, 4))
        open_source(kind, tmp_path)
    with pytest.raises(FileNotFoundError, match=says("nowhere", "is not a folder")):
        open_source(kind, tmp_path / "nowhere")


NAMES = {"ctc": "hela", **{k: k for k in ("isbi", "carvana", "pets", "nuclei")}}


def test_the_order_is_that_of_the_names(tmp_path):
    names = ["b_01", "B_01", "a_10", "a_09", "_1_01"]
    source = open_carvana(carvana(tmp_path, names))
    assert [item.image.stem for item in source.items] == sorted(names)
    source = open_nuclei(nuclei(tmp_path, ["b", "B", "a10", "a9"]))
    assert source.groups == ["B", "a10", "a9", "b"]


# Membranes as a source


def test_slices_are_pages(tmp_path):
    images, inside = isbi(tmp_path, slices=6)
    source = open_isbi(tmp_path)
    assert source.channels == 1 and source.classes == ("cell", "membrane")
    for n in range(6):
        assert np.array_equal(source.image(n), images[n])
        assert np.array_equal(source.labels(n), inside[n] == 0)
    train, block = source.split(2, seed=3)
    pages = [item.page for item in block.items]
    assert pages[1] == pages[0] + 1
    assert not {pages[0] - 1, pages[1] + 1} & {item.page for item in train.items}
    assert len(open_isbi(tmp_path, gap=0).split(2)[0]) == 4


def test_the_volume_without_labels_is_left_alone(tmp_path):
    isbi(tmp_path)
    (tmp_path / "unpacked" / "test-volume.tif").write_bytes(b"no matter what")
    assert len(open_isbi(tmp_path)) == 3


# Cells


def test_gold_and_silver(tmp_path):
    top = ctc(tmp_path)
    gold, silver = open_ctc(tmp_path), open_ctc(top, truth="silver")
    assert gold.groups == ["01", "01", "02", "02"] and len(silver) == 6
    assert gold.instances and gold.channels == 1 and gold.note == ""
    assert [item.image.name for item in gold.items] == ["t000.tif", "t002.tif"] * 2
    assert np.array_equal(gold.labels(1), two_cells())  # numbers as in the file
    train, valid = gold.split()
    assert {*train.groups} != {*valid.groups}
    with pytest.raises(ValueError, match=says("'bronze'", "gold", "silver")):
        open_ctc(top, truth="bronze")


def spoil(top, cells, frame=2, truth="GT/SEG/man_seg"):
    return save(top / f"02_{truth}{frame:03}.tif", cells)


def only(value):
    return np.where(two_cells() == value, two_cells(), 0).astype(np.uint16)


def test_a_frame_that_is_annotated_in_part(tmp_path):
    top = ctc(tmp_path)
    spoil(top, only(300))
    cells, every = open_ctc(top), open_ctc(top, partial=True)
    assert len(cells) == 3 and len(every) == 4
    assert [item.partial for item in every.items] == [False, False, False, True]
    for source in (cells, every):
        assert "02_GT/SEG/man_seg002.tif (1 of 2 cells)" in repr(source)
    assert "left out" in cells.note and "left out" not in every.note
    assert not any(item.partial for item in open_ctc(top, "silver").items)


def test_a_cell_that_is_drawn_a_little_smaller_is_there(tmp_path):
    top, cells = ctc(tmp_path), two_cells()
    cells[12:15] = 0  # 7 of 10 rows are left
    spoil(top, cells)
    assert open_ctc(top).note == ""
    cells[9:12] = 0  # 4 of 10
    spoil(top, cells)
    assert "man_seg002.tif (1 of 2 cells)" in open_ctc(top).note


def test_markers_are_asked_before_silver(tmp_path):
    top = ctc(tmp_path)
    spoil(top, only(300))
    spoil(top, only(300), truth="GT/TRA/man_track")  # there is no other cell
    assert open_ctc(top).note == ""
    spoil(top, two_cells(), truth="GT/TRA/man_track", frame=0)
    spoil(top, only(3), frame=0)
    assert "man_seg000.tif (1 of 2 cells)" in open_ctc(top).note


def test_an_empty_gold_frame_lacks_all_cells(tmp_path):
    top = ctc(tmp_path)
    spoil(top, 0 * two_cells())
    assert "(0 of 2 cells)" in open_ctc(top).note


def test_all_frames_in_part(tmp_path):
    top = ctc(tmp_path, gold=[1])
    for sequence in ("01", "02"):
        save(top / f"{sequence}_GT/SEG/man_seg001.tif", only(3))
    with pytest.raises(ValueError, match=says("man_seg001", "partial=True", "silver")):
        open_ctc(top)
    assert len(open_ctc(top, partial=True)) == 2


def test_neither_markers_nor_silver(tmp_path):
    source = open_ctc(ctc(tmp_path, silver=()))
    assert len(source) == 4
    assert "4 frames have no other truth to compare with" in source.note
    assert len(open_ctc(tmp_path, partial=True)) == 4


def test_a_truth_without_its_frame(tmp_path):
    top = ctc(tmp_path)
    (top / "01" / "t002.tif").unlink()
    with pytest.raises(FileNotFoundError, match=says("man_seg002", "t002", "missing")):
        open_ctc(top)


def test_two_data_sets_of_cells(tmp_path):
    ctc(tmp_path)
    ctc(tmp_path, name="PhC")
    with pytest.raises(ValueError, match=says("DIC", "PhC", "folder of one")):
        open_ctc(tmp_path)
    assert "PhC" in open_ctc(tmp_path / "PhC").name


def test_gold_and_silver_of_different_sizes(tmp_path):
    spoil(ctc(tmp_path), two_cells(40, 61))
    words = says("man_seg002", "(40, 61)", "(40, 60)")
    with pytest.raises(ValueError, match=words):
        open_ctc(tmp_path)


# Pets


def test_pets_have_three_classes_and_an_official_split(tmp_path):
    source = open_pets(pets(tmp_path))
    assert source.classes == ("background", "pet", "border")
    assert np.array_equal(source.labels(0)[20], square()[20])
    assert (source.labels(0)[9] == 2).all()
    train, test = source.split(seed=5)
    assert train.groups == ["b_1", "a_1", "a_2"] and test.groups == ["c_1"]
    assert len(open_pets(tmp_path).split(2)[1]) == 2


def test_pets_in_grey_get_three_channels(tmp_path):
    save(pets(tmp_path) / "images" / "a_1.jpg", noise(40, 60))
    assert open_pets(tmp_path).image(1).shape == (40, 60, 3)


def test_a_trimap_with_other_values(tmp_path):
    save(pets(tmp_path) / "annotations" / "trimaps" / "b_1.png", noise(40, 60))
    with pytest.raises(
        ValueError, match=says("b_1.png", "holds", "2, 1, 3", "NEAREST")
    ):
        open_pets(tmp_path).labels(0)


def test_pets_that_the_lists_name_and_are_missing(tmp_path):
    folder = pets(tmp_path)
    (folder / "images" / "a_2.jpg").unlink()
    (folder / "annotations" / "trimaps" / "c_1.png").unlink()
    words = says("2 files", "a_2.jpg", "c_1.png", "get pets")
    with pytest.raises(FileNotFoundError, match=words):
        open_pets(tmp_path)
    (folder / "annotations" / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=says("test.txt", "trainval.txt")):
        open_pets(tmp_path)


# Nuclei


def test_nuclei_are_numbered_by_their_files(tmp_path):
    source = open_nuclei(nuclei(tmp_path))
    cells = two_cells()
    assert source.instances and source.groups == ["aa", "bb"]
    assert np.array_equal(source.labels(0), 1 * (cells == 3) + 2 * (cells == 300))
    assert source.image(0).shape == (40, 60, 3) and len(source.files(0)) == 3
    assert np.unique(source.labels(0, (20, 30))).tolist() == [0, 1, 2]


def test_where_nuclei_overlap_the_smaller_wins(tmp_path):
    folder = nuclei(tmp_path)
    large, small = np.zeros((2, 40, 60), np.uint8)
    large[5:35, 5:35], small[10:20, 10:20] = 255, 255
    for name, mask in [("0", small), ("1", large), ("2", small)]:
        save(folder / "aa" / "masks" / f"{name}.png", mask)
    labels = open_nuclei(folder).labels(0)
    assert (labels[10:20, 10:20] == 1).all()  # of two equal ones the first
    assert (labels == 2).sum() == 900 - 100 and not (labels == 3).any()


def test_a_hidden_mask_is_none(tmp_path):
    folder = nuclei(tmp_path)
    (folder / "aa" / "masks" / "._0.png").write_bytes(b"of a Mac")
    assert open_nuclei(folder).labels(0).max() == 2


def test_nuclei_without_masks(tmp_path):
    folder = nuclei(tmp_path)
    shutil.rmtree(folder / "bb" / "masks")
    with pytest.raises(FileNotFoundError, match=says("1 folders", "bb", "training")):
        open_nuclei(folder)


def test_training_and_test_images_of_nuclei(tmp_path):
    nuclei(tmp_path)
    nuclei(tmp_path, top="stage1_test")
    with pytest.raises(ValueError, match=says("stage1_test", "stage1_train", "one")):
        open_nuclei(tmp_path)


def test_a_nucleus_of_another_size(tmp_path):
    save(nuclei(tmp_path) / "aa" / "masks" / "1.png", square(41, 60))
    with pytest.raises(ValueError, match=says("1.png", "(41, 60)", "(40, 60)")):
        open_nuclei(tmp_path).labels(0)


# Any folder


def test_a_folder_of_masks(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / "images" / f"{name}.png", noise(40, 60))
        save(tmp_path / "masks" / f"{name}.png", 255 * square())
    source = open_folder(tmp_path / "images", tmp_path / "masks")
    assert source.channels == 1 and source.name == "images"
    assert np.array_equal(source.labels(0), square())
    assert len(set(source.groups)) == 3 and len(source.split()[1]) == 1
    save(tmp_path / "images" / "b.png", noise(40, 60, 3))
    source = open_folder(tmp_path / "images", tmp_path / "masks")
    assert {source.image(n).shape for n in range(3)} == {(40, 60, 3)}
    assert np.ptp(source.image(0), axis=2).max() == 0  # grey, three times


def test_a_folder_with_groups(tmp_path):
    for name in ("p1_1", "p1_2", "p2_1", "p2_2"):
        save(tmp_path / f"{name}.png", noise(40, 60))
        save(tmp_path / f"{name}_mask.png", square())
    source = open_folder(tmp_path, group=lambda path: path.stem[:2])
    assert source.groups == ["p1", "p1", "p2", "p2"] and source.unit == "group"
    train, valid = source.split()
    assert {*train.groups}.isdisjoint(valid.groups) and len(valid) == 2


def test_a_folder_of_several_classes(tmp_path):
    labels = square() + square()[::-1, ::-1]  # 0, 1, 2
    save(tmp_path / "images" / "a.png", noise(40, 60))
    save(tmp_path / "masks" / "a.png", labels)
    folders, names = (tmp_path / "images", tmp_path / "masks"), ("none", "one", "two")
    assert np.array_equal(open_folder(*folders, classes=names).labels(0), labels)
    with pytest.raises(ValueError, match=says("a.png", "more than two values")):
        open_folder(*folders).labels(0)
    save(tmp_path / "masks" / "a.png", np.array([0, 255, 128], np.uint8)[labels])
    with pytest.raises(
        ValueError, match=says("a.png", "128, 255", "0, 1, 2", "values=")
    ):
        open_folder(*folders, classes=names).labels(0)
    source = open_folder(*folders, classes=names, values=(0, 255, 128))
    assert np.array_equal(source.labels(0), labels)


def test_as_many_values_as_classes(tmp_path):
    words = says("3 values", "2 classes")
    with pytest.raises(ValueError, match=words):
        open_folder(tmp_path, values=(0, 1, 2))


def test_a_folder_of_instances(tmp_path):
    save(tmp_path / "images" / "a.png", noise(40, 60))
    save(tmp_path / "masks" / "a.tif", two_cells())
    source = open_folder(tmp_path / "images", tmp_path / "masks", instances=True)
    assert source.instances and np.array_equal(source.labels(0), two_cells())


def test_a_mask_of_another_size_than_its_image(tmp_path):
    save(carvana(tmp_path) / "train" / "a_01.jpg", noise(40, 61, 3))
    words = says("a_01.jpg is (40, 61)", "a_01_mask.gif is (40, 60)", "size")
    with pytest.raises(ValueError, match=words):
        open_carvana(tmp_path).labels(0, (20, 30))


def test_a_frame_in_colour_where_grey_is_due(tmp_path):
    save(ctc(tmp_path) / "01" / "t000.tif", noise(40, 60, 3))
    with pytest.raises(ValueError, match=says("t000.tif", "colour", "grey")):
        open_ctc(tmp_path).image(0)


def test_a_link_to_the_data(tmp_path):
    ctc(tmp_path / "far")
    (tmp_path / "near").mkdir()
    try:
        (tmp_path / "near" / "DIC").symlink_to(tmp_path / "far" / "DIC", True)
    except OSError:
        pytest.skip("no links can be made here")
    (tmp_path / "far" / "DIC" / "back").symlink_to(tmp_path / "near", True)
    assert len(open_ctc(tmp_path / "near")) == 4


# The real files


def test_the_real_membranes(real_isbi):
    images, masks = load_isbi(real_isbi)
    assert images.shape == masks.shape == (30, 512, 512)
    assert set(np.unique(masks)) == {0, 1}
    assert round(masks.mean(), 4) == 0.2196
    source = open_isbi(real_isbi)
    assert np.array_equal(source.labels(7), masks[7]) and len(source.split()[0]) >= 22
    x, label = random_windows(images, masks)[0]
    assert x.shape == (1, 572, 572) and label.shape == (388, 388)


def test_the_real_cars(real_carvana):
    pairs = find_carvana(real_carvana)
    names = {pair.group for pair in pairs}
    assert len(names) in (15, 318) and len(pairs) == 16 * len(names)
    train, valid = split_by_car(pairs)
    source = open_carvana(real_carvana)
    assert source.split(4)[1].items == [
        item for item in source.items if item.group in {p.group for p in valid}
    ]
    assert {p.group for p in train}.isdisjoint({p.group for p in valid})
    x, label = ImagePairs(valid[:3])[0]
    assert x.shape == (3, 160, 240) and label.unique().tolist() == [0, 1]


def test_the_real_cells(real_data):
    folder = real_data / "DIC-C2DH-HeLa"
    if not folder.is_dir():
        pytest.skip("the real data have no DIC-C2DH-HeLa (Cell Tracking Challenge)")
    gold, every = open_ctc(folder), open_ctc(folder, partial=True)
    silver = open_ctc(folder, truth="silver")
    assert (len(gold), len(every), len(silver)) == (17, 18, 168)
    assert "01_GT/SEG/man_seg067.tif (3 of 17 cells)" in gold.note
    assert [n for n, item in enumerate(every.items) if item.partial] == [8]
    assert gold.image(0).shape == gold.labels(0).shape == (512, 512)
    train, valid = gold.split()
    assert sorted([len(train), len(valid)]) == [8, 9]


# How large an image is, and how often a page is decoded


def test_the_size_is_known_without_decoding_a_pixel(tmp_path, decoded):
    for kind, folder in write_all(tmp_path).items():
        source = open_source(kind, folder)
        decoded.clear()  # the cells of two truths were compared
        sizes = [source.size(n) for n in range(len(source))]
        assert decoded == [], kind
        assert sizes == [source.image(n).shape[:2] for n in range(len(source))]
        assert decoded != []


def test_each_page_of_a_stack_is_decoded_once(tmp_path, decoded):
    images, inside = isbi(tmp_path, slices=12)
    source = open_isbi(tmp_path)
    assert len(source) == 12 and decoded == []  # the heads of the pages are enough
    for n in range(12):
        assert source.size(n) == (32, 32)
        assert np.array_equal(source.image(n), images[n])
        assert np.array_equal(source.labels(n), inside[n] == 0)
    assert len(decoded) == 12 + 12


def test_stacks_of_two_lengths_are_refused_when_they_are_opened(tmp_path, decoded):
    isbi(tmp_path)
    save_stack(tmp_path / "unpacked" / "train-labels.tif", noise(2, 32, 32) % 2)
    with pytest.raises(ValueError, match=says("(3, 32, 32)", "(2, 32, 32)", "again")):
        open_isbi(tmp_path)
    assert decoded == []


def test_stacks_cut_off_are_refused_when_they_are_opened(tmp_path):
    isbi(tmp_path)
    cut_off(tmp_path / "unpacked" / "train-labels.tif", share=0.5)
    with pytest.raises(ValueError, match=says("train-labels.tif", "cut off")):
        open_isbi(tmp_path)
