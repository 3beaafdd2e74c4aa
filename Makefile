# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
BIN := .venv/bin
.DEFAULT_GOAL := help
# Container images set it; without compiled modules every process would compile a million lines anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup demo up down test check format lock bench docs clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

setup:  ## environment and jars, from locks with hashes; quick when current
	@command -v $(PYTHON) >/dev/null || { echo "set-up: drivelake needs Python 3.11, but there is none on the PATH. Install python3.11 with venv." >&2; exit 1; }
	@$(PYTHON) deploy/setup.py

demo: setup  ## raw recordings to a signed edge binary, end to end
	@$(BIN)/drivelake demo

up: setup  ## start the platform: Spark server, Dagster, MLflow
	@$(BIN)/drivelake up

down:  ## end all of it
	@test ! -x $(BIN)/drivelake || $(BIN)/drivelake down

test: setup  ## every test; three workers keep two cores busy, since some of them wait
	@$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

check: setup  ## format, lint, types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/architecture

format: setup  ## rewrite the sources in the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup  ## side by side with the peers; results in benchmarks/RESULTS.md
	@for one in benchmarks/decode_*.py benchmarks/scale_*.py benchmarks/read_*.py benchmarks/ingest_*.py benchmarks/sync_*.py; do $(BIN)/python $$one --write || exit 1; done

docs: setup  ## regenerate what is generated
	@$(BIN)/python -m quality.document
	@$(BIN)/python -m quality.contracts

lock: setup  ## resolve the locks anew
	@$(BIN)/uv pip compile -q --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --no-annotate locks/bootstrap.in -o locks/bootstrap.lock
	@$(BIN)/uv pip compile -q --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --no-annotate locks/dev.in -o locks/requirements.lock
	@$(PYTHON) deploy/setup.py && $(BIN)/python -m spark_jobs.class_list locks/classes.txt.gz
