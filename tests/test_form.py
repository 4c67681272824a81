"""The form for people who do not code: its steps, its sentences, and the notebook."""

import importlib.util
import json
import os
import subprocess
import sys
import types
import zipfile

import course
import links
import notebooks
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from unet_tutorial import form
from unet_tutorial.data.outputs import write_polygons
from unet_tutorial.form import Stop
from unet_tutorial.runs.recipes import read_plan
from unet_tutorial.synthetic import draw_cars

place = importlib.util.spec_from_file_location("form_tool", ROOT / "tools/form.py")
tool = importlib.util.module_from_spec(place)
place.loader.exec_module(tool)
BOOK = notebooks.read(ROOT / links.FORM)
DRIVE, PRACTICE, ZIP = "Google Drive", "practice images", "a zip from my computer"


def draw(folder, count=4, masks=True):
    for number in range(count):
        image, mask = draw_cars(number, size=(64, 96), seed=number)
        for kind, pixels in (("images", image), ("masks", mask))[: 1 + masks]:
            file = folder / kind / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)


@pytest.fixture
def here(tmp_path, monkeypatch):
    "An empty folder in which somebody works, with a folder of cars in it."
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "cars")
    return tmp_path


def everything(folder):
    "All files below a folder, with what they hold."
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def a_net(work, number=1):
    "The folder of a run in which only the files are of interest."
    run = work / "runs" / str(number)
    run.mkdir(parents=True)
    (run / "best.safetensors").write_bytes(b"a net")
    form._remember(work, classes=2, options={})
    return run


class Colab(types.ModuleType):
    "What google.colab has, as far as the form meets it."

    def __init__(self, here, monkeypatch, error=None):
        super().__init__("google.colab")
        self.here, self.error, self.told, self.upload = here, error, [], None
        for name in ("google", "google.colab.drive", "google.colab.files"):
            monkeypatch.setitem(sys.modules, name, self)
        monkeypatch.setitem(sys.modules, "google.colab", self)

    def mount(self, path):
        if self.error:
            raise self.error
        assert path == str(self.here / "drive")

        if (self.here / "away").exists():
            (self.here / "away").rename(path)

    def flush_and_unmount(self):
        self.told.append("flushed")
        (self.here / "drive").rename(self.here / "away")

    def download(self, path):
        self.told.append(path)

    def upload_file(self, path):
        if self.upload is None:
            raise ValueError("File has not been uploaded")
        (self.here / path).write_bytes(self.upload)


# Folders by name


@pytest.mark.parametrize(
    "typed",
    ["cars", " cars/ ", "My Drive/cars", "MyDrive/cars", '"cars"'],
)
def test_a_folder_is_found_as_people_type_it(here, typed):
    assert form.find_folder(here, typed, "My Drive") == here / "cars"
    assert form.find_folder(here, "/content/drive/MyDrive/cars") == here / "cars"


def test_a_wrong_name_is_answered_with_what_is_there(here):
    for number in range(20):
        (here / f"week {number:02}").mkdir()
    (here / ".hidden").mkdir()
    (here / "cars.zip").write_bytes(b"")
    with pytest.raises(Stop) as stopped:
        form.bring(DRIVE, "Cras")
    told = str(stopped.value)
    assert told.startswith(
        'There is no folder "Cras" in this folder. Did you mean "cars"?'
    )
    assert '"week 00"' in told and "and 10 more" in told and ".hidden" not in told
    with pytest.raises(
        Stop, match='no folder "imags" in "cars". Did you mean "images"'
    ):
        form.bring(DRIVE, "cars", images="imags")
    with pytest.raises(Stop, match=r"no folder \"x\" in \"masks\". .*only 4 files"):
        form.bring(DRIVE, "cars", masks="masks/x")
    with pytest.raises(Stop, match="address of a web page"):
        form.bring(DRIVE, "https://drive.google.com/drive/folders/1abc")
    with pytest.raises(Stop, match="into the field folder"):
        form.bring(DRIVE, " ")
    with pytest.raises(Stop, match="Run the cell above"):
        form.bring(PRACTICE)


# Copies


def test_what_is_brought_stays_as_it_is_where_it_comes_from(here, capsys):
    before = everything(here / "cars")
    form.bring(DRIVE, "cars")
    assert "images: 4 files" in capsys.readouterr().out
    form.bring(DRIVE, "cars")
    assert "images: 4 files" in (told := capsys.readouterr().out)
    assert told.count("nothing new") == 2
    assert everything(here / "cars") == before
    assert {k.name for k in before} == {
        k.name for k in everything(here / "your_data/masks")
    }
    assert not (here / "your_data/older").exists()


