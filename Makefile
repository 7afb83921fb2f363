# One environment for everything but three hosts, each installed from the lock when it is missing or outdated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEPLOY_VENV := .venv-deploy
DEPLOY_STAMP := $(DEPLOY_VENV)/.installed

NNUNET_VENV := .venv-nnunet
NNUNET_STAMP := $(NNUNET_VENV)/.installed
NNUNET_OLDEST := 2.6.0

LABEL_VENV := .venv-label
LABEL_BIN := $(LABEL_VENV)/bin
LABEL_STAMP := $(LABEL_VENV)/.installed
LABEL_DIR ?= label_demo
STUDIES ?= $(LABEL_DIR)/phantoms/images
PORT ?= 8000

.PHONY: help demo test test-slow fuzz lint coverage sbom compliance label-env label studies deploy-env nnunet-env audit serve map clean

help:
	@echo 'make demo      segment a phantom, compare with its exact label; report: demo_output/index.html'
	@echo 'make test      run every test but those that take long'
	@echo 'make test-slow run those that take long'
	@echo 'make fuzz      change at random what strangers send, five minutes; FUZZ_SECONDS=... SEED=... change it'
	@echo 'make lint      ruff, mypy and import-linter'
	@echo 'make coverage  every test, with branch coverage; lines in htmlcov/'
	@echo 'make sbom      CycloneDX bill of materials of .venv and the bundle: dist/sbom.cdx.json'
	@echo 'make compliance  write the generated parts of the documentation anew'
	@echo 'make label     MONAI Label with the bundle on 127.0.0.1:$(PORT); PORT=... STUDIES=... change it'
	@echo 'make label-env its environment, $(LABEL_VENV)'
	@echo 'make deploy-env  the environment of the MONAI Deploy App SDK, $(DEPLOY_VENV)'
	@echo 'make nnunet-env  the environment of nnU-Net v2, $(NNUNET_VENV)'
	@echo 'make audit     known advisories of the locked packages; VEX in dist/vex.cdx.json'
	@echo 'make serve     the service on loopback, tried with a phantom; files in serve_demo/'
	@echo 'make map       what an image of the application is made of; in map/'
	@echo 'make clean     remove everything that make has made'

# The phantom is made on the spot: no data and no download needed.
demo: $(STAMP)
	@$(BIN)/python -m grata_monai demo demo_output

# A process per core, one thread each: small volumes gain nothing from more. A file's tests stay together.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test: $(STAMP)
	@$(PYTEST) -m 'not slow'

test-slow: $(STAMP)
	@$(PYTEST) -m slow

SEED ?= 0
FUZZ_SECONDS ?= 300

fuzz: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/measure/fuzz.py --seconds $(FUZZ_SECONDS) --seed $(SEED)

lint: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

coverage: $(STAMP)
	@$(PYTEST) --cov --cov-report=term --cov-report=html

# The time in it is that of the commit, so that the same commit and packages give the same bytes.
# Outside of git there is none; an empty variable would be worse than none, numpy reads it too.
sbom: $(STAMP)
	@time="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null)}"; \
		$${time:+env SOURCE_DATE_EPOCH=$$time} $(BIN)/python -m tools.compliance --sbom dist/sbom.cdx.json

compliance: $(STAMP)
	@$(BIN)/python -m tools.compliance --write

# The stamp is written last: an interrupted installation starts again. The version is checked first
# because pip's own message about a lock that no Python fits does not name the remedy.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: constraints.txt needs Python 3.11 or newer; call make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo 'Installing into $(VENV) (a few minutes the first time) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,dicom,service,sign]'
	@touch $@

# Hosts bring much that nothing imports, so pip compiles nothing of them. What a run imports is compiled by
# importing it once: else the first picture would wait for it, and where nothing may be written, every one.
COMPILE := PYTHONDONTWRITEBYTECODE=

label-env: $(LABEL_STAMP)

