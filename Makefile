# One word for each thing to do; `make` alone lists them. Every verb does its own set-up.

BIN := .venv/bin
ARGS ?=
PLANS ?= 2000
N ?= 20000
FLOWER ?=
CORES := tests/shared/runtime/test_routines.py tests/shared/runtime/test_watermarks.py tests/shared/runtime/test_presence_table.py \
	tests/reducer/sessions tests/reducer/test_lease.py tests/reducer/test_membership.py tests/reducer/test_membership_of_combiners.py \
	tests/reducer/test_balancing.py tests/reducer/test_forgetting.py tests/reducer/test_retention.py tests/reducer/test_stopping.py \
	tests/combiner/test_answers.py tests/combiner/test_checkpoints.py tests/combiner/test_core.py \
	tests/combiner/test_plans.py tests/combiner/test_presence.py tests/combiner/test_starting_over.py tests/combiner/test_tickets.py \
	tests/client/role
BLOWS ?= 30
SEED ?= 1
HOURS ?= 1
STACK := $(foreach file,docker-compose reducer combiner mnist-clients stack,-f $(file).yaml)
IN_PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
# Many fast tests wait for an alliance's threads, so one process more than there are processors is faster by a sixth.
# The plugins of schemathesis and anyio take seconds to import, and serve no fast test.
FAST := --fast --numprocesses $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1))) -p no:schemathesis -p no:anyio
PYTEST := $(BIN)/pytest $(IN_PARALLEL)
CAMPAIGN := PYTHONPATH=tests $(BIN)/python -m simulation.campaign
FUZZ := PYTHONPATH=tests $(BIN)/python -m fuzz.run
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
# The first interpreter that runs and is new enough; a shim for a version that is not there fails here.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export COMPOSE_PROJECT_NAME ?= fedmq
# Each process of the tests imports the same modules; without kept bytecode each one compiles all of them again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-release test-with cores check bench simulate fuzz fuzz-servers chaos soak up \
	down lock sbom clean docs

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/installed-all ## make .venv with everything in it

demo: .venv/installed-demo ## train MNIST with five clients and two combiners in one process
	$(BIN)/fedmq sandbox --package examples/mnist/client --clients 5 --combiners 2 --rounds 5 $(ARGS)

test: .venv/installed-all ## run the fast tests, in a minute (ARGS="-k word" for some)
	$(PYTEST) $(FAST) $(ARGS)

test-all: .venv/installed-all ## run every test, with real servers, and 2,000 fault plans, in half an hour
	$(PYTEST) $(ARGS)
	$(CAMPAIGN) --plans 2000

test-release: test-all ## then measure for hours, and keep it in benchmarks/results (FLOWER=/path/to/python for peers)
	.ci/rabbitmq-4
	FEDMQ_TEST_RABBITMQ=4 $(PYTEST) tests/system tests/shared/brokers
	benchmarks/record chaos-30-rabbitmq-4 env FEDMQ_TEST_RABBITMQ=4 BLOWS=30 SEED=4 $(BIN)/python tests/system/chaos.py
	$(CAMPAIGN) --plans 50000 --result benchmarks/results/simulation-50000.json
	$(FUZZ) --messages 1000000 --result benchmarks/results/fuzz-1000000.json
	benchmarks/record chaos-200 env BLOWS=200 SEED=3 $(BIN)/python tests/system/chaos.py
	benchmarks/record fuzz-servers-100000 env PYTHONPATH=tests $(BIN)/python -m fuzz.servers --messages 100000
	benchmarks/record fuzz-blobs-3000 env PYTHONPATH=tests $(BIN)/python -m fuzz.blobs --blobs 3000
	benchmarks/record sandbox-rounds $(BIN)/python benchmarks/sandbox_rounds.py $(if $(FLOWER),--flower $(FLOWER))
	benchmarks/record fold-500 $(BIN)/python benchmarks/fold.py --megabytes 500
	benchmarks/record deployed-round $(BIN)/python benchmarks/deployed_round.py
	benchmarks/record thousand-clients $(BIN)/python benchmarks/thousand_clients.py --rounds 20
	$(MAKE) soak HOURS=1

