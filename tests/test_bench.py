"""The benchmark beside others: turns, ratios, equal answers, and a small run."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from unet_tutorial.model import UNet

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
sys.path.insert(0, str(FOLDER))
try:
    import bench
    import others
    import tricks
    import turns
finally:
    sys.path.remove(str(FOLDER))

CPU = torch.device("cpu")


def tiny(folder="."):
    return bench.Case(str(folder), CPU, size=(64, 96), width=2)


# Nets


def test_equal_architectures_give_equal_answers():
    apart = bench.differences(tiny())
    assert set(apart) == {"textbook", "milesial", "fit", "Predictor"}
    assert apart["textbook"] == 0 and max(apart.values()) < 0.05


def test_a_net_that_differs_is_refused(monkeypatch):
    net_of = others.net_of

    def wrong(name, widths):
        net = net_of(name, widths)
        if name == "milesial":
            net.pool = nn.AvgPool2d(2)
        return net

    monkeypatch.setattr(others, "net_of", wrong)
    with pytest.raises(ValueError, match="milesial differs from the textbook by"):
        bench.differences(tiny())


def test_the_textbook_has_as_many_weights_as_ours():
    ours = UNet(3, 2, 32, padding=1, norm="batch")
    counts = [
        sum(weight.numel() for weight in net.parameters())
        for net in (ours, others.net_of("textbook", WIDTHS))
    ]
    assert counts[0] == counts[1]


WIDTHS = [32, 64, 128, 256, 512]


def test_padding_gives_an_odd_size_back():
    net = others.Plain(3, 2, [2, 4, 8], pad=True).eval()
    assert net(torch.rand(1, 3, 21, 30)).shape == (1, 2, 21, 30)
    with pytest.raises(RuntimeError):
        others.Plain(3, 2, [2, 4, 8])(torch.rand(1, 3, 21, 30))


def test_overlap_is_perfect_where_the_mask_is_right():
    labels = torch.randint(2, (2, 8, 8))
    logits = 100 * nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2).float()
    assert others.overlap_loss(logits, labels) < 1e-4
    assert others.overlap_loss(-logits, labels) > 0.9


def test_milesial_learns():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16)
    batch = images, (images[:, 0] > 0.5).long()
    net = others.Plain(3, 2, [4, 8], pad=True)
    before = [weight.clone() for weight in net.parameters()]
    assert others.milesial_training(net, [batch] * 3, "cpu") > 0
    assert not all(map(torch.equal, before, net.parameters()))
    assert net.last.weight.is_contiguous(memory_format=torch.channels_last)


# Turns


class Pipe:
    "Gives the steps of each turn, and keeps what is said."

    def __init__(self, *steps):
        self.steps, self.said = [*steps], []

    def send(self, message):
        self.said.append(message)

    def recv(self):
        return self.steps.pop(0)


def test_a_side_makes_the_steps_of_its_turns_and_no_more():
    pipe, done = Pipe(1, 3, 0), []

    def work(turn):
        while True:
            turn()
            done.append(len(pipe.said))  # answers that had been given before this step

    turns.play(pipe, work, (), CPU, limited=False)
    assert done == [1, 2, 2, 2]
    ready, first, second, facts = pipe.said
    assert ready == 0.0 and first > 0 and second > 0 and facts["threads"]


def test_a_paced_loader_never_ends_and_waits_before_loading():
    order = []

    class Loader(list):
        def __iter__(self):
            for item in [1, 2]:
                order.append(f"load {item}")
                yield item

    def turn():
        order.append("turn")
        if order.count("turn") > 3:
            raise turns.Over

    with pytest.raises(turns.Over):
        for item in turns.Paced(Loader([1, 2]), turn):
            order.append(f"step {item}")
    once = ["turn", "load 1", "step 1", "turn", "load 2", "step 2"]
    assert order == [*once, *once[:3], "turn"]


def test_what_fails_is_said(monkeypatch):
    pipe = Pipe()

    def work(turn):
        raise ImportError("No module named 'monai'")

    turns.play(pipe, work, (), CPU, limited=False)
    (said,) = pipe.said
    side = bench.Side("monai", work, (), 2)
    assert turns.ask(side, Pipe(said), None) is None
    row = bench.row_of(side, "training", {})
    assert row["note"] == "not yet measured: ImportError: No module named 'monai'"
    assert "seconds" not in row


def test_the_net_is_looked_at_while_it_computes():
    turn = turns.Turn(Pipe(), CPU)
    net = UNet(3, 2, 4, depth=2, padding=1, norm="batch")
    turn.watch(net, (2, 3, 32, 32), trained=True)
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.rand(2, 3, 32, 32))
    facts = turn.facts()
    assert facts["format"] == "bf16" and facts["layout"] == "contiguous"
    assert facts["parameters"] == sum(weight.numel() for weight in net.parameters())
    net.to(memory_format=torch.channels_last)(torch.rand(2, 3, 32, 32))
    assert turn.facts()["format"] == "fp32"
    assert turn.facts()["layout"] == "channels_last"


def test_a_step_of_training_is_about_three_times_a_prediction():
    net = UNet(3, 2, 4, depth=2, padding=1, norm="batch")
    one, three = (
        float(turns.size_of(net, (2, 3, 32, 32), trained)["gflop"])
        for trained in (False, True)
    )
    assert 2.7 < three / one < 3
    conv = nn.Conv2d(3, 8, 3, padding=1)
    found = turns.size_of(conv, (2, 3, 32, 32), False)["gflop"]
    assert float(found) == pytest.approx(2 * 27 * 8 * 32 * 32 / 1e9, rel=1e-3)


def test_variables_are_set_for_a_process_and_taken_back(monkeypatch):
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "before")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    with turns.set_environment(turns.LIMITED):
        assert turns.os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert turns.os.environ["MKL_ENABLE_INSTRUCTIONS"] == "before"
    assert "ONEDNN_MAX_CPU_ISA" not in turns.os.environ


# Rows


def test_ratios_and_shares_come_from_the_seconds():
    table = [
        {"who": "textbook", "seconds": "0.2", "gflop": "10", "format": "fp32"},
        {"who": "fit", "seconds": "0.1", "gflop": "10", "format": "bf16"},
        {"who": "monai", "note": "not yet measured: no package"},
    ]
    found = bench.with_ratios(table, "textbook")
    assert [row.get("ratio") for row in found] == ["1.00", "2.00", None]
    found = bench.with_shares(found, {"fp32": 100.0, "bf16": 400.0})
    assert [row.get("share") for row in found] == ["50", "25", None]
    assert bench.with_ratios(table[1:], "textbook") == table[1:]  # nothing to compare


def test_a_row_holds_the_median_and_the_spread():
    side = bench.Side("fit", None, (), 2, rounds=[0.1, 0.4, 0.2], first=3.0)
    row = bench.row_of(side, "training", {"torch": "2"})
    assert (row["seconds"], row["spread"], row["rounds"]) == ("0.2", "4.00", 3)


def test_open_rows_make_room(tmp_path):
    table = bench.rows.Rows(tmp_path / "speed.csv", bench.KEYS)
    bench.leave_open(table, "textbook", ("training", "prediction"))
    kinds = [row["instructions"] for row in table.rows]
    assert kinds == ["AMX", "AMX", "GPU", "GPU"]
    assert all(row["note"].startswith("not yet measured: ") for row in table.rows)
    known = {"what": "training", "who": "textbook", "processor": "X", "seconds": "1"}
    table.add(known | {"instructions": "AMX"})
    bench.leave_open(table, "textbook", ("training", "prediction"))
    kinds = [row["instructions"] for row in table.rows]
    assert kinds == ["AMX", "GPU", "GPU"] and table.rows[0]["seconds"] == "1"


def test_rows_of_another_machine_stay(tmp_path):
    for processor in ("A", "B", "A"):
        table = bench.rows.Rows(tmp_path / "speed.csv", bench.KEYS)
        row = {"what": "training", "who": "fit", "instructions": "AVX2"}
        table.add(row | {"processor": processor, "seconds": len(table.rows)})
    found = [(row["processor"], row["seconds"]) for row in table.rows]
    assert found == [("B", "1"), ("A", "2")]


# Tricks


def test_every_trick_has_its_row_and_the_first_is_plain():
    for what in ("training", "prediction"):
        names = [side.name for side in tricks.sides(tiny(), what, False)]
        assert names[0] == "plain" and len(names) == len({*names})


# The script


def test_a_small_run_writes_rows_whose_ratios_are_right(tmp_path):
    command = [sys.executable, FOLDER / "bench.py", "--small", "--isa", "native"]
    command += ["--only", "fit", "Predictor", "matmul fp32", "CUDA graph"]
    run = subprocess.run(
        [*command, "--out", tmp_path], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    with open(tmp_path / "speed.csv", newline="") as file:
        found = list(csv.DictReader(file))
    measured = [row for row in found if row["seconds"]]
    asked = {(row["what"], row["who"]) for row in measured}
    one, many = "prediction, one image", "prediction, stack"
    assert asked == {
        ("limit", "matmul fp32"),
        *(("training", who) for who in ("textbook", "fit")),
        *((what, who) for what in (one, many) for who in ("textbook", "Predictor")),
    }
    for row in measured:
        assert row["command"].startswith("benchmarks/bench.py --small")
        assert row["processor"] and row["instructions"] and row["seed"] == "0"
        if row["what"] != "limit":
            pair = row["what"], "textbook"
            (base,) = [x for x in measured if (x["what"], x["who"]) == pair]
            ratio = float(base["seconds"]) / float(row["seconds"])
            assert float(row["ratio"]) == pytest.approx(ratio, abs=0.01)
            assert float(row["gflop"]) > 0 and row["parameters"]
    with open(tmp_path / "speed_tricks.csv", newline="") as file:
        here = [row for row in csv.DictReader(file) if row["processor"] != "any"]
    notes = {row["who"]: row.get("note") for row in here}
    assert notes == {"plain": "", "CUDA graph": "not yet measured: needs a GPU"}


def test_columns_do_not_run_together(capsys):
    row = {"what": "limit", "who": "JPEG decoding", "seconds": "0.0004741"}
    row |= {"value": "2.11e+03", "unit": "images/s"}
    bench.show([row, row | {"what": "w" * 40, "who": "v" * 50, "value": "1" * 30}])
    for line in capsys.readouterr().out.splitlines():
        assert " 0.0004741 s " in line and " images/s" in line
        words = line.split()
        assert words[-1] == "images/s" and not words[-2].startswith("s")
        assert "s" * 2 not in line and "wv" not in line and "v0" not in line
