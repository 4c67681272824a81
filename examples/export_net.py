"""A net as a graph that runs without Python: ONNX, and TorchScript for QuPath."""

import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from unet_tutorial.deploy.export import export_net, open_graph
from unet_tutorial.model import UNet

missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
if missing:
    print(f"{' and '.join(missing)} missing: pip install onnx onnxruntime")
    sys.exit(0)

torch.manual_seed(0)
net = UNet(base_channels=4, depth=2).eval()
image = np.random.default_rng(0).normal(size=(1, 1, 60, 76)).astype(np.float32)
with torch.no_grad():
    expected = net(torch.from_numpy(image)).numpy()  # (1, 2, 20, 36)

with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    ask = open_graph(export_net(net, Path(folder) / "net.onnx"))
    assert np.allclose(ask(image), expected, atol=1e-4)
    try:
        ask(image[..., :61])  # no valid size: the graph refuses it, as the net does
    except ValueError as error:
        print(error)
    else:
        raise AssertionError("a wrong size was answered")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated
        torch.jit.script(net).save(Path(folder) / "net.torchscript")
        script = torch.jit.load(Path(folder) / "net.torchscript")
    with torch.no_grad():
        assert np.allclose(script(torch.from_numpy(image)).numpy(), expected, atol=1e-4)
print(f"{image.shape} -> {expected.shape}, the same from ONNX and from TorchScript")
