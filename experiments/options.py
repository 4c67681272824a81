"""The options that every experiment has: data, results, runs, device, seed."""

import argparse
import os
from pathlib import Path

from rows import ROOT


def parser_of(
    doc,  # of the script; its first line is shown
):  # argparse.ArgumentParser
    "A parser of what all experiments are told."
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("UNET_DATA", "")
    parser.add_argument("--data", default=data, help="folder; default: UNET_DATA")
    text = "where the tables go, results/ of the repository if nothing else is said"
    parser.add_argument("--out", type=Path, default=ROOT / "results", help=text)
    text = "where trainings are kept, so that they can go on"
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help=text)
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    return parser


def read(
    parser,  # from parser_of
):  # argparse.Namespace
    "What was said on the command line; without data there is nothing to do."
    options = parser.parse_args()
    if not options.data:
        text = "DATA=folder for make, --data folder here, or the variable UNET_DATA"
        parser.error(f"where are the data? {text} (unet-tutorial get fetches them)")
    return options
