"""The U-Net paper as a course and a library; here are the names most people want.

Each is imported from its module when it is first asked for, so that importing the
package alone costs next to nothing and needs neither torch nor numpy.
"""

__version__ = "0.1.0"

_HOMES = {  # name -> the module that defines it
    "UNet": "model",
    "draw_cars": "synthetic",
    "draw_cells": "synthetic",
    "draw_membranes": "synthetic",
    "predict_tiled": "tiles",
    "fit": "train",
    "evaluate": "train",
    "Predictor": "predict",
    "open_source": "data.datasets",
    "check_pairs": "data.check",
    "save_net": "runs.weights",
    "load_net": "runs.weights",
    "train_run": "runs.run",
    "resume_run": "runs.run",
    "evaluate_run": "runs.run",
    "predict_files": "deploy.folder",
    "export_net": "deploy.export",
}

TYPE_CHECKING = False  # an editor and a type checker take it for true
if TYPE_CHECKING:
    from .data.check import check_pairs as check_pairs
    from .data.datasets import open_source as open_source
    from .deploy.export import export_net as export_net
    from .deploy.folder import predict_files as predict_files
    from .model import UNet as UNet
    from .predict import Predictor as Predictor
    from .runs.run import evaluate_run as evaluate_run
    from .runs.run import resume_run as resume_run
    from .runs.run import train_run as train_run
    from .runs.weights import load_net as load_net
    from .runs.weights import save_net as save_net
    from .synthetic import draw_cars as draw_cars
    from .synthetic import draw_cells as draw_cells
    from .synthetic import draw_membranes as draw_membranes
    from .tiles import predict_tiled as predict_tiled
    from .train import evaluate as evaluate
    from .train import fit as fit


def __getattr__(name: str) -> object:
    """Import a name of the list above from its module, and remember it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What there is, imported or not."""
    return sorted({*globals(), *_HOMES})
