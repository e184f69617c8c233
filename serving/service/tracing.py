"""Spans of a call, sent to an OpenTelemetry collector: the call, its wait, each batch in Triton, and its files.

A call continues the trace that its caller or the gateway began (W3C's traceparent), and Triton continues ours. Without
--otlp-endpoint nothing of OpenTelemetry is imported, and a call's trace is None.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

__all__ = ["Trace", "Tracing", "part_of"]

SCOPE = "ganvas.service"
TRACEPARENT = "traceparent"
SEND_EVERY_MS = 1000.0
CLOSE_S = 0.8


class Tracing:
    """Sends spans, in a thread of its own.

    Args:
        endpoint: http://host:port of a collector that takes OTLP by HTTP.
        fraction: of the calls that bring no trace of their own.
    """

    def __init__(self, endpoint: str, fraction: float) -> None:
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        from serving.service.spans import CountingExporter, CountingProcessor

        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create({"service.name": "ganvas-service"}),
            sampler=ParentBased(TraceIdRatioBased(fraction)),
            shutdown_on_exit=False,
        )
        self._exporter = CountingExporter(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"))
        self._processor = CountingProcessor(self._exporter, schedule_delay_millis=SEND_EVERY_MS)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer(SCOPE)

    def start(self, method: str, traceparent: str, request_id: str) -> Trace:
        """The trace of a call that has come."""
        return Trace(self._tracer, method, traceparent, request_id)

    def close(self) -> int:
        """Send what is left, for at most CLOSE_S; returns how many of all spans the collector has not taken."""
        # A daemon: it would wait and try again for many seconds more.
        sending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(CLOSE_S)
        return self._processor.ended - self._exporter.sent


class Trace:
    """The spans of one call."""

    def __init__(self, tracer: Tracer, method: str, traceparent: str, request_id: str) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": "ganvas.v1.Sampler",
            "rpc.method": method,
            "ganvas.request_id": request_id,
        }
        parent = self._propagator.extract({TRACEPARENT: traceparent})
        name = f"ganvas.v1.Sampler/{method}"
        self._root = tracer.start_span(name, context=parent, kind=SpanKind.SERVER, attributes=attributes)

    @contextmanager
    def part(self, name: str, **attributes: str | int) -> Iterator[tuple[tuple[str, str], ...]]:
        """A span around some work of the call; gives what to send along, so that another process continues it."""
        span = self._begin(name, attributes)
        try:
            headers: dict[str, str] = {}
            self._propagator.inject(headers, self._context(span))
            yield tuple(headers.items())
        finally:
            span.end()

    def add(self, name: str, duration_s: float) -> None:
        """A span of something that has just ended."""
        now = time.time_ns()
        span = self._begin(name, {}, start_time=now - int(duration_s * 1e9))
        span.end(now)

    def end(self, code: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._root.set_attribute("rpc.grpc.status", code)
        if code != "OK":
            self._root.set_status(Status(StatusCode.ERROR, code))
        self._root.end()

    def _begin(self, name: str, attributes: dict[str, str | int], start_time: int | None = None) -> Span:
        context = self._context(self._root)
        return self._tracer.start_span(name, context=context, attributes=attributes, start_time=start_time)

    def _context(self, span: Span) -> Context:
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(span)


@contextmanager
def part_of(trace: Trace | None, name: str, **attributes: str | int) -> Iterator[tuple[tuple[str, str], ...]]:
    """Trace.part, if the call is traced."""
    if trace is None:
        yield ()
        return
    with trace.part(name, **attributes) as headers:
        yield headers
