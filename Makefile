# Every target does its own set-up: Python 3.11 or newer, make and a package index are enough.
# Set-up happens once and again when pyproject.toml changes. Say `make PYTHON=... <target>` to choose the interpreter.

SHELL := /bin/sh
TORCH ?= torch>=2.4,<2.14
ARGS  ?=

# The first interpreter that runs and is new enough (a name on PATH alone may be a version manager's empty shim).
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

# One thread: steadier timings, and two pytest workers do not fight over the cores.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS      := 1
export MKL_NUM_THREADS      := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# An editable install points at its checkout, so a stamp holds for one place only: a copied or moved tree installs anew.
HERE     := $(shell pwd | cksum | cut -d' ' -f1)
DEMO     := .venv/.stamp-demo-$(HERE)
DEV      := .venv/.stamp-dev-$(HERE)
ORACLE   := .venv/.stamp-oracle-$(HERE)
LINT     := .venv-lint/.stamp-$(HERE)
BENCH    := .venv-bench/.stamp-$(HERE)
INSTALL   = $(@D)/bin/python -m pip install --quiet

.PHONY: help demo examples pictures test test-oracle lint bench clean
.NOTPARALLEL:

help:           ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

demo: $(DEMO)   ## train a character model on Hamlet, print samples and tape, draw its last steps
	.venv/bin/python examples/demo.py $(ARGS)

examples: $(DEMO)  ## run all examples on real data, ten minutes, and print one table (ARGS="--only digits" selects)
	.venv/bin/python examples/table.py --run $(ARGS)

pictures: $(DEMO)  ## make the pictures of the README anew, into docs/pictures (ARGS="--only gradient-flow" selects)
	.venv/bin/python examples/pictures.py $(ARGS)

test: $(DEV)    ## the test suite (ARGS="-k tanh" selects)
	.venv/bin/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-oracle: $(ORACLE)  ## compare with PyTorch
	.venv/bin/python -m pytest tests/oracle --hypothesis-profile=exploring $(ARGS)

lint: $(LINT)   ## ruff, and mypy --strict on an installed wheel
	.venv-lint/bin/python -m ruff check .
	.venv-lint/bin/python -m ruff format --check .
	.venv-lint/bin/python .ci/typecheck.py

bench: $(BENCH) ## speed and memory beside PyTorch, HIPS autograd and MyGrad
	.venv-bench/bin/python tests/benchmarks/run.py $(ARGS)

clean:          ## remove everything that make made, environments too
	rm -rf .venv .venv-lint .venv-bench build dist out *.egg-info .coverage htmlcov .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

%/.created:
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "make: Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(@D) (once)"
	@"$(PYTHON)" -m venv $(@D)
	@touch $@

$(DEMO): pyproject.toml | .venv/.created
	$(INSTALL) -e '.[examples]'
	@touch $@

$(DEV): pyproject.toml | .venv/.created
	$(INSTALL) -e '.[dev]'
	@touch $@ $(DEMO)

$(ORACLE): $(DEV)
	$(INSTALL) '$(TORCH)'
	@touch $@

$(LINT): pyproject.toml | .venv-lint/.created
	$(INSTALL) -e '.[lint]'
	@touch $@

$(BENCH): pyproject.toml | .venv-bench/.created
	$(INSTALL) -e . '$(TORCH)' autograd mygrad
	@touch $@
