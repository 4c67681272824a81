"""Arrays, tensors, stacks and lists: the net's channels say which axis is which."""

import numpy as np
import torch

from unet_tutorial import Predictor, UNet, draw_cells

cells, _ = draw_cells(size=64, seed=0)
image = np.stack([cells, 255 - cells], axis=-1)[:, :50]  # (64, 50, 2): two channels
first = np.moveaxis(image, -1, 0)  # (2, 64, 50)

torch.manual_seed(0)
ask = Predictor(UNet(in_channels=2, base_channels=4, depth=2, padding=1))
labels = ask(image)  # (64, 50)
for same in (first, torch.tensor(first), [image], first[None], image[None]):
    assert np.array_equal(np.reshape(ask(same), labels.shape), labels)
assert np.array_equal(ask(image.transpose(1, 0, 2), axes="WHC"), labels)
assert ask(np.stack([first] * 3)).shape == (3, 64, 50)  # a stack
assert [x.shape for x in ask([image, first[:, :9]])] == [(64, 50), (9, 50)]  # a list

grey = Predictor(UNet(in_channels=1, base_channels=4, depth=2, padding=1))
refused = []
for net, array in ((ask, image[..., 0]), (grey, image), (ask, np.ones((2, 9, 2)))):
    try:
        net(array)
    except ValueError as error:
        refused.append(str(error))
assert len(refused) == 3 and 'axes="HWC"' in refused[2]
print("refused:", *refused, sep="\n- ")
