"""The playground in a real browser, of an endpoint that does what the test says."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser.chromium import chromium
from browser.scripted import ScriptedEndpoint
from browser.user import User


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as started:
        yield started


@pytest.fixture
def user(browser: Any, endpoint: ScriptedEndpoint) -> Iterator[User]:
    """Someone in front of the page, which is not open yet."""
    context = browser.new_context()
    yield User(context.new_page(), endpoint.url)
    context.close()
