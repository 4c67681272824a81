"""The nets and loops of others, as their descriptions and tutorials have them.

`Plain` is the padded U-Net with batch normalisation of most tutorials, and with
`pad=True` that of milesial/Pytorch-UNet (transposed up-convolutions). Its loop here is
written from what its description says: RMSprop, a clipped gradient, cross-entropy plus
Dice, `channels_last`, no mixed precision.
"""

import torch
import torch.nn.functional as F
from torch import nn


def double_conv(in_channels, out_channels):
    "Twice a convolution, a normalisation and a ReLU."
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Plain(nn.Module):
    "The U-Net of the tutorials."

    def __init__(self, in_channels, num_classes, widths, pad=False):
        super().__init__()
        self.pad, self.pool = pad, nn.MaxPool2d(2)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for width in widths:  # such as 64, 128, 256, 512, 1024
            self.downs.append(double_conv(in_channels, width))
            in_channels = width
        for width in reversed(widths[:-1]):
            self.ups.append(nn.ConvTranspose2d(2 * width, width, 2, stride=2))
            self.ups.append(double_conv(2 * width, width))
        self.last = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x):  # (B, C, H, W) -> (B, K, H, W)
        skips = []
        for down in self.downs[:-1]:
            skips.append(down(x))
            x = self.pool(skips[-1])
        x = self.downs[-1](x)
        for up, conv in zip(self.ups[::2], self.ups[1::2], strict=True):
            x, skip = up(x), skips.pop()
            if self.pad:
                down = skip.shape[2] - x.shape[2]
                right = skip.shape[3] - x.shape[3]
                sides = right // 2, right - right // 2, down // 2, down - down // 2
                x = F.pad(x, sides)
            x = conv(torch.cat([skip, x], dim=1))
        return self.last(x)


def smp_net(widths):
    "The default of segmentation_models_pytorch, with as many steps down as ours."
    import segmentation_models_pytorch as smp

    return smp.Unet(
        "resnet34",
        encoder_weights=None,
        encoder_depth=len(widths) - 1,
        decoder_channels=[*reversed(widths[:-1])],
        in_channels=3,
        classes=2,
    )


def monai_net(widths):
    "The BasicUNet of MONAI, as wide as ours; all else as it comes."
    from monai.networks.nets import BasicUNet

    features = (*widths, widths[0])
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=2, features=features)


def net_of(name, widths):  # nn.Module
    "A net by the name of those who made it."
    if name in ("textbook", "milesial"):
        return Plain(3, 2, widths, pad=name == "milesial")
    return {"smp": smp_net, "monai": monai_net}[name](widths)


def overlap_loss(logits, labels):  # (B, K, H, W), (B, H, W) -> scalar
    "1 minus the Dice of soft and true masks, all classes and images together."
    true = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).float()
    soft = logits.softmax(1).float()
    both = 2 * (soft * true).sum((2, 3))
    total = (soft + true).sum((2, 3))
    return 1 - ((both + 1e-6) / (total + 1e-6)).mean()


def milesial_training(model, loader, device):
    "The loop of milesial/Pytorch-UNet, as long as the loader gives batches."
    last = torch.channels_last
    model.to(device, memory_format=last).train()
    options = {"weight_decay": 1e-8, "momentum": 0.999, "foreach": True}
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-5, **options)
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=False)
    criterion, total = nn.CrossEntropyLoss(), 0.0
    for images, labels in loader:
        images = images.to(device, torch.float32, memory_format=last)
        labels = labels.to(device, torch.long)
        logits = model(images)
        loss = criterion(logits, labels) + overlap_loss(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        total += loss.item()  # shown beside the progress bar
    return total
