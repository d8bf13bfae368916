"""`python -m benchmarks.serve_gpu`, the task of `make gpu PART=serve`: the batching engine on a 7B of random weights.

Tokens a second of completions at once, with the gate on, and what the gate costs: seconds with it over seconds without
a head, in turns. The weights are bfloat16; greedy completions never end by themselves.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import torch

from benchmarks.align_gpu import model_config, random_model
from benchmarks.gpu_parts import figure
from benchmarks.serve_model import byte_tokenizer, make_endless, prompts, random_card
from presafe.config import BatchingSettings
from presafe.decision.head import SafetyHead
from presafe.decision.rule import GateRule, ServingGate
from presafe.engines.exported import LoadedModel
from presafe.engines.paged_engine import PagedEngine
from presafe.engines.streaming import Sampling
from presafe.thinking import think_format

NEVER = 1.0
"""Threshold of a gate that is on and refuses nothing."""
LONGEST = 512
"""Tokens of a prompt, which are about 120, and its completion."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dry-run", action="store_true", help="a tiny model, for a CPU too")
    dry = parser.parse_args().dry_run
    tokens, pairs, crowds = (4, 1, (1, 2)) if dry else (64, 3, (1, 16, 64))
    loaded = load("tiny" if dry else "7b")
    settings = BatchingSettings(kv_cache_tokens=2 * max(crowds) * LONGEST, max_requests_per_batch=max(crowds))
    on = engine(loaded, "on", settings)
    off = engine(replace(loaded, card=None, head=None), "off", settings)
    with asyncio.Runner() as runner:
        for crowd in crowds:
            ids = [loaded.format.prompt_ids([{"role": "user", "content": text}]) for text in prompts(crowd)]

            def seconds(one: PagedEngine, ids: list[list[int]] = ids) -> float:
                begin = time.perf_counter()
                runner.run(complete(one, ids, tokens))
                return time.perf_counter() - begin

            seconds(on), seconds(off)  # a warm-up
            taken = [(seconds(on), seconds(off)) if k % 2 else (seconds(off), seconds(on))[::-1] for k in range(pairs)]
            tell(crowd, tokens, taken)
        on.close(), off.close()


def tell(crowd: int, tokens: int, taken: Sequence[tuple[float, float]]) -> None:
    """Figures of pairs of seconds, with the gate on and off, that `crowd` completions of `tokens` took."""
    rates = [crowd * tokens / on for on, _ in taken]
    figure(f"engine_7b_tokens_per_second_at_{crowd}", median(rates), "tokens/s", spread=rates)
    costs = [on / off for on, off in taken]
    figure(
        f"engine_7b_gate_on_over_off_at_{crowd}",
        median(costs),
        "ratio",
        spread=costs,
        target="<= 1.02",
        peer="a model without a head",
    )


def load(shape: str) -> LoadedModel:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = model_config(shape)
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    config.vocab_size = max(config.vocab_size, len(tokenizer))
    model = random_model(config, "sdpa").eval()
    make_endless(model, tokenizer)
    head = SafetyHead(config.hidden_size).to(model.device).eval()
    return LoadedModel(model, tokenizer, think_format(tokenizer), head, random_card("bfloat16"))


def engine(loaded: LoadedModel, gate: ServingGate, settings: BatchingSettings) -> PagedEngine:
    return PagedEngine(loaded, GateRule(gate, NEVER, "refusal"), settings, LONGEST)


async def complete(engine: PagedEngine, prompts: list[list[int]], tokens: int) -> None:
    """All prompts at once, each with so many greedy tokens."""

    async def one(prompt: list[int]) -> None:
        count = 0
        async for step in engine.generate(prompt, Sampling(tokens, 0, 1), tokens):
            count += len(step.tokens)
        assert count == tokens, f"a completion ended after {count} tokens"

    await asyncio.gather(*(one(prompt) for prompt in prompts))


if __name__ == "__main__":
    main()
