"""A notebook as the website shows it: without what only nbdev and Colab need.

The notebooks stay as they are; the site is built from copies.
"""

import ast
import re

from notebooks import source
from website_links import relinked, resolved

PLUMBING = ("#| default_exp", "#| hide", "# Colab:")  # cells that begin so
TITLES = ("title", "titles", "suptitle", "set_title")
LONGEST = 300  # characters of an alternative text


def words(
    node,  # of the syntax tree
):  # list of str
    "The strings that an expression holds, an f-string with dots for its values."
    if isinstance(node, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
        return ["".join(parts)]
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    return [word for child in ast.iter_child_nodes(node) for word in words(child)]


def titles(
    code,  # str: the source of a cell
):  # list of str
    "What a cell writes above its panels."
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a line for the shell
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            lists = [x for x in node.args[1:] if isinstance(x, ast.List | ast.Tuple)]
            titled = node.args[:1] if name in TITLES else []
            shown = lists if name.startswith("show_") else []
            named = [key.value for key in node.keywords if key.arg in TITLES]
            found += [word for x in [*titled, *shown, *named] for word in words(x)]
        if isinstance(node, ast.Assign) and any(
            isinstance(x, ast.Name) and x.id in TITLES for x in node.targets
        ):
            found += words(node.value)
    return [word for word in dict.fromkeys(found) if re.search(r"\w\w", word)]


def plain(
    text,  # str, Markdown
):  # str
    "Words without markup."
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\s+", " ", re.sub(r"[*`$>|]", "", text)).strip()


def first_sentence(
    text,  # str, Markdown
):  # str, empty if it does not begin with a paragraph
    "What a text says first, in six words or more."
    paragraph = text.strip().split("\n\n")[0]
    if not paragraph or paragraph[0] in "#<|>-!`":
        return ""
    said, *more = re.split(r"(?<=[.?!])\s+(?=[A-Z])", plain(paragraph))
    while len(said.split()) < 6 and more:
        said = f"{said} {more.pop(0)}"
    return said


def alternative_text(
    cells,  # of the notebook
    number,  # of the cell with the figure
):  # str
    "What a figure shows, for those who cannot see it."
    stated = re.search(r"^#\| *fig-alt: *(.+)", source(cells[number]), re.M)
    if stated:
        return stated[1].strip().strip("\"'")
    map_ = re.search(r'^road_map\("(\w+)"\)', source(cells[number]), re.M)
    if map_:
        return f"Map of the road, in the shape of a U; you are at {map_[1]}."
    said = "; ".join(titles(source(cells[number])))
    after = cells[number + 1] if number + 1 < len(cells) else cells[number]
    seen = first_sentence(source(after)) if after["cell_type"] == "markdown" else ""
    texts = [source(c) for c in cells[:number] if c["cell_type"] == "markdown"]
    headings = re.findall(r"^#{1,3} (.+)", "\n".join(texts), re.M)
    said += "." if said and seen and said[-1] not in ".?!…" else ""
    text = plain(f"{said} {seen}")
    many = len(text.split()) > 1
    start = "Figure" if many else f"Figure of the section “{plain(headings[-1])}”"
    text = f"{start}: {text}" if text else start
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rsplit(" ", 1)[0] + "…"


def is_figure(
    output,  # dict
):  # bool
    "Whether an output of a cell is a picture."
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def code_cell(
    cells,  # of the notebook
    number,  # of the cell
):  # dict
    "A cell of code with its outputs, without its directives."
    cell, text = cells[number], source(cells[number])
    lines = [line for line in text.splitlines() if not line.startswith("#|")]
    tags = ["exported"] if "#| export" in text else []
    if re.search(r"^road_map\(", text, re.M):
        tags.append("remove-input")  # the picture says it all
    metadata = {"tags": tags}
    if any(is_figure(output) for output in cell["outputs"]):
        metadata["mystnb"] = {"image": {"alt": alternative_text(cells, number)}}
    return cell | {"source": "\n".join(lines).strip("\n"), "metadata": metadata}


def below_title(
    text,  # str: the generated line under a notebook's title
    file,  # str: the notebook, relative to the repository
    page,  # str: its page
):  # str
    "Of this line what the site has no buttons for: the module, what is read before."
    line, _, rest = text.partition("\n\n")
    kept = [part for part in line.split(" | ") if "serves:" in part]
    module = re.search(r"\[source: `([^`]*)\.py`\]\(([^)]*)\)", line)
    if module:
        name = module[1].replace("/", ".")
        kept.insert(0, f"module: [`{name}`]({resolved(module[2], file, page)})")
    return "\n\n".join(part for part in (" | ".join(kept), rest) if part)


def shown(
    notebook,  # dict
    file,  # str relative to the repository, such as "nbs/05_model.ipynb"
    page,  # str: its page, such as "05_model.ipynb"
    hints=None,  # dict of a link's target to what is shown when one points at it
):  # dict
    "A copy of a notebook for the site."
    cells, kept = notebook["cells"], []
    for number, cell in enumerate(cells):
        text = source(cell)
        if cell["cell_type"] == "code":
            if not text.startswith(PLUMBING):
                kept.append(code_cell(cells, number))
            continue
        if cell["id"] == "links":
            text = below_title(text, file, page)
        text = relinked(text, file, page, hints)
        at = re.match(r"(\d\d)_", page)
        if number == 0 and at:  # in the sidebar, in search, in previous and next
            text = re.sub(r"^# ", f"# {at[1]} · ", text)
        kept.append(cell | {"source": text})
    language = {"name": "python", "pygments_lexer": "ipython3"}
    metadata = notebook["metadata"] | {"language_info": language}
    return notebook | {"cells": kept, "metadata": metadata}
