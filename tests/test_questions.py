"""Questions: their files are right, mistakes in them are found, text and page work."""

import json
import sys
from copy import deepcopy

import notebooks
import pytest
import questions as tool

from unet_tutorial.questions import (
    answer_to,
    ask,
    read_number,
    read_questions,
    shuffled,
)

NAMES = sorted(path.stem for path in tool.QUIZ.glob("*.json"))
TITLES = ["## The net", "## Padding"]


def agree(complaints):
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


# The files


def test_there_are_questions():
    assert len(NAMES) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_questions_are_well_formed(name):
    book = notebooks.read(notebooks.NBS / f"{name}.ipynb")
    agree(tool.complaints(read_questions(name), tool.headings(book)))


@pytest.mark.parametrize("name", NAMES)
def test_as_many_answers_are_right_as_the_type_says(name):
    agree(tool.right_complaints(read_questions(name)))


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_what_their_lines_compute(name):
    agree(tool.check_complaints(read_questions(name)))


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_the_notebook_is_current(name):
    book = notebooks.read(notebooks.NBS / f"{name}.ipynb")
    after = tool.with_questions(book, name, read_questions(name))
    assert f'ask("{name}")' in map(notebooks.source, after["cells"])
    assert book == after, f"{name}: run make links"


def test_the_right_answer_is_not_always_at_the_same_place():
    places = [
        [answer["correct"] for answer in shuffled(question)].index(True)
        for name in NAMES
        for question in read_questions(name)
        if question["type"] == "multiple_choice"
    ]
    assert len(set(places)) > 1
    assert max(map(places.count, set(places))) <= 0.8 * len(places)


# What is found


def choice(**changes):
    "A question to choose from."
    answers = [
        {"answer": "14", "correct": True, "feedback": "One of each two."},
        {"answer": "26", "correct": False, "feedback": "That is a convolution."},
        {"answer": "7", "correct": False, "feedback": "Sides are halved."},
    ]
    text = "What does a pooling leave of 28 pixels?"
    question = {"type": "multiple_choice", "heading": "## The net", "question": text}
    return question | {"answers": answers} | changes


def number(**changes):
    "A question for a number."
    answers = [
        {"value": 388, "correct": True, "feedback": "Right so.", "check": "388"},
        {"value": 392, "correct": False, "feedback": "One block less."},
        {"type": "default", "feedback": "Count again."},
    ]
    question = {"type": "numeric", "heading": "## Padding", "question": "How many?"}
    return question | {"answers": answers} | changes


def told(question):
    "Everything that is wrong with a question between two good ones."
    three = [choice(), question, number()]
    return "\n".join(tool.complaints(three, TITLES) or tool.right_complaints(three))


def changed(question, at, without=None, **changes):
    "A question with one of its answers changed."
    question = deepcopy(question)
    question["answers"][at] |= changes
    question["answers"][at].pop(without, None)
    return question


GOOD = [
    choice(),
    number(),
    changed(choice(type="many_choice"), 1, correct=True),
    changed(number(), 1, "value", range=[389, 400]),
    choice(given=["x = 1"]),
]
BAD = {
    "no dictionary": ("no dictionary", "28 pixels"),
    "a type that jupyterquiz has and we do not": (
        "type is 'string'",
        choice(type="string"),
    ),
    "a heading of another notebook": (
        "no heading `## Loss`",
        choice(heading="## Loss"),
    ),
    "no heading": (
        "no `heading`",
        {k: v for k, v in choice().items() if k != "heading"},
    ),
    "a key misspelt": ("`awnsers` is unknown", choice(awnsers=[])),
    "an empty question": ("`question` is empty", choice(question=" ")),
    "a wrong answer that nobody explains": (
        "no `feedback`",
        changed(choice(), 1, "feedback"),
    ),
    "a right answer that nobody explains": (
        "no `feedback`",
        changed(choice(), 0, "feedback"),
    ),
    "an empty explanation": ("`feedback` is empty", changed(choice(), 2, feedback="")),
    "one explanation for two answers": (
        "feedback 'Sides are halved.' is there twice",
        changed(choice(), 1, feedback="Sides are halved."),
    ),
    "an answer that is there twice": (
        "'26' is there twice",
        changed(choice(), 2, answer="26"),
    ),
    "and apart from a dot": ("there twice", changed(choice(), 2, answer=" 26. ")),
    "right as a word": ("`correct` is 'yes'", changed(choice(), 0, correct="yes")),
    "two are right": ("2 answers are right", changed(choice(), 1, correct=True)),
    "none is right": ("0 answers are right", changed(choice(), 0, correct=False)),
    "one of many": ("1 right of many_choice", choice(type="many_choice")),
    "nothing is wrong": (
        "no answer is wrong",
        choice(answers=[a | {"correct": True} for a in choice()["answers"]]),
    ),
    "two answers": ("at least three", choice(answers=choice()["answers"][:2])),
    "HTML": ("holds '<'", choice(question="Is a < b?")),
    "a link": ("holds ']('", changed(choice(), 1, feedback="See [there](a.md).")),
    "emphasis": (
        "holds '*r'",
        changed(choice(), 1, feedback="That is *really* wrong."),
    ),
    "a number without its line": ("no `check`", changed(number(), 0, "check")),
    "a number as a text": ("`value` is '388'", changed(number(), 0, value="388")),
    "a number that is a truth": ("`value` is True", changed(number(), 1, value=True)),
    "a number without a wrong one": (
        "no number is wrong",
        number(answers=number()["answers"][::2]),
    ),
    "a number without a default": (
        'must be of `"type": "default"`',
        number(answers=number()["answers"][:2]),
    ),
    "a default that comes first": (
        "the last answer, and no other",
        number(answers=number()["answers"][::-1]),
    ),
    "two answers with one number": ("hold 388", changed(number(), 1, value=388)),
    "a number within a range": (
        "two answers hold 388",
        changed(number(), 1, "value", range=[300, 400]),
    ),
    "a range upside down": (
        "not from low to high",
        changed(number(), 1, "value", range=[400, 389]),
    ),
}


