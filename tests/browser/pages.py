"""What the tests in a browser share: Chromium, pages, and who serves them.

PYTEST_DONT_REWRITE: tests import this plugin by themselves, too.
"""

import base64
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import vendor
from browser import chromium

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1400, "height": 900}
DROPPED = """files => {
  const bytes = text => Uint8Array.from(atob(text), sign => sign.charCodeAt(0));
  const all = new DataTransfer();
  for (const [name, text] of files) all.items.add(new File([bytes(text)], name));
  return all;
}"""
PATIENCE = 120_000  # milliseconds: only what never comes costs them
LEVELS = ("error", "warning")  # of a console, which no page of ours may reach


@pytest.fixture(scope="session")
def browser():  # playwright Browser
    "Chromium without a window; where there is none, tests say why they are skipped."
    sync_api = pytest.importorskip("playwright.sync_api")
    place = chromium()
    if place is None:
        pytest.skip("no Chromium here: make browser installs it, or names what to do")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=place, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def new_page(browser):  # a function with the arguments of listen, and of a page
    "Open pages; a fault on any of them fails the test."
    opened, wrong = [], []

    def make(only=None, levels=LEVELS, **options):
        page = browser.new_page(**{"viewport": DESK, **options})
        page.set_default_timeout(PATIENCE)
        listen(page, wrong, only, levels)
        opened.append(page)
        return page

    yield make
    for page in opened:
        page.close()
    assert not wrong, "\n".join(wrong)


def listen(
    page,  # playwright Page
    wrong,  # list that gets what is wrong on the page
    only=None,  # the only address that it may ask; None: any
    levels=LEVELS,  # of the console
):
    "Note what its console complains of, failed requests, and those to strangers."

    def note(what):
        wrong.append(f"{page.url}: {what}")

    def heard(message):
        if message.type in levels:
            note(message.text)

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # the page has been left
            note(f"{request.url}: {request.failure}")

    def asked(request):
        if only and not request.url.startswith(only):
            note(f"asks for {request.url}")

    only = only and (only, only.replace("http:", "ws:"), "data:", "blob:")
    page.on("console", heard)
    page.on("pageerror", note)
    page.on("requestfailed", failed)
    page.on("request", asked)


def drop(
    place,  # playwright Locator
    *paths,  # Path of each file
):
    "Let go of files over a place on a page, as a hand with a mouse does."
    place.page.wait_for_function("window.unetDrop")  # the page listens now
    files = [
        (path.name, base64.b64encode(path.read_bytes()).decode()) for path in paths
    ]
    data = {"dataTransfer": place.page.evaluate_handle(DROPPED, files)}
    for kind in ("dragover", "drop"):
        place.dispatch_event(kind, data)


class Quiet(SimpleHTTPRequestHandler):
    "Serves a folder, and says nothing."

    def log_message(self, *_):
        pass


@contextmanager
def served(
    folder,  # Path
    handler=Quiet,  # kind of it
):  # str, an address without a slash at its end
    "Serve a folder on a port of this machine."
    handler = partial(handler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def grave_faults(
    page,  # playwright Page
):  # list of str
    "What axe calls serious on a page; skipped where it is not here."
    try:
        code = vendor.script("axe-core-4.14.1").read_text(encoding="utf-8")
    except OSError as error:
        pytest.skip(f"axe is not here ({error}); make browser gets it")
    page.evaluate(code)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{fault['impact']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
