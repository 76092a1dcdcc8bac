.DEFAULT_GOAL := help
# The first Python that runs, is 3.11 to 3.13 and can make a venv; PYTHON=... overrules.
USABLE := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(USABLE)' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
EXAMPLES := $(if $(CI),100,25)

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed ## Install Dear and its locked dependencies into .venv

.venv/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(USABLE)' || { echo "Dear needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt install python3-venv). Another one: make install PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install ## Start everything, replay a year of a real shop, print the report
	$(BIN)/dear demo

test: test-unit test-properties test-whole ## Run every test that needs only Python (the peers of the models, which are large, have their own: test-peers)

test-unit: install ## Run the tests that start nothing, within ten seconds
	$(BIN)/python -m pytest tests/unit -m 'not (hypothesis or properties)'

# The properties and long stories that stand among the units, too: there, one process would go through all of them.
test-properties: install ## Run fits, back-tests and what is tried in every order, on every core
	DEAR_TEST_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/properties tests/unit -m 'hypothesis or properties' --numprocesses auto

# A file's tests stay together: they share a broker and a database, which each process has of its own.
test-whole: install ## Run the tests that start brokers, databases and whole systems
	DEAR_TEST_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests --ignore tests/unit --ignore tests/properties --ignore tests/peers --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 20

test-kafka: install ## Run the stream and end-to-end suites against Apache Kafka (Java 17, Maven)
	$(BIN)/python -m stack.apache_kafka --check
	DEAR_TEST_BROKER=kafka $(BIN)/python -m pytest tests/stream tests/e2e

peers: install .venv/.peers ## Install what ours is compared with (scikit-learn, lifetimes, mpmath, Quix Streams)

# The lock is whole, and --no-deps keeps pip from refusing the pydantic that pyproject.toml overrides for quixstreams.
.venv/.peers: requirements-peers.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-peers.lock
	@touch $@

test-peers: peers ## Compare the scoring models with their peers
	$(BIN)/python -m pytest tests/peers

bench: peers ## Measure the stream against its peers, on Apache Kafka where Java 17 and Maven are (BENCH="--broker embedded --quick")
	$(BIN)/python -m benchmarks.stream $(BENCH)

check: install ## Lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: install ## Resolve the dependencies again and write the lock files
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra embedded --extra build --extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra build -c requirements.lock pyproject.toml -o requirements-runtime.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra peers -c requirements.lock pyproject.toml -o requirements-peers.lock

clean: ## Remove what was built and what was run
	rm -rf .venv var build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help install demo test test-unit test-properties test-whole test-kafka peers test-peers bench check format lock clean
