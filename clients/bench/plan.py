"""Which loads a model gets in every round, and the ratios that are taken within a round.

The machine may be shared and its speed drift: everything takes its turn in every round, so that a ratio of two figures
of one round is worth more than either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clients.bench.load import LoadJob
from clients.bench.options import BenchOptions
from clients.bench.subject import Subject

__all__ = ["BEST", "RATIOS", "Load", "Ratio", "job_of", "open_loads", "pace_ms", "plan_loads", "ratio_loads"]

BARE_BATCH_SIZES = (1, 4, 8, 16, 32)
DIRECT_CONCURRENCY = 64
PACE_MS = 10.0
PACE_FACTOR = 3.0
"""Of bare ONNX Runtime's time for an image, so that calls of a slow model do not overlap."""
SHARES = (0.25, 0.5, 0.75, 0.9)
"""Of what a target can do, of the open loop."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One load on one target."""

    key: str
    """What it is called in tables, and by which rounds and reports are matched."""
    target: str
    kind: Literal["hot", "closed", "open", "paced"]
    """hot: one caller in process, again and again. paced: at even distances, so far apart that none waits."""
    images: int = 1
    """Of a call."""
    concurrency: int = 1
    rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One figure against another within a round."""

    title: str
    over: str
    """Key of a load, or BEST for the best of the hot loops."""
    under: str
    of: Literal["images_per_s", "p50"]
    goal: float
    """Of the DCGAN of 64 pixels."""
    at_least: bool
    """Otherwise: at most."""


BEST = "onnxruntime, hot loop, best batch size"
PACED = "1 at even distances"


def _many(target: str, concurrency: int, images: int) -> str:
    return f"{target}, {concurrency} caller{'s' if concurrency > 1 else ''} of {images}"


RATIOS = (
    Ratio(
        title=f"direct, {DIRECT_CONCURRENCY} callers ÷ bare best (images/s)",
        over=_many("direct", DIRECT_CONCURRENCY, 1),
        under=BEST,
        of="images_per_s",
        goal=0.90,
        at_least=True,
    ),
    Ratio(
        title="direct ÷ bare, one image at a time (p50)",
        over=f"direct, {PACED}",
        under=f"onnxruntime, {PACED}",
        of="p50",
        goal=2.0,
        at_least=False,
    ),
    Ratio(
        title=f"service, 16-image requests ÷ direct, {DIRECT_CONCURRENCY} callers (images/s)",
        over=_many("service", 4, 16),
        under=_many("direct", DIRECT_CONCURRENCY, 1),
        of="images_per_s",
        goal=0.80,
        at_least=True,
    ),
)


def pace_ms(image_ms: float) -> float:
    """The distance of paced calls: PACE_MS, or more where an image takes long."""
    return max(PACE_MS, PACE_FACTOR * image_ms)


def ratio_loads(subject: Subject, every_ms: float) -> list[Load]:
    """What the ratios are made of; of each target that there is."""
    loads = []
    for name in subject.in_process:
        loads += [Load(key=f"{name}, hot loop of {n}", target=name, kind="hot", images=n) for n in BARE_BATCH_SIZES]
    for name, concurrency, images in (("direct", DIRECT_CONCURRENCY, 1), ("service", 4, 16)):
        if name in subject.targets:
            key = _many(name, concurrency, images)
            loads.append(Load(key=key, target=name, kind="closed", concurrency=concurrency, images=images))
    for name in subject.targets:
        loads.append(Load(key=f"{name}, {PACED}", target=name, kind="paced", rate=1e3 / every_ms))
    return loads


def closed_loads(subject: Subject, options: BenchOptions) -> list[Load]:
    """Callers of one image a call, and of the service some of many."""
    loads = [
        Load(key=_many(name, callers, 1), target=name, kind="closed", concurrency=callers)
        for name in subject.served
        for callers in options.concurrency
    ]
    if "service" in subject.targets and options.images > 1:
        for callers in (1, 4):
            key = _many("service", callers, options.images)
            loads.append(Load(key=key, target="service", kind="closed", concurrency=callers, images=options.images))
    return loads


def open_loads(name: str, can_do_per_s: float, options: BenchOptions) -> list[Load]:
    """Poisson arrivals of one image a call.

    Args:
        can_do_per_s: calls a second of a closed loop, of which the rates are shares unless they are given.
    """
    if options.rates:
        return [Load(key=f"{name}, Poisson {rate:g}/s", target=name, kind="open", rate=rate) for rate in options.rates]
    return [
        Load(key=f"{name}, Poisson at {share:g} of its best", target=name, kind="open", rate=share * can_do_per_s)
        for share in SHARES
    ]


def plan_loads(subject: Subject, options: BenchOptions, every_ms: float) -> list[Load]:
    """Everything but the open loop, each load once."""
    loads: dict[str, Load] = {}
    if "ratios" in options.scenarios:
        loads |= {load.key: load for load in ratio_loads(subject, every_ms)}
    # Without rates of its own, an open loop is measured at shares of what a closed one can do.
    needs_best = "open" in options.scenarios and not options.rates
    if needs_best or options.slo_p99_ms is not None or "closed" in options.scenarios:
        loads |= {load.key: load for load in closed_loads(subject, options)}
    return list(loads.values())


def job_of(load: Load, subject: Subject, options: BenchOptions, round_index: int) -> LoadJob:
    """The generator's job of a load in a round; arrivals differ from round to round."""
    target = subject.target(load.target, load.images)
    is_open = load.kind in ("open", "paced")
    return LoadJob(
        target=target,
        kind="open" if is_open else "closed",
        rate=load.rate,
        poisson=load.kind == "open",
        concurrency=load.concurrency,
        seconds=max(0.5, options.seconds / 2) if load.kind == "hot" else options.seconds,
        warmup_s=min(0.3, options.warmup_s) if load.kind == "hot" else options.warmup_s,
        seed=round_index + 1,
        processes=1 if load.kind in ("hot", "paced") or target.kind == "process" else options.generators,
        channels=2 if load.concurrency > 32 or is_open else 1,
    )
