"""Write the public names of the library, with their signatures, into one list.

    python tools/public.py

The list is tests/public_names.txt. A test says when the library differs from it: who
changes a name, a parameter or a default does so on purpose, and reviewers see it.
"""

import ast

from notebooks import ROOT

LIST = ROOT / "tests" / "public_names.txt"
SHOWN = ("__init__", "__call__", "__len__", "__getitem__", "__iter__")  # and no "_"


def offered(
    tree,  # ast.Module
):  # list of names, as in __all__
    "What a module offers."
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    return []


def signature(
    node,  # a function or a method
):  # str such as "(x: Tensor, size: int = 3) -> Tensor"
    "Parameters, their types and defaults, and what is returned."
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returns}"


def members(
    node,  # ast.ClassDef
):  # iterator over str
    "The fields and methods of a class."
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not item.target.id.startswith("_"):
            value = f" = {ast.unparse(item.value)}" if item.value else ""
            yield f".{item.target.id}: {ast.unparse(item.annotation)}{value}"
        if isinstance(item, ast.FunctionDef):
            if item.name in SHOWN or not item.name.startswith("_"):
                wraps = {ast.unparse(name) for name in item.decorator_list}
                kind = " (property)" if "property" in wraps else ""
                yield f".{item.name}{signature(item)}{kind}"


def described(
    path,  # Path of a module
):  # iterator over str
    "A line for each public name of a module, and for each member of a class."
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text("utf-8"))
    names = set(offered(tree))
    for node in tree.body:
        if getattr(node, "name", None) not in names:
            continue
        whole = f"{module}.{node.name}"
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            yield f"class {whole}({bases})" if bases else f"class {whole}"
            yield from (f"    {line}" for line in members(node))
        else:
            yield whole + signature(node)
        names.discard(node.name)
    yield from (f"{module}.{name}" for name in sorted(names))  # constants


def public():  # str, the whole list
    "The list, as it should be now."
    paths = sorted((ROOT / "unet_tutorial").rglob("[!_]*.py"))
    return "".join(f"{line}\n" for path in paths for line in described(path))


if __name__ == "__main__":
    LIST.write_text(public(), encoding="utf-8")
    print(f"{LIST.relative_to(ROOT)}: {len(public().splitlines())} lines")
