"""What runs inside Ray Serve's own HTTP proxies, in front of every replica."""

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send


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
    return [Middleware(TextHeaders)]


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
