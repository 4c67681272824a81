"""The tasks of 22_scale: chunks by hand, a share for each process, a price between two."""

import numpy as np

from unet_tutorial.lessons import instead
from unet_tutorial.tasks import Task


def mirroring_net(margin, step, sizes):
    "An `ask` that mirrors, looks `margin` pixels around and pools in `step` pixels."

    def ask(block):  # (h, w) -> (h, w)
        block = np.asarray(block, float)
        sizes.append(block.shape)
        if not block.size:
            return block
        (height, width), m = block.shape, margin
        wide = np.pad(block, ((m, m + step), (m, m + step)), mode="reflect")
        total = np.cumsum(np.cumsum(np.pad(wide, ((1, 0), (1, 0))), 0), 1)
        side = 2 * m + 1
        total = total[side:] - total[:-side]
        total = total[:, side:] - total[:, :-side]
        rows, columns = (-(-n // step) * step for n in (height, width))
        pooled = wide[m : m + rows, m : m + columns]
        for axis in (0, 1):
            starts = np.arange(0, pooled.shape[axis], step)
            pooled = np.maximum.reduceat(pooled, starts, axis).repeat(step, axis)
        return total[:height, :width] / side**2 + pooled[:height, :width]

    return ask


def cut(ask, image, chunk, before, behind, skip=None):
    "The answers of chunks, of which the first `skip` rows and columns are left out."
    found = np.full(image.shape, np.nan)
    for top in range(0, image.shape[0], chunk):
        for left in range(0, image.shape[1], chunk):
            y, x = max(top - before, 0), max(left - before, 0)
            block = image[y : top + chunk + behind, x : left + chunk + behind]
            own = (top - y, left - x) if skip is None else (skip, skip)
            answer = ask(block)[own[0] :, own[1] :][:chunk, :chunk]
            place = found[top : top + chunk, left : left + chunk]
            part = answer[: place.shape[0], : place.shape[1]]
            place[: part.shape[0], : part.shape[1]] = part
    return found


def check_in_chunks(in_chunks):
    image = np.random.default_rng(0).integers(0, 200, (45, 70), np.uint8)
    for margin, step, chunk in [(5, 4, 16), (9, 8, 24)]:
        sizes, near = [], -(-margin // step) * step
        ask = mirroring_net(margin, step, sizes)
        try:
            found = in_chunks(ask, image.copy(), chunk, margin, step)
        except ValueError:  # of shapes that do not fit, after an empty answer
            if not any(0 in size for size in sizes):
                raise
        if not sizes:
            return "nobody was asked: `ask(block)` gives the answers"
        sizes, whole = list(sizes), ask(image)
        if any(0 in size for size in sizes):
            return (
                "a block is empty: `top` minus the overlap is below 0 in the first row"
            )
        if max(map(max, sizes)) > chunk + 4 * near:
            rows, columns = max(sizes)
            return (
                f"a block of {rows} x {columns} pixels was asked about, for one chunk"
            )
        if np.shape(found) != image.shape:
            return f"the answer must be {image.shape}, and it is {np.shape(found)}"
        if found.dtype.kind != "f":
            return "the answers are cut to whole numbers, of the type of the image"
        if np.allclose(found, whole):
            continue
        before = "the answer begins with the neighbours above and on the left"
        known = {
            f"a block begins between two poolings: round {margin} up to {near}": (
                cut(ask, image, chunk, margin, margin),
                cut(ask, image, chunk, margin, near),
            ),
            "without its neighbours, a chunk is mirrored at its own border": (
                cut(ask, image, chunk, 0, 0),
            ),
            "a chunk needs its neighbours on *both* sides, also those behind it": (
                cut(ask, image, chunk, near, 0),
            ),
            f"{before}: cut them off": (cut(ask, image, chunk, near, near, skip=0),),
            "the first chunks have no neighbour before them: cut nothing off there": (
                cut(ask, image, chunk, near, near, skip=near),
            ),
            f"{near - step} pixels are too few for a margin of {margin}: round up": (
                cut(ask, image, chunk, near - step, near - step),
            ),
        }
        for says, answers in known.items():
            if any(np.allclose(found, one, equal_nan=True) for one in answers):
                return says
        full = tuple(slice(n // chunk * chunk) for n in image.shape)
        if np.allclose(found[full], whole[full]):
            return "only the end is wrong, where less than a chunk is left"
        inside = (slice(near, -near),) * 2
        if np.allclose(found[inside], whole[inside]):
            return (
                "only the rim is wrong: where the image ends, `ask` mirrors by itself"
            )
        row, column = np.argwhere(~np.isclose(found, whole))[0]
        return f"in chunks of {chunk}, pixel ({row}, {column}) has another answer"
    return None


def check_share(share):
    order = [7, 2, 9, 4, 11, 0, 5, 10, 1, 8, 3, 6]
    dealt = [share(list(order), 4, rank, 2) for rank in range(2)]
    batches = [order[at : at + 4] for at in (0, 4, 8)]
    if not isinstance(dealt[0], list) or not isinstance(dealt[0][0], list):
        return "return a list of batches, each of them a list"
    if dealt[0] == batches:
        return "each process gets whole batches, so that a step counts its images twice"
    if dealt[0] == dealt[1]:
        return "both processes get the same images: `rank` is not used"
    if len(dealt[0]) != 3:
        return f"12 images in batches of 4 are 3 steps, and process 0 takes {len(dealt[0])}"
    for step, batch in enumerate(batches):
        both = dealt[0][step] + dealt[1][step]
        if set(both) - set(batch):
            return f"step {step}: one process alone takes {batch}, yours take {both}"
        if sorted(both) != sorted(batch):
            return f"step {step} takes {both}; each of {batch} is needed once"
    for length, batch, processes in [(12, 6, 3), (8, 8, 4), (9, 3, 1)]:
        dealt = [
            share(list(range(length)), batch, r, processes) for r in range(processes)
        ]
        for step, parts in enumerate(zip(*dealt, strict=True)):
            together = sorted(image for part in parts for image in part)
            if together != list(range(step * batch, (step + 1) * batch)):
                return (
                    f"{processes} processes, batch {batch}: step {step} is {together}"
                )
            if len({len(part) for part in parts}) > 1:
                return f"{processes} processes must get equally many images of a batch"
    return None


WIDTHS, TIMES = [4, 8, 16, 32, 64], [0.3, 0.5, 1.0, 3.0, 12.0]


def check_time_between(time_between):
    times = [time_between(n, list(WIDTHS), list(TIMES)) for n in (24, 12, 6, 48)]
    x, y = np.array(WIDTHS, float), np.array(TIMES)
    wanted = np.array([24, 12, 6, 48])
    right = np.exp(np.interp(np.log(wanted), np.log(x), np.log(y)))
    power, scale = np.polyfit(np.log(x), np.log(y), 1)
    known = {
        "on plain axes the curve between two points is no straight line: take "
        "logarithms": np.interp(wanted, x, y),
        "the times are on a logarithmic axis, too": np.interp(
            np.log(wanted), np.log(x), y
        ),
        "the widths are on a logarithmic axis, too": np.exp(
            np.interp(wanted, x, np.log(y))
        ),
        "that is the logarithm of the time": np.log(right),
        "that is one line through all points; the measured curve has a bend": np.exp(
            scale + power * np.log(wanted)
        ),
        "that assumes that time is proportional to the work of the widest net": (
            y[-1] * (wanted / x[-1]) ** 2
        ),
    }
    for says, wrong in known.items():
        if np.allclose(times, wrong, equal_nan=True):
            return says
    for n, time, expected in zip(wanted, times, right, strict=True):
        if not np.isclose(time, expected):
            return f"{n} channels take {expected:.3f}, and yours take {time:.3f}"
    for n, time in zip(WIDTHS, TIMES, strict=True):
        try:
            got = time_between(n, list(WIDTHS), list(TIMES))
        except ValueError:
            return f"{n} channels were measured, and are refused"
        if not np.isclose(got, time):
            return f"{n} channels were measured, and {time} was found"
    for n in (3, 128):
        try:
            time_between(n, list(WIDTHS), list(TIMES))
        except ValueError:
            continue
        return f"{n} channels are outside what was measured: raise a ValueError"
    return None


LOOPS = '''
def in_chunks(ask, image, chunk, margin, step):
    """Return the answers (H, W) to an image, asked for chunk by chunk."""
    # solution
    overlap = -(-margin // step) * step  # the next multiple of step
    found = np.empty(image.shape)
    for top in range(0, image.shape[0], chunk):
        for left in range(0, image.shape[1], chunk):
            y, x = max(top - overlap, 0), max(left - overlap, 0)
            end = top + chunk + overlap, left + chunk + overlap
            answer = ask(image[y : end[0], x : end[1]])[top - y :, left - x :]
            place = found[top : top + chunk, left : left + chunk]
            place[:] = answer[: place.shape[0], : place.shape[1]]
    return found
    # end
'''


TASKS = [
    Task(
        number="22.1",
        title="Chunks by hand",
        ask="""
            Write what `map_overlap` does as two loops. `ask(block)` answers for every pixel of a
            block (h, w), and mirrors where the block ends, as `predict_tiled` does. The net behind
            it sees `margin` pixels in each direction and pools in squares of `step` x `step`
            pixels. `chunk` is a multiple of `step`. The sides of the image (H, W) need not be
            multiples of `chunk`. What comes out must be the answer to the whole image, and `ask` may see only a
            chunk and what it needs of its neighbours. No dask, please.
        """,
        code=LOOPS,
        checker=check_in_chunks,
        hints=(
            "Which of the four panels above was empty, and which two rules made it so?",
            """
            Round the margin up to a multiple of `step`. Cut the block out with that much on each
            side, but not beyond the image, and remember at which row `y` the block begins. In
            the answer, the chunk begins `top - y` rows further down.
            """,
            """
            overlap = ...  # the next multiple of step
            found = np.empty(image.shape)
            for top in range(0, image.shape[0], chunk):
                for left in range(0, image.shape[1], chunk):
                    y, x = ...  # where the block begins: not before the image
                    answer = ask(image[y : ..., x : ...])
                    answer = answer[...]  # from where the chunk begins in it
                    place = found[top : top + chunk, left : left + chunk]
                    place[:] = answer[: place.shape[0], : place.shape[1]]
            return found
            """,
        ),
        wrong={
            "a block begins between two poolings: round 5 up to 8": instead(
                LOOPS, ("-(-margin // step) * step", "margin")
            ),
            "without its neighbours, a chunk is mirrored at its own border": instead(
                LOOPS, ("-(-margin // step) * step", "0")
            ),
            "a chunk needs its neighbours on *both* sides, also those behind it": instead(
                LOOPS, ("chunk + overlap", "chunk")
            ),
            "a block is empty: `top` minus the overlap is below 0 in the first row": instead(
                LOOPS,
                (
                    "max(top - overlap, 0), max(left - overlap, 0)",
                    "top - overlap, left - overlap",
                ),
            ),
            "the first chunks have no neighbour before them: cut nothing off there": instead(
                LOOPS, ("[top - y :, left - x :]", "[overlap:, overlap:]")
            ),
            "the answer begins with the neighbours above and on the left: cut them off": instead(
                LOOPS, ("[top - y :, left - x :]", "")
            ),
            "4 pixels are too few for a margin of 5: round up": instead(
                LOOPS, ("-(-margin // step) * step", "margin // step * step")
            ),
            "the answers are cut to whole numbers, of the type of the image": instead(
                LOOPS, ("np.empty(image.shape)", "np.empty_like(image)")
            ),
            "only the end is wrong, where less than a chunk is left": instead(
                LOOPS,
                (
                    "range(0, image.shape[0], chunk)",
                    "range(0, image.shape[0] - chunk, chunk)",
                ),
                ("np.empty(", "np.zeros("),
            ),
            "only the rim is wrong: where the image ends, `ask` mirrors by itself": """
                overlap = -(-margin // step) * step
                wide = np.pad(image, overlap)  # zeros
                found = np.empty(image.shape)
                for top in range(0, image.shape[0], chunk):
                    for left in range(0, image.shape[1], chunk):
                        ends = top + chunk + 2 * overlap, left + chunk + 2 * overlap
                        answer = ask(wide[top : ends[0], left : ends[1]])
                        place = found[top : top + chunk, left : left + chunk]
                        answer = answer[overlap:, overlap:]
                        place[:] = answer[: place.shape[0], : place.shape[1]]
                return found
            """,
            "a block of 45 x 70 pixels was asked about, for one chunk": """
                return ask(image)
            """,
        },
        why="""
            A slice that ends behind the image is cut off by numpy, and that is what we want. A
            slice that begins at -8 is not: it counts from the end.
        """,
    ),
    Task(
        number="22.2",
        title="A share for each process",
        ask="""
            Several processes train together. All of them know the same shuffled `order` of an
            epoch, a list of numbers of images. A step of all processes together takes the next
            `batch` images. Return what process `rank` (from 0) does in this epoch, as a list
            of its parts of the batches. Each step must learn from the very images that a single
            process would take. Batches can be shared evenly, and the last one is full.
        """,
        code='''
            def share(order, batch, rank, processes):
                """Return the part of each batch, a list, that belongs to one process."""
                # solution
                starts = range(0, len(order), batch)
                batches = [order[start : start + batch] for start in starts]
                return [images[rank::processes] for images in batches]
                # end
        ''',
        checker=check_share,
        hints=(
            "Which images are in the first step of one process that trains alone?",
            """
            Cut the order into batches first, as a single process does. Then deal each batch, as
            cards are dealt: every `processes`-th image. Process 0 begins with the first image of
            the batch, process 1 with the second.
            """,
            """
            starts = range(0, len(order), ...)
            batches = [order[...] for start in starts]
            return [images[...] for images in batches]
            """,
        ),
        wrong={
            "each process gets whole batches, so that a step counts its images twice": """
                starts = range(0, len(order), batch)
                return [order[start : start + batch] for start in starts]
            """,
            "both processes get the same images: `rank` is not used": """
                starts = range(0, len(order), batch)
                return [order[start : start + batch // processes] for start in starts]
            """,
            "step 0: one process alone takes [7, 2, 9, 4], yours take [7, 2, 5, 10]": """
                half = len(order) // processes  # a half of the epoch for each
                own = order[rank * half : (rank + 1) * half]
                size = batch // processes
                return [own[at : at + size] for at in range(0, len(own), size)]
            """,
            "12 images in batches of 4 are 3 steps, and process 0 takes 2": """
                own = order[rank::processes]
                return [own[at : at + batch] for at in range(0, len(own), batch)]
            """,
            "return a list of batches, each of them a list": """
                return order[rank::processes]
            """,
            "3 processes must get equally many images of a batch": """
                starts = range(0, len(order), batch)
                batches = [order[start : start + batch] for start in starts]
                own = slice(rank * processes, (rank + 1) * processes)
                return [images[own] for images in batches]
            """,
            "step 0 takes [7, 2, 2, 9]; each of [7, 2, 9, 4] is needed once": """
                size = batch // processes
                starts = range(rank, len(order), batch)
                return [order[start : start + size] for start in starts]
            """,
        },
        why="""
            `order[rank::processes]`, cut into parts of `batch // processes`, gives the same. The
            library deals so, too ([runs/distributed](workshop/runs/distributed.ipynb)).
        """,
    ),
    Task(
        number="22.3",
        title="Between two measurements",
        ask="""
            `channels` and `times` are two lists, as on the left of the figure above: a net with `channels[i]`
            channels at the top takes `times[i]`. What would another width cost? Interpolate on **logarithmic** axes, as the eye
            does in the figure, and refuse with a `ValueError` what is outside the measured widths.
        """,
        code='''
            def time_between(wanted, channels, times):
                """Return the time of a net with the wanted number of channels."""
                # solution
                if not min(channels) <= wanted <= max(channels):
                    raise ValueError(f"{wanted} channels; {channels} were measured")
                found = np.interp(np.log(wanted), np.log(channels), np.log(times))
                return np.exp(found)
                # end
        ''',
        checker=check_time_between,
        hints=(
            "What is the middle between 10 and 1,000 on a logarithmic axis?",
            """
            `np.interp` draws straight lines between points. Give it logarithms of everything, and
            take the exponential of what comes back. Beyond the ends `np.interp` does not complain:
            it repeats the last value.
            """,
            """
            if not ...:
                raise ValueError(...)
            found = np.interp(..., ..., np.log(times))
            return ...
            """,
        ),
        wrong={
            "on plain axes the curve between two points is no straight line: take "
            "logarithms": """
                return np.interp(wanted, channels, times)
            """,
            "the times are on a logarithmic axis, too": """
                return np.interp(np.log(wanted), np.log(channels), times)
            """,
            "that is the logarithm of the time": """
                return np.interp(np.log(wanted), np.log(channels), np.log(times))
            """,
            "that is one line through all points; the measured curve has a bend": """
                power, scale = np.polyfit(np.log(channels), np.log(times), 1)
                return np.exp(scale) * wanted**power
            """,
            "that assumes that time is proportional to the work of the widest net": """
                return times[-1] * (wanted / channels[-1]) ** 2
            """,
            "4 channels were measured, and are refused": """
                if not min(channels) < wanted < max(channels):
                    raise ValueError(f"{wanted} channels; {channels} were measured")
                found = np.interp(np.log(wanted), np.log(channels), np.log(times))
                return np.exp(found)
            """,
            "3 channels are outside what was measured: raise a ValueError": """
                found = np.interp(np.log(wanted), np.log(channels), np.log(times))
                return np.exp(found)
            """,
        },
        why="""
            With `channels` and `micro` of this notebook, 24 channels take 1.9 seconds per million
            pixels, and a terapixel takes 515 hours of a core.
        """,
    ),
]
