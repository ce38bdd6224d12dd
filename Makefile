# make demo | test | fuzz | check | bench: each prepares what it needs, from nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.biject-installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# With the default OpenMP wait policy two threads on a shared machine can be 10 times slower than one.
export OMP_WAIT_POLICY ?= passive
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

.PHONY: setup demo test test-slow test-wheel test-fresh fuzz check format bench bench-all gpu bench-unequal matrix attacks api help-texts clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Biject needs Python 3.11 or newer, this is " + sys.version + "; say make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/python scripts/demo.py

test: setup
	-$(BIN)/python scripts/fetch_real.py
	$(TEST) -m "not slow and not gpu and not hub" tests

test-slow: setup
	-$(BIN)/python scripts/fetch_real.py
	$(TEST) -m "not gpu and not hub" tests

# The installed package, without the source tree: what a user gets.
test-wheel: setup
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --outdir build/wheel .
	$(PIP) --no-deps --target build/wheel/site build/wheel/*.whl
	cp -r tests pyproject.toml build/wheel/
	cd build/wheel && PYTHONPATH=site BIJECT_INSTALLED=1 OMP_NUM_THREADS=1 ../../$(BIN)/python -m pytest -q -m "not slow and not gpu and not hub" tests/unit tests/cli

# From the wheel in an environment that has nothing: `biject init x && cd x && make run`, under two minutes.
test-fresh: setup
	-$(BIN)/python scripts/fetch_real.py
	OMP_NUM_THREADS=1 scripts/fresh_environment.sh

# 21,000 spoilt checkpoints; each must end in one of our errors or in success, within 1 s and 200 MB.
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/fuzz.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file scripts/mypy.ini
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Ours beside transformers; rewrites the table of docs/benchmarks.md. `make bench-all`: every script as well.
bench: setup
	$(BIN)/biject bench --out build/bench --table docs/benchmarks.md

bench-all: bench
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Everything that needs a CUDA device, in nine minutes: build/gpu.json.
gpu: setup
	OMP_NUM_THREADS=4 $(BIN)/python scripts/run_gpu.py build/gpu.json

# Shares by measured speed beside DistributedDataParallel; processes are slowed from outside.
bench-unequal: setup
	$(BIN)/python benchmarks/bench_unequal.py --ratios 1,2,3,8 --several

# Rewrites the table in README.md from what `biject verify-matrix` finds now.
matrix: setup
	$(BIN)/python scripts/write_matrix.py

# Runs every attack and writes how many were tried and right into docs/verify.md.
attacks: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/count_attacks.py

# Rewrites docs/api.md and docs/recipe.md from docstrings and settings, and the tables of docs/plan.md.
api: setup
	$(BIN)/python scripts/write_api.py
	$(BIN)/python scripts/write_recipe.py
	$(BIN)/python scripts/write_contract.py

# Rewrites the texts that `biject --help` prints without importing anything.
help-texts: setup
	$(BIN)/python -m biject.cli.generate_help

clean:
	rm -rf build dist .demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis $(STAMP)
