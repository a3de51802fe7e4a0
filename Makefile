# `make demo` and `make test` need nothing but Python >= 3.11, make and git >= 2.38: they set up the rest.
PYTHON ?= python3
VENV ?= .venv
TESTS ?= not slow
# Most of the quick ones wait for something half of their time; the slow ones want their core.
JOBS ?= $(if $(TESTS),3,2)
SEEDS ?= 1,2,3,4,5,6,7,8,9,10
NODES ?= 2
EXPERIMENTS ?= 200
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint check bench chaos docs clean

demo: $(READY)
	$(BIN)/incumbent demo

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal -m "$(TESTS)"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The slow ones too: whole studies with Ray, some on machines of their own, some of them killed.
check: lint
	$(MAKE) --no-print-directory test TESTS=

bench: $(READY)
	$(BIN)/python -m tests.benchmarks $(ARGS)

# Studies under faults, on machines made of namespaces (root, Linux), one a seed.
chaos: $(READY)
	$(BIN)/python -m tests.chaos --seeds $(SEEDS) --experiments $(EXPERIMENTS) --nodes $(NODES) $(ARGS)

docs: $(READY)
	$(BIN)/python -m tests.docs.generate

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Incumbent needs Python 3.11 or newer; say: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,demo]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
