"""The net on a page, in a real browser: the numbers of torch, and what one sees."""

import io

import numpy as np
import pytest
import torch
import web
from pages import served
from PIL import Image

from unet_tutorial.runs.weights import find_net, load_net
from unet_tutorial.synthetic import draw_membranes
from unet_tutorial.tiles import predict_tiled

pytest_plugins = ["pages"]

ASK = """async ({values, height, width}) => Array.from(
  await unet.ask(Float32Array.from(values), height, width))"""
READ = """async (bytes) => Array.from(
  (await unet.read(new Blob([Uint8Array.from(bytes)]), "it.png")).grey)"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):  # str
    "The page, served on this machine."
    folder = tmp_path_factory.mktemp("net")
    try:
        web.write_page(folder)
    except OSError as error:
        pytest.skip(f"the runtime of npm is not here: {error}")
    with served(folder) as place:
        yield f"{place}/"


@pytest.fixture
def page(new_page, address):  # playwright Page
    "The page, open."
    page = new_page()
    page.goto(address)
    page.wait_for_selector("#unet[data-state=waiting]")
    return page


def settle(
    page,  # playwright Page
    words,  # of the answer: the last one may still be there
):
    "Wait until the page has answered."
    page.locator("#unet:is([data-state=ready], [data-state=failed])").locator(
        "[data-part=status]", has_text=words
    ).wait_for()


@pytest.mark.parametrize("size", [(470, 300), (388, 388), (60, 97), (1, 40)])
def test_logits_are_those_of_torch(page, size):
    height, width = size
    image, _ = draw_membranes(size=(480, 480), seed=77)
    image = image[:height, :width]
    asked = {"values": image.ravel().tolist(), "height": height, "width": width}
    found = np.array(page.evaluate(ASK, asked)).reshape(2, height, width)
    model, _ = load_net(find_net("membranes"))
    x = ((image - image.mean()) / image.std()).astype(np.float32)
    with torch.no_grad():
        expected = predict_tiled(model, x).numpy()
    assert np.abs(found - expected).max() < 1e-4


def test_colours_become_grey_as_in_pillow(page):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG")
    grey = page.evaluate(READ, list(file.getvalue()))
    assert np.array_equal(np.reshape(grey, (20, 30)), np.asarray(image.convert("L")))


def test_an_example_gets_a_mask_that_follows_the_threshold(page):
    page.click("text=example 1")
    settle(page, "384 x 384 pixels")
    few, many = [], []
    for value, told in ((0.9, few), (0.1, many)):
        page.fill("[data-part=threshold]", str(value))
        told.append(float(page.inner_text("[data-part=status]").split()[-5]))
    assert few[0] < many[0]
    with page.expect_download() as saved:
        page.click("text=Save the mask")
    mask = np.asarray(Image.open(saved.value.path()).convert("L"))
    assert set(np.unique(mask)) == {0, 255}
    assert abs(100 * (mask > 0).mean() - many[0]) < 0.1


def test_what_is_no_image_is_said(page, tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("no picture")
    page.set_input_files("[data-part=file]", path)
    settle(page, "notes.png is no image that a browser can open")
    page.click("text=example 2")
    settle(page, "300 x 300 pixels")


def test_an_image_that_is_too_large_is_said(page, tmp_path):
    path = tmp_path / "wide.png"
    Image.new("L", (3000, 4)).save(path)
    page.set_input_files("[data-part=file]", path)
    settle(page, "unet-tutorial predict any size")
