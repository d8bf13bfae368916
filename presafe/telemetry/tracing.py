"""Traces of a run's parts and of the endpoint's requests, by OpenTelemetry over OTLP/HTTP.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT says where they go and `presafe[tracing]` is installed. They hold names, times
and counts; no text of a prompt, an answer or an error. Ray's own traces are left alone: its hook for tasks asks for a
provider of the whole process, and Ray Serve's let a client's `traceparent` say whether it is sampled.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from presafe import __version__
from presafe.telemetry.part import PartAtWork

if TYPE_CHECKING:  # imported where traces are wanted: half a second
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

logger = logging.getLogger("presafe")

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
FLUSH_MS = 5000


@contextmanager
def part_span(part: PartAtWork) -> Iterator[dict[str, int]]:
    """A span of the part while the body runs, which notes the part's row counts in the dictionary."""
    rows: dict[str, int] = {}
    if (provider := _provider()) is None:
        yield rows
        return
    from opentelemetry.trace import Status, StatusCode

    tracer = provider.get_tracer("presafe", __version__)
    attributes = {"presafe.run": part.run, "presafe.stage": part.stage, "presafe.part": part.part}
    with tracer.start_as_current_span(
        f"{part.stage}.{part.part}", attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield rows
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        span.set_attributes({f"presafe.rows.{name}": count for name, count in rows.items()})


@contextmanager
def request_span(traceparent: str | None) -> Iterator["Span"]:
    """A span of a request while the body runs; one that records nothing where traces are off.

    The client's `traceparent` is linked to and nothing more: whether the request is sampled is OTEL_TRACES_SAMPLER's
    to say, and its trace is one of its own.
    """
    from opentelemetry.context import Context
    from opentelemetry.trace import INVALID_SPAN, Link, SpanKind, Status, StatusCode, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if (provider := _provider()) is None:
        yield INVALID_SPAN
        return
    carrier = {} if traceparent is None else {"traceparent": traceparent}
    client = get_current_span(TraceContextTextMapPropagator().extract(carrier, Context())).get_span_context()
    span = provider.get_tracer("presafe", __version__).start_span(
        "chat", Context(), SpanKind.SERVER, links=[Link(client)] if client.is_valid else []
    )
    try:
        yield span
    except BaseException as error:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        span.end()


def flush() -> None:
    """Send what there is, of a process that may be ended before its exit handlers run."""
    if (provider := _provider()) is not None:
        provider.force_flush(FLUSH_MS)


@cache
def _provider() -> "TracerProvider | None":
    """This package's own: the process's belongs to whoever sets it first. None where traces are off."""
    if not os.environ.get(ENDPOINT):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        logger.warning("%s is set, but presafe[tracing] is not installed: there will be no traces", ENDPOINT)
        return None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "presafe")})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
