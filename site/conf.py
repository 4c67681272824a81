"""How Sphinx builds the website; `make site` writes the sources that it reads."""

import posixpath
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import notebooks
import website
import website_links

SETTINGS = notebooks.settings()
REPOSITORY = website_links.in_repository("").split("/tree/")[0]

project = SETTINGS["title"]
author = SETTINGS["author"]
project_copyright = author
version = release = SETTINGS["version"]
language = "en"
root_doc = "index"
extensions = [
    "myst_nb",
    "notfound.extension",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxext.opengraph",
]

nb_execution_mode = "off"  # the committed outputs are shown
nb_merge_streams = True
nb_ipywidgets_js = {}  # no notebook stores widgets, so no request for their scripts
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
mathjax_path = "mathjax.js"
mathjax_options = {"defer": "defer"}
copybutton_exclude = ".linenos, .gp, .go"

autodoc_inherit_docstrings = False  # those of torchvision link to its own pages
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
default_role = "code"  # docstrings write `name` as Markdown does

ogp_site_url = website.address() + "/"
ogp_image = "_static/first_masks.png"
ogp_image_alt = "Membranes, their truth, the mask of a net, and where the two differ"
ogp_social_cards = {"enable": False}
notfound_urls_prefix = SETTINGS["doc_baseurl"] + "/"

smartquotes = False  # two hyphens are two hyphens
add_module_names = False
html_favicon = str(Path(__file__).with_name("favicon.svg"))
html_context = {"default_mode": "auto"}
html_theme = "sphinx_book_theme"
html_title = project
html_baseurl = website.address() + "/"
html_static_path = [str(website.SOURCES / "_static")]
html_css_files = ["course.css"]
html_sourcelink_suffix = ""
html_last_updated_fmt = None
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": SETTINGS["branch"],
    "path_to_docs": "nbs",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_source_button": True,
    "use_download_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def as_restructured_text(app, what, name, thing, options, lines):
    "Let autodoc read docstrings, which are plain text with `code` between backticks."
    for number, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [re.sub(r"([*|_\\])", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def without_aliases(app, what, name, thing, skip, options):
    "Leave out the fields of named tuples: the parameters say what they are."
    said = getattr(thing, "__doc__", None) or ""
    return True if said.startswith("Alias for field number") else skip


def part_of(
    page,  # the name of a page
):  # str
    "What is read in one go: the road, a wing of the workshop, the API."
    road = page == "index" or notebooks.number(page) < float("inf")
    return "the road" if road else posixpath.dirname(page) or page


def on_page(app, page, template, context, tree):
    "Keep previous and next in one part, and let the source button find its file."
    file = website_links.file_of(page)
    for key in ("prev", "next"):
        link = (context.get(key) or {"link": ""})["link"].removesuffix(".html")
        other = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        if part_of(other) != part_of(page):
            context[key] = None
    for button in context.get("header_buttons", []):
        for one in button.get("buttons", [button]):
            if one.get("label") == "source-file-button":
                one["url"] = website_links.in_repository(file)


def setup(app):
    "Called by Sphinx."
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("html-page-context", on_page, priority=900)
