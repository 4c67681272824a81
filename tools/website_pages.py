"""The pages of the website that are no notebook: `make site`.

An API page per module, a page per table of results, the examples, and `llms.txt`.
"""

import ast
import csv
import io
import re

import layers
import notebooks
from notebooks import NBS, ROOT, relative
from website_links import in_repository, relinked

TEXTS = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
REFERENCE = [
    ("A U-Net on a page", "net"),
    ("API", "api/index"),
    ("Claims of the paper", "claims"),
    ("Measured results", "results/index"),
    ("Examples", "examples"),
    ("What can be read", "readable"),
    ("Primer", "primer"),
    ("Glossary", "glossary"),
    ("Changelog", "changelog"),
    ("Contributing", "contributing"),
]
API = """# `{name}`

```{{eval-rst}}
.. automodule:: {name}
   :members:
```

*{home}* [The source on GitHub]({file})
"""
RESULT = """# `{stem}.csv`

{said}

```{{csv-table}}
:header-rows: 1
:class: results

{table}
```

{{download}}`Download this table <{stem}.csv>`
"""


def toctree(
    entries,  # list of (title or None, name of a page without its ending)
    caption=None,  # a heading in the sidebar
    hidden=True,  # whether it shows in the sidebar alone
):  # str
    "A list of pages for the sidebar."
    options = [":hidden:"] if hidden else []
    options += [f":caption: {caption}"] if caption else []
    lines = [f"{title} <{name}>" if title else name for title, name in entries]
    return "\n".join(["```{toctree}", *options, "", *lines, "```"])


def sidebar():  # str, Markdown
    "The whole course in reading order: the parts, the workshop, the reference."
    names = [notebooks.name_of(path) for path in notebooks.reading_order()]
    trees = []
    for part, (first, last) in layers.PARTS.items():
        inside = [name for name in names if first <= notebooks.number(name) <= last]
        trees.append(toctree([(None, name) for name in inside], part))
    rooms = [path for path in notebooks.reading_order() if notebooks.is_workshop(path)]
    for wing, title in layers.WING_TITLES.items():
        modules = {path: notebooks.module_of_room(path) for path in rooms}
        inside = [path for path in rooms if layers.wing(modules[path]) == wing]
        entries = [(modules[p].split(".")[-1], notebooks.name_of(p)) for p in inside]
        trees.append(toctree(entries, f"Workshop: {title}"))
    return "\n\n".join([*trees, toctree(REFERENCE, "Reference")])


def homes():  # dict of a module, such as "data.images", to its notebook's Path
    "Which notebook writes which module."
    found = {}
    for path in notebooks.reading_order():
        module = notebooks.exported_module(notebooks.read(path))
        found |= {module: path} if module else {}
    return found


def first_line(
    file,  # a Path
):  # str
    "The first sentence of a module's or a script's docstring."
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return said.split("\n\n")[0].replace("\n", " ")


def escaped(
    text,  # str
):  # str that fits a cell of a table
    "A sentence for a table."
    return text.replace("|", "\\|")


def module_page(
    module,  # such as "data.images"
    home,  # Path of its notebook
):  # str, Markdown
    "The API page of a module."
    file = f"unet_tutorial/{module.replace('.', '/')}.py"
    title = notebooks.title_and_subtitle(notebooks.read(home))[0]
    said = f"Written, shown and checked in the notebook [{title}](../{relative(home)})."
    name = f"unet_tutorial.{module}"
    return API.format(name=name, home=said, file=in_repository(file))


def api_pages():  # dict of a page's name to its text
    "A page per module, and one that lists them by layers."
    modules = homes()
    lines = [
        "# API",
        "",
        "> Every module of the library, from its docstrings. A module imports only "
        "from those above it.",
        "",
        "Most people need the names that the package itself offers: "
        "`from unet_tutorial import UNet, Predictor, train_run`. Every name is in "
        "the {ref}`index <genindex>`.",
    ]
    for layer, names in layers.LAYERS.items():
        lines += ["", f"## {layer.capitalize()}", "", "| module | |", "|---|---|"]
        for module in (name for name in names.split() if name in modules):
            file = ROOT / "unet_tutorial" / f"{module.replace('.', '/')}.py"
            said = escaped(first_line(file))
            lines.append(f"| [`{module}`]({module}.md) | {said} |")
    tree = toctree([(module, module) for module in layers.ORDER if module in modules])
    pages = {
        f"api/{module}.md": module_page(module, modules[module]) for module in modules
    }
    return pages | {"api/index.md": "\n".join([*lines, "", tree, ""])}


