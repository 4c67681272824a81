"""The rules of the house, each a function that returns complaints.

A rule takes a `Notebook` (or all of them, or the modules) and returns a list of
sentences; an empty list means that all is well. Nothing here imports torch.

How things are counted:
- *generated* cells (the line of links and the Colab cell) count nowhere.
- A *line of code* is a non-blank line of a code cell, comments and docstrings
  included, `#|` directives excluded. A cell with no such line is no code cell.
- A *word* is a run of characters between blanks, with a letter in it, in a markdown
  cell, outside fenced code and displayed formulas (`$$...$$`).
- A cell's number counts from 1 and includes generated cells, as an editor shows it.

`python tests/house.py` prints the layers of the house, and what every notebook
measures; `python tests/house.py 05_model` does the latter for one. Counts of cells,
words and figures are advice: they are printed, and no test asks for them.
"""

import ast
import io
import re
import statistics
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import notebooks as files
import outputs
import reading
from layers import LAYERS, OPTIONAL, ORDER
from reading import PACKAGE, lines_of, own_modules, python, words_of

INFINITY = float("inf")
FIGURES = (3, 6)
CELLS = (25, 45)
MEDIAN = (4, 6)
LONGEST_CELL = 30
WORDS_A_LINE = (4, 8)
AFTER_PROSE = 0.5
LINE = 88
TEXT_LIMIT = 4000  # characters of text output a cell
NOT_OURS = set("encoder decoder inc outc x1 bridge deconv patch gt accuracy".split())
PLACES = "home|Users|root|tmp|usr|opt|var|mnt|work|private|srv|content"
MACHINE_PATH = re.compile(rf"(?<![\w.:/~<>!-])/(?:{PLACES})/\w|\b[A-Z]:\\\w")
PROGRESS = re.compile(r"\d+%\|[ █▏▎▍▌▋▊▉#]|\bit/s\]|s/it\]")
RAW_FLOAT = re.compile(r"\d\.\d{7,}")
IMPORT_NAMES = {"pillow": "PIL", "ipython": "IPython"}  # imported by another name


# What a notebook holds


@dataclass
class Notebook:
    "A notebook with its name and the size of its file."

    name: str  # such as "05_model"
    data: dict  # its JSON
    size: int = 0  # bytes

    @property
    def cells(self):  # list of (number from 1, cell), generated ones left out
        every = enumerate(self.data["cells"], 1)
        return [(at, cell) for at, cell in every if not reading.is_generated(cell)]

    @property
    def prose(self):  # list of (number, text)
        return [
            (at, files.source(cell))
            for at, cell in self.cells
            if cell["cell_type"] == "markdown"
        ]

    @property
    def code(self):  # list of (number, text), directives and magics blanked
        return [
            (at, python(files.source(cell)))
            for at, cell in self.cells
            if cell["cell_type"] == "code"
        ]

    @property
    def exported(self):  # list of (number, text) of the cells that go to the module
        return [
            (at, python(files.source(cell)))
            for at, cell in self.cells
            if cell["cell_type"] == "code" and is_exported(files.source(cell))
        ]

    @property
    def number(self):  # float, the place in the reading order; index is last
        return files.number(self.name)

    @property
    def module(self):  # str, or None
        return files.exported_module(self.data)


def load(
    path,  # a notebook file
):  # Notebook
    "Read a notebook for the rules."
    return Notebook(path.stem, files.read(path), path.stat().st_size)


def is_exported(
    source,  # text of a code cell
):  # bool
    "Whether a cell goes to the module."
    return bool(re.search(r"^#\|\s*exports?i?\b", source, re.MULTILINE))


def headings(
    notebook,  # Notebook
):  # list of (cell number, level, text)
    "Every heading outside fenced code."
    found = []
    for at, text in notebook.prose:
        text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for marks, title in re.findall(r"(?m)^(#{1,6}) +(.+)$", text):
            found.append((at, len(marks), title))
    return found


# Form


