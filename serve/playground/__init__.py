"""The playground: a page that asks the endpoint it is served by. Three static files, nothing from elsewhere."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
"""The last two: a browser refuses every string as markup, so that a model's text cannot become any."""

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # an upgraded endpoint and an old page would not fit
}

router = APIRouter(include_in_schema=False)
"""The page at `/`. Its addresses are relative, so that it works under any route prefix."""


@router.get("/")
def page() -> Response:
    """The page."""
    return _static("index.html", "text/html")


@router.get("/playground.js")
def script() -> Response:
    """What it does."""
    return _static("playground.js", "text/javascript")


@router.get("/playground.css")
def style() -> Response:
    """How it looks."""
    return _static("playground.css", "text/css")


def _static(name: str, media_type: str) -> Response:
    return Response(_content(name), media_type=media_type, headers=HEADERS)


@cache
def _content(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()
