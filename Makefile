# Each target makes its own virtual environment when there is none, and brings it up to date when pyproject.toml
# has changed (.ci/environment). Nothing has to be installed before but Python 3.11 or newer, bash and make.

SHELL := /bin/bash
JOBS ?= 4
ARGS ?=
STORE ?= sqlite
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test check samples bench bench-peers clean

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | column -t -s @
	@echo
	@echo "  ARGS='...' is handed on to the program or to pytest; JOBS=n is the number of test processes (4)."

run: ## The main job: orders that survive kill -9 (samples/orders); STORE=mariadb and STORE=postgres start a server
	@.ci/environment base run >/dev/null
	@case $(STORE) in \
	    sqlite) set -x; exec $(BIN)/python -m samples.orders $(ARGS) ;; \
	    mariadb | mysql) .ci/servers; set -x; exec $(BIN)/python -m samples.orders.on_server mysql $(ARGS) ;; \
	    postgres) .ci/servers; set -x; exec $(BIN)/python -m samples.orders.on_server postgres $(ARGS) ;; \
	    *) echo "STORE is sqlite, mariadb or postgres, and not $(STORE)." >&2; exit 2 ;; \
	esac

# The second Python runs on the PostgreSQL of the wheel, so that two versions are tested in one go. Where one Python
# stands for both, the tests of that store run once more. What is about processes and servers, and takes minutes for it,
# runs on the first only.
NEWEST_POSTGRES := wheel,url,installed,docker
test: ## The tests, on Python 3.11 and on the newest Python that the machine has
	@set -eu; \
	.ci/servers; \
	base=$$(.ci/environment base test); \
	newest=$$(.ci/environment newest test); \
	echo "== $$($$base/bin/python --version), $$base"; \
	$$base/bin/python -m pytest -n $(JOBS) $(ARGS); \
	export DURABLE_TEST_POSTGRES_FROM=$${DURABLE_TEST_POSTGRES_FROM-$(NEWEST_POSTGRES)}; \
	echo "== $$($$newest/bin/python --version), $$newest, PostgreSQL from $$DURABLE_TEST_POSTGRES_FROM"; \
	if [ "$$newest" != "$$base" ]; then \
	    $$newest/bin/python -m pytest -n $(JOBS) --ignore tests/processes --ignore tests/operations $(ARGS); \
	else \
	    $$base/bin/python -m pytest -n $(JOBS) $$(find tests -name 'test_*postgres*.py') $(ARGS); \
	fi

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

bench: ## The benchmarks (python -m benchmarks), on the stores that are there; with plots where matplotlib can be had
	@.ci/environment base bench >/dev/null || .ci/environment base run >/dev/null
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: ## The same work on other engines, which are installed below benchmarks/.peers
	@.ci/environment base run >/dev/null
	$(BIN)/python -m benchmarks.peers $(ARGS)

clean: ## Remove the environments, the caches and what was built
	rm -rf .venv .venv-3.* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find durable tests samples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
