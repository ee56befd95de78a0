# Needs Python 3.11+, make, git and network; everything else is fetched. `make` shows what there is.
VENV ?= .venv
ARGS ?=
# Most tests wait for servers and processes most of their time: more workers than cores. 0: one after the other.
WORKERS ?= 6
BIN := $(VENV)/bin
PARALLEL = -n $(WORKERS) --dist loadscope --no-loadscope-reorder
STAMP := $(VENV)/.installed

# Hundreds of processes are started: each of them would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo dev test test-quick test-collector lint format bench bench-quick lock ci clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | \
		while IFS='|' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done

venv: $(STAMP) ## Make the virtual environment (.venv) with every dependency, pinned by hash

$(STAMP): requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || { python=$$(scripts/find-python) && "$$python" -m venv $(VENV); }
	@echo "Installing the dependencies into $(VENV) (only when they change) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: venv ## Run real work through the whole system and write demo-report.md
	$(BIN)/python examples/demo.py $(ARGS)

dev: venv ## Start the whole system and keep it running (Ctrl-C ends it)
	$(BIN)/jobledger dev $(ARGS)

test: venv ## Run the whole test suite (ARGS='-k name' for a part)
	$(BIN)/pytest -q $(PARALLEL) $(ARGS)

test-quick: venv ## Run the tests that need neither broker nor Postgres, but for the longest
	$(BIN)/pytest -q $(PARALLEL) -m 'not kafka and not postgres and not chaos and not slow' $(ARGS)

lint: venv ## Check style, types, import rules, exported schemas and generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	MYPYPATH=examples $(BIN)/mypy examples/demo.py examples/stdlib_index.py
	MYPYPATH=scripts/dashboards $(BIN)/mypy scripts/dashboards
	$(BIN)/python scripts/sync-operations --check
	$(BIN)/python scripts/sync-client --check
	$(BIN)/python scripts/sync-dashboards --check
	$(BIN)/lint-imports
	$(BIN)/jobledger schema check

format: venv ## Put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/sync-operations
	$(BIN)/python scripts/sync-client
	$(BIN)/python scripts/sync-dashboards

bench: venv ## Measure speed and recovery (about 20 minutes)
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-quick: venv ## Measure the same on less work (about 2 minutes)
	$(BIN)/python benchmarks/run.py --quick $(ARGS)

test-collector: ## Build an OpenTelemetry Collector and let it check deploy/otel (needs Go, some minutes)
	scripts/test-collector

lock: venv ## Pin the dependencies anew after a change in pyproject.toml (ARGS=--upgrade for the newest)
	VENV=$(VENV) scripts/lock $(ARGS)

ci: ## Do what continuous integration does
	.ci/run

clean: ## Remove caches and the data of `make dev`
	rm -rf .jobledger .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
