"""The gateway before the real service and Triton: what it lets through, and that nothing else gets there."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.soak.fuzz.raw import HEADERS, POST, PREFACE, RST_STREAM, SETTINGS, frame
from ganvas.v1 import sampler_pb2 as pb
from tests.support.gateway import (
    KSERVE,
    MODEL,
    READY_S,
    SAMPLER,
    ask,
    channel,
    code_of,
    eventually,
    grpc_web,
    images_by_sampler,
    infer_json,
    infer_request,
    kserve,
    outcome,
    running_gateway,
    sampled,
    sampler,
    stream_request,
    trailer,
)
from tests.support.serve import Serve, running_serve
from tests.support.service import sample_request

pytestmark = [pytest.mark.triton, pytest.mark.slow]

JSON = {"Content-Type": "application/json"}
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
LISTED = {f"{SAMPLER}{method}": "POST" for method in pb.DESCRIPTOR.services_by_name["Sampler"].methods_by_name}
NOT_LISTED = (
    "/",
    "/metrics",
    "/stats",
    "/v2/repository/index",
    f"/v2/repository/models/{MODEL}/load",
    f"/v2/repository/models/{MODEL}/unload",
    "/v2/systemsharedmemory/status",
    "/v2/systemsharedmemory/region/x/register",
    "/v2/systemsharedmemory/unregister",
    "/v2/cudasharedmemory/status",
    "/v2/cudasharedmemory/region/x/register",
    "/v2/trace/setting",
    f"/v2/models/{MODEL}/trace/setting",
    "/v2/logging",
    "/v2/models/stats",
    f"/v2/models/{MODEL}/stats",
    f"/v2/models/{MODEL}/versions/1/stats",
    f"/v2/models/{MODEL}/generate",
    f"/v2/models/{MODEL}/generate_stream",
    f"/v2/models/{MODEL}/versions/1/generate",
    f"{KSERVE}RepositoryIndex",
    "/ganvas.v1.Sampler/Other",
    "/ganvas.v1.Other/Sample",
)
DISGUISED = (
    "//v2/repository/index",
    "/v2/./repository/index",
    f"/v2/models/{MODEL}/../../repository/index",
    f"/v2/models/{MODEL}/%2e%2e/%2e%2e/repository/index",
    "/v2%2frepository/index",
    "/v2/models/..%2f..%2frepository%2findex",
    "/V2/repository/index",
    "/v2/repository/index?x=/v2/health/live",
    "/v2/health/live/../../repository/index",
    "/v2/health/live;/../../repository/index",
)


@pytest.fixture(scope="module")
def repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small model."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("plain-gan", "plain-gan-decode"):
        shutil.copytree(model_repository / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def serve(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("serve")
    with running_serve(repository, folder, f"--log-dir={folder / 'logs'}") as running:
        yield running


@pytest.fixture(scope="module")
def port(serve: Serve) -> int:
    return int(serve.ready["service"].rpartition(":")[2])


def test_every_kind_of_client_gets_the_same_bytes(port: int) -> None:
    wanted = images_by_sampler(port)
    with channel(port) as opened:
        reply = kserve(opened).ModelInfer(infer_request([5, 6, 7, 8]))
        assert reply.raw_output_contents[0] == b"".join(wanted)
    status, _, body = ask(port, "POST", f"/v2/models/{MODEL}/infer", infer_json([5, 6, 7, 8]))
    assert status == 200
    assert body.endswith(b"".join(wanted))
    data, trailers = grpc_web(port, f"{SAMPLER}Sample", sample_request(4, model=MODEL, first=5))
    assert "grpc-status: 0" in trailers
    assert [image.data for image in pb.SampleResponse.FromString(data).images] == wanted


def test_the_typed_calls_are_json_by_http_too(port: int) -> None:
    body = json.dumps({"model": MODEL, "range": {"first": "5", "count": "4"}}).encode()
    status, _, reply = ask(port, "POST", f"{SAMPLER}Sample", body, JSON)
    assert status == 200
    images = json.loads(reply)["images"]
    assert [base64.b64decode(image["data"]) for image in images] == images_by_sampler(port)
    status, _, reply = ask(port, "POST", f"{SAMPLER}SampleStream", body, JSON)
    assert status == 200
    lines = [json.loads(line) for line in reply.splitlines()]
    assert sum(len(line["images"]) for line in lines) == 4
    status, _, reply = ask(port, "POST", f"{SAMPLER}GetModel", b'{"model": "nobody"}', JSON)
    assert (status, json.loads(reply)["code"]) == (404, grpc.StatusCode.NOT_FOUND.value[0])
    # Envoy's transcoder drops fields that it does not know, as docs/protocol.md says, but no query parameters.
    unknown = body[:-1] + b', "trunkation": 0.5}'
    assert ask(port, "POST", f"{SAMPLER}Sample", unknown, JSON)[0] == 200
    assert ask(port, "POST", f"{SAMPLER}Sample?trunkation=0.5", body, JSON)[0] == 400
    for broken in (b"{", b"[" * 200_000, b'{"model":' + b"[" * 200_000, b'{"range": 3}'):
        assert ask(port, "POST", f"{SAMPLER}Sample", broken, JSON)[0] == 400
    assert ask(port, "POST", f"{SAMPLER}Sample", body, {**JSON, "Content-Encoding": "gzip"})[0] == 415


def test_what_a_client_needs_is_there(port: int) -> None:
    for path in ("/v2", "/v2/health/live", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/ready"):
        assert ask(port, "GET", path)[0] == 200, path
    eventually(lambda: ask(port, "GET", "/v2/health/ready")[0] == 200)  # once the gateway has probed them again
    assert ask(port, "GET", f"/v2/models/{MODEL}/versions/1/config")[0] == 200
    with channel(port) as opened:
        health = health_pb2_grpc.HealthStub(opened)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        direct = kserve(opened)
        assert direct.ServerLive(service_pb2.ServerLiveRequest()).live
        assert direct.ModelReady(service_pb2.ModelReadyRequest(name=MODEL)).ready
        assert direct.ModelConfig(service_pb2.ModelConfigRequest(name=MODEL)).config.max_batch_size
        assert direct.ModelMetadata(service_pb2.ModelMetadataRequest(name=MODEL)).name == MODEL


@pytest.mark.parametrize("method", METHODS)
def test_nothing_else_is_there_for_any_method(port: int, method: str) -> None:
    for path in NOT_LISTED:
        assert ask(port, method, path, b"{}" if method == "POST" else b"")[0] in (403, 404), path
    for path in DISGUISED:
        assert ask(port, method, path)[0] in (400, 403, 404), path


def test_what_is_listed_is_there_for_its_own_method_alone(port: int) -> None:
    paths = {**LISTED, f"{KSERVE}ModelInfer": "POST", f"/v2/models/{MODEL}/infer": "POST", "/v2/health/live": "GET"}
    for path, right in paths.items():
        for method in METHODS:
            if method != right:
                assert ask(port, method, path)[0] in (403, 404), (method, path)


def test_connect_opens_no_tunnel(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), READY_S) as connection:
        connection.sendall(b"CONNECT 127.0.0.1:8001 HTTP/1.1\r\nHost: 127.0.0.1:8001\r\n\r\n")
        status = connection.recv(1024).split(b" ")[1]
    assert status in (b"403", b"404")


def test_every_other_method_of_tritons_grpc_is_unimplemented(port: int) -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    closed = set(service.methods_by_name) - {
        *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig"),
        "ModelInfer",
    }
    assert {"RepositoryModelLoad", "SystemSharedMemoryRegister", "TraceSetting", "ModelStreamInfer"} <= closed
    with channel(port) as opened:
        for method in closed:
            call = opened.unary_unary(
                KSERVE + method,
                request_serializer=empty_pb2.Empty.SerializeToString,
                response_deserializer=empty_pb2.Empty.FromString,
            )
            failure = outcome(functools.partial(call, empty_pb2.Empty(), timeout=READY_S))
            assert failure.code() is grpc.StatusCode.UNIMPLEMENTED, method
            assert "no such call" in failure.details()


def test_triton_cannot_be_taken_over(port: int, tmp_path: Path) -> None:
    proof = tmp_path / "taken"
    code = f"import pathlib; pathlib.Path({str(proof)!r}).touch()"
    load = {"parameters": {"config": json.dumps({"backend": "python"}), "file:1/model.py": code}}
    assert ask(port, "POST", "/v2/repository/models/evil/load", json.dumps(load).encode())[0] == 404
    assert ask(port, "POST", f"/v2/repository/models/{MODEL}/unload", b"{}")[0] == 404
    assert not proof.exists()
    assert images_by_sampler(port)


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"inputs":' + b"[" * 200_000, b'{"a":"\\"]",' + b'"b":{' * 100])
def test_nested_json_never_reaches_triton(port: int, serve: Serve, content: bytes) -> None:
    before = json.loads(serve.ready_file.read_text())["triton_pid"]
    status, _, body = ask(port, "POST", f"/v2/models/{MODEL}/infer", content)
    assert (status, body) == (400, b"the JSON is nested deeper than 32 levels.")
    length = {"Inference-Header-Content-Length": str(len(content))}
    assert ask(port, "POST", f"/v2/models/{MODEL}/infer", content + b"\0" * 8, length)[0] == 400
    assert images_by_sampler(port)
    assert json.loads(serve.ready_file.read_text())["triton_pid"] == before


def test_brackets_inside_strings_and_closed_ones_do_not_count(port: int) -> None:
    text = json.dumps({"id": "[" * 100 + '"\\', "inputs": [[] for _ in range(100)]}).encode()
    status, _, body = ask(port, "POST", f"/v2/models/{MODEL}/infer", text)
    assert status == 400
    assert b"nested" not in body  # Triton's own answer: these are no inputs


@pytest.mark.parametrize("wrong", [{"name": 3}, {"shape": 1}])
def test_a_field_of_the_wrong_kind_is_the_requests_fault(port: int, wrong: dict[str, int]) -> None:
    tensor = {"name": "seed", "datatype": "UINT64", "shape": [1, 1], "data": [1]}
    body = json.dumps({"inputs": [tensor | wrong]}).encode()
    status, _, reply = ask(port, "POST", f"/v2/models/{MODEL}/infer", body)
    assert (status, reply[:25]) == (400, b'{"error":"Unable to parse')


@pytest.mark.parametrize("value", ["-1", "x", "99999999", "1, 2"])
def test_a_wrong_length_of_the_json_is_refused_at_the_gateway(port: int, value: str) -> None:
    headers = {"Inference-Header-Content-Length": value}
    status, _, body = ask(port, "POST", f"/v2/models/{MODEL}/infer", b"{}", headers)
    assert status == 400
    assert body.startswith(b"Inference-Header-Content-Length")


def test_a_compressed_request_is_refused(port: int) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    for encoding in ("gzip", "deflate", "br"):
        headers = {"Content-Encoding": encoding}
        assert ask(port, "POST", f"/v2/models/{MODEL}/infer", bomb, headers)[0] == 415
    assert ask(port, "POST", f"/v2/models/{MODEL}/infer", infer_json([5]), {"Content-Encoding": "identity"})[0] == 200
    with channel(port) as opened:
        for call in (
            lambda: kserve(opened).ModelInfer(infer_request([5]), compression=grpc.Compression.Gzip),
            lambda: sampler(opened).Sample(stream_request(1), compression=grpc.Compression.Gzip),
        ):
            failure = outcome(call)
            assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
            assert "compressed" in failure.details()


def test_a_request_that_is_too_large_is_refused_with_words(serve: Serve, tmp_path: Path) -> None:
    with running_gateway(serve, tmp_path, max_direct_bytes=50_000, max_sample_bytes=10_000) as gateway:
        with channel(gateway.port) as opened:
            large = infer_request([5])
            large.raw_input_contents.append(b"\0" * 100_000)
            for call in (
                lambda: kserve(opened).ModelInfer(large),
                lambda: sampler(opened).GetModel(pb.GetModelRequest(model="x" * 20_000)),
            ):
                failure = outcome(call)
                assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "larger than the limit of this call" in failure.details()
            # What is uploaded to the service has the service's own bound.
            images = pb.EncodeRequest(model="none", images=[b"\0" * 1_000_000])
            assert code_of(lambda: sampler(opened).Encode(images)) is grpc.StatusCode.NOT_FOUND
        assert ask(gateway.port, "POST", f"/v2/models/{MODEL}/infer", b" " * 100_000)[0] == 413


class Holding(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A Triton that answers when it is told to."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.let_go = threading.Event()

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.inside.release()
        self.let_go.wait(READY_S)
        return service_pb2.ModelInferResponse(model_name=request.model_name)


def test_direct_requests_beyond_the_bound_are_refused_with_a_hint(serve: Serve, tmp_path: Path) -> None:
    triton, server = Holding(), grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    address = [f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"]
    server.start()
    with (
        running_gateway(serve, tmp_path, max_direct_requests=2, triton_grpc=address) as gateway,
        channel(gateway.port) as opened,
    ):
        infer = kserve(opened).ModelInfer
        held = [infer.future(infer_request([1])) for _ in range(2)]
        assert all(triton.inside.acquire(timeout=READY_S) for _ in held)
        for _ in range(10):
            failure = outcome(lambda: infer(infer_request([1])))
            assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert trailer(failure, "grpc-retry-pushback-ms") == "500"
        triton.let_go.set()
        assert [call.result().model_name for call in held] == [MODEL] * 2
        eventually(lambda: code_of(lambda: infer(infer_request([1]))) is grpc.StatusCode.OK)
    server.stop(None).wait()


def test_what_is_away_is_unavailable_and_comes_back(serve: Serve, tmp_path: Path) -> None:
    nobody = [str(tmp_path / "nobody.sock")]
    with running_gateway(serve, tmp_path, service=nobody) as gateway, channel(gateway.port) as opened:
        failure = outcome(lambda: sampler(opened).Sample(stream_request(1)))
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert "Try again" in failure.details()
        assert kserve(opened).ModelInfer(infer_request([5])).outputs
        gateway.update(service=[next(map(str, serve.ready_file.parent.glob("ganvas-serve-*/service.sock")))])
        eventually(lambda: sampled(opened) is grpc.StatusCode.OK)  # once the new address was probed


def test_a_request_id_is_kept_or_made_and_comes_back(port: int, serve: Serve) -> None:
    mine = "0d4f8f0a-7a39-4b1e-9a53-0a2f6e1c9d11"
    with channel(port) as opened:
        _, call = sampler(opened).Sample.with_call(stream_request(1), metadata=[("x-request-id", mine)])
        assert dict(call.initial_metadata())["x-request-id"] == mine
        _, call = sampler(opened).Sample.with_call(stream_request(1))
        assert len(dict(call.initial_metadata())["x-request-id"]) == 36
    log = serve.ready_file.parent / "logs" / "gateway.log"
    eventually(lambda: any(mine in line and line.endswith("}") for line in log.read_text().splitlines()))
    line = json.loads(next(line for line in log.read_text().splitlines() if mine in line and line.endswith("}")))
    assert (line["path"], line["status"], line["grpc_status"]) == (f"{SAMPLER}Sample", 200, "OK")


def test_slow_clients_are_ended_and_connections_have_a_bound(serve: Serve, tmp_path: Path) -> None:
    with running_gateway(serve, tmp_path, stream_idle_s=1.0, max_connections=8) as gateway:
        with channel(gateway.port) as opened:
            # A reply that nobody reads fills the windows, then nothing moves.
            stream = sampler(opened).SampleStream(stream_request(60_000))
            next(stream)
            timeouts = "^http.gateway.downstream_rq_idle_timeout$"
            eventually(lambda: gateway.admin.stats(timeouts).popitem()[1] > 0)
            assert code_of(lambda: list(stream)) is not grpc.StatusCode.OK
            eventually(lambda: sampled(opened) is grpc.StatusCode.OK)  # within a second without a byte
        idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(20)]
        try:
            for connection in idle:
                connection.setblocking(False)
            eventually(lambda: sum(map(_is_closed, idle)) >= 12)
        finally:
            for connection in idle:
                connection.close()
        eventually(lambda: ask(gateway.port, "GET", "/v2/health/live")[0] == 200)


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_gateway_short_of_memory_refuses_with_a_hint(serve: Serve, tmp_path: Path) -> None:
    with running_gateway(serve, tmp_path, max_heap_bytes=2**20) as gateway, channel(gateway.port) as opened:
        eventually(lambda: sampled(opened) is grpc.StatusCode.RESOURCE_EXHAUSTED)
        failure = outcome(lambda: sampler(opened).Sample(stream_request(1)))
        assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "memory is full" in failure.details()
        assert trailer(failure, "grpc-retry-pushback-ms") == "500"


def test_streams_that_are_reset_at_once_cost_little_memory(serve: Serve, tmp_path: Path) -> None:
    opened_and_reset = b"".join(
        frame(HEADERS, 4, 2 * i + 1, POST) + frame(RST_STREAM, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(2000)
    )
    with running_gateway(serve, tmp_path) as gateway:

        def heap_mib() -> float:
            return int(json.loads(gateway.admin.ask("GET", "/memory")[1])["heap_size"]) / 2**20

        before = heap_mib()
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + opened_and_reset)
            connection.settimeout(READY_S)
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(65536):
                    pass
        assert heap_mib() - before < 32  # if all 2,000 were begun: 58


def test_without_a_gateway_the_service_answers_on_its_own_port(repository: Path, tmp_path: Path) -> None:
    with running_serve(repository, tmp_path, "--no-gateway") as alone:
        assert alone.ready["gateway_pid"] is None
        assert images_by_sampler(int(alone.ready["service"].rpartition(":")[2]))


def test_metrics_count_requests_by_status(serve: Serve, tmp_path: Path) -> None:
    with running_gateway(serve, tmp_path) as gateway:
        images_by_sampler(gateway.port)
        ask(gateway.port, "GET", "/nowhere")
        # A request is counted when it has ended there, which may be after its answer has come.
        for counted in (
            'envoy_ganvas_gateway_requests{caller="",code="200",grpc_code="OK",flags="-",refused=""} 1',
            'envoy_ganvas_gateway_requests{caller="",code="404"',
            "envoy_http_downstream_cx_active",
        ):
            eventually(lambda counted=counted: counted in gateway.read_metrics())  # type: ignore[misc]


def test_a_server_that_says_it_is_ready_is_so_for_a_load_balancer_too(repository: Path, tmp_path: Path) -> None:
    with running_serve(repository, tmp_path) as started:
        port = int(started.ready["service"].rpartition(":")[2])
        assert ask(port, "GET", "/v2/health/ready")[0] == 200
