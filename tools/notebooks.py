"""Notebooks as plain JSON: where they are, their order, read, write."""

import json
import os
import re
from configparser import ConfigParser
from difflib import get_close_matches
from pathlib import Path

from layers import ORDER, WINGS

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"


def settings(
    root=ROOT,  # folder of `settings.ini`
):  # a mapping of strings
    "The project's one source of names, versions and requirements."
    config = ConfigParser(delimiters=["="])
    config.read(Path(root) / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def reading_order(
    folder=NBS,  # folder of notebooks
):  # list of paths: index first, then by number
    "Every notebook in the order in which it is read: the road, then the workshop."
    workshop = Path(folder) / "workshop"
    paths = [*Path(folder).glob("*.ipynb"), *workshop.rglob("*.ipynb")]
    paths = [path for path in paths if path.name[0] not in "._"]
    return sorted((p for p in paths if ".ipynb_checkpoints" not in p.parts), key=_place)


def _place(path):
    if is_workshop(path):
        module = module_of_room(path)
        known = ORDER.index(module) if module in ORDER else len(ORDER)
        return 2, known, path.stem
    return int(path.stem != "index"), 0, path.stem


def is_workshop(
    path,  # a notebook file
):  # bool
    "Whether a notebook is a room of the workshop, not a stop on the road."
    return "workshop" in Path(path).parts


def module_of_room(
    path,  # a notebook file of the workshop
):  # str such as "data.images" or "cli"
    "The module that a room of the workshop exports, by its place."
    path = Path(path)
    wing = path.parent.name
    return f"{wing}.{path.stem}" if wing in WINGS else path.stem


def relative(
    path,  # a notebook file below nbs/
):  # str such as "05_model.ipynb" or "workshop/data/images.ipynb"
    "Where a notebook is, seen from nbs/."
    path = Path(path)
    if not is_workshop(path):
        return path.name
    return "/".join(path.parts[path.parts.index("workshop") :])


def name_of(
    path,  # a notebook file below nbs/
):  # str such as "05_model" or "workshop/data/images"
    "The name of a notebook in messages and tables."
    return relative(path).removesuffix(".ipynb")


def number(
    name,  # such as "10_data"
):  # float, its place on the road; of index and of the workshop, which have none, inf
    "The number of a notebook."
    found = re.match(r"(\d\d)_", name)
    return int(found[1]) if found else float("inf")


def choose(
    names,  # names such as "05_model", "05_model.ipynb" or "nbs/05_model.ipynb"; or []
    folder=NBS,  # folder of notebooks
):  # list of paths in reading order
    "The notebooks named, or all of them when none is."
    paths = reading_order(folder)
    wanted = {Path(name).name.removesuffix(".ipynb") for name in names}
    known = [path.stem for path in paths]
    unknown = sorted(wanted - {*known})
    if unknown:
        raise SystemExit("\n".join(refusal(name, known) for name in unknown))
    return [path for path in paths if not wanted or path.stem in wanted]


def refusal(
    name,  # that no notebook has
    known,  # those that there are, in reading order
):  # str
    "What is said of an unknown name: the nearest, or a few of those that there are."
    near = [other for other in known if other.startswith(name)]
    near = near or get_close_matches(name, known, 1)
    if near:
        return f"no notebook {name} in nbs/: do you mean {near[0]}?"
    some = known if len(known) < 7 else [*known[:4], "...", known[-1]]
    return f"no notebook {name} in nbs/; there are {len(known)}: {' '.join(some)}"


def read(
    path,  # a notebook file
):  # dict
    "Read a notebook."
    return json.loads(Path(path).read_text(encoding="utf-8"))


def as_text(
    notebook,  # dict
):  # str, byte for byte what nbdev_clean would write
    "The notebook as the text of its file."
    return json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def write(
    notebook,  # dict
    path,  # file to write; an interrupted write leaves the old one whole
):
    "Write a notebook beside its place, then move it there."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(as_text(notebook), encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def joined(
    text,  # str, or list of lines as notebooks store it
):  # str
    "A multi-line field of a notebook as one string."
    return text if isinstance(text, str) else "".join(text)


def source(
    cell,  # dict
):  # str
    "The text of a cell."
    return joined(cell["source"])


def title_and_subtitle(
    notebook,  # dict
):  # (str, str), empty where missing
    "The H1 of the first cell and the blockquote under it."
    lines = source(notebook["cells"][0]).splitlines() if notebook["cells"] else []
    title = next((line[2:].strip() for line in lines if line.startswith("# ")), "")
    subtitle = next((line[2:].strip() for line in lines if line.startswith("> ")), "")
    return title, subtitle


def exported_module(
    notebook,  # dict
):  # str, or None where nothing is exported
    "The name after `#| default_exp`."
    for cell in notebook["cells"]:
        for line in source(cell).splitlines():
            if cell["cell_type"] == "code" and line.startswith("#| default_exp "):
                return line.split()[-1]
    return None


def place(
    notebook,  # dict
    number,  # index of the cell, from 0
):  # str such as "cell 7 (`net = UNet()`)"
    "How messages name a cell: counted from 1, with its first line of code."
    lines = source(notebook["cells"][number]).splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#|")]
    first = lines[0].strip() if lines else "empty"
    return f"cell {number + 1} (`{first[:60]}`)"
