"""Load from a process of its own: `python -m clients.soak.load JOB` runs one job and prints its LoadReport as JSON.

Requests are made beforehand and replies stay bytes; the report says how much of a core the generator took, since a
generator that is itself the bottleneck measures nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import grpc
import numpy as np

from clients.bench.load import SERVICE_METHOD, channel_options, service_target
from ganvas.v1 import sampler_pb2
from ganvas_core.cli import UserError

__all__ = ["LoadJob", "LoadReport", "RunningLoad", "run_load"]

STREAM_METHOD = SERVICE_METHOD + "Stream"
DEFAULT_RETRY_S = 0.2
STREAM_COUNT = 65536
WARMUP = 0.25
"""Of a closed loop's time."""


class LoadError(UserError):
    """The generator's process failed; the message has the end of its stderr."""


@dataclass(frozen=True, kw_only=True)
class LoadJob:
    """What to send.

    open: calls begin at `rate` a second, come what may. closed: `concurrency` callers, each with one call at a time,
    that repeat what was refused after the time it was told. streams: `concurrency` streams without end.
    """

    kind: Literal["open", "closed", "streams"]
    address: str
    model: str
    seconds: float
    images: int = 1
    """Of one call."""
    rate: float = 0.0
    poisson: bool = True
    """Otherwise calls begin at even distances."""
    concurrency: int = 1
    deadline_s: float = 2.0
    seed: int = 1
    channels: int = 1
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(kw_only=True)
class LoadReport:
    """What became of the calls that began, or of a closed loop ended, within the job's seconds."""

    images: int
    elapsed_s: float
    endings: dict[str, int]
    """gRPC status to number of calls."""
    calls: list[tuple[float, float, str]] = field(default_factory=list)
    """When it should have begun (time.monotonic()), milliseconds, status."""
    cpu_share: float = 0.0
    """Of one core."""
    streamed_images: int = 0

    @cached_property
    def ok_ms(self) -> list[float]:
        return [took_ms for _, took_ms, status in self.calls if status == "OK"]

    @property
    def images_per_s(self) -> float:
        """Goodput: images of calls that were answered within their deadline and the job's seconds."""
        return (self.endings.get("OK", 0) * self.images + self.streamed_images) / self.elapsed_s

    def percentile_ms(self, percent: float, status: str = "OK") -> float:
        """Infinity without a call of that status."""
        chosen = [took_ms for _, took_ms, found in self.calls if found == status]
        return float(np.percentile(chosen, percent)) if chosen else float("inf")

    def summary(self) -> dict[str, Any]:
        p50, p99 = self.percentile_ms(50), self.percentile_ms(99)
        refused = self.percentile_ms(99, "RESOURCE_EXHAUSTED") if "RESOURCE_EXHAUSTED" in self.endings else None
        return {
            "images_per_s": round(self.images_per_s, 1),
            "endings": self.endings,
            "p50_ms": round(p50, 2),
            "p99_ms": round(p99, 2),
            "refused_p99_ms": None if refused is None else round(refused, 2),
            "generator_cpu_share": round(self.cpu_share, 2),
        }


