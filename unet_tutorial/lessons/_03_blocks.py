"""The tasks of 03_blocks: a convolution of many channels, and its first weights."""

import torch
from torch.overrides import TorchFunctionMode

from unet_tutorial.tasks import Task


def whole(*shape):
    "Small whole numbers as floats, so that sums are exact."
    numbers = torch.arange(torch.Size(shape).numel()) * 37 % 11 - 4
    return numbers.float().reshape(shape)


def conv(x, weight, bias):
    "What the reader writes, by torch."
    return torch.nn.functional.conv2d(x[None], weight[None])[0, 0] + bias


class Steps(TorchFunctionMode):
    "Note the names of all functions of torch that run inside a `with`."

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))


def check_convolve(convolve):
    x, weight, bias = whole(2, 6, 9), whole(2, 3, 3), 100.0
    right = conv(x, weight, bias)
    try:
        with Steps() as few:
            got = convolve(x.clone(), weight.clone(), bias)
    except RuntimeError as error:
        if "(0)" not in str(error):
            raise
        return (
            "a part has no pixels: `x[:, 2 : -2 + 2]` ends at 0; end it at `H - 2 + 2`"
        )
    if "conv2d" in few.names:
        return "`conv2d` does it all for you: here each of the nine steps is your own"
    sizes = {
        (6, 9): "6 x 9 pixels come out: unpadded, a window must lie inside the map",
        (3, 6): "a row and a column too few: a window of 3 has 4 places on 6 pixels",
        (2, 4, 7): "two channels come out: the products of both make one number",
    }
    if tuple(got.shape) in sizes:
        return sizes[tuple(got.shape)]
    if got.shape != right.shape:
        return f"2 x 6 x 9 numbers give {tuple(got.shape)} and should give (4, 7)"
    sums, flipped = right - bias, conv(x, weight.flip(1, 2), bias)
    known = [
        (sums, "the bias is missing"),
        (sums + 9 * bias, "the bias is added nine times, once per place in the window"),
        (sums + 18 * bias, "the bias is added 18 times, once per weight"),
        (sums + 2 * bias, "the bias is added once per channel that comes in"),
        (sums / 2 + bias, "that is the mean of the channels; their products are added"),
        (conv(x[:1], weight[:1], bias), "only the first channel is used"),
        (conv(x, weight.mT, bias), "rows and columns of the window are exchanged"),
        (flipped, "the window is turned by 180 degrees: `weight[:, 0, 0]` is top left"),
    ]
    for wrong, sentence in known:
        if torch.allclose(got, wrong):
            return sentence
    for case in ((x, weight, bias), (whole(5, 3, 4), whole(5, 3, 3), -1.0)):
        if not torch.allclose(convolve(*case), conv(*case)):
            channels, rows, columns = case[0].shape
            return f"{channels} channels of {rows} x {columns}: the numbers differ"
    larger = whole(2, 12, 18)
    with Steps() as many:
        convolve(larger.clone(), weight.clone(), bias)
    if len(many.names) > len(few.names):
        return "right, but a larger map takes more steps: loop over the nine places"
    return None


def check_draw_weights(draw_weights):
    shape = (80, 10, 3, 3)  # N = 90
    drawn = draw_weights(shape, torch.Generator().manual_seed(3))
    if tuple(drawn.shape) != shape:
        return f"the weights have the shape {tuple(drawn.shape)}, not {shape}"
    again = draw_weights(shape, torch.Generator().manual_seed(3))
    if not torch.equal(drawn, again):
        return "one seed gives two sets of weights: draw from `generator`"
    if torch.equal(drawn, draw_weights(shape, torch.Generator().manual_seed(4))):
        return "two seeds give the same weights: do not seed `generator` again"
    deviation = drawn.std().item()
    if abs(drawn.mean()) > deviation / 4:
        return "the mean is not 0: `torch.randn` draws Gaussian numbers around it"
    known = {
        1.0: "the deviation is 1: multiply by sqrt(2 / N)",
        (2 / 720)
        ** 0.5: "that N is what goes *out*, 80 * 9; N is what comes in, 10 * 9",
        (2 / 10)
        ** 0.5: "you took N = 10, but each channel that comes in has nine weights",
        (2 / 9) ** 0.5: "you took N = 9, but a neuron looks at all 10 channels",
        (1 / 90)
        ** 0.5: "that is sqrt(1 / N): the ReLU halves the mean square, hence the 2",
        2 / 90: "2 / N is the variance; the deviation is its root",
        1 / 90: "1 / N is neither the variance nor the deviation of section 3",
        (2 / 7200)
        ** 0.5: "you took all weights of the layer; N counts those of one neuron",
    }
    for wrong, sentence in known.items():
        if abs(deviation / wrong - 1) < 0.03:
            return sentence
    if drawn.abs().max() < 2.5 * deviation:
        return "no weight is far from 0: the numbers are uniform, not Gaussian"
    for other in (shape, (90, 64, 1, 1), (30, 20, 5, 1)):
        drawn = draw_weights(other, torch.Generator().manual_seed(3))
        right = (2 / (other[1] * other[2] * other[3])) ** 0.5
        if abs(drawn.std() / right - 1) > 0.1:
            nine = drawn.std() * (9 * other[1] / 2) ** 0.5  # 1 if N is taken for 9 C
            why = "; not every window has nine places" if abs(nine - 1) < 0.1 else ""
            return f"shape {other}: the deviation should be near {right:.3f}{why}"
    return None


