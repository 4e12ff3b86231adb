# Everything runs from .venv, which `make setup` makes; a second setup takes no time.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
JOBS ?= 2
# What measures time, or takes the machine's adb server: by itself.
ALONE := tests/devices tests/latency tests/standin device_tests/test_latency.py

.PHONY: help setup demo test adb bench lint format clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with everything in it, and install a Vulkan driver if none suits
	@scripts/setup.sh

demo: setup ## Find the ops that break the SAM 2.1 mask decoder on this machine's GPU
	@$(BIN)/harness demo

test: lint ## What CI runs: lint, types, the tests, the device tests on the host's GPU, old and new, and through adb
	$(BIN)/pytest tests device_tests --device host -m "not slow" -n $(JOBS) --dist loadfile \
		$(addprefix --ignore ,$(ALONE)) $(PYTEST_ARGS)
	$(BIN)/pytest $(ALONE) --device host -m "not slow" $(PYTEST_ARGS)
	$(BIN)/pytest device_tests/test_corpus.py --device host@2.1.5 $(PYTEST_ARGS)
	$(BIN)/python -m tests.standin $(BIN)/pytest $(addprefix device_tests/test_,corpus.py decoder.py explained.py latency.py) \
		--device pixel8a -m "not slow" $(PYTEST_ARGS)
	$(BIN)/pytest device_tests/test_explained.py --device host@2.1.5 -k "8599 and not slow" $(PYTEST_ARGS)

adb: setup ## All of device_tests through adb, on the stand-in for a Pixel 8a (six minutes)
	$(BIN)/python -m tests.standin $(BIN)/pytest device_tests --device pixel8a -m "not slow" $(PYTEST_ARGS)

bench: setup ## Measure the harness against what the decisions claim
	$(BIN)/python -m benchmarks

lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

format: setup ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove caches and builds; .venv and results/ stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
