"Images of 2, 3, 4 and 5 channels, from files on disk to masks on disk."

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import noise, says

from unet_tutorial.cli import main
from unet_tutorial.data.check import check_pairs
from unet_tutorial.data.crops import read_example
from unet_tutorial.data.datasets import check_source, open_folder
from unet_tutorial.data.images import (
    BadFile,
    as_images,
    channels_last,
    common_channels,
    composite,
    read_image,
    read_mask,
    read_pixels,
    upright_size,
)
from unet_tutorial.data.outputs import painted, write_overlay
from unet_tutorial.deploy.folder import predict_files
from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.run import evaluate_run, train_run
from unet_tutorial.runs.weights import save_net
from unet_tutorial.show import plt
from unet_tutorial.synthetic import draw_cells


def hyper(path, image, **options):
    "Write each channel as a page; the metadata name the axis."
    kind = {"imagej": True} if "ome" not in options else {}
    pages = np.moveaxis(image, 2, 0)
    tifffile.imwrite(path, pages, metadata={"axes": "CYX"}, **kind, **options)


def in_pixels(path, image, **options):
    "Write the channels of a pixel side by side, as samples."
    kind = {"photometric": "minisblack", "planarconfig": "contig"} | options
    tifffile.imwrite(path, image, **kind)


def in_planes(path, image):
    in_pixels(path, np.moveaxis(image, 2, 0), planarconfig="separate")


WRITERS = {
    "imagej.tif": hyper,
    "ome.ome.tif": lambda path, image: hyper(path, image, ome=True),
    "zlib.tif": lambda path, image: in_pixels(path, image, compression="zlib"),
    "planes.tif": in_planes,
    "samples.tif": in_pixels,
    "tiles.tif": lambda path, image: in_pixels(path, image, tile=(16, 16)),
    "last.npy": np.save,
    "first.npy": lambda path, image: np.save(path, np.moveaxis(image, 2, 0)),
    "fortran.npy": lambda path, image: np.save(path, np.asfortranarray(image)),
    "plain.tif": lambda path, image: tifffile.imwrite(
        path, np.moveaxis(image, 2, 0), photometric="minisblack"
    ),
    "rows.tif": lambda path, image: (
        tifffile.imwrite(  # what tifffile makes of (H, W, C)
            path, image, photometric="minisblack"
        )
    ),
}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize("name", WRITERS)
def test_every_way_to_write_channels_is_read(tmp_path, name, channels, kind):
    image, path = noise(24, 32, channels).astype(kind), tmp_path / name
    WRITERS[name](path, image)
    images, stack = as_images(path, channels)
    assert not stack and np.array_equal(images[0], image) and images[0].dtype == kind
    assert np.array_equal(read_pixels(path, channels), image)
    assert upright_size(path, channels) == (24, 32)
    assert common_channels([path], channels) == channels
    if kind == np.uint8:
        assert np.array_equal(read_image(path, channels=channels), image)
        small = read_image(path, (12, 16), channels=channels)
        alone = Image.fromarray(image[..., -1]).resize((16, 12), Image.BILINEAR)
        assert np.array_equal(small[..., -1], alone)
    elif channels != 3:
        with pytest.raises(
            BadFile, match=says(name, "more than 8 bits", "value_range")
        ):
            read_image(path, channels=channels)
        scaled = read_image(path, channels=channels, value_range=(0, 255))
        assert np.array_equal(scaled, image.astype(np.uint8))


@pytest.mark.parametrize("channels", [2, 4, 5])
@pytest.mark.parametrize(
    "name",
    [
        n
        for n in WRITERS
        if n.split(".")[0] not in ("last", "first", "fortran", "plain", "rows")
    ],
)
def test_the_file_says_how_many_channels_it_has(tmp_path, name, channels):
    image, path = noise(24, 32, channels), tmp_path / name
    WRITERS[name](path, image)
    assert np.array_equal(as_images(path)[0][0], image)
    assert common_channels([path]) == channels
    with pytest.raises(BadFile, match=says(name, f"{channels} channels", "7 channels")):
        read_image(path, channels=7)


def test_a_file_that_says_nothing_is_a_stack_and_asks(tmp_path):
    image = noise(24, 32, 4)
    WRITERS["plain.tif"](tmp_path / "a.tif", image)
    assert as_images(tmp_path / "a.tif")[1]
    with pytest.raises(BadFile, match=says("a.tif", "4 pages", "channels=4")):
        read_image(tmp_path / "a.tif")
    np.save(tmp_path / "b.npy", np.moveaxis(image, 2, 0))
    with pytest.raises(BadFile, match=says("b.npy", "channels=4")):
        read_image(tmp_path / "b.npy")
    assert np.array_equal(read_image(tmp_path / "b.npy", axes="CHW"), image)
    assert np.array_equal(read_image(tmp_path / "a.tif", axes="CYX"), image)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", None])
