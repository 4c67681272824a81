"""Several processes are one training: the same gradients, counts, stops and files."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import processes
import pytest
import torch
from conftest import free_port
from samples import carvana, says
from torch import nn

from unet_tutorial import cli
from unet_tutorial.model import UNet
from unet_tutorial.runs import distributed, recipes
from unet_tutorial.runs import run as runs
from unet_tutorial.runs.checkpoint import load_state
from unet_tutorial.runs.distributed import (
    DealtSampler,
    SharedBatchNorm,
    dealt_batches,
    share_batch_norm,
)
from unet_tutorial.runs.weights import load_net

HERE = Path(__file__).resolve().parent
QUIET = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "GLOO_SOCKET_IFNAME": "lo"}
TIMEOUT = 240  # seconds for anything; nothing here takes a tenth of it alone


def environment(**more):
    inherited = {k: x for k, x in os.environ.items() if k not in distributed._TOLD}
    path = os.pathsep.join([str(HERE.parent), str(HERE)])
    return inherited | QUIET | {"PYTHONPATH": path} | more


def start(command, folder, **more):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(**more), **pipes)


def finish(started):
    "What each process printed, and its exit status; none is left behind."
    end, told = time.monotonic() + TIMEOUT, []
    try:
        for process in started:
            text = process.communicate(timeout=max(1, end - time.monotonic()))[0]
            told.append((process.returncode, text))
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()  # torchrun then ends its own
    return told


def together(folder, *cases, count=2):
    "Do cases of processes.py in several processes, as torchrun would start them."
    port, started = str(free_port()), []
    for rank in map(str, range(count)):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(count)}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, HERE / "processes.py", folder, *cases]
        started.append(start(command, folder, **told))
    return finish(started)


def torchrun(folder, *command, options=("--standalone", "--nproc-per-node=2")):
    launcher = [sys.executable, "-m", "torch.distributed.run", *options]
    return start([*launcher, *command], folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    "What two processes came to, all cases in one go; and one process alone."
    two, one = (tmp_path_factory.mktemp(name) for name in ("two", "one"))
    cases = "equal halfway again late not_finite told dropped summed_at_home stopped"
    for status, text in together(two, *cases.split()):
        assert status == 0, text
    processes.equal(one)
    return two, one


def notes(folder, name):
    return [json.loads((folder / f"{name} {i}.json").read_text()) for i in range(2)]


def states(found, name):
    return [load_state(folder / f"{name}.safetensors") for folder in found]


# Dealing


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 10, 12])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_batch_is_dealt_and_no_item_twice(length, count):
    every = [DealtSampler(length, 4, 5, True, count, number) for number in range(count)]
    alone = list(DealtSampler(length, 4, 5))
    assert sorted(alone) == list(range(length))
    assert len({-(-len(part) // part.own) for part in every}) == 1  # batches
    for number in range(-(-length // 4)):
        batch, dealt = alone[4 * number : 4 * number + 4], []
        for part in every:
            part.start = number * part.own
            mine = list(part)[: part.own]
            share = part.share(number)
            assert share * len(batch) == (len(mine) if share else 0)
            assert mine  # nobody is without a batch
            dealt += mine if share else []
        assert sorted(dealt) == sorted(batch)
        assert sum(part.share(number) for part in every) == pytest.approx(1)


def test_dealt_orders_go_by_seed_and_epoch():
    orders = [DealtSampler(8, 2, seed, True, 2, 0) for seed in (0, 0, 1)]
    lists = [list(order) for order in orders]
    assert lists[0] == lists[1] != lists[2]
    orders[0].set_epoch(1)
    assert list(orders[0]) != lists[0] and len(orders[0]) == 4
    with pytest.raises(
        ValueError, match=says("3 processes", "a batch of 6 would work")
    ):
        DealtSampler(8, 4, processes=3, number=0)


def test_whole_batches_are_dealt_once():
    for length, batch, count in ((7, 2, 2), (1, 2, 2), (0, 1, 3), (9, 1, 4)):
        parts = [dealt_batches(length, batch, count, number) for number in range(count)]
        assert sorted(chain(*parts)) == list(range(length))


# Two processes, and one


@pytest.mark.parametrize("name", ["plain", "summed", "shared norm", "instance"])
def test_two_processes_are_one(found, name):
    two, one = states(found, name)
    for part in ("model", "average"):
        assert two[part].keys() == one[part].keys()  # no `module.` before a name
        for key, weight in one[part].items():
            close = torch.allclose(two[part][key], weight, rtol=0, atol=1e-6)
            assert close, (part, key)
    for key, values in one["progress"]["history"].items():
        assert two["progress"]["history"][key] == pytest.approx(values, abs=1e-6)
    assert two["progress"]["step"] == one["progress"]["step"]
    assert two.keys() == one.keys()


def test_a_normalisation_of_ones_own_part_is_another_training(found):
    two, one = states(found, "own norm")
    name = "contracting.first.conv1.weight"
    assert not torch.allclose(two["model"][name], one["model"][name], atol=1e-4)
    assert two["model"].keys() == one["model"].keys()


def test_a_state_of_two_goes_on_with_two_exactly(found):
    ended, again = notes(found[0], "ended"), notes(found[0], "ended again")
    assert ended == again and ended[0] == ended[1]


def test_a_state_of_two_goes_on_alone(found, tmp_path):
    training = processes.begin(norm="batch", dropout=0.5)
    load_state(found[0] / "halfway.safetensors", into=training)
    assert (training.epoch, training.batch) == (1, 2)
    history = processes.train(training)
    assert training.epoch == 2 and len(history["dice"]) == 2


def test_gradients_travel_once_per_step(found):
    assert notes(found[0], "summed at home") == [[4, 4]] * 2  # and not with 6 batches


def test_all_stop_together(found):
    assert notes(found[0], "stopped") == [2, 2]


def test_the_clock_of_the_first_decides(found):
    steps = notes(found[0], "late")
    assert steps == [6, 6]  # a minute


def test_all_say_what_is_not_finite(found):
    first, second = notes(found[0], "not finite")
    assert first == second == [first[0], 1]
    assert "epoch 1, batch 2" in first[0] and "0, 3, 4] is nan" in first[0]


def test_the_first_tells_the_others(found):
    both = notes(found[0], "told")
    assert both == [[7, "FileNotFoundError", [0, 1], [3.0, 1.0], None]] * 2


def test_drop_out_differs(found):
    first, second = notes(found[0], "dropped")
    assert first != second


def test_who_loses_the_others_says_so(tmp_path):
    (first, text), (second, _) = together(tmp_path, "lost")
    assert second == -signal.SIGKILL
    assert first == 1 and "another process of this run has ended" in text


# Alone


def test_alone_nothing_is_joined(monkeypatch):
    for name in distributed._TOLD:
        monkeypatch.delenv(name, raising=False)
    cpu, net = torch.device("cpu"), nn.Conv2d(1, 1, 1)
    with distributed.joined(distributed.own_device(cpu)):
        assert not torch.distributed.is_initialized() and distributed.is_first()
    assert distributed.in_step(net, cpu) is net
    assert distributed.add_up([1, 2]) == [1, 2] and distributed.gather(3) == [3]


def test_each_process_has_its_card(monkeypatch):
    for name in distributed._TOLD:
        monkeypatch.setenv(name, "3")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(distributed, "pick_device", torch.device)
    assert distributed.own_device(torch.device("cuda")) == torch.device("cuda:3")
    assert chosen == [torch.device("cuda:3")] and not distributed.is_first()
    with pytest.raises(ValueError, match=says("mps", "device='cpu' would work")):
        distributed.own_device(torch.device("mps"))
    own = torch.device("cuda:1")
    assert distributed.own_device(own) == own  # the only process of its machine
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=says("cuda:1", "device='cuda' would work")):
        distributed.own_device(own)


def test_shared_normalisation_keeps_the_names():
    net = UNet(base_channels=2, depth=1, padding=1, norm="batch")
    names, weights = list(net.state_dict()), list(net.parameters())
    share_batch_norm(net)
    assert any(isinstance(layer, SharedBatchNorm) for layer in net.modules())
    assert list(net.state_dict()) == names
    assert all(a is b for a, b in zip(net.parameters(), weights, strict=True))


# The command


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cars")
    carvana(folder / "carvana", [*"a_01 a_02 b_01 b_02 b_03 c_01".split()])
    recipe = recipes.as_dict(recipes.read_recipe("modern"))
    recipe["net"] |= {"base_channels": 2, "depth": 1}
    recipe |= {"batch": 4, "amp": False}
    (folder / "small.json").write_text(json.dumps(recipe))
    return folder


def train_command(out, epochs=2):
    text = f"--kind carvana --data carvana --out {out} --recipe small.json --size 32x48"
    text += f" --epochs {epochs} --held-out 1 --device cpu"
    return text.split()


def test_the_command_is_restarted_and_goes_on(cars):
    "The second process kills itself in the first round, after the first epoch."
    script = cars / "killed.py"
    script.write_text(KILLED)
    words = ["train", *train_command("killed"), "--resume-if-there"]
    options = "--standalone", "--nproc-per-node=2", "--max-restarts=1"
    ((status, text),) = finish([torchrun(cars, script, *words, options=options)])
    assert status == 0, text
    assert "another process of this run has ended" in text
    assert text.count("killed is ready") == 1 and text.count("epoch   2") == 1
    assert "in 2 processes" in text and "(1 step done)" in text
    here = json.loads((cars / "killed" / "environment.json").read_text())
    assert here["processes"] == 2
    load_net(cars / "killed" / "best.safetensors")
    lines = (cars / "killed" / "history.csv").read_text().splitlines()
    assert len(lines) == 3


KILLED = """
import os, signal, sys
from functools import partial
from unet_tutorial import cli
from unet_tutorial.runs import run

