"""Bodies of answers: what stands in OpenAI's fields on each path."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from presafe.decision.events import Decided, Event, Finished
from presafe.decision.text import Text
from serve.api.reply import Reply, Served

SERVED = Served("presafe", "on", 0.5, reveal=True)
FILTERED = Served("presafe", "on", 0.5, reveal=True, refusal_finish_reason="content_filter")
GATE = [Decided("refuse", 0.9, "refuse"), Text("refusal", "No, thanks."), Finished("stop", 0, 0)]
MODELS = [
    Decided("refuse", 0.9, "think"),
    Text("answer", "I cannot"),
    Text("answer", " do it."),
    Finished("stop", 9, 0),
]
ANSWERED = [Decided("answer", 0.9, "refuse"), Text("answer", "Five."), Finished("stop", 5, 0)]
THOUGHT = [Decided("think", 0.1, "think"), Text("reasoning", "Hm."), Text("answer", "Six."), Finished("stop", 7, 3)]
CUT = [Decided("think", 0.1, "think"), Text("reasoning", "Hm."), Finished("length", 4, 4)]


def choice(events: list[Event], served: Served = SERVED) -> dict[str, Any]:
    body = json.loads(Reply(served, 3).completion([(0, event) for event in events]))
    found: dict[str, Any] = body["choices"][0]
    return found


def deltas(events: list[Event]) -> list[dict[str, Any]]:
    reply = Reply(SERVED, 3)
    chunks = [json.loads(reply.chunk(0, event, include_usage=False)) for event in events]
    return [chunk["choices"][0]["delta"] for chunk in chunks]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (GATE, {"content": "No, thanks.", "refusal": "No, thanks.", "reasoning_content": ""}),
        (MODELS, {"content": "I cannot do it.", "refusal": None, "reasoning_content": ""}),
        (ANSWERED, {"content": "Five.", "refusal": None, "reasoning_content": ""}),
        (THOUGHT, {"content": "Six.", "refusal": None, "reasoning_content": "Hm."}),
        (CUT, {"content": "", "refusal": None, "reasoning_content": "Hm."}),
    ],
)
def test_only_the_endpoints_own_refusal_is_in_the_field_for_one(events: list[Event], message: dict[str, Any]) -> None:
    assert choice(events)["message"] == {"role": "assistant", **message}


def test_a_stream_has_the_refusal_in_both_fields() -> None:
    assert deltas(GATE)[1:] == [{"content": "No, thanks.", "refusal": "No, thanks."}, {}]
    assert deltas(MODELS)[1:] == [{"content": "I cannot"}, {"content": " do it."}, {}]


@pytest.mark.parametrize(
    ("events", "plain", "filtered"),
    [
        (GATE, "stop", "content_filter"),
        (MODELS, "stop", "content_filter"),
        (ANSWERED, "stop", "stop"),
        (THOUGHT, "stop", "stop"),
        (CUT, "length", "length"),
        ([*MODELS[:-1], Finished("length", 6, 0)], "length", "length"),
    ],
)
def test_a_whole_refusal_ends_as_it_is_configured(events: list[Event], plain: str, filtered: str) -> None:
    assert choice(events)["finish_reason"] == plain
    assert choice(events, FILTERED)["finish_reason"] == filtered
    reply = Reply(FILTERED, 3)
    last = [json.loads(reply.chunk(0, event, include_usage=False)) for event in events][-1]
    assert last["choices"][0]["finish_reason"] == filtered


def test_the_headers_name_the_path_that_was_taken() -> None:
    for events, path, gate in ((GATE, "refuse", "refuse"), (ANSWERED, "answer", "refuse"), (THOUGHT, "think", "think")):
        headers = Reply(SERVED, 3).headers(events[0])
        assert (headers["x-presafe-path"], headers["x-presafe-gate-path"]) == (path, gate)


def test_without_its_own_field_a_refusal_is_content_alone() -> None:
    plain = Served("presafe", "on", 0.5, reveal=True, refusal_field=False)
    assert choice(GATE, plain)["message"]["refusal"] is None
    assert choice(GATE, plain)["message"]["content"] == "No, thanks."


@pytest.mark.parametrize("events", [GATE, MODELS, ANSWERED, THOUGHT, CUT])
def test_openais_own_types_read_every_body(events: list[Event]) -> None:
    whole = ChatCompletion.model_validate_json(
        Reply(SERVED, 3).completion([(0, event) for event in events]), strict=True
    )
    reply = Reply(SERVED, 3)
    bodies = [reply.chunk(0, event, include_usage=True) for event in events] + [reply.usage_chunk()]
    streamed = [ChatCompletionChunk.model_validate_json(body, strict=True) for body in bodies]
    assert streamed[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == 3 + whole.usage.completion_tokens
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed[:-1]) == whole.choices[0].message.content