def test_a_source_in_the_working_folder_is_refused(here):
    form.bring(DRIVE, "cars")
    before = everything(here / "your_data")
    for folder, images in (("your_data", "images"), ("cars", "../your_data/images")):
        with pytest.raises(Stop, match='is in the working folder "your_data"'):
            form.bring(DRIVE, folder, images=images)
    with pytest.raises(Stop, match='is in the working folder "your_data"'):
        form.bring(DRIVE, "your_data", images="", masks="")
    with pytest.raises(Stop, match="holds the working folder"):
        form.bring(DRIVE, "cars/..", images="", masks="")
    assert everything(here / "your_data") == before
    (here / "linked").symlink_to(here / "your_data")
    with pytest.raises(Stop, match="is in the working folder"):
        form.bring(DRIVE, "linked")
    form.bring(DRIVE, "cars")
    form.look()


def test_a_copy_that_would_be_replaced_is_set_aside(here):
    form.bring(DRIVE, "cars")
    mine, theirs = here / "your_data/masks/1.png", here / "cars/masks/1.png"
    mine.write_bytes(b"drawn for an hour")
    (here / "cars/images/3.png").unlink()
    theirs.write_bytes(b"corrected")
    form.bring(DRIVE, "cars")
    assert mine.read_bytes() == b"corrected"
    assert (here / "your_data/older/1/masks/1.png").read_bytes() == b"drawn for an hour"
    assert (here / "your_data/older/1/images/3.png").is_file()
    assert not (here / "your_data/images/3.png").exists()


def test_masks_that_are_no_longer_named_are_set_aside(here):
    form.bring(DRIVE, "cars")
    draw(here / "more", masks=False)
    form.bring(DRIVE, "more", masks="")
    assert not (here / "your_data/masks").exists()
    assert len(list((here / "your_data/older/1/masks").iterdir())) == 4


def test_images_beside_their_masks(here, capsys):
    for number in range(4):
        os.rename(
            here / f"cars/masks/{number}.png", here / f"cars/images/{number}_mask.png"
        )
    form.bring(DRIVE, "cars/images", images="", masks="")
    form.look()
    assert "4 images with a mask, without a problem" in capsys.readouterr().out
    form.bring(DRIVE, "cars", masks="images")  # the same, said in another way
    form.look()


def test_images_in_the_folder_itself(here):
    for path in (here / "cars/images").iterdir():
        path.rename(here / "cars" / path.name)
    form.bring(DRIVE, "cars", images="")
    form.look()
    assert len(list((here / "your_data/images").rglob("*.png"))) == 4


def test_a_full_disk_is_noticed_before(here, monkeypatch):
    usage = types.SimpleNamespace(free=10**6)
    monkeypatch.setattr(form.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Stop, match=r"are to be copied, .* only 1.0 MB free"):
        form.bring(DRIVE, "cars")
    assert everything(here / "your_data/images") == {}


def test_a_copy_that_is_interrupted_is_continued(here, monkeypatch):
    real, done = form.shutil.copyfile, []

    def some(source, to):
        if len(done) == 2:
            raise OSError(5, "Input/output error")
        done.append(source)
        real(source, to)

    monkeypatch.setattr(form.shutil, "copyfile", some)
    with pytest.raises(Stop):
        form.bring(DRIVE, "cars")
    assert len(everything(here / "your_data/images")) == 2
    monkeypatch.setattr(form.shutil, "copyfile", real)
    form.bring(DRIVE, "cars")
    assert len(everything(here / "your_data/images")) == 4


# Zips


def test_a_zip_with_a_folder_in_a_folder(here):
    with zipfile.ZipFile(here / "cars.zip", "w") as made:
        for path, data in everything(here / "cars").items():
            made.writestr(f"all of it/cars/{path.as_posix()}", data)
            made.writestr(f"__MACOSX/all of it/cars/._{path.name}-{path.parent}", b"")
    form.bring(ZIP, "cars.zip")
    form.look()
    form.bring(DRIVE, "cars.zip")  # in Drive it is found by the same name
    assert (here / "your_data/unpacked/2").is_dir()


def test_a_zip_that_is_none(here):
    (here / "cars.zip").write_bytes(b"<html>log in</html>")
    with pytest.raises(Stop, match="a web page"):
        form.bring(ZIP, "cars.zip")


# Looking


