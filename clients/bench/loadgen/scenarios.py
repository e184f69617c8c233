"""MLPerf's scenarios by LoadGen and by our own loops, in turn."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys

from pydantic import TypeAdapter
from pydantic_core import to_json

from clients.bench.beside import ours, pair_of, tell
from clients.bench.load import LoadJob, run_load
from clients.bench.loadgen.job import Scenario, ScenarioJob, ScenarioReport
from clients.bench.options import BenchOptions
from clients.bench.result import Row, ScenarioPair, SubjectResult
from clients.bench.session import Progress
from clients.bench.subject import Subject
from clients.bench.targets import WrongAnswerError
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


FIGURES: dict[Scenario, tuple[float | None, ...]] = {
    "SingleStream": (50, 90),
    "MultiStream": (50, 99),
    "Offline": (None,),
    "Server": (50, 90, 99),
}
"""Percents of latency that both give; None: images a second."""


def measure_scenarios(subject: Subject, options: BenchOptions, result: SubjectResult, *, progress: Progress) -> None:
    """Every scenario on every target that is served, `rounds` times by each side in turn; figures are medians.

    The result gets each when it is done.

    Raises:
        LoadgenError: it is not installed, or failed.
        WrongAnswerError: a target answers wrongly.
        UserError: our own calls failed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise LoadgenError(
            "--scenario loadgen needs MLPerf LoadGen: .venv/bin/pip install mlcommons-loadgen -c constraints.txt"
        )
    for name in subject.served:
        rate, expected_ms = 100.0, 10.0
        for scenario, figures in FIGURES.items():
            own_reports, reports = [], []
            for index in range(options.rounds):
                progress(index, options.rounds, f"{name}, {scenario}")
                job = _job(scenario, subject, name, options, rate=rate, expected_ms=expected_ms, seed=index + 1)
                own_reports.append(run_load(_own_job(job)))
                own = ours(f"LoadGen's {scenario}", name, own_reports)
                if scenario == "SingleStream" and index == 0:
                    expected_ms = own_reports[0].percentile_ms(50)
                if scenario == "Offline" and index == 0:
                    rate = own_reports[0].images_per_s
                    job = _job(scenario, subject, name, options, rate=rate, expected_ms=expected_ms, seed=1)
                reports.append(run_loadgen(job))
            result.scenarios += [_pair(scenario, own, percent, reports, rate) for percent in figures]
            tell(result, own, figures)
            if scenario == "Offline":
                rate = SERVER_SHARE * statistics.median(report.images_per_s for report in own_reports)


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
    """One scenario in a process of its own.

    Raises:
        LoadgenError: it failed.
        WrongAnswerError: the target answers wrongly.
    """
    command = [sys.executable, "-m", "clients.bench.loadgen"]
    timeout_s = job.seconds * 4 + MORE_S
    try:
        # By stdin: every user of this machine sees a command line, and the server's key is in the job.
        told = to_json(job).decode() + "\n"
        done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise LoadgenError(f"LoadGen's {job.scenario} did not end within {timeout_s:.0f} s.") from None
    if done.returncode != 0:
        try:
            failure = json.loads(done.stdout)
            said, kind = failure["error"], failure["kind"]
        except (ValueError, KeyError):
            said, kind = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}", ""
        if kind == WrongAnswerError.__name__:
            raise WrongAnswerError(said)
        raise LoadgenError(f"LoadGen's {job.scenario} failed: {said}")
    return TypeAdapter(ScenarioReport).validate_json(done.stdout)


def _pair(
    scenario: Scenario, own: Row, percent: float | None, reports: list[ScenarioReport], rate: float
) -> ScenarioPair:
    found = [report.samples_per_s if percent is None else report.latency_ms.get(percent) for report in reports]
    theirs = [value for value in found if value is not None]
    if not theirs:
        figure = "images/s" if percent is None else f"p{percent:g}"
        raise LoadgenError(f"LoadGen's {scenario} gave no {figure}.")
    return pair_of(
        own,
        percent,
        theirs,
        title=scenario,
        is_valid=all(report.is_valid for report in reports),
        offered_per_s=rate if scenario == "Server" else None,
    )
