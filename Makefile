# make            this list of targets
# VENV=dir        another virtual environment; clones can share one
# PYTHON=python3  the Python that makes it
# NB="05_model"   for course, outputs, times and colab: these notebooks instead of all
# JOBS=1          for course and outputs: so many at a time, instead of one per core
# NET="runs/cars" for app: the folder of a run, or a .safetensors file
# DATA=dir        for results: the folder of the real data (or UNET_DATA)
# ARGS="..."      for results: more options, such as "--device cuda --out mine --runs mine";
#                 for bench "--isa native --what sides", for gpu "--device cpu --small",
#                 for atlas "lowest"
# CHROMIUM=file   for test: another browser of this kind than the system's
# COLAB_VENV=dir  another environment for make colab; COLAB_PYTHON=its Python 3.13

VENV ?= .venv
PYTHON ?= python3
NB ?=
JOBS ?=
NET ?=
DATA ?= $(UNET_DATA)
ARGS ?=
COLAB_VENV ?= .venv-colab
COLAB_PYTHON ?=

# Each clone runs its own code, also in a shared environment.
export PYTHONPATH := $(CURDIR)

PY = "$(VENV)/bin/python"

.DEFAULT_GOAL := help
.PHONY: help setup course app lab site browser test colab export outputs times tasks form links gpu bench faults atlas package clean
.PHONY: results results-15 results-16 results-17 results-19 results-20

help: ## print this list
	@echo "The course on U-Net. Targets (each one sets up what it needs):"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: ## make the virtual environment and install the course into it
	@command -v "$(PYTHON)" >/dev/null || \
	  { echo "setup: no $(PYTHON) here. Install Python, or: make PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" tools/environment.py "$(VENV)"

course: setup ## execute every notebook into build/course; ends with a picture of masks
	@$(PY) tools/course.py run $(NB) $(if $(JOBS),--jobs $(JOBS))

app: setup ## serve a page: drop an image, see its mask; NET="runs/cars" names a net
	@$(PY) tools/serve.py $(if $(NET),"$(NET)")

lab: setup ## open the notebooks in JupyterLab
	@$(PY) tools/course.py lab

site: setup ## the course as a website in build/site, with search and an API page per module
	@$(PY) tools/environment.py "$(VENV)" site
	@$(PY) tools/website.py

browser: setup ## get what make test needs to open the website as a reader does
	@$(PY) tools/environment.py "$(VENV)" site browser app
	@$(PY) tools/browser.py

test: setup ## all checks: style, notebooks and library in sync, pytest, outputs
	@$(PY) tools/check.py

colab: setup ## run the notebooks with Colab's versions, each from an empty folder
	@$(PY) tools/colab.py "$(COLAB_VENV)" $(NB) $(if $(COLAB_PYTHON),--python "$(COLAB_PYTHON)")

export: setup ## write the library from the notebooks, and clean these
	@$(PY) tools/check.py --export

outputs: setup ## execute notebooks and store their outputs: NB="05_model", FORCE=1
	@$(PY) tools/course.py store $(NB) $(if $(JOBS),--jobs $(JOBS)) $(if $(filter-out 0,$(FORCE)),--force)

times: setup ## execute notebooks, keep how long each took, and write that everywhere
	@$(PY) tools/course.py run $(NB) --times
	@$(PY) tools/links.py

tasks: setup ## write the tasks of unet_tutorial/lessons into their notebooks
	@$(PY) tools/tasks.py

form: setup ## write the form for people who do not code, app/your_data.ipynb
	@$(PY) tools/form.py

links: setup ## write links, tables, times, questions and the picture of the house
	@$(PY) tools/questions.py
	@$(PY) tools/links.py
	@$(PY) tools/check.py --export
	@$(PY) tools/form.py
	@$(PY) tools/readable.py

package: setup ## build wheel and sdist into build/dist, check them, use the wheel in an empty environment
	@$(PY) tools/environment.py "$(VENV)" package
	@$(PY) tools/packages.py build
	@$(PY) tools/packages.py use $(ARGS)

gpu: setup ## measure this machine's GPU in 8 minutes; writes results/gpu_<card>.csv
	@$(PY) benchmarks/gpu.py $(ARGS)

bench: setup ## this library beside others, in about 10 minutes; writes results/speed.csv
	@$(PY) tools/environment.py "$(VENV)" bench
	@$(PY) benchmarks/bench.py $(ARGS)

atlas: setup ## read every kind of file with the lowest, Colab's and the newest Pillow and tifffile
	@$(PY) tools/readers.py .venv-atlas $(ARGS)

faults: setup ## try every fault on files, runs, nets and the network; ARGS="--area runs"
	@$(PY) benchmarks/faults.py $(ARGS)

results: results-15 results-16 results-17 results-19 results-20 ## the experiments: hours; goes on where it stopped

results-15: setup ## the rows of 15_membranes that are not in results/ yet; DATA=folder
	@$(PY) experiments/membranes.py --data "$(DATA)" $(ARGS)
	@$(PY) experiments/offset.py --data "$(DATA)"
	@$(PY) experiments/one_image.py

results-16: setup ## those of 16_touching_cells
	@$(PY) experiments/cells.py --data "$(DATA)" $(ARGS)

results-17: setup ## those of 17_cars
	@$(PY) experiments/cars.py --data "$(DATA)" $(ARGS)

results-19: setup ## those of 19_ablation
	@$(PY) experiments/one_change.py ablation --data "$(DATA)" $(ARGS)

results-20: setup ## those of 20_since_2015
	@$(PY) experiments/one_change.py since_2015 --data "$(DATA)" $(ARGS)

clean: ## remove what was built or written by notebooks; keeps the environment
	@"$(PYTHON)" tools/clean.py "$(VENV)"
