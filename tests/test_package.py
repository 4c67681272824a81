"""The package: what its wheel holds and needs, what importing it costs, its net."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import notebooks as files
import public
import pytest
import small_net
from layers import WINGS

import unet_tutorial
from unet_tutorial.runs.weights import load_net

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "unet_tutorial"
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[2])(sys.argv[1]))
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


def test_a_folder_that_holds_the_clone_finds_the_package(tmp_path):
    """The clone is called like the package, and Python looks beside a script first."""
    (tmp_path / "unet_tutorial").mkdir()
    code = "from unet_tutorial.model import UNet; print(UNet.__module__)"
    env = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=tmp_path, env=env, text=True) == (
        "unet_tutorial.model\n"
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):  # Path
    "A copy of the repository, as far as the package is built from it."
    pytest.importorskip("setuptools", minversion="70")
    folder = tmp_path_factory.mktemp("package") / "source"
    folder.mkdir()
    names = "settings.ini setup.py pyproject.toml README.md LICENSE MANIFEST.in"
    for name in names.split():
        shutil.copy(ROOT / name, folder)
    for name in ("unet_tutorial", "tests", "tools", "nbs"):
        ours = ("data", "runs") if name == "nbs" else ()  # what notebooks wrote
        ignored = shutil.ignore_patterns("__pycache__", *ours)
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def sdist(source):  # Path of a folder: what the source distribution unpacks to
    "The source distribution, built from a copy without a network."
    told = run(BUILD, source, str(source.parent), "sdist")
    with tarfile.open(source.parent / told.split()[-1]) as file:
        file.extractall(source.parent / "unpacked")
    (folder,) = (source.parent / "unpacked").iterdir()
    return folder


@pytest.fixture(scope="module")
def wheel(sdist):  # zipfile.ZipFile
    "The wheel, built from the source distribution as pip would."
    told = run(BUILD, sdist, str(sdist.parent), "wheel")
    with zipfile.ZipFile(sdist.parent / told.split()[-1]) as file:
        yield file


@pytest.fixture(scope="module")
def metadata(wheel):  # mapping
    "What the wheel says of itself."
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_modules_recipes_and_nets_only(wheel):
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    ours = [
        p for kind in ("py", "json", "safetensors") for p in PACKAGE.rglob("*." + kind)
    ]
    ours = [p.relative_to(PACKAGE.parent).as_posix() for p in ours]
    assert sorted(names) == sorted([*ours, "unet_tutorial/py.typed"])
    assert "unet_tutorial/nets/membranes.safetensors" in ours
    assert sum(name.startswith("unet_tutorial/recipes/") for name in ours) >= 2
    for wing in WINGS:
        assert f"unet_tutorial/{wing}/__init__.py" in ours
    assert any(name.endswith("LICENSE") for name in wheel.namelist())


def test_the_source_distribution_holds_the_library_and_what_builds_it(sdist, wheel):
    names = {p.relative_to(sdist).as_posix() for p in sdist.rglob("*") if p.is_file()}
    names = {name for name in names if not re.match(r"build/|[^/]*\.egg-info/", name)}
    library = {name for name in wheel.namelist() if ".dist-info/" not in name}
    build = "settings.ini setup.py setup.cfg pyproject.toml MANIFEST.in"
    assert names == library | {*build.split(), "README.md", "LICENSE", "PKG-INFO"}


def test_what_is_no_code_is_in_the_wheel(wheel):
    names = wheel.namelist()
    for place in ("quiz/05_model.json", "recipes/paper.json", "lessons/_02_sizes.py"):
        assert f"unet_tutorial/{place}" in names
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    assert not [name for name in names if name.startswith(("tests/", "nbs/", "tools/"))]


def test_a_task_opens_from_the_wheel(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = "import sys; sys.path.insert(0, sys.argv[1])\n"
    code += "from unet_tutorial import tasks\n"
    code += "assert tasks.__file__.startswith(sys.argv[1]), tasks.__file__\n"
    code += "for task in tasks.tasks_of('02_sizes'): task.hint(); task.solution()\n"
    code += "tasks.open_task('2.1').check(len)"
    told = run(code, tmp_path, str(tmp_path))
    assert "1 of 3:" in told and "def walk(size" in told and "wrong: " in told


def test_the_wheel_says_what_settings_say(metadata):
    settings = files.settings(ROOT)
    assert metadata["Name"].replace("-", "_") == settings["lib_name"]
    assert metadata["Version"] == settings["version"]
    assert "Apache-2.0" in (metadata["License"], metadata["License-Expression"])
    assert metadata["Requires-Python"] == f">={settings['min_python']}"
    newest = f"Programming Language :: Python :: {settings['max_python']}"
    assert newest in metadata.get_all("Classifier")


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


def test_the_package_alone_imports_nothing(tmp_path):
    code = "import sys\nbefore = set(sys.modules)\nimport unet_tutorial\n"
    code += "print(*sorted(set(sys.modules) - before))"
    assert run(code, tmp_path).split() == ["unet_tutorial"]


def test_the_main_names_are_offered_and_come_from_their_modules(tmp_path):
    code = "import sys, unet_tutorial as u\n"
    code += "assert set(u._HOMES) <= set(dir(u)) and '__version__' in dir(u)\n"
    code += "for name, home in u._HOMES.items():\n"
    code += "    value = getattr(u, name)\n"
    code += "    assert value is getattr(sys.modules['unet_tutorial.' + home], name)\n"
    code += "    assert value.__module__ == 'unet_tutorial.' + home, name\n"
    code += "    assert name in vars(u), 'it is not remembered'\n"
    code += "from unet_tutorial import UNet, fit"
    run(code, tmp_path)


def test_an_editor_sees_the_main_names():
    "What is imported lazily is imported for a type checker, too."
    text = (PACKAGE / "__init__.py").read_text("utf-8")
    seen = re.findall(r"    from \.(\S+) import (\w+) as (\w+)", text)
    assert all(name == again for _, name, again in seen)
    assert {name: home for home, name, _ in seen} == unet_tutorial._HOMES


def test_a_module_is_no_main_name():
    assert not set(unet_tutorial._HOMES) & set(MODULES)
    with pytest.raises(AttributeError, match="no attribute 'Unet'"):
        unet_tutorial.Unet  # noqa: B018


def test_public_names_and_signatures_change_on_purpose_only():
    kept = public.LIST.read_text("utf-8").splitlines()
    now = public.public().splitlines()
    added, gone = sorted(set(now) - set(kept)), sorted(set(kept) - set(now))
    text = "is this change meant? python tools/public.py writes the list anew"
    assert not (added or gone), "\n".join([text, "gone:", *gone, "added:", *added])
    assert now == kept, text


def test_the_list_of_public_names_shows_what_importers_rely_on():
    kept = public.LIST.read_text("utf-8").splitlines()
    (net,) = [n for n, line in enumerate(kept) if ".model.UNet(" in line]
    assert kept[net + 1].lstrip().startswith(".__init__(self, in_channels: int=1, ")
    classes = {line.split()[-1].split("(")[0] for line in kept if line[0] == "c"}
    functions = {line.split("(")[0] for line in kept if line[0] == "u"}
    for name, home in unet_tutorial._HOMES.items():
        assert f"unet_tutorial.{home}.{name}" in classes | functions


# The net that ships


def test_the_small_net_is_small_and_says_how_it_was_made():
    assert small_net.NET.stat().st_size <= 600_000
    model, notes = load_net(small_net.NET)
    assert (model.in_channels, model.num_classes) == (1, 2)
    assert notes["command"] == f"python tools/small_net.py --steps {small_net.STEPS}"
    assert notes["seed"] == small_net.SEED and "torch" in notes["versions"]
    assert not set(small_net.TRAINED_ON) & set(small_net.MEASURED_ON)


def test_the_small_net_finds_membranes_it_has_never_seen():
    model, notes = load_net(small_net.NET)
    dice = small_net.measure(model)
    assert dice > 0.88
    assert abs(dice - notes["dice"]) < 0.001
