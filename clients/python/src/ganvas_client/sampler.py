"""Sampler and AsyncSampler: the calls of ganvas_client.calls over a gRPC channel, at once or awaitable.

An image is a pure function of (model digest, seed, truncation, label), so every call is safe to repeat:
ganvas_client.attempts says when, ganvas_client.streams from where.

Each method is made from the function of the same name in ganvas_client.calls, which has the arguments and builds the
request; _sync, _async and their stream forms add sending it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from types import ModuleType, TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import grpc
import grpc.aio

from ganvas.v1.sampler_pb2_grpc import SamplerStub
from ganvas_client import calls, tracing
from ganvas_client.attempts import REQUEST_ID, Attempts, Connection
from ganvas_client.calls import StreamCall, UnaryCall
from ganvas_client.errors import CallCancelledError, InvalidArgumentError
from ganvas_client.results import Image
from ganvas_client.streams import Progress
from ganvas_core.names import DEFAULT_ADDRESS, MAX_MESSAGE_BYTES

__all__ = ["DEFAULT_ADDRESS", "AsyncSampler", "Sampler"]

P = ParamSpec("P")
T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # they are ours, which know about streams and the service's hints
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A call on a connection that died without a word must not wait for its deadline.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def _sync(describe: Callable[P, UnaryCall[T]]) -> Callable[Concatenate[Sampler, P], T]:
    def method(self: Sampler, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._call(describe(*args, **kwargs))

    return _named_after(describe, method, "{}")


def _sync_stream(describe: Callable[P, StreamCall]) -> Callable[Concatenate[Sampler, P], Generator[Image, None, None]]:
    def method(self: Sampler, /, *args: P.args, **kwargs: P.kwargs) -> Generator[Image, None, None]:
        return self._stream(describe(*args, **kwargs))

    return _named_after(describe, method, "Generator[Image, None, None]")


def _async(describe: Callable[P, UnaryCall[T]]) -> Callable[Concatenate[AsyncSampler, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncSampler, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._call(describe(*args, **kwargs))

    return _named_after(describe, method, "{}")


def _async_stream(
    describe: Callable[P, StreamCall],
) -> Callable[Concatenate[AsyncSampler, P], AsyncGenerator[Image, None]]:
    def method(self: AsyncSampler, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Image, None]:
        return self._stream(describe(*args, **kwargs))

    return _named_after(describe, method, "AsyncGenerator[Image, None]")


def _named_after(describe: Callable[..., Any], method: Method, returns: str) -> Method:
    """Give a method the name, docstring and signature of its description, for help() and editors."""
    signature = inspect.signature(describe)
    result = str(signature.return_annotation).partition("[")[2].removesuffix("]")
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *signature.parameters.values()]
    method.__name__ = describe.__name__
    method.__doc__ = describe.__doc__
    vars(method)["__signature__"] = signature.replace(parameters=parameters, return_annotation=returns.format(result))
    return method


class _Client:
    """What Sampler and AsyncSampler share: the channel, its credentials, and what each call sends along."""

    _transport: ClassVar[ModuleType]
    """Either grpc or grpc.aio."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        wait_for_ready: bool = False,
        metadata: Callable[[], Iterable[tuple[str, str]]] | None = None,
    ) -> None:
        """
        Args:
            address: host:port of the sampling service.
            api_key: of the gateway, sent as `authorization: Bearer KEY`. Over plaintext whoever listens can read it.
            credentials: grpc.ssl_channel_credentials(…) for TLS, with key and certificate for mTLS. None: plaintext,
                for loopback and trusted networks.
            wait_for_ready: wait for a service that is not up yet, until the deadline, instead of failing at once.
            metadata: asked before every call for metadata to send along, such as a traceparent.
        """
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.split() == [api_key]):
            raise InvalidArgumentError("api_key must be printable ASCII without spaces.")
        self.address = address
        self._api_key = api_key
        self._credentials = credentials
        self._wait_for_ready = wait_for_ready
        self._metadata = metadata
        self._connection = Connection(address=address, tls=credentials is not None)
        self._closed = threading.Event()

    @functools.cached_property
    def _channel(self) -> Any:
        """Made on first use: a channel of grpc.aio belongs to the event loop that runs then."""
        if self._credentials is None:
            return self._transport.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        return self._transport.secure_channel(self.address, self._credentials, options=_CHANNEL_OPTIONS)

    @functools.cached_property
    def _stub(self) -> SamplerStub:
        return SamplerStub(self._channel)  # type: ignore[no-untyped-call]

    def _begin(self, call: UnaryCall[Any] | StreamCall, headers: Iterable[tuple[str, str]]) -> _Running:
        """A call that is about to be made.

        Args:
            headers: of its trace.
        """
        request_id = str(uuid.uuid4())
        metadata = [(REQUEST_ID, request_id), *headers, *(self._metadata() if self._metadata else ())]
        if self._api_key is not None:
            metadata.append(("authorization", f"Bearer {self._api_key}"))
        attempts = Attempts(self._connection, rpc=call.rpc, timeout_s=call.timeout_s, request_id=request_id)
        return _Running(self, call.rpc, attempts, metadata, request_id)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise CallCancelledError(f"the connection to {self.address} was closed before the call was done.")


