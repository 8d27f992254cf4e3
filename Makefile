# make repro | test | check | smoke | ui | retrain | rollback | schedule | help
PYTHON ?= python3
# Where torch comes from: empty for pip's own configuration, or for example
# TORCH_INDEX=https://download.pytorch.org/whl/cpu (CPU build) or .../whl/cu130 (CUDA build).
TORCH_INDEX ?=
TORCH_VERSION := 2.13.0
PORT ?= 5000
PREFECT_PORT ?= 4200

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
INSTALLED := .venv/.installed

.PHONY: repro test check smoke ui retrain rollback schedule help
.DEFAULT_GOAL := help

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	@echo 'Installing torch and the other pinned packages into .venv: 3 GB on the disk (more with CUDA), minutes, and silent while it works.'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --progress-bar off $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==$(TORCH_VERSION)
	.venv/bin/python -m pip install --quiet --progress-bar off --constraint constraints.txt --editable '.[dev]'
	.venv/bin/python -c 'import cv2' || { echo 'OpenCV needs system libraries: on Debian or Ubuntu `apt-get install libgl1 libglib2.0-0`, or replace it with `.venv/bin/pip install opencv-python-headless`.' >&2; exit 1; }
	touch $@

repro: $(INSTALLED) ## the whole pipeline on params.yaml: videos, report, MLflow run
	dvc repro
	@reelmill record
	@echo 'Videos: results/generate/*.mp4 (contact sheets beside them)'
	@echo 'Report: results/evaluate/report.html      open it: python3 -m webbrowser results/evaluate/report.html'
	@test -n "$$MLFLOW_TRACKING_URI" || echo 'MLflow: make ui                           then http://127.0.0.1:$(PORT)'

test: $(INSTALLED) ## all tests, a small real run of every stage among them
	python -m pytest -n 2 --dist loadfile # most of a test run waits for processes of its own

check: $(INSTALLED) ## lint, types, import directions
	ruff format --check .
	ruff check .
	mypy
	lint-imports

smoke: $(INSTALLED) ## all seven stages in minutes, in a workspace of its own
	python -m benchmarks.smoke

ui: $(INSTALLED) ## MLflow's pages on loopback
	reelmill ui --port $(PORT)

retrain: $(INSTALLED) ## retrain, judge and promote, once, now; no server needed
	python -m flows.retrain

rollback: $(INSTALLED) ## the previous champion takes its place again
	python -m flows.rollback

schedule: $(INSTALLED) ## Prefect's server and page, the nightly retraining, the watch for new clips; Ctrl-C ends all
	python -m flows.schedule --port $(PREFECT_PORT)

help: ## this text
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'
