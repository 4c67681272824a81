"""Each rule is given a notebook that breaks it, and one that does not."""

import base64

import house
import pytest

GOOD = [
    ("md", "# Sizes\n\n> How large the output is."),
    ("code", "#| default_exp sizes"),
    ("md", "## Where we are\n\nSome words about what comes."),
    ("code", "#| export\nimport math"),
    ("md", "## Half\n\nEach pooling halves a side, and so we need half of a number."),
    (
        "code",
        '#| export\ndef half(\n    size,  # pixels\n):  # pixels\n    "Half."\n'
        "    return math.floor(size / 2)",
    ),
    ("md", "Half of ten is five, as everybody knows from school."),
    ("code", "assert half(10) == 5"),
    ("md", "## What you have now\n\n- half\n\n## Try it\n\n1. half of 11"),
]


def make(
    cells,  # list of (kind, text) or (kind, text, outputs)
    name="02_sizes",  # of the notebook
    **metadata,  # of the notebook
):  # house.Notebook
    "A small notebook."
    made = []
    for number, (kind, text, *shown) in enumerate(cells):
        cell = {"cell_type": "markdown" if kind == "md" else "code", "metadata": {}}
        cell |= {"id": f"c{number}", "source": text.splitlines(True)}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": shown[0] if shown else []}
        made.append(cell)
    return house.Notebook(name, {"cells": made, "metadata": metadata})


def replaced(
    number,  # index of a cell of GOOD
    *cells,  # what stands there instead
):  # list of cells
    "The good notebook with one cell replaced."
    return [*GOOD[:number], *cells, *GOOD[number + 1 :]]


def code(text):  # list of cells
    "The good notebook with one more cell of code at its end."
    return [*GOOD, ("code", text)]


def shows(output):  # list of cells
    "The good notebook with a cell that shows something."
    return [*GOOD, ("code", "half(2)", [output])]


def printed(text, name="stdout"):  # an output
    "What print gives."
    return {"output_type": "stream", "name": name, "text": [text]}


def figure(size):  # an output
    "A figure of so many bytes."
    png = base64.b64encode(bytes(size)).decode()
    return {"output_type": "display_data", "data": {"image/png": png}, "metadata": {}}


WIDGET = {
    "output_type": "display_data",
    "metadata": {},
    "data": {house.outputs.WIDGET: {}, "text/plain": ["IntSlider()"]},
}
ERROR = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": []}
TWO = '"""A.\n\n    B."""'

BROKEN = [
    ("title_and_subtitle", replaced(0, ("md", "# Sizes")), "> One sentence."),
    ("title_and_subtitle", replaced(0, ("code", "1")), "cell 1"),
    ("one_h1", [*GOOD, ("md", "# Again")], "found 2"),
    ("no_level_skipped", [*GOOD, ("md", "#### Deep")], "write `### Deep`"),
    ("closing_sections", GOOD[:-1], "## Try it"),
    ("imports_alone", code("import os\nos.getpid()"), "cell 10: imports stand"),
    ("no_star_import", code("from math import *"), "from math import *"),
    ("cell_count", GOOD, "9 cells, 25 to 45"),
    ("cell_count", GOOD * 6, "54 cells"),
    ("median_cell", GOOD, "the median code cell has"),
    ("longest_cell", code("a = 1\n" * 31), "31 lines of at most 30"),
    ("prose_and_code", code("a = 1\n" * 30), "words of prose a line of code"),
    (
        "code_after_prose",
        [*GOOD, *[("code", "a = 1")] * 9],
        "of code cells follow prose",
    ),
    ("line_length", code("a = " + "1" * 90), "94 characters of at most 88"),
    ("figure_count", GOOD, "0 figures, 3 to 6"),
    ("figure_size", shows(figure(70_000)), "68 KB of at most 60"),
    ("clean_outputs", shows(printed("careful", "stderr")), "cell 10: its output"),
    ("clean_outputs", shows(ERROR), "it raised an error"),
    ("clean_outputs", shows(WIDGET), "a widget"),
    ("clean_outputs", shows(printed(" 50%|█████     | 1/2")), "a progress bar"),
    ("clean_outputs", shows(printed("in /home/ada/masks.png")), "an absolute path"),
    ("clean_outputs", shows(printed("<Net at 0x7f3a5c0d2e80>")), "a memory address"),
    ("clean_outputs", shows(printed("0.693147180559")), "a raw float"),
    ("clean_outputs", shows(printed("word " * 900)), "more than 4000 characters"),
    ("clean_outputs", shows(printed("[<Axes: >]")), "end the cell with plt.show()"),
    ("no_machine_path", [*GOOD, ("md", "Look in /home/ada.")], "make it relative"),
    ("exports_somewhere", replaced(1), "without a cell `#| default_exp name`"),
    ("exports_somewhere", GOOD[:3], "no cell is exported"),
    ("docstrings", code("#| export\nclass A:\n    a = 1"), "`A` has no docstring"),
    ("docstrings", code(f"#| export\nclass A:\n    {TWO}"), "must be one sentence"),
    ("docments", code('#| export\ndef f(a):\n    "A."'), "nothing explains `a`"),
    ("docments", code('#| export\ndef f(a, b):  # x\n    "A."'), "explains `b`"),
    (
        "docments",
        code('#| export\ndef f():\n    "A."\n    return 1'),
        "nothing explains what it returns",
    ),
    (
        "docments",
        code(
            '#| export\nclass A:\n    "A."\n\n    def __init__(self, a):\n        pass'
        ),
        "`A`: nothing explains `a`",
    ),
    ("docments", code('#| export\nclass A:\n    "A."\n\n    a: int'), "the field `a`"),
    ("used_at_once", code('#| export\ndef f():\n    "A."'), "`f` is not used"),
    ("vocabulary", [*GOOD, ("md", "The encoder and patches.")], "`encoder`"),
    ("vocabulary", [*GOOD, ("md", "Cut into patches.")], "`patch`"),
    ("vocabulary", code("x1 = half(2)"), "the name `x1`"),
    ("vocabulary", code("def inc(a):\n    return a"), "the name `inc`"),
]


