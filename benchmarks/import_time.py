"""What `import unet_tutorial.model` costs beyond `import torch`.

    python benchmarks/import_time.py

Each measurement is a fresh interpreter that imports torch first and then the model, so
both times come from one run. Printed: the medians of nine, and the versions.
"""

import platform
import statistics
import subprocess
import sys
from importlib.metadata import version

CODE = """
from time import perf_counter
start = perf_counter()
import torch
middle = perf_counter()
import unet_tutorial.model
print(middle - start, perf_counter() - middle)
"""


def measure():
    """Return the seconds for torch, and those for the model after it."""
    shown = subprocess.check_output([sys.executable, "-c", CODE], text=True)
    return [float(word) for word in shown.split()]


def main():
    torch_times, model_times = zip(*(measure() for _ in range(9)), strict=True)
    for name, times in [("torch", torch_times), ("model after it", model_times)]:
        print(f"import {name}: {1000 * statistics.median(times):.1f} ms")
    print("python", platform.python_version(), "torch", version("torch"))


if __name__ == "__main__":
    main()
