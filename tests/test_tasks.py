"""Tasks: stubs are not attempted, solutions right, wrong answers told apart."""

import ast
import inspect
import linecache
import re
import subprocess
import sys
import time
from functools import cache
from importlib import import_module
from pathlib import Path

import house
import notebooks as files
import numpy as np
import pytest
import tasks as tool
import torch
from layers import ORDER
from reading import own_modules, python

from unet_tutorial.questions import read_questions
from unet_tutorial.tasks import (
    GRADES,
    Result,
    Task,
    check_answers,
    fill,
    is_untouched,
    lessons,
    open_task,
    same_randomness,
    solved,
    tasks_of,
    tidy,
)

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "unet_tutorial" / "lessons"
ROAD = sorted(path.stem for path in (ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))
TASKS = [(name, task) for name in lessons() for task in tasks_of(name)]
WRONG = [(name, task, says) for name, task in TASKS for says in task.wrong]
SECONDS = 2  # a checker takes no longer
each_task = pytest.mark.parametrize(
    ("notebook", "task"), TASKS, ids=[task.number for _, task in TASKS]
)
each_wrong_answer = pytest.mark.parametrize(
    ("notebook", "task", "says"), WRONG, ids=[f"{t.number} {s}" for _, t, s in WRONG]
)


@cache
def names_of(
    notebook,  # such as "02_sizes"
):  # dict of what a reader has at hand in its last section, as far as it is imported
    "The names that a notebook imports, and what its module offers."
    book = house.load(ROOT / "nbs" / f"{notebook}.ipynb")
    names = {}
    if book.module:
        module = import_module(f"unet_tutorial.{book.module}")
        names |= {k: v for k, v in vars(module).items() if k[0] != "_"}
    for _, text in book.code:
        if all(house.is_import(node) for node in ast.parse(text).body):
            exec(text, names)
    return names


def answers_of(notebook, task, code):  # tuple of what the cell gives to the checker
    "Run a reader's cell, as far as it is the task's."
    file = f"<task {task.number}>"
    linecache.cache[file] = (len(code), None, code.splitlines(True), file)
    names = dict(names_of(notebook))
    exec(compile(code, file, "exec"), names)
    return tuple(names[name] for name in inspect.signature(task.checker).parameters)


def timed(task, answers):  # Result
    "Check answers within the time that a reader may wait."
    start = time.process_time()
    result = check_answers(task.code, task.checker, answers)
    assert time.process_time() - start < SECONDS
    return result


@each_task
def test_the_stub_counts_as_not_attempted(notebook, task):
    result = timed(task, answers_of(notebook, task, fill(task.code)))
    assert result.state == "not attempted" and not result


@each_task
def test_the_solution_is_right(notebook, task):
    answers = answers_of(notebook, task, solved(task.code))
    assert timed(task, answers) == Result("right")


@each_wrong_answer
def test_each_wrong_answer_is_told_what_is_wrong(notebook, task, says):
    answers = answers_of(notebook, task, fill(task.code, task.wrong[says]))
    assert timed(task, answers) == Result("wrong", says)


@each_task
def test_a_task_has_wrong_answers_and_its_place(notebook, task):
    assert len(task.wrong) >= 3, "a list of real mistakes: three at least"
    assert re.fullmatch(rf"{int(notebook[:2])}\.\d+", task.number)
    assert [number for _, t in TASKS for number in [t.number]].count(task.number) == 1
    for says in task.wrong:
        assert says == says.strip() and "\n" not in says and says[-1] not in ".!"


@each_task
def test_three_hints_and_none_is_the_solution(notebook, task):
    assert len(task.hints) == len(GRADES) == len(set(task.hints))
    theirs = set(fill(task.code).splitlines())
    code = [line for line in solved(task.code).splitlines() if line not in theirs]
    lines = [line.split("  #")[0].strip() for line in code]
    for hint in task.hints[:2]:
        assert not [line for line in lines if len(line) > 8 and line in hint]
    scaffold = [line.strip() for line in task.hints[2].splitlines()]
    steps = [line for line in lines if line and line[-1] != ":"]
    assert [line for line in steps if line not in scaffold], "it is the solution"


