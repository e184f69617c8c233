"""Measures one model: every load in every round, then what needs the model alone."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from clients.bench.goodput import STEPS, search_goodput
from clients.bench.load import LoadJob, RunningLoad, run_load
from clients.bench.load.job import OK
from clients.bench.measurement import Measurement, judge
from clients.bench.options import BenchOptions
from clients.bench.plan import BEST, RATIOS, Load, job_of, open_loads, pace_ms, plan_loads
from clients.bench.result import Row, SubjectResult
from clients.bench.server_use import ServerUse, Watch
from clients.bench.subject import Subject
from clients.bench.targets import TargetError, WrongAnswerError
from ganvas_core.cli import UsageError, UserError

__all__ = ["Progress", "kept", "measure_subject", "ratio_rounds"]

LONGEST = 10.0
"""So many times as long as usual a measurement for goodput takes at most."""

Progress = Callable[[int, int, str], None]
"""Told how many measurements are done, of how many, and which is next."""


def measure_subject(subject: Subject, options: BenchOptions, *, progress: Progress) -> SubjectResult:
    """Everything that the options ask for but the cold start, which has a server of its own.

    Raises:
        TargetError: a target does not answer.
        WrongAnswerError: one answers wrongly; nothing is reported then.
    """
    result = SubjectResult(model=subject.model, image=subject.image, notes=list(subject.notes))
    session = _Session(subject, options, result, progress)
    loads = plan_loads(subject, options, session.every_ms())
    num_open = len(subject.served) * (len(options.rates) or 4) if "open" in options.scenarios else 0
    session.total = options.rounds * (len(loads) + num_open)
    others = set(options.scenarios) - ({"cold"} if options.is_remote else set()) - {"ratios", "closed", "open"}
    if not session.total and not others:
        targets, scenarios = ", ".join(subject.targets), ", ".join(options.scenarios)
        raise UsageError(
            f"--target {targets} has no part in --scenario {scenarios}: in process there is `ratios` alone, and `cold` "
            "starts a server of its own, so it cannot be had with --address, --kserve or --http."
        )
    for round_index in range(options.rounds):
        try:
            session.round(loads, round_index)
        except (KeyboardInterrupt, UserError) as error:
            if round_index == 0 or isinstance(error, WrongAnswerError):
                raise
            result.keep_rounds(round_index, of=options.rounds)
            if isinstance(error, UserError):
                result.fail(str(error))
            return result
    if options.slo_p99_ms is not None:
        session.total += len(subject.served) * (STEPS + 2)
        for name in subject.served:
            with kept(result, f"{name}, goodput"):
                session.goodput(name, options.slo_p99_ms)
            if result.is_interrupted:
                break
    return result


@contextmanager
def kept(result: SubjectResult, what: str) -> Iterator[None]:
    """Something after the rounds, whose end before its time does not cost what was measured so far.

    Raises:
        WrongAnswerError: a target answers wrongly; nothing is reported then.
    """
    try:
        yield
    except (KeyboardInterrupt, UserError) as error:
        if isinstance(error, WrongAnswerError) or result.is_empty:
            raise
        if isinstance(error, UserError):
            result.fail(f"{what}: {error}")
        else:
            result.is_interrupted = True
            result.notes.append(f"{what}: interrupted")


def ratio_rounds(result: SubjectResult) -> dict[str, list[float]]:
    """Each ratio in every round, by its title; those whose loads were measured."""
    found = {}
    for ratio in RATIOS:
        over, under = result.row(ratio.over), result.row(ratio.under)
        if over is None or under is None or not (over.is_complete and under.is_complete):
            continue
        pairs = zip(over.rounds, under.rounds, strict=True)
        found[ratio.title] = [_figure(above, ratio.of) / _figure(below, ratio.of) for above, below in pairs]
    return found


def _figure(entry: Measurement, name: str) -> float:
    return entry.images_per_s if name == "images_per_s" else entry.percentile(50).value


class _Session:
    def __init__(self, subject: Subject, options: BenchOptions, result: SubjectResult, progress: Progress) -> None:
        self.subject = subject
        self.total = 0
        self._options = options
        self._result = result
        self._progress = progress
        self._done = 0
        self._rates: dict[str, float] = {}

    def every_ms(self) -> float:
        """The distance of paced calls, by what an image takes bare, or else by one caller."""
        if "ratios" not in self._options.scenarios:
            return pace_ms(0.0)
        name = next(iter(self.subject.targets))
        target = self.subject.target(name)
        report = run_load(LoadJob(target=target, kind="closed", seconds=0.5, warmup_s=0.2))
        return pace_ms(report.percentile_ms(50) if report.num_ok else 0.0)

    def can_do(self, name: str) -> float:
        """Calls of one image a second that the target did in a closed loop, over the rounds so far."""
        rows = [row for row in self._result.rows if row.load.target == name and row.load.kind == "closed"]
        rates = [statistics.median(entry.calls_per_s for entry in row.rounds) for row in rows if row.load.images == 1]
        # The rates of every round are those of the first, or they could not be compared.
        return self._rates.setdefault(name, max(rates, default=1.0) or 1.0)

    def round(self, loads: Sequence[Load], round_index: int) -> None:
        """Everything in turn, the open loops last: at shares of what the closed ones reached."""
        for load in loads:
            self.measure(load, round_index)
        if "open" in self._options.scenarios:
            for name in self.subject.served:
                for load in open_loads(name, self.can_do(name), self._options):
                    self.measure(load, round_index)

    def measure(self, load: Load, round_index: int) -> None:
        job = job_of(load, self.subject, self._options, round_index)
        try:
            measured, use = self._run(job, load.target, load.key)
        except TargetError as error:
            if not any(row.load.target == load.target for row in self._result.rows):
                raise  # it never answered
            where = f"{load.key}, round {round_index + 1} of {self._options.rounds}"
            raise TargetError(f"{load.target} stopped answering before or during {where}: {error}") from None
        row = self._result.row(load.key) if load.key != BEST else None
        if row is None:
            row = Row(load=load)
            self._result.rows.append(row)
        row.rounds.append(measured)
        if use is not None:
            row.uses.append(use)

    def goodput(self, name: str, slo_p99_ms: float) -> None:
        base = Load(key=f"{name}, goodput", target=name, kind="open", rate=1.0)

        def measure(rate: float, factor: float) -> Measurement:
            load = dataclasses.replace(base, rate=rate)
            job = job_of(load, self.subject, self._options, self._done)
            # As long as it takes for the 99th percentile to be known, within reason: a rate too low for that is none.
            seconds = min(max(job.seconds, 500 / rate), LONGEST * job.seconds) * factor
            # An answer within the objective is waited for.
            drain_s = max(job.drain_s, 2 * slo_p99_ms / 1e3)
            return self._run(dataclasses.replace(job, seconds=seconds, drain_s=drain_s), name, f"{name}, {rate:.0f}/s")[
                0
            ]

        self._result.goodput.append(search_goodput(name, slo_p99_ms, self.can_do(name), measure))

    def _run(self, job: LoadJob, target: str, text: str) -> tuple[Measurement, ServerUse | None]:
        self._progress(self._done, max(self.total, self._done + 1), text)
        running = RunningLoad(job)
        watch = None if job.target.kind == "process" else Watch(self.subject, target)
        try:
            report = running.report()
        finally:
            if watch is not None:
                watch.stop()
        answered = sum(call.status == OK for call in report.calls) * job.images
        use = watch.end(answered) if watch is not None else None
        self._done += 1
        self._progress(self._done, max(self.total, self._done), text)
        return judge(report), use