@pytest.mark.parametrize("question", GOOD, ids=range(len(GOOD)))
def test_a_good_question_passes(question):
    assert told(question) == ""


@pytest.mark.parametrize("fault", BAD)
def test_each_mistake_is_named(fault):
    sentence, question = BAD[fault]
    assert sentence in told(question)
    assert "question 2" in told(question)


def test_two_questions_are_too_few():
    assert "at least 3 questions" in tool.complaints([choice(), number()], TITLES)[0]


LINES = [
    (number(), "sizes.output_size(572)", True),
    (number(), "sizes.output_size(588)", False),
    (
        number(),
        "model.UNet(base_channels=1)(torch.zeros(1, 1, 572, 572)).shape[-1]",
        True,
    ),
    (changed(number(), 0, "value", range=[380, 390]), "388", True),
    (changed(number(), 0, "value", range=[380, 388]), "388", False),
    (choice(), "28 // 2 == 14", True),
    (choice(), "28 - 2 == 14", False),
    (
        choice(given=["def pooled(side):", "    return side // 2"]),
        "pooled(28) == 14",
        True,
    ),
]


@pytest.mark.parametrize(("question", "line", "fits"), LINES, ids=range(len(LINES)))
def test_a_number_that_its_line_does_not_compute_is_found(question, line, fits):
    found = tool.check_complaints([changed(question, 0, check=line)])
    assert (found == []) == fits
    assert fits or f"`{line}` is" in found[0]


def test_a_wrong_answer_that_is_right_is_found():
    assert tool.check_complaints([changed(choice(), 1, check="28 - 2 == 26")])
    assert not tool.check_complaints([changed(choice(), 1, check="28 // 2 == 26")])


# The text


def small_book(text):
    "A notebook with one cell of prose."
    cell = {"cell_type": "markdown", "id": "end", "metadata": {}}
    return {"cells": [cell | {"source": text.splitlines(True)}]}


def texts(book):
    return [notebooks.source(cell) for cell in book["cells"]]


def test_questions_are_written_between_their_heading_and_the_next():
    book = small_book("## What\n\n- a\n\n## Questions\n\n1. Old?\n\n## Try it\n\n1. b")
    three = [choice(), number(), changed(choice(type="many_choice"), 1, correct=True)]
    once = tool.with_questions(book, "05_model", three)
    before, section, code, after = texts(once)
    assert before == "## What\n\n- a" and after == "## Try it\n\n1. b"
    assert "Old?" not in section and code == 'ask("05_model")'
    ids = [cell["id"] for cell in once["cells"]]
    assert len(set(ids)) == 4
    assert tool.with_questions(once, "05_model", three) == once
    other = tool.with_questions(once, "05_model", three[:2])
    assert texts(other)[::3] == [before, after] and other != once


def test_the_text_shows_no_answer_before_it_is_unfolded():
    text = tool.section([choice(), number(), choice(question="Other?")])
    shown = "".join(part.split("</details>")[-1] for part in text.split("<details>"))
    assert "- **a.** " in shown and "What does a pooling leave" in shown
    assert "388" not in shown and "One of each two." not in shown
    assert text.count("<details>") == text.count("</details>") == 3
    assert "**388** is right. Right so." in text
    assert "Read again: *Padding*." in text


