"""Execute notebooks in processes that have torch and Jupyter imported already.

A kernel imports torch, matplotlib and IPython before its first cell, and who talks to
it imports Jupyter: five seconds of a processor for each of 80 notebooks, all alike.
Here one process does it once, and forks a kernel and its client for each notebook.
Nothing of the course itself is imported before: each notebook imports its library.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import course
import notebooks

KNOWN = hasattr(os, "fork") and sys.platform.startswith("linux")
INLINE = "module://matplotlib_inline.backend_inline"  # as a kernel sets it

NEEDED = ["ipykernel.ipkernel", "ipykernel.kernelapp", "nbclient", "nbformat"]
NEEDED += ["matplotlib.backends.backend_agg", "matplotlib.figure"]
NEEDED += ["torch", "torch.utils.data"]  # and so numpy


class Warm:
    "A process that executes one notebook after the other, and is replaced if it hangs."

    def __init__(self, root):
        self.root, self.child = root, None

    def start(self):
        "Start the process: before its first notebook, for `index` has all cores."
        env = course.kernel_environment(self.root)
        env |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": INLINE}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, __file__]
        self.child = subprocess.Popen(command, env=env, text=True, **pipes)

    def execute(
        self,
        path,  # notebook to execute
        folder,  # where it runs and where the executed copy is written
        minutes=course.MINUTES,  # after which it is stopped
    ):  # course.Run
        "Execute one notebook, as course.execute_apart does."
        if self.child is None or self.child.poll() is not None:
            self.start()
        start, error = time.monotonic(), ""
        job = {"path": str(path), "folder": str(folder), "minutes": minutes}
        print(json.dumps(job), file=self.child.stdin, flush=True)
        seconds = 60 * minutes + course.GRACE
        if select.select([self.child.stdout], [], [], seconds)[0]:
            told = self.child.stdout.readline()
            result = json.loads(told) if told else {"status": "unknown"}
            if "status" not in result:
                executed = notebooks.read(Path(folder) / Path(path).name)
                return course.Run(path, executed, result["seconds"], result["error"])
            error = f"its process ended with status {result['status']}"
        else:
            error = f"{course.TOO_LONG} {minutes:g} minutes and did not answer"
            self.close()
        seconds = time.monotonic() - start
        return course.Run(path, notebooks.read(path), seconds, error)

    def close(self):
        "End the process and all that it has started."
        if self.child is not None:
            course.kill_family(self.child)


@contextmanager
def processes(
    count,  # how many
    root=course.ROOT,  # the repository whose library is imported
):  # a function as course.execute_apart, which as many threads may call
    "So many processes; where there is no safe fork, each notebook starts its own."
    if not KNOWN:
        yield course.execute_apart
        return
    idle = SimpleQueue()
    every = [Warm(root) for _ in range(count)]
    for process in every:
        idle.put(process)

    def execute(path, folder, minutes=course.MINUTES):
        process = idle.get()
        try:
            return process.execute(path, folder, minutes)
        finally:
            idle.put(process)

    try:
        yield execute
    finally:
        for process in every:
            process.close()


class Kernel:
    "A fork that waits until it is told to be a kernel; used as a subprocess.Popen."

    stdin = stdout = stderr = None

    def __init__(self):
        read, self.told = os.pipe()
        self.returncode, self.pid = None, os.fork()
        if self.pid == 0:
            os.close(self.told)
            with os.fdopen(read) as words:
                job = json.loads(words.read() or "null")
            os._exit(become_kernel(**job) if job else 0)
        os.close(read)

    def go(self, command, cwd, env):
        "Be a kernel: its arguments, its folder, its variables."
        words = {"command": command, "cwd": str(cwd), "env": dict(env)}
        with os.fdopen(self.told, "w") as pipe:
            json.dump(words, pipe)

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self):
        while self.poll() is None:
            time.sleep(0.02)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def become_kernel(command, cwd, env):  # int, the exit status
    "What the command of a kernel does, in this process."
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()  # as jupyter_client starts it
    for number in range(3):  # what it prints outside of a cell is for nobody
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command[command.index("-m") + 1 :]
    try:
        launch_new_instance()
    except SystemExit as end:
        return end.code or 0
    return 0


def manager_of(kernel):  # a kind of jupyter_client manager, for course.start_client
    "A manager whose kernel is forked already."
    from jupyter_client.manager import AsyncKernelManager

    class Forked(AsyncKernelManager):
        async def _async_launch_kernel(self, kernel_cmd, **options):
            kernel.go(kernel_cmd, options["cwd"], options["env"])
            local = self.provisioner
            local.process, local.pid, local.pgid = kernel, kernel.pid, kernel.pid
            self._reconcile_connection_info(local.connection_info)

        _launch_kernel = _async_launch_kernel

    return Forked


def one(job):
    "Execute a notebook in this process, which ends with it, and say what came of it."
    kernel = Kernel()
    path, folder = Path(job["path"]), Path(job["folder"])
    run = course.execute(
        path, folder, minutes=job["minutes"], manager=manager_of(kernel)
    )
    kernel.kill()
    print(json.dumps({"seconds": run.seconds, "error": run.error}), flush=True)


def main():
    "A notebook per line, each in a process of its own; a line about each."
    for name in NEEDED:
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                one(json.loads(line))
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        if status:
            print(json.dumps({"status": status}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # course.py says that it is stopped
