# Works from a clean clone: every target sets up .venv first, once.
# Another interpreter: make PYTHON=/path/to/python3; other extras: make EXTRAS=dev,data

VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= dev
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& { echo $$p; break; }; done)
comma := ,
PEERS := .peers
PEERS_STAMP := $(PEERS)/.setup
NPM_STAMP := contracts/node_modules/.setup
STAMP := $(VENV)/.setup-$(subst $(comma),-,$(EXTRAS))

AGENTS ?= 1000
RUN_ARGS ?=
BENCHMARKS ?= all
TEST_WORKERS ?= 2
TEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup simulate test bench peers lint format types check anvil hardhat contracts contracts-test wheel clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST) | column -t -s: 2>/dev/null \
	|| sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install raygrid and its tools into .venv

simulate: $(STAMP)  ## Clear a day of a community of AGENTS (1000) prosumers
	$(BIN)/raygrid simulate --agents $(AGENTS) $(RUN_ARGS)

test: $(STAMP)  ## Run the whole test suite, in TEST_WORKERS (2) processes
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup $(TEST_ARGS)

bench: $(STAMP)  ## Run BENCHMARKS (all) into results/benchmarks; wants a quiet machine
	$(BIN)/raygrid benchmark $(BENCHMARKS) --out results/benchmarks

peers: $(PEERS_STAMP)  ## Install what `raygrid benchmark peers` compares with, in .peers

lint: $(STAMP)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## Mend style and formatting where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## Check types, strictly
	$(BIN)/mypy

check: lint types test  ## All of the above checks

anvil: $(NPM_STAMP)  ## Install Anvil, an optional local chain, from npm

hardhat: $(NPM_STAMP)  ## Install Hardhat, an optional local chain, from npm

contracts: $(NPM_STAMP)  ## Compile the contracts into contracts/artifacts, and renew their gas figures
	cd contracts && node_modules/.bin/forge fmt && node tools/build.js
	cd contracts && FORGE_SNAPSHOT_CHECK=false node_modules/.bin/forge test --match-contract GasTest

contracts-test: $(NPM_STAMP)  ## Test the contracts, and that artifacts and gas figures are fresh
	cd contracts && node_modules/.bin/forge fmt --check && node tools/build.js --check
	cd contracts && node_modules/.bin/forge test

wheel: $(STAMP)  ## Build the wheel into dist/
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## Remove everything that the targets made, results in runs/ excepted
	rm -rf $(VENV) $(PEERS) contracts/node_modules contracts/out contracts/cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find raygrid actors tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "raygrid needs Python 3.11, 3.12 or 3.13:" \
	"install one, or name it with 'make PYTHON=/path/to/python3'"; exit 2; }
	@"$(PYTHON)" -m venv $(VENV) >/dev/null 2>&1 \
	|| { rm -rf $(VENV); "$(PYTHON)" -m virtualenv --quiet $(VENV) 2>/dev/null; } \
	|| { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment:" \
	"install its venv module (Debian, Ubuntu: apt-get install python3-venv), then run make again"; \
	exit 2; }

$(STAMP): $(BIN)/pip setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

# No dependency of raygrid, and never beside it: it pins versions of its own, an old Ray among them.
$(PEERS_STAMP): $(STAMP) actors/benchmarks/peers.py
	@"$(PYTHON)" -m venv $(PEERS) 2>/dev/null || "$(PYTHON)" -m virtualenv --quiet $(PEERS)
	for package in $$($(BIN)/python -c 'from actors.benchmarks.peers import PYCITY; print(*PYCITY)'); do \
	$(PEERS)/bin/python -m pip install --quiet "$$package" || exit; done
	@touch $@

# Without install scripts: everything comes from the npm registry, nothing is fetched elsewhere.
# Not `npm ci`, which insists on the programs of other machines, which the lock file leaves out.
$(NPM_STAMP): contracts/package.json contracts/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 18 or newer" \
	"(Debian, Ubuntu: apt-get install nodejs npm), then run make again"; exit 2; }
	cd contracts && npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
