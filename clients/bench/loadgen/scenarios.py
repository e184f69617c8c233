"""MLPerf's scenarios by LoadGen and by our own loops, in turn."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import TypeAdapter
from pydantic_core import to_json

from clients.bench.load import LoadJob, LoadReport, run_load
from clients.bench.loadgen.job import Scenario, ScenarioJob, ScenarioReport
from clients.bench.options import BenchOptions
from clients.bench.result import ScenarioPair, SubjectResult
from clients.bench.session import Progress
from clients.bench.subject import Subject
from ganvas_core.cli import UserError

__all__ = ["LoadgenError", "measure_scenarios", "run_loadgen"]

PACKAGE = "mlperf_loadgen"
SAMPLES_PER_QUERY = 8
UNDER_WAY = 64
SERVER_SHARE = 0.5
"""Of what Offline reached: the rate of Server."""
MORE_S = 600.0


class LoadgenError(UserError):
    """LoadGen is not installed, or its process failed."""


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """One number that both give."""

    name: str
    loadgen: Callable[[ScenarioReport], float | None]
    own: Callable[[LoadReport], float]


def _latency(percent: float) -> _Figure:
    return _Figure(
        name=f"p{percent:g} ms",
        loadgen=lambda report: report.latency_ms.get(percent),
        own=lambda report: report.percentile_ms(percent),
    )


_RATE = _Figure(name="images/s", loadgen=lambda report: report.samples_per_s, own=lambda report: report.images_per_s)
FIGURES: dict[Scenario, tuple[_Figure, ...]] = {
    "SingleStream": (_latency(50), _latency(90)),
    "MultiStream": (_latency(50), _latency(99)),
    "Offline": (_RATE,),
    "Server": (_latency(50), _latency(90), _latency(99)),
}


def measure_scenarios(
    subject: Subject, options: BenchOptions, result: SubjectResult, *, progress: Progress
) -> list[ScenarioPair]:
    """Every scenario on every target that is served, `rounds` times by each side in turn; figures are medians.

    Raises:
        LoadgenError: it is not installed, or failed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise LoadgenError(
            "--scenario loadgen needs MLPerf LoadGen: .venv/bin/pip install mlcommons-loadgen -c constraints.txt"
        )
    pairs: list[ScenarioPair] = []
    for name in subject.served:
        rate, expected_ms = 100.0, 10.0
        for scenario, figures in FIGURES.items():
            own_reports, reports = [], []
            for index in range(options.rounds):
                progress(index, options.rounds, f"{name}, {scenario}")
                job = _job(scenario, subject, name, options, rate=rate, expected_ms=expected_ms, seed=index + 1)
                own_reports.append(run_load(_own_job(job)))
                if scenario == "SingleStream" and index == 0:
                    expected_ms = own_reports[0].percentile_ms(50)
                if scenario == "Offline" and index == 0:
                    rate = own_reports[0].images_per_s
                    job = _job(scenario, subject, name, options, rate=rate, expected_ms=expected_ms, seed=1)
                reports.append(run_loadgen(job))
            pairs += [_pair(scenario, name, figure, reports, own_reports, rate) for figure in figures]
            if scenario == "Offline":
                rate = SERVER_SHARE * statistics.median(report.images_per_s for report in own_reports)
    return pairs


def _job(
    scenario: Scenario, subject: Subject, name: str, options: BenchOptions, *, seed: int, **expected: float
) -> ScenarioJob:
    """One turn of a scenario.

    Args:
        expected: rate and expected_ms of ScenarioJob.
    """
    return ScenarioJob(
        scenario=scenario,
        target=subject.target(name),
        seconds=options.seconds,
        samples_per_query=SAMPLES_PER_QUERY,
        most_under_way=UNDER_WAY,
        seed=seed,
        rate=expected["rate"],
        expected_ms=expected["expected_ms"],
    )


def _own_job(job: ScenarioJob) -> LoadJob:
    """The same by our own loops; LoadGen has no warm-up of its own, so neither have they."""
    is_open = job.scenario == "Server"
    return LoadJob(
        target=job.target,
        kind="open" if is_open else "closed",
        rate=job.rate if is_open else 0.0,
        concurrency=job.most_under_way if job.scenario == "Offline" else 1,
        burst=job.samples_per_query if job.scenario == "MultiStream" else 1,
        seconds=job.seconds,
        seed=job.seed,
        channels=2,
    )


def run_loadgen(job: ScenarioJob) -> ScenarioReport:
    """One scenario in a process of its own. Raises LoadgenError."""
    command = [sys.executable, "-m", "clients.bench.loadgen", to_json(job).decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=job.seconds * 4 + MORE_S)
    if done.returncode != 0:
        try:
            said = json.loads(done.stdout)["error"]
        except (ValueError, KeyError):
            said = done.stderr.strip()[-500:] or f"exit code {done.returncode}"
        raise LoadgenError(f"LoadGen's {job.scenario} failed: {said}")
    return TypeAdapter(ScenarioReport).validate_json(done.stdout)


def _pair(
    scenario: Scenario,
    target: str,
    figure: _Figure,
    reports: list[ScenarioReport],
    own_reports: list[LoadReport],
    rate: float,
) -> ScenarioPair:
    theirs = [value for report in reports if (value := figure.loadgen(report)) is not None]
    if not theirs:
        raise LoadgenError(f"LoadGen's {scenario} gave no {figure.name}.")
    return ScenarioPair(
        scenario=scenario,
        target=target,
        figure=figure.name,
        loadgen=statistics.median(theirs),
        own=statistics.median(figure.own(report) for report in own_reports),
        is_valid=all(report.is_valid for report in reports),
        offered_per_s=rate if scenario == "Server" else None,
    )
