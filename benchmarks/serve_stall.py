"""Beside 64 hostile bodies at once: an ordinary request's p95, and the largest gap of a stream that runs meanwhile."""

import asyncio
import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from statistics import median

import httpx
import numpy as np

from benchmarks.ratio import PAIRS, Metric
from benchmarks.serve_load import Server, presafe_server
from benchmarks.serve_model import prompts, save_model

AT_ONCE, ROUNDS, REQUESTS = 64, 3, 20
MB = 1_000_000
TEXTS = {
    "white space": " " * (MB - 1) + "x",
    "near tags": "<think" * (MB // 6),
    "tags": "<think>" * (MB // 7),
    "emoji": "\U0001f600" * (MB // 4),
}
"""What a client writes within the endpoint's megabyte; beside them comes a body of 25,000 messages."""


def stall() -> list[Metric]:
    """Alone and beside the hostile bodies in turns; a stream runs all the time."""
    alone, beside, spawn = [], [], multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(folder)
        with presafe_server(model, gate="on", threshold=1.0) as server:
            for _ in range(PAIRS):
                asked = itertools.count()
                alone.append(measured(server, lambda: next(asked) < REQUESTS))  # noqa: B023 - used before the next one
                sending = spawn.Event()
                crowd = spawn.Process(target=hostile, args=(server.url, sending))
                crowd.start()
                sending.wait()
                beside.append(measured(server, crowd.is_alive))
                crowd.join()
                assert crowd.exitcode == 0
    return [
        _metric("request_p95_beside_hostile", [p95 for p95, _ in alone], [p95 for p95, _ in beside]),
        _metric("stream_gap_beside_hostile", [gap for _, gap in alone], [gap for _, gap in beside]),
    ]


def hostile(url: str, sending: Event) -> None:
    """Clients that all send at once, some times over, in a process of their own; sets `sending` before they do."""
    bodies = [[{"role": "user", "content": text}] for text in TEXTS.values()] + [
        [{"role": "user", "content": "x"}] * 25_000
    ]
    contents = [json.dumps({"model": "presafe", "messages": body}, ensure_ascii=False) for body in bodies]

    async def all_at_once() -> None:
        headers, limits = {"Content-Type": "application/json"}, httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=600, limits=limits, headers=headers) as client:
            sending.set()
            for _ in range(ROUNDS):
                sent = itertools.islice(itertools.cycle(contents), AT_ONCE)
                post = [client.post(f"{url}/v1/chat/completions", content=content.encode()) for content in sent]
                assert {reply.status_code for reply in await asyncio.gather(*post)} <= {400, 413, 503}

    asyncio.run(all_at_once())


def measured(server: Server, goes_on: Callable[[], bool]) -> tuple[float, float]:
    """p95 in seconds of requests one after the other, and a stream's largest gap, for as long as it `goes_on`."""
    return asyncio.run(_measured(server, goes_on))


async def _measured(server: Server, goes_on: Callable[[], bool]) -> tuple[float, float]:
    gaps: list[float] = []
    texts = iter(prompts(1000, seed=time.monotonic_ns() % 2**32))
    async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:

        async def stream() -> None:
            body = _body(next(texts), 500, stream=True)
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                last = time.monotonic()
                async for _ in response.aiter_lines():
                    gaps.append(time.monotonic() - last)
                    last = time.monotonic()

        streaming = asyncio.create_task(stream())
        seconds = []
        while goes_on():
            began = time.monotonic()
            reply = await client.post("/v1/chat/completions", json=_body(next(texts), 8))
            reply.raise_for_status()
            seconds.append(time.monotonic() - began)
        print(f"{len(seconds)} requests, {len(gaps)} lines of the stream", flush=True)
        assert not streaming.done()
        streaming.cancel()
        await asyncio.wait([streaming])
    return float(np.percentile(seconds, 95)), max(gaps[1:])


def _body(text: str, tokens: int, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": "presafe", "messages": messages, "max_tokens": tokens, "temperature": 0, **more}


def _metric(name: str, alone: list[float], beside: list[float]) -> Metric:
    ratios = [b / a for a, b in zip(alone, beside, strict=True)]
    print(f"{name}: alone {median(alone) * 1e3:.0f} ms, beside {median(beside) * 1e3:.0f} ms")
    target = f"<= {max(2.0, 0.25 / median(alone)):.1f}"
    return Metric(name, median(ratios), min(ratios), max(ratios), "ratio", target, "alone")
