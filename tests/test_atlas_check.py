"What `check` says about a folder of kinds of the atlas, and that its remedies work."

import atlas
import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import thin_net

from unet_tutorial.cli import main
from unet_tutorial.data.check import check_pairs
from unet_tutorial.data.datasets import check_source, open_folder
from unet_tutorial.data.images import BadFile, as_images, read_mask
from unet_tutorial.deploy.folder import predict_files
from unet_tutorial.predict import Predictor


def folder(path, masks, save=None):
    "Images and masks 0, 1, ... below a path; returns their two folders."
    for name in ("images", "masks"):
        (path / name).mkdir()
    for number, mask in enumerate(masks):
        Image.fromarray(atlas.GREY).save(path / "images" / f"{number}.png")
        (save or (lambda mask, to: Image.fromarray(mask).save(f"{to}.png")))(
            mask, path / "masks" / str(number)
        )
    return path / "images", path / "masks"


def test_a_mask_that_is_inverted_among_others_is_named(tmp_path):
    masks = [255 * atlas.MASK] * 4 + [255 - 255 * atlas.MASK]
    report = check_pairs(*folder(tmp_path, masks))
    (note,) = [note for note in report.notes if "mostly object" in note.cause]
    assert [path.name for path in note.files] == ["4.png"]
    assert report.share == pytest.approx((4 * 66 + 702) / 768 / 5)


def test_masks_that_are_all_inverted_are_noted_and_the_remedy_works(tmp_path, capsys):
    where = folder(tmp_path, [255 - 255 * atlas.MASK] * 2)
    line = ["check", *map(str, where)]
    assert main(line) == 0
    told = capsys.readouterr().out
    assert "most pixels are object" in told and "--invert" in told and "91.4%" in told
    assert main([*line, "--invert"]) == 0
    told = capsys.readouterr().out
    assert "8.6%" in told and "most pixels" not in told
    source = open_folder(*where, invert=True)
    assert np.array_equal(source.labels(0), atlas.MASK)


def test_masks_published_as_jpeg(tmp_path, capsys):
    def save(mask, to):
        to.with_suffix(".jpg").write_bytes(atlas.jpeg_of(mask, quality=60))

    where = folder(tmp_path, [255 * atlas.MASK] * 2, save)
    line = ["check", *map(str, where)]
    assert main(line) == 1
    assert "--threshold 127" in capsys.readouterr().out
    assert main([*line, "--threshold", "127"]) == 0
    assert "8.6%" in capsys.readouterr().out
    source = open_folder(*where, threshold=127)
    assert check_source(source) == []
    assert np.array_equal(source.labels(0), atlas.MASK)


def test_a_threshold_that_parts_nothing_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(atlas.jpeg_of(atlas.MASK * 255))
    with pytest.raises(BadFile, match="one side of the threshold.*would"):
        read_mask(tmp_path / "a.jpg", threshold=300)


def test_threshold_and_invert_are_for_two_classes(tmp_path):
    where = folder(tmp_path, [atlas.MASK])
    with pytest.raises(ValueError, match="num_classes=2"):
        check_pairs(*where, num_classes=3, threshold=127)
    with pytest.raises(ValueError, match="one object"):
        open_folder(*where, instances=True, invert=True)


def test_outlines_in_a_tiff_are_noticed(tmp_path):
    images, masks = folder(tmp_path, [atlas.MASK] * 2)
    (images / "0.png").unlink()
    atlas.outlines(images / "0.tif")
    notes = [str(note) for note in check_pairs(images, masks).notes]
    (note,) = [note for note in notes if "carries outlines" in note]
    assert "0.tif" in note and "1.png" not in note


def test_one_channel_from_check_to_prediction(tmp_path):
    images, masks = folder(tmp_path, [atlas.MASK] * 2)
    for number in (0, 1):
        (images / f"{number}.png").unlink()
        two = atlas.STACK[2 * number : 2 * number + 2]
        tifffile.imwrite(
            images / f"{number}.tif", two, imagej=True, metadata={"axes": "CYX"}
        )
    report = check_pairs(images, masks, channel=1)
    assert not report.problems
    source = open_folder(images, masks, channel=1)
    assert source.channels == 1 and source.size(0) == atlas.SIZE
    assert np.array_equal(source.image(1), atlas.STACK[3])
    assert check_source(source) == []
    with pytest.raises(ValueError, match="no channel 2.*channel=0 to 1"):
        open_folder(images, masks, channel=2)
    predictor = Predictor(thin_net(padding=1))
    predict_files(predictor, images, tmp_path / "to", channel=1)
    (seen, _), (mask, _) = (
        as_images(path, channel=channel)
        for path, channel in ((images / "1.tif", 1), (tmp_path / "to/1_mask.png", None))
    )
    assert np.array_equal(mask[0] > 0, predictor(seen[0]) > 0)


def test_a_stack_of_more_than_4_gb(tmp_path):
    "4,200 pages of a megapixel, one of them listed; a sparse file of 4.4 GB."
    path, count, side = tmp_path / "a.tif", 4200, 1024
    text = f"ImageJ=1.54f\nimages={count}\nslices={count}\n"
    first = np.full((side, side), 7, np.uint8)
    tifffile.imwrite(path, first, description=text, metadata=None)
    with open(path, "r+b") as file:
        start = path.stat().st_size - side * side
        file.truncate(start + count * side * side)
        file.seek(start + (count - 1) * side * side)
        file.write(b"\x09" * side)
    images, stack = as_images(path)
    assert stack and len(images) == count
    assert (images[0] == 7).all() and (images[-1][0] == 9).all() and not images[5].any()
