"""What a direct call that names no version means behind the gateway: the default, by HTTP and gRPC, in streams too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.gateway.process import GatewayProcess
from serving.gateway.settings import GatewaySettings
from tests.support.gateway import MODEL, READY_S, ask, channel, kserve

LARGE = 3 * 2**20
"""Bytes: more than any window, so that a message comes in many pieces."""


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Says which version each request names."""

    def ModelInfer(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelInferResponse(
            model_name=request.model_name,
            model_version=request.model_version,
            id=str(sum(map(len, request.raw_input_contents))),
        )

    def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        for request in requests:
            yield service_pb2.ModelStreamInferResponse(infer_response=self.ModelInfer(request, context))

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelMetadataResponse(name=request.name, versions=[request.version])


class Paths(BaseHTTPRequestHandler):
    """Says which path each request has."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    by_grpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), by_grpc)
    port = by_grpc.add_insecure_port("127.0.0.1:0")
    by_grpc.start()
    by_http = ThreadingHTTPServer(("127.0.0.1", 0), Paths)
    by_http.daemon_threads = True
    thread = threading.Thread(target=by_http.serve_forever, args=(0.05,))
    thread.start()
    settings = GatewaySettings(
        port=0,
        triton_grpc=[f"127.0.0.1:{port}"],
        triton_http=[f"127.0.0.1:{by_http.server_address[1]}"],
        default_versions={MODEL: 3},
    )
    made = GatewayProcess(settings, tmp_path_factory.mktemp("gateway"))
    made.start()
    try:
        made.wait_ready(READY_S)
        yield made
    finally:
        made.stop(0)
        by_http.shutdown()
        thread.join()
        by_http.server_close()
        by_grpc.stop(0).wait()


def request_of(name: str, version: str = "", size: int = 8) -> Any:
    return service_pb2.ModelInferRequest(model_name=name, model_version=version, raw_input_contents=[bytes(size)])


def path_of(gateway: GatewayProcess, method: str, path: str) -> str:
    return ask(gateway.port, method, path, b"{}" if method == "POST" else b"")[2].decode()


def test_a_path_without_a_version_gets_the_default(gateway: GatewayProcess) -> None:
    assert path_of(gateway, "POST", f"/v2/models/{MODEL}/infer") == f"/v2/models/{MODEL}/versions/3/infer"
    assert path_of(gateway, "GET", f"/v2/models/{MODEL}/config?x=1") == f"/v2/models/{MODEL}/versions/3/config?x=1"
    assert path_of(gateway, "GET", f"/v2/models/{MODEL}") == f"/v2/models/{MODEL}/versions/3"
    assert path_of(gateway, "POST", f"/v2/models/{MODEL}/versions/2/infer") == f"/v2/models/{MODEL}/versions/2/infer"
    assert path_of(gateway, "POST", "/v2/models/not-proven/infer") == "/v2/models/not-proven/versions/0/infer"
    assert path_of(gateway, "GET", "/v2/health/live") == "/v2/health/live"


@pytest.mark.parametrize("size", [0, 8, LARGE])
@pytest.mark.parametrize(
    ("name", "version", "meant"), [(MODEL, "", "3"), (MODEL, "2", "2"), ("not-proven", "", "0"), ("", "", "0")]
)
def test_a_grpc_request_without_a_version_gets_the_default(
    gateway: GatewayProcess, name: str, version: str, meant: str, size: int
) -> None:
    with channel(gateway.port) as opened:
        reply = kserve(opened).ModelInfer(request_of(name, version, size), timeout=READY_S)
        assert (reply.model_name, reply.model_version, reply.id) == (name, meant, str(size))
        metadata = service_pb2.ModelMetadataRequest(name=MODEL, version=version)
        assert kserve(opened).ModelMetadata(metadata, timeout=READY_S).versions == [version or "3"]


def test_every_message_of_a_stream_gets_the_default(gateway: GatewayProcess) -> None:
    sizes = [8, LARGE, 0, 1, LARGE, 8, *range(100)]
    sent = [request_of(MODEL, "2" if size == 1 else "", size) for size in sizes]
    with channel(gateway.port) as opened:
        replies = [it.infer_response for it in kserve(opened).ModelStreamInfer(iter(sent), timeout=READY_S)]
    assert [(reply.model_version, int(reply.id)) for reply in replies] == [
        ("2" if size == 1 else "3", size) for size in sizes
    ]


def test_the_default_changes_while_the_gateway_runs(gateway: GatewayProcess) -> None:
    with channel(gateway.port) as opened:
        gateway.update(default_versions={MODEL: 4})
        assert kserve(opened).ModelInfer(request_of(MODEL), timeout=READY_S).model_version == "4"
        gateway.update(default_versions=None)
        assert kserve(opened).ModelInfer(request_of(MODEL), timeout=READY_S).model_version == ""
        gateway.update(default_versions={MODEL: 3})
