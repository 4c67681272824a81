"""What prediction costs as it grows: seconds and memory, against side, batch and width.

    python benchmarks/scale.py                  # about five minutes on two free cores
    python benchmarks/scale.py --largest 5000   # less, where time is short
    python benchmarks/scale.py --only side      # one kind of row

Each row runs in a process of its own, and is added to results/scale.csv as soon as it
is there; what is there already is not measured again (--again does). Kinds of rows:

- side: `predict_array` from zarr to zarr in worker processes of a dask cluster, each
  allowed 2 GB (dask kills a worker that takes more); sides up to 20,000 pixels
- processes: the same image for 1, 2 and 4 of them
- kept: the same for 2 that keep freed memory (dask tells its workers to give it back)
- whole: one image in one piece, no tiles: what memory that takes
- batch, channels: `predict_array` of one chunk, in one process

The image is drawn membranes, one byte per pixel, repeated. The net is untrained and
unpadded, of depth 3, with 4 channels at the top unless the row says otherwise. A row
has the seconds that passed (reading, measuring mean and deviation, and writing
included), the seconds that cores computed for it, the peak of resident memory of the
largest process, what was resident before the work began, and the number of tasks. On a
machine that has other work to do, compare the seconds that cores computed. Linux only.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from table import write

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "results" / "scale.csv"
PACKAGES = ("torch", "numpy", "dask", "distributed", "zarr")
LIMIT = "2GB"  # of a worker
DEPTH, TILE, SEED = 3, 388, 0
DEFAULT = {"channels": 4, "batch": 1, "processes": 0}
KEY = ("kind", "side", "channels", "batch", "processes")
KINDS = ("side", "processes", "kept", "whole", "batch", "channels")
WORKERS = "distributed.nanny.pre-spawn-environ"  # their environment in dask's settings
KEEP = {f"{WORKERS}.MALLOC_TRIM_THRESHOLD_": 2**30, f"{WORKERS}.MALLOC_MMAP_MAX_": 0}
SIDES = (1000, 2000, 5000, 10000, 20000)


def plan(largest):
    """Return what is to be measured, the short rows first."""
    rows = [{"kind": "side", "side": side, "processes": 2} for side in SIDES]
    rows += [{"kind": "processes", "side": 5000, "processes": n} for n in (1, 2, 4)]
    rows += [{"kind": "kept", "side": 5000, "processes": 2}]
    rows += [{"kind": "whole", "side": side} for side in (500, 1000, 2000, 4000)]
    rows += [{"kind": "batch", "side": 1536, "batch": n} for n in (1, 2, 4, 8, 16)]
    rows += [
        {"kind": "channels", "side": 1536, "channels": n} for n in (4, 8, 16, 32, 64)
    ]
    rows = [{**DEFAULT, **row} for row in rows if row["side"] <= largest]
    rows = [{name: row[name] for name in KEY} for row in rows]
    return sorted(rows, key=lambda row: row["side"] ** 2 * row["channels"] ** 1.5)


# One row, in a process of its own


def memory(name):
    """Return MB of this process: VmRSS, what is resident now, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()  # Linux only
    return int(next(s for s in lines if s.startswith(name)).split()[1]) / 1024


def used():
    """Return the peak of memory in MB and the seconds that cores have computed."""
    spent = os.times()
    return memory("VmHWM"), spent.user + spent.system


