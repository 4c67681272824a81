"""Fixtures of a real browser; where there is none, tests say why they are skipped."""

import pytest
from browser import chromium

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser():  # playwright Browser
    "Chromium without a window."
    sync_api = pytest.importorskip("playwright.sync_api")
    place = chromium()
    if place is None:
        pytest.skip("no Chromium here: make browser installs it, or names what to do")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=place, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def new_page(browser):  # a function without arguments, or with those of new_page
    "Open pages; a console error or a failed request on any of them fails the test."
    opened, wrong = [], []

    def note(message):
        if message.type == "error":
            wrong.append(message.text)

    def make(**options):
        page = browser.new_page(**options)
        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        opened.append(page)
        return page

    yield make
    for page in opened:
        page.close()
    assert wrong == []
