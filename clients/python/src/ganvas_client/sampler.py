"""Sampler and AsyncSampler: the calls of ganvas_client.calls over a gRPC channel, at once or awaitable.

An image is a pure function of (model digest, seed, truncation, label), so every call is safe to repeat: gRPC itself
retries while the service is unavailable.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import ModuleType, TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import grpc
import grpc.aio

from ganvas.v1.sampler_pb2_grpc import SamplerStub
from ganvas_client import calls
from ganvas_client.calls import StreamCall, UnaryCall
from ganvas_client.errors import GanvasError, from_rpc_error
from ganvas_core.names import DEFAULT_ADDRESS, MAX_MESSAGE_BYTES

__all__ = ["DEFAULT_ADDRESS", "AsyncSampler", "Sampler"]

P = ParamSpec("P")
T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "ganvas.v1.Sampler"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


def _sync(describe: Callable[P, UnaryCall[T]]) -> Callable[Concatenate[Sampler, P], T]:
    def method(self: Sampler, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._call(describe(*args, **kwargs))

    return _named_after(describe, method, "{}")


def _sync_stream(describe: Callable[P, StreamCall[T]]) -> Callable[Concatenate[Sampler, P], Generator[T, None, None]]:
    def method(self: Sampler, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._stream(describe(*args, **kwargs))

    return _named_after(describe, method, "Generator[{}, None, None]")


def _async(describe: Callable[P, UnaryCall[T]]) -> Callable[Concatenate[AsyncSampler, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncSampler, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._call(describe(*args, **kwargs))

    return _named_after(describe, method, "{}")


def _async_stream(
    describe: Callable[P, StreamCall[T]],
) -> Callable[Concatenate[AsyncSampler, P], AsyncGenerator[T, None]]:
    def method(self: AsyncSampler, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self._stream(describe(*args, **kwargs))

    return _named_after(describe, method, "AsyncGenerator[{}, None]")


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
    """What both samplers are made of: an address and how to reach it."""

    _transport: ClassVar[ModuleType]
    """Either grpc or grpc.aio."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        wait_for_ready: bool = False,
    ) -> None:
        """
        Args:
            address: host:port of the sampling service.
            credentials: grpc.ssl_channel_credentials(…) for TLS. None: plaintext, for loopback and trusted networks.
            wait_for_ready: wait for a service that is not up yet, until the deadline, instead of failing at once.
        """
        self.address = address
        self._credentials = credentials
        self._wait_for_ready = wait_for_ready

    @functools.cached_property
    def _channel(self) -> Any:
        """Made on first use: a channel of grpc.aio belongs to the event loop that runs then."""
        if self._credentials is None:
            return self._transport.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        return self._transport.secure_channel(self.address, self._credentials, options=_CHANNEL_OPTIONS)

    @functools.cached_property
    def _stub(self) -> SamplerStub:
        return SamplerStub(self._channel)  # type: ignore[no-untyped-call]

    def _start(self, call: UnaryCall[Any] | StreamCall[Any]) -> Any:
        start = getattr(self._stub, call.rpc)
        return start(call.request, timeout=call.timeout_s, wait_for_ready=self._wait_for_ready)

    def _error(self, error: grpc.RpcError, call: UnaryCall[Any] | StreamCall[Any]) -> GanvasError:
        return from_rpc_error(error, address=self.address, rpc=call.rpc, timeout_s=call.timeout_s)


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
        try:
            reply = self._start(call)
        except grpc.RpcError as error:
            raise self._error(error, call) from None
        return call.parse(reply)

    def _stream(self, call: StreamCall[T]) -> Generator[T, None, None]:
        if call.named_labels:
            calls.fill_labels(call, self._call(calls.label_lookup(call)))
        replies = self._start(call)
        try:
            for reply in replies:
                yield from call.parse(reply)
        except grpc.RpcError as error:
            raise self._error(error, call) from None
        finally:
            replies.cancel()


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
        try:
            reply = await self._start(call)
        except grpc.RpcError as error:
            raise self._error(error, call) from None
        return call.parse(reply)

    async def _stream(self, call: StreamCall[T]) -> AsyncGenerator[T, None]:
        if call.named_labels:
            calls.fill_labels(call, await self._call(calls.label_lookup(call)))
        replies = self._start(call)
        try:
            async for reply in replies:
                for item in call.parse(reply):
                    yield item
        except grpc.RpcError as error:
            raise self._error(error, call) from None
        finally:
            replies.cancel()
