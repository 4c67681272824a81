"""Sliders and the page for an image in a real JupyterLab, used in a real browser.

    pip install playwright; python -m pytest -s tests/browser

Skipped without Playwright for Python, JupyterLab or Chromium. `-s` shows milliseconds
from a key to the new picture; UNET_SHOTS=folder keeps screenshots.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from samples import noise

pytest.importorskip("playwright.sync_api")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("jupyterlab")
pytest.importorskip("ipywidgets")
NBS = Path(__file__).parents[2] / "nbs"
pytest_plugins = ["pages"]

SLIDERS = {  # notebook: what each function draws, and its sliders
    "02_sizes": {"draw_tile": ["tile", "depth"]},
    "07_weight_map": {"draw_two_cells": ["gap", "sigma", "w0"]},
}
ASKED = list(SLIDERS) if os.environ.get("UNET_LONG") else ["02_sizes"]  # all: nightly
DROP = """
from unet_tutorial.deploy.live import live
from unet_tutorial.predict import Predictor

live(Predictor.load("membranes", "cpu"), to="masks")
"""
SETTINGS = {  # nothing pops up, and nothing is saved
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
READY = """name => {
  const widget = window.jupyterapp?.shell.currentWidget;
  const kernel = widget?.sessionContext?.session?.kernel;
  return kernel && widget.context.path === name && kernel.status === "idle";
}"""
RUN = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
LAST = """() => {  // the last cell has run, or a cell has failed
  const cells = window.jupyterapp.shell.currentWidget.content.widgets;
  const failed = cells.flatMap(cell => cell.model.outputs?.toJSON() || [])
    .filter(output => output.output_type === "error");
  if (failed.length) return failed[0].evalue;
  return cells.at(-1).node.querySelector("img") ? "done" : "";
}"""
PICTURE = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets;
  const image = cells.at(-1).node.querySelector("img");
  return image && {alt: image.alt, size: [image.naturalWidth, image.naturalHeight],
    box: [image.clientWidth, image.clientHeight], data: image.src};
}"""
SHOW_LAST = """async () => {
  const book = window.jupyterapp.shell.currentWidget.content;
  book.activeCellIndex = book.widgets.length - 1;
  await book.scrollToItem(book.widgets.length - 1, "start");
}"""
WATCH = """() => {  // milliseconds from the next key to the next picture
  const node = window.jupyterapp.shell.currentWidget.content.widgets.at(-1).node;
  const before = node.querySelector("img").alt;
  window.waited = null; let start = null;
  document.addEventListener("keydown", () => { start = performance.now(); },
    {capture: true, once: true});
  const observer = new MutationObserver(() => {
    const image = node.querySelector("img");
    if (image && image.alt !== before) {
      window.waited = performance.now() - start; observer.disconnect();
    }
  });
  observer.observe(node, {subtree: true, childList: true, attributes: true});
}"""


def up_to_the_sliders(name, folder):
    """Write a copy of a notebook that ends with its sliders."""
    book = json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8"))
    ends = [
        number
        for number, cell in enumerate(book["cells"])
        if cell["cell_type"] == "code" and "with_sliders(" in "".join(cell["source"])
    ]
    book["cells"] = book["cells"][: ends[-1] + 1]
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    (folder / f"{name}.ipynb").write_text(json.dumps(book), encoding="utf-8")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab that serves the notebooks, and their folder."""
    folder = tmp_path_factory.mktemp("lab")
    for name in SLIDERS:
        up_to_the_sliders(name, folder)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(DROP)]
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(book, folder / "drop.ipynb")
    settings = tmp_path_factory.mktemp("settings")
    (settings / "overrides.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}"]
    command += ["--IdentityProvider.token=t", "--LabApp.expose_app_in_browser=True"]
    command += [f"--LabApp.app_settings_dir={settings}", "--ServerApp.ip=127.0.0.1"]
    env = {**os.environ, "PYTHONPATH": str(NBS.parent), "OMP_NUM_THREADS": "1"}
    env.pop("MPLBACKEND", None)
    server = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(240):
            with suppress(OSError):
                urllib.request.urlopen(f"{address}api?token=t", timeout=5).close()
                break
            assert server.poll() is None, "JupyterLab did not start"
            time.sleep(0.5)
        yield address, folder
    finally:
        server.terminate()
        server.wait(30)


def screenshot(page, name):
    if os.environ.get("UNET_SHOTS"):
        page.screenshot(path=str(Path(os.environ["UNET_SHOTS"]) / f"{name}.png"))


def run_all(browser, address, name):
    """Open a notebook, run it, and return the page at its last cell."""
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(90_000)
    page.goto(f"{address}lab/tree/{name}.ipynb?token=t&reset")
    page.wait_for_function(READY, arg=f"{name}.ipynb")
    page.evaluate(RUN)
    assert page.wait_for_function(LAST).json_value() == "done"
    page.evaluate(SHOW_LAST)
    time.sleep(1)
    screenshot(page, f"{name}_before")
    return page, page.locator(".jp-Cell").last


@pytest.mark.parametrize("name", ASKED)
def test_a_picture_follows_its_sliders(lab, browser, name):
    page, cell = run_all(browser, lab[0], name)
    ((drawn, sliders),) = SLIDERS[name].items()
    handles = cell.locator(".noUi-handle")
    assert handles.count() == len(sliders)
    for number, slider in enumerate(sliders):
        seen = [page.evaluate(PICTURE)]
        for key in ("Home", "ArrowRight", "End", "ArrowLeft"):
            handles.nth(number).focus()
            page.evaluate(WATCH)
            page.keyboard.press(key)
            page.wait_for_function("() => window.waited !== null")
            seen.append(page.evaluate(PICTURE))
            waited = page.evaluate("window.waited")
            print(f"{name}: {seen[-1]['alt']} after {waited:.0f} ms")
            assert seen[-1]["alt"].startswith(f"{drawn}(")
            assert seen[-1]["box"] == seen[0]["box"] and min(seen[0]["box"]) > 100
        assert len({picture["alt"] for picture in seen}) > 3
        assert len({picture["data"] for picture in seen}) > 2
        screenshot(page, f"{name}_{slider}")
    page.close()


def test_an_image_is_dropped_and_its_mask_is_saved(lab, browser, tmp_path):
    address, folder = lab
    page, cell = run_all(browser, address, "drop")
    Image.fromarray(noise(96, 128)).save(tmp_path / "grey.png")
    Image.fromarray(noise(96, 128, 3)).save(tmp_path / "colour.png")
    (tmp_path / "letter.png").write_text("Dear reader")
    said = {"grey": "96 x 128 pixels", "colour": "3 channels", "letter": "not an image"}
    for name, words in said.items():
        with page.expect_file_chooser() as chooser:
            cell.locator("button.widget-upload").click()
        chooser.value.set_files(tmp_path / f"{name}.png")
        cell.locator(".widget-html", has_text=words).wait_for()
        page.wait_for_function(f"() => ({PICTURE})()?.size[0] === 128")
        screenshot(page, f"drop_{name}")
    before = page.evaluate(PICTURE)
    assert before["box"] == before["size"] == [128, 96]  # not stretched
    cell.locator(".noUi-handle").first.focus()
    page.keyboard.press("Home")
    changed = f"data => ({PICTURE})().data !== data"
    page.wait_for_function(changed, arg=before["data"])
    cell.get_by_role("button", name="save").click()
    cell.locator(".widget-html", has_text="written").wait_for()
    assert Image.open(folder / "masks" / "grey_mask.png").size == (128, 96)
    page.close()
