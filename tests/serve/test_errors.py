"""What a failure tells a client: its shape, and nothing of the server's inside."""

import asyncio
import json
import math
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from presafe.engines.exported import LoadedModel
from serve.completion import Decided, Event, Sampling
from serve.errors import HANDLERS
from serve.generation import Engine, Generator
from serve.protocol import Reply
from serve.streaming import server_sent_events


def test_a_failure_of_the_server_tells_nothing_of_it() -> None:
    api = FastAPI(exception_handlers=HANDLERS)

    @api.get("/")
    async def fail() -> None:
        raise RuntimeError("secret")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    reply = asyncio.run(ask())
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "secret" not in reply.text


def test_a_failure_of_the_generation_reaches_its_caller_and_only_it(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(loaded, "off", 600, 10)
    engine = Engine(generator)
    complete = generator.complete

    def fail_once(*_: Any) -> Iterator[Event]:
        monkeypatch.setattr(generator, "complete", complete)
        raise RuntimeError("out of memory")

    async def ask() -> list[Event]:
        sampling = Sampling(max_tokens=4, temperature=0, top_p=1)
        return [
            event
            async for event in engine.stream(loaded.format.prompt_ids([{"role": "user", "content": "x"}]), sampling)
        ]

    monkeypatch.setattr(generator, "complete", fail_once)
    with pytest.raises(RuntimeError, match="out of memory"):
        asyncio.run(ask())
    assert len(asyncio.run(ask())) >= 2
    assert engine.ongoing == 0


def test_a_stream_that_fails_ends_in_an_error_and_without_done() -> None:
    async def fail_after_the_decision() -> AsyncGenerator[Event]:
        yield Decided("think", math.nan)
        raise RuntimeError("secret")

    async def collect() -> list[str]:
        reply = Reply("presafe", 3, 0.5, "off")
        return [event async for event in server_sent_events(fail_after_the_decision(), reply, include_usage=False)]

    first, last = (json.loads(event.removeprefix("data: ")) for event in asyncio.run(collect()))
    assert first["presafe"]["refuse_probability"] is None
    assert last["error"]["type"] == "server_error"
    assert "secret" not in str(last)


def test_a_generation_that_hangs_is_unhealthy(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(loaded, "off", 600, 10)
    engine, release, begun = Engine(generator), threading.Event(), threading.Event()

    def hang(*_: Any) -> Iterator[Event]:
        begun.set()
        release.wait()
        return iter(())

    async def check_while_it_hangs() -> None:
        asking = asyncio.create_task(anext(engine.stream([1], Sampling(4, 0, 1)), None))
        await asyncio.to_thread(begun.wait)
        engine.check()
        monkeypatch.setattr("serve.generation.STALL_SECONDS", 0.0)
        with pytest.raises(RuntimeError, match="no token for"):
            engine.check()
        release.set()
        await asking

    monkeypatch.setattr(generator, "complete", hang)
    engine.check()
    asyncio.run(check_while_it_hangs())
    engine.check()