def test_pages_that_pillow_decodes_are_channels_if_asked_for(tmp_path, compression):
    image, path = noise(24, 32, 4), tmp_path / "a.tif"
    first, *rest = [Image.fromarray(image[..., n]) for n in range(4)]
    first.save(path, save_all=True, append_images=rest, compression=compression)
    assert np.array_equal(read_image(path, channels=4), image)
    assert as_images(path)[1] and as_images(path, 1)[1]  # a stack of grey images


def test_large_channels_are_mapped_from_the_file(tmp_path):
    path, shape = tmp_path / "a.tif", (5, 4096, 4096)
    how = {"photometric": "minisblack", "metadata": {"axes": "CYX"}, "dtype": np.uint8}
    tifffile.memmap(path, shape=shape, **how).flush()
    (image,), stack = as_images(path, 5)
    assert image.shape == (4096, 4096, 5) and isinstance(image, np.memmap) and not stack


def test_a_cube_is_read_by_its_axes(tmp_path):
    cube = noise(4, 4, 4)
    np.save(tmp_path / "a.npy", cube)
    with pytest.raises(BadFile, match=says("a.npy", "either axis", "HWC", "CHW")):
        read_image(tmp_path / "a.npy", channels=4)
    first = read_image(tmp_path / "a.npy", channels=4, axes="CHW")
    assert np.array_equal(first, np.moveaxis(cube, 0, 2))


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX", "TZCYX"])
def test_depths_and_channels_are_not_mixed(tmp_path, axes):
    lengths = dict(zip("TZCYX", (2, 3, 4, 24, 32), strict=True))
    whole = noise(*(lengths[name] for name in axes))
    kinds = {"ome": True} if axes == "CZYX" else {"imagej": True}
    tifffile.imwrite(tmp_path / "a.tif", whole, metadata={"axes": axes}, **kinds)
    images, stack = as_images(tmp_path / "a.tif", 4)
    assert stack and len(images) == whole.size // (4 * 24 * 32)
    first = whole[:, 0] if axes == "CZYX" else whole.reshape(-1, 4, 24, 32)[0]
    assert np.array_equal(images[0], np.moveaxis(first, 0, 2))
    with pytest.raises(BadFile, match=says("a.tif", "several pages")):
        read_image(tmp_path / "a.tif", channels=4)


@pytest.mark.parametrize("kind", ["unspecified", "unassalpha", "assocalpha"])
@pytest.mark.parametrize("bits", [np.uint8, np.uint16])
def test_near_infrared_is_a_channel_and_transparency_is_none(tmp_path, kind, bits):
    image, path = noise(24, 32, 4).astype(bits), tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb", extrasamples=[kind])
    kept = 4 if kind == "unspecified" else 3
    if (kind, bits) != ("assocalpha", np.uint8):  # of which Pillow makes colours anew
        assert np.array_equal(read_pixels(path), image[..., :kept])
    assert np.array_equal(read_pixels(path, 4), image)  # all that was asked for
    assert common_channels([path]) == kept


def test_transparency_of_a_png_is_kept_only_if_asked_for(tmp_path):
    image, path = noise(24, 32, 4), tmp_path / "a.png"
    Image.fromarray(image).save(path)
    assert np.array_equal(read_image(path), image[..., :3])
    assert np.array_equal(read_image(path, channels=4), image)
    small = read_image(path, (12, 16), channels=4)  # each channel by itself
    alone = Image.fromarray(image[..., 0]).resize((16, 12), Image.BILINEAR)
    assert np.array_equal(small[..., 0], alone)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_channels_are_turned_like_a_grey_image(tmp_path, orientation):
    image = noise(24, 32, 2)
    note = [(274, 3, 1, orientation, True)]
    in_pixels(tmp_path / "a.tif", image, extratags=note)
    for number in (0, 1):
        grey = tmp_path / f"{number}.tif"
        tifffile.imwrite(grey, image[..., number], extratags=note)
        found = read_image(tmp_path / "a.tif")[..., number]
        assert np.array_equal(found, read_image(grey))
    assert upright_size(tmp_path / "a.tif") == upright_size(grey)


