# What a person can do with a fresh clone. Needs python3 (3.10 or newer, with venv), make and a package index for pip.

PYTHON ?= python3

# The demonstration: where it writes, and the commands it runs, in this order.
DEMO_FOLDER := demo
DEMO_RUN := $(DEMO_FOLDER)/digits
DEMO_TRAIN := mimi-edge train --budget-mb 0.5 --run $(DEMO_RUN)
DEMO_EXPORT := mimi-edge export $(DEMO_RUN) --format onnx --output $(DEMO_FOLDER)/package
DEMO_PROFILE := mimi-edge profile $(DEMO_FOLDER)/package --run $(DEMO_RUN)

# The parts each target needs. One file of exact versions holds for all.
RUN_PARTS := train,cpu
TEST_PARTS := train,cpu,report,rtx,heic,tensorboard,hub,cvt,test

# Processes that the tests are spread over, a file of tests to one of them.
WORKERS ?= 2

# The measurements `make bench` takes, in this order; accuracy.py takes hours of its own.
BENCHMARKS := paper_tables startup merge_time merged_latency training_step passes sharing profiler

VENV := .venv
BIN := $(VENV)/bin
VENV_READY := $(VENV)/made.stamp
RUN_READY := $(VENV)/installed-run.stamp
TEST_READY := $(VENV)/installed-test.stamp
VERSIONS := pyproject.toml constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test lint types pytest bench gpu wheel clean

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10
	@echo "Another interpreter: make PYTHON=python3.12 TARGET (only looked at when .venv is made)."

demo: $(RUN_READY) ## train, export and measure the built-in demonstration (about 5 minutes after the install)
	@rm -rf $(DEMO_FOLDER)
	@mkdir -p $(DEMO_FOLDER)
	$(BIN)/$(DEMO_TRAIN)
	$(BIN)/$(DEMO_EXPORT)
	$(BIN)/$(DEMO_PROFILE)
	@echo "Accuracy against bytes at three sizes, from this run: $(DEMO_RUN)/curve.png"

test: lint types pytest ## lint, types and every test this machine can run

lint: $(TEST_READY) ## ruff: rules and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TEST_READY) ## mypy --strict
	$(BIN)/mypy --strict -p mimi_edge

pytest: $(TEST_READY) ## the tests alone; make pytest ARGS="-m 'not slow'"
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: $(TEST_READY) ## the measurements in benchmarks/, one after the other (about half an hour)
	@set -e; for name in $(BENCHMARKS); do \
		echo "$(BIN)/python benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py; \
	done

gpu: $(TEST_READY) ## what a GPU with TensorRT has to tell, in 25 minutes: a line of JSON a stage, in gpu.jsonl
	@$(BIN)/python benchmarks/first_half_hour.py $(ARGS)

# What setuptools left of an earlier build goes first, as above.
wheel: $(VENV_READY) ## the wheel for other machines, into dist/
	@rm -rf build/lib build/bdist.*
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

clean: ## removes what make made: .venv, builds, caches, the demonstration
	rm -rf $(VENV) build dist $(DEMO_FOLDER) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find mimi_edge cli export profiles tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written when everything before it went well, so an interrupted install is done again.
$(VENV_READY):
	@if ! $(BIN)/python -c '' > /dev/null 2>&1; then \
		"$(PYTHON)" -c '' > /dev/null 2>&1 || { \
			echo "'$(PYTHON)' does not run here. Install Python 3.10 or newer, or name one: make PYTHON=python3.12"; exit 1; }; \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
			echo "mimi-edge needs Python 3.10 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." \
			"Name a newer one: make PYTHON=python3.12"; exit 1; }; \
		"$(PYTHON)" -c 'import venv, ensurepip' > /dev/null 2>&1 || { \
			echo "'$(PYTHON)' comes without its venv module (expected venv and ensurepip)." \
			"On Debian, Ubuntu and JetPack: sudo apt install python3-venv"; exit 1; }; \
		echo "Making $(VENV) with $$("$(PYTHON)" --version)"; \
		"$(PYTHON)" -m venv --clear $(VENV); \
	fi
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(VENV) holds $$($(BIN)/python --version); mimi-edge needs 3.10 or newer. Remove $(VENV) and run make again."; \
		exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(BIN)/python -m ensurepip > /dev/null || { \
		echo "$(VENV) has no pip and cannot make one. Remove $(VENV) and run make again."; exit 1; }
	@touch $@

define install
@echo "Installing mimi-edge[$(1)] into $(VENV), quietly."
@echo "With CUDA, torch is 3 GB to fetch and 6 GB on disk: about two minutes on a fast network, longer on a slow one."
@$(BIN)/python -m pip install --quiet --no-input --constraint constraints.txt --editable '.[$(1)]' || { \
	echo "The install did not finish; pip says why above. Expected: a package index that pip can reach, and 8 GB of disk."; \
	echo "Behind a proxy or with an index of your own, set them up for pip (pip config), then run make again."; exit 1; }
endef

$(RUN_READY): $(VERSIONS) | $(VENV_READY)
	$(call install,$(RUN_PARTS))
	@touch $@

$(TEST_READY): $(VERSIONS) | $(VENV_READY)
	$(call install,$(TEST_PARTS))
	@touch $(RUN_READY) $@
