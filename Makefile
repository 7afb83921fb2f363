# One environment for everything, installed from the lock when it is missing or outdated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test lint coverage sbom paperwork clean

help:
	@echo 'make demo      segment a phantom with the bundle; results in demo_output/'
	@echo 'make test      run every test'
	@echo 'make lint      ruff and mypy'
	@echo 'make coverage  tests with branch coverage'
	@echo 'make sbom      CycloneDX bill of materials of .venv and the bundle: dist/sbom.cdx.json'
	@echo 'make paperwork write the generated parts of the documentation anew'
	@echo 'make clean     remove everything that make has made'

# Without a dataset_dir the bundle makes its own phantom: no data and no download needed.
demo: $(STAMP)
	@$(BIN)/python -m monai.bundle run inference --config_file bundle/configs/inference.json --output_dir demo_output

# A process per core, one thread each: small volumes gain nothing from more. A file's tests stay together.
test: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

coverage: $(STAMP)
	@$(BIN)/python -m pytest --cov

# The time in it is that of the commit, so that the same commit and packages give the same bytes.
# Outside of git there is none; an empty variable would be worse than none, numpy reads it too.
sbom: $(STAMP)
	@time="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null)}"; \
		$${time:+env SOURCE_DATE_EPOCH=$$time} $(BIN)/python -m grata_monai paperwork --sbom dist/sbom.cdx.json

paperwork: $(STAMP)
	@$(BIN)/python -m grata_monai paperwork --write

# The stamp is written last: an interrupted installation starts again. The version is checked first
# because pip's own message about a lock that no Python fits does not name the remedy.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: constraints.txt needs Python 3.11 or newer; call make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo 'Installing into $(VENV) (a few minutes the first time) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,dicom]'
	@touch $@

clean:
	@rm -rf $(VENV) demo_output dist/sbom.cdx.json .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find grata_monai tests -name __pycache__ -type d -prune -exec rm -rf {} +
