"""Traces: of a run's parts and of requests, at a real receiver; nothing where nobody asks for them."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from otlp_receiver import Receiver, attributes, receiving

from presafe.stages import Part, RunDirectory, run_stage
from presafe.telemetry import tracing

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{}"
SAMPLED, NOT_SAMPLED = CLIENT.format("01"), CLIENT.format("00")


@pytest.fixture
def receiver(monkeypatch) -> Iterator[Receiver]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs presafe[tracing]")
    with receiving() as server:
        monkeypatch.setenv(tracing.ENDPOINT, server.url)
        tracing._provider.cache_clear()
        yield server
        if (provider := tracing._provider()) is not None:
            provider.shutdown()
        tracing._provider.cache_clear()


def part(name: str, run) -> Part:
    return Part(name, {}, dict, run, ())


def test_a_span_of_each_part_has_its_names_its_rows_and_its_time(receiver, tmp_path):
    parts = [part("generate", lambda _: {"answers": 12}), part("judge", lambda _: {})]
    run_stage(RunDirectory(str(tmp_path / "storage" / "r1")), "teacher", parts)
    tracing.flush()
    generate, judge = receiver.wait_for(2)
    assert (generate.name, judge.name) == ("teacher.generate", "teacher.judge")
    names = {"presafe.run": "r1", "presafe.stage": "teacher", "presafe.part": "generate"}
    assert attributes(generate) == {**names, "presafe.rows.answers": 12}
    assert generate.start_time_unix_nano < generate.end_time_unix_nano <= judge.start_time_unix_nano
    assert receiver.services == {"presafe"}


def test_a_part_that_fails_says_so_without_the_words_of_its_error(receiver, tmp_path):
    def fail(_: str) -> dict[str, int]:
        raise ValueError("a prompt that nobody else may read")

    with pytest.raises(ValueError, match="a prompt"):
        run_stage(RunDirectory(str(tmp_path / "r1")), "teacher", [part("generate", fail)])
    tracing.flush()
    (span,) = receiver.wait_for(1)
    assert (span.status.code, span.status.message) == (span.status.STATUS_CODE_ERROR, "ValueError")
    assert b"a prompt" not in receiver.bodies


@pytest.mark.parametrize("traceparent", [SAMPLED, NOT_SAMPLED])
def test_a_clients_trace_is_linked_to_and_not_joined(receiver, traceparent):
    with tracing.request_span(traceparent) as span:
        span.add_event("decision")
    tracing.flush()
    (seen,) = receiver.wait_for(1)
    assert seen.parent_span_id == b""
    assert [link.trace_id.hex() for link in seen.links] == ["0af7651916cd43dd8448eb211c80319c"]
    assert seen.trace_id != seen.links[0].trace_id
    assert [event.name for event in seen.events] == ["decision"]


@pytest.mark.parametrize("traceparent", [None, "", "no trace", CLIENT.format("zz"), "00-" + "0" * 32 + "-" + "0" * 16])
def test_what_is_no_trace_is_linked_to_nothing(receiver, traceparent):
    with tracing.request_span(traceparent):
        pass
    tracing.flush()
    assert not receiver.wait_for(1)[0].links


def test_a_client_cannot_have_itself_sampled(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    with tracing.request_span(SAMPLED) as span:
        assert not span.is_recording()
    tracing.flush()
    assert receiver.spans == []


def test_a_request_is_over_where_it_fails(receiver):
    with pytest.raises(ValueError, match="the answer"), tracing.request_span(None):
        raise ValueError("the answer")
    tracing.flush()
    (span,) = receiver.wait_for(1)
    assert span.status.message == "ValueError"
    assert b"the answer" not in receiver.bodies


def test_without_an_address_nothing_is_imported_or_recorded():
    code = (
        "import sys\n"
        "from presafe.telemetry.part import PartAtWork\n"
        "from presafe.telemetry.tracing import part_span, request_span\n"
        "with part_span(PartAtWork('r', 's', 'p')) as rows: rows['n'] = 1\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)\n"
        "with request_span(None) as span: assert not span.is_recording()\n"
        "assert not any(name.startswith('opentelemetry.sdk') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)


def test_an_address_without_the_package_is_said_once(monkeypatch, caplog):
    monkeypatch.setenv(tracing.ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    tracing._provider.cache_clear()
    for _ in range(2):
        with tracing.request_span(SAMPLED) as span:
            assert not span.is_recording()
    tracing._provider.cache_clear()
    assert caplog.text.count("presafe[tracing] is not installed") == 1
