"""What endpoints send in place of a plain answer: each body is read as what it means, or is the right failure."""

import json
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from presafe.engines.http_answer import Answer, whole_answer, with_chunk
from presafe.engines.http_failure import RequestError, of_body, of_status

MOST = 50


def body(message: Any, finish: Any = "stop", tokens: Any = 7, **choice: Any) -> str:
    usage = {"usage": {"completion_tokens": tokens}} if tokens is not None else {}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}], **usage})


def read(text: str) -> tuple[str, str, str]:
    completion = whole_answer(text).completion(MOST)
    assert completion.error is None
    return completion.reasoning, completion.answer, completion.finish_reason


def meaning(text: str) -> str:
    with pytest.raises(RequestError) as caught:
        whole_answer(text).completion(MOST)
    assert "\n" not in str(caught.value)
    return caught.value.meaning


@pytest.mark.parametrize(
    "message",
    [
        {"content": "It is 4.", "reasoning_content": "Two and two."},
        {"content": "It is 4.", "reasoning": "Two and two."},
        {"content": "It is 4.", "reasoning_details": [{"type": "reasoning.text", "text": "Two and two."}]},
        {"content": [{"type": "thinking", "thinking": "Two and two."}, {"type": "text", "text": "It is 4."}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Two and two."}]}, "It is 4."]},
        {
            "content": [
                {"type": "reasoning", "summary": [{"text": "Two and two."}]},
                {"type": "text", "text": "It is 4."},
            ]
        },
        {"content": "Two and two.</think>\n</think>\nIt is 4."},
        {"content": "<think>Two and two.</think>It is 4."},
        {"content": "\n<thinking>\nTwo and two.\n</thinking>\n\nIt is 4."},
        {"content": "<thought>Two and two.</thought>It is 4."},
        {"content": "<reasoning>Two and two.</reasoning>It is 4."},
        {"content": "<seed:think>Two and two.</seed:think>It is 4."},
        {"content": "[THINK]Two and two.[/THINK]It is 4."},
        {"content": "<|START_THINKING|>Two and two.<|END_THINKING|>It is 4."},
        {
            "content": "<|channel|>analysis<|message|>Two and two.<|end|><|start|>assistant<|channel|>final<|message|>"
            "It is 4.<|return|>"
        },
    ],
)
def test_reasoning_is_told_from_the_answer_however_it_is_written(message):
    assert read(body(message)) == ("Two and two.", "It is 4.", "stop")


@pytest.mark.parametrize(
    "content", ["Close it with </reasoning>.", "The tag <think> opens it.", "a <|channel|> is a token", "1 < 2"]
)
def test_an_answer_that_names_a_tag_is_an_answer(content):
    assert read(body({"content": content})) == ("", content, "stop")


def test_reasoning_without_an_answer_is_cut_off():
    assert read(body({"content": None, "reasoning_content": "Two and"})) == ("Two and", "", "length")
    assert read(body({"content": "<seed:think>Two and"})) == ("Two and", "", "length")


@pytest.mark.parametrize("content", [None, "", [], {}, 5, [None, {"type": "image_url", "image_url": {}}]])
def test_a_content_without_text_is_an_empty_answer(content):
    assert read(body({"content": content})) == ("", "", "stop")


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "Not that."},
        {"content": [{"type": "refusal", "refusal": "Not that."}], "refusal": "Not that."},
    ],
)
def test_a_refusal_that_is_called_one_is_one(message):
    assert read(body(message)) == ("", "Not that.", "refused")
    assert whole_answer(body(message)).beginning("off") is None


@pytest.mark.parametrize("finish", ["stop", "STOP", "eos", "end_turn", "stop_sequence", "completed"])
def test_every_word_for_an_end_is_one(finish):
    assert read(body({"content": "It is 4."}, finish)) == ("", "It is 4.", "stop")


@pytest.mark.parametrize("finish", ["length", "MAX_TOKENS", "max_tokens", "model_length"])
def test_every_word_for_a_limit_is_one(finish):
    assert read(body({"content": "It is"}, finish)) == ("", "It is", "length")


def test_an_end_without_a_word_is_a_limit_where_the_tokens_say_so():
    assert read(body({"content": "It is 4."}, None)) == ("", "It is 4.", "stop")
    assert read(body({"content": "It is 4."}, None, tokens=MOST)) == ("", "It is 4.", "length")
    assert read(body({"content": "It is 4."}, None, tokens=None)) == ("", "It is 4.", "stop")


