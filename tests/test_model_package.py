"""A package says how to ask a net, and other programs get the net's own answers."""

import hashlib
import json
import sys
import warnings
from copy import deepcopy
from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from samples import noise, says
from test_export import thin

from unet_tutorial.cli import main
from unet_tutorial.deploy import package
from unet_tutorial.deploy.package import halo_of, package_net
from unet_tutorial.predict import Predictor
from unet_tutorial.runs.recipes import as_dict, read_recipe
from unet_tutorial.runs.run import train_run
from unet_tutorial.runs.weights import save_net
from unet_tutorial.tiles import lost_pixels, read_window

yaml = pytest.importorskip("yaml")  # an independent reader; the package needs none
pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

PADDED = {
    "batch": {"padding": 1, "norm": "batch", "depth": 2},
    "plain": {"padding": 1, "depth": 1, "residual": True, "in_channels": 3},
    "bilinear": {"padding": 1, "depth": 2, "upsampling": "bilinear"},
    "release": {"padding": 1, "depth": 2, "variant": "release"},
    "deep": {"padding": 1, "norm": "batch", "depth": 3},
}
UNPADDED = {
    "one": {"depth": 1},
    "two": {"depth": 2, "norm": "batch"},
    "three": {"depth": 3, "residual": True},
    "paper": {},
}


def in_tiles(net, x, side, halo, lost):
    "What a program does that knows no U-Net: mirror, tile, ask, cut, lay side by side."
    height, width = x.shape[-2:]
    edge, step, rows = halo + lost, side - 2 * (halo + lost), []
    for top in range(0, height, step):
        row = []
        for left in range(0, width, step):
            y = net(read_window(x, top - edge, left - edge, side, side))
            row.append(y[..., halo : y.shape[-2] - halo, halo : y.shape[-1] - halo])
        rows.append(torch.cat(row, -1))
    return torch.cat(rows, -2)[..., :height, :width]


