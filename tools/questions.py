"""Write the section *Questions* of the notebooks from the data: `make links`.

`unet_tutorial/quiz/NAME.json` holds the questions about a notebook of the road, in the
form of jupyterquiz. They appear as text with folded answers under `## Questions`, with
a cell below that asks them with buttons. What is wrong with a file of questions is said
in words, and nothing is written then. `python tools/questions.py --check` changes
nothing and lists what is stale. CONTRIBUTING.md says how to write a question.
"""

import ast
import json
import math
import re
import sys
from collections import Counter
from importlib import import_module
from itertools import pairwise
from string import ascii_lowercase

import layers
import notebooks
from notebooks import NBS, ROOT

QUIZ = ROOT / "unet_tutorial" / "quiz"
HEADING = "## Questions"
INTRODUCTION = (
    "Decide first, then unfold. In a running notebook the cell below asks the same "
    "with buttons, and says at once what is wrong with an answer."
)
LEAST = 3  # questions about a notebook
TYPES = ("multiple_choice", "many_choice", "numeric")
KEYS = {"type": str, "heading": str, "question": str, "answers": list, "given": list}
ANSWER_KEYS = {
    "answer": str,
    "value": (int, float),
    "range": list,
    "type": str,
    "correct": bool,
    "feedback": str,
    "check": str,
}
# It would be HTML for jupyterquiz, or markdown that the page of buttons does not know.
MARKUP = re.compile(r"[<>&]|\*\w|\w\*|__|\]\(|\n")


# What is wrong with questions, in words


def complaints(
    questions,  # what a file of questions holds
    titles,  # the headings of its notebook, such as "## The net"
):  # list of str
    "What is wrong with the questions about a notebook, apart from their numbers."
    if not isinstance(questions, list) or len(questions) < LEAST:
        return [f"a list of at least {LEAST} questions would work"]
    found = []
    for number, question in enumerate(questions, 1):
        told = wrong_keys(question, KEYS, ["type", "heading", "question", "answers"])
        if not told:
            told = question_complaints(question, titles)
        found += [f"question {number}: {text}" for text in told]
    return found


def wrong_keys(
    thing,  # a question or an answer
    kinds,  # dict: key to its type
    needed,  # keys without which it does not work
):  # list of str
    "The keys that are missing, unknown, or hold something of another type."
    if not isinstance(thing, dict):
        return [f"{thing!r} is no dictionary"]
    found = [f"it has no `{key}`" for key in needed if key not in thing]
    for key, value in thing.items():
        if key not in kinds:
            found.append(f"`{key}` is unknown: {', '.join(kinds)} are known")
        elif not isinstance(value, kinds[key]):
            found.append(f"`{key}` is {value!r}, of the wrong type")
        elif isinstance(value, bool) and kinds[key] is not bool:
            found.append(f"`{key}` is {value!r}, of the wrong type")
        elif isinstance(value, str) and not value.strip():
            found.append(f"`{key}` is empty")
    return found


def question_complaints(
    question,  # dict with the right keys
    titles,  # the headings of its notebook
):  # list of str
    "What is wrong with a question."
    found = []
    if question["type"] not in TYPES:
        return [f"the type is {question['type']!r}: {', '.join(TYPES)} would work"]
    if question["heading"] not in titles:
        found.append(f"the notebook has no heading `{question['heading']}`")
    numeric = question["type"] == "numeric"
    for at, answer in enumerate(question["answers"], 1):
        needed = needed_keys(answer, numeric)
        told = wrong_keys(answer, ANSWER_KEYS, needed)
        found += [f"answer {at}: {text}" for text in told]
    if found:
        return found
    answers = question["answers"]
    feedback = [answer["feedback"] for answer in answers]
    found += [f"the feedback {text!r} is there twice" for text in twice(feedback)]
    texts = [question["question"], *feedback, *(a.get("answer", "") for a in answers)]
    found += [
        f"{text!r} holds {MARKUP.search(plain(text))[0]!r}: plain words, `code` and "
        "$formulas$ would work"
        for text in texts
        if MARKUP.search(plain(text))
    ]
    check = number_complaints if numeric else choice_complaints
    return found + check(answers)


def needed_keys(
    answer,  # of a question
    numeric,  # whether the question asks for a number
):  # list of str
    "The keys that an answer must have."
    if not isinstance(answer, dict) or not numeric:
        return ["answer", "correct", "feedback"]
    if answer.get("type") == "default":
        return ["feedback"]
    return ["range" if "range" in answer else "value", "correct", "feedback"]


