"""What runs inside Ray Serve's own HTTP proxies, in front of every replica."""

import json
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

STARTING_RETRY_S, STOPPING_RETRY_S = 1, 10
OWN_PATHS = "/-/"
"""Serve's own answers, which tell what a proxy is up to."""


class Availability:
    """Answers 503 while the proxy cannot pass a request on: it is draining, or knows no route yet.

    Serve's own proxy tells a draining state to who asks for its health, but goes on to take requests; and one that has
    just started answers 404 to everything until the controller has told it the routes.
    """

    def __init__(self, app: Any) -> None:
        """`app` is what Serve itself puts around its HTTPProxy: of our middlewares this one is the innermost."""
        self._app, self._proxy = app, app._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(OWN_PATHS):
            if self._proxy._is_draining():
                await _unavailable(send, "the server is stopping; ask another one", STOPPING_RETRY_S)
                return
            if not self._proxy.proxy_router.sorted_routes:
                await _unavailable(send, "the server is starting; try again", STARTING_RETRY_S)
                return
        await self._app(scope, receive, send)


class TextHeaders:
    """Drops request headers that are no UTF-8 text: the proxy itself decodes some, and would answer 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [header for header in scope["headers"] if _is_text(header[1])]}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve.proxy:middlewares puts into the proxies of a cluster."""
    return [Middleware(Availability), Middleware(TextHeaders)]


async def _unavailable(send: Send, message: str, retry_s: int) -> None:
    """503 as OpenAI's clients know it, and retry. (openai's own type of it takes a second to import.)"""
    error = {"message": message, "type": "server_error", "param": None, "code": "unavailable"}
    headers = {"content-type": "application/json", "retry-after": str(retry_s), "connection": "close"}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 503, "headers": raw})
    await send({"type": "http.response.body", "body": json.dumps({"error": error}).encode()})


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
