# Two commands do everything: `make reproduce` runs the main job, `make test` the tests; both set up what they need.
PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: reproduce test lint ui save pull setup lock

reproduce: setup
	snakemake --cores all reproduce_table1

test: setup
	python -m pytest -n 2

lint: setup
	ruff check . && ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint

ui: setup
	python -m emorl ui

# Version the results of a scale with DVC; then `git commit` and `dvc push` (docs/versioning.md).
SCALE ?= demo
save: setup
	dvc add data/prepared runs reports/$(SCALE)
	git add data/prepared.dvc runs.dvc reports/$(SCALE).dvc

# Pull them, mark them as up to date for Snakemake and verify them. SELECTION: such as "datasets=tetrominoes seeds=3".
TARGET ?= reproduce_table1
pull: setup
	workflow/scripts/pull.sh $(TARGET) --config scale=$(SCALE) $(SELECTION)

setup: .venv/.complete

.venv/.complete: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "error: $(PYTHON) must be Python 3.11 with its venv module (Debian: apt install python3-venv)"; exit 1; }
	@echo "Setting up the environment in .venv (two minutes, once) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --quiet --no-deps --no-build-isolation --editable .
	touch $@

# After a change of pyproject.toml: pin all versions anew, for pip and for conda. Needs uv.
lock:
	uv pip compile --quiet --extra dev --python-version 3.11 --no-annotate --no-header --upgrade -o requirements.lock pyproject.toml
	sed -i 's/^torch==\(.*\)+cpu$$/torch==\1/' requirements.lock
	python workflow/scripts/environment.py
