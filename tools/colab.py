"""Run the course as Colab would: with its versions, from one file, in an empty folder.

python tools/colab.py VENV [--python PYTHON] [NAME ...]

VENV becomes a twin of Colab's environment: Python 3.13 and the versions of colab.txt,
without nbdev and JupyterLab. `your_data` is the form for people who do not code, filled
in with practice images and seconds of training. The package goes into it as a wheel, as
the first cell of the notebooks installs it, and must change no version that was there.
Then each notebook is executed in an empty folder of its own, far from this repository.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import course
import form
import notebooks
from notebooks import ROOT

PINS = ROOT / "tools" / "colab.txt"
PYTHON = "3.13"
ABSENT = ("nbdev", "jupyterlab")


def stop(
    message,  # str
):
    "End with a message instead of a traceback."
    sys.exit(f"colab: {message}")


def is_right(
    python,  # name or path of a Python
    version=PYTHON,  # that it must have
):  # bool
    "Whether it is the Python that Colab has, or of another version."
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    command = [str(python), "-c", code]
    try:
        shown = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return False
    return shown.stdout.strip() == version


def places(
    version=PYTHON,  # such as "3.13"
):  # list of str
    "Where a Python of a version is, if it is in a usual place."
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    usual = [sys.executable, f"python{version}"]
    return usual + sorted(str(p) for p in versions.glob(f"{version}.*/bin/python"))


def find_python(
    given="",  # the one that the user named
):  # str
    "A Python of Colab's version: the one named, or one of the usual places."
    for python in [given] if given else places():
        if is_right(python):
            return python
    stop(
        f"{given or 'none of the Pythons here'} is not Python {PYTHON}, which Colab "
        f"has. Get it with `uv python install {PYTHON}`, `pyenv install {PYTHON}`, or "
        f"from python.org, then: make colab COLAB_PYTHON=/path/to/python{PYTHON}"
    )


def make_twin(
    venv,  # Path
    python,  # name or path of the Python for it
):  # Path of the twin's Python
    "The environment with Colab's versions, made once."
    twin, done = venv / "bin" / "python", venv / "colab.txt"
    if done.exists() and done.read_text(encoding="utf-8") == PINS.read_text(
        encoding="utf-8"
    ):
        return twin
    print(f"making a twin of Colab in {venv}: some gigabytes, some minutes", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(twin), "-m", "pip", "install", "-q", "-r", PINS], check=True)
    done.write_text(PINS.read_text(encoding="utf-8"), encoding="utf-8")
    return twin


def versions(
    twin,  # its Python
):  # dict of package name to version
    "What is installed in the twin."
    command = [str(twin), "-I", "-m", "pip", "list", "--format=json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    return {row["name"]: row["version"] for row in json.loads(shown.stdout)}


def install(
    twin,  # its Python
    folder,  # an empty folder, for the wheel
):  # list of complaints
    "Install the package as the first cell does, and say what else that changed."
    # -I: pip must not take the modules of this repository for an installed package.
    pip, name = [str(twin), "-I", "-m", "pip"], notebooks.settings()["lib_name"]
    subprocess.run([*pip, "uninstall", "-q", "-y", name], check=True)
    before = versions(twin)
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # modules of yesterday
    wheel = [*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(wheel, check=True)
    subprocess.run([*pip, "install", "-q", next(folder.glob("*.whl"))], check=True)
    after = versions(twin)
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    changed = [key for key in changed if key.replace("-", "_") != name]
    told = [f"{key}: {before.get(key)} became {after.get(key)}" for key in changed]
    return told + [
        f"{key} is there, and Colab has none" for key in ABSENT if key in after
    ]


def run(
    names,  # notebooks, or [] for all
    twin,  # its Python
    folder,  # where each notebook gets an empty folder of its own
):  # int, the exit status
    "Execute each notebook as a single file."
    runs, start, own = [], time.monotonic(), Path(form.FORM).stem
    rest = [name for name in names if name != own]
    paths = notebooks.choose(rest) if rest or not names else []
    if own in names or not names:
        paths.append(form.quick(folder / "form"))
    paths = course.by_length(paths)
    for run in course.execute_all(paths, folder, root=None, python=str(twin)):
        runs.append(run)
        print(run.line(), flush=True)
    bad = [notebooks.name_of(run.path) for run in runs if run.error]
    return course.summarize(runs, bad, time.monotonic() - start)


def main():
    "Read the command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("venv", type=Path, help="the twin's environment")
    parser.add_argument("names", nargs="*", help="notebooks such as 05_model")
    parser.add_argument("--python", default="", help=f"a Python {PYTHON}")
    args = parser.parse_args()
    twin = make_twin(args.venv.resolve(), find_python(args.python))
    with tempfile.TemporaryDirectory(prefix="colab") as folder:
        complaints = install(twin, Path(folder))
        for text in complaints:
            print(f"the first cell would change Colab: {text}")
        status = run(args.names, twin, Path(folder))
    sys.exit(status or bool(complaints))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped")
