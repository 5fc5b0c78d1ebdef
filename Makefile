# make demo    the main job end to end on the built-in town      make test    all tests
# make check   style, types, import layers                       make results docs/results.md
# make stress  tests that take minutes                           make bench   is this slower than HEAD?
# make large-town  the large town: draw, train, and measure everything anew (two hours on two cores)
#
# Choose another torch build, for instance one for CUDA, through PIP_ARGS:
#   make demo PIP_ARGS="--extra-index-url <the index that pytorch.org names for your machine>"

PYTHON ?= python3
PIP_ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
GROUND := pyproject.toml constraints.txt hatch_build.py $(wildcard on_device_index/geofix_index/*.[ch] sdk/geofix/*.[ch])

# Training on cores that others use, too: see "Threads" in docs/settings.md.
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 3000
endif

.PHONY: demo large-town test stress bench check sanitize test-pythons results clean

demo: $(VENV)/.demo
	$(BIN)/python samples/town_demo.py build/demo

LARGE := build/large_town
large-town: $(VENV)/.dev
	test -f $(LARGE)/town.json || $(BIN)/geofix-train town $(LARGE) --size-km 6.4 --photos 80000 --photographed 0.2
	$(BIN)/geofix-train fit recipes/large_town.toml -o $(LARGE)/run
	$(BIN)/python -m benchmarks.large_town $(LARGE)/run
	$(BIN)/python -m benchmarks.lone_cells $(LARGE)/run
	$(BIN)/python -m benchmarks.land_codes $(LARGE)/run -o $(LARGE)/land_codes.safetensors
	$(BIN)/python -m benchmarks.scale $(LARGE)/run --land $(LARGE)/land_codes.safetensors

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup --benchmark-disable tests benchmarks/suite

# What takes minutes: thousands of damaged packs, a hundred builds that are killed.
stress: $(VENV)/.dev
	$(BIN)/python -m pytest -m stress

# Times the suite, and the working tree against a commit: make bench REF=v0.1.0
REF ?= HEAD
bench: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q benchmarks/suite --benchmark-columns=min,median,iqr,rounds
	$(BIN)/python -m benchmarks.suite.compare $(REF)

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright --level error tests/geofix/typed_api.py
	$(BIN)/lint-imports

# The kernels' tests with AddressSanitizer and UndefinedBehaviorSanitizer, which stop at the first fault.
SANITIZED := build/sanitized/geofix_kernel.so
SANITIZED_RESAMPLE := build/sanitized/geofix_resample.so
SANITIZE := -O1 -g -std=c11 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -fsanitize=address,undefined \
  -fno-sanitize-recover=all
sanitize: $(VENV)/.dev
	mkdir -p $(dir $(SANITIZED))
	$(CC) $(SANITIZE) on_device_index/geofix_index/geofix_kernel.c -o $(SANITIZED) -lm
	$(CC) $(SANITIZE) sdk/geofix/geofix_resample.c -o $(SANITIZED_RESAMPLE)
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 GEOFIX_TEST_KERNEL=$(SANITIZED) GEOFIX_TEST_RESAMPLE=$(SANITIZED_RESAMPLE) \
	  $(BIN)/python -m pytest -q \
	  tests/geofix_index/test_kernel.py tests/geofix_index/test_golden.py tests/geofix_index/test_index.py \
	  tests/geofix_index/test_hostile_files.py tests/geofix_index/test_damaged_shard.py \
	  tests/geofix_index/test_score_aware.py tests/geofix/test_resample.py

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
