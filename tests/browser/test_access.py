"""The playground by keyboard, by screen reader, on a phone, in the dark: what WCAG 2.2 AA asks for."""

from pathlib import Path
from typing import Any

import pytest
from browser.scripted import ANSWER, ScriptedEndpoint
from browser.user import User

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
LEAST_CONTRAST, LEAST_CONTROL_CONTRAST = 4.5, 3.0


def focused(user: User) -> str:
    return str(user.page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))


def show_everything(user: User) -> None:
    """A page with every kind of thing on it."""
    user.ask("refuse this")
    user.page.get_by_label("Side by side").check()
    user.ask("think about this")
    user.answers.last.locator("summary").click()
    user.ask("fails in the middle")
    user.ask("limit")
    user.ask("busy")
    for panel in ("#settings", "#access"):
        user.page.locator(f"{panel} > summary").click()


def test_the_keyboard_alone_reaches_everything_in_reading_order(user: User) -> None:
    user.open()
    reached = []
    for _ in range(12):
        user.page.keyboard.press("Tab")
        reached.append(focused(user))
    examples = user.page.locator("#examples button").all_inner_texts()
    rest = ["message", "send", "Settings", "API key", "compare", "new"]
    assert reached[: 1 + len(examples) + len(rest)] == ["Skip to the message box", *examples, *rest]


def test_the_skip_link_leads_to_the_message_box(user: User) -> None:
    user.open().page.keyboard.press("Tab")
    user.page.keyboard.press("Enter")
    assert focused(user) == "message"


def test_a_conversation_by_keyboard_alone(user: User) -> None:
    user.open().message.focus()
    user.page.keyboard.type("first line")
    user.page.keyboard.press("Shift+Enter")
    user.page.keyboard.type("endless")
    assert user.message.input_value() == "first line\nendless"
    user.page.keyboard.press("Control+A")
    user.page.keyboard.type("endless")
    user.page.keyboard.press("Enter")
    user.answers.last.locator(".text").filter(has_text="tick").wait_for()
    assert focused(user) == "message"
    user.page.keyboard.press("Escape")
    user.wait()
    assert focused(user) == "message"


def test_the_focus_does_not_vanish_with_a_button(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().message.fill("held for a while")
    user.button("Send").press("Enter")
    user.button("Stop").wait_for()
    assert focused(user) == "stop"
    endpoint.release.set()
    user.wait()
    assert focused(user) == "send"
    user.ask("busy")
    user.button("Try again").press("Enter")
    user.wait()
    assert focused(user) == "send"


def test_what_has_the_focus_is_not_behind_the_message_box(user: User) -> None:
    user.page.set_viewport_size({"width": 390, "height": 640})
    user.open()
    for _ in range(3):
        user.ask("think about this")
    user.page.evaluate("scrollTo(0, 0)")
    user.page.get_by_role("link", name="Skip to").focus()
    for summary in user.page.locator(".reasoning summary").all():
        user.page.keyboard.press("Tab")
        assert summary.evaluate("summary => summary === document.activeElement")
        box = summary.bounding_box()
        assert 0 <= box["y"] <= user.page.locator("footer").bounding_box()["y"] - box["height"]


def test_a_screen_reader_is_told_the_decision_and_the_answer_once(user: User) -> None:
    user.open().page.evaluate(
        """() => {
            globalThis.spoken = [];
            new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach(
                (node) => spoken.push(node.textContent))))
                .observe(document.querySelector("[role=status]"), { childList: true, subtree: true });
        }"""
    )
    user.ask("think about this")
    user.ask("story of a day")
    live = user.page.locator("[aria-live], [role=status], [role=alert], [role=log]")
    assert {each.get_attribute("role") for each in live.all()} == {"status", "alert"}
    decision = "Aligned: presafe-7b: Path B: thought first, probability of refusal 0.071"
    assert user.page.evaluate("spoken") == [
        decision,
        f"Aligned: presafe-7b answered: {ANSWER}",
        decision,
        f"Aligned: presafe-7b answered: answer of {len(ANSWER) * 60:,} characters",
    ]


def test_every_control_has_a_name(user: User) -> None:
    show_everything(user.open())
    for control in user.page.locator("button, input, textarea, summary, a").filter(visible=True).all():
        name = "control => control.textContent.trim() || control.labels[0].textContent.trim()"
        assert control.evaluate(name), control.evaluate("control => control.outerHTML")
    assert user.page.locator("html").get_attribute("lang") == "en-GB"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_controls_stand_out_from_their_ground(user: User, scheme: str) -> None:
    user.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    user.open()
    assert_contrast(user)
    show_everything(user)
    assert_contrast(user)


def assert_contrast(user: User) -> None:
    measured: list[dict[str, Any]] = user.page.evaluate(CONTRAST)
    assert {each["kind"] for each in measured} == {"text", "control"}
    least = {"text": LEAST_CONTRAST, "control": LEAST_CONTROL_CONTRAST}
    assert not [each for each in measured if each["contrast"] < least[each["kind"]]]


def test_nothing_moves_for_those_who_want_it_still(user: User) -> None:
    animations = "document.getAnimations().length"
    user.page.route("**/v1/chat/completions", lambda _: None)  # nothing comes: it goes on deciding
    for preference, moving in (("reduce", 0), ("no-preference", 1)):
        user.page.emulate_media(reduced_motion=preference)
        user.open().begin("hello")
        assert user.page.evaluate(animations) == moving


@pytest.mark.parametrize("width", [320, 390])
def test_a_narrow_screen_needs_no_sideways_scrolling(user: User, width: int) -> None:
    user.page.set_viewport_size({"width": width, "height": 700})
    show_everything(user.open())
    user.ask("markup please")
    user.ask("x" * 400)
    assert user.page.evaluate("document.documentElement.scrollWidth") == width
    aligned, base = (user.answers.nth(user.answers.count() - last).bounding_box() for last in (2, 1))
    assert aligned["y"] + aligned["height"] <= base["y"]
