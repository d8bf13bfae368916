"""Bodies on their way through Ray Serve's proxies: bounded in size and time, and the large ones one by one."""

import asyncio
import os
from collections import deque
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import error_body

MAX_BODY_MB_ENV = "PRESAFE_PROXY_MAX_BODY_MB"
MAX_BODY_MB = 8.0
"""Of any body, in MB of 1e6 bytes, unless the environment says another: a proxy takes in a body that no replica has
read yet, and knows no application's own limit (access.max_body_kb), which is to be smaller.
"""
MAX_HELD_MB = 256.0
"""Of all bodies on their way through one proxy. Those that are small pass nevertheless."""
SMALL_BODY = 64 * 1024
"""Bytes of a body that is handed on at once. Nearly every conversation is smaller."""
PAUSE_SECONDS, HELD_UP_SECONDS, MOST_WAITING = 0.05, 0.2, 128
"""Larger bodies enter one by one: the next one a pause after the last one was answered, or has held the others up for
so long (an answer takes its time where it is generated). Each costs proxy and replica some 20 ms of CPU: however
many come at once, most of the time is left to all others. A GPU reads no more prompts of this size.
"""
BODY_SECONDS = 40.0
"""From the headers to the last byte of a body, also where no replica is there to read it."""


class BoundedBodies:
    """Lets large bodies in one by one, once they are there, and ends a request whose body is too large or too slow.

    Serve itself takes in whatever comes, at any pace.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.most = int(float(os.environ.get(MAX_BODY_MB_ENV, MAX_BODY_MB)) * 1e6)
        """Bytes of a body."""
        self.held = 0
        """Bytes of all bodies that are on their way or being answered."""
        self._large = asyncio.Lock()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        intake, leave, started = _Intake(self, receive), _nothing, False

        async def send_unless_refused(message: Message) -> None:
            nonlocal started
            leave()
            if intake.refusal is None or started:
                started = True
                await send(message)

        try:
            if _may_be_large(scope):
                if not await intake.read():
                    return
                leave = await self._turn()
            await self._app(scope, intake.receive, send_unless_refused)
        finally:
            leave()
            self.held -= intake.size
            if intake.refusal is not None and not started:
                await intake.refusal(scope, receive, send)

    async def _turn(self) -> Callable[[], None]:
        """Wait for a large body's turn; what is returned ends it, at the latest after HELD_UP_SECONDS."""
        self._waiting += 1
        try:
            await self._large.acquire()
        finally:
            self._waiting -= 1
        loop, left = asyncio.get_running_loop(), False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                loop.call_later(PAUSE_SECONDS, self._large.release)

        loop.call_later(HELD_UP_SECONDS, leave)
        return leave

    @property
    def crowded(self) -> bool:
        """Whether no large body is let in any more."""
        return self._waiting >= MOST_WAITING or self.held > MAX_HELD_MB * 1e6


class _Intake:
    """The body of one request as it comes."""

    def __init__(self, bounds: BoundedBodies, receive: Receive) -> None:
        self._bounds, self._receive = bounds, receive
        self._end = asyncio.get_running_loop().time() + BODY_SECONDS
        self._complete = False
        self._kept: deque[Message] = deque()
        self.size = 0
        self.refusal: JSONResponse | None = None
        """What the client is told instead of an answer."""

    async def receive(self) -> Message:
        """The next message; a disconnect where the body breaks its bounds."""
        if self._kept:
            return self._kept.popleft()
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._end):
                message = await self._receive()
        except TimeoutError:
            self.refusal = _refused(408, f"the body did not come within {BODY_SECONDS:g} s", "timeout")
            return {"type": "http.disconnect"}
        self._complete = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self.size += size
        self._bounds.held += size
        if self.size > self._bounds.most:
            self.refusal = _refused(413, f"the body is larger than {self._bounds.most / 1e6:g} MB", "request_too_large")
        elif self.size > SMALL_BODY and self._bounds.crowded:
            self.refusal = _refused(503, "the server is busy with large bodies; try again", "overloaded")
        return message if self.refusal is None else {"type": "http.disconnect"}

    async def read(self) -> bool:
        """Take the whole body in, to be received later. False where it breaks its bounds, or its client leaves."""
        kept: list[Message] = []
        while not self._complete:
            kept.append(await self.receive())
            if kept[-1]["type"] == "http.disconnect":
                return False
        self._kept.extend(kept)
        return True


def _nothing() -> None:
    """A small body has no turn to end."""


def _refused(status: int, message: str, code: str) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    headers = {"Connection": "close"} | ({"Retry-After": "1"} if status == 503 else {})
    return JSONResponse(error_body(message, kind=kind, code=code), status, headers=headers)


def _may_be_large(scope: Scope) -> bool:
    """Whether a body is declared to be large, or not declared."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or len(length) > 6 or int(length) > SMALL_BODY
