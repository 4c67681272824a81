"""The tasks of 09_augment: a field that magnifies, and one draw for image and label."""

import torch

from unet_tutorial.tasks import Task


def from_centre(height, width, centre=0.5):
    "Rows down and columns to the right of the centre, (1, 2, H, W)."
    rows = torch.arange(height) - centre * (height - 1)
    columns = torch.arange(width) - centre * (width - 1)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]


def check_zoom_field(zoom_field):
    field = zoom_field(4, (5, 9))
    if not isinstance(field, torch.Tensor):
        return f"`warp` takes a tensor, not {type(field).__name__}"
    shapes = {
        (2, 5, 9): "the axis of the batch is missing: `warp` takes (1, 2, H, W)",
        (1, 5, 9, 2): "the two displacements are the second axis, not the last",
        (1, 2, 9, 5): "height and width are swapped: a size is (H, W)",
    }
    if tuple(field.shape) != (1, 2, 5, 9):
        says = f"an image of (5, 9) needs (1, 2, 5, 9), not {(*field.shape,)}"
        return shapes.get(tuple(field.shape), says)
    if not field.is_floating_point():
        return "a displacement can be half a pixel, and yours are integers"
    off, places = from_centre(5, 9), from_centre(5, 9, centre=0)
    known = {
        "those are the places to fetch from; subtract the pixel's own place": (
            places - 0.75 * off
        ),
        "those are places, counted from the centre; a displacement begins at its pixel": (
            off / 4
        ),
        "this field shrinks the image: what it fetches comes from farther out": 3 * off,
        "the sign is wrong: pixels fetch from farther out": 0.75 * off,
        "1 - zoom would push pixels; a pixel fetches from its place divided by zoom": (
            -3 * off
        ),
        "a displacement is in pixels; -1 to 1 is how `F.grid_sample` counts": (
            -0.75 * off / torch.tensor([2.0, 4.0])[:, None, None]
        ),
        "the upper left corner stays where it is; the centre must": -0.75 * places,
        "the centre of 5 rows is row 2, and yours is 2.5": -0.75 * (off - 0.5),
        "columns come first in yours; a field is down, then to the right": (
            -0.75 * off.flip(1)
        ),
    }
    for says, wrong in known.items():
        if torch.allclose(field.float(), wrong, atol=1e-5):
            return says
    for zoom, size in [(4, (5, 9)), (1, (3, 4)), (2, (4, 6)), (0.5, (8, 3))]:
        field, right = zoom_field(zoom, size), (1 / zoom - 1) * from_centre(*size)
        same = field.shape == right.shape
        if same and not (field - right)[0].flatten(1).diff().abs().max() > 1e-5:
            if (field - right).abs().max() > 1e-5:
                return (
                    f"size {size}: the centre of {size[0]} rows is {(size[0] - 1) / 2}"
                )
        if not same or not torch.allclose(field, right, atol=1e-5):
            down, across = right[0, :, 0, 0].tolist()
            says = f"zoom {zoom}, size {size}: the first pixel must be displaced by"
            return f"{says} {down:g} down and {across:g} to the right"
    return None


def numbered():
    "A batch in which each pixel has a number of its own: image and labels."
    label = torch.arange(32 * 6 * 6).reshape(32, 6, 6)
    return torch.stack([label, label + 0.5], dim=1), label


def changes(after, before):
    "What was done to each image or label map of a batch: a list of words."
    ways = {"nothing": before, "mirrored": before.flip(-1)}
    ways |= {"upside down": before.flip(-2), "in another place": before.flip(0)}
    return [
        next((way for way, x in ways.items() if torch.equal(one, x[at])), "lost")
        for at, one in enumerate(after)
    ]


def check_mirror_batch(mirror_batch):
    generator, draws = torch.Generator().manual_seed(0), []
    for _ in range(20):
        image, label = numbered()
        result = mirror_batch(image, label, generator)
        if not isinstance(result, tuple | list) or len(result) != 2:
            return "return image and label, in this order"
        pairs = list(zip(result, numbered(), strict=True))
        for name, given, (after, before) in zip(
            ("image", "label"), (image, label), pairs, strict=True
        ):
            if before.shape != after.shape:
                return f"the {name} is {(*before.shape,)}; yours is {(*after.shape,)}"
            if not torch.equal(given, before):
                return f"the {name} that was given is changed too: return a new one"
        draws.append([changes(*pair) for pair in pairs])
        if wrong := check_changes(*draws[-1]):
            return wrong
    return check_draws([images for images, _ in draws], mirror_batch)