def title_and_subtitle(notebook):  # list of str
    "The first cell holds an H1 and one sentence as a blockquote."
    first = notebook.prose[0][1] if notebook.prose else ""
    if notebook.data["cells"] and notebook.data["cells"][0]["cell_type"] != "markdown":
        first = ""
    if re.fullmatch(r"# \S.*\n\n> \S.*[.!?]\s*", first):
        return []
    return ["cell 1: it must hold `# Title`, a blank line and `> One sentence.`, only"]


def one_h1(notebook):  # list of str
    "There is one H1."
    found = [
        f"cell {at}: `# {text}`" for at, level, text in headings(notebook) if level == 1
    ]
    if len(found) == 1:
        return []
    return [f"there must be one H1, found {len(found)}: {'; '.join(found)}"]


def no_level_skipped(notebook):  # list of str
    "A heading is at most one level below the heading before it."
    found, before = [], 1
    for at, level, text in headings(notebook):
        if level > before + 1:
            found.append(
                f"cell {at}: `{'#' * level} {text}` follows a heading of level "
                f"{before}: write `{'#' * (before + 1)} {text}`"
            )
        before = level
    return found


def closing_sections(notebook):  # list of str
    "A notebook says where the reader stands, and what there is to try."
    titles = [text for _, _, text in headings(notebook)]
    due = ["Where we are", "What you have now", "Try it"]
    if notebook.name == "index" or notebook.number == INFINITY:
        due = []  # rooms of the workshop are a reference
    return [f"no section `## {title}`" for title in due if title not in titles]


def imports_alone(notebook):  # list of str
    "A cell that imports does nothing else; a guarded import of ipywidgets is one."
    found = []
    for at, text in notebook.code:
        kinds = [is_import(node) for node in ast.parse(text).body]
        if any(kinds) and not all(kinds):
            found.append(
                f"cell {at}: imports stand beside other code: give them a cell"
            )
    return found


def is_import(
    node,  # statement
):  # bool
    "An import, or `try: import ipywidgets`."
    if isinstance(node, ast.Try):
        names = {name for inner in node.body for name in imported(inner)}
        return names == {"ipywidgets"}
    return isinstance(node, ast.Import | ast.ImportFrom)


def no_star_import(notebook):  # list of str
    "Every name that is used is named."
    return [
        f"cell {at}: `from {node.module} import *`: name what is used"
        for at, text in notebook.code
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]


def arrows_downwards(
    notebook,  # Notebook
    numbers,  # dict: module name to the number of its notebook; workshop: infinity
):  # list of str
    "What is exported follows `layers.py`; the road's own cells need lower numbers."
    found, exported = [], dict(notebook.exported)
    for at, text in notebook.code:
        for name in own_modules(ast.parse(text)):
            if name not in numbers or name not in ORDER:
                found.append(f"cell {at}: `{name}` has no notebook or no layer")
            elif at in exported and not before(name, notebook.module):
                found.append(
                    f"cell {at}: it imports `{name}`, which is not below "
                    f"`{notebook.module}`: see tools/layers.py"
                )
            elif numbers[name] < INFINITY and not numbers[name] < notebook.number:
                found.append(
                    f"cell {at}: it imports `{name}` of number {numbers[name]}: "
                    "a notebook imports from lower numbers only"
                )
    return found


def modules_downwards(
    modules,  # dict: module name to source
):  # list of str
    "Every module is in the plan and imports, at any depth, from those before it only."
    found = [
        f"{name}: the plan in tools/layers.py does not know it"
        for name in modules
        if name not in ORDER
    ]
    for name, text in modules.items():
        for other in sorted(set(own_modules(ast.parse(text), own=name))):
            if not before(other, name):
                found.append(
                    f"{name} imports {other}, which is not below it: see "
                    "tools/layers.py"
                )
    return found