def readers_of(
    table,  # such as "speed"
):  # list of Path
    "The notebooks that show a table of results."
    pattern = re.compile(rf"\b{table}\.csv\b")
    found = []
    for path in notebooks.reading_order():
        cells = notebooks.read(path)["cells"]
        if any(pattern.search(notebooks.source(cell)) for cell in cells):
            found.append(path)
    return found


def result_page(
    file,  # Path of a table
):  # str, Markdown
    "A page that shows a table of results: who wrote it, who reads it."
    with open(file, newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    columns = [key for key in rows[0] if any(row[key] for row in rows)]
    commands = sorted({row["command"] for row in rows if row.get("command")})
    said = f"{len(rows)} row{'s' if len(rows) > 1 else ''}."
    if commands:
        columns.remove("command")
        said += " Written by:\n\n```text\n" + "\n".join(commands) + "\n```"
    shown = [f"[{path.stem}](../{relative(path)})" for path in readers_of(file.stem)]
    if shown:
        said += f"\n\nShown in {', '.join(shown)}."
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return RESULT.format(stem=file.stem, said=said, table=table.getvalue().rstrip())


def result_pages():  # dict of a page's name to its text
    "A page per table in results/, and one that lists them."
    files = sorted((ROOT / "results").glob("*.csv"))
    lines = [
        "# Measured results",
        "",
        "> Every number of quality or speed that the course states, with the command, "
        "the seed and the device beside it.",
        "",
        "| table | first columns |",
        "|---|---|",
    ]
    for file in files:
        with open(file, newline="", encoding="utf-8") as opened:
            columns = next(csv.reader(opened))[:6]
        lines.append(f"| [{file.stem}]({file.stem}.md) | {', '.join(columns)} |")
    tree = toctree([(file.stem, file.stem) for file in files])
    pages = {f"results/{file.stem}.md": result_page(file) for file in files}
    return pages | {"results/index.md": "\n".join([*lines, "", tree, ""])}


def examples_page():  # str, Markdown
    "The scripts of examples/, each with what it shows."
    parts = ["# Examples", "> Short scripts, as somebody writes who only imports it."]
    for file in sorted((ROOT / "examples").glob("*.py")):
        code = file.read_text(encoding="utf-8").rstrip()
        parts += [f"## `{file.name}`", f"````python\n{code}\n````"]
    return "\n\n".join(parts) + "\n"


def hints():  # dict of "glossary.md#word" to what the glossary says first
    "What appears when a pointer rests on a link into the glossary."
    text = (NBS / "glossary.md").read_text(encoding="utf-8")
    found = {}
    for word, said in re.findall(r"^### (.+)\n\n((?:.+\n)+)", text + "\n", re.M):
        said = re.sub(r"\[[^\]]*\]\([^)]*\)|[*`$\"]", "", said)
        slug = re.sub(r"[^\w\- ]", "", word.lower()).strip().replace(" ", "-")
        found[f"glossary.md#{slug}"] = re.sub(r"\s+", " ", said).strip()
    return found


def texts():  # dict of a page's name to its text
    "What is Markdown already: the pages beside the notebooks, and those of the clone."
    pages = {}
    for file in sorted(NBS.glob("*.md")):
        text = file.read_text(encoding="utf-8")
        if not re.search("^## ", text, re.M):  # no level is left out
            text = re.sub("^### ", "## ", text, flags=re.M)
        pages[file.name] = relinked(text, f"nbs/{file.name}", file.name)
    for page, name in TEXTS.items():
        pages[page] = relinked((ROOT / name).read_text(encoding="utf-8"), name, page)
    return pages


def llms_text(
    address,  # of the site
):  # str, in the form of llmstxt.org
    "The course for programs that read: every page in one line."
    config = notebooks.settings()
    lines = [f"# {config['title']}", "", f"> {config['description']}.", ""]
    lines += [
        "Each notebook that defines something is a module of `unet_tutorial`.",
        "",
    ]
    lines.append("## Notebooks")
    for path in notebooks.reading_order():
        title, said = notebooks.title_and_subtitle(notebooks.read(path))
        page = f"{address}/{notebooks.name_of(path)}.html"
        lines.append(f"- [{title}]({page}): {said}")
    lines += ["", "## Reference"]
    lines += [f"- [{title}]({address}/{page}.html)" for title, page in REFERENCE]
    lines += ["", "## API"]
    lines += [
        f"- [unet_tutorial.{module}]({address}/api/{module}.html)"
        for module in layers.ORDER
        if module in homes()
    ]
    return "\n".join(lines) + "\n"
