"""More load than can be borne: goodput, latency of the small beside the large, memory, and how soon it is over.

The machine may be shared and its speed drift: each overloaded measurement stands between two of what the server can do,
and its ratio is taken against the mean of these.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from clients.bench.load import LoadJob, LoadReport, RunningLoad, run_load
from clients.bench.targets import Target
from clients.local_server import LocalServer
from clients.processes import Watcher
from clients.soak.demands import Report

__all__ = ["OverloadResult", "judge", "recovery_s", "run_overload"]

FACTORS = (0.5, 1.0, 1.5, 3.0)
"""Of the sustainable rate."""
GOODPUT = 0.9
LATENCY_FACTOR = 3.0
RECOVERY_S = 1.0
REFUSED_MS = 50.0
PROBE_RATE = 20.0
BOTH = "150 callers of 256 and one-image calls"
CAPACITY_CALLERS = 8
WARMUP = 0.25
"""Of a closed loop's time."""
AFTER_S = 4.0
"""How long the probes of recovery go on after the load."""
STREAK = 5
"""So many good calls in a row are a recovery."""
GROWTH_MIB = 256.0
"""Over what the sustainable rate takes: 150 replies of 256 images are 460 MiB, if all were made at once."""


@dataclass(kw_only=True)
class OverloadResult:
    open_loop: dict[float, LoadReport] = field(default_factory=dict)
    closed_loop: dict[str, LoadReport] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    """Goodput against what the server can do, by step."""
    capacities: list[float] = field(default_factory=list)
    """Images a second, in the order measured."""
    alone: list[LoadReport] = field(default_factory=list)
    beside: dict[str, LoadReport] = field(default_factory=dict)
    bulk_images_per_s: dict[str, float] = field(default_factory=dict)
    recovery_s: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    """Most of all processes during each step."""
    curve: list[list[float]] = field(default_factory=list)

    @property
    def alone_p99_ms(self) -> float:
        return statistics.median(report.percentile_ms(99) for report in self.alone)


@dataclass(kw_only=True)
class _Bench:
    """One server, and the jobs for it."""

    server: LocalServer
    model: str
    images: int
    seconds: float
    result: OverloadResult
    watcher: Watcher
    say: Callable[[str], None]

    def job(self, *, kind: Literal["open", "closed", "streams"], images: int = 1, **fields: Any) -> LoadJob:
        """One load on the service. Of a closed loop counts what ends once all callers are under way."""
        seconds = fields.pop("seconds", self.seconds)
        warmup_s = WARMUP * seconds if kind == "closed" else 0.0
        target = Target(kind="service", address=self.server.service, model=self.model, batch_size=images)
        common = {"deadline_s": 2.0, "repeat_refused": True, "verify": False}
        return LoadJob(target=target, kind=kind, warmup_s=warmup_s, seconds=seconds - warmup_s, **{**common, **fields})

    def probe(self, seconds: float) -> LoadJob:
        """One image at a time, at even distances."""
        return self.job(kind="open", rate=PROBE_RATE, poisson=False, seconds=seconds, deadline_s=10.0)

    def capacity(self) -> float:
        """Images a second that a moderate closed loop gets."""
        seconds = max(3.0, self.seconds / 2)
        load = self.job(kind="closed", images=self.images, concurrency=CAPACITY_CALLERS, seconds=seconds, deadline_s=30)
        self.result.capacities.append(run_load(load).images_per_s)
        return self.result.capacities[-1]

    def step(self, name: str, measure: Callable[[], tuple[LoadReport, ...]]) -> LoadReport:
        """A measurement between two of the capacity, with its memory; goodput is that of the load and its probes."""
        before = self.result.capacities[-1]
        begun_s = time.monotonic()
        reports = measure()
        self.result.memory_mib[name] = self.watcher.peak_mib(begun_s, time.monotonic())
        images_per_s = sum(report.images_per_s for report in reports)
        self.result.ratios[name] = images_per_s / ((before + self.capacity()) / 2)
        self.say(f"{name}: {images_per_s:.0f} images/s, {self.result.ratios[name]:.2f} of what it can do")
        return reports[0]


def run_overload(
    server: LocalServer, model: str, *, images: int, seconds: float, say: Callable[[str], None]
) -> OverloadResult:
    """Every step in turn.

    Args:
        images: of one call of the open loop.
        seconds: of one step; the one with 60 s deadlines takes four times as long.
    """
    result = OverloadResult()
    with Watcher(server.pid, interval_s=0.5) as watcher:
        bench = _Bench(
            server=server, model=model, images=images, seconds=seconds, result=result, watcher=watcher, say=say
        )
        bench.capacity()  # warm-up
        say(f"can do {bench.capacity():.0f} images/s")
        _latencies(bench)
        for factor in FACTORS:
            _open_loop(bench, factor)
        for callers in (8, 32, 64):
            name = f"{callers} callers of 16"
            job = bench.job(kind="closed", images=16, concurrency=callers, deadline_s=60.0, channels=4)
            result.closed_loop[name] = bench.step(name, lambda job=job: (run_load(job),))  # type: ignore[misc]
        _large_calls(bench)
        result.curve = watcher.curve()
    return result


