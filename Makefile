# Everything runs inside .venv, which the first target that needs it creates from the locked versions.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Packages without wheels here would need compilers; hashes make an install reproducible or fail.
INSTALL := $(PIP) install --require-hashes

.DEFAULT_GOAL := help
.PHONY: help demo paper test lint clean lock

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo.stamp ## Train on scikit-learn's digits (about a minute) and draw pictures in runs/digits.
	$(BIN)/python -m experiments.digits --resume

paper: .venv/demo.stamp ## Train and draw every figure of the paper in runs/paper: hours on a CPU, resumable. PAPER_FLAGS adds flags.
	for figure in figure2 figure3 figure4 figure5 full_vb; do \
	  $(BIN)/python -m experiments.$$figure $(PAPER_FLAGS) || exit 1; \
	done

test: .venv/dev.stamp ## Run the test suite but for its slow part, which is PYTEST_FLAGS="-m slow".
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile -m "not slow" $(PYTEST_FLAGS)

lint: .venv/dev.stamp ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean: ## Remove .venv and caches. Runs and data stay.
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +

lock: ## Renew the locked versions (needs uv).
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra experiments --group build -o requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra experiments --group dev -c requirements.lock -o requirements-dev.lock pyproject.toml

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 to 3.13; name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/demo.stamp: requirements.lock pyproject.toml | .venv/bin/python
	@echo "installing locked versions into .venv (some minutes the first time)"
	$(INSTALL) -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/demo.stamp
	$(INSTALL) -r requirements-dev.lock
	@touch $@
