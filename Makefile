# Two commands do everything: `make reproduce` runs the main job, `make test` the tests; both set up what they need.
# The first of these that is Python 3.11, 3.12 or 3.13 with its venv module sets it up.
# They take no other Python's packages, and need neither a home that can be written nor an account that has a name.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH
export DVC_SITE_CACHE_DIR := $(CURDIR)/.cache/dvc
export HOME ?= $(CURDIR)/.cache
ifeq ($(shell [ -w "$(HOME)/." ] || echo no),no)
export XDG_CACHE_HOME := $(CURDIR)/.cache
endif
ifeq ($(shell id -un >/dev/null 2>&1 || echo no),no)
export USER := user
endif
PYTHON ?= python3.11 python3.12 python3.13 python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: reproduce test test-fast drills lint ui save pull setup lock

reproduce: setup
	python -m emorl.runtime.live snakemake --cores $$(python workflow/scripts/cores.py) \
	  --quiet host rules progress reason -- reproduce_table1

test: setup
	python -m pytest -n 3

# A verdict in a minute and a half: without workflows, stores, browsers, compilers and long trainings.
test-fast: setup
	python -m pytest -n 2 -m "not slow and not drill"

# What `make test` leaves out, as it takes as long again: a Slurm disturbed, crowds, kills, workflows side by side.
drills: setup
	python -m pytest -n 2 -m drill

lint: setup
	ruff check . && ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

ui: setup
	python -m emorl ui

# Version the results of a scale with DVC; then `git commit` and `dvc push` (docs/versioning.md).
SCALE ?= demo
save: setup
	python workflow/scripts/save.py data/prepared runs reports/$(SCALE)

# Pull them, say what is left to do, and verify them. SELECTION: such as "datasets=tetrominoes seeds=3".
TARGET ?= reproduce_table1
pull: setup
	workflow/scripts/pull.sh $(SCALE) $(TARGET) $(SELECTION)

setup: .venv/.complete

# An environment knows its place and its Python: one that was moved or copied, or has lost its Python, is made anew.
MADE_AT := $(shell cat .venv/.complete 2>/dev/null)
ifneq ($(MADE_AT),)
ifneq ($(MADE_AT),$(shell cd .venv && bin/python -c '' 2>/dev/null && pwd -P))
.PHONY: .venv/.complete
CLEAR := --clear
endif
endif

.venv/.complete: requirements.lock pyproject.toml
	@for python in $(PYTHON); do \
	  if $$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    echo "Setting up the environment in .venv with $$python (two minutes, once) ..."; \
	    exec $$python -m venv $(CLEAR) .venv; \
	  fi; \
	done; \
	echo "error: $(PYTHON): none is Python 3.11, 3.12 or 3.13 with its venv module; install one (on Debian and" \
	  "Ubuntu: apt install python3-venv), or say where it is with PYTHON=..."; exit 1
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --quiet --no-deps --no-build-isolation --editable .
	cd .venv && pwd -P >.complete

# After a change of pyproject.toml: pin all versions anew, for pip and for conda, and see that newer Pythons have them, too.
# Needs uv.
lock:
	uv pip compile --quiet --extra dev --python-version 3.11 --no-annotate --no-header --upgrade -o requirements.lock pyproject.toml
	sed -i 's/^torch==\(.*\)+cpu$$/torch==\1/' requirements.lock
	for version in 3.12 3.13; do uv pip compile --quiet --python-version $$version requirements.lock >/dev/null || exit 1; done
	python workflow/scripts/environment.py
