"""Execute the course: run it, compare its outputs, or store them.

python tools/course.py run [NAME ...]       execute copies in build/course
python tools/course.py compare [NAME ...]   execute in build/test, compare outputs
python tools/course.py store [NAME ...]     execute in build/outputs, store outputs
python tools/course.py lab                  open JupyterLab at the first notebook

First `index` with all cores, so that there is a mask soon; then the others side by
side, as many as there are cores, one thread each. Every notebook has an empty folder
and a process of its own, which is killed when it takes too long. One that fails is
executed once more at the end, when nothing else runs; both verdicts are shown.
With --times, how long each took goes into results/notebooks.csv where it has changed by
more than a third.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import notebooks
import outputs
import times
from notebooks import NBS, ROOT

MINUTES = 20  # for one notebook, at most
TOO_LONG = "stopped, the notebook took more than"
GRACE = 30  # seconds for a process to say that its notebook took too long
MOST_JOBS = 8  # kernels with torch take half a gigabyte and more each


@dataclass
class Run:
    "What came of one execution."

    path: Path  # the notebook in nbs/
    notebook: dict  # executed, as far as it came
    seconds: float
    error: str = ""  # which cell, and what it raised
    before: str = ""  # what ended the first try, if this is the second

    @property
    def late(self):  # bool: whether it was stopped because it took too long
        return TOO_LONG in self.error

    def line(
        self,
        passed="passed",  # the verdict where no cell failed
    ):  # str
        verdict = "FAILED" if self.error else passed
        text = f"{notebooks.name_of(self.path):<28}{self.seconds:7.1f} s  {verdict}"
        if self.before:
            text += f" at the second try; the first: {self.before}"
        return text + (f"\n    {self.error}" if self.error else "")


def kernel_environment(
    root=ROOT,  # the repository whose library is imported; None: the installed one
):  # dict of environment variables
    "The reader's environment, this clone's library, and nothing that varies by user."
    env = dict(os.environ, PYTHONPATH=str(root or ""), JUPYTER_PREFER_ENV_PATH="1")
    if env.get("UNET_DATA"):  # notebooks run in another folder than the reader
        env["UNET_DATA"] = os.path.abspath(os.path.expanduser(env["UNET_DATA"]))
    env.pop("MPLBACKEND", None)
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on a busy machine spinning is slow
    return env


def start_client(
    notebook,  # nbformat notebook
    folder,  # the kernel's working folder
    private,  # a temporary folder, for the sockets that lead to the kernel
    python=sys.executable,  # the Python that executes it
    kind=None,  # of manager; None: one that starts a fresh Python
):  # nbclient.NotebookClient
    "A client whose kernel is the Python given, whatever kernels the user has."
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            spec = get_kernel_dict()
            return KernelSpec(**{**spec, "argv": [python, *spec["argv"][1:]]})

    manager = (kind or AsyncKernelManager)(
        kernel_spec_manager=ThisPython(),
        connection_file=f"{private}/kernel.json",
        transport="tcp" if os.name == "nt" else "ipc",  # ipc: no port, so no clash
    )
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, km=manager, resources=resources)


def execute(
    path,  # notebook to execute; it is not changed
    folder,  # where it runs and where the executed copy is written
    root=ROOT,  # the repository whose library it imports; None: the installed one
    minutes=MINUTES,  # after which it is stopped
    python=sys.executable,  # the Python that executes it
    threads=1,  # that it computes with, unless OMP_NUM_THREADS says another number
    manager=None,  # as for start_client
):  # Run
    "Execute one notebook in a fresh kernel."
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as private:
        env = kernel_environment(root)
        env.setdefault("OMP_NUM_THREADS", str(threads))
        env["IPYTHONDIR"] = private  # not the reader's profile
        client = start_client(notebook, folder, private, python, manager)
        error = run_cells(client, env, minutes)
    run = Run(path, notebook, time.monotonic() - start, error)
    notebooks.write(notebook, folder / path.name)
    return run


def run_cells(
    client,  # NotebookClient
    env,  # environment variables of the kernel
    minutes,  # for all cells together
):  # str, empty when every cell passed
    "Run cell after cell, and say which one failed and how."
    number = 0
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        with client.setup_kernel(env=env, cleanup_kc=True, **silent):
            end = time.monotonic() + 60 * minutes
            for number, cell in enumerate(client.nb.cells):
                client.timeout = max(1, int(end - time.monotonic()))
                client.execute_cell(cell, number)
    except Exception as error:
        where = notebooks.place(client.nb, number)
        return f"{where}: {describe(error, minutes)}"
    return ""


def describe(
    error,  # what nbclient raised
    minutes,  # that were allowed
):  # str
    "An error of the notebook, or of its kernel."
    from nbclient.exceptions import (
        CellExecutionError,
        CellTimeoutError,
        DeadKernelError,
    )

    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        return f"{TOO_LONG} {minutes:g} minutes"
    if isinstance(error, DeadKernelError):
        return "the kernel died here: out of memory, or a crash in native code"
    return f"{type(error).__name__}: {error}"


def cores():  # int
    "How many processors this process may use."
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def most_jobs():  # int
    "How many notebooks run side by side unless somebody wants another number."
    return min(cores(), MOST_JOBS)


def limit(
    path,  # a notebook
):  # float, minutes
    "When a notebook is taken for stuck: at ten times its usual time, not before 2 min."
    usual = times.read(ROOT).get(notebooks.name_of(path))
    if usual is None:
        return MINUTES
    return min(MINUTES, max(2, 10 * usual / 60))


def execute_apart(
    path,  # notebook to execute
    folder,  # where it runs and where the executed copy is written
    root=ROOT,  # the repository whose library it imports; None: the installed one
    minutes=MINUTES,  # after which it is stopped
    python=sys.executable,  # the Python that executes it
    threads=1,  # that it computes with
):  # Run
    "Execute one notebook in a process of its own, and kill that if it hangs."
    command = [sys.executable, __file__, "one", str(path), "--folder", str(folder)]
    command += ["--minutes", str(minutes), "--python", python]
    command += ["--threads", str(threads)]
    command += ["--root", str(root)] if root else []
    start = time.monotonic()
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    child = subprocess.Popen(command, text=True, **pipes)
    try:
        told, _ = child.communicate(timeout=60 * minutes + GRACE)
    except subprocess.TimeoutExpired:
        error = f"{TOO_LONG} {minutes:g} minutes and did not answer"
        return Run(path, notebooks.read(path), time.monotonic() - start, error)
    finally:
        kill_family(child)
    if child.returncode != 0:
        error = f"its process ended with status {child.returncode}"
        return Run(path, notebooks.read(path), time.monotonic() - start, error)
    result = json.loads(told.splitlines()[-1])
    executed = notebooks.read(Path(folder) / Path(path).name)
    return Run(path, executed, result["seconds"], result["error"])


def kill_family(
    child,  # subprocess.Popen
):
    "End a process and all that it started, and wait for it."
    import psutil  # ipykernel needs it

    if child.poll() is not None:
        return
    try:
        family = psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for process in [child, *family]:
        try:
            process.kill()
        except (OSError, psutil.NoSuchProcess):
            continue  # it has just ended by itself
    child.wait()


def attempt(
    path,  # notebook to execute
    folder,  # of the whole course; the notebook gets an empty one below it
    first=None,  # Run that failed, if this is the second try
    minutes=None,  # after which it is stopped; None: see limit
    way=execute_apart,  # the function that executes it
    **options,  # as for execute_apart
):  # Run
    "Execute one notebook in an empty folder."
    own = Path(folder) / notebooks.name_of(path)
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    minutes = limit(path) if minutes is None else minutes
    run = way(path, own, minutes=minutes, **options)
    if first is not None:
        run.before = f"stopped after {minutes:g} minutes" if first.late else first.error
    return run


def execute_twice(
    path,  # notebook to execute
    folder,  # of the whole course
    **options,  # as for attempt
):  # Run
    "Execute one notebook, and once more if it failed."
    run = attempt(path, folder, **options)
    return attempt(path, folder, run, **options) if run.error else run


def execute_all(
    paths,  # notebooks, in the order in which they are started
    folder,  # where each gets an empty folder of its own
    jobs=None,  # how many at a time; None: one per core
    way=execute_apart,  # the function that executes those that run side by side
    **options,  # as for attempt
):  # iterator over Run, as they finish
    "Execute `index` on all cores, the others side by side, what failed again alone."
    jobs = jobs or most_jobs()
    for path in paths:
        if path.stem == "index":
            yield execute_twice(path, folder, threads=jobs, **options)
    rest, failed = [path for path in paths if path.stem != "index"], []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(attempt, p, folder, way=way, **options) for p in rest]
        try:
            for done in as_completed(waiting):
                run = done.result()
                if run.error:
                    failed.append(run)
                else:
                    yield run
        finally:
            for job in waiting:
                job.cancel()
    for run in failed:
        yield attempt(run.path, folder, run, **options)


def by_length(
    paths,  # notebooks in reading order
):  # the same, index first, then the long ones before the short ones
    "An order in which no core waits at the end for a notebook that began last."
    usual = times.read(ROOT)

    def rank(path):
        name = notebooks.name_of(path)
        return name != "index", -usual.get(name, float("inf"))

    return sorted(paths, key=rank)


def fresh_folder(
    name,  # "course", "test" or "outputs"
    names,  # the notebooks asked for; a part of the course keeps what is there
):  # Path
    "The folder below build/ in which notebooks run, empty for a whole course."
    folder = ROOT / "build" / name
    if not names:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def summarize(
    runs,  # list of Run
    bad,  # names of the notebooks that did not pass
    seconds,  # from the first to the last
):  # int, the exit status
    "The last line: how many, how long, which failed."
    for run in runs:  # once more here, where somebody looks first
        if run.error or run.before:
            print(run.line(), flush=True)
    verdict = f"{len(bad)} FAILED: {' '.join(bad)}" if bad else "all passed"
    print(f"{len(runs)} notebooks in {seconds:.0f} s, {verdict}", flush=True)
    return 1 if bad else 0


def run(
    names,  # notebooks, or [] for all
    keep_times=False,  # True: into results/notebooks.csv
    jobs=None,  # notebooks at a time; None: one per core
):  # int, the exit status
    "Execute the course into build/course and say where the masks are."
    folder, paths = fresh_folder("course", names), by_length(notebooks.choose(names))
    runs, start, clock = [], time.time(), time.monotonic()
    with ready(keep_times, jobs or most_jobs()) as way:
        for run in execute_all(paths, folder, jobs, way):
            runs.append(run)
            keep(run, keep_times)
            print(run.line(), flush=True)
            if run.path.stem == "index" and not run.error:
                masks = newest_masks(folder / "index")
                print(f"    the first masks: {masks}", flush=True)
    bad = [notebooks.name_of(run.path) for run in runs if run.error]
    status = summarize(runs, bad, time.monotonic() - clock)
    masks = newest_masks(folder, start)
    if masks:
        print(f"Masks drawn by the net that was just trained: {masks}")
    print(f"The executed notebooks are in {folder.relative_to(ROOT)}.")
    print("Open the notebooks: make lab")
    return status


def keep(
    run,  # Run
    wanted,  # False: nothing is done
):
    "Write down how long a notebook took."
    if wanted and not run.error:
        for line in times.update({notebooks.name_of(run.path): run.seconds}, ROOT):
            print(f"    {line}")


def newest_masks(
    folder,  # where the notebooks ran
    start=0,  # time before which a picture is of another run
):  # Path relative to the repository, or None
    "The last picture of masks that a notebook wrote."
    found = sorted(
        folder.rglob("runs/*/masks.png"), key=lambda path: path.stat().st_mtime
    )
    new = [path for path in found if path.stat().st_mtime >= start]
    return new[-1].relative_to(ROOT) if new else None


def compare(
    names,  # notebooks, or [] for all
    keep_times=False,  # True: into results/notebooks.csv
    jobs=None,  # notebooks at a time; None: one per core
):  # int, the exit status
    "Execute the course and compare what it prints with what is committed."
    os.environ.pop("UNET_DATA", None)  # outputs must not depend on the reader's data
    folder = fresh_folder("test", names)
    paths, bad, clock = by_length(notebooks.choose(names)), [], time.monotonic()
    with ready(keep_times, jobs or most_jobs()) as way:
        runs = list(compared(execute_all(paths, folder, jobs, way), bad, keep_times))
    return summarize(runs, bad, time.monotonic() - clock)


def ready(
    fresh,  # True: times are wanted, and a reader's kernel imports for itself
    jobs,  # how many notebooks run side by side
):  # context manager of a function as execute_apart
    "How notebooks are executed side by side: see warm.py."
    import warm  # which needs this module

    return nullcontext(execute_apart) if fresh else warm.processes(jobs)


def compared(
    runs,  # iterator over Run
    bad,  # list that gets the names of those that failed or are stale
    keep_times,  # as for compare
):  # iterator over the same
    "Print of each run whether it passed, and what it gives that is not committed."
    for run in runs:
        keep(run, keep_times)
        name = notebooks.name_of(run.path)
        complaints = [] if run.error else stale(run.path, run.notebook)
        print(run.line("STALE" if complaints else "passed"), flush=True)
        for text in complaints:
            print(f"{name}, {text}")
        if complaints:
            print(f'{name}: run make outputs NB="{name}"', flush=True)
        if run.error or complaints:
            bad.append(name)
        yield run


def stale(
    path,  # notebook in nbs/
    fresh,  # the same notebook, executed; changed in place
):  # list of str, each with the place and a diff
    "Where the committed outputs are not what the notebook gives now."
    outputs.clean_notebook(fresh)
    return outputs.differences(notebooks.read(path), fresh)


def store(
    names,  # notebooks, or [] for all
    keep_times=False,  # True: into results/notebooks.csv
    jobs=None,  # notebooks at a time; None: one per core
    force=False,  # True: store new figures even where nothing else changed
):  # int, the exit status
    "Execute the course and put the cleaned outputs into nbs/."
    os.environ.pop("UNET_DATA", None)
    folder = fresh_folder("outputs", names)
    paths = by_length(notebooks.choose(names))
    before = {path: notebooks.read(path) for path in paths}
    runs, bad, clock = [], [], time.monotonic()
    for run in execute_all(paths, folder, jobs):
        runs.append(run)
        keep(run, keep_times)
        path, name = run.path, notebooks.name_of(run.path)
        print(run.line(), flush=True)
        complaints = [] if run.error else put(path, before[path], run.notebook, force)
        for text in complaints:
            print(f"{name}, {text}")
        if run.error or complaints:
            print(f"{name}: not stored", flush=True)
            bad.append(name)
    store_picture(folder)
    return summarize(runs, bad, time.monotonic() - clock)


def put(
    path,  # notebook in nbs/
    before,  # what it held when the execution began
    fresh,  # the same notebook, executed; changed in place
    force=False,  # True: replace every figure
):  # list of complaints; nothing is stored when there is one
    "Store a notebook's fresh outputs."
    complaints = outputs.clean_notebook(fresh)
    if notebooks.read(path) != before:
        complaints.append("the notebook was edited while it ran: run it again")
    if complaints:
        return complaints
    if not force:
        for note in outputs.keep_figures(before, fresh, unchanged_cells(path)):
            print(f"{path.stem}, {note} (FORCE=1 replaces it)")
    notebooks.write(fresh, path)
    return []


def store_picture(
    folder,  # where the notebooks ran
):
    "Put the picture that `index` drew where the README shows it."
    drawn = folder / "index" / "runs" / "first" / "masks.png"
    shown = ROOT / "site" / "first_masks.png"
    if drawn.exists():
        encoded = base64.b64encode(drawn.read_bytes()).decode()
        shown.parent.mkdir(exist_ok=True)
        shown.write_bytes(base64.b64decode(outputs.small_png(encoded)))


def unchanged_cells(
    path,  # notebook in nbs/
):  # set of cell ids
    "The cells whose source is the one that was last committed; none without git."
    show = ["git", "show", f"HEAD:./{path.name}"]
    try:
        shown = subprocess.run(show, cwd=path.parent, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return set()
    committed = cell_sources(json.loads(shown.stdout))
    now = cell_sources(notebooks.read(path))
    return {name for name in now if now[name] == committed.get(name)}


def cell_sources(
    notebook,  # dict
):  # dict of cell id to source
    "The text of every cell by its id."
    return {cell.get("id"): notebooks.source(cell) for cell in notebook["cells"]}


def lab():
    "Become JupyterLab, with the same library and data as the course."
    as_root = ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(NBS / "index.ipynb"), *as_root]
    os.execve(sys.executable, command, kernel_environment())


def one(
    args,  # what main read: a notebook, its folder, and the options of execute
):
    "Execute one notebook in this process and print as JSON what came of it."
    (path,) = args.names
    root = Path(args.root) if args.root else None
    folder, minutes = Path(args.folder), args.minutes
    run = execute(Path(path), folder, root, minutes, args.python, args.threads)
    print(json.dumps({"seconds": run.seconds, "error": run.error}), flush=True)


def main():
    "Read the command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "compare", "store", "lab", "one"])
    parser.add_argument("names", nargs="*", help="notebooks such as 05_model")
    parser.add_argument("--force", action="store_true", help="store every figure anew")
    parser.add_argument("--times", action="store_true", help="keep how long each took")
    parser.add_argument("--jobs", type=int, help="how many at a time; one per core")
    alone = parser.add_argument_group("for `one`, which the others start")
    alone.add_argument("--folder", default=".", help="where it runs")
    alone.add_argument("--root", default="", help="of the library; none: as installed")
    alone.add_argument("--minutes", type=float, default=MINUTES)
    alone.add_argument("--python", default=sys.executable)
    alone.add_argument("--threads", type=int, default=1)
    args = parser.parse_intermixed_args()  # names may follow options
    jobs = args.jobs or (2 if args.times else None)  # the times are of two cores
    if args.action == "lab":
        lab()
    elif args.action == "one":
        one(args)
    elif args.action == "store":
        sys.exit(store(args.names, args.times, jobs, args.force))
    elif args.action == "run":
        sys.exit(run(args.names, args.times, jobs))
    else:
        sys.exit(compare(args.names, args.times, jobs))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped")
