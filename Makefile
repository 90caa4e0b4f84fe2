# `make demo` and `make test` do all the set-up they need. See README.md.

SHELL := /bin/bash
PYTHON := .venv/bin/python

.PHONY: demo test dev dev-down bench check lint generate setup clean

# A private instance in .dev/, then draw-model, predict and image through it.
demo: dev
	$(PYTHON) tools/demo.py

# All tests, with a real engine and a real WSClean.
test: setup
	tools/with-engine $(PYTHON) -m pytest $(ARGS)

# A complete private instance in .dev/; `. .dev/env` to use it.
dev: setup
	$(PYTHON) tools/dev.py up

# Ends all of it.
dev-down:
	tools/dev-down

# All figures of the product beside those of its peers, into bench/results.md and .png.
bench: dev
	tools/engine with-bridge $(PYTHON) bench/run.py $(ARGS)

# What CI checks before the tests.
check: setup lint
	tools/generate --check
	cd proto && ../.venv/bin/buf lint
	$(PYTHON) tools/diagram.py --check
	$(PYTHON) -m coverage run -m pytest --quiet tests/unit
	$(PYTHON) -m coverage report

lint: setup
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports

# Stubs and diagram, from what they are generated from.
generate: setup
	tools/generate
	$(PYTHON) tools/diagram.py

setup: .venv/complete

.venv/complete: pyproject.toml requirements.lock tools/setup
	tools/setup

clean: dev-down
	rm -rf .venv .dev
