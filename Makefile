# Every command of Handful from a fresh clone: Python 3.11 or newer and make are all it takes.
# Another interpreter: `make test PYTHON=python3.13`. More flags for pytest: `make test ARGS="-k swap"`.

PYTHON ?= python3
# Test processes side by side. Files stay whole, so a file's shared server starts once.
WORKERS ?= 2
ARGS ?=

BIN := .venv/bin
READY := .venv/.handful
# pip reads it for the build back end as well, which `-c` alone does not reach.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo serve test test-slow test-gpu lint format bench clean

help:  ## Show this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY)  ## Install everything into .venv

demo: $(READY)  ## Unlabelled images to a served classifier, on Fashion-MNIST (12 minutes)
	@PYTHONPATH=deploy $(BIN)/python -m demo $(ARGS)

serve: $(READY)  ## Serve the champion on http://127.0.0.1:8000
	@exec $(BIN)/handful-serve $(ARGS)

test: $(READY)  ## Run the tests (under 15 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: $(READY)  ## Run the tests that take minutes each
	@$(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

test-gpu: $(READY)  ## Run the tests that need an NVIDIA GPU
	@$(BIN)/pip install -q -c constraints.txt -e ".[gpu]"
	@$(BIN)/python -m pytest -m gpu $(ARGS)

lint: $(READY)  ## Check style, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)  ## Rewrite the code as `make lint` wants it
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench: $(READY)  ## Measure the figures of docs/benchmarks.md
	@PYTHONPATH=deploy:tests/service $(BIN)/python tests/benchmarks/run.py $(ARGS)

clean:  ## Remove .venv and caches; models, packs and mlflow.db stay
	@rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch stands first and by its exact version, so that a CPU wheel found beside the index is taken.
$(READY): pyproject.toml clients/python/pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Handful needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12" % v[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing into .venv (minutes the first time) …" >&2
	@$(BIN)/python -m pip install -q -c constraints.txt "$$(grep '^torch==' constraints.txt)" \
		-e ".[service,registry,training,dev]" -e "clients/python"
	@touch $@
