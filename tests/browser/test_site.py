"""The website as its readers meet it: in a browser, on a phone, in the dark, by search.

It needs the site (`make site`), Chromium and Playwright (`make browser`).
"""

import re
from functools import partial
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import notebooks
import pytest
import website
from notebooks import ROOT
from pages import DESK, PHONE, Quiet, grave_faults, served

SITE = website.SITE
PAGES = [path.relative_to(SITE).as_posix() for path in sorted(SITE.rglob("*.html"))]
PAGES = [page for page in PAGES if not page.startswith("_static/")]
SOURCES = [page for page in PAGES if page.startswith("_modules/")]
READ = [page for page in PAGES if page not in SOURCES]
LOOKED_AT = "index 02_sizes 05_model workshop/data/images api/model claims".split()
LOOKED_AT += "glossary results/speed".split()
OURS = re.compile(  # an address of a file of this repository
    r"https://(?:github\.com|colab\.research\.google\.com/github)/[^/]*/"
    + notebooks.settings()["repo"]
    + r"/(?:blob|tree)/[^/]*/([^#?]*)"
)
BASE = notebooks.settings()["doc_baseurl"]

BUILT = SITE / "llms.txt"  # which is written last
EDITED = max(path.stat().st_mtime for path in notebooks.reading_order())

pytest_plugins = ["pages"]
pytestmark = pytest.mark.skipif(
    not BUILT.exists() or BUILT.stat().st_mtime < EDITED,
    reason="there is no website here that is newer than the notebooks: make site",
)


class AsGitHub(Quiet):
    "Serves the site below its name, and its 404 for everything else."

    def translate_path(self, path):
        inside = urlsplit(path).path.removeprefix(BASE)
        return super().translate_path(inside)

    def send_error(self, code, *words):
        content = (SITE / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="session")
def address():
    "The site on a port of this machine."
    with served(SITE, AsGitHub) as place:
        yield place + BASE


@pytest.fixture
def tab(new_page, address):
    "Opens pages, which may ask this site only."
    return partial(new_page, only=address)


