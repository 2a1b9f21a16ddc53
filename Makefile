# Every command of Handful from a fresh clone: Python 3.11 or newer and make are all it takes.
# Another interpreter: `make test PYTHON=python3.13`. More flags for pytest: `make test ARGS="-k swap"`.

PYTHON ?= python3
# Test processes side by side. Files stay whole, so a file's shared server starts once.
WORKERS ?= 2
ARGS ?=
SECONDS ?= 600

BIN := .venv/bin
READY := .venv/.handful
# pip reads it for the build back end as well, which `-c` alone does not reach.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The images install exactly these, each file with a hash. `make lock` after any change of versions.
LOCKS := service gpu training mlflow build
# Universal: one lock serves x86-64 and ARM. uv resolves as pip would, but for both at once.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--only-binary :all: --no-annotate --custom-compile-command "make lock" -c constraints.txt
# constraints.txt would ask for versions without hashes, which pip does not mix.
INSTALL_LOCKED = env -u PIP_CONSTRAINT $(BIN)/python -m pip

.DEFAULT_GOAL := help
.PHONY: help venv demo serve test test-slow fuzz fuzz-long overload soak models test-gpu lint format bench bench-labels lock sbom audit clean

help:  ## Show this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY)  ## Install everything into .venv

demo: $(READY)  ## Unlabelled images to a served classifier, on Fashion-MNIST (12 minutes)
	@PYTHONPATH=deploy $(BIN)/python -m demo $(ARGS)

serve: $(READY)  ## Serve the champion on http://127.0.0.1:8000
	@exec $(BIN)/handful-serve $(ARGS)

test: $(READY)  ## Run the tests (under 15 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: $(READY)  ## Run the tests that take minutes each
	@$(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

fuzz: $(READY)  ## 10,000 API calls, 10,000 raw requests, 1,000,000 images, all damaged (10 minutes)
	@HANDFUL_CALLS=10000 HANDFUL_MUTANTS=10000 HANDFUL_FUZZ=10 OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -s --timeout 3600 $(ARGS) tests/service/test_openapi_calls.py \
		tests/service/test_http_mutants.py tests/fuzz/test_mutants.py

fuzz-long: $(READY)  ## The same guided by coverage, as long as you like: SECONDS=36000
	@$(BIN)/pip install -q -c constraints.txt -e ".[fuzz]"
	@$(BIN)/python tests/fuzz/coverage_guided.py --seconds $(SECONDS) $(ARGS)

soak: $(READY)  ## 200,000 requests of every kind: memory grows by less than 1 % (10 minutes)
	@HANDFUL_SOAK=$${HANDFUL_SOAK:-200000} OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s $(ARGS) \
		tests/service/test_leak_judge.py tests/service/test_soak.py

overload: $(READY)  ## Ask ten times more of the service than it can do (5 minutes, on a quiet machine)
	@HANDFUL_DISCONNECTS=2000 $(BIN)/python -m pytest -q -s tests/service/test_disconnects.py
	@$(BIN)/python tests/benchmarks/overload.py $(ARGS)

models: $(READY)  ## Swap models 200 times under load, and offer 500 bad ones (15 minutes)
	@HANDFUL_SWAPS=200 HANDFUL_OFFERS=500 HANDFUL_FLIPS=2000 OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -s --timeout 3600 $(ARGS) tests/service/test_swap.py tests/bundle/test_bad_bundles.py

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

bench-labels: $(READY)  ## Measure accuracy per label: every way, every draw (hours; goes on where it stopped)
	@PYTHONPATH=deploy $(BIN)/python tests/benchmarks/bench_labels.py $(ARGS)

lock: $(READY)  ## Write the hashed requirements of the images, and those of the bench's peers, anew
	@$(LOCK) pyproject.toml --extra service --extra registry -o deploy/requirements-service.txt
	@$(LOCK) pyproject.toml --extra service --extra registry --extra gpu -o deploy/requirements-gpu.txt
	@$(LOCK) pyproject.toml --extra training -o deploy/requirements-training.txt
	@printf 'boto3\nmlflow\npsycopg2-binary\n' | $(LOCK) - -o deploy/requirements-mlflow.txt
	@printf 'hatchling\n' | $(LOCK) - -o deploy/requirements-build.txt
	@$(BIN)/python tests/benchmarks/serving_venvs.py

sbom: $(READY)  ## Write what the service's image holds to dist/handful-service.cdx.json (CycloneDX)
	@mkdir -p dist
	@$(PYTHON) -m venv --without-pip --clear dist/service
	@$(INSTALL_LOCKED) --python dist/service install -q --require-hashes --only-binary :all: \
		-r deploy/requirements-service.txt
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
		--output-reproducible --validate --of JSON -o dist/handful-service.cdx.json dist/service
	@rm -rf dist/service

audit: $(READY)  ## Ask the advisory database about every locked package (needs the network)
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off --desc off \
		$$(sed -n 's/^\([A-Z][^ ]*\) .*/--ignore-vuln \1/p' deploy/audit-ignore.txt) \
		$(foreach name,$(LOCKS),-r deploy/requirements-$(name).txt)

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