def test_the_axes_of_an_array():
    for shape, channels, axes, due, stack in [
        ((50, 70, 2), 2, None, (50, 70, 2), False),
        ((2, 50, 70), 2, None, (50, 70, 2), False),
        ((5, 50, 70), 1, None, (5, 50, 70), True),
        ((7, 5, 50, 70), 5, None, (7, 50, 70, 5), True),
        ((2, 3, 5, 50, 70), 5, "TZCYX", (6, 50, 70, 5), True),
        ((50, 70, 2), 1, "NHW", (50, 70, 2), True),
        ((70, 2, 50), 2, "WCH", (50, 70, 2), False),
    ]:
        array = np.zeros(shape)
        found, many = channels_last(array, channels, axes)
        assert found.shape == due and many == stack and np.shares_memory(found, array)
    for shape, channels, words in [
        ((50, 70, 2), 1, ("2 channels", "not 1", "NHW")),
        ((9, 50, 70), 4, ("without an axis of 4", "channels=9", "axes=")),
        ((9, 50, 70, 2), 4, ("2 channels, not 4", "axes=")),
    ]:
        with pytest.raises(ValueError, match=says(*words)):
            channels_last(np.zeros(shape), channels)
    for axes in ("HW", "HWX", "HHW", "HCC", ""):
        with pytest.raises(ValueError, match=says("axes", "HWC")):
            channels_last(np.zeros((2, 3, 4)), axes=axes or "?")


def test_a_screen_shows_any_number_of_channels():
    labels = np.zeros((24, 32), np.uint8)
    labels[:5] = 1
    for channels in (2, 4, 5, 7):
        image = noise(24, 32, channels)
        assert composite(image).shape == (24, 32, 3)
        assert painted(image, labels).shape == (24, 32, 3)
        assert composite(image[..., :1]).shape == (24, 32, 1)
    flat = composite(np.ones((4, 4, 2)))
    assert flat.dtype == np.uint8 and not flat.any()


# From files to masks


def draw(folder, channels, suffix, count=6):
    "Draw images whose cells are bright in the last channel alone."
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        _, labels = draw_cells(64, seed=number)
        image = noise(64, 64, channels) // 8
        image[..., -1] = np.where(labels > 0, 200, 20)
        path = folder / "images" / f"a{number}{suffix}"
        WRITERS[f"last{suffix}" if suffix == ".npy" else "imagej.tif"](path, image)
        mask = Image.fromarray(np.uint8(255 * (labels > 0)))
        mask.save(folder / "masks" / f"a{number}.png")
    return folder


NET = {"base_channels": 4, "depth": 2, "norm": None, "dropout": 0.0}
PADDED = {
    "about": "small", "net": NET | {"padding": 1, "norm": "batch"}, "tile": 64,
    "tiles": 8, "batch": 2, "augment": {"name": "auto"}, "loss": "cross-entropy",
    "optimizer": {"name": "AdamW", "lr": 0.01}, "schedule": "constant", "warmup": 0.0,
    "accumulate": 1, "clip": 1.0, "ema": 0.0, "amp": False, "epochs": 1,
    "patience": None, "watch": "pixel error",
}  # fmt: skip
UNPADDED = PADDED | {
    "net": NET | {"padding": 0},
    "tile": 60,
    "augment": {"name": "membranes"},
    "loss": "weighted cross-entropy",
}


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("channels", [2, 4, 5])
@pytest.mark.parametrize("recipe", [PADDED, UNPADDED], ids=["padded", "unpadded"])
def test_from_files_to_masks(tmp_path, recipe, channels, suffix):
    data, run = draw(tmp_path / "data", channels, suffix), tmp_path / "run"
    options = {"masks": str(data / "masks")}
    options |= {"channels": channels} if suffix == ".npy" else {}
    where = {"kind": "folder", "data": data / "images", "out": run, "size": (64, 64)}
    more = {"recipe": recipe, "device": "cpu", "options": options}
    train_run(**where, **more, steps=24, seed=1)
    assert evaluate_run(run, device="cpu")["dice"] > 0.5
    predictor = Predictor.load(run, "cpu")
    assert predictor.model.in_channels == channels
    written = predict_files(
        predictor, data / "images", tmp_path / "to", write=("mask", "overlay")
    )
    assert len(written) == 12
    right = []
    for path in written:
        size = Image.open(path).size
        assert size == (64, 64)
        if "mask" in path.name:
            truth = read_mask(data / "masks" / f"{path.name[:2]}.png")
            right.append((read_mask(path) == truth).mean())
    assert np.mean(right) > 0.8  # the net has seen the channel that tells


