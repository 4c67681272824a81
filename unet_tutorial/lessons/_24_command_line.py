"""The tasks of 24_command_line: words, a training that goes on by itself, a history."""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from unet_tutorial.cli import build_parser
from unet_tutorial.lessons import instead
from unet_tutorial.tasks import Task

IMAGES, MASKS, OUT = "my images", "my images/truth 2", "runs/own net"


def check_words(train_words):
    words = train_words(Path(IMAGES), Path(MASKS), Path(OUT), (640, 360), 15)
    if isinstance(words, str):
        return "that is a line of text, and a blank in a folder's name would cut it"
    if not words:
        return "there are no words"
    for word in words:
        if not isinstance(word, str):
            kind = "a path" if isinstance(word, Path) else f"{word!r}"
            return f"{kind} is no text, and a command takes words: `str(...)`"
    folder = str(Path(MASKS))
    if any(word.strip("'\"") == folder != word for word in words):
        return "quotes are for a shell; here they become a part of the folder's name"
    if "my" in words:
        return "the folder `my images` has become two words: do not build a line and split it"
    if words[0] != "train":
        return f"the program's name is not for `main`: begin with train, not {words[0]}"
    for word in words:
        if word.startswith("--") and " " in word.split("=")[0]:
            return (
                f"`{word.split()[0]}` and what follows are two words, and yours is one"
            )
    return check_parsed(list(words))


def check_parsed(words):
    "What is wrong with words, once the parser of the commands has read them."
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    for name in ("--kind", "--data", "--masks", "--size", "--minutes", "--out"):
        if name not in named:
            return f"`{name}` is missing"
    if any("320.0" in word for word in words):
        return "180.0x320.0 is no size, because pixels are whole: halve with `//`"
    try:
        with redirect_stderr(StringIO()) as told:
            found = build_parser().parse_args(words)
    except SystemExit:
        return f"the command refuses this: {told.getvalue().splitlines()[-1]}"
    known = {
        (320, 180): "Pillow gives the width first, and `--size` wants height x width",
        (360, 640): "the size is that of the photographs; half of it was asked for",
        (640, 360): "half the size was asked for, and the height first",
    }
    if found.size != (180, 320):
        return known.get(found.size, f"the size must be 180x320, not {found.size}")
    if (found.data, found.masks) == (str(Path(MASKS)), str(Path(IMAGES))):
        return "images and masks have changed places"
    expected = {"kind": "folder", "minutes": 15, "out": str(Path(OUT))}
    expected |= {"data": str(Path(IMAGES)), "masks": str(Path(MASKS))}
    for name, value in expected.items():
        if getattr(found, name) != value:
            return f"`--{name}` must be {value!r}, and it is {getattr(found, name)!r}"
    return None


TRAIN, RESUME = (
    ["train", "--data", "d", "--out", "r"],
    ["train", "--out", "r", "--resume"],
)


def calls_of(until_done, statuses, **options):
    "Which commands were run, as letters, and what came back; the last status repeats."
    calls = []

    def run(words):
        calls.append("T" if words == TRAIN else "R" if words == RESUME else "?")
        if len(calls) > 20:
            return 0
        return statuses[min(len(calls), len(statuses)) - 1]

    back = until_done(run, list(TRAIN), list(RESUME), **options)
    return "".join(calls), back


