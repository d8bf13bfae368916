"""Limits of a key: how many requests get in, and what those that do not are told."""

import asyncio
import contextlib

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.api.errors import HANDLERS, ApiError
from serve.api.limits import WINDOW_SECONDS, Limits, Readers
from serve.operations.keys import Key


class Clock:
    """A time that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def key(name: str = "ada", requests_per_minute: int | None = None, concurrency: int | None = None) -> Key:
    return Key(id=name, sha256="0" * 64, requests_per_minute=requests_per_minute, concurrency=concurrency)


QUARTERS = st.integers(0, 120).map(lambda quarters: quarters / 4)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 5), st.lists(QUARTERS, max_size=60))
def test_no_minute_holds_more_than_the_limit_and_nobody_waits_without_need(limit, pauses):
    clock = Clock()
    limits, admitted = Limits(clock=clock), []
    for pause in pauses:
        clock.now += pause
        recent = [time for time in admitted if time > clock.now - WINDOW_SECONDS]
        if len(recent) < limit:
            limits.admit(key(requests_per_minute=limit)).release()
            admitted.append(clock.now)
        else:
            with pytest.raises(ApiError) as refused:
                limits.admit(key(requests_per_minute=limit))
            wait = int(refused.value.headers["Retry-After"])
            assert recent[0] + WINDOW_SECONDS <= clock.now + wait < recent[0] + WINDOW_SECONDS + 1
    for first, later in zip(admitted, admitted[limit:], strict=False):
        assert later - first >= WINDOW_SECONDS


def test_who_comes_again_when_told_gets_in():
    clock = Clock()
    limits, ada = Limits(clock=clock), key(requests_per_minute=2)
    limits.admit(ada).release()
    clock.now = 10.5
    limits.admit(ada).release()
    with pytest.raises(ApiError) as refused:
        limits.admit(ada)
    clock.now += int(refused.value.headers["Retry-After"])
    limits.admit(ada)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 4), st.lists(st.booleans(), max_size=40))
def test_never_more_at_once_than_the_limit(limit, steps):
    limits, ada, tickets = Limits(), key(concurrency=limit), []
    for arrive in steps:
        if not arrive:
            if tickets:
                tickets.pop().release()
        elif len(tickets) < limit:
            tickets.append(limits.admit(ada))
        else:
            with pytest.raises(ApiError) as refused:
                limits.admit(ada)
            assert refused.value.headers == {"Retry-After": "1"}


def test_a_ticket_is_given_back_once():
    limits, ada = Limits(), key(concurrency=2)
    first, second = limits.admit(ada), limits.admit(ada)
    first.release()
    first.release()
    limits.admit(ada)
    with pytest.raises(ApiError):
        limits.admit(ada)
    second.release()
    limits.admit(ada)


def test_a_request_that_fails_gives_its_place_back():
    limits, ada = Limits(), key(concurrency=1)
    for _ in range(3):
        with contextlib.suppress(ValueError), limits.admit(ada):
            raise ValueError


def test_a_request_refused_for_its_concurrency_does_not_count_for_the_minute():
    limits, ada = Limits(), key(requests_per_minute=2, concurrency=1)
    ticket = limits.admit(ada)
    for _ in range(5):
        with pytest.raises(ApiError, match="at once"):
            limits.admit(ada)
    ticket.release()
    assert limits.admit(ada).headers["x-ratelimit-remaining-requests"] == "0"


def test_keys_do_not_share_their_limits():
    limits = Limits()
    limits.admit(key("ada", requests_per_minute=1, concurrency=1))
    limits.admit(key("bo", requests_per_minute=1, concurrency=1))


def test_a_key_without_limits_has_no_headers_of_them():
    limits = Limits()
    assert all(limits.admit(key()).headers == {} for _ in range(1000))


def test_a_limit_that_was_changed_holds_at_once():
    limits = Limits()
    for _ in range(3):
        limits.admit(key(requests_per_minute=10))
    with pytest.raises(ApiError, match="at most 2"):
        limits.admit(key(requests_per_minute=2))
    assert limits.admit(key(requests_per_minute=5)).headers["x-ratelimit-remaining-requests"] == "1"


@pytest.mark.parametrize(("limit", "shares", "part"), [(10, 1, 10), (10, 3, 3), (2, 3, 1)])
def test_replicas_share_a_limit_out(limit, shares, part):
    limits = Limits(shares)
    ticket = limits.admit(key(requests_per_minute=limit))
    assert ticket.headers["x-ratelimit-limit-requests"] == str(part)
    limits = Limits(shares)
    for _ in range(part):
        limits.admit(key(concurrency=limit))
    with pytest.raises(ApiError):
        limits.admit(key(concurrency=limit))


def test_a_client_is_told_as_openai_tells_it():
    api, limits = FastAPI(exception_handlers=HANDLERS), Limits()

    @api.get("/")
    async def ask() -> None:
        limits.admit(key(requests_per_minute=1))

    async def ask_twice() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
            return [await client.get("/") for _ in range(2)]

    first, second = asyncio.run(ask_twice())
    assert first.status_code == 200
    assert second.status_code == 429
    assert second.headers["Retry-After"] == "60"
    assert second.headers["x-ratelimit-limit-requests"] == "1"
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    error = second.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")


def test_of_too_many_bodies_the_one_that_takes_longest_is_cut_off():
    async def read(readers: Readers, ended: list[int], name: int, come: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(60) as limit:
                with readers.enter(limit):
                    await come.wait()
        except TimeoutError:
            ended.append(name)

    async def crowd() -> list[int]:
        readers, ended, come = Readers(2), [], asyncio.Event()
        reading = [asyncio.create_task(read(readers, ended, name, come)) for name in range(4)]
        await asyncio.wait(reading[:2])
        assert not any(task.done() for task in reading[2:])
        come.set()
        await asyncio.gather(*reading)
        more = [asyncio.create_task(read(readers, ended, name, come)) for name in range(4, 7)]
        await asyncio.gather(*more)
        return ended

    assert asyncio.run(crowd()) == [0, 1]
