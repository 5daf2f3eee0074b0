# Everything is installed into .venv, from the lock files with their hashes. `make` alone lists the targets.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
LOCK_FLAGS ?=
BENCH ?=

VENV := .venv
BIN := $(VENV)/bin
# Commands that the tests need, and those that the bench needs, each with its Debian package.
SYSTEM := curl:curl nginx:nginx-light chromium:chromium ffmpeg:ffmpeg ffprobe:ffmpeg \
  firefox-esr:firefox-esr node:nodejs npm:npm mpv:mpv cvlc:vlc-bin cvlc:vlc-plugin-base
BENCH_SYSTEM := nginx:nginx-light

COMPILE = $(VENV)/lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-header --no-annotate $(LOCK_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help install install-dev system node run bench test soak check format settings-doc media-doc dist pythons lock audit clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' $(MAKEFILE_LIST) | while read -r name text; do \
	  printf '  %-14s %s\n' "$$name" "$$text"; done

install: $(VENV)/.installed ## install ServerPY with all its extras into .venv

install-dev: $(VENV)/.installed-dev ## also install what tests and checks need

system: ## install the system packages that tests need
	@PATH="$$PATH:/usr/sbin:/sbin" .ci/system $(SYSTEM)

node: system $(VENV)/.installed-node ## install the npm packages that tests use

run: install ## start the server and the sample site (HOST=, PORT=)
	$(BIN)/serverpy serve --demo --host $(HOST) --port $(PORT)

bench: install ## measure the server beside nginx and other rivals, and write the report (BENCH="--quick")
	@PATH="$$PATH:/usr/sbin:/sbin" .ci/system $(BENCH_SYSTEM) || echo "nginx is left out" >&2
	@$(MAKE) --no-print-directory $(VENV)/.installed-rivals || echo "the rivals from PyPI are left out" >&2
	$(BIN)/serverpy bench $(BENCH)

# The tests start many Python processes, which start faster if the bytecode of their modules is stored.
test soak: export PYTHONDONTWRITEBYTECODE :=

# Most tests wait for something: three test files at a time keep two cores busy.
test: check system node ## run the checks, then every test
	$(BIN)/pytest -n 3 --dist loadfile

soak: install-dev system node ## run the tests that take minutes, one file at a time
	$(BIN)/pytest -m soak

check: install-dev ## check format, lint and types, and that docs/settings.md is up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m serverpy.cli.docs --check

format: install-dev ## format the sources, and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

settings-doc: install-dev ## regenerate docs/settings.md from the settings
	$(BIN)/python -m serverpy.cli.docs

media-doc: install-dev system ## regenerate docs/media.md from a server's answers to each sample
	$(BIN)/python -m tests.media.table

dist: install-dev ## build wheel and sdist into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

pythons: install-dev ## install the wheel into every Python found here, and stream from it
	$(BIN)/python scripts/pythons.py

lock: $(BIN)/python ## regenerate the lock files (LOCK_FLAGS=--upgrade for newer versions)
	rm -rf $(VENV)/lock
	$(BIN)/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --all-extras --output-file requirements.lock pyproject.toml
	$(COMPILE) --all-extras --group dev --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --group rivals --output-file requirements-rivals.lock
	rm -rf $(VENV)/lock

audit: $(BIN)/python ## look for known vulnerabilities of the locked packages (needs the internet)
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --disable-pip --require-hashes -r requirements.lock

clean: ## remove what was installed and made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find serverpy tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	.ci/venv $(PYTHON) $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	.ci/install $(VENV) requirements.lock $@

# The development packages include those of `install`.
$(VENV)/.installed-dev: requirements-dev.lock requirements.lock pyproject.toml | $(BIN)/python
	.ci/install $(VENV) requirements-dev.lock $@
	@touch $(VENV)/.installed

$(VENV)/.installed-node: tests/node/package.json tests/node/package-lock.json | $(BIN)/python
	mkdir -p $(VENV)/node
	cp tests/node/package.json tests/node/package-lock.json $(VENV)/node/
	npm ci --prefix $(VENV)/node --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# A separate environment, inside .venv, where the bench looks for it.
$(VENV)/.installed-rivals: requirements-rivals.lock | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/rivals
	$(VENV)/rivals/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
