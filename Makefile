# Everything runs from .venv. `make setup` makes what the harness needs, `make develop` what the tests need besides; a second
# time takes no time.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# Stages of `make test` to run, by name: all when empty. Processes for the tests that measure no time: when
# empty two for each core, one for `make quick`. More for pytest.
STAGES ?=
export JOBS ?=
export PYTEST_ARGS ?=
# For `make mutants`: which are drawn, how many, and from files whose path has PART in it: all when empty.
SEED ?= 0
COUNT ?= 20
PART ?=
# For `make check`.
FILE ?= .
# For `make fuzz`.
MINUTES ?= 10
# For `make demo`: a folder with published files, `published`, or `own`. For `make fuzz`: models to break besides the tests'.
MODELS ?=

.PHONY: help setup develop demo quick check test slow portable mutants fuzz adb bench lint lock docs format clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the harness in it, and install a Vulkan driver if none suits
	@scripts/setup.sh light

develop: ## The same with PyTorch, Java, npm and all extras: what the tests need
	@scripts/setup.sh all

quick: develop ## Ruff, and the tests that need no GPU, torch, browser or phone: about a minute
	@$(BIN)/python -m scripts.checks --quick

check: develop ## Lint, types and tests of one file: make check FILE=tests/graph/test_model.py
	@$(BIN)/ruff check $(FILE) && $(BIN)/ruff format --check $(FILE) && $(BIN)/mypy --strict $(FILE)
	@[[ "$(FILE)" != *test_*.py ]] || $(BIN)/python -m pytest -q $(FILE) $(PYTEST_ARGS)

demo: setup ## Find the ops that break the SAM 2.1 mask decoder on this machine's GPU
	@$(BIN)/python -m scripts.demo '$(MODELS)'

test: develop ## What CI runs, to its end whatever fails: lint, types, tests, device tests on the host's GPU and through adb
	@$(BIN)/python -m scripts.checks $(STAGES)

slow: develop ## What `make test` leaves out because it takes long: campaigns, kills, whole decoders, all through adb (hours)
	@$(BIN)/python -m scripts.checks --slow

portable: develop ## The numeric tests under other instruction sets, BLAS kernels and thread counts (an hour)
	@$(BIN)/python -m scripts.portable -- $(PYTEST_ARGS)

mutants: develop ## Change the code in COUNT places drawn by SEED, and see whether the tests notice (a quarter of an hour, and half a minute each)
	@$(BIN)/python -m scripts.mutants --seed $(SEED) --count $(COUNT) --part '$(PART)'

fuzz: develop ## Broken models, run folders and devices for MINUTES, each time others; .hypothesis keeps what is found
	@$(BIN)/python -m scripts.fuzz --minutes $(MINUTES) --models '$(MODELS)'

adb: develop ## All of device_tests through adb, on the stand-in for a Pixel 8a (six minutes)
	$(BIN)/python -m tests.standin $(BIN)/pytest device_tests --device pixel8a -m "not slow" $(PYTEST_ARGS)

bench: develop ## Measure the harness against what the decisions claim
	$(BIN)/python -m benchmarks

lint: develop ## ruff and mypy --strict
	@$(BIN)/python -m scripts.checks ruff format types

lock: develop ## Resolve anew what `make develop` and host@RELEASE install (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --no-annotate \
		--custom-compile-command "make lock" --output-file requirements/locked.txt
	$(BIN)/python -m scripts.lock_releases

docs: develop ## The site, in build/site, with warnings as errors
	@$(BIN)/python -m scripts.checks docs && echo "build/site/index.html"

format: develop ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove caches and builds; .venv and results/ stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
