"""What a notebook asks of its reader: minutes, and the notebooks that come before it.

The rule: 200 words of prose or 20 lines of code a minute, rounded, at least one minute.
Generated cells and the table of the course are not counted.
"""

import ast
import re

from layers import WINGS
from notebooks import source

PACKAGE = "unet_tutorial"
WORDS_A_MINUTE = 200
LINES_A_MINUTE = 20
GENERATED = (  # how cells begin that make links writes
    "[![Open in Colab]",
    "# Colab: install the package.",
    "from unet_tutorial.road import",
)
TABLE = ("<!-- notebooks: written by make links -->", "<!-- end of notebooks -->")


def is_generated(
    cell,  # dict
):  # bool
    "Whether `make links` wrote a cell."
    return source(cell).startswith(GENERATED)


def python(
    text,  # of a code cell
):  # str with the same number of lines
    "A cell as plain Python: directives and magics blanked."
    lines = text.splitlines()
    return "\n".join("" if re.match(r"\s*(#\||%|!)", line) else line for line in lines)


def lines_of(
    text,  # str
):  # list of str
    "The non-blank lines."
    return [line for line in text.splitlines() if line.strip()]


def words_of(
    text,  # markdown
):  # list of str
    "The words of prose."
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    return [word for word in text.split() if re.search(r"[^\W\d_]", word)]


def minutes(
    notebook,  # dict
):  # int
    "How long a notebook takes to read."
    words = lines = 0
    between = re.compile(f"{re.escape(TABLE[0])}.*?{re.escape(TABLE[1])}", re.DOTALL)
    for cell in notebook["cells"]:
        if is_generated(cell):
            continue
        if cell["cell_type"] == "code":
            lines += len(lines_of(python(source(cell))))
        else:
            words += len(words_of(between.sub(" ", source(cell))))
    return max(1, round(words / WORDS_A_MINUTE + lines / LINES_A_MINUTE))


def needs(
    notebook,  # dict
    homes,  # dict: module to the notebook of the road that exports it
):  # list of str such as ["03_blocks", "05_model"], in order
    "The notebooks of the road whose modules a notebook imports."
    found = set()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and not is_generated(cell):
            modules = own_modules(ast.parse(python(source(cell))))
            found |= {homes[name] for name in modules if name in homes}
    return sorted(found)


def own_modules(
    tree,  # ast of a cell or of a module
    own="",  # the name of that module, for relative imports
):  # list of str
    "The modules of this package that a notebook or module imports, at any depth."
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = absolute(node, own)
            if module in (PACKAGE, *(f"{PACKAGE}.{wing}" for wing in WINGS)):
                found += [f"{module}.{name.name}" for name in node.names]
            else:
                found.append(module)
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names]
    start = PACKAGE + "."
    found = [name.removeprefix(start) for name in found if name.startswith(start)]
    return [name for name in found if not name.startswith("__")]


def absolute(
    node,  # ast.ImportFrom
    own="",  # the module in which it appears, such as "data.images"
):  # str such as "unet_tutorial.model"
    "The full name of the module from which something is imported."
    if not node.level:
        return node.module
    parts = [PACKAGE, *own.split(".")][: -node.level] if own else [PACKAGE]
    return ".".join([*parts, *([node.module] if node.module else [])])
