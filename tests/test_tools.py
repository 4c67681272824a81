"""The tools: running notebooks, comparing and cleaning outputs, links, clean, setup."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import check
import clean
import colab
import course
import environment
import house_picture
import links
import lowest
import notebooks as files
import outputs
import psutil
import pytest
import readers
import reading
import times
import warm
from conftest import wait_for
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def cell(
    text,  # source
    *shown,  # outputs, for a cell of code
    kind="code",  # or "markdown"
):  # dict
    "One cell."
    made = {"cell_type": kind, "id": f"id{abs(hash(text))}", "metadata": {}}
    made["source"] = text.splitlines(True)
    return made | (
        {"execution_count": None, "outputs": [*shown]} if kind == "code" else {}
    )


def book(*cells):  # dict
    "A notebook of a title and some cells."
    title = cell("# Title\n\n> One sentence.", kind="markdown")
    metadata = {"kernelspec": {"name": "python3"}}
    cells = [title, *cells]
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def printed(text, name="stdout"):  # dict
    "What print gives."
    return {"name": name, "output_type": "stream", "text": text.splitlines(True)}


def picture(color, size=(40, 30), colors=1):  # dict
    "A figure of one colour, or a noisy one."
    image = Image.new("RGB", size, color)
    if colors > 1:
        image = Image.effect_noise(size, 80).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    data = {"image/png": png, "text/plain": ["<Figure size 40x30>"]}
    return {"data": data, "metadata": {}, "output_type": "display_data"}


@pytest.fixture
def repository(tmp_path, monkeypatch):  # Path
    "A small repository that the tools take for theirs."
    (tmp_path / "nbs").mkdir()
    shutil.copy(ROOT / "settings.ini", tmp_path)
    for module in (files, course):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "NBS", tmp_path / "nbs")
    choose = files.choose
    monkeypatch.setattr(files, "choose", lambda names: choose(names, tmp_path / "nbs"))
    return tmp_path


# Running


def test_the_course_goes_on_after_a_failure(repository, capsys):
    failing = book(cell("a = 1"), cell("#| hide\nassert a == 2, 'a is not two'"))
    files.write(failing, repository / "nbs" / "00_show.ipynb")
    masks = "from pathlib import Path\nfolder = Path('runs/first')\n"
    masks += "folder.mkdir(parents=True)\n(folder / 'masks.png').touch()"
    passing = book(cell(masks))
    files.write(passing, repository / "nbs" / "index.ipynb")
    before = (repository / "nbs" / "00_show.ipynb").read_bytes()

    assert course.run([]) == 1
    told = capsys.readouterr().out
    assert "    the first masks: build/course/index/runs/first/masks.png" in told
    assert "cell 3 (`assert a == 2, 'a is not two'`): AssertionError" in told
    assert "2 notebooks" in told and "1 FAILED: 00_show" in told
    assert "just trained: build/course/index/runs/first/masks.png" in told
    assert "make lab" in told
    executed = repository / "build" / "course" / "00_show" / "00_show.ipynb"
    assert executed.exists()
    assert (repository / "nbs" / "00_show.ipynb").read_bytes() == before


def test_notebooks_run_side_by_side_each_in_a_folder_of_its_own(
    repository, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import os, time\nfrom pathlib import Path\n"
    code += "assert os.listdir() == [], os.listdir()\n"
    code += "here, other = Path('../{here}.flag'), Path('../{other}.flag')\n"
    code += "here.touch()\nend = time.monotonic() + 600\n"
    code += "while not other.exists() and time.monotonic() < end: time.sleep(0.1)\n"
    code += "assert other.exists(), 'it runs alone'\n"
    code += "assert os.environ['OMP_NUM_THREADS'] == '1'"
    paths = []
    for here, other in (("00_show", "02_sizes"), ("02_sizes", "00_show")):
        paths.append(repository / "nbs" / f"{here}.ipynb")
        files.write(book(cell(code.format(here=here, other=other))), paths[-1])
    folder = course.fresh_folder("course", [])
    runs = list(course.execute_all(paths, folder, jobs=2))
    assert [run.error for run in runs] == ["", ""]
    assert {run.path for run in runs} == set(paths)


def test_index_has_all_cores_and_nobody_beside_it(repository, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import os\nfrom pathlib import Path\nPath('../index.flag').touch()\n"
    code += "assert os.environ['OMP_NUM_THREADS'] == '2'"
    files.write(book(cell(code)), repository / "nbs" / "index.ipynb")
    code = "import os\nassert os.path.exists('../index.flag')\n"
    code += "assert os.environ['OMP_NUM_THREADS'] == '1'"
    files.write(book(cell(code)), repository / "nbs" / "00_show.ipynb")
    paths = course.by_length(files.reading_order(repository / "nbs"))
    folder = course.fresh_folder("course", [])
    runs = list(course.execute_all(paths, folder, jobs=2))
    assert [(run.path.stem, run.error) for run in runs] == [
        ("index", ""),
        ("00_show", ""),
    ]


def test_index_is_started_first_and_short_notebooks_last(repository):
    known = ["00_show", "01_synthetic", "index", "02_sizes"]
    times.update({"00_show": 9, "01_synthetic": 80, "index": 20}, repository, known)
    paths = [repository / "nbs" / f"{name}.ipynb" for name in known]
    order = [path.stem for path in course.by_length(paths)]
    assert order == ["index", "02_sizes", "01_synthetic", "00_show"]


def test_a_notebook_that_is_stuck_is_tried_once_more(repository, monkeypatch):
    monkeypatch.setattr(course, "GRACE", 300)  # a kernel may need long to start
    path = repository / "nbs" / "00_show.ipynb"
    code = "import time\nfrom pathlib import Path\nflag = Path('../flag')\n"
    code += "again = flag.exists()\nflag.touch()\ntime.sleep(0 if again else 60)"
    files.write(book(cell(code)), path)
    folder = course.fresh_folder("course", [])
    run = course.execute_twice(path, folder, minutes=0.05)
    assert run.error == ""
    assert run.line().endswith(
        "passed at the second try; the first: stopped after 0.05 minutes"
    )
    files.write(book(cell("import time\ntime.sleep(60)")), path)
    run = course.execute_twice(path, folder, minutes=0.02)
    assert run.late and "FAILED at the second try" in run.line()


def test_what_fails_among_others_is_tried_once_more_alone(repository, capsys):
    code = "from pathlib import Path\nflag = Path('../flag')\n"
    code += "again = flag.exists()\nflag.touch()\nassert again, 'too busy'"
    files.write(book(cell(code)), repository / "nbs" / "00_show.ipynb")
    files.write(book(cell("1 / 0")), repository / "nbs" / "01_synthetic.ipynb")
    folder = course.fresh_folder("course", [])
    paths = files.reading_order(repository / "nbs")
    runs = {run.path.stem: run for run in course.execute_all(paths, folder, jobs=1)}
    assert runs["00_show"].error == "" and "too busy" in runs["00_show"].before
    assert "ZeroDivisionError" in runs["01_synthetic"].error
    assert course.summarize(list(runs.values()), ["01_synthetic"], 1) == 1
    told = capsys.readouterr().out
    assert "too busy" in told and "ZeroDivisionError" in told


def test_a_process_that_hangs_is_killed_with_its_children(repository, monkeypatch):
    path = repository / "nbs" / "00_show.ipynb"
    files.write(book(cell("1")), path)
    hanging = repository / "hanging.py"
    hanging.write_text(
        "import subprocess, sys, time\nfrom pathlib import Path\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        f"Path({str(repository / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )
    monkeypatch.setattr(course, "__file__", str(hanging))
    monkeypatch.setattr(course, "GRACE", 6)
    run = course.execute_apart(path, repository, minutes=0)
    assert run.late and "did not answer" in run.error
    pid = int((repository / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


@pytest.mark.skipif(not warm.KNOWN, reason="no safe fork here")
def test_a_process_that_has_torch_executes_one_notebook_after_the_other(
    repository, monkeypatch
):
    imported = "import os, sys\nassert 'torch' in sys.modules\n"
    imported += "assert 'unet_tutorial' not in sys.modules and os.listdir() == []"
    ends = ["kept = 1", "assert 'kept' not in globals()\nos._exit(7)"]
    ends += ["import time\ntime.sleep(60)", "1"]
    path, runs = repository / "nbs" / "00_show.ipynb", []
    with warm.processes(1, repository) as execute:
        for number, end in enumerate(ends):
            folder = repository / f"run {number}"
            folder.mkdir()
            files.write(book(cell(imported), cell(end)), path)
            monkeypatch.setattr(course, "GRACE", 0 if number == 2 else 60)
            runs.append(execute(path, folder, minutes=0.01 if number == 2 else 2))
    passed, dead, late, again = runs
    assert passed.error == again.error == ""
    assert "cell 3" in dead.error and "the kernel died here" in dead.error
    assert late.late and "did not answer" in late.error  # and its process is replaced


def is_alive(pid):  # bool
    "Whether a process runs."
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_notebook_may_take_ten_times_as_long_as_usual(repository):
    path = repository / "nbs" / "00_show.ipynb"
    assert course.limit(path) == course.MINUTES
    for seconds, minutes in ((6, 2), (60, 10), (900, course.MINUTES)):
        times.update({"00_show": seconds}, repository, ["00_show"])
        assert course.limit(path) == minutes


def test_times_are_kept_where_they_are_new_or_differ(repository):
    known = ["00_show", "02_sizes", "workshop/data/images"]
    times.update({"00_show": 9.4, "02_sizes": 60}, repository, known)
    assert times.read(repository) == {"00_show": 9, "02_sizes": 60}
    new = {"00_show": 10.9, "02_sizes": 81, "workshop/data/images": 0.2, "gone": 7}
    told = times.update(new, repository, known)
    assert told == ["02_sizes: 60 s became 81", "workshop/data/images: no s became 0"]
    assert times.read(repository) == {
        "00_show": 9,
        "02_sizes": 81,
        "workshop/data/images": 1,
    }
    assert times.update({}, repository, known[1:]) == []
    assert list(times.read(repository)) == known[1:]
    text = (repository / "results" / "notebooks.csv").read_text()
    assert text.startswith("notebook,seconds,processor\n02_sizes,81,")


def test_the_kernel_is_this_python_with_this_library(repository, monkeypatch):
    kernels = repository / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    foreign = {"argv": ["no-such-python"], "display_name": "x", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(foreign))
    monkeypatch.setenv("JUPYTER_PATH", str(repository / "jupyter"))
    monkeypatch.setenv("MPLBACKEND", "svg")
    monkeypatch.setenv("UNET_DATA", "data")
    code = "import os, sys\nprint(sys.executable, os.environ['PYTHONPATH'], "
    code += "os.environ['UNET_DATA'], os.environ['MPLBACKEND'], os.getcwd(), sep='\\n')"
    path = repository / "nbs" / "00_show.ipynb"
    files.write(book(cell(code)), path)
    run = course.execute(path, course.fresh_folder("course", []), repository)
    assert run.error == ""
    executable, library, data, backend, folder = run.notebook["cells"][1]["outputs"][0][
        "text"
    ].split("\n")[:5]
    assert executable == sys.executable
    assert library == str(repository)
    assert data == os.path.abspath("data")
    assert "inline" in backend
    assert Path(folder) == repository / "build" / "course"


def test_a_crash_and_a_long_cell_are_named(repository):
    crash = repository / "nbs" / "00_crash.ipynb"
    files.write(book(cell("import os\nos.abort()")), crash)
    slow = repository / "nbs" / "01_slow.ipynb"
    files.write(book(cell("import time\ntime.sleep(60)")), slow)
    folder = course.fresh_folder("course", [])
    assert "the kernel died here" in course.execute(crash, folder).error
    assert "more than 0.01 minutes" in course.execute(slow, folder, minutes=0.01).error


def test_stale_outputs_are_told_and_stored_anew(repository, capsys):
    path = repository / "nbs" / "00_show.ipynb"
    stale = book(cell("print(1 + 1)", printed("3\n")), cell("print('same')"))
    stale["cells"][2]["outputs"] = [printed("same\n")]
    files.write(stale, path)
    assert course.compare([]) == 1
    told = capsys.readouterr().out
    assert "00_show, cell 2 (`print(1 + 1)`)" in told
    assert "-3\n+2" in told
    assert 'run make outputs NB="00_show"' in told
    assert "same" not in told

    assert course.store([]) == 0
    assert course.compare([]) == 0


def test_an_output_with_a_path_is_not_stored(repository, capsys):
    path = repository / "nbs" / "00_show.ipynb"
    files.write(book(cell("print('/home/ada/masks.png')")), path)
    before = path.read_bytes()
    assert course.store([]) == 1
    assert "cell 2 (`print('/home/ada/masks.png')`): its output shows an absolute" in (
        capsys.readouterr().out
    )
    assert path.read_bytes() == before


def test_names_may_stand_before_and_after_options(monkeypatch):
    asked = []
    monkeypatch.setattr(course, "run", lambda *given: asked.append(given) or 0)
    for line in ("run 00_show --times --jobs 1", "run --times --jobs 1 00_show"):
        monkeypatch.setattr(sys, "argv", ["course.py", *line.split()])
        with pytest.raises(SystemExit):
            course.main()
    assert asked == [(["00_show"], True, 1)] * 2


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("02_size", "02_sizes"),
        ("nbs/2_sizes.ipynb", "02_sizes"),
        ("05", "05_model"),
        ("workshop/data/image", "images"),
    ],
)
def test_for_an_unknown_notebook_the_nearest_is_named(name, near):
    with pytest.raises(SystemExit) as told:
        files.choose(["05_model", name])
    stem = Path(name).name.removesuffix(".ipynb")
    assert str(told.value) == f"no notebook {stem} in nbs/: do you mean {near}?"


def test_where_no_notebook_is_near_a_few_are_named(tmp_path):
    with pytest.raises(SystemExit, match="no notebook none in nbs/; there are 0: $"):
        files.choose(["none"], tmp_path)
    with pytest.raises(SystemExit) as told:
        files.choose(["02_size", "99_none"])
    first, second = str(told.value).splitlines()
    assert first.endswith("do you mean 02_sizes?") and len(second) < 100
    assert second.startswith("no notebook 99_none in nbs/; there are ")
    assert "index 00_show 01_synthetic" in second and "02_sizes ... " in second


def test_reading_order(tmp_path):
    for name in ("10_data", "index", "02_sizes", "._02_sizes"):
        (tmp_path / f"{name}.ipynb").touch()
    names = [path.stem for path in files.reading_order(tmp_path)]
    assert names == ["index", "02_sizes", "10_data"]


# Outputs


def test_cleaning_strips_what_it_should():
    widget = {"data": {outputs.WIDGET: {}, "text/plain": ["IntSlider()"]}}
    widget |= {"metadata": {}, "output_type": "display_data"}
    result = {"data": {"text/plain": "5"}, "metadata": {"a": 1}, "execution_count": 7}
    result |= {"output_type": "execute_result"}
    shown = [printed("one\n"), printed("careful\n", "stderr"), printed("two\n")]
    dirty = book(
        cell("print()", *shown, widget, result), cell("plot()", picture("red"))
    )
    dirty["metadata"]["widgets"] = {"state": {}}
    dirty["cells"][1] |= {"execution_count": 7, "metadata": {"scrolled": True}}
    assert outputs.clean_notebook(dirty) == []

    first, second = dirty["cells"][1:]
    assert first["outputs"][0] == printed("one\ntwo\n")
    assert first["outputs"][1]["data"] == {"text/plain": ["5"]}
    assert first["outputs"][1]["execution_count"] is None
    assert len(first["outputs"]) == 2
    assert first["execution_count"] is None and first["metadata"] == {}
    assert list(second["outputs"][0]["data"]) == ["image/png"]
    assert list(dirty["metadata"]) == ["kernelspec"]


def test_nbdev_finds_nothing_to_clean(repository):
    pytest.importorskip("nbdev")
    dirty = book(cell("print('ü')", printed("ü\n")), cell("plot()", picture("red")))
    outputs.clean_notebook(dirty)
    files.write(dirty, repository / "nbs" / "00_show.ipynb")
    assert check.nbdev_clean(repository) == ""


def test_figures_are_made_small_and_large_ones_named():
    grey = picture("grey", (200, 200), colors=200)
    small = outputs.clean_display(grey)
    assert outputs.figure_bytes(small) < outputs.figure_bytes(grey)
    assert outputs.clean_display(small) == small
    noisy = book(cell("plot()", picture("grey", (400, 400), colors=200)))
    (complaint,) = outputs.clean_notebook(noisy)
    assert complaint.startswith("cell 2 (`plot()`): its figure takes")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("saved to /home/ada/x.png", "an absolute path (/home/ada/x.png)"),
        ("'/builds/ada/net.pt'", "an absolute path"),
        (r"C:\Users\ada", "an absolute path"),
        ("<Net object at 0x7f0a1b2c3d4e>", "a memory address"),
        ("runs/first/net.pt, 3/4/5, a/b/c", ""),
        ("https://arxiv.org/abs/1505.04597 </td></tr> 0x1F", ""),
    ],
)
def test_paths_and_addresses_in_text(text, complaint):
    found = outputs.problems([printed(text)])
    assert (complaint in found[0]) if complaint else (found == [])


def test_comparison_finds_text_and_figures():
    old = book(cell("a", printed("1\n")), cell("b", picture("red")), cell("c"))
    same = book(cell("a", printed("1\n")), cell("b", picture("blue")), cell("c"))
    assert outputs.differences(old, same) == []
    text = book(cell("a", printed("2\n")), cell("b", picture("red")), cell("c"))
    (found,) = outputs.differences(old, text)
    assert found.splitlines()[0] == "cell 2 (`a`)" and "-1" in found and "+2" in found
    missing = book(cell("a", printed("1\n")), cell("b"), cell("c"))
    assert "-[figure]" in outputs.differences(old, missing)[0]
    new = book(
        cell("a", printed("1\n")), cell("b", picture("red")), cell("c", picture("red"))
    )
    assert "+[figure]" in outputs.differences(old, new)[0]


def test_unchanged_cells_keep_their_figures():
    old = book(cell("a", picture("red")), cell("b", picture("red")))
    new = book(cell("a", picture("blue")), cell("b", picture("blue")))
    for notebook in (old, new):
        outputs.clean_notebook(notebook)
    fresh = new["cells"][2]["outputs"]
    notes = outputs.keep_figures(old, new, {old["cells"][1]["id"]})
    assert new["cells"][1]["outputs"] == old["cells"][1]["outputs"]
    assert new["cells"][2]["outputs"] == fresh
    assert notes == ["cell 2 (`a`): figure kept, though it changed"]


def test_a_figure_that_is_kept_is_named_however_little_it_changed():
    old, new = book(cell("a", picture("#0000ff"))), book(cell("a", picture("#0000fe")))
    for notebook in (old, new):
        outputs.clean_notebook(notebook)
    (note,) = outputs.keep_figures(old, new, {old["cells"][1]["id"]})
    assert "kept, though it changed a little" in note
    assert outputs.keep_figures(old, new, {old["cells"][1]["id"]}) == []


def test_writing_leaves_nothing_beside(tmp_path):
    files.write(book(cell("a")), tmp_path / "a.ipynb")
    files.write(book(cell("b")), tmp_path / "a.ipynb")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ipynb"]
    assert (tmp_path / "a.ipynb").read_text().endswith("}\n")


# Links


@pytest.fixture
def linked(repository):  # Path
    "A repository of three notebooks and a README, its links written."
    sizes = book(cell("#| default_exp sizes"), cell("1 + 1", printed("2\n")))
    for name, notebook in [("index", book(cell("2"))), ("02_sizes", sizes)]:
        files.write(notebook, repository / "nbs" / f"{name}.ipynb")
    cars = book(cell("from unet_tutorial.sizes import output_size"), cell("3"))
    files.write(cars, repository / "nbs" / "16_cars.ipynb")
    images = book(cell("#| default_exp data.images"), cell("from .. import sizes"))
    files.write(images, repository / "nbs" / "workshop" / "data" / "images.ipynb")
    times.update({"02_sizes": 9}, repository)
    start, end = links.TABLE
    readme = "https://github.com/old/unet_tutorial and "
    readme += "https://github.com/milesial/Pytorch-UNet\n"
    (repository / "README.md").write_text(f"{readme}{start}\n{end}\n")
    links.refresh(repository)
    return repository


def test_links_are_where_they_belong(linked):
    cells = files.read(linked / "nbs" / "02_sizes.ipynb")["cells"]
    assert [item["id"] for item in cells[1:4:2]] == ["links", "colab"]
    assert files.source(cells[2]) == "#| default_exp sizes"
    line = files.source(cells[1])
    assert "/blob/main/nbs/02_sizes.ipynb" in line
    assert "unet_tutorial/sizes.py" in line
    assert "previous: [index](index.ipynb)" in line
    assert "next: [16_cars](16_cars.ipynb)" in line
    assert cells[4]["outputs"] == [printed("2\n")]
    last = files.read(linked / "nbs" / "16_cars.ipynb")["cells"]
    assert [item["id"] for item in last[1:3]] == ["links", "colab"]
    assert "next" not in files.source(last[1])
    assert files.source(cells[1]).endswith(
        "\n\n*read 1 minute, runs 9 seconds on 2 cores*"
    )
    assert files.source(last[1]).endswith(
        "\n\n*read 1 minute, needs: [02](02_sizes.ipynb)*"
    )
    room = linked / "nbs" / "workshop" / "data" / "images.ipynb"
    line = files.source(files.read(room)["cells"][1])
    assert "serves: [10_data](../../10_data.ipynb)" in line
    assert line.endswith("*read 1 minute, needs: [02](../../02_sizes.ipynb)*")
    assert "next:" not in line and "previous:" not in line


def test_the_table_and_the_owner_are_written(linked):
    readme = (linked / "README.md").read_text()
    row = "| 02 [Title](nbs/02_sizes.ipynb) | One sentence. "
    row += "| [`sizes`](unet_tutorial/sizes.py) | 1 min | 9 s | [Colab](https://"
    assert row in readme
    lines = [line.split(" | ")[0] for line in readme.splitlines() if line[:1] == "|"]
    assert lines == [
        "| notebook",
        "|---|---|---|--:|--:|---|",
        "| [Title](nbs/index.ipynb)",
        "| **I The paper**",
        "| 02 [Title](nbs/02_sizes.ipynb)",
        "| **III Experiments**",
        "| 16 [Title](nbs/16_cars.ipynb)",
        "| room",
        "|---|---|---|--:|--:|---|",
        "| **Data**",
        "| [Title](nbs/workshop/data/images.ipynb)",
    ]
    assert "| **I The paper** | | | 1 min | 9 s | |" in readme
    assert "github.com/unet-tutorial/unet_tutorial and" in readme
    assert "github.com/milesial/Pytorch-UNet" in readme


def test_links_are_written_once(linked):
    before = {path: path.read_bytes() for path in linked.rglob("*.ipynb")}
    assert links.stale(linked) == []
    assert links.refresh(linked) == []
    assert {path: path.read_bytes() for path in linked.rglob("*.ipynb")} == before


def test_another_owner_makes_links_stale(linked):
    path = linked / "settings.ini"
    text = path.read_text().replace("user = unet-tutorial", "user = ada")
    path.write_text(text.replace("branch = main", "branch = trunk"))
    assert {path.name for path in links.stale(linked)} == {
        "README.md",
        "index.ipynb",
        "02_sizes.ipynb",
        "16_cars.ipynb",
        "images.ipynb",
    }
    links.refresh(linked)
    assert links.stale(linked) == []
    text = (linked / "nbs" / "02_sizes.ipynb").read_text()
    assert "unet-tutorial" not in text and "/blob/main/" not in text
    assert "git+https://github.com/ada/unet_tutorial@trunk" in text


def test_the_picture_of_the_house_is_drawn_when_its_words_change(linked):
    assert not (linked / links.PICTURE).exists()  # without a folder for pictures
    (linked / "site").mkdir()
    picture = linked / links.PICTURE
    assert links.stale(linked) == [picture]
    assert links.refresh(linked) == [picture]
    words = house_picture.drawn_words(picture)
    assert "I The paper: 02 sizes" in words and "III Experiments: 16 cars" in words
    assert "Data: drawing, asking, images, pairs" in words
    with Image.open(picture) as image:
        assert image.size[0] == 1400
    before = picture.read_bytes()
    assert links.refresh(linked) == [] and picture.read_bytes() == before
    files.write(book(cell("3")), linked / "nbs" / "20_since_2015.ipynb")
    assert picture in links.refresh(linked)
    assert "16 cars, 20 since 2015" in house_picture.drawn_words(picture)


def test_minutes_to_read_are_counted_as_documented():
    prose = cell("word " * 900, kind="markdown")
    code = cell("#| export\n" + "a = 1\n" * 50)
    table = cell("word " * 100 + "\n".join(links.TABLE), kind="markdown")
    generated = cell(links.LINKS_START + " word" * 900, kind="markdown")
    assert reading.minutes(book(prose, code, table, generated)) == 8  # 1002/200 + 50/20
    inside = cell(links.TABLE[0] + "word " * 900 + links.TABLE[1], kind="markdown")
    assert reading.minutes(book(inside)) == 1


def test_the_colab_cell_does_nothing_elsewhere():
    code = links.colab_code(files.settings(ROOT))
    assert code.splitlines()[0].startswith("# Colab: install the package.")
    namespace = {"get_ipython": lambda: "<ZMQInteractiveShell>"}
    exec(code.replace("%pip", "raise SystemExit #"), namespace)


# Colab


def test_the_colab_cell_tells_versions_and_device(monkeypatch, capsys):
    code = links.colab_code(files.settings(ROOT))
    namespace = {"get_ipython": lambda: "<google.colab._shell.Shell>"}
    exec(code.replace("%pip install", "pass #"), namespace)
    told = capsys.readouterr().out
    assert "torch" in told and len(told.splitlines()) == 1


def test_a_python_that_is_not_the_one_of_colab(tmp_path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)
    for python in (old, tmp_path / "nowhere"):
        with pytest.raises(SystemExit, match=r"not Python 3\.13.*pyenv install 3\.13"):
            colab.find_python(str(python))
    old.write_text("#!/bin/sh\necho 3.13\n")
    assert colab.find_python(str(old)) == str(old)


def test_what_the_install_changes_in_colab_is_named(tmp_path, monkeypatch):
    before = {"torch": "2.11.0", "numpy": "2.1.3"}
    after = {"torch": "2.12.0", "numpy": "2.1.3", "unet-tutorial": "0.1", "nbdev": "2"}
    found = iter([before, after])
    monkeypatch.setattr(colab, "versions", lambda twin: next(found))
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    monkeypatch.setattr(colab.subprocess, "run", lambda *args, **options: None)
    (tmp_path / "package.whl").touch()
    told = colab.install("python", tmp_path)
    assert told[0] == "torch: 2.11.0 became 2.12.0"
    assert "nbdev is there, and Colab has none" in told and len(told) == 3


# In sync


def test_what_is_out_of_sync_is_named(repository):
    pytest.importorskip("nbdev")
    notebook = book(cell("#| default_exp sizes"), cell("#| export\na = 1"))
    files.write(notebook, repository / "nbs" / "02_sizes.ipynb")
    package = repository / "unet_tutorial"
    package.mkdir()
    told = check.nbdev_export(repository)
    assert "notebooks and library are not in sync: run make export" in told
    assert "sizes.py" in told
    subprocess.run(check.command("nbdev_export"), cwd=repository, check=True)
    assert check.nbdev_export(repository) == ""
    (package / "old.py").write_text("a = 1\n")
    assert "delete them: old.py" in check.nbdev_export(repository)
    (package / "old.py").unlink()
    (package / "sizes.py").write_text("a = 2\n")
    assert "differing: sizes.py" in check.nbdev_export(repository)


def test_what_is_not_clean_is_named(repository):
    pytest.importorskip("nbdev")
    notebook = book(cell("1"))
    notebook["cells"][1]["execution_count"] = 3
    path = repository / "nbs" / "02_sizes.ipynb"
    path.write_text(files.as_text(notebook))
    before = path.read_bytes()
    assert "02_sizes.ipynb: run make export" in check.nbdev_clean(repository)
    assert path.read_bytes() == before


# Clean and setup


def test_clean_removes_what_was_built_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clean, "ROOT", tmp_path)
    (tmp_path / "build" / "course").mkdir(parents=True)
    (tmp_path / "nbs" / "runs").mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cars.jpg").touch()
    (tmp_path / "nbs" / "data").symlink_to(tmp_path / "mine")
    monkeypatch.setattr(sys, "argv", ["clean.py", str(tmp_path / ".venv")])
    monkeypatch.setattr(clean.leftovers, "__defaults__", (tmp_path,))
    clean.main()
    told = capsys.readouterr().out
    assert told == "removed build\nremoved nbs/data\nremoved nbs/runs\n"
    assert (tmp_path / "mine" / "cars.jpg").exists()
    assert (tmp_path / ".venv").exists()


def test_clean_keeps_an_environment_below_build(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clean, "ROOT", tmp_path)
    (tmp_path / "build" / "venv").mkdir(parents=True)
    monkeypatch.setattr(clean.leftovers, "__defaults__", (tmp_path,))
    monkeypatch.setattr(sys, "argv", ["clean.py", str(tmp_path / "build" / "venv")])
    clean.main()
    assert "kept build" in capsys.readouterr().out
    assert (tmp_path / "build" / "venv").exists()


@pytest.mark.parametrize(
    ("version", "passes"),
    [
        ("3.9", False),
        ("3.10", True),
        ("3.13", True),
        ("3.14", True),
        ("3.15", True),
        ("4.0", True),
    ],
)
def test_the_range_of_python_versions(version, passes):
    settings = environment.read_settings()
    if passes:
        environment.check_version(settings, version, "python")
    else:
        with pytest.raises(SystemExit, match=r"needs Python 3\.10 or newer"):
            environment.check_version(settings, version, "python")


def test_a_python_newer_than_the_tests_is_told_and_used(capsys):
    settings = environment.read_settings()
    environment.check_version(settings, settings["max_python"], "python")
    assert capsys.readouterr().out == ""
    environment.check_version(settings, "3.99", "python")
    told = capsys.readouterr().out
    assert f"tested with Python 3.10 to {settings['max_python']}" in told


def test_the_stamp_follows_the_requirements():
    settings = dict(environment.read_settings())
    key = environment.key_of(settings, "3.11")
    assert key == environment.key_of(dict(settings), "3.11")
    assert key != environment.key_of(settings, "3.12")
    assert key != environment.key_of(settings | {"requirements": "torch"}, "3.11")
    assert key == environment.key_of(settings | {"user": "ada"}, "3.11")


def test_the_lowest_versions_are_those_of_the_settings():
    needs = "albumentations<3,>=2.0.8 torch>=2.4 numpy>=1.24.4"
    assert lowest.constraints(needs) == [
        "albumentations==2.0.8",
        "torch==2.4",
        "numpy==1.24.4",
    ]
    assert lowest.constraints(needs, ["torch"]) == ["torch==2.4"]
    with pytest.raises(ValueError, match=r"tqdm has no lower bound"):
        lowest.constraints("tqdm")
    pinned = lowest.constraints(files.settings(ROOT)["requirements"])
    assert len(pinned) == len(files.settings(ROOT)["requirements"].split())


def test_the_atlas_is_read_with_the_versions_that_are_promised(monkeypatch, capsys):
    lowest_pins, colabs = readers.pins("lowest"), readers.pins("colab")
    assert "pillow==10" in lowest_pins and "tifffile==2023.7.10" in lowest_pins
    assert any(pin.startswith("tifffile==2026") for pin in colabs)
    for pins in (lowest_pins, colabs, readers.pins("newest")):
        assert {pin.split("=")[0] for pin in pins} == set(readers.NAMES)
    made = {"lowest": 0, "colab": 1, "newest": 0}
    monkeypatch.setattr(readers, "make", lambda which, folder: made[which])
    monkeypatch.setattr(readers, "read", lambda python: python)
    monkeypatch.setattr(sys, "argv", ["readers.py", "venvs"])
    assert readers.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "read otherwise with: colab"
    monkeypatch.setattr(sys, "argv", ["readers.py", "venvs", "newest"])
    assert readers.main() == 0
    monkeypatch.setattr(sys, "argv", ["readers.py", "venvs", "latest"])
    with pytest.raises(SystemExit, match="latest.*newest would work"):
        readers.main()


def test_an_interrupted_install_leaves_no_stamp(tmp_path, monkeypatch):
    stamp = tmp_path / "unet_tutorial.stamp"
    stamp.write_text("of other requirements")
    monkeypatch.setattr(sys, "argv", ["environment.py", str(tmp_path)])
    monkeypatch.setattr(environment, "version_of", lambda venv: "3.11")
    monkeypatch.setattr(environment, "has_pip", lambda venv: True)

    def interrupted(venv):
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environment.main()
    assert not stamp.exists()

    monkeypatch.setattr(environment, "install", lambda venv: None)
    environment.main()
    monkeypatch.setattr(environment, "install", interrupted)
    environment.main()  # the stamp is right: nothing is installed


def test_a_relative_environment_is_the_same_from_every_folder(tmp_path, monkeypatch):
    seen = []
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setattr(sys, "argv", ["environment.py", "../env", "bench"])
    monkeypatch.setattr(environment, "set_up", lambda venv, _: seen.append(venv))
    monkeypatch.setattr(
        environment, "install_group", lambda venv, *_: seen.append(venv)
    )
    environment.main()
    assert seen == [tmp_path / "env"] * 2


def test_commands_run_from_an_environment_beside_the_clone(tmp_path):
    """`make VENV=../env` starts a Python by a relative name, and that starts others."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "env"], cwd=tmp_path)
    (tmp_path / "clone").mkdir()
    lines = f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
    lines += "import os, subprocess, check, course\n"
    lines += "os.chdir('/')\n"
    lines += "assert os.path.isabs(str(check.TOOLS)), check.TOOLS\n"
    lines += "subprocess.run([sys.executable, '-c', 'print(7)'], cwd='/', check=True)\n"
    python = environment.python_of(Path("..") / "env")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    done = subprocess.run(
        [str(python), "-c", lines],
        cwd=tmp_path / "clone",
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "7", done.stderr


def test_a_group_that_cannot_be_installed_stops_nothing(tmp_path, monkeypatch, capsys):
    settings, asked = {"bench_requirements": "monai>=1.4 other"}, []

    def pip_install(venv, log, wanted):
        asked.append(wanted)
        return 1 if len(asked) == 1 else 0

    monkeypatch.setattr(environment, "pip_install", pip_install)
    environment.install_group(tmp_path, settings, "bench")
    assert "could not install monai>=1.4 other" in capsys.readouterr().out
    environment.install_group(tmp_path, settings, "bench")  # it tries again
    environment.install_group(tmp_path, settings, "bench")  # and then it is there
    assert asked == 2 * [["monai>=1.4", "other"]]
    settings["bench_requirements"] += " third"
    environment.install_group(tmp_path, settings, "bench")
    assert asked[2] == ["monai>=1.4", "other", "third"]


def test_a_folder_of_other_things_is_no_environment(tmp_path, monkeypatch):
    (tmp_path / "thesis.tex").touch()
    monkeypatch.setattr(sys, "argv", ["environment.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds something else"):
        environment.main()


def test_a_python_without_venv_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit, match="sudo apt install python3-venv"):
        environment.create(tmp_path / "new")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_the_targets():
    told = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in "course lab test export clean links outputs times".split():
        assert f"  make {name} " in told.stdout


def test_export_names_what_was_typed_into_a_module(tmp_path):
    module = tmp_path / "unet_tutorial" / "sizes.py"
    module.parent.mkdir()
    module.write_text("by = 'hand'\n")
    before = check.modules(tmp_path)
    assert check.rewritten(before, tmp_path) == ""
    module.write_text("by = 'notebook'\n")
    (module.parent / "new.py").write_text("")
    text = check.rewritten(before, tmp_path)
    assert "unet_tutorial/sizes.py. " in text and "belongs in the notebook" in text
    assert "new.py" not in text
