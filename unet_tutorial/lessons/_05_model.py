"""The tasks of 05_model: the weights of one step up, and the way through the net."""

from unet_tutorial.skips import Up
from unet_tutorial.tasks import Task


def check_step_weights(step_weights):
    known = {
        3500: "the biases are missing, one per channel that comes out of a layer",
        2630: "the copied half is missing: the first convolution reads 2 C channels",
        4530: "the up-convolution has 2x2 windows, not 3x3",
        2930: "the up-convolution has a window of 4 weights per pair of channels",
        2720: "the up-convolution has parameters too, and they are missing",
        4430: "the second convolution reads C channels: the first halved them",
        3130: "the up-convolution reads all 2 C channels of the map below, not C",
        2620: "the second convolution is missing",
        3550: "one bias per channel that comes *out*: C in each of the three layers",
    }
    if step_weights(10) in known:
        return known[step_weights(10)]
    for channels in (1, 2, 10, 64, 512):
        right = sum(p.numel() for p in Up(2 * channels, channels).parameters())
        if step_weights(channels) != right:
            return (
                f"C = {channels}: {right:,} parameters, not {step_weights(channels):,}"
            )
    return None


def calls(through, depth):
    "What a net of steps that write down their calls makes of `x`."
    downs = [lambda x, i=i: f"d{i}({x})" for i in range(1, depth + 1)]
    ups = [lambda x, skip, i=i: f"u{i}({x}, {skip})" for i in range(1, depth + 1)]
    return through("x", downs, ups)


def right_calls(depth):
    "The same, as it should be."
    maps = ["x"]
    for i in range(1, depth + 1):
        maps.append(f"d{i}({maps[-1]})")
    result = maps.pop()
    for i in range(1, depth + 1):
        result = f"u{i}({result}, {maps.pop()})"
    return result


def check_through(through):
    known = {
        "d2(d1(x))": "the steps up are missing",
        "u2(u1(d2(d1(x)), x), d1(x))": (
            "the skips come in the wrong order: the deepest step up takes the last map kept"
        ),
        "u2(u1(d2(d1(x)), d2(d1(x))), d1(x))": (
            "the bottom becomes its own skip: a skip is the map *before* a step down"
        ),
        "u2(u1(x, d2(d1(x))), d1(x))": (
            "the way up begins with `x`: it begins with what comes from the bottom"
        ),
        "u2(d2(d1(x)), x)": (
            "each step up gets the bottom: it must get what the step before it made"
        ),
        "u2(x, u1(d1(x), d2(d1(x))))": (
            "a step up is called as `up(x, skip)`: what comes from below is first"
        ),
        "u1(u2(d2(d1(x)), d1(x)), x)": (
            "the steps up run in the wrong order: the first of `ups` runs first"
        ),
        "u2(u1(d2(x), x), x)": "each step down gets `x`: it must get the map before it",
        "u2(u1(d2(d1(x)), d1(x)), d1(x))": (
            "all steps up get one skip: each has a level of its own"
        ),
    }
    if calls(through, 2) in known:
        return known[calls(through, 2)]
    for depth in (1, 2, 0, 3, 4):
        result, right = calls(through, depth), right_calls(depth)
        if result != right:
            steps = {0: "no steps", 1: "one step each way"}
            steps = steps.get(depth, f"{depth} steps each way")
            return f"{steps}: {right}, and yours is {result}"
    return None


