"""How often does prediction warn of an image, and how often should it?

    python benchmarks/far.py
    python benchmarks/far.py --data ../shared/data --to results/far.csv

Of each kind of image some are learned from, with `measure_learned`, as `train_run`
does; others of the same kind are held out. As they are, each alarm is a false one.
Changed (inverted, with a quarter of the light, at half and at twice the scale, with
other grey values or colours), the alarm is wanted. The truth stands for the answer of
the net. Both ways to standardise are asked: each image by itself ("image"), all alike
("set"). Nothing is written without --to.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from unet_tutorial.data.datasets import open_source
from unet_tutorial.data.far import measure_learned, remarks
from unet_tutorial.data.source import Item, Source
from unet_tutorial.synthetic import draw_cars, draw_cells, draw_membranes

SIZE = (160, 240)  # of cars, as `train --kind carvana` takes them


def drawn(count, seed=0):
    "Yield the kinds that need no data: name, and pairs of image and labels."
    seeds = range(seed, seed + count)
    yield "drawn cells", [draw_cells(size=256, seed=n) for n in seeds]
    yield "drawn membranes", [draw_membranes(size=256, seed=n) for n in seeds]
    yield "drawn cars", [draw_cars(n % 16, SIZE, seed=n) for n in seeds]


def real(folder, count):
    "Yield the kinds for which there are data."
    known = ("isbi", "isbi2012", None), ("ctc", "DIC-C2DH-HeLa", None)
    for kind, name, size in (*known, ("carvana", "carvana", SIZE)):
        if (Path(folder) / name).is_dir():
            source = open_source(kind, Path(folder) / name)
            few = np.linspace(0, len(source) - 1, min(len(source), count)).astype(int)
            pairs = [
                (source.image(i, size), source.labels(i, size)) for i in few.tolist()
            ]
            yield name, pairs


def as_source(pairs):
    "Return a Source of images and labels in memory."
    items = [Item(Path("-"), Path("-"), str(n), n) for n in range(len(pairs))]
    return Source(
        name="pairs",
        items=items,
        classes=("background", "object"),
        read_truth=lambda item, size: (pairs[item.page][1] > 0).astype(np.uint8),
        read_pixels=lambda item, size: pairs[item.page][0],
        channels=3 if pairs[0][0].ndim == 3 else 1,
    )


def halved(x, how):
    "As through a lens of half the magnification; what is missing is mirrored."
    wide = np.concatenate([np.concatenate([x, x[:, ::-1]], 1)] * 2)
    wide[len(x) :] = wide[len(x) :][::-1]
    return np.asarray(Image.fromarray(wide).resize(x.shape[1::-1], how))


def doubled(x, how):
    "The middle, at twice the magnification."
    height, width = x.shape[:2]
    middle = x[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    return np.asarray(Image.fromarray(middle).resize((width, height), how))


def stained(x):
    "Other grey values, or colours exchanged and one of them weaker."
    if x.ndim == 2:
        return (255 * (x / 255) ** 2.5).astype(np.uint8)
    return np.stack([x[..., 2], x[..., 0], (0.6 * x[..., 1]).astype(np.uint8)], -1)


def changed(image, labels):
    "Yield name, image, labels: as it is, and clearly far."
    labels = (labels > 0).astype(np.uint8)
    yield "as it is", image, labels
    yield "inverted", 255 - image, labels
    yield "a quarter of the light", image // 4, labels
    box, near = Image.Resampling.BOX, Image.Resampling.NEAREST
    yield "half the scale", halved(image, box), halved(labels, near)
    line = Image.Resampling.BILINEAR
    yield "twice the scale", doubled(image, line), doubled(labels, near)
    yield "other stain", stained(image), labels


def alarms(pairs, learn, rounds=3, seed=0):
    "Count alarms on what is held out: (change, rule) -> alarms, images, kinds."
    counts, rng = {}, np.random.default_rng(seed)
    for _ in range(rounds):
        order = rng.permutation(len(pairs))
        learned = measure_learned(as_source([pairs[i] for i in order[:learn]]))
        for i in order[learn:]:
            for name, image, labels in changed(*pairs[i]):
                for rule in ("image", "set"):
                    said = remarks(learned, image, labels, fixed=rule == "set")
                    row = counts.setdefault((name, rule), [0, 0, {}])
                    row[0] += bool(said)
                    row[1] += 1
                    for one in said:
                        row[2][one.kind] = row[2].get(one.kind, 0) + 1
    return counts


def rows(kinds, learn, rounds):
    "Yield a row per kind, change and rule."
    for kind, pairs in kinds:
        few = min(learn, len(pairs) * 2 // 3)
        for (change, rule), (hits, total, why) in alarms(pairs, few, rounds).items():
            often = sorted(why, key=why.get, reverse=True)[:3]
            yield {
                "kind": kind,
                "learned from": few,
                "change": change,
                "normalisation": rule,
                "alarms": hits,
                "of": total,
                "by": " ".join(often),
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="the folder of real data")
    parser.add_argument("--count", type=int, default=36, help="images of each kind")
    parser.add_argument(
        "--learn", type=int, default=12, help="of which are learned from"
    )
    parser.add_argument("--rounds", type=int, default=3, help="with other ones each")
    parser.add_argument("--to", help="a CSV file to write")
    args = parser.parse_args()
    kinds = [*drawn(args.count), *(real(args.data, args.count) if args.data else ())]
    found = []
    for row in rows(kinds, args.learn, args.rounds):
        found.append(row)
        text = f"{row['kind']:16} {row['change']:23} {row['normalisation']:6}"
        print(f"{text} {row['alarms']:4} of {row['of']:4}  {row['by']}", flush=True)
    false = [row for row in found if row["change"] == "as it is"]
    print(
        "false alarms:",
        sum(r["alarms"] for r in false),
        "of",
        sum(r["of"] for r in false),
    )
    if args.to:
        with open(args.to, "w", newline="") as file:
            writer = csv.DictWriter(file, found[0])
            writer.writeheader()
            writer.writerows(found)


if __name__ == "__main__":
    main()
