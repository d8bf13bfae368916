"""Completions as server-sent events."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

from ray.exceptions import RayError
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from presafe.engines.streaming import EngineError
from serve.api.errors import INTERNAL_ERROR, TIMEOUT
from serve.api.reply import Choices, Reply

logger = logging.getLogger("ray.serve")


class EventStream(StreamingResponse):
    """A stream that gives back what it holds, however it ends: also where its client leaves before the first byte."""

    def __init__(self, events: AsyncGenerator[str], headers: dict[str, str], held: AsyncExitStack) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, _until_left(receive), send)


def _until_left(receive: Receive) -> Receive:
    """Ray Serve's call to the proxy ends with the client's connection, at times by an error: that is a client who left,
    and no failure to be told."""

    async def received() -> Message:
        try:
            return await receive()
        except RayError:
            return {"type": "http.disconnect"}

    return received


async def server_sent_events(
    first: Choices, answers: AsyncGenerator[Choices], reply: Reply, *, include_usage: bool
) -> AsyncGenerator[str]:
    """OpenAI's chunks, then `[DONE]`. Behind the first byte a failure can only be told as an event, without the end."""
    yield _event(reply.chunk(*first, include_usage=include_usage))
    try:
        async for index, event in answers:
            yield _event(reply.chunk(index, event, include_usage=include_usage))
    except EngineError:
        logger.exception("a stream failed")
        yield _event(_json(INTERNAL_ERROR))
        return
    except TimeoutError:
        yield _event(_json(TIMEOUT))
        return
    if include_usage:
        yield _event(reply.usage_chunk())
    yield _event("[DONE]")


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body)


def _event(data: str) -> str:
    return f"data: {data}\n\n"
