"""Sampler.direct: everything of Triton, and what a model is of Triton's own configuration."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from ganvas_client import (
    AsyncSampler,
    CertificateError,
    DeadlineExceededError,
    FailedPreconditionError,
    GanvasError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    Sampler,
    UnavailableError,
    UnimplementedError,
    direct,
    latents,
)
from tests.support.asking import OF_TRITON, Ask
from tests.support.patience import TooSlowError, with_time
from tests.support.ports import free_port
from tests.support.scripted import BATCH_SIZE, DIGEST, Failure, serving
from tests.support.scripted_triton import DESCRIPTION, Gateway


@pytest.fixture(autouse=True)
def what_is_known_stays_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lookups are counted, and a busy machine may let two calls lie further apart than what is known is fresh."""
    monkeypatch.setattr(direct, "FRESH_S", 3600.0)


@pytest.fixture(params=list(OF_TRITON.values()), ids=list(OF_TRITON))
def asked(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


@pytest.fixture
def triton() -> Gateway:
    return Gateway()


@pytest.fixture
def address(triton: Gateway) -> Iterator[str]:
    with serving(triton) as address:
        yield address


@pytest.mark.parametrize("method", ["sample", "sample_stream"])
@pytest.mark.parametrize("count", [1, 10])
def test_images_of_any_count_come_without_a_service(
    asked: Ask, triton: Gateway, address: str, method: str, count: int
) -> None:
    images = asked(address, method, "m", range(5, 5 + count), labels="b", truncation=0.5)
    assert [(image.index, image.seed, image.label) for image in images] == [(i, 5 + i, 1) for i in range(count)]
    assert [int.from_bytes(image.bytes, "little") for image in images] == list(range(5, 5 + count))
    assert {(image.info.version, image.info.digest, image.info.truncation) for image in images} == {("3", DIGEST, 0.5)}
    assert (triton.lookups, triton.attempts) == (1, 0)
    assert max(infer.inputs[0].shape[0] for infer in triton.infers) <= BATCH_SIZE
    assert {(infer.model_name, infer.model_version) for infer in triton.infers} == {("m", "3")}


def test_decode_encode_and_walk_ask_the_models_of_their_roles(triton: Gateway, address: str) -> None:
    with Sampler.direct(address) as sampler:
        sampler.encode("m", np.zeros((6, 1, 2, 4), np.uint8))
        sampler.decode("m", np.zeros((2, 2), np.float32), labels=0)
        frames = list(sampler.walk("m", [1, 2], steps=3))
    assert [infer.model_name for infer in triton.infers] == ["m-encode", "m-encode", "m-decode", "m-decode"]
    assert len(frames) == 4
    assert triton.lookups == 2  # walk knows what decode learned


def test_model_is_what_its_configuration_says(address: str) -> None:
    with Sampler.direct(address) as sampler:
        info = sampler.model("m")
        (listed,) = [model for model in sampler.models() if model.name == "m"]
    assert (info.version, info.digest, info.family, info.labels) == ("3", DIGEST, "dcgan", ("a", "b", "c"))
    assert (info.height, info.width, info.channels, info.latent_shape, info.can_encode) == (1, 2, 4, (2,), True)
    assert info.limits.max_batch_size == BATCH_SIZE
    assert info.versions == ("2", "3", "10")
    assert listed.digest == DIGEST
    assert info.latents([1, 2], 0.5).tobytes() == (latents([1, 2], 2) * np.float32(0.5)).tobytes()
    with pytest.raises(CertificateError, match="no certificate came with m: ask the sampling service"):
        info.certificate()


def test_batch_fits_into_a_message_whatever_the_configuration_allows(triton: Gateway, address: str) -> None:
    triton.parameters["ganvas.version.3"] = dataclasses.replace(DESCRIPTION, image=(3000, 2500, 4)).to_json()
    with Sampler.direct(address) as sampler:
        assert sampler.model("m").limits.max_batch_size == 2  # of 30 MB each; the configuration says 4
        with pytest.raises(InternalError, match="must have 60000000 bytes"):  # this Triton makes 8 of an image
            sampler.sample("m", range(3))
    assert [2, 1] in [infer.inputs[0].shape for infer in triton.infers]  # of two that may come in any order


@pytest.mark.parametrize("shape", [(1, 4, 2), (2, 1, 4), (8,), (1, 8), (8, 1)])
def test_images_of_another_shape_are_refused_even_if_their_bytes_fit(
    asked: Ask, triton: Gateway, address: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^shape of images must be \[1, 1, 2, 4\]; got|^images must be "):
        asked(address, "encode", "m", np.zeros(shape, np.uint8))
    assert triton.infers == []


def test_latents_with_a_truncation_that_the_network_applies_are_refused(triton: Gateway, address: str) -> None:
    triton.parameters["ganvas.version.3"] = dataclasses.replace(DESCRIPTION, truncation="network").to_json()
    with Sampler.direct(address) as sampler:
        info = sampler.model("m")
    assert info.latents([1, 2]).tobytes() == latents([1, 2], 2).tobytes()
    with pytest.raises(InvalidArgumentError, match=r"^truncation must be 1 in latents of m, .*; got 0\.5\."):
        info.latents([1, 2], 0.5)
    with pytest.raises(InvalidArgumentError, match=r"^truncation must be 1"):
        info.latents([1, 2], np.array([1.0, 0.5], np.float32))


@pytest.mark.parametrize(("wanted", "version"), [({"version": 2}, "2"), ({"digest": "d2" * 32}, "2"), ({}, "3")])
def test_version_or_digest_chooses(asked: Ask, address: str, wanted: dict[str, object], version: str) -> None:
    (image,) = asked(address, "sample", "m", 1, **wanted)
    assert image.info.version == version


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"model": "x"}, NotFoundError, r"^model 'x' is unknown; there is: m, other\.$"),
        ({"model": "m-decode"}, NotFoundError, r"^model 'm-decode' is unknown; there is: m, other\.$"),
        ({"model": ""}, InvalidArgumentError, r"^model is empty; there is: m, other\.$"),
        ({"version": 7}, NotFoundError, r"^model 'm' has no version 7; there is: 2, 3, 10\.$"),
        ({"version": "x"}, InvalidArgumentError, r"^version must be a whole number, or empty for the default; got 'x'"),
        ({"version": 10}, FailedPreconditionError, r"does not describe version 10 \(it describes 2, 3\)"),
        ({"digest": "x"}, InvalidArgumentError, r"^digest must be 64 of 0-9 and a-f"),
        ({"digest": "00" * 32}, FailedPreconditionError, r"^digest 0000000000000000… is not served of model 'm'"),
        ({"labels": "z"}, InvalidArgumentError, r"^label must be one of those of model 'm' \(a, b, c\); got 'z'"),
        ({"labels": 9}, InvalidArgumentError, r"^labels\[0\] must be within \[0, 2\]; got 9\."),
        ({"truncation": 2}, InvalidArgumentError, r"^truncation must be within \[0, 1\.5\]; got 2\.$"),
        ({"format": "png"}, UnimplementedError, r"^format other than raw needs the sampling service"),
    ],
)
def test_bad_field_is_refused_before_anything_is_computed(
    asked: Ask, triton: Gateway, address: str, arguments: dict[str, object], kind: type[GanvasError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        asked(address, "sample", **{"model": "m", "seeds": 1, **arguments})
    assert triton.infers == []


def test_image_files_are_refused(asked: Ask, address: str) -> None:
    with pytest.raises(UnimplementedError, match="image files are decoded by the sampling service"):
        asked(address, "encode", "m", b"\x89PNG\r\n\x1a\n")


def test_model_without_its_companion_is_said(asked: Ask, triton: Gateway, address: str) -> None:
    triton.names = ("m",)
    with pytest.raises(InvalidArgumentError, match=r"^model m cannot encode: it has no encoder"):
        asked(address, "encode", "m", np.zeros((1, 2, 4), np.uint8))
    with pytest.raises(NotFoundError, match=r"^Triton has m and no m-decode\. Load it too\.$"):
        asked(address, "decode", "m", [0.0, 0.0], labels=0)


def test_closed_index_leaves_the_name_alone(asked: Ask, triton: Gateway, address: str) -> None:
    triton.names_nothing = True
    with pytest.raises(NotFoundError, match=r"^model 'x' is unknown\.$"):
        asked(address, "sample", "x", 1)
    with Sampler.direct(address) as sampler, pytest.raises(UnimplementedError, match="does not list its models"):
        sampler.models()


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({}, FailedPreconditionError, "m at .* does not describe itself: its config.pbtxt has no parameter"),
        ({"ganvas.version.3": "{"}, InternalError, "parameter ganvas.version.3 of m is not JSON"),
        ({"ganvas.version.3": '{"format": 2}'}, InternalError, "has format 2; this release reads 1"),
        ({"ganvas.version.3": '{"format": 1}'}, InternalError, "missing"),
        (
            {"ganvas.version.3": DESCRIPTION.to_json().replace("squares32", "other")},
            InternalError,
            "has noise 'other-gaussian-table'",
        ),
    ],
)
def test_configuration_without_a_description_is_refused(
    asked: Ask, triton: Gateway, address: str, parameters: dict[str, str], kind: type[GanvasError], message: str
) -> None:
    triton.parameters = parameters
    with pytest.raises(kind, match=message):
        asked(address, "sample", "m", 1)


