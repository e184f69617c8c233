"""The client's shortest way: from Triton what Triton can answer, from the service what is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from ganvas.v1 import sampler_pb2 as pb
from ganvas_client import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    Sampler,
    direct,
)
from serving.gateway.replies import LIMITED
from tests.support.asking import CLIENTS, Ask
from tests.support.scripted import BATCH_SIZE, DIGEST, Failure, serving
from tests.support.scripted_triton import MAX_COUNT, Gateway


@pytest.fixture(autouse=True)
def what_is_known_stays_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lookups are counted, and a busy machine may let two calls lie further apart than what is known is fresh."""
    monkeypatch.setattr(direct, "FRESH_S", 3600.0)


@pytest.fixture(params=list(CLIENTS.values()), ids=list(CLIENTS))
def asked(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def address(gateway: Gateway) -> Iterator[str]:
    with serving(gateway) as address:
        yield address


@pytest.mark.parametrize("method", ["sample", "sample_stream"])
@pytest.mark.parametrize("count", [1, BATCH_SIZE, 10, MAX_COUNT + 1])
def test_raw_images_of_any_count_come_from_triton(
    asked: Ask, gateway: Gateway, address: str, method: str, count: int
) -> None:
    images = asked(address, method, "m", range(5, 5 + count), labels="b", truncation=0.5)
    assert [(image.index, image.seed, image.label) for image in images] == [(i, 5 + i, 1) for i in range(count)]
    assert [int.from_bytes(image.bytes, "little") for image in images] == list(range(5, 5 + count))
    assert {(image.info.version, image.info.digest, image.info.truncation) for image in images} == {("3", DIGEST, 0.5)}
    assert (gateway.lookups, gateway.attempts) == (1, 0)
    sizes = sorted(infer.inputs[0].shape[0] for infer in gateway.infers)
    assert sizes == [*([count % BATCH_SIZE] if count % BATCH_SIZE else []), *[BATCH_SIZE] * (count // BATCH_SIZE)]
    assert {(infer.model_name, infer.model_version) for infer in gateway.infers} == {("m", "3")}


@pytest.mark.parametrize("seeds", [range(5, 15), [7, 2**64 - 1, 3], 8])
def test_image_without_a_label_has_that_of_its_seed(asked: Ask, gateway: Gateway, address: str, seeds: Any) -> None:
    images = asked(address, "sample", "m", seeds)
    assert [image.label for image in images] == [image.seed % 3 for image in images]
    sent = [np.frombuffer(infer.raw_input_contents[2], np.int64).tolist() for infer in gateway.infers]
    assert sorted(label for batch in sent for label in batch) == sorted(image.label for image in images)


def test_decode_and_encode_go_to_the_models_of_their_roles(gateway: Gateway, address: str) -> None:
    with Sampler(address) as sampler:
        sampler._models.put(pb.GetModelRequest(model="m"), sampler.model("m"))
        posterior = sampler.encode("m", np.zeros((6, 1, 2, 4), np.uint8))
        decoded = sampler.decode("m", np.arange(4, dtype=np.float32).reshape(2, 2), labels=0)
    assert posterior.mean.shape == posterior.logvar.shape == (6, 2)
    assert (posterior.version, posterior.digest) == ("3", DIGEST)
    assert np.frombuffer(b"".join(decoded.bytes), np.float32).tolist() == [0, 1, 2, 3]
    assert [(image.seed, image.label) for image in decoded] == [(None, 0)] * 2
    assert [infer.model_name for infer in gateway.infers] == ["m-encode", "m-encode", "m-decode"]


def test_image_files_come_from_the_service(asked: Ask, gateway: Gateway, address: str) -> None:
    assert [image.seed for image in asked(address, "sample", "m", [7, 8], format="png")] == [7, 8]
    assert (gateway.lookups, gateway.attempts, gateway.infers) == (0, 1, [])


def test_address_without_kserve_is_asked_once(gateway: Gateway, address: str) -> None:
    gateway.triton = [Failure(code=grpc.StatusCode.UNIMPLEMENTED, details="unknown method")]
    with Sampler(address) as sampler:
        for _ in range(3):
            assert [image.seed for image in sampler.sample("m", [7, 8])] == [7, 8]
    assert (len(gateway.infers), gateway.attempts) == (1, 3)


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_stream_goes_on_at_the_service_where_triton_left_it(
    asked: Ask, gateway: Gateway, address: str, code: grpc.StatusCode
) -> None:
    gateway.gone_from = 8
    gateway.triton = [Failure(code=code, details="model is gone")] * 20
    images = asked(address, "sample_stream", "m", range(20), labels=2)
    assert sorted((image.index, image.seed) for image in images) == [(i, i) for i in range(20)]
    (request,) = gateway.requests
    assert (request.range.first, request.range.count) == (8, 12)
    assert (request.version, request.digest, list(request.labels)) == ("3", DIGEST, [2])


def test_quota_of_the_gateway_is_waited_for(asked: Ask, gateway: Gateway, address: str) -> None:
    slower = Failure(code=grpc.StatusCode.RESOURCE_EXHAUSTED, metadata=(("grpc-retry-pushback-ms", "10"),))
    gateway.triton = [slower, slower, slower]
    assert [image.seed for image in asked(address, "sample", "m", range(10))] == list(range(10))
    assert (gateway.attempts, len(gateway.infers)) == (0, 6)


@pytest.mark.parametrize(("method", "first"), [("sample", 0), ("sample_stream", 8)])
def test_rest_of_a_call_that_is_over_its_rate_goes_to_the_service_as_one_request(
    asked: Ask, gateway: Gateway, address: str, method: str, first: int
) -> None:
    gateway.gone_from = 8
    over = Failure(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=LIMITED, metadata=(("grpc-retry-pushback-ms", "10"),)
    )
    gateway.triton = [over] * 99
    gateway.failures = [over]  # the quota is that of the service's requests too
    images = asked(address, method, "m", range(40))
    assert sorted((image.index, image.seed) for image in images) == [(i, i) for i in range(40)]
    assert [(request.range.first, request.range.count) for request in gateway.requests] == [(first, 40 - first)] * 2
    assert len(gateway.infers) <= 2 + direct.IN_FLIGHT


def test_one_batch_that_is_over_its_rate_waits_for_triton(asked: Ask, gateway: Gateway, address: str) -> None:
    metadata = (("grpc-retry-pushback-ms", "10"),)
    gateway.triton = [Failure(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=LIMITED, metadata=metadata)]
    assert [image.seed for image in asked(address, "sample", "m", range(BATCH_SIZE))] == list(range(BATCH_SIZE))
    assert (gateway.attempts, len(gateway.infers)) == (0, 2)


def test_quota_without_a_hint_is_an_error(asked: Ask, gateway: Gateway, address: str) -> None:
    gateway.triton = [Failure(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="too large")]
    with pytest.raises(ResourceExhaustedError, match="too large"):
        asked(address, "sample", "m", 1)


def test_deadline_is_an_error_at_once(asked: Ask, gateway: Gateway, address: str) -> None:
    gateway.triton = [Failure(code=grpc.StatusCode.DEADLINE_EXCEEDED)]
    with pytest.raises(DeadlineExceededError):
        asked(address, "sample", "m", 1)
    assert gateway.attempts == 0


def test_bad_field_is_refused_in_the_words_of_the_service_before_it_is_sent(
    asked: Ask, gateway: Gateway, address: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^truncation must be within \[0, 1\.5\]; got 2\.$"):
        asked(address, "sample", "m", 1, truncation=2)
    with pytest.raises(
        InvalidArgumentError, match=r"^labels\[0\] must be within \[0, 2\]; got 9\. Labels of m: 0 \(a\)"
    ):
        asked(address, "sample_stream", "m", 1, labels=9)
    assert (gateway.attempts, gateway.infers) == (0, [])


def test_reply_of_another_size_is_an_error(asked: Ask, gateway: Gateway, address: str) -> None:
    gateway.pixels = 3
    with pytest.raises(InternalError, match=r"output image of m must have 8 bytes; got 3"):
        asked(address, "sample", "m", 1)


def test_model_is_looked_up_again_once_it_is_not_fresh(
    gateway: Gateway, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sampler(address) as sampler:
        sampler.sample("m", 1)
        sampler.sample("m", 2)
        assert gateway.lookups == 1
        monkeypatch.setattr(direct, "FRESH_S", 0.0)
        sampler.sample("m", 3)
    assert gateway.lookups == 2


def test_sample_of_more_than_one_reply_holds_is_put_together_from_a_stream(gateway: Gateway, address: str) -> None:
    with Sampler(address, direct=False) as sampler:
        images = sampler.sample("m", range(MAX_COUNT + 1))
    assert [image.seed for image in images] == list(range(MAX_COUNT + 1))
    assert isinstance(gateway.requests[0], pb.SampleRequest)
    assert images.info.version == "3"


def test_batches_that_nobody_waits_for_are_not_cancelled(gateway: Gateway, address: str) -> None:
    with Sampler(address) as sampler:
        for image in sampler.sample_stream("m", range(100)):
            assert image.seed == 0
            break
        sampler.sample("m", 1)
    assert len(gateway.infers) <= direct.IN_FLIGHT + 2