@pytest.mark.parametrize(("rule", "cells", "complaint"), BROKEN)
def test_a_broken_notebook_is_found(rule, cells, complaint):
    found = getattr(house, rule)(make(cells))
    assert any(complaint in text for text in found), found


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(rule):
    assert rule(make(GOOD)) == []


def test_every_rule_and_every_advice_is_shown_to_bite():
    shown = {rule for rule, _, _ in BROKEN} | {"no_metadata", "file_size"}
    assert {rule.__name__ for rule in house.RULES + house.ADVICE} == shown


def test_advice_is_printed_and_no_rule(capsys, monkeypatch, tmp_path):
    assert not set(house.RULES) & set(house.ADVICE)
    path = tmp_path / "02_sizes.ipynb"
    path.write_text(house.files.as_text(make(GOOD).data))
    monkeypatch.setattr(house.files, "choose", lambda names: [path])
    monkeypatch.setattr(house.sys, "argv", ["house.py"])
    house.main()
    told = capsys.readouterr().out
    assert "02_sizes: 9 cells, median" in told
    assert "(advice) 9 cells, 25 to 45" in told and "(advice) 0 figures" in told
    for layer, modules in house.LAYERS.items():
        assert f"  {layer}" in told and modules in told


def test_metadata_is_found():
    book = make(GOOD, kernelspec={}, widgets={})
    book.data["cells"][1] |= {"execution_count": 3, "metadata": {"tags": []}}
    found = "\n".join(house.no_metadata(book))
    assert "metadata widgets" in found
    assert "cell 2: an execution count" in found
    assert "cell 2: metadata {'tags': []}" in found


@pytest.mark.parametrize(("name", "large"), [("05_model", 501), ("16_cars", 1001)])
def test_a_large_file_is_found(name, large):
    assert house.file_size(house.Notebook(name, {}, large * 1024))
    assert not house.file_size(house.Notebook(name, {}, (large - 1) * 1024))


@pytest.mark.parametrize(
    "line",
    [
        "from unet_tutorial.model import UNet",
        "from unet_tutorial import model",
        "import unet_tutorial.model",
        "from .model import UNet",
    ],
)
def test_an_arrow_upwards_is_found(line):
    numbers = {"sizes": 2, "model": 5}
    assert house.arrows_downwards(make(code(line)), numbers)
    assert not house.arrows_downwards(make(code(line), name="06_tiles"), numbers)
    assert not house.arrows_downwards(make(code(line), name="index"), numbers)


def test_an_exported_arrow_against_the_plan_is_found():
    numbers = {"sizes": 2, "model": 5, "data.images": house.INFINITY}
    line = "from unet_tutorial.data.images import read_image"
    assert not house.arrows_downwards(make(code(line)), numbers)
    found = house.arrows_downwards(make(code("#| export\n" + line)), numbers)
    assert "`data.images`, which is not below `sizes`" in found[0]


def test_a_module_that_imports_against_the_plan_is_found():
    found = house.modules_downwards({"sizes": "def f():\n    from .model import UNet"})
    assert found == ["sizes imports model, which is not below it: see tools/layers.py"]
    circle = {"model": "from .tiles import a", "tiles": "from .model import b"}
    assert len(house.modules_downwards(circle)) == 1
    wing = {"data.images": "from ..runs.run import a\nfrom .pairs import b\n"}
    assert len(house.modules_downwards(wing)) == 2
    right = {"runs.run": "from ..data import pairs\nfrom . import engine\n"}
    assert house.modules_downwards(right) == []
    assert "does not know it" in house.modules_downwards({"new": ""})[0]


