"""Who is prepared next: work on the CPU beside the event loop, one piece at a time and the smallest first."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

SMALL = 8 * 1024
"""Bytes of a body that is prepared beside the larger ones. Nearly every conversation is smaller."""

Result = TypeVar("Result")


class Preparation:
    """Two threads: one for small bodies, which so never wait for a large one, and one for the others.

    Threads are enough: tokenizers let go of the interpreter while they work, and what does not is short, because
    `serve/api/body.py` bounds what it sees.
    """

    def __init__(self) -> None:
        self._small, self._large = Lane(), Lane()

    async def run(self, size: int, work: Callable[[], Result]) -> Result:
        """The result of `work` on a body of so many bytes."""
        return await (self._small if size <= SMALL else self._large).run(size, work)

    @property
    def waiting(self) -> int:
        """Bodies that wait for their turn."""
        return self._small.waiting + self._large.waiting

    def close(self) -> None:
        """Let the threads end."""
        self._small.close()
        self._large.close()


class Lane:
    """One thread. Who comes with less goes first: many large bodies do not hold up a small one."""

    def __init__(self) -> None:
        self.waiting = 0
        """Pieces of work that wait for their turn."""
        self._thread = ThreadPoolExecutor(1, "presafe-prepare")
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()
        self._taken = False

    async def run(self, size: int, work: Callable[[], Result]) -> Result:
        """The result of `work`. Its turn comes behind all that is smaller, and behind equals that came before."""
        async with self._turn(size):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _turn(self, size: int) -> AsyncIterator[None]:
        if self._taken:
            await self._wait(size)
        self._taken = True
        try:
            yield
        finally:
            self._call_next()

    async def _wait(self, size: int) -> None:
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (size, next(self._arrivals), called))
        self.waiting += 1
        try:
            await called
        except asyncio.CancelledError:
            if not called.cancelled():  # it was called while it left: the turn goes on to the next one
                self._call_next()
            raise
        finally:
            self.waiting -= 1

    def _call_next(self) -> None:
        """Hand the turn on; without anybody who waits it is free."""
        while self._line:
            *_, called = heapq.heappop(self._line)
            if not called.cancelled():
                called.set_result(None)
                return
        self._taken = False
