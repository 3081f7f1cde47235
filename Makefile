# Everything runs in .venv, which the first target that needs it makes from constraints.txt.
# Needs: Python 3.11 or newer with venv, make, git.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := dev,jax,ray,wandb,xla

.PHONY: help demo test test-slow lint format bench bench-train bench-search bench-distributed bench-checkpoints bench-backends docs setup clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv
	@echo "installing into $(VENV) (PyTorch is large: a minute or a few)"
	@VIRTUAL_ENV=$(VENV) $(BIN)/python -m uv pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

setup: $(READY) ## make the environment in .venv

demo: $(READY) ## train the tutorial CNN for one epoch: the main job
	$(BIN)/mnist-trials create experiment_configs/const.yaml

test: lint ## lint, types, import contracts, and all tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(READY) ## the slow tests
	$(BIN)/python -m pytest -m slow

lint: $(READY) ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## write the generated parts of docs/ anew
	$(BIN)/python -m mnist_trials.config.documents docs
	$(BIN)/python -m mnist_trials.cli.reference > docs/cli.md

bench: bench-train bench-search bench-distributed bench-checkpoints bench-backends ## all benchmarks

bench-train: $(READY) ## our training loop against hand-written ones, on real MNIST
	$(BIN)/python benchmarks/train.py

bench-search: $(READY) ## what a decision of a search costs, and what searches find, against Ray Tune and Optuna
	$(BIN)/python benchmarks/search.py

bench-distributed: $(READY) ## trials on several slots: how soon they train, how they scale, what an event costs
	$(BIN)/python benchmarks/distributed.py

bench-checkpoints: $(READY) ## what saving costs a step; save and restore against torch.save and torch.load, and on S3
	$(BIN)/python benchmarks/checkpoints.py

bench-backends: $(READY) ## steps per second of CPU on every backend, beside loops written by hand
	$(BIN)/python benchmarks/backends.py

clean: ## remove the environment and what tools left
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
