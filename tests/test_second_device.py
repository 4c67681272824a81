"""The library on a second device, in a process of its own."""

import subprocess
import sys

import pytest
import second_device
from conftest import ROOT


@pytest.mark.skipif(
    not second_device.can_be_installed(),
    reason="this torch takes no device that is written in Python",
)
def test_nothing_is_misplaced_and_nobody_waits_for_nothing():
    "See on_second_device.py: the device would change what other tests see."
    file = ROOT / "tests" / "on_second_device.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert " passed" in run.stdout or "100%" in run.stdout


def test_the_device_is_not_in_this_process():
    import torch

    assert not hasattr(torch, second_device.NAME)
