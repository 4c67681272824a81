"""The rules of the house, applied to every notebook and every module.

`house.py` holds the rules and says how they count. Each failure names the notebook, the
cell, what was found and what to do.
"""

import ast
import re
from pathlib import Path

import house
import layers
import links
import notebooks as files
import pytest
import times

ROOT = Path(__file__).resolve().parent.parent
PATHS = files.reading_order(ROOT / "nbs")
BOOKS = [house.load(path) for path in PATHS]
NUMBERS = {book.module: book.number for book in BOOKS if book.module}
PACKAGE = ROOT / "unet_tutorial"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text("utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.stem.startswith("_")
}
SETTINGS = files.settings(ROOT)
TEXTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("*.cff"),
    *ROOT.glob("*.toml"),
    ROOT / "Makefile",
    ROOT / "settings.ini",
    ROOT / ".ci" / "run",
    *(ROOT / ".github" / "workflows").glob("*.yml"),
]


def agree(
    complaints,  # what a rule returned
):
    "Fail with one complaint a line."
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.fixture(params=BOOKS, ids=lambda book: book.name)
def book(request):  # Notebook
    "One notebook after the other."
    return request.param


def test_there_are_notebooks():
    assert BOOKS, "no notebook in nbs/"


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_rule(book, rule):
    agree([f"{book.name}, {text}" for text in rule(book)])


def test_arrows_point_downwards(book):
    found = house.arrows_downwards(book, NUMBERS)
    agree([f"{book.name}, {text}" for text in found])


def test_modules_import_downwards_only():
    agree(house.modules_downwards(MODULES))


def test_the_plan_names_every_module_once():
    assert sorted(house.ORDER) == sorted(MODULES), "see tools/layers.py"


def test_no_module_uses_what_is_private_in_another():
    agree(house.no_private_import(MODULES))


def test_no_module_imports_a_star():
    agree(house.no_star_in_modules(MODULES))


def test_next_and_previous_stay_on_the_road():
    road = [path for path in PATHS if not files.is_workshop(path)]
    for at, path in enumerate(road):
        line = links_line(path)
        assert "workshop" not in line
        for word, other in (("previous", at - 1), ("next", at + 1)):
            is_there = 0 <= other < len(road)
            target = f"{word}: [{road[other].stem}]" if is_there else f"{word}:"
            assert (target in line) == is_there, f"{path.stem}: {line}"


def test_a_room_leads_back_to_the_notebook_that_it_serves():
    road = {path.stem for path in PATHS if not files.is_workshop(path)}
    rooms = [path for path in PATHS if files.is_workshop(path)]
    assert rooms
    for path in rooms:
        line = links_line(path)
        served = layers.served_by(files.module_of_room(path))
        assert served in road, f"{path.stem} serves {served}, which is not there yet"
        assert f"serves: [{served}](" in line
        assert "next:" not in line and "previous:" not in line
        way = line.split(f"serves: [{served}](")[1].split(")")[0]
        assert (path.parent / way).resolve() == (ROOT / "nbs" / f"{served}.ipynb")


def links_line(
    path,  # a notebook
):  # str
    "The generated line under its title."
    texts = [files.source(cell) for cell in files.read(path)["cells"]]
    return next(text for text in texts if text.startswith(links.LINKS_START))


def test_a_public_name_stands_in_one_module():
    agree(house.names_once(BOOKS))


def test_each_module_has_its_notebook_and_the_reverse():
    agree(house.modules_and_notebooks(BOOKS, MODULES))


def test_heavy_packages_stay_where_they_belong():
    agree(house.heavy_imports(MODULES))


def test_optional_rooms_are_not_imported_by_others():
    agree(house.optional_rooms(MODULES))


def test_the_requirements_are_what_the_modules_import():
    agree(house.requirements(MODULES, SETTINGS))


@pytest.mark.skipif("model" not in MODULES, reason="there is no module `model` yet")
def test_the_model_needs_torch_alone():
    needs = house.reached_from("model", MODULES)
    assert needs <= {"torch"}, f"importing unet_tutorial.model also imports {needs}"


def test_generated_links_are_current():
    stale = [str(path.relative_to(ROOT)) for path in links.stale(ROOT)]
    agree([f"{name}: a generated part is stale: run make links" for name in stale])


def test_every_notebook_has_its_time():
    names = {files.name_of(path) for path in PATHS}
    known = set(times.read(ROOT))
    agree([f"{name}: not timed: make times" for name in sorted(names - known)])
    agree([f"{name}: no such notebook: make times" for name in sorted(known - names)])


def test_continuous_integration_tests_what_the_settings_promise():
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    tested = ast.literal_eval(re.search(r"python: (\[.*\])", text)[1])
    first, last = (
        int(SETTINGS[key].split(".")[1]) for key in ("min_python", "max_python")
    )
    assert tested == [f"3.{minor}" for minor in range(first, last + 1)]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert targets
    agree([f"{name}: no {path}" for path in targets if not (ROOT / path).exists()])


def test_links_to_this_repository_name_its_owner():
    user, repo = SETTINGS["user"], SETTINGS["repo"]
    owner = re.compile(rf"github\.com/([\w.-]+)/{re.escape(repo)}(?![\w-])")
    agree(
        [
            f"{book.name}, cell {at}: it links to {name}/{repo}, but the owner is "
            f"{user}: leave links to this repository to make links"
            for book in BOOKS
            for at, cell in book.cells
            for name in owner.findall(files.source(cell))
            if name != user
        ]
    )


def test_no_file_names_a_path_of_one_machine():
    texts = [(path.name, path.read_text(encoding="utf-8")) for path in TEXTS]
    agree(house.machine_paths([*texts, *MODULES.items()]))


def test_the_version_is_the_same_everywhere():
    init = (ROOT / "unet_tutorial" / "__init__.py").read_text(encoding="utf-8")
    values = [
        ast.literal_eval(node.value)
        for node in ast.parse(init).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"
    ]
    version = SETTINGS["version"]
    assert values == [version], "unet_tutorial/__init__.py: run make export"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in citation, "CITATION.cff: run make links"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{version}]" in changes, f"CHANGELOG.md: add a section [{version}]"


def test_the_citation_names_the_paper():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for part in ("10.1007/978-3-319-24574-4_28", "1505.04597", "Ronneberger"):
        assert part in citation
