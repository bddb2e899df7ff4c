# The few commands there are: `make help`.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MPI ?= openmpi
NODES ?= 3
PORT ?= 8080
export PYTHONPATH := $(CURDIR)
# services that start again must not compile everything anew
export PYTHONDONTWRITEBYTECODE :=

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: setup ## the main job: an MPI job on three nodes loses everything and comes back (MPI=openmpi or mpich)
	$(BIN)/python -m clusteros.lab.demo --mpi $(MPI)

up: setup ## start a cluster of NODES=3 on this machine and leave it running (PORT=8080)
	$(BIN)/python -m clusteros.lab up --nodes $(NODES) --port $(PORT)

down: ## stop that cluster; nothing is left running (WIPE=1 deletes its data too)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m clusteros.lab down $(if $(WIPE),--wipe); else echo "no lab is running"; fi

test: setup-dev ## all tests
	tests/run

check-all: setup-dev ## all tests, the whole matrix under sanitizers, all real programs, long fuzzing (needs root; an hour or two)
	tests/run && $(BIN)/python -m pytest -q tests/long && native/tests/programs/install && $(MAKE) -s -C native check-all

coverage: ## write docs/coverage.md anew from the tests
	$(PYTHON) native/tests/coverage.py

check: setup-dev ## style, types, direction of imports, docs/coverage.md up to date
	$(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/python native/tests/coverage.py --check

doctor: native ## what this kernel and these privileges allow
	native/build/native doctor

bench: setup-dev ## speed and memory beside their physical limits
	$(BIN)/python benches/run.py && $(BIN)/python benches/run.py --job

native: ## build the engine
	@if ! $(MAKE) -s -C native; then echo "the engine needs gcc, make and the C headers (Debian: apt-get install build-essential)"; exit 1; fi

setup: $(VENV)/.ready $(BIN)/clusteros native
setup-dev: $(VENV)/.ready-dev $(BIN)/clusteros native

$(BIN)/clusteros: $(VENV)/bin/uv
	@echo "$(CURDIR)" > $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/clusteros.pth
	@printf '#!%s\nfrom clusteros.cli.main import app\n\napp()\n' "$(CURDIR)/$(BIN)/python" > $@ && chmod +x $@

$(VENV)/bin/uv: requirements-tools.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); } || { echo "python3-venv is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/pip install -q --require-hashes -r requirements-tools.txt && touch $@

$(VENV)/.ready: requirements.txt $(VENV)/bin/uv
	@echo "installing the packages of requirements.txt"
	@[ -e $(VENV)/.ready-dev ] || $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/bin/uv
	@echo "installing the packages of requirements-dev.txt"
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/.ready

clean: down ## remove what was built, the virtual environment too
	rm -rf $(VENV) native/build var

.PHONY: help demo up down test check check-all coverage doctor bench native setup setup-dev clean
