# `make demo` and `make test` work on a machine with Python, make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FLOOR := .venv-floor
# What is compiled once is kept: the tests begin a thousand processes that import the same.
unexport PYTHONDONTWRITEBYTECODE
# What is downloaded, one line a package.
PROGRESS := --disable-pip-version-check --progress-bar on
BLACK := $(BIN)/black --quiet --line-length 100 --target-version py310

# Most tests wait for servers and workers; a file's tests stay together and share their workers.
# In the order of the folders, so that those that take long do not come last.
PARALLEL := -n 6 --dist loadfile --no-loadscope-reorder

# Those that meet other libraries: servers, Celery, click, croniter.
FLOOR_TESTS := tests/contract tests/acceptance tests/integration tests/unit/test_cron.py \
	tests/unit/test_frequency.py tests/unit/test_scheduler_events.py tests/unit/test_url.py
# Of those, what installs its own or measures, and what only reads our pages.
FLOOR_TESTS += $(patsubst %,--ignore=tests/%.py,acceptance/test_installation acceptance/test_first_hour \
	acceptance/test_benchmarks acceptance/test_docs_site acceptance/test_guarantees \
	integration/test_history_size)

.PHONY: venv demo test test-floor test-servers lint format docs reference benchmarks chaos test-bench

venv: $(VENV)/installed

$(VENV)/installed: setup.py setup.cfg pyproject.toml
	@echo "Installing into $(VENV): half a minute, or two."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PROGRESS) --editable '.[test,lint]'
	touch $@

demo: venv  ## the main job, on an embedded server and real workers; make demo ARGS=--keep
	$(BIN)/python examples/shop/demo.py $(ARGS)

test: venv  ## every test; servers that are absent are named (and fail where CI is set)
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

$(FLOOR)/installed: setup.py setup.cfg pyproject.toml tests/floor.txt
	@echo "Installing into $(FLOOR): half a minute, or two."
	test -x $(FLOOR)/bin/python || $(PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/python -m pip install $(PROGRESS) \
		--constraint tests/floor.txt --editable '.[frappe15,test]' hiredis
	touch $@

test-floor: $(FLOOR)/installed  ## the tests that meet other libraries, on the oldest ones that we run on
	$(FLOOR)/bin/python -m pip check
	$(FLOOR)/bin/python -m pip freeze --exclude-editable
	$(FLOOR)/bin/python -m pytest $(PARALLEL) $(FLOOR_TESTS) $(ARGS)

test-servers: venv  ## newer servers than the machine has, in folders of their own; ARGS="--write docs"
	$(BIN)/python tests/servers $(ARGS)

lint: venv
	$(BLACK) --check . && $(BIN)/isort --check --quiet . || { echo "run: make format"; exit 1; }
	$(BIN)/flake8
	$(BIN)/mypy

format: venv
	$(BIN)/isort --quiet .
	$(BLACK) .

docs: venv  ## the site, in build/site: no warning, no dead link
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

reference: venv  ## docs/settings.md, docs/api.md, the manual page, docs/pictures/order.svg: from the code
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/order_picture.py

benchmarks: $(VENV)/benchmarks  ## measure, and renew docs/benchmarks.*; about eight minutes
	$(BIN)/python -m benchmarks --write docs $(ARGS)

$(VENV)/benchmarks: $(VENV)/installed
	$(BIN)/python -m pip install $(PROGRESS) --editable '.[benchmarks]'
	touch $@

chaos: venv  ## everything goes wrong: CHAOS_SEED=7 repeats a run, CHAOS_WRITE=docs renews its page
	CHAOS=full $(BIN)/python -m pytest -q -n 2 --dist loadfile tests/chaos $(ARGS)

test-bench: venv  ## beside a real Frappe bench: make test-bench BENCH=/path/to/bench SITE=name
	@test -n "$(BENCH)" || { echo "Which bench? make test-bench BENCH=/path/to/bench SITE=name"; exit 2; }
	BENCH="$(BENCH)" SITE="$(SITE)" $(BIN)/python -m pytest tests/frappe_bench $(ARGS)
