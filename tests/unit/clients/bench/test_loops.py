"""The loops in virtual time, against a server that takes a fixed time for each call: every latency is known."""

from __future__ import annotations

import asyncio
import selectors
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from pydantic_core import to_json

from benchmarks.known_latency import OPEN_MS, mean_of_queue_ms, predicted_ms
from clients.bench.load import LoadJob, LoadReport
from clients.bench.load.job import ProcessReport, merge
from clients.bench.load.loops import Run, closed, open_
from clients.bench.measurement import judge
from clients.bench.statistics import of_blocks
from clients.bench.targets import CallFailedError, Connection, Request, Target
from clients.bench.targets.transport import Transport

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


def run(job: LoadJob, worker: OneWorker, cpu_share: float = 0.0) -> LoadReport:
    async def load() -> Run:
        connection = Connection(target=TARGET, transport=worker, requests=[Request(body=b"", checked=True)])
        under_way = Run(job=job, connection=connection, begin_s=0.0)
        await (open_ if job.kind == "open" else closed)(under_way)
        return under_way

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        done = runner.run(load())
    part = ProcessReport(start_s=done.start_s, calls=done.calls, cpu_share=cpu_share, num_not_begun=done.num_not_begun)
    return merge(job, [part])


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


@pytest.mark.parametrize(("wakes_s", "num_failed"), [(1000.0, 4), (10.0, 0)])
def test_a_server_that_hangs_to_the_end_of_a_closed_loop_is_marked(wakes_s: float, num_failed: int) -> None:
    class Hanging(OneWorker):
        async def call(self, body: Any, timeout_s: float) -> Any:
            now_s = asyncio.get_running_loop().time()
            took_s = 0.005 if now_s < 2.0 else wakes_s - now_s
            await asyncio.sleep(min(took_s, timeout_s))
            if took_s > timeout_s:
                raise CallFailedError("DEADLINE_EXCEEDED")
            return b""

    report = run(LoadJob(target=TARGET, kind="closed", concurrency=4, seconds=4.0), Hanging(0.0))
    found = judge(report)
    assert found.percentile(99).value == pytest.approx(5)  # nothing of it is to be seen here
    assert found.num_failed == num_failed
    assert found.endings["OK"] == report.num_ok
    assert "the server stopped answering 2.0 s after the beginning" in found.warnings
    failed = f"calls failed: 4 of {report.num_ok + 4}: 4 DEADLINE_EXCEEDED"
    assert (failed in found.warnings) == bool(num_failed)


def test_a_slow_server_that_answers_to_the_end_of_a_closed_loop_is_not_said_to_have_stopped() -> None:
    found = judge(run(LoadJob(target=TARGET, kind="closed", seconds=10.0), OneWorker(3.8)))
    assert found.num_failed == 0  # the last answer within the seconds came 2.4 s before their end
    assert not any("stopped answering" in warning for warning in found.warnings)


def test_calls_that_are_due_when_their_time_is_over_are_not_sent() -> None:
    job = LoadJob(target=TARGET, kind="open", rate=200.0, seconds=5.0, deadline_s=0.5)
    worker = OneWorker(0.01)
    report = run(job, worker)
    assert set(report.endings) == {"OK"}  # this worker knows no deadlines, and the generator was never late
    assert max(call.late_ms for call in report.calls) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("rate", "keeps_up"), [(60.0, True), (95.0, True), (130.0, False), (500.0, False)])
def test_a_server_that_does_not_keep_up_is_marked_and_has_the_rate_of_its_answers(rate: float, keeps_up: bool) -> None:
    job = LoadJob(target=TARGET, kind="open", rate=rate, seconds=8.0, warmup_s=1.0, drain_s=100.0)
    found = judge(run(job, OneWorker(0.01)))
    assert found.keeps_up == keeps_up
    assert found.images_per_s == pytest.approx(min(rate, 100.0), rel=0.1)
    assert found.num_failed == 0
    assert found.is_sound  # the generator is not to blame
    said = f"did not keep up: offered {rate:.0f}/s, finished 100/s: the queue grew, latencies depend on how long it ran"
    assert found.warnings == ([] if keeps_up else [said])


def test_a_long_latency_that_does_not_grow_is_no_queue() -> None:
    class Slow(OneWorker):
        async def call(self, body: Any, timeout_s: float) -> Any:
            await asyncio.sleep(1.5)
            return b""

    assert judge(run(LoadJob(target=TARGET, kind="open", rate=200.0, seconds=4.0), Slow(0.0))).keeps_up


def test_calls_without_an_answer_long_after_the_end_are_given_up_and_failed() -> None:
    job = LoadJob(target=TARGET, kind="open", poisson=False, rate=100.0, seconds=4.0, drain_s=2.0)
    report = run(job, OneWorker(0.1))  # ten a second
    assert report.endings == {"OK": 59, "UNANSWERED": 341}
    assert max(call.end_s for call in report.calls) == pytest.approx(6.0)
    assert report.images_per_s == pytest.approx(10, rel=0.05)
    assert "given up: 341 calls had no answer 2 s after the planned end" in judge(report).warnings


def test_a_rate_that_the_generator_cannot_make_ends_in_time_and_is_its_own_fault() -> None:
    class Busy(OneWorker):
        """Each call takes a millisecond of the generator itself."""

        async def call(self, body: Any, timeout_s: float) -> Any:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.now_s += 0.001
            return b""

    job = LoadJob(target=TARGET, kind="open", rate=100_000.0, seconds=2.0)
    report = run(job, Busy(0.0), cpu_share=0.97)
    assert max(call.end_s for call in report.calls) < 3.1
    assert sum(report.endings.values()) == pytest.approx(200_000, rel=0.02)
    found = judge(report)
    assert not found.keeps_up
    assert not found.is_sound
    assert any(warning.startswith("generator late: it could not make 100000 calls/s") for warning in found.warnings)
    # With little of a core it did not get to run: the warning says so, and blames nobody else's work on it.
    starved = judge(run(job, Busy(0.0), cpu_share=0.25))
    assert starved.is_sound
    assert "the generator got 25% of a core beside what else runs here" in starved.warnings[0]


def test_a_burst_ends_with_its_last_call() -> None:
    job = LoadJob(target=TARGET, kind="closed", burst=8, seconds=2.0)
    report = run(job, OneWorker(0.01))
    assert report.percentile_ms(50) == pytest.approx(80)
    assert report.images_per_s == pytest.approx(100, rel=0.05)


def test_the_generator_ends_with_the_process_that_started_it() -> None:
    target = Target(kind="kserve", model="m", address="127.0.0.1:1", wait_s=600.0)
    job = LoadJob(target=target, kind="open", rate=1.0, seconds=600.0)
    command = [sys.executable, "-m", "clients.bench.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(to_json(job) + b"\n")
        process.stdin.close()  # as the kernel does when the parent dies
        try:
            assert process.wait(240) == 1
        finally:
            process.kill()
