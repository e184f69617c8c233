"""What the service counts, the request ids that it gives back, and where it says the time went."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ganvas.v1 import sampler_pb2 as pb
from ganvas_client import NotFoundError, Sampler
from serving.repository.reader import Repository
from tests.support.gateway import eventually
from tests.support.kserve import KServe
from tests.support.service import LoopThread, Service, failure_of, running_service, sample_request, wait_left

MODEL = "tiny-gan"


@pytest.fixture
def service(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Service]:
    with running_service(loop_thread, repository, peer.address) as service:
        yield service


def values(service: Service) -> dict[str, float]:
    """name{label="value"} to value."""
    text = service.server.metrics.text()
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def settle(service: Service) -> dict[str, float]:
    """The metrics once every call has ended, its bytes sent."""
    service.loop.run(service.server.calls.wait_idle())
    return values(service)


def test_calls_images_and_bytes_are_counted(service: Service) -> None:
    request = sample_request(20, format=pb.FORMAT_PNG)
    reply = service.stub.Sample(request)
    list(service.stub.SampleStream(sample_request(40)))
    failure_of(lambda: service.stub.Sample(sample_request(1, model="nobody")))
    found = settle(service)
    assert found["ganvas_requests_total code=OK method=Sample"] == 1
    assert found["ganvas_requests_total code=NOT_FOUND method=Sample"] == 1
    assert found["ganvas_requests_total code=OK method=SampleStream"] == 1
    assert found["ganvas_images_total model=tiny-gan version=1"] == 60
    assert found["ganvas_batch_images_sum model=tiny-gan"] == 60
    assert found["ganvas_queue_seconds_count model=tiny-gan"] == 2
    assert found["ganvas_inference_seconds_count model=tiny-gan"] >= 4
    assert found["ganvas_encode_seconds_count format=png"] >= 2
    assert found["ganvas_sent_bytes_total method=Sample"] == len(reply.SerializeToString())
    assert found["ganvas_received_bytes_total method=Sample"] > len(request.SerializeToString())
    assert found["ganvas_calls method=Sample"] == found["ganvas_calls method=SampleStream"] == 0
    assert found["ganvas_serving"] == 1


def test_work_under_way_and_cancelled_is_seen(service: Service, peer: KServe, loop_thread: LoopThread) -> None:
    loop_thread.run(peer.hold())
    stream = service.stub.SampleStream(sample_request(400))
    loop_thread.run(peer.wait_running(2))
    found = values(service)
    assert found["ganvas_calls method=SampleStream"] == 1
    assert found["ganvas_triton_images"] > 0
    stream.cancel()
    loop_thread.run(wait_left(service))  # else it might get all its images before it is cancelled
    loop_thread.run(peer.release())
    found = settle(service)
    assert found["ganvas_requests_total code=CANCELLED method=SampleStream"] == 1
    assert found["ganvas_triton_images"] == found["ganvas_waiting_images"] == 0


def test_refusals_are_counted_by_reason(loop_thread: LoopThread, repository: Repository, peer: KServe) -> None:
    with running_service(loop_thread, repository, peer.address, max_calls=1) as service:
        loop_thread.run(peer.hold())
        held = service.stub.Sample.future(sample_request(1))
        loop_thread.run(peer.wait_running(1))
        assert failure_of(lambda: service.stub.Sample(sample_request(1))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        loop_thread.run(peer.release())
        held.result()
        assert settle(service)["ganvas_refused_total reason=calls"] == 1


def test_refusals_share_a_line_of_the_log(
    loop_thread: LoopThread,
    repository: Repository,
    peer: KServe,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("ganvas"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("ganvas"), "handlers", [])

    def lines() -> list[str]:
        return [record.getMessage() for record in list(caplog.records) if record.name == "ganvas.access"]

    def told(line: str) -> int:
        """The refused calls that a line is about."""
        more = re.fullmatch(r"event=more-refused total=(\d+) calls=\1", line)
        return int(more[1]) if more else 1

    with (
        caplog.at_level(logging.INFO, logger="ganvas.access"),
        running_service(loop_thread, repository, peer.address, max_calls=1) as service,
    ):
        loop_thread.run(peer.hold())
        held = service.stub.Sample.future(sample_request(1))
        loop_thread.run(peer.wait_running(1))
        refused = [service.stub.Sample.future(sample_request(1)) for _ in range(6)]
        assert all(call.exception() is not None for call in refused)
        eventually(lambda: sum(told(line) for line in lines()) == 6)
        loop_thread.run(peer.release())
        held.result()
    first, *rest = lines()
    assert "code=RESOURCE_EXHAUSTED" in first
    # One line, unless the calls came over more than a second.
    assert len(rest) < 5
    assert any(line.startswith("event=more-refused ") for line in rest)


def test_labels_are_nothing_that_a_caller_makes_up(service: Service) -> None:
    for name in ("nobody", 'x"} 1\n'):
        failure_of(lambda name=name: service.stub.Sample(sample_request(1, model=name)))  # type: ignore[misc]
    assert "nobody" not in service.server.metrics.text()


def test_request_id_of_the_caller_comes_back_and_is_logged(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A test before this one may have had the service log by a handler of its own.
    monkeypatch.setattr(logging.getLogger("ganvas"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("ganvas"), "handlers", [])
    with caplog.at_level(logging.DEBUG, logger="ganvas.access"):
        _, call = service.stub.Sample.with_call(sample_request(1), metadata=(("x-request-id", "my-id.7"),))
        error = failure_of(lambda: service.stub.Sample(sample_request(1, model="nobody")))
        stream = service.stub.SampleStream(sample_request(40), metadata=(("x-request-id", "streamed"),))
        assert dict(stream.initial_metadata())["x-request-id"] == "streamed"
        list(stream)
        settle(service)
    assert dict(call.trailing_metadata())["x-request-id"] == "my-id.7"
    made = dict(error.trailing_metadata())["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", made)
    lines = [record.getMessage() for record in caplog.records if record.name == "ganvas.access"]
    assert sorted(line.rpartition("request_id=")[2] for line in lines) == sorted(["my-id.7", made, "streamed"])


@pytest.mark.parametrize("bad", ["", "two words", "a" * 101, "x=y"])
def test_request_id_that_is_none_is_replaced(service: Service, bad: str) -> None:
    _, call = service.stub.Sample.with_call(sample_request(1), metadata=(("x-request-id", bad),))
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 36


def test_times_are_in_the_reply_its_metadata_and_the_model(service: Service) -> None:
    assert not service.stub.GetModel(pb.GetModelRequest(model=MODEL)).HasField("recent")
    reply, call = service.stub.Sample.with_call(sample_request(30, format=pb.FORMAT_PNG))
    timing = reply.timing
    assert timing.total_us >= timing.queue_us + timing.inference_us
    assert timing.inference_us > 0
    assert timing.encode_us > 0
    parts = dict(part.split(";dur=") for part in dict(call.trailing_metadata())["server-timing"].split(", "))
    assert parts.keys() == {"queue", "inference", "encode"}
    assert float(parts["inference"]) == pytest.approx(timing.inference_us / 1000)
    recent_timing = service.stub.GetModel(pb.GetModelRequest(model=MODEL)).recent
    recent_timing.total_us = timing.total_us  # which goes on until the reply is made
    assert recent_timing == timing
    with Sampler(service.address, direct=False) as sampler:
        recent = sampler.model(MODEL).recent
        assert recent is not None
        assert recent.inference_us == timing.inference_us
        with pytest.raises(NotFoundError) as caught:
            sampler.sample("nobody", 1)
        assert len(caught.value.request_id) == 36


def test_wait_of_a_call_is_its_queue_time(service: Service, peer: KServe, loop_thread: LoopThread) -> None:
    service.stub.Sample(sample_request(1))
    loop_thread.run(peer.hold())
    first: Any = [service.stub.Sample.future(sample_request(200)) for _ in range(2)]
    loop_thread.run(peer.wait_running(2))
    late = service.stub.Sample.future(sample_request(200))
    eventually(lambda: values(service)["ganvas_calls method=Sample"] == 3)
    loop_thread.run(peer.release())
    for call in first:
        call.result()
    assert late.result().timing.queue_us > 0