def test_text_and_page_have_the_same_letters():
    (letter,) = [
        letter
        for letter, answer in zip("abc", shuffled(choice()), strict=True)
        if answer["correct"]
    ]
    assert f"- **{letter}.** 14" in tool.section([choice()])
    assert f"**{letter}** is right. One of each two." in tool.section([choice()])


def test_a_broken_file_writes_nothing(tmp_path):
    notebooks.write(small_book("## The net\n\n## Questions"), tmp_path / "a.ipynb")
    for content, sentence in (
        ("[1,", "no JSON"),
        (json.dumps([choice()]), "at least 3"),
        (json.dumps([choice(), choice(), choice(heading="## No")]), "no heading"),
    ):
        (tmp_path / "a.json").write_text(content, encoding="utf-8")
        with pytest.raises(SystemExit, match=sentence):
            tool.written("a", tmp_path, tmp_path)
    with pytest.raises(SystemExit, match="there is no notebook b"):
        tool.written("b", tmp_path, tmp_path)


# The page


def parts(page):
    "All widgets of a page, in order."
    found = [page]
    for child in getattr(page, "children", ()):
        found += parts(child)
    return found


def by_kind(page, kind):
    return [widget for widget in parts(page) if type(widget).__name__ == kind]


def test_a_button_says_at_once_what_its_answer_is_worth():
    pytest.importorskip("ipywidgets")
    page = ask([choice()])
    says = by_kind(page, "HTMLMath")[-1]
    assert says.value == ""
    for button, answer in zip(by_kind(page, "Button"), shuffled(choice()), strict=True):
        button.click()
        assert answer["feedback"] in says.value
        assert ("Right." in says.value) == answer["correct"]
        expected = "primary" if answer["correct"] else "warning"
        assert button.button_style == expected


def test_many_right_answers_are_counted():
    pytest.importorskip("ipywidgets")
    question = changed(choice(type="many_choice"), 1, correct=True)
    page = ask([question])
    asked, *_, says = by_kind(page, "HTMLMath")
    assert "(More than one.)" in asked.value
    counts = []
    for button, answer in zip(by_kind(page, "Button"), shuffled(question), strict=True):
        button.click()
        button.click()  # it is counted once
        if answer["correct"]:
            counts.append(says.value.split("(")[1].split(" are")[0])
    assert counts == ["1 of 2", "2 of 2"]


def test_a_field_takes_a_number():
    pytest.importorskip("ipywidgets")
    page = ask([number()])
    (field,), says = by_kind(page, "Text"), by_kind(page, "HTMLMath")[-1]
    for typed, sentence in {
        "392": "No.</b> One block less.",
        "7": "No.</b> Count again.",
        "abc": "'abc' is no number",
        "388.0": "Right.</b> Right so.",
        "<b>": "&lt;b&gt;",
    }.items():
        field.value = typed
        assert sentence in says.value


@pytest.mark.parametrize("name", NAMES)
def test_each_notebook_has_its_page(name):
    pytest.importorskip("ipywidgets")
    page = ask(name)
    faces = len(by_kind(page, "Text"))
    kinds = [question["type"] for question in read_questions(name)]
    assert faces == kinds.count("numeric")
    assert all(not field.value for field in by_kind(page, "Text"))


def test_without_ipywidgets_there_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert ask([choice()]) is None
    assert "Without ipywidgets" in capsys.readouterr().out


def test_numbers_as_people_type_them():
    for text, value in {
        "388": 388,
        "31,030,658": 31030658,
        "31 030 658": 31030658,
        "31_030_658": 31030658,
        "-1/4": -0.25,
        " 2e-3 ": 0.002,
    }.items():
        assert read_number(text) == value
    for text in ("", "0,5", "1,23", "a", "1/0", "1/2/3", "50%"):
        with pytest.raises(ValueError, match="a number would work"):
            read_number(text)


def test_the_first_answer_that_a_number_hits_counts():
    question = changed(number(), 1, "value", range=[389, 400])
    assert answer_to(question, 388)["feedback"] == "Right so."
    assert answer_to(question, 389)["feedback"] == "One block less."
    assert answer_to(question, 400) == {
        "type": "default",
        "correct": False,
        "feedback": "Count again.",
    }


def test_an_unknown_notebook_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"'03_bricks'.*03_blocks"):
        read_questions("03_bricks")
