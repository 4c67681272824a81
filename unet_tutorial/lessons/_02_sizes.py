"""The tasks of 02_sizes: what comes out of a net, and which tile goes in."""

from unet_tutorial.lessons import names_in
from unet_tutorial.sizes import output_size, valid_sizes
from unet_tutorial.tasks import Task

# (walk(188, 1), walk(188, 2)) -> what is wrong; the right walk gives (172, 148)
WALKS = {
    (84, 32): "the up-convolution is missing: on the way up the size doubles first",
    (88, 40): "the way up is missing: after the bottom, go up as often as down",
    (88, 76): "one step up is missing: go up as often as you went down",
    (364, 340): "one step down is missing: go down once per pooling",
    (360, 708): "`size - 4 // 2` is `size - 2`: the parentheses matter",
    (176, 168): "4 pixels per block, and the size is never halved or doubled",
    (176, 160): "the way down or the way up has no convolutions",
    (180, 172): "only the bottom has convolutions: each level has two, down and up",
    (168, 136): "down or up, your steps are in another order than those of Figure 1",
    (164, 124): "down and up, your steps are in another order than those of Figure 1",
}
OF_SIZES = ("output_size", "crop_margins", "_margin", "receptive_field", "_interval")


def check_walk(walk):
    for name in OF_SIZES:
        if name in names_in(walk):
            return f"`{name}` has walked for you: here each step is your own"
    result = walk(572, 4)
    if isinstance(result, float):
        return f"walk(572, 4) is {result}, and no map has half a pixel: halve with `//`"
    none = walk(572, 0)
    flat = {
        388: "walk(572, 0) is still 388: `depth` is not used",
        570: "two convolutions take 4 pixels away; one of them is missing",
        572: "a net without pooling is two convolutions; at the bottom yours has none",
    }
    if none in flat:
        return flat[none]
    if none in (280, 284):
        return f"walk(572, 0) is {none}: one halving too many"
    if none in (1132, 1136):
        return f"walk(572, 0) is {none}: one doubling too many"
    shallow = walk(188, 1), walk(188, 2)
    if shallow in WALKS:
        return WALKS[shallow]
    for depth in range(6):
        for size in valid_sizes(700, 188, depth)[:9]:
            result, right = walk(size, depth), output_size(size, depth)
            if result != right:
                return f"walk({size}, {depth}) is {result}, and the net gives {right}"
    return None


def check_smallest_tile(smallest_tile):
    if isinstance(smallest_tile(512), tuple | list):
        return "return one number, not a pair"
    known = {
        524: "a tile of 524 pixels gives only 340: add the 184 that the net loses",
        604: "a tile of 604 pixels gives only 420: the net loses 92 on *each* side",
        684: "a tile of 684 pixels gives 500, less than 512: round up, not down",
        696: "696 is no valid size: it is what is needed, but not a multiple of 16, less 4",
        704: "704 is a multiple of 16; valid sizes are 4 pixels less than that",
        516: "516 is the size of the output; the question is which tile gives it",
    }
    if smallest_tile(512) in known:
        return known[smallest_tile(512)]
    if smallest_tile(388) == 588:
        return "572 pixels give 388 exactly, and you take the next size, 588"
    only = {
        (186, 186): "`184` is the margin at depth 4 only",
        (12, 28): "`16` is the step at depth 4 only: valid sizes depend on the depth",
        (188, 188): "`depth` is not used: 184 and 16 belong to depth 4 only",
    }
    shallow = smallest_tile(2, 0), smallest_tile(2, 1)
    if shallow in only:
        return only[shallow]
    for depth in range(6):
        for output in range(2, 90):
            tile, valid = smallest_tile(output, depth), valid_sizes(999, depth=depth)
            best = next(size for size in valid if output_size(size, depth) >= output)
            if tile != best:
                return f"depth {depth}: for {output} pixels take {best}, not {tile}"
    return None


