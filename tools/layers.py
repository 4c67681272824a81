"""The plan of the house: which module may import which, in one place.

A module imports from layers above its own in this list, and within its layer from what
is named before it. Road modules are flat in the package; those of the workshop live in
the packages `data`, `runs` and `deploy`. `python tests/house.py` prints the plan.
"""

LAYERS = {
    # `synthetic`, at the beginning of the road, draws with these parts; they need
    # nothing of ours, and are long: so they live in the workshop.
    "drawing": "data.drawing",
    # `model` inherits from `runs.transfer` how a net is changed for another task, and
    # `tiles` refuses with `data.asking` what cannot be answered.
    "paper": "show synthetic sizes blocks skips runs.transfer model data.asking tiles "
    "weight_map losses augment",
    # Writing a file whole and reading a net are needed by data and by learning.
    "files": "runs.files runs.memory runs.guards runs.devices runs.history "
    "runs.weights",
    "data": "data.images data.pairs data.check data.source data.datasets "
    "data.pipelines data.transforms data.tissue data.photo_changes data.photos "
    "data.loader data.crops data.far data.adapter data.slides data.inputs "
    "data.prepared data.outputs data.annotations data.download",
    "learning": "metrics train runs.peak gpu runs.notes predict",
    "runs": "runs.distributed runs.engine runs.checkpoint runs.owner runs.recipes "
    "runs.planner runs.tuning runs.report runs.results runs.summary runs.logbook "
    "runs.run runs.enough",
    "deploy": "deploy.folder deploy.live deploy.export deploy.package",
    "further": "scale",  # on the road; its notebook is in part IV
    "top": "road questions sliders doctor cli form tasks",
}
ORDER = [module for layer in LAYERS.values() for module in layer.split()]
WINGS = ("data", "runs", "deploy")  # the packages of the workshop
# They need packages of a group of requirements, so no other module imports them with
# itself.
OPTIONAL = ("data.pipelines", "data.transforms")
WING_TITLES = {
    "data": "Data",
    "runs": "Runs",
    "deploy": "Deployment",
    "top": "On top",
}
PARTS = {  # of the road: the first and the last number of each
    "I The paper": (0, 9),
    "II Learning": (10, 14),
    "III Experiments": (15, 20),
    "IV Further": (21, 24),
}
SERVES = {  # which notebook of the road leads to a wing, or to a single room
    "data": "10_data",
    "runs": "12_train",
    "deploy": "14_predict",
    "data.pipelines": "09_augment",
    "data.tissue": "09_augment",
    "data.photo_changes": "09_augment",
    "data.transforms": "09_augment",
    "data.slides": "14_predict",
    "data.adapter": "14_predict",
    "data.far": "14_predict",
    "data.inputs": "14_predict",
    "data.prepared": "14_predict",
    "runs.notes": "14_predict",
    "data.drawing": "01_synthetic",
    "data.asking": "06_tiles",
    "runs.distributed": "22_scale",
    "runs.devices": "13_gpu",
    "runs.peak": "13_gpu",
    "runs.memory": "21_speed",
    "runs.transfer": "05_model",
    "road": "index",
    "questions": "index",
    "sliders": "00_show",
    "runs.enough": "18_your_data",
    "doctor": "23_debugging",
    "cli": "24_command_line",
    "form": "18_your_data",
    "tasks": "02_sizes",
}


def wing(
    module,  # such as "data.images" or "model"
):  # str: "data", "runs", "deploy", "top", or "" for the road
    "The part of the workshop in which a module lives."
    if module in LAYERS["top"].split():
        return "top"
    return module.split(".")[0] if "." in module else ""


def served_by(
    module,  # of the workshop
):  # str, a notebook of the road
    "The notebook of the road that a room of the workshop serves."
    return SERVES.get(module) or SERVES[module.split(".")[0]]