@each_task
def test_the_code_of_a_task_fits_the_page(notebook, task):
    for text in (solved(task.code), fill(task.code)):
        assert max(map(len, text.splitlines())) <= house.LINE
        assert len(text.splitlines()) <= house.LONGEST_CELL - 4
    for says, lines in task.wrong.items():
        compile(fill(task.code, lines), says, "exec")


def test_tasks_belong_to_a_notebook_of_the_road():
    assert {*lessons()} <= {*ROAD} and len(ROAD) >= 25


@pytest.mark.parametrize("name", ROAD)
def test_each_notebook_of_the_road_has_two_tasks_and_three_questions(name):
    assert name in lessons(), f"no unet_tutorial/lessons/_{name}.py"
    assert len(tasks_of(name)) >= 2
    assert len(read_questions(name)) >= 3


def test_the_cells_in_the_notebooks_are_current():
    stale = [path.name for path in tool.stale()]
    assert not stale, f"{' '.join(stale)}: run make tasks, then make outputs"


@pytest.mark.parametrize("name", lessons())
def test_the_notebook_shows_that_a_stub_is_not_attempted(name):
    book = files.read(ROOT / "nbs" / f"{name}.ipynb")
    cells = {cell["id"]: cell for cell in book["cells"]}
    for task in tasks_of(name):
        cell = cells[f"task-{task.number.replace('.', '-')}-stub"]
        texts = [files.joined(shown.get("text", "")) for shown in cell["outputs"]]
        assert texts == [f"Task {task.number}: not attempted: task.hint() helps\n"]


@pytest.mark.parametrize("name", lessons())
def test_every_other_question_is_answered(name):
    cells = files.read(ROOT / "nbs" / f"{name}.ipynb")["cells"]
    texts = [files.source(c) for c in cells if not c["id"].startswith(tool.START)]
    text = "\n\n".join(texts).split("## Try it\n")[1]
    asked = re.findall(r"(?m)^\*\*(\d+\.\d+)\*\* ", text)
    parts = re.split(r"(?m)^\*\*\d+\.\d+\*\* ", text)[1:]
    assert not re.search(r"(?m)^\d+\. ", text), "write **2.3** instead of a list"
    for number, part in zip(asked, parts, strict=True):
        answer = r"\n\n<details><summary>Answer</summary>\n\n.+\n\n</details>"
        assert re.search(answer, part, re.DOTALL), f"{number} has no folded answer"
    numbers = [task.number for task in tasks_of(name)] + asked
    assert numbers == [f"{int(name[:2])}.{n + 1}" for n in range(len(numbers))]


@pytest.mark.parametrize("name", lessons())
def test_a_checker_needs_no_later_notebook(name):
    homes = {book.module: book for book in map(house.load, files.reading_order())}
    tree = ast.parse((LESSONS / f"_{name}.py").read_text(encoding="utf-8"))
    for module in own_modules(tree):
        if module == "lessons":  # what they share
            continue
        assert module in ORDER
        number = homes[module].number
        assert number == house.INFINITY or number <= int(name[:2]), module


# The machinery

HALF = """
    def half(size):
        # solution
        return size // 2
        # end
"""


def a_task(checker=lambda half: None, code=HALF, **fields):  # Task
    "A task of a line."
    hints = ("one", "two", "three")
    return Task("0.0", "Half", "Halve.", code, checker, hints, {}, **fields)


def half(size):
    return size // 2


def test_a_stub_is_made_from_the_solution():
    assert fill(HALF) == "def half(size):\n    # your code\n    ...\n"
    assert solved(HALF) == "def half(size):\n    return size // 2\n"
    named = "# solution: a = b = ...\na = 1\nb = 2\n# end\nprint(a, b)"
    assert fill(named) == "# your code\na = b = ...\nprint(a, b)\n"
    assert fill(named, "a, b = 3, 4") == "a, b = 3, 4\nprint(a, b)\n"


