"""The page for one image, with and without its widgets."""

import io
import sys
import threading
from datetime import datetime, timezone

import numpy as np
import pytest
import torch
from PIL import Image
from samples import noise, thin_net

from unet_tutorial.data.download import alone
from unet_tutorial.data.images import read_mask
from unet_tutorial.deploy import live as module
from unet_tutorial.deploy.live import Desk, live, read_upload
from unet_tutorial.predict import Predictor


@pytest.fixture(scope="module")
def predictor():
    return Predictor(thin_net(), torch.device("cpu"), classes=["a", "b"])


def names(paths):
    return sorted(path.name for path in paths)


def test_what_a_button_hands_over():
    old = {"a.png": {"metadata": {"size": 2}, "content": b"12"}}
    new = ({"name": "a.png", "type": "", "size": 2, "content": memoryview(b"12")},)
    assert read_upload(old) == read_upload(new) == ("a.png", b"12")
    assert read_upload({}) is read_upload(()) is None


def as_file(image, form="png"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=form)
    return buffer.getvalue()


def test_a_desk_without_widgets(tmp_path, predictor):
    image = noise(20, 33)
    desk = Desk(predictor, tmp_path / "masks")
    assert desk.open("dir/cell.png", as_file(image)) == "dir/cell.png: 20 x 33 pixels"
    plain = np.asarray(Image.open(io.BytesIO(desk.png(0.5, 0))))
    assert plain.shape == (20, 33, 3) and np.array_equal(plain[..., 0], image)
    assert desk.png(0.2, 1) != desk.png(0.9, 1)
    assert desk.save(0.5) == f"written: {tmp_path / 'masks' / 'cell_mask.png'}"
    mask = read_mask(tmp_path / "masks" / "cell_mask.png")
    assert np.array_equal(mask, predictor(image))
    assert "overwrite=True" in desk.save(0.0)
    assert "written" in desk.save(0.0, overwrite=True)


def test_a_large_image_is_thinned_for_the_screen_only(tmp_path):
    net = Predictor(thin_net(padding=1), torch.device("cpu"))
    desk = Desk(net, tmp_path)
    desk.open("a.png", noise(1700, 20))
    assert Image.open(io.BytesIO(desk.png(0.5, 0.5))).size == (7, 567)
    desk.save(0.5)
    assert read_mask(tmp_path / "a_mask.png").shape == (1700, 20)


