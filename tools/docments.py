"""Docments become docstrings when a module is written, so that `help()`, an editor's
hover and the website show them.

In a notebook a parameter is explained by the comment beside it. In the module written
from it the same words stand in the docstring: parameters, result, errors, and as an
example the lines with which the notebook shows the function. `make export` does it.
"""

import ast
import io
import json
import re
import sys
import textwrap
import tokenize
from functools import cache
from pathlib import Path

from notebooks import ROOT
from reading import python

WIDTH = 88
EXAMPLE_LINES = 14
ERRORS = 8
CELL = re.compile(r"# %% (\S+\.ipynb) #(\S+)")
RAISE = re.compile(r"Raise an? ([A-Z]\w+) (.*?)\.?$")


def comments_of(
    text,  # Python
):  # dict: line number -> (comment without its sign, whether it stands alone)
    "The comments of a module."
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {
        token.start[0]: (
            token.string.lstrip("# "),
            token.line.strip().startswith("#"),
        )
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def parameters_of(
    function,  # ast.FunctionDef
):  # list of ast.arg, without self
    "The parameters of a function, in their order."
    spec = function.args
    every = [*spec.posonlyargs, *spec.args, spec.vararg, *spec.kwonlyargs, spec.kwarg]
    return [arg for arg in every if arg and arg.arg not in ("self", "cls")]


def header_notes(
    function,  # ast.FunctionDef
    comments,  # see comments_of
):  # dict: parameter -> text; "" -> the text about the result
    "What the comments in the head of a function say."
    parameters, notes, last = parameters_of(function), {}, None
    begins = {arg.lineno: arg.arg for arg in parameters}
    one_line = len(begins) < len(parameters)
    final = max([arg.end_lineno for arg in parameters], default=function.lineno)
    final = max([final, *(d.end_lineno for d in function.args.defaults)])
    waiting = []
    for line in range(function.lineno, function.body[0].lineno):
        text, alone = comments.get(line, ("", False))
        if line in begins and not one_line:
            last = begins[line]
            notes[last] = " ".join(waiting)
            waiting = []
        if not text:
            continue
        if line > final or one_line or not parameters:
            notes[""] = f"{notes.get('', '')} {text}".strip()
        elif alone and not notes.get(last, ""):
            waiting.append(text)
        else:
            notes[last] = f"{notes.get(last, '')} {text}".strip()
    return {name: text for name, text in notes.items() if text}


def field_notes(
    node,  # ast.ClassDef
    comments,  # see comments_of
):  # dict: field -> text
    "What the comments beside the fields of a dataclass say."
    return {
        item.target.id: comments[item.end_lineno][0]
        for item in fields_of(node)
        if item.end_lineno in comments
    }


def fields_of(
    node,  # ast.ClassDef
):  # list of ast.AnnAssign
    "The fields of a dataclass."
    return [item for item in node.body if isinstance(item, ast.AnnAssign)]


# What a function raises


def template(
    node,  # ast of a message
    known,  # dict: local name -> ast of its value
):  # str
    "A message with three dots for what is only known when it is raised."
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return template(node.value, known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left, known) + template(node.right, known)
    if isinstance(node, ast.Name) and node.id in known:
        value = known[node.id]
        return template(value, {k: v for k, v in known.items() if k != node.id})
    return "..."


def raised_by(
    function,  # ast.FunctionDef
    helpers,  # dict: name -> ast.FunctionDef of the same module
    others=(),  # dict: name as it is called -> ast.FunctionDef of another module
    seen=(),  # names of functions that were looked at
):  # list of (error, when)
    "The errors of a function and of the helpers that it calls, in their order."
    found = []
    said = RAISE.match((ast.get_docstring(function) or "").split("\n")[0])
    if said:
        return [said.groups()]
    known = {}  # what was assigned last
    for node in in_order(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known[node.targets[0].id] = node.value
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func)
            text = template(node.exc.args[0], known) if node.exc.args else ""
            text = re.sub(r"(\.\.\.\s*){2,}", "... ", text)
            if name[0].isupper() and re.search(r"\w{3}", text):
                found.append((name, f'"{text.strip()}"'))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in helpers and name not in seen:
                inner = raised_by(helpers[name], helpers, others, (*seen, name))
                found += inner if name[0] == "_" or "check" in name else []
            elif name in others:
                found += raised_by(others[name], {})
    return list(dict.fromkeys(found))


def functions_in(
    tree,  # ast of a module
):  # dict: name -> ast.FunctionDef
    "The functions of a module."
    return {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}


@cache
def functions_of(
    path,  # of a module
):  # dict: name -> ast.FunctionDef
    "The functions of a file; none if there is no such file."
    return functions_in(ast.parse(path.read_text("utf-8") if path.is_file() else ""))


def checks_elsewhere(
    tree,  # ast of a module
    folder,  # Path of the folder in which it stands
    package,  # Path of the folder in which the package stands
):  # dict: name as it is called -> ast.FunctionDef
    "What a module calls in other modules of the package, where it may be refused."
    found = {}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in nodes:
        place = package  # nbdev writes some imports as relative ones, and some not
        if node.level:
            place = folder.joinpath(*[".."] * (node.level - 1))
        place = place.joinpath(*(node.module or "").split("."))
        beside = functions_of(place.with_suffix(".py")) if node.module else {}
        for name in node.names:
            here = name.asname or name.name
            inside = functions_of(place / f"{name.name}.py")
            found |= {f"{here}.{one}": inside[one] for one in inside if one[0] != "_"}
            if "check" in name.name and name.name in beside:
                found[here] = beside[name.name]
    return found


def in_order(
    node,  # ast
):  # iterator of ast
    "All parts of a function, the first in the text first; not what it catches."
    caught = node.body if isinstance(node, ast.Try) and swallows(node) else []
    for child in ast.iter_child_nodes(node):
        if child not in caught:
            yield child
            yield from in_order(child)


def swallows(
    node,  # ast.Try
):  # bool
    "Whether errors end here."
    parts = [part for handler in node.handlers for part in ast.walk(handler)]
    return bool(parts) and not any(isinstance(part, ast.Raise) for part in parts)


# How the notebook shows it


def example_of(
    name,  # of a function or a class
    cells,  # list of (cell id, text) of the notebook's code cells
    at,  # the id of the cell that defines it
):  # list of str, the lines of a short example; empty without one
    "The lines with which a notebook first shows what it has defined."
    ids, best = [cell for cell, _ in cells], []
    for _, text in cells[ids.index(at) + 1 :]:
        if "#| export" in text:
            continue
        body = ast.parse(python(text)).body
        for number, node in enumerate(body):
            if calls(node, name):
                needed = [*behind(node, body[:number]), node]
                for nodes in (needed, [node]):
                    lines = [line for part in nodes for line in lines_at(part, text)]
                    if len(lines) <= EXAMPLE_LINES:
                        if nodes is needed:
                            return lines
                        best = best or lines
    return best


def lines_at(
    node,  # ast of a statement
    text,  # the cell
):  # list of str
    "The lines of a statement."
    return text.splitlines()[node.lineno - 1 : node.end_lineno]


def behind(
    node,  # ast of a statement
    before,  # list of ast: what stands above it in its cell
):  # list of ast
    "The statements above that give a name which this one needs."
    needed, found = loaded(node), []
    for item in reversed(before):
        bound = {
            part.id
            for part in ast.walk(item)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        if bound & needed and isinstance(item, ast.Assign | ast.AnnAssign):
            needed = (needed - bound) | loaded(item)
            found.insert(0, item)
    return found


def loaded(
    node,  # ast of a statement
):  # set of str
    "The names that a statement uses."
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    return {part.id for part in names if isinstance(part.ctx, ast.Load)}


def calls(
    node,  # ast of a statement
    name,  # of a function or a class
):  # bool
    "Whether a statement calls something, and defines nothing."
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return False
    called = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
    called += [part.value for part in called if isinstance(part, ast.Attribute)]
    return any(isinstance(part, ast.Name) and part.id == name for part in called)


# The docstring


def entry(
    head,  # such as "image:"
    text,  # what it is
    indent,  # int, of the entry
):  # str
    "One line of a list in a docstring, with what hangs below it."
    return textwrap.fill(
        f"{head} {text}",
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 4),
        break_long_words=False,
        break_on_hyphens=False,
    )


def docstring(
    sentence,  # what it is
    notes,  # see header_notes
    result,  # str, the type of the result, or ""
    errors,  # list of (error, when)
    example,  # list of str
    indent,  # int, of the function's body
):  # str, the lines of a docstring with its quotes
    "Put together what is known of a function, in Google's form."
    pad, parts = " " * indent, []
    named = {name: text for name, text in notes.items() if name}
    if named:
        rows = [entry(f"{name}:", text, indent + 4) for name, text in named.items()]
        parts.append("\n".join([f"{pad}Args:", *rows]))
    if notes.get(""):
        row = entry(f"{result}:" if result else "", notes[""], indent + 4)
        parts.append(f"{pad}Returns:\n{row}")
    if errors:
        rows = [entry(f"{name}:", text, indent + 4) for name, text in errors[:ERRORS]]
        parts.append("\n".join([f"{pad}Raises:", *rows]))
    if example:
        inner = ("", " ", ")", "]", "}")  # how the further lines of a statement begin
        marks = ["..." if line[:1] in inner else ">>>" for line in example]
        lines = zip(marks, example, strict=True)
        rows = [f"{pad}    {mark} {line}" for mark, line in lines]
        parts.append("\n".join([f"{pad}Example:", *(row.rstrip() for row in rows)]))
    body = "\n\n".join([sentence, *parts])
    mark = 'r"""' if "\\" in body else '"""'
    return f'{pad}{mark}{body.replace(chr(34) * 3, chr(39) * 3)}\n{pad}"""'


def public_nodes(
    tree,  # ast.Module
):  # iterator of (owner or None, node)
    "Functions, classes and public methods of a module."
    for node in tree.body:
        if getattr(node, "name", "_")[0] == "_":
            continue
        yield None, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                public = isinstance(inner, ast.FunctionDef) and (
                    inner.name[0] != "_" or inner.name == "__call__"
                )
                if public:
                    yield node, inner


def changes_of(
    owner,  # ast.ClassDef, or None
    node,  # ast.FunctionDef or ast.ClassDef
    context,  # dict with text, comments, helpers, cells and the cells' lines
):  # (docstring, list of functions and fields whose comments move into it), or None
    "The docstring of one function or class."
    comments, function = context["comments"], node
    if isinstance(node, ast.ClassDef):
        inits = [part for part in node.body if getattr(part, "name", "") == "__init__"]
        function = inits[0] if inits else None
    sentence = ast.get_docstring(node)
    if not sentence or "\n" in sentence:
        return None
    notes = header_notes(function, comments) if function else {}
    moved = [function] if function else fields_of(node)
    if not function:
        notes = field_notes(node, comments)
    result = getattr(function, "returns", None)
    result = ast.unparse(result) if result and function is node else ""
    errors = []
    if function:
        errors = raised_by(function, context["helpers"], context["others"])
    cell = max((line, cell) for line, cell in context["at"] if line <= node.lineno)[1]
    example = [] if owner else example_of(node.name, context["cells"], cell)
    if example:
        where = f"# in {context['notebook']}, where its other names come from"
        example = [where, f"from {context['module']} import {node.name}", *example]
    if not notes and not errors and not example:
        return None
    indent = node.col_offset + 4
    return docstring(sentence, notes, result, errors, example, indent), moved


def cells_of(
    path,  # a notebook
):  # list of (cell id, text)
    "The code cells of a notebook."
    notebook = json.loads(path.read_text("utf-8"))
    return [
        (cell["id"], "".join(cell["source"]))
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def written(
    text,  # a module as nbdev writes it
    folder,  # Path of the folder in which the module stands
    module,  # its name, such as "unet_tutorial.tiles"
):  # str
    "The module with its docments in its docstrings."
    at = [
        (number, CELL.match(line))
        for number, line in enumerate(text.splitlines(), start=1)
        if CELL.match(line)
    ]
    if not at:
        return text
    tree = ast.parse(text)
    package = folder.joinpath(*[".."] * module.count("."))
    context = {
        "module": module,
        "comments": comments_of(text),
        "helpers": functions_in(tree),
        "others": checks_elsewhere(tree, folder, package),
        "cells": cells_of(folder / at[0][1][1]),
        "notebook": Path(at[0][1][1]).stem,
        "at": [(number, match[2]) for number, match in at],
    }
    lines, edits = text.splitlines(), []
    for owner, node in public_nodes(tree):
        if change := changes_of(owner, node, context):
            first = node.body[0]
            edits.append((first.lineno, first.end_lineno, change[0].splitlines()))
            for part in change[1]:
                edits += stripped(part, lines, context["comments"])
    for begin, end, new in sorted(edits, reverse=True):
        lines[begin - 1 : end] = new
    return "\n".join(lines) + "\n"


def stripped(
    node,  # ast.FunctionDef, or ast.AnnAssign of a field
    lines,  # list of str: the module
    comments,  # see comments_of
):  # list of (first line, last line, new lines)
    "The head of a function, or a field, without its comments."
    edits, end = [], node.end_lineno + 1
    if isinstance(node, ast.FunctionDef):
        end = node.body[0].lineno
    for number in range(node.lineno, end):
        text, alone = comments.get(number, ("", False))
        if text:
            new = [] if alone else [cut(lines[number - 1])]
            edits.append((number, number, new))
    return edits


def cut(
    line,  # of Python, with a comment behind it
):  # str
    "A line without its comment."
    readline = io.StringIO(line).readline
    try:
        for token in tokenize.generate_tokens(readline):
            if token.type == tokenize.COMMENT:
                return line[: token.start[1]].rstrip()
    except tokenize.TokenError:  # a bracket that is closed in a later line
        pass
    return line.rpartition("  #")[0].rstrip()


def write(
    library=ROOT / "unet_tutorial",  # the package, as nbdev_export left it
):  # None
    "Give every module of the package its docstrings."
    for path in sorted(library.rglob("*.py")):
        name = ".".join(path.relative_to(library.parent).with_suffix("").parts)
        text = path.read_text("utf-8")
        new = written(text, path.parent, name)
        if new != text:
            path.write_text(new, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1])) if len(sys.argv) > 1 else write()
