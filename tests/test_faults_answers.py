"""What goes wrong while answers are written, and what must hold then.

`CASES` names each fault in plain words; its function gets an empty folder and asserts
what must hold. They need no pytest, so that benchmarks/faults.py can count them too.
"""

import errno
import io
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from samples import names, noise, save, save_stack, thin_net

from unet_tutorial.cli import main
from unet_tutorial.data.images import as_images
from unet_tutorial.data.outputs import painted, write_mask
from unet_tutorial.deploy.folder import SomeFailed, predict_files
from unet_tutorial.predict import Predictor
from unet_tutorial.runs import memory
from unet_tutorial.runs.files import new_file
from unet_tutorial.runs.weights import save_net

CASES = {}


def case(name):
    "Enter a function into the table under a name that says the fault."

    def enter(function):
        assert name not in CASES
        CASES[name] = function
        return function

    return enter


@contextmanager
def refused(kind, *words):
    "Expect an error of a kind whose text holds all these words."
    try:
        yield
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{missing} not in: {error}"
    else:
        raise AssertionError(f"no {kind} was raised")


@contextmanager
def warned(words):
    "Expect exactly one warning, which holds these words."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [words in str(one.message) for one in caught] == [True], caught


def write(path, text="new", overwrite=False):
    "Write a text as the library writes all files."
    with new_file(path, overwrite) as part:
        part.write_text(text)


# One file


@case("a file of the user's own is called a.txt.part")
def _(folder):
    (folder / "a.txt.part").write_text("precious")
    write(folder / "a.txt")
    assert (folder / "a.txt.part").read_text() == "precious"
    assert names(folder) == ["a.txt", "a.txt.part"]


@case("a.txt.part is a link to another file")
def _(folder):
    (folder / "diary").write_text("precious")
    (folder / "a.txt.part").symlink_to("diary")
    write(folder / "a.txt")
    assert (folder / "diary").read_text() == "precious"
    assert (folder / "a.txt").read_text() == "new"
    assert not (folder / "a.txt").is_symlink()


@case("the very name of the temporary file is a link to another file")
def _(folder):
    (folder / "diary").write_text("precious")
    drawn = iter(["0" * 16, "1" * 16])
    (folder / f".unet-{'0' * 16}.part").symlink_to("diary")
    with patch("unet_tutorial.runs.files.token_hex", lambda _: next(drawn)):
        write(folder / "a.txt")
    assert (folder / "a.txt").read_text() == "new" and next(drawn, None) is None
    assert (folder / "diary").read_text() == "precious"


@case("a file appears while we write one of its name")
def _(folder):
    path = folder / "a.txt"
    with refused(FileExistsError, "a.txt", "appeared", "overwrite=True"):
        with new_file(path) as part:
            part.write_text("new")
            path.write_text("precious")
    assert path.read_text() == "precious" and names(folder) == ["a.txt"]


@case("a file appears while we write, on a disk without links")
def _(folder):
    def no_link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    with patch("os.link", no_link):
        write(folder / "b.txt")
        path = folder / "a.txt"
        with refused(FileExistsError, "a.txt", "appeared"):
            with new_file(path) as part:
                part.write_text("new")
                path.write_text("precious")
    assert (folder / "b.txt").read_text() == "new"
    assert path.read_text() == "precious" and names(folder) == ["a.txt", "b.txt"]


@case("the target is a link that leads nowhere")
def _(folder):
    link = folder / "a.txt"
    link.symlink_to("nowhere")
    with refused(FileExistsError, "a.txt", "leads nowhere", "overwrite=True"):
        write(link)
    assert link.is_symlink() and names(folder) == ["a.txt"]
    write(link, overwrite=True)  # the link is replaced, not followed
    assert not link.is_symlink() and names(folder) == ["a.txt"]


@case("the target is a link to a file, and is to be replaced")
def _(folder):
    (folder / "diary").write_text("precious")
    (folder / "a.txt").symlink_to("diary")
    write(folder / "a.txt", overwrite=True)
    assert (folder / "diary").read_text() == "precious"
    assert (folder / "a.txt").read_text() == "new"


@case("the target is a link to a folder")
def _(folder):
    (folder / "photos").mkdir()
    (folder / "a.txt").symlink_to("photos")
    with refused(IsADirectoryError, "is a folder"):
        write(folder / "a.txt", overwrite=True)
    assert (folder / "a.txt").is_symlink()


