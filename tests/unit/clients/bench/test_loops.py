"""The loops in virtual time, against a server that takes a fixed time for each call: every latency is known."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import numpy as np
import pytest

from benchmarks.known_latency import OPEN_MS, mean_of_queue_ms, predicted_ms
from clients.bench.load import LoadJob, LoadReport
from clients.bench.load.job import ProcessReport, merge
from clients.bench.load.loops import Run, closed, open_
from clients.bench.statistics import of_blocks
from clients.bench.targets import CallFailedError, Connection, Request, Target
from clients.bench.targets.protocols import Transport

TARGET = Target(kind="kserve", model="known", address="nowhere")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes when nobody has anything to do."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Skipping(self))

    def time(self) -> float:
        return self.now_s


class _Skipping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.now_s += timeout or 0.0
        return super().select(0)


class OneWorker(Transport):
    """First come, first served; down from `dies_s` on."""

    def __init__(self, service_s: float, dies_s: float = float("inf")) -> None:
        self.service_s = service_s
        self.dies_s = dies_s
        self.free_s = 0.0

    async def open(self) -> None:
        """Nothing to do."""

    async def call(self, body: Any, timeout_s: float) -> Any:
        now_s = asyncio.get_running_loop().time()
        if now_s > self.dies_s:
            raise CallFailedError("UNAVAILABLE")
        self.free_s = max(now_s, self.free_s) + self.service_s
        await asyncio.sleep(self.free_s - now_s)
        return b""

    def first_image(self, reply: Any) -> bytes:
        return b"image"


def run(job: LoadJob, worker: OneWorker) -> LoadReport:
    async def load() -> Run:
        connection = Connection(target=TARGET, transport=worker, requests=[Request(body=b"", checked=True)])
        under_way = Run(job=job, connection=connection, begin_s=0.0)
        await (open_ if job.kind == "open" else closed)(under_way)
        return under_way

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        done = runner.run(load())
    return merge(job, [ProcessReport(start_s=done.start_s, calls=done.calls, cpu_share=0.0)])


@pytest.mark.parametrize("callers", [1, 4])
def test_closed_loop_measures_callers_times_the_service_time(callers: int) -> None:
    job = LoadJob(target=TARGET, kind="closed", concurrency=callers, seconds=10.0, warmup_s=1.0)
    report = run(job, OneWorker(OPEN_MS / 1e3))
    assert report.percentile_ms(50) == pytest.approx(callers * OPEN_MS)
    assert report.percentile_ms(99) == pytest.approx(callers * OPEN_MS)
    assert report.images_per_s == pytest.approx(1e3 / OPEN_MS, rel=0.01)


@pytest.mark.parametrize("load", [0.5, 0.8, 0.95])
def test_open_loop_agrees_with_queueing_theory(load: float) -> None:
    job = LoadJob(target=TARGET, kind="open", rate=load * 1e3 / OPEN_MS, seconds=150.0, warmup_s=10.0)
    report = run(job, OneWorker(OPEN_MS / 1e3))
    assert report.ok_ms == pytest.approx(predicted_ms(report))
    assert of_blocks(report.ok_ms, lambda block: float(block.mean()), num_blocks=10).holds(mean_of_queue_ms(load))


def test_a_stall_is_seen_by_every_call_that_was_due_in_it() -> None:
    worker = OneWorker(0.001)
    worker.free_s = 2.0  # nothing is answered for two seconds
    job = LoadJob(target=TARGET, kind="open", poisson=False, rate=100.0, seconds=4.0)
    latencies_ms = run(job, worker).ok_ms
    assert np.sum(latencies_ms > 1000) == pytest.approx(100, abs=12)
    # A closed loop of one caller sees the same stall once: that is coordinated omission.
    worker.free_s = 2.0
    one = run(LoadJob(target=TARGET, kind="closed", seconds=4.0), OneWorker(0.001))
    assert one.percentile_ms(99) < 2


def test_calls_of_a_server_that_died_fail_and_do_not_flood() -> None:
    job = LoadJob(target=TARGET, kind="closed", concurrency=2, seconds=4.0)
    report = run(job, OneWorker(0.01, dies_s=2.0))
    assert report.endings["OK"] == pytest.approx(200, abs=5)
    assert 20 < report.endings["UNAVAILABLE"] < 120


def test_calls_that_are_due_when_their_time_is_over_are_not_sent() -> None:
    job = LoadJob(target=TARGET, kind="open", rate=200.0, seconds=5.0, deadline_s=0.5)
    worker = OneWorker(0.01)
    report = run(job, worker)
    assert set(report.endings) == {"OK"}  # this worker knows no deadlines, and the generator was never late
    assert max(call.late_ms for call in report.calls) == pytest.approx(0, abs=1e-6)


def test_a_burst_ends_with_its_last_call() -> None:
    job = LoadJob(target=TARGET, kind="closed", burst=8, seconds=2.0)
    report = run(job, OneWorker(0.01))
    assert report.percentile_ms(50) == pytest.approx(80)
    assert report.images_per_s == pytest.approx(100, rel=0.05)
