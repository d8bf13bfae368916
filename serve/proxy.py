"""What runs inside Ray Serve's own HTTP proxies, in front of every replica."""

from typing import Any

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.bodies import BoundedBodies
from serve.api.errors import error_body

SERVES_OWN = ("x-request-timeout-seconds", "x-request-disconnect-disabled")
"""Headers by which Ray Serve's own load balancer tells a proxy how long a request may take, and to generate on for a
client that has left. Of a client they are not to be believed."""
SERVES_OWN_PREFIX = "x-serve-"
MULTIPLEXED = "serve_multiplexed_model_id"
"""Another of Serve's, also with hyphens. No replica here has several models, and a proxy would keep every value that it
has seen, for ever.
"""

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
                await _unavailable("the server is stopping; ask another one", STOPPING_RETRY_S)(scope, receive, send)
                return
            if not self._proxy.proxy_router.sorted_routes:
                await _unavailable("the server is starting; try again", STARTING_RETRY_S)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class TextHeaders:
    """Drops request headers that are no UTF-8 text: the proxy itself decodes some, and would answer 500. And those that
    are Ray Serve's own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [header for header in scope["headers"] if _is_wanted(*header)]}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve.proxy:middlewares puts into the proxies of a cluster."""
    return [Middleware(Availability), Middleware(TextHeaders), Middleware(BoundedBodies)]


def _is_wanted(name: bytes, value: bytes) -> bool:
    try:
        text = name.decode().lower()
        value.decode()
    except UnicodeDecodeError:
        return False
    own = text in SERVES_OWN or text.startswith(SERVES_OWN_PREFIX) or text.replace("-", "_") == MULTIPLEXED
    return not own


def _unavailable(message: str, retry_s: int) -> JSONResponse:
    body = error_body(message, kind="server_error", code="unavailable")
    return JSONResponse(body, 503, headers={"Retry-After": str(retry_s), "Connection": "close"})
