"Images of one name in several sub-folders, in the recorded split of a run."

import json

import numpy as np
import pytest
from PIL import Image
from samples import says

from unet_tutorial.data.datasets import open_folder
from unet_tutorial.runs import tuning
from unet_tutorial.runs.recipes import Plan, read_recipe

BLANK = dict.fromkeys("name data size epochs minutes options".split())
SHORT = {"steps": 3, "amp": False}
PLAN = Plan(
    read_recipe("modern"), kind="folder", held_out=(1, 3), seed=0, **BLANK, **SHORT
)


def draw(folder, *names):
    for name in names:
        for side in ("images", "masks"):
            path = folder / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(16, dtype=np.uint8)).save(path)
    return open_folder(folder / "images", folder / "masks")


@pytest.fixture
def begun(tmp_path):  # Path
    "A folder of five images, and a run that has noted its split."
    source = draw(tmp_path, "1.png", "2.png", "s/3.png", "s/4.png", "t/5.png")
    parts = source.subset([0, 2, 4]), source.subset([1, 3])
    (tmp_path / "run").mkdir()
    record = tuning.split_record(source, *parts)
    (tmp_path / "run/split.json").write_text(json.dumps(record))
    return tmp_path


def test_a_new_image_of_a_known_name_is_new(begun):
    run = begun / "run"
    source = draw(begun)
    assert tuning.as_it_was(run, PLAN, source) == (PLAN, source)
    tuning.check_same_images(run, source)
    source = draw(begun, "t/4.png", "s/1.png")
    with pytest.raises(ValueError, match=says("2 new", "s/1.png")):
        tuning.check_same_images(run, source)
    with pytest.warns(UserWarning, match="2 are new, such as s/1.png, and left out"):
        plan, old = tuning.as_it_was(run, PLAN, source)
    names = [item.name for item in old.items]
    assert sorted(names) == ["1.png", "2.png", "s/3.png", "s/4.png", "t/5.png"]
    assert [names[n] for n in plan.held_out] == ["2.png", "s/4.png"]


def test_a_split_that_an_earlier_version_noted_still_holds(begun):
    path = begun / "run/split.json"
    record = json.loads(path.read_text())
    for part in tuning.SHARES:
        sizes = record[part].items()
        record[part] = {name.rpartition("/")[2]: size for name, size in sizes}
    del record["with sub-folders"]
    path.write_text(json.dumps(record))
    source = draw(begun)
    tuning.check_same_images(begun / "run", source)
    assert tuning.as_it_was(begun / "run", PLAN, source) == (PLAN, source)
    source = draw(begun, "0.png")
    with pytest.warns(UserWarning, match="1 are new, such as 0.png"):
        plan, old = tuning.as_it_was(begun / "run", PLAN, source)
    names = [item.name for item in old.items]
    assert [names[n] for n in plan.held_out] == ["2.png", "s/4.png"]
    learned, held, new = tuning._groups(source, record)
    assert (len(learned), held, new) == (3, {"2.png", "4.png"}, {"0.png"})
