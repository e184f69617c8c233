"""What a load balancer hears from the gateway: it is ready while the service and Triton are, and asks for no key."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.gateway.process import GatewayProcess
from serving.gateway.settings import GatewaySettings
from tests.support.gateway import READY_S, ask, eventually

READY = "/v2/health/ready"
JSON = {"Content-Type": "application/json"}
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Behind:
    """A service that answers for its health alone, and a Triton that does."""

    def __init__(self, triton: ThreadingHTTPServer) -> None:
        self.health = health.HealthServicer()
        self.triton_status = 200
        self.triton = f"127.0.0.1:{triton.server_address[1]}"
        self._server = grpc.server(ThreadPoolExecutor(4))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.service = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def kill_service(self) -> None:
        self._server.stop(0).wait()


@contextmanager
def running_behind() -> Iterator[Behind]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(both.triton_status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    triton = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    triton.daemon_threads = True
    both = Behind(triton)
    thread = threading.Thread(target=triton.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield both
    finally:
        both.kill_service()
        triton.shutdown()
        thread.join()
        triton.server_close()


@pytest.fixture
def behind() -> Iterator[Behind]:
    with running_behind() as made:
        yield made


@pytest.fixture
def port(behind: Behind, tmp_path: Path) -> Iterator[int]:
    """Of a gateway that asks for keys, none of which there is."""
    settings = GatewaySettings(
        port=0, service=[behind.service], triton_grpc=[behind.triton], triton_http=[behind.triton], keys=[]
    )
    gateway = GatewayProcess(settings, tmp_path / "gateway")
    gateway.start()
    try:
        gateway.wait_ready(READY_S)
        yield gateway.port
    finally:
        gateway.stop(0)


def becomes(port: int, status: int) -> None:
    for method in ("GET", "HEAD"):
        eventually(lambda method=method: ask(port, method, READY)[0] == status)  # type: ignore[misc]


def test_ready_means_that_both_the_service_and_triton_are(behind: Behind, port: int) -> None:
    becomes(port, 200)
    behind.triton_status = 503
    becomes(port, 503)
    eventually(lambda: ask(port, "GET", f"{READY}?x=1")[2].startswith(b"not ready"))
    behind.triton_status = 200
    becomes(port, 200)
    behind.health.set("", NOT_SERVING)
    becomes(port, 503)
    behind.health.set("", SERVING)
    becomes(port, 200)
    behind.kill_service()
    becomes(port, 503)


def test_health_is_json_by_http_with_a_status_of_its_own(port: int) -> None:
    path = "/grpc.health.v1.Health/Check"
    eventually(lambda: ask(port, "POST", path, b"{}", JSON)[0] == 200)
    eventually(lambda: json.loads(ask(port, "POST", path, b"{}", JSON)[2]) == {"status": "SERVING"})
    assert ask(port, "POST", path, b'{"service": "nobody"}', JSON)[0] == 404
    assert ask(port, "POST", path, b'{"service":', JSON)[0] == 400