test-with: OTHER = .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
test-with: ## run the fast tests under another interpreter, without PyTorch and TensorFlow (PYTHON=python3.13 or a path)
	@$(PYTHON) -c '' || { echo "$(PYTHON) does not run: give PYTHON the path of another interpreter" >&2; exit 1; }
	@test -x $(OTHER)/bin/pip || $(PYTHON) -m venv $(OTHER)
	$(OTHER)/bin/pip install -qq --editable '.[server,dashboard,sklearn,dev]'
	$(OTHER)/bin/pytest $(IN_PARALLEL) $(FAST) $(ARGS)

cores: .venv/installed-all ## test the decisions alone, in seconds, and measure the branches covered
	$(BIN)/coverage run -m pytest -q $(CORES) $(ARGS)
	$(BIN)/coverage report --show-missing

check: .venv/installed-all ## lint, formatting, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-all ## measure; every figure beside its floor in the same run
	@for each in benchmarks/[a-z]*.py; do echo "== $$each"; $(BIN)/python $$each || exit 1; done

simulate: .venv/installed-all ## run fault plans on a virtual clock (PLANS=2000, ARGS="--seed 7" for one)
	$(CAMPAIGN) --plans $(PLANS) $(ARGS)

fuzz: .venv/installed-all ## send messages drawn from the schemas to alliances on a virtual clock (N=20000, ARGS="--seed 7" for one)
	$(FUZZ) --messages $(N) $(ARGS)

fuzz-servers: .venv/installed-all ## send such messages to real processes while a session runs (N=20000)
	PYTHONPATH=tests $(BIN)/python -m fuzz.servers --messages $(N) $(ARGS)

chaos: .venv/installed-all ## kill processes and servers at random during a session (BLOWS=30 SEED=1)
	BLOWS=$(BLOWS) SEED=$(SEED) $(BIN)/python tests/system/chaos.py

soak: .venv/installed-all ## run an alliance for hours, with churn, an upgrade and a restore drill (HOURS=1), in benchmarks/results
	benchmarks/record soak-$(HOURS)h $(BIN)/python tests/soak/run.py --hours $(HOURS) \
		--summary benchmarks/results/soak-$(HOURS)h.json $(ARGS)

up: ## start everything in containers, with MNIST clients and a seed (ARGS="--build --scale client=10")
	cd deploy/compose && $(COMPOSE) $(STACK) up --detach $(ARGS)
	@echo "Waiting for the seed"
	@cd deploy/compose && test "$$(docker wait $$($(COMPOSE) $(STACK) ps --all --quiet seed))" = 0 || \
	{ $(COMPOSE) $(STACK) logs seed; exit 1; }
	@cd deploy/compose && certificate=$$($(COMPOSE) $(STACK) exec -T reducer printenv FEDN_REDUCER_TLS_CERT); \
	port=$$($(COMPOSE) $(STACK) exec -T reducer printenv FEDN_REDUCER_PORT); \
	echo "Start a session with: curl $${certificate:+--cacert deploy/compose$$certificate }\
	'$${certificate:+https://}localhost:$$port/start?rounds=5'"

down: ## remove them; what they stored stays (ARGS=--volumes removes that too)
	cd deploy/compose && $(COMPOSE) $(STACK) down $(ARGS)

lock: .venv/installed-all ## lock what the images install, by version and hash (ARGS=--upgrade for newer versions)
	PATH="$$PWD/$(BIN):$$PATH" deploy/compose/lock $(ARGS)

sbom: ## copy from each role's image the list of what it holds, in CycloneDX's form, into build/sbom
	@mkdir -p build/sbom
	@for role in reducer combiner client dashboard; do \
		docker run --rm --entrypoint cat fedmq-$$role /opt/fedmq/sbom.cdx.json > build/sbom/$$role.cdx.json || exit 1; done
	@ls build/sbom/*

clean: ## remove .venv, builds and caches
	rm -rf .venv .venv-* dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

docs: .venv/installed-all ## build the documentation site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A stamp is newer than pyproject.toml exactly when what it names is installed.
.venv/installed-demo: pyproject.toml
	$(call pip-install,tensorflow)

.venv/installed-all: pyproject.toml
	$(call pip-install,all)
	@touch .venv/installed-demo

define pip-install
@test -n "$(PYTHON)" || { echo "FedMQ needs Python 3.11 or newer; none was found." >&2; exit 1; }
@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
@echo "Installing what is needed into .venv (once; some minutes)"
@$(BIN)/pip install -qq --editable '.[$(1)]'
@touch $@
endef