def check_until_done(until_done):
    calls, back = calls_of(until_done, [0])
    if calls != "T":
        return f"a training that is done at once needs one call; you make {len(calls)}"
    if back is not None and not (back == 0 and isinstance(back, int)):
        return f"the last exit status should come back, 0 here, and not {back!r}"
    calls, back = calls_of(until_done, [143, 129, 0])
    if "?" in calls:
        return "you made words of your own: `train` and `resume` are all you need"
    if calls.startswith("TT"):
        return "a second `train` finds the folder in use and refuses: use `resume`"
    if calls == "T":
        return "after 143 the run is saved and not done: go on with it"
    for status, what in [(1, "trouble"), (2, "wrong usage")]:
        if calls_of(until_done, [status, 0])[0] != "T":
            return f"{status} is {what}, and the same would happen again: give up"
    if calls_of(until_done, [130, 0])[0] != "T":
        return "130 is Ctrl-C: somebody at the keyboard wants it to end"
    if calls != "TRR":
        return (
            "143, then 129: the run was stopped twice, and is done after the third call"
        )
    if calls_of(until_done, [137, 0])[0] != "TR":
        return "137 is 128 + 9, killed from outside like 143: go on"
    calls = calls_of(until_done, [137])[0]
    if len(calls) > 20:
        return (
            "if each call is killed, you call for ever: `tries` says how often at most"
        )
    if len(calls) != 5:
        return (
            f"with tries=5 it is called at most 5 times, and yours {len(calls)} times"
        )
    if calls_of(until_done, [143], tries=2)[0] != "TR":
        return "with tries=2 there are two calls, the first and one more"
    for statuses, last in [([143, 143, 1], 1), ([143], 143), ([2], 2)]:
        back = calls_of(until_done, statuses)[1]
        if back != last or isinstance(back, bool):
            return f"the last exit status was {last}, and {back!r} comes back"
    return None


HISTORY = """\
epoch,train_loss,valid_loss,pixel error,dice
1,0.7,12.25,0.5,0.25
2,0.5,nan,0.25,0.5
3,0.25,9.5,8.5e-02,0.75
4,0.125,9.5,0.125,0.5
5,0.5,20,0.5,0.5
"""


def check_best_epoch(best_epoch):
    plain = HISTORY.replace("nan", "13")
    best = best_epoch(plain, "valid_loss")
    if isinstance(best, dict | list | tuple):
        return f"the number of the epoch is asked for, not its {type(best).__name__}"
    if isinstance(best, float):
        return f"that is the value, {best}; the number of the epoch is asked for"
    if isinstance(best, str) and best.isdigit():
        return f"'{best}' is a text; make it a number"
    if best_epoch(plain.replace("0.25\n2", "0.9\n2"), "valid_loss") != best:
        return "you read the last column; the first line says where `column` is"
    known = {
        1: "as texts '12.25' comes before '9.5'; as numbers it does not",
        2: "Python counts from 0; the number of the epoch is in its line",
        4: "epochs 3 and 4 are equally good: name the first",
        5: "that is the epoch with the highest value",
    }
    if best in known:
        return known[best]
    if best != 3:
        return f"the lowest valid_loss is that of epoch 3, not {best!r}"
    if best_epoch(plain.replace("\n3,", "\n7,"), "valid_loss") != 7:
        return "the epoch's number is in its line; yours is the number of the line"
    for epoch, value in [(1, "12.25"), (2, "13")]:
        if best_epoch(plain.replace(value, "nan"), "valid_loss") != 3:
            place = f"in the line of epoch {epoch} hides others"
            return f"nan {place}: no number is less than nan, so leave it out"
    for column, right in [("pixel error", 3), ("dice", 1), ("train_loss", 4)]:
        best = best_epoch(HISTORY, column)
        if best != right:
            return f"the lowest {column} is that of epoch {right}, not {best!r}"
    return None


WORDS = '''
def train_words(images, masks, out, photo, minutes):
    """Return the words, all of them texts, that train on a folder."""
    # solution
    width, height = photo
    words = ["train", "--kind", "folder", "--data", str(images), "--masks", str(masks)]
    words += ["--size", f"{height // 2}x{width // 2}", "--minutes", str(minutes)]
    return words + ["--out", str(out)]
    # end
'''
NIGHT = '''
def until_done(run, train, resume, tries=5):
    """Return the last exit status of a training that goes on when it was stopped."""
    # solution
    status = run(train)
    for _ in range(tries - 1):
        if status <= 128 or status == 130:
            break
        status = run(resume)
    return status
    # end
'''
BEST = '''
def best_epoch(text, column):
    """Return the number of the epoch with the lowest value in a column."""
    # solution
    names, *rows = [line.split(",") for line in text.splitlines()]
    at = names.index(column)
    values = {int(row[0]): float(row[at]) for row in rows}
    known = {epoch: value for epoch, value in values.items() if value == value}
    return min(known, key=known.get)
    # end
'''