def check_changes(images, labels):
    "What is wrong with what was done to a batch."
    if "upside down" in images:
        return "images are upside down; left and right must change places"
    if "upside down" in labels:
        return (
            "labels are upside down: they have no channels, their columns are axis -1"
        )
    if {*images, *labels} == {"in another place"}:
        return "the batch is in another order: axis 0 counts images, not columns"
    if "in another place" in images + labels or images.count("lost") > 4:
        return "the pairs have changed places in the batch: pair 3 must stay pair 3"
    if "lost" in images + labels:
        return "some pixels are not where a mirror puts them"
    if images != labels:
        return "an image is mirrored and its label is not: one draw for both"
    return None


def check_draws(draws, mirror_batch):
    "What is wrong with which images are mirrored, in twenty batches of one generator."
    share = sum(images.count("mirrored") for images in draws) / 640
    if share in (0, 1):
        return f"{'all' if share else 'none'} of 640 images are mirrored; half must be"
    if all(len(set(images)) == 1 for images in draws):
        return "a batch is mirrored as a whole, or not at all: draw for each image"
    if draws[0] == draws[1]:
        return "two batches in a row get the same numbers: do not seed the generator"
    if not 0.4 < share < 0.6:
        return f"{share:.0%} of 640 images are mirrored; half must be"
    again = torch.Generator().manual_seed(0)
    if changes(mirror_batch(*numbered(), again)[0], numbered()[0]) != draws[0]:
        return "`generator` with the same seed gives other pairs: draw all from it"
    return None


