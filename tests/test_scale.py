"""An image in chunks against the image in tiles, and a cluster that loses a worker."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from samples import bytes_of, normal, thin_net, with_scores
from torch import nn

from unet_tutorial.model import UNet
from unet_tutorial.predict import Predictor
from unet_tutorial.scale import array_mean_and_std, predict_array
from unet_tutorial.tiles import predict_tiled

da = pytest.importorskip("dask.array")
zarr = pytest.importorskip("zarr")
pytest.importorskip("distributed")

HERE = {"scheduler": "synchronous"}  # in this thread
SHAPES = [(1, 1), (5, 70), (64, 64), (70, 200), (203, 129), (65, 127)]


def thin(depth=2, **switches):
    net = thin_net(depth, torch.float64, **switches)
    for layer in net.modules():  # biases are 0 before training: no shift would be seen
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.1)
    return net


def standard(image):
    image = np.asarray(image, np.float64)
    return (image - image.mean()) / max(image.std(), 1e-6)


@torch.no_grad()
def whole(net, image):
    "The answer of a padded net to the image in one piece."
    x = torch.from_numpy(standard(image))
    return net(x.reshape(1, -1, *x.shape[-2:]))[0].numpy()


def chunked(net, image, **options):
    return predict_array(net, image, logits=True, **options).compute(**HERE)


# The same answer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "depth, tile, chunk", [(1, 8, 32), (2, 20, 64), (3, 36, 96), (4, 36, 96)]
)
def test_chunks_are_equal_to_tiles(depth, tile, chunk, shape):
    net, image = thin(depth), bytes_of(*shape)
    expected = predict_tiled(net, standard(image), tile).numpy()
    found = chunked(net, image, tile=tile, batch_size=2, chunk=chunk)
    assert np.allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize(
    "depth, shape", [(1, (70, 200)), (2, (203, 129)), (3, (77, 300))]
)
def test_a_padded_net_answers_as_for_the_whole_image(depth, shape, upsampling):
    net = thin(depth, padding=1, norm="batch", upsampling=upsampling)
    image = bytes_of(*shape)
    found = chunked(net, image, chunk=72 if depth == 3 else 64)
    assert np.allclose(found, whole(net, image), rtol=0, atol=1e-9)


def test_less_of_the_neighbours_would_leave_seams(monkeypatch):
    image = bytes_of(200, 200)
    for net, apart, overlap in [
        (thin(3), 0.0, (44, 48)),
        (thin(3), 1e-6, (44, 44)),
        (thin(3, padding=1), 0.0, (56, 56)),
        (thin(3, padding=1), 1e-9, (40, 40)),
    ]:
        monkeypatch.setattr("unet_tutorial.scale._overlap", lambda _, o=overlap: o)
        if net.padding:
            expected = whole(net, image)
        else:
            expected = predict_tiled(net, standard(image), 36).numpy()
        found = chunked(net, image, tile=36, chunk=64)
        assert abs(found - expected).max() >= apart
        if not apart:
            assert np.allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "i4", "f2", ">f4", "f8", "?"])
def test_any_numbers_in_any_array(tmp_path, kind):
    pixels, net = bytes_of(90, 150).astype(kind), thin(2)
    expected = predict_tiled(net, standard(pixels), 20).numpy()
    images = [pixels, pixels[None], da.from_array(pixels, chunks=(7, 33))]
    if kind[0] != ">":
        zarr.save_array(str(tmp_path / "image.zarr"), pixels)
        images += [
            tmp_path / "image.zarr",
            zarr.open_array(str(tmp_path / "image.zarr")),
        ]
    for image in images:
        found = chunked(net, image, tile=20, chunk=64)
        assert np.allclose(found, expected, rtol=0, atol=1e-9)


def test_colours_come_first():
    net, image = thin(2, in_channels=3), bytes_of(3, 90, 70)
    expected = predict_tiled(net, standard(image), 20).numpy()
    for one in (image, da.from_array(image, chunks=(1, 50, 50))):
        found = chunked(net, one, tile=20, chunk=64)
        assert np.allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_labels_are_the_likeliest_class(classes):
    net, image = with_scores(thin(2), classes), bytes_of(90, 70)
    logits = predict_tiled(net, standard(image), 20)
    expected = logits.argmax(0) if classes > 1 else logits[0] > 0
    found = predict_array(net, image, tile=20, chunk=64)
    assert found.dtype == np.uint8 and found.shape == (90, 70)
    assert np.array_equal(found.compute(**HERE), expected.numpy())


def test_single_precision_is_kept_within_the_promise():
    net, image = thin(2).float(), bytes_of(90, 70)
    expected = predict_tiled(net, standard(image).astype(np.float32), 20).numpy()
    found = chunked(net, image, tile=20, chunk=64)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=0, atol=1e-5)


def test_from_file_to_file_in_regular_chunks(tmp_path):
    net, image = thin(2), bytes_of(140, 200)
    zarr.save_array(str(tmp_path / "image.zarr"), image)
    found = predict_array(net, tmp_path / "image.zarr", tile=20, chunk=64)
    assert found.chunks == ((64, 64, 12), (64, 64, 64, 8))
    found.to_zarr(str(tmp_path / "labels.zarr"))
    labels = zarr.open_array(str(tmp_path / "labels.zarr"), mode="r")
    assert labels.chunks == (64, 64)
    expected = predict_tiled(net, standard(image), 20).argmax(0).numpy()
    assert np.array_equal(labels[:], expected)


# What is promised, and when


class Watched:
    "An array that remembers how much of it was read at once."

    def __init__(self, pixels):
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype
        self.ndim, self.reads = pixels.ndim, []

    def __getitem__(self, key):
        part = self.pixels[key]
        self.reads.append(part.size)
        return part


def test_nothing_is_read_before_it_is_asked_for():
    image = Watched(bytes_of(400, 400))
    found = predict_array(thin(2), image, tile=20, chunk=64, standardise=(127, 74))
    assert not any(image.reads)  # dask asks for the type of an empty part
    found[:10, :10].compute(**HERE)
    assert 0 < sum(image.reads) <= 4 * 64**2  # a chunk and its neighbours
    assert max(image.reads) == 64**2


def test_mean_and_deviation_are_measured_in_chunks():
    for pixels in (bytes_of(200, 31), bytes_of(3, 130, 20), normal(65, 9).numpy() + 9):
        image = Watched(pixels)
        mean, std = array_mean_and_std(image, 50)
        assert np.isclose(mean, pixels.mean()) and np.isclose(std, pixels.std())
        assert max(image.reads) < pixels.size
    assert array_mean_and_std(np.full((5, 5), 7)) == (7, 1e-6)


def test_two_numbers_replace_the_measuring():
    net, image = thin(2), bytes_of(60, 60)
    expected = predict_tiled(net, (image - 3.0) / 2, 20).numpy()
    for pair in [(3, 2), np.array([3.0, 2.0]), torch.tensor([3.0, 2.0])]:
        found = chunked(net, image, tile=20, chunk=64, standardise=pair)
        assert np.allclose(found, expected, rtol=0, atol=1e-9)


def test_a_promise_is_kept_by_the_net_that_made_it():
    net, image = thin(2, dropout=0.5, norm="batch").train(), bytes_of(60, 60)
    expected = predict_tiled(net, standard(image), 20).numpy()
    found = predict_array(net, image, tile=20, chunk=64, logits=True)
    assert net.training and all(p.requires_grad for p in net.parameters())
    with torch.no_grad():
        net.last.bias += 1
    assert np.allclose(found.compute(**HERE), expected, rtol=0, atol=1e-9)


# What is refused


@pytest.mark.parametrize("standardise", [None, (0, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_named_where_it_is(value, standardise):
    image = np.ones((150, 160))
    image[133, 147] = value
    with pytest.raises(ValueError, match="row 133, column 147.*nan_to_num"):
        chunked(thin(2), image, tile=20, chunk=64, standardise=standardise)


@pytest.mark.parametrize(
    "net, image, options, kind, words",
    [
        (thin(2), bytes_of(3, 9, 9), {}, ValueError, "C = 1"),
        (thin(2), bytes_of(2, 3, 9, 9), {}, ValueError, r"\(H, W\) or \(C, H, W\)"),
        (thin(2), np.zeros((0, 9)), {}, ValueError, r"\(0, 9\)"),
        (thin(2), np.zeros((9, 9), complex), {}, TypeError, "complex128; integers"),
        (thin(2), bytes_of(9, 9), {"tile": 21}, ValueError, "nearest.*20 and 24"),
        (thin(2), bytes_of(9, 9), {"batch_size": 0}, ValueError, "1 or more"),
        (
            thin(2),
            bytes_of(9, 9),
            {"chunk": 66},
            ValueError,
            "multiple of 4.*64 and 68",
        ),
        (thin(2), bytes_of(9, 9), {"chunk": 16}, ValueError, "chunk=16.*20 or more"),
        (thin(2), bytes_of(9, 9), {"standardise": (1, 0)}, ValueError, "standardise"),
        (thin(2, norm="instance"), bytes_of(9, 9), {}, ValueError, 'norm="batch"'),
        (nn.Sequential(thin(padding=1)), bytes_of(9, 9), {}, ValueError, "padded"),
        (Predictor(thin(2)), bytes_of(9, 9), {}, TypeError, "its .model"),
        (thin(2), [[1, 2]], {}, TypeError, "a list.*zarr or dask array"),
        (thin(2), bytes_of(3, 9, 9), {}, ValueError, "has C = 3.*takes C = 1"),
    ],
)
def test_what_cannot_be_answered(net, image, options, kind, words):
    with pytest.raises(kind, match=words):
        predict_array(net, image, **options)


@pytest.mark.parametrize("name", ["dask", "zarr"])
def test_what_to_install_is_named_where_it_is_missing(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    image = bytes_of(9, 9) if name == "dask" else "image.zarr"
    with pytest.raises(ImportError, match=f"{name} is missing; pip install .*{name}"):
        predict_array(thin(2), image, tile=20)


def test_importing_the_module_needs_none_of_it():
    code = "import sys, unet_tutorial.scale\n"
    code += "assert not {'dask', 'zarr', 'distributed'} & set(sys.modules)"
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=path, check=True)


# A cluster

LIMIT = 240  # seconds: a test that hangs must fail


class Logged(UNet):
    "A net that writes down where it arrives, and may take a worker down with it."

    def __init__(self, log, deadly=False):
        torch.manual_seed(0)
        super().__init__(base_channels=2, depth=1, dropout=0)
        self.log, self.home, self.deadly = str(log), os.getpid(), deadly

    def __setstate__(self, state):
        super().__setstate__(state)
        if os.getpid() != self.home:
            with open(self.log, "a") as file:
                print("arrived", os.getpid(), file=file)

    def forward(self, x):
        if os.getpid() != self.home:
            with open(self.log, "a+") as file:
                print("asked", os.getpid(), torch.get_num_threads(), file=file)
                file.seek(0)
                lines = file.read().splitlines()
            killed = f"{self.log}.killed"
            if self.deadly and len(lines) > 6 and not os.path.exists(killed):
                open(killed, "x").close()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    "A cluster of two processes on this machine."
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        local_directory=str(tmp_path_factory.mktemp("cluster")),
    )
    with cluster, Client(cluster, timeout=LIMIT) as client:
        client.wait_for_workers(2, timeout=LIMIT)
        yield client


def answer_of(client, net, image):
    "The logits of an image, computed on a cluster."
    found = predict_array(net, image, tile=32, chunk=64, logits=True)
    return client.compute(found).result(timeout=LIMIT)


def test_a_net_travels_to_each_worker_once(client, tmp_path):
    zarr.save_array(str(tmp_path / "image.zarr"), bytes_of(400, 400))
    net = Logged(tmp_path / "log").double()
    found = answer_of(client, net, tmp_path / "image.zarr")
    expected = predict_tiled(net, standard(bytes_of(400, 400)), 32).numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-9)
    lines = [line.split() for line in open(net.log)]
    arrived = [pid for word, pid, *_ in lines if word == "arrived"]
    asked = [pid for word, pid, *_ in lines if word == "asked"]
    assert len(asked) == 13**2 and len(set(asked)) == 2
    assert sorted(arrived) == sorted(set(asked))
    assert {line[2] for line in lines if line[0] == "asked"} == {"1"}  # threads


def test_a_worker_that_dies_is_replaced(client, tmp_path):
    zarr.save_array(str(tmp_path / "image.zarr"), bytes_of(400, 400))
    net = Logged(tmp_path / "log", deadly=True).double()
    found = answer_of(client, net, tmp_path / "image.zarr")
    assert (tmp_path / "log.killed").exists()
    expected = predict_tiled(net, standard(bytes_of(400, 400)), 32).numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-9)
