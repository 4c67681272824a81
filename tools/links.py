"""Write every link to this repository from `settings.ini`: `make links`.

The owner (`user`), the name (`repo`) and the `branch` stand in `settings.ini` only.
The lines under the titles, the two tables of the course and the picture of the house
follow the notebooks there are, tools/layers.py, and the times in results/notebooks.csv.
`python tools/links.py --check` changes nothing and lists what is stale.
"""

import re
import sys

import claims
import house_picture
import layers
import notebooks
import reading
import times
from notebooks import ROOT
from reading import TABLE, is_generated

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github"
LINKS_START, COLAB_START, ROAD_START = reading.GENERATED
PICTURE = "site/house.png"
FORM_OF, FORM = "18_your_data", "app/your_data.ipynb"  # see tools/form.py
TEXTS = "README.md CONTRIBUTING.md CHANGELOG.md CITATION.cff".split()


def slug(
    settings,  # mapping with `user` and `repo`
):  # str
    "The repository's name on GitHub."
    return f"{settings['user']}/{settings['repo']}"


def in_repository(
    settings,  # mapping with `user`, `repo`, `branch`
    path,  # str relative to the repository
):  # str
    "The page of a file on GitHub."
    return f"https://github.com/{slug(settings)}/blob/{settings['branch']}/{path}"


def in_colab(
    settings,  # mapping with `user`, `repo`, `branch`
    path,  # str relative to the repository
):  # str
    "The address that opens a notebook in Colab."
    return f"{COLAB}/{slug(settings)}/blob/{settings['branch']}/{path}"


def source_of(
    module,  # such as "model" or "data.images"
):  # str relative to the repository
    "The file of a module."
    return f"unet_tutorial/{module.replace('.', '/')}.py"


def links_line(
    settings,  # mapping with `user`, `repo`, `branch`
    road,  # names of the notebooks of the road, in order
    path,  # this notebook
    module,  # its module, or None
):  # str
    "What appears under a notebook's title."
    place = notebooks.relative(path)
    parts = [f"[![Open in Colab]({BADGE})]({in_colab(settings, f'nbs/{place}')})"]
    parts.append(f"[on GitHub]({in_repository(settings, f'nbs/{place}')})")
    if path.stem == FORM_OF:
        parts.append(f"without code: [a form in Colab]({in_colab(settings, FORM)})")
    if module:
        file = source_of(module)
        parts.append(f"[source: `{file}`]({in_repository(settings, file)})")
    if notebooks.is_workshop(path):
        stop = layers.served_by(notebooks.module_of_room(path))
        up = "../" * place.count("/")
        return " | ".join([*parts, f"workshop, serves: [{stop}]({up}{stop}.ipynb)"])
    number = road.index(path.stem)
    if number > 0:
        before = road[number - 1]
        parts.append(f"previous: [{before}]({before}.ipynb)")
    if number + 1 < len(road):
        after = road[number + 1]
        parts.append(f"next: [{after}]({after}.ipynb)")
    return " | ".join(parts)


def effort_line(
    notebook,  # dict
    path,  # its file
    homes,  # dict: module to the notebook of the road that exports it
    seconds,  # dict of notebook to the seconds that it runs
):  # str such as "read 12 minutes, runs 9 seconds on 2 cores, needs: 03, 05"
    "What a notebook asks of its reader and of his machine."
    minutes, name = reading.minutes(notebook), notebooks.name_of(path)
    text = f"read {minutes} minute{'s' if minutes > 1 else ''}"
    if name in seconds:
        plural = "s" if seconds[name] > 1 else ""
        text += f", runs {seconds[name]} second{plural} on 2 cores"
    needs = [stop for stop in reading.needs(notebook, homes) if stop != path.stem]
    if path.stem != "index" and needs:
        up = "../" * notebooks.relative(path).count("/")
        stops = [f"[{stop.split('_')[0]}]({up}{stop}.ipynb)" for stop in needs]
        text += f", needs: {', '.join(stops)}"
    return text


def homes_of_modules(
    paths,  # all notebooks
):  # dict: module to the notebook of the road that exports it
    "Where on the road a module is made."
    road = [path for path in paths if not notebooks.is_workshop(path)]
    modules = {
        path.stem: notebooks.exported_module(notebooks.read(path)) for path in road
    }
    return {module: stem for stem, module in modules.items() if module}


def colab_code(
    settings,  # mapping with `user`, `repo`, `branch`
):  # str
    "The cell that installs the package in Colab, and changes no torch there."
    address = f"git+https://github.com/{slug(settings)}@{settings['branch']}"
    return (
        f"{COLAB_START} Anywhere else this cell does nothing.\n"
        'if "google.colab" in str(get_ipython()):\n'
        f'    %pip install -q "{address}"\n'
        "    import torch\n"
        "\n"
        f"    import {settings['lib_name']} as package\n"
        "\n"
        "    gpu = torch.cuda.is_available() and torch.cuda.get_device_name()\n"
        '    print(package.__version__, "torch", torch.__version__, "on", gpu or "CPU")'
    )