def test_busy_or_restarting_triton_is_waited_for(asked: Ask, triton: Gateway, address: str) -> None:
    triton.triton = [Failure(), Failure(), Failure()]
    assert [image.seed for image in asked(address, "sample", "m", range(10))] == list(range(10))
    assert len(triton.infers) == 6


@pytest.mark.parametrize("method", ["sample", "sample_stream"])
def test_version_that_was_retired_is_left_for_the_one_that_is_there(triton: Gateway, address: str, method: str) -> None:
    with Sampler.direct(address) as sampler:
        assert sampler.sample("m", 1).info.version == "3"
        triton.versions = ("2",)
        images = list(getattr(sampler, method)("m", range(10), labels="b", timeout_s=60))
        assert [(image.seed, image.label, image.info.version) for image in images] == [(i, 1, "2") for i in range(10)]
    assert triton.lookups == 2


def test_version_that_was_retired_is_left_by_asyncio_too(triton: Gateway, address: str) -> None:
    async def work() -> None:
        async with AsyncSampler.direct(address) as sampler:
            await sampler.sample("m", 1)
            triton.versions = ("2",)
            assert (await sampler.sample("m", 1, labels="b", timeout_s=60)).info.version == "2"
            triton.versions = ("3",)
            found = [image.info.version async for image in sampler.sample_stream("m", range(10), timeout_s=60)]
            assert found == ["3"] * 10

    asyncio.run(work())


