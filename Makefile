# make demo    the main job end to end on the built-in town      make test    all tests
# make check   style, types, import layers                       make results docs/results.md
#
# Choose another torch build, for instance one for CUDA, through PIP_ARGS:
#   make demo PIP_ARGS="--index-url <the index that pytorch.org names for your machine>"

PYTHON ?= python3
PIP_ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
GROUND := pyproject.toml constraints.txt hatch_build.py $(wildcard on_device_index/geofix_index/*.[ch])

.PHONY: demo test check test-pythons results clean

demo: $(VENV)/.demo
	$(BIN)/python samples/town_demo.py build/demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The runtime on every Python that is installed; the workstation packages need only one.
test-pythons:
	PIP_ARGS="$(PIP_ARGS)" tests/run_on_all_pythons.sh

results: $(VENV)/.dev
	$(BIN)/python -m benchmarks.report

clean:
	rm -rf $(VENV) build dist

$(VENV)/.demo: $(GROUND)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -e '.[onnx,export]'
	touch $@

$(VENV)/.dev: $(GROUND)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -e '.[dev]'
	touch $@ $(VENV)/.demo