TASKS = [
    Task(
        number="3.1",
        title="The loops inside out",
        ask="""
            A map has many channels, and one number of the result is a sum over all of them. Write
            the convolution that makes *one* channel of the result. The notebook's double loop goes
            over all pixels. Yours goes over the nine places in the window, and multiplies a
            shifted map as a whole: nine steps, whatever the size of the map. Do not use `conv2d`.
        """,
        code='''
            def convolve(x, weight, bias):
                """Map x (C, H, W) with weight (C, 3, 3) and one bias to (H - 2, W - 2)."""
                # solution
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.full((height, width), bias)
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row + height, column : column + width]
                        out += (weight[:, row, column, None, None] * part).sum(0)
                return out
                # end
        ''',
        checker=check_convolve,
        hints=(
            "The window slides over the map. Which pixels does its top left weight meet?",
            """
            The top left weight meets all pixels but the last two rows and columns. Its right
            neighbour meets the part that begins one column further. Each weight gets such a
            part of the map, (H - 2, W - 2) pixels. Multiply, add the channels up, and add the
            nine results.
            """,
            """
            height, width = ...
            out = ...  # begin with the bias
            for row in range(3):
                for column in range(3):
                    part = x[:, row : ..., column : ...]
                    out += (weight[:, row, column, None, None] * part).sum(...)
            return out
            """,
        ),
        wrong={
            "`conv2d` does it all for you: here each of the nine steps is your own": """
                bias = torch.tensor([bias])
                return torch.nn.functional.conv2d(x[None], weight[None], bias)[0, 0]
            """,
            "right, but a larger map takes more steps: loop over the nine places": """
                out = torch.empty(x.shape[1] - 2, x.shape[2] - 2)
                for row in range(out.shape[0]):
                    for column in range(out.shape[1]):
                        window = x[:, row : row + 3, column : column + 3]
                        out[row, column] = (window * weight).sum() + bias
                return out
            """,
            "the bias is missing": """
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.zeros(height, width)
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row + height, column : column + width]
                        out += (weight[:, row, column, None, None] * part).sum(0)
                return out
            """,
            "the bias is added nine times, once per place in the window": """
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.zeros(height, width)
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row + height, column : column + width]
                        out += (weight[:, row, column, None, None] * part).sum(0) + bias
                return out
            """,
            "the bias is added once per channel that comes in": """
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.zeros(height, width)
                for part, window in zip(x, weight):
                    out += bias
                    for i in range(9):
                        row, column = divmod(i, 3)
                        shifted = part[row : row + height, column : column + width]
                        out += window[row, column] * shifted
                return out
            """,
            "that is the mean of the channels; their products are added": """
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.full((height, width), bias)
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row + height, column : column + width]
                        out += (weight[:, row, column, None, None] * part).mean(0)
                return out
            """,
            "only the first channel is used": """
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.full((height, width), bias)
                for row in range(3):
                    for column in range(3):
                        part = x[0, row : row + height, column : column + width]
                        out += weight[0, row, column] * part
                return out
            """,
            "two channels come out: the products of both make one number": """
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.full((len(x), height, width), bias)
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row + height, column : column + width]
                        out += weight[:, row, column, None, None] * part
                return out
            """,
            "the window is turned by 180 degrees: `weight[:, 0, 0]` is top left": """
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.full((height, width), bias)
                for row in range(3):
                    for column in range(3):
                        top, left = 2 - row, 2 - column
                        part = x[:, top : top + height, left : left + width]
                        out += (weight[:, row, column, None, None] * part).sum(0)
                return out
            """,
            "rows and columns of the window are exchanged": """
                height, width = x.shape[1] - 2, x.shape[2] - 2
                out = torch.full((height, width), bias)
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row + height, column : column + width]
                        out += (weight[:, column, row, None, None] * part).sum(0)
                return out
            """,
            "a row and a column too few: a window of 3 has 4 places on 6 pixels": """
                height, width = x.shape[1] - 3, x.shape[2] - 3
                out = torch.full((height, width), bias)
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row + height, column : column + width]
                        out += (weight[:, row, column, None, None] * part).sum(0)
                return out
            """,
            "a part has no pixels: `x[:, 2 : -2 + 2]` ends at 0; end it at `H - 2 + 2`": """
                out = bias
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row - 2, column : column - 2]
                        out = out + (weight[:, row, column, None, None] * part).sum(0)
                return out
            """,
            "6 x 9 pixels come out: unpadded, a window must lie inside the map": """
                height, width = x.shape[1:]
                x = F.pad(x, (1, 1, 1, 1))
                out = torch.full((height, width), bias)
                for row in range(3):
                    for column in range(3):
                        part = x[:, row : row + height, column : column + width]
                        out += (weight[:, row, column, None, None] * part).sum(0)
                return out
            """,
        },
        why="""
            Nothing is flipped: what a net calls a convolution is a correlation in other books. As
            the weights are learned, it makes no difference.
        """,
    ),
    Task(
        number="3.2",
        title="The first weights",
        ask="""
            Draw the weights with which a convolution begins, as section 3 of the paper wants them.
            `shape` is that of `layer.weight`: channels out, channels in, height and width of the
            window, which is not always 3x3. Draw with `torch.randn` and pass it the generator.
        """,
        code='''
            def draw_weights(shape, generator):
                """Draw weights (C out, C in, h, w) with the deviation sqrt(2 / N)."""
                # solution
                _, channels, height, width = shape
                std = (2 / (channels * height * width)) ** 0.5
                return std * torch.randn(shape, generator=generator)
                # end
        ''',
        checker=check_draw_weights,
        hints=(
            "How many products are summed into *one* number of the result?",
            """
            N counts what one neuron takes in: one product per incoming channel and per place in
            its window. How many channels come out does not matter. Gaussian numbers of deviation 1,
            multiplied by s, have the deviation s.
            """,
            """
            _, channels, height, width = shape
            std = (2 / ...) ** 0.5
            return ... * torch.randn(shape, generator=generator)
            """,
        ),
        wrong={
            "that N is what goes *out*, 80 * 9; N is what comes in, 10 * 9": """
                channels, _, height, width = shape
                std = (2 / (channels * height * width)) ** 0.5
                return std * torch.randn(shape, generator=generator)
            """,
            "you took N = 10, but each channel that comes in has nine weights": """
                return (2 / shape[1]) ** 0.5 * torch.randn(shape, generator=generator)
            """,
            "you took N = 9, but a neuron looks at all 10 channels": """
                std = (2 / (shape[2] * shape[3])) ** 0.5
                return std * torch.randn(shape, generator=generator)
            """,
            "that is sqrt(1 / N): the ReLU halves the mean square, hence the 2": """
                _, channels, height, width = shape
                std = (1 / (channels * height * width)) ** 0.5
                return std * torch.randn(shape, generator=generator)
            """,
            "1 / N is neither the variance nor the deviation of section 3": """
                _, channels, height, width = shape
                std = 1 / (channels * height * width)
                return std * torch.randn(shape, generator=generator)
            """,
            "2 / N is the variance; the deviation is its root": """
                _, channels, height, width = shape
                return 2 / channels / height / width * torch.randn(
                    shape, generator=generator
                )
            """,
            "the mean is not 0: `torch.randn` draws Gaussian numbers around it": """
                _, channels, height, width = shape
                std = (2 / (channels * height * width)) ** 0.5
                return std * torch.rand(shape, generator=generator)
            """,
            "no weight is far from 0: the numbers are uniform, not Gaussian": """
                _, channels, height, width = shape
                limit = (6 / (channels * height * width)) ** 0.5
                return limit * (2 * torch.rand(shape, generator=generator) - 1)
            """,
            "one seed gives two sets of weights: draw from `generator`": """
                _, channels, height, width = shape
                return (2 / (channels * height * width)) ** 0.5 * torch.randn(shape)
            """,
            "two seeds give the same weights: do not seed `generator` again": """
                _, channels, height, width = shape
                std = (2 / (channels * height * width)) ** 0.5
                return std * torch.randn(shape, generator=generator.manual_seed(0))
            """,
            "shape (90, 64, 1, 1): the deviation should be near 0.177; not every window has nine places": """
                return (2 / (shape[1] * 9)) ** 0.5 * torch.randn(
                    shape, generator=generator
                )
            """,
        },
        why="""
            Torch's `kaiming_uniform_` draws with the same deviation, but from a uniform distribution.
            The paper asks for a Gaussian.
        """,
    ),
]