def no_private_import(
    modules,  # dict: module name to source
):  # list of str
    "A module uses the public names of other modules only."
    found = []
    for name, text in modules.items():
        tree = ast.parse(text)
        borrowed = {}  # what other modules of ours are called here
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and is_ours(node):
                for item in node.names:
                    borrowed[item.asname or item.name] = item.name
                    if item.name[0] == "_" and item.name != "__version__":
                        found.append(f"{name} imports the private `{item.name}`")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                home = borrowed.get(node.value.id)
                private = node.attr[0] == "_" and node.attr[:2] != "__"
                if private and any(home == m.split(".")[-1] for m in ORDER):
                    found.append(f"{name} uses the private `{home}.{node.attr}`")
    return found


def is_ours(
    node,  # ast.ImportFrom
):  # bool
    "Whether it imports from this package."
    return bool(node.level) or node.module.split(".")[0] == PACKAGE


def no_star_in_modules(
    modules,  # dict: module name to source
):  # list of str
    "Every name that a module imports is named."
    return [
        f"{name} imports * from {node.module}: name what is used"
        for name, text in modules.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]


def before(
    name,  # of a module
    module,  # of another
):  # bool
    "Whether the plan of the house has the first below the second."
    return module in ORDER and ORDER.index(name) < ORDER.index(module)


def imported(
    node,  # any ast node
):  # list of str: top names such as "numpy", relative imports left out
    "What one import statement brings in."
    if isinstance(node, ast.Import):
        return [name.name.split(".")[0] for name in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module.split(".")[0]]
    return []


# Budgets


def cell_count(notebook):  # list of str
    "25 to 45 cells; index may have fewer."
    low, high = CELLS
    count = len(notebook.cells)
    if notebook.name == "index":
        low = 8
    if low <= count <= high:
        return []
    return [f"{count} cells, {low} to {high} is the aim"]


def code_sizes(notebook):  # list of int: lines of each code cell
    "How many lines of code each code cell has."
    counts = [len(lines_of(text)) for _, text in notebook.code]
    return [count for count in counts if count]


def median_cell(notebook):  # list of str
    "A median cell of 4 to 6 lines."
    sizes = code_sizes(notebook)
    if not sizes or MEDIAN[0] <= statistics.median(sizes) <= MEDIAN[1]:
        return []
    middle = statistics.median(sizes)
    return [f"the median code cell has {middle:g} lines, {MEDIAN[0]} to {MEDIAN[1]}"]


def longest_cell(notebook):  # list of str
    "No code cell over 30 lines."
    return [
        f"cell {at}: {len(lines_of(text))} lines of at most {LONGEST_CELL}: split it"
        for at, text in notebook.code
        if len(lines_of(text)) > LONGEST_CELL
    ]


def prose_and_code(notebook):  # list of str
    "4 to 8 words of prose for each line of code; index may say more."
    low, high = WORDS_A_LINE
    if notebook.name == "index":
        high = float("inf")
    ratio = words_a_line(notebook)
    if low <= ratio <= high:
        return []
    return [f"{ratio:.1f} words of prose a line of code, {low} to {high} is the aim"]


def words_a_line(
    notebook,  # Notebook
):  # float
    "Words of prose for each line of code."
    words = sum(len(words_of(text)) for _, text in notebook.prose)
    return words / max(1, sum(code_sizes(notebook)))


def code_after_prose(notebook):  # list of str
    "Most code cells are right below prose."
    share = share_after_prose(notebook)
    if share >= AFTER_PROSE:
        return []
    return [
        f"{share:.0%} of code cells follow prose, at least {AFTER_PROSE:.0%} is due"
    ]


def share_after_prose(
    notebook,  # Notebook
):  # float in [0, 1]
    "The share of code cells that stand right below a markdown cell."
    kinds = [cell["cell_type"] for _, cell in notebook.cells]
    before = [kinds[i - 1] for i in range(1, len(kinds)) if kinds[i] == "code"]
    return before.count("markdown") / max(1, len(before))


def line_length(notebook):  # list of str
    "Lines of code of at most 88 characters."
    return [
        f"cell {at}: a line of {len(line)} characters of at most {LINE}: {line[:40]}..."
        for at, text in notebook.code
        for line in text.splitlines()
        if len(line) > LINE
    ]


