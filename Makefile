# Two commands: `make lab` opens the course, `make test` runs everything that CI runs.
# `make lab` opens your own copy, my-course/: git ignores it, and an update keeps your answers.
PYTHON   ?= python3
VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
LAB_ARGS ?=
# Jupyter refuses to run as root unless told (containers often run as root).
ROOT     := $(if $(filter 0,$(shell id -u)),--allow-root)
# One thread per process: two test processes share two cores, and sums stay in one order.
# No network; and the notebooks' checks record their verdicts in a scratch folder, not in yours.
ONE      := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
            HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 MINIPEFT_HOME=$(CURDIR)/$(VENV)/scratch
WORKERS  ?= 2
COURSE   ?= $(CURDIR)/my-course

.PHONY: install lab test test-fast lint types unit notebooks demo accuracy bench build clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[course,train,quant,test]'
	touch $(READY)

lab: $(READY)
	$(BIN)/minipeft start '$(COURSE)'
	$(BIN)/jupyter lab $(ROOT) --ServerApp.root_dir='$(COURSE)' --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb $(LAB_ARGS)

test: lint types unit notebooks

test-fast: lint types $(READY)
	$(ONE) MINIPEFT_FAST=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(ONE) $(BIN)/python -m pytest -q -n $(WORKERS)

# The cells tagged "exact" must print what is stored; all cells must run, in an empty folder, with
# nothing of minipeft but its wheel.
notebooks: $(READY)
	$(BIN)/python -m minipeft.course.builder --check
	$(ONE) $(BIN)/python tests/wheels.py -n $(WORKERS)

demo: $(READY)
	$(BIN)/minipeft demo

# The sweep of learning rates and the table of accuracies: about an hour, resumed where it stopped.
accuracy: $(READY)
	$(BIN)/python tests/accuracy.py

bench: $(READY)
	$(BIN)/python tests/bench.py

# Write notebooks/, exercises/ and solutions/ anew from minipeft/course, and run them.
build: $(READY)
	$(BIN)/python -m minipeft.course.builder --execute

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
