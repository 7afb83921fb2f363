# One environment for everything, installed from the lock when it is missing or outdated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEPLOY_VENV := .venv-deploy
DEPLOY_STAMP := $(DEPLOY_VENV)/.installed

.PHONY: help demo test lint coverage deploy-env map clean

help:
	@echo 'make demo      segment a phantom with the bundle; results in demo_output/'
	@echo 'make test      run every test'
	@echo 'make lint      ruff and mypy'
	@echo 'make coverage  tests with branch coverage'
	@echo 'make deploy-env  the environment of the MONAI Deploy App SDK, for its tests'
	@echo 'make map       what an image of the application is made of; in map/'
	@echo 'make clean     remove everything that make has made'

# Without a dataset_dir the bundle makes its own phantom: no data and no download needed.
demo: $(STAMP)
	@$(BIN)/python -m monai.bundle run inference --config_file bundle/configs/inference.json --output_dir demo_output

test: $(STAMP)
	@$(BIN)/python -m pytest

lint: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

coverage: $(STAMP)
	@$(BIN)/python -m pytest --cov

# The stamp is written last: an interrupted installation starts again. The version is checked first
# because pip's own message about a lock that no Python fits does not name the remedy.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: constraints.txt needs Python 3.11 or newer; call make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo 'Installing into $(VENV) (a few minutes the first time) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,dicom]'
	@touch $@

# The SDK brings hundreds of megabytes that nothing else needs; so it has an environment of its own.
# Nothing is compiled on installation: a run imports a small part of it.
deploy-env: $(DEPLOY_STAMP)

$(DEPLOY_STAMP): pyproject.toml constraints-deploy.txt
	@echo 'Installing into $(DEPLOY_VENV) (a few minutes the first time) ...'
	@test -x $(DEPLOY_VENV)/bin/python || $(PYTHON) -m venv $(DEPLOY_VENV)
	@$(DEPLOY_VENV)/bin/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints-deploy.txt -e '.[deploy,dicom]'
	@touch $@

# The folders into which runs of the bundle write are no part of a delivered one.
map:
	@rm -rf map && mkdir -p map/app map/models/prostate
	@cp deploy/app.yaml map/ && cp deploy/app/__main__.py map/app/ && cp constraints-deploy.txt map/app/requirements.txt
	@cp -R grata_monai map/app/ && find map/app -name __pycache__ -type d -prune -exec rm -rf {} +
	@cp -R bundle/. map/models/prostate/ && rm -rf map/models/prostate/eval map/models/prostate/training
	@echo 'map/ is ready: see docs/how-to/build-a-map.md'

clean:
	@rm -rf $(VENV) $(DEPLOY_VENV) map demo_output .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find grata_monai tests -name __pycache__ -type d -prune -exec rm -rf {} +