def write_image(path, side):
    """Write side x side bytes of drawn membranes as zarr, a strip of rows at a time."""
    import numpy as np
    import zarr

    from unet_tutorial.synthetic import draw_membranes

    drawn, _ = draw_membranes(size=512, seed=SEED)
    across = np.tile(drawn, (2, side // 512 + 1))[:, :side]  # 1024 rows
    file = zarr.open_array(
        str(path), mode="w", shape=(side, side), chunks=(1024, 1024), dtype="u1"
    )
    for top in range(0, side, 1024):
        file[top : top + 1024] = across[: side - top]


def new_net(channels):
    """Return the net of the row."""
    import torch

    from unet_tutorial.model import UNet

    torch.manual_seed(SEED)
    return UNet(base_channels=channels, depth=DEPTH).eval()


def on_cluster(row, folder):
    """Measure predict_array from zarr to zarr in processes of a local cluster."""
    import dask
    from distributed import Client, LocalCluster

    from unet_tutorial.scale import predict_array

    with dask.config.set(KEEP if row["kind"] == "kept" else {}):
        cluster = LocalCluster(
            n_workers=row["processes"],
            threads_per_worker=1,
            memory_limit=LIMIT,
            dashboard_address=":0",
            local_directory=str(folder),
        )
    with cluster, Client(cluster) as client:
        client.run(new_net, 1)  # imports torch
        before = client.run(used).values()
        start, spent = perf_counter(), used()[1]
        labels = predict_array(new_net(row["channels"]), folder / "image.zarr")
        labels.to_zarr(str(folder / "labels.zarr"))
        seconds, after = perf_counter() - start, client.run(used).values()
        here = used()[1] - spent  # the scheduler
    computed = sum(cpu for _, cpu in after) - sum(cpu for _, cpu in before) + here
    return {
        "seconds": seconds,
        "core_seconds": computed,
        "before_mb": max(peak for peak, _ in before),
        "peak_mb": max(peak for peak, _ in after),
        "tasks": len(labels.__dask_graph__()),
        "workers_left": len(after),
    }


def alone(row, folder):
    """Measure predict_array, or the image in one piece, in this process."""
    import dask
    import numpy as np
    import torch
    import zarr

    from unet_tutorial.scale import predict_array
    from unet_tutorial.sizes import nearest_valid_sizes
    from unet_tutorial.tiles import lost_pixels, predict_tiled

    torch.set_num_threads(1)
    net, tasks = new_net(row["channels"]), ""
    image = zarr.open_array(str(folder / "image.zarr"), mode="r")
    predict_array(net, np.zeros((9, 9))).compute()  # imports what is imported late
    before, start, spent = memory("VmRSS"), perf_counter(), used()[1]
    if row["kind"] == "whole":
        pixels = np.asarray(image[:], np.float32)
        pixels = (pixels - pixels.mean()) / pixels.std()
        margin = 2 * lost_pixels(DEPTH)
        enough = nearest_valid_sizes(row["side"] + margin, DEPTH)[1]
        predict_tiled(net, pixels, enough - margin)
    else:
        with dask.config.set(scheduler="synchronous"):
            labels = predict_array(
                net, image, batch_size=row["batch"], chunk=row["side"]
            )
            labels.to_zarr(str(folder / "labels.zarr"))
        tasks = len(labels.__dask_graph__())
    return {
        "seconds": perf_counter() - start,
        "core_seconds": used()[1] - spent,
        "before_mb": before,
        "peak_mb": memory("VmHWM"),
        "tasks": tasks,
        "workers_left": "",
    }


def measure(row):
    """Measure one row and print it as JSON."""
    with tempfile.TemporaryDirectory() as name:
        write_image(Path(name, "image.zarr"), row["side"])
        found = (on_cluster if row["processes"] else alone)(row, Path(name))
    digits = {"seconds": 2, "core_seconds": 2, "before_mb": 0, "peak_mb": 0}
    for name, places in digits.items():
        found[name] = f"{found[name]:.{places}f}"
    print(json.dumps(found))


# All rows


def device():
    """Name the processor by what it can do."""
    import torch

    return f"CPU, {torch.backends.cpu.get_cpu_capability()}"


def read(path):
    """Return the rows that are there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def key(row):
    """Return what tells a row from all others."""
    return tuple(str(row[name]) for name in KEY)


def place(row):
    """Return where a row belongs in the file: by kind, then from small to large."""
    return KINDS.index(row["kind"]), *[int(row[name]) for name in KEY[1:]]


def run(row, about, path):
    """Measure a row in a new process and add it to the file, or replace it there."""
    command = [sys.executable, __file__, "--row", json.dumps(row)]
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    surroundings["TQDM_DISABLE"] = "1"  # no progress bars
    done = subprocess.run(command, env=surroundings, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"this row failed: {row}")
    found = json.loads(done.stdout.splitlines()[-1])
    others = [other for other in read(path) if key(other) != key(row)]
    write(path, sorted([*others, {**row, **found, **about}], key=place))
    print(*[f"{name} {value}" for name, value in {**row, **found}.items()], sep=", ")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=max(SIDES), help="side")
    parser.add_argument("--only", choices=KINDS, help="one kind of row")
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    parser.add_argument("--out", type=Path, default=FILE, help="a CSV file")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        return measure(args.row)
    about = {
        "depth": DEPTH,
        "tile": TILE,
        "seed": SEED,
        "device": device(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "command": "benchmarks/scale.py",
    }
    there = set() if args.again else {key(row) for row in read(args.out)}
    for row in plan(args.largest):
        wanted = args.only in (None, row["kind"])
        if wanted and key(row) not in there:
            run(row, about, args.out)


if __name__ == "__main__":
    main()
