"""The website: what it shows of notebooks, where its links lead, which pages it has."""

import copy
import hashlib
import io
import re
import tarfile
from base64 import b64encode

import layers
import notebooks
import pytest
import vendor
import website
import website_cells
import website_pages
from notebooks import ROOT, relative
from website_links import file_of, page_of, relinked, resolved

PATHS = notebooks.reading_order()


def on_site(path):
    page = relative(path)
    return website_cells.shown(notebooks.read(path), f"nbs/{page}", page)


@pytest.mark.parametrize("path", PATHS, ids=notebooks.name_of)
def test_a_notebook_is_shown_without_plumbing_and_stays_as_it_is(path):
    before = path.read_bytes()
    cells = on_site(path)["cells"]
    code = [notebooks.source(cell) for cell in cells if cell["cell_type"] == "code"]
    for text in code:
        assert not re.search(r"^#\|", text, re.M), text
        assert "Colab: install the package" not in text
    assert not any("Open in Colab" in notebooks.source(cell) for cell in cells[:3])
    given = notebooks.read(path)["cells"]
    outputs = [cell["outputs"] for cell in given if cell.get("outputs")]
    assert outputs == [cell["outputs"] for cell in cells if cell.get("outputs")]
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", PATHS, ids=notebooks.name_of)
def test_every_figure_has_an_alternative_text(path):
    for cell in on_site(path)["cells"]:
        if any(map(website_cells.is_figure, cell.get("outputs", []))):
            text = cell["metadata"]["mystnb"]["image"]["alt"]
            assert len(text.split()) >= 3, text
            assert len(text) <= website_cells.LONGEST
            assert not re.search(r"[`$]|^\S+\.(png|jpe?g)$", text), text


def figure(code, after=""):
    picture = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {}}
    cells = [
        {"cell_type": "markdown", "source": "## A heading"},
        {"cell_type": "code", "source": code, "outputs": [picture], "metadata": {}},
    ]
    return [*cells, *([{"cell_type": "markdown", "source": after}] if after else [])]


@pytest.mark.parametrize(
    ("code", "after", "text"),
    [
        ('#| fig-alt: A grey cell.\nplot("x")', "It is round.", "A grey cell."),
        ('axis.set_title(f"Dice {x:.2f}")', "", "Figure: Dice …"),
        ('show_images([a, b], ["one", "two"])', "", "Figure: one; two"),
        ('titles = ["one", "two"]\ndraw(titles)', "", "Figure: one; two"),
        (
            "draw(x)",
            "It is **round** and also red. So.",
            "Figure: It is round and also red.",
        ),
        ('axis.set(title="A bus")', "## Not this\n\nNor this.", "Figure: A bus"),
        ('axis.set(title="car")', "", "Figure of the section “A heading”: car"),
        ("draw(x)", "", "Figure of the section “A heading”"),
        ("!ls\ndraw(x)", "", "Figure of the section “A heading”"),
    ],
)
def test_an_alternative_text_is_made_of_titles_and_what_is_seen(code, after, text):
    assert website_cells.alternative_text(figure(code, after), 1) == text


def test_a_directive_is_no_line_of_the_site():
    cells = figure("#| export\n#| fig-alt: A cell.\n\ndraw(x)")
    cell = website_cells.code_cell(copy.deepcopy(cells), 1)
    assert cell["source"] == "draw(x)"
    assert cell["metadata"]["tags"] == ["exported"]


GITHUB = website_pages.in_repository("README.md").removesuffix("README.md")


@pytest.mark.parametrize(
    ("target", "file", "there"),
    [
        ("05_model.ipynb", "nbs/04_skips.ipynb", "05_model.ipynb"),
        ("glossary.md#skip", "nbs/04_skips.ipynb", "glossary.md#skip"),
        ("#softmax", "nbs/glossary.md", "#softmax"),
        ("../unet_tutorial/model.py", "nbs/index.ipynb", "api/model.md"),
        (f"{GITHUB}unet_tutorial/data/images.py", "nbs/x.ipynb", "api/data.images.md"),
        ("../results/speed.csv", "nbs/21_speed.ipynb", "results/speed.md"),
        ("tools/layers.py", "CONTRIBUTING.md", f"{GITHUB}tools/layers.py"),
        ("nbs/05_model.ipynb", "README.md", "05_model.ipynb"),
        ("https://arxiv.org/abs/1505.04597", "README.md", None),
        ("unet_tutorial/lessons/_02_sizes.py", "CONTRIBUTING.md", f"{GITHUB}*"),
    ],
)
def test_links_lead_to_pages_of_the_site_or_to_github(target, file, there):
    there = (there or target).replace("*", target)
    page = page_of(file) or "contributing.md"
    assert resolved(target, file, page) == there