@case("a name is longer than a file system takes")
def _(folder):
    path = folder / ("a" * 260 + ".txt")
    try:
        with new_file(path):
            raise AssertionError("the block was begun")
    except OSError as error:
        assert error.errno == errno.ENAMETOOLONG and "255" in str(error)
    assert names(folder) == []


@case("a name is as long as a file system takes")
def _(folder):
    path = folder / ("a" * 251 + ".txt")
    write(path)
    assert path.read_text() == "new" and len(names(folder)) == 1


@case("the disk becomes full, read-only, used up, or breaks")
def _(folder):
    words = {"ENOSPC": "No space", "EROFS": "read-only", "EDQUOT": "quota"}
    words |= {"EIO": "error", "EACCES": "permission", "EFBIG": "too large"}
    for name, word in words.items():
        number = getattr(errno, name)
        try:
            with new_file(folder / "a.txt") as part:
                part.write_text("half")
                raise OSError(number, os.strerror(number))
        except OSError as error:
            assert error.errno == number and type(error) is type(OSError(number, ""))
            text = str(error)
        assert word in text and str(folder / "a.txt") in text and "rrno" not in text
    assert names(folder) == []


@case("a library says nothing about a full disk")
def _(folder):
    path = folder / "a.txt"
    with refused(OSError, str(path), "encoder error -2"), new_file(path) as part:
        part.write_text("half")
        raise OSError("encoder error -2 when writing image file")
    full = patch("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with full, refused(OSError, str(path), "No space"), new_file(path) as part:
        part.write_text("half")
        raise OSError("1000 requested and 0 written")
    assert names(folder) == []


@case("the folder is removed while we write")
def _(folder):
    path = folder / "to" / "a.txt"
    with refused(FileNotFoundError, str(path), "removed"), new_file(path) as part:
        part.unlink()
        path.parent.rmdir()
    assert names(folder) == []


@case("a parent of the target is a file")
def _(folder):
    (folder / "to").write_text("precious")
    with refused(OSError, "is a file", str(folder / "to")):
        write(folder / "to" / "here" / "a.txt")
    assert (folder / "to").read_text() == "precious"


@case("an error about another file is left as it is")
def _(folder):
    with refused(FileNotFoundError, "other"), new_file(folder / "a.txt"):
        (folder / "other").read_text()


_KILLED = """
import os, signal, sys
from unet_tutorial.runs import memory
from unet_tutorial.runs.files import new_file
with new_file(sys.argv[1]) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@case("a process is killed while it writes")
def _(folder):
    if os.name == "nt":
        return
    ask = [sys.executable, "-c", _KILLED, str(folder / "a.txt")]
    assert subprocess.run(ask).returncode != 0
    assert len(names(folder)) == 1  # half a file, under no name of ours
    write(folder / "b.txt")
    assert names(folder) == ["b.txt"]


@case("a new file is for the eyes that the user's umask allows")
def _(folder):
    if os.name == "nt":
        return
    old = os.umask(0o022)
    try:
        write(folder / "a.txt")
    finally:
        os.umask(old)
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o644


# A folder of answers


NET = Predictor(thin_net(), torch.device("cpu"), classes=["background", "cell"])


def predict(folder, images="images", to="to", **options):
    "Predict the images below a folder; return the names of what is there afterwards."
    images = [images] if isinstance(images, str) else images
    with suppress(SomeFailed):
        predict_files(NET, [folder / name for name in images], folder / to, **options)
    return names(folder / to)


def draw(folder, *files):
    "Save noise as images."
    for name in files:
        save(folder / name, noise(20, 33))


@case("an image that was predicted before is broken now")
def _(folder):
    draw(folder, "images/a.png", "images/b.png")
    assert predict(folder) == ["a_mask.png", "b_mask.png"]
    (folder / "images" / "a.png").write_bytes(b"no image")
    assert predict(folder, overwrite=True) == ["b_mask.png"]


@case("a stack of three pages has two now")
def _(folder):
    kinds = ["mask", "probabilities", "polygons"]
    for pages in (3, 2):
        save_stack(folder / "images" / "a.tif", noise(pages, 20, 33))
        found = predict(folder, overwrite=True, write=kinds)
    ends = ".geojson", "_mask.png", "_probabilities.npy"
    assert found == [f"a_00{page}{end}" for page in range(2) for end in ends]


@case("a stack becomes a single image, and a single image a stack")
def _(folder):
    image = folder / "images" / "a.tif"
    save_stack(image, noise(3, 20, 33))
    assert len(predict(folder)) == 3
    save(image, noise(20, 33))
    assert predict(folder, overwrite=True) == ["a_mask.png"]
    save_stack(image, noise(2, 20, 33))
    assert predict(folder, overwrite=True) == ["a_000_mask.png", "a_001_mask.png"]


@case("the pages of a stack were predicted by a version that left no notes")
def _(folder):
    for page in range(3):
        draw(folder, f"to/a_00{page}_mask.png")
    save(folder / "images" / "a.tif", noise(20, 33))
    assert predict(folder, overwrite=True) == ["a_mask.png"]


@case("another image is called as a page of a stack")
def _(folder):
    draw(folder, "images/a_001.png", "images/a_002.png", "other/a_003.png")
    kinds = {"write": ["mask", "probabilities"]}
    before = predict(folder, **kinds)
    before += predict(folder, "other", **kinds)
    save_stack(folder / "images" / "a.tif", noise(1, 20, 33))
    with warned("a_003_probabilities.npy"):
        after = predict(folder, "images/a.tif", overwrite=True, **kinds)
    assert after == sorted({"a_mask.png", "a_probabilities.npy", *before})


@case("a file of the user's own is called as a page of a stack")
def _(folder):
    save_stack(folder / "images" / "a.tif", noise(2, 20, 33))
    predict(folder)
    draw(folder, "to/a_007_mask.png")
    with warned("a_007_mask.png"):
        found = predict(folder, overwrite=True)
    assert found == ["a_000_mask.png", "a_001_mask.png", "a_007_mask.png"]


@case("answers of other kinds are there from an earlier call")
def _(folder):
    draw(folder, "images/a.png")
    predict(folder, write=["mask", "overlay"])
    with warned("a_overlay.png"):
        predict(folder, overwrite=True)
    assert names(folder / "to") == ["a_mask.png", "a_overlay.png"]


@case("an image has the name of another's answer")
def _(folder):
    draw(folder, "images/a.png", "images/a_mask.png", "to/a_mask.png")
    before = (folder / "images" / "a_mask.png").read_bytes()
    files = ["images/a.png", "images/a_mask.png"]
    with refused(OSError, "a_mask.png", "one of the images"):
        predict(folder, files, "images", overwrite=True)
    assert (folder / "images" / "a_mask.png").read_bytes() == before
    assert names(folder / "images") == ["a.png", "a_mask.png"]


@case("an answer that is to be replaced is a link to an image")
def _(folder):
    draw(folder, "images/a.png", "images/b.png")
    before = (folder / "images" / "b.png").read_bytes()
    (folder / "to").mkdir()
    for link in (os.symlink, os.link):
        link(folder / "images" / "b.png", folder / "to" / "a_mask.png")
        with refused(OSError, "a_mask.png", "one of the images"):
            predict(folder, overwrite=True)
        assert (folder / "images" / "b.png").read_bytes() == before
        (folder / "to" / "a_mask.png").unlink()


@case("the truth beside an image has the name of its answer")
def _(folder):
    for name in ("a_mask.png", "a_labels.png", "a.geojson"):
        place = folder / name
        draw(place, "a.png")
        if name.endswith("png"):
            draw(place, name)
        else:
            (place / name).write_text('{"type": "FeatureCollection", "features": []}')
        before = (place / name).read_bytes()
        (folder / "alias").unlink(missing_ok=True)
        (folder / "alias").symlink_to(name)
        for to in (".", "../alias"):
            with refused(OSError, name, "the truth"):
                kinds = ["mask", "labels", "polygons"]
                predict(place, "a.png", to, overwrite=True, write=kinds)
        assert (place / name).read_bytes() == before
        assert names(place) == sorted(["a.png", name])


@case("a mask beside its image was corrected by hand")
def _(folder):
    draw(folder, "a.png")
    predict(folder, "a.png", ".")
    assert predict(folder, "a.png", ".", overwrite=True) == ["a.png", "a_mask.png"]
    mask = Image.open(folder / "a_mask.png")
    mask.point(lambda value: 255 - value).save(folder / "a_mask.png")
    before = (folder / "a_mask.png").read_bytes()
    with refused(OSError, "a_mask.png", "not written by predict"):
        predict(folder, "a.png", ".", overwrite=True)
    assert (folder / "a_mask.png").read_bytes() == before


@case("an answer is a link that leads nowhere")
def _(folder):
    draw(folder, "images/a.png")
    (folder / "to").mkdir()
    (folder / "to" / "a_mask.png").symlink_to(folder / "nowhere.png")
    with refused(FileExistsError, "a_mask.png", "overwrite=True"):
        predict(folder)
    assert predict(folder, overwrite=True) == ["a_mask.png"]
    assert not (folder / "to" / "a_mask.png").is_symlink()
    assert not (folder / "nowhere.png").exists()


@case("two images have one name on a disk that ignores case or Unicode form")
def _(folder):
    for number, pair in enumerate([("a.png", "A.png"), ("\u00e9.png", "e\u0301.png")]):
        draw(folder, *(f"{number}/{side}/{name}" for side, name in enumerate(pair)))
        with refused(ValueError, "one name on many disks", *pair):
            predict(folder, [f"{number}/0", f"{number}/1"])
    assert not (folder / "to").exists()


@case("an answer differs only in case from a file that is there")
def _(folder):
    draw(folder, "images/a.png", "to/A_mask.png")
    before = (folder / "to" / "A_mask.png").read_bytes()
    for overwrite in (False, True):
        with refused(FileExistsError, "A_mask.png", "one name"):
            predict(folder, overwrite=overwrite)
    assert (folder / "to" / "A_mask.png").read_bytes() == before
    assert names(folder / "to") == ["A_mask.png"]


# A batch with trouble in it


def broken(folder):
    "Images of which only first.png and last.png can be predicted, and what is said."
    draw(folder, "first.png", "last.png", "denied.png", "gone.png", "huge.png")
    long = "long" * 62 + ".png"
    draw(folder, long)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_bytes(b"no image")
    save(folder / "cut.png", noise(40, 40))
    data = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(data[:-900])
    save(folder / "nan.tif", np.full((9, 9), np.nan, np.float32))
    (folder / "header.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'for")
    said = {
        "denied": "Permission denied",
        "gone": "gone.png",
        "huge": "not enough memory",
    }
    said |= {"empty": "is empty", "text": "not an image", "cut": "cut off"}
    return said | {"long": "255", "nan": "NaN", "header": "header.npy"}


@contextmanager
def trouble():
    "Let reading fail for some images, as it does for others than root."

    def read(path, *args):
        if path.name == "denied.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        if path.name == "gone.png":
            path.unlink()
        if path.name == "huge.png":
            raise MemoryError
        return as_images(path, *args)

    with patch("unet_tutorial.deploy.folder.as_images", read):
        yield


@case("some of many images cannot be read, named, or predicted")
def _(folder):
    said = broken(folder / "images")
    with trouble():
        try:
            predict_files(NET, folder / "images", folder / "to")
        except SomeFailed as error:
            found, text, again = error, str(error), pickle.loads(pickle.dumps(error))
    assert names(folder / "to") == ["first_mask.png", "last_mask.png"]
    assert found.written == again.written == sorted((folder / "to").iterdir())
    assert f"for {len(said)} of {len(said) + 2} images" in text
    for file, what in found.failed.items():
        [word] = [said.pop(stem) for stem in list(said) if file.stem.startswith(stem)]
        assert word in what and str(file) in what and "rrno" not in what, what
    assert said == {} and isinstance(found, ValueError)


@case("the command meets images that cannot be predicted")
def _(folder):
    said, told = broken(folder / "images"), io.StringIO()
    save_net(folder / "net.safetensors", thin_net())
    line = ["predict", str(folder / "net.safetensors"), str(folder / "images")]
    line += ["--to", str(folder / "to"), "--device", "cpu"]
    with trouble(), redirect_stdout(told), redirect_stderr(told):
        with patch.dict(os.environ):
            assert main(line) == 1
    assert names(folder / "to") == ["first_mask.png", "last_mask.png"]
    lines = [one for one in told.getvalue().splitlines() if one.startswith("error: ")]
    assert len(lines) == len(said) and "2 files written" in told.getvalue()


@case("the disk becomes full while a batch is predicted")
def _(folder):
    draw(folder, *(f"images/{number}.png" for number in range(4)))
    honest, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 4:  # two for each file
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(handle)

    with patch("os.fsync", full), refused(OSError, "No space", "2 files written", "to"):
        predict(folder)
    assert names(folder / "to") == ["0_mask.png", "1_mask.png"]


@case("the folder of the answers is removed while we write into it")
def _(folder):
    draw(folder, "images/a.png", "images/b.png")

    def remove(*args, **options):
        write_mask(*args, **options)
        shutil.rmtree(folder / "to")

    with patch("unet_tutorial.deploy.folder.write_mask", remove):
        with refused(FileNotFoundError, str(folder / "to"), "removed"):
            predict(folder)
    assert not (folder / "to").exists()


@case("an answer appears while a batch is predicted")
def _(folder):
    draw(folder, "images/a.png", "images/b.png")

    def appear(path, *args, **options):
        if path.name == "a_mask.png":
            path.write_text("precious")
        return write_mask(path, *args, **options)

    for overwrite in (False, True):
        with patch("unet_tutorial.deploy.folder.write_mask", appear):
            with refused(SomeFailed, "1 of 2 images", "a_mask.png", "is there"):
                images, to = folder / "images", folder / "to"
                predict_files(NET, images, to, overwrite=overwrite)
        assert (folder / "to" / "a_mask.png").read_text() == "precious"
        assert names(folder / "to") == ["a_mask.png", "b_mask.png"]


@case("the folder to write into is called like a file")
def _(folder):
    draw(folder, "images/a.png")
    for name in ("one.png", "one.npy", "one.geojson"):
        with refused(ValueError, name, "folder"):
            predict(folder, to=name)
    (folder / "link").symlink_to("nowhere")
    with refused(NotADirectoryError, "leads nowhere"):
        predict(folder, to="link")
    assert names(folder) == ["images", "link"]
    (folder / "dir.png").mkdir()
    assert predict(folder, to="dir.png") == ["a_mask.png"]


_LARGE_IMAGE = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from samples import thin_net
from unet_tutorial.deploy.folder import predict_files
from unet_tutorial.predict import Predictor
torch.set_num_threads(1)
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
net = Predictor(thin_net(padding=1, norm="batch"), torch.device("cpu"))
net(np.zeros((600, 600), np.uint8))
before = peak()
[path] = predict_files(net, sys.argv[1], sys.argv[2])
print((peak() - before) / 4200**2)
"""


@case("an image is large, and small as a file")
def _(folder):
    if os.name == "nt":
        return
    pixels = np.zeros((4200, 4200), np.uint8)
    pixels[::1000] = 3
    image = save(folder / "a.png", pixels)
    assert image.stat().st_size < 50_000
    ask = [sys.executable, "-c", _LARGE_IMAGE, str(image), str(folder / "to")]
    tests = os.path.dirname(__file__)
    paths = os.pathsep.join([os.path.dirname(tests), tests])
    how = {"env": os.environ | {"PYTHONPATH": paths}, "text": True}
    bytes_per_pixel = float(subprocess.check_output(ask, **how))
    assert bytes_per_pixel < 16  # the whole image at once took 56


@case("a caller's memory is as before after an error")
def _(folder):
    draw(folder, "images/a.png")
    (folder / "images" / "b.png").write_bytes(b"no image")
    for _ in range(2):
        predict(folder, overwrite=True)
        assert memory._inside == []


@case("an overlay of more classes than there are colours")
def _(folder):
    labels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    picture = painted(
        np.full(labels.shape, 128, np.uint8), labels, 1.0, num_classes=200
    )
    colours = np.unique(picture.reshape(-1, 3), axis=0)
    assert len(colours) == 200
    one = np.zeros((4, 4), np.uint8)
    one[0] = 1
    alone = painted(one, one, 1.0, num_classes=200)[0, 0]
    assert (alone == picture[0, 1]).all()  # whatever else is in the image


@pytest.mark.parametrize("name", CASES)
def test_what_must_hold(name, tmp_path):
    CASES[name](tmp_path)
