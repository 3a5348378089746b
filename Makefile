# Two commands do everything on a fresh machine: `make demo` and `make test`. Wanted beforehand: Python >= 3.11, make, git.
VENV ?= .venv
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p))))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SELF := $(PIP) --no-deps --no-build-isolation --editable .
STAMPS := $(VENV)/.anchovies
PYTEST := $(BIN)/python -m pytest

comma := ,
empty :=
COMMIT_CODE := $(subst $(empty) $(empty),$(comma),$(addprefix */store/,$(addsuffix .py,log rivals follow snapshot lease history state checkpoints segments ledgers garbage maintain cursors heads))),*/sql/position.py

.DEFAULT_GOAL := help
.PHONY: help demo test check cover lint types layers docs bench chaos setup reference lock clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMPS)/demo ## the main job, offline: SFTP files -> datastore -> DuckDB, a changed file, the second run
	@$(BIN)/anchovy demo

test: $(STAMPS)/dev ## the tests, without the slow ones (a few minutes)
	$(PYTEST) -m "not slow"

check: lint types layers cover docs ## everything that .ci/run checks
	$(PYTEST) --ignore tests/docs

lint: $(STAMPS)/dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

cover: $(STAMPS)/dev ## every branch of the commit code is taken by a quick test of its own
	$(PYTEST) tests/unit/store tests/unit/plugins/sql tests/conformance/test_datastores.py tests/sim/test_histories.py -m "not slow" --cov=anchovies.store --cov=anchovies.plugins.sql --cov-branch --cov-report=
	$(BIN)/python -m coverage report --skip-covered --show-missing --fail-under=100 --include='$(COMMIT_CODE)'

types: $(STAMPS)/dev ## mypy, strict
	$(BIN)/mypy

layers: $(STAMPS)/dev ## the import contracts
	$(BIN)/lint-imports

docs: $(STAMPS)/dev ## every snippet runs, every generated page is fresh
	$(PYTEST) tests/docs

reference: $(STAMPS)/dev ## write the generated pages of docs/reference
	$(BIN)/python -m anchovies.cli.reference

bench: $(STAMPS)/bench ## the jobs of bench/, each beside its floor (JOBS="J1 J6" RUNS=5)
	$(BIN)/python -m bench $(JOBS) $(if $(RUNS),--runs $(RUNS))

chaos: $(STAMPS)/dev ## disasters until you stop it, with a counter (MINUTES=30 SEED=1 ONLY=local,postgres)
	@$(BIN)/python -m anchovies.testing.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

setup: $(STAMPS)/dev ## only make the virtual environment

lock: ## pin the dependencies anew (wants uv)
	tools/lock.sh

clean: ## remove what was built, not the virtual environment
	rm -rf build dist .demo .bench .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("anchovies wants Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# Each set of locked requirements holds the one before it and is whole, so pip has nothing to resolve (left to itself it takes the
# newest `coverage[toml]`, which is not the locked one, and then refuses it); a stamp says that it was installed.
define install
	@mkdir -p $(STAMPS)
	$(PIP) --no-deps --require-hashes --requirement requirements/$(1).txt
	$(SELF)
	@touch $(2)
endef

$(STAMPS)/demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	$(call install,demo,$@)

$(STAMPS)/dev: requirements/ci.txt pyproject.toml | $(BIN)/python
	$(call install,ci,$@ $(STAMPS)/demo)

$(STAMPS)/bench: requirements/bench.txt pyproject.toml | $(BIN)/python
	$(call install,bench,$@ $(STAMPS)/dev $(STAMPS)/demo)
