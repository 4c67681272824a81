"""The tasks of 04_skips: crop a skip, and join it with what comes from below."""

import torch
import torch.nn.functional as F

from unet_tutorial.lessons import names_in
from unet_tutorial.tasks import Task


def ramp(*shape):
    "A map in which every number is another one, (B, C, H, W)."
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def is_resized(part, ramp):
    "Whether a map has numbers between those of a ramp, or leaves some out."
    down, right = part[0, 0].diff(dim=0), part[0, 0].diff(dim=1)
    ordered = (down > 0).all() and (right > 0).all()
    near = (down == ramp.shape[-1]).all() and (right == 1).all()
    return bool(not torch.isin(part, ramp).all() or (ordered and not near))


def check_crop_like(crop_like):
    for name in ("center_crop", "_crop_equally"):
        if name in names_in(crop_like):
            return f"`{name}` cuts for you: it is what you write here"
    skip, x = ramp(1, 2, 10, 14), torch.zeros(1, 3, 6, 8)
    cut = crop_like(skip, x)
    if cut.shape == (1, 2, 2, 2):
        return "the whole difference goes on each side; half of it must go"
    if cut.shape[1] != 2:
        return f"the skip has 2 channels and keeps them; yours has {cut.shape[1]}"
    if cut.shape[2:] in ((6, 10), (4, 8)):
        return "one margin for both axes: rows and columns each have their own"
    if cut.shape != (1, 2, 6, 8):
        return f"10 x 14 pixels cropped to 6 x 8 give {cut.shape[2]} x {cut.shape[3]}"
    if is_resized(cut, skip):
        return "that resizes the skip: neighbours must stay neighbours, so cut"
    row, column = divmod(int(cut[0, 0, 0, 0]), 14)
    if (row, column) != (2, 3):
        places = {
            (0, 0): "all is cut off at the bottom and on the right; crop every side",
            (4, 6): "all is cut off at the top and on the left; crop every side",
        }
        off = f"your first pixel is ({row}, {column}) of the skip; it must be (2, 3)"
        return places.get((row, column), off)
    if not torch.equal(cut, skip[..., 2:8, 3:11]):
        return "the first pixel is right, and others are not in their place"
    if crop_like(skip, skip).shape != skip.shape:
        return "where nothing must be cut, nothing is left: `0:-0` is empty"
    return None


