"""The measurements: bare ONNX Runtime, Triton directly and the service take turns in every round.

The machine may be shared and its speed drift: each ratio is taken within a round, and the result is the median over
the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field

from clients.bench.bare import BareJob, run_bare
from clients.bench.load import closed_loop, direct_target, paced, service_target
from clients.bench.result import LoadResult
from clients.local_server import LocalServer, local_server
from ganvas_core.cli import OPTIONS

NAME = "dcgan64"
DIRECT_CONCURRENCY = 64
SERVICE_BATCH = 16
SERVICE_CONCURRENCY = DIRECT_CONCURRENCY // SERVICE_BATCH
BARE_BATCH_SIZES = [1, 4, 8, 16, 32]
PACE_MS = 10.0


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=OPTIONS)
class BenchOptions:
    rounds: Annotated[int, Field(ge=1)] = 5
    """Rounds; each measures everything in turn."""
    seconds: Annotated[float, Field(ge=0.5, le=3600)] = 4.0
    """Length of one measurement."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Compute threads, of bare ONNX Runtime and of the one Triton instance."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One of each, measured within a minute of each other."""

    bare_by_batch_size: dict[int, LoadResult]
    """The hot loop at each of BARE_BATCH_SIZES."""
    bare: LoadResult
    """The hot loop at the batch size that is best over all rounds."""
    direct: LoadResult
    """64 callers of one image, straight to Triton."""
    service: LoadResult
    """4 callers of 16 images, through the service."""
    bare_paced: LoadResult
    """One image every PACE_MS."""
    direct_paced: LoadResult
    """One image every PACE_MS, straight to Triton."""
    service_paced: LoadResult
    """One image every PACE_MS, through the service."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One figure against another, its goal, and how to read it off a round."""

    title: str
    goal: float
    at_least: bool
    """Otherwise: at most."""
    of: Callable[[Round], float]


def choose_bare(rounds: list[Round]) -> int:
    """The batch size with the best median over the rounds: to take the luckiest in each would favour noise."""
    return max(
        BARE_BATCH_SIZES, key=lambda n: statistics.median(entry.bare_by_batch_size[n].images_per_s for entry in rounds)
    )


RATIOS = [
    Ratio(
        title="direct, 64 callers ÷ bare best (images/s)",
        goal=0.90,
        at_least=True,
        of=lambda r: r.direct.images_per_s / r.bare.images_per_s,
    ),
    Ratio(
        title=f"direct ÷ bare, one image every {PACE_MS:g} ms (p50)",
        goal=2.0,
        at_least=False,
        of=lambda r: r.direct_paced.percentile_ms(50) / r.bare_paced.percentile_ms(50),
    ),
    Ratio(
        title="service, 16-image requests ÷ direct, 64 callers (images/s)",
        goal=0.80,
        at_least=True,
        of=lambda r: r.service.images_per_s / r.direct.images_per_s,
    ),
]


def measure_rounds(repository: Path, options: BenchOptions, *, report: Callable[[str], None]) -> list[Round]:
    """Serve `repository` and run every round.

    Raises:
        LocalServerError, BareError: a part failed to run.
    """
    model = repository / NAME / "1" / "model.onnx"
    with local_server(repository) as server:
        rounds = []
        for i in range(options.rounds):
            rounds.append(_measure_round(server, model, options))
            report(f"round {i + 1} of {options.rounds}: " + ", ".join(f"{r.of(rounds[-1]):.2f}" for r in RATIOS))
    best = choose_bare(rounds)
    return [replace(entry, bare=entry.bare_by_batch_size[best]) for entry in rounds]


def median_of(rounds: list[Round], value: Callable[[Round], float]) -> float:
    return statistics.median(value(entry) for entry in rounds)


def _measure_round(server: LocalServer, model: Path, options: BenchOptions) -> Round:
    seconds, num_threads = options.seconds, options.threads
    one = direct_target(server.triton_grpc, NAME, batch_size=1, num_labels=0)
    sixteen = service_target(server.service, NAME, batch_size=SERVICE_BATCH)
    one_by_service = service_target(server.service, NAME, batch_size=1)
    per_batch_size_s = max(0.5, seconds / 2)
    bare = {
        n: run_bare(BareJob(model=str(model), batch_size=n, num_threads=num_threads, seconds=per_batch_size_s))
        for n in BARE_BATCH_SIZES
    }
    return Round(
        bare_by_batch_size=bare,
        bare=max(bare.values(), key=lambda result: result.images_per_s),
        direct=closed_loop(one, concurrency=DIRECT_CONCURRENCY, seconds=seconds),
        service=closed_loop(sixteen, concurrency=SERVICE_CONCURRENCY, seconds=seconds),
        bare_paced=run_bare(
            BareJob(model=str(model), batch_size=1, num_threads=num_threads, seconds=seconds, interval_ms=PACE_MS)
        ),
        direct_paced=paced(one, interval_ms=PACE_MS, seconds=seconds),
        service_paced=paced(one_by_service, interval_ms=PACE_MS, seconds=seconds),
    )
