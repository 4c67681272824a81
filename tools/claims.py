"""The ledger of the paper's claims, and the page of the course made from it."""

import ast
import csv
from configparser import ConfigParser

from notebooks import ROOT

STATUSES = {
    "reproduced": "the paper says it, and a test shows it",
    "computed": "it follows from the paper, and a test shows it",
    "shown": "a notebook shows it",
    "measured": "on data that are public, beside the paper's number: rows in results/",
    "not here": "with the reason",
}
ROWS = [f"A{n}" for n in range(1, 13)] + [f"{x}{n}" for x in "BE" for n in range(1, 7)]


def read(
    root=ROOT,  # the repository
):  # ConfigParser, a section a claim
    "The ledger."
    ledger = ConfigParser(delimiters=["="], interpolation=None)
    ledger.read(root / "claims.ini", encoding="utf-8")
    return ledger


def existing_tests(
    root=ROOT,  # the repository
):  # set of "test_file.py::test_name"
    "Every test function there is, without importing one."
    found = set()
    for path in (root / "tests").glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        found |= {f"{path.name}::{name}" for name in names if name.startswith("test_")}
    return found


def measured_rows(
    name,  # of a table in results/
    root=ROOT,  # the repository
):  # int
    "How many rows of a table hold a value, and not a note that none was measured."
    path = root / "results" / name
    if not path.is_file():
        return 0
    with open(path, newline="", encoding="utf-8") as file:
        return sum(not row.get("note") for row in csv.DictReader(file))


def problems(
    ledger,  # ConfigParser
    tests,  # set of "test_file.py::test_name"
    names,  # set of notebooks
):  # list of str
    "What is missing or wrong in the ledger."
    found = [f"{row}: it is not in claims.ini" for row in ROWS if row not in ledger]
    found += [f"{row}: no such claim" for row in ledger.sections() if row not in ROWS]
    for row in ledger.sections():
        entry = ledger[row]
        status = entry.get("status", "")
        proofs, shown = (entry.get(key, "").split() for key in ("tests", "notebook"))
        if status not in STATUSES:
            found.append(f"{row}: status {status!r}; {', '.join(STATUSES)} would work")
        if status in ("reproduced", "computed") and not proofs:
            found.append(f"{row}: {status}, but without a test")
        if status == "shown" and not shown:
            found.append(f"{row}: shown, but in no notebook")
        tables = entry.get("results", "").split()
        if status == "measured" and not (tables and entry.get("reason")):
            found.append(f"{row}: measured, but without results or without a reason")
        found += [
            f"{row}: no row is measured in results/{table}"
            for table in tables
            if not measured_rows(table)
        ]
        if status == "not here" and not entry.get("reason"):
            found.append(f"{row}: not here, but without a reason")
        found += [f"{row}: there is no test {t}" for t in proofs if t not in tests]
        found += [f"{row}: there is no notebook {n}" for n in shown if n not in names]
    return found


def page(
    ledger,  # ConfigParser
):  # str, markdown
    "The page of the course: a row a claim."
    lines = [
        "# What the paper claims, and what proves it here",
        "",
        "> Every claim of the paper has a row: reproduced or computed, with the test",
        "> that shows it; shown in a notebook; measured on data that are public, with",
        "> its rows in `results/`; or not reproducible here, and why.",
        "",
        "Written from `claims.ini` by `make links`. A row without a proof or a reason,",
        "or a test that does not exist, fails `make test`.",
        "",
        "| | claim | status | where |",
        "|---|---|---|---|",
    ]
    for row in ledger.sections():
        entry = ledger[row]
        where = [f"[{n}]({n}.ipynb)" for n in entry.get("notebook", "").split()]
        where += [f"`results/{name}`" for name in entry.get("results", "").split()]
        where += [f"`{test.split('::')[1]}`" for test in entry.get("tests", "").split()]
        status = entry["status"]
        if entry.get("reason"):
            status += f": {entry['reason']}"
        lines.append(f"| {row} | {entry['claim']} | {status} | {', '.join(where)} |")
    return "\n".join(lines) + "\n"
