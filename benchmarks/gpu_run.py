"""`python -m benchmarks.gpu_run stages|endpoint STORAGE`, the tasks of `make gpu PART=run`: the demo on one GPU.

stages: configs/demo-gpu.yaml from its prompts to its report, seconds of each stage and what the report says. endpoint:
`presafe serve` on the exported model, asked through openai's client; the probabilities that it tells must be those that
the same model reads off each prompt by itself, to TOLERANCE.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import openai

from benchmarks.gpu_parts import figure
from benchmarks.serve_load import presafe_server
from presafe.config import STAGES, Config, load_config
from presafe.engines.card import read_card
from presafe.engines.exported import load_exported
from presafe.evaluate.stage import read_measurements
from presafe.pipeline import run_one
from presafe.runtime import model_folder
from presafe.suites import suite_prompts

CONFIG = str(Path(__file__).parents[1] / "configs" / "demo-gpu.yaml")
TOLERANCE = 1e-2
ASKED = 32
CACHE = 65_536
"""Tokens of the endpoint's cache: what a GPU has room for would be 100 million of so small a model."""
CELLS = {("base", "on"), ("base", "off"), ("aligned", "on")}
"""Models and chain-of-thought modes whose measurements are kept, without the gate."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["stages", "endpoint"])
    parser.add_argument("storage", help="run.storage of the run")
    parser.add_argument("--gate", choices=["off", "on"], default="off")
    parser.add_argument(
        "--from", dest="first", choices=STAGES, help="the stage to begin with: those before it are done"
    )
    parser.add_argument("--dry-run", action="store_true", help="a tiny model on a CPU")
    arguments = parser.parse_args()
    overrides = [f"run.storage={arguments.storage}"]
    if arguments.dry_run:
        from benchmarks.gpu_tiny import OVERRIDES

        overrides += OVERRIDES
    config = load_config(CONFIG, overrides)
    if arguments.what == "stages":
        run_stages(config, arguments.first or STAGES[0])
    else:
        ask_endpoint(config, arguments.gate)


def run_stages(config: Config, first: str) -> None:
    """The stages anew from `first` on, each one's seconds with the start of what it needs."""
    timed("model", lambda: model_folder(config))
    for stage in STAGES[STAGES.index(first) :]:
        timed(stage, partial(run_one, config, stage, force=True))
    for row in read_measurements(config):
        if row.gate == "off" and (row.model, row.cot) in CELLS and row.value is not None:
            name = f"run_{row.metric}_{row.suite}_{row.model}_cot_{row.cot}"
            figure(name, 100 * row.value, "%", spread=[100 * row.ci_low, 100 * row.ci_high])


def timed(what: str, work: Callable[[], object]) -> None:
    begin = time.monotonic()
    work()
    figure(f"run_{what}_seconds", time.monotonic() - begin, "s")


def ask_endpoint(config: Config, gate: str) -> None:
    """Raises AssertionError where a probability that is served is not the one that is read offline."""
    model = config.run_directory.folder("model")
    workers = config.serve.workers
    texts = some_prompts(config)
    offline = read_offline(model, texts, "cuda" if workers.num_gpus else "cpu")
    begin = time.monotonic()
    settings = {"workers.num_gpus": f"{workers.num_gpus:g}", "batching.kv_cache_tokens": CACHE}
    with presafe_server(model, gate=gate, threshold=read_card(model).threshold, **settings) as server:
        figure(f"run_endpoint_start_gate_{gate}_seconds", time.monotonic() - begin, "s")
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)
        served = [ask(client, server.model, text) for text in texts]
    apart = [abs(one["refuse_probability"] - p) for one, p in zip(served, offline, strict=True)]
    name = f"run_served_probability_apart_gate_{gate}"
    figure(name, max(apart), "probability", spread=apart, target=f"<= {TOLERANCE}", peer="the model by itself")
    refused = sum(one["path"] == "refuse" for one in served)
    figure(f"run_served_refused_gate_{gate}", 100 * refused / len(served), "%")
    assert {one["gate"] for one in served} == {gate}
    assert max(apart) <= TOLERANCE, f"a served probability is {max(apart):.3f} from the model's own"


def ask(client: openai.OpenAI, model: str, text: str) -> dict[str, Any]:
    """The `presafe` object of a reply."""
    messages: Any = [{"role": "user", "content": text}]
    reply: Any = client.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0)
    return dict(reply.presafe)


def some_prompts(config: Config) -> list[str]:
    """ASKED prompts, spread over the evaluation suites."""
    texts = [prompt.text for prompt in suite_prompts(config.run_directory)]
    return texts[:: max(1, len(texts) // ASKED)][:ASKED]


def read_offline(model: str, texts: list[str], device: str) -> list[float]:
    """p' of each prompt by itself, off the exported model."""
    loaded = load_exported(model, device)
    assert loaded.reader is not None
    prompts = [loaded.format.prompt_ids([{"role": "user", "content": text}]) for text in texts]
    return loaded.reader.probabilities(loaded.model, prompts)


if __name__ == "__main__":
    main()
