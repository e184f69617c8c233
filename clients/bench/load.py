"""Load over gRPC from one process. Requests are serialized beforehand and replies stay bytes, so that the
generator takes as little as it can of the cores that it shares with the server under test."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from clients.bench.result import LoadResult
from ganvas.v1 import sampler_pb2
from ganvas_core.interface import kserve_datatype, sample_inputs
from ganvas_core.names import MAX_MESSAGE_BYTES

DIRECT_METHOD = "/inference.GRPCInferenceService/ModelInfer"
SERVICE_METHOD = "/ganvas.v1.Sampler/Sample"
NUM_DISTINCT_REQUESTS = 256


@dataclass(frozen=True, kw_only=True)
class Target:
    """One RPC method at one address, with serialized requests of `batch_size` images to send in turn."""

    address: str
    method: str
    batch_size: int
    requests: Sequence[bytes]
    metadata: tuple[tuple[str, str], ...] = ()
    """Sent with each."""


def direct_target(address: str, model: str, *, batch_size: int, num_labels: int) -> Target:
    """Triton's own KServe v2 endpoint.

    Args:
        num_labels: 0 for an unconditional model.
    """

    def request(first: int) -> bytes:
        seeds = np.arange(first, first + batch_size, dtype=np.uint64)
        return direct_request(model, seeds, labels=(seeds % np.uint64(num_labels)) if num_labels else None)

    requests = [request(i * batch_size) for i in range(NUM_DISTINCT_REQUESTS)]
    return Target(address=address, method=DIRECT_METHOD, batch_size=batch_size, requests=requests)


def direct_request(
    model: str,
    seeds: Sequence[int] | NDArray[np.uint64],
    *,
    truncation: float = 1.0,
    labels: Sequence[int] | NDArray[np.uint64] | None = None,
) -> bytes:
    """A serialized ModelInferRequest of the sampler.

    Args:
        labels: one a seed; None for an unconditional model.
    """
    message = service_pb2.ModelInferRequest(model_name=model)
    for name, array in sample_inputs(seeds, truncation, labels).items():
        message.inputs.add(name=name, datatype=kserve_datatype(array.dtype), shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    return bytes(message.SerializeToString())


def service_target(address: str, model: str, *, batch_size: int) -> Target:
    """The sampling service, raw images."""

    def request(first: int) -> bytes:
        seeds = sampler_pb2.SeedRange(first=first, count=batch_size)
        return sampler_pb2.SampleRequest(model=model, range=seeds).SerializeToString()

    requests = [request(i * batch_size) for i in range(NUM_DISTINCT_REQUESTS)]
    return Target(address=address, method=SERVICE_METHOD, batch_size=batch_size, requests=requests)


def closed_loop(target: Target, *, concurrency: int, seconds: float, warmup_s: float = 1.0) -> LoadResult:
    """`concurrency` callers, each with one call at a time; calls that begin in the warm-up do not count."""

    async def load() -> LoadResult:
        latencies_ms: list[float] = []
        requests = itertools.cycle(target.requests)
        start = time.perf_counter() + warmup_s
        async with grpc.aio.insecure_channel(target.address, options=channel_options()) as channel:
            call = channel.unary_unary(target.method, request_serializer=None, response_deserializer=None)

            async def caller() -> None:
                while (begin := time.perf_counter()) < start + seconds:
                    await call(next(requests), timeout=60, metadata=target.metadata or None)
                    if begin >= start:
                        latencies_ms.append((time.perf_counter() - begin) * 1e3)

            await asyncio.gather(*(caller() for _ in range(concurrency)))
            elapsed_s = time.perf_counter() - start
        return LoadResult(batch_size=target.batch_size, elapsed_s=elapsed_s, latencies_ms=tuple(latencies_ms))

    return asyncio.run(load())


def paced(target: Target, *, interval_ms: float, seconds: float, warmup_s: float = 1.0) -> LoadResult:
    """One caller that begins a call every interval_ms (at once, when the last one took longer)."""
    latencies_ms = []
    with grpc.insecure_channel(target.address, options=channel_options()) as channel:
        call = channel.unary_unary(target.method, request_serializer=None, response_deserializer=None)
        requests = itertools.cycle(target.requests)
        start = time.perf_counter() + warmup_s
        next_call = time.perf_counter()
        while next_call < start + seconds:
            time.sleep(max(0.0, next_call - time.perf_counter()))
            begin = time.perf_counter()
            call(next(requests), timeout=30, metadata=target.metadata or None)
            if begin >= start:
                latencies_ms.append((time.perf_counter() - begin) * 1e3)
            next_call = max(next_call + interval_ms / 1e3, time.perf_counter())
        elapsed_s = time.perf_counter() - start
    return LoadResult(batch_size=target.batch_size, elapsed_s=elapsed_s, latencies_ms=tuple(latencies_ms))


def channel_options() -> list[tuple[str, int]]:
    """Messages of any size the service sends, over a connection of its own."""
    return [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.use_local_subchannel_pool", 1)]
