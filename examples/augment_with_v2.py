"""Bend images and masks among the transforms of torchvision, in worker processes."""

import sys

import torch
from torch.utils.data import DataLoader, Dataset

from unet_tutorial.synthetic import draw_cells

try:
    from unet_tutorial.data.transforms import ElasticGrid
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit()

from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask


class Cells(Dataset):
    def __init__(self, count):
        self.pairs = [draw_cells(size=96, seed=seed) for seed in range(count)]
        floats = v2.ToDtype({Image: torch.float32, "others": None}, scale=True)
        bend = ElasticGrid(std=6)  # one field for an image and its mask
        self.changes = v2.Compose([v2.RandomHorizontalFlip(), bend, floats])

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        pixels, cells = self.pairs[index]  # (96, 96) uint8, (96, 96) integers
        return self.changes({"image": Image(pixels[None]), "mask": Mask(cells)})


if __name__ == "__main__":
    data = Cells(count=6)
    loader = DataLoader(data, batch_size=3, num_workers=2)
    first, again = ([batch["mask"] for batch in loader] for _ in range(2))
    assert not any(map(torch.equal, first, again)), "each epoch bends anew"
    image, mask = data[0].values()
    assert type(image) is Image and type(mask) is Mask
    assert image.dtype == torch.float32 and 0 <= image.min() <= image.max() <= 1
    assert set(mask.unique().tolist()) <= set(data.pairs[0][1].flatten().tolist())
    print(
        f"{len(data)} cells bent twice: image {(*image.shape,)}, mask {(*mask.shape,)}"
    )
