"""Nets of other libraries: any module that returns logits is asked tile by tile."""

import torch
from torch import Tensor, nn

from unet_tutorial import Predictor, draw_membranes, predict_tiled
from unet_tutorial.data.adapter import Adapter


class Foreign(nn.Module):
    """Keeps the size, halves it twice, and takes multiples of 4 only."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, H, W) to logits (B, 2, H, W)."""
        x = self.first(x).relu()
        low = self.inner(nn.functional.avg_pool2d(x, 4)).relu()
        low = nn.functional.interpolate(low, scale_factor=4.0)
        logits: Tensor = self.last(x + low)
        return logits


class InADict(Foreign):
    """Answers as torchvision's nets do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Map (B, 1, H, W) to logits in a dict."""
        return {"out": super().forward(x)}


pixels, _ = draw_membranes(size=150, seed=7)
image = (pixels - pixels.mean()) / pixels.std()  # (150, 150)
for kind in (Foreign, InADict):
    torch.manual_seed(0)
    net = kind().double()
    # An output pixel depends on less than 12 input pixels on each side.
    ask = Adapter(net, in_channels=1, num_classes=2, margin=12, multiple=4)
    whole = predict_tiled(ask, image, output_tile=152)  # one tile: the whole image
    tiled = predict_tiled(ask, image, output_tile=40)  # 16 of them
    assert torch.allclose(tiled, whole, atol=1e-10) and net.training
    labels = Predictor(ask)(pixels)
    assert (labels == whole.argmax(0).numpy()).mean() > 0.999
    print(f"{kind.__name__}: 16 tiles give the answer of the whole image")
