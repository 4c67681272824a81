"""What a notebook's outputs look like when committed: clean, small, comparable."""

import base64
import difflib
import io
import re

from notebooks import joined, place, source

WIDGET = "application/vnd.jupyter.widget-view+json"
FIGURE_LIMIT = 60 * 1024  # bytes of PNG
# Two names joined by slashes, not inside a web address, a tag or a relative path.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/~)\]}>*-])/[A-Za-z_][\w.-]*(?:/[\w.-]+)+|\b[A-Z]:\\\\?\w"
)
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")


def clean_notebook(
    notebook,  # dict, executed; changed in place
):  # list of complaints, each naming a cell
    "Strip a notebook to what is worth committing."
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    notebook["metadata"] = {"kernelspec": kernel}
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    complaints = []
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"] = {}
        cell["source"] = source(cell).splitlines(True)
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
            cell["outputs"] = clean_outputs(cell["outputs"])
            where = place(notebook, number)
            complaints += [f"{where}: {text}" for text in problems(cell["outputs"])]
    return complaints


def clean_outputs(
    outputs,  # list of output dicts of one cell
):  # list of output dicts
    "Drop stderr, widgets and counters; merge what was printed; shrink figures."
    kept = []
    for output in outputs:
        if output["output_type"] == "stream":
            add_stream(kept, output)
        elif output["output_type"] == "error":
            kept.append(output)
        elif WIDGET not in output["data"]:
            kept.append(clean_display(output))
    return [output for output in kept if output.get("data", True)]


def add_stream(
    kept,  # list of outputs so far; changed in place
    output,  # a stream output
):
    "Append printed text to the text before it; leave stderr out."
    if output["name"] != "stdout":
        return
    text = joined(output["text"])
    if kept and kept[-1]["output_type"] == "stream":
        text = joined(kept.pop()["text"]) + text
    kept.append(
        {"name": "stdout", "output_type": "stream", "text": text.splitlines(True)}
    )


def clean_display(
    output,  # a display_data or execute_result output
):  # a new output
    "Keep what the reader sees: text as lines, a figure as a small PNG."
    data = {}
    for kind, value in output["data"].items():
        if kind == "image/png":
            data[kind] = small_png(joined(value))
        elif kind.startswith("text/") or kind.endswith("+xml"):
            data[kind] = joined(value).splitlines(True)
        elif not kind.startswith("application/vnd."):
            data[kind] = value
    if "image/png" in data:
        data.pop("text/plain", None)  # <Figure size 800x280 with 3 Axes>
    clean = {"data": data, "metadata": {}, "output_type": output["output_type"]}
    if output["output_type"] == "execute_result":
        clean["execution_count"] = None
    return clean


def small_png(
    encoded,  # base64 of a PNG
):  # base64 of the smallest of that PNG and the same in few colours
    "A figure in 256 colours takes a fraction of the bytes; a noisy one gets 64."
    from PIL import Image

    original = base64.b64decode(encoded)
    image = Image.open(io.BytesIO(original))
    if image.mode == "P":  # it was made small before
        return encoded
    page = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")
    for colours in (256, 128, 64):
        few = flat.quantize(colours, kmeans=3, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, format="PNG", optimize=True)
        smallest = min(original, buffer.getvalue(), key=len)
        if len(smallest) <= FIGURE_LIMIT:
            break
    return base64.b64encode(smallest).decode()


def problems(
    outputs,  # clean outputs of one cell
):  # list of str
    "What may not be committed, in words."
    found = []
    for output in outputs:
        if output["output_type"] == "error":
            found.append(f"it raised {output['ename']}: {output['evalue']}")
        text = visible_text(output)
        for pattern, name, cure in (
            (ABSOLUTE_PATH, "an absolute path", "print it relative to the notebook"),
            (ADDRESS, "a memory address", "print what the object holds instead"),
        ):
            if match := pattern.search(text):
                found.append(f"its output shows {name} ({match[0]}): {cure}")
        size = figure_bytes(output)
        if size > FIGURE_LIMIT:
            found.append(
                f"its figure takes {size / 1024:.0f} KB of at most "
                f"{FIGURE_LIMIT // 1024}: make it smaller or show fewer noisy pixels"
            )
    return found


def visible_text(
    output,  # one output
):  # str
    "All text of an output, in whichever form."
    if output["output_type"] == "stream":
        return joined(output["text"])
    kinds = output.get("data", {})
    return "\n".join(
        joined(value) for kind, value in kinds.items() if kind.startswith("text/")
    )


def figure_bytes(
    output,  # one output
):  # int, 0 where there is no figure
    "How many bytes of PNG an output holds."
    encoded = output.get("data", {}).get("image/png", "")
    return len(base64.b64decode(joined(encoded)))


def comparable(
    cell,  # code cell with clean outputs
):  # list of lines
    "The outputs as lines of text, a figure as one line that says so."
    lines = []
    for output in cell["outputs"]:
        text = visible_text(output)
        lines += [line.rstrip() for line in text.rstrip("\n").split("\n") if text]
        if any(kind.startswith("image/") for kind in output.get("data", {})):
            lines.append("[figure]")
    return lines


def differences(
    committed,  # dict, the notebook as committed
    fresh,  # dict, the same notebook executed and cleaned
):  # list of str: the place of each stale cell and a unified diff
    "Where the committed outputs are not what the notebook gives now."
    found = []
    for number, (old, new) in enumerate(
        zip(committed["cells"], fresh["cells"], strict=True)
    ):
        if old["cell_type"] != "code":
            continue
        before, after = comparable(old), comparable(new)
        if before != after:
            diff = difflib.unified_diff(before, after, "committed", "now", lineterm="")
            found.append("\n".join([place(committed, number), *diff]))
    return found


def keep_figures(
    committed,  # dict, the notebook as it stands in nbs/
    fresh,  # dict, executed and cleaned; changed in place
    unchanged,  # set of cell ids whose source is the committed one
):  # list of str: figures kept although they look different
    "Where source and text are the same, keep the committed bytes of the figures."
    notes = []
    for number, (old, new) in enumerate(
        zip(committed["cells"], fresh["cells"], strict=True)
    ):
        if new["cell_type"] != "code" or new.get("id") not in unchanged:
            continue
        if comparable(old) != comparable(new):
            continue
        change = max(map(figure_change, old["outputs"], new["outputs"]), default=0)
        if change:
            little = " a little, as between machines" if change <= 4 else ""
            text = f"figure kept, though it changed{little}"
            notes.append(f"{place(fresh, number)}: {text}")
        new["outputs"] = clean_outputs(old["outputs"])
    return notes


def figure_change(
    old,  # output with or without a figure
    new,  # the output in the same place
):  # float: 0 only if no pixel differs; a reader sees what is above 4
    "How much two figures differ, on average, in grey levels of 255."
    from PIL import Image, ImageChops, ImageStat

    pngs = [output.get("data", {}).get("image/png") for output in (old, new)]
    if None in pngs or pngs[0] == pngs[1]:
        return 0
    images = [
        Image.open(io.BytesIO(base64.b64decode(joined(png)))).convert("RGB")
        for png in pngs
    ]
    if images[0].size != images[1].size:
        return 255
    return max(ImageStat.Stat(ImageChops.difference(*images)).mean)