def test_no_masks(here):
    draw(here / "bare", masks=False)
    with pytest.raises(Stop, match='no folder "masks" in "bare". .*"images"'):
        form.bring(DRIVE, "bare")
    (here / "bare/masks").mkdir()
    (here / "bare/masks/notes.txt").write_text("later")
    with pytest.raises(Stop, match='"masks" holds no image, but notes.txt'):
        form.bring(DRIVE, "bare")
    (here / "bare/masks/0.geojson").write_text("{}")
    with pytest.raises(Stop, match="belong into the field outlines"):
        form.bring(DRIVE, "bare")
    form.bring(DRIVE, "bare", masks="")
    with pytest.raises(Stop, match="write _mask into the field masks_end_with"):
        form.look()


def test_a_mask_that_is_missing_is_named(here, capsys):
    (here / "cars/masks/2.png").unlink()
    form.bring(DRIVE, "cars")
    with pytest.raises(Stop, match="run cells 2 and 3 again"):
        form.look()
    told = capsys.readouterr().out
    assert "Mend first:" in told and "no mask of that name: images/2.png" in told
    assert not form._recall(form.WORK).get("options")
    with pytest.raises(Stop, match="run cell 3 first"):
        form.train()


def test_too_few_images(here, capsys):
    for number in (1, 2, 3):
        (here / f"cars/masks/{number}.png").unlink()
        (here / f"cars/images/{number}.png").unlink()
    form.bring(DRIVE, "cars")
    with pytest.raises(Stop, match="One image with a mask: two are the least"):
        form.look()
    draw(here / "cars", 3)
    form.bring(DRIVE, "cars")
    form.look()
    assert "3 images with a mask is very little" in capsys.readouterr().out


def test_more_classes_than_were_said(here, capsys):
    for number in range(4):
        labels = np.uint8(np.arange(64 * 96).reshape(64, 96) % 3)
        Image.fromarray(labels).save(here / f"cars/masks/{number}.png")
    form.bring(DRIVE, "cars")
    with pytest.raises(Stop):
        form.look()
    told = " ".join(capsys.readouterr().out.split())
    assert "Set the field classes" in told and "num_classes" not in told
    form.look(classes=3)
    assert form._options(form.WORK)["classes"] == ["background", "class 1", "class 2"]


def test_what_is_filled_in_is_understood_or_explained(here):
    form.bring(DRIVE, "cars")
    form.look(unknown_value="7", inverted=True)
    told = form._options(form.WORK)
    assert told["ignore"] == 7 and told["invert"] is True
    assert told["masks"] == str(form.WORK / "masks")
    assert form._numbers_of("1, 2,3", "127", "")["ignore"] == (1, 2, 3)
    with pytest.raises(Stop, match="want a number"):
        form.look(unknown_value="white")
    with pytest.raises(Stop, match="class_values some, such as 2,1,3"):
        form.look(class_values="one")
    with pytest.raises(Stop, match="a number for each class"):
        form.look(class_values="3")
    form.look(threshold="0")  # all that is not black: no field is empty with a 0
    assert form._options(form.WORK)["threshold"] == 0


def test_classes_of_any_numbers_are_asked_for_and_named(here, capsys):
    "As a set of pets has it: 2 is the background, and few images have no mask yet."
    for number in range(3):
        labels = np.uint8(np.arange(64 * 96).reshape(64, 96) % 5).clip(1, 3)
        labels[labels == 3], labels[labels == 1] = 1, 7
        Image.fromarray(labels).save(here / f"cars/masks/{number}.png")
    (here / "cars/masks/3.png").unlink()
    form.bring(DRIVE, "cars")
    with pytest.raises(Stop, match="Mend"):
        form.look(classes=3)
    told = " ".join(capsys.readouterr().out.split())
    assert "7 in the field class_values" in told and "values=" not in told
    assert "leave out images without one: a tick at the field only_annotated" in told
    form.look(class_values="2, 1,7", only_annotated=True)
    told = form._options(form.WORK)
    assert told["values"] == [2, 1, 7] and told["only_annotated"] is True
    assert told["classes"] == ["background", "class 1", "class 2"]
    form.train(0.01, device="cpu")
    plan = read_plan(form._latest(form.WORK))
    assert plan.options["values"] == [2, 1, 7] and len(plan.options["classes"]) == 3
    form.train_on(0.01, device="cpu")  # read as cell 3 was told
    assert read_plan(form._latest(form.WORK)).options == plan.options


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("more? num_classes=4. Instances? num_classes=None. PNG", "classes to 4. PNG"),
        (
            "classes? Leave num_classes=3 away. Else",
            "classes? Set the field classes to 2.",
        ),
        ("else invert=True exchanges", "a tick at the field inverted"),
        ("end: suffix='_mask'", "write _mask into the field masks_end_with"),
        ("first: values=(0, 2, 1). Or", "first: 0, 2, 1 in the field class_values. Or"),
        ("without one: only_annotated=True", "one: a tick at the field only_annotated"),
        (
            "threshold= and invert= are for num_classes=2, without values=",
            "two classes",
        ),
        ("255: ignore=255 leaves it out", "255 in the field unknown_value leaves"),
        (
            "1 of 4; train needs no one size; ImagePairs(pairs, size=(9, 12)) makes it",
            "no reason to act",
        ),
        ("held_out=1 of 1 images: hold out", "1 image is not enough"),
        ("delete them; outside='skip' leaves, outside='clip' what is inside", "them"),
    ],
)
def test_sentences_have_the_names_of_the_fields(said, words):
    assert words in form._in_words(said)


