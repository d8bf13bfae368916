"""`make bench-serve [ONLY=gate,paths,endpoint,peer,load,stall]`: what decision and endpoint cost; a result file a part.

A model of 94M random weights (serve_model.py), one thread for each server, greedy completions that never end by
themselves. Both sides of a ratio run in turns. The other side of `peer` is `transformers serve`, which does not decide.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from benchmarks.ratio import PAIRS, Metric, cpu_seconds, median_of, save
from benchmarks.serve_crowd import crowd
from benchmarks.serve_load import Load, Server, presafe_server, run_load, transformers_server
from benchmarks.serve_model import CONTEXT, prompts, save_model
from benchmarks.serve_stall import stall
from presafe.config import BatchingSettings
from presafe.decision.rule import GateRule
from presafe.engines.exported import LoadedModel, load_exported
from presafe.engines.paged_attention import attend_by_sequence
from presafe.engines.paged_engine import PagedEngine
from presafe.engines.streaming import Sampling

NEVER, ALWAYS = 1.0, 0.0
"""Thresholds of a gate that is on and refuses nothing, or everything."""
CONCURRENT, NEW_TOKENS = 8, 32


def gate() -> list[Metric]:
    """In one process: the gate against a model without a head, and a refusal against the bare forward pass."""
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(folder)
        bare = load_exported(model)  # one copy of the weights for all: where they lie in memory alone makes 5 %
        on, refusing = (_engine(bare, "on", threshold) for threshold in (NEVER, ALWAYS))
        off = _engine(replace(bare, card=None, head=None), "off", NEVER)
        ids = [bare.format.prompt_ids([{"role": "user", "content": text}]) for text in prompts(CONCURRENT)]
        with asyncio.Runner() as runner:

            def crowd(engine: PagedEngine, tokens: int) -> float:
                return cpu_seconds(lambda: runner.run(_all(engine, ids, tokens)))

            def one_by_one(engine: PagedEngine) -> float:
                return cpu_seconds(lambda: [runner.run(_all(engine, [prompt], 1)) for prompt in ids])

            cost = _pairs(lambda: crowd(on, NEW_TOKENS), lambda: crowd(off, NEW_TOKENS))
            refusal = _pairs(lambda: one_by_one(refusing), lambda: cpu_seconds(lambda: _prefill(bare.model, ids)))
        for engine in (on, off, refusing):
            engine.close()
    return [
        median_of("gate_on_over_off", cost, "<= 1.02", "a model without a head"),
        median_of("path_a_over_prefill", refusal, "<= 1.10", "the model's forward pass over the prompt"),
    ]


def _engine(loaded: LoadedModel, mode: Any, threshold: float) -> PagedEngine:
    return PagedEngine(loaded, GateRule(mode, threshold, "refusal"), BatchingSettings(), CONTEXT)


async def _all(engine: PagedEngine, prompts: list[list[int]], tokens: int) -> None:
    async def one(prompt: list[int]) -> None:
        async for _ in engine.generate(prompt, Sampling(tokens, 0, 1), tokens):
            pass

    await asyncio.gather(*(one(prompt) for prompt in prompts))


@torch.inference_mode()
def _prefill(model: Any, prompts: list[list[int]]) -> None:
    for prompt in prompts:
        model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)


def _pairs(ours: Callable[[], float], peer: Callable[[], float], count: int = PAIRS) -> list[float]:
    """Ours over the peer's, in turns that change their order, after one warm-up of each."""
    ours(), peer()
    ratios = []
    for k in range(count):
        if k % 2:
            other, own = peer(), ours()
        else:
            own, other = ours(), peer()
        ratios.append(own / other)
    return ratios


def paths() -> list[Metric]:
    """Through HTTP: a long thought against a refusal."""
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(folder)
        with presafe_server(model, gate="on", threshold=ALWAYS) as refusing:
            refusals = [_latency(refusing, 1) for _ in range(PAIRS)]
        with presafe_server(model, gate="on", threshold=NEVER) as thinking:
            thoughts = [_latency(thinking, 256) for _ in range(PAIRS)]
    return [
        median_of("path_b_over_path_a", [b / a for a, b in zip(refusals, thoughts, strict=True)], ">= 20", "Path A")
    ]