@pytest.mark.parametrize(
    "finish",
    [
        "content_filter",
        "SAFETY",
        "safety",
        "sensitive",
        "PROHIBITED_CONTENT",
        "refusal",
        "guardrail_intervened",
        "RECITATION",
    ],
)
def test_a_filter_leaves_no_text_behind(finish):
    assert read(body({"content": "Begin with"}, finish)) == ("", "", "filtered")


def test_an_end_that_nobody_knows_is_the_rows_failure_and_one_of_the_network_passes():
    assert meaning(body({"content": "x"}, "tool_calls")) == "prompt"
    assert meaning(body({"content": "x"}, "no such word")) == "prompt"
    for finish in ("error", "abort", "network_error", "insufficient_system_resource"):
        assert meaning(body({"content": "x"}, finish)) == "passing"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"error": {"message": "Provider returned error", "code": 502}}, "passing"),
        ({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, "passing"),
        ({"error": "upstream timed out"}, "passing"),
        ({"error": {"message": "too long", "code": 400}}, "prompt"),
        ({"error": {"message": "no", "type": "invalid_request_error"}}, "prompt"),
        ({"error": {"message": "no such key", "code": 401}}, "forbidden"),
        ({"error": {"message": "no money", "code": "insufficient_quota"}}, "forbidden"),
        ({"error": {"message": "stopped", "code": "content_filter"}}, "filtered"),
        ({"choices": None, "error": {"message": "Too many requests", "code": 429}}, "passing"),
        ({"choices": None}, "passing"),
        ({"choices": []}, "passing"),
        ({"choices": {}}, "passing"),
        ({"choices": [None]}, "passing"),
        ({"choices": [{"error": {"message": "gone", "code": 502}, "finish_reason": "error"}]}, "passing"),
        ({"choices": [], "prompt_filter_results": [{"violence": {"filtered": True}}]}, "filtered"),
        ({"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}, "filtered"),
        ({"choices": [], "prompt_filter_results": [{"violence": {"filtered": False}}]}, "passing"),
        ({"detail": "Internal Server Error"}, "passing"),
        ({"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]}, "passing"),
        ({"message": "busy"}, "passing"),
        ({}, "passing"),
    ],
)
def test_a_body_without_an_answer_is_the_right_failure(answer, expected):
    assert meaning(json.dumps(answer)) == expected


@pytest.mark.parametrize(
    "text", ["", "<html>welcome</html>", "<!DOCTYPE html>\n<p>log in</p>", "OK", "null", "[]", '"x"']
)
def test_what_is_no_chat_completion_is_foreign(text):
    assert meaning(text) == "foreign"


def test_a_body_that_is_cut_off_is_told_as_such():
    whole = body({"content": "It is 4."})
    with pytest.raises(json.JSONDecodeError):
        whole_answer(whole[: len(whole) // 2])


def test_a_stream_that_nobody_asked_for_is_read_as_the_answer_it_is():
    chunks = [{"delta": {"role": "assistant", "content": ""}}, {"delta": {"reasoning_content": "Two and"}}]
    chunks += [
        {"delta": {"reasoning_content": " two."}},
        {"delta": {"content": "It is\u2028"}},
        {"delta": {"content": "4."}},
    ]
    lines = [json.dumps({"choices": [chunk]}, ensure_ascii=False) for chunk in chunks]
    lines += [json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}), json.dumps({"choices": []}), "[DONE]"]
    text = ": keep-alive\n\n" + "".join(f"event: chunk\ndata: {line}\r\n\r\n" for line in lines)
    assert read(text) == ("Two and two.", "It is\u20284.", "stop")


def test_the_beginning_of_a_streamed_answer_decides_nothing_inside_a_tag():
    for part in ("<", "<seed:th", "[THINK]plan", "<|channel|>analysis<|mess", "<think>plan</thi"):
        assert Answer(content=part).beginning("off") is None
    assert Answer(content="<think>plan</think></thi").beginning("off") is None
    assert Answer(content="<think>plan</think>\n</think>\nI can").beginning("on") == "I can"
    assert Answer(content="plan").beginning("on") is None
    assert Answer(content="plan").beginning("off") == "plan"


def test_values_that_no_file_can_hold_never_reach_one():
    completion = whole_answer(body({"content": "It is \ud800 4."}, tokens=10**30)).completion(MOST)
    assert completion.answer.encode() == b"It is ? 4."
    assert completion.num_tokens == 1
    assert str(RequestError("prompt", "odd \udfff")) == "odd ?"
    assert meaning(body({"content": "x"}, {"reason": 5})) == "prompt"


def test_a_chunk_may_have_no_choice():
    assert with_chunk(Answer(), {"choices": None}, streamed=True) == Answer()
    assert with_chunk(Answer(), {"choices": [{"delta": None}]}, streamed=True).content == ""


def status(code: int, answer: Any, headers: dict[str, str] | None = None) -> RequestError:
    """The failure of a status, as the client library raises it."""
    return of_status(status_error(code, answer, headers or {}), FIELDS)


FIELDS = ["max_tokens", "temperature", "top_p", "seed", "chat_template_kwargs"]


def status_error(code: int, answer: Any, headers: dict[str, str]) -> openai.APIStatusError:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    response: Any = SimpleNamespace(status_code=code, text=text, headers=headers, request=None)
    return openai.APIStatusError("said", response=response, body=None)


AZURE = {
    "error": {
        "message": "The response was filtered due to the prompt triggering the content management policy.",
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
    }
}


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (400, AZURE),
        (400, {"error": {"message": "no", "code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (400, {"error": {"message": "Your request was rejected by our safety system", "code": "x"}}),
        (400, {"error": {"message": "no", "code": "content_policy_violation"}}),
        (400, {"error": {"message": "no", "code": "invalid_prompt"}}),
        (400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}),
        (400, {"error": {"message": "no", "code": "data_inspection_failed"}}),
        (400, {"error": {"message": "no", "code": "1301"}}),
        (403, {"error": {"message": "no", "code": 403, "metadata": {"reasons": ["x"], "flagged_input": "..."}}}),
        (403, {"error": {"message": "The input was flagged", "code": 403}}),
        (422, {"detail": "Input violates the provider's usage policy"}),
        (451, {"error": "unavailable for legal reasons"}),
    ],
)
def test_a_filter_on_a_prompt_is_told_from_a_fault(code, answer):
    assert status(code, answer).meaning == "filtered"


@pytest.mark.parametrize(
    ("code", "answer", "expected"),
    [
        (400, {"error": {"message": "this model's maximum context length is 8192 tokens"}}, "prompt"),
        (400, "<html>bad request</html>", "prompt"),
        (413, "", "prompt"),
        (403, {"error": {"message": "not for your region"}}, "forbidden"),
        (401, {"error": {"message": "your key was flagged", "code": "content_filter"}}, "unusable"),
        (402, {"error": {"message": "top up"}}, "unusable"),
        (404, {"detail": "Not Found"}, "unusable"),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "unusable"),
        (429, {"error": {"message": "flagged as too fast"}}, "passing"),
        (425, {}, "passing"),
        (503, {"error": {"message": "content filter is down"}}, "passing"),
        (529, "overloaded", "passing"),
        (400, {"error": {"message": "no", "param": "temperature", "code": "unsupported_value"}}, "field"),
        (400, {"error": {"message": "Unrecognized request argument supplied: chat_template_kwargs"}}, "field"),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted: seed"}]}, "field"),
    ],
)
def test_a_status_is_the_right_failure(code, answer, expected):
    failure = status(code, answer)
    assert failure.meaning == expected
    assert not failure.wants_completion_tokens


def test_the_other_limit_is_asked_for():
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    assert status(400, {"error": {"message": said, "param": "max_tokens"}}).wants_completion_tokens


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [
        ("2", 2, 2),
        ("1.5", 1.5, 1.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Fri, 21 Oct 2095 07:28:00 GMT", 1e9, 1e10),
    ],
)
def test_retry_after_is_seconds_or_a_date(said, low, high):
    assert low <= status(429, {}, {"retry-after": said}).retry_after <= high


@pytest.mark.parametrize("said", ["", "soon"])
def test_another_retry_after_says_nothing(said):
    assert status(429, {}, {"retry-after": said}).retry_after is None


def test_an_error_of_a_gateway_never_ends_a_job_by_itself():
    assert of_body({"error": {"code": 404, "message": "no such model upstream"}}).meaning == "forbidden"
