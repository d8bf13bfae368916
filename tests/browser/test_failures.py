"""What the playground says where something fails, and what it lets one do about it."""

import re

import pytest
from browser.scripted import ANSWER, RETRY_AFTER_S, ScriptedEndpoint
from browser.user import User


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("busy", ["The endpoint is busy", "16 requests wait already", f"Wait {RETRY_AFTER_S} s"]),
        ("often", ["Too many requests", f"Wait {RETRY_AFTER_S} s"]),
        ("late", ["did not reach the endpoint in time", "within 30 s"]),
        ("slow", ["longer than the endpoint allows", "Most tokens"]),
        ("setting", ["does not take this setting", "at most 8000", "Change it under “Settings”"]),
        ("moved", ["does not know this model", "asks which model there is"]),
        ("proxy", ["The endpoint failed (500)", "Internal Server Error", "Try again"]),
        ("fails", ["The endpoint failed", "out of memory", "Try again"]),
        ("cut", ["The connection ended before the answer did", "Try again"]),
    ],
)
def test_a_failure_says_what_to_do_where_the_answer_would_be(user: User, prompt: str, says: list[str]) -> None:
    answer = user.open().ask(prompt)
    error = answer.get_by_role("alert").inner_text()
    for words in says:
        assert words in error
    assert answer.get_by_role("button").all_inner_texts() == ["Try again"]
    assert answer.get_attribute("aria-busy") == "false"
    if prompt in ("fails", "cut"):
        assert answer.locator(".text").inner_text() == "Half an"
        assert answer.locator(".badge").inner_text().startswith("Path B")


@pytest.mark.parametrize(
    ("prompt", "says", "offers"),
    [
        ("wrong", ["does not take this request", "Change the message"], ["Edit the message"]),
        ("long", ["conversation is too long", "found 9000 tokens", "start a new conversation"], ["Edit the message"]),
        ("large", ["conversation is too long", "a body of 2000 KB"], ["Edit the message"]),
        ("forbidden", ["forbids this", "Ask who runs it"], []),
        ("teapot", ["does not take this request (418)", "short and stout"], []),
    ],
)
def test_what_trying_again_cannot_help_is_not_offered_again(
    user: User, prompt: str, says: list[str], offers: list[str]
) -> None:
    answer = user.open().ask(f"{prompt} and more")
    error = answer.get_by_role("alert").inner_text()
    for words in says:
        assert words in error
    buttons = answer.get_by_role("button")
    assert buttons.all_inner_texts() == offers
    if offers:
        buttons.click()
        assert user.message.input_value() == f"{prompt} and more"
        user.page.locator("#message:focus").wait_for()


def test_a_model_that_was_replaced_is_asked_anew(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().ask("moved")
    asked: list[str] = []
    user.page.on("request", lambda request: asked.append(request.url.removeprefix(endpoint.url)))
    user.button("Try again").click()
    user.wait()
    assert user.answers.locator(".text").inner_text() == ANSWER
    assert asked == ["v1/models", "v1/chat/completions"]


def test_trying_again_replaces_the_failure(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().ask("busy")
    user.button("Try again").click()
    user.wait()
    assert user.answers.count() == 1
    assert user.answers.locator(".text").inner_text() == ANSWER
    assert endpoint.asked()[0] == endpoint.asked()[1] == [{"role": "user", "content": "busy"}]


def test_a_key_is_asked_for_kept_in_the_tab_and_sent(user: User, endpoint: ScriptedEndpoint) -> None:
    endpoint.key = "right"
    user.open()
    assert "asks for an API key" in user.alert.inner_text()
    key = user.page.get_by_role("textbox", name="API key")
    user.page.locator("#key:focus").wait_for()
    key.fill("wrong")
    key.press("Enter")
    user.alert.filter(has_text="does not accept this API key").wait_for()
    key.fill("right")
    key.press("Enter")
    user.page.locator("#facts li").first.wait_for()
    assert user.alert.count() == 0
    assert key.is_hidden()
    user.ask("hello")
    assert endpoint.requests[-1]["authorization"] == "Bearer right"
    stored = user.page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]")
    assert stored == ['{"presafe-key":"right"}', "{}", ""]
    user.page.get_by_text("API key", exact=True).first.click()
    user.button("Forget it").click()
    assert user.page.evaluate("sessionStorage.length") == 0


def test_a_key_that_ends_in_a_conversation_continues_it(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().ask("first")
    endpoint.key = "new"
    answer = user.ask("second")
    assert "asks for an API key" in answer.get_by_role("alert").inner_text()
    assert answer.get_by_role("button").count() == 0, "without a key trying again cannot help"
    key = user.page.get_by_role("textbox", name="API key")
    key.fill("new")
    key.press("Enter")
    user.answers.last.locator(".text").filter(has_text=ANSWER).wait_for()
    assert [turn["content"] for turn in endpoint.asked()[-1]] == ["first", ANSWER, "second"]


def test_an_endpoint_that_is_down_is_found_again(user: User) -> None:
    user.page.route(re.compile("v1/models$"), lambda route: route.abort())
    user.open()
    assert "cannot be reached" in user.alert.inner_text()
    user.message.fill("hello")
    user.message.press("Enter")
    user.alert.wait_for()
    assert user.message.input_value() == "hello"
    user.page.unroute(re.compile("v1/models$"))
    user.button("Try again").click()
    user.page.locator("#facts li").first.wait_for()
    assert user.alert.count() == 0
    assert user.ask("hello").locator(".text").inner_text() == ANSWER


def test_a_base_that_is_down_leaves_the_aligned_model(user: User) -> None:
    user.page.route(re.compile("base/v1/models$"), lambda route: route.abort())
    user.open()
    user.page.get_by_text("not now: The endpoint cannot be reached.").wait_for()
    assert user.page.get_by_label("Side by side").is_disabled()
    assert user.ask("hello").locator(".text").inner_text() == ANSWER
