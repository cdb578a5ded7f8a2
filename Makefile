# Everything runs in .venv, which `make venv` builds once from pyproject.toml with the versions of constraints.txt.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
# Tests, demo and bench may look for nats-server and callboard on PATH, as in a shell that has the venv activated. Not
# for all targets: FIND_PYTHON must not find the interpreter of the venv that it is about to replace.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python

# The first interpreter that runs (a version manager's shim may exist and not run), is new enough and can make a venv.
FIND_PYTHON = for p in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo "$$p"; exit 0; fi; done; \
	echo "callboard needs Python 3.11 or newer with the venv module (set PYTHON=/path/to/python3)" >&2; exit 1

.PHONY: help
help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

.PHONY: venv
venv: $(READY) ## Make .venv with everything that development needs (done once)

$(READY): pyproject.toml constraints.txt
	@echo "making .venv (once; about half a minute)"
	@python="$$($(FIND_PYTHON))"; "$$python" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,embedded]'
	@touch $@

.PHONY: demo
demo: venv ## Start a server, a node and its actors, run a real job and kill a process in the middle
	$(RUN) -m examples.demo $(ARGS)

.PHONY: demo-agents
demo-agents: venv ## Have a team of agents answer a question from real figures, and kill one of them in the middle
	$(RUN) -m examples.agents.demo $(ARGS)

.PHONY: bench
bench: venv ## Measure the system against the hand-written floor
	$(RUN) -m bench $(ARGS)

.PHONY: chaos
chaos: venv ## Kill, stop and cut off what runs under load, and check every promise
	$(RUN) -m bench.chaos $(ARGS)

.PHONY: check
check: venv ## Format, lint and types
	$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff .; exit 1; }
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

# Most tests wait, for processes and for time-outs that are part of what they show: so several run on each core, as many
# as tests/conftest.py says. Hundreds of processes are started, and each would compile our modules anew if the shell
# forbids Python to keep them compiled.
# pytest comes last, so that its closing line is the last that is printed. Import directions, house rules and the
# examples are tests as well (tests/test_imports.py, tests/test_house.py, tests/test_examples.py).
.PHONY: test
test: check ## Everything that has to pass: check, then all tests (ARGS are passed to pytest)
	unset PYTHONDONTWRITEBYTECODE; $(RUN) -m pytest -n auto --dist worksteal $(ARGS)

.PHONY: fmt
fmt: venv ## Format the code and repair what can be repaired
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

.PHONY: clean
clean: ## Remove .venv and everything that was built or cached
	rm -rf .venv build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
