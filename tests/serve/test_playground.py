"""The playground in a real browser, served by the real endpoint."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser.chromium import chromium
from browser.user import User

from tiny_reasoner import ANSWER, BENIGN, ENDLESS, GATE_REFUSAL, HARMFUL, REASONING, REFUSAL


@pytest.fixture
def user(served: Any) -> Iterator[User]:
    """In front of the ungated model's page. The browser comes and goes with the test: others here use asyncio.run."""
    with chromium() as browser:
        yield User(browser.new_page(), f"{served.url}/")


def test_a_conversation_with_the_real_endpoint(user: User, served: Any) -> None:
    user.open()
    assert user.page.locator("#examples button").all_inner_texts() == [BENIGN, f"{HARMFUL} harmful"]
    refusal = user.ask(HARMFUL)
    assert refusal.locator(".text").inner_text() == REFUSAL
    assert refusal.locator(".badge").inner_text() == "Path A: refused before thinking"
    assert refusal.get_by_role("meter").get_attribute("aria-valuetext").startswith("0.9")
    assert "Gate off: the model decided by itself." in refusal.inner_text()

    user.button("New conversation").click()
    thought = user.ask(BENIGN)
    assert thought.locator(".badge").inner_text() == "Path B: thought first"
    assert thought.locator("summary").inner_text().startswith("Reasoning, ")
    thought.locator("summary").click()
    assert thought.locator(".thought").text_content()

    user.button("New conversation").click()
    user.page.get_by_text("Settings").click()
    user.page.get_by_label("Temperature").fill("0")
    greedy = user.ask(BENIGN)
    assert (greedy.locator(".thought").text_content(), greedy.locator(".text").inner_text()) == (REASONING, ANSWER)

    user.page.get_by_label("Most tokens").fill("100000")
    assert "The endpoint does not take this setting." in user.ask(BENIGN).get_by_role("alert").inner_text()
    user.page.get_by_label("Most tokens").fill("")

    user.button("New conversation").click()
    user.begin(ENDLESS).locator(".reasoning").wait_for()
    user.button("Stop").click()
    user.wait()
    served.wait_until(lambda health: health["ongoing"] == 0)

    user.url = f"{served.gated_url}/"  # under a route prefix every address is another one
    assert user.open().ask(ENDLESS).locator(".text").inner_text() == GATE_REFUSAL
    assert not [text for text in user.complaints if "400" not in text]
