# Two commands: `make lab` opens the course, `make test` says in ten minutes whether all is well.
# CI runs `make test-long` after it: the rest, complete.
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

.PHONY: install lab test test-fast test-long lint types unit notebooks unit-long notebooks-long \
        demo accuracy bench build clean

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
	$(ONE) MINIPEFT_FAST=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow and not smoke"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# All that is fast, and one short piece of each slow kind.
unit: $(READY)
	$(ONE) $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow" --durations=25

# Kills, fuzz, mutations against lessons, whole fine-tunes, programs: what `make test` leaves out.
test-long: unit-long notebooks-long

unit-long: $(READY)
	$(ONE) $(BIN)/python -m pytest -q -n $(WORKERS) -m slow --durations=25

# The cells tagged "exact" must print what is stored; all cells must run, in an empty folder, with
# nothing of minipeft but its wheel.
notebooks: $(READY)
	$(BIN)/python -m minipeft.course.builder --check
	$(ONE) $(BIN)/python tests/support/wheels.py 00 02 11 15 -n $(WORKERS)

notebooks-long: $(READY)
	$(ONE) $(BIN)/python tests/support/wheels.py -n $(WORKERS)

demo: $(READY)
	$(BIN)/minipeft demo

# The sweep of learning rates and the table of accuracies: about an hour, resumed where it stopped.
accuracy: $(READY)
	$(BIN)/python tests/support/accuracy.py

bench: $(READY)
	$(BIN)/python tests/bench.py

# Write notebooks/, exercises/ and solutions/ anew from minipeft/course, and run them.
build: $(READY)
	$(BIN)/python -m minipeft.course.builder --execute

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