def endpoint() -> list[Metric]:
    """Streams of the endpoint, replica and proxy, against the same completions of the bare engine."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(folder)
        with presafe_server(model, gate="on", threshold=NEVER) as served, _BareEngine(model) as bare:
            for k in range(-1, PAIRS):
                load = Load(prompts(CONCURRENT, seed=k), CONCURRENT, NEW_TOKENS)
                if k % 2:
                    own, other = run_load(served, load).cpu_seconds, bare.cpu_seconds(load)
                else:
                    other, own = bare.cpu_seconds(load), run_load(served, load).cpu_seconds
                if k >= 0:  # the first one warms up
                    ratios.append(own / other)
    peer = "transformers' continuous batching in a process of its own"
    return [median_of("endpoint_over_engine", ratios, "<= 1.10", peer)]


class _BareEngine:
    """transformers' continuous batching without anything of ours but the attention; it runs all the time."""

    def __init__(self, model: str) -> None:
        settings = BatchingSettings()
        self._loaded = load_exported(model)
        attend_by_sequence(self._loaded.model)
        lm: Any = self._loaded.model
        self._manager = lm.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=settings.page_size,
                num_blocks=4 * CONTEXT // settings.page_size,
                max_batch_tokens=settings.max_batch_tokens,
                max_requests_per_batch=settings.max_requests_per_batch,
            ),
        )

    def __enter__(self) -> "_BareEngine":
        self._manager.warmup()
        self._manager.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.stop(block=True)

    def cpu_seconds(self, load: Load) -> float:
        ids = [self._loaded.format.prompt_ids([{"role": "user", "content": text}]) for text in load.prompts]
        return cpu_seconds(lambda: self._generate(ids, load.new_tokens))

    def _generate(self, ids: list[list[int]], new_tokens: int) -> None:
        self._manager.add_requests(ids, max_new_tokens=new_tokens)
        for _ in ids:
            result = self._manager.get_result(timeout=600)
            assert len(result.generated_tokens) == new_tokens


def _latency(server: Server, tokens: int) -> float:
    """p50 of a request that is alone, in seconds."""
    answered = run_load(server, Load(prompts(5), 1, tokens))
    return median(answered.seconds)


def peer() -> list[Metric]:
    """Throughput and time to the first token against `transformers serve --continuous-batching`."""
    throughput, first = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(folder)
        with presafe_server(model, gate="on", threshold=NEVER) as ours, transformers_server(model) as theirs:
            for server in (ours, theirs):
                run_load(server, Load(prompts(4), 4, 8))
            for k in range(PAIRS):
                load = Load(prompts(2 * CONCURRENT, seed=k), CONCURRENT, NEW_TOKENS)
                order = (ours, theirs) if k % 2 else (theirs, ours)
                found = {server: run_load(server, load) for server in order}
                throughput.append(found[ours].tokens_per_second / found[theirs].tokens_per_second)
                first.append(found[ours].first_token_p95 / found[theirs].first_token_p95)
    name = "transformers serve --continuous-batching"
    return [
        median_of("throughput_over_transformers_serve", throughput, ">= 1.0", name),
        median_of("ttft_p95_over_transformers_serve", first, "<= 1.0", name),
    ]


PARTS: dict[str, Callable[[], list[Metric]]] = {
    "gate": gate,
    "paths": paths,
    "endpoint": endpoint,
    "peer": peer,
    "load": crowd,
    "stall": stall,
}


def main() -> None:
    torch.set_num_threads(1)
    parts = sys.argv[1].split(",") if len(sys.argv) > 1 else list(PARTS)
    if len(parts) == 1:
        save(f"serve_{parts[0]}", PARTS[parts[0]]())
        return
    for part in parts:
        subprocess.run([sys.executable, "-m", "benchmarks.serve", part], check=True)


if __name__ == "__main__":
    main()
