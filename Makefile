# Needs Python 3.11+ and make. Everything else is installed into .venv (benchmarks: .venv-bench), once for each
# set of extras: a stamp file records that a set is in, and a change of pyproject.toml installs it again.
#
#   make demo                  train a small CNN on the packaged digits (ARGS="--data mnist --data-dir DIR" for MNIST)
#   make test                  the test suite             make test-long    the tests that take minutes
#   make lint                  style, types, file sizes   make format       let ruff rewrite the files
#   make docs                  the documentation, warnings as errors, and every example in it run
#   make bench                 compare with PyTorch and JAX (ARGS="..." go to benchmarks/run.py)
#   make bench-docs            put the results of the last make bench into docs/performance.md
#   make test-oracle           compare values and gradients with JAX and PyTorch
#   make coverage              which branches of the convolution the test strategies reach
#   make clean                 remove everything that make created

PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
ARGS ?=

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Tests use two processes: each compiles kernels of its own, so more processes mostly repeat that work.
PYTEST := -m pytest -q -n 2

.PHONY: demo test test-long test-oracle lint format bench bench-docs docs coverage clean

demo: $(VENV)/.has-demo
	$(VENV)/bin/python examples/train_cnn.py $(ARGS)

test: $(VENV)/.has-dev
	$(VENV)/bin/python $(PYTEST) $(ARGS)

test-long: $(VENV)/.has-dev
	$(VENV)/bin/python $(PYTEST) -m long --fgrad-profile thorough $(ARGS)

test-oracle: $(BENCH)/.has-bench
	$(BENCH)/bin/python $(PYTEST) -m oracle $(ARGS)

lint: $(VENV)/.has-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python tools/check_file_sizes.py

format: $(VENV)/.has-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(VENV)/.has-docs
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(VENV)/bin/python -m pytest -q tests/test_examples.py
	@echo "open docs/_build/html/index.html"

bench: $(BENCH)/.has-bench
	$(BENCH)/bin/python benchmarks/run.py $(ARGS)

bench-docs: $(BENCH)/.has-bench
	$(BENCH)/bin/python benchmarks/report.py

coverage: $(VENV)/.has-dev
	$(VENV)/bin/python tools/conv_coverage.py

clean:
	rm -rf $(VENV) $(BENCH) build dist docs/_build *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis __pycache__
	find fgrad tests tools benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python $(BENCH)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fgrad needs Python 3.11 or newer, got " \
	    + sys.version.split()[0] + ": name one with make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(@D:/bin=)

$(VENV)/.has-%: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP_INSTALL) -e '.[$*]'
	@touch $@

$(BENCH)/.has-bench: pyproject.toml | $(BENCH)/bin/python
	$(BENCH)/bin/python $(PIP_INSTALL) -e '.[bench,test]'
	@touch $@
