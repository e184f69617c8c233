"""A span for each call, if the application uses OpenTelemetry: the service's spans become its children."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["span"]


@contextmanager
def span(rpc: str, address: str) -> Iterator[tuple[tuple[str, str], ...]]:
    """A client span around a call.

    Yields:
        What to send along with the call, so that the service continues the trace (W3C's traceparent). Nothing, for
        nothing, in an application that never imported OpenTelemetry.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield ()
        return
    import opentelemetry.propagate as propagate
    import opentelemetry.trace as trace

    attributes = {
        "rpc.system": "grpc",
        "rpc.service": "ganvas.v1.Sampler",
        "rpc.method": rpc,
        "server.address": address,
    }
    tracer = trace.get_tracer("ganvas_client")
    started = tracer.start_span(f"ganvas.v1.Sampler/{rpc}", kind=trace.SpanKind.CLIENT, attributes=attributes)
    try:
        headers: dict[str, str] = {}
        propagate.inject(headers, trace.set_span_in_context(started))
        yield tuple(headers.items())
    except Exception as error:
        started.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
        raise
    finally:
        started.end()