class Links(HTMLParser):
    "What a page names: its anchors, its links, its pictures."

    def __init__(self):
        super().__init__()
        self.anchors, self.links, self.pictures = set(), [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "img":
            self.pictures.append(given)
        key = {"a": "href", "link": "href", "img": "src", "script": "src"}.get(tag)
        if key and given.get(key):
            self.links.append(given[key])


def parsed(page):
    found = Links()
    found.feed((SITE / page).read_text(encoding="utf-8"))
    return found


def test_every_link_leads_to_a_page_and_every_anchor_is_there():
    known = {page: parsed(page) for page in PAGES}
    broken = []
    for page, found in known.items():
        for link in found.links:
            url = urlsplit(urljoin(f"http://here/{page}", link))
            ours = OURS.match(link)
            if ours and not (ROOT / unquote(ours[1])).exists():
                broken.append(f"{page}: {link}")
            if url.netloc != "here":
                continue
            if page == "404.html" and link.startswith(BASE):
                url = url._replace(path=urlsplit(link).path.removeprefix(BASE))
            there = unquote(url.path).lstrip("/") or "index.html"
            anchors = known[there].anchors if there in known else set()
            gone = not (SITE / there).is_file()
            if gone or (there in known and url.fragment not in {"", *anchors}):
                broken.append(f"{page}: {link}")
    assert not broken, "\n".join(broken[:20])


def test_every_picture_says_what_it_shows():
    for page in READ:
        pictures = parsed(page).pictures
        for picture in (one for one in pictures if "_images/" in one["src"]):
            said = picture.get("alt") or ""
            assert len(said.split()) >= 3, f"{page}: {picture['src']}: {said!r}"
            assert said not in picture["src"], f"{page}: {said}"


def test_directives_and_the_cell_for_colab_are_nowhere():
    for page in READ:
        text = (SITE / page).read_text(encoding="utf-8")
        assert "#| " not in text, page
        assert "Colab: install the package" not in text, page


def test_downloads_are_the_notebooks_themselves():
    for path in notebooks.reading_order():
        copy = SITE / "_sources" / notebooks.relative(path)
        assert copy.read_bytes() == path.read_bytes()
        page = (SITE / notebooks.relative(path)).with_suffix(".html")
        text = page.read_text(encoding="utf-8")
        assert f"_sources/{notebooks.relative(path)}" in text
        assert f"/blob/main/nbs/{notebooks.relative(path)}" in text


@pytest.mark.parametrize("half", [0, 1])
def test_every_page_opens_without_an_error_and_fits_a_phone(half, tab, address):
    page, wide = tab(), []
    for name in READ[half::2]:
        answer = page.goto(f"{address}/{name}", wait_until="load")
        assert answer.ok, name
        broken = page.evaluate(
            "[...document.images].filter(x => x.loading != 'lazy' && "
            "!(x.complete && x.naturalWidth)).map(x => x.src)"
        )
        assert not broken, f"{name}: {broken}"
        page.set_viewport_size(PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            wide.append(f"{name}: {width}")
        page.set_viewport_size(DESK)
    assert not wide, "\n".join(wide)


@pytest.mark.parametrize("name", ["12_train", "18_your_data"])
def test_what_is_written_and_printed_is_seen_whole_on_a_desk(name, tab, address):
    page = tab(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/{name}.html", wait_until="load")
    cut_off = page.evaluate(
        "[...document.querySelectorAll(':is(.cell_input, .cell_output) pre')]"
        ".filter(x => x.scrollWidth > x.clientWidth + 1).map(x => x.innerText)"
    )
    assert cut_off == []


def test_formulas_are_drawn_without_another_machine(tab, address):
    page = tab()
    page.goto(f"{address}/07_weight_map.html")
    page.wait_for_selector("mjx-container svg")
    page.evaluate("MathJax.startup.promise.then(() => null)")  # all of them
    assert page.locator("mjx-container").count() == page.locator(".math").count() > 5
    assert page.locator("mjx-merror").count() == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("overlap-tile", "06_tiles"),
        ("weight_map", "07_weight_map"),
        ("Dice", "metrics"),
    ],
)
def test_search_finds(words, expected, tab, address):
    page = tab()
    page.goto(f"{address}/index.html")
    page.keyboard.press("Control+k")
    page.locator("dialog input[type=search], #pst-search-dialog input").fill(words)
    page.keyboard.press("Enter")
    page.locator(f"#search-results li a[href*='{expected}']").first.wait_for()


def test_the_theme_is_switched_and_figures_stay_on_white(tab, address):
    page = tab()
    page.goto(f"{address}/05_model.html")
    seen = {}
    for mode in ("light", "dark"):
        page.locator("button.theme-switch-button:visible").click()
        page.locator(f"button.theme-change-button[data-mode={mode}]:visible").click()
        seen[page.evaluate("document.documentElement.dataset.theme")] = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " ...['filter', 'backgroundColor'].map(key =>"
            " getComputedStyle(document.querySelector('.cell_output img'))[key])]"
        )
    assert seen["dark"][0] != seen["light"][0]
    assert seen["dark"][1:] == ["none", "rgb(255, 255, 255)"]


def test_answers_are_folded_and_unfold(tab, address):
    page = tab()
    page.goto(f"{address}/05_model.html")
    answers = page.locator("article details")
    assert answers.count() >= 6
    assert page.locator("article details[open]").count() == 0
    text = answers.first.locator("p").first
    assert not text.is_visible()
    answers.first.locator("summary").click()
    assert text.is_visible()
    solution = page.locator("details:has(> summary:text-is('Solution'))").first
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()


def test_next_leads_along_the_road():
    walked, link = [], re.compile(r'class="right-next"\s+href="([^"]*)\.html"')
    found = re.match("(index)", "index")
    while found:
        walked.append(found[1])
        found = link.search((SITE / f"{walked[-1]}.html").read_text(encoding="utf-8"))
    road = [path for path in notebooks.reading_order() if path.parent.name == "nbs"]
    assert walked == [path.stem for path in road]


def test_a_page_that_is_not_there_looks_like_the_site(browser, address):
    page = browser.new_page()
    answer = page.goto(f"{address}/workshop/no/such/page.html")
    assert answer.status == 404
    assert "no such page" in page.locator("article h1").inner_text()
    page.locator("article a", has_text="course").click()
    assert page.locator("article h1").inner_text().startswith("U-Net, line by line")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_axe_finds_no_serious_fault(name, scheme, tab, address):
    page = tab(color_scheme=scheme)
    page.goto(f"{address}/{name}.html", wait_until="load")
    faults = grave_faults(page)
    assert not faults, "\n".join(faults)
