"""The client library when a call fails, times out or is abandoned."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest

from ganvas_client import (
    AsyncSampler,
    CallCancelledError,
    DeadlineExceededError,
    GanvasError,
    Image,
    ResourceExhaustedError,
    Sampler,
    UnavailableError,
    UnimplementedError,
)
from serving.repository.reader import Repository
from tests.support.kserve import KServe
from tests.support.patience import TooSlowError, with_time
from tests.support.ports import free_port
from tests.support.scripted import Scripted, serving
from tests.support.service import LoopThread, Service, running_service


@pytest.fixture
def breakable(loop_thread: LoopThread, repository: Repository, peer: KServe) -> Iterator[Sampler]:
    """A client of a service whose Triton the test can block or stop."""
    with (
        running_service(loop_thread, repository, peer.address) as service,
        Sampler(service.address, direct=False) as sampler,
    ):
        yield sampler


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("Sample", lambda sampler: sampler.sample("tiny-gan", range(2), timeout_s=0.2)),
        ("SampleStream", lambda sampler: next(sampler.sample_stream("tiny-gan", range(2), timeout_s=0.2))),
    ],
)
def test_deadline_ends_a_call_that_takes_too_long(
    breakable: Sampler, peer: KServe, loop_thread: LoopThread, method: str, call: Callable[[Sampler], Any]
) -> None:
    loop_thread.run(peer.hold())
    with pytest.raises(DeadlineExceededError, match=rf"{method} at .* did not finish within timeout_s 0\.2\."):
        call(breakable)
    loop_thread.run(peer.release())
    assert len(breakable.sample("tiny-gan", range(2))) == 2


def leave_by_break(stream: Iterator[Image]) -> None:
    for _ in stream:
        break


def leave_by_close(stream: Any) -> None:
    next(stream)
    stream.close()


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_close])
def test_leaving_a_stream_spares_triton_the_rest(
    breakable: Sampler, peer: KServe, loop_thread: LoopThread, leave: Callable[[Any], None]
) -> None:
    before = len(peer.batch_sizes)
    leave(breakable.sample_stream("tiny-gan", range(60_000)))
    breakable.sample("tiny-gan", 0)
    loop_thread.run(peer.wait_running(0))
    assert sum(peer.batch_sizes[before:]) < 30_000


def test_batch_of_a_cancelled_task_is_waited_for_and_dropped(
    loop_thread: LoopThread, repository: Repository, peer: KServe
) -> None:
    async def cancel(address: str) -> None:
        await peer.hold()
        async with AsyncSampler(address, direct=False) as client:
            task = asyncio.ensure_future(anext(client.sample_stream("tiny-gan", range(4))))
            await peer.wait_running(1)
            task.cancel()
            await peer.release()
            await peer.wait_running(0)

    with running_service(loop_thread, repository, peer.address) as service:
        loop_thread.run(cancel(service.address))
        loop_thread.run(service.server.calls.wait_idle())
    assert peer.cancelled == 0


def test_closing_a_sampler_ends_its_calls(breakable: Sampler, peer: KServe, loop_thread: LoopThread) -> None:
    loop_thread.run(peer.hold())
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(breakable.sample, "tiny-gan", 1)
        loop_thread.run(peer.wait_running(1))
        breakable.close()
        with pytest.raises(GanvasError):
            call.result(timeout=60)


def test_full_queue_says_when_to_try_again(breakable: Sampler, peer: KServe) -> None:
    peer.failure = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    def ask(timeout_s: float) -> None:
        try:
            breakable.sample("tiny-gan", 1, timeout_s=timeout_s)
        except DeadlineExceededError:  # the last attempt had no time for an answer
            raise TooSlowError from None

    with pytest.raises(ResourceExhaustedError, match="Retry in 100 ms") as caught:
        with_time(ask, 0.3)
    assert caught.value.retry_after_s == 0.1


def test_waiting_client_is_answered_once_the_service_is_up() -> None:
    port = free_port()
    with Sampler(f"127.0.0.1:{port}", wait_for_ready=True, direct=False) as sampler, ThreadPoolExecutor(1) as thread:
        call = thread.submit(sampler.sample, "m", 7, timeout_s=30)
        assert not wait([call], timeout=0.3).done
        with serving(Scripted(), port):
            assert call.result(timeout=30)[0].seed == 7


def test_another_grpc_server_at_the_address_is_named_as_such(peer: KServe) -> None:
    other = pytest.raises(UnimplementedError, match=f"what answers at {peer.address} is no sampling service")
    with Sampler(peer.address, direct=False) as sampler, other:
        sampler.models()


def test_nobody_at_the_address_says_what_to_start() -> None:
    address = f"127.0.0.1:{free_port()}"
    unreachable = pytest.raises(UnavailableError, match=f"no sampling service answers at {address} .*: ./ganvas serve")
    with Sampler(address, direct=False) as sampler, unreachable:
        sampler.models()


def test_credentials_make_the_connection_secure(loop_thread: LoopThread) -> None:
    with serving(Scripted(), credentials=grpc.local_server_credentials()) as address:
        with Sampler(address, credentials=grpc.local_channel_credentials(), direct=False) as sampler:
            assert sampler.sample("m", 7)[0].seed == 7

        async def ask() -> int | None:
            async with AsyncSampler(address, credentials=grpc.local_channel_credentials(), direct=False) as client:
                return (await client.sample("m", 7))[0].seed

        assert loop_thread.run(ask()) == 7


def test_async_sampler_can_be_made_before_its_loop(shared_service: Service, loop_thread: LoopThread) -> None:
    async def close(client: AsyncSampler) -> int:
        async with client:
            return len(await client.models())

    assert threading.current_thread() is threading.main_thread()
    work: Coroutine[Any, Any, int] = close(AsyncSampler(shared_service.address))
    assert loop_thread.run(work) == 3


@pytest.mark.parametrize("direct", [True, False])
def test_calls_after_close_say_that_the_client_was_closed(direct: bool) -> None:
    with serving(Scripted()) as address:
        sampler = Sampler(address, direct=direct)
        begun = sampler.sample_stream("m", range(3))
        sampler.close()
        sampler.close()
        asked: list[Callable[[], Any]] = [lambda: sampler.sample("m", 1), sampler.models, lambda: next(begun)]
        for ask in asked:
            with pytest.raises(CallCancelledError, match=rf"^the client of {address} was closed .* Make another"):
                ask()


def test_calls_after_close_say_so_with_asyncio_too() -> None:
    async def closed(address: str) -> None:
        async with AsyncSampler(address, direct=False) as sampler:
            await sampler.sample("m", 1)
        with pytest.raises(CallCancelledError, match="was closed"):
            await sampler.sample("m", 1)
        with pytest.raises(CallCancelledError, match="was closed"):
            await anext(sampler.sample_stream("m", 1))

    with serving(Scripted()) as address:
        asyncio.run(closed(address))


@pytest.mark.parametrize("make", [Sampler, Sampler.direct])
def test_waiting_for_a_server_that_never_comes_says_that_nobody_answered(make: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with (
            make(f"127.0.0.1:{taken.getsockname()[1]}", wait_for_ready=True) as sampler,
            pytest.raises(DeadlineExceededError, match=r"^Sample at .* within timeout_s 0\.3\. No .* has answered"),
        ):
            sampler.sample("m", 1, timeout_s=0.3)


@pytest.mark.parametrize("make", [Sampler, Sampler.direct])
def test_port_that_speaks_http_is_named_with_the_one_that_is_meant(make: Any) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with (
            make(f"127.0.0.1:{server.server_port}") as sampler,
            pytest.raises(UnavailableError, match=r"speaks no gRPC: .* of metrics .*(50051|8001)\)\.$"),
        ):
            sampler.sample("m", 1, timeout_s=60)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
