"""The page of `make app` in a real browser: one image, no image, two at once.

    pip install voila playwright; python -m pytest tests/browser/test_app_page.py

Skipped without Voilà, Playwright for Python or Chromium: `make browser` gets all three.
"""

import importlib.util
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, free_port, wait_for
from pages import PHONE, grave_faults
from pages import drop as drop_on
from PIL import Image
from samples import noise

from unet_tutorial.data.images import read_mask
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.weights import find_net
from unet_tutorial.synthetic import draw_membranes

pytest_plugins = ["pages"]
pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("voila"), reason="no Voilà here: make browser gets it"
)
PICTURE = """async () => {  // the bytes of the picture
  const image = document.querySelector("img.widget-image");
  return image.complete && image.naturalWidth ? image.src : "";
}"""


def drop(page, *paths):
    "Let go of files over the button of the page."
    drop_on(page.locator(".unet-live .widget-upload"), *paths)


def told(page, words):
    "Wait until the page says something."
    page.locator(".widget-html", has_text=words).wait_for()


def another(page, before):
    "Wait for another picture than before, and return its address."
    page.wait_for_function(
        f"before => ({PICTURE})().then(x => x && x !== before)", arg=before
    )
    return page.evaluate(PICTURE)


def brightness(page):
    "Of the page's paper, 0 to 255."
    return page.evaluate(
        "Number(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])"
    )


def answers(port):
    "Whether somebody listens there."
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def app(tmp_path_factory):  # address, folder of the masks
    "`make app` with the net that ships, on a port of this machine."
    folder = tmp_path_factory.mktemp("app")
    port = free_port()
    command = [sys.executable, ROOT / "tools" / "serve.py", find_net("membranes")]
    command += ["--no-browser", f"--port={port}", "--Voila.port_retries=0"]
    env = {**os.environ, "UNET_MASKS": str(folder / "masks")}
    env["JUPYTER_CONFIG_DIR"] = str(folder)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, env=env, **quiet)
    try:
        wait_for(lambda: answers(port) or server.poll() is not None)
        assert server.poll() is None, "make app did not start"
        yield f"http://127.0.0.1:{port}", folder / "masks"
    finally:
        server.terminate()
        server.wait(120)
    wait_for(lambda: not answers(port))  # nothing is left behind


def test_the_page_takes_images_and_says_what_is_none(app, new_page, tmp_path):
    address, masks = app
    first, second = (new_page(address, levels=["error"]) for _ in range(2))
    images = {"one": (120, 200), "two": (90, 150)}
    for seed, (name, size) in enumerate(images.items()):
        image, _ = draw_membranes(size=size, seed=seed)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    (tmp_path / "letter.png").write_text("Dear reader")
    for page in (first, second):
        page.goto(address, wait_until="commit")  # both start side by side
    for page in (first, second):
        page.locator(".widget-upload").wait_for()
    pictures = {}
    drop(second, tmp_path / "two.png")  # one of them may have to wait for its turn
    drop(first, tmp_path / "one.png")
    for page, name in ((first, "one"), (second, "two")):
        told(page, f"{name}.png: {' x '.join(map(str, images[name]))} pixels")
        pictures[name] = another(page, "")

    drop(second, tmp_path / "letter.png")
    told(second, "letter.png: it is not an image; PNG, JPEG and TIFF would work")
    assert second.evaluate(PICTURE) == pictures["two"]  # the image stays
    for page, name in ((first, "one"), (second, "two")):
        page.get_by_role("button", name="save").click()
        told(page, f"{name}_mask.png")
        image = np.asarray(Image.open(tmp_path / f"{name}.png"))
        expected = Predictor.load("membranes", "cpu")(image)
        assert np.array_equal(read_mask(masks / f"{name}_mask.png"), expected)

    handle = first.get_by_role("slider", name="threshold")  # not only for the eye
    handle.focus()
    first.keyboard.press("Home")
    moved = another(first, pictures["one"])
    box = first.locator("img.widget-image").bounding_box()
    assert (box["height"], box["width"]) == images["one"]  # not stretched
    drop(first, tmp_path / "one.png", tmp_path / "two.png")
    told(first, "two.png: 90 x 150 pixels; of 2 files the last, one at a time")
    another(first, moved)

    Image.fromarray(noise(300, 900)).save(tmp_path / "wide.png")
    first.set_viewport_size(PHONE)
    before = first.evaluate(PICTURE)
    drop(first, tmp_path / "wide.png")
    told(first, "wide.png: 300 x 900 pixels")
    another(first, before)
    assert first.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert first.title() == "Segment an image"

    for scheme, light in (("light", True), ("dark", False)):
        first.emulate_media(color_scheme=scheme)
        assert (brightness(first) > 200) is light
        assert grave_faults(first) == []
    if shots := os.environ.get("UNET_SHOTS"):
        first.screenshot(path=f"{shots}/app_phone.png")
        second.screenshot(path=f"{shots}/app.png")
