"""Requests of one image to Triton, as many a second as asked for, come what may; and as many as it can take."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from ganvas_core.interface import kserve_datatype, sample_inputs

__all__ = ["Point", "capacity", "open_loop"]

METHOD = "/inference.GRPCInferenceService/ModelInfer"
NUM_SEEDS = 256
CALLERS = 32
WARM_UP_S = 0.3

Call = Callable[[bytes], Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Latencies at one rate. They count from when a request was due, so that a slow server cannot hide its queue."""

    rate: float
    """Requests a second that were asked for."""
    p50_ms: float
    p99_ms: float
    """Infinite where more than one in a hundred had no answer in time."""


def open_loop(address: str, model: str, *, rate: float, seconds: float, late_s: float, labelled: bool) -> Point:
    """Poisson arrivals at a rate.

    Args:
        late_s: a request without an answer by then counts as infinitely late.
        labelled: whether the model takes labels.
    """
    times: list[float] = []

    async def one(call: Call, request: bytes, due_s: float) -> None:
        try:
            await call(request)
            took_s = time.perf_counter() - due_s
        except grpc.aio.AioRpcError:
            took_s = float("inf")
        times.append(took_s)

    async def run() -> None:
        dice = random.Random(1)
        requests = _requests(model, labelled)
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
            tasks = []
            due_s = time.perf_counter()
            end_s = due_s + seconds
            while (due_s := due_s + dice.expovariate(rate)) < end_s:
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                tasks.append(asyncio.create_task(one(lambda data: method(data, timeout=late_s), next(requests), due_s)))
            await asyncio.gather(*tasks)

    asyncio.run(run())
    p50, p99 = np.percentile(times, [50, 99], method="higher") if times else (float("inf"), float("inf"))
    return Point(rate=rate, p50_ms=float(p50) * 1e3, p99_ms=float(p99) * 1e3)


def capacity(address: str, model: str, *, seconds: float, labelled: bool) -> float:
    """Requests a second with CALLERS callers, each with one at a time."""

    async def run() -> float:
        requests = _requests(model, labelled)
        done = 0
        start_s = time.perf_counter() + WARM_UP_S
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)

            async def caller() -> None:
                nonlocal done
                while time.perf_counter() < start_s + seconds:
                    await method(next(requests), timeout=60)
                    done += time.perf_counter() >= start_s

            await asyncio.gather(*(caller() for _ in range(CALLERS)))
            return done / (time.perf_counter() - start_s)

    return asyncio.run(run())


def _requests(model: str, labelled: bool) -> Iterator[bytes]:
    made = []
    for seed in range(NUM_SEEDS):
        message = service_pb2.ModelInferRequest(model_name=model)
        for name, array in sample_inputs([seed], labels=0 if labelled else None).items():
            message.inputs.add(name=name, datatype=kserve_datatype(array.dtype), shape=array.shape)
            message.raw_input_contents.append(array.tobytes())
        made.append(message.SerializeToString())
    return itertools.cycle(made)
