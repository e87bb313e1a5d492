# `make up` runs the platform, `make test` every test; both install what they need into .venv first.
# Needs python3 (3.11 or 3.12), make, git; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install up test check bench report format lock clean

help:            ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: $(INSTALLED)  ## everything from requirements.lock, into .venv

# uv comes from the lock file too, with its hashes; it installs the rest in a minute or two.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 12) and f"Python 3.11 or 3.12 is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 -m venv failed: install your system's python3-venv package"; exit 1; }
	@echo "installing packages into $(VENV) ..."
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode -r requirements.lock
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

up: install      ## the whole platform on this machine; Ctrl-C stops it
	@$(BIN)/candlecast up

test: install    ## every test, against real PostgreSQL, MLflow, Prefect, BentoML and Chromium
	@$(BIN)/python -m pytest

check: install   ## lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: install   ## side-by-side figures, as ratios within one run
	@$(BIN)/python -m tests.bench

report: install  ## docs/models.md anew: make report CANDLES=FILE (parquet or csv), UNTIL=2025-07-01
	@test -n "$(CANDLES)" || { echo "name a file of candles: make report CANDLES=candles.parquet (candlecast candles export writes one)"; exit 2; }
	@$(BIN)/python -m flows.model_report --candles $(CANDLES) --until $(or $(UNTIL),2025-07-01) --out docs/models.md

format: install  ## rewrite the code in the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: install    ## bring requirements.lock in line with pyproject.toml (UPGRADE=--upgrade for newer versions)
	@$(BIN)/uv pip compile --quiet --generate-hashes --universal --all-extras --no-annotate $(UPGRADE) \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean:           ## the environment, not the data
	rm -rf $(VENV)
