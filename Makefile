# Everything runs inside .venv. The first target that needs it creates it from the locked versions.

PYTHON ?= python3
BIN := .venv/bin
OLDEST := .venv/oldest/bin
OLDEST_PYTHON ?= $(BIN)/python
NEWEST := .venv/newest/bin
# pyenv's folder, for Python versions that are not on the path under their names.
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
NEWEST_PYTHON ?= $(firstword $(foreach version,3.13 3.12,$(shell \
  for python in python$(version) $(PYENV)/$(version).*/bin/python; do \
    $$python -c 'import ensurepip' 2>/dev/null && { echo $$python; break; }; done)))
ACCELERATORS := .venv/accelerators/bin
OLDEST_TESTS := $(addprefix tests/test_,$(addsuffix .py,evaluation marginal_likelihood objectives population \
  reparameterize streaming training))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Packages without wheels need compilers. Hashes make an install reproducible: it fails if a package differs.
INSTALL := $(PIP) install --require-hashes

.DEFAULT_GOAL := help
.PHONY: help demo paper test test-newest newest-python test-oldest docs docs-test docs-links accelerators lint audit clean lock

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo.stamp ## Train on scikit-learn's digits (about a minute) and draw pictures into runs/digits.
	$(BIN)/python -m experiments.digits --resume

paper: .venv/demo.stamp ## Train and draw every figure of the paper into runs/paper: hours on a CPU, resumable. PAPER_FLAGS adds flags.
	for figure in figure2 figure3 figure4 figure5 full_vb; do \
	  $(BIN)/python -m experiments.$$figure $(PAPER_FLAGS) || exit 1; \
	done

test: .venv/dev.stamp ## Run the test suite without the slow tests; run those with PYTEST_FLAGS="-m slow".
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile -m "not slow" $(PYTEST_FLAGS)

test-newest: .venv/newest.stamp ## Run the same with the newest Python found, 3.13 or 3.12, and its locked versions.
	$(NEWEST)/python -m pytest --numprocesses=auto --dist=loadfile -m "not slow" $(PYTEST_FLAGS)

test-oldest: .venv/oldest.stamp ## Run the library's tests with the oldest versions that pyproject.toml allows.
	$(OLDEST)/python -m pytest --numprocesses=auto --dist=loadfile -m "not slow" $(OLDEST_TESTS) $(PYTEST_FLAGS)

SITE := docs/_build/html
SPHINX := $(BIN)/python -m sphinx --jobs=auto --builder=html
docs: .venv/docs.stamp ## Build the documentation into docs/_build/html, and run its tutorials.
	$(BIN)/python docs/vendor.py
	$(SPHINX) docs $(SITE)

# Links to other sites are checked by docs-links.
docs-test: .venv/docs.stamp ## Rebuild the documentation with warnings as errors, and check coverage, links and code.
	$(BIN)/python docs/vendor.py
	rm -rf $(SITE) docs/_build/doctrees
	$(SPHINX) --nitpicky --fail-on-warning --keep-going --fresh-env --doctree-dir=docs/_build/doctrees docs $(SITE)
	$(BIN)/python -m docs.checks.coverage $(SITE)
	$(BIN)/python -m docs.checks.links $(SITE)
	$(BIN)/python -m docs.checks.commands
	$(BIN)/python -m pytest --numprocesses=auto tests/test_documentation.py $(PYTEST_FLAGS)

docs-links: .venv/docs.stamp ## Check the documentation's links to other sites; needs a network.
	$(BIN)/python -m sphinx --builder=linkcheck -D nb_execution_mode=off docs docs/_build/links

accelerators: .venv/accelerators.stamp ## Compile for TPUs and a GPU, which need not be present, and print a table: ten minutes.
	$(ACCELERATORS)/python -m tests.accelerators $(ACCELERATORS_FLAGS)

lint: .venv/dev.stamp ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

audit: .venv/dev.stamp ## Check the locked versions for known vulnerabilities.
	$(BIN)/python .ci/audit.py requirements.lock requirements-dev.lock

clean: ## Remove .venv and caches, but not runs and data.
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist docs/_build docs/_vendor
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +

COMPILE := uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra experiments
lock: ## Update the locked versions (needs uv).
	$(COMPILE) --universal --group build -o requirements.lock pyproject.toml
	$(COMPILE) --universal --group dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	$(COMPILE) --universal --group docs -c requirements-dev.lock -o requirements-docs.lock pyproject.toml
	$(COMPILE) --python-platform linux --resolution=lowest-direct --group test -o requirements-oldest.lock pyproject.toml
	$(COMPILE) --python-platform x86_64-manylinux_2_31 --group accelerators -c requirements.lock -o requirements-accelerators.lock pyproject.toml

# pip is the last part of a new environment. An environment left incomplete by a kill has no pip and is created again.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 to 3.13; choose another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv

.venv/demo.stamp: requirements.lock pyproject.toml | .venv/bin/pip
	@echo "installing locked versions into .venv (takes some minutes the first time)"
	$(INSTALL) -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/demo.stamp
	$(INSTALL) -r requirements-dev.lock
	@touch $@

.venv/docs.stamp: requirements-docs.lock .venv/dev.stamp
	$(INSTALL) -r requirements-docs.lock
	@touch $@

.venv/oldest.stamp: requirements-oldest.lock pyproject.toml | .venv/bin/pip
	@$(OLDEST_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: the oldest versions need Python 3.11: make test-oldest OLDEST_PYTHON=python3.11" >&2; exit 1; }
	$(OLDEST_PYTHON) -m venv --clear .venv/oldest
	$(OLDEST)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-oldest.lock
	$(OLDEST)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/accelerators.stamp: requirements-accelerators.lock pyproject.toml | .venv/bin/pip
	@$(OLDEST_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: the compilers need Python 3.11: make accelerators OLDEST_PYTHON=python3.11" >&2; exit 1; }
	@echo "installing JAX and the compilers for TPUs and GPUs into .venv/accelerators (440 MB to download)"
	$(OLDEST_PYTHON) -m venv --clear .venv/accelerators
	$(ACCELERATORS)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-accelerators.lock
	$(ACCELERATORS)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

newest-python:
	@test -n "$(NEWEST_PYTHON)" || { echo "error: no Python 3.13 or 3.12 found: make test-newest NEWEST_PYTHON=..." >&2; exit 1; }
	@echo "$(NEWEST_PYTHON)"

.venv/newest.stamp: requirements-dev.lock requirements.lock pyproject.toml | .venv/bin/pip newest-python
	@echo "installing locked versions for $(NEWEST_PYTHON) into .venv/newest"
	$(NEWEST_PYTHON) -m venv --clear .venv/newest
	$(NEWEST)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-dev.lock
	$(NEWEST)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@
