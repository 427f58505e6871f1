# Foretype: every command that a person or CI needs. `make demo` and `make test` need only Python 3.11, make and the
# package registries.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The variable reaches what builds the compiled module, the option what is installed.
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BUILT_FROM := pyproject.toml setup.py constraints.txt server/decoding/memory/_speedups.pyx
CHECKED := server export training benchmarks tests scripts setup.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-vscode editors check audit fix bench vscode hooks clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serving: $(BUILT_FROM) | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.developing: $(BUILT_FROM) | $(BIN)/python
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.serving

setup: $(VENV)/.developing hooks ## make .venv with everything for development, and the git hooks

hooks: $(VENV)/.developing
	@test -n "$$CI" || ! git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/pre-commit install >/dev/null

demo: $(VENV)/.serving ## a real server completes a real file while you watch
	$(BIN)/python scripts/demo.py

editors: $(VENV)/.developing
	@scripts/install-neovim || echo "Neovim can't be had here; its tests are skipped."
	@scripts/install-emacs || echo "Emacs can't be had here; its test is skipped."
	@scripts/install-vscode && scripts/vscode-package || \
		echo "VS Code can't be had here; its tests are skipped."

test: $(VENV)/.developing editors ## all that CI runs: lint, types, unit, parity and end-to-end tests
	$(MAKE) check
	@$(MAKE) audit || echo "What is known of the packages fails 'make audit', not the tests of this code."
	$(BIN)/python -m pytest

test-unit: $(VENV)/.developing ## the quick rings only
	$(BIN)/python -m pytest -m "not e2e and not slow"

test-vscode: $(VENV)/.developing vscode ## the extension in a real VS Code
	@scripts/install-vscode
	$(BIN)/python -m pytest tests/e2e/vscode

check: $(VENV)/.developing ## ruff, format, mypy: what the git hook runs
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy

# The tools stand apart: what they need must not be listed, nor change what is tested.
audit: $(VENV)/.developing ## list what is installed (dist/sbom.cdx.json), look up known vulnerabilities
	@test -x .cache/audit/bin/pip-audit || { $(PYTHON) -m venv .cache/audit && \
		.cache/audit/bin/python -m pip install --quiet --disable-pip-version-check \
		$$(sed -n '/^cyclonedx-bom==/p;/^pip_audit==/p' constraints.txt); } || \
		echo "The tools of the audit can't be had here; it is skipped."
	@test ! -x .cache/audit/bin/pip-audit || \
		$(BIN)/python scripts/audit.py .cache/audit/bin $(BIN)/python dist/sbom.cdx.json

fix: $(VENV)/.developing ## let ruff mend what it can
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

bench: $(VENV)/.developing ## a short set of measurements
	$(BIN)/python -m benchmarks latency --short

vscode: ## build the VS Code extension (.vsix)
	scripts/vscode-package

clean: ## delete what the commands above made
	rm -rf $(VENV) .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -f server/decoding/memory/_speedups.c server/decoding/memory/_speedups.*.so
