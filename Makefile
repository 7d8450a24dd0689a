# `make` alone lists the targets.
PROFILE ?= embedded

ifdef PYTHON
READY :=
else
PYTHON := .venv/bin/python
READY := .venv/.ready
endif

OPTIONS = $(if $(NB),--notebook '$(NB)') $(if $(JOBS),--jobs $(JOBS)) $(if $(PARAMS),--params $(PARAMS))

.PHONY: help figures test lab models data bench clean

help:
	@echo 'Targets:'
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' Makefile
	@echo 'Variables:'
	@echo '  PROFILE   smoke, embedded (default), sample, paper, or the path of a YAML file of your own'
	@echo '  NB        one notebook, for instance NB=03_blur_ig'
	@echo '  PARAMS    parameters of the notebooks, for instance PARAMS="n_steps=20 seed=1"'
	@echo '  PYTHON    an interpreter that is already set up; otherwise .venv is made'
	@echo '  JOBS      notebooks at once (default: as many as the cores allow)'

figures: $(READY)  ## rebuild figures, tables, ledger and gallery where they are out of date
	$(PYTHON) -m xai_lib.reproduce --profile '$(PROFILE)' $(strip $(OPTIONS))

test: $(READY)  ## run the tests
	$(PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lab: $(READY)  ## open the notebooks in JupyterLab
	PYTHONPATH='$(CURDIR)' $(PYTHON) -m jupyterlab notebooks

models: $(READY)  ## train the networks of PROFILE again, embedded or sample
	$(PYTHON) -m xai_lib.models.train --profile '$(PROFILE)'

data: $(READY)  ## fetch the real data that PROFILE needs, and say where to put what is not public
	$(PYTHON) -m xai_lib.datasets.download --profile '$(PROFILE)'

bench: $(READY)  ## measure speed and memory
	$(PYTHON) -m tests.benchmarks

clean:  ## remove stamps, caches, and the results of smoke and interactive runs
	rm -rf figures/smoke figures/interactive .pytest_cache .ruff_cache .hypothesis
	if [ -d figures ]; then find figures -mindepth 1 -name '.*' -prune -exec rm -rf {} +; fi
	find xai_lib tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted set-up starts over from an empty folder.
.venv/.ready: requirements.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'Python 3.11 or newer is needed as python3 (or give one that is set up: make PYTHON=...).'; exit 1; }
	@python3 -c 'import venv, ensurepip' || \
	    { echo 'The venv module of Python is missing (on Debian and Ubuntu: apt install python3-venv).'; exit 1; }
	@rm -f $@
	python3 -m venv $(if $(wildcard $@),,--clear) .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	.venv/bin/python -m uv pip install --python .venv/bin/python --compile-bytecode --require-hashes --requirement requirements.lock
	@touch $@
