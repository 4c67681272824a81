"""What several test files share."""

import os
import random
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Files that take long are begun first: at the end no core must wait for one of them.
LONG = "in_lab site distributed tools examples elsewhere form cli bench gpu experiments"
LONG += " channels export enough faults_answers app_page second_device typing"

# Below those that a system hands out by itself: who asks for any port, as every kernel
# of Jupyter does, gets none of them between our look and the start of our server.
PORTS = range(20_000, 32_000)


def free_port():  # int
    "A port of this machine on which nobody listens, for a server that starts now."
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port among 100 of {PORTS.start} to {PORTS.stop}")


def wait_for(condition, seconds=120):
    "Ask until it is so: the time only counts when it never is."
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def pytest_collection_modifyitems(items):
    "The long files first, all else as it was."
    places = {f"test_{name}": place for place, name in enumerate(LONG.split())}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True)
def no_figure_stays():
    "Close what a test drew, so that the next one finds no figure that is not its own."
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="session")
def real_data():  # Path
    "The folder of the real data sets; tests that need it are skipped without it."
    folder = Path(os.environ.get("UNET_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data here: name their folder in UNET_DATA to test on them")
    return folder


@pytest.fixture(scope="session")
def real_isbi(real_data):  # Path
    "A folder with the stacks of ISBI 2012 somewhere below it."
    if not any(real_data.rglob("train-volume.tif")):
        pytest.skip("the real data have no train-volume.tif (ISBI 2012)")
    return real_data


@pytest.fixture(scope="session")
def real_carvana(real_data):  # Path
    "A folder with photographs and masks of Carvana somewhere below it."
    if not any(real_data.rglob("*_mask.gif")):
        pytest.skip("the real data have no *_mask.gif (Carvana)")
    return real_data


@pytest.fixture
def decoded(monkeypatch):  # list of str: who decoded, in order
    "The pages and images that were decoded: by tifffile, by Pillow."
    import tifffile
    from PIL.ImageFile import ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    found = []

    def count(kind, method, decoder):
        original = getattr(kind, method)

        def counted(image, *args, **options):
            pending = decoder == "tifffile" or image.tile  # not decoded before
            if pending and (kind is not ImageFile or type(image) is not TiffImageFile):
                found.append(decoder)
            return original(image, *args, **options)

        monkeypatch.setattr(kind, method, counted)

    count(tifffile.TiffPage, "asarray", "tifffile")
    count(TiffImageFile, "load", "Pillow")
    count(ImageFile, "load", "Pillow")  # of every other format
    return found
