"""Triton goes away and comes back: what was accepted is done, without a gap, a repeat or a wrong image."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as kserve

from ganvas.v1 import sampler_pb2 as pb
from serving.repository.reader import Rejected, Repository
from serving.service.inference.wanted import Wanted
from tests.support.gateway import eventually
from tests.support.kserve import KServe
from tests.support.service import LoopThread, Service, failure_of, running_service, sample_request

TIMEOUT_S = 90.0
GONE = [
    (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    (grpc.StatusCode.CANCELLED, "CANCELLED"),
    (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'tiny-gan' is not found"),
    (grpc.StatusCode.INTERNAL, "Failed to process the request(s), message: Stub process 'tiny-gan_0' is not healthy."),
]


@pytest.fixture
def service(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Service]:
    with running_service(loop_thread, repository, peer.address) as service:
        yield service


async def fail(peer: KServe, failure: tuple[grpc.StatusCode, str] | None) -> None:
    peer.failure = failure


@pytest.mark.parametrize("failure", GONE)
def test_accepted_calls_wait_until_triton_is_back(
    service: Service, peer: KServe, loop_thread: LoopThread, failure: tuple[grpc.StatusCode, str]
) -> None:
    expected = list(service.stub.Sample(sample_request(40)).images)
    loop_thread.run(fail(peer, failure))
    peer.batch_sizes.clear()
    calls = [service.stub.Sample.future(sample_request(40), timeout=TIMEOUT_S) for _ in range(3)]
    encode = service.stub.Encode.future(pb.EncodeRequest(model="tiny-vae", images=[bytes(1024)]), timeout=TIMEOUT_S)
    while len(peer.batch_sizes) < 8:
        assert not any(call.done() for call in (*calls, encode))
        time.sleep(0.001)
    loop_thread.run(fail(peer, None))
    assert all(list(call.result(TIMEOUT_S).images) == expected for call in calls)
    assert encode.result(TIMEOUT_S).mean


@pytest.mark.parametrize("failure", GONE)
def test_streams_go_on_where_they_were(
    service: Service, peer: KServe, loop_thread: LoopThread, failure: tuple[grpc.StatusCode, str]
) -> None:
    walk = pb.WalkRequest(model="tiny-gan", seeds=[1, 2, 3], steps=200)

    def read() -> tuple[list[pb.Image], list[pb.Image]]:
        streams = service.stub.SampleStream(sample_request(400), timeout=TIMEOUT_S), service.stub.Walk(walk)
        images, frames = ([image for reply in stream for image in reply.images] for stream in streams)
        return sorted(images, key=lambda image: image.index), frames

    expected = read()
    loop_thread.run(fail(peer, failure))
    peer.batch_sizes.clear()
    with ThreadPoolExecutor() as pool:
        again = pool.submit(read)
        for asked in (2, 20, 30):
            while len(peer.batch_sizes) < asked:
                assert not again.done()
                time.sleep(0.001)
            loop_thread.run(fail(peer, None))
            while len(peer.batch_sizes) < asked + 6:
                assert not again.done()
                time.sleep(0.001)
            loop_thread.run(fail(peer, failure))
        loop_thread.run(fail(peer, None))
        assert again.result(TIMEOUT_S) == expected


def test_dead_process_of_a_model_is_reported(service: Service, peer: KServe, loop_thread: LoopThread) -> None:
    suspects: list[str] = []
    service.server.triton.on_suspect = suspects.append
    loop_thread.run(fail(peer, GONE[-1]))
    call = service.stub.Sample.future(sample_request(1), timeout=TIMEOUT_S)
    eventually(lambda: len(suspects) > 1)
    assert not call.done()
    call.cancel()
    assert set(suspects) == {"tiny-gan"}


def test_batch_without_an_answer_is_sent_again(service: Service, peer: KServe, loop_thread: LoopThread) -> None:
    service.server.triton.batch_timeout_s = 0.2
    loop_thread.run(peer.hold())
    call = service.stub.Sample.future(sample_request(1), timeout=TIMEOUT_S)
    loop_thread.run(peer.wait_running(2))
    assert not call.done()
    loop_thread.run(peer.release())
    assert len(call.result(TIMEOUT_S).images) == 1


def test_calls_under_way_wait_while_their_model_is_paused(
    service: Service, peer: KServe, loop_thread: LoopThread
) -> None:
    async def pause() -> None:
        service.server.dispatcher.pause("tiny-gan", 1)

    async def resume() -> None:
        service.server.dispatcher.resume("tiny-gan", 1)

    loop_thread.run(peer.hold())
    under_way = service.stub.Sample.future(sample_request(40), timeout=TIMEOUT_S)
    loop_thread.run(peer.wait_running(2))
    loop_thread.run(pause())
    assert service.server.dispatcher.in_flight() == 0
    loop_thread.run(peer.release())
    loop_thread.run(peer.wait_running(0))
    assert len(service.stub.Sample(sample_request(2, model="plain-gan")).images) == 2
    assert not under_way.done()
    loop_thread.run(resume())
    assert len(under_way.result(TIMEOUT_S).images) == 40
    assert len(service.stub.Sample(sample_request(1)).images) == 1


def test_version_that_is_loaded_anew_while_triton_comes_back_is_served_again(
    service: Service, loop_thread: LoopThread, repository: Repository
) -> None:
    expected = list(service.stub.Sample(sample_request(4)).images)
    models = service.server.models
    key = ("tiny-gan", 1)
    others = {(entry.name, entry.version): 1 for entry in repository.versions}

    async def load_anew_then_get_ready() -> None:
        models.want(Wanted(versions={**others, key: 2}, out={key: "its process is dead"}))
        models.want(Wanted(versions={**others, key: 2}))
        await service.server.get_ready()

    loop_thread.run(load_anew_then_get_ready())
    assert list(service.stub.Sample(sample_request(4), timeout=TIMEOUT_S).images) == expected


def test_version_that_is_refused_when_triton_is_back_is_reported_and_unavailable_meanwhile(
    service: Service, peer: KServe, loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = peer._infer

    def without_pixels(request: Any) -> Any:
        response = infer(request)
        if request.model_name == "tiny-gan":
            del response.raw_output_contents[:]
        return response

    async def reported(count: int) -> dict[str, Any]:
        reports = service.server.models.follow()
        found = [await anext(reports) for _ in range(count)]
        await reports.aclose()
        return {key[0]: (loads, outcome) for key, loads, outcome in found}

    monkeypatch.setattr(peer, "_infer", without_pixels)
    loop_thread.run(service.server.get_ready())
    outcomes = loop_thread.run(reported(6))  # of the start, and of this return
    loads, outcome = outcomes["tiny-gan"]
    assert isinstance(outcome, Rejected)
    assert (loads, outcome.transient) == (1, True)
    assert not isinstance(outcomes["plain-gan"][1], Rejected)
    for request in (sample_request(4), sample_request(4, version="1")):
        error = failure_of(functools.partial(service.stub.Sample, request))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "did not make its golden images and is being tried again" in error.details()
    assert len(service.stub.Sample(sample_request(4, model="plain-gan"), timeout=TIMEOUT_S).images) == 4


def test_service_of_which_every_version_is_refused_when_triton_is_back_goes_on(
    service: Service, peer: KServe, loop_thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_infer", lambda request: kserve.ModelInferResponse())
    loop_thread.run(service.server.get_ready())
    assert failure_of(lambda: service.stub.Sample(sample_request(4))).code() is grpc.StatusCode.UNAVAILABLE


def test_version_that_is_out_fails_at_once_and_is_served_when_it_is_not(
    service: Service, peer: KServe, loop_thread: LoopThread, repository: Repository
) -> None:
    models = service.server.models
    versions = {(entry.name, entry.version): 1 for entry in repository.versions}

    async def want(wanted: Wanted) -> None:
        models.want(wanted)

    # A call that is in Triton when the version is taken out is done when it is back.
    key = ("tiny-gan", 1)
    loop_thread.run(peer.hold())
    accepted = service.stub.Sample.future(sample_request(4), timeout=TIMEOUT_S)
    loop_thread.run(peer.wait_running(1))
    without = {other: loads for other, loads in versions.items() if other != key}
    loop_thread.run(want(Wanted(versions=without, out={key: "it gave a wrong image"})))
    error = failure_of(lambda: service.stub.Sample(sample_request(4), timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    # The batch is taken back at once, and not when the wait for its answer ends after 15 s.
    assert service.server.dispatcher.in_flight() == 0
    loop_thread.run(peer.release())
    loop_thread.run(want(Wanted(versions=versions)))
    assert len(accepted.result(TIMEOUT_S).images) == 4
    assert len(service.stub.Sample(sample_request(4), timeout=TIMEOUT_S).images) == 4


def test_list_says_what_is_out(service: Service, loop_thread: LoopThread, repository: Repository) -> None:
    versions = {(entry.name, entry.version): 1 for entry in repository.versions}
    without = {key: loads for key, loads in versions.items() if key != ("tiny-gan", 1)}

    async def want(wanted: Wanted) -> None:
        service.server.models.want(wanted)

    def listed() -> dict[str, pb.Model]:
        return {model.name: model for model in service.stub.ListModels(pb.ListModelsRequest()).models}

    before = listed()
    loop_thread.run(want(Wanted(versions=without, out={("tiny-gan", 1): "is being loaded again"})))
    out = pb.Model(name="tiny-gan", version="1", out="is being loaded again")
    assert listed() == before | {"tiny-gan": out}
    # A pin that cannot be kept: the other version is there for those who name it.
    pinned = Wanted(versions=versions, defaults={"tiny-gan": 2}, out={("tiny-gan", 2): "is pinned"})
    loop_thread.run(want(pinned))
    assert listed() == before | {"tiny-gan": pb.Model(name="tiny-gan", version="2", versions=["1"], out="is pinned")}
    loop_thread.run(want(Wanted(versions=versions)))
    assert listed() == before
