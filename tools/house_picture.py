"""The picture of the house, site/house.png: the road in its parts, the workshop below.

Drawn by `make links` from tools/layers.py and the notebooks there are, and only when
one of its words has changed: the words stand in the PNG itself, under the key `Words`.
"""

import layers
from notebooks import is_workshop, number, reading_order

WIDTH = 7.0  # inches; 100 pixels an inch in the README, drawn with 200
STEP = 0.165  # inches from name to name
TITLE = 0.45  # inches of a box above its names
LABEL = 0.34  # inches over a row of boxes
ROAD, SHOP = "#0072B2", "#B35900"  # blue, orange-brown
PALE = {ROAD: "#E3F0F8", SHOP: "#FBEEDF"}


def columns(
    folder,  # of the notebooks
):  # list of (title, list of names) for the road, and one for the workshop
    "What the picture says."
    stems = [path.stem for path in reading_order(folder) if not is_workshop(path)]
    road = []
    for title, (first, last) in layers.PARTS.items():
        names = [stem for stem in stems if first <= number(stem) <= last]
        road.append((title, [name.replace("_", " ") for name in names]))
    shop = []
    for wing, title in layers.WING_TITLES.items():
        modules = [name for name in layers.ORDER if layers.wing(name) == wing]
        shop.append((title, [name.split(".")[-1] for name in modules]))
    return road, shop


def words(
    folder,  # of the notebooks
):  # str
    "Every word of the picture, to see whether it is current."
    return "\n".join(
        f"{title}: {', '.join(names)}"
        for group in columns(folder)
        for title, names in group
    )


def drawn_words(
    path,  # of the picture
):  # str, "" where there is no picture
    "The words of the picture as it was drawn."
    from PIL import Image

    if not path.exists():
        return ""
    with Image.open(path) as image:
        return image.info.get("Words", "")


def draw(
    folder,  # of the notebooks
    path,  # of the picture
):
    "Draw the house."
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image, PngImagePlugin

    road, shop = columns(folder)
    stops = max(len(names) for _, names in road)  # one column of names in a box
    rooms = max(-(-len(names) // 2) for _, names in shop)  # two
    height = 2 * (LABEL + TITLE) + STEP * (stops + rooms) + 0.1
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, height)
    axes.axis("off")
    top = height - LABEL
    row(axes, road, top, stops, colour=ROAD, label="The road: read in order")
    top -= TITLE + STEP * stops + LABEL
    label = "The workshop: visit when you need it"
    row(axes, shop, top, rooms, colour=SHOP, label=label)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, dpi=200)
    image = Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    info = PngImagePlugin.PngInfo()
    info.add_text("Words", words(folder))
    path.parent.mkdir(exist_ok=True)
    image.save(path, pnginfo=info, optimize=True)


def row(
    axes,  # of matplotlib, in inches
    boxes,  # list of (title, names)
    top,  # of the boxes
    lines,  # of names in a column
    colour,  # of edges and titles
    label,  # over the boxes
):
    "A row of boxes with names in them."
    from matplotlib.patches import FancyBboxPatch

    margin, gap, height = 0.12, 0.12, TITLE + STEP * lines
    width = (WIDTH - 2 * margin - gap * (len(boxes) - 1)) / len(boxes)
    axes.text(margin, top + 0.07, label, size=10, weight="bold", color=colour)
    for at, (title, names) in enumerate(boxes):
        left = margin + at * (width + gap)
        axes.add_patch(
            FancyBboxPatch(
                (left, top - height),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=PALE[colour],
                edgecolor=colour,
            )
        )
        axes.text(left + 0.09, top - 0.2, title, size=9, weight="bold", color="#222222")
        place_names(axes, names, left + 0.09, top - 0.42, width, lines)
        if colour == ROAD and at + 1 < len(boxes):
            middle = top - 0.16
            axes.annotate(
                "",
                (left + width + gap + 0.02, middle),
                (left + width - 0.02, middle),
                arrowprops={"arrowstyle": "-|>", "color": colour},
            )


def place_names(
    axes,  # of matplotlib, in inches
    names,  # list of str
    left,  # of the text
    top,  # of the first line
    width,  # of the box
    lines,  # of names in a column
):
    "Names below each other, in a second column where the first is full."
    for at, name in enumerate(names):
        column, line = divmod(at, lines)
        x = left + column * (width - 0.1) / 2
        axes.text(x, top - line * STEP, name, size=8.5, color="#222222")