def choice_complaints(
    answers,  # list of dict with the right keys
):  # list of str
    "What is wrong with answers to choose from, those of many_choice included."
    found = [f"the answer {text!r} is there twice" for text in repeated(answers)]
    if len(answers) < 3:
        found.append("at least three answers would work")
    if all(answer["correct"] for answer in answers):
        found.append("no answer is wrong")
    return found


def repeated(answers):  # list of str
    "Answers that say the same, apart from capitals, blanks and the last dot."
    return twice(
        [" ".join(a["answer"].lower().split()).rstrip(".") for a in answers],
    )


def twice(texts):  # list of str
    "What occurs more than once."
    return [text for text, count in Counter(texts).items() if count > 1]


def number_complaints(
    answers,  # list of dict with the right keys
):  # list of str
    "What is wrong with the answers of a numeric question."
    hits = [answer for answer in answers if answer.get("type") != "default"]
    found = []
    if len(answers) - len(hits) != 1 or answers[-1] in hits:
        found.append('the last answer, and no other, must be of `"type": "default"`')
    if all(answer["correct"] for answer in hits):
        found.append("no number is wrong: add what people compute by mistake")
    for answer in hits:
        if "range" in answer and not is_range(answer["range"]):
            found.append(f"the range {answer['range']} is not from low to high")
        if answer["correct"] and "check" not in answer:
            found.append("the right number has no `check`: a line that computes it")
    if not found:
        ends = sorted(limits(answer) for answer in hits)
        for (low, high), (after, _) in pairwise(ends):
            if after < high or after == low:
                found.append(f"two answers hold {after:g}")
    return found


def is_range(ends):  # bool
    "Whether it is two numbers, the lower one first."
    return (
        len(ends) == 2
        and all(type(end) in (int, float) for end in ends)
        and ends[0] < ends[1]
    )


def limits(answer):  # (float, float)
    "From where to where a number counts as this answer."
    return tuple(answer.get("range", [answer.get("value")] * 2))


def right_complaints(
    questions,  # list of dict without other complaints
):  # list of str
    "Which questions have too many right answers, or too few."
    found = []
    for number, question in enumerate(questions, 1):
        right = sum(answer.get("correct", False) for answer in question["answers"])
        if question["type"] == "many_choice" and right < 2:
            found.append(f"question {number}: {right} right of many_choice: 2 or more")
        if question["type"] != "many_choice" and right != 1:
            found.append(f"question {number}: {right} answers are right: one must be")
    return found


def check_complaints(
    questions,  # list of dict without other complaints
):  # list of str
    "Where the lines of Python beside the answers say otherwise than the answers."
    import torch

    found = []
    for number, question in enumerate(questions, 1):
        given = "\n".join(question.get("given", []))
        texts = [given, *(answer.get("check", "") for answer in question["answers"])]
        space = names_for("\n".join(texts))
        exec(given, space)
        for answer in question["answers"]:
            if "check" not in answer:
                continue
            torch.manual_seed(0)
            got = eval(answer["check"], space)
            if not agrees(answer, got):
                name = answer.get("answer", limits(answer)[0])
                where = f"question {number}, {name!r}"
                found.append(f"{where}: `{answer['check']}` is {got!r}")
    return found


def names_for(
    code,  # Python
):  # dict: name to what it means
    "The modules of the library that some Python names, and torch, nn and math."
    import torch

    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    space = {"torch": torch, "nn": torch.nn, "math": math}
    for module in used & {name for name in layers.ORDER if "." not in name}:
        space[module] = import_module(f"unet_tutorial.{module}")
    return space


def agrees(
    answer,  # dict with `check`
    got,  # the value of that line
):  # bool
    "Whether an answer is what its line computes: a number, or true where it is right."
    if "value" in answer:
        return math.isclose(got, answer["value"])
    if "range" in answer:
        return answer["range"][0] <= got < answer["range"][1]
    return bool(got) == answer["correct"]


def plain(text):  # str
    "A text without its code and its formulas."
    return re.sub(r"`[^`]+`|\$[^$]+\$", "", text)


# The text of a notebook


def headings(
    notebook,  # dict
):  # list of str such as "## The net"
    "The headings of a notebook."
    texts = [
        re.sub(r"```.*?```", "", notebooks.source(cell), flags=re.DOTALL)
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
    ]
    return re.findall(r"(?m)^#{2,6} .+$", "\n".join(texts))


