# Everything a fresh machine needs: `make demo` runs it all, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
CLIP_BENCHMARK := .venv-clip-benchmark
SOURCES := src tests benchmarks docs

.PHONY: setup demo test test-slow test-ray check docs format browser clean

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

# clip_benchmark fails on numpy >= 2.4: it gets an environment that sees ours and has a numpy of its own.
$(CLIP_BENCHMARK): $(SETUP)
	rm -rf $@ $@.tmp
	$(BIN)/python -m venv --without-pip $@.tmp
	$(BIN)/pip --python $@.tmp/bin/python install --quiet --no-compile --no-deps clip_benchmark==1.6.2 numpy==2.3.5
	echo "import site; site.addsitedir('$$(echo $(CURDIR)/$(VENV)/lib/python3.*/site-packages)')" > ours.pth
	mv ours.pth $@.tmp/lib/python3.*/site-packages/
	mv $@.tmp $@

test: check browser $(CLIP_BENCHMARK)
	$(BIN)/pytest -q -n 2 --dist loadfile

test-slow: check browser
	$(BIN)/pytest -q -m slow

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The docs: build/docs/index.html"

# Ray is 80 MB to fetch and 250 MB on disk, so only this asks for it.
test-ray: setup
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[scale]'
	$(BIN)/pytest -q -m "slow or not slow" tests/test_personas_ray.py tests/test_studies_ray.py

format: setup
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf $(VENV) $(CLIP_BENCHMARK) build salmubench-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
