PYTHON ?= python3
VENV := .venv
SURE := $(VENV)/bin/surefoot
.DEFAULT_GOAL := help
.PHONY: help demo test docs clean

help:
	@echo "make demo   compare learning-rate schedules on real data and draw the page (first call sets up $(VENV))"
	@echo "make test   linter, types, tests and documentation"
	@echo "make docs   build the documentation into docs/_build"
	@echo "make clean  remove what the other commands made"

demo: $(VENV)/demo.stamp
	@$(VENV)/bin/python -m surefoot demo

test: $(VENV)/dev.stamp
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@# One thread each: the processes would only wait for each other's. In the order of the files, so that long ones do not come last.
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

docs: $(VENV)/dev.stamp
	@$(VENV)/bin/sphinx-build -n -W -q docs docs/_build

# Debian may ship python3 without ensurepip; virtualenv brings its own pip.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "surefoot needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null || echo missing). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV) && \
	  $(PYTHON) -m pip install -q --target .bootstrap virtualenv && \
	  PYTHONPATH=.bootstrap $(PYTHON) -m virtualenv -q $(VENV); }

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing what the demo needs (a minute or two, once) ..."
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[compare]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing what the tests need (a minute or two, once) ..."
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) .bootstrap docs/_build demo