def section(
    questions,  # list of dict
):  # str, markdown
    "The section *Questions*: the text of each, and below it its answers, folded."
    from unet_tutorial.questions import shuffled, wording

    parts = [HEADING, INTRODUCTION]
    for number, question in enumerate(questions, 1):
        parts.append(f"**{number}.** {wording(question)}")
        if question["type"] == "numeric":
            answers = [(said(one), one) for one in question["answers"]]
        else:
            every = list(zip(ascii_lowercase, shuffled(question), strict=False))
            answers = [(f"**{letter}**", one) for letter, one in every]
            parts.append("\n".join(f"- **{a}.** {one['answer']}" for a, one in every))
        parts += folded(number, question["heading"], answers)
    return "\n\n".join(parts)


def said(
    answer,  # of a numeric question
):  # str
    "How the text names a number."
    if "range" in answer:
        return "**{:g} to {:g}**".format(*answer["range"])
    return f"**{answer['value']:,}**" if "value" in answer else "Anything else"


def folded(
    number,  # of the question
    heading,  # where the answer can be read again
    answers,  # list of (name, answer)
):  # list of str, paragraphs
    "The answers of a question, the right ones first, in a part that one unfolds."
    right = [(name, a) for name, a in answers if a.get("correct")]
    wrong = [(name, a) for name, a in answers if not a.get("correct")]
    return [
        f"<details><summary>Answer to {number}</summary>",
        *(f"{name} is right. {answer['feedback']}" for name, answer in right),
        "\n".join(f"- {name}: {answer['feedback']}" for name, answer in wrong),
        f"Read again: *{heading.lstrip('# ')}*.",
        "</details>",
    ]


def with_questions(
    notebook,  # dict; not changed
    name,  # such as "03_blocks"
    questions,  # list of dict
):  # dict
    "The notebook with its questions between `## Questions` and the next heading."
    cells = []
    for cell in notebook["cells"]:
        if cell["id"] == "ask-questions":
            continue
        before, after = around_questions(cell)
        if before is None:
            cells.append(cell)
            continue
        if before:
            cells.append(cell | {"source": before.splitlines(True)})
        text = section(questions).splitlines(True)
        markdown = {"cell_type": "markdown", "metadata": {}}
        cells.append(markdown | {"id": "questions", "source": text})
        code = {"cell_type": "code", "metadata": {}, "outputs": []}
        code |= {"execution_count": None, "source": [f'ask("{name}")']}
        cells.append(code | {"id": "ask-questions"})
        if after:
            own = (
                "after-questions" if before or cell["id"] == "questions" else cell["id"]
            )
            cells.append(markdown | {"id": own, "source": after.splitlines(True)})
    return notebook | {"cells": cells}


def around_questions(
    cell,  # dict
):  # (str, str), or (None, None) where no questions belong into the cell
    "What a cell of prose holds before and after its questions."
    text = notebooks.source(cell)
    lines = text.splitlines() if cell["cell_type"] == "markdown" else []
    if HEADING not in lines:
        return None, None
    start = lines.index(HEADING)
    rest = range(start + 1, len(lines))
    end = next((at for at in rest if lines[at].startswith("#")), len(lines))
    return "\n".join(lines[:start]).strip(), "\n".join(lines[end:]).strip()


def written(
    name,  # such as "03_blocks"
    folder=NBS,  # of the notebooks of the road
    quiz=QUIZ,  # folder of the questions
):  # (dict, dict): the notebook as it is, and as it should be
    "A notebook with its questions; a SystemExit says what is wrong with them."
    path = folder / f"{name}.ipynb"
    if not path.exists():
        sys.exit(f"{name}.json: there is no notebook {name} in nbs/")
    notebook = notebooks.read(path)
    try:
        questions = json.loads((quiz / f"{name}.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        sys.exit(f"{name}.json is no JSON: {error}")
    titles = headings(notebook)
    told = complaints(questions, titles) or right_complaints(questions)
    told = told or check_complaints(questions)
    if HEADING not in titles:
        told.append(f"the notebook has no `{HEADING}`: put it before `## Try it`")
    if told:
        sys.exit("\n".join(f"{name}.json, {text}" for text in told))
    return notebook, with_questions(notebook, name, questions)


def main(
    check,  # whether to change nothing
):  # int, the exit status
    "Write the questions of all notebooks, or list those that are stale."
    stale = False
    for path in sorted(QUIZ.glob("*.json")):
        before, after = written(path.stem)
        if before != after:
            stale = True
            print(
                f"{path.stem}: {'stale: make links' if check else 'questions written'}"
            )
            if not check:
                notebooks.write(after, NBS / f"{path.stem}.ipynb")
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
