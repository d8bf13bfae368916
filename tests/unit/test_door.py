"""The door of a replica: what is read, when a request has a place, and how it ends where its client leaves."""

import asyncio
import json
from typing import Any

import pytest
from fastapi import Request
from ray.exceptions import TaskCancelledError
from starlette.requests import ClientDisconnect

import serve.api.door
from presafe.config import Access
from serve.api.door import Door
from serve.api.errors import ApiError, status_of
from serve.api.protocol import ChatRequest

BODY = json.dumps({"model": "presafe", "messages": [{"role": "user", "content": "a question"}]}).encode()


def request(*messages: dict[str, Any] | Exception, length: str = "") -> Request:
    """One whose body comes in these messages, and then does not go on."""
    coming = list(messages)

    async def receive():
        if not coming:
            await asyncio.Event().wait()
        message = coming.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    headers = [(b"content-type", b"application/json"), (b"content-length", length.encode())]
    return Request({"type": "http", "headers": headers}, receive)


def chunk(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def words(chat: ChatRequest) -> list[str]:
    return chat.conversation[0]["content"].split()


def read(sent: Request, access: Access | None = None) -> tuple[ChatRequest, list[str]]:
    async def once():
        door = Door(access or Access(), 1, lambda _: None)
        try:
            return await door.read(sent, words)
        finally:
            door.close()

    return asyncio.run(once())


def test_a_request_is_read_and_prepared_and_its_cost_is_told():
    async def once():
        told: list[float] = []
        door = Door(Access(), 1, told.append)
        chat, prompt = await door.read(request(chunk(BODY[:9], True), chunk(BODY[9:])), words)
        assert door.ongoing == 0, "it has no place before it asks for one"
        with door.place():
            assert door.ongoing == 1
        door.close()
        return chat.model, prompt, len(told), told[0] > 0

    assert asyncio.run(once()) == ("presafe", ["a", "question"], 1, True)


@pytest.mark.parametrize(
    "gone",
    [{"type": "http.disconnect"}, TaskCancelledError()],
    ids=["told as a message", "told by the call that hands the body on"],
)
def test_a_client_that_leaves_while_it_sends_is_a_499(gone):
    with pytest.raises(ClientDisconnect) as caught:
        read(request(chunk(BODY[:9], True), gone))
    assert status_of(caught.value) == 499


def test_a_client_that_leaves_while_it_waits_is_a_499():
    assert status_of(asyncio.CancelledError()) == 499
    assert status_of(RuntimeError()) == 500


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(serve.api.door, "BODY_SECONDS", 0.01)
    with pytest.raises(ApiError) as caught:
        read(request(chunk(BODY[:9], True)))
    assert (caught.value.status, caught.value.code) == (408, "timeout")


@pytest.mark.parametrize("length", ["2000", "9" * 19])
def test_a_body_that_is_said_to_be_too_large_is_not_even_read(length):
    with pytest.raises(ApiError) as caught:
        read(request(length=length), Access(max_body_kb=1))
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")


def test_more_than_can_wait_are_told_to_come_again():
    async def crowd():
        door = Door(Access(max_ongoing_requests=1), 1, lambda _: None)
        sent = [door.read(request(chunk(BODY)), words) for _ in range(5)]
        answers = await asyncio.gather(*sent, return_exceptions=True)
        door.close()
        return [getattr(answer, "status", 200) for answer in answers]

    assert asyncio.run(crowd()) == [200, 200, 503, 503, 503]


def test_a_full_replica_tells_so_before_and_behind_the_body():
    door = Door(Access(max_ongoing_requests=1), 1, lambda _: None)
    with door.admit(None), door.place():
        for refused in (door.admit(None), door.place()):
            with pytest.raises(ApiError) as caught, refused:
                pass
            assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    with door.place():
        pass
    door.close()
