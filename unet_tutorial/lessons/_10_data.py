"""The tasks of 10_data: pair by whole names, split by car, read the values of a mask."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unet_tutorial.tasks import Task


def files_of(images, masks):
    "Paths of images and of masks, from their names without what follows."
    pictures = [Path("train") / f"{name}.jpg" for name in images.split()]
    return pictures, [
        Path("train_masks") / f"{name}_mask.gif" for name in masks.split()
    ]


def check_pair_files(pair_files):
    pairs, alone = pair_files(*files_of("a_01 a_02", "a_01 a_02"))
    if not isinstance(pairs, list | tuple):
        return (
            f"the pairs are to be a list of (image, mask), not a {type(pairs).__name__}"
        )
    if len(pairs) == 2 and pairs[0][1].stem == pairs[1][1].stem:
        return "`a_01` and `a_02` get one mask: the view belongs to the name, too"
    pairs, alone = pair_files(*files_of("a_01 a_02 a_03", "a_01 a_03"))
    if any(None in pair for pair in pairs):
        return "`a_02` has no mask and belongs in `alone`; yours is a pair with None"
    if any(not isinstance(name, str) for name in alone):
        return "`alone` holds names, such as `a_02`, not paths"
    names = [(image.stem, mask.stem) for image, mask in pairs]
    if ("a_02", "a_03_mask") in names:
        return (
            "`a_02` has no mask, and got the one of `a_03`: pair by name, not by order"
        )
    pairs, alone = pair_files(*files_of("car_1 car_10", "car_10 car_1"))
    if [(i.stem, m.stem) for i, m in pairs][:1] == [("car_1", "car_10_mask")]:
        return (
            "`car_1` got the mask of `car_10`, which begins the same: compare all of it"
        )
    pairs, alone = pair_files(*files_of("desk", "desk"))
    if not pairs and set(alone) == {"desk", "de"}:
        return '`rstrip("_mask")` makes "de" of "desk_mask": it strips letters'
    if not pairs and "desk_mask" in alone:
        return "the mask of `desk` is called `desk_mask`: remove the end, then compare"
    pairs, alone = pair_files(*files_of("a b", "b a ghost"))
    if not set(alone):
        return "the mask of `ghost` has no image and is not in `alone`"
    if set(alone) == {"ghost_mask"}:
        return "`alone` holds `ghost`, the name of the image that is missing, not `ghost_mask`"
    return check_many_files(pair_files)


def check_many_files(pair_files):
    images, masks = files_of("x_2 x_1 is_mask_on y lone", "y is_mask_on x_1 z x_2")
    pairs, alone = pair_files(images, masks)
    right = list(zip(images[:4], [masks[at] for at in (4, 2, 1, 0)], strict=True))
    if {image.stem for image, _ in pairs} == {"x_2", "x_1", "y"}:
        return "of `is_mask_on_mask`, only the end must go, not `_mask` everywhere"
    if set(map(tuple, pairs)) != set(right):
        return "four of five images have a mask, and your pairs are not these four"
    if list(map(tuple, pairs)) != right:
        return "the pairs are right, but not in the order of the images"
    if set(alone) != {"lone", "z"}:
        return (
            f"`lone` and `z` are alone; yours are {', '.join(sorted(alone)) or 'none'}"
        )
    return None


def check_split_cars(split_cars):
    cars = "ab abc f0 f1 f2 f3 f4 f5".split()
    names = [f"{car}_{view:02}.jpg" for car in cars for view in range(1, 5)]
    splits = [split_cars(list(names), 2, seed) for seed in range(20)]
    for train, held in splits:
        if {*train, *held} == set(cars):
            return "these are cars; the names of their pictures are asked for"
        if sorted([*train, *held]) != sorted(names):
            if not set(train) & set(held):
                return "train and held together are not all the names that were given"
            return "some pictures are on both sides"
        both = {n.split("_")[0] for n in train} & {n.split("_")[0] for n in held}
        if both and len({n.split("_")[1] for n in held}) == 2 and len(held) == 16:
            return (
                "whole views are held out, of every car: the car comes first in a name"
            )
        if both:
            return f"car {min(both)} is in both parts: a leak"
    counts = {len({name.split("_")[0] for name in held}) for _, held in splits}
    if counts == {2, 3}:
        return "`ab` takes `abc` along, which only begins the same: compare whole ids"
    if counts == {1, 2}:
        return "2 cars were asked for, and at times 1 is held out: one was drawn twice"
    if counts == {6}:
        return (
            "2 cars of 8 are trained on: first what to train on, then what is held out"
        )
    if counts != {2}:
        return f"2 cars were asked for, and {max(counts)} are held out"
    return check_the_draw(split_cars, names, [set(held) for _, held in splits])


def check_the_draw(split_cars, names, held):
    if all(part == held[0] for part in held):
        return "every seed holds out the same cars"
    if any(set(split_cars(names, 2, seed)[1]) != held[seed] for seed in range(5)):
        return "the same seed gives another split the second time"
    turned = names[::-1]
    if any(set(split_cars(turned, 2, seed)[1]) != held[seed] for seed in range(5)):
        return "the same files, listed in another order, give another split: sort first"
    return None


def pictures_of(values):
    "The same mask as a palette (with a dark grey for 0), in grey, and in one bit."
    palette = Image.fromarray(values)
    palette = palette.convert("P") if palette.mode != "P" else palette
    palette.putdata(values.ravel().tolist())
    palette.putpalette([40, 40, 40, 90, 0, 0])
    grey = Image.fromarray(255 * values)
    return {"palette": palette, "grey": grey, "one bit": grey.convert("1")}


def check_to_labels(to_labels):
    values = np.zeros((4, 6), np.uint8)
    values[1:3, 2:5] = 1
    got = {name: to_labels(mask) for name, mask in pictures_of(values).items()}
    labels = got["palette"]
    if not isinstance(labels, torch.Tensor):
        return f"a {type(labels).__name__} comes out; give a tensor"
    if labels.shape != (4, 6):
        return (
            f"a mask of 4 x 6 pixels gives {tuple(labels.shape)}: one class per pixel"
        )
    found = labels.sum()
    if found == 0:
        return "the palette mask holds 0 and 1, and no car is left: 1 is not 255"
    if 0 < found < 1:
        return "the palette mask holds 0 and 1; divided by 255, a car is 0.004"
    if found == 24 - values.sum():
        return "car and background are swapped: 0 is background"
    if found == 24:
        return "all is car: you took the palette's colours, and its 0 is a dark grey"
    if labels.unique().tolist() not in ([0, 1], [False, True]):
        return (
            f"a palette mask gives {labels.unique().tolist()}: its numbers are 0 and 1"
        )
    if got["grey"].sum() == 0:
        return "the grey mask holds 0 and 255, and no car is left: 255 is not 1"
    if got["grey"].max() == 255:
        return "the mask of 0 and 255 still holds 255, and there is no class 255"
    right = torch.from_numpy(values).long()
    for name, labels in got.items():
        if not torch.equal(labels.long(), right):
            return f"{name}: car and background are not where they are in the file"
        if labels.dtype != torch.int64:
            return (
                f"the labels are {labels.dtype}; cross-entropy takes int64: `.long()`"
            )
    nothing = to_labels(Image.fromarray(0 * values))
    if nothing.any():
        return "a mask without any car must be 0 everywhere: 0 divided by 0 is no class"
    return None


TASKS = [
    Task(
        number="10.1",
        title="Pairs, and who is left alone",
        ask="""
            The image `NAME.jpg` belongs to the mask `NAME_mask.gif`. Both lists hold paths, in any
            order, and either may have files without a partner. Return the pairs, in the order of
            the images, and the set `alone`: the names (without `_mask`) of images without a mask
            and of masks without an image.
        """,
        code='''
            def pair_files(images, masks):
                """Return the pairs (image, mask), and the names without a partner."""
                # solution
                image_of = {image.stem: image for image in images}
                mask_of = {mask.stem.removesuffix("_mask"): mask for mask in masks}
                names = [name for name in image_of if name in mask_of]
                pairs = [(image_of[name], mask_of[name]) for name in names]
                return pairs, image_of.keys() ^ mask_of.keys()
                # end
        ''',
        checker=check_pair_files,
        hints=(
            "A mask's place in the list does not say which image it belongs to. What does?",
            """
            Make two dictionaries, from the name to the path: one of images, one of masks. A name
            in both is a pair. A name in only one of them is alone.
            """,
            """
            image_of = {image.stem: image for image in images}
            mask_of = {...: mask for mask in masks}  # by the name of its image
            names = [name for name in image_of if ...]
            pairs = [(image_of[name], ...) for name in names]
            return pairs, ...  # the names in one dictionary only
            """,
        ),
        wrong={
            "`a_02` has no mask, and got the one of `a_03`: pair by name, not by order": """
                pairs = list(zip(sorted(images), sorted(masks)))
                return pairs, set()
            """,
            "`car_1` got the mask of `car_10`, which begins the same: compare all of it": """
                pairs, left = [], set()
                for image in images:
                    fits = [m for m in masks if m.stem.startswith(image.stem)]
                    if fits:
                        pairs.append((image, fits[0]))
                    else:
                        left.add(image.stem)
                return pairs, left
            """,
            "`a_01` and `a_02` get one mask: the view belongs to the name, too": """
                mask_of = {mask.stem.split("_")[0]: mask for mask in masks}
                pairs = [(image, mask_of[image.stem.split("_")[0]]) for image in images]
                return pairs, set()
            """,
            '`rstrip("_mask")` makes "de" of "desk_mask": it strips letters': """
                image_of = {image.stem: image for image in images}
                mask_of = {mask.stem.rstrip("_mask"): mask for mask in masks}
                pairs = [(image_of[n], mask_of[n]) for n in image_of if n in mask_of]
                return pairs, image_of.keys() ^ mask_of.keys()
            """,
            "the mask of `desk` is called `desk_mask`: remove the end, then compare": """
                image_of = {image.stem: image for image in images}
                mask_of = {mask.stem: mask for mask in masks}
                pairs = [(image_of[n], mask_of[n]) for n in image_of if n in mask_of]
                return pairs, image_of.keys() ^ mask_of.keys()
            """,
            "the mask of `ghost` has no image and is not in `alone`": """
                mask_of = {mask.stem.removesuffix("_mask"): mask for mask in masks}
                pairs = [(i, mask_of[i.stem]) for i in images if i.stem in mask_of]
                return pairs, {i.stem for i in images} - mask_of.keys()
            """,
            "`a_02` has no mask and belongs in `alone`; yours is a pair with None": """
                mask_of = {mask.stem[:-5]: mask for mask in masks}
                pairs = [(image, mask_of.get(image.stem)) for image in images]
                return pairs, {image.stem for image in images} ^ mask_of.keys()
            """,
            "`alone` holds names, such as `a_02`, not paths": """
                image_of = {image.stem: image for image in images}
                mask_of = {mask.stem[:-5]: mask for mask in masks}
                pairs = [(image_of[n], mask_of[n]) for n in image_of if n in mask_of]
                both = image_of | mask_of
                return pairs, {both[n] for n in image_of.keys() ^ mask_of.keys()}
            """,
            "the pairs are to be a list of (image, mask), not a dict": """
                image_of = {image.stem: image for image in images}
                mask_of = {mask.stem[:-5]: mask for mask in masks}
                pairs = {image_of[n]: mask_of[n] for n in image_of if n in mask_of}
                return pairs, image_of.keys() ^ mask_of.keys()
            """,
            "the pairs are right, but not in the order of the images": """
                image_of = {image.stem: image for image in images}
                mask_of = {mask.stem[:-5]: mask for mask in masks}
                names = sorted(image_of.keys() & mask_of.keys())
                pairs = [(image_of[name], mask_of[name]) for name in names]
                return pairs, image_of.keys() ^ mask_of.keys()
            """,
            "`alone` holds `ghost`, the name of the image that is missing, not `ghost_mask`": """
                image_of = {image.stem: image for image in images}
                mask_of = {mask.stem: mask for mask in masks}
                names = [n for n in image_of if n + "_mask" in mask_of]
                pairs = [(image_of[n], mask_of[n + "_mask"]) for n in names]
                paired = {n + "_mask" for n in names}
                return pairs, (image_of.keys() - set(names)) | (mask_of.keys() - paired)
            """,
            "of `is_mask_on_mask`, only the end must go, not `_mask` everywhere": """
                image_of = {image.stem: image for image in images}
                mask_of = {mask.stem.replace("_mask", ""): mask for mask in masks}
                pairs = [(image_of[n], mask_of[n]) for n in image_of if n in mask_of]
                return pairs, image_of.keys() ^ mask_of.keys()
            """,
        },
        why="""
            `^` keeps what is in one of two sets only. If `alone` is not empty, look at it before you
            train: a mask without an image is often an image whose name has a typing error.
        """,
    ),
    Task(
        number="10.2",
        title="Hold out whole cars",
        ask="""
            Hold out `count` cars, drawn at random. `names` holds names such as
            `"2516ac85e2eb_01.jpg"`: the car, then the view. The same seed must give the same cars,
            even if the files are listed in another order; another seed must give other cars.
        """,
        code='''
            def split_cars(names, count, seed):
                """Return the names to train on, and those of `count` cars held out."""
                # solution
                cars = sorted({name.split("_")[0] for name in names})
                out = np.random.default_rng(seed).choice(cars, count, replace=False)
                held = [name for name in names if name.split("_")[0] in out]
                return [name for name in names if name not in held], held
                # end
        ''',
        checker=check_split_cars,
        hints=(
            "What do you draw at random: pictures, or cars?",
            """
            Make a sorted list of the cars, each once, and draw from it without replacement. Then
            each picture goes where its car goes.
            """,
            """
            cars = sorted(...)  # each car once
            out = np.random.default_rng(seed).choice(cars, ...)
            held = [name for name in names if ...]
            return [name for name in names if name not in held], held
            """,
        ),
        wrong={
            "car ab is in both parts: a leak": """
                mixed = np.random.default_rng(seed).permutation(names).tolist()
                cars = len({name.split("_")[0] for name in names})
                size = len(names) * count // cars
                return mixed[size:], mixed[:size]
            """,
            "these are cars; the names of their pictures are asked for": """
                cars = sorted({name.split("_")[0] for name in names})
                out = np.random.default_rng(seed).choice(cars, count, replace=False)
                return [car for car in cars if car not in out], out.tolist()
            """,
            "2 cars of 8 are trained on: first what to train on, then what is held out": """
                cars = sorted({name.split("_")[0] for name in names})
                out = np.random.default_rng(seed).choice(cars, count, replace=False)
                held = [name for name in names if name.split("_")[0] in out]
                return held, [name for name in names if name not in held]
            """,
            "some pictures are on both sides": """
                cars = sorted({name.split("_")[0] for name in names})
                out = np.random.default_rng(seed).choice(cars, count, replace=False)
                return names, [name for name in names if name.split("_")[0] in out]
            """,
            "every seed holds out the same cars": """
                out = sorted({name.split("_")[0] for name in names})[:count]
                held = [name for name in names if name.split("_")[0] in out]
                return [name for name in names if name not in held], held
            """,
            "2 cars were asked for, and at times 1 is held out: one was drawn twice": """
                cars = sorted({name.split("_")[0] for name in names})
                out = np.random.default_rng(seed).choice(cars, count)
                held = [name for name in names if name.split("_")[0] in out]
                return [name for name in names if name not in held], held
            """,
            "`ab` takes `abc` along, which only begins the same: compare whole ids": """
                cars = sorted({name.split("_")[0] for name in names})
                out = np.random.default_rng(seed).choice(cars, count, replace=False)
                held = [name for name in names if name.startswith(tuple(out.tolist()))]
                return [name for name in names if name not in held], held
            """,
            "the same files, listed in another order, give another split: sort first": """
                cars = list(dict.fromkeys(name.split("_")[0] for name in names))
                out = np.random.default_rng(seed).choice(cars, count, replace=False)
                held = [name for name in names if name.split("_")[0] in out]
                return [name for name in names if name not in held], held
            """,
            "whole views are held out, of every car: the car comes first in a name": """
                cars = sorted({name.split("_")[1] for name in names})
                out = np.random.default_rng(seed).choice(cars, count, replace=False)
                held = [name for name in names if name.split("_")[1] in out]
                return [name for name in names if name not in held], held
            """,
            "the same seed gives another split the second time": """
                cars = sorted({name.split("_")[0] for name in names})
                out = np.random.default_rng().choice(cars, count, replace=False)
                held = [name for name in names if name.split("_")[0] in out]
                return [name for name in names if name not in held], held
            """,
        },
        why="""
            Why sort a set? Each time Python starts, it puts the strings of a set into another order.
            Without `sorted` the split would change with it, even with the same seed.
        """,
    ),
    Task(
        number="10.3",
        title="What a mask means",
        ask="""
            `picture` is a mask of cars as PIL opens it: a GIF with the values 0 and 1 and a palette
            of any colours, a grey PNG with 0 and 255, or one with a single bit per pixel. Make it
            the label map that a loss takes: an `int64` tensor (H, W), 0 for background, 1 for car.
        """,
        code='''
            def to_labels(picture):
                """Return the classes of an image of PIL, (H, W) int64."""
                # solution
                values = np.array(picture)  # a palette's numbers, not its colours
                return torch.from_numpy(values > 0).long()
                # end
        ''',
        checker=check_to_labels,
        hints=(
            "Which value means background in all three kinds of file?",
            """
            `np.array` gives the numbers of the file, for a palette too. Background is 0 in each of
            them, and all the rest is car.
            """,
            """
            values = np.array(picture)
            return torch.from_numpy(...).long()
            """,
        ),
        wrong={
            "the palette mask holds 0 and 1; divided by 255, a car is 0.004": """
                return torch.from_numpy(np.array(picture) / 255)
            """,
            "the palette mask holds 0 and 1, and no car is left: 1 is not 255": """
                return torch.from_numpy(np.array(picture) / 255).long()
            """,
            "all is car: you took the palette's colours, and its 0 is a dark grey": """
                return torch.from_numpy(np.array(picture.convert("L")) > 0).long()
            """,
            "the grey mask holds 0 and 255, and no car is left: 255 is not 1": """
                return torch.from_numpy(np.array(picture) == 1).long()
            """,
            "the labels are torch.float32; cross-entropy takes int64: `.long()`": """
                return torch.from_numpy(np.array(picture) > 0).float()
            """,
            "the mask of 0 and 255 still holds 255, and there is no class 255": """
                return torch.from_numpy(np.array(picture)).long()
            """,
            "the labels are torch.bool; cross-entropy takes int64: `.long()`": """
                return torch.from_numpy(np.array(picture) > 0)
            """,
            "a mask of 4 x 6 pixels gives (4, 6, 3): one class per pixel": """
                return torch.from_numpy(np.array(picture.convert("RGB")) > 0).long()
            """,
            "car and background are swapped: 0 is background": """
                return torch.from_numpy(np.array(picture) == 0).long()
            """,
        },
        why="""
            This is for two classes. Where a file holds several, or a value for *do not know*, each
            value needs a class of its own, or -100.
        """,
    ),
]
