"""What the playground shows of an answer, and what it sends."""

from browser.scripted import (
    ANSWER,
    BASE_ANSWER,
    COMPLETION_TOKENS,
    MARKUP,
    REASONING,
    REASONING_TOKENS,
    REFUSAL,
    ScriptedEndpoint,
)
from browser.user import User

PATH_A, PATH_B = "Path A: refused before thinking", "Path B: thought first"
NO_REASONING = "Answered without thinking"


def test_the_decision_shows_before_the_first_token(user: User, endpoint: ScriptedEndpoint) -> None:
    answer = user.open().begin("held until released")
    meter = answer.get_by_role("meter", name="Probability of refusal")
    meter.wait_for()
    assert answer.locator(".badge").inner_text() == PATH_B
    assert (meter.get_attribute("aria-valuenow"), meter.get_attribute("aria-valuetext")) == ("0.0712", "0.071")
    assert answer.locator(".text").text_content() == answer.locator(".thought").text_content() == ""
    assert "decided in" in answer.inner_text()
    assert "first token" not in answer.inner_text()
    endpoint.release.set()
    user.wait()
    assert answer.locator(".text").inner_text() == ANSWER
    assert "first token after" in answer.inner_text()


def test_a_refusal_shows_its_probability_the_threshold_and_no_reasoning(user: User) -> None:
    answer = user.open().ask("refuse this")
    assert answer.locator(".badge").inner_text() == PATH_A
    assert answer.locator(".text").inner_text() == REFUSAL
    assert answer.locator(".reasoning").is_hidden()
    text = answer.inner_text()
    for shown in ("Probability of refusal 0.931", "Threshold 0.500", "Gate on: at or above the threshold", "tokens\n7"):
        assert shown in text
    meter, mark, value = (answer.locator(part).bounding_box() for part in (".meter", ".meter .threshold", ".value"))
    assert abs(mark["x"] + mark["width"] / 2 - meter["x"] - 0.5 * meter["width"]) < 2
    assert abs(value["width"] - 0.931 * meter["width"]) < 2


def test_reasoning_is_folded_and_counted(user: User) -> None:
    answer = user.open().ask("think about this")
    assert answer.locator(".text").inner_text() == ANSWER
    thought = answer.get_by_role("region", name="Reasoning")
    assert thought.is_hidden()
    assert f"{COMPLETION_TOKENS:,}" in answer.inner_text()
    summary = answer.locator("summary")
    assert summary.inner_text() == f"Reasoning, {REASONING_TOKENS} tokens"
    summary.press("Enter")
    thought.wait_for()
    assert thought.inner_text() == REASONING


def test_reasoning_counts_while_it_comes(user: User) -> None:
    answer = user.open().begin("musing for ever")
    summary = answer.locator("summary")
    summary.filter(has_text="Thinking, 1").wait_for()
    first = summary.inner_text()
    summary.filter(has_not_text=first).wait_for()
    user.button("Stop").click()
    user.wait()
    assert "Stopped. There is no answer" in answer.inner_text()


def test_markup_in_an_answer_is_text(user: User, endpoint: ScriptedEndpoint) -> None:
    answer = user.open().ask("markup please")
    answer.locator("summary").click()
    for place in (".text", ".thought"):
        assert answer.locator(place).inner_text() == MARKUP
        assert answer.locator(f"{place} *").count() == 0
    answer = user.ask("wrong in the same way")
    assert MARKUP in answer.inner_text()
    assert answer.locator("img, script, b").count() == 0
    assert user.ask(MARKUP).is_visible()
    assert user.page.locator(".prompt").last.inner_text() == MARKUP
    assert user.page.title() == "PreSafe playground"
    assert not [text for text in user.complaints if "400" not in text]
    assert all(address.startswith(endpoint.origin) for address in user.addresses)


def test_a_conversation_goes_back_without_reasoning(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().ask("first")
    user.ask("second")
    assert endpoint.asked()[1] == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "second"},
    ]
    user.button("New conversation").click()
    assert user.answers.count() == 0
    user.ask("third")
    assert endpoint.asked()[2] == [{"role": "user", "content": "third"}]


