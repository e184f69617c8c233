"""Calls of the service, or of a KServe v2 server, by gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from clients.bench.targets.target import Target
from clients.bench.targets.transport import DEFAULT_RETRY_S, CallFailedError, TargetError, Transport
from ganvas.v1 import sampler_pb2
from ganvas_core.connection import connection_problem
from ganvas_core.names import MAX_MESSAGE_BYTES
from ganvas_core.work import work_of

__all__ = [
    "DIRECT_METHOD",
    "SERVICE_METHOD",
    "STREAM_METHOD",
    "GrpcTransport",
    "channel_options",
    "pushback_s",
]

DIRECT_METHOD = "/inference.GRPCInferenceService/ModelInfer"
METADATA_METHOD = "/inference.GRPCInferenceService/ModelMetadata"
SERVICE_METHOD = "/ganvas.v1.Sampler/Sample"
STREAM_METHOD = SERVICE_METHOD + "Stream"
LOOK_TIMEOUT_S = 10.0
"""For what is asked before anything is timed, also of a machine that is busy."""


class GrpcTransport(Transport):
    """The service or a KServe v2 server."""

    def __init__(self, target: Target, *, channels: int = 1) -> None:
        self._target = target
        self._method = SERVICE_METHOD if target.kind == "service" else DIRECT_METHOD
        self._channels = [_channel(target) for _ in range(channels)]
        self._calls = [channel.unary_unary(self._method, None, None) for channel in self._channels]
        self._turn = 0
        work = work_of(target.model, target.batch_size) if target.kind == "service" else ()  # as our client says it
        self.metadata = (*target.metadata, *work) or None

    async def open(self) -> None:
        address, wait_s = self._target.address, self._target.wait_s
        for channel in self._channels:
            try:
                await asyncio.wait_for(channel.channel_ready(), wait_s)
            except TimeoutError:
                why = await self._why_not(channel)
                raise TargetError(f"{address}, after {wait_s:g} s: {why} --wait-s waits longer.") from None

    async def _why_not(self, channel: grpc.aio.Channel) -> str:
        """What a call that does not wait for a connection is told."""
        server = "sampling service" if self._target.kind == "service" else "KServe v2 server"
        try:
            await channel.unary_unary(self._method, None, None)(b"", timeout=LOOK_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            problem = connection_problem(
                details, self._target.address, tls=self._target.tls.tls_ca is not None, server=server
            )
            return problem or f"{error.code().name} ({details})."
        return "it answers only now."

    @property
    def channels(self) -> list[Any]:
        return self._channels

    async def call(self, body: bytes, timeout_s: float) -> bytes:
        self._turn += 1
        call = self._calls[self._turn % len(self._calls)]
        try:
            reply: bytes = await call(body, timeout=timeout_s, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            raise CallFailedError(error.code().name, error.details() or "", pushback_s(error)) from None
        return reply

    async def num_dimensions(self) -> dict[str, int]:
        ask = self._channels[0].unary_unary(METADATA_METHOD, None, service_pb2.ModelMetadataResponse.FromString)
        request = service_pb2.ModelMetadataRequest(name=self._target.model).SerializeToString()
        try:
            found = await ask(request, timeout=LOOK_TIMEOUT_S, metadata=self.metadata)
        except grpc.aio.AioRpcError:
            return {}  # the call says what is wrong, if anything is
        return {tensor.name: len(tensor.shape) for tensor in found.inputs}

    def first_image(self, reply: bytes) -> bytes:
        if self._target.kind == "service":
            return sampler_pb2.SampleResponse.FromString(reply).images[0].data
        message = service_pb2.ModelInferResponse.FromString(reply)
        raw: bytes = message.raw_output_contents[0]
        return raw[: len(raw) // self._target.batch_size]

    def timing_us(self, reply: bytes) -> dict[str, int]:
        if self._target.kind != "service":
            return {}
        timing = sampler_pb2.SampleResponse.FromString(reply).timing
        return {
            "total": timing.total_us,
            "queue": timing.queue_us,
            "inference": timing.inference_us,
            "encode": timing.encode_us,
        }

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(None)


def pushback_s(error: grpc.aio.AioRpcError) -> float:
    """When the server says that a refused call may be repeated (gRFC A6)."""
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == "grpc-retry-pushback-ms" and str(value).isdecimal():
            return int(value) / 1e3
    return DEFAULT_RETRY_S


def channel_options() -> list[tuple[str, int]]:
    """Messages of any size the service sends, over a connection of its own."""
    return [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.use_local_subchannel_pool", 1)]


def _channel(target: Target) -> grpc.aio.Channel:
    credentials = target.tls.credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(target.address, options=channel_options())
    return grpc.aio.secure_channel(target.address, credentials, options=channel_options())
