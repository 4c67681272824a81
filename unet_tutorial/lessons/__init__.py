"""The tasks of the course, one file per notebook; `unet_tutorial.tasks` opens them."""


def instead(code, *changes):
    "The solution in a code, with mistakes: pairs of what is right and what is written."
    lines = code.split("# solution\n")[1].split("    # end")[0]
    for right, written in changes:
        if right not in lines:
            raise ValueError(f"{right!r} is not in the solution")
        lines = lines.replace(right, written)
    return lines
