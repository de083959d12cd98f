# Each target makes its own virtual environment when there is none, and brings it up to date when pyproject.toml
# has changed (.ci/environment). Nothing has to be installed before but Python 3.11 or newer, bash and make.

SHELL := /bin/bash
JOBS ?= 4
ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test check samples bench clean

help: ## Print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' Makefile | column -t -s @
	@echo
	@echo "  ARGS='...' is handed on to the program or to pytest; JOBS=n is the number of test processes (4)."

run: ## The main job: an order workflow on a SQLite file, which survives kill -9 (samples/orders)
	@.ci/environment base run >/dev/null
	$(BIN)/python -m samples.orders $(ARGS)

test: ## The tests, on Python 3.11 and on the newest Python that the machine has
	@set -eu; \
	base=$$(.ci/environment base test); \
	newest=$$(.ci/environment newest test); \
	for environment in $$(printf '%s\n' "$$base" "$$newest" | uniq); do \
	    echo "== $$($$environment/bin/python --version), $$environment"; \
	    $$environment/bin/python -m pytest -n $(JOBS) $(ARGS); \
	done

check: ## Style and types: ruff, mypy --strict, pyright on the public names, import-linter
	@.ci/environment base dev >/dev/null
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if [ -d tests/typing ]; then set -x; $(BIN)/pyright --pythonpath $(BIN)/python; fi
	$(BIN)/lint-imports

samples: ## The samples' own tests
	@.ci/environment base test >/dev/null
	$(BIN)/python -m pytest -n $(JOBS) samples $(ARGS)

bench: ## The benchmarks (python -m benchmarks)
	@.ci/environment base run >/dev/null
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the environments, the caches and what was built
	rm -rf .venv .venv-3.* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find durable tests samples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
