"""Notebooks run in a real JupyterLab, in a real browser: sliders, image, questions.

    pip install playwright; python -m pytest -s tests/browser

Skipped without Playwright for Python, JupyterLab or Chromium. `-s` shows milliseconds
from a key to the new picture; UNET_SHOTS=folder keeps screenshots.
"""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import free_port, wait_for
from pages import PATIENCE, drop, listen
from PIL import Image
from samples import noise

from unet_tutorial.questions import read_questions, shuffled

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
LIVE = """
from unet_tutorial.deploy.live import live
from unet_tutorial.predict import Predictor
from unet_tutorial.synthetic import draw_membranes

pixels, _ = draw_membranes(size=(180, 240), seed=0)
predictor = Predictor.load("membranes", "cpu")
"""
ASK = "from unet_tutorial.questions import ask"
BADGE, SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"
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
  const cells = window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === "code");
  const failed = cells.flatMap(cell => cell.model.outputs.toJSON())
    .filter(output => output.output_type === "error");
  if (failed.length) return failed[0].evalue;
  if (cells.some(cell => cell.model.executionState === "running")) return "";
  const last = cells.at(-1);
  const seen = last.node.querySelector("img, .jupyter-widgets");
  return last.model.executionCount && seen ? "done" : "";
}"""
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter(cell => cell.model.type === "code")
  .map(cell => [cell.model.executionCount,
    cell.model.outputs.toJSON().map(output => output.output_type)])"""
