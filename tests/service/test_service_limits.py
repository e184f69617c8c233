"""What one caller can take from the others: bytes, calls, time. And what it cannot."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ganvas.v1 import sampler_pb2 as pb
from serving.repository.reader import Repository
from tests.support.kserve import KServe
from tests.support.patience import TooSlowError, in_time
from tests.support.proxy import SlowProxy
from tests.support.service import CHANNEL_OPTIONS, LoopThread, Service, failure_of, running_service, sample_request

TIMEOUT_S = 60.0
SAMPLER = "/ganvas.v1.Sampler/"
METHODS = ["Sample", "SampleStream", "Decode", "Encode", "Walk", "ListModels", "GetModel"]
MIB = 2**20


@pytest.fixture
def service(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Service]:
    with running_service(
        loop_thread, repository, peer.address, max_calls=16, request_memory_mib=128, max_wait_s=2 * TIMEOUT_S
    ) as service:
        yield service


@pytest.fixture
def impatient(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Service]:
    """A service that soon ends what does not move."""
    with running_service(loop_thread, repository, peer.address, read_s=0.5, stream_idle_s=1.0) as service:
        yield service


def as_caller(name: str) -> dict[str, Any]:
    return {"metadata": [("x-ganvas-caller", name)]}


def raw_call(service: Service, method: str, message: bytes) -> Any:
    """Bytes as the request of a method."""
    kind = service.channel.unary_stream if method in ("SampleStream", "Walk") else service.channel.unary_unary
    call: Callable[..., Any] = kind(SAMPLER + method, None, None)
    return failure_of(lambda: call(message, timeout=TIMEOUT_S))


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"\x0a\x7fshort", b"\x0b\x00"])
def test_undecodable_message_is_the_callers_mistake_and_is_logged(
    service: Service, loop_thread: LoopThread, caplog: pytest.LogCaptureFixture, method: str, message: bytes
) -> None:
    with caplog.at_level("INFO", logger="ganvas.access"):
        error = raw_call(service, method, message)
        loop_thread.run(service.server.calls.wait_idle())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be decoded" in error.details()
    assert f"method={method} code=INVALID_ARGUMENT" in caplog.text


@pytest.mark.parametrize("method", ["Sample", "ListModels", "GetModel"])
def test_message_too_long_for_its_method_is_not_parsed(service: Service, method: str) -> None:
    error = raw_call(service, method, b"\x0a" + bytes(200_000))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most" in error.details()
    assert "got 200001" in error.details()


def test_request_that_does_not_arrive_is_ended(impatient: Service) -> None:
    never: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    call = impatient.channel.stream_unary(SAMPLER + "Sample", None, None)
    error = failure_of(lambda: call(iter(never.get, b""), timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "did not arrive within 0.5 s" in error.details()


def test_compressed_request_is_refused_so_that_it_cannot_grow(service: Service) -> None:
    request = pb.EncodeRequest(model="tiny-vae", images=[bytes(40 * MIB)])
    error = failure_of(lambda: service.stub.Encode(request, compression=grpc.Compression.Gzip))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in error.details()


def test_large_requests_are_read_a_few_at_a_time_and_others_are_served_meanwhile(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, most = service.server.reader.memory, [0]
    take = memory.take

    def watched(caller: str, amount: int = 1) -> None:
        take(caller, amount)
        most[0] = max(most[0], memory.total)

    monkeypatch.setattr(memory, "take", watched)
    request = pb.EncodeRequest(model="nobody", images=[bytes(20 * MIB)])
    calls = [
        service.stub.Encode.future(request, timeout=TIMEOUT_S, **as_caller(name)) for name in "ab" for _ in range(4)
    ]
    assert len(service.stub.Sample(sample_request(3), timeout=TIMEOUT_S).images) == 3
    assert {failure_of(call.result).code() for call in calls} == {grpc.StatusCode.NOT_FOUND}
    assert 20 * MIB < most[0] <= 128 * MIB
    wait_until(lambda: memory.total == 0)


def test_streams_that_nobody_reads_leave_room_for_others(service: Service) -> None:
    unread = [service.stub.SampleStream(sample_request(100_000), **as_caller("greedy")) for _ in range(20)]
    wait_until(lambda: len(service.server.calls) == 8)
    refused = failure_of(lambda: service.stub.Sample(sample_request(1), **as_caller("greedy")))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(service.stub.Sample(sample_request(3), timeout=TIMEOUT_S, **as_caller("modest")).images) == 3
    for stream in unread:
        stream.cancel()


def test_stream_that_nobody_reads_ends_with_a_reason(impatient: Service, loop_thread: LoopThread, peer: KServe) -> None:
    channel = grpc.insecure_channel(
        impatient.address, options=[*CHANNEL_OPTIONS, ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1000)]
    )
    stub = channel.unary_stream(SAMPLER + "SampleStream", None, None)
    peer.batch_sizes.clear()
    stream = stub(sample_request(100_000).SerializeToString())
    calls = impatient.server.calls
    wait_until(lambda: [call.code for call in list(calls._running)] == [grpc.StatusCode.ABORTED])
    made = sum(peer.batch_sizes)
    assert 2 * 16 < made < 50_000
    error = failure_of(lambda: stream)
    assert sum(peer.batch_sizes) == made
    assert error.code() is grpc.StatusCode.ABORTED
    assert "nothing was read from this stream for 1 s" in error.details()
    loop_thread.run(calls.wait_idle())
    channel.close()


def first_to_end(calls: list[Any]) -> Any:
    """Of calls that reach the server in any order."""
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        for call in calls:
            if call.done():
                return call
        time.sleep(0.01)
    raise AssertionError(f"none of {len(calls)} calls ended within {TIMEOUT_S} s")


def first_to_answer(calls: list[Any]) -> Any:
    """Its first message."""
    for call in calls:
        with suppress(grpc.RpcError):
            return next(call)
    raise AssertionError("all calls were refused")


def test_watchers_have_a_limit_of_their_own(service: Service) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S) for _ in range(40)]
    refused = first_to_end(watches)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert first_to_answer(watches).status == health_pb2.HealthCheckResponse.SERVING
    assert len(service.stub.Sample(sample_request(3), timeout=TIMEOUT_S).images) == 3
    for watch in watches:
        watch.cancel()


def test_health_is_checked_beside_callers_who_take_all_that_they_get(impatient: Service) -> None:
    stub = health_pb2_grpc.HealthStub(impatient.channel)
    request, done = health_pb2.HealthCheckRequest(), threading.Event()

    def says_nothing() -> Iterator[bytes]:
        done.wait()
        yield from ()

    def check(**options: Any) -> int:
        return int(stub.Check(request, timeout=TIMEOUT_S, **options).status)

    # A connection of its own for each caller, as behind a gateway.
    with ExitStack() as stack:
        stack.callback(done.set)
        for name in ("a", "b", "c"):
            channel = stack.enter_context(grpc.insecure_channel(impatient.address, options=CHANNEL_OPTIONS))
            watch = health_pb2_grpc.HealthStub(channel).Watch
            watches = [watch(request, timeout=TIMEOUT_S, **as_caller(name)) for _ in range(128)]
            assert first_to_end(watches).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            if name == "a":
                assert first_to_answer(watches).status == health_pb2.HealthCheckResponse.SERVING
        for _ in range(20):
            assert check() == check(**as_caller("d")) == health_pb2.HealthCheckResponse.SERVING
        # Checks whose request never comes are broken off after read_s; the gateway's own probe does not wait for that.
        begin: Any = impatient.channel.stream_unary("/grpc.health.v1.Health/Check", None, None)
        held = [begin.future(says_nothing(), timeout=TIMEOUT_S, **as_caller(name)) for name in "abc" for _ in range(70)]
        wait_until(lambda: any(call.done() for call in held))
        assert check() == health_pb2.HealthCheckResponse.SERVING


def test_call_that_cannot_meet_its_deadline_is_refused_at_the_door(
    service: Service, loop_thread: LoopThread, peer: KServe
) -> None:
    loop_thread.run(peer.hold())
    held = [service.stub.Sample.future(sample_request(256), **as_caller(name)) for name in "abc"]
    wait_until(lambda: service.server.dispatcher.waiting() > 256)

    def refusal() -> Any:
        error = failure_of(lambda: service.stub.Sample(sample_request(256), timeout=0.05, **as_caller("late")))
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:  # it took as long to get to the door
            raise TooSlowError
        return error

    error = in_time(refusal)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "too long for the call's deadline" in error.details()
    (pushback,) = (int(value) for key, value in error.trailing_metadata() if key == "grpc-retry-pushback-ms")
    assert pushback >= 50
    loop_thread.run(peer.release())
    assert all(len(call.result(TIMEOUT_S).images) == 256 for call in held)


def test_replies_reach_a_slow_reader_before_the_server_is_gone(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    with running_service(loop_thread, repository, peer.address, drain_s=TIMEOUT_S) as service:
        proxy = SlowProxy(service.address, bytes_per_s=4e6)
        address = loop_thread.run(proxy.start())
        with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            grpc.channel_ready_future(channel).result(TIMEOUT_S)
            loop_thread.run(proxy.hold())
            call = channel.unary_unary(SAMPLER + "Sample", None, None)
            request = sample_request(256).SerializeToString()
            replies = [call.future(request, timeout=TIMEOUT_S) for _ in range(40)]
            wait_until(lambda: sum(peer.batch_sizes) >= 40 * 256)
            assert not any(reply.done() for reply in replies)

            async def drain_and_stop() -> None:
                draining = asyncio.create_task(service.server.drain())
                await asyncio.sleep(0)  # it has begun
                await proxy.release()
                await draining
                await service.server.stop()

            loop_thread.run(drain_and_stop())
            assert all(len(pb.SampleResponse.FromString(reply.result(TIMEOUT_S)).images) == 256 for reply in replies)
        loop_thread.run(proxy.stop())


def test_drain_gives_up_on_a_reader_that_has_stopped(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    with running_service(loop_thread, repository, peer.address, drain_s=0.5) as service:
        unread = service.stub.SampleStream(sample_request(100_000))
        wait_until(lambda: len(peer.batch_sizes) > 10)
        assert len(service.server.calls) == 1
        loop_thread.run(service.server.drain())  # fails if it is not done in time
        loop_thread.run(service.server.stop())
        wait_until(lambda: len(service.server.calls) == 0)
        # What was on its way still arrives, then an end that says to try again: never a stream that looks complete.
        with pytest.raises(grpc.RpcError) as failure:
            list(unread)
        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        assert sum(peer.batch_sizes) < 100_000


@pytest.mark.parametrize("method", ["Encode", "SampleStream"])
def test_request_of_a_failed_call_is_freed_with_the_call(service: Service, method: str) -> None:
    """gRPC keeps the exception of a call that failed: by its frames it would keep the request, up to 64 MiB of it."""
    kind: Any = pb.EncodeRequest if method == "Encode" else pb.SampleRequest
    fields = {"images": [bytes(MIB)]} if method == "Encode" else {"range": pb.SeedRange(count=1)}
    message = kind(model="nobody", **fields).SerializeToString()

    def kept() -> int:
        return sum(type(entry) is kind for entry in gc.get_objects())

    gc.collect()
    gc.disable()
    before = kept()
    try:
        for _ in range(3):
            assert raw_call(service, method, message).code() is grpc.StatusCode.NOT_FOUND
        wait_until(lambda: kept() <= before)
    finally:
        gc.enable()
