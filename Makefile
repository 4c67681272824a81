# make            this list of targets
# VENV=dir        another virtual environment; clones can share one
# PYTHON=python3  the Python that makes it
# NB="05_model"   for course, outputs, times and colab: these notebooks instead of all
# JOBS=1          for course and outputs: so many at a time, instead of one per core
# NET="runs/cars" for app: the folder of a run, or a .safetensors file
# COLAB_VENV=dir  another environment for make colab; COLAB_PYTHON=its Python 3.13

VENV ?= .venv
PYTHON ?= python3
NB ?=
JOBS ?=
NET ?=
COLAB_VENV ?= .venv-colab
COLAB_PYTHON ?=

# Each clone runs its own code, also in a shared environment.
export PYTHONPATH := $(CURDIR)

PY = "$(VENV)/bin/python"

.DEFAULT_GOAL := help
.PHONY: help setup course app lab test colab export outputs times links gpu clean

help: ## print this list
	@echo "The course on U-Net. Targets (each one sets up what it needs):"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

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

links: setup ## write links, tables, times and the picture of the house
	@$(PY) tools/links.py
	@$(PY) tools/check.py --export

gpu: setup ## measure this machine's GPU in 8 minutes; writes results/gpu_<card>.csv
	@$(PY) benchmarks/gpu.py

clean: ## remove what was built or written by notebooks; keeps the environment
	@"$(PYTHON)" tools/clean.py "$(VENV)"
