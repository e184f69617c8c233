"""The gateway's spans reach a collector, and the service behind it is told the trace it is part of."""

from __future__ import annotations

import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc

from ganvas.v1 import sampler_pb2 as pb
from ganvas.v1 import sampler_pb2_grpc
from serving.gateway.process import GatewayProcess
from serving.gateway.settings import GatewaySettings
from tests.support.gateway import READY_S, channel, eventually, sampler

FORGED = [("x-envoy-retry-on", "5xx"), ("x-envoy-upstream-rq-timeout-ms", "1"), ("x-ganvas-caller", "me")]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Service(sampler_pb2_grpc.SamplerServicer):
    """Remembers what it is called with."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []

    def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:
        self.metadata.append(dict(context.invocation_metadata()))
        return pb.ListModelsResponse()


def test_traces_pass_through_and_are_reported(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["transfer-encoding"] == "chunked"
            body = b""
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            bodies.append(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return None

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    service = Service()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    sampler_pb2_grpc.add_SamplerServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    gateway = GatewayProcess(
        GatewaySettings(
            port=0,
            service=[f"127.0.0.1:{port}"],
            triton_grpc=["127.0.0.1:1"],
            triton_http=["127.0.0.1:1"],
            otlp_endpoint=f"http://127.0.0.1:{collector.server_port}",
        ),
        tmp_path,
    )
    gateway.start()
    try:
        gateway.wait_ready(READY_S)
        with channel(gateway.port) as opened:
            sent = [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"), ("x-request-id", "mine"), *FORGED]
            sampler(opened).ListModels(pb.ListModelsRequest(), metadata=sent)
        # Of the span, as bytes: the messages of OTLP in xds-protos are older than what Envoy writes.
        eventually(lambda: bytes.fromhex(TRACE) in b"".join(bodies))
    finally:
        gateway.stop(1.0)
        server.stop(None)
        collector.shutdown()
        collector.server_close()
    (metadata,) = service.metadata
    assert metadata["traceparent"].split("-")[1] == TRACE
    assert metadata["x-request-id"] == "mine"
    assert metadata["x-ganvas-caller"] == "127.0.0.1"
    assert not {"x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms"} & set(metadata)
    assert bytes.fromhex(metadata["traceparent"].split("-")[2]) in b"".join(bodies)
