# One environment for everything: `make demo` and `make test` both stand on `make env`.
# Set PYTHON to choose the interpreter (3.11 to 3.13), VENV to choose where the environment is.

PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := airflow,redis,postgres,serve,http,polars,examples
UV := $(shell command -v uv 2>/dev/null)
ONLY ?=

.DEFAULT_GOAL := help
.PHONY: help env data demo up check test chaos chaos-long bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

env: $(VENV)/.ready  ## make the environment in .venv (uv when present, else pip)

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found on the path: set PYTHON=/path/to/python"; exit 1; }
ifneq ($(UV),)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]' --group dev
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]' --group dev
endif
	@touch $@

data: env  ## write the example's data under data/
	@$(BIN)/python -m scripts.flights_data

demo: env data  ## backfill the flights through Airflow, then read them back
	@$(BIN)/python -m scripts.demo

up: env data  ## run Airflow with the flights project, until Ctrl-C
	@$(BIN)/python -m scripts.up

check: env  ## format, lint, types, architecture and the tests of definitions and plans
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not integration and not end_to_end' \
		tests/architecture tests/definitions tests/plan

test: env data  ## the whole suite, with real Redis, PostgreSQL, S3 and Airflow
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

chaos: env  ## kill, stop and interleave publishing a thousand times
	$(BIN)/python -m tests.chaos

chaos-long: env  ## the same ten thousand times, on every store, with zombies, syscalls and a real Airflow
	$(BIN)/python -m tests.chaos --long

bench: env data  ## all benchmarks, or one: make bench ONLY=windowed_year
	@$(BIN)/python -m benchmarks.run $(ONLY)

clean:  ## remove what runs have left (not the data, not the environment)
	rm -rf .fstore .airflow build .pytest_cache .mypy_cache .ruff_cache .hypothesis
