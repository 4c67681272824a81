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


def __getattr__(name):
    """Import a name of the list above from its module, and remember it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    """What there is, imported or not."""
    return sorted({*globals(), *_HOMES})
