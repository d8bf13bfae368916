"""What clients send along without a need: null and empty mean absent, and what would change something is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from serve.api.harmless import MESSAGE, REQUEST
from serve.api.protocol import ChatRequest

ASKED = {"role": "user", "content": "a question"}
PLAIN = ChatRequest.model_validate({"model": "presafe", "messages": [ASKED]})
SECRETS = ["chat_template", "chat_template_kwargs", "gate", "threshold", "presafe", "continue_final_message"]


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "presafe", "messages": [ASKED], **fields})


def after(**fields: Any) -> ChatRequest:
    """A request behind an assistant's turn of these fields."""
    return request(messages=[ASKED, {"role": "assistant", **fields}, ASKED])


def errors(**fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        request(**fields)
    return [(error["type"], ".".join(map(str, error["loc"]))) for error in caught.value.errors()]


@pytest.mark.parametrize("empty", [None, "", [], {}], ids=repr)
def test_what_is_null_or_empty_is_absent(empty):
    optional = [name for name, field in ChatRequest.model_fields.items() if not field.is_required()]
    assert request(**dict.fromkeys([*optional, *REQUEST], empty)) == PLAIN


@pytest.mark.parametrize("field", REQUEST)
def test_a_value_that_changes_nothing_is_absent(field):
    for value in REQUEST[field]:
        assert request(**{field: value}) == PLAIN


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("logit_bias", {"5": -100}),
        ("top_logprobs", 1),
        ("top_logprobs", False),
        ("store", True),
        ("prediction", {"type": "content", "content": "x"}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "x"}),
        ("service_tier", "flex"),
        ("reasoning_effort", "none"),
        ("top_k", 1),
        ("min_p", 0.5),
        ("repetition_penalty", 1.1),
    ],
)
def test_a_value_that_would_change_something_is_refused_by_name(field, value):
    assert errors(**{field: value}) == [("extra_forbidden", field)]


@pytest.mark.parametrize("empty", [None, [], {}], ids=repr)
@pytest.mark.parametrize("field", SECRETS)
def test_a_name_that_is_none_of_openais_is_refused_even_without_a_value(field, empty):
    assert errors(**{field: empty}) == [("extra_forbidden", field)]


def test_what_must_be_there_is_missed_where_it_is_null():
    assert errors(model=None, messages=None) == [("missing", "model"), ("missing", "messages")]
    assert errors(messages=[{"role": "user", "content": None}]) == [("missing", "messages.0.content")]
    assert errors(messages=[]) == [("too_short", "messages")]


def test_of_a_thousand_unknown_fields_one_is_told():
    assert errors(**{f"x{k}": k for k in range(1000)}) == [("extra_forbidden", "x0")]
    assert errors(messages=[{**ASKED, **{f"x{k}": k for k in range(1000)}}]) == [("extra_forbidden", "messages.0.x0")]


def test_of_a_thousand_wrong_messages_one_is_told():
    assert errors(messages=[{"role": "nobody", "content": "x"}] * 1000) == [("literal_error", "messages.0.role")]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": None},
        {},
        {"content": ""},
        {"content": None, "tool_calls": [], "function_call": None, "annotations": [], "audio": None},
        {"content": "", "reasoning": "a thought", "reasoning_content": "a thought", "id": "1", "name": "x"},
    ],
)
def test_a_turn_of_an_assistant_may_be_empty(fields):
    assert after(**fields).conversation[1] == {"role": "assistant", "content": ""}


def test_a_refusal_that_goes_back_is_the_text_of_its_turn():
    parts = [{"type": "refusal", "refusal": "no"}, {"type": "text", "text": "sorry"}]
    assert after(content=None, refusal="no").conversation[1]["content"] == "no"
    assert after(content="no", refusal="no").conversation[1]["content"] == "no"
    assert after(content=parts).conversation[1]["content"] == "no\nsorry"
    assert errors(messages=[{"role": "user", "content": parts}]) == [("value_error", "messages.0")]
    assert errors(messages=[{**ASKED, "refusal": "no"}]) == [("value_error", "messages.0")]


def test_parts_may_be_marked_for_a_cache():
    part = {"type": "text", "text": "a question", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert request(messages=[{"role": "user", "content": [part]}]).conversation == PLAIN.conversation


def test_a_system_message_without_text_is_none():
    for content in ("", " ", [], [{"type": "text", "text": ""}]):
        assert request(messages=[{"role": "system", "content": content}, ASKED]).conversation == PLAIN.conversation


def test_a_call_of_a_tool_is_refused_by_name():
    for field in ("tool_calls", "function_call"):
        assert field in MESSAGE
        wrong = {"role": "assistant", "content": None, field: [{"id": "1"}]}
        assert errors(messages=[wrong, ASKED]) == [("extra_forbidden", f"messages.0.{field}")]


@pytest.mark.parametrize(
    ("stop", "left"), [("", []), ([""], []), (["", "a"], ["a"]), (["a", "", "b", "", "c", "d"], ["a", "b", "c", "d"])]
)
def test_empty_stop_sequences_are_none(stop, left):
    assert request(stop=stop).sampling(9).stop == left


def test_two_limits_that_agree_are_one():
    assert request(max_tokens=5, max_completion_tokens=5).token_limit == 5
    assert errors(max_tokens=5, max_completion_tokens=6) == [("value_error", "")]


def test_options_of_a_stream_are_absent_without_one():
    assert request(stream=None, stream_options=None) == request(stream=False, stream_options={}) == PLAIN
    assert errors(stream_options={"include_usage": True}) == [("value_error", "")]
    with_usage = request(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    assert with_usage.include_usage
