"""Replies as values: arrays, files and Pillow images of the same images."""

from __future__ import annotations

import builtins
import io
import sys
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from ganvas.v1 import sampler_pb2
from ganvas_client import (
    CallCancelledError,
    CertificateError,
    DeadlineExceededError,
    GanvasError,
    Images,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
    calls,
)
from ganvas_client.errors import from_rpc_error

PIXELS = np.random.default_rng(7).integers(0, 256, (3, 6, 5, 3), np.uint8)


def reply(pixels: Any, kind: str = "RAW", **common: Any) -> sampler_pb2.SampleResponse:
    """A Sample reply with these images, of seeds 10, 11, …, labels 0, 1, …."""
    count, height, width, channels = pixels.shape
    return sampler_pb2.SampleResponse(
        info=sampler_pb2.ImageInfo(
            model="m",
            version="2",
            digest="ab",
            format=f"FORMAT_{kind}",
            height=height,
            width=width,
            channels=channels,
            truncation=0.5,
        ),
        images=[sampler_pb2.Image(index=i, seed=10 + i, label=i, data=as_file(pixels[i], kind)) for i in range(count)],
        timing=sampler_pb2.Timing(total_us=30, inference_us=20, encode_us=5),
    )


def as_file(pixels: Any, kind: str) -> bytes:
    if kind == "RAW":
        return bytes(pixels.tobytes())
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, kind, lossless=True)
    return file.getvalue()


def parsed(pixels: Any, kind: str = "RAW") -> Images:
    return calls.sample("m", range(10, 13)).parse(reply(pixels, kind), "id")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["RAW", "PNG", "WEBP"])
def test_images_give_the_same_pixels_in_every_lossless_format(kind: str, channels: int) -> None:
    pixels = PIXELS[..., :channels]
    images = parsed(pixels, kind)
    assert np.array_equal(images.array, pixels)
    assert images.array.dtype == np.uint8
    assert [image.size for image in images.pil()] == [(5, 6)] * 3
    assert images.pil()[0].mode == ("L" if channels == 1 else "RGB")
    assert np.array_equal(images[1].array, pixels[1])


def test_images_carry_what_was_made_and_how_long_it_took() -> None:
    images = parsed(PIXELS)
    assert (images.info.model, images.info.version, images.info.digest) == ("m", "2", "ab")
    assert (images.info.format, images.info.truncation) == ("raw", 0.5)
    assert images.timing.total_us == 30
    assert images.seeds is not None
    assert images.seeds.tolist() == [10, 11, 12]
    assert images.seeds.dtype == np.uint64
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 2]
    assert len(images) == 3
    assert [image.index for image in images] == [0, 1, 2]
    assert images[1:] == images.images[1:]
    assert images.bytes == [image.tobytes() for image in PIXELS]


def test_image_of_an_unconditional_model_has_no_label_and_of_a_latent_no_seed() -> None:
    image = sampler_pb2.Image(data=b"x")
    info = sampler_pb2.ImageInfo(height=1, width=1, channels=1, format=sampler_pb2.FORMAT_RAW)
    made = calls.decode("m", [0.0]).parse(sampler_pb2.DecodeResponse(info=info, images=[image]), "id")
    assert made.labels is None
    assert made.seeds is None
    assert made[0].label is None
    assert made[0].seed is None


def test_pil_says_how_to_get_pillow_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_pillow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "PIL":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_pillow)
    images = parsed(PIXELS)
    assert images.array.shape == PIXELS.shape
    with pytest.raises(ImportError, match=r"pip install 'ganvas-client\[images\]'"):
        images.pil()


def test_posterior_has_a_row_a_image() -> None:
    message = sampler_pb2.EncodeResponse(latent_shape=[2], mean=[1, 2, 3, 4], logvar=[5, 6, 7, 8])
    posterior = calls.encode("m", PIXELS).parse(message, "id")
    assert posterior.mean.tolist() == [[1, 2], [3, 4]]
    assert posterior.logvar.tolist() == [[5, 6], [7, 8]]


def test_certificate_is_rejected_when_none_came_with_the_model() -> None:
    message = sampler_pb2.ListModelsResponse(models=[sampler_pb2.Model(name="m")])
    (info,) = calls.models().parse(message, "id")
    with pytest.raises(CertificateError):
        info.certificate()


class FailedCall(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str | None, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self.parts = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self.parts[0]

    def details(self) -> str | None:
        return self.parts[1]

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:  # type: ignore[override]
        return self.parts[2]

    def initial_metadata(self) -> None:
        return None


def translated(code: grpc.StatusCode, details: str | None, **options: Any) -> GanvasError:
    return from_rpc_error(FailedCall(code, details, **options), address="h:1", rpc="Sample", timeout_s=2.5)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_becomes_one_exception(code: grpc.StatusCode) -> None:
    error = translated(code, "because")
    assert isinstance(error, GanvasError)
    assert "because" in str(error) or isinstance(error, DeadlineExceededError)


def test_messages_of_the_service_are_passed_on_as_they_are() -> None:
    assert str(translated(grpc.StatusCode.INVALID_ARGUMENT, "seeds …")) == "seeds …"
    assert isinstance(translated(grpc.StatusCode.INVALID_ARGUMENT, "x"), InvalidArgumentError)
    assert isinstance(translated(grpc.StatusCode.INVALID_ARGUMENT, "x"), ValueError)
    assert isinstance(translated(grpc.StatusCode.CANCELLED, "x"), CallCancelledError)
    assert str(translated(grpc.StatusCode.DATA_LOSS, None)) == "Sample at h:1 failed with DATA_LOSS: it gives no reason"
    assert isinstance(translated(grpc.StatusCode.DATA_LOSS, None), InternalError)


def test_deadline_message_gives_the_limit() -> None:
    error = translated(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert str(error) == "Sample at h:1 did not finish within timeout_s 2.5."


def test_rejected_connection_says_what_to_start_and_draining_does_not() -> None:
    rejected = translated(
        grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: Connection refused"
    )
    assert isinstance(rejected, UnavailableError)
    assert str(rejected).endswith("Start one: ./ganvas serve.")
    assert str(translated(grpc.StatusCode.UNAVAILABLE, "draining")) == "draining"


def test_full_queue_says_when_to_try_again() -> None:
    error = translated(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", metadata=(("grpc-retry-pushback-ms", "250"),))
    assert isinstance(error, ResourceExhaustedError)
    assert error.retry_after_s == 0.25
    other = translated(grpc.StatusCode.RESOURCE_EXHAUSTED, "message too large")
    assert isinstance(other, ResourceExhaustedError)
    assert other.retry_after_s is None
