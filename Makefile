# Everything is installed into .venv, from the lock files with their hashes. `make` alone lists the targets.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
LOCK_FLAGS ?=
BENCH ?=

VENV := .venv
BIN := $(VENV)/bin
# Commands that tests need, each with the Debian package it comes from; and what the bench measures besides.
SYSTEM := curl:curl chromium:chromium ffmpeg:ffmpeg ffprobe:ffmpeg
BENCH_SYSTEM := nginx:nginx-light

COMPILE = $(VENV)/lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-header --no-annotate $(LOCK_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help install install-dev system run bench test check format settings-doc media-doc dist pythons lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' $(MAKEFILE_LIST) | while read -r name text; do \
	  printf '  %-14s %s\n' "$$name" "$$text"; done

install: $(VENV)/.installed ## install ServerPY with all its extras into .venv

install-dev: $(VENV)/.installed-dev ## install what tests and checks need besides

system: ## install the system packages that tests need
	@.ci/system $(SYSTEM)

run: install ## start the server and the sample site (HOST=, PORT=)
	$(BIN)/serverpy serve --demo --host $(HOST) --port $(PORT)

bench: install ## measure, beside nginx and other rivals, and write the report (BENCH="--quick")
	@PATH="$$PATH:/usr/sbin:/sbin" .ci/system $(BENCH_SYSTEM) || echo "nginx is left out" >&2
	@$(MAKE) --no-print-directory $(VENV)/.installed-rivals || echo "the rivals from PyPI are left out" >&2
	$(BIN)/serverpy bench $(BENCH)

# Most tests wait for something: three at a time use two cores to the full.
test: check system ## run the checks, then every test
	$(BIN)/pytest -n 3 --dist loadfile

check: install-dev ## check format, lint, types, and that the docs are in step
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m serverpy.cli.docs --check

format: install-dev ## format the sources, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

settings-doc: install-dev ## write docs/settings.md anew from the settings
	$(BIN)/python -m serverpy.cli.docs

media-doc: install-dev system ## write docs/media.md anew from what a server gives of each sample
	$(BIN)/python -m tests.media.table

dist: install-dev ## build wheel and sdist into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

pythons: install-dev ## install the wheel into every Python found here, and stream from it
	$(BIN)/python scripts/pythons.py

lock: $(BIN)/python ## write the lock files anew (LOCK_FLAGS=--upgrade for newer versions)
	rm -rf $(VENV)/lock
	$(BIN)/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --all-extras --output-file requirements.lock pyproject.toml
	$(COMPILE) --all-extras --group dev --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --group rivals --output-file requirements-rivals.lock
	rm -rf $(VENV)/lock

clean: ## remove what was installed and made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find serverpy tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	.ci/venv $(PYTHON) $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	.ci/install $(VENV) requirements.lock $@

# The development set holds the other.
$(VENV)/.installed-dev: requirements-dev.lock requirements.lock pyproject.toml | $(BIN)/python
	.ci/install $(VENV) requirements-dev.lock $@
	@touch $(VENV)/.installed

# An environment of its own, inside the other, where the bench looks for it.
$(VENV)/.installed-rivals: requirements-rivals.lock | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/rivals
	$(VENV)/rivals/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
