# Everything runs from the checkout: `make` builds .venv, and whatever the tools keep lands in .cache.
PY := .venv/bin/python
CACHE := $(CURDIR)/.cache

export XDG_CACHE_HOME := $(CACHE)
export PIP_CACHE_DIR := $(CACHE)/pip
export UV_CACHE_DIR := $(CACHE)/uv
export HF_HOME := $(CACHE)/huggingface
export TORCH_HOME := $(CACHE)/torch
export MPLCONFIGDIR := $(CACHE)/matplotlib
export IPYTHONDIR := $(CACHE)/ipython
export JUPYTER_CONFIG_DIR := $(CACHE)/jupyter/config
export JUPYTER_DATA_DIR := $(CACHE)/jupyter/data
export JUPYTER_RUNTIME_DIR := $(CACHE)/jupyter/runtime
export NPM_CONFIG_CACHE := $(CACHE)/npm
unexport PYTHONDONTWRITEBYTECODE  # or each of the many processes compiles the package anew

.PHONY: help env demo lint check test test-all lab live notebooks checkpoint checkpoint-photos bench clean
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: .venv/.complete ## build the environment alone, in .venv

demo: .venv/.complete ## train LightAVSeg on this machine (notebook 03), then see whether it listens
	$(PY) notebooks/build.py run 03_training --out runs/demo/03_training.ipynb --follow runs/03_training
	@echo
	@echo "Next: make lab opens the notebooks, the executed one (runs/demo/03_training.ipynb) among them;"
	@echo ".venv/bin/lightavseg predict checkpoints/tiny notebooks/media/sample.mp4 --out runs/masks marks a video."

lint: .venv/.complete ## style, what must never import what, and under which licence each file stands
	$(PY) -m ruff check .
	.venv/bin/lint-imports --no-logo
	.venv/bin/reuse lint --quiet || .venv/bin/reuse lint

# Two workers of one thread each: the same load on two cores as one worker of two threads, in less time.
check test test-all: export OMP_NUM_THREADS = 1
# These plugins take seconds of each process's start; nbval runs in processes that ask for it.
PYTEST := $(PY) -m pytest -n 2 --dist worksteal -p no:nbval -p no:hydra_pytest -p no:typeguard

check: lint .venv/.edge ## lint and the fast tests: two minutes on 2 cores
	$(PYTEST) -m "not slow"

# After what tests/deploy loads, trainings in the same process have died of SIGSEGV: it runs in processes of its own.
test: lint .venv/.edge ## prove that it works: every test but the long ones
	$(PYTEST) -m "not long" --durations 20 --ignore tests/deploy --ignore tests/docs
	$(PYTEST) -m "not long" --durations 5 tests/deploy
	$(PYTEST) -m "not long" --durations 5 tests/docs

test-all: lint .venv/.edge ## every test, the long ones included: an hour
	$(PYTEST) --durations 20 --ignore tests/deploy --ignore tests/docs
	$(PYTEST) --durations 5 tests/deploy
	$(PYTEST) --durations 5 tests/docs

lab: .venv/.complete ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb

live: .venv/.edge ## build the live page in build/live, and serve it (LIVE_SERVE=0 make live: build it alone)
	$(PY) site/live/build.py $(if $(filter 0,$(LIVE_SERVE)),,--serve)

notebooks: .venv/.complete ## regenerate the notebooks from notebooks/py and run them all
	$(PY) notebooks/build.py build
	cp runs/03_training/lightavseg_tiny_ms3_1600x7_0/predictions.png figures/03_predictions.png
	cp runs/03_training/lightavseg_tiny_ms3_1600x7_0/scores.json results/demo.json

checkpoint: .venv/.complete ## train checkpoints/tiny anew and write its card: half an hour on 2 cores
	$(PY) checkpoints/make_model.py tiny

checkpoint-photos: .venv/.complete ## fetch photographs, train checkpoints/photos anew and write its card: 90 minutes on 2 cores
	$(PY) checkpoints/make_model.py photos

bench: .venv/.edge ## measure results/latency.json, figures/latency.png and growth.png anew: 40 minutes on 2 cores, nothing else running
	$(PY) -m lightavseg_core.cli bench --figure figures/latency.png

clean: ## remove what make built: .venv, .cache, runs, caches
	rm -rf .venv .cache runs build dist site/live/node_modules *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name .git -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +

# The stamp is written last, so a build that failed is done again, from nothing if it was the first.
# --python keeps uv from another environment that happens to be active.
.venv/.complete: requirements.lock pyproject.toml
	@test -e $@ || rm -rf .venv
	@for python in $(PYTHON) python3.11 python3.12 python3; do \
	    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && break; python=; \
	done; \
	if test -z "$$python"; then echo "make: Python 3.11 or 3.12 is needed; found: $$(python3 --version 2>&1). Install one of them, then run make again." >&2; exit 1; fi; \
	echo "building .venv with $$python (a download of some 3 GB the first time)"; $$python -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	.venv/bin/uv pip install --compile-bytecode --python $(PY) --requirement requirements.lock
	.venv/bin/uv pip install --quiet --compile-bytecode --python $(PY) --no-deps --editable .
	@touch $@

# The runtimes that `lightavseg export` writes for; the demo does without them.
.venv/.edge: requirements-edge.lock .venv/.complete
	.venv/bin/uv pip install --compile-bytecode --python $(PY) --requirement requirements-edge.lock
	@touch $@
