"""One training of an experiment: so many steps, in a folder from which it goes on.

What `train_run` does for the data sets of the library, for any net, any data set and
any loss: the loop, the optimizer and the schedule are those of a `Recipe`.
"""

import time
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from unet_tutorial.data.loader import make_loader
from unet_tutorial.gpu import pick_device
from unet_tutorial.metrics import pixel_error_of
from unet_tutorial.runs.checkpoint import load_state, save_state
from unet_tutorial.runs.engine import Training, go_on
from unet_tutorial.runs.logbook import interruptible
from unet_tutorial.runs.recipes import rate_factor

SAVE_EVERY = 60.0  # seconds
OPTIMIZERS = {"SGD": torch.optim.SGD, "AdamW": torch.optim.AdamW}


def optimizer_of(
    recipe,  # Recipe
    net,  # whose weights it changes
):  # torch.optim.Optimizer
    "The optimizer that a recipe names."
    names = "lr", "momentum", "nesterov", "weight_decay", "betas"
    options = {name: getattr(recipe.optimizer, name) for name in names}
    given = {name: value for name, value in options.items() if value is not None}
    return OPTIMIZERS[recipe.optimizer.name](net.parameters(), **given)


def begin(recipe, net, steps, device):  # Training
    "A training at its beginning."
    net = net.to(memory_format=torch.channels_last)
    training = Training(
        net,
        optimizer_of(recipe, net),
        device=device,
        amp=recipe.amp,
        accumulate=recipe.accumulate,
        clip=recipe.clip,
        ema=recipe.ema,
    )

    def factor(step):
        return rate_factor(step / steps, recipe.warmup, recipe.schedule)

    training.scheduler = LambdaLR(training.optimizer, factor)
    return training


def learn(
    folder,  # str or Path: where its state is kept and found again; None: nowhere
    recipe,  # Recipe: batch, optimizer, schedule, averaging, format
    net,  # at its beginning, with its first weights
    train_set,  # Dataset; its length is that of an epoch
    held_out,  # Dataset to measure on after each epoch, one item at a time
    steps,  # of the optimizer
    seed=0,  # of the order of the items, and of drop-out
    criterion=None,  # None: cross-entropy
    metrics=None,  # name -> function of (K, K) counts; None: the pixel error
    device="auto",  # cuda, mps or cpu
    stop=None,  # called as stop(training, row) after each epoch; True: enough
):  # Training, after its last step; KeyboardInterrupt if it was stopped before
    "Train a net, or go on with its training."
    device = pick_device(device)
    state = None if folder is None else Path(folder, "state.safetensors")
    torch.manual_seed(seed)
    training = begin(recipe, net, steps, device)
    if state is not None and state.is_file():
        load_state(state, into=training)
    enough, saved = False, time.monotonic()
    loader = make_loader(train_set, recipe.batch, True, seed)
    valid_loader = make_loader(held_out, 1)
    metrics = metrics or {"pixel error": pixel_error_of}
    with interruptible() as asked:

        def callback(training, row):
            nonlocal saved, enough
            if row is not None and stop is not None:
                enough = enough or stop(training, row)
            over = asked or row is not None
            due = over or time.monotonic() - saved >= SAVE_EVERY
            if state is not None and due:
                state.parent.mkdir(parents=True, exist_ok=True)
                save_state(state, training, overwrite=True)
                saved = time.monotonic()
            if asked:
                text = f"stopped after {training.step} steps; the same command goes on"
                raise KeyboardInterrupt(text)

        # a batch of an epoch that was cut off by the last step: it is not yet measured
        while (training.step < steps or training.batch) and not enough:
            go_on(
                training,
                loader,
                valid_loader,
                criterion or nn.CrossEntropyLoss(),
                epochs=training.epoch + 1,
                metrics=metrics,
                steps=steps,
                watch=next(iter(metrics)),
                callback=callback,
            )
    return training


def curve_of(
    training,  # Training
    recipe,  # its Recipe
    items,  # in an epoch
    **key,  # what the rows begin with
):  # list of dict: a row per epoch
    "What was measured after each epoch, as rows."
    names = list(training.history)
    per_epoch = -(-items // recipe.batch // recipe.accumulate)
    rows = []
    for epoch, values in enumerate(zip(*training.history.values(), strict=True), 1):
        measured = dict(zip(names, values, strict=True))
        valid = {name: f"{x:.4f}" for name, x in measured.items()}
        rows.append({**key, "step": min(epoch * per_epoch, training.step), **valid})
    return rows
