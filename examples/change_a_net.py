"""A net for grey images and two classes goes on with four channels and five classes."""

import torch
import torch.nn.functional as F

from unet_tutorial.model import UNet

torch.manual_seed(0)
old = UNet(in_channels=1, num_classes=2, base_channels=8, depth=2, norm="batch")

# Each change is a new net: the old one stays as it is.
net = old.with_channels(4).with_classes(5).frozen("contracting")

image = torch.randn(1, 1, 60, 60)
with torch.no_grad():  # a grey image in all four channels is seen as before
    before = old.eval().contracting(image)
    after = net.eval().contracting(image.expand(1, 4, 60, 60))
assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))

weights = {name: x.clone() for name, x in net.state_dict().items()}
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)  # after the last change
images = torch.randn(2, 4, 60, 60)
labels = torch.randint(5, (2, 20, 20))
logits = net.train()(images)  # (2, 5, 20, 20): 60 less 40 at depth 2
F.cross_entropy(logits, labels).backward()
optimizer.step()

now = net.state_dict()
moved = {name for name in now if not torch.equal(now[name], weights[name])}
parts = {name.split(".")[0] for name in moved}
assert parts == {"expansive", "last"}  # not even running means moved in the frozen part
assert all(w.requires_grad for w in net.frozen().parameters())  # thawed again
print(f"{tuple(images.shape)} -> {tuple(logits.shape)}; learned: {sorted(parts)}")
