"""Write the tasks of `unet_tutorial/lessons` into their notebooks: `make tasks`.

A task becomes three cells below the heading *Try it*: the assignment, the stub, and the
solution, folded. `python tools/tasks.py --check` only lists what is stale.
"""

import inspect
import re
import sys
from pathlib import Path

import links
import notebooks
from notebooks import ROOT

START = "task-"  # how the ids of generated cells begin
INTRODUCTION = """Each task is a cell with a gap. Fill it, run the cell, and a checker
says what is wrong. `task.hint()` gives three hints, one after another; our solution is
folded below the cell. ([How tasks are made](workshop/tasks.ipynb))"""


def code_of(
    task,  # unet_tutorial.tasks.Task
    text,  # its stub or its solution
):  # str
    "The cell that opens a task, holds its code, and checks it."
    answers = ", ".join(inspect.signature(task.checker).parameters)
    begin = f'task = open_task("{task.number}")'
    space = "\n" * (3 if re.match("(def|class|@)", text) else 2)
    end = f"task.check({answers})  # task.hint(), task.solution()"
    return begin + space + text + space[1:] + end


def cells_of(
    task,  # unet_tutorial.tasks.Task
):  # list of three cells
    "The assignment, the stub, and the folded solution."
    from unet_tutorial.tasks import fill, solved, tidy

    name = START + task.number.replace(".", "-")
    ask = f"### Task {task.number}: {task.title}\n\n{tidy(task.ask).rstrip()}"
    fold = "<details><summary>Solution</summary>\n\n```python\n"
    fold += f"{solved(task.code)}```\n\n{tidy(task.why).strip()}"
    return [
        links.markdown_cell(name, ask),
        links.code_cell(f"{name}-stub", code_of(task, fill(task.code))),
        links.markdown_cell(f"{name}-solution", fold.rstrip() + "\n\n</details>"),
    ]


def with_tasks(
    notebook,  # dict; not changed
    tasks,  # of this notebook
):  # dict; a stub that has not changed keeps its output
    "The notebook with its tasks below the heading of their section."
    before = {cell["id"]: cell for cell in notebook["cells"]}
    cells = [c for c in notebook["cells"] if not c["id"].startswith(START)]
    fresh = [links.markdown_cell(f"{START}introduction", INTRODUCTION)]
    fresh += [cell for task in tasks for cell in cells_of(task)]
    for at, cell in enumerate(fresh):
        old = before.get(cell["id"], {})
        if old.get("source") == cell["source"]:
            fresh[at] = old
    places = [
        at
        for at, cell in enumerate(cells, start=1)
        if re.search("(?m)^## Try it$", notebooks.source(cell))
    ]
    if not places:
        raise SystemExit("a notebook with tasks needs the heading `## Try it`")
    cells[places[0] : places[0]] = fresh
    return notebook | {"cells": cells}


def stale(
    root=ROOT,  # the repository
):  # dict of Path to the text that the notebook should hold
    "The notebooks whose tasks are not those of their lessons."
    from unet_tutorial.tasks import lessons, tasks_of

    texts = {}
    for name in lessons():
        path = Path(root) / "nbs" / f"{name}.ipynb"
        book = with_tasks(notebooks.read(path), tasks_of(name))
        texts[path] = notebooks.as_text(book)
    return {p: t for p, t in texts.items() if p.read_text(encoding="utf-8") != t}


def main():
    "Write, or with --check only look."
    check = "--check" in sys.argv[1:]
    texts = stale()
    for path, text in texts.items():
        if not check:
            path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
    if texts and check:
        sys.exit("Tasks in notebooks are stale: run make tasks")


if __name__ == "__main__":
    main()
