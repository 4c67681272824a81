"""The package: what its wheel holds and needs, and what importing it costs."""

import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import notebooks as files
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "unet_tutorial"
BUILD = """
import os, sys
from setuptools import build_meta
print(build_meta.build_wheel(sys.argv[1]))
"""
BLOCKED = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""


def run(
    code,  # Python
    folder,  # where it runs
    *arguments,  # of the script
):  # str, what it printed
    "Run Python by itself, on this clone's library."
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):  # zipfile.ZipFile
    "The wheel, built from a copy without a network."
    pytest.importorskip("setuptools", minversion="70")
    folder = tmp_path_factory.mktemp("wheel") / "source"
    folder.mkdir()
    for name in "settings.ini setup.py pyproject.toml README.md LICENSE".split():
        shutil.copy(ROOT / name, folder)
    for name in ("unet_tutorial", "tests", "tools", "nbs"):
        ours = ("data", "runs") if name == "nbs" else ()  # what notebooks wrote
        ignored = shutil.ignore_patterns("__pycache__", *ours)
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    told = run(BUILD, folder, str(folder.parent))
    with zipfile.ZipFile(folder.parent / told.split()[-1]) as file:
        yield file


@pytest.fixture(scope="module")
def metadata(wheel):  # mapping
    "What the wheel says of itself."
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_modules_and_recipes_only(wheel):
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    recipes = [f"recipes/{p.name}" for p in PACKAGE.glob("recipes/*.json")]
    modules = [p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py")]
    assert len(recipes) >= 2
    assert sorted(names) == sorted(f"unet_tutorial/{n}" for n in modules + recipes)
    assert any(name.endswith("LICENSE") for name in wheel.namelist())


def test_the_wheel_says_what_settings_say(metadata):
    settings = files.settings(ROOT)
    assert metadata["Name"].replace("-", "_") == settings["lib_name"]
    assert metadata["Version"] == settings["version"]
    assert "Apache-2.0" in (metadata["License"], metadata["License-Expression"])
    assert f">={settings['min_python']}" in metadata["Requires-Python"]


def test_the_wheel_needs_what_settings_require(metadata):
    needs = metadata.get_all("Requires-Dist")
    bare = sorted(need for need in needs if "extra ==" not in need)
    assert bare == sorted(files.settings(ROOT)["requirements"].split())
    text = " ".join(bare)
    for tool in ("nbdev", "fastcore", "execnb", "jupyter", "ipywidgets", "pytest"):
        assert tool not in text
    extras = {"course", "dev", "kaggle"}
    assert extras <= set(metadata.get_all("Provides-Extra"))


def test_the_wheel_brings_the_command(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "unet-tutorial = unet_tutorial.cli:main" in wheel.read(name).decode()


MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("[!_]*.py")
)
TOOLS = ["nbdev", "fastcore", "execnb", "ghapi", "jupyterlab", "ipywidgets"]


def test_every_module_imports_without_the_tools(tmp_path):
    lines = [f"import unet_tutorial.{name}" for name in MODULES]
    run(BLOCKED.format(names=TOOLS) + "\n".join(lines), tmp_path)


@pytest.mark.skipif("model" not in MODULES, reason="there is no module `model` yet")
def test_the_model_imports_torch_and_nothing_else(tmp_path):
    code = "import sys, torch\nbefore = set(sys.modules)\nimport unet_tutorial.model\n"
    code += "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    new = set(run(code, tmp_path).split()) - set(sys.stdlib_module_names)
    assert new == {"unet_tutorial"}
