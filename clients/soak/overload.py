"""More load than can be borne: goodput, latency of the small beside the large, memory, and how soon it is over.

The machine may be shared and its speed drift: each overloaded measurement stands between two of what the server can
do, and its ratio is taken against the mean of these. Where a step has one-image calls beside its load, so have these:
one of them costs far more than an image of a larger call. And where the generator shares the cores with the server,
the server is held to the part of them that is left: a generator of many refused calls takes more than that of the
measurement beside it. The report has the ratios without that too.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from clients.bench.load import LoadJob, LoadReport, RunningLoad, run_load
from clients.bench.load.job import NOT_BEGUN, UNANSWERED
from clients.bench.targets import Target
from clients.local_server import LocalServer
from clients.processes import Watcher
from clients.soak.demands import Report

__all__ = ["FACTORS", "OverloadResult", "Rate", "Step", "judge", "recovery_s", "run_overload"]

Step = Literal["latencies", "open", "closed", "large"]
FACTORS = (0.5, 1.0, 1.5, 3.0)
"""Of the sustainable rate."""
EXPECTED = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", UNANSWERED, NOT_BEGUN}
"""How a call may end under any load."""
HINT = "Retry in"
GOODPUT = 0.9
LATENCY_FACTOR = 3.0
RECOVERY_S = 1.0
REFUSED_MS = 50.0
PROBE_RATE = 20.0
BOTH = "150 callers of 256 and one-image calls"
CAPACITY_CALLERS = 8
WARMUP = 0.25
"""Of the time of a load of larger calls. Before it as many are admitted as are answered after it."""
AFTER_S = 4.0
"""How long the probes of recovery go on after the load."""
STREAK = 5
"""So many good calls in a row are a recovery."""
GROWTH_MIB = 256.0
"""Over what the sustainable rate takes: 150 replies of 256 images are 460 MiB, if all were made at once."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Images that came within a second, and how many cores the generator took."""

    images_per_s: float
    generator: float

    @classmethod
    def of(cls, *reports: LoadReport) -> Rate:
        """All of them together."""
        return cls(
            images_per_s=sum(report.images_per_s for report in reports),
            generator=sum(sum(report.cpu_shares) for report in reports),
        )

    def against(self, *capacities: Rate, cores: float = float("inf")) -> float:
        """Part of the mean of what the server can do in the time that the generator leaves of the cores."""
        can_do = statistics.fmean(capacity.images_per_s for capacity in capacities)
        if cores == float("inf"):
            return self.images_per_s / can_do
        left = cores - statistics.fmean(capacity.generator for capacity in capacities)
        return self.images_per_s / (can_do * (cores - self.generator) / left)


@dataclass(kw_only=True)
class OverloadResult:
    open_loop: dict[float, LoadReport] = field(default_factory=dict)
    closed_loop: dict[str, LoadReport] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    """Goodput against what the server can do in the time that the generator leaves, by step."""
    plain_ratios: dict[str, float] = field(default_factory=dict)
    """The same against what it can do, whatever the generator takes."""
    capacities: dict[bool, list[Rate]] = field(default_factory=lambda: {False: [], True: []})
    """What it can do, without and with one-image calls beside it, in the order measured."""
    alone: list[LoadReport] = field(default_factory=list)
    beside: dict[str, LoadReport] = field(default_factory=dict)
    bulk_images_per_s: dict[str, float] = field(default_factory=dict)
    recovery_s: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    """Most of all processes during each step."""
    curve: list[list[float]] = field(default_factory=list)

    @property
    def alone_p99_ms(self) -> float:
        """0 if it was not measured."""
        return statistics.median([report.percentile_ms(99) for report in self.alone] or [0.0])


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
        """One load on the service. What ends once it is under way counts: of single images, all do."""
        seconds = fields.pop("seconds", self.seconds)
        warmup_s = WARMUP * seconds if images > 1 else 0.0
        target = Target(kind="service", address=self.server.service, model=self.model, batch_size=images)
        common = {"deadline_s": 2.0, "repeat_refused": True, "verify": False}
        return LoadJob(target=target, kind=kind, warmup_s=warmup_s, seconds=seconds - warmup_s, **{**common, **fields})

    def probe(self, seconds: float) -> LoadJob:
        """One image at a time, at even distances."""
        return self.job(kind="open", rate=PROBE_RATE, poisson=False, seconds=seconds, deadline_s=10.0)

    def capacity(self, *, probes: bool = False) -> Rate:
        """What a moderate closed loop gets.

        Args:
            probes: with one-image calls beside it, which count too.
        """
        seconds = max(1.0, self.seconds / 2)
        job = self.job(kind="closed", images=self.images, concurrency=CAPACITY_CALLERS, seconds=seconds, deadline_s=30)
        beside = RunningLoad(self.probe(seconds + 2)) if probes else None
        reports = [run_load(job), *([beside.report()] if beside else [])]
        self.result.capacities[probes].append(Rate.of(*reports))
        return self.result.capacities[probes][-1]

    def step(self, name: str, measure: Callable[[], tuple[LoadReport, ...]], *, probes: bool = False) -> LoadReport:
        """A measurement between two of the capacity, with its memory; goodput is that of the load and its probes.

        Args:
            probes: whether one-image calls are a part of it.
        """
        before = self.result.capacities[probes][-1]
        begun_s = time.monotonic()
        reports = measure()
        self.result.memory_mib[name] = self.watcher.peak_mib(begun_s, time.monotonic())
        rate, after = Rate.of(*reports), self.capacity(probes=probes)
        self.result.plain_ratios[name] = rate.against(before, after)
        self.result.ratios[name] = ratio = rate.against(before, after, cores=len(os.sched_getaffinity(0)))
        self.say(f"{name}: {rate.images_per_s:.0f} images/s, {ratio:.2f} of what it can do")
        return reports[0]