def _latencies(bench: _Bench) -> None:
    """One image alone, and beside bulk streams, in turn."""
    for streams in (1, 8):
        bench.result.alone.append(run_load(bench.probe(bench.seconds)))
        name = f"beside {streams} bulk stream{'s' if streams > 1 else ''}"
        bulk = RunningLoad(bench.job(kind="streams", concurrency=streams, seconds=bench.seconds + 4))
        time.sleep(2.0)  # until the streams are under way
        bench.result.beside[name] = run_load(bench.probe(bench.seconds))
        bench.result.bulk_images_per_s[name] = bulk.report().images_per_s
        time.sleep(1.0)
    bench.result.alone.append(run_load(bench.probe(bench.seconds)))
    bench.say(f"one image alone: p99 {bench.result.alone_p99_ms:.1f} ms")


def _open_loop(bench: _Bench, factor: float) -> None:
    name = f"{factor:g} times"
    rate = factor * bench.result.capacities[-1] / bench.images

    def measure() -> tuple[LoadReport, ...]:
        load = RunningLoad(bench.job(kind="open", images=bench.images, rate=rate, deadline_s=2.0, channels=4))
        running = RunningLoad(bench.probe(bench.seconds + AFTER_S))
        report, probes = load.report(), running.report()
        end_s = max(call.due_s for call in report.calls)
        bound_ms = max(50.0, LATENCY_FACTOR * bench.result.alone_p99_ms)
        bench.result.recovery_s[name] = recovery_s(probes, end_s=end_s, bound_ms=bound_ms)
        return report, probes

    bench.result.open_loop[factor] = bench.step(name, measure)


def _large_calls(bench: _Bench) -> None:
    """150 callers of 256 images, with a minute each; then the same beside one-image calls, for which bulk batches are
    kept short."""
    name = "150 callers of 256"
    seconds = 2 * bench.seconds
    job = bench.job(kind="closed", images=256, concurrency=150, seconds=seconds, deadline_s=60.0, channels=8)
    bench.result.closed_loop[name] = bench.step(name, lambda: (run_load(job),))

    def measure() -> tuple[LoadReport, ...]:
        load = RunningLoad(job)
        time.sleep(2.0)
        probes = bench.result.beside[name] = run_load(bench.probe(seconds - 4))
        return load.report(), probes

    bench.step(BOTH, measure)


def recovery_s(probes: LoadReport, *, end_s: float, bound_ms: float) -> float:
    """From the load's end until STREAK one-image calls in a row are within bound_ms; infinity if never."""
    after = sorted(call for call in probes.calls if call.due_s >= end_s)
    good = [call.status == "OK" and call.took_ms <= bound_ms for call in after]
    for i in range(len(after) - STREAK + 1):
        if all(good[i : i + STREAK]):
            return after[i].due_s + after[i].took_ms / 1e3 - end_s
    return float("inf")


def judge(result: OverloadResult, report: Report) -> None:
    """What the run must show."""
    for name, ratio in result.ratios.items():
        # Half the load cannot be more than half the goodput; short batches cost some of it.
        if name not in ("0.5 times", BOTH):
            report.demand(f"goodput of what it can do, {name}", ratio, limit=GOODPUT, at_least=True)
    for name, beside in result.beside.items():
        ratio = beside.percentile_ms(99) / result.alone_p99_ms
        report.demand(f"one image p99, {name} ÷ alone", ratio, limit=LATENCY_FACTOR)
    refused = [
        entry.percentile_ms(99, "RESOURCE_EXHAUSTED")
        for entry in result.open_loop.values()
        if "RESOURCE_EXHAUSTED" in entry.endings
    ]
    if refused:
        report.demand("refusals, p99", max(refused), limit=REFUSED_MS, unit="ms")
    report.demand("recovery after the load", max(result.recovery_s.values()), limit=RECOVERY_S, unit="s")
    calm = result.memory_mib["1 times"]
    report.demand("most memory under overload", max(result.memory_mib.values()), limit=calm + GROWTH_MIB, unit="MiB")
    reports = [*result.open_loop.values(), *result.closed_loop.values()]
    report.demand("the generator's share of a core", max(entry.cpu_share for entry in reports), limit=0.8)
    report.figures |= {
        "can do, images/s": [round(value) for value in result.capacities],
        **{f"open loop, {factor:g} times": entry.summary() for factor, entry in result.open_loop.items()},
        **{f"closed loop, {name}": entry.summary() for name, entry in result.closed_loop.items()},
        "goodput ratios": {name: round(ratio, 3) for name, ratio in result.ratios.items()},
        "one image alone": [entry.summary() for entry in result.alone],
        **{f"one image {name}": entry.summary() for name, entry in result.beside.items()},
        "bulk streams, images/s": {name: round(value) for name, value in result.bulk_images_per_s.items()},
        "recovery_s": {name: round(value, 2) for name, value in result.recovery_s.items()},
        "memory MiB": {name: round(value) for name, value in result.memory_mib.items()},
        "memory over time: s, MiB, descriptors": result.curve,
    }