# --no-deps: MONAI Label asks for much that is never imported here, and for a torchvision that fits
# no CPU build of torch. torch itself is installed with what it needs, CUDA's libraries for instance.
$(LABEL_STAMP): pyproject.toml constraints-label.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: constraints-label.txt needs Python 3.11; call make PYTHON=python3.11" if sys.version_info[:2] != (3, 11) else 0)'
	@echo 'Installing into $(LABEL_VENV) (a few minutes the first time) ...'
	@test -x $(LABEL_BIN)/python || $(PYTHON) -m venv $(LABEL_VENV)
	@$(LABEL_BIN)/python -m pip install -qq --no-compile --disable-pip-version-check $$(grep '^torch==' constraints-label.txt)
	@$(LABEL_BIN)/python -m pip install -qq --no-compile --disable-pip-version-check --no-deps -r constraints-label.txt
	@$(LABEL_BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@$(COMPILE) $(LABEL_BIN)/python -W ignore -c 'import monailabel.main, grata_monai.hosts.label.server'
	@touch $@

# A wrong path is refused before anything is installed.
studies:
	@test '$(origin STUDIES)' = file || test -d '$(STUDIES)' || { echo 'error: STUDIES must be a folder, it is none. Correct the path.' >&2; exit 2; }

# Loopback only: MONAI Label asks for no password.
# What clients upload is kept in $(LABEL_DIR)/sessions for an hour after its last use.
label: studies $(LABEL_STAMP)
	@test -d '$(STUDIES)' || $(LABEL_BIN)/python -W ignore -m grata_monai phantom --out $(LABEL_DIR)/phantoms --cases 2 --shift endorectal_coil
	@$(LABEL_BIN)/python -W ignore -m grata_monai label install $(LABEL_DIR)/app
	@MONAI_LABEL_SESSION_PATH=$(abspath $(LABEL_DIR))/sessions \
		$(LABEL_BIN)/python -W 'ignore:Failed to load image:UserWarning' -m monailabel.main start_server --app $(LABEL_DIR)/app --studies $(STUDIES) \
		--uvicorn_app grata_monai.hosts.label.server:app \
		--conf models prostate_mri_segmentation --conf zoo_source local --conf sam2 false --conf skip_trainers true \
		--host 127.0.0.1 --port $(PORT)

# The SDK brings hundreds of megabytes that nothing else needs; so it has an environment of its own.
deploy-env: $(DEPLOY_STAMP)

$(DEPLOY_STAMP): pyproject.toml constraints-deploy.txt
	@echo 'Installing into $(DEPLOY_VENV) (a few minutes the first time) ...'
	@test -x $(DEPLOY_VENV)/bin/python || $(PYTHON) -m venv $(DEPLOY_VENV)
	@$(DEPLOY_VENV)/bin/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints-deploy.txt -e '.[deploy,dicom]'
	@$(COMPILE) $(DEPLOY_VENV)/bin/python -W ignore -c 'import grata_monai.hosts.deploy.application'
	@touch $@

nnunet-env: $(NNUNET_STAMP)

# The oldest version that is tested lies beside the locked one, for tests that put it first on the path.
$(NNUNET_STAMP): pyproject.toml constraints-nnunet.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: constraints-nnunet.txt needs Python 3.11; call make PYTHON=python3.11" if sys.version_info[:2] != (3, 11) else 0)'
	@echo 'Installing into $(NNUNET_VENV) (a few minutes the first time) ...'
	@test -x $(NNUNET_VENV)/bin/python || $(PYTHON) -m venv $(NNUNET_VENV)
	@$(NNUNET_VENV)/bin/python -m pip install -qq --no-compile --disable-pip-version-check $$(grep '^torch==' constraints-nnunet.txt)
	@$(NNUNET_VENV)/bin/python -m pip install -qq --no-compile --disable-pip-version-check --no-deps -r constraints-nnunet.txt
	@$(NNUNET_VENV)/bin/python -m pip install -qq --no-compile --disable-pip-version-check --no-deps --upgrade --target $(NNUNET_VENV)/oldest nnunetv2==$(NNUNET_OLDEST)
	@$(NNUNET_VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@$(COMPILE) $(NNUNET_VENV)/bin/python -W ignore -c 'import grata_monai.nnunet.predictor, nnunetv2.inference.predict_from_raw_data'
	@touch $@

# In an environment of its own: it is not in the lock. Needs a network.
audit: $(STAMP)
	@test -x .venv-audit/bin/pip-audit || { $(BIN)/python -m venv .venv-audit && .venv-audit/bin/python -m pip install -qq --disable-pip-version-check pip-audit; }
	@$(BIN)/python -m tools.audit .venv-audit/bin/pip-audit --out dist/vex.cdx.json

serve: $(STAMP)
	@$(BIN)/python -W ignore -m tools.try_service serve_demo

# The folders into which runs of the bundle write are no part of a delivered one.
map:
	@rm -rf map && mkdir -p map/app map/models/prostate
	@cp deploy/app.yaml map/ && cp deploy/app/__main__.py map/app/ && cp constraints-deploy.txt map/app/requirements.txt
	@cp -R grata_monai map/app/ && find map/app -name __pycache__ -type d -prune -exec rm -rf {} +
	@cp -R bundle/. map/models/prostate/ && rm -rf map/models/prostate/eval map/models/prostate/training
	@echo 'map/ is ready: see docs/how-to/build-a-map.md'

clean:
	@rm -rf $(VENV) $(LABEL_VENV) $(DEPLOY_VENV) $(NNUNET_VENV) .venv-audit map label_demo demo_output serve_demo dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	@find grata_monai tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
