"""Starting, draining and stopping, as callers and load balancers see it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ganvas.v1 import sampler_pb2 as pb
from serving.repository.reader import Repository
from serving.service.rpc.server import PortInUseError, SamplingServer
from tests.support.gateway import eventually
from tests.support.kserve import KServe
from tests.support.service import LoopThread, Service, failure_of, running_service, sample_request

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TIMEOUT_S = 60.0


@pytest.fixture
def service(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Service]:
    with running_service(loop_thread, repository, peer.address, drain_s=60.0) as service:
        yield service


def health(service: Service) -> Any:
    return health_pb2_grpc.HealthStub(service.channel)


async def start_drain(service: Service) -> asyncio.Task[None]:
    """Start a drain in the background; returns once it has begun."""
    task = asyncio.create_task(service.server.drain())
    await asyncio.sleep(0)
    return task


async def finish(task: asyncio.Task[None]) -> None:
    await task


@pytest.mark.parametrize("name", ["", "ganvas.v1.Sampler"])
def test_health_is_serving_when_ready(service: Service, name: str) -> None:
    assert health(service).Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING


def test_health_of_an_unknown_service_is_not_found(service: Service) -> None:
    error = failure_of(lambda: health(service).Check(health_pb2.HealthCheckRequest(service="other.Service")))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_drain_finishes_accepted_work_and_turns_new_work_away(
    service: Service, peer: KServe, loop_thread: LoopThread
) -> None:
    loop_thread.run(peer.hold())
    unary = service.stub.Sample.future(sample_request(40))
    stream = service.stub.SampleStream(sample_request(300))
    eventually(lambda: len(service.server.calls) == 2)
    drain = loop_thread.run(start_drain(service))
    error = failure_of(lambda: service.stub.Sample(sample_request(1)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "draining" in error.details()
    assert health(service).Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
    loop_thread.run(peer.release())
    assert len(unary.result(TIMEOUT_S).images) == 40
    assert sum(len(reply.images) for reply in stream) == 300
    loop_thread.run(finish(drain))
    assert len(service.server.calls) == 0


def test_drain_ends_unfinished_work_as_unavailable_when_its_time_is_up(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    with running_service(loop_thread, repository, peer.address, drain_s=0.2) as service:
        loop_thread.run(peer.hold())
        call = service.stub.Sample.future(sample_request(1))
        loop_thread.run(peer.wait_running(1))
        loop_thread.run(service.server.drain())
        error = failure_of(lambda: call.result(TIMEOUT_S))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "stopped before this call was done" in error.details()
        loop_thread.run(peer.release())
        loop_thread.run(peer.wait_running(0))


def test_hurry_cuts_a_drain_short(service: Service, peer: KServe, loop_thread: LoopThread) -> None:
    loop_thread.run(peer.hold())
    stream = service.stub.SampleStream(sample_request(300))
    loop_thread.run(peer.wait_running(2))
    drain = loop_thread.run(start_drain(service))
    loop_thread.run(hurry(service))
    error = failure_of(lambda: stream)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    loop_thread.run(finish(drain))


async def hurry(service: Service) -> None:
    service.server.hurry()


def test_every_watcher_hears_of_the_drain_when_another_watcher_has_left(
    service: Service, loop_thread: LoopThread
) -> None:
    request = health_pb2.HealthCheckRequest(service="ganvas.v1.Sampler")
    leaving, staying = (health(service).Watch(request, timeout=TIMEOUT_S) for _ in range(2))
    assert next(leaving).status == next(staying).status == SERVING
    leaving.cancel()
    late = health(service).Watch(request, timeout=TIMEOUT_S)
    assert next(late).status == SERVING
    loop_thread.run(service.server.drain())
    assert next(staying).status == next(late).status == NOT_SERVING


def test_stop_lets_watchers_go(loop_thread: LoopThread, repository: Repository, peer: KServe) -> None:
    with running_service(loop_thread, repository, peer.address) as service:
        watch = health(service).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert next(watch).status == SERVING
        loop_thread.run(service.server.drain())
        loop_thread.run(service.server.stop())
        assert [reply.status for reply in watch] == [NOT_SERVING]


def test_reflection_describes_the_sampler(service: Service) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="ganvas.v1.Sampler"),
    ]
    listed, described = stub.ServerReflectionInfo(iter(requests))
    names = {entry.name for entry in listed.list_services_response.service}
    assert {"ganvas.v1.Sampler", "grpc.health.v1.Health"} <= names
    (file, *_) = described.file_descriptor_response.file_descriptor_proto
    descriptor = descriptor_pb2.FileDescriptorProto.FromString(file)
    methods = {method.name for method in descriptor.service[0].method}
    assert methods == {"Sample", "SampleStream", "Decode", "Encode", "Walk", "ListModels", "GetModel"}


def test_port_in_use_is_rejected_by_name(service: Service, repository: Repository, loop_thread: LoopThread) -> None:
    port = int(service.address.rpartition(":")[2])
    options = service.server.options

    async def take() -> None:
        second = SamplingServer(
            dataclasses.replace(options, port=port), repository, triton=service.server.triton.address
        )
        try:
            await second.start()
        finally:
            await second.stop()

    with pytest.raises(PortInUseError, match=f"--port {port}"):
        loop_thread.run(take())


def test_every_call_leaves_one_log_line(
    service: Service, loop_thread: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="ganvas.access"):
        service.stub.Sample(sample_request(20))
        failure_of(lambda: service.stub.Sample(pb.SampleRequest(model='x"\nfake=1', seeds=[1])))
        loop_thread.run(service.server.calls.wait_idle())
    lines = [record.getMessage() for record in caplog.records if record.name == "ganvas.access"]
    good, bad = sorted(lines, key=lambda line: "code=OK" not in line)
    fields = dict(pair.split("=", 1) for pair in good.split())
    assert (fields["method"], fields["model"], fields["count"], fields["code"]) == ("Sample", "tiny-gan", "20", "OK")
    assert float(fields["total_ms"]) >= float(fields["inference_ms"]) > 0
    assert fields["peer"].startswith("ipv4:127.0.0.1:")
    assert "code=NOT_FOUND" in bad
    assert "\n" not in bad


def test_calls_that_went_well_are_not_logged_by_default(
    service: Service, loop_thread: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="ganvas.access"):
        service.stub.Sample(sample_request(20))
        failure_of(lambda: service.stub.Sample(sample_request(1, model="nobody")))
        loop_thread.run(service.server.calls.wait_idle())
    (line,) = (record.getMessage() for record in caplog.records if record.name == "ganvas.access")
    assert "code=NOT_FOUND" in line