def markdown_cell(
    name,  # the cell's id
    text,  # str
):  # dict
    "A cell of prose."
    lines = text.splitlines(True)
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": lines}


def code_cell(
    name,  # the cell's id
    text,  # str
):  # dict
    "A cell of code that was not executed."
    cell = markdown_cell(name, text) | {"cell_type": "code"}
    return cell | {"execution_count": None, "outputs": []}


def with_links(
    notebook,  # dict; not changed
    settings,  # mapping with `user`, `repo`, `branch`
    road,  # names of the notebooks of the road, in order
    path,  # this notebook
    effort="",  # see effort_line
):  # dict
    "The notebook with its generated cells where they belong."
    cells = [cell for cell in notebook["cells"] if not is_generated(cell)]
    module = notebooks.exported_module(notebook)
    line = links_line(settings, road, path, module)
    line += f"\n\n*{effort}*" if effort else ""
    cells.insert(1, markdown_cell("links", line))
    sources = [notebooks.source(cell).strip() for cell in cells]
    directive = f"#| default_exp {module}"
    place = sources.index(directive) + 1 if directive in sources else 2
    cells.insert(place, code_cell("colab", colab_code(settings)))
    if path.stem in road and path.stem != "index":
        cells.insert(first_section(cells) + 1, road_cell(notebook, path.stem))
    return notebook | {"cells": cells}


def first_section(
    cells,  # of a notebook
):  # int
    "The place of the cell with the first section, which says where we are."
    heads = [notebooks.source(cell).startswith("## ") for cell in cells]
    return heads.index(True) if True in heads else len(cells) - 1


def road_cell(
    notebook,  # dict; the picture that it has already is kept
    stop,  # such as "06_tiles"
):  # dict
    "The cell that draws the road, and where the reader is."
    text = f'{ROAD_START} road_map\n\nroad_map("{stop}")'
    cell = code_cell("road", text)
    for old in notebook["cells"]:
        if notebooks.source(old) == text:
            cell = cell | {"outputs": old["outputs"]}
    return cell


def with_map(
    notebook,  # dict; not changed
    rows,  # the table of the course, for a reader in nbs/
):  # dict
    "The notebook with the table of the course where it has the two marks."
    cells = []
    for cell in notebook["cells"]:
        if TABLE[0] in notebooks.source(cell):
            text = with_table(notebooks.source(cell), rows)
            cell = cell | {"source": text.splitlines(True)}
        cells.append(cell)
    return notebook | {"cells": cells}


def table(
    settings,  # mapping with `user`, `repo`, `branch`
    folder,  # folder of notebooks
    seconds,  # dict of notebook to the seconds that it runs
    root="",  # how the reader's page leads to the repository: "" or "../"
):  # str
    "The two tables of the course, for the README and the index."
    paths = notebooks.reading_order(folder)
    road = [path for path in paths if not notebooks.is_workshop(path)]
    shop = [path for path in paths if notebooks.is_workshop(path)]
    lines = ["**The road**: read it in order.", "", *head("notebook")]
    lines += rows(settings, [p for p in road if p.stem == "index"], seconds, root)
    for title, (first, last) in layers.PARTS.items():
        part = [p for p in road if first <= notebooks.number(p.stem) <= last]
        lines += part_rows(settings, title, part, seconds, root)
    if shop:
        lines += ["", "**The workshop**: a reference, for when you need it.", ""]
        lines += head("room")
    for wing, title in layers.WING_TITLES.items():
        rooms = [p for p in shop if layers.wing(notebooks.module_of_room(p)) == wing]
        lines += part_rows(settings, title, rooms, seconds, root)
    return "\n".join(lines)


def head(
    what,  # "notebook" or "room"
):  # list of two lines
    "The head of a table."
    return [
        f"| {what} | what it is about | module | read | runs | |",
        "|---|---|---|--:|--:|---|",
    ]


def part_rows(
    settings,  # mapping with `user`, `repo`, `branch`
    title,  # of the part
    paths,  # its notebooks
    seconds,  # dict of notebook to the seconds that it runs
    root,  # how the reader's page leads to the repository: "" or "../"
):  # list of lines, the first with the title and the sums; none without a notebook
    "A part of the road, or a wing of the workshop."
    if not paths:
        return []
    minutes = sum(reading.minutes(notebooks.read(path)) for path in paths)
    known = [seconds.get(notebooks.name_of(path)) for path in paths]
    total = "" if None in known else f"{sum(known)} s"
    first = f"| **{title}** | | | {minutes} min | {total} | |"
    return [first, *rows(settings, paths, seconds, root)]


