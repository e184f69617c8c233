"""One malformed request from (seed, number): what it is, where it goes, and which answers are proper."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

from clients.soak.fuzz.http import HttpRequest, http_request, is_closed, web_request
from clients.soak.fuzz.images import hostile_image
from clients.soak.fuzz.messages import hostile_message, mutated, random_bytes, valid_message
from clients.soak.fuzz.raw import raw_bytes
from ganvas.v1 import sampler_pb2 as pb

__all__ = ["FAMILIES", "Case", "Family", "Rpc", "is_grpcs_own", "is_proper", "make_case"]

Family = Literal["sampler", "kserve", "images", "http", "web", "raw"]
FAMILIES: dict[Family, int] = {"sampler": 32, "kserve": 26, "images": 8, "http": 24, "web": 5, "raw": 5}
"""How many of a hundred."""

KSERVE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
ROUTED = {
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelConfig",
    "ModelInfer",
}
"""The methods of KServe that the gateway lets through."""

Code = grpc.StatusCode
PROPER = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.OUT_OF_RANGE,
    Code.FAILED_PRECONDITION,
    Code.UNIMPLEMENTED,
    Code.PERMISSION_DENIED,
    Code.UNAUTHENTICATED,
    Code.RESOURCE_EXHAUSTED,
}
CLOSED = {Code.UNIMPLEMENTED, Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.UNAUTHENTICATED}
PROPER_HTTP = {200, 204, 400, 401, 403, 404, 405, 406, 408, 411, 413, 414, 415, 417, 426, 429, 431, 501, 505}
CLOSED_HTTP = {400, 401, 403, 404, 405, 501}
"""400, 405 and 501: what is no HTTP, or no method that the gateway speaks, is not routed at all."""


@dataclass(frozen=True, kw_only=True)
class Rpc:
    """A call with these bytes as its message."""

    method: str
    """/package.Service/Method"""
    payload: bytes
    streamed: bool
    """Several messages come back."""
    decodable: bool
    """Whether the bytes are a message of the method's type."""
    copies: int = 1
    """How many messages are sent; a unary call should have one."""
    routed: bool = True
    """Whether the gateway lets it through."""


@dataclass(frozen=True, kw_only=True)
class Case:
    number: int
    family: Family
    what: str
    request: Rpc | HttpRequest | bytes


def make_case(seed: int, number: int, families: Sequence[Family]) -> Case:
    """The same case for the same arguments, always."""
    rng = random.Random(f"{seed}/{number}")
    (family,) = rng.choices(families, weights=[FAMILIES[family] for family in families])
    request: Rpc | HttpRequest | bytes
    if family == "sampler":
        request = _sampler(rng)
    elif family == "kserve":
        request = _rpc(KSERVE, rng.choice(KSERVE.methods), rng)
    elif family == "images":
        request = _encode(rng)
    elif family == "http":
        request = http_request(rng)
    elif family == "web":
        request = web_request(rng)
    else:
        request = raw_bytes(rng)
    return Case(number=number, family=family, what=_what(request), request=request)


def is_proper(case: Case, answer: str) -> bool:
    """Whether a status is one that this request may get.

    Args:
        answer: a gRPC status by name, an HTTP status as digits, or "closed" for a connection that ended without one.
    """
    request = case.request
    if is_grpcs_own(case, answer):
        return True
    if isinstance(request, Rpc):
        return Code.__members__.get(answer) in (PROPER if request.routed else CLOSED)
    if isinstance(request, HttpRequest):
        if case.family == "web" and (code := Code.__members__.get(answer)) is not None:
            return code in PROPER
        allowed = CLOSED_HTTP if case.family == "http" and is_closed(request) else PROPER_HTTP
        return answer.isdecimal() and int(answer) in allowed
    return answer == "closed" or int(answer) in PROPER_HTTP  # of raw bytes the answer is the server's good health


def is_grpcs_own(case: Case, answer: str) -> bool:
    """Whether it is an INTERNAL that gRPC's library gives before the server's own code sees the call.

    Its C++ server, which Triton is, does so for bytes that are no message of the method's type, or without any: "Unable
    to parse request". The service's does so for a message that is marked as compressed where nothing says how.
    """
    request = case.request
    if answer != Code.INTERNAL.name:
        return False
    if isinstance(request, Rpc):
        return case.family == "kserve" and request.routed and (not request.decodable or request.copies == 0)
    return case.family == "web" and isinstance(request, HttpRequest) and request.body[:1] in (b"\x01", b"\xff")


def _sampler(rng: random.Random) -> Rpc:
    """Sampler's methods, those of health and reflection, and some that do not exist."""
    services = (
        pb.DESCRIPTOR.services_by_name["Sampler"],
        health_pb2.DESCRIPTOR.services_by_name["Health"],
        reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
    )
    (service,) = rng.choices(services, weights=(8, 1, 1))
    rpc = _rpc(service, rng.choice(service.methods), rng)
    if rng.random() < 0.05:
        method = rng.choice(("/ganvas.v1.Sampler/Nothing", "/ganvas.v2.Sampler/Sample", "/", "/a", "/a/b/c"))
        return Rpc(method=method, payload=rpc.payload, streamed=False, decodable=rpc.decodable, routed=False)
    return rpc


def _rpc(service: Any, method: Any, rng: random.Random) -> Rpc:
    payload = valid_message(method.name, method.input_type, rng)
    payload = rng.choice(
        (
            lambda: random_bytes(rng),
            lambda: mutated(payload, rng),
            lambda: hostile_message(method.input_type, rng),
            lambda: mutated(hostile_message(method.input_type, rng), rng),
        )
    )()
    return Rpc(
        method=f"/{service.full_name}/{method.name}",
        payload=payload,
        streamed=method.server_streaming,
        decodable=_decodable(method.input_type, payload),
        copies=rng.choice((1,) * 30 + (0, 2)),
        routed=service is not KSERVE or method.name in ROUTED,
    )


def _encode(rng: random.Random) -> Rpc:
    images = [hostile_image(rng) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
    request = pb.EncodeRequest(model="tiny-vae", images=images, format=rng.choice(pb.Format.keys()))
    payload = request.SerializeToString()
    return Rpc(method="/ganvas.v1.Sampler/Encode", payload=payload, streamed=False, decodable=True)


def _decodable(message_type: Any, payload: bytes) -> bool:
    try:
        GetMessageClass(message_type)().ParseFromString(payload)
    except DecodeError:
        return False
    return True


def _what(request: Rpc | HttpRequest | bytes) -> str:
    if isinstance(request, Rpc):
        kind = "message" if request.decodable else "bytes"
        size = f"{request.copies} times {len(request.payload)} bytes"
        return f"{request.method}, {kind} of {size}: {request.payload[:40].hex()}"
    if isinstance(request, HttpRequest):
        return f"{request.method} {request.path[:80]}, body of {len(request.body)} bytes: {request.body[:40]!r}"
    return f"raw {len(request)} bytes: {request[:60]!r}"
