"""OpenAI's own client against `presafe serve`: plain, async and streaming, retries, and clients that leave."""

import asyncio
import threading
import time
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest

from clients.endpoint import MAX_NEW_TOKENS, MAX_ONGOING, Endpoint, user

WITHIN_S = 0.5
"""In which generation must have stopped behind a client that left."""


def test_sync(endpoint: Endpoint) -> None:
    reply = endpoint.client().chat.completions.create(
        model="presafe", messages=user(endpoint.facts.benign), temperature=0
    )
    message = reply.choices[0].message
    assert (message.reasoning_content, message.content) == (endpoint.facts.reasoning, endpoint.facts.answer)
    assert reply.presafe["path"] == "think"


def test_async_and_at_once(endpoint: Endpoint) -> None:
    facts = endpoint.facts
    prompts = [facts.benign, facts.harmful] * 4

    async def ask() -> list[Any]:
        async with endpoint.async_client() as client:
            chats = client.chat.completions
            return await asyncio.gather(
                *[chats.create(model="presafe", messages=user(prompt), temperature=0) for prompt in prompts]
            )

    texts = [reply.choices[0].message.content for reply in asyncio.run(ask())]
    assert texts == [facts.answer, facts.refusal] * 4


def test_async_streaming(endpoint: Endpoint) -> None:
    async def ask(prompt: str) -> tuple[str, str, Any]:
        reasoning, content, usage = "", "", None
        async with endpoint.async_client() as client:
            stream = await client.chat.completions.create(
                model="presafe",
                messages=user(prompt),
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    reasoning += getattr(choice.delta, "reasoning_content", None) or ""
                    content += choice.delta.content or ""
        return reasoning, content, usage

    facts = endpoint.facts
    reasoning, content, usage = asyncio.run(ask(facts.benign))
    assert (reasoning, content) == (facts.reasoning, facts.answer)
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    assert asyncio.run(ask(facts.harmful))[:2] == ("", facts.refusal)


def test_the_streaming_helper(endpoint: Endpoint) -> None:
    with endpoint.client().chat.completions.stream(
        model="presafe", messages=user(endpoint.facts.benign), temperature=0
    ) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.content == endpoint.facts.answer


def test_a_503_is_retried_when_it_says_so(endpoint: Endpoint) -> None:
    statuses, times, turned_away = [], [], threading.Event()

    def note(response: Any) -> None:
        statuses.append(response.status_code)
        times.append(time.monotonic())
        if response.status_code == 503:
            turned_away.set()

    client = endpoint.client(max_retries=20, http_client=openai.DefaultHttpxClient(event_hooks={"response": [note]}))
    holding = [
        endpoint.client().chat.completions.create(
            model="presafe", messages=user(endpoint.facts.endless), temperature=0, stream=True
        )
        for _ in range(MAX_ONGOING)
    ]
    endpoint.wait_until(lambda health: health["ongoing"] == MAX_ONGOING)
    busy = httpx.post(endpoint.chat_url, json={"model": "presafe", "messages": user("x")})
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "1")

    def leave() -> None:
        turned_away.wait(30)
        for stream in holding:
            stream.close()

    leaving = threading.Thread(target=leave)
    leaving.start()
    reply = client.chat.completions.create(model="presafe", messages=user(endpoint.facts.harmful))
    leaving.join()
    assert reply.choices[0].message.content == endpoint.facts.refusal
    assert (statuses[0], statuses[-1]) == (503, 200)
    assert times[1] - times[0] >= float(busy.headers["Retry-After"])


def tokens_behind(endpoint: Endpoint, leave: Any) -> None:
    """Hold that at most WITHIN_S of tokens are generated behind `leave`, which closes the only connection.

    How fast the model generates is measured in front of it, on the machine as busy as it is.
    """
    samples = [(time.monotonic(), endpoint.health()["generated_tokens"])]
    while samples[-1][0] - samples[0][0] < 1.5:
        time.sleep(0.25)
        samples.append((time.monotonic(), endpoint.health()["generated_tokens"]))
    rate = max((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(samples))
    assert rate > 0, "nothing is generated: the test shows nothing"
    before, at = endpoint.health(), time.monotonic()
    assert before["ongoing"] > 0
    assert before["generated_tokens"] - samples[0][1] < MAX_NEW_TOKENS // 2, (
        "it may run to its end: the test shows nothing"
    )
    leave()
    closed = time.monotonic()
    after = endpoint.wait_until(lambda health: health["ongoing"] == 0)
    generated = after["generated_tokens"] - before["generated_tokens"]
    assert generated <= rate * (WITHIN_S + closed - at), f"{generated} tokens at {rate:.0f} a second"


def test_a_client_that_closes_its_stream_stops_the_generation(endpoint: Endpoint) -> None:
    endpoint.wait_until(lambda health: health["ongoing"] == 0)
    stream = endpoint.client().chat.completions.create(
        model="presafe", messages=user(endpoint.facts.endless), temperature=0, stream=True
    )
    next(iter(stream))
    tokens_behind(endpoint, stream.close)


@pytest.mark.parametrize("body", [{}, {"n": 2}])
def test_a_client_that_leaves_without_its_reply_stops_the_generation(endpoint: Endpoint, body: dict[str, Any]) -> None:
    idle = endpoint.wait_until(lambda health: health["ongoing"] == 0)["generated_tokens"]
    request = {"model": "presafe", "messages": user(endpoint.facts.endless), "temperature": 0, **body}

    async def ask_and_leave() -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            asking = asyncio.create_task(client.post(endpoint.chat_url, json=request))
            await asyncio.to_thread(endpoint.wait_until, lambda health: health["generated_tokens"] > idle + 20)
            loop = asyncio.get_running_loop()

            def leave() -> None:
                async def cancel() -> None:
                    asking.cancel()
                    await asyncio.wait([asking])

                asyncio.run_coroutine_threadsafe(cancel(), loop).result(30)

            await asyncio.to_thread(tokens_behind, endpoint, leave)

    asyncio.run(ask_and_leave())