def rows(
    settings,  # mapping with `user`, `repo`, `branch`
    paths,  # notebooks
    seconds,  # dict of notebook to the seconds that it runs
    root,  # how the reader's page leads to the repository: "" or "../"
):  # list of lines
    "One line per notebook."
    lines = []
    for path in paths:
        notebook = notebooks.read(path)
        title, subtitle = notebooks.title_and_subtitle(notebook)
        module = notebooks.exported_module(notebook)
        source = f"[`{module}`]({root}{source_of(module)})" if module else ""
        number = f"{path.stem.split('_')[0]} " if path.stem[:2].isdigit() else ""
        place = notebooks.relative(path)
        link = f"{number}[{title}]({'' if root else 'nbs/'}{place})"
        colab = f"[Colab]({in_colab(settings, f'nbs/{place}')})"
        if path.stem == FORM_OF:
            colab += f", [as a form]({in_colab(settings, FORM)})"
        known = seconds.get(notebooks.name_of(path))
        effort = f"{reading.minutes(notebook)} min | {f'{known} s' if known else ''}"
        lines.append(f"| {link} | {subtitle} | {source} | {effort} | {colab} |")
    return lines


def with_owner(
    text,  # str
    settings,  # mapping with `user`, `repo`, `branch`
):  # str
    "The text with every link to this repository leading to its owner and branch."
    repo = re.escape(settings["repo"])
    github = r"(github\.com|colab\.research\.google\.com/github)"
    text = re.sub(rf"{github}/[\w.-]+/{repo}(?![\w-])", rf"\1/{slug(settings)}", text)
    before_branch = rf"({re.escape(slug(settings))}(?:@|/(?:blob|tree|raw)/))[\w.-]+"
    return re.sub(before_branch, rf"\g<1>{settings['branch']}", text)


def with_table(
    text,  # str
    rows,  # the table
):  # str
    "The text with what stands between the two marks replaced."
    start, end = TABLE
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    return between.sub(lambda _: f"{start}\n{rows}\n{end}", text)


def with_version(
    text,  # content of CITATION.cff
    settings,  # mapping with `version`
):  # str
    "The citation with the version of `settings.ini`."
    return re.sub(r"(?m)^version: .*$", f"version: {settings['version']}", text)


def expected(
    root=ROOT,  # the repository
):  # dict of Path to the text that the file should hold
    "Every file with generated parts, as it should be."
    settings = notebooks.settings(root)
    paths = notebooks.reading_order(root / "nbs")
    road = [path.stem for path in paths if not notebooks.is_workshop(path)]
    seconds, homes = times.read(root), homes_of_modules(paths)
    files, tables = {}, table(settings, root / "nbs", seconds, "../")
    for path in paths:
        notebook = notebooks.read(path)
        effort = effort_line(notebook, path, homes, seconds)
        notebook = with_links(notebook, settings, road, path, effort)
        notebook = with_map(notebook, tables)
        files[path] = notebooks.as_text(notebook)
    for path in (root / name for name in TEXTS):
        if path.exists():
            text = with_owner(path.read_text(encoding="utf-8"), settings)
            text = with_table(text, table(settings, root / "nbs", seconds))
            files[path] = with_version(text, settings)
    if (root / "claims.ini").exists():
        files[root / "nbs" / "claims.md"] = claims.page(claims.read(root))
    return files


def stale(
    root=ROOT,  # the repository
):  # list of Path
    "The files whose generated parts are not current."
    found = [
        path
        for path, text in expected(root).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if not picture_is_current(root):
        found.append(root / PICTURE)
    return found


def picture_is_current(
    root=ROOT,  # the repository
):  # bool; a repository without a folder for pictures needs none
    "Whether the picture of the house shows the notebooks and modules there are."
    if not (root / PICTURE).parent.exists():
        return True
    drawn = house_picture.drawn_words(root / PICTURE)
    return drawn == house_picture.words(root / "nbs")


def refresh(
    root=ROOT,  # the repository
):  # list of Path that changed
    "Write the generated parts."
    changed = stale(root)
    files = expected(root)
    for path in changed:
        if path == root / PICTURE:
            house_picture.draw(root / "nbs", path)
            continue
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(files[path], encoding="utf-8", newline="\n")
        temporary.replace(path)
    return changed


def main():
    "Write, or with --check only look."
    check = "--check" in sys.argv[1:]
    paths = stale() if check else refresh()
    for path in paths:
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
    if not paths:
        print("All links are current.")
    elif check:
        sys.exit("Links or generated parts are stale: run make links")


if __name__ == "__main__":
    main()
