"""A trace of each request to a real endpoint, at a real receiver: when it decided, spoke and ended, and no text."""

import re
from collections.abc import Iterator

import httpx
import pytest
from otlp_receiver import Receiver, attributes, receiving

from serve_process import ServeProcess, serving
from tiny_reasoner import TinyExport, user

TRACE = "0af7651916cd43dd8448eb211c80319c"
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs presafe[tracing]")
    with receiving() as server:
        yield server


@pytest.fixture(scope="module")
def endpoint(
    receiver: Receiver, tiny_export: TinyExport, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeProcess]:
    settings = ["max_new_tokens=200", "max_prompt_tokens=600", "served_name=tiny"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        environment.setenv("OTEL_SERVICE_NAME", "the endpoint")
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with serving(tmp_path_factory.mktemp("traced"), tiny_export.folder, *settings) as process:
            yield process


def ask(endpoint: ServeProcess, text: str, *, code: int = 200, **changes: object) -> httpx.Response:
    body = {"model": "tiny", "messages": user(text), "max_tokens": 20, "temperature": 0, **changes}
    answer = httpx.post(f"{endpoint.url}/v1/chat/completions", json=body, headers=NOT_SAMPLED, timeout=60)
    assert answer.status_code == code, answer.text
    return answer


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_leaves_a_span_with_its_decision_first_token_and_end(
    receiver: Receiver, endpoint: ServeProcess, stream: bool
) -> None:
    before = len(receiver.spans)
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    answer = ask(endpoint, "add seventeen lamps", stream=stream, **usage)
    span = receiver.wait_for(before + 1)[-1]
    assert attributes(span).keys() == {"gen_ai.request.model", "gen_ai.response.id"}
    assert f'"{attributes(span)["gen_ai.response.id"]}"' in answer.text
    assert [event.name for event in span.events] == ["decision", "first token", "end"]
    decision, _, end = (attributes(event) for event in span.events)
    assert decision["presafe.path"] in ("think", "answer", "refuse")
    assert (decision["presafe.gate"], decision["presafe.gate_path"]) == ("off", "none")
    for kind in ("prompt", "completion"):
        assert re.search(rf'"{kind}_tokens": ?{end[f"presafe.{kind}_tokens"]}\b', answer.text)
    times = [span.start_time_unix_nano, *(event.time_unix_nano for event in span.events), span.end_time_unix_nano]
    assert times == sorted(times)
    assert receiver.services == {"the endpoint"}


def test_no_text_of_a_request_or_an_answer_leaves_and_its_trace_is_its_own(
    receiver: Receiver, endpoint: ServeProcess
) -> None:
    before = len(receiver.spans)
    answer = ask(endpoint, "add a peculiar kite").json()["choices"][0]["message"]
    span = receiver.wait_for(before + 1)[-1]
    said = f"{answer['content']}{answer['reasoning_content'] or ''}"
    assert said
    for text in ("peculiar", said):
        assert text.encode() not in receiver.bodies
    assert span.parent_span_id == b""
    assert [link.trace_id.hex() for link in span.links] == [TRACE], "sampled, whatever its client says"
    assert span.trace_id.hex() != TRACE


def test_a_request_that_is_turned_away_has_a_span_without_a_decision(
    receiver: Receiver, endpoint: ServeProcess
) -> None:
    before = len(receiver.spans)
    ask(endpoint, "add two", model="no such model", code=404)
    span = receiver.wait_for(before + 1)[-1]
    assert not span.events
    assert (span.status.code, span.status.message) == (span.status.STATUS_CODE_ERROR, "ApiError")


def test_metrics_are_told_beside_traces(endpoint: ServeProcess) -> None:
    """Ray's own exporter of metrics speaks OTLP, too: to its agent, whatever the environment says of traces."""
    ask(endpoint, "add two")
    url = f"{endpoint.url}/metrics"
    endpoint.wait_until(lambda: "ray_presafe_requests_total" in httpx.get(url, timeout=10).text)
