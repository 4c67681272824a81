"""Write the page "What can be read" from the table of the tests: `make links`.

Every file of tests/atlas.py is made and read; what the page says of a file that is
refused is what the reader says.
"""

import sys
import tempfile
from pathlib import Path

from notebooks import NBS, ROOT

PAGE = NBS / "readable.md"
HEAD = """# What can be read

> Every kind of file that the course knows: read as stated, or refused with the
> sentence beside it. Nothing is read half, and nothing upside down.

Written by `make links` from `tests/atlas.py`, where each kind is made by a few lines;
`make test` reads them all, as training and as prediction do. Your kind is missing?
`unet-tutorial check` says what it makes of a file.
"""
PARTS = {
    "image": ("Images", "One image per file, for training and prediction."),
    "stack": (
        "Stacks",
        "Several images in a file: prediction answers each; training refuses the file "
        "(`has several pages`) unless the axes make it one image of several channels.",
    ),
    "mask": (
        "Masks of background and one object",
        "Two values, whatever they are, become 0 and 1. How a viewer would show them, "
        "by a palette for instance, decides only where nothing else does.",
    ),
    "labels": ("Label maps", "Whole numbers of up to 31 bits, as they are."),
}
PUBLISHED = """\
The folders are those of the archives; `tests/published.py` draws each set in small,
and a test types these lines. To train, type `train --kind folder --data IMAGES --masks
MASKS` with the same options. Where a line below has `--kind NAME`, it is `train --kind
NAME --data FOLDER`. Slices of one stack are alike: their Dice promises nothing for
another stack. Masks in colours (CamVid), or with their numbers in one channel
(BBBC039), are first saved as numbers; `check` prints the line of Python. An archive
inside an archive (STARE's `.gz`) is unpacked first."""


def sentence(
    atlas,  # the module tests/atlas.py
    kind,  # a Kind of it
):  # str, what a reader says when it refuses the file
    "Let the reader refuse a file, and take cause and remedy from what it says."
    from unet_tutorial.data import images

    read = {"mask": images.read_mask, "labels": images.read_labels}
    read = read.get(kind.use, images.as_images)
    with tempfile.TemporaryDirectory() as folder:
        path = atlas.make(kind, folder)
        try:
            read(path, **kind.options)
        except images.BadFile as error:
            kind = f" ({error.found})" if "of a kind" in error.cause else ""
            return f"{error.cause}{kind}: {error.remedy}".replace("|", "\\|")
    raise ValueError(f"{kind.name} was read, and the table says that it is refused")


def row(atlas, kind):  # str, a line of a table
    "The row of a kind of file."
    refused = isinstance(kind.outcome, tuple)
    text = sentence(atlas, kind) if refused else kind.remark
    name = kind.name.replace("|", "\\|")
    return f"| {name} | {'refused' if refused else 'read'} | {text} |"


def sets(published):  # list of str
    "The table of well-known sets."
    lines = ["## Sets as they are published: what to type", "", PUBLISHED, ""]
    lines += ["| set | typed in its folder |", "|---|---|"]
    for each in published.SETS:
        typed = ", then ".join(f"`unet-tutorial {line}`" for line in each.lines)
        lines.append(f"| {each.name} | {typed} |")
    return [*lines, ""]


def page():  # str, markdown
    "The page, made by reading every file of the table."
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        import atlas
        import published
    finally:
        sys.path.remove(str(ROOT / "tests"))
    lines = [HEAD]
    for use, (title, text) in PARTS.items():
        lines += [f"## {title}", "", text, "", "| file | outcome | |", "|---|---|---|"]
        lines += [row(atlas, kind) for kind in atlas.KINDS if kind.use == use] + [""]
    return "\n".join(lines + sets(published))


if __name__ == "__main__":
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        Path(PAGE).write_text(page(), encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)} written")
