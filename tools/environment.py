"""Make the virtual environment that the Makefile uses, once.

Started by whichever Python the reader has, so it must also run on an old one.
"""

import hashlib
import os
import re
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDS = ("requirements", "course_requirements", "dev_requirements")
# A folder that holds the clone has a folder named like the package. A clone that is a
# path is found there all the same; setuptools' default, a finder, is asked too late.
OURS = ["-e", ".[dev]", "--config-settings", "editable_mode=compat"]


def stop(message):
    "End with a message instead of a traceback."
    sys.exit("setup: " + message)


def read_settings():  # a mapping of strings
    "What `settings.ini` says."
    config = ConfigParser(delimiters=["="])
    config.read(str(ROOT / "settings.ini"), encoding="utf-8")
    return config["DEFAULT"]


def check_version(settings, version, name):
    "Stop if a Python is older than the course allows; of a newer one, say so."
    low, high = settings["min_python"], settings["max_python"]
    if as_numbers(version) < as_numbers(low):
        stop(
            f"{name} is Python {version}, but this course needs Python {low} or newer. "
            f"Name another one, for example: make course PYTHON=python{high}"
        )
    if as_numbers(version) > as_numbers(high):
        print(
            f"setup: {name} is Python {version}; the course is tested with Python "
            f"{low} to {high}. If something fails, try: make course PYTHON=python{high}"
        )


def as_numbers(version):  # tuple of two integers
    "3.10 is newer than 3.9."
    return tuple(int(part) for part in version.split(".")[:2])


def key_of(settings, version):  # str
    "What an installed environment must match: requirements, Python, way of installing."
    needs = [sorted(settings[name].split()) for name in NEEDS]
    text = repr([version, needs, OURS]).encode()
    return hashlib.sha256(text).hexdigest()


def python_of(venv):  # Path
    "The interpreter of a virtual environment."
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def version_of(venv):  # str such as "3.11", or None
    "The version of an environment's Python, if it runs."
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        shown = subprocess.check_output([str(python_of(venv)), "-c", code])
    except (OSError, subprocess.CalledProcessError):
        return None
    return shown.decode().strip()


def create(venv):
    "Make the environment, or finish one whose making was interrupted."
    if not (venv / "pyvenv.cfg").exists() and venv.exists() and os.listdir(str(venv)):
        stop(f"VENV={venv} is a folder that holds something else. Name another one.")
    try:
        import ensurepip  # noqa: F401  Debian ships venv without it
        import venv as _  # noqa: F401
    except ImportError:
        stop(
            "this Python has no venv module. On Debian or Ubuntu install it with "
            "`sudo apt install python3-venv`; or name a Python that has it: "
            "make course PYTHON=python3.12"
        )
    print(f"Making the virtual environment {venv}", flush=True)
    made = subprocess.call([sys.executable, "-m", "venv", str(venv)])
    if made != 0 or version_of(venv) is None:
        stop(f"no virtual environment could be made. Remove {venv} and try again.")


def has_pip(venv):  # bool
    "Whether an environment is whole enough to install into."
    command = [str(python_of(venv)), "-m", "pip", "--version"]
    return subprocess.call(command, stdout=subprocess.DEVNULL) == 0


def install(venv):
    "One pip command for everything, so that torch and torchvision fit together."
    print("Installing the course; the first time this downloads several GB", flush=True)
    print("(mostly torch) and takes some minutes.", flush=True)
    start, log = time.time(), venv / "install.log"
    if pip_install(venv, log, OURS) != 0:
        tail = log.read_text(encoding="utf-8").splitlines()[-15:]
        print("\n".join(tail), flush=True)
        stop(f"pip failed; all that it said is in {log}. Then run make again.")
    print(f"Installed in {time.time() - start:.0f} s.", flush=True)


def install_group(venv, settings, group):
    "Install an optional group of packages; without a network, say what is missing."
    needs = settings[group + "_requirements"]
    stamp = venv / f"unet_tutorial.{group}.stamp"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == needs:
        return
    print(f"Installing {needs}", flush=True)
    log = venv / f"install.{group}.log"
    if pip_install(venv, log, needs.split()) == 0:
        stamp.write_text(needs, encoding="utf-8")
        return
    print(
        f"setup: pip could not install {needs}; what it said is in {log}. What needs "
        "them is left open, all else is done.",
        flush=True,
    )


def pip_install(venv, log, wanted):  # int: the exit status of pip
    "Install what is wanted, tell what takes long, and keep what pip says."
    command = [str(python_of(venv)), "-m", "pip", "install", "--progress-bar", "off"]
    command += wanted
    env = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    with log.open("w", encoding="utf-8") as file:
        pip = subprocess.Popen(
            command,
            cwd=str(ROOT),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for raw in pip.stdout:
            line = raw.decode("utf-8", "replace")
            file.write(line)
            tell(line)
    return pip.wait()


def tell(line):
    "Of pip's many lines, those that explain a wait."
    size = r"\((\d{3}[\d.]* MB|.* GB)\)"
    large = re.search(r"(Downloading|Using cached) (\S+) " + size, line)
    if large:
        print("  " + " ".join(large.groups()), flush=True)
    elif line.startswith("Installing collected packages"):
        print(f"  Unpacking {line.count(',') + 1} packages", flush=True)


def main():
    "Check, create, install, stamp; or nothing at all when the stamp is right."
    venv = Path(os.path.abspath(sys.argv[1]))  # pip runs in another folder
    settings = read_settings()
    set_up(venv, settings)
    for group in sys.argv[2:]:
        install_group(venv, settings, group)


def set_up(venv, settings):
    "Make the environment unless it is there, with all that the course needs."
    stamp = venv / "unet_tutorial.stamp"
    version = version_of(venv)
    if (
        version
        and stamp.exists()
        and stamp.read_text(encoding="utf-8") == key_of(settings, version)
    ):
        return
    if version is None:
        if (venv / "pyvenv.cfg").exists():
            stop(f"the Python of {venv} does not run. Remove {venv} and try again.")
        check_version(settings, "{}.{}".format(*sys.version_info), sys.executable)
    if version is None or not has_pip(venv):
        create(venv)
        version = version_of(venv)
    check_version(settings, version, str(python_of(venv)))
    if stamp.exists():
        stamp.unlink()
    install(venv)
    partial = stamp.with_suffix(".partial")
    partial.write_text(key_of(settings, version), encoding="utf-8")
    partial.replace(stamp)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("interrupted; make goes on where this stopped")