def test_a_name_in_a_sentence_is_a_field_of_the_form():
    known = {name for cell in BOOK["cells"] for name in tool.fields(cell)}
    for words in form._IN_PYTHON.values():
        assert {word for word in words.split() if "_" in word} <= known, words


def test_outlines_of_another_program_become_masks(here, capsys):
    (here / "cars/outlines").mkdir()
    for number in (0, 1, 2):
        mask = np.asarray(Image.open(here / f"cars/masks/{number}.png")) > 0
        file = here / f"cars/outlines/{number}.geojson"
        write_polygons(file, mask.astype(int), classes=["background", "car"])
    form.bring(DRIVE, "cars", masks="", outlines="outlines")
    assert "3 masks made of them; 1 images have none" in capsys.readouterr().out
    made = here / "your_data/masks" / form.MADE
    first = np.asarray(Image.open(here / "cars/masks/0.png")) > 0
    assert ((np.asarray(Image.open(made / "0_mask.png")) > 0) == first).all()
    (here / "cars/images/3.png").unlink()
    form.bring(DRIVE, "cars", masks="", outlines="outlines")
    form.look()
    form.bring(DRIVE, "cars")  # drawn masks again: those of outlines are set aside
    assert not made.exists() and not (here / "your_data/outlines").exists()


# Training


def test_a_training_that_is_stopped_says_how_to_go_on(here, monkeypatch):
    form.bring(DRIVE, "cars")
    form.look()
    asked = []

    def stopped(kind, data, run, **told):
        asked.append(told["options"])
        run.mkdir(parents=True)
        for name in ("recipe.json", "best.safetensors"):
            (run / name).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(form, "train_run", stopped)
    with pytest.raises(Stop, match=r"best net so far is kept.*tick at go_on in cell 4"):
        form.train(1)
    assert asked == [{"masks": str(form.WORK / "masks")}]

    def resumed(run, **told):
        asked.append(run)
        Image.new("L", (8, 8)).save(run / "curves.png")

    monkeypatch.setattr(form, "resume_run", resumed)
    form.train(1, go_on=True)
    assert asked[1:] == [form.WORK / "runs/1"]


def test_a_training_that_is_stopped_at_once_sends_nobody_to_an_older_one(
    here, monkeypatch
):
    def stopped(*folders, **told):
        raise KeyboardInterrupt

    form.bring(DRIVE, "cars")
    form.look()
    (form.WORK / "runs/1").mkdir(parents=True)  # an older one
    monkeypatch.setattr(form, "train_run", stopped)
    with pytest.raises(Stop, match="nothing of it is kept: .* without a tick"):
        form.train(1)


def test_a_folder_that_has_gone_is_named(here):
    form.bring(DRIVE, "cars")
    os.rename("cars", "vans")
    a_net(form.WORK)
    with pytest.raises(Stop, match='"cars" is not there any more: run cell 2 again'):
        form.train_on()
    with pytest.raises(Stop, match="run cell 2 again"):
        form.predict("new")


# Without images, nets, or Colab's GPU


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (lambda: form.look(), "run cell 2 first"),
        (lambda: form.train(), "run cell 3 first"),
        (lambda: form.results(), "run cell 4 first"),
        (lambda: form.predict("new"), "run cell 4 first"),
        (lambda: form.keep(form.PLACES[0]), "run cell 4 first"),
        (lambda: form.train_on(), "run cell 4 first"),
    ],
)
def test_a_step_too_early_names_the_cell_to_run(here, step, match):
    with pytest.raises(Stop, match=match):
        step()


