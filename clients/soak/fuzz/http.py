"""HTTP requests: every endpoint of KServe v2 and of Triton's extensions, gRPC-Web, and bodies that break parsers."""

from __future__ import annotations

import gzip
import json
import random
import struct
from dataclasses import dataclass, field
from functools import cache

from clients.soak.fuzz.messages import mutated, random_bytes, valid_message
from ganvas.v1 import sampler_pb2 as pb

__all__ = ["HttpRequest", "http_request", "is_closed", "web_request"]

METHODS = ("GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FROBNICATE")
MODEL = "/v2/models/{model}"
OPEN: tuple[str, ...] = (
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    MODEL,
    f"{MODEL}/ready",
    f"{MODEL}/config",
    f"{MODEL}/infer",
)
OPEN += (f"{MODEL}/versions/1", f"{MODEL}/versions/1/ready", f"{MODEL}/versions/1/config", f"{MODEL}/versions/1/infer")
CLOSED = (
    "/v2/repository/index",
    "/v2/repository/models/{model}/load",
    "/v2/repository/models/{model}/unload",
    "/v2/repository/models/evil/load",
    "/v2/systemsharedmemory/status",
    "/v2/systemsharedmemory/region/a/register",
    "/v2/systemsharedmemory/unregister",
    "/v2/cudasharedmemory/status",
    "/v2/cudasharedmemory/region/a/register",
    "/v2/cudasharedmemory/unregister",
    "/v2/trace/setting",
    f"{MODEL}/trace/setting",
    "/v2/logging",
    f"{MODEL}/stats",
    "/v2/models/stats",
    f"{MODEL}/generate",
    f"{MODEL}/generate_stream",
    "/metrics",
    "/",
    "/v2/../v2/repository/index",
    "/v2//repository/index",
    "/v2/%72epository/index",
    "/v1/models",
    "/admin",
    "/config_dump",
    "/quitquitquit",
)
"""What the gateway must not let through. A POST of /v2/repository/models/{model}/unload in any spelling is one."""

EVIL = {"parameters": {"config": '{"backend":"python"}', "file:1/model.py": "aW1wb3J0IG9z"}}


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def http_request(rng: random.Random) -> HttpRequest:
    """Any endpoint, any method, any body."""
    template = rng.choice(OPEN) if rng.random() < 0.6 else rng.choice(CLOSED)
    path = template.format(model=rng.choice(("tiny-gan", "tiny-vae", "nobody", "%2e%2e", "x" * 3000)))
    method = rng.choice(METHODS)
    if method in ("GET", "HEAD", "TRACE"):
        return HttpRequest(method=method, path=path)
    headers, body = rng.choice(BODIES)(rng)
    return HttpRequest(method=method, path=path, headers=headers, body=body)


def is_closed(request: HttpRequest) -> bool:
    """Whether the gateway must answer 403 or 404."""
    path = request.path.split("?")[0]
    return not any(path == _concrete(template, path) for template in OPEN)


def web_request(rng: random.Random) -> HttpRequest:
    """gRPC-Web frames, most of them wrong."""
    method, request_type = rng.choice(
        (("Sample", pb.SampleRequest.DESCRIPTOR), ("Encode", pb.EncodeRequest.DESCRIPTOR), ("Nothing", None))
    )
    payload = valid_message(method, request_type, rng) if request_type else b""
    payload = rng.choice((payload, mutated(payload, rng), random_bytes(rng)))
    flag, length = rng.choice((0, 0, 0, 1, 0x80, 255)), rng.choice((len(payload), len(payload), 0, 7, 2**32 - 1))
    kind = rng.choice(("application/grpc-web+proto", "application/grpc-web", "application/grpc-web-text"))
    headers = {"content-type": kind, "x-grpc-web": "1"}
    body = struct.pack(">BI", flag, length) + payload
    return HttpRequest(method="POST", path=f"/ganvas.v1.Sampler/{method}", headers=headers, body=body)


def _concrete(template: str, path: str) -> str:
    """The template with the path's own model."""
    parts = path.split("/")
    return template.format(model=parts[3] if len(parts) > 3 else "")


def _infer(**changed: object) -> dict[str, object]:
    tensors: list[dict[str, object]] = [
        {"name": "seed", "datatype": "UINT64", "shape": [1, 1], "data": [42]},
        {"name": "truncation", "datatype": "FP32", "shape": [1, 1], "data": [0.8]},
        {"name": "label", "datatype": "INT64", "shape": [1, 1], "data": [7]},
    ]
    return {"inputs": tensors, **changed}


def _json(rng: random.Random) -> tuple[dict[str, str], bytes]:
    """A request with one value of the wrong kind."""
    request = _infer()
    tensors = request["inputs"]
    assert isinstance(tensors, list)
    junk: object = rng.choice(
        (None, -1, 2**64, 2**70, 1e400, "x", [], {}, [[[]]], True, "NaN", [1, 2, 3], ["a"], [0, -5])
    )
    rng.choice(tensors)[rng.choice(("name", "datatype", "shape", "data", "parameters"))] = junk
    if rng.random() < 0.3:
        request[rng.choice(("inputs", "outputs", "parameters", "id"))] = junk
    return {"content-type": "application/json"}, json.dumps(request).encode()


def _nested(rng: random.Random) -> tuple[dict[str, str], bytes]:
    """Arrays or objects within each other: Triton's parser dies of 200,000."""
    depth = rng.choice((10, 100, 1000, 20_000, 100_000, 200_000))
    opening = rng.choice((b"[", b'{"a":', b'[{"b":['))
    return {"content-type": "application/json"}, b'{"inputs":' + opening * depth


def _gzip_bomb(rng: random.Random) -> tuple[dict[str, str], bytes]:
    packed = _packed(rng.choice((1_000_000, 50_000_000)))
    encoding = rng.choice(("gzip", "GZIP", "deflate", "br", "gzip, gzip"))
    return {"content-type": "application/json", "content-encoding": encoding}, packed


def _binary(rng: random.Random) -> tuple[dict[str, str], bytes]:
    """The binary extension with lengths that do not fit."""
    tensors = [
        {
            "name": name,
            "datatype": kind,
            "shape": rng.choice(([1, 1], [1, 1], [2**40, 1], [-1, 1], [0])),
            "parameters": {"binary_data_size": rng.choice((size, size, 0, -1, size + 1, 2**63 - 1, 2**64))},
        }
        for name, kind, size in (("seed", "UINT64", 8), ("truncation", "FP32", 4), ("label", "INT64", 8))
    ]
    head = json.dumps({"inputs": tensors}).encode()
    length = rng.choice((len(head), len(head), 0, -1, 7, len(head) + 1, 2**31, 2**64, "x"))
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(length)}
    return headers, head + bytes(rng.choice((20, 20, 0, 19, 400)))


def _evil(rng: random.Random) -> tuple[dict[str, str], bytes]:
    return {"content-type": "application/json"}, json.dumps(EVIL).encode()


def _noise(rng: random.Random) -> tuple[dict[str, str], bytes]:
    return {"content-type": rng.choice(("application/json", "text/plain", "", "\x7f"))}, random_bytes(rng)


BODIES = (_json, _json, _nested, _gzip_bomb, _binary, _evil, _noise)


@cache
def _packed(count: int) -> bytes:
    return gzip.compress(b"[" + b" " * count, 9)
