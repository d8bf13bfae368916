"""How much one key may ask: requests in any minute, and requests at once. And how many bodies are read at once."""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from serve.api.errors import ApiError
from serve.operations.keys import Key

WINDOW_SECONDS = 60.0
BUSY_RETRY_SECONDS = 1
"""When to come again where all requests at once are taken: nobody knows when one ends."""


@dataclass
class _Use:
    """What one key has used: when its requests of the last minute came, and how many are running."""

    times: deque[float] = field(default_factory=deque)
    running: int = 0


class Ticket:
    """A request that was let in. It counts as running until the ticket is released: a `with` ends, or `release`."""

    def __init__(self, use: _Use, headers: dict[str, str]) -> None:
        self.headers = headers
        """For the response: `x-ratelimit-*` as OpenAI has them; empty for a key without a limit."""
        self._use: _Use | None = use

    def release(self) -> None:
        """The request is over. A second time does nothing."""
        if self._use is not None:
            self._use.running -= 1
            self._use = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.release()


class Limits:
    """The limits of every key in one replica; for one event loop.

    Replicas share nothing, so a key's limit is shared out over `shares` replicas, each of which lets in that part,
    rounded down, and at least 1. What Ray Serve sends to a replica is only about an even part: a key may be told to
    wait below its limit, and is let in above it only where the limit is smaller than `shares`.

    A request that is refused does not count. The window moves: no 60 seconds, wherever they begin, hold more than the
    limit. (The `limits` package has such a window, but it starts threads to forget, by a clock that can jump.)
    """

    def __init__(self, shares: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        """`shares` is how many replicas there may be."""
        self._shares, self._clock = shares, clock
        self._uses: defaultdict[str, _Use] = defaultdict(_Use)

    def admit(self, key: Key) -> Ticket:
        """Let a request of this key in. Raises ApiError 429, with Retry-After, where it has to wait."""
        use, now = self._uses[key.id], self._clock()
        at_once, a_minute = self._share(key.concurrency), self._share(key.requests_per_minute)
        while use.times and use.times[0] <= now - WINDOW_SECONDS:
            use.times.popleft()
        headers = {} if a_minute is None else _headers(a_minute, a_minute - len(use.times))
        if at_once is not None and use.running >= at_once:
            message = f"too many requests of this key at once; at most {at_once} on this replica; wait for one to end"
            raise _too_many(message, BUSY_RETRY_SECONDS, headers)
        if a_minute is not None:
            if len(use.times) >= a_minute:
                free = use.times[-a_minute] + WINDOW_SECONDS - now
                message = f"too many requests of this key; at most {a_minute} a minute on this replica; try again later"
                raise _too_many(message, math.ceil(free), headers)
            use.times.append(now)
            headers = _headers(a_minute, a_minute - len(use.times))
        use.running += 1
        return Ticket(use, headers)

    def _share(self, limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // self._shares)


def _headers(limit: int, remaining: int) -> dict[str, str]:
    return {"x-ratelimit-limit-requests": str(limit), "x-ratelimit-remaining-requests": str(max(0, remaining))}


def _too_many(message: str, retry_after: int, headers: dict[str, str]) -> ApiError:
    headers = {**headers, "Retry-After": str(max(1, retry_after))}
    return ApiError(429, message, kind="requests", code="rate_limit_exceeded", headers=headers)


class Readers:
    """Bodies that are on their way, at most so many at once; for one event loop.

    Who comes is always let in: a body comes in milliseconds, unless its client wants to hold a place. Where there is
    no room, the one that has been read longest runs out of its time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reading: dict[asyncio.Timeout, None] = {}

    @contextmanager
    def enter(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Count a body whose reading `limit` can end."""
        if len(self._reading) >= self._most:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        self._reading[limit] = None
        try:
            yield
        finally:
            self._reading.pop(limit, None)
