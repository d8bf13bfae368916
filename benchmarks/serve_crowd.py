"""64 clients at once for minutes: refusals beside long thoughts, memory, and what more clients than the limit are told.

The model decides by its gate, whose threshold lies in the middle of what its random head says of random prompts.
"""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np
import openai
import torch

from benchmarks.ratio import Metric, median_of
from benchmarks.serve_load import Server, presafe_server
from benchmarks.serve_model import prompts, save_model
from presafe.engines.exported import load_exported

HIDDEN = 256
"""Smaller than the other parts' model: minutes of 64 clients are many requests only where one takes seconds."""
LIMIT, THINKING, TOKENS = 64, 32, 256
"""Clients and requests a replica holds; clients on Path B, and tokens of their completions."""
ROUNDS, ALONE_SECONDS, MIXED_SECONDS, OVER_SECONDS = 3, 30.0, 80.0, 20.0
MARGIN = 0.05
"""Share of the prompts around the threshold that nobody asks."""


@dataclass
class Told:
    """What a crowd was told: seconds of completions by path, and everything else by what it was."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"refuse": [], "think": []})
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def refusal_p95(self) -> float:
        return float(np.percentile(self.seconds["refuse"], 95))


@dataclass(frozen=True)
class Prompts:
    """Prompts that the gate refuses and lets through, and the threshold between them."""

    refuse: Sequence[str]
    think: Sequence[str]
    threshold: float


def crowd() -> list[Metric]:
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(folder, HIDDEN)
        asked = by_path(model)
        settings = {"access.max_ongoing_requests": LIMIT, "batching.kv_cache_tokens": 2**15}
        with presafe_server(model, gate="on", threshold=asked.threshold, **settings) as server:
            few, many, memory, errors, finished = [], [], [], Counter[str](), Counter[str]()
            run(server, asked, LIMIT - THINKING, THINKING, ALONE_SECONDS)
            for _ in range(ROUNDS):
                for refusing, ratios in ((LIMIT - THINKING, many), (4, few)):
                    alone = run(server, asked, refusing, 0, ALONE_SECONDS)
                    mixed = run(server, asked, refusing, LIMIT - refusing, MIXED_SECONDS)
                    ratios.append(mixed.refusal_p95 / alone.refusal_p95)
                    errors += alone.errors + mixed.errors
                    finished.update({path: len(seconds) for path, seconds in mixed.seconds.items()})
                memory.append(sum(process.memory_info().rss for process in server.busy) / 1e6)
                print(f"memory {memory[-1]:.0f} MB, finished {dict(finished)}, errors {dict(errors)}", flush=True)
            over = run(server, asked, LIMIT, LIMIT, OVER_SECONDS)
            errors += run(server, asked, LIMIT, 0, 5).errors
    print(f"twice the limit: { ({k: len(v) for k, v in over.seconds.items()}) }, {dict(over.errors)}")
    unclean = over.errors.total() - over.errors["503, to come again"]
    several = f"{LIMIT} clients, {ROUNDS * 2 * MIXED_SECONDS:.0f} s"
    return [
        median_of("path_a_p95_beside_path_b, 32 and 32 clients", many, "<= 1.5", "32 clients on Path A alone"),
        median_of("path_a_p95_beside_path_b, 4 and 60 clients", few, "<= 1.5", "4 clients on Path A alone"),
        count("errors_below_the_limit", errors.total(), "0", several),
        count("errors_above_the_limit_but_clean_503", unclean, "0", f"{2 * LIMIT} clients"),
        count("clean_503_above_the_limit", over.errors["503, to come again"], "> 0", f"{2 * LIMIT} clients"),
        Metric("memory_last_over_first_round", memory[-1] / memory[0], 1, 1, "ratio", "<= 1.05", several),
    ]


def count(name: str, value: int, target: str, peer: str) -> Metric:
    return Metric(name, value, value, value, "requests", target, peer)


@torch.inference_mode()
def by_path(model: str, number: int = 1200) -> Prompts:
    loaded = load_exported(model)
    assert loaded.head is not None
    found = []
    for text in prompts(number, seed=1):
        ids = torch.tensor([loaded.format.prompt_ids([{"role": "user", "content": text}])])
        hidden = loaded.model.model(input_ids=ids).last_hidden_state[0, -1:]
        found.append((loaded.head(hidden).sigmoid().item(), text))
    found.sort()
    middle, margin = number // 2, int(MARGIN * number)
    texts = [text for _, text in found]
    return Prompts(texts[middle + margin :], texts[: middle - margin], found[middle][0])


def run(server: Server, asked: Prompts, refusing: int, thinking: int, seconds: float) -> Told:
    """So many clients of each path, each asking again and again until the time is over."""
    return asyncio.run(_run(server, asked, refusing, thinking, time.monotonic() + seconds))


async def _run(server: Server, asked: Prompts, refusing: int, thinking: int, end: float) -> Told:
    told = Told()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        httpx.AsyncClient(limits=limits, timeout=600) as http,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http) as client,
    ):

        async def ask(path: str, texts: Sequence[str]) -> None:
            while time.monotonic() < end:
                begin = time.monotonic()
                try:
                    found = await _completion(client, random.choice(texts))
                except openai.APIStatusError as error:
                    clean = error.status_code == 503 and "retry-after" in error.response.headers and error.body
                    told.errors["503, to come again" if clean else repr(error)] += 1
                    await asyncio.sleep(1)
                except openai.OpenAIError as error:
                    told.errors[repr(error)] += 1
                else:
                    if found == (path, TOKENS if path == "think" else 0):
                        told.seconds[path].append(time.monotonic() - begin)
                    else:
                        told.errors[f"{found} on path {path}"] += 1

        clients = [("refuse", asked.refuse)] * refusing + [("think", asked.think)] * thinking
        await asyncio.gather(*(ask(*each) for each in clients))
    return told


async def _completion(client: openai.AsyncOpenAI, prompt: str) -> tuple[str, int]:
    """Path of a streamed completion, and its tokens."""
    stream = await client.chat.completions.create(
        model="presafe",
        messages=[{"role": "user", "content": prompt}],
        max_tokens=TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    last = None
    async for chunk in stream:
        last = chunk
    assert last is not None
    assert last.usage is not None
    return last.presafe["path"], last.usage.completion_tokens  # type: ignore[attr-defined]
