# Everything runs from .venv, which `make setup` makes; a second setup takes no time.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin

.PHONY: help setup demo test bench lint format clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with everything in it, and install a Vulkan driver if none suits
	@scripts/setup.sh

demo: setup ## Find real bugs in the GPU delegate on this machine, and see the report
	@$(BIN)/harness demo

test: lint ## What CI runs: lint, types, the tests, and the device tests on the host's GPU
	$(BIN)/pytest tests device_tests --device host -m "not slow" $(PYTEST_ARGS)

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