def test_the_machine(here, monkeypatch):
    monkeypatch.setattr(form, "pick_device", lambda: types.SimpleNamespace(type="cpu"))
    assert form.machine().startswith("No GPU: everything works, but")
    assert "T4 GPU" not in form.machine()
    Colab(here, monkeypatch)
    assert "Change runtime type, T4 GPU" in form.machine()
    monkeypatch.setattr(form, "pick_device", lambda: types.SimpleNamespace(type="cuda"))
    assert form.machine().startswith("There is a GPU (cuda)")


def test_a_stop_is_shown_without_a_traceback(here):
    cell = "from unet_tutorial import form\nform.bring('Google Drive', 'crs')"
    code = "from IPython.core.interactiveshell import InteractiveShell as Shell\n"
    code += f"done = Shell.instance().run_cell({cell!r})\n"
    code += "assert not done.success"  # so "Run all" stops here
    env = dict(os.environ, IPYTHONDIR=str(here / "profile"), PYTHONPATH=str(ROOT))
    (here / "profile").mkdir()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    told = " ".join(done.stdout.split())
    assert told.startswith('This step has stopped. There is no folder "crs" in this')
    assert 'Did you mean "cars"' in told and "Traceback" not in told


def test_what_nobody_expected_keeps_its_traceback(here):
    with pytest.raises(ZeroDivisionError), form.plainly():
        raise ZeroDivisionError
    with pytest.raises(Stop, match="You stopped it"), form.plainly():
        raise KeyboardInterrupt


# Saving


def test_saved_folders_get_new_names_and_are_whole(here, monkeypatch):
    (here / "unet results").mkdir()
    (here / "unet results/thesis.txt").write_text("mine")
    run = a_net(form.WORK)
    assert form.keep(DRIVE).name == "unet results 2"
    assert form.keep(DRIVE).name == "unet results 3"
    assert (here / "unet results/thesis.txt").read_text() == "mine"
    assert (here / "unet results 2/runs/1/best.safetensors").read_bytes() == b"a net"

    def broken(source, to):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(form.shutil, "copyfile", broken)
    with pytest.raises(Stop, match="No space left"):
        form.keep(DRIVE)
    names = sorted(path.name for path in here.iterdir())
    assert names == [
        "cars",
        "unet results",
        "unet results 2",
        "unet results 3",
        "your_data",
    ]
    assert run.is_dir()


def test_a_zip_to_download(here):
    a_net(form.WORK)
    first, second = (form.keep(form.PLACES[1], "mine") for _ in range(2))
    assert (first.name, second.name) == ("mine.zip", "mine 2.zip")
    names = zipfile.ZipFile(second).namelist()
    assert sorted(names) == ["form.json", "runs/1/best.safetensors"]


def test_what_was_saved_comes_back_on_another_day(here):
    a_net(form.WORK)
    form.keep(DRIVE, "monday")
    os.rename(form.WORK, "elsewhere")
    form.bring(DRIVE, "cars", saved="monday")
    assert form._latest(form.WORK).name == "1" and form._options(form.WORK)
    (form.WORK / "runs/1/best.safetensors").write_bytes(b"newer")
    form.bring(DRIVE, "cars", saved="monday")
    assert (form.WORK / "runs/1/best.safetensors").read_bytes() == b"newer"
    with pytest.raises(Stop, match="a folder that cell 7 wrote"):
        form.bring(DRIVE, "cars", saved="cars")


# Colab


def test_drive_is_connected_and_flushed(here, monkeypatch):
    colab = Colab(here, monkeypatch)
    draw(here / "drive/MyDrive/project/cells")
    draw(here / "drive/Shareddrives/lab/cells")
    before = everything(here / "drive")
    form.bring(DRIVE, "My Drive/project/cells")
    form.bring(DRIVE, "Shared drives/lab/cells")
    with pytest.raises(Stop, match='no folder "cells" in My Drive.*"project"'):
        form.bring(DRIVE, "cells")
    assert everything(here / "drive") == before
    a_net(form.WORK)
    assert form.keep(DRIVE) == here / "drive/MyDrive/unet results"
    assert colab.told == ["flushed"] and not (here / "drive").exists()
    form._refresh(form.WORK)  # connects again
    assert (here / "drive/MyDrive/unet results/runs/1").is_dir()
    form.keep(form.PLACES[1])
    assert colab.told[1] == str(form.WORK / "unet results.zip")


