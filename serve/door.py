"""What a request passes before the model sees any of it: key, limits, size, form."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from presafe.config import Access
from serve.errors import ApiError
from serve.keys import Key, KeyRing
from serve.limits import Limits
from serve.protocol import ChatRequest

RETRY_SECONDS = 1
BODY_SECONDS = 30.0
"""A client that sends its body more slowly holds a place for too long."""
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}},
    }
}
"""For a route's `openapi_extra`: the body is read here, behind key and limits, and not by FastAPI in front of them."""


class Door:
    """Of one replica."""

    def __init__(self, access: Access, shares: int) -> None:
        """`shares` is how many replicas share a key's limits. Raises UserError for a key file that cannot be read."""
        self._access = access
        self._keys = None if access.keys is None else KeyRing(access.keys)
        self._limits = Limits(shares)
        self.ongoing = 0
        """Requests that were let in and are not over."""

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
            message = "the server is busy; try again"
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise ApiError(503, message, kind="server_error", code="overloaded", headers=headers)

    @contextmanager
    def admit(self, key: Key | None) -> Iterator[dict[str, str]]:
        """Let a request in, and tell its response's headers. Raises ApiError 503 where the replica is full, 429 where
        the key's limits say so.
        """
        self.check_room()
        with nullcontext() if key is None else self._limits.admit(key) as ticket:
            self.ongoing += 1
            try:
                yield {} if ticket is None else ticket.headers
            finally:
                self.ongoing -= 1

    async def read(self, request: Request) -> ChatRequest:
        """The request's body. Raises ApiError 408, 413, 415, and RequestValidationError where it is no ChatRequest."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":  # a browser sends any other one across origins without asking
            raise ApiError(415, f"found Content-Type {media_type!r}; needed application/json")
        try:
            chat = ChatRequest.model_validate_json(await self._body(request))
        except ValidationError as error:
            details: list[Any] = [{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False)]
            raise RequestValidationError(details) from error
        if (chat.n or 1) > self._access.max_choices:
            raise ApiError(400, f"n: at most {self._access.max_choices}", param="n", code="invalid_value")
        return chat

    async def _body(self, request: Request) -> bytes:
        body, most = bytearray(), self._access.max_body_kb * 1024
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        message = f"the body is larger than {self._access.max_body_kb} KB; shorten the conversation"
                        raise ApiError(413, message, code="request_too_large", headers={"Connection": "close"})
        except TimeoutError as error:
            raise ApiError(408, f"the body did not come within {BODY_SECONDS:g} s", code="timeout") from error
        return bytes(body)
