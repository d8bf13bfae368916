"""What a request passes before the model sees any of it: key, limits, size, form, and room for it."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from fastapi import Request
from ray.exceptions import RayError
from starlette.requests import ClientDisconnect

from presafe.config import Access
from serve.api.body import parse
from serve.api.errors import ApiError
from serve.api.limits import Limits, Readers
from serve.api.preparation import Preparation
from serve.api.protocol import ChatRequest
from serve.operations.keys import Key, KeyRing

RETRY_SECONDS = 1
BODY_SECONDS = 30.0
"""A client that sends its body more slowly is not waited for."""
BODIES_AT_ONCE = 128
"""Bodies that are on their way at once; of more, the one that has taken longest is cut off."""
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}},
    }
}
"""For a route's `openapi_extra`: the body is read here, behind key and limits, and not by FastAPI in front of them."""

Prompt = TypeVar("Prompt")


class Door:
    """Of one replica."""

    def __init__(self, access: Access, shares: int, prepared: Callable[[float], None]) -> None:
        """`shares` is how many replicas share a key's limits; `prepared` is told each request's CPU seconds.

        Raises UserError for a key file that cannot be read.
        """
        self._access, self._prepared = access, prepared
        self._keys = None if access.keys is None else KeyRing(access.keys)
        self._limits = Limits(shares)
        self._readers = Readers(BODIES_AT_ONCE)
        self._preparation = Preparation()
        self.ongoing = 0
        """Requests that were read and are not over."""

    def look(self) -> None:
        """Read the key file again where it has changed."""
        if self._keys is not None:
            self._keys.look()

    def identify(self, headers: Mapping[str, str]) -> Key | None:
        """Whose request it is; None where the endpoint asks for no key. Raises ApiError 401."""
        if self._keys is None:
            return None
        key = self._keys.identify(headers.get("authorization"))
        if key is None:
            message = "missing or unknown API key; send it as `Authorization: Bearer KEY`"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        return key

    def check_room(self) -> None:
        """Raise ApiError 503 where the replica is full."""
        if self.ongoing >= self._access.max_ongoing_requests:
            raise _busy()

    @contextmanager
    def admit(self, key: Key | None) -> Iterator[dict[str, str]]:
        """Count a request, before its body is read, and tell its response's headers. Raises ApiError 503 where the
        replica is full, 429 where the key's limits say so. It has no place yet: `place` gives it one.
        """
        self.check_room()
        with nullcontext() if key is None else self._limits.admit(key) as ticket:
            yield {} if ticket is None else ticket.headers

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those that generate. Raises ApiError 503 where there is none."""
        self.check_room()
        self.ongoing += 1
        try:
            yield
        finally:
            self.ongoing -= 1

    async def read(self, request: Request, prompt: Callable[[ChatRequest], Prompt]) -> tuple[ChatRequest, Prompt]:
        """The request's body, and what `prompt` makes of it beside the event loop.

        Raises ApiError 408, 413, 415, 503 where too many wait to be prepared, what `prompt` raises, and
        RequestValidationError where the body is no ChatRequest.
        """
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":  # a browser sends any other one across origins without asking
            raise ApiError(415, f"found Content-Type {media_type!r}; needed application/json")
        body = await self._body(request)
        if self._preparation.waiting >= self._access.max_ongoing_requests:
            raise _busy()
        seconds = 0.0

        def prepare() -> tuple[ChatRequest, Prompt]:
            nonlocal seconds
            began = time.thread_time()
            try:
                chat = parse(body, self._access)
                return chat, prompt(chat)
            finally:
                seconds = time.thread_time() - began

        try:
            return await self._preparation.run(len(body), prepare)
        finally:
            if seconds:  # it had its turn before its client left
                self._prepared(seconds)

    def close(self) -> None:
        """Nothing more will be read."""
        self._preparation.close()

    async def _body(self, request: Request) -> bytes:
        body, most = bytearray(), self._access.max_body_kb * 1024
        if _declared_size(request) > most:
            raise self._too_large()
        try:
            async with asyncio.timeout(BODY_SECONDS) as limit:
                with self._readers.enter(limit):
                    async for chunk in request.stream():
                        body += chunk
                        if len(body) > most:
                            raise self._too_large()
        except TimeoutError as error:
            message = f"the body did not come within {BODY_SECONDS:g} s, or in time for others that wait"
            raise ApiError(408, message, code="timeout", headers={"Connection": "close"}) from error
        except RayError as error:  # the call to the proxy that hands the body on ends with the client's connection
            raise ClientDisconnect from error
        return bytes(body)

    def _too_large(self) -> ApiError:
        message = f"the body is larger than {self._access.max_body_kb} KB; shorten the conversation"
        return ApiError(413, message, code="request_too_large", headers={"Connection": "close"})


def _declared_size(request: Request) -> int:
    """What Content-Length says; 0 where it says nothing."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def _busy() -> ApiError:
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return ApiError(503, "the server is busy; try again", kind="server_error", code="overloaded", headers=headers)
