"""Your own data set and `fit`: a schedule by epoch, the best weights in the end."""

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Dataset

from unet_tutorial import UNet, evaluate, fit
from unet_tutorial.metrics import dice_of
from unet_tutorial.synthetic import draw_membranes


class Membranes(Dataset):
    """Drawn images of membranes; yours would read files here."""

    def __init__(self, seeds):
        self.drawn = [draw_membranes(size=64, seed=seed) for seed in seeds]

    def __len__(self):
        return len(self.drawn)

    def __getitem__(self, index):
        image, mask = self.drawn[index]
        x = torch.tensor(image, dtype=torch.float32)[None] / 128 - 1  # (1, 64, 64)
        return x, torch.tensor(mask).long()  # (64, 64) of classes 0 and 1


torch.manual_seed(0)
order = torch.Generator().manual_seed(0)
train_loader = DataLoader(Membranes(range(8)), 4, shuffle=True, generator=order)
valid_loader = DataLoader(Membranes(range(8, 12)), 4)
model = UNet(base_channels=4, depth=2, padding=1, norm="batch")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
epochs = 12
history = fit(
    model,
    train_loader,
    valid_loader,
    nn.CrossEntropyLoss(),
    optimizer,
    epochs,
    metrics={"dice": dice_of},
    watch="dice",
    epoch_scheduler=CosineAnnealingLR(optimizer, T_max=epochs),
    restore_best=True,
)
row = evaluate(model, valid_loader, nn.CrossEntropyLoss(), {"dice": dice_of})
print(f"Dice {row['dice']:.3f}, the best of {epochs} epochs")
assert row["dice"] == max(history["dice"])
assert optimizer.param_groups[0]["lr"] < 1e-9  # the cosine has reached its end