TASKS = [
    Task(
        number="2.1",
        title="The walk through the net",
        ask="""
            Write down what happens to the size of a map in a net with `depth` poolings, step by
            step: down, the bottom, and up again, without the functions above. `walk(572, 4)` must be
            388. The checker tries valid sizes only.
        """,
        code='''
            def walk(size, depth=4):
                """Return the size of the output along one axis."""
                # solution
                for _ in range(depth):
                    size = (size - 4) // 2  # two convolutions, then the pooling
                size = size - 4  # the bottom
                for _ in range(depth):
                    size = 2 * size - 4  # the up-convolution, then two convolutions
                return size
                # end
        ''',
        checker=check_walk,
        hints=(
            "Which three operations change the size, and what does each do to a number?",
            """
            A level on the way down takes 4 and halves. A level on the way up doubles and takes 4.
            Between them, at the bottom, there are two convolutions more.
            """,
            """
            for _ in range(depth):
                size = ...  # two convolutions, then the pooling
            size = ...  # the bottom
            for _ in range(depth):
                size = ...  # the up-convolution, then two convolutions
            return size
            """,
        ),
        wrong={
            "the up-convolution is missing: on the way up the size doubles first": """
                for _ in range(depth):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth):
                    size = size - 4
                return size
            """,
            "walk(572, 4) is 388.0, and no map has half a pixel: halve with `//`": """
                for _ in range(depth):
                    size = (size - 4) / 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * size - 4
                return size
            """,
            "a net without pooling is two convolutions; at the bottom yours has none": """
                for _ in range(depth):
                    size = (size - 4) // 2
                for _ in range(depth):
                    size = 2 * size - 4
                return size
            """,
            "two convolutions take 4 pixels away; one of them is missing": """
                for _ in range(depth):
                    size = (size - 2) // 2
                size = size - 2
                for _ in range(depth):
                    size = 2 * size - 2
                return size
            """,
            "down or up, your steps are in another order than those of Figure 1": """
                for _ in range(depth):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * (size - 4)
                return size
            """,
            "down and up, your steps are in another order than those of Figure 1": """
                for _ in range(depth):
                    size = size // 2 - 4
                size = size - 4
                for _ in range(depth):
                    size = 2 * (size - 4)
                return size
            """,
            "walk(572, 0) is 280: one halving too many": """
                for _ in range(depth + 1):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * size - 4
                return size
            """,
            "walk(572, 0) is 284: one halving too many": """
                for _ in range(depth + 1):
                    size = (size - 4) // 2
                for _ in range(depth):
                    size = 2 * size - 4
                return size
            """,
            "walk(572, 0) is 1132: one doubling too many": """
                for _ in range(depth):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth + 1):
                    size = 2 * size - 4
                return size
            """,
            "one step up is missing: go up as often as you went down": """
                for _ in range(depth):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth - 1):
                    size = 2 * size - 4
                return size
            """,
            "one step down is missing: go down once per pooling": """
                for _ in range(depth - 1):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * size - 4
                return size
            """,
            "`size - 4 // 2` is `size - 2`: the parentheses matter": """
                for _ in range(depth):
                    size = size - 4 // 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * size - 4
                return size
            """,
            "4 pixels per block, and the size is never halved or doubled": """
                for _ in range(depth):
                    size = size - 4
                size = size - 4
                for _ in range(depth):
                    size = size - 4
                return size
            """,
            "the way down or the way up has no convolutions": """
                for _ in range(depth):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * size
                return size
            """,
            "only the bottom has convolutions: each level has two, down and up": """
                for _ in range(depth):
                    size = size // 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * size
                return size
            """,
            "`output_size` has walked for you: here each step is your own": """
                return output_size(size, depth)
            """,
            "walk(572, 0) is still 388: `depth` is not used": """
                for _ in range(4):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(4):
                    size = 2 * size - 4
                return size
            """,
            "the way up is missing: after the bottom, go up as often as down": """
                for _ in range(depth):
                    size = (size - 4) // 2
                return size - 4
            """,
            "walk(188, 1) is 171, and the net gives 172": """
                for _ in range(depth):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * size - 1 - 4
                return size
            """,
            "walk returns nothing: `return` is missing": """
                for _ in range(depth):
                    size = (size - 4) // 2
                size = size - 4
                for _ in range(depth):
                    size = 2 * size - 4
            """,
        },
        why="The parentheses matter: the convolutions come before the pooling.",
    ),
    Task(
        number="2.2",
        title="A tile for the output",
        ask="""
            A slice of the paper's data has 512 x 512 pixels. Which is the smallest valid tile whose
            output covers it? Write the function that answers this for any output and depth. All the
            functions and formulas above are allowed.
        """,
        code='''
            def smallest_tile(output, depth=4):
                """Return the smallest valid tile with an output of at least this size."""
                # solution
                step = 2**depth
                needed = output + 12 * step - 8  # with the margin
                return needed + (-4 - needed) % step  # the next multiple of step, less 4
                # end
        ''',
        checker=check_smallest_tile,
        hints=(
            """
            Two things make the tile larger than the output: what the net loses, and the step from one
            valid size to the next.
            """,
            """
            Add the margin: 184 at depth 4, `12 * 2**depth - 8` in general. If the sum is not a valid
            size, take the next one. Valid sizes are multiples of `2**depth`, less 4.
            """,
            """
            step = 2**depth
            needed = output + ...  # the margin
            return needed + (...) % step  # how far is it to the next valid size?
            """,
        ),
        wrong={
            "a tile of 524 pixels gives only 340: add the 184 that the net loses": """
                step = 2**depth
                return output + (-4 - output) % step
            """,
            "a tile of 604 pixels gives only 420: the net loses 92 on *each* side": """
                step = 2**depth
                needed = output + 6 * step - 4
                return needed + (-4 - needed) % step
            """,
            "a tile of 684 pixels gives 500, less than 512: round up, not down": """
                step = 2**depth
                needed = output + 12 * step - 8
                return needed - (needed + 4) % step
            """,
            "696 is no valid size: it is what is needed, but not a multiple of 16, less 4": """
                return output + 12 * 2**depth - 8
            """,
            "704 is a multiple of 16; valid sizes are 4 pixels less than that": """
                step = 2**depth
                needed = output + 12 * step - 8
                return needed + -needed % step
            """,
            "572 pixels give 388 exactly, and you take the next size, 588": """
                step = 2**depth
                needed = output + 12 * step - 8
                return needed + step - (needed + 4) % step
            """,
            "516 is the size of the output; the question is which tile gives it": """
                step = 2**depth
                needed = output + 12 * step - 8
                return needed + (-4 - needed) % step - (12 * step - 8)
            """,
            "`depth` is not used: 184 and 16 belong to depth 4 only": """
                needed = output + 184
                return needed + (-4 - needed) % 16
            """,
            "`184` is the margin at depth 4 only": """
                needed = output + 184
                return needed + (-4 - needed) % 2**depth
            """,
            "`16` is the step at depth 4 only: valid sizes depend on the depth": """
                needed = output + 12 * 2**depth - 8
                return needed + (-4 - needed) % 16
            """,
            "return one number, not a pair": """
                return nearest_valid_sizes(output + 12 * 2**depth - 8, depth)
            """,
            "depth 0: for 2 pixels take 6, not 7": """
                step = 2**depth
                needed = output + 12 * step - 8
                return needed + (-4 - needed) % step + (depth == 0)
            """,
        },
        why="`smallest_tile(512)` is 700, and its output has 516 pixels.",
    ),
]
