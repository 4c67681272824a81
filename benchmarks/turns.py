"""Trainings and predictions that take turns, each in a process of its own.

Each side computes a few steps, then waits while the others compute theirs: what a
machine does besides hits all of them alike. A process of its own, because what one of
them does to the memory, the threads or the settings of torch must not help another.
"""

import os
import statistics
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import perf_counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unet_tutorial.gpu import wait_for

LIMITED = {  # what makes a processor compute as one that has AVX2 and no more
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


class Over(Exception):
    "No more turns: whatever was computed is left."


class Missing(Exception):
    "Something that this machine does not have."


class Turn:
    "What a side calls before each of its steps; it returns when the step may begin."

    def __init__(self, pipe, device):
        self.pipe, self.device = pipe, device
        self.left, self.begun = 0, None
        self.model = self.format = self.shape = self.trained = None

    def __call__(self):
        if not self.left:
            self.hand_over()
        self.left -= 1

    def hand_over(self):
        "Say how long the turn took, and wait for the next one."
        wait_for(self.device)
        self.pipe.send(perf_counter() - self.begun if self.begun else 0.0)
        try:
            self.left = self.pipe.recv()
        except EOFError:  # the one that asks is gone
            self.left = 0
        if not self.left:
            raise Over
        self.begun = perf_counter()

    def watch(self, model, shape, trained):
        "Look at a net, to say later what it computed: the last one counts."
        self.model, self.shape, self.trained = model, shape, trained
        convs = [x for x in model.modules() if isinstance(x, nn.Conv2d)]

        def note(layer, given, answer):
            self.format = {torch.float32: "fp32"}.get(answer.dtype, str(answer.dtype))

        convs[-1].register_forward_hook(note)

    def facts(self):  # dict
        "What can be said of the net that computed, and of how."
        if self.model is None:
            return {"threads": torch.get_num_threads()}
        layers = [x for x in self.model.modules() if isinstance(x, nn.Conv2d)]
        wide = [
            x.weight for x in layers if x.in_channels > 4 and x.kernel_size > (1, 1)
        ]
        last = [w.is_contiguous(memory_format=torch.channels_last) for w in wide]
        return {
            "format": str(self.format).replace("torch.bfloat16", "bf16"),
            "layout": "channels_last" if all(last) else "contiguous",
            **size_of(self.model, self.shape, self.trained),
            "threads": torch.get_num_threads(),
        }


def size_of(model, shape, trained):  # dict
    "Weights that are used, and 10^9 operations per image."
    net = deepcopy(model).to("meta", torch.float32).train().requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        logits = net(torch.empty(shape, device="meta"))
        forward = counter.get_total_flops()
        logits.sum().backward()
    used = sum(w.numel() for w in net.parameters() if w.grad is not None)
    total = counter.get_total_flops() if trained else forward
    return {"parameters": used, "gflop": f"{total / shape[0] / 1e9:.4g}"}


class Paced:
    "The batches of a loader, each when its turn has come."

    def __init__(
        self,
        loader,  # DataLoader
        turn,  # Turn
    ):
        self.loader, self.turn = loader, turn

    def __iter__(self):
        while True:  # one long epoch, so that nothing is evaluated within a turn
            batches = iter(self.loader)
            for _ in range(len(self.loader)):
                self.turn()  # before a batch is loaded: loading is part of the step
                yield next(batches)


@dataclass
class Side:
    "Something that is measured: a function of a module, called as work(turn, *given)."

    name: str
    work: object
    given: tuple
    images: int  # per step
    environment: dict = field(default_factory=dict)
    first: float = 0.0  # seconds of the first step
    rounds: list = field(default_factory=list)  # seconds per image of each round
    facts: dict = field(default_factory=dict)
    failure: str = ""

    def seconds(self):  # float, per image
        return statistics.median(self.rounds)


def play(pipe, work, given, device, limited):
    "Be a side, in its process."
    if limited:  # what a processor without these instructions says of itself
        torch.cpu._is_avx512_bf16_supported = lambda: False
    turn = Turn(pipe, device)
    with suppress(BrokenPipeError):  # the one that asks is gone
        try:
            work(turn, *given)
        except Over:
            pipe.send(turn.facts())
        except Missing as error:
            pipe.send(str(error))
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            pipe.send(f"{type(error).__name__}: {text}")


@contextmanager
def set_environment(variables):
    "Set variables for the processes that are started here."
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def ask(side, pipe, steps):  # the answer, or None after a failure
    "Give a side its turn; what it says instead of seconds is a failure."
    if side.failure:
        return None
    try:
        if steps is not None:
            pipe.send(steps)
        answer = pipe.recv()
    except (EOFError, OSError):
        answer = "its process was killed"
    if isinstance(answer, str):
        side.failure = answer
        return None
    return answer


def take_turns(
    sides,  # list of Side; what is measured is put there
    rounds,  # how many turns each has
    steps,  # of a turn
    device,  # torch.device
    limited,  # True: to AVX2
):
    "Measure sides in turns: A B C, A B C, and so on."
    context, running = get_context("spawn"), []
    for side in sides:
        ours, theirs = context.Pipe()
        given = theirs, side.work, side.given, device, limited
        process = context.Process(target=play, args=given, daemon=True)
        with set_environment((LIMITED if limited else {}) | side.environment):
            process.start()
        theirs.close()
        running.append((side, ours, process))
    try:
        turns_of(running, rounds, steps)
    finally:
        for _, _, process in running:
            process.kill()  # it has nothing to lose
            process.join()


def turns_of(running, rounds, steps):
    "The turns of sides whose processes run."
    for side, pipe, _ in running:
        ask(side, pipe, None)  # it is ready
    for side, pipe, _ in running:
        side.first = ask(side, pipe, 1) or 0.0
        ask(side, pipe, 2)  # to warm up
    for _ in range(rounds):
        for side, pipe, _ in running:
            seconds = ask(side, pipe, steps)
            if seconds is not None:
                side.rounds.append(seconds / steps / side.images)
    for side, pipe, _ in running:
        side.facts = ask(side, pipe, 0) or {}