@pytest.mark.parametrize(
    "text",
    [
        "from .sizes import _half",
        "from unet_tutorial.sizes import _half as half",
        "from . import sizes\nsizes._half(2)",
        "def f():\n    from .sizes import _half",
    ],
)
def test_a_private_import_is_found(text):
    (found,) = house.no_private_import({"model": text})
    assert "private" in found and "_half" in found


def test_what_is_private_elsewhere_or_public_passes():
    text = "from torch import _C\nfrom . import __version__\nfrom .sizes import half\n"
    text += "class A:\n    def f(self):\n        return self._a"
    assert house.no_private_import({"model": text}) == []


def test_a_star_in_a_module_is_found():
    assert house.no_star_in_modules({"model": "from .sizes import *"})
    assert not house.no_star_in_modules({"model": "from .sizes import half"})


def test_an_unknown_module_is_found():
    line = "from unet_tutorial.nothing import x"
    assert "no notebook" in house.arrows_downwards(make(code(line)), {})[0]


def test_a_name_in_two_modules_is_found():
    found = house.names_once([make(GOOD), make(GOOD, name="03_blocks")])
    assert found == ["`half` stands in 02_sizes cell 6 and in 03_blocks cell 6"]


def test_orphans_are_found():
    books = [make(GOOD)]
    assert not house.modules_and_notebooks(books, ["sizes"])
    assert "delete it" in house.modules_and_notebooks(books, ["sizes", "old"])[0]
    assert "make export" in house.modules_and_notebooks(books, [])[0]
    assert "two notebooks" in house.modules_and_notebooks(books * 2, ["sizes"])[0]


def test_heavy_imports_are_found():
    modules = {
        "model": "def f():\n    import matplotlib.pyplot as plt",
        "data": "from albumentations import Compose",
        "predict": "try:\n    import ipywidgets\nexcept ImportError:\n    pass",
    }
    assert len(house.heavy_imports(modules)) == 3
    allowed = {
        "show": "import matplotlib",
        "data.pipelines": "import albumentations",
        "predict": "def live():\n    import ipywidgets",
    }
    assert house.heavy_imports(allowed) == []


def test_requirements_are_compared_with_imports():
    settings = {
        "requirements": "pillow>=10 scipy>=1.11",
        "course_requirements": "ipywidgets",
    }
    modules = {"a": "import os\nfrom PIL import Image\nimport torch"}
    found = "\n".join(house.requirements(modules, settings))
    assert "`torch` is imported" in found
    assert "no module imports `scipy`" in found
    lazily = {
        "a": "from PIL import Image\nimport scipy\ndef live():\n    import ipywidgets"
    }
    assert house.requirements(lazily, settings) == []


def test_an_optional_room_may_need_a_group_and_is_imported_by_none():
    settings = {"requirements": "torch", "course_requirements": "albumentations"}
    room = {"data.pipelines": "import albumentations", "augment": "import torch"}
    assert house.requirements(room, settings) == []
    assert house.requirements({"augment": "import albumentations, torch"}, settings)
    lazily = "def f():\n    from .data.pipelines import car_pipeline"
    assert house.optional_rooms({"train": lazily}) == []
    for line in "from .data.pipelines import a", "from .data import pipelines":
        (found,) = house.optional_rooms({"train": line})
        assert "train imports data.pipelines" in found


def test_what_a_module_reaches_is_followed():
    modules = {
        "model": "from .blocks import A\nimport torch",
        "blocks": "from .sizes import b\ndef f():\n    import scipy",
        "sizes": "import numpy as np",
    }
    assert house.reached_from("model", modules) == {"torch", "numpy"}


def test_words_and_lines_are_counted_as_documented():
    text = "## A title\n\nTwo words: $x$\n\n```python\nnot counted\n```\n\n$$y = x^2$$"
    assert house.words_of(text) == ["A", "title", "Two", "words:", "$x$"]
    cells = [("code", "#| export\n\na = 1\n# why\n%timeit a\n"), ("md", "one two")]
    book = make(cells)
    assert house.code_sizes(book) == [2]
    assert house.words_a_line(book) == 1


def test_generated_cells_count_nowhere():
    generated = [
        ("md", house.reading.GENERATED[0] + "(x) encoder"),
        ("code", house.reading.GENERATED[1] + "\nimport os\nos.getpid()"),
    ]
    assert len(make([*GOOD, *generated]).cells) == len(GOOD)
    assert not house.imports_alone(make([*GOOD, *generated]))


def test_other_peoples_words_may_be_quoted():
    text = 'Others say `encoder` or "decoder", and crop [here](https://a.org/patch).'
    assert house.vocabulary(make([*GOOD, ("md", text)])) == []


def test_a_guarded_import_of_ipywidgets_is_an_import():
    guarded = "try:\n    import ipywidgets\nexcept ImportError:\n    ipywidgets = None"
    assert house.imports_alone(make(code("import os\n" + guarded))) == []
