"""Images that were made before are answered without computing, by choice; never those of another version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ganvas.v1 import sampler_pb2 as pb
from serving.repository.reader import Repository
from serving.service.inference.cache import ENTRY_BYTES, ImageCache
from tests.support.kserve import KServe
from tests.support.service import LoopThread, Service, running_service, sample_request


@pytest.fixture
def service(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Service]:
    with running_service(loop_thread, repository, peer.address, cache_mib=1) as service:
        yield service


def computed(service: Service) -> float:
    metrics = service.server.metrics
    return sum(sample.value for family in metrics.images.collect() for sample in family.samples)


def count(service: Service, name: str) -> float:
    return float(service.server.metrics.registry.get_sample_value(name, {"model": "tiny-gan"}) or 0.0)


@pytest.mark.parametrize("how", [pb.FORMAT_RAW, pb.FORMAT_PNG])
def test_same_request_is_answered_from_the_cache_with_the_same_bytes(service: Service, how: pb.Format) -> None:
    first = service.stub.Sample(sample_request(3, format=how))
    again = service.stub.Sample(sample_request(3, format=how))
    part = service.stub.Sample(sample_request(1, first=2, format=how))
    assert computed(service) == 3
    assert again.images == first.images
    assert again.info == first.info
    assert part.images[0].data == first.images[2].data
    assert part.images[0].seed == 2
    assert again.timing.inference_us == 0
    assert count(service, "ganvas_cache_hits_total") == 2
    assert count(service, "ganvas_cache_misses_total") == 1
    assert service.server.cache is not None
    assert service.server.cache.bytes == 3 * (len(first.images[0].data) + ENTRY_BYTES) or how == pb.FORMAT_PNG


def test_other_truncation_label_or_role_is_another_image(service: Service) -> None:
    service.stub.Sample(sample_request(1, labels=[0]))
    service.stub.Sample(sample_request(1, labels=[1]))
    service.stub.Sample(sample_request(1, labels=[0], truncation=0.5))
    assert computed(service) == 3
    assert count(service, "ganvas_cache_hits_total") == 0


def test_streams_are_always_computed(service: Service) -> None:
    for _ in range(2):
        list(service.stub.SampleStream(sample_request(40)))
    assert computed(service) == 80


def test_everything_is_forgotten_when_what_is_served_changes(service: Service) -> None:
    service.stub.Sample(sample_request(1))
    server = service.server
    service.loop.run(_publish(server))
    service.stub.Sample(sample_request(1))
    assert computed(service) == 2


async def _publish(server: Any) -> None:
    server._publish(server.sampler.catalog)


def test_cache_keeps_its_limit_and_what_was_asked_for_last(service: Service) -> None:
    (model,) = (model for model in service.server.sampler.catalog.all() if model.name == "tiny-gan")
    cache = ImageCache(3 * (10 + ENTRY_BYTES))

    def row(seed: int) -> dict[str, Any]:
        return {"seed": np.array([[seed]], np.uint64)}

    for seed in (1, 2, 3):
        cache.put(model, "gan", row(seed), bytes([seed]) * 10)
    assert cache.get(model, "gan", row(1)) == b"\1" * 10
    cache.put(model, "gan", row(4), b"\4" * 10)
    assert cache.get(model, "gan", row(2)) is None
    assert cache.get(model, "gan", row(1)) == b"\1" * 10
    assert len(cache) == 3
    assert cache.bytes == 3 * (10 + ENTRY_BYTES)
    assert cache.get(model, "gan-decode", row(1)) is None
    cache.put(model, "gan", row(5), bytes(1000))
    assert cache.get(model, "gan", row(5)) is None
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)
