"""Get what opens the website as a reader does: Chromium, and axe: `make browser`.

It never fails: it says what cannot be had, and then tests/browser is skipped.
"""

import os
import shutil
import subprocess
import sys

import vendor

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium():  # str: its path, or None
    "Chromium as the system has it; the variable CHROMIUM names another one."
    named = [os.environ[name] for name in ("CHROMIUM",) if os.environ.get(name)]
    found = (shutil.which(name) for name in (*named, *PROGRAMS))
    return next((path for path in found if path), None)


def install():  # bool, whether it worked
    "Let apt-get install Chromium, where we may."
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return False
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in ("update -qq", "install -y -qq --no-install-recommends chromium"):
        command = ["apt-get", *words.split()]
        done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            return False
    return chromium() is not None


def main():  # int, the exit status
    "Install what is missing, and say what could not be had."
    if chromium() is None and not install():
        print(
            "browser: there is no Chromium here, so tests/browser is skipped. On "
            "Debian or Ubuntu: sudo apt install chromium; or name one in the variable "
            "CHROMIUM"
        )
    try:
        vendor.script("axe-core-4.14.1")
    except OSError as error:
        print(f"browser: no axe ({error}), so what it finds is not tested")
    return 0


if __name__ == "__main__":
    sys.exit(main())
