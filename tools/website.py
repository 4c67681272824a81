"""Build the website from the notebooks and their committed outputs: `make site`.

Copies of the sources go to build/site-sources, the pages to build/site. Open
build/site/index.html, or: python -m http.server --directory build/site
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time

import notebooks
import vendor
import web
import website_pages
from notebooks import ROOT, relative, settings
from website_cells import shown

SITE = ROOT / "build" / "site"
SOURCES = ROOT / "build" / "site-sources"
NEEDS = "sphinx myst_nb sphinx_book_theme sphinx_copybutton sphinxext notfound".split()
NOT_FOUND = """---
orphan: true
---
# There is no such page

Perhaps it has moved. The <a href="{base}/">course</a> begins on its first page, the
sidebar lists every notebook, and the search looks into all of them.
"""


def unready():  # str: what is missing; empty if the site can be built
    "Whether what builds the site is here."
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return f"no {', '.join(missing)} here; make site installs what it needs"
    try:
        for name in ("mathjax-3.2.2", web.RUNTIME):  # for formulas, for the net
            vendor.files(name)
    except OSError as error:
        return f"{name} of npm, which is needed once, is not here: {error}"
    return ""


def address():  # str, without a slash at its end
    "Where the site is published."
    config = settings()
    return config["doc_host"] + config["doc_baseurl"]


def not_found():  # str, Markdown
    "The page for an address that is none; it may be asked for in any folder."
    return NOT_FOUND.format(base=settings()["doc_baseurl"])


def write_sources(
    folder=SOURCES,  # is made anew
):
    "Copy notebooks and texts as the site shows them, and write the pages it adds."
    shutil.rmtree(folder, ignore_errors=True)
    hints = website_pages.hints()
    pages = website_pages.texts() | website_pages.api_pages()
    pages |= website_pages.result_pages() | {"404.md": not_found()}
    pages |= {"examples.md": website_pages.examples_page(), "net.md": web.markdown()}
    for path in notebooks.reading_order():
        page = relative(path)
        copy = shown(notebooks.read(path), f"nbs/{page}", page, hints)
        if page == "index.ipynb":
            tree = {"cell_type": "markdown", "id": "sidebar", "metadata": {}}
            copy["cells"].append(tree | {"source": website_pages.sidebar()})
        pages[page] = json.dumps(copy)
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for table in (ROOT / "results").glob("*.csv"):
        shutil.copy(table, folder / "results")
    static = folder / "_static"
    static.mkdir()
    web.assemble(static / "net")
    shutil.copy(vendor.script("mathjax-3.2.2"), static / "mathjax.js")
    for file in ("course.css", "favicon.svg", "first_masks.png"):
        shutil.copy(ROOT / "site" / file, static)


def named(
    page,  # str, HTML
):  # str
    "Give the theme's buttons the names that a screen reader says, and dashes to lists."
    toggle = '<summary aria-label="pages below">'
    page = re.sub(r"<summary>(?=\s*<span[^>]* class=\"toctree-toggle)", toggle, page)
    page = re.sub(r"(</strong>(?: \([^\n]*?\))?) -- ", r"\1 – ", page)
    button = r'(<button class="btn search-button-field[^>]*?) aria-label="[^"]*"'
    return re.sub(button, r"\1", page)  # what it shows is its name


def finish(
    site=SITE,  # the built pages
):
    "Add what Sphinx does not write: names, the notebooks to download, llms.txt."
    for path in site.rglob("*.html"):
        path.write_text(named(path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in notebooks.reading_order():
        place = site / "_sources" / relative(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)  # as they are, with the cell for Colab
    (site / ".nojekyll").touch()  # or GitHub leaves out folders with an underscore
    text = website_pages.llms_text(address())
    (site / "llms.txt").write_text(text, encoding="utf-8")


def sphinx(
    sources=SOURCES,  # of `write_sources`
    site=SITE,  # the pages; made anew
):  # int, the exit status
    "Run Sphinx; a warning is an error."
    shutil.rmtree(site, ignore_errors=True)
    cache = ROOT / "build" / "site-cache"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E"]
    command += ["-j", "auto", "-b", "html", "-c", ROOT / "site", "-d", cache]
    return subprocess.call([*map(str, command), str(sources), str(site)], cwd=ROOT)


def main():  # int, the exit status
    "Write the sources, build the pages, and say where they are."
    reason = unready()
    if reason:
        print(f"site: {reason}")
        return 1
    start = time.monotonic()
    write_sources()
    status = sphinx()
    if status == 0:
        finish()
        pages, seconds = len([*SITE.rglob("*.html")]), time.monotonic() - start
        print(f"{pages} pages in {seconds:.0f} s: build/site/index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
