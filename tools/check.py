"""All checks in their order: `make test`. With --export: `make export`.

Checks look at a copy where they would change something, never at the sources.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import docments
from course import cores
from notebooks import ROOT, reading_order, relative

TOOLS = Path(sysconfig.get_path("scripts"))
# Files go to one core each, so that what their tests share is made once; in the order
# of tests/conftest.py, where those that take long come first.
SHARED_OUT = ["--dist", "loadfile", "--no-loadscope-reorder"]
FOLDERS = "app benchmarks examples experiments nbs site tests tools".split()
LESSONS = "unet_tutorial/lessons"  # written by hand, as no notebook can hold answers
SOURCES = [*FOLDERS, LESSONS, "hubconf.py", "setup.py"]


def command(
    name,  # a program of the virtual environment
    *arguments,  # what it is told
):  # list of str
    "A program as the environment has it, not as the user's PATH has it."
    return [str(TOOLS / name), *map(str, arguments)]


def tells(
    arguments,  # list of str: the command
    folder=ROOT,  # where it runs
):  # str, what it printed when it failed, else ""
    "Run a command that is silent when all is well."
    env = {name: os.environ[name] for name in os.environ if name != "IN_TEST"}
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return "" if done.returncode == 0 else done.stdout or "it failed without a word"


def copied(
    folder,  # an empty folder
    root=ROOT,  # the repository
):  # Path, the same folder
    "The settings and the notebooks, where nbdev may change them."
    shutil.copy(root / "settings.ini", folder)
    (folder / "nbs").mkdir()
    for path in reading_order(root / "nbs"):
        place = folder / "nbs" / relative(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (folder / "unet_tutorial").mkdir()
    for name in ("__init__.py", "__main__.py"):  # no notebook writes these two
        if (root / "unet_tutorial" / name).exists():
            shutil.copy(root / "unet_tutorial" / name, folder / "unet_tutorial")
    if (root / LESSONS).exists():
        shutil.copytree(root / LESSONS, folder / LESSONS)
    return folder


def differing(
    ours,  # folder of the working tree
    theirs,  # folder of the copy
    pattern,  # which files, such as "*.py"
):  # list of str
    "Files that differ, or stand on one side only."
    names = {
        path.relative_to(top).as_posix()
        for top in (ours, theirs)
        for path in top.rglob(pattern)
        if "checkpoints" not in str(path) and path.name[0] != "."
    }
    return [
        name
        for name in sorted(names)
        if not (ours / name).exists()
        or not (theirs / name).exists()
        or (ours / name).read_bytes() != (theirs / name).read_bytes()
    ]


def ruff_lint():  # str, empty when all is well
    "The linter, on notebooks too."
    told = tells(command("ruff", "check", "--no-cache", *SOURCES))
    return (
        told and f"{told}ruff found the above; much of it goes with: ruff check --fix"
    )


def ruff_format():  # str, empty when all is well
    "The formatter, on notebooks too."
    told = tells(command("ruff", "format", "--check", *SOURCES))
    return told and f"{told}not formatted: run ruff format {' '.join(SOURCES)}"


def nbdev_clean(
    root=ROOT,  # the repository
):  # str, empty when all is well
    "Whether the notebooks hold nothing but what they should."
    with tempfile.TemporaryDirectory() as name:
        copy = copied(Path(name), root)
        told = tells(command("nbdev_clean"), copy)
        stale = differing(root / "nbs", copy / "nbs", "[!._]*.ipynb")
    if told or stale:
        return f"{told}not clean: {' '.join(stale)}: run make export"
    return ""


def exported(
    folder,  # with nbs/, unet_tutorial/ and settings.ini
):  # str, what went wrong, or ""
    "Write the library of a folder, with the docments in its docstrings."
    told = tells(command("nbdev_export"), folder)
    if not told:
        docments.write(folder / "unet_tutorial")
    return told


def nbdev_export(
    root=ROOT,  # the repository
):  # str, empty when all is well
    "Whether every module is what its notebook exports."
    with tempfile.TemporaryDirectory() as name:
        copy = copied(Path(name), root)
        told = exported(copy)
        stale = differing(root / "unet_tutorial", copy / "unet_tutorial", "*.py")
        orphans = [
            file for file in stale if not (copy / "unet_tutorial" / file).exists()
        ]
    if not told and not stale:
        return ""
    text = f"{told}notebooks and library are not in sync: run make export\n"
    text += f"  differing: {' '.join(stale)}"
    if orphans:
        text += f"\n  no notebook exports these, delete them: {' '.join(orphans)}"
    return text


def site():  # str, empty when all is well
    "The website, where what builds it is installed; tests/browser opens it."
    import website  # it imports the library, which `make export` may have to mend

    reason = website.unready()
    if reason:
        print(f"   skipped: {reason}", flush=True)
        return ""
    return "" if website.main() == 0 else "the website has warnings: see above"


def pytest():  # str, empty when all is well
    "The tests, in view, side by side on all cores, with one thread each."
    env = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    command = [sys.executable, "-m", "pytest", "-n", str(cores()), *SHARED_OUT]
    status = subprocess.call(command, cwd=ROOT, env=env)
    return "" if status == 0 else "a test fails: see above"


def outputs():  # str, empty when all is well
    "The notebooks, executed in view and compared."
    script = str(ROOT / "tools" / "course.py")
    status = subprocess.call([sys.executable, script, "compare"], cwd=ROOT)
    return "" if status == 0 else "a notebook fails or its outputs are stale: see above"


STEPS = {
    "ruff check": ruff_lint,
    "ruff format": ruff_format,
    "nbdev_clean changes nothing": nbdev_clean,
    "nbdev_export changes nothing": nbdev_export,
    "the website builds without a warning": site,
    "pytest": pytest,
    "notebooks give their committed outputs": outputs,
}


def test():  # int, the exit status
    "Every step, also after one that failed."
    failed, start = [], time.monotonic()
    for name, step in STEPS.items():
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        told = step()
        if told:
            print(told)
            failed.append(name)
        verdict = "FAILED" if told else "passed"
        print(f"   {verdict} in {time.monotonic() - begin:.1f} s", flush=True)
    seconds = time.monotonic() - start
    print(
        f"== {seconds:.0f} s, {'FAILED: ' + ', '.join(failed) if failed else 'green'}"
    )
    return 1 if failed else 0


def modules(
    root=ROOT,  # the repository
):  # dict of Path to bytes
    "What is in every module now."
    return {path: path.read_bytes() for path in (root / "unet_tutorial").rglob("*.py")}


def rewritten(
    before,  # dict, of modules, when the export began
    root=ROOT,  # the repository
):  # str, empty when no module differed from what its notebook gives
    "Which modules were replaced by what their notebooks give."
    now = modules(root)
    names = [path.relative_to(root).as_posix() for path in now]
    old = {path: before.get(path, text) for path, text in now.items()}
    differed = [n for n in sorted(names) if old[root / n] != now[root / n]]
    differed = [name for name in differed if name != "unet_tutorial/_modidx.py"]
    by_hand = "An edit by hand is gone with that: it belongs in the notebook."
    return f"written anew: {' '.join(differed)}. {by_hand}" if differed else ""


def export():  # int, the exit status
    "Clean the notebooks, then write the library from them."
    before = modules()
    for step in (lambda: tells(command("nbdev_clean")), lambda: exported(ROOT)):
        told = step()
        if told:
            print(told)
            return 1
    if text := rewritten(before):
        print(text)
    print("Notebooks cleaned, library written to unet_tutorial/.")
    return 0


if __name__ == "__main__":
    sys.exit(export() if "--export" in sys.argv[1:] else test())
