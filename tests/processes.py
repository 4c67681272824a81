"""What several processes do together in test_distributed.py; each runs this file.

`python processes.py FOLDER CASE ...` does the cases one after the other and writes
what came out into FOLDER. It ends itself if it hangs. `forked` is for tests that end a
process of their own: by a signal, or not at all.
"""

import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.utils.data import TensorDataset
from tqdm.auto import tqdm

from unet_tutorial.data.loader import make_loader
from unet_tutorial.metrics import dice_of
from unet_tutorial.model import UNet
from unet_tutorial.runs import distributed, engine
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.engine import Training, go_on
from unet_tutorial.runs.logbook import interruptible

CPU = torch.device("cpu")
SWITCHES = {  # of a training, by the name of the case
    "plain": {"norm": None},
    "summed": {"norm": None, "accumulate": 2},
    "shared norm": {"norm": "batch", "sync": True, "accumulate": 2},
    "own norm": {"norm": "batch"},
    "instance": {"norm": "instance", "clip": 0.1},
}


def images_and_labels(length):
    "Noise, and where it is light."
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(length, 1, 16, 16, generator=generator)
    return images, (images[:, 0] > 0.5).long()


def begin(norm=None, sync=False, accumulate=1, clip=None, dropout=0.0):
    "A little training at its beginning."
    torch.manual_seed(0)
    switches = {"padding": 1, "norm": norm, "dropout": dropout}
    net = UNet(base_channels=2, depth=1, **switches)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    options = {"device": "cpu", "accumulate": accumulate, "clip": clip, "ema": 0.5}
    return Training(net, optimizer, sync_batch_norm=sync, **options)


def train(training, epochs=2, length=9, callback=None, held_out=3, **limits):
    "Nine images in batches of four: the last has one. Three are held out."
    data = TensorDataset(*images_and_labels(length))
    sampler = distributed.DealtSampler(length, 4)
    learn = make_loader(data, sampler.own, sampler=sampler)
    held = TensorDataset(*(part[:held_out] for part in images_and_labels(length)))
    ours = distributed.dealt_batches(held_out, 2)
    check = make_loader(held, 2, sampler=ours)
    criterion, metrics = nn.CrossEntropyLoss(), {"dice": dice_of}
    options = {"callback": callback, **limits}
    return go_on(training, learn, check, criterion, epochs, metrics, **options)


def equal(folder):
    "Every kind of training; the first process keeps what came out."
    for name, switches in SWITCHES.items():
        training = begin(**switches)
        length = 11 if name == "plain" else 9  # a last batch of 2 + 1 images, of 1 + 0
        train(training, length=length, held_out=1 if name == "instance" else 3)
        if distributed.is_first():
            save_state(folder / f"{name}.safetensors", training)


def halfway(folder):
    "A training is kept in the middle of its second epoch, and goes on to the end."

    def keep(training, row):
        if (training.epoch, training.batch) == (1, 2) and distributed.is_first():
            save_state(folder / "halfway.safetensors", training)

    training = begin(norm="batch", dropout=0.5)
    train(training, callback=keep)
    weights = [x.flatten() for x in training.model.state_dict().values()]
    note(folder, "ended", torch.cat(weights).tolist())


def again(folder):
    "From the middle to the end."
    training = begin(norm="batch", dropout=0.5)
    load_state(folder / "halfway.safetensors", into=training)
    train(training)
    weights = [x.flatten() for x in training.model.state_dict().values()]
    note(folder, "ended again", torch.cat(weights).tolist())


def summed_at_home(folder):
    "How often gradients travel, if two batches share a step."

    def count(calls, bucket):
        calls.append(1)
        return default_hooks.allreduce_hook(None, bucket)

    training, calls = begin(accumulate=2), []
    training.parallel.register_comm_hook(calls, count)
    train(training, epochs=2)
    note(folder, "summed at home", [len(calls), training.step])


def stopped(folder):
    "The last process is asked to stop; all of them do, after the same step."
    last = distributed.rank() == distributed.world_size() - 1
    with interruptible() as asked:

        def callback(training, row):
            if training.step == 2 and last:
                os.kill(os.getpid(), signal.SIGTERM)
            if distributed.any_process(bool(asked)):
                raise KeyboardInterrupt

        training = begin()
        try:
            train(training, epochs=50, callback=callback)
        except KeyboardInterrupt:
            note(folder, "stopped", training.step)


def late(folder):
    "Each process has its own clock; that of the first decides. A step takes 10 s."
    training, ahead = begin(), 3600 * distributed.rank()

    def clock():
        return 10 * training.step + ahead * (training.step > 1)

    engine.time = SimpleNamespace(monotonic=clock)
    train(training, epochs=10**6, minutes=1)
    engine.time = time
    note(folder, "late", training.step)


def not_finite(folder):
    "One image, dealt to one process, is broken; all say the same."

    def broken(length):
        images, labels = good(length)
        images[5, 0, 3, 4] = torch.nan  # it is dealt in batch 2
        return images, labels

    good = images_and_labels
    globals()["images_and_labels"] = broken
    training = begin(norm="batch", sync=True)
    try:
        train(training)
    except FloatingPointError as error:
        note(folder, "not finite", [str(error), training.step])
    globals()["images_and_labels"] = good


def told(folder):
    "What the first process finds, or fails to find, all get."
    found = [distributed.of_first(lambda: 7 + distributed.rank())]
    try:
        distributed.of_first(lambda: (folder / "nothing").read_text())
    except FileNotFoundError as error:
        found.append(type(error).__name__)
    found.append(distributed.gather(distributed.rank()))
    found.append(distributed.add_up([1.5, distributed.rank()]))
    found.append(distributed.add_sums(None))
    note(folder, "told", found)


def dropped(folder):
    "Drop-out must not take the same places in every process."
    distributed.own_numbers(0, 0, 0)
    note(folder, "dropped", nn.functional.dropout(torch.ones(64), 0.5).tolist())


def lost(folder):
    "The second process dies; the first must not wait for it."

    def callback(training, row):
        if training.step == 2 and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train(begin(), epochs=50, callback=callback)


def _child(work, log):
    "Work alone in a group of processes, in one thread; what is printed is in a file."
    os.setpgid(0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, around the tests, ignores it
    with open(log, "ab", 0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    os.environ["TQDM_DISABLE"] = "1"
    tqdm.set_lock(threading.RLock())  # a fork may have come while ours was held
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(work())


@contextmanager
def forked(work, log):
    "A child process that works, killed in the end if it is not done."
    child = multiprocessing.get_context("fork").Process(target=_child, args=(work, log))
    child.start()
    try:
        yield child
    finally:
        if child.is_alive():
            child.kill()
        child.join()


def note(folder, name, value):
    "Write what a process has found."
    path = folder / f"{name} {distributed.rank()}.json"
    path.write_text(json.dumps(value))


def main(folder, *cases):
    "Join the others, and do the cases."
    faulthandler.dump_traceback_later(220, exit=True)
    with distributed.joined(distributed.own_device(CPU)):
        for case in cases:
            globals()[case](Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