class _Running:
    """One call over its attempts."""

    def __init__(
        self, client: _Client, rpc: str, attempts: Attempts, metadata: list[tuple[str, str]], request_id: str
    ) -> None:
        self.attempts = attempts
        self._client = client
        self._rpc = rpc
        self._metadata = metadata
        self._request_id = request_id

    def start(self, request: Any, *, with_call: bool = False) -> Any:
        """Make the next attempt."""
        method = getattr(self._client._stub, self._rpc)
        return (method.with_call if with_call else method)(
            request,
            timeout=self.attempts.remaining_s(),
            metadata=self._metadata,
            wait_for_ready=self._client._wait_for_ready,
        )

    def answered(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
        """Note that a reply came; gives the request id, the service's if it says one in its metadata."""
        self.attempts.answered()
        return next((str(value) for key, value in metadata or () if key == REQUEST_ID), self._request_id)


class Sampler(_Client):
    """A connection to the sampling service. Safe to share between threads; close it, or use it in a `with`."""

    _transport: ClassVar[ModuleType] = grpc

    sample = _sync(calls.sample)
    sample_stream = _sync_stream(calls.sample_stream)
    decode = _sync(calls.decode)
    encode = _sync(calls.encode)
    walk = _sync_stream(calls.walk)
    models = _sync(calls.models)
    model = _sync(calls.model)

    def close(self) -> None:
        """End the connection and every call on it."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Sampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, call: UnaryCall[T]) -> T:
        if call.named_labels:
            calls.fill_labels(call, self._call(calls.label_lookup(call)))
        with tracing.span(call.rpc, self.address) as headers:
            running = self._begin(call, headers)
            while True:
                try:
                    reply, done = running.start(call.request, with_call=True)
                except grpc.RpcError as error:
                    self._wait(running.attempts.wait_s(error))
                else:
                    return call.read(reply, running.answered(done.trailing_metadata()))

    def _stream(self, call: StreamCall) -> Generator[Image, None, None]:
        if call.named_labels:
            calls.fill_labels(call, self._call(calls.label_lookup(call)))
        progress = Progress(call.request)
        with tracing.span(call.rpc, self.address) as headers:
            running = self._begin(call, headers)
            while True:
                replies = running.start(progress.request)
                try:
                    for reply in replies:
                        yield from progress.take(reply, running.answered(replies.initial_metadata()))
                    return progress.finish()
                except grpc.RpcError as error:
                    if progress.done:
                        return None
                    self._wait(running.attempts.wait_s(error))
                    progress.resume()
                finally:
                    replies.cancel()

    def _wait(self, wait_s: float) -> None:
        self._closed.wait(wait_s)
        self._check_open()


class AsyncSampler(_Client):
    """A connection to the sampling service for asyncio. Close it, or use it in an `async with`."""

    _transport: ClassVar[ModuleType] = grpc.aio

    sample = _async(calls.sample)
    sample_stream = _async_stream(calls.sample_stream)
    decode = _async(calls.decode)
    encode = _async(calls.encode)
    walk = _async_stream(calls.walk)
    models = _async(calls.models)
    model = _async(calls.model)

    async def close(self) -> None:
        """End the connection and every call on it."""
        self._closed.set()
        await self._channel.close()

    async def __aenter__(self) -> AsyncSampler:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, call: UnaryCall[T]) -> T:
        if call.named_labels:
            calls.fill_labels(call, await self._call(calls.label_lookup(call)))
        with tracing.span(call.rpc, self.address) as headers:
            running = self._begin(call, headers)
            while True:
                try:
                    attempt = running.start(call.request)
                    reply = await attempt
                    return call.read(reply, running.answered(await attempt.trailing_metadata()))
                except grpc.RpcError as error:
                    await self._wait(running.attempts.wait_s(error))

    async def _stream(self, call: StreamCall) -> AsyncGenerator[Image, None]:
        if call.named_labels:
            calls.fill_labels(call, await self._call(calls.label_lookup(call)))
        progress = Progress(call.request)
        with tracing.span(call.rpc, self.address) as headers:
            running = self._begin(call, headers)
            while True:
                replies = running.start(progress.request)
                try:
                    async for reply in replies:
                        for image in progress.take(reply, running.answered(await replies.initial_metadata())):
                            yield image
                    progress.finish()
                    return
                except grpc.RpcError as error:
                    if progress.done:
                        return
                    await self._wait(running.attempts.wait_s(error))
                    progress.resume()
                finally:
                    replies.cancel()

    async def _wait(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self._check_open()
