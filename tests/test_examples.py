"""The examples: each runs from an empty folder, as an importer's script would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_runs(
    path,  # of a script
    tmp_path,  # an empty folder
):
    "It ends well, prints what it found, and leaves nothing behind."
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip(), "it prints nothing"
    assert "Warning" not in done.stderr, done.stderr[-2000:]
    assert not list(tmp_path.iterdir()), "it leaves files behind"


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_is_short(
    path,  # of a script
):
    "It says in one sentence what it shows, and fits a page."
    lines = path.read_text("utf-8").splitlines()
    assert lines[0].startswith('"""')
    assert len([line for line in lines if line.strip()]) <= 60
    assert max(map(len, lines)) <= 88


def test_the_readme_names_every_example():
    "Its table says in a sentence what each one shows."
    text = (ROOT / "README.md").read_text("utf-8")
    assert EXAMPLES
    for path in EXAMPLES:
        assert f"| [`{path.name}`](examples/{path.name}) | " in text, path.name
