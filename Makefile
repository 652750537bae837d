# The commands of the README. A fresh machine needs Python 3.11 to 3.13 (with venv), make and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo dev test test-fast test-redis chaos interop lint bench docs-text docs lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "mailer needs Python 3.11, 3.12 or 3.13; run make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "this Python cannot make an environment; install its venv package (Debian: python3-venv)" >&2; exit 1; }

# What runs: the project with its embedded extra, every package by hash.
$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing the project" >&2
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# What builds the site of the documents.
$(VENV)/.docs: requirements-docs.lock $(VENV)/.run
	@echo "installing what the site needs" >&2
	@$(PIP) install --require-hashes -r requirements-docs.lock
	@touch $@

# What tests and checks it.
$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "installing what the tests need" >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.run ## send the sample campaign through a simulated SES
	@$(BIN)/mailer demo

dev: $(VENV)/.run ## keep the same stack running for other programs
	@$(BIN)/mailer dev

# Most tests wait (for a lease to end, for a rate, for a process to start), so five at a time keep two cores busy. A file stays
# in one process, for its tests share servers. Files start in the order of their names: those of tests/crash, which take the
# longest and come one after the other (tests/conftest.py), are the first, and the short ones of tests/unit fill up the end.
AT_ONCE := -n 5 --dist loadfile --no-loadscope-reorder
# Many images forbid Python to keep what it has compiled. Each of the processes that the tests start would compile it again.
unexport PYTHONDONTWRITEBYTECODE

test: $(VENV)/.dev ## every test
	@$(BIN)/python -m tests.interop.node install-if-node
	@$(BIN)/python -m pytest $(AT_ONCE) -m "not alone"
	@$(BIN)/python -m pytest -m alone

# What takes the processor for seconds, or asks another program, is marked `slow` and left to `make test`.
test-fast: $(VENV)/.dev ## the unit tests but the slow ones, in less than a minute
	@$(BIN)/python -m pytest -n auto --dist loadfile -m "not alone and not slow" tests/unit

# A server is not the same as the next one in its scripts, streams, time-outs, persistence and access control.
SERVER_TESTS := $(addprefix tests/integration/test_,$(addsuffix .py,scripts redis_access redis_commands redis_reach failover queue ledger limiter_model events_model \
  events events_in campaign_control suppression suppressed_sending maybe_stored until_stored unclaim late_and_lost identities \
  archive delivery disk doctor)) tests/crash/test_outage.py
REDIS_SERVER ?= redis-server

test-redis: $(VENV)/.dev ## the tests that depend on the server, on another one: REDIS_SERVER=redis-server
	@command -v $(REDIS_SERVER) >/dev/null \
	  || { echo "there is no $(REDIS_SERVER) here; install one (Debian: apt-get install redis-server)" >&2; exit 1; }
	@$(REDIS_SERVER) --version >&2
	@TEST_REDIS_SERVER=$(REDIS_SERVER) $(BIN)/python -m pytest $(AT_ONCE) -m "not alone" $(SERVER_TESTS)

chaos: $(VENV)/.dev ## whole campaigns through crashes of everything, 20 seeds of each kind (some hours)
	@CHAOS=full $(BIN)/python -m pytest tests/crash
	@$(BIN)/python -m tests.bench events
	@$(BIN)/python -m tests.crash --jobs 2

interop: $(VENV)/.dev ## install node, if there is none, and the SES server on it that the tests send to
	@$(BIN)/python -m tests.interop.node install

lint: $(VENV)/.dev $(VENV)/.docs ## ruff, mypy --strict, import-linter, length and cycles of modules, deploy files, links of the documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m tests.structure
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	@$(BIN)/python -m tests.docs.site

bench: $(VENV)/.dev ## the figures of docs/benchmarks.md
	@$(BIN)/python -m tests.bench

docs-text: $(VENV)/.run ## write the documents that are generated from the code: settings, commands, metrics
	@$(BIN)/python -m tests.docs

docs: $(VENV)/.docs ## build the site of the documents, in site/
	@$(BIN)/python -m tests.docs.site

lock: interop ## resolve the dependencies anew (names, versions and hashes only)
	@$(BIN)/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra embedded --group build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra embedded --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group docs -c requirements-dev.lock -o requirements-docs.lock
	@$(BIN)/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group interop -o requirements-interop.lock
	@$(BIN)/python -m tests.interop.node lock

clean: ## remove what the targets made
	@rm -rf $(VENV) tests/interop/node_modules site .site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .bench dist
