"""Batches that are dictionaries, as MONAI and others give them; and torchmetrics."""

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryF1Score, MulticlassJaccardIndex

from unet_tutorial import UNet, fit
from unet_tutorial.metrics import dice_of
from unet_tutorial.runs.guards import MappedLoader
from unet_tutorial.synthetic import draw_membranes


def item(seed):
    image, mask = draw_membranes(size=64, seed=seed)
    x = torch.tensor(image, dtype=torch.float32)[None] / 128 - 1  # (1, 64, 64)
    y = torch.tensor(mask)[None].float()  # (1, 64, 64): with a channel, as in MONAI
    y[:, :4] = -100  # the first rows are not labelled
    return {"image": x, "label": y, "file": f"{seed}.png"}


def pair(batch):  # what a loop takes: images and labels (B, h, w) of whole numbers
    return batch["image"], batch["label"][:, 0].long()


torch.manual_seed(0)
train_loader = DataLoader([item(seed) for seed in range(8)], 4)
valid_loader = DataLoader([item(seed) for seed in range(8, 12)], 4)
model = UNet(base_channels=4, depth=2, padding=1, norm="batch")
try:
    fit(model, train_loader, valid_loader, nn.CrossEntropyLoss(), None, 1)
except TypeError as error:
    print(error)  # says how the loader has to be wrapped
history = fit(
    model,
    MappedLoader(train_loader, pair),
    MappedLoader(valid_loader, pair),
    nn.CrossEntropyLoss(),
    torch.optim.AdamW(model.parameters(), lr=1e-2),
    epochs=4,
    metrics={
        "dice": dice_of,  # of the counts of the whole set
        "f1": BinaryF1Score(ignore_index=-100),  # told each batch
        "iou": MulticlassJaccardIndex(2, ignore_index=-100),  # mean of both classes
    },
)
print({name: round(values[-1], 3) for name, values in history.items()})
assert abs(history["f1"][-1] - history["dice"][-1]) < 1e-6
