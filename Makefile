# `make up` runs the platform, `make test` every test; both install what they need into .venv first.
# Needs python3 (3.11 or 3.12), make, git; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --universal --no-annotate --custom-compile-command "make lock"
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' candlecast/__init__.py)
BENTOS := $(CURDIR)/build/bentoml

.DEFAULT_GOAL := help
.PHONY: help install up test check bench report format lock images audit clean

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

test: install    ## every test, in two processes, against real PostgreSQL, MLflow, Prefect, BentoML and Chromium
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: install   ## lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: install   ## side-by-side figures, as ratios within one run
	@$(BIN)/python -m tests.bench

report: install  ## docs/models.md anew: make report CANDLES=FILE (parquet or csv), UNTIL=2025-07-01
	@test -n "$(CANDLES)" || { echo "name a file of candles: make report CANDLES=candles.parquet (candlecast candles export writes one)"; exit 2; }
	@$(BIN)/python -m flows.commands.model_report --candles $(CANDLES) --until $(or $(UNTIL),2025-07-01) --out docs/models.md

format: install  ## rewrite the code in the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: install    ## bring requirements.lock in line with pyproject.toml (UPGRADE=--upgrade for newer versions)
	@$(COMPILE) --all-extras $(UPGRADE) pyproject.toml -o requirements.lock
	@$(COMPILE) --constraints requirements.lock --extra service pyproject.toml -o images/service.lock
	@$(COMPILE) --constraints requirements.lock $(addprefix --extra ,training monitoring flows cluster) pyproject.toml -o images/flows.lock
	@printf '%s\n' boto3 mlflow 'psycopg[binary]' sqlalchemy | $(COMPILE) --constraints requirements.lock - -o images/mlflow.lock

images: install  ## container images of service, flows and MLflow (needs Docker): candlecast-*:VERSION
	@rm -rf $(BENTOS)/bentos/candlecast/$(VERSION)
	@BENTOML_HOME=$(BENTOS) $(BIN)/bentoml build --version $(VERSION) .
	@BENTOML_HOME=$(BENTOS) $(BIN)/bentoml containerize candlecast:$(VERSION) --image-tag candlecast-service:$(VERSION)
	@docker build --file images/Dockerfile --target flows --tag candlecast-flows:$(VERSION) .
	@docker build --file images/Dockerfile --target mlflow --tag candlecast-mlflow:$(VERSION) .

audit: install   ## known vulnerabilities of what the images install (asks PyPI), and build/sbom-*.json
	@mkdir -p build
	@for image in service flows mlflow; do \
		$(BIN)/cyclonedx-py requirements images/$$image.lock --output-reproducible --of JSON -o build/sbom-$$image.json || exit 1; \
	done
	@for image in service flows mlflow; do \
		echo "vulnerabilities of the image $$image:"; \
		$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r images/$$image.lock || failed="$$failed $$image"; \
	done; \
	test -z "$$failed" || { echo "not clean, or not audited:$$failed. 'not found on PyPI' and connection errors mean that nothing was audited: pip-audit asks https://pypi.org/pypi/NAME/VERSION/json, which a mirror of packages alone does not answer"; exit 1; }

clean:           ## the environment, not the data
	rm -rf $(VENV)