@pytest.mark.parametrize("code", ["a = 1", "# solution\na = 1", HALF + tidy(HALF)])
def test_code_without_one_solution_is_refused(code):
    with pytest.raises(ValueError, match="one `# solution` and one `# end`"):
        fill(code)


def defined(code):  # what `thing` is after it
    names = {"torch": torch}
    exec(compile(tidy(code), "<cell>", "exec"), names)
    return names["thing"]


NET = """
class thing(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 3)

    def forward(self, x):
        # solution
        return self.conv(x)
        # end
"""


def test_what_counts_as_a_stub():
    code = HALF.replace("half", "thing")
    stub = fill(code)
    assert is_untouched(defined(stub), stub)
    assert is_untouched(defined(stub.replace("your code", "hm")), stub)
    assert is_untouched(defined(stub.replace("...", "pass")), stub)
    assert not is_untouched(defined(fill(code, "size")), stub), "begun, no `return`"
    assert not is_untouched(defined(fill(code, "return size")), stub)
    assert not is_untouched(lambda size: None, stub)
    assert is_untouched(..., stub) and is_untouched({"a": ...}, stub)
    assert not is_untouched(torch.zeros(2), stub) and not is_untouched(None, stub)


def test_a_class_and_its_instance_count_as_stubs():
    stub, done = defined(fill(NET)), defined(solved(NET))
    assert is_untouched(stub, fill(NET)) and is_untouched(stub(), fill(NET))
    assert not is_untouched(done, fill(NET)) and not is_untouched(done(), fill(NET))


def test_the_three_results_are_printed_and_only_right_is_true(capsys):
    task = a_task(lambda half: None if half(8) == 4 else f"half(8) is {half(8)}")
    stub = defined(fill(HALF.replace("half", "thing")))
    stub.__name__ = "half"
    results = [task.check(answer) for answer in (half, lambda size: size, stub)]
    assert [bool(result) for result in results] == [True, False, False]
    assert capsys.readouterr().out.splitlines() == [
        "Task 0.0: right.",
        "Task 0.0: wrong: half(8) is 8",
        "Task 0.0: not attempted: task.hint() helps",
    ]
    assert results[0]._ipython_display_() is None


def test_an_error_of_the_reader_is_named_with_its_line():
    code = "def half(size):\n    double = 2 * size\n    return double // 0\n"
    linecache.cache["<cell 5>"] = (len(code), None, code.splitlines(True), "<cell 5>")
    names = {}
    exec(compile(code, "<cell 5>", "exec"), names)
    result = check_answers(HALF, lambda half: str(half(8)), (names["half"],))
    assert result.state == "wrong"
    assert result.sentence.startswith(
        "half, line 3, `return double // 0`, raises ZeroDivisionError: "
    )


def test_an_error_in_a_method_of_the_reader_is_found():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x.no_such_thing

    def checker(net):
        return None if net()(torch.zeros(1)) is None else "odd"

    result = check_answers(NET, checker, (Broken,))
    assert "forward, line" in result.sentence and "no_such_thing" in result.sentence


@pytest.mark.parametrize("answer", [None, 3, "half", [1], len], ids=str)
def test_whatever_is_given_nothing_is_raised(answer):
    def checker(half):
        return half["size"] and half(8).shape

    result = check_answers(HALF, checker, (answer,))
    assert result.state == "wrong" and "cannot be checked" in result.sentence
    assert check_answers(HALF, checker, ()).state == "not attempted"


def test_a_result_in_place_of_the_function_is_told():
    result = check_answers(HALF, lambda half: half(8) and None, (4,))
    assert "(int): hand over the function itself" in result.sentence