def figures(
    notebook,  # Notebook
):  # list of (cell number, bytes)
    "The figures among the committed outputs."
    found = [
        (at, outputs.figure_bytes(output))
        for at, cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    return [(at, size) for at, size in found if size]


def figure_count(notebook):  # list of str
    "3 to 6 figures; index may have fewer."
    low, high = (1 if notebook.name == "index" else FIGURES[0]), FIGURES[1]
    count = len(figures(notebook))
    return [] if low <= count <= high else [f"{count} figures, {low} to {high}"]


def figure_size(notebook):  # list of str
    "Each figure has at most 60 KB."
    limit = outputs.FIGURE_LIMIT
    return [
        f"cell {at}: a figure of {size / 1024:.0f} KB of at most {limit // 1024}: "
        "make it smaller, or run make outputs"
        for at, size in figures(notebook)
        if size > limit
    ]


def file_size(notebook):  # list of str
    "500 KB, from number 14 on (the experiments) 1 MB; index 500 KB."
    limit = 1000 if 14 <= notebook.number < float("inf") else 500
    if notebook.size <= limit * 1024:
        return []
    return [f"the file has {notebook.size / 1024:.0f} KB of at most {limit}"]


# Outputs


def no_metadata(notebook):  # list of str
    "Neither widget state nor execution counts nor cell metadata."
    found = []
    if set(notebook.data["metadata"]) - {"kernelspec"}:
        extra = sorted(set(notebook.data["metadata"]) - {"kernelspec"})
        found.append(f"metadata {', '.join(extra)}: run make outputs")
    for at, cell in enumerate(notebook.data["cells"], 1):
        counts = [output.get("execution_count") for output in cell.get("outputs", [])]
        if any([cell.get("execution_count"), *counts]):
            found.append(f"cell {at}: an execution count: run make export")
        if cell["metadata"]:
            found.append(f"cell {at}: metadata {cell['metadata']}: run make export")
    return found


def clean_outputs(notebook):  # list of str
    "No stderr, error, widget, progress bar, path, address, raw float or flood."
    found = []
    for at, cell in enumerate(notebook.data["cells"], 1):
        for output in cell.get("outputs", []):
            for complaint in output_complaints(output):
                found.append(f"cell {at}: {complaint}: mend it, then run make outputs")
    return found


def output_complaints(
    output,  # one output of a cell
):  # list of str
    "What is wrong with one committed output."
    text = outputs.visible_text(output)
    checks = {
        "it raised an error": output["output_type"] == "error",
        "stderr": output.get("name") == "stderr",
        "a widget": outputs.WIDGET in output.get("data", {}),
        "a progress bar": PROGRESS.search(text),
        "an absolute path": outputs.ABSOLUTE_PATH.search(text),
        "a memory address": outputs.ADDRESS.search(text),
        "a raw float (round it, or assert it)": RAW_FLOAT.search(text),
        f"more than {TEXT_LIMIT} characters of text": len(text) > TEXT_LIMIT,
        "the text of a figure (end the cell with plt.show())": "<Axes" in text
        or "<Figure" in text
        or "Text(" in text,
    }
    return [f"its output holds {name}" for name, wrong in checks.items() if wrong]


def no_machine_path(notebook):  # list of str
    "Neither prose nor code names a folder of somebody's machine."
    return machine_paths(
        (f"cell {at}", files.source(cell)) for at, cell in notebook.cells
    )


def machine_paths(
    texts,  # pairs of (where, text)
):  # list of str
    "Absolute paths in text."
    return [
        f"{where}: `{line.strip()[:60]}` names a path of one machine: make it relative"
        for where, text in texts
        for line in text.splitlines()
        if MACHINE_PATH.search(line)
    ]


# The public surface


def public_definitions(
    notebook,  # Notebook
):  # list of (cell number, name, ast node)
    "The functions, classes and constants that a notebook exports."
    found = []
    for at, text in notebook.exported:
        for node in ast.parse(text).body:
            names = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [item.id for item in node.targets if isinstance(item, ast.Name)]
            found += [(at, name, node) for name in names if name[0] != "_"]
    return found


def exports_somewhere(notebook):  # list of str
    "What is exported has a module to go to, and a module has something in it."
    if notebook.exported and not notebook.module:
        at = notebook.exported[0][0]
        return [f"cell {at}: `#| export` without a cell `#| default_exp name`"]
    if notebook.module and not notebook.exported:
        return [f"`#| default_exp {notebook.module}`, but no cell is exported"]
    return []


def docstrings(notebook):  # list of str
    "Every public function and class says in one sentence what it is."
    found = []
    for at, name, node in public_definitions(notebook):
        if isinstance(node, ast.Assign):
            continue
        text = (ast.get_docstring(node) or "").strip()
        if not text:
            found.append(f"cell {at}: `{name}` has no docstring")
        elif "\n" in text or text[-1] not in ".?!":
            found.append(f"cell {at}: the docstring of `{name}` must be one sentence")
    return found


def docments(notebook):  # list of str
    "Each parameter and each result has a comment; `Return ...` may explain the latter."
    found = []
    for at, text in notebook.exported:
        comments = comment_lines(text)
        for node in ast.parse(text).body:
            if getattr(node, "name", "_")[0] != "_":
                found += [
                    f"cell {at}: `{node.name}`: {gap} (docments: a comment beside it)"
                    for gap in undocumented(node, comments)
                ]
    return found


def comment_lines(
    text,  # Python
):  # dict: line number to whether the comment stands alone on its line
    "Where the comments are."
    tokens = tokenize.generate_tokens(io.StringIO(text + "\n").readline)
    return {
        token.start[0]: token.line.strip().startswith("#")
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def undocumented(
    node,  # public function or class
    comments,  # see comment_lines
):  # list of str
    "The parameters, fields and results that no comment explains."
    if isinstance(node, ast.FunctionDef):
        return missing_comments(node, comments)
    gaps = []
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            gaps += missing_comments(inner, comments)
        elif isinstance(inner, ast.AnnAssign) and inner.end_lineno not in comments:
            gaps.append(f"nothing explains the field `{inner.target.id}`")
    return gaps


def missing_comments(
    function,  # ast.FunctionDef
    comments,  # see comment_lines
):  # list of str
    "The parameters of one function, and its result, that no comment explains."
    spec = function.args
    every = [*spec.posonlyargs, *spec.args, spec.vararg, *spec.kwonlyargs, spec.kwarg]
    arguments = [arg for arg in every if arg and arg.arg not in ("self", "cls")]
    places = [arg.lineno for arg in arguments]
    gaps = [
        f"nothing explains `{arg.arg}`"
        for arg in arguments
        if not (explained(arg, comments) and places.count(arg.lineno) == 1)
    ]
    header = range(function.lineno, function.body[0].lineno)
    last = max([*places, function.lineno])
    after = [line for line in header if line in comments and line > last]
    alone = not arguments and function.lineno in comments
    said = (ast.get_docstring(function) or "").startswith("Return")
    if returns_value(function) and not (after or alone or said):
        gaps.append("nothing explains what it returns: `):  # (H, W) ...`")
    return gaps


def explained(
    arg,  # ast.arg
    comments,  # see comment_lines
):  # bool
    "A comment on the parameter's line, or alone on the line above."
    return arg.lineno in comments or comments.get(arg.lineno - 1, False)


def returns_value(
    function,  # ast.FunctionDef
):  # bool
    "Whether a function gives something back; functions inside it do not count."
    stack = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            return True
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            stack += ast.iter_child_nodes(node)
    return False


def used_at_once(notebook):  # list of str
    "What is exported is used within the next two code cells."
    found = []
    for at, name, _ in public_definitions(notebook):
        after = [text for number, text in notebook.code if number > at][:2]
        if not any(name in names_in(text) for text in after):
            found.append(f"cell {at}: `{name}` is not used in the next two code cells")
    return found


def names_in(
    text,  # Python
):  # set of str
    "Every name and attribute in a piece of code."
    nodes = list(ast.walk(ast.parse(text)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


# Words


def vocabulary(notebook):  # list of str
    "The paper's words; other people's only in `backticks` or \"quotes\"."
    found = []
    for at, text in notebook.prose:
        bare = re.sub(
            r"```.*?```|`[^`]*`|\"[^\"]*\"|“[^”]*”|\]\([^)]*\)",
            " ",
            text,
            flags=re.DOTALL,
        )
        words = set(re.findall(r"[a-z0-9]+", bare.lower()))
        plural = {word[:-1] for word in words if word[-1] == "s"}
        found += [
            f"cell {at}: the word `{word}` (see house vocabulary)"
            for word in sorted((words | plural | {stem(w) for w in words}) & NOT_OURS)
        ]
    for at, text in notebook.code:
        names = names_in(text) | defined_in(text)
        found += [f"cell {at}: the name `{name}`" for name in sorted(names & NOT_OURS)]
    return found


def stem(
    word,  # str
):  # str
    "The singular of patches; deconvolution counts as deconv."
    return "deconv" if word.startswith("deconv") else re.sub("(?<=ch)es$", "", word)


def defined_in(
    text,  # Python
):  # set of str
    "The names of functions, classes and parameters."
    nodes = list(ast.walk(ast.parse(text)))
    kinds = ast.FunctionDef | ast.ClassDef
    names = {node.name for node in nodes if isinstance(node, kinds)}
    return names | {node.arg for node in nodes if isinstance(node, ast.arg)}


# All notebooks together, and their modules


def names_once(
    notebooks,  # list of Notebook
):  # list of str
    "No public name stands in two modules, or twice in one."
    homes, found = {}, []
    for notebook in notebooks:
        for at, name, _ in public_definitions(notebook):
            here = f"{notebook.name} cell {at}"
            if name in homes:
                found.append(f"`{name}` stands in {homes[name]} and in {here}")
            homes.setdefault(name, here)
    return found


def modules_and_notebooks(
    notebooks,  # list of Notebook
    modules,  # names of the files in the package, such as "model"
):  # list of str
    "Each exporting notebook has its module, and the reverse."
    sources = {book.module: book.name for book in notebooks if book.module}
    found = [
        f"{sources[name]}: no module {name}.py: run make export"
        for name in sorted(set(sources) - set(modules))
    ]
    found += [
        f"{name}.py: no notebook exports it: delete it"
        for name in sorted(set(modules) - set(sources))
    ]
    twice = [book.module for book in notebooks if book.module]
    found += [
        f"two notebooks export the module `{name}`"
        for name in sorted(set(twice))
        if twice.count(name) > 1
    ]
    return found


def imports_of(
    text,  # source of a module
    everywhere=True,  # False: only what is imported as soon as the module is
):  # set of str: top names of other packages
    "The packages that a module imports, Python's own left out."
    nodes = list(ast.walk(ast.parse(text)) if everywhere else import_time(text))
    names = {name for node in nodes for name in imported(node)}
    return names - set(sys.stdlib_module_names) - {PACKAGE}


def import_time(
    text,  # source of a module
):  # iterator over ast nodes
    "The nodes that run when a module is imported: all but bodies of functions."
    stack = list(ast.parse(text).body)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            stack += ast.iter_child_nodes(node)


DRAW = ("show", "road", "sliders", "runs.report", "runs.enough")


def heavy_imports(
    modules,  # dict: module name to source
):  # list of str
    "matplotlib belongs to three, albumentations to one, ipywidgets to none."
    found = []
    for name, text in modules.items():
        anywhere, at_once = imports_of(text), imports_of(text, everywhere=False)
        if "matplotlib" in anywhere and name not in DRAW:
            found.append(f"{name} imports matplotlib: only {', '.join(DRAW)} may")
        if "albumentations" in anywhere and name != "data.pipelines":
            found.append(f"{name} imports albumentations: only data.pipelines may")
        if "ipywidgets" in at_once:
            found.append(
                f"{name} imports ipywidgets at import time: do it in a function"
            )
    return found


def requirements(
    modules,  # dict: module name to source
    settings,  # mapping with `requirements`, `course_requirements` and other groups
):  # list of str
    "What settings.ini requires is what modules import, no more and no less."
    required = import_names(settings["requirements"])
    groups = [key for key in settings if key.endswith("_requirements")]
    groups = [settings[key] for key in groups if key != "dev_requirements"]
    optional = import_names(" ".join(groups))
    core = [text for name, text in modules.items() if name not in OPTIONAL]
    at_once = {n for text in core for n in imports_of(text, False)}
    anywhere = {n for text in modules.values() for n in imports_of(text)}
    found = [
        f"`{name}` is imported: add it to `requirements` in settings.ini"
        for name in sorted((anywhere - optional - required) | (at_once - required))
    ]
    return found + [
        f"no module imports `{name}`: take it out of `requirements` in settings.ini"
        for name in sorted(required - anywhere)
    ]


def optional_rooms(
    modules,  # dict: module name to source
):  # list of str
    "A room that needs a group of requirements is imported by no other with itself."
    found = []
    for name, text in modules.items():
        for node in filter(is_import, import_time(text)):
            for other in own_modules(ast.Module([node], []), own=name):
                if other in OPTIONAL and name not in OPTIONAL:
                    found.append(f"{name} imports {other}: do it in a function")
    return found


def import_names(
    line,  # requirements such as "pillow>=10 torch>=2.4"
):  # set of str
    "The names under which requirements are imported."
    names = [re.split(r"[<>=!~\[;]", item)[0] for item in line.split()]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def reached_from(
    name,  # module to begin with
    modules,  # dict: module name to source
):  # set of str: packages that importing it imports, Python's own left out
    "What `import unet_tutorial.name` needs, read and not run."
    seen, stack, found = set(), [name], set()
    while stack:
        name = stack.pop()
        if name in seen or name not in modules:
            continue
        seen.add(name)
        found |= imports_of(modules[name], everywhere=False)
        for node in import_time(modules[name]):
            tree = ast.Module([node], [])
            stack += own_modules(tree, own=name) if is_import(node) else []
    return found


RULES = [
    title_and_subtitle,
    one_h1,
    no_level_skipped,
    closing_sections,
    imports_alone,
    no_star_import,
    longest_cell,
    code_after_prose,
    line_length,
    figure_size,
    file_size,
    no_metadata,
    clean_outputs,
    no_machine_path,
    exports_somewhere,
    docstrings,
    docments,
    used_at_once,
    vocabulary,
]
# Measures that are printed as advice and never fail: rooms differ.
ADVICE = [cell_count, median_cell, prose_and_code, figure_count]


def show_layers():
    "Print the plan of the house."
    print("Layers; a module imports from those above it, and from what is left of it:")
    for layer, modules in LAYERS.items():
        print(f"  {layer:<9} {modules}")
    print()


def main():
    "Print the plan, then measures and complaints of the notebooks named, or of all."
    if not sys.argv[1:]:
        show_layers()
    everything = [load(path) for path in files.reading_order()]
    numbers = {book.module: book.number for book in everything if book.module}
    for path in files.choose(sys.argv[1:]):
        book = load(path)
        sizes = code_sizes(book) or [0]
        print(
            f"{files.name_of(path)}: {len(book.cells)} cells, median "
            f"{statistics.median(sizes):g} and longest {max(sizes)} lines, "
            f"{words_a_line(book):.1f} words a line, "
            f"{share_after_prose(book):.0%} after prose, {len(figures(book))} figures, "
            f"{book.size // 1024} KB"
        )
        found = [f"(advice) {text}" for rule in ADVICE for text in rule(book)]
        found += [text for rule in RULES for text in rule(book)]
        for text in found + arrows_downwards(book, numbers):
            print("  ", text)


if __name__ == "__main__":
    main()
