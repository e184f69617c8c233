"""Spans on their way to the collector, counted. Only tracing.py imports this, and only where calls are traced."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

__all__ = ["CountingExporter", "CountingProcessor"]


class CountingExporter(SpanExporter):
    """Counts the spans that a collector has taken."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.sent = 0
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class CountingProcessor(BatchSpanProcessor):
    """Counts the spans that are to be sent; those that the queue has no room for are among them."""

    ended = 0

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self.ended += 1
        super().on_end(span)