@pytest.mark.parametrize(
    "file",
    [
        "nbs/05_model.ipynb",
        "nbs/workshop/data/crops.ipynb",
        "nbs/claims.md",
        "unet_tutorial/data/images.py",
        "results/speed.csv",
        "CHANGELOG.md",
        "examples",
    ],
)
def test_the_source_button_finds_the_file_that_a_page_shows(file):
    assert file_of(page_of(file).rsplit(".", 1)[0]) == file


def test_a_link_from_a_room_finds_its_way_out():
    file, page = "nbs/workshop/data/crops.ipynb", "workshop/data/crops.ipynb"
    text = "[a](../../10_data.ipynb), [`b`](../check.ipynb) and `[c](d.ipynb)`"
    assert relinked(text, file, page) == text
    assert (
        resolved("../../../unet_tutorial/model.py", file, page) == "../../api/model.md"
    )
    assert relinked("`05_model`", file, page) == "[`05_model`](../../05_model.ipynb)"


def test_a_link_into_the_glossary_shows_what_the_word_means():
    hints = website_pages.hints()
    assert hints["glossary.md#bottom"].startswith("The lowest level of the U")
    text = relinked("[x](glossary.md#bottom)", "nbs/a.ipynb", "a.ipynb", hints)
    assert text.startswith('[x](<glossary.md#bottom> "The lowest level')


def test_the_sidebar_lists_every_notebook_once_and_in_reading_order():
    text = website_pages.sidebar()
    named = re.findall(r"^(?:.* <)?((?:workshop/|\d\d_)[\w/]+)>?$", text, re.M)
    road = [notebooks.name_of(path) for path in PATHS[1:]]
    rooms = [name for name in road if name.startswith("workshop")]
    assert [name for name in named if name not in rooms] == road[: -len(rooms)]
    assert sorted(named) == sorted(road)
    assert all(part in text for part in layers.PARTS)


def test_every_module_and_every_table_has_a_page():
    pages = website_pages.api_pages() | website_pages.result_pages()
    for module in layers.ORDER:
        assert f"automodule:: unet_tutorial.{module}" in pages[f"api/{module}.md"]
    for table in (ROOT / "results").glob("*.csv"):
        page = pages[f"results/{table.stem}.md"]
        lines = table.read_text(encoding="utf-8").splitlines()
        assert page.startswith(f"# `{table.name}`\n\n{len(lines) - 1} row")


def test_llms_text_names_every_notebook_and_module():
    text = website_pages.llms_text("https://x.org")
    assert text.startswith("# U-Net, line by line\n\n> ")
    for path in PATHS:
        assert f"](https://x.org/{notebooks.name_of(path)}.html): " in text
    assert "(https://x.org/api/data.images.html)" in text


def test_buttons_of_the_theme_get_names():
    page = '<summary><span class="toctree-toggle" role="x"></span></summary>'
    assert '<summary aria-label="pages below">' in website.named(page)
    page = '<button class="btn search-button-field x" aria-label="Search" id="a">'
    assert "aria-label" not in website.named(page)
    assert website.named("<summary>Answer</summary>") == "<summary>Answer</summary>"


def packed(folder, content):
    place = folder / "tool" / "-" / "tool-1.0.tgz"
    place.parent.mkdir(parents=True)
    with tarfile.open(place, "w:gz") as archive:
        entry = tarfile.TarInfo("package/tool.js")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return b64encode(hashlib.sha512(place.read_bytes()).digest()).decode()


def test_a_script_is_kept_once_it_is_here_and_refused_if_it_changed(
    tmp_path, monkeypatch
):
    sum_ = packed(tmp_path / "registry", b"alert(1)")
    address, kept = (tmp_path / "registry").as_uri(), tmp_path / "kept"
    known = {"tool-1.0": (sum_, ["tool.js"])}
    monkeypatch.setattr(vendor, "KNOWN", known)
    assert vendor.script("tool-1.0", address, kept).read_bytes() == b"alert(1)"
    assert vendor.script("tool-1.0", "file:///nowhere", kept).exists()
    known["tool-1.0"] = ("another", ["tool.js"])
    with pytest.raises(OSError, match=r"tool-1.0.tgz is not what it was"):
        vendor.script("tool-1.0", address, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_table_names_the_notebooks_that_show_it():
    names = [path.stem for path in website_pages.readers_of("membranes")]
    assert "15_membranes" in names and "index" not in names