OPEN = """async name => {
  await window.jupyterapp.restored;
  await window.jupyterapp.commands.execute("docmanager:open", {path: name});
}"""
PICTURE = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets;
  const image = cells.at(-1).node.querySelector("img");
  if (!image?.complete || !image.naturalWidth) return null;
  return {alt: image.alt, size: [image.naturalWidth, image.naturalHeight],
    box: [image.clientWidth, image.clientHeight], data: image.src};
}"""
PICTURES = """async () => {  // the sizes of all, each scrolled to
  const book = window.jupyterapp.shell.currentWidget.content, sizes = [];
  for (let number = 0; number < book.widgets.length; number++) {
    const cell = book.widgets[number];
    if (cell.model.type !== "code") continue;
    await book.scrollToItem(number, "start");
    for (const image of cell.node.querySelectorAll(".jp-OutputArea img")) {
      await image.decode();
      sizes.push([image.clientWidth, image.clientHeight]);
    }
  }
  return sizes;
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


def committed(name):
    "The cells of a notebook as they are."
    return json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def cells_of(name):
    "The cells of a notebook without outputs."
    cells = committed(name)
    for cell in cells:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return cells


def that_says(cells, words):  # int
    "The number of the last code cell that holds some words."
    return max(
        number
        for number, cell in enumerate(cells)
        if cell["cell_type"] == "code" and words in "".join(cell["source"])
    )


def write(path, cells):
    "Write a notebook."
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    path.write_text(json.dumps({**book, "cells": cells}), encoding="utf-8")


def write_notebooks(folder):
    "The first notebook; up to their sliders; one live cell; and the questions of one."
    write(folder / "index.ipynb", cells_of("index"))
    for name in SLIDERS:
        cells = cells_of(name)
        write(folder / f"{name}.ipynb", cells[: that_says(cells, "with_sliders(") + 1])
    for name, before, words in (
        ("14_predict", LIVE, "display(live("),
        ("03_blocks", ASK, 'ask("03_blocks")'),
    ):
        cells = cells_of(name)
        first = nbformat.v4.new_code_cell(before)
        write(folder / f"{name}.ipynb", [first, cells[that_says(cells, words)]])


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab that serves the notebooks, and their folder."""
    folder = tmp_path_factory.mktemp("lab")
    write_notebooks(folder)
    settings = tmp_path_factory.mktemp("settings")
    (settings / "overrides.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}"]
    command += ["--IdentityProvider.token=t", "--LabApp.expose_app_in_browser=True"]
    command += [f"--LabApp.app_settings_dir={settings}", "--ServerApp.ip=127.0.0.1"]
    command += ["--ServerApp.port_retries=0"]  # at another one we would not find it
    env = {**os.environ, "PYTHONPATH": str(NBS.parent), "OMP_NUM_THREADS": "1"}
    env["JUPYTER_CONFIG_DIR"] = str(settings)  # and no other's layout of tabs
    env.pop("MPLBACKEND", None)
    server = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"

    def ready():
        assert server.poll() is None, "JupyterLab did not start"
        with suppress(OSError):
            urllib.request.urlopen(f"{address}api?token=t", timeout=30).close()
            return True

    try:
        wait_for(ready)
        yield address, folder
    finally:
        server.terminate()
        server.wait(120)


def screenshot(page, name):
    if os.environ.get("UNET_SHOTS"):
        page.screenshot(path=str(Path(os.environ["UNET_SHOTS"]) / f"{name}.png"))


@pytest.fixture(scope="module")
def page(lab, browser):
    "JupyterLab in a browser, whose tabs the tests share."
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(PATIENCE)
    badge = "https://colab.research.google.com/assets/**"  # all that is not served here
    page.route(badge, lambda route: route.fulfill(body=BADGE, content_type=SVG))
    page.goto(f"{lab[0]}lab?token=t&reset")
    page.wait_for_function("() => window.jupyterapp?.shell")
    wrong = []
    listen(page, wrong, levels=["error"])
    yield page
    page.close()
    assert not wrong, "\n".join(wrong)


def picture(page):
    """What is seen below the last cell, as soon as there is a picture."""
    return page.wait_for_function(PICTURE).json_value()


def run_all(page, name):
    """Open a notebook, run it, and return its last cell."""
    page.evaluate(OPEN, f"{name}.ipynb")
    page.wait_for_function(READY, arg=f"{name}.ipynb")
    page.evaluate(RUN)
    assert page.wait_for_function(LAST, timeout=600_000).json_value() == "done"
    page.evaluate(SHOW_LAST)
    screenshot(page, f"{name}_before")
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").last


@pytest.mark.parametrize("name", ASKED)
def test_a_picture_follows_its_sliders(page, name):
    cell = run_all(page, name)
    ((drawn, sliders),) = SLIDERS[name].items()
    handles = cell.locator(".noUi-handle")
    handles.nth(len(sliders) - 1).wait_for()
    assert handles.count() == len(sliders)
    for number, slider in enumerate(sliders):
        seen = [picture(page)]
        for key in ("Home", "ArrowRight", "End", "ArrowLeft"):
            handles.nth(number).focus()
            page.evaluate(WATCH)
            page.keyboard.press(key)
            page.wait_for_function("() => window.waited !== null")
            seen.append(picture(page))
            waited = page.evaluate("window.waited")
            print(f"{name}: {seen[-1]['alt']} after {waited:.0f} ms")
            assert seen[-1]["alt"].startswith(f"{drawn}(")
            assert seen[-1]["box"] == seen[0]["box"] and min(seen[0]["box"]) > 100
        assert len({picture["alt"] for picture in seen}) > 3
        assert len({picture["data"] for picture in seen}) > 2
        screenshot(page, f"{name}_{slider}")


def test_the_first_notebook_runs_to_its_end(page):
    run_all(page, "index")
    due = [cell for cell in committed("index") if cell["cell_type"] == "code"]
    found = page.evaluate(OUTPUTS)
    assert [count for count, _ in found] == list(range(1, len(due) + 1))
    shown = [[output["output_type"] for output in cell["outputs"]] for cell in due]
    for (_, kinds), expected in zip(found, shown, strict=True):
        assert set(expected) <= set(kinds) and "error" not in kinds
    pictures = page.evaluate(PICTURES)
    assert len(pictures) == sum(kinds.count("display_data") for kinds in shown)
    assert min(min(size) for size in pictures) > 50


def test_an_answer_gets_its_own_sentence(page):
    cell = run_all(page, "03_blocks")
    number, asked = next(
        (number, asked)
        for number, asked in enumerate(read_questions("03_blocks"))
        if asked["type"] == "multiple_choice"
    )
    answers = shuffled(asked)
    start = sum(rows_of(one) for one in read_questions("03_blocks")[:number])
    for correct, word in ((False, "No."), (True, "Right.")):
        place = [answer["correct"] for answer in answers].index(correct)
        cell.locator("button.jupyter-button").nth(start + place).click()
        verdict = cell.locator(".widget-htmlmath", has_text=word)
        verdict.wait_for()
        plain = answers[place]["feedback"].replace("`", "")
        assert verdict.inner_text().split() == f"{word} {plain}".split()
        screenshot(page, f"ask_{correct}")


def rows_of(question):  # int
    "How many buttons a question has."
    return 0 if question["type"] == "numeric" else len(question["answers"])


def test_an_image_is_dropped_and_its_mask_is_saved(page, lab, tmp_path):
    cell, folder = run_all(page, "14_predict"), lab[1]
    Image.fromarray(noise(96, 128)).save(tmp_path / "grey.png")
    Image.fromarray(noise(96, 128, 3)).save(tmp_path / "colour.png")
    (tmp_path / "letter.png").write_text("Dear reader")
    said = {"grey": "96 x 128 pixels", "colour": "3 channels", "letter": "not an image"}
    for name, words in said.items():
        drop(cell.locator(".widget-upload"), tmp_path / f"{name}.png")
        cell.locator(".widget-html", has_text=words).wait_for()
        page.wait_for_function(f"() => ({PICTURE})()?.size?.[0] === 128")  # stays
        screenshot(page, f"drop_{name}")
    before = picture(page)
    assert before["box"] == before["size"] == [128, 96]  # not stretched
    cell.locator(".noUi-handle").first.focus()
    page.keyboard.press("Home")
    changed = f"data => ![undefined, data].includes(({PICTURE})()?.data)"
    page.wait_for_function(changed, arg=before["data"])
    with page.expect_file_chooser() as chooser:  # the other way to the same button
        cell.locator("button.widget-upload").click()
    chooser.value.set_files(tmp_path / "grey.png")
    cell.locator(".widget-html", has_text="96 x 128 pixels").wait_for()
    cell.get_by_role("button", name="save").click()
    cell.locator(".widget-html", has_text="written").wait_for()
    assert Image.open(folder / "runs" / "desk" / "grey_mask.png").size == (128, 96)