def run_overload(
    server: LocalServer,
    model: str,
    *,
    images: int,
    seconds: float,
    steps: Sequence[Step],
    factors: Sequence[float],
    say: Callable[[str], None],
) -> OverloadResult:
    """Each of the steps in turn.

    Args:
        images: of one call of the open loop.
        seconds: of one step; the one with 60 s deadlines takes four times as long.
        factors: of the open loops' rates.
    """
    result = OverloadResult()
    with Watcher(server.pid, interval_s=0.5) as watcher:
        bench = _Bench(
            server=server, model=model, images=images, seconds=seconds, result=result, watcher=watcher, say=say
        )
        bench.capacity()  # warm-up
        say(f"can do {bench.capacity().images_per_s:.0f} images/s")
        if "latencies" in steps:
            _latencies(bench)
        if "open" in steps:
            bench.capacity(probes=True)
            for factor in factors:
                _open_loop(bench, factor)
        if "closed" in steps:
            bench.capacity()
            for callers in (8, 32, 64):
                _closed_loop(bench, callers)
        if "large" in steps:
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
    rate = factor * bench.result.capacities[True][-1].images_per_s / bench.images

    def measure() -> tuple[LoadReport, ...]:
        load = RunningLoad(bench.job(kind="open", images=bench.images, rate=rate, deadline_s=2.0, channels=4))
        running = RunningLoad(bench.probe(bench.seconds + AFTER_S))
        report, probes = load.report(), running.report()
        end_s = max(call.due_s for call in report.calls)
        bound_ms = max(50.0, LATENCY_FACTOR * bench.result.alone_p99_ms)
        bench.result.recovery_s[name] = recovery_s(probes, end_s=end_s, bound_ms=bound_ms)
        return report, probes

    bench.result.open_loop[factor] = bench.step(name, measure, probes=True)


def _closed_loop(bench: _Bench, callers: int) -> None:
    name = f"{callers} callers of 16"
    job = bench.job(kind="closed", images=16, concurrency=callers, deadline_s=60.0, channels=4)
    bench.result.closed_loop[name] = bench.step(name, lambda: (run_load(job),))


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

    bench.capacity(probes=True)
    bench.step(BOTH, measure, probes=True)


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
            report.demand(
                f"goodput of what it can do beside the generator, {name}", ratio, limit=GOODPUT, at_least=True
            )
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
    if result.recovery_s:
        report.demand("recovery after the load", max(result.recovery_s.values()), limit=RECOVERY_S, unit="s")
    if (calm := result.memory_mib.get("1 times")) is not None:
        most = max(result.memory_mib.values())
        report.demand("most memory under overload", most, limit=calm + GROWTH_MIB, unit="MiB")
    reports = [*result.open_loop.values(), *result.closed_loop.values()]
    report.demand("the generator's share of a core", max(entry.cpu_share for entry in reports), limit=0.8)
    _judge_endings(reports, report)
    report.figures |= {
        "can do, images/s": [round(rate.images_per_s) for rate in result.capacities[False]],
        "can do with one-image calls beside it, images/s": [
            round(rate.images_per_s) for rate in result.capacities[True]
        ],
        "generator meanwhile, cores": [
            round(rate.generator, 3) for rates in result.capacities.values() for rate in rates
        ],
        **{f"open loop, {factor:g} times": entry.summary() for factor, entry in result.open_loop.items()},
        **{f"closed loop, {name}": entry.summary() for name, entry in result.closed_loop.items()},
        "goodput ratios": {name: round(ratio, 3) for name, ratio in result.ratios.items()},
        "goodput ratios, whatever the generator takes": {
            name: round(ratio, 3) for name, ratio in result.plain_ratios.items()
        },
        "one image alone": [entry.summary() for entry in result.alone],
        **{f"one image {name}": entry.summary() for name, entry in result.beside.items()},
        "bulk streams, images/s": {name: round(value) for name, value in result.bulk_images_per_s.items()},
        "recovery_s": {name: round(value, 2) for name, value in result.recovery_s.items()},
        "memory MiB": {name: round(value) for name, value in result.memory_mib.items()},
        "memory over time: s, MiB, descriptors": result.curve,
    }


def _judge_endings(reports: Sequence[LoadReport], report: Report) -> None:
    """However much there is: nothing ends otherwise than it may, and who is refused is told when to come again."""
    others = {code for entry in reports for code in entry.endings if code not in EXPECTED}
    report.demand(f"calls that ended otherwise{f': {sorted(others)}' if others else ''}", len(others), limit=0)
    refusals = [
        entry.reasons.get("RESOURCE_EXHAUSTED", "") for entry in reports if "RESOURCE_EXHAUSTED" in entry.endings
    ]
    report.demand("loads whose first refusal has no hint", sum(HINT not in words for words in refusals), limit=0)
