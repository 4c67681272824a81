"""Try every fault that a user, a disk or an attacker may cause, and count what held.

    python benchmarks/faults.py                   # all areas, some minutes
    python benchmarks/faults.py --area downloads  # one: tests/test_faults_downloads.py

Each area is a file of tests with a table CASES: the fault in plain words, and a
function that gets an empty folder and asserts what must hold. A process does the cases
of an area one after the other; if it crashes, or a case takes too long, that case fell,
and another process does the rest. The exit status is 1 if any case fell.
"""

import argparse
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
START = 120  # seconds that a process has to import the library and its cases
SKIPPED = "Skipped"  # the name of pytest's exception: the case is not for this machine


def areas(folder=TESTS):
    "The names of the areas that have a table, in order."
    return sorted(
        path.stem.removeprefix("test_faults_")
        for path in folder.glob("test_faults_*.py")
    )


def work(area, first):
    "Do the cases of an area from the given one on; say as JSON what came out."
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what cases print is no part of the answer
    os.dup2(nowhere, 2)

    def say(word):
        print(json.dumps(word), file=out, flush=True)

    cases = importlib.import_module(f"test_faults_{area}").CASES
    say(list(cases))
    for name in list(cases)[first:]:
        say(attempt(cases[name]))


def attempt(case):
    "Do one case in a fresh folder; return None if it held, or else why not."
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            case(Path(folder))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # pytest's own exceptions are no Exception
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0][:150]}"
    return None


class Worker:
    "A process that does cases, and its answers as they come."

    def __init__(self, folder, area, first):
        command = [sys.executable, __file__, "--work", area, str(first)]
        paths = [str(folder), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
        env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
        self.process = subprocess.Popen(
            [*command, "--tests", str(folder)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that what a case starts ends with it
        )
        self.answers = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(EOFError)

    def answer(self, seconds):
        "The next answer; EOFError if the process ended, TimeoutError if it took long."
        try:
            return self.answers.get(timeout=seconds)
        except queue.Empty:
            return TimeoutError

    def end(self):
        if hasattr(os, "killpg"):
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # all of them are gone
        self.process.kill()
        return self.process.wait()


def try_area(folder, area, limit):
    "Try the cases of an area; return a dict of name -> None, or why it did not hold."
    found, names = {}, None
    while names is None or len(found) < len(names):
        worker = Worker(folder, area, len(found))
        names = worker.answer(START)
        if not isinstance(names, list):
            worker.end()
            return {**found, "the table itself": "it cannot be imported"}
        while len(found) < len(names):
            name, said = names[len(found)], worker.answer(limit)
            if said is EOFError:
                found[name] = "the process ended"
            elif said is TimeoutError:
                found[name] = f"not done after {limit:g} s"
            else:
                found[name] = said
                continue
            break
        status = worker.end()
        if found and found.get(names[len(found) - 1]) == "the process ended":
            found[names[len(found) - 1]] += f" with status {status}"
    return found


def report(area, found, seconds):
    "Print the row of an area, and what fell; return how many that were."
    why = {name: said for name, said in found.items() if said}
    skipped = [name for name, said in why.items() if said.startswith(SKIPPED)]
    fell = {name: said for name, said in why.items() if name not in skipped}
    tried = len(found) - len(skipped)
    row = f"{area:<14}{tried:>6}{tried - len(fell):>6}{len(fell):>6}{len(skipped):>9}"
    print(f"{row}{seconds:>8.0f} s", flush=True)
    for name, said in fell.items():
        print(f"    fell: {name}: {said}", flush=True)
    for name in skipped:
        print(f"    skipped: {name}: {why[name]}", flush=True)
    return len(fell)


def read_options():
    "Read the command line."
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--area", action="append", help="one of them; may be repeated")
    parser.add_argument("--limit", type=float, default=60, help="seconds for a case")
    parser.add_argument(
        "--tests", type=Path, default=TESTS, help="where the tables are"
    )
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = read_options()
    if options.work:
        area, first = options.work
        work(area, int(first))
        return 0
    known = areas(options.tests)
    wanted = options.area or known
    for area in wanted:
        if area not in known:
            sys.exit(f"faults: no area {area}; there are: {', '.join(known) or 'none'}")
    print(f"{'area':<14}{'tried':>6}{'held':>6}{'fell':>6}{'skipped':>9}{'time':>10}")
    fell = 0
    for area in wanted:
        start = time.monotonic()
        found = try_area(options.tests, area, options.limit)
        fell += report(area, found, time.monotonic() - start)
    return int(fell > 0)


if __name__ == "__main__":
    sys.exit(main())