TASKS = [
    Task(
        number="9.1",
        title="A field that magnifies",
        ask="""
            Not every field is random. Write the field with which `warp` shows an image `zoom` times as
            large, cut to its old size. The centre stays where it is: of 5 rows it is row 2, of 6 rows
            it is between rows 2 and 3.
        """,
        code='''
            def zoom_field(zoom, size):
                """Return the displacements (1, 2, H, W) that magnify an image of (H, W)."""
                # solution
                height, width = size
                down = torch.arange(height) - (height - 1) / 2  # from the centre
                right = torch.arange(width) - (width - 1) / 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places / zoom - places)[None]  # where it fetches, less where it is
                # end
        ''',
        checker=check_zoom_field,
        hints=(
            "The image gets twice as large. A pixel is 10 below the centre: from where does it fetch?",
            """
            From 5 below the centre, so its displacement is -5. Count rows and columns from the centre;
            a pixel fetches from its own place divided by `zoom`.
            """,
            """
            height, width = size
            down = ...  # of each row, from the centre
            right = ...  # of each column
            places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
            return (... - ...)[None]
            """,
        ),
        wrong={
            "this field shrinks the image: what it fetches comes from farther out": """
                down = torch.arange(size[0]) - (size[0] - 1) / 2
                right = torch.arange(size[1]) - (size[1] - 1) / 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (zoom * places - places)[None]
            """,
            "those are places, counted from the centre; a displacement begins at its "
            "pixel": """
                down = torch.arange(size[0]) - (size[0] - 1) / 2
                right = torch.arange(size[1]) - (size[1] - 1) / 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places / zoom)[None]
            """,
            "the sign is wrong: pixels fetch from farther out": """
                down = torch.arange(size[0]) - (size[0] - 1) / 2
                right = torch.arange(size[1]) - (size[1] - 1) / 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places - places / zoom)[None]
            """,
            "the upper left corner stays where it is; the centre must": """
                down, right = torch.arange(size[0]), torch.arange(size[1])
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places / zoom - places)[None]
            """,
            "size (4, 6): the centre of 4 rows is 1.5": """
                down = torch.arange(size[0]) - size[0] // 2
                right = torch.arange(size[1]) - size[1] // 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places / zoom - places)[None]
            """,
            "1 - zoom would push pixels; a pixel fetches from its place divided by zoom": """
                down = torch.arange(size[0]) - (size[0] - 1) / 2
                right = torch.arange(size[1]) - (size[1] - 1) / 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return ((1 - zoom) * places)[None]
            """,
            "a displacement is in pixels; -1 to 1 is how `F.grid_sample` counts": """
                down = torch.linspace(-1, 1, size[0])
                right = torch.linspace(-1, 1, size[1])
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places / zoom - places)[None]
            """,
            "`warp` takes a tensor, not ndarray": """
                y, x = np.indices(size)
                y, x = y - (size[0] - 1) / 2, x - (size[1] - 1) / 2
                return np.stack([y / zoom - y, x / zoom - x])[None]
            """,
            "the centre of 5 rows is row 2, and yours is 2.5": """
                down = torch.arange(size[0]) - size[0] / 2
                right = torch.arange(size[1]) - size[1] / 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places / zoom - places)[None]
            """,
            "columns come first in yours; a field is down, then to the right": """
                down = torch.arange(size[0]) - (size[0] - 1) / 2
                right = torch.arange(size[1]) - (size[1] - 1) / 2
                down, right = torch.meshgrid(down, right, indexing="ij")
                places = torch.stack([right, down])
                return (places / zoom - places)[None]
            """,
            "height and width are swapped: a size is (H, W)": """
                width, height = size
                down = torch.arange(height) - (height - 1) / 2
                right = torch.arange(width) - (width - 1) / 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places / zoom - places)[None]
            """,
            "a displacement can be half a pixel, and yours are integers": """
                down = torch.arange(size[0]) - (size[0] - 1) // 2
                right = torch.arange(size[1]) - (size[1] - 1) // 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return (places // zoom - places)[None]
            """,
            "the axis of the batch is missing: `warp` takes (1, 2, H, W)": """
                down = torch.arange(size[0]) - (size[0] - 1) / 2
                right = torch.arange(size[1]) - (size[1] - 1) / 2
                places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
                return places / zoom - places
            """,
        },
        why="""
            A rotation is made in the same way: each pixel fetches from its place rotated back. If you add
            such a field to the elastic one, a single `warp` does both, and grey values are interpolated
            only once.
        """,
    ),
    Task(
        number="9.2",
        title="Mirror images, drawn for each pair",
        ask="""
            Mirror each image of a batch with probability 1/2, left to right, and its label map with it.
            All random numbers come from `generator`; image and label that were given stay as they
            are.
        """,
        code='''
            def mirror_batch(image, label, generator):
                """Mirror some of the pairs: image (B, C, H, W), label (B, H, W)."""
                # solution
                chosen = torch.rand(len(image), generator=generator) < 0.5  # (B,)
                image, label = image.clone(), label.clone()
                image[chosen] = image[chosen].flip(-1)
                label[chosen] = label[chosen].flip(-1)
                return image, label
                # end
        ''',
        checker=check_mirror_batch,
        hints=(
            "How many random numbers does a batch of eight pairs need?",
            """
            Eight: one decides for image and label together. A mask of booleans (B,) picks the pairs.
            The columns are the last axis of images and of label maps, and `flip(-1)` reverses it.
            """,
            """
            chosen = torch.rand(..., generator=generator) < 0.5
            image, label = image.clone(), label.clone()
            image[chosen] = ...
            label[chosen] = ...
            return image, label
            """,
        ),
        wrong={
            "an image is mirrored and its label is not: one draw for both": """
                results = []
                for x in (image.clone(), label.clone()):
                    chosen = torch.rand(len(x), generator=generator) < 0.5
                    x[chosen] = x[chosen].flip(-1)
                    results.append(x)
                return tuple(results)
            """,
            "a batch is mirrored as a whole, or not at all: draw for each image": """
                if torch.rand(1, generator=generator) < 0.5:
                    return image.flip(-1), label.flip(-1)
                return image, label
            """,
            "two batches in a row get the same numbers: do not seed the generator": """
                generator.manual_seed(0)
                chosen = torch.rand(len(image), generator=generator) < 0.5
                image, label = image.clone(), label.clone()
                image[chosen], label[chosen] = image[chosen].flip(-1), label[chosen].flip(-1)
                return image, label
            """,
            "labels are upside down: they have no channels, their columns are axis -1": """
                chosen = torch.rand(len(image), generator=generator) < 0.5
                image, label = image.clone(), label.clone()
                image[chosen] = image[chosen].flip(3)
                label[chosen] = label[chosen].flip(1)
                return image, label
            """,
            "images are upside down; left and right must change places": """
                chosen = torch.rand(len(image), generator=generator) < 0.5
                image, label = image.clone(), label.clone()
                image[chosen] = image[chosen].flip(2)
                label[chosen] = label[chosen].flip(1)
                return image, label
            """,
            "the image that was given is changed too: return a new one": """
                chosen = torch.rand(len(image), generator=generator) < 0.5
                image[chosen] = image[chosen].flip(-1)
                label[chosen] = label[chosen].flip(-1)
                return image, label
            """,
            "`generator` with the same seed gives other pairs: draw all from it": """
                chosen = torch.rand(len(image)) < 0.5
                image, label = image.clone(), label.clone()
                image[chosen] = image[chosen].flip(-1)
                label[chosen] = label[chosen].flip(-1)
                return image, label
            """,
            "the pairs have changed places in the batch: pair 3 must stay pair 3": """
                chosen = torch.rand(len(image), generator=generator) < 0.5
                image = torch.cat([image[chosen].flip(-1), image[~chosen]])
                return image, torch.cat([label[chosen].flip(-1), label[~chosen]])
            """,
            "all of 640 images are mirrored; half must be": """
                return image.flip(-1), label.flip(-1)
            """,
            "the batch is in another order: axis 0 counts images, not columns": """
                return image.flip(0), label.flip(0)
            """,
        },
        why="""
            The generator comes from outside and is never seeded here: a seed inside the function would give
            each batch the same numbers.
        """,
    ),
]
