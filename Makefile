# Everything runs inside .venv, which the first target that needs it creates from the locked versions.

PYTHON ?= python3
BIN := .venv/bin
OLDEST := .venv/oldest/bin
OLDEST_PYTHON ?= $(BIN)/python
NEWEST := .venv/newest/bin
# By that name, or where pyenv keeps those that have none.
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
NEWEST_PYTHON ?= $(firstword $(foreach version,3.13 3.12,$(shell \
  for python in python$(version) $(PYENV)/$(version).*/bin/python; do \
    $$python -c 'import ensurepip' 2>/dev/null && { echo $$python; break; }; done)))
ACCELERATORS := .venv/accelerators/bin
OLDEST_TESTS := $(addprefix tests/test_,$(addsuffix .py,evaluation marginal_likelihood objectives population \
  reparameterize streaming training))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Packages without wheels here would need compilers; hashes make an install reproducible or fail.
INSTALL := $(PIP) install --require-hashes

.DEFAULT_GOAL := help
.PHONY: help demo paper test test-newest newest-python test-oldest docs docs-test docs-links accelerators lint audit clean lock

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo.stamp ## Train on scikit-learn's digits (about a minute) and draw pictures in runs/digits.
	$(BIN)/python -m experiments.digits --resume

paper: .venv/demo.stamp ## Train and draw every figure of the paper in runs/paper: hours on a CPU, resumable. PAPER_FLAGS adds flags.
	for figure in figure2 figure3 figure4 figure5 full_vb; do \
	  $(BIN)/python -m experiments.$$figure $(PAPER_FLAGS) || exit 1; \
	done

test: .venv/dev.stamp ## Run the test suite but for its slow part, which is PYTEST_FLAGS="-m slow".
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile -m "not slow" $(PYTEST_FLAGS)

test-newest: .venv/newest.stamp ## Run the same with the newest Python found, 3.13 or 3.12, and the locked versions for it.
	$(NEWEST)/python -m pytest --numprocesses=auto --dist=loadfile -m "not slow" $(PYTEST_FLAGS)

test-oldest: .venv/oldest.stamp ## Run the library's tests with the oldest versions that pyproject.toml allows.
	$(OLDEST)/python -m pytest --numprocesses=auto --dist=loadfile -m "not slow" $(OLDEST_TESTS) $(PYTEST_FLAGS)

SITE := docs/_build/html
SPHINX := $(BIN)/python -m sphinx --jobs=auto --builder=html
docs: .venv/docs.stamp ## Build the documentation into docs/_build/html; its tutorials run.
	$(BIN)/python docs/vendor.py
	$(SPHINX) docs $(SITE)

# Everything but other people's servers: see docs-links.
docs-test: .venv/docs.stamp ## Build the documentation anew, warnings being errors, and check it, its links and its code.
	$(BIN)/python docs/vendor.py
	rm -rf $(SITE) docs/_build/doctrees
	$(SPHINX) --nitpicky --fail-on-warning --keep-going --fresh-env --doctree-dir=docs/_build/doctrees docs $(SITE)
	$(BIN)/python -m docs.checks.coverage $(SITE)
	$(BIN)/python -m docs.checks.links $(SITE)
	$(BIN)/python -m docs.checks.commands
	$(BIN)/python -m pytest --numprocesses=auto tests/test_documentation.py $(PYTEST_FLAGS)

docs-links: .venv/docs.stamp ## Ask other sites whether the documentation's links to them still work; needs a network.
	$(BIN)/python -m sphinx --builder=linkcheck -D nb_execution_mode=off docs docs/_build/links

accelerators: .venv/accelerators.stamp ## Compile for TPUs and a GPU that need not be there, and print a table: half an hour.
	$(ACCELERATORS)/python -m tests.accelerators $(ACCELERATORS_FLAGS)

lint: .venv/dev.stamp ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

audit: .venv/dev.stamp ## Look the locked versions up among the known vulnerabilities.
	$(BIN)/python .ci/audit.py requirements.lock requirements-dev.lock

clean: ## Remove .venv and caches. Runs and data stay.
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist docs/_build docs/_vendor
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +

COMPILE := uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra experiments
lock: ## Renew the locked versions (needs uv).
	$(COMPILE) --universal --group build -o requirements.lock pyproject.toml
	$(COMPILE) --universal --group dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	$(COMPILE) --universal --group docs -c requirements-dev.lock -o requirements-docs.lock pyproject.toml
	$(COMPILE) --python-platform linux --resolution=lowest-direct --group test -o requirements-oldest.lock pyproject.toml
	$(COMPILE) --python-platform x86_64-manylinux_2_31 --group accelerators -c requirements.lock -o requirements-accelerators.lock pyproject.toml

# Of what makes an environment pip comes last: one that a kill left half made has none, and is made anew.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 to 3.13; name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv

.venv/demo.stamp: requirements.lock pyproject.toml | .venv/bin/pip
	@echo "installing locked versions into .venv (some minutes the first time)"
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
	  { echo "error: the oldest versions are for Python 3.11; name one: make test-oldest OLDEST_PYTHON=python3.11" >&2; exit 1; }
	$(OLDEST_PYTHON) -m venv --clear .venv/oldest
	$(OLDEST)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-oldest.lock
	$(OLDEST)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/accelerators.stamp: requirements-accelerators.lock pyproject.toml | .venv/bin/pip
	@$(OLDEST_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: these compilers are for Python 3.11; name one: make accelerators OLDEST_PYTHON=python3.11" >&2; exit 1; }
	@echo "installing JAX and the compilers of TPUs and GPUs into .venv/accelerators (440 MB to fetch)"
	$(OLDEST_PYTHON) -m venv --clear .venv/accelerators
	$(ACCELERATORS)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-accelerators.lock
	$(ACCELERATORS)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

newest-python:
	@test -n "$(NEWEST_PYTHON)" || { echo "error: no Python 3.13 or 3.12 found; name one: make test-newest NEWEST_PYTHON=..." >&2; exit 1; }
	@echo "$(NEWEST_PYTHON)"

.venv/newest.stamp: requirements-dev.lock requirements.lock pyproject.toml | .venv/bin/pip newest-python
	@echo "installing locked versions for $(NEWEST_PYTHON) into .venv/newest"
	$(NEWEST_PYTHON) -m venv --clear .venv/newest
	$(NEWEST)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-dev.lock
	$(NEWEST)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@