def test_a_forgotten_return_is_named_where_one_is_due():
    def nothing(size):
        size // 2

    says = check_answers(HALF, lambda half: str(half(8)), (nothing,)).sentence
    assert says == "nothing returns nothing: `return` is missing"
    changes = HALF.replace("return size // 2", "size.div_(2)")
    answer = check_answers(changes, lambda half: half(torch.ones(1)), (nothing,))
    assert answer == Result("right")


def test_a_checker_changes_neither_objects_nor_random_numbers():
    net, tensor, numbers = torch.nn.Linear(2, 2), torch.ones(2), [1, 2]
    before = net.weight.clone()

    def checker(net, tensor, numbers):
        with torch.no_grad():
            net.weight.zero_()
        net.eval()
        tensor.zero_()
        numbers.clear()
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        return None

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert check_answers(HALF, checker, (net, tensor, numbers))
    assert torch.equal(torch.rand(3), expected)
    assert net.training and torch.equal(net.weight, before)
    assert torch.equal(tensor, torch.ones(2)) and numbers == [1, 2]


def test_random_numbers_go_on_after_an_error():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(KeyError), same_randomness():
        torch.rand(7)
        raise KeyError
    assert torch.equal(torch.rand(3), expected)


def test_hints_come_one_after_another_then_the_solution_is_named(capsys):
    task = a_task(why="No half pixels.")
    for _ in range(5):
        task.hint()
    task.solution()
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[:5] == [
        "A nudge, 1 of 3: one",
        "A hint, 2 of 3: two",
        "A scaffold, 3 of 3: three",
        "These were all 3 hints: task.solution() is next. task.hint() begins again.",
        "A nudge, 1 of 3: one",
    ]
    assert lines[5:] == ["def half(size):", "    return size // 2", "No half pixels."]


@pytest.mark.parametrize("number", ["2.9", "99.1", "two", 2.1])
def test_a_task_that_is_not_there(number):
    with pytest.raises(ValueError, match="there is no task .*; there are .*2"):
        open_task(number)


def test_opening_a_task_of_sizes_needs_no_torch(tmp_path):
    code = "import sys; from unet_tutorial.tasks import open_task\n"
    code += "open_task('2.1').hint(); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0


def test_the_tool_keeps_what_is_not_its_own_and_changes_nothing_twice():
    path = ROOT / "nbs" / "02_sizes.ipynb"
    book, tasks = files.read(path), tasks_of("02_sizes")
    again = tool.with_tasks(book, tasks)
    assert again == book
    bare = [c for c in book["cells"] if not c["id"].startswith(tool.START)]
    made = tool.with_tasks(book | {"cells": bare}, tasks)
    sources = [[files.source(c) for c in b["cells"]] for b in (made, book)]
    assert sources[0] == sources[1]
    with pytest.raises(SystemExit, match="## Try it"):
        tool.with_tasks({"cells": []}, tasks)


def test_a_changed_solution_makes_the_notebook_stale():
    book = files.read(ROOT / "nbs" / "02_sizes.ipynb")
    changed = a_task(code=HALF.replace("size // 2", "size >> 1"))
    texts = [files.source(c) for c in tool.with_tasks(book, [changed])["cells"]]
    (fold,) = [text for text in texts if text.startswith("<details><summary>Sol")]
    assert "return size >> 1" in fold
    (stub,) = [text for text in texts if text.startswith('task = open_task("0.0")')]
    assert python(stub).count("your code") == 1 and ">>" not in stub


@pytest.mark.parametrize("value", [torch.ones(3), "many", [1, 2], {}, object()])
def test_what_cannot_be_checked_is_named(value):
    names = {"value": value}
    exec("def half(size):\n    return value", names)  # in a file of its own
    said = str(a_task(lambda half: half(8).no_such).check(names["half"]))
    assert "half returns" in said and "which cannot be checked: " in said


def test_a_check_without_an_answer_says_what_to_hand_over(capsys):
    result = tasks_of("02_sizes")[0].check()
    assert result.sentence == "hand over your answer: task.check(walk)" and not result
