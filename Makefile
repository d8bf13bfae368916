# make demo [SEED=0]   the main job, end to end, on the embedded tiny model
# make test            lint, types and tests
PYTHON ?= python3
SEED ?= 0
RUN = demo-seed$(SEED)
BIN = .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint format bench bench-signals clean

demo: .venv/runtime
	$(BIN)/presafe run --config configs/demo.yaml run.name=$(RUN) run.seed=$(SEED)
	@ln -sfn $(RUN) runs/demo

test: lint
	$(BIN)/pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev
	$(BIN)/python -m benchmarks.run

bench-signals: .venv/dev
	$(BIN)/python -m benchmarks.signals

clean:
	rm -rf .venv runs

# DeepSpeed's setup imports torch, so torch comes first and builds are not isolated; its ops are compiled when used.
.venv/runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --constraint constraints.txt setuptools wheel torch
	DS_BUILD_OPS=0 $(PIP) --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/runtime
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@
