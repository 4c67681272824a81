"""How many more to draw: the budget, the curve, what is said of it, and breaks."""

import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from samples import names, says

from unet_tutorial import cli
from unet_tutorial.runs import enough
from unet_tutorial.runs.enough import (
    Trained,
    answer,
    draw_curve,
    how_many_more,
    last_gain,
    next_gain,
    order_of,
    read_curve,
    sizes_for,
    steps_for,
    what_to_do,
)
from unet_tutorial.runs.logbook import Stopped
from unet_tutorial.show import ROLES


def rows_of(error, sizes=(2, 4, 8, 16), spread=0.0, seeds=3, learned=0.97):
    "Rows whose held-out score is 1 - error(n), more or less by a spread per seed."
    shift = {seed: spread * (-1) ** seed for seed in range(seeds)}
    return [
        Trained(n, s, 1 - error(n) + shift[s] * n / max(sizes), learned, 9, 1.0, "")
        for s in range(seeds)
        for n in sizes
    ]


RISES = rows_of(lambda n: 0.4 * n**-0.5)
FLAT = rows_of(lambda n: 0.2)
FALLS = rows_of(lambda n: 0.1 + 0.01 * n)
WIDE = rows_of(lambda n: 0.2, spread=0.1)


def draw(place, count, start=0):
    "Write images of a bright square on noise, and their masks."
    for name in ("images", "masks"):
        (place / name).mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        rng = np.random.default_rng(number)
        mask = np.zeros((48, 48), np.uint8)
        row, column = rng.integers(4, 30, 2)
        mask[row : row + 14, column : column + 14] = 255
        image = rng.integers(0, 80, mask.shape, np.uint8) + mask // 2
        Image.fromarray(image).save(place / f"images/{number}.png")
        Image.fromarray(mask).save(place / f"masks/{number}.png")
    return place / "images", {"options": {"masks": str(place / "masks")}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "A step need not be timed, nor tried, in every test."
    monkeypatch.setattr(enough.planner, "time_step", lambda *rest: 0.1)
    monkeypatch.setattr(enough, "_try", lambda *rest: (0.5, 3.0))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    "A finished study of five images: folder, images, what was asked, the answer."
    place = tmp_path_factory.mktemp("enough")
    images, asked = draw(place, 5)
    asked |= {"steps": 2, "seeds": 2, "device": "cpu", "workers": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enough.planner, "time_step", lambda *rest: 0.1)
        patch.setattr(enough, "_try", lambda *rest: (0.5, 3.0))
        return (
            place / "out",
            images,
            asked,
            how_many_more(images, place / "out", **asked),
        )


# The budget


def test_sizes_are_doublings():
    assert sizes_for(64) == [2, 4, 8, 16, 32, 64] and sizes_for(63)[-1] == 32
    assert sizes_for(3) == sizes_for(2) == [1, 2] and sizes_for(4) == [2, 4]


def test_orders_are_nested_and_differ_by_seed():
    assert sorted(order_of(9, 3)) == list(range(9))
    assert len({tuple(order_of(9, seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize(("minutes", "trainings"), [(30, 12), (8, 9), (600, 24)])
def test_the_budget_is_used_and_not_overdrawn(minutes, trainings):
    steps = steps_for(minutes, trainings, 0.3, 4.0)
    assert trainings * (4.0 + 0.3 * steps) <= 0.9 * 60 * minutes
    assert trainings * (4.0 + 0.3 * (steps + 1)) > 0.9 * 60 * minutes


def test_too_few_minutes_are_refused_with_a_number_that_works():
    with pytest.raises(ValueError, match=says("12 trainings", "--minutes")) as caught:
        steps_for(1, 12, 0.3, 4.0)
    needed = int(str(caught.value).split("minutes=")[1].split()[0])
    assert steps_for(needed, 12, 1.2 * 0.3, 1.2 * 4.0) >= 50  # and a slower machine
    assert "as fast as now" in str(caught.value) and "--seeds" not in str(caught.value)
    with pytest.raises(ValueError, match="fewer seeds"):
        steps_for(1, 12, 0.3, 4.0, seeds=3)
    with pytest.raises(ValueError) as caught:  # the trial has taken its time as well
        steps_for(3, 12, 0.3, 4.0, spent=2.5)
    needed = int(str(caught.value).split("minutes=")[1].split()[0])
    assert steps_for(needed, 12, 0.3, 4.0, spent=2.5) >= 50


# What is said


def test_the_gain_is_paired_by_seed():
    apart = rows_of(lambda n: 0.3 - 0.01 * n)
    apart = [row._replace(held_out=row.held_out + 0.1 * row.seed) for row in apart]
    assert last_gain(apart) == pytest.approx((0.08, 0.0), abs=1e-9)


def test_a_power_law_is_found_again():
    gain, half = next_gain(RISES)
    assert gain == pytest.approx(0.4 * (16**-0.5 - 32**-0.5), rel=1e-6)
    assert half == pytest.approx(0, abs=1e-9)
    assert next_gain(rows_of(lambda n: 1 / n, sizes=(2, 4, 8))) is None


def test_a_perfect_score_has_a_law_all_the_same():
    gain, half = next_gain(rows_of(lambda n: 0.1 if n < 8 else 0.0))
    assert 0 <= gain < 0.01 and np.isfinite(half)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (RISES, ["Draw more"]),
        (FLAT, ["Do not draw more of the same kind", "one rule"]),
        (FALLS, ["Do not draw more yet", "Train longer", "labels"]),
        (WIDE, ["cannot be told", "--seeds"]),
        (rows_of(lambda n: 0.4 / n, (1, 2)), ["Draw some more", "one and two"]),
        (rows_of(lambda n: 0.2, (1, 2), learned=0.3), ["Draw some more"]),
        (rows_of(lambda n: 0.02), ["Do not draw", "it is enough"]),
        (rows_of(lambda n: 0.4, learned=0.6), ["0.60", "First train longer", "labels"]),
        (rows_of(lambda n: 0.4 / n, learned=0.8), ["Draw more", "train longer"]),
    ],
)
def test_what_to_do_follows_from_the_curve(rows, words):
    assert says(*words).search(what_to_do(rows))


def test_the_answer_tells_numbers_intervals_and_doubts():
    told = answer(RISES, "dice", held=7, pool=40)
    assert says("7 held-out", "9 steps", "3 seeds", "from 8 to 16 images").search(told)
    assert says("+0.041 (95 % interval", "to 32 images", "+0.029").search(told)
    assert "cannot be told" not in told and "too narrow" not in told
    assert "With 16 of 20 images" in answer(RISES, held=7, pool=20)


@pytest.mark.parametrize("rows", [WIDE, rows_of(lambda n: 0.2, (2, 4), 0.1)])
def test_where_the_interval_spans_zero_nothing_is_claimed(rows):
    told = answer(rows)
    assert "help cannot be told" in told and "at most" not in told


@pytest.mark.parametrize("learned", [0.97, 0.6])
@pytest.mark.parametrize("sizes", [(1, 2), (2, 4), (2, 4, 8, 16)])
def test_no_two_sentences_disagree(sizes, learned):
    """Whether more images help is said once, in the verdict."""
    shapes = {
        "rises": lambda n: 0.4 * n**-0.5,
        "flat": lambda n: 0.2,
        "falls": lambda n: 0.1 + 0.01 * n,
        "wide": lambda n: 0.2,
    }
    for name, error in shapes.items():
        spread = 0.1 if name == "wide" else 0.001
        told = answer(rows_of(error, sizes, spread, learned=learned), pool=40)
        verdicts = "Draw some more", "Draw more", "Do not d", "First train"
        assert sum(told.count(verdict) for verdict in verdicts) == 1, told
        rest = told.replace(told.split("What to do: ")[1].split("\n")[0], "")
        assert "cannot be told" not in rest and "help" not in rest, told
        assert ("would bring" in rest) == (name == "rises" and max(sizes) > 2), told


def test_few_sizes_and_flat_curves_are_not_extrapolated():
    assert "takes 4 sizes" in answer(rows_of(lambda n: 1 / n, sizes=(2, 4, 8)))
    for rows in (FLAT, FALLS):
        assert "One more doubling" not in answer(rows)


def test_the_picture_has_its_sizes_and_labels():
    figure = draw_curve(RISES)
    axis = figure.axes[0]
    ticks = [label.get_text() for label in axis.get_xticklabels()]
    assert ticks == ["2", "4", "8", "16", "32"]  # the last is the guess
    assert "images" in axis.get_xlabel() and axis.get_ylabel() == "Dice"
    assert axis.get_title() and len(figure.legends[0].get_texts()) == 3
    bars = [bar.lines[0].get_color() for bar in axis.containers]
    assert bars == [ROLES[name] for name in ("training", "held out", "held out")]
    assert len(draw_curve(FLAT, "mean dice").axes[0].get_xticks()) == 4


# The work


def test_one_row_each_with_equal_steps_and_judges_unseen(done):
    out, images, _, told = done
    rows = read_curve(out)
    assert [row[:2] for row in rows] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert {row.steps for row in rows} == {2}
    assert names(out) == ["answer.txt", "curve.csv", "curve.png", "plan.json"]
    assert (out / "answer.txt").read_text() == f"{told}\n"
    held = set(enough.recipes.read_json(out / "plan.json")["held"])
    drawn = [set(row.drawn.split(" | ")) for row in rows]
    assert len(held) == 2 and not any(part & held for part in drawn)
    assert drawn[0] < drawn[1] and set().union(*drawn) <= set(names(images)) - held
    assert all(0 <= x <= 1 for row in rows for x in (row.held_out, row.learned))


def test_the_runs_see_what_is_drawn_and_are_judged_by_the_rest(
    done, tmp_path, monkeypatch
):
    _, images, asked, _ = done
    given = []

    def watch(kind, source, out, device, **options):
        given.append((source, options["held_out"], options["steps"]))
        raise InterruptedError

    monkeypatch.setattr(enough, "begin_or_resume", watch)
    with pytest.raises(InterruptedError):
        how_many_more(images, tmp_path / "out", **asked)
    source, judges, steps = given[0]
    held = enough.recipes.read_json(tmp_path / "out/plan.json")["held"]
    assert [source.items[n].image.name for n in judges] == held and steps == 2
    assert len(source) == 1 + len(held)


def test_only_what_is_missing_is_trained_again(done, tmp_path, monkeypatch):
    out, images, asked, told = done
    rows = read_curve(shutil.copytree(out, tmp_path / "out"))
    enough._write_curve(tmp_path / "out", [rows[0], rows[3]])
    began, train = [], enough.begin_or_resume
    monkeypatch.setattr(
        enough,
        "begin_or_resume",
        lambda *rest, **options: began.append(rest[2].name) or train(*rest, **options),
    )
    assert how_many_more(images, tmp_path / "out", **asked) == told
    assert began == ["2_images_seed_0", "1_images_seed_1"]
    again = {row[:4] for row in read_curve(tmp_path / "out")}
    assert again == {row[:4] for row in rows}


@pytest.mark.parametrize(("given", "used"), [(None, "auto"), (False, False)])
def test_a_step_is_timed_in_the_format_that_was_asked_for(monkeypatch, given, used):
    class Timed(Exception):
        pass

    def time_step(facts, device, amp, announce):
        raise Timed(amp)

    monkeypatch.setattr(enough.planner, "time_step", time_step)
    monkeypatch.setattr(enough.planner, "measure_folder", lambda pool: None)
    parts = SimpleNamespace(pool=range(8), device=None)
    asked = {"seeds": 1, "steps": None, "minutes": 9, "amp": given}
    clock = enough._Clock(9, 0.0)
    with pytest.raises(Timed) as timed:
        enough._settle(parts, asked, {}, clock, print)
    assert timed.value.args == (used,)


def test_an_interrupted_training_goes_on(done, tmp_path, monkeypatch):
    out, images, asked, told = done
    train = enough.begin_or_resume

    def interrupted(*rest, report, **options):
        def stop(training, row):
            report(training, row)
            if rest[2].name == "2_images_seed_0" and training.step == 1:
                os.kill(os.getpid(), signal.SIGINT)

        return train(*rest, report=stop, **options)

    with monkeypatch.context() as patch:
        patch.setattr(enough, "begin_or_resume", interrupted)
        with pytest.raises(Stopped, match=says("kept: 1", "goes on")):
            how_many_more(images, tmp_path / "out", **asked)
    assert "2_images_seed_0" in names(tmp_path / "out")
    assert how_many_more(images, tmp_path / "out", **asked) == told
    assert names(tmp_path / "out") == names(out)


def test_minutes_become_steps_that_are_kept(tmp_path, monkeypatch):
    images, asked = draw(tmp_path, 5)

    def stop(*rest):
        raise InterruptedError

    monkeypatch.setattr(enough, "_do_one", stop)
    said = []
    for _ in range(2):
        with pytest.raises(InterruptedError):
            how_many_more(
                images,
                tmp_path / "out",
                4,
                2,
                device="cpu",
                announce=said.append,
                **asked,
            )
    plan = enough.recipes.read_json(tmp_path / "out/plan.json")
    assert 98 <= plan["steps"] <= 102  # of (0.9 * 60 - 3) / 0.5
    line = f"4 trainings (1, 2 images, 2 seeds) of {plan['steps']} steps each"
    assert [line in text for text in said[-2:]] == [True, True] and len(said) == 3


def test_a_trial_tells_what_a_step_costs(tmp_path, monkeypatch):
    monkeypatch.undo()
    images, asked = draw(tmp_path, 4)
    source = enough.open_folder(images, **asked["options"])
    device = enough.torch.device("cpu")
    parts = enough._Parts(*enough._parts(source, None), device, 0)
    recipe = enough.planner.plan_for(
        enough.planner.measure_folder(parts.pool), 0.1, None
    ).recipe
    step, rest = enough._try(parts, recipe, {"size": "native", "amp": False}, 2)
    assert 0 < step < 30 and 0 < rest < 120


# The minutes hold


class Late(enough._Clock):
    """A clock on which each training takes a minute, whatever it does."""

    done = 0

    def spent(self):
        return 60.0 * self.done


@pytest.fixture
def late(monkeypatch, tmp_path):
    """Return what asks for a curve of four trainings, each of which takes a minute."""
    images, asked = draw(tmp_path, 5)
    clocks = []

    def do_one(study, parts, out, images, seed, clock):
        clock.done += 1
        row = Trained(images, seed, 0.8, 0.9, study.steps, 50.0, "")
        (out / "run").mkdir()
        return row, out / "run"

    def clock(minutes, began):
        clocks.append(Late(minutes, began))
        return clocks[-1]

    monkeypatch.setattr(enough, "_Clock", clock)
    monkeypatch.setattr(enough, "_do_one", do_one)
    out, known = tmp_path / "out", {"seeds": 2, "device": "cpu", **asked}

    def ask(minutes, said):
        text = how_many_more(images, out, minutes, announce=said.append, **known)
        return text, read_curve(out), clocks[-1].spent() / 60

    return ask


def test_what_does_not_fit_is_left_out_and_done_by_the_next_call(late, tmp_path):
    text, rows, spent = late(2.5, said := [])
    assert (
        len(rows) == 2 and spent <= 2.5 and names(tmp_path / "out")[-1] == "plan.json"
    )
    words = "2 of 4", "1 image, seed 1; 2 images, seed 1", "same command"
    assert says(*words).search(text)
    assert "1 image, seed 0: 0.800" in text and "No answer yet" in text
    assert said[-1] == "taken: 2.0 minutes, of 2.5 minutes"
    enough_for_all = float(text.split("(--minutes ")[1].split(")")[0])
    assert enough_for_all >= 4
    text, rows, spent = late(2.5, said)
    assert len(rows) == 4 and "Left out" not in text and "What to do" in text
    assert "curve.png" in names(tmp_path / "out")


def test_the_first_training_shortens_the_others_once_if_they_would_not_fit(
    late, tmp_path, monkeypatch
):
    monkeypatch.setattr(enough, "_SHARE", 3.0)  # the plan promises too much
    cost = {}

    def slow(study, parts, out, images, seed, clock):
        seconds = 10 + study.steps / 4
        cost[study.steps] = seconds
        clock.done += seconds / 60
        (out / "run").mkdir()
        row = Trained(images, seed, 0.8, 0.9, study.steps, study.steps / 4, "")
        return row, out / "run"

    monkeypatch.setattr(enough, "_do_one", slow)
    monkeypatch.setattr(enough, "_try", lambda *rest: (0.01, 1.0))
    plans = []
    write = enough._write_plan

    def wrote(out, study):
        plans.append(study.steps)
        monkeypatch.setattr(enough, "_SHARE", 0.9)
        return write(out, study)

    monkeypatch.setattr(enough, "_write_plan", wrote)
    monkeypatch.setattr(enough, "steps_for", lambda *rest: 300 if not plans else 60)
    text, rows, spent = late(4, said := [])
    assert plans == [300, 60] and {row.steps for row in rows} == {60}
    assert len(rows) == 4 and spent <= 4 and "Left out" not in text
    assert any("a training takes 85 s here, not 4" in line for line in said)


def test_a_training_that_is_too_slow_is_stopped_and_goes_on(tmp_path, monkeypatch):
    images, asked = draw(tmp_path, 5)
    asked |= {"seeds": 2, "device": "cpu", "workers": 0}
    monkeypatch.setattr(enough, "steps_for", lambda *rest: 4)
    slow, left = [], enough._Clock.left

    def hurried(clock):  # after two steps nothing is left
        slow.append(1)
        return 0.0 if len(slow) == 4 else left(clock)

    monkeypatch.setattr(enough._Clock, "left", hurried)
    text = how_many_more(images, tmp_path / "out", 9, **asked)
    assert "Left out" in text and "1_images_seed_0" in names(tmp_path / "out")
    monkeypatch.setattr(enough._Clock, "left", left)
    text = how_many_more(images, tmp_path / "out", 9, **asked)
    assert "Left out" not in text and len(read_curve(tmp_path / "out")) == 4


# Refusals


def test_fewer_than_four_images_have_no_curve(tmp_path):
    images, asked = draw(tmp_path, 3)
    with pytest.raises(ValueError, match=says("3 images", "at least 4", "1 more")):
        how_many_more(images, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_nothing_to_judge_or_to_learn_by(tmp_path):
    images, asked = draw(tmp_path, 4)
    with pytest.raises(ValueError, match=says("3 of 4", "--held-out")):
        how_many_more(images, tmp_path / "out", held_out=3, **asked)
    for mask in (tmp_path / "masks").iterdir():
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(mask)
    with pytest.raises(ValueError, match=says("no held-out mask", "an object")):
        how_many_more(images, tmp_path / "out", **asked)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seeds": 1}, ["seeds=1", "2 to 8"]),
        ({"seeds": 9}, ["--seeds"]),
        ({"minutes": 0}, ["minutes=0", "--minutes"]),
        ({"minutes": None}, ["minutes=None"]),
        ({"minutes": float("nan")}, ["minutes=nan"]),
    ],
)
def test_numbers_that_cannot_be(wrong, words, tmp_path):
    with pytest.raises(ValueError, match=says(*words)):
        how_many_more(tmp_path, tmp_path / "out", **wrong)


def test_a_folder_of_others_is_left_alone(done, tmp_path):
    _, images, asked, _ = done
    mine = tmp_path / "curve.csv"
    mine.write_text("my own")
    with pytest.raises(FileExistsError, match=says("curve.csv", "new folder")):
        how_many_more(images, tmp_path, **asked)
    assert mine.read_text() == "my own" and names(tmp_path) == ["curve.csv"]
    with pytest.raises(FileExistsError, match="is a file"):
        how_many_more(images, mine, **asked)
    (tmp_path / "plan.json").write_text('{"recipe": 3}')
    with pytest.raises(ValueError, match=says("plan.json", "not the plan")):
        how_many_more(images, tmp_path, **asked)
    assert mine.read_text() == "my own"


def test_another_question_takes_another_folder(done, tmp_path):
    out, images, asked, _ = done
    with pytest.raises(ValueError, match=says("seeds=2", "not 3", "another folder")):
        how_many_more(images, out, **asked | {"seeds": 3})
    place = shutil.copytree(images.parent, tmp_path / "copy")
    images, _ = draw(place, 1, start=5)
    moved = asked | {"options": {"masks": str(place / "masks")}}
    with pytest.raises(ValueError, match=says("other images", "5 of them")):
        how_many_more(images, place / "out", **moved)
    (place / "images/5.png").unlink()
    (place / "masks/5.png").unlink()
    assert how_many_more(images, place / "out", **moved)  # moved, and the same


@pytest.mark.parametrize("line", ["2,0,much,1,2,3,a", "2,0", "2,0,1,1,2,3,a,b,c"])
def test_a_damaged_table_is_named(line, tmp_path):
    (tmp_path / "curve.csv").write_text(f"{','.join(Trained._fields)}\n{line}\n")
    with pytest.raises(ValueError, match=says("curve.csv", "remove the line")):
        read_curve(tmp_path)


def test_the_command_says_what_it_does(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = {}

    def stand_in(announce, began, **options):
        asked.update(options)
        announce("4 trainings")
        for name in ("answer.txt", "curve.csv"):  # some trainings were left out
            (tmp_path / "c").mkdir(exist_ok=True)
            (tmp_path / "c" / name).write_text("")
        return "Draw more."

    monkeypatch.setattr(enough, "how_many_more", stand_in)
    line = "enough --data a --out c --minutes 8 --seeds 4 --suffix _m --amp off"
    assert cli.main(line.split()) == 0
    told = capsys.readouterr().out
    assert says("4 trainings", "Draw more.", "c holds answer.txt, curve.csv").search(
        told
    )
    assert (asked["data"], asked["out"], asked["minutes"]) == ("a", "c", 8.0)
    assert (asked["seeds"], asked["amp"]) == (4, False)
    assert asked["options"] == {"suffix": "_m"}
