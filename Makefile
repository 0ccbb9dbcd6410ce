# The commands of a newcomer. Nothing else is needed first: each installs what it uses.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
BINDINGS_STAMP := .venv/bindings/installed
TRITON_STAMP := .venv/bindings/triton-installed
comma := ,
HAS_PIP := $(BIN)/python -m pip --version > /dev/null 2>&1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint types unit servers browser bench gpu reproduce docs docs-serve format clean
.DELETE_ON_ERROR:

help:
	@echo "make demo     train a small network, compile it, run it under a changing budget"
	@echo "make test     lint, types and tests: what CI runs"
	@echo "make servers  the tests that start Ray or a Triton server"
	@echo "make bench    measure the bars of benchmarks/ on this machine"
	@echo "make gpu      run what only an NVIDIA GPU can show, and write benchmarks/gpu/results.md"
	@echo "make reproduce  measure again what docs/reproduction.md says of the papers"
	@echo "make docs     build the documentation as a site, into site/"
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

# Bindings of other versions than the environment's, each in a folder of its own: the tests hold
# the code against them. FOLDER=PACKAGE==VERSION[,PACKAGE==VERSION]
BINDINGS := \
  10.3.0=tensorrt-cu12-bindings==10.3.0 \
  10.16.1.11=tensorrt-cu13-bindings==10.16.1.11 \
  11.0.0.114=tensorrt-cu13-bindings==11.0.0.114 \
  11.4.0.106=tensorrt-cu13-bindings==11.4.0.106 \
  rtx-1.4.0.76=tensorrt-rtx-cu13-bindings==1.4.0.76,tensorrt-rtx-cu13-libs==1.4.0.76 \
  cuda-12.9.10=cuda-bindings==12.9.10,cuda-pathfinder==1.9.0 \
  cuda-13.5.0=cuda-bindings==13.5.0,cuda-pathfinder==1.9.0
# Triton's server, and a NumPy that its python backend understands.
TRITON := triton-0.7.0=nvidia-pytriton==0.7.0 numpy-1.26.4=numpy==1.26.4

apart = $(foreach spec,$(1),\
  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
    --target .venv/bindings/$(firstword $(subst =, ,$(spec))) \
    $(subst $(comma), ,$(patsubst $(firstword $(subst =, ,$(spec)))=%,%,$(spec))) &&) true

$(BINDINGS_STAMP): Makefile $(STAMP)
	@echo "installing the bindings that the tests look at"
	@rm -rf .venv/bindings
	@$(call apart,$(BINDINGS))
	@touch $@

$(TRITON_STAMP): $(BINDINGS_STAMP)
	@echo "installing Triton's server, which the tests of the servers start"
	@rm -rf .venv/bindings/triton-* .venv/bindings/numpy-*
	@$(call apart,$(TRITON))
	@touch $@

# The pages are tested in a browser: any of these, else Debian's own is installed.
BROWSERS := chromium chromium-browser google-chrome

browser:
	@for name in $(BROWSERS); do if command -v $$name > /dev/null; then exit 0; fi; done; \
	  echo "installing Chromium, which the tests of the pages need"; \
	  as="sudo -n"; if [ "$$(id -u)" = 0 ]; then as=""; fi; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  { $$as apt-get update -qq && $$as apt-get install -qq --yes chromium; } > /dev/null || { \
	    echo "Chromium could not be installed. Install one of: $(BROWSERS)."; exit 1; }

# One worker per core; each runs its numerics on one thread. Bytecode is kept, whatever the
# environment says: the tests start the commands a hundred times.
unit: $(STAMP) $(BINDINGS_STAMP) browser
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist loadfile \
	  -m "not servers" --durations 12

# What starts Ray or Triton: each takes both cores for half a minute.
servers: $(STAMP) $(TRITON_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m servers

bench: $(STAMP) browser
	$(BIN)/python -m skipc.tools.bench --out benchmarks

# onnxruntime-gpu has the import name of onnxruntime, so it has an environment of its own, which
# sees the system's packages: TensorRT may be one. The bundles are built in the usual one.
GPU := .venv-gpu
GPU_STAMP := $(GPU)/installed

gpu:
	@$(PYTHON) tools/bench/gpu_here.py
	@$(MAKE) --no-print-directory $(STAMP) $(GPU_STAMP)
	$(BIN)/python -m skipc.tools.bench.gpu bundles $(GPU)/bundles
	$(GPU)/bin/python -m skipc.tools.bench.gpu run $(GPU)/bundles --out benchmarks/gpu

$(GPU_STAMP): pyproject.toml
	@echo "installing into $(GPU) (some minutes the first time)"
	@$(PYTHON) -m venv --system-site-packages $(GPU)
	@$(GPU)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --editable '.[cuda,nvml,rtx]'
	@touch $@

# The parts of the benchmark that follow a paper: an hour or more on two quiet cores.
reproduce: $(STAMP)
	$(BIN)/python -m skipc.tools.bench --network 'digits ResNet' --out reproduce-out/stochastic-depth
	$(BIN)/python -m skipc.tools.bench --network 'clutter policies' --out reproduce-out/adaptive-networks
	$(BIN)/python -m skipc.tools.bench --network 'sub-path ResNet-50' --out reproduce-out/adaptive-depth
	$(BIN)/python -m skipc.tools.bench --network 'ResNet-50' --out reproduce-out/gates
	$(BIN)/python -m skipc.tools.bench --network resolutions --out reproduce-out/resolutions
	$(BIN)/python -m skipc.tools.bench --network int8 --out reproduce-out/int8

docs: $(STAMP)
	$(BIN)/python -m skipc.tools.docsite --out site

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site 8000

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
	@$(PIP) --editable '.[compiler,cpu,demo,dev,docs,jetson,nvml,ray,report,rtx,select,serve]'
	@touch $@

clean:
	rm -rf .venv .venv-gpu demo-out examples-out reproduce-out site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
