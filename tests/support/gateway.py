"""A gateway before a real service and Triton, and calls to it as each kind of client makes them."""

from __future__ import annotations

import contextlib
import http.client
import json
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ganvas.v1 import sampler_pb2 as pb
from ganvas.v1 import sampler_pb2_grpc
from serving.gateway.process import GatewayProcess
from serving.gateway.settings import GatewaySettings
from tests.support.serve import Serve
from tests.support.service import CHANNEL_OPTIONS, sample_request

READY_S = 60.0
MODEL = "plain-gan"
KSERVE = "/inference.GRPCInferenceService/"
SAMPLER = "/ganvas.v1.Sampler/"


@contextlib.contextmanager
def running_gateway(
    serve: Serve, folder: Path, *, keys_file: Path | None = None, **settings: Any
) -> Iterator[GatewayProcess]:
    """One more gateway before the service and the Triton of a running serve."""
    (socket,) = serve.ready_file.parent.glob("ganvas-serve-*/service.sock")
    wanted = GatewaySettings(
        port=0,
        service=[str(socket)],
        triton_grpc=[serve.ready["triton_grpc"]],
        triton_http=[serve.ready["triton_http"]],
    )
    gateway = GatewayProcess(replace(wanted, **settings), folder / "gateway", keys_file=keys_file)
    gateway.start()
    try:
        gateway.wait_ready(READY_S)
        yield gateway
    finally:
        gateway.stop(2.0)


@contextlib.contextmanager
def channel(port: int, credentials: grpc.ChannelCredentials | None = None) -> Iterator[grpc.Channel]:
    where = f"localhost:{port}" if credentials else f"127.0.0.1:{port}"
    options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    made = grpc.secure_channel(where, credentials, options) if credentials else grpc.insecure_channel(where, options)
    with made:
        yield made


def sampler(opened: grpc.Channel) -> Any:
    return sampler_pb2_grpc.SamplerStub(opened)  # type: ignore[no-untyped-call]


def kserve(opened: grpc.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(opened)


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def sampled(opened: grpc.Channel, metadata: Any = None) -> grpc.StatusCode:
    """The status of a call for one image."""
    return code_of(lambda: sampler(opened).Sample(stream_request(1), metadata=metadata))


def outcome(call: Callable[[], Any]) -> Any:
    """The RpcError of a call, or None."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    return None


def code_of(call: Callable[[], Any]) -> grpc.StatusCode:
    failure = outcome(call)
    return grpc.StatusCode.OK if failure is None else failure.code()


def trailer(error: Any, name: str) -> str | None:
    return dict(error.trailing_metadata() or ()).get(name)


def infer_request(seeds: list[int]) -> Any:
    """One request to MODEL at Triton, by gRPC."""
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    values: dict[str, tuple[str, Any]] = {
        "seed": ("UINT64", np.array(seeds, np.uint64)),
        "truncation": ("FP32", np.ones(len(seeds), np.float32)),
    }
    for name, (datatype, array) in values.items():
        request.inputs.add(name=name, datatype=datatype, shape=[len(seeds), 1])
        request.raw_input_contents.append(array.tobytes())
    return request


def infer_json(seeds: list[int]) -> bytes:
    """The same by HTTP, as JSON."""
    inputs = [
        {"name": "seed", "datatype": "UINT64", "shape": [len(seeds), 1], "data": seeds},
        {"name": "truncation", "datatype": "FP32", "shape": [len(seeds), 1], "data": [1.0] * len(seeds)},
    ]
    return json.dumps({"inputs": inputs, "outputs": [{"name": "image", "parameters": {"binary_data": True}}]}).encode()


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one HTTP/1.1 request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S)
    try:
        connection.request(method, path, body or None, headers or {})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def grpc_web(port: int, method: str, message: Any, headers: dict[str, str] | None = None) -> tuple[bytes, str]:
    """One unary gRPC-Web call: the reply message and the trailers, as lines of "name: value"."""
    data = message.SerializeToString()
    frame = b"\0" + struct.pack(">I", len(data)) + data
    sent = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **(headers or {})}
    _, got, body = ask(port, "POST", method, frame, sent)
    reply, trailers = b"", "".join(f"{name}: {value}\r\n" for name, value in got.items() if name.startswith("grpc-"))
    while body:
        flag, length = body[0], struct.unpack(">I", body[1:5])[0]
        part, body = body[5 : 5 + length], body[5 + length :]
        if flag & 0x80:
            trailers += part.decode().replace(":", ": ", 1)
        else:
            reply = part
    return reply, trailers


def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return once it holds. Generous: a loaded machine may let a process wait for seconds."""
    end = time.monotonic() + timeout_s

    def holds() -> bool:
        try:
            return condition()
        except OSError:  # a connection that was not taken, or was closed
            return False

    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s:g} s")
        time.sleep(0.05)


def images_by_sampler(port: int, count: int = 4, metadata: Any = None) -> list[bytes]:
    with channel(port) as opened:
        request = sample_request(count, model=MODEL, first=5)
        return [image.data for image in sampler(opened).Sample(request, metadata=metadata).images]


def stream_request(count: int) -> pb.SampleRequest:
    return sample_request(count, model=MODEL, first=5)
