"""benchmarks/faults.py: what held, fell, crashed and hung is counted as such."""

import subprocess
import sys

from conftest import ROOT

TABLE = """
import os, time
import pytest

def crash(folder):
    os._exit(3)

def false(folder):
    print("noise")
    assert False, "it is not so"

def fresh(folder):
    assert not any(folder.iterdir())
    (folder / "a").touch()

CASES = {
    "holds": fresh,
    "is false": false,
    "crashes": crash,
    "hangs": lambda folder: time.sleep(60),
    "is for others": lambda folder: pytest.skip("no such disk"),
    "holds again": fresh,
}
"""


def run(folder, *options):
    command = [sys.executable, ROOT / "benchmarks" / "faults.py", "--tests", folder]
    return subprocess.run([*command, *options], capture_output=True, text=True)


def test_each_fate_is_told(tmp_path):
    (tmp_path / "test_faults_any.py").write_text(TABLE)
    done = run(tmp_path, "--limit", "2")
    assert done.returncode == 1, done.stderr
    head, row, *why = done.stdout.splitlines()
    assert head.split() == ["area", "tried", "held", "fell", "skipped", "time"]
    assert row.split()[:5] == ["any", "5", "2", "3", "1"]
    assert [line.strip() for line in why] == [
        "fell: is false: AssertionError: it is not so",
        "fell: crashes: the process ended with status 3",
        "fell: hangs: not done after 2 s",
        "skipped: is for others: Skipped: no such disk",
    ]


def test_all_that_hold_give_status_0_and_a_broken_table_1(tmp_path):
    table = "CASES = {'holds': lambda folder: None}"
    (tmp_path / "test_faults_good.py").write_text(table)
    assert run(tmp_path).returncode == 0
    (tmp_path / "test_faults_bad.py").write_text("import a_module_that_nobody_has")
    done = run(tmp_path, "--area", "bad")
    assert done.returncode == 1 and "cannot be imported" in done.stdout
    done = run(tmp_path, "--area", "nothing")
    assert "there are: bad, good" in done.stderr