def test_drive_that_is_not_allowed(here, monkeypatch):
    Colab(here, monkeypatch, ValueError("mount failed"))
    with pytest.raises(
        Stop, match=r"not connected \(mount failed\).*choose your account"
    ):
        form.bring(DRIVE, "cells")


def test_an_upload(here, monkeypatch):
    colab = Colab(here, monkeypatch)
    with pytest.raises(Stop, match="No zip was chosen"):
        form.bring(ZIP)
    with zipfile.ZipFile(here / "cars.zip", "w") as made:
        for path, data in everything(here / "cars").items():
            made.writestr(path.as_posix(), data)
    colab.upload = (here / "cars.zip").read_bytes()
    form.bring(ZIP)
    form.look()


# The notebook


def test_the_form_is_what_its_sources_give():
    assert tool.is_current(), "run make form"


def test_a_shared_paragraph_that_is_gone_is_named():
    parts = ["One.", "Two, once.", "Two, twice."]
    assert tool.shared("One", parts) == "One."
    for words, count in (("Three", 0), ("Two", 2)):
        with pytest.raises(SystemExit, match=f"{count} paragraphs.*18_your_data"):
            tool.shared(words, parts)


def test_cells_are_forms_with_all_their_fields_used():
    cells = [cell for cell in BOOK["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == 9
    for cell in cells:
        text = notebooks.source(cell)
        assert text.startswith("# @title ") and cell["outputs"] == []
        assert cell["metadata"] == tool.FOLDED
        call = text.rpartition("form.")[2]
        for name in tool.fields(cell):
            assert name in call, name
    assert BOOK["metadata"]["accelerator"] == "GPU"


def test_fields_hold_choices_that_the_steps_know():
    for name, choices in (
        ("SOURCES", "source"),
        ("WRITES", "write"),
        ("PLACES", "place"),
    ):
        known = list(getattr(form, name))
        line = f"# @param {json.dumps(known)}"
        texts = [notebooks.source(cell) for cell in BOOK["cells"]]
        assert any(f"\n{choices} = " in text and line in text for text in texts)


def test_a_cell_without_the_first_says_so():
    later = [c for c in BOOK["cells"] if c["cell_type"] == "code"][2:]
    for cell in later:
        with pytest.raises(SystemExit, match="Run cell 1 first"):
            exec(notebooks.source(cell), {})


def test_the_badges_open_the_form():
    address = links.in_colab(notebooks.settings(), links.FORM)
    assert address in notebooks.source(BOOK["cells"][0])
    for name in ("README.md", "nbs/index.ipynb", "nbs/18_your_data.ipynb"):
        assert address in (ROOT / name).read_text(encoding="utf-8"), name


def test_fields_can_be_filled_in():
    book = tool.with_fields(BOOK, minutes=0.5, folder="a\\b 'c'")
    values = {}
    for cell in book["cells"]:
        values |= tool.fields(cell)
    assert values["minutes"] == 0.5 and values["folder"] == "a\\b 'c'"
    assert values["images"] == "images"


def test_the_form_runs_from_top_to_bottom(tmp_path):
    quick = tool.quick(tmp_path / "filled in")
    run = course.execute(quick, tmp_path, minutes=8)
    assert not run.error
    texts = [
        "".join(output.get("text", ""))
        for cell in run.notebook["cells"]
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    told = "\n".join(texts)
    work = tmp_path / "your_data"
    for words in ("40 images with a mask", "\ntray.10.jpg  ", "unet results.zip"):
        assert words in told, words
    assert len(list((work / "answers/1").glob("*_mask.png"))) == 4
    assert read_plan(work / "runs/2").start["run"]
    made = {path.name for path in tmp_path.iterdir()}  # nothing is written elsewhere
    assert made == {"data", "filled in", "your_data", "your_data.ipynb"}


def test_a_table_keeps_its_columns_where_cells_are_empty():
    page = "| | Dice |\n|---|---|\n| a\\|1 | 0.5 |\n| b | |"
    assert form._as_text(page).splitlines() == ["      Dice", "a\\|1  0.5", "b"]


def test_two_numbers_are_no_colour(tmp_path):
    with pytest.raises(form.Stop, match="one number, or three"):
        form._numbers_of("254,255", "", "")


def test_a_number_that_is_none_is_a_sentence():
    with pytest.raises(form.Stop, match="the loss is not a number"), form.plainly():
        raise FloatingPointError("the loss is not a number")