TASKS = [
    Task(
        number="5.1",
        title="The parameters of one step up",
        ask="""
            One step of the expansive path gives C channels. It reads a map of 2 C channels from
            below, and its skip has C. How many parameters do its layers have: the up-convolution
            2x2 and two convolutions 3x3, all with biases? Only numbers, no torch;
            `step_weights(512)` is the bar `4 up` of the figure, 9.18 million.
        """,
        code='''
            def step_weights(channels):
                """Count the parameters of a step up that gives this many channels."""
                # solution
                up = 2 * channels * channels * 4 + channels
                first = 2 * channels * channels * 9 + channels  # half of it reads copies
                second = channels * channels * 9 + channels
                return up + first + second
                # end
        ''',
        checker=check_step_weights,
        hints=(
            "How many channels does each of the three layers read, and how many does it give?",
            """
            A layer has one window per pair of channels, in and out, and one bias per channel that
            it gives. The up-convolution reads 2 C. The first convolution reads the C that the
            up-convolution gives, and C copied ones; the second reads C.
            """,
            """
            up = 2 * channels * channels * ... + ...
            first = ... * channels * 9 + ...
            second = ...
            return up + first + second
            """,
        ),
        wrong={
            "the biases are missing, one per channel that comes out of a layer": """
                return (8 + 18 + 9) * channels**2
            """,
            "the copied half is missing: the first convolution reads 2 C channels": """
                up = 2 * channels * channels * 4 + channels
                first = second = channels * channels * 9 + channels
                return up + first + second
            """,
            "the up-convolution has 2x2 windows, not 3x3": """
                up = first = 2 * channels * channels * 9 + channels
                second = channels * channels * 9 + channels
                return up + first + second
            """,
            "the up-convolution has a window of 4 weights per pair of channels": """
                up = 2 * channels * channels + channels  # windows do not overlap
                first = 2 * channels * channels * 9 + channels
                second = channels * channels * 9 + channels
                return up + first + second
            """,
            "the up-convolution has parameters too, and they are missing": """
                first = 2 * channels * channels * 9 + channels
                second = channels * channels * 9 + channels
                return first + second
            """,
            "the up-convolution reads all 2 C channels of the map below, not C": """
                up = channels * channels * 4 + channels
                first = 2 * channels * channels * 9 + channels
                second = channels * channels * 9 + channels
                return up + first + second
            """,
            "the second convolution reads C channels: the first halved them": """
                up = 2 * channels * channels * 4 + channels
                first = second = 2 * channels * channels * 9 + channels
                return up + first + second
            """,
        },
        why="""
            35 C² + 3 C. More than half is in the convolution that reads the copies.
        """,
    ),
    Task(
        number="5.2",
        title="The way through the net",
        ask="""
            `downs` is a list of steps down, `ups` a list of as many steps up; both are in the order in
            which the steps run. `down(x)` halves the size, `up(x, skip)` doubles it, crops the skip, and
            joins the two. Write the calls in the right order, with a loop or without. The checker's steps
            are no real layers: they only note what they are called with.
        """,
        code='''
            def through(x, downs, ups):
                """Send the map of the top level down to the bottom and up again."""
                # solution
                if not downs:
                    return x  # the bottom
                below = through(downs[0](x), downs[1:], ups[:-1])
                return ups[-1](below, x)
                # end
        ''',
        checker=check_through,
        hints=(
            "Which of the maps does the first step up need, and which one the last?",
            """
            With a loop: keep each map *before* its step down, and take the kept maps from the end.
            Without a loop: between the first step down and the last step up there is a smaller net.
            """,
            """
            if not downs:
                return ...  # the bottom
            below = through(..., downs[1:], ups[:-1])
            return ups[-1](..., ...)
            """,
        ),
        wrong={
            "the skips come in the wrong order: the deepest step up takes the last map kept": """
                maps = []
                for down in downs:
                    maps.append(x)
                    x = down(x)
                for up, skip in zip(ups, maps):
                    x = up(x, skip)
                return x
            """,
            "the bottom becomes its own skip: a skip is the map *before* a step down": """
                maps = []
                for down in downs:
                    x = down(x)
                    maps.append(x)
                for up in ups:
                    x = up(x, maps.pop())
                return x
            """,
            "the way up begins with `x`: it begins with what comes from the bottom": """
                maps = [x]
                for down in downs:
                    maps.append(down(maps[-1]))
                for up in ups:
                    x = up(x, maps.pop())
                return x
            """,
            "each step up gets the bottom: it must get what the step before it made": """
                maps = [x]
                for down in downs:
                    maps.append(down(maps[-1]))
                bottom = maps.pop()
                for up in ups:
                    x = up(bottom, maps.pop())
                return x
            """,
            "a step up is called as `up(x, skip)`: what comes from below is first": """
                maps = [x]
                for down in downs:
                    maps.append(down(maps[-1]))
                x = maps.pop()
                for up in ups:
                    x = up(maps.pop(), x)
                return x
            """,
            "the steps up run in the wrong order: the first of `ups` runs first": """
                if not downs:
                    return x
                below = through(downs[0](x), downs[1:], ups[1:])
                return ups[0](below, x)
            """,
            "all steps up get one skip: each has a level of its own": """
                for down in downs:
                    skip, x = x, down(x)
                for up in ups:
                    x = up(x, skip)
                return x
            """,
            "the steps up are missing": """
                for down in downs:
                    x = down(x)
                return x
            """,
        },
        why="""
            A U-Net is a step down, a smaller U-Net, and a step up; notebook 02 computed its margin in
            the same way. `UNet` does it with a loop and a list of maps.
        """,
    ),
]