def difference(net, halo, step):
    "The largest difference between tiles and the whole image, as a share."
    torch.manual_seed(1)
    lost = 0 if net.padding else lost_pixels(net.depth)
    side, kind = step + 2 * (halo + lost), net.last.weight.dtype
    x = torch.randn(1, net.in_channels, 70, 85, dtype=kind)
    wide = 2 ** (net.depth + 5)  # a margin that nothing of the inside sees
    with torch.no_grad():
        tiled = in_tiles(net, x, side, halo, lost)
        size = [-(-n // 2**net.depth) * 2**net.depth for n in x.shape[-2:]]
        if net.padding:
            around = read_window(x, -wide, -wide, *(n + 2 * wide for n in size))
            whole = net(around)[..., wide : wide + 70, wide : wide + 85]
        else:
            cut = halo_of(net)  # the smallest net output that is aligned
            size = [n + 2 * (cut + lost) for n in size]
            around = read_window(x, -cut - lost, -cut - lost, *size)
            whole = net(around)[..., cut : cut + 70, cut : cut + 85]
    return float((tiled - whole).abs().max() / max(1, whole.abs().max()))


@pytest.mark.parametrize("name", PADDED)
def test_tiles_of_a_padded_net_with_its_halo_equal_the_whole_image(name):
    net, step = thin(**PADDED[name]), 2 ** PADDED[name]["depth"]
    halo = halo_of(net)
    assert halo % step == 0
    assert difference(net, halo, 4 * step) < 1e-5
    assert difference(net, halo + step, 3 * step) < 1e-5


@pytest.mark.parametrize("name", PADDED)
def test_a_halo_one_step_smaller_is_too_small(name):
    """A wider halo than is needed would be right and slow."""
    net, step = thin(**PADDED[name]).double(), 2 ** PADDED[name]["depth"]
    with torch.no_grad():  # no pixel is lost on the way, so that each one counts
        for weight in net.parameters():
            weight.abs_().add_(0.1)
    assert difference(net, halo_of(net), 4 * step) < 1e-12
    assert difference(net, halo_of(net) - step, 4 * step) > 1e-10


@pytest.mark.parametrize("name", UNPADDED)
def test_tiles_of_an_unpadded_net_equal_the_whole_image(name):
    net = thin(**UNPADDED[name])
    step, halo = 2**net.depth, halo_of(net)
    assert difference(net, halo, 2 * step) < 1e-5
    if halo:  # edge to edge, its tiles would begin between two pooling windows
        assert difference(net, 0, 2 * step + 2 * halo) > 1e-5


def test_the_paper_s_net_has_a_halo_of_two():
    assert halo_of(thin()) == 2
    assert halo_of(thin(padding=1)) == 96
    assert halo_of(thin(depth=1, norm="instance", padding=1)) is None


def opened(path):
    "The description of a zip, and a function that reads a file of it."
    with ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return yaml.safe_load(files["rdf.yaml"]), files


def as_array(files, name):
    return np.load(BytesIO(files[name]))


def answers(described, files, x):
    "What another program would answer to (B, C, H, W): by each file of weights."
    x = x.astype(np.float32)
    for step in described["inputs"][0]["preprocessing"]:
        kwargs = step["kwargs"]
        if step["id"] == "clip":
            x = x.clip(kwargs["min"], kwargs["max"])
        elif step["id"] == "fixed_zero_mean_unit_variance":
            assert ("axis" in kwargs) == isinstance(kwargs["mean"], list)
            assert kwargs.get("axis", "channel") == "channel"
            mean, std = (np.reshape(kwargs[key], (-1, 1, 1)) for key in ("mean", "std"))
            x = (x - mean) / std
        else:
            assert step["id"] == "zero_mean_unit_variance"
            assert kwargs["axes"] == ["channel", "y", "x"]
            mean, std = (
                x.mean((1, 2, 3), keepdims=True),
                x.std((1, 2, 3), keepdims=True),
            )
            x = (x - mean) / (std + kwargs["eps"])
    x = x.astype(np.float32)
    weights = described["weights"]
    script = jit_load(files[weights["torchscript"]["source"]])
    data = files[weights["onnx"]["source"]]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        logits = [script(torch.from_numpy(x)).numpy()]
    logits.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    (last,) = described["outputs"][0]["postprocessing"]
    assert last == {"id": "softmax", "kwargs": {"axis": "channel"}}
    return [torch.from_numpy(y).softmax(1).numpy() for y in logits]


def jit_load(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called deprecated
        return torch.jit.load(BytesIO(data))


NOTED = {
    "image": {},
    "fixed": {"normalisation": [120.0, 31.5]},
    "deep": {"value_range": [100, 4095]},
    "deep, fixed": {"value_range": [100, 4095], "normalisation": [120.0, 31.5]},
    "resized": {"size": [40, 72]},
    "named": {"classes": ["Outside", "class"]},
}
WRITTEN = [*((net, {}) for net in [*PADDED.values(), *UNPADDED.values()])]
WRITTEN += [({"padding": 1, "depth": 1}, notes) for notes in NOTED.values()]
WRITTEN += [({"padding": 1, "depth": 1, "norm": "instance", "num_classes": 3}, {})]
WRITTEN += [({"depth": 2}, {"size": [50, 70]}), ({"depth": 1, "in_channels": 2}, {})]
ONE = {"normalisation": [[120.0], [31.5]]}  # as train --normalise set notes it
THREE = {"normalisation": [[120.0, 90.0, 60.5], [31.5, 40.0, 55.0]]}
FIVE = {"normalisation": [[10.0, 20, 30, 40, 50], [5.0, 6, 7, 8, 9]]}
FIVE["value_range"] = [100, 4095]
for padding in (0, 1):
    some = {"depth": 1, "padding": padding}
    WRITTEN += [(some, ONE), (some | {"in_channels": 3}, THREE)]
    WRITTEN += [(some | {"in_channels": 5}, FIVE)]


@pytest.fixture(params=range(len(WRITTEN)), scope="module")
def written(request, tmp_path_factory):
    folder, (switches, notes) = tmp_path_factory.mktemp("zip"), WRITTEN[request.param]
    net = thin(**switches)
    file = save_net(folder / "some net.safetensors", net, **notes)
    return net, notes, package_net(file, folder / "model.zip"), file


def test_other_programs_reproduce_the_test_output(written):
    described, files = opened(written[2])
    x, expected = (as_array(files, f"test_{name}.npy") for name in ("input", "output"))
    assert x.dtype == expected.dtype == np.float32
    for found in answers(described, files, x):
        assert np.abs(found - expected).max() < 1e-4


def test_every_file_has_its_checksum(written):
    described, files = opened(written[2])
    found = []

    def walk(value):
        if isinstance(value, dict) and "source" in value:
            found.append(value["source"])
            data = files[value["source"]]
            assert hashlib.sha256(data).hexdigest() == value["sha256"]
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                walk(item)

    walk(described)
    assert {*found, "rdf.yaml", "cover.png"} == set(files)


def test_the_test_tensors_have_the_sizes_that_are_described(written):
    net, notes, path, _ = written
    described, files = opened(path)
    axes = {axis["type"] + axis.get("id", ""): axis for axis in inputs(described)}
    x, y = as_array(files, "test_input.npy"), as_array(files, "test_output.npy")
    for place, (name, out) in enumerate(zip("yx", outputs(described)[2:], strict=True)):
        size, side = axes[f"space{name}"]["size"], x.shape[2 + place]
        if isinstance(size, int):
            assert size == out["size"] == side == y.shape[2 + place]
            continue
        assert side >= size["min"] and (side - size["min"]) % size["step"] == 0
        assert out["size"]["axis_id"] == name
        assert side + out["size"]["offset"] == y.shape[2 + place]
        least = size["min"] + out["size"]["offset"] - 2 * out.get("halo", 0)
        assert least >= 1 and least % 2**net.depth == 0
    assert len(inputs(described)[1]["channel_names"]) == x.shape[1]
    assert len(outputs(described)[1]["channel_names"]) == y.shape[1]
    if "size" not in notes:
        assert x.shape[2] != x.shape[3]  # rows and columns can be told apart


def inputs(described):
    return described["inputs"][0]["axes"]


def outputs(described):
    return described["outputs"][0]["axes"]


def test_the_script_gives_the_logits_of_the_net_at_other_sizes(written):
    net, _, path, _ = written
    script = jit_load(opened(path)[1]["weights.pt"])
    side = 64 if net.padding else 2 * lost_pixels(net.depth) + 2 ** (net.depth + 1)
    side = side if net.padding else side + 2 * halo_of(net)
    x = torch.randn(2, net.in_channels, side, side + 2**net.depth)
    with torch.no_grad():
        assert torch.allclose(script(x), net(x), atol=1e-5)


def test_a_predictor_answers_the_same(written):
    net, notes, path, file = written
    if not net.padding or "size" in notes:
        pytest.skip("it mirrors, or resizes, where other programs do not")
    _, files = opened(path)
    x, expected = (as_array(files, f"test_{name}.npy") for name in ("input", "output"))
    ours = Predictor.load(file, device="cpu").probabilities(x[0], axes="CHW")
    limit = 0.1 if "value_range" in notes else 1e-4  # which is rounded to 8 bits here
    assert np.abs(ours - expected[0]).max() < limit


def test_the_cover_is_a_small_picture_of_one_to_two(written):
    files = opened(written[2])[1]
    width, height = Image.open(BytesIO(files["cover.png"])).size
    assert width == 2 * height and len(files["cover.png"]) < 500_000


def valid(path):
    "What bioimageio.spec says of a zip."
    spec = pytest.importorskip("bioimageio.spec", reason="pip install bioimageio.spec")
    described = spec.load_description(path)
    summary = described.validation_summary
    assert not isinstance(described, spec.InvalidDescr), summary.format()
    assert summary.status != "failed"
    return described


def test_it_is_valid_for_those_who_made_the_form(written):
    described = valid(written[2])
    assert type(described).__name__ == "ModelDescr"
    assert described.inputs[0].id == "image"


def test_the_core_of_bioimageio_runs_it(written):
    core = pytest.importorskip("bioimageio.core", reason="pip install bioimageio.core")
    for kind in ("onnx", "torchscript"):
        summary = core.test_model(written[2], weight_format=kind)
        assert summary.status == "passed", summary.format()


@pytest.fixture(scope="module")
def run_of_a_set(tmp_path_factory):
    "A run on colour images, all normalised by mean and deviation of the set."
    folder = tmp_path_factory.mktemp("set")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(4):
        pixels = noise(32, 32, 3) // np.array([1, 2, 4], np.uint8)  # darker to blue
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        mask = (np.indices((32, 32)).sum(0) > 30).astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    recipe = as_dict(read_recipe("modern"))
    recipe["net"] |= {"base_channels": 2, "depth": 1}
    train_run(
        kind="folder",
        data=folder / "images",
        out=folder / "run",
        recipe=recipe | {"tile": 16, "tiles": 2, "batch": 2},
        options={"masks": str(folder / "masks")},
        size="native",
        steps=1,
        device="cpu",
        normalisation="set",
    )
    package_net(folder / "run", folder / "set.zip")
    return folder


@pytest.mark.filterwarnings("ignore::unet_tutorial.data.far.FarImage")
def test_a_run_normalised_by_its_set_tells_each_channel(run_of_a_set):
    described, files = opened(run_of_a_set / "set.zip")
    (step,) = described["inputs"][0]["preprocessing"]
    red, green, blue = step["kwargs"]["mean"]
    assert red > 1.5 * green > 2 * blue and step["kwargs"]["axis"] == "channel"
    image = np.asarray(Image.open(run_of_a_set / "images" / "0.png"))
    ours = Predictor.load(run_of_a_set / "run", device="cpu").probabilities(image)
    x = image.transpose(2, 0, 1)[None]
    for found in answers(described, files, x):
        assert np.abs(found[0] - ours).max() < 1e-4


def test_such_a_run_is_valid_for_those_who_made_the_form(run_of_a_set):
    described = valid(run_of_a_set / "set.zip")
    steps = {step.id: step.kwargs for step in described.inputs[0].preprocessing}
    assert len(steps["fixed_zero_mean_unit_variance"].mean) == 3


def test_the_core_of_bioimageio_has_no_seams(tmp_path):
    core = pytest.importorskip("bioimageio.core", reason="pip install bioimageio.core")
    net = thin(padding=1, norm="batch", depth=2)
    model = core.load_model_description(package_net(net, tmp_path / "model.zip"))
    x = np.random.default_rng(0).integers(0, 255, (1, 1, 152, 172)).astype(np.float32)
    found = []
    for number in (1, 3, 25):  # tiles of 56, 64 and 152 pixels
        sample = core.predict(
            model=model, inputs={"image": x}, blocksize_parameter=number
        )
        found.append(np.asarray(sample.members["probabilities"].data.data))
    assert all(np.abs(y - found[-1]).max() < 1e-5 for y in found)


# What the description says


def described_of(tmp_path, notes=None, authors=(), license=None, name=None, **switches):
    net = thin(**{"padding": 1, "depth": 1} | switches)
    file = save_net(tmp_path / "a b.safetensors", net, True, **(notes or {}))
    to = tmp_path / "m.zip"
    about = {"authors": authors, "license": license, "name": name}
    return opened(package_net(file, to, overwrite=True, **about))


def test_who_made_it_is_said_only_if_it_is_known(tmp_path):
    described, files = described_of(tmp_path)
    assert described["authors"] == [] and "license" not in described
    assert described["name"] == "U-Net a b"
    described, _ = described_of(
        tmp_path, authors=["Ada Ü", 'B "C"'], license="MIT", name="Membranes (EM)"
    )
    assert described["authors"] == [{"name": "Ada Ü"}, {"name": 'B "C"'}]
    assert described["license"] == "MIT" and described["name"] == "Membranes (EM)"
    assert described["cite"][0]["doi"] == "10.1007/978-3-319-24574-4_28"
    assert "## Validation" in files["README.md"].decode()


def test_a_net_with_instance_normalisation_forbids_tiles(tmp_path):
    described, files = described_of(tmp_path, norm="instance")
    assert not any("halo" in axis for axis in outputs(described))
    assert [axis["concatenable"] for axis in inputs(described)[2:]] == [False, False]
    assert "whole images, no tiles" in described["description"]
    assert "whole images, no tiles" in files["README.md"].decode()
    described, _ = described_of(tmp_path)
    assert [axis["concatenable"] for axis in inputs(described)[2:]] == [True, True]
    assert "begin at multiples of 2" in described["description"]


def test_a_resized_net_says_so(tmp_path):
    described, _ = described_of(tmp_path, {"size": [40, 72]})
    assert "Resize each image to 40 rows and 72 columns" in described["description"]
    assert not any("halo" in axis for axis in outputs(described))


def test_classes_have_names_that_programs_can_use(tmp_path):
    names = ["Outside", "class", "2 cells", "outside", "Zellkern (\U0001f9ec)"]
    described, files = described_of(tmp_path, {"classes": names}, num_classes=5)
    found = outputs(described)[1]["channel_names"]
    assert found == ["outside", "class_", "_2_cells", "outside_4", "zellkern"]
    assert "| 4 | `zellkern` | Zellkern (\U0001f9ec) |" in files["README.md"].decode()
    valid(tmp_path / "m.zip")


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "x"], "b": {}, "c": []},
        {"text": 'a "b": {c} # d \\ \n\t\x7f\x85\u2028 ü \U0001f9ec', "word": "no"},
        {"n": [1e-6, 1e22, -0.0, 1e-300, 123456789.123, 5.0, 2**70]},
        {"deep": [{"a": [{"b": 1, "c": [[1], [2, 3]]}]}, [[[4]]]], "x": "null"},
    ],
)
def test_our_yaml_is_read_as_it_was_meant(value):
    text = "\n".join(package._yaml(value)) + "\n"
    assert yaml.safe_load(text) == value
    assert json.dumps(yaml.safe_load(text)) == json.dumps(value)  # types, too


