"""What `import unet_tutorial` costs, and its model beyond `import torch`.

    python benchmarks/import_time.py

Each measurement is a fresh interpreter that imports the package, then torch, then the
model, so all times come from one run. Printed: the medians of nine, and the versions.
"""

import platform
import statistics
import subprocess
import sys
from importlib.metadata import version

CODE = """
from time import perf_counter
start = perf_counter()
import unet_tutorial
package = perf_counter()
import torch
middle = perf_counter()
import unet_tutorial.model
print(package - start, middle - package, perf_counter() - middle)
"""


def measure():
    """Return the seconds for the package, for torch, and for the model after them."""
    shown = subprocess.check_output([sys.executable, "-c", CODE], text=True)
    return [float(word) for word in shown.split()]


def main():
    columns = zip(*(measure() for _ in range(9)), strict=True)
    names = ("unet_tutorial", "torch", "unet_tutorial.model after them")
    for name, times in zip(names, columns, strict=True):
        print(f"import {name}: {1000 * statistics.median(times):.1f} ms")
    print("python", platform.python_version(), "torch", version("torch"))


if __name__ == "__main__":
    main()
