"""Write the form for people who do not code: `make form`.

`app/your_data.md` becomes `app/your_data.ipynb`: a block of ```form becomes a folded
cell of Colab's forms, all else is text. Paragraphs and cells that `18_your_data` has
already are taken from there. `python tools/form.py --check` only says whether it is
current.
"""

import ast
import re
import sys
from pathlib import Path

import links
import notebooks
from links import FORM, FORM_OF
from notebooks import ROOT

SOURCE, SHARED = "app/your_data.md", f"nbs/{FORM_OF}.ipynb"
BLOCK = re.compile(r"(?ms)^```form (.*?)\n(.*?)^```$")
# The first cell has defined `form`, unless it was not run.
GUARD = 'if "form" not in globals():\n    raise SystemExit("Run cell 1 first.")\n'
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
# Colab: ask for a GPU; it has some for everybody.
METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "python3", "language": "python", "name": "python3"},
}


def parts_of(
    notebook,  # dict
):  # list of str
    "The paragraphs of a notebook's prose, and its cells of code."
    parts = []
    for cell in notebook["cells"]:
        text = notebooks.source(cell)
        whole = cell["cell_type"] == "code"
        parts += [text] if whole else re.split(r"\n\s*\n", text)
    return [part.strip() for part in parts]


def shared(
    words,  # str
    parts,  # see parts_of
):  # str
    "The one part that begins with these words."
    found = [part for part in parts if part.startswith(words)]
    if len(found) != 1:
        text = f"{len(found)} paragraphs or cells of {SHARED} begin with {words!r}"
        raise SystemExit(f"{SOURCE} needs one: {text}")
    return found[0]


def filled(
    text,  # of a block, or prose
    parts,  # see parts_of
    settings,  # mapping with `user`, `repo`, `branch`
):  # str
    "The text with what it takes from elsewhere."
    from unet_tutorial import form

    def choices(found):
        return "[" + ", ".join(f'"{x}"' for x in getattr(form, found[1])) + "]"

    text = re.sub(r"(?m)^@18 (.+)$", lambda found: shared(found[1], parts), text)
    text = re.sub(r"@choices (\w+)", choices, text)
    return text.replace("@install", links.colab_code(settings))


def form_cell(
    number,  # of the block, from 1
    title,  # str
    code,  # str
):  # dict
    "A folded cell with a title."
    guard = GUARD if "form." in code and "import form" not in code else ""
    text = f"# @title {title}\n{guard}{code}"
    return links.code_cell(f"form-{number}", text.rstrip()) | {"metadata": FOLDED}


def build(
    root=ROOT,  # the repository
):  # dict
    "The form as a notebook."
    root, settings = Path(root), notebooks.settings(root)
    parts = parts_of(notebooks.read(root / SHARED))
    text = (root / SOURCE).read_text(encoding="utf-8")
    text = links.with_owner(text.split("-->\n", 1)[1], settings)
    badge = f"[![Open in Colab]({links.BADGE})]({links.in_colab(settings, FORM)})"
    prose, *blocks = BLOCK.split(text)
    title, prose = prose.strip().split("\n", 1)
    cells = [links.markdown_cell("text-0", f"{title}\n\n{badge}\n{prose}".rstrip())]
    for number, at in enumerate(range(0, len(blocks), 3), 1):
        title, code, after = blocks[at : at + 3]
        cells.append(form_cell(number, title, filled(code, parts, settings)))
        if after.strip():
            after = filled(after.strip(), parts, settings)
            cells.append(links.markdown_cell(f"text-{number}", after))
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def fields(
    cell,  # of code
):  # dict: the names of the fields to what they hold at first
    "What can be filled in."
    lines = notebooks.source(cell).splitlines()
    found = [re.fullmatch(r"(\w+) = (.+?)  # @param .+", line) for line in lines]
    return {field[1]: ast.literal_eval(field[2]) for field in found if field}


def with_fields(
    notebook,  # dict; not changed
    **values,  # field -> what is filled in, wherever there is such a field
):  # dict
    "The form as somebody has filled it in."
    cells = []
    for cell in notebook["cells"]:
        text = notebooks.source(cell)
        for name in values if cell["cell_type"] == "code" else ():
            line = rf"(?m)(?<=^{name} = ).+?(?=  # @param )"
            text = re.sub(line, lambda _, new=values[name]: repr(new), text)
        cells.append(cell | {"source": text.splitlines(True)})
    return notebook | {"cells": cells}


def quick(
    folder,  # for the copy
):  # Path of a copy of the form
    "The form as it is run by tests: with practice images, in seconds."
    path = Path(folder) / Path(FORM).name
    notebooks.write(with_fields(notebooks.read(ROOT / FORM), minutes=0.05), path)
    return path


def is_current(
    root=ROOT,  # the repository
):  # bool
    "Whether the committed form is what its sources give."
    path = Path(root) / FORM
    text = notebooks.as_text(build(root))
    return path.exists() and path.read_text(encoding="utf-8") == text


def main():
    "Write, or with --check only look."
    if is_current():
        print(f"{FORM} is current.")
    elif "--check" in sys.argv[1:]:
        sys.exit(f"{FORM} is stale: run make form")
    else:
        notebooks.write(build(), ROOT / FORM)
        print(f"written: {FORM}")


if __name__ == "__main__":
    main()
