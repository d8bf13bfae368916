"""A completion as server-sent events."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from serve.completion import Decided, Event
from serve.errors import INTERNAL_ERROR
from serve.protocol import Reply

logger = logging.getLogger("ray.serve")


async def server_sent_events(
    events: AsyncGenerator[Event], reply: Reply, *, include_usage: bool
) -> AsyncGenerator[str]:
    """OpenAI's chunks, then `[DONE]`. Behind the first byte a failure can only be told as an event, without the end."""
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Decided):
                    decided = event
                for chunk in reply.chunks(event, decided, include_usage=include_usage):
                    yield _event(chunk)
    except RuntimeError:  # torch's, out of memory included
        logger.exception("a stream failed")
        yield _event(json.dumps(INTERNAL_ERROR))
        return
    yield _event("[DONE]")


def _event(data: str) -> str:
    return f"data: {data}\n\n"
