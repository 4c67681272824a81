"""Docments reach `help()`: what stands beside a parameter stands in the docstring."""

import ast
import importlib
import inspect

import docments
import pytest
from layers import ORDER
from notebooks import ROOT

from unet_tutorial.predict import Predictor

SOURCE = '''
# %% nb.ipynb #cell
def half(
    size: int,  # pixels,
    # an even number
    name: str = "x",  # what the message calls it
) -> int:  # pixels
    """Return half of a size."""
    if size % 2:
        raise ValueError(f"{name} is {size}; an even number would work")
    return size // 2
'''
NOTEBOOK = """{"cells": [
 {"cell_type": "code", "id": "cell", "source": ["#| export\\n", "def half(): ..."]},
 {"cell_type": "code", "id": "show", "source": ["n = 8\\n", "m = 2\\n",
  "assert half(n) == 4"]}]}"""
WRITTEN = '''
# %% nb.ipynb #cell
def half(
    size: int,
    name: str = "x",
) -> int:
    """Return half of a size.

    Args:
        size: pixels, an even number
        name: what the message calls it

    Returns:
        int: pixels

    Raises:
        ValueError: "... is ...; an even number would work"

    Example:
        >>> # in nb, where its other names come from
        >>> from some.nb import half
        >>> n = 8
        >>> assert half(n) == 4
    """
    if size % 2:
        raise ValueError(f"{name} is {size}; an even number would work")
    return size // 2
'''


def test_a_module_is_written(tmp_path):
    "Parameters, result, errors and the lines that show the function."
    (tmp_path / "nb.ipynb").write_text(NOTEBOOK)
    assert docments.written(SOURCE, tmp_path, "some.nb") == WRITTEN


def test_writing_twice_changes_nothing(tmp_path):
    "A module that has its docstrings keeps them."
    (tmp_path / "nb.ipynb").write_text(NOTEBOOK)
    assert docments.written(WRITTEN, tmp_path, "some.nb") == WRITTEN


def public(
    module,  # such as "data.images"
):  # iterator of (name, function or class)
    "What a module defines for others."
    module = importlib.import_module(f"unet_tutorial.{module}")
    for name in module.__all__:
        item = getattr(module, name)
        if inspect.isroutine(item) or inspect.isclass(item):
            yield name, item


@pytest.mark.parametrize("module", ORDER)
def test_help_tells_every_parameter(module):
    "Each parameter of each public function and class stands in its docstring."
    for name, item in public(module):
        text = inspect.getdoc(item) or ""
        if inspect.isclass(item) and "__init__" not in vars(item):
            continue
        for parameter in inspect.signature(item).parameters:
            if parameter not in ("self", "args", "kwargs"):
                assert f"    {parameter}: " in text, f"{name}: {parameter}"


@pytest.mark.parametrize("module", ORDER)
def test_every_public_parameter_has_a_type(module):
    "Signatures say what goes in and what comes out."
    path = ROOT / "unet_tutorial" / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text("utf-8"))
    for _, node in docments.public_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            bare = [
                parameter.arg
                for parameter in docments.parameters_of(node)
                if parameter.annotation is None and parameter.arg[0] != "_"
            ]
            assert not bare, f"{node.name}: no type for {bare}"
            assert node.returns is not None, f"{node.name}: no type of its result"


CAUGHT = '''
def caught(x):
    """Return a word."""
    try:
        text = "the first message"
        raise ValueError(text)
    except ValueError:
        text = "the second message"
    if x:
        raise TypeError(text)
    return text
'''


def test_an_error_that_is_caught_is_none():
    "And a message is what was assigned last."
    (function,) = ast.parse(CAUGHT).body
    assert docments.raised_by(function, {}) == [("TypeError", '"the second message"')]


def test_errors_of_what_is_called_in_other_modules_are_named(tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "sizes.py").write_text(
        'def check_size(n):\n    """Raise a ValueError unless n is odd."""\n'
        "def cut(n):\n    raise TypeError('cut what?')\n"
    )
    text = "from .sizes import check_size as asked\nfrom . import sizes as rules\n"
    text += "def one(n):\n    asked(n)\n    rules.cut(n)\n    rules.gone(n)\n"
    tree = ast.parse(text)
    others = docments.checks_elsewhere(tree, inside, tmp_path)
    assert docments.raised_by(tree.body[-1], {}, others) == [
        ("ValueError", "unless n is odd"),
        ("TypeError", '"cut what?"'),
    ]
    assert "is no option of Predictor" in Predictor.__doc__
