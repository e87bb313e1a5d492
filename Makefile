# `make up` runs the platform, `make test` runs every test. Both first install the packages they need into .venv.
# Needs python3 (3.11 or 3.12), make, git; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --universal --no-annotate --custom-compile-command "make lock"
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' candlecast/__init__.py)
BENTOS := $(CURDIR)/build/bentoml
GUIDE := service/guide
# Build the docs site; a broken link or a warning fails, and then the site of before stays.
BUILD_GUIDE = mkdir -p build && \
	{ $(BIN)/zensical build --clean --strict >build/guide.log 2>&1 || \
	{ sed 's/\x1b\[[0-9;]*m//g; /^Traceback/,$$d' build/guide.log; false; }; } && \
	rm -rf $(GUIDE) && mv build/guide $(GUIDE)

.DEFAULT_GOAL := help
.PHONY: help install up test check docs bench mutants report minutes format lock images audit clean

help:            ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: $(INSTALLED) $(GUIDE)/index.html  ## install the packages of requirements.lock into .venv, and build the guide

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

$(GUIDE)/index.html: $(INSTALLED) zensical.toml $(shell find docs -type f)
	@$(BUILD_GUIDE) || echo "The guide is not built. Correct the pages named above, then run make docs."

up: install      ## run the whole platform on this machine; Ctrl-C stops it
	@$(BIN)/candlecast up

test: install    ## run every test, in two processes, against real PostgreSQL, MLflow, Prefect, BentoML and Chromium
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: install   ## check format, lint, types, import contracts and the links of the docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BUILD_GUIDE)

docs: $(INSTALLED)  ## write the reference from the code, and build the guide that the service shows at /guide
	@$(BIN)/python -m flows.reference
	@$(BUILD_GUIDE)
	@echo "built: $(GUIDE)/index.html"

bench: install   ## measure side by side, and print ratios within one run
	@$(BIN)/python -m tests.bench

mutants: install ## change the code of claims, and fail where its tests do not notice (MODULES="gate figures" SAMPLE=60)
	@$(BIN)/python -m tests.mutants $(MODULES) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

report: install  ## write docs/models.md again: make report CANDLES=FILE (parquet or csv), UNTIL=2025-07-01
	@test -n "$(CANDLES)" || { echo "name a file of candles: make report CANDLES=candles.parquet (candlecast candles export writes one)"; exit 2; }
	@$(BIN)/python -m flows.commands.model_report --candles $(CANDLES) --until $(or $(UNTIL),2025-07-01) --out docs/models.md

minutes: install ## write docs/minutes.md again: make minutes CANDLES=FILE of 1m, UNTIL=2025-07-20 (OUT=another file)
	@test -n "$(CANDLES)" || { echo "name a file of candles of 1m: make minutes CANDLES=candles.parquet"; exit 2; }
	@CANDLECAST_CONFIG=examples/minutes.toml $(BIN)/python -m flows.commands.model_report --market BTCUSDT-1m-h15 \
		--candles $(CANDLES) --until $(or $(UNTIL),2025-07-20) --out $(or $(OUT),docs/minutes.md) \
		--beside lstm:indicators:24 --beside lstm:base:24

format: install  ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: install    ## update requirements.lock from pyproject.toml (UPGRADE=--upgrade for newer versions)
	@$(COMPILE) --all-extras $(UPGRADE) pyproject.toml -o requirements.lock
	@$(COMPILE) --constraints requirements.lock --extra service pyproject.toml -o images/service.lock
	@$(COMPILE) --constraints requirements.lock $(addprefix --extra ,training monitoring flows cluster) pyproject.toml -o images/flows.lock
	@printf '%s\n' boto3 mlflow 'psycopg[binary]' sqlalchemy | $(COMPILE) --constraints requirements.lock - -o images/mlflow.lock

images: install  ## build the container images of service, flows and MLflow (needs Docker): candlecast-*:VERSION
	@$(BUILD_GUIDE)
	@rm -rf $(BENTOS)/bentos/candlecast/$(VERSION)
	@BENTOML_HOME=$(BENTOS) $(BIN)/bentoml build --version $(VERSION) .
	@BENTOML_HOME=$(BENTOS) $(BIN)/bentoml containerize candlecast:$(VERSION) --image-tag candlecast-service:$(VERSION)
	@docker build --file images/Dockerfile --target flows --tag candlecast-flows:$(VERSION) .
	@docker build --file images/Dockerfile --target mlflow --tag candlecast-mlflow:$(VERSION) .

audit: install   ## list known vulnerabilities of the images' packages (asks PyPI), and write build/sbom-*.json
	@mkdir -p build
	@for image in service flows mlflow; do \
		$(BIN)/cyclonedx-py requirements images/$$image.lock --output-reproducible --of JSON -o build/sbom-$$image.json || exit 1; \
	done
	@for image in service flows mlflow; do \
		echo "vulnerabilities of the image $$image:"; \
		$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r images/$$image.lock || failed="$$failed $$image"; \
	done; \
	test -z "$$failed" || { echo "not clean, or not audited:$$failed. 'not found on PyPI' and connection errors mean that nothing was audited. pip-audit needs the JSON API of PyPI, which a mirror of packages alone does not answer"; exit 1; }

clean:           ## delete the environment, and keep the data
	rm -rf $(VENV)
