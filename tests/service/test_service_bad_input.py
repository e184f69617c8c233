"""Every bad request gets one clear status that names the field, the value and the limit, and the service goes on."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from ganvas.v1 import sampler_pb2 as pb
from tests.support.service import Service, failure_of

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NAN, INFINITY = float("nan"), float("inf")


def sample(**fields: Any) -> tuple[str, Any]:
    return "Sample", pb.SampleRequest(**{"model": "tiny-gan", **fields})


def stream(**fields: Any) -> tuple[str, Any]:
    return "SampleStream", pb.SampleRequest(**{"model": "tiny-gan", **fields})


def ranged(first: int, count: int) -> tuple[str, Any]:
    return sample(range=pb.SeedRange(first=first, count=count))


def decode(**fields: Any) -> tuple[str, Any]:
    return "Decode", pb.DecodeRequest(**{"model": "tiny-gan", "latents": [0.0] * 16, "labels": [0], **fields})


def encode(*images: bytes, **fields: Any) -> tuple[str, Any]:
    return "Encode", pb.EncodeRequest(**{"model": "tiny-vae", "images": images, **fields})


def walk(**fields: Any) -> tuple[str, Any]:
    return "Walk", pb.WalkRequest(**{"model": "tiny-gan", "seeds": [1, 2], "steps": 4, **fields})


def file(kind: str, mode: str = "L", size: tuple[int, int] = (32, 32), **options: Any) -> bytes:
    target = io.BytesIO()
    colour = tuple(range(40, 40 + 50 * len(mode), 50)) if mode in ("LA", "RGB", "CMYK") else 40
    Image.new(mode, size, colour).save(target, kind, **options)
    return target.getvalue()


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG file that would unpack to width x height grey pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [
        struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)) for data in (header, pixels)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BAD = {
    "no model": (sample(model="", seeds=[1]), INVALID, ["model", "tiny-gan, tiny-vae"]),
    "unknown model": (sample(model="nobody", seeds=[1]), NOT_FOUND, ["'nobody'", "plain-gan, tiny-gan, tiny-vae"]),
    "companion model": (sample(model="tiny-gan-decode", seeds=[1]), NOT_FOUND, ["there is: plain-gan"]),
    "path as a model": (sample(model="../../etc/passwd", seeds=[1]), NOT_FOUND, ["there is: plain-gan"]),
    "control characters": (sample(model="a\x00\n\x1b[31m", seeds=[1]), NOT_FOUND, [r"'a\x00\n\x1b[31m'"]),
    "huge model name": (sample(model="x" * 10**4, seeds=[1]), NOT_FOUND, ["xxx…"]),
    "version not a number": (sample(version="latest", seeds=[1]), INVALID, ["version", "'latest'", "whole number"]),
    "version with a sign": (sample(version="-1", seeds=[1]), INVALID, ["version", "'-1'"]),
    "version in other digits": (sample(version="\u0661", seeds=[1]), INVALID, ["version"]),
    "version of 5000 digits": (sample(version="9" * 5000, seeds=[1]), INVALID, ["version", "999…"]),
    "unknown version": (sample(version="12", seeds=[1]), NOT_FOUND, ["no version 12", "there is: 1"]),
    "neither seeds nor range": (sample(), INVALID, ["seeds", "range", "absent"]),
    "both seeds and range": (sample(seeds=[1], range=pb.SeedRange(count=1)), INVALID, ["seeds", "range", "both"]),
    "count 0": (ranged(0, 0), INVALID, ["range.count", "[1, 256]", "got 0"]),
    "negative count": (ranged(0, -3), INVALID, ["range.count", "got -3"]),
    "count over the limit": (ranged(0, 257), INVALID, ["range.count", "[1, 256]", "got 257", "SampleStream"]),
    "count of 2^63": (ranged(0, 2**63 - 1), INVALID, ["range.count", str(2**63 - 1)]),
    "seeds over the limit": (sample(seeds=range(300)), INVALID, ["seeds", "[1, 256]", "got 300"]),
    "range past the last seed": (ranged(2**64 - 5, 6), INVALID, ["range", "2^64 - 1", f"6 seeds from {2**64 - 5}"]),
    "stream count over the limit": (
        stream(range=pb.SeedRange(count=2**20 + 1)),
        INVALID,
        ["range.count", "[1, 1048576]", "got 1048577"],
    ),
    "truncation NaN": (sample(seeds=[1], truncation=NAN), INVALID, ["truncation", "[0, 1.5]", "nan"]),
    "truncation negative": (sample(seeds=[1], truncation=-0.1), INVALID, ["truncation", "[0, 1.5]", "-0.1"]),
    "truncation too large": (sample(seeds=[1], truncation=2.0), INVALID, ["truncation", "[0, 1.5]", "got 2"]),
    "truncation infinite": (sample(seeds=[1], truncation=INFINITY), INVALID, ["truncation", "inf"]),
    "unknown label": (sample(seeds=[1], labels=[10]), INVALID, ["labels[0]", "[0, 9]", "got 10", "0, 1, 2"]),
    "negative label": (sample(seeds=[1, 2], labels=[3, -1]), INVALID, ["labels[1]", "got -1"]),
    "too many labels": (sample(seeds=[1, 2, 3], labels=[1, 2]), INVALID, ["labels", "3 images", "got 2"]),
    "label for an unconditional model": (
        sample(model="plain-gan", seeds=[1], labels=[0]),
        INVALID,
        ["labels", "plain-gan is unconditional"],
    ),
    "unknown format": (sample(seeds=[1], format=99), INVALID, ["format", "FORMAT_PNG", "got 99"]),
    "latents of the wrong length": (decode(latents=[0.0] * 17), INVALID, ["latents", "multiple of 16", "got 17"]),
    "no latents": (decode(latents=[]), INVALID, ["latents", "[1, 256]", "got 0"]),
    "too many latents": (decode(latents=[0.0] * 16 * 257), INVALID, ["latents", "got 257"]),
    "latent NaN": (decode(latents=[0.0] * 20 + [NAN] + [0.0] * 11), INVALID, ["latents[20]", "finite", "latent 1"]),
    "latent infinite": (decode(latents=[-INFINITY] + [0.0] * 15), INVALID, ["latents[0]", "-inf"]),
    "no label to decode": (decode(labels=[]), INVALID, ["labels", "one a latent", "got none"]),
    "model cannot encode": (encode(b"\0" * 1024, model="tiny-gan"), INVALID, ["model", "tiny-gan cannot encode"]),
    "no images": (encode(), INVALID, ["images", "[1, 256]", "got 0"]),
    "raw image too short": (encode(b"\0" * 1024, b"\0" * 1023), INVALID, ["images[1]", "1024 bytes", "got 1023"]),
    "file sent as raw": (encode(file("PNG")), INVALID, ["images[0]", "1024 bytes", "set format"]),
    "PNG of the wrong size": (
        encode(file("PNG", size=(33, 32)), format=pb.FORMAT_PNG),
        INVALID,
        ["images[0]", "32 x 32", "got 33 x 32"],
    ),
    "PNG of a billion pixels": (
        encode(png_header(40000, 40000), format=pb.FORMAT_PNG),
        INVALID,
        ["images[0]", "got 40000 x 40000"],
    ),
    "JPEG sent as PNG": (encode(file("JPEG"), format=pb.FORMAT_PNG), INVALID, ["images[0]", "PNG", "something else"]),
    "PNG cut short": (encode(file("PNG")[:-30], format=pb.FORMAT_PNG), INVALID, ["images[0]", "damaged"]),
    "empty file": (encode(b"", format=pb.FORMAT_WEBP), INVALID, ["images[0]", "WEBP"]),
    "PNG with alpha": (encode(file("PNG", "LA"), format=pb.FORMAT_PNG), INVALID, ["images[0]", "LA", "alpha"]),
    "PNG of 16 bits": (encode(file("PNG", "I;16"), format=pb.FORMAT_PNG), INVALID, ["images[0]", "8-bit"]),
    "colours for a grey model": (
        encode(file("PNG", "RGB"), format=pb.FORMAT_PNG),
        INVALID,
        ["images[0]", "colours", "1 channel"],
    ),
    "CMYK JPEG": (encode(file("JPEG", "CMYK"), format=pb.FORMAT_JPEG), INVALID, ["images[0]", "CMYK"]),
    "animated WebP": (
        encode(
            file("WEBP", "RGB", save_all=True, append_images=[Image.new("RGB", (32, 32), (9, 9, 9))]),
            format=pb.FORMAT_WEBP,
        ),
        INVALID,
        ["images[0]", "animation"],
    ),
    "walk with one seed": (walk(seeds=[1]), INVALID, ["seeds", "2 seeds or more", "got 1"]),
    "walk with no steps": (walk(steps=0), INVALID, ["steps", "got 0"]),
    "walk backwards": (walk(steps=-4), INVALID, ["steps", "got -4"]),
    "walk too long": (walk(steps=2**20), INVALID, ["steps", "1048577 frames", "1048576"]),
    "walk of 2^63 steps": (walk(steps=2**63 - 1, loop=True), INVALID, ["steps", "limit is 1048576"]),
    "walk with two labels": (walk(labels=[1, 2]), INVALID, ["labels", "must hold one", "got 2"]),
    "walk with an unknown label": (walk(labels=[77]), INVALID, ["labels[0]", "got 77"]),
    "walk from before its start": (walk(first_frame=-1), INVALID, ["first_frame", "[0, 4]", "got -1"]),
    "walk from after its end": (walk(first_frame=5), INVALID, ["first_frame", "[0, 4]", "got 5"]),
    "digest that is none": (sample(seeds=[1], digest="ABC"), INVALID, ["digest", "64 of 0-9 and a-f", "'ABC'"]),
    "another digest": (sample(seeds=[1], digest="0" * 64), PRECONDITION, ["digest", "0000", "in version 1"]),
    "another digest of a version": (encode(version="1", digest="0" * 64), PRECONDITION, ["digest", "in version 1"]),
    "details of another digest": (
        ("GetModel", pb.GetModelRequest(model="tiny-gan", digest="1" * 64)),
        PRECONDITION,
        ["digest", "1111"],
    ),
    "details of an unknown model": (
        ("GetModel", pb.GetModelRequest(model="nobody")),
        NOT_FOUND,
        ["'nobody'", "plain-gan"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_request_is_rejected_by_name(shared_service: Service, case: str) -> None:
    (method, request), code, words = BAD[case]
    error = failure_of(lambda: getattr(shared_service.stub, method)(request))
    assert error.code() is code, error.details()
    assert [word for word in words if word not in error.details()] == [], error.details()
    assert len(error.details()) < 400
    assert error.details().isprintable()
    assert len(shared_service.stub.Sample(pb.SampleRequest(model="tiny-gan", seeds=[1])).images) == 1


def test_huge_message_is_rejected_and_the_service_goes_on(shared_service: Service) -> None:
    images = [bytes(2**20)] * 65
    with grpc.insecure_channel(shared_service.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        encode_huge = channel.unary_unary("/ganvas.v1.Sampler/Encode", pb.EncodeRequest.SerializeToString, None)
        error = failure_of(lambda: encode_huge(pb.EncodeRequest(model="tiny-vae", images=images)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert shared_service.stub.ListModels(pb.ListModelsRequest()).models


def test_millions_of_seeds_are_rejected_before_they_are_read(shared_service: Service) -> None:
    seeds = np.arange(7_000_000, dtype=np.uint64)
    error = failure_of(lambda: shared_service.stub.SampleStream(pb.SampleRequest(model="tiny-gan", seeds=seeds)))
    assert error.code() is INVALID
    assert "at most 18939904 bytes" in error.details()


def test_garbage_bytes_are_rejected_and_the_service_goes_on(shared_service: Service) -> None:
    call = shared_service.channel.unary_unary("/ganvas.v1.Sampler/Sample", None, None)
    assert failure_of(lambda: call(b"\xff" * 100)).code() is not grpc.StatusCode.OK
    assert shared_service.stub.ListModels(pb.ListModelsRequest()).models
