"""Type checkers have nothing to say about the script that uses the main names."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "examples" / "ten_names.py"
SCRIPTS = Path(sysconfig.get_path("scripts"))
CHECKERS = {
    "mypy": ["--strict", "--follow-imports=silent", "--cache-dir"],
    "pyright": ["--pythonpath", sys.executable],
}


def told(
    checker,  # of CHECKERS
    script,  # Path
    folder,  # where it may keep what it remembers
):  # (exit status, what it printed)
    "Run a type checker on a script, against this clone's library."
    program = shutil.which(checker, path=str(SCRIPTS))
    if program is None:
        pytest.skip(f"{checker} is not installed")
    options = [*CHECKERS[checker], *([str(folder)] if checker == "mypy" else [])]
    done = subprocess.run(
        [program, *options, str(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_main_names_have_types(checker, tmp_path):
    status, text = told(checker, SCRIPT, tmp_path)
    assert status == 0, text


def test_a_wrong_call_is_seen(tmp_path):
    "The names are no `Any`, about which a checker would be silent."
    script = tmp_path / "wrong.py"
    right = "from unet_tutorial.predict import Notes, look_at, silent\n"
    wrong = "from unet_tutorial import UNet\nUNet(depth='four')\n"
    script.write_text(right + wrong)
    status, text = told("mypy", script, tmp_path)
    assert status == 1 and "depth" in text and "arg-type" in text
    assert text.count("error:") == 1, text
