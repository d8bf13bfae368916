"""What Ray Serve's proxies let in: bounded bodies, one large one after the other, and no header of Serve's own."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

import serve.api.bodies
from serve.api.bodies import SMALL_BODY, BoundedBodies
from serve.proxy import TextHeaders

MEGABYTE = 1_000_000


class Recorder:
    """An application that reads each body to its end, and answers it; one that begins with `late` when told."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.read = 0
        self.left = False
        self.go_on = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        late = False
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left = True
                break
            self.read += len(message["body"])
            late = late or message["body"].startswith(b"late")
            if not message.get("more_body", False):
                break
        if late:
            await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"read"})


async def ask(app, chunks: Sequence[bytes], headers: Sequence[tuple[bytes, bytes]] = (), ends: bool = True):
    """Status and body of the answer to a request whose body comes in `chunks`, and never ends unless it `ends`."""
    coming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        coming.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def receive():
        if not coming:
            await asyncio.Event().wait()
        return coming.pop(0)

    async def send(message):
        sent.append(message)

    await app({"type": "http", "headers": list(headers)}, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    return starts[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def until(reached):
    while not reached():
        await asyncio.sleep(0)


def code(body: bytes) -> str:
    return json.loads(body)["error"]["code"]


def test_a_body_passes_as_it_came():
    app = Recorder()
    assert asyncio.run(ask(BoundedBodies(app), [b"a" * 1000, b"b" * 500])) == (200, b"read")
    assert (app.read, app.left) == (1500, False)


def test_a_body_that_is_too_large_ends_there(monkeypatch):
    monkeypatch.setenv("PRESAFE_PROXY_MAX_BODY_MB", "2")
    app = Recorder()
    status, body = asyncio.run(ask(BoundedBodies(app), [b"a" * MEGABYTE] * 5))
    assert (status, code(body)) == (413, "request_too_large")
    assert app.read <= 2 * MEGABYTE
    assert app.left, "the application behind is told that nothing more comes"


def test_a_body_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr(serve.api.bodies, "BODY_SECONDS", 0.05)
    app = Recorder()
    status, body = asyncio.run(ask(BoundedBodies(app), [b"a"], ends=False))
    assert (status, code(body), app.left) == (408, "timeout", True)


def test_what_all_bodies_hold_is_bounded_and_given_back(monkeypatch):
    monkeypatch.setattr(serve.api.bodies, "MAX_HELD_MB", 1.0)
    app = Recorder()
    bounded = BoundedBodies(app)

    async def beside_a_large_one():
        large = asyncio.create_task(ask(bounded, [b"a" * MEGABYTE], ends=False))
        await asyncio.sleep(0)
        while app.read < MEGABYTE:
            await asyncio.sleep(0)
        refused = await ask(bounded, [b"a" * (SMALL_BODY + 1)])
        small = await ask(bounded, [b"a"])
        large.cancel()
        await asyncio.wait([large])
        return refused, small, await ask(bounded, [b"a" * (SMALL_BODY + 1)])

    refused, small, later = asyncio.run(beside_a_large_one())
    assert (refused[0], code(refused[1])) == (503, "overloaded")
    assert small == later == (200, b"read")


LARGE = (b"content-length", b"900000")


@pytest.mark.parametrize("header", [LARGE, (b"content-length", b"9" * 30), (b"transfer-encoding", b"chunked")])
def test_large_bodies_enter_one_by_one_and_small_ones_at_once(monkeypatch, header):
    monkeypatch.setattr(serve.api.bodies, "HELD_UP_SECONDS", 600)
    monkeypatch.setattr(serve.api.bodies, "MOST_WAITING", 1)
    app = Recorder()
    bounded = BoundedBodies(app)

    async def burst():
        first = asyncio.create_task(ask(bounded, [b"late"], [header]))
        await until(lambda: app.read == 4)
        second = asyncio.create_task(ask(bounded, [b"b"], [header]))
        await until(lambda: bounded.crowded)
        turned_away = await ask(bounded, [b"c" * (SMALL_BODY + 1)], [header])
        small = await ask(bounded, [b"d"], [(b"content-length", b"1")])
        assert app.read == 5, "the second large body entered beside the first one"
        app.go_on.set()
        return await first, await second, turned_away, small

    first, second, turned_away, small = asyncio.run(burst())
    assert first == second == small == (200, b"read")
    assert (turned_away[0], code(turned_away[1])) == (503, "overloaded")


def test_a_large_body_that_is_answered_late_holds_the_next_one_up_only_for_a_while(monkeypatch):
    monkeypatch.setattr(serve.api.bodies, "HELD_UP_SECONDS", 0.01)
    app = Recorder()
    bounded = BoundedBodies(app)

    async def late():
        first = asyncio.create_task(ask(bounded, [b"late"], [LARGE]))
        await until(lambda: app.read == 4)
        second = await ask(bounded, [b"b"], [LARGE])
        assert not first.done()
        app.go_on.set()
        return await first, second

    assert asyncio.run(late()) == ((200, b"read"),) * 2


def test_a_large_body_that_does_not_come_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(serve.api.bodies, "HELD_UP_SECONDS", 600)
    app = Recorder()
    bounded = BoundedBodies(app)

    async def beside_slow_ones():
        slow = [asyncio.create_task(ask(bounded, [b"a"], [LARGE], ends=False)) for _ in range(200)]
        await until(lambda: bounded.held == len(slow))
        answer = await ask(bounded, [b"b" * (SMALL_BODY + 1)], [LARGE])
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)
        return answer

    assert asyncio.run(beside_slow_ones()) == (200, b"read")
    assert bounded.held == 0


@pytest.mark.parametrize(
    "name",
    [
        b"x-request-disconnect-disabled",
        b"X-Request-Timeout-Seconds",
        b"x-serve-router-replica-id",
        b"serve_multiplexed_model_id",
        b"Serve-Multiplexed-Model-Id",
    ],
)
def test_a_client_cannot_speak_as_serves_own_load_balancer(name):
    app = Recorder()
    asyncio.run(ask(TextHeaders(app), [b""], [(name, b"?1"), (b"accept", b"text/plain"), (b"x-id", b"\xff")]))
    assert app.scopes[0]["headers"] == [(b"accept", b"text/plain")]
