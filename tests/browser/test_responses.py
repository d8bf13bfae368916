"""The playground's three files as the endpoint sends them; needs no browser."""

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from serve.playground import router


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/", "text/html"), ("/playground.js", "text/javascript"), ("/playground.css", "text/css")],
)
def test_each_file_forbids_what_the_page_does_not_need(path: str, media_type: str) -> None:
    app = FastAPI()
    app.include_router(router)
    reply = TestClient(app).get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cache-control"] == "no-cache"
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_is_not_part_of_the_api_document() -> None:
    app = FastAPI()
    app.include_router(router)
    assert app.openapi()["paths"] == {}
