# Datong. `make help` lists the verbs; each is short and does what CI does.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
LOCK := $(BIN)/uv pip compile --quiet --system-certs --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml requirements/build.in

.PHONY: help setup up demo test test-faults bench lint format lock docs clean

help: ## list the verbs
	@echo "make VERB [ARGS='...']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/stamp-dev ## install everything for working on the project into .venv

up: $(VENV)/stamp-runtime ## set up and run a real mesh on this machine: make up ARGS='--port 9443'
	@exec $(BIN)/datong up --end-with-parent $(ARGS)

demo: $(VENV)/stamp-runtime ## a scripted tour that checks itself, then ends
	@exec $(BIN)/datong demo $(ARGS)

# Three processes keep two cores busy: tests of whole meshes wait much. In their order, so that the longest do not come last.
test: $(VENV)/stamp-dev ## all tests, some at once: make test ARGS='-k registry'
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-faults: $(VENV)/stamp-dev ## only the tests that kill processes and fill disks
	$(BIN)/python -m pytest -m faults -v $(ARGS)

bench: $(VENV)/stamp-dev ## the full path beside its peers, interleaved; takes minutes: make bench ARGS='--rounds 3'
	$(BIN)/python -m benchmarks $(ARGS)
	@test -n "$(ARGS)" || $(BIN)/python -m benchmarks.large_bodies
	@test -n "$(ARGS)" || $(BIN)/python -m benchmarks.slow_department

lint: $(VENV)/stamp-dev ## formatting, lint rules, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/stamp-dev ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/stamp-dev ## check that documents and code say the same
	$(BIN)/python -m pytest tests/test_documents.py $(ARGS)

lock: $(VENV)/stamp-dev ## choose dependency versions anew: make lock ARGS='--upgrade'
	$(LOCK) --extra demo --output-file requirements/runtime.txt $(ARGS)
	$(LOCK) --extra demo --extra test --extra bench -c requirements/runtime.txt --output-file requirements/dev.txt $(ARGS)
	@! grep -nE '://|file:|--(index|find)' requirements/runtime.txt requirements/dev.txt

clean: ## remove what the verbs made, but no mesh's data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run take a moment. Hashes are checked on every download: what runs is what was locked.
$(VENV)/stamp-runtime: requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo "installing pinned dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/stamp-dev: requirements/dev.txt requirements/foreign.txt $(VENV)/stamp-runtime
	@echo "installing pinned development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/foreign.txt \
		--target $(VENV)/foreign --upgrade --no-deps --ignore-requires-python
	@touch $@

# The newest Python that can make the environment. Each is asked, not guessed from its name: version managers leave names
# on PATH behind which nothing is installed.
$(BIN)/python:
	@for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$python cannot make virtual environments: that part of Python is packaged apart here." >&2; \
			echo "On Debian and Ubuntu: apt-get install python3-venv, then make again." >&2; \
			exit 1; \
		fi; \
		echo "making $(VENV) with $$("$$python" --version)"; \
		exec "$$python" -m venv --clear $(VENV); \
	done; \
	echo "Python 3.11 or newer is needed; tried $(PYTHONS) and found none." >&2; \
	echo "Install one, or say where it is: make PYTHON=/opt/python3.12/bin/python3" >&2; \
	exit 1