silent = run._silent

def deadly(asked):
    def callback(training, row):
        obey(training, row)
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and training.epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    obey = silent(asked)
    return callback

run._silent = deadly
run.begin_or_resume = partial(run.begin_or_resume, save_every=0)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ctrl_c_is_passed_on(cars):
    "The launcher is interrupted, not a process; it gives them time to save."
    words = ["-m", "unet_tutorial", "train", *train_command("asked", 10**6)]
    launcher, end = torchrun(cars, *words), time.monotonic() + TIMEOUT
    picture = cars / "asked" / "curves.png"  # is drawn after the first epoch
    while not picture.exists() and time.monotonic() < end and launcher.poll() is None:
        time.sleep(0.1)
    launcher.send_signal(signal.SIGINT)
    ((_, text),) = finish([launcher])
    assert text.count("all is saved") == 1, text
    step = int(re.search("stopped after ([0-9]+) steps", text)[1])
    state = load_state(cars / "asked" / "state.safetensors")
    assert state["progress"]["step"] == step > 0


def test_two_machines(cars):
    "Two launchers of one process each, which know nothing of each other's folders."
    port, started = free_port(), []
    for node in ("0", "1"):
        place = f"--master-addr=127.0.0.1 --master-port={port} --nnodes=2"
        options = [*place.split(), "--nproc-per-node=1", f"--node-rank={node}"]
        words = ["-m", "unet_tutorial", "train", *train_command(f"node{node}", 1)]
        started.append(torchrun(cars, *words, options=options))
    (first, text), (second, other) = finish(started)
    assert first == second == 0, text + other
    assert "node0 is ready" in text and "ready" not in other
    assert (cars / "node0" / "last.safetensors").is_file()
    assert not (cars / "node1").exists()


def test_begin_or_resume(cars, monkeypatch, capsys):
    monkeypatch.chdir(cars)
    monkeypatch.setattr(runs.pictures, "draw_run", lambda *args: b"")
    words = ["train", *train_command("alone", 1), "--resume-if-there"]
    assert cli.main(words) == 0
    before = (cars / "alone" / "last.safetensors").read_bytes()
    assert cli.main(words) == 0  # all is done already
    assert (cars / "alone" / "last.safetensors").read_bytes() == before
    assert cli.main([*words, "--seed", "7"]) == 1
    assert "begun with seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--kind", "carvana", "--data", "nowhere"], "error: nowhere is not a folder"),
        (["--kind", "fmri"], "invalid choice: 'fmri'"),
    ],
)
def test_an_error_that_all_have_is_told_once(cars, words, text):
    words = ["-m", "unet_tutorial", "train", *words, "--out", "none", "--device", "cpu"]
    ((status, told),) = finish([torchrun(cars, *words)])
    assert status != 0 and told.count(text) == 1, told
    assert "process 1: error" not in told and not (cars / "none").exists()