BAD = {
    "no image": (b"Dear reader", "not an image"),
    "cut off": (as_file(noise(40, 40))[:300], ""),
    "colours": (as_file(noise(9, 9, 3)), "3 channels"),
    "no pixels": (np.zeros((0, 4)), "at least one pixel"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_goes_wrong_is_said_and_the_last_image_stays(tmp_path, predictor, kind):
    desk, (what, words) = Desk(predictor, tmp_path), BAD[kind]
    desk.open("good.png", noise(9, 9))
    before = desk.png(0.5, 0.5)
    said = desk.open("bad.png", what)
    assert said.startswith("bad.png: ") and words in said and "0x" not in said
    assert desk.name == "good.png" and desk.png(0.5, 0.5) == before


def test_an_image_waits_for_its_turn(tmp_path, predictor, monkeypatch):
    desk = Desk(predictor, tmp_path, turn=tmp_path / "turn")
    said = []
    waiting = threading.Thread(
        target=lambda: said.append(desk.open("a.png", noise(9, 9)))
    )
    with alone(tmp_path / "turn"):  # another page has the net
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and not said
    waiting.join(120)
    assert said == ["a.png: 9 x 9 pixels"]
    monkeypatch.setattr(module, "_PATIENCE", 0)
    with alone(tmp_path / "turn"):
        assert "another image is being asked about" in desk.open("b.png", noise(9, 9))
    assert desk.open("b.png", noise(9, 9)) == "b.png: 9 x 9 pixels"


def parts(page):
    "The widgets of the page, by what they are."
    found, stack = {}, [page]
    while stack:
        widget = stack.pop()
        stack += getattr(widget, "children", ())
        found[getattr(widget, "description", "") or type(widget).__name__] = widget
    return found


def test_the_page_of_widgets(tmp_path, predictor):
    widgets = pytest.importorskip("ipywidgets")
    page = live(predictor, to=tmp_path)
    found = parts(page)
    picture, says_ = found["Image"], found["HTML"]
    found["save"].click()
    assert not list(tmp_path.iterdir()) and picture.value == b""
    file = {"name": "a.png", "type": "image/png", "content": as_file(noise(20, 33))}
    if int(widgets.__version__.split(".")[0]) >= 8:
        when = datetime.now(timezone.utc)
        upload = ({**file, "size": 9, "last_modified": when},)
    else:
        upload = {"a.png": {"metadata": {"name": "a.png"}, "content": file["content"]}}
    found["Upload"].set_trait("value", upload)  # read-only in version 7
    assert "20 x 33" in says_.value
    first = picture.value
    found["opacity"].value = 1.0
    second = picture.value
    found["threshold"].value = 0.9
    assert len({first, second, picture.value}) == 3
    assert page.layout.align_items == "flex-start"  # a picture keeps its proportions
    found["save"].click()
    assert "written" in says_.value and names(tmp_path.iterdir()) == ["a_mask.png"]
    found["save"].click()
    assert "is there already" in says_.value
    found["replace"].value = True
    found["save"].click()
    assert "written" in says_.value


def test_the_page_of_ipywidgets_7_takes_a_dictionary(tmp_path, predictor, monkeypatch):
    """Both forms reach the desk: the button of the other version is simulated."""
    pytest.importorskip("ipywidgets")
    found = parts(live(predictor, to=tmp_path))
    old = {"b.png": {"metadata": {}, "content": as_file(noise(9, 12))}}
    monkeypatch.setattr(module, "read_upload", lambda _: read_upload(old))
    found["Upload"].notify_change({"name": "value", "type": "change", "owner": None})
    assert "b.png: 9 x 12" in found["HTML"].value and found["Image"].value


def test_of_several_files_the_last_is_taken_and_that_is_said(tmp_path, predictor):
    pytest.importorskip("ipywidgets", minversion="8")
    page = live(predictor, to=tmp_path)
    found = parts(page)
    when = datetime.now(timezone.utc)
    files = [
        {"name": name, "type": "", "size": 9, "last_modified": when, "content": image}
        for name, image in (("a.png", b"x"), ("b.png", as_file(noise(9, 12))))
    ]
    found["Upload"].set_trait("value", tuple(files))
    said = "b.png: 9 x 12 pixels; of 2 files the last, one at a time"
    assert found["HTML"].value == said and found["Upload"].value == ()


def test_a_name_in_what_is_said_is_text(tmp_path, predictor, monkeypatch):
    pytest.importorskip("ipywidgets")
    found = parts(live(predictor, to=tmp_path))
    monkeypatch.setattr(Desk, "open", lambda *_: "<img src=x> & more")
    monkeypatch.setattr(module, "read_upload", lambda _: ("a.png", b""))
    found["Upload"].notify_change({"name": "value", "type": "change", "owner": None})
    assert found["HTML"].value == "&lt;img src=x&gt; &amp; more"


def test_the_page_can_begin_with_an_image(tmp_path, predictor):
    pytest.importorskip("ipywidgets")
    found = parts(live(predictor, noise(9, 12), tmp_path))
    assert "9 x 12" in found["HTML"].value and found["Image"].value


def test_nothing_but_the_page_needs_widgets(predictor, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "unet_tutorial.deploy.live")
    import unet_tutorial.deploy.live as again

    assert again.Desk(predictor).open("a.png", noise(5, 5))
    with pytest.raises(ImportError, match="ipywidgets"):
        again.live(predictor)
