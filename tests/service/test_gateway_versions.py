"""What a direct call that names no version means behind the gateway: the default, by HTTP and gRPC."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ganvas_core.names import NAMES_VERSION
from serving.gateway.process import GatewayProcess
from serving.gateway.settings import GatewaySettings
from tests.support.gateway import KSERVE, MODEL, READY_S, ask, bearer, channel, grpc_web, kserve, outcome

LARGE = 3 * 2**20
"""Bytes: more than any window, so that a message comes in many pieces."""
AWAY = (
    "Failed to process the request(s), message: Stub process 'plain-gan_0_0' is not healthy.",
    "Request for unknown model: 'plain-gan' has no available versions",
)
FAILED = ("Failed to process the request(s), message: 100 % wrong",)
"""What Triton says of a model that will be back, and of one that failed."""


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Says which version each request names."""

    metadata: ClassVar[dict[str, str]] = {}
    """Of the last request."""

    def ModelInfer(self, request: Any, context: Any) -> Any:
        Triton.metadata = dict(context.invocation_metadata())
        if request.id in AWAY or request.id in FAILED:
            context.abort(
                grpc.StatusCode.NOT_FOUND if "versions" in request.id else grpc.StatusCode.INTERNAL, request.id
            )
        return service_pb2.ModelInferResponse(
            model_name=request.model_name,
            model_version=request.model_version,
            id=str(sum(map(len, request.raw_input_contents))),
        )

    def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        for request in requests:
            yield service_pb2.ModelStreamInferResponse(infer_response=self.ModelInfer(request, context))

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

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


@pytest.mark.parametrize("metadata", [[], [(NAMES_VERSION, "1")]])
def test_a_stream_of_requests_is_no_call_of_the_gateway(
    gateway: GatewayProcess, metadata: list[tuple[str, str]]
) -> None:
    with channel(gateway.port) as opened:
        stream = kserve(opened).ModelStreamInfer(iter([request_of(MODEL)]), metadata=metadata, timeout=READY_S)
        failure = outcome(lambda: list(stream))
        assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "no such call" in failure.details()
    assert (
        "grpc-status: 12" in grpc_web(gateway.port, KSERVE + "ModelStreamInfer", request_of(MODEL), dict(metadata))[1]
    )
    assert path_of(gateway, "POST", f"/v2/models/{MODEL}/generate_stream").startswith("there is no such call")


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0\0\1", b"\0\xff\xff\xff\xff\x0a", b"\0\0\0\0\x07\x0a\x09plain"])
def test_what_is_no_whole_message_is_tritons_to_refuse(gateway: GatewayProcess, body: bytes) -> None:
    sent = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    status, headers, reply = ask(gateway.port, "POST", KSERVE + "ModelInfer", body, sent)
    assert status == 200
    assert headers.get("grpc-status") != "0"
    assert b"grpc-status:0" not in reply
    assert "script" not in gateway.log_tail()


def test_of_several_messages_of_one_call_the_first_alone_is_taken(gateway: GatewayProcess) -> None:
    with channel(gateway.port) as opened:
        call = opened.stream_unary(
            KSERVE + "ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        sent = [request_of(MODEL, size=LARGE), request_of("other", "9")]
        reply = call(iter(sent), timeout=READY_S)
    assert (reply.model_name, reply.model_version, reply.id) == (MODEL, "3", str(LARGE))


def test_the_default_changes_while_the_gateway_runs(gateway: GatewayProcess) -> None:
    with channel(gateway.port) as opened:
        gateway.update(default_versions={MODEL: 4})
        assert kserve(opened).ModelInfer(request_of(MODEL), timeout=READY_S).model_version == "4"
        gateway.update(default_versions=None)
        assert kserve(opened).ModelInfer(request_of(MODEL), timeout=READY_S).model_version == ""
        gateway.update(default_versions={MODEL: 3})


@pytest.mark.parametrize("message", [*AWAY, *FAILED])
def test_a_model_that_will_be_back_is_unavailable(gateway: GatewayProcess, message: str) -> None:
    request = service_pb2.ModelInferRequest(model_name=MODEL, id=message)
    with channel(gateway.port) as opened, pytest.raises(grpc.RpcError) as caught:
        kserve(opened).ModelInfer(request, timeout=READY_S)
    status = grpc.StatusCode.UNAVAILABLE if message in AWAY else grpc.StatusCode.INTERNAL
    assert (caught.value.code(), caught.value.details()) == (status, message)
    assert f"grpc-status: {status.value[0]}" in grpc_web(gateway.port, KSERVE + "ModelInfer", request)[1]


def test_a_call_that_says_that_it_names_its_version_is_passed_on_as_it_is(gateway: GatewayProcess) -> None:
    says = [(NAMES_VERSION, "1")]
    with channel(gateway.port) as opened:
        for version in ("2", ""):
            reply = kserve(opened).ModelInfer(request_of(MODEL, version), metadata=says, timeout=READY_S)
            assert reply.model_version == version


def test_direct_calls_are_turned_away_while_the_gateway_drains_and_health_goes_on(gateway: GatewayProcess) -> None:
    words = "the server is stopping"
    gateway.drain()
    gateway.update(default_versions={MODEL: 5})  # what changes meanwhile lets nobody in
    try:
        with channel(gateway.port) as opened:
            for call in (
                lambda: kserve(opened).ModelInfer(request_of(MODEL)),
                lambda: kserve(opened).ModelInfer(request_of(MODEL, "2"), metadata=[(NAMES_VERSION, "1")]),
                lambda: kserve(opened).ModelMetadata(service_pb2.ModelMetadataRequest(name=MODEL)),
            ):
                failure = outcome(call)
                assert failure.code() is grpc.StatusCode.UNAVAILABLE
                assert words in failure.details()
            assert kserve(opened).ServerLive(service_pb2.ServerLiveRequest(), timeout=READY_S).live
        assert "grpc-status: 14" in grpc_web(gateway.port, KSERVE + "ModelInfer", request_of(MODEL))[1]
        model = f"/v2/models/{MODEL}"
        for method, path in (("POST", f"{model}/infer"), ("GET", model), ("GET", f"{model}/versions/3/ready")):
            status, _, body = ask(gateway.port, method, path)
            assert (status, body.decode().startswith(words)) == (503, True)
        assert path_of(gateway, "GET", "/v2/health/live") == "/v2/health/live"
    finally:
        gateway.update(draining=False, default_versions={MODEL: 3})
    with channel(gateway.port) as opened:
        assert kserve(opened).ModelInfer(request_of(MODEL), timeout=READY_S).model_version == "3"


def test_without_keys_a_caller_cannot_name_itself_either(gateway: GatewayProcess) -> None:
    sent = [("x-ganvas-caller", "somebody"), ("x-ganvas-cluster", "triton-http"), ("x-api-key", "1"), *bearer("2")]
    with channel(gateway.port) as opened:
        kserve(opened).ModelInfer(request_of(MODEL), metadata=sent, timeout=READY_S)
    seen = Triton.metadata
    assert seen["x-ganvas-caller"] == "127.0.0.1"
    assert not seen.keys() & {"x-ganvas-cluster", "x-api-key", "authorization"}
