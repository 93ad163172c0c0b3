# On a fresh machine: `make demo` and `make test`. Each makes .venv when there is none.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup check test mutants demo bench docs lint types arrows clean \
	planted-faults false-alarms measure-speed bench-train

setup: $(STAMP)

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "missing: $(PYTHON). On Debian: apt-get install python3.11 python3.11-venv;" \
	       "elsewhere: pyenv install 3.11, then make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "$(PYTHON) is not Python 3.11: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "missing: Python's venv. On Debian: apt-get install python3.11-venv"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24'
	$(BIN)/python -m pip install --quiet torch==2.13.0 -e '.[train,dev,bench]'
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

arrows: setup
	$(BIN)/lint-imports

check: lint types arrows

test: setup  # a worker a core, a core a worker
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

mutants: setup
	$(BIN)/python -m benchmarks.mutants

demo: setup
	$(BIN)/kinspace demo

bench: setup
	@echo "see benchmarks/README.md: each table has its own command"

planted-faults: setup  # on a finished `make demo`
	$(BIN)/python -m benchmarks.planted_faults

false-alarms: setup
	$(BIN)/python -m benchmarks.false_alarms

measure-speed: setup
	$(BIN)/python -m benchmarks.measure_speed

bench-train: setup
	$(BIN)/python -m benchmarks.train_speed

docs: setup
	$(BIN)/python -m compat.report_schema > docs/schema/report-1.json
	$(BIN)/typer registry.cli utils docs --name kinspace --output docs/cli.md

clean:
	rm -rf runs build
