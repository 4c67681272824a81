"""The lowest versions that settings.ini allows, as constraints for pip.

    python tools/lowest.py > lowest.txt
    pip install -c lowest.txt .

With names, those alone: `python tools/lowest.py torch` leaves the others to pip. What
is imported must work with the oldest that is promised; a nightly job looks whether it
does.
"""

import re
import sys

from notebooks import settings


def constraints(
    requirements,  # such as "albumentations<3,>=2.0.8 torch>=2.4"
    names=(),  # those wanted; (): all
):  # list of str such as ["albumentations==2.0.8", "torch==2.4"]
    "Pin each requirement to its lower bound."
    found = []
    for item in requirements.split():
        name = re.match(r"[\w.-]+", item)[0]
        bounds = re.findall(r">=([\w.]+)", item)
        if not bounds:
            raise ValueError(f"{item} has no lower bound; {name}>=1.0 would be one")
        if not names or name in names:
            found.append(f"{name}=={bounds[0]}")
    return found


if __name__ == "__main__":
    print("\n".join(constraints(settings()["requirements"], sys.argv[1:])))