# Files and refusals


def test_the_same_net_gives_the_same_zip(tmp_path):
    net = thin(padding=1, depth=1)
    one, two = (package_net(net, tmp_path / f"{n}/model.zip") for n in (1, 2))
    assert one.read_bytes() == two.read_bytes()
    assert net.training is False


def test_a_picture_of_ones_own_is_the_test_image(tmp_path):
    net = thin(depth=1, padding=1, in_channels=3)
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for image in (pixels, str(tmp_path / "a.png")):
        to = package_net(net, tmp_path / "m.zip", image=image, overwrite=True)
        x = as_array(opened(to)[1], "test_input.npy")
        assert (x[0, :, :30, :40] == pixels.transpose(2, 0, 1)).all()
    with pytest.raises(ValueError, match="4 test images; one image would work"):
        package_net(net, tmp_path / "n.zip", image=np.zeros((4, 20, 20, 3), np.uint8))
    with pytest.raises(ValueError, match="3"):
        package_net(net, tmp_path / "n.zip", image=np.zeros((20, 20), np.uint8))
    with pytest.raises(ValueError, match="NaN or infinite"):
        package_net(net, tmp_path / "n.zip", image=np.full((20, 20, 3), np.nan))
    assert not (tmp_path / "n.zip").exists()


def test_a_zip_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "m.zip"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"m\.zip.*overwrite=True"):
        package_net(thin(depth=1), path)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["weights.pt", "weights.onnx"])