class RunningLoad:
    """A generator's process."""

    def __init__(self, job: LoadJob) -> None:
        command = [sys.executable, "-m", "clients.soak.load", json.dumps(dataclasses.asdict(job))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._job = job

    def report(self) -> LoadReport:
        """Wait for the end.

        Raises:
            LoadError: it failed.
        """
        output, errors = self._process.communicate(timeout=self._job.seconds + self._job.deadline_s + 120)
        if self._process.returncode != 0:
            raise LoadError(f"the load generator failed: {errors.strip()[-800:]}")
        data = json.loads(output)
        return LoadReport(**data | {"calls": [tuple(call) for call in data["calls"]]})


def run_load(job: LoadJob) -> LoadReport:
    """Run the job in a fresh process and wait for it. Raises LoadError."""
    return RunningLoad(job).report()


@dataclass(kw_only=True)
class _Run:
    """The job under way, in the generator's process."""

    job: LoadJob
    start_s: float
    channels: list[Any]
    requests: Iterator[bytes]
    calls: list[tuple[float, float, str]] = field(default_factory=list)
    streamed_images: int = 0

    @property
    def end_s(self) -> float:
        return self.start_s + self.job.seconds

    async def once(self, due_s: float, channel: Any, request: bytes) -> float | None:
        """One call; its end counts. Returns the seconds to wait before it may be repeated, or None."""
        call = channel.unary_unary(SERVICE_METHOD, None, None)
        retry_s, begun_s = None, time.monotonic()
        timeout_s = due_s + self.job.deadline_s - begun_s
        status = "DEADLINE_EXCEEDED"
        if timeout_s > 0:
            try:
                await call(request, timeout=timeout_s, metadata=self.job.metadata or None)
                status = "OK"
            except grpc.aio.AioRpcError as error:
                status, retry_s = error.code().name, _pushback_s(error)
        if status == "RESOURCE_EXHAUSTED":
            # How long a refusal took does not depend on those before it.
            due_s = begun_s
        self.calls.append((due_s, (time.monotonic() - due_s) * 1e3, status))
        return retry_s if status == "RESOURCE_EXHAUSTED" else None


async def _open(run: _Run) -> None:
    rng, due_s = random.Random(run.job.seed), run.start_s
    channels = itertools.cycle(run.channels)
    async with asyncio.TaskGroup() as tasks:
        while due_s < run.end_s:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            tasks.create_task(run.once(due_s, next(channels), next(run.requests)))
            due_s += rng.expovariate(run.job.rate) if run.job.poisson else 1 / run.job.rate


async def _closed(run: _Run) -> None:
    rng = random.Random(run.job.seed)

    async def caller(channel: Any) -> None:
        while (begun_s := time.monotonic()) < run.end_s:
            request = next(run.requests)
            while (retry_s := await run.once(begun_s, channel, request)) is not None:
                await asyncio.sleep(retry_s * rng.uniform(0.8, 1.2))
                if time.monotonic() > run.end_s:
                    return

    channels = itertools.cycle(run.channels)
    await asyncio.gather(*(caller(next(channels)) for _ in range(run.job.concurrency)))


async def _streams(run: _Run) -> None:
    request = sampler_pb2.SampleRequest(
        model=run.job.model, range=sampler_pb2.SeedRange(first=0, count=STREAM_COUNT)
    ).SerializeToString()

    async def reader(channel: Any) -> None:
        while (begun_s := time.monotonic()) < run.end_s:
            replies = channel.unary_stream(STREAM_METHOD, None, sampler_pb2.SampleResponse.FromString)(
                request, timeout=run.job.seconds + 60, metadata=run.job.metadata or None
            )
            status = "OK"
            try:
                async for reply in replies:
                    now_s = time.monotonic()
                    run.streamed_images += len(reply.images) if run.start_s <= now_s < run.end_s else 0
                    if now_s >= run.end_s:
                        replies.cancel()
                        break
            except grpc.aio.AioRpcError as error:
                status = error.code().name
                await asyncio.sleep(_pushback_s(error))
            run.calls.append((begun_s, (time.monotonic() - begun_s) * 1e3, status))

    channels = itertools.cycle(run.channels)
    await asyncio.gather(*(reader(next(channels)) for _ in range(run.job.concurrency)))


def _pushback_s(error: grpc.aio.AioRpcError) -> float:
    """When the server says that a refused call may be repeated (gRFC A6)."""
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == "grpc-retry-pushback-ms" and str(value).isdecimal():
            return int(value) / 1e3
    return DEFAULT_RETRY_S


async def _run(job: LoadJob) -> LoadReport:
    target = service_target(job.address, job.model, batch_size=job.images)
    channels = [grpc.aio.insecure_channel(job.address, options=channel_options()) for _ in range(job.channels)]
    for channel in channels:
        await channel.channel_ready()
    cpu_s, start_s = time.process_time(), time.monotonic()
    run = _Run(job=job, start_s=start_s, channels=channels, requests=itertools.cycle(target.requests))
    await {"open": _open, "closed": _closed, "streams": _streams}[job.kind](run)
    cpu_share = (time.process_time() - cpu_s) / (time.monotonic() - start_s)
    for channel in channels:
        await channel.close(None)
    # Of a closed loop counts what ends once all callers are under way, and before its time is over.
    counted, elapsed_s = run.calls, job.seconds
    if job.kind == "closed":
        elapsed_s *= 1 - WARMUP
        counted = [call for call in counted if run.end_s - elapsed_s <= call[0] + call[1] / 1e3 <= run.end_s]
    return LoadReport(
        images=0 if job.kind == "streams" else job.images,
        elapsed_s=elapsed_s,
        endings=dict(Counter(status for _, _, status in counted)),
        calls=run.calls,
        cpu_share=cpu_share,
        streamed_images=run.streamed_images,
    )


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(asyncio.run(_run(LoadJob(**json.loads(sys.argv[1])))))))
