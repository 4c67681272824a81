"""What workflows run exists: targets of make, scripts, their options, groups, files."""

import os
import re
import shlex
import subprocess
from itertools import product

import pytest
from conftest import ROOT
from notebooks import settings

yaml = pytest.importorskip("yaml")

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SETTINGS = settings(ROOT)
FIRST, LAST = (int(SETTINGS[f"{end}_python"].split(".")[1]) for end in ("min", "max"))
PYTHONS = [f"3.{minor}" for minor in range(FIRST, LAST + 1)]


def cases(job):  # list of dict
    "What the matrix of a job comes to, or one empty case."
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    more = matrix.pop("include", [])
    whole = [dict(zip(matrix, row, strict=True)) for row in product(*matrix.values())]
    return whole + more


def filled(text, case):
    "A line with the values of a case."
    return re.sub(r"\$\{\{ *matrix\.(\w+) *\}\}", lambda found: case[found[1]], text)


JOBS = [
    (f"{file.stem}-{name}", job)
    for file in FILES
    for name, job in yaml.safe_load(file.read_text("utf-8"))["jobs"].items()
]
LINES = sorted(
    {
        (name, filled(line, case))
        for name, job in JOBS
        for case in cases(job)
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
    }
)


def wrong_with_make(words):
    "Let make say what it would do."
    done = subprocess.run(
        ["make", "-n", *words], cwd=ROOT, capture_output=True, text=True
    )
    return done.stderr if done.returncode else ""


def wrong_with_pip(words):
    "Groups in brackets are groups of settings.ini; a file of pins was made before."
    found = re.findall(r"\[(\w+)\]", " ".join(words))
    return [name for name in found if f"{name}_requirements" not in SETTINGS]


def wrong_with_python(words):
    "A script is there and knows its options and actions; pytest finds its files."
    if words[:2] == ["-m", "pytest"]:
        paths = [word for word in words[2:] if word.startswith("tests")]
        return [path for path in paths if not (ROOT / path).exists()]
    script = ROOT / words[0]
    if not script.is_file():
        return f"there is no {words[0]}"
    text = script.read_text("utf-8")
    options = [word for word in words[1:] if word.startswith("--")]
    return [word for word in options if f'"{word}"' not in text]


def wrong_with(line):  # falsy, or what is wrong
    "What would go wrong with a line of a workflow, as far as can be seen at once."
    program, *words = shlex.split(line.split(" > ")[0])
    if program == "make":
        return wrong_with_make(words)
    if program in ("pip", ".venv/bin/pip"):
        return wrong_with_pip(words)
    if program in ("python", ".venv/bin/python"):
        return wrong_with_python(words)
    path = ROOT / program
    return not (path.is_file() and os.access(path, os.X_OK)) and f"no {program}"


@pytest.mark.parametrize(("job", "line"), LINES)
def test_a_line_of_a_workflow_names_what_exists(job, line):
    assert not wrong_with(line), f"{job}: {line}"


@pytest.mark.parametrize(
    "line",
    [
        "make sites",
        "pip install .[exports]",
        "python tools/package.py build",
        "python tools/packages.py use --lower",
        "python -m pytest tests/test_packages_of_models.py",
        ".ci/test",
    ],
)
def test_a_line_that_names_what_does_not_exist_is_found(line):
    assert wrong_with(line)


def test_a_job_takes_no_python_that_is_not_promised():
    for name, job in JOBS:
        for case in cases(job):
            for step in job["steps"]:
                asked = step.get("with", {}).get("python-version", "")
                assert set(filled(asked, case).split()) <= set(PYTHONS), name


def test_the_wheel_is_used_with_each_python_every_night():
    job = dict(JOBS)["nightly-wheel"]
    used = [(case["python"], case["args"]) for case in cases(job)]
    assert [python for python, args in used if not args] == PYTHONS
    assert {"--lowest", "--sdist"} <= {args for _, args in used}


def test_packages_for_other_programs_are_validated_every_night():
    lines = [line for name, line in LINES if name.startswith("nightly")]
    (install,) = [line for line in lines if "bioimageio.spec" in line]
    assert "bioimageio.core" in install and ".[export]" in install
    assert any("tests/test_model_package.py" in line for line in lines)
    for name, job in JOBS:
        runs = [step.get("run", "") for step in job["steps"]]
        if install in runs:
            rest = runs[runs.index(install) :]
            assert any("tests/test_model_package.py" in line for line in rest), name


def test_what_continuous_integration_runs_are_targets():
    text = (ROOT / ".ci" / "run").read_text("utf-8")
    targets = re.findall(r"^(?:exec )?(make [\w-]+)$", text, re.MULTILINE)
    assert len(targets) == 2
    assert not [line for line in targets if wrong_with(line)]