def test_a_package_that_answers_otherwise_is_not_written(tmp_path, monkeypatch, kind):
    write = package._write_weights

    def wrong(model, folder):
        other = deepcopy(model)
        with torch.no_grad():
            other.last.bias[0] += 0.5
        (tmp_path / "other").mkdir()
        write(other, tmp_path / "other")
        told = write(model, folder)
        (tmp_path / "other" / kind).replace(folder / kind)
        return told

    monkeypatch.setattr(package, "_write_weights", wrong)
    with pytest.raises(RuntimeError, match=rf"m\.zip is not written: {kind} differs"):
        package_net(thin(depth=1, padding=1), tmp_path / "m.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_wrong_uses_are_told_what_would_work(tmp_path):
    net = thin(depth=1)
    with pytest.raises(ValueError, match=r"m\.tar: a name that ends in \.zip"):
        package_net(net, tmp_path / "m.tar")
    with pytest.raises(ValueError, match="name='a/b c'; 5 to 128 letters"):
        package_net(net, tmp_path / "m.zip", name="a/b c")
    with pytest.raises(TypeError, match=says("Conv2d", "no UNet", "a UNet")):
        package_net(torch.nn.Conv2d(1, 2, 3), tmp_path / "m.zip")
    with pytest.raises(TypeError, match=says("UNet", "package_net(net, path)")):
        package_net("membranes", net)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=says("onnx", "pip install onnx")):
        package_net(thin(depth=1), tmp_path / "m.zip")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    to = tmp_path / "m.zip"
    line = f"package membranes --to {to} --author Ada --author Bob --license MIT"
    assert main(line.split()) == 0
    assert capsys.readouterr().out == f"{to} is ready\n"
    described, _ = opened(to)
    assert described["authors"] == [{"name": "Ada"}, {"name": "Bob"}]
    assert main(line.split()) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
