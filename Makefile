# Everything a fresh machine needs: `make demo` runs it all, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
SOURCES := src tests benchmarks

.PHONY: setup demo test test-slow check format browser clean

setup: $(SETUP)

# torch and torchvision first and pinned: a free range would take another build than the tested one.
$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/salmubench demo

check: setup
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

# The report page is looked at by a real browser; Debian's is installed where there is none and we may.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
	  || echo "chromium is not installed: the browser tests will say so and be skipped"

test: check browser
	$(BIN)/pytest -q -n 2 --dist loadfile

test-slow: check browser
	$(BIN)/pytest -q -m slow

format: setup
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf $(VENV) salmubench-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