def test_a_turn_without_an_answer_is_left_out(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().ask("busy")
    answer = user.ask("limit")
    assert "There is no answer: later messages leave this turn out." in answer.inner_text()
    user.ask("after")
    assert endpoint.asked()[-1] == [{"role": "user", "content": "after"}]


def test_stop_ends_the_request_and_keeps_the_text(user: User, endpoint: ScriptedEndpoint) -> None:
    answer = user.open().begin("endless")
    answer.locator(".text").filter(has_text="tick tick").wait_for()
    user.button("Stop").click()
    user.wait()
    assert endpoint.gone.wait(60)
    assert answer.locator(".text").inner_text().startswith("tick tick")
    assert "Stopped." in answer.inner_text()
    user.ask("and then")
    assert endpoint.asked()[1][1]["content"].startswith("tick tick")


def test_a_new_conversation_ends_the_request(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().begin("endless")
    user.button("New conversation").click()
    assert endpoint.gone.wait(60)
    user.ask("something else")
    assert endpoint.asked()[-1] == [{"role": "user", "content": "something else"}]


def test_settings_are_sent_only_where_they_are_given(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().ask("without")
    user.page.get_by_text("Settings").click()
    user.page.get_by_label("Most tokens").fill("64")
    user.page.get_by_label("Temperature").fill("0.35")
    user.page.get_by_label("Seed").fill("-7")
    user.ask("with")
    names = ("max_completion_tokens", "temperature", "seed")
    without, given = endpoint.requests
    assert not set(names) & set(without)
    assert [given[name] for name in names] == [64, 0.35, -7]
    assert given["stream_options"] == {"include_usage": True}


def test_a_setting_that_cannot_be_is_pointed_at(user: User, endpoint: ScriptedEndpoint) -> None:
    settings = user.open().page.locator("#settings")
    settings.locator("summary").click()
    user.page.get_by_label("Temperature").fill("3")
    settings.locator("summary").click()
    user.message.fill("hello")
    user.message.press("Enter")
    user.page.locator("#temperature:focus").wait_for()
    assert user.message.input_value() == "hello"
    assert endpoint.requests == []


def test_side_by_side_asks_both_and_keeps_them_apart(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().ask("alone")
    user.page.get_by_label("Side by side").check()
    user.ask("refuse this")
    aligned, base = user.answers.nth(1), user.answers.nth(2)
    assert aligned.get_by_role("heading").inner_text() == "Aligned: presafe-7b"
    assert base.get_by_role("heading").inner_text() == "Base: base-7b"
    assert (aligned.locator(".badge").inner_text(), base.locator(".badge").inner_text()) == (PATH_A, PATH_B)
    assert base.get_by_role("meter").count() == 0
    assert aligned.bounding_box()["y"] == base.bounding_box()["y"]
    user.ask("again")
    assert [turn["content"] for turn in endpoint.asked()[-1]] == ["alone", ANSWER, "refuse this", REFUSAL, "again"]
    assert [turn["content"] for turn in endpoint.asked("base")[-1]] == [
        "alone",
        ANSWER,
        "refuse this",
        BASE_ANSWER,
        "again",
    ]


def test_one_side_may_fail_alone(user: User, endpoint: ScriptedEndpoint) -> None:
    user.open().page.get_by_label("Side by side").check()
    user.ask("apart")
    aligned, base = user.answers.nth(0), user.answers.nth(1)
    assert aligned.locator(".text").inner_text() == ANSWER
    assert "the base failed" in base.get_by_role("alert").inner_text()
    base.get_by_role("button", name="Try again").click()
    user.wait()
    assert (len(endpoint.asked()), len(endpoint.asked("base"))) == (1, 2)


def test_without_a_base_there_is_nothing_to_compare(user: User, endpoint: ScriptedEndpoint) -> None:
    endpoint.compare = False
    assert user.open().page.get_by_label("Side by side").is_hidden()
    assert user.ask("hello").get_by_role("heading").inner_text() == "presafe-7b"


def test_each_gate_is_put_into_words(user: User, endpoint: ScriptedEndpoint) -> None:
    for gate, gate_path, prompt, words in (
        ("off", None, "refuse", "Gate off: the model decided by itself."),
        ("off", None, "nothing", "Gate off: the model decided by itself. There is no probability."),
        ("shadow", "refuse", "think", "Gate in shadow: it would not have let the model think. The model decided by"),
        (
            "shadow",
            "think",
            "refuse",
            "Gate in shadow: it would have let the model think. The model decided by itself.",
        ),
        ("on", "think", "think", "Gate on: below the threshold, it let the model think."),
        ("on", "think", "refuse", "it let the model think. The model refused by itself."),
        ("on", "think", "closed", "it let the model think. The model left its reasoning out by itself."),
        ("on", "refuse", "refuse", "Gate on: at or above the threshold, it did not let the model think."),
        ("on", "refuse", "closed", "did not let the model think. The model answered behind a closed think block."),
        ("on", "refuse", "nothing", "Gate on: it did not let the model think. There is no probability."),
    ):
        endpoint.gate, endpoint.gate_path = gate, gate_path
        answer = user.open().ask(prompt)
        assert words in answer.inner_text()
        assert answer.get_by_role("meter").is_visible() == (prompt != "nothing")
        facts = user.page.get_by_role("list", name="This endpoint").inner_text()
        assert {"off": "gate off", "on": "gate on at 0.500", "shadow": "gate in shadow at 0.500"}[gate] in facts


def test_an_answer_without_reasoning_is_not_called_a_refusal(user: User) -> None:
    answer = user.open().ask("closed")
    assert answer.locator(".badge").inner_text() == NO_REASONING
    assert answer.locator(".text").inner_text() == ANSWER
    assert answer.locator(".reasoning").is_hidden()
    assert "refused" not in answer.inner_text()
    assert user.spoken[-2].startswith(f"Aligned: presafe-7b: {NO_REASONING}")


def test_a_hidden_probability_is_told_as_hidden(user: User, endpoint: ScriptedEndpoint) -> None:
    endpoint.revealed = False
    for gate_path, prompt, words in (
        ("think", "think", "Gate on: it let the model think. The probability is hidden."),
        ("refuse", "refuse", "Gate on: it did not let the model think. The probability is hidden."),
    ):
        endpoint.gate_path = gate_path
        answer = user.open().ask(prompt)
        assert words in answer.inner_text()
        assert answer.get_by_role("meter").count() == 0
    facts = user.page.get_by_role("list", name="This endpoint").inner_text()
    assert "probability hidden" in facts
    assert "gate on at" not in facts
    user.button("New conversation").click()
    assert "with its probability" not in user.page.locator("#welcome").inner_text()


def test_a_model_without_a_head_is_not_said_to_be_aligned(user: User, endpoint: ScriptedEndpoint) -> None:
    endpoint.aligned, endpoint.gate = False, "off"
    welcome = user.open().page.locator("#welcome").inner_text()
    assert "without PreSafe's alignment" in welcome
    assert "The model decides before it thinks" not in welcome
    assert "no head" in user.page.get_by_role("list", name="This endpoint").inner_text()
    assert "There is no probability." in user.ask("think").inner_text()


def test_the_examples_are_the_models_own_where_its_card_has_some(user: User, endpoint: ScriptedEndpoint) -> None:
    examples = user.open().page.locator("#examples button")
    general = examples.all_inner_texts()
    assert len(general) > 2
    endpoint.examples = [
        {"kind": "reasoning", "text": "think <b>hard</b>"},
        {"kind": "harmful", "text": "refuse this, of the card"},
    ]
    user.open()
    assert [text.split("\n")[0] for text in examples.all_inner_texts()] == [
        "think <b>hard</b>",
        "refuse this, of the card harmful",
    ]
    examples.last.click()
    user.wait()
    assert endpoint.asked() == [[{"role": "user", "content": "refuse this, of the card"}]]


def test_a_cut_answer_says_whose_limit_it_was(user: User) -> None:
    answer = user.open().ask("limit")
    assert "the endpoint lets an answer to this conversation grow no longer" in answer.inner_text()
    assert "Most tokens" not in answer.inner_text()
    user.page.get_by_text("Settings").click()
    user.page.get_by_label("Most tokens").fill("1200")
    answer = user.ask("limit")
    assert "Cut at 1,200 tokens, which is “Most tokens” under “Settings”. There is no answer" in answer.inner_text()


def test_an_empty_answer_is_told_and_not_left_blank(user: User, endpoint: ScriptedEndpoint) -> None:
    assert "There is no answer" in user.open().ask("empty").inner_text()
    assert not any(spoken.endswith("answered: ") for spoken in user.spoken)
    user.ask("after")
    assert endpoint.asked()[-1] == [{"role": "user", "content": "after"}]


def test_the_page_follows_an_answer_but_not_a_reader_who_scrolled_back(user: User) -> None:
    user.page.set_viewport_size({"width": 800, "height": 600})
    answer = user.open().ask("story of a day")
    assert answer.locator(".counts").bounding_box()["y"] < user.page.locator("footer").bounding_box()["y"]
    answer = user.begin("endless")
    answer.locator(".text").filter(has_text="tick").wait_for()
    user.page.keyboard.press("Control+Home")
    user.page.evaluate("scrollTo(0, 0)")
    before = answer.locator(".text").inner_text()
    answer.locator(".text").filter(has_text=before + " tick tick").wait_for()
    assert user.page.evaluate("scrollY") == 0
    user.page.keyboard.press("Escape")
    user.wait()
