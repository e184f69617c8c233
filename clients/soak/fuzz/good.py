"""Requests that are right, of every kind and size in which the malformed ones come: what a server has met before."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from clients.bench.targets import direct_request
from clients.soak.fuzz.cases import FAMILIES, Case, Family, Rpc
from clients.soak.fuzz.http import HttpRequest
from clients.soak.fuzz.images import good_image
from ganvas.v1 import sampler_pb2 as pb

__all__ = ["good_cases"]

SAMPLER, KSERVE = "/ganvas.v1.Sampler", "/inference.GRPCInferenceService"
MODELS = ("tiny-gan", "tiny-vae", "plain-gan")
MANY = 256


def good_cases(families: Sequence[Family] = tuple(FAMILIES)) -> list[Case]:
    """Each of them once. "raw" has none of its own: its connections are HTTP's."""
    makers: dict[Family, Callable[[], Iterator[Rpc | HttpRequest]]] = {
        "sampler": _sampler,
        "images": _images,
        "kserve": _kserve,
        "http": _http,
        "web": _web,
    }
    return [
        Case(number=-1, family=family, what="good", request=request)
        for family in families
        if family in makers
        for request in makers[family]()
    ]


def _sampler() -> Iterator[Rpc]:
    for model in MODELS:
        for count in (1, 16, MANY):
            for format in (pb.FORMAT_RAW, pb.FORMAT_PNG):
                yield _call("Sample", pb.SampleRequest(model=model, seeds=range(count), format=format))
        yield _call("SampleStream", pb.SampleRequest(model=model, range=pb.SeedRange(count=1000)), streamed=True)
        large = pb.SampleRequest(model=model, seeds=range(2**63, 2**63 + 60_000))  # 600 KB
        yield _call("SampleStream", large, streamed=True)
        yield _call("Walk", pb.WalkRequest(model=model, seeds=range(20), steps=50), streamed=True)
        yield _call("GetModel", pb.GetModelRequest(model=model))
    yield _call("Decode", pb.DecodeRequest(model="plain-gan", latents=[0.5] * 12 * MANY))
    yield _call("ListModels", pb.ListModelsRequest())


def _images() -> Iterator[Rpc]:
    for kind in ("PNG", "JPEG", "WEBP"):
        for count in (1, MANY):
            images = [good_image(kind, "L")] * count
            yield _call("Encode", pb.EncodeRequest(model="tiny-vae", images=images, format=f"FORMAT_{kind}"))


def _kserve() -> Iterator[Rpc]:
    for model in MODELS:
        for count in (1, 16):
            labels = None if model == "plain-gan" else [3] * count
            yield Rpc(
                method=f"{KSERVE}/ModelInfer",
                payload=direct_request(model, range(count), labels=labels),
                streamed=False,
                decodable=True,
            )


def _http() -> Iterator[HttpRequest]:
    for path in ("/v2", "/v2/health/live", *(f"/v2/models/{model}" for model in MODELS)):
        yield HttpRequest(method="GET", path=path)
    for count in (1, 16):
        body = {
            "inputs": [
                {"name": "seed", "datatype": "UINT64", "shape": [count, 1], "data": list(range(count))},
                {"name": "truncation", "datatype": "FP32", "shape": [count, 1], "data": [0.8] * count},
                {"name": "label", "datatype": "INT64", "shape": [count, 1], "data": [7] * count},
            ]
        }
        headers = {"content-type": "application/json"}
        path = "/v2/models/tiny-gan/infer"
        yield HttpRequest(method="POST", path=path, headers=headers, body=json.dumps(body).encode())


def _web() -> Iterator[HttpRequest]:
    payload = pb.SampleRequest(model="tiny-gan", seeds=range(16)).SerializeToString()
    for kind in ("application/grpc-web+proto", "application/grpc-web-text"):
        yield HttpRequest(
            method="POST",
            path=f"{SAMPLER}/Sample",
            headers={"content-type": kind, "x-grpc-web": "1"},
            body=struct.pack(">BI", 0, len(payload)) + payload,
        )


def _call(method: str, request: Any, *, streamed: bool = False) -> Rpc:
    return Rpc(method=f"{SAMPLER}/{method}", payload=request.SerializeToString(), streamed=streamed, decodable=True)
