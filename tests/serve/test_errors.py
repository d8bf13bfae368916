"""What a failure tells a client: its shape, and nothing of the server's inside."""

import asyncio
import json
import math
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from ray.exceptions import TaskCancelledError

from presafe.config import BatchingSettings
from presafe.decision.events import Decided
from presafe.decision.rule import GateRule
from presafe.engines.drawing import Drawing
from presafe.engines.exported import load_exported
from presafe.engines.paged_engine import PagedEngine
from presafe.engines.streaming import EngineError, Sampling, Step
from serve.api.errors import HANDLERS
from serve.api.reply import Choices, Reply, Served
from serve.api.streaming import EventStream, server_sent_events
from support import run
from tiny_reasoner import BENIGN, TinyExport, user

WILD = Sampling(max_tokens=40, temperature=1, top_p=1, seed=0)


@pytest.fixture(scope="module")
def engine(tiny_export: TinyExport) -> Iterator[PagedEngine]:
    loaded = load_exported(tiny_export.folder)
    made = PagedEngine(loaded, GateRule("off", 0.5, "refusal"), BatchingSettings(), 1000)
    made.prompt = loaded.format.prompt_ids(user(BENIGN))  # type: ignore[attr-defined]
    yield made
    made.close()


async def generate(engine: Any) -> list[Step]:
    return [step async for step in engine.generate(engine.prompt, WILD, 40)]


def test_a_failure_of_the_server_tells_nothing_of_it() -> None:
    api = FastAPI(exception_handlers=HANDLERS)

    @api.get("/")
    async def fail() -> None:
        raise RuntimeError("secret")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    reply = run(ask())
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "secret" not in reply.text


def test_a_failure_of_one_completion_reaches_its_caller_and_only_it(
    engine: PagedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Drawing.draw

    def fail_once(*_: Any) -> int:
        monkeypatch.setattr(Drawing, "draw", draw)
        raise RuntimeError("out of memory")

    async def two() -> list[list[Step] | BaseException]:
        return await asyncio.gather(generate(engine), generate(engine), return_exceptions=True)

    monkeypatch.setattr(Drawing, "draw", fail_once)
    failed, other = run(two())
    assert isinstance(failed, EngineError)
    assert isinstance(other, list)
    assert other[-1].finish_reason is not None
    engine.check()
    assert engine.load.running == 0


def test_a_stream_that_fails_ends_in_an_error_and_without_done() -> None:
    async def fail() -> AsyncGenerator[Choices]:
        for choice in ():
            yield choice
        raise EngineError("secret")

    async def collect() -> list[str]:
        reply = Reply(Served("presafe", "off", 0.5, True), 3)
        events = server_sent_events((0, Decided("think", math.nan)), fail(), reply, include_usage=False)
        return [event async for event in events]

    first, last = (json.loads(event.removeprefix("data: ")) for event in run(collect()))
    assert first["presafe"]["refuse_probability"] is None
    assert last["error"]["type"] == "server_error"
    assert "secret" not in str(last)


def test_a_client_whose_connection_ends_in_an_error_of_ray_has_left() -> None:
    """What Ray Serve raised from `receive` once, where 64 streams were left at a time."""
    sent, closed = [], asyncio.Event()

    async def endless() -> AsyncGenerator[str]:
        try:
            while True:
                yield "data: {}"
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def receive() -> Any:
        raise TaskCancelledError

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def stream() -> None:
        async with AsyncExitStack() as held:
            events = await held.enter_async_context(aclosing(endless()))
            response = EventStream(events, {}, held.pop_all())
        await response({"type": "http", "asgi": {"spec_version": "2.0"}}, receive, send)
        assert closed.is_set()

    run(stream())
    assert "http.response.start" in sent


def test_a_generation_that_hangs_is_unhealthy(engine: PagedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = threading.Event(), threading.Event()
    draw = Drawing.draw

    def hang(*args: Any) -> int:
        begun.set()
        release.wait()
        return draw(*args)

    async def check_while_it_hangs() -> None:
        asking = asyncio.create_task(generate(engine))
        await asyncio.to_thread(begun.wait)
        engine.check()
        monkeypatch.setattr("presafe.engines.paged_engine.STALL_SECONDS", 0.0)
        with pytest.raises(EngineError, match="no token for"):
            engine.check()
        release.set()
        await asking

    monkeypatch.setattr(Drawing, "draw", hang)
    engine.check()
    run(check_while_it_hangs())
    engine.check()
