# Two commands do all: `make run` sets up and runs the fleet, `make test` sets up and tests it.
SHELL := /bin/bash
FLEET ?= fleets/demo.yaml
NAME = $(shell sed -n "s/^fleet: *\([a-z0-9-]*\).*/\1/p" $(FLEET))
RUN_GROUPS = base llm data ml documents development env-semgrep
DEV_GROUPS = base llm data ml documents development postgres rabbitmq valkey env-semgrep go node dev
BIN = .venv/bin

.PHONY: run down test test-vm lint bench bench-queue docs setup setup-dev lock

run: setup ## set up, bring the fleet up, run the demonstration on it, leave it running
	@$(BIN)/sutazai up $(FLEET)
	@$(BIN)/sutazai demo --fleet $(NAME)

down: ## stop the fleet; leaves no process, cgroup or socket
	@if [ -x $(BIN)/sutazai ]; then $(BIN)/sutazai down --fleet $(NAME); else echo "nothing was set up here"; fi

test: setup-dev ## set up and pass all tests: the unit tests on all cores, then those that start processes, one by one
	@scripts/system-packages
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest -n auto --dist loadfile tests/unit
	@$(BIN)/python -m pytest --ignore tests/unit
endif

test-vm: setup-dev ## run a fleet on a host of its own: systemd, cgroup v2, 12 cores, a reboot, a power cut
	@SUTAZAI_VM=1 $(BIN)/python -m pytest -s tests/vm $(ARGS)

lint: setup-dev ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup-dev ## measure, side by side with the alternative, and print the table
	@$(BIN)/python bench/run.py $(ARGS)

bench-queue: setup-dev ## measure the queue beside dramatiq, Celery, taskiq, procrastinate, huey and DBOS
	@scripts/bootstrap $(DEV_GROUPS) env-bench
	@$(BIN)/python bench/queue/run.py $(ARGS)

docs: setup-dev ## write the generated pages of the reference
	@$(BIN)/python scripts/generate_reference.py
	@$(BIN)/python -m sutazai.telemetry.reference docs/reference

setup:
	@scripts/bootstrap $(RUN_GROUPS)

setup-dev:
	@scripts/bootstrap $(DEV_GROUPS)

lock: setup-dev ## resolve requirements/*.in anew
	@scripts/lock