def test_version_that_is_named_is_waited_for(triton: Gateway, address: str) -> None:
    with Sampler.direct(address) as sampler:
        sampler.sample("m", 1, version=3)
        triton.versions = ("2",)

        def ask(timeout_s: float) -> None:
            try:
                sampler.sample("m", 1, version=3, timeout_s=timeout_s)
            except DeadlineExceededError:  # the last attempt had no time for an answer
                raise TooSlowError from None

        with pytest.raises(UnavailableError, match="not at ready state"):
            with_time(ask, 0.3)


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL])
def test_error_of_triton_is_raised_as_it_is(asked: Ask, triton: Gateway, address: str, code: grpc.StatusCode) -> None:
    triton.triton = [Failure(code=code, details="no such tensor")]
    with pytest.raises(GanvasError, match="no such tensor") as caught:
        asked(address, "sample_stream", "m", 1)
    assert caught.value.code is code
    assert triton.attempts == 0


def test_server_that_is_no_triton_is_named(asked: Ask) -> None:
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port(f"127.0.0.1:{free_port()}")
        server.start()
        with pytest.raises(UnimplementedError, match=rf"^what answers at 127\.0\.0\.1:{port} is no Triton"):
            asked(f"127.0.0.1:{port}", "sample", "m", 1)
        server.stop(None).wait()
    with pytest.raises(UnavailableError, match=rf"^no Triton answers at 127\.0\.0\.1:{port} "):
        asked(f"127.0.0.1:{port}", "sample", "m", 1)


@pytest.mark.parametrize("kind", [Sampler, AsyncSampler])
def test_default_address_is_that_of_triton(kind: type[Sampler | AsyncSampler]) -> None:
    assert kind.direct().address == "127.0.0.1:8001"