TASKS = [
    Task(
        number="24.1",
        title="Words, not a line",
        ask="""
            The small terminal above splits a line at its blanks, and fails at a folder called
            `my images`. A program gives `main`, or `subprocess.run`, a list of words instead. Return
            the words that train on the folders `images` and `masks` for some `minutes`, into the folder
            `out`, with the photographs halved. `photo` is their size as Pillow's `image.size` gives it.
        """,
        code=WORDS,
        checker=check_words,
        hints=(
            "Where does a word begin and end if nobody looks for blanks?",
            """
            Each option is one word, and its value is the next word. Paths and numbers must become
            texts. Pillow says (width, height); `--size` wants height x width.
            """,
            """
            width, height = photo
            words = ["train", "--kind", "folder", "--data", ..., "--masks", ...]
            words += ["--size", f"{...}x{...}", "--minutes", ...]
            return words + ["--out", ...]
            """,
        ),
        wrong={
            "the folder `my images` has become two words: do not build a line and split it": """
                line = f"train --kind folder --data {images} --masks {masks} --out {out}"
                width, height = photo
                line += f" --size {height // 2}x{width // 2} --minutes {minutes}"
                return line.split()
            """,
            "that is a line of text, and a blank in a folder's name would cut it": """
                line = f"train --kind folder --data '{images}' --masks '{masks}'"
                line += f" --out '{out}' --minutes {minutes}"
                return line + f" --size {photo[1] // 2}x{photo[0] // 2}"
            """,
            "quotes are for a shell; here they become a part of the folder's name": instead(
                WORDS,
                ("str(images)", "f'\"{images}\"'"),
                ("str(masks)", "f'\"{masks}\"'"),
            ),
            "Pillow gives the width first, and `--size` wants height x width": instead(
                WORDS, ("width, height = photo", "height, width = photo")
            ),
            "180.0x320.0 is no size, because pixels are whole: halve with `//`": instead(
                WORDS, ("// 2", "/ 2")
            ),
            "15 is no text, and a command takes words: `str(...)`": instead(
                WORDS, ("str(minutes)", "minutes")
            ),
            "a path is no text, and a command takes words: `str(...)`": instead(
                WORDS, ("str(masks)", "masks")
            ),
            "the program's name is not for `main`: begin with train, not unet-tutorial": (
                instead(WORDS, ('["train"', '["unet-tutorial", "train"'))
            ),
            "`--out` and what follows are two words, and yours is one": instead(
                WORDS, ('["--out", str(out)]', '[f"--out {out}"]')
            ),
            "`--kind` is missing": instead(WORDS, ('"--kind", "folder", ', "")),
        },
        why="""
            With `subprocess.run(["unet-tutorial", *words])` no shell looks at the words, so no name
            of a folder can be taken for something else.
        """,
    ),
    Task(
        number="24.2",
        title="Through the night",
        ask="""
            A training in a queue is stopped now and then: the machine is needed, the time is up, or the
            kernel kills the training. Write what a script does about that. `run(words)` carries out a command
            and returns its exit status, as in the table above; after a kill from outside it is 128 plus
            the signal. `train` are the words that begin the run, `resume` those that go on with it. Call
            `run` at most `tries` times in all, and return the last exit status. Go on with a training that
            was stopped from outside, and with no other: after Ctrl-C somebody wants it to end.
        """,
        code=NIGHT,
        checker=check_until_done,
        hints=(
            "Which rows of the table of exit statuses say that a run is saved and not done?",
            """
            A training that a signal stopped ends with a number above 128. Trouble and wrong usage
            would come again. And after Ctrl-C nobody wants the training to go on.
            """,
            """
            status = run(train)
            for _ in range(...):
                if ... or status == ...:
                    break
                status = ...
            return status
            """,
        ),
        wrong={
            "a second `train` finds the folder in use and refuses: use `resume`": instead(
                NIGHT, ("run(resume)", "run(train)")
            ),
            "you made words of your own: `train` and `resume` are all you need": instead(
                NIGHT, ("run(resume)", 'run([*train, "--resume"])')
            ),
            "1 is trouble, and the same would happen again: give up": instead(
                NIGHT, ("status <= 128 or", "status == 0 or")
            ),
            "130 is Ctrl-C: somebody at the keyboard wants it to end": instead(
                NIGHT, (" or status == 130", "")
            ),
            "143, then 129: the run was stopped twice, and is done after the third call": instead(
                NIGHT, ("status <= 128 or status == 130", "status != 143")
            ),
            "137 is 128 + 9, killed from outside like 143: go on": instead(
                NIGHT, ("status <= 128 or status == 130", "status not in (129, 143)")
            ),
            "if each call is killed, you call for ever: `tries` says how often at most": """
                status = run(train)
                while status > 128 and status != 130:
                    status = run(resume)
                return status
            """,
            "with tries=5 it is called at most 5 times, and yours 6 times": instead(
                NIGHT, ("tries - 1", "tries")
            ),
            "with tries=2 there are two calls, the first and one more": instead(
                NIGHT, ("tries - 1", "4")
            ),
            "after 143 the run is saved and not done: go on with it": """
                return run(train)
            """,
            "the last exit status was 1, and 143 comes back": """
                status = run(train)
                last = status
                for _ in range(tries - 1):
                    if last <= 128 or last == 130:
                        break
                    last = run(resume)
                return status
            """,
        },
        why="""
            With `--resume-if-there` one command is enough: it goes on with the run if there is one, and
            begins it otherwise.
        """,
    ),
    Task(
        number="24.3",
        title="The best epoch",
        ask="""
            `text` is what a run's `history.csv` holds: a line of names, then one line per epoch, as
            `epoch,train_loss,valid_loss,pixel error`. Return the number of the epoch with the lowest
            value in a `column`. If several are equally low, return the first. Where a training went
            wrong, a value may be `nan`.
        """,
        code=BEST,
        checker=check_best_epoch,
        hints=(
            "What is a value of the file before you do anything with it, a number or a text?",
            """
            Split each line at its commas; the first line says at which place a column is. Make
            floats of its values before you compare. nan is the one number that is not equal to
            itself.
            """,
            """
            names, *rows = [line.split(",") for line in text.splitlines()]
            at = ...
            values = {int(row[0]): ... for row in rows}
            known = {epoch: value for epoch, value in values.items() if ...}
            return min(known, key=...)
            """,
        ),
        wrong={
            "as texts '12.25' comes before '9.5'; as numbers it does not": instead(
                BEST, ("float(row[at])", "row[at]")
            ),
            "nan in the line of epoch 1 hides others: no number is less than nan, so leave it "
            "out": instead(BEST, (" if value == value", "")),
            "'3' is a text; make it a number": instead(BEST, ("int(row[0])", "row[0]")),
            "that is the value, 9.5; the number of the epoch is asked for": instead(
                BEST, ("min(known, key=known.get)", "min(known.values())")
            ),
            "the epoch's number is in its line; yours is the number of the line": """
                names, *rows = [line.split(",") for line in text.splitlines()]
                values = [float(row[names.index(column)]) for row in rows]
                return 1 + values.index(min(v for v in values if v == v))
            """,
            "that is the epoch with the highest value": instead(
                BEST, ("return min(", "return max(")
            ),
            "the number of the epoch is asked for, not its list": """
                names, *rows = [line.split(",") for line in text.splitlines()]
                known = [row for row in rows if row[names.index(column)] != "nan"]
                return min(known, key=lambda row: float(row[names.index(column)]))
            """,
            "you read the last column; the first line says where `column` is": instead(
                BEST, ("names.index(column)", "-1")
            ),
            "epochs 3 and 4 are equally good: name the first": instead(
                BEST, ("min(known,", "min(reversed(known),")
            ),
        },
        why="""
            `best.safetensors` holds the net of this epoch, if `column` is the number that the run watched.
        """,
    ),
]
