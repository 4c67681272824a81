"""Put the net that ships on a page: ONNX in a browser, no server, nothing sent.

    python tools/web.py FOLDER

writes into FOLDER all that the page needs: net.onnx and net.json (written by this
library), three drawn examples, the runtime of onnxruntime-web (see tools/vendor.py),
the scripts of site/net, and index.html, the page by itself.
`python -m http.server -d FOLDER` serves it.
"""

import json
import shutil
import sys
from pathlib import Path

import vendor
from notebooks import ROOT
from PIL import Image

from unet_tutorial.deploy.export import export_net
from unet_tutorial.runs.weights import find_net, load_net
from unet_tutorial.synthetic import draw_membranes
from unet_tutorial.tiles import tile_rules

HERE = ROOT / "site" / "net"
RUNTIME = "onnxruntime-web-1.23.2"
SCRIPTS = ("net.js", "worker.js", "net.css")
NET = "membranes"
SMALL, LARGE = 384, 256  # about the sides of the output tile of images up to it, others
EXAMPLES = ((384, 2001), (300, 2002), (512, 2003))  # side, seed: not seen in training
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A U-Net on a page</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="net.css"></head>
<body><main><h1>A U-Net on a page</h1>
{body}</main><script src="net.js"></script></body></html>
"""


def facts(
    model,  # UNet without padding
):  # dict, as worker.js reads it
    "What must be known to place tiles."
    if model.in_channels != 1 or model.num_classes != 2 or model.padding:
        raise ValueError("the page asks an unpadded net of one channel, two classes")
    rules = tile_rules(model)

    def tile(side):  # of the output; rounded up to one that the net has
        return rules.near(side + 2 * rules.margin)[1] - 2 * rules.margin

    return {
        "classes": model.num_classes,
        "margin": rules.margin,
        "step": rules.step,
        "small": tile(SMALL),
        "tile": tile(LARGE),
    }


def assemble(
    folder,  # where all files of the page go; made if it is not there
):
    "Write everything that the page fetches."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model, _ = load_net(find_net(NET))
    export_net(NET, folder / "net.onnx", overwrite=True)
    (folder / "net.json").write_text(json.dumps(facts(model)), encoding="utf-8")
    for number, (side, seed) in enumerate(EXAMPLES, start=1):
        image, _ = draw_membranes(size=side, seed=seed)
        Image.fromarray(image).save(folder / f"example_{number}.png")
    for file in [*vendor.files(RUNTIME), *(HERE / name for name in SCRIPTS)]:
        shutil.copy(file, folder)


def body(
    folder="",  # address of the folder of assemble, as seen from the page
):  # str, HTML
    "The part of the page that is the net."
    text = (HERE / "body.html").read_text(encoding="utf-8")
    return text.replace('data-folder=""', f'data-folder="{folder}"')


def markdown():  # str, for the website, which has the files in _static/net
    "The page as a text of the website."
    text = (HERE / "page.md").read_text(encoding="utf-8")
    return text.replace("{body}", body("_static/net/"))


def write_page(
    folder,  # made if it is not there
):
    "Write the page by itself."
    assemble(folder)
    page = PAGE.format(body=body("./"))
    (Path(folder) / "index.html").write_text(page, encoding="utf-8")


def main():
    "Read the command line."
    (name,) = sys.argv[1:]
    write_page(name)
    print(f"python -m http.server -d {name}")


if __name__ == "__main__":
    main()
