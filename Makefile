# The commands of a newcomer. Nothing else is needed first: each installs what it uses.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
HAS_PIP := $(BIN)/python -m pip --version > /dev/null 2>&1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint types unit bench format clean
.DELETE_ON_ERROR:

help:
	@echo "make demo     train a small network, compile it, run it under a changing budget"
	@echo "make test     lint, types and tests: what CI runs"
	@echo "make bench    measure the bars of benchmarks/ on this machine"
	@echo "make format   mend what lint can mend by itself"
	@echo "make clean    remove .venv and everything else that make wrote"
	@echo
	@echo "The first one installs into .venv; PYTHON=python3.12 chooses its Python (3.10 or newer)."

demo: $(STAMP)
	$(BIN)/python -m skipc.tools.demo --out demo-out

# One after the other even under `make -j`, so that the first failure is the last thing printed.
test: $(STAMP)
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# One worker per core; each runs its numerics on one thread.
unit: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

bench: $(STAMP)
	$(BIN)/python -m skipc.tools.bench --out benchmarks

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A .venv without pip was left half-made (a Python that lacks ensurepip): it is completed.
# torch first and alone: its pinned version decides which build the rest is resolved against.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("skipc needs Python 3.10 or newer, this is %d.%d. Set PYTHON=python3.11, say." % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	@$(HAS_PIP) || { echo "making .venv"; $(PYTHON) -m venv .venv; }
	@$(HAS_PIP) || { echo ".venv has no working pip. Remove it (make clean) and try again."; exit 1; }
	@echo "installing into .venv (some minutes the first time)"
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[compiler,cpu,demo,dev,ray,select]'
	@touch $@

clean:
	rm -rf .venv demo-out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