def check_one_step_up(one_step_up):
    below, seen = [], []

    def up(x):  # (B, C, h, w) -> (B, C / 2, 2 h, 2 w)
        below.append(F.interpolate(x, scale_factor=2.0)[:, : x.shape[1] // 2])
        return below[-1].clone()

    def conv(x):
        seen.append(x.clone())
        return x + 1

    x, skip = -ramp(1, 4, 3, 5), ramp(1, 2, 10, 16)
    try:
        result = one_step_up(x, skip, up, conv)
    except (RuntimeError, ValueError) as error:
        if len(below) > 1:
            return "`up` doubles the size: call it once"
        if "izes of tensors must match" not in str(error):
            raise
        return "the two maps differ in size where you join them: crop after `up`"
    for name, calls in {"up": below, "conv": seen}.items():
        if not calls:
            return f"`{name}` is never called"
    if len(seen) > 1:
        return "`conv` is both convolutions: call it once"
    if len(below) > 1:
        return "`up` doubles the size: call it once"
    if not torch.equal(result, seen[0] + 1):
        return "what `conv` makes of the joined maps must be returned"
    return check_joined(seen[0], skip, below[0])


def check_joined(joined, skip, x):
    "What is wrong with the map that reaches the convolutions."
    shapes = {
        (2, 2, 6, 10): "`conv` sees two images of 2 channels: join along dim=1",
        (1, 2, 12, 10): "one map is below the other: join along the channels, dim=1",
        (1, 2, 6, 20): "one map is beside the other: join along the channels, dim=1",
        (1, 2, 6, 10): "`conv` sees 2 channels, not 4: join the maps, do not add them",
        (1, 4, 10, 16): "crop the skip to the size of x; do not enlarge x",
    }
    if tuple(joined.shape) in shapes:
        return shapes[tuple(joined.shape)]
    if joined.shape != (1, 4, 6, 10):
        return f"`conv` must see (1, 4, 6, 10), and it sees {tuple(joined.shape)}"
    if torch.equal(joined[:, :2], x) and torch.isin(joined[:, 2:], skip).all():
        return "the order is wrong: the skip comes first"
    if torch.equal(joined[:, 2:], x.relu()):
        return "what `up` returns is final: no ReLU after it"
    if not torch.equal(joined[:, 2:], x):
        return "the last two channels must be what `up` makes of x"
    return check_cut(joined[:, :2], skip)


def check_cut(part, skip):
    "What is wrong with the part of the skip that is joined."
    if torch.equal(part, skip[..., 2:8, 3:13]):
        return None
    if is_resized(part, skip):
        return "the skip is resized: its middle must be cut out, see `center_crop`"
    row, column = divmod(int(part[0, 0, 0, 0]), skip.shape[-1])
    if not torch.equal(part, skip[..., row : row + 6, column : column + 10]):
        return "the first two channels must be the middle of the skip"
    if row in (0, 4) and column in (0, 6):
        return "the skip is cropped at one corner: cut the same from opposite sides"
    return f"the middle of the skip begins at (2, 3), and yours at ({row}, {column})"


TASKS = [
    Task(
        number="4.1",
        title="Copy and crop, by hand",
        ask="""
            Cut the middle out of a skip, so that it fits the map from below. Height and width may
            differ. `center_crop` does just that: write it yourself, without calling it.
        """,
        code='''
            def crop_like(skip, x):
                """Crop a skip (B, C, H, W) to the height and width of x (B, D, h, w)."""
                # solution
                height, width = x.shape[-2:]
                top = (skip.shape[-2] - height) // 2
                left = (skip.shape[-1] - width) // 2
                return skip[..., top : top + height, left : left + width]
                # end
        ''',
        checker=check_crop_like,
        hints=(
            "Where in the skip is the pixel that meets the first pixel of x?",
            """
            Half of the difference is cut off at the top and on the left. From there on, take as many
            rows and columns as x has. `...` in an index means all the axes before.
            """,
            """
            height, width = x.shape[-2:]
            top = ...
            left = ...
            return skip[..., top : ..., left : ...]
            """,
        ),
        wrong={
            "your first pixel is (3, 4) of the skip; it must be (2, 3)": """
                height, width = x.shape[-2:]
                top = (skip.shape[-2] - height) // 2 + 1
                left = (skip.shape[-1] - width) // 2 + 1
                return skip[..., top : top + height, left : left + width]
            """,
            "all is cut off at the bottom and on the right; crop every side": """
                return skip[..., : x.shape[-2], : x.shape[-1]]
            """,
            "all is cut off at the top and on the left; crop every side": """
                return skip[..., -x.shape[-2] :, -x.shape[-1] :]
            """,
            "that resizes the skip: neighbours must stay neighbours, so cut": """
                return F.interpolate(skip, size=x.shape[-2:])
            """,
            "`center_crop` cuts for you: it is what you write here": """
                return center_crop(skip, x.shape[-2:])
            """,
            "one margin for both axes: rows and columns each have their own": """
                top = (skip.shape[-2] - x.shape[-2]) // 2
                return skip[..., top : skip.shape[-2] - top, top : skip.shape[-1] - top]
            """,
            "the whole difference goes on each side; half of it must go": """
                top = skip.shape[-2] - x.shape[-2]
                left = skip.shape[-1] - x.shape[-1]
                return skip[..., top:-top, left:-left]
            """,
            "where nothing must be cut, nothing is left: `0:-0` is empty": """
                top = (skip.shape[-2] - x.shape[-2]) // 2
                left = (skip.shape[-1] - x.shape[-1]) // 2
                return skip[..., top:-top, left:-left]
            """,
            "the skip has 2 channels and keeps them; yours has 3": """
                top = (skip.shape[-2] - x.shape[-2]) // 2
                left = (skip.shape[-1] - x.shape[-1]) // 2
                height, width = x.shape[-2:]
                middle = skip[..., top : top + height, left : left + width]
                return middle[:, :1].expand(-1, x.shape[1], -1, -1)
            """,
        },
        why="""
            `skip[..., top:-top, left:-left]` would be shorter. But where nothing is to be cut, nothing is left:
            -0 is 0, so `0:-0` is `0:0`.
        """,
    ),
    Task(
        number="4.2",
        title="One step of the expansive path",
        ask="""
            Put the step together: the up-convolution `up`, copy and crop, and the convolutions
            `conv`. `up(x)` and `conv(x)` are functions of one map, and `conv` is both convolutions
            together. Call `up` once and `conv` once. In the joined map the skip comes first, as in `Up`.
        """,
        code='''
            def one_step_up(x, skip, up, conv):
                """Join x (B, C, h, w) from below with a skip (B, C / 2, H, W)."""
                # solution
                x = up(x)  # (B, C / 2, 2 h, 2 w)
                skip = center_crop(skip, x.shape[-2:])
                return conv(torch.cat([skip, x], dim=1))
                # end
        ''',
        checker=check_one_step_up,
        hints=(
            "In which order do the four things happen, and which shape is there after each?",
            """
            First `up`: only then do you know how large the skip may be. `center_crop` cuts the skip,
            `torch.cat` joins the two maps along the channels, and `conv` comes last.
            """,
            """
            x = up(x)
            skip = center_crop(..., ...)
            return conv(torch.cat(..., dim=...))
            """,
        ),
        wrong={
            "`conv` sees two images of 2 channels: join along dim=1": """
                x = up(x)
                skip = center_crop(skip, x.shape[-2:])
                return conv(torch.cat([skip, x]))
            """,
            "one map is below the other: join along the channels, dim=1": """
                x = up(x)
                skip = center_crop(skip, x.shape[-2:])
                return conv(torch.cat([skip, x], dim=2))
            """,
            "`conv` sees 2 channels, not 4: join the maps, do not add them": """
                x = up(x)
                return conv(x + center_crop(skip, x.shape[-2:]))
            """,
            "the order is wrong: the skip comes first": """
                x = up(x)
                skip = center_crop(skip, x.shape[-2:])
                return conv(torch.cat([x, skip], dim=1))
            """,
            "the two maps differ in size where you join them: crop after `up`": """
                skip = center_crop(skip, x.shape[-2:])
                return conv(torch.cat([skip, up(x)], dim=1))
            """,
            "the skip is resized: its middle must be cut out, see `center_crop`": """
                x = up(x)
                skip = F.interpolate(skip, size=x.shape[-2:], mode="bilinear")
                return conv(torch.cat([skip, x], dim=1))
            """,
            "crop the skip to the size of x; do not enlarge x": """
                x = F.interpolate(up(x), size=skip.shape[-2:])
                return conv(torch.cat([skip, x], dim=1))
            """,
            "`conv` is both convolutions: call it once": """
                x = up(x)
                skip = center_crop(skip, x.shape[-2:])
                return conv(conv(torch.cat([skip, x], dim=1)))
            """,
            "`up` doubles the size: call it once": """
                x = up(up(x))
                skip = center_crop(skip, x.shape[-2:])
                return conv(torch.cat([skip, x], dim=1))
            """,
            "`up` is never called": """
                x = F.interpolate(x, scale_factor=2)
                skip = center_crop(skip, x.shape[-2:])
                return conv(torch.cat([skip, x], dim=1))
            """,
            "what `up` returns is final: no ReLU after it": """
                x = F.relu(up(x))
                skip = center_crop(skip, x.shape[-2:])
                return conv(torch.cat([skip, x], dim=1))
            """,
            "the skip is cropped at one corner: cut the same from opposite sides": """
                x = up(x)
                skip = skip[..., : x.shape[-2], : x.shape[-1]]
                return conv(torch.cat([skip, x], dim=1))
            """,
            "the middle of the skip begins at (2, 3), and yours at (3, 3)": """
                x = up(x)
                top = (skip.shape[-1] - x.shape[-1]) // 2
                height, width = x.shape[-2:]
                skip = skip[..., top : top + height, top : top + width]
                return conv(torch.cat([skip, x], dim=1))
            """,
            "`conv` is never called": """
                x = up(x)
                skip = center_crop(skip, x.shape[-2:])
                return torch.cat([skip, x], dim=1)
            """,
            "what `conv` makes of the joined maps must be returned": """
                x = up(x)
                joined = torch.cat([center_crop(skip, x.shape[-2:]), x], dim=1)
                conv(joined)
                return joined
            """,
        },
        why="`Up` does the same, with a `ReLU` in between if you ask for it.",
    ),
]
