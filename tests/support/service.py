"""The sampling service in the test's own process: our real grpc.aio server on a free port, on a loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from ganvas.v1 import sampler_pb2 as pb
from ganvas.v1 import sampler_pb2_grpc
from ganvas_core.names import MAX_MESSAGE_BYTES
from serving.options import ServeOptions
from serving.repository.reader import Repository
from serving.service.rpc.server import SamplingServer

T = TypeVar("T")

CALL_TIMEOUT_S = 90.0
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
]


class LoopThread:
    """An event loop in a thread, for servers that sync tests call."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Service:
    """A running sampling service, and a client's view of it."""

    def __init__(self, loop: LoopThread, server: SamplingServer, port: int) -> None:
        self.loop = loop
        self.server = server
        self.address = f"127.0.0.1:{port}"
        self.channel = grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        self.stub: Any = sampler_pb2_grpc.SamplerStub(self.channel)  # type: ignore[no-untyped-call]


async def wait_left(service: Service) -> None:
    """Return once the service has heard that the caller of each of its calls has left."""
    while not all(task.cancelling() for task in service.server.calls._running.values()):
        await asyncio.sleep(0.005)


def sample_request(count: int = 1, *, model: str = "tiny-gan", first: int = 0, **fields: Any) -> pb.SampleRequest:
    """`count` consecutive seeds."""
    return pb.SampleRequest(model=model, range=pb.SeedRange(first=first, count=count), **fields)


def failure_of(call: Callable[[], Any]) -> Any:
    """The RpcError that a call ends with; a streamed reply is read to its end."""
    try:
        reply = call()
        if isinstance(reply, grpc.Call):
            list(reply)  # type: ignore[call-overload]
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


@contextmanager
def running_service(
    loop: LoopThread, repository: Repository, triton: str, *, get_ready: bool = True, **settings: Any
) -> Iterator[Service]:
    """A service on a free port over the Triton (or KServe v2 peer) at host:port.

    Args:
        settings: fields of ServeOptions.
    """
    options = ServeOptions(repository=repository.folder, port=0, **{"drain_s": 10.0, **settings})

    async def start() -> tuple[SamplingServer, int]:
        server = SamplingServer(options, repository, triton=triton)
        port = await server.start()
        if get_ready:
            await server.get_ready()
        return server, port

    server, port = loop.run(start())
    service = Service(loop, server, port)
    try:
        yield service
    finally:
        service.channel.close()
        loop.run(server.stop())
