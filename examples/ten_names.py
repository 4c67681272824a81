"""The names that most people import, each used once: draw, train, save, predict."""

import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from unet_tutorial import (
    Predictor,
    UNet,
    check_pairs,
    draw_membranes,
    evaluate,
    fit,
    load_net,
    predict_files,
    predict_tiled,
    save_net,
)


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image (1, 96, 96), about 0 to 1, and its labels (96, 96)."""
    image, membrane = draw_membranes(size=96, seed=seed)
    return torch.tensor(image / 255).float()[None], torch.tensor(membrane).long()


def main(folder: Path) -> dict[str, float]:
    """Train for two epochs, save the net, and ask it about an image and a file."""
    torch.manual_seed(0)
    images, labels = zip(*(drawn(seed) for seed in range(4)), strict=True)
    loader = DataLoader(TensorDataset(torch.stack(images), torch.stack(labels)), 2)
    net = UNet(base_channels=4, depth=2, padding=1, norm="batch")
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    history = fit(net, loader, loader, torch.nn.CrossEntropyLoss(), optimizer, epochs=2)
    assert history["train_loss"][1] < history["train_loss"][0]

    # it learned from image / 255; without this note an image is standardised
    path = save_net(folder / "net.safetensors", net, normalisation=(0, 255))
    assert load_net(path)[0].num_classes == 2
    logits = predict_tiled(UNet(base_channels=4, depth=2), images[0], output_tile=52)
    assert logits.shape == (2, 96, 96)
    assert Predictor.load(path)(draw_membranes(size=96, seed=9)[0]).shape == (96, 96)

    image, membrane = draw_membranes(size=96, seed=9)
    for name, pixels in {"images": image, "truth": membrane}.items():
        (folder / name).mkdir()
        Image.fromarray(pixels).save(folder / name / "a.png")
    assert not check_pairs(folder / "images", folder / "truth").problems
    (mask,) = predict_files(path, folder / "images", to=folder / "masks")
    assert Image.open(mask).size == (96, 96)
    return evaluate(net, loader, torch.nn.CrossEntropyLoss())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(f"loss after two epochs: {main(Path(name))['loss']:.2f}")
