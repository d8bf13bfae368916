"""64 clients at once for minutes: refusals beside long thoughts, memory, and what more clients than the limit are told.

The model decides by its gate, whose threshold lies in the middle of what its random head says of random prompts.
"""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

import httpx
import numpy as np
import openai
import torch

from benchmarks.ratio import Metric, median_of
from benchmarks.serve_load import Server, presafe_server
from benchmarks.serve_model import prompts, save_model
from presafe.engines.exported import load_exported

LIMIT = 64
"""Clients, and requests that a replica holds."""
TOKENS = (16, 256)
"""Fewest and most of a completion on Path B."""
ROUNDS, RAMP_SECONDS, SECONDS = 3, 15.0, 50.0
MARGIN = 0.05
"""Share of the prompts around the threshold that nobody asks."""


@dataclass
class Told:
    """What a crowd was told: seconds of completions by path, and everything else by what it was."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"refuse": [], "answer": [], "think": []})
    errors: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        told = {
            path: (len(seconds), round(float(np.median(seconds or [0])), 2)) for path, seconds in self.seconds.items()
        }
        return f"completions and median seconds {told}, errors {dict(self.errors)}"

    @property
    def refusal_p95(self) -> float:
        return float(np.percentile(self.seconds["refuse"], 95))


@dataclass(frozen=True)
class Prompts:
    """Prompts that the gate refuses and lets through, again and again, and the threshold between them.

    They are more than the KV cache holds, so that none is found in it when its turn comes again.
    """

    refuse: Iterator[str]
    think: Iterator[str]
    threshold: float


def crowd() -> list[Metric]:
    """Path A alone and beside Path B in turns, then twice as many clients as the replica takes."""
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(folder)
        asked = by_path(model)
        settings = {"access.max_ongoing_requests": LIMIT, "batching.kv_cache_tokens": LIMIT * 450}
        with presafe_server(model, gate="on", threshold=asked.threshold, **settings) as server:
            ratios: dict[int, list[float]] = {LIMIT // 2: [], 4: []}
            memory, errors = [], Counter[str]()
            for _ in range(ROUNDS):
                for refusing, found in ratios.items():
                    alone = run(server, asked, refusing, 0)
                    mixed = run(server, asked, refusing, LIMIT - refusing)
                    found.append(mixed.refusal_p95 / alone.refusal_p95)
                    errors += alone.errors + mixed.errors
                    print(f"Path A alone: {alone}; beside Path B: {mixed}", flush=True)
                memory.append(sum(process.memory_info().rss for process in server.busy) / 1e6)
                print(f"memory {memory[-1]:.0f} MB", flush=True)
            over = run(server, asked, LIMIT, LIMIT)
            errors += run(server, asked, LIMIT, 0).errors
    print(f"twice the limit: {over}")
    growth = memory[-1] / memory[0]
    unclean = over.errors.total() - over.errors["503, to come again"]
    several = f"{LIMIT} clients for {2 * ROUNDS * (RAMP_SECONDS + SECONDS):.0f} s"
    return [
        *(
            median_of(f"path_a_p95_beside_path_b_{a}_{LIMIT - a}", found, "<= 1.5", f"{a} clients on Path A alone")
            for a, found in ratios.items()
        ),
        count("errors_below_the_limit", errors.total(), "0", several),
        count("errors_above_the_limit_but_clean_503", unclean, "0", f"{2 * LIMIT} clients"),
        count("clean_503_above_the_limit", over.errors["503, to come again"], "> 0", f"{2 * LIMIT} clients"),
        Metric("memory_last_over_first_round", growth, growth, growth, "ratio", "<= 1.05", several),
    ]


def count(name: str, value: int, target: str, peer: str) -> Metric:
    return Metric(name, value, value, value, "requests", target, peer)


@torch.inference_mode()
def by_path(model: str, number: int = 600) -> Prompts:
    """Random prompts by what the model's head says of each, the half with the higher probability refused."""
    loaded = load_exported(model)
    assert loaded.head is not None
    found = []
    torch.set_num_threads(2)
    for text in prompts(number, seed=1):
        ids = torch.tensor([loaded.format.prompt_ids([{"role": "user", "content": text}])])
        hidden = loaded.model.model(input_ids=ids).last_hidden_state[0, -1:]
        found.append((loaded.head(hidden).sigmoid().item(), text))
    found.sort()
    middle, margin = number // 2, int(MARGIN * number)
    texts = [text for _, text in found]
    return Prompts(cycle(texts[middle + margin :]), cycle(texts[: middle - margin]), found[middle][0])


def run(server: Server, asked: Prompts, refusing: int, thinking: int) -> Told:
    """So many clients of each path, each asking again and again for SECONDS.

    Those on Path B come first, over RAMP_SECONDS, and the others once each of them has its first token: a slow machine
    reads their prompts for longer than the ramp, and a refusal behind that queue is another measurement. All leave at
    once, in the middle of what they are told.
    """
    told = asyncio.run(_run(server, asked, refusing, thinking))
    while httpx.get(f"{server.url}/health").json()["ongoing"]:
        time.sleep(0.1)
    return told


async def _run(server: Server, asked: Prompts, refusing: int, thinking: int) -> Told:
    told, begun, all_think = Told(), set[int](), asyncio.Event()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        httpx.AsyncClient(limits=limits, timeout=600) as http,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http) as client,
    ):

        async def ask(path: str, texts: Iterator[str], number: int) -> None:
            while True:
                begin, tokens = time.monotonic(), random.randint(*TOKENS)
                try:
                    found = await _completion(client, next(texts), tokens, partial(think, number))
                except openai.APIStatusError as error:
                    clean = error.status_code == 503 and "retry-after" in error.response.headers and error.body
                    told.errors["503, to come again" if clean else repr(error)] += 1
                    await asyncio.sleep(1)
                except openai.OpenAIError as error:
                    told.errors[repr(error)] += 1
                else:
                    if found == (path, tokens if path == "think" else 0):
                        told.seconds[path].append(time.monotonic() - begin)
                    else:
                        told.errors[f"{found} on path {path}"] += 1

        def think(number: int) -> None:
            begun.add(number)
            if len(begun) >= min(thinking, LIMIT - refusing):
                all_think.set()

        async def refuse(number: int) -> None:
            if thinking:
                await all_think.wait()
            await ask("refuse", asked.refuse, number)

        async def reason(number: int) -> None:
            await asyncio.sleep(random.uniform(0, RAMP_SECONDS))
            await ask("think", asked.think, number)

        clients = [asyncio.create_task(reason(number)) for number in range(thinking)]
        clients += [asyncio.create_task(refuse(thinking + number)) for number in range(refusing)]
        if thinking:
            await all_think.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*clients)
    return told


async def _completion(
    client: openai.AsyncOpenAI, prompt: str, tokens: int, begun: Callable[[], None]
) -> tuple[str, int]:
    """Path of a streamed completion, and its tokens; `begun` is called at its first chunk."""
    stream = await client.chat.completions.create(
        model="presafe",
        messages=[{"role": "user", "content": prompt}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    last = None
    async for chunk in stream:
        if last is None:
            begun()
        last = chunk
    assert last is not None
    assert last.usage is not None
    return last.presafe["path"], last.usage.completion_tokens  # type: ignore[attr-defined]
