"""Traces of jobs and uploads, by OpenTelemetry, where ``TRACING_ENABLED`` is set.

A job has one trace, from the request that asks for it to its last step and its webhooks; an upload
has one to its inspection. The request's ``traceparent`` is where it begins; the row keeps it for
the worker, as nudges may be lost.
OpenTelemetry is an extra (``planish[otel]``) and is imported by ``configure`` alone: without it, a
span is an empty context.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from app.domain.problems import Unavailable
from app.settings import Tracing

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

Kind = Literal["internal", "server", "producer", "consumer", "client"]
Attributes = Mapping[str, str | int | float | bool]

_SECOND = 1_000_000_000


class _Process:
    """The tracer of this process; None where nothing is traced."""

    tracer: "Tracer | None" = None


def configure(settings: Tracing, part: str, processor: "SpanProcessor | None" = None) -> None:
    """Begin to trace in this process, if that is enabled.

    Args:
        settings: Whether to trace. Where to, and how many of all traces, is said by the variables
            of OpenTelemetry, such as ``OTEL_EXPORTER_OTLP_ENDPOINT`` and ``OTEL_TRACES_SAMPLER``.
        part: The part of the service, such as ``gateway``.
        processor: What takes the spans; by default they are sent by OTLP over HTTP, in batches.

    Raises:
        Unavailable: OpenTelemetry is not installed.
    """
    if not settings.enabled:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise Unavailable(
            "TRACING_ENABLED is set, and OpenTelemetry is not installed: run"
            " pip install 'planish[otel]', or unset TRACING_ENABLED."
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": f"planish-{part}"}))
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    _Process.tracer = provider.get_tracer("planish")


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    attributes: Attributes | None = None,
) -> Iterator[None]:
    """Trace the block as one span; an exception is noted in it.

    Args:
        name: What is done.
        kind: Whether the block serves or sends a request, sends a message, or does what a message
            asked.
        parent: The ``traceparent`` of its parent; by default the span that is open here.
        attributes: What else is to be known of it.
    """
    if _Process.tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind

    with _Process.tracer.start_as_current_span(
        name,
        _context(parent) if parent else None,
        SpanKind[kind.upper()],
        attributes,
    ):
        yield


def rename(name: str) -> None:
    """Rename the span that is open here: the route of a request is known late."""
    if _Process.tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().update_name(name)


def note(attributes: Attributes) -> None:
    """Add to what is known of the span that is open here."""
    if _Process.tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(attributes)


def ended(name: str, seconds: float, attributes: Attributes | None = None) -> None:
    """Trace what has just ended, and took some seconds, as a child of the span that is open."""
    if _Process.tracer is None:
        return
    end = time.time_ns()
    start = end - int(seconds * _SECOND)
    _Process.tracer.start_span(name, attributes=attributes, start_time=start).end(end)


def here() -> str | None:
    """Return the ``traceparent`` of the span that is open here; None where nothing is traced."""
    if _Process.tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _context(parent: str) -> "Context":
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})
