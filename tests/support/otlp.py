"""A collector of OpenTelemetry traces on a free port: takes OTLP by HTTP, JSON or protobuf, and keeps the spans."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import opentelemetry.proto.collector.trace.v1.trace_service_pb2 as trace_service

__all__ = ["CollectedSpan", "Collector", "running_collector"]


@dataclass(frozen=True, kw_only=True)
class CollectedSpan:
    """Ids are lower-case hex; a parent of "" is none."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


class Collector:
    """What has arrived so far."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[CollectedSpan] = []

    def take(self, content_type: str, body: bytes) -> None:
        self.spans += _of_json(json.loads(body)) if "json" in content_type else _of_protobuf(body)


@contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self._body()
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                collector.take(self.headers["Content-Type"], body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _body(self) -> bytes:
            if (length := self.headers["Content-Length"]) is not None:
                return self.rfile.read(int(length))
            chunks = []  # Envoy's come so
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _of_json(request: Any) -> list[CollectedSpan]:
    return [
        CollectedSpan(
            service=next(
                (
                    entry["value"]["stringValue"]
                    for entry in resource["resource"]["attributes"]
                    if entry["key"] == "service.name"
                ),
                "",
            ),
            name=span["name"],
            trace_id=span["traceId"].lower(),
            span_id=span["spanId"].lower(),
            parent_id=span.get("parentSpanId", "").lower(),
        )
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _of_protobuf(body: bytes) -> list[CollectedSpan]:
    """By the messages of xds-protos, an older release that calls scope_spans, field 2, by its old name."""
    messages: Any = trace_service
    request = messages.ExportTraceServiceRequest.FromString(body)
    return [
        CollectedSpan(
            service=next(
                (entry.value.string_value for entry in resource.resource.attributes if entry.key == "service.name"), ""
            ),
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
        )
        for resource in request.resource_spans
        for scope in resource.instrumentation_library_spans
        for span in scope.spans
    ]
