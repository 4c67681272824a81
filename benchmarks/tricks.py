"""Single changes of a plain step: what each brings by itself, and some together.

The plain step is a padded `UNet` with batch normalisation, in 32 bits and contiguous,
on one and the same batch; trained with Adam, or asked about one image. `bench.py --what
tricks` measures them in turns, each in a process of its own.
"""

import os
import shutil
from contextlib import ExitStack

import torch
from torch import nn
from turns import Missing, Side

from unet_tutorial.predict import fold_batch_norm
from unet_tutorial.runs.memory import keep_memory

HUGE = {"THP_MEM_ALLOC_ENABLE": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
TRAINING = [
    ("plain",),
    ("channels_last",),
    ("keep_memory",),
    ("bf16",),
    ("channels_last", "keep_memory"),
    ("channels_last", "keep_memory", "bf16"),
    ("in-place ReLU",),
    ("fused Adam",),
    ("huge pages",),
    ("two threads per core",),
    ("torch.compile",),
    ("CUDA graph",),
]
PREDICTION = [
    ("plain",),
    ("channels_last",),
    ("keep_memory",),
    ("folded",),
    ("stack of 8",),
    ("bf16",),
    ("channels_last", "folded"),
    ("channels_last", "folded", "keep_memory"),
    ("channels_last", "folded", "keep_memory", "bf16"),
    ("two threads per core",),
    ("torch.compile",),
    ("CUDA graph",),
]


def sides(case, what, limited):  # list of Side
    "All changes of a step of training or prediction."
    work, every = (train, TRAINING) if what == "training" else (predict, PREDICTION)
    if limited:  # measured once, on the processor as it is; imitated bf16 is slow
        left_out = "torch.compile", "CUDA graph"
        every = [parts for parts in every if not {*left_out} & {*parts}]
        every = [parts for parts in every if "bf16" not in parts[1:]]
    found = []
    for parts in every:
        images = 8 if "stack of 8" in parts else 1
        images = case.batch if what == "training" else images
        environment = HUGE if "huge pages" in parts else {}
        if "torch.compile" in parts:  # nothing that another run has compiled
            cache = {"TORCHINDUCTOR_CACHE_DIR": os.path.join(case.folder, "compiled")}
            environment = cache | {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
        side = Side(", ".join(parts), work, (case, parts), images, environment)
        found.append(side)
    return found


def change_process(parts, stack):
    "Whatever is changed for the process as a whole."
    if "keep_memory" in parts:
        stack.enter_context(keep_memory())
    if "in-place ReLU" in parts:
        nn.functional.relu = torch.relu_
    if "two threads per core" in parts:
        torch.set_num_threads(2 * (os.cpu_count() or 1))
    if "bf16" in parts:
        stack.enter_context(torch.autocast("cpu", torch.bfloat16))
    if "CUDA graph" in parts:
        raise Missing("needs a GPU")
    if "torch.compile" in parts and not any(map(shutil.which, ("c++", "g++", "clang"))):
        raise Missing("torch.compile needs a C++ compiler")


def net_and_images(turn, case, parts, count):
    "A changed net, and images that it takes."
    torch.manual_seed(case.seed)
    model, images = case.net(), torch.rand(count, *case.shape[1:])
    if "channels_last" in parts:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    if "torch.compile" in parts:
        return torch.compile(model), images
    turn.watch(model, case.shape, trained=count == case.batch)
    return fold_batch_norm(model) if "folded" in parts else model, images


def train(turn, case, parts):
    "Steps of training on one batch."
    with ExitStack() as stack:
        change_process(parts, stack)
        model, images = net_and_images(turn, case, parts, case.batch)
        labels = (images[:, 0] > 0.5).long()
        fused = "fused Adam" in parts
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
        while True:
            turn()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images).float(), labels)
            loss.backward()
            optimizer.step()


@torch.no_grad()
def predict(turn, case, parts):
    "One image, or eight at a time."
    with ExitStack() as stack:
        change_process(parts, stack)
        count = 8 if "stack of 8" in parts else 1
        model, images = net_and_images(turn, case, parts, count)
        model.eval()
        while True:
            turn()
            model(images).argmax(1)
