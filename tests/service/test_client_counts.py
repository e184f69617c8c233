"""Calls for more images than the service puts into one stream: they are split, and nobody notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ganvas_client import InvalidArgumentError, Sampler
from ganvas_client.direct import IMAGE_COST_BYTES
from ganvas_client.noise import truncated_latents
from serving.repository.reader import Repository
from tests.support.asking import CLIENTS, OF_TRITON, THROUGH_THE_SERVICE, Ask
from tests.support.kserve import KServe
from tests.support.scripted import DIGEST, Failure, serving
from tests.support.scripted_triton import MODEL, Gateway
from tests.support.service import LoopThread, Service, running_service

LIMIT = MODEL.limits.max_stream_count
COUNT = 2 * LIMIT + 500
SCATTERED = [7 * seed for seed in range(COUNT)]

METHODS = pytest.mark.parametrize("method", ["sample", "sample_stream"])
SYNC_AND_ASYNC = pytest.mark.parametrize("kind", list(CLIENTS))


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def address(gateway: Gateway) -> Iterator[str]:
    with serving(gateway) as address:
        yield address


def places(images: list[Any]) -> list[tuple[int, int]]:
    return sorted((image.index, image.seed) for image in images)


@SYNC_AND_ASYNC
@METHODS
@pytest.mark.parametrize("seeds", [range(5, 5 + COUNT), SCATTERED], ids=["range", "list"])
def test_service_is_asked_in_parts(gateway: Gateway, address: str, kind: str, method: str, seeds: Any) -> None:
    labels = [seed % 3 for seed in seeds]
    images = THROUGH_THE_SERVICE[kind](address, method, "m", seeds, labels=labels)
    assert places(images) == list(enumerate(seeds))
    assert sorted((image.index, image.label) for image in images) == list(enumerate(labels))
    assert [len(request.labels) for request in gateway.requests] == [LIMIT, LIMIT, 500]
    assert [len(request.seeds) or request.range.count for request in gateway.requests] == [LIMIT, LIMIT, 500]
    assert [request.digest for request in gateway.requests] == ["", DIGEST, DIGEST]


@SYNC_AND_ASYNC
@METHODS
def test_part_that_breaks_off_goes_on_where_it_was(gateway: Gateway, address: str, kind: str, method: str) -> None:
    gateway.failures = [Failure(), Failure(after=250), Failure(after=249)]
    images = THROUGH_THE_SERVICE[kind](address, method, "m", range(COUNT), labels=1)
    assert places(images) == [(i, i) for i in range(COUNT)]
    spans = [(request.range.first, request.range.count) for request in gateway.requests]
    assert spans == [(0, LIMIT), (0, LIMIT), (1000, LIMIT), (1996, 504)]
    assert [list(request.labels) for request in gateway.requests] == [[1]] * 4


@SYNC_AND_ASYNC
@METHODS
def test_rest_of_a_direct_call_goes_to_the_service_in_parts(
    gateway: Gateway, address: str, kind: str, method: str
) -> None:
    gateway.gone_from = 400
    gateway.triton = [Failure()] * COUNT
    images = CLIENTS[kind](address, method, "m", range(COUNT))
    assert places(images) == [(i, i) for i in range(COUNT)]
    first = 400 if method == "sample_stream" else 0
    spans = [(request.range.first, request.range.count) for request in gateway.requests]
    assert spans == [(at, min(LIMIT, COUNT - at)) for at in range(first, COUNT, LIMIT)]


@SYNC_AND_ASYNC
@METHODS
@pytest.mark.parametrize("ways", [CLIENTS, OF_TRITON], ids=["gateway", "triton"])
def test_triton_is_asked_whatever_the_count(
    gateway: Gateway, address: str, monkeypatch: pytest.MonkeyPatch, ways: dict[str, Ask], kind: str, method: str
) -> None:
    monkeypatch.setattr("ganvas_client.triton.MOST_IMAGES", 100)
    images = ways[kind](address, method, "m", range(LIMIT + 1))
    assert places(images) == [(i, i) for i in range(LIMIT + 1)]
    assert gateway.attempts == 0


@pytest.mark.parametrize("ways", [CLIENTS, THROUGH_THE_SERVICE, OF_TRITON], ids=["gateway", "service", "triton"])
@SYNC_AND_ASYNC
@METHODS
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], rf"^labels must hold none, one, or one each for {COUNT} images; got 2\.$"),
        ([0] * (COUNT - 1) + [3], rf"^labels\[{COUNT - 1}\] must be within \[0, 2\]; got 3\."),
    ],
)
def test_wrong_field_of_a_call_in_parts_is_refused_before_anything_is_made(
    gateway: Gateway, address: str, ways: dict[str, Ask], kind: str, method: str, labels: list[int], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ways[kind](address, method, "m", range(COUNT), labels=labels)
    assert (gateway.attempts, gateway.infers) == (0, [])


@pytest.mark.parametrize("ways", [CLIENTS, THROUGH_THE_SERVICE, OF_TRITON], ids=["gateway", "service", "triton"])
@SYNC_AND_ASYNC
def test_images_that_memory_cannot_hold_are_refused(
    gateway: Gateway, address: str, monkeypatch: pytest.MonkeyPatch, ways: dict[str, Ask], kind: str
) -> None:
    monkeypatch.setattr("ganvas_client.direct._MEMORY_BYTES", 400 * (8 + IMAGE_COST_BYTES))
    message = (
        r"^seeds must be at most 400 in one sample of m, .* 0 GiB of memory; got 401\. Use sample_stream, or split"
    )
    with pytest.raises(InvalidArgumentError, match=message):
        ways[kind](address, "sample", "m", range(401))
    assert (gateway.attempts, gateway.infers) == (0, [])
    assert len(ways[kind](address, "sample", "m", range(400))) == 400
    assert len(ways[kind](address, "sample_stream", "m", range(401))) == 401


@pytest.fixture
def small_service(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Service]:
    """It takes 10 images in one request, and 100 in one stream."""
    limits: dict[str, Any] = {"max_count": 10, "max_stream_count": 100}
    with running_service(loop_thread, repository, peer.address, **limits) as service:
        yield service


def test_parts_of_a_sample_have_the_bytes_of_one_call(shared_service: Service, small_service: Service) -> None:
    seeds = range(2**63, 2**63 + 257)
    with Sampler(shared_service.address, direct=False) as sampler:
        whole = sampler.sample("tiny-vae", seeds, truncation=0.5).bytes
    with Sampler(small_service.address, direct=False) as sampler:
        assert sampler.sample("tiny-vae", seeds, truncation=0.5).bytes == whole
        files = sorted(sampler.sample_stream("tiny-vae", seeds, truncation=0.5, format="png"), key=lambda i: i.index)
        assert [file.array.tobytes() for file in files] == whole


@SYNC_AND_ASYNC
@pytest.mark.parametrize("count", [10, 11, 25])
def test_sample_of_more_than_the_service_puts_into_one_reply_comes_in_parts(
    shared_service: Service, small_service: Service, kind: str, count: int
) -> None:
    """The client learns that the service takes less than usual from its refusal."""
    calls = [
        THROUGH_THE_SERVICE[kind](service.address, "sample", "tiny-gan", range(count), labels="3", format="png")
        for service in (shared_service, small_service)
    ]
    whole, parts = ([(image.index, image.seed, image.label, image.bytes) for image in images] for images in calls)
    assert parts == whole


@SYNC_AND_ASYNC
@pytest.mark.parametrize("format", ["raw", "png"])
@pytest.mark.parametrize("labels", ["3", [i % 10 for i in range(25)]], ids=["name", "list"])
def test_decode_of_more_than_the_service_takes_is_made_in_parts(
    shared_service: Service, small_service: Service, kind: str, format: str, labels: Any
) -> None:
    latents = truncated_latents(range(25), 1.0, (16,))
    calls = [
        THROUGH_THE_SERVICE[kind](service.address, "decode", "tiny-gan", latents, labels=labels, format=format)
        for service in (shared_service, small_service)
    ]
    whole, parts = ([(image.index, image.seed, image.label, image.bytes) for image in images] for images in calls)
    assert parts == whole
    assert [index for index, *_ in parts] == list(range(25))


def test_encode_of_more_than_the_service_takes_is_made_in_parts(
    shared_service: Service, small_service: Service
) -> None:
    with Sampler(shared_service.address, direct=False) as sampler:
        images = sampler.sample("tiny-vae", range(25), format="png")
        whole = sampler.encode("tiny-vae", images.array)
    with Sampler(small_service.address, direct=False) as sampler:
        for form in (images.array, images.bytes):
            parts = sampler.encode("tiny-vae", form)
            assert np.array_equal(parts.mean, whole.mean)
            assert np.array_equal(parts.logvar, whole.logvar)
            assert (parts.version, parts.digest) == (whole.version, whole.digest)


@SYNC_AND_ASYNC
@pytest.mark.parametrize(
    ("method", "values", "labels", "message"),
    [
        ("sample", range(5), [0] * 4, r"^labels must hold none, one, or one each for 5 images; got 4\."),
        ("sample", range(11), [0] * 12, r"^labels must hold none, one, or one each for 11 images; got 12\."),
        ("decode", [[0.0] * 16] * 11, [0] * 10 + [10], r"^labels\[10\] must be within \[0, 9\]; got 10\."),
        ("decode", [[0.0] * 17] * 16, 0, r"^shape of latents must be \[16, 16\]; got \[16, 17\]\."),
    ],
)
def test_what_is_wrong_with_a_call_is_said_whatever_its_count(
    small_service: Service, peer: KServe, kind: str, method: str, values: Any, labels: Any, message: str
) -> None:
    before = len(peer.batch_sizes)
    with pytest.raises(InvalidArgumentError, match=message):
        THROUGH_THE_SERVICE[kind](small_service.address, method, "tiny-gan", values, labels=labels)
    assert len(peer.batch_sizes) == before