def test_the_source_and_the_check_of_a_folder(tmp_path):
    data = draw(tmp_path, 5, ".npy")
    masks = data / "masks"
    source = open_folder(data / "images", masks, channels=5)
    assert source.channels == 5 and source.size(0) == (64, 64)
    assert source.image(0).shape == (64, 64, 5) and check_source(source) == []
    assert source.image(0, (24, 20)).shape == (24, 20, 5)
    image, labels, weights = read_example(source, 0, weighted=True)
    assert image.shape == (64, 64, 5) and labels.shape == weights.shape == (64, 64)
    report = check_pairs(data / "images", masks, channels=5)
    assert not report.problems and len(report.pairs) == 6
    report.show()
    plt.close()
    wrong = check_pairs(data / "images", masks, channels=4)
    assert len(wrong.problems) == 1 and len(wrong.problems[0].files) == 6
    assert says("4 channels expected of it", "5", "channels=5").match(
        " ".join(str(wrong).split())
    )


def test_a_stated_number_that_a_file_does_not_have(tmp_path):
    data = draw(tmp_path, 2, ".tif", count=2)
    for channels in (1, 3, 4):
        words = says("a0.tif", "2 channels", f"{channels} channel", "channels=2")
        with pytest.raises(BadFile, match=words):
            open_folder(data / "images", data / "masks", channels=channels)
    hyper(data / "images" / "a1.tif", noise(64, 64, 4))
    with pytest.raises(
        ValueError, match=says("a0.tif", "a1.tif", "2", "4", "channels")
    ):
        open_folder(data / "images", data / "masks")
    Image.fromarray(noise(64, 64)).save(tmp_path / "grey.png")
    with pytest.raises(BadFile, match=says("grey.png", "1 channel", "4 channels")):
        read_image(tmp_path / "grey.png", channels=4)


def test_on_the_command_line(tmp_path, capsys):
    data = draw(tmp_path / "data", 4, ".npy")
    recipe = tmp_path / "small.json"
    recipe.write_text(__import__("json").dumps(PADDED))
    files = ["--data", data / "images", "--masks", data / "masks"]
    train = ["train", "--kind", "folder", *files, "--recipe", recipe, "--steps", 2]
    train += ["--size", "64x64", "--device", "cpu", "--out", tmp_path / "run"]
    assert main([*map(str, train), "--channels", "5"]) == 1
    assert says("a0.npy", "5 channels", "--channels 4").match(capsys.readouterr().err)
    assert main([*map(str, train), "--channels", "4"]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--device", "cpu"]) == 0
    check = ["check", str(data / "images"), str(data / "masks"), "--channels", "4"]
    assert main(check) == 0
    predict = ["predict", tmp_path / "run", data / "images", "--to", tmp_path / "to"]
    assert main([*map(str, predict), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "to").glob("*_mask.png"))) == 6


def test_photographs_changes_three_channels_only(tmp_path):
    data = draw(tmp_path, 4, ".tif")
    recipe = PADDED | {"augment": {"name": "photographs"}}
    with pytest.raises(
        ValueError, match=says("4 channels", "photographs", "membranes")
    ):
        train_run("folder", data / "images", tmp_path / "run", recipe, steps=1,
                  size=(64, 64), options={"masks": str(data / "masks")})  # fmt: skip


def test_an_overlay_of_five_channels(tmp_path):
    labels = np.eye(24, 32, dtype=np.uint8)
    path = write_overlay(tmp_path / "a.png", noise(24, 32, 5), labels)
    assert Image.open(path).size == (32, 24)


def test_predict_takes_the_axes_of_a_file(tmp_path):
    "What shape alone leaves open is said with --axes, as in training."
    net = UNet(2, base_channels=2, depth=1, padding=1)
    save_net(tmp_path / "net.safetensors", net)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((2, 24, 2)))
    line = f"predict {tmp_path}/net.safetensors {tmp_path}/a.npy --to {tmp_path}/out"
    assert main(line.split()) == 1  # two axes of two
    assert main([*line.split(), "--axes", "HWC"]) == 0
    assert Image.open(tmp_path / "out" / "a_mask.png").size == (24, 2)


def test_axes_of_a_tiff_whose_channels_are_planes(tmp_path):
    "Colours in planes are (3, H, W) in the file; letters mean what the file holds."
    array = noise(3, 40, 50)
    rgb = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "a.tif", array, **rgb)
    for axes in (None, "CHW", "SYX", "HWC"):
        (image,), _ = as_images(tmp_path / "a.tif", axes=axes)
        assert np.array_equal(image, array.transpose(1, 2, 0)), axes
    images, is_stack = as_images(tmp_path / "a.tif", axes="NHW")
    assert is_stack and np.array_equal(np.stack(images), array)


def test_axes_that_contradict_a_tiff_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(40, 50, 3), photometric="rgb")
    with pytest.raises(ValueError, match=says("a.tif", "in its pixels", "HWC")):
        as_images(tmp_path / "a.tif", axes="CHW")
