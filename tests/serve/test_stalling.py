"""No request stalls another: hostile bodies, slow ones and clients that leave, beside ordinary requests."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from serve.operations.key_command import issue_key
from tiny_reasoner import BENIGN, HARMFUL, user

MAX_ONGOING = 16
"""As in conftest.py."""
AT_ONCE = 64
DEADLINE_S = 60.0
PIECE = {"type": "text", "text": "x"}
HOSTILE = {
    "messages": json.dumps({"model": "presafe", "messages": user("x") * 25_000}),
    "parts": json.dumps({"model": "presafe", "messages": [{"role": "user", "content": [PIECE] * 30_000}]}),
    "white space": json.dumps({"model": "presafe", "messages": user(" " * 999_000 + "x")}),
    "near tags": json.dumps({"model": "presafe", "messages": user("<think" * 160_000)}),
    "nothing right": json.dumps({"model": "presafe", "messages": [0] * 300_000}),
}


async def ask(client: httpx.AsyncClient, key: str, content: str) -> tuple[int, float]:
    """Status, and seconds."""
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    reply = await client.post("/v1/chat/completions", content=content, headers=headers)
    return reply.status_code, time.monotonic() - began


def test_beside_hostile_bodies_an_ordinary_request_is_answered_as_ever(served: Any) -> None:
    key = issue_key(served.key_file, "stalling")
    served.wait_until_known(key)
    ordinary = json.dumps({"model": "presafe", "messages": user(HARMFUL)})

    async def crowd() -> tuple[list[float], list[float], list[tuple[int, float]]]:
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(base_url=served.keyed_url, timeout=120, limits=limits) as many,
            httpx.AsyncClient(base_url=served.keyed_url, timeout=120) as one,
        ):
            alone = [(await ask(one, key, ordinary)) for _ in range(10)]
            kinds = [*HOSTILE.values()] * AT_ONCE
            hostile = [asyncio.create_task(ask(many, key, kind)) for kind in kinds[:AT_ONCE]]
            beside = []
            while not all(task.done() for task in hostile) or len(beside) < 5:
                beside.append(await ask(one, key, ordinary))
            assert {status for status, _ in (*alone, *beside)} == {200}
            return [s for _, s in alone], [s for _, s in beside], [task.result() for task in hostile]

    alone, beside, hostile = asyncio.run(crowd())
    assert {status for status, _ in hostile} == {400}
    assert max(alone + beside) < 20, "tokenised on the event loop, these bodies held everybody up for a minute"


@contextmanager
def half_a_body(url: str) -> Iterator[socket.socket]:
    """A connection whose request says that it has more to come."""
    where = urlsplit(url)
    head = f"POST {where.path}/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection((str(where.hostname), where.port or 80)) as connection:
        connection.sendall(f"{head}Content-Length: 500\r\n\r\n{{".encode())
        yield connection


def test_slow_bodies_hold_no_place(served: Any) -> None:
    with ExitStack() as connections:
        for _ in range(2 * MAX_ONGOING):
            connections.enter_context(half_a_body(served.url))
        reply = served.client().chat.completions.create(model="presafe", messages=user(BENIGN), max_tokens=4)
    assert reply.presafe["path"] == "think"


def counted(served: Any, status: int) -> float:
    text = httpx.get(f"{served.url}/metrics", timeout=60).raise_for_status().text
    lines = re.findall(rf'presafe_requests_total\{{[^}}]*code="{status}"[^}}]*\}} (\S+)', text)
    return sum(map(float, lines))


def test_a_client_that_leaves_while_it_sends_is_none_of_our_failures(served: Any) -> None:
    gone, failed = counted(served, 499), counted(served, 500)
    for _ in range(5):
        with half_a_body(served.url):
            time.sleep(0.05)  # so that the request is on its way when its client leaves
    end = time.monotonic() + DEADLINE_S
    while counted(served, 499) < gone + 5:
        assert time.monotonic() < end
        time.sleep(0.5)
    assert counted(served, 500) == failed
