"""What a run of the benchmark gives, as it is kept in JSON, and read again to be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from clients.bench.measurement import Measurement
from clients.bench.plan import BEST, Load
from clients.bench.server_use import ServerUse
from clients.bench.statistics import Interval, over_rounds
from ganvas_core.cli import UsageError
from ganvas_core.files import write_atomic

__all__ = [
    "FORMAT",
    "ColdStart",
    "Goodput",
    "Result",
    "Row",
    "ScenarioPair",
    "SubjectResult",
    "read_result",
    "save_result",
]

FORMAT = 1


@dataclass(kw_only=True)
class Row:
    """One load, as measured in every round."""

    load: Load
    rounds: list[Measurement] = field(default_factory=list)
    uses: list[ServerUse] = field(default_factory=list)
    """Of the server, in every round; empty in process."""

    @property
    def is_complete(self) -> bool:
        return all(entry.percentiles for entry in self.rounds)

    def images_per_s(self) -> Interval:
        return over_rounds([entry.images_per_s for entry in self.rounds])

    def percentile_ms(self, percent: float) -> Interval:
        return over_rounds([entry.percentile(percent).value for entry in self.rounds if entry.percentiles])

    def is_enough(self, percent: float) -> bool:
        """Whether every round has samples enough for a percentile, of a server that kept up."""
        return self.is_complete and self.keeps_up and all(entry.percentile(percent).is_enough for entry in self.rounds)

    @property
    def keeps_up(self) -> bool:
        return all(entry.keeps_up for entry in self.rounds)

    @property
    def warnings(self) -> list[str]:
        """One of each kind, with the number of rounds that had it."""
        by_kind: dict[str, list[str]] = {}
        for entry in self.rounds:
            for warning in entry.warnings:
                by_kind.setdefault(warning.partition(":")[0], []).append(warning)
        rounds = len(self.rounds)
        return [found[0] + (f" ({len(found)} of {rounds} rounds)" if rounds > 1 else "") for found in by_kind.values()]


@dataclass(kw_only=True)
class Goodput:
    """The highest Poisson rate of one target whose p99 stays within the objective."""

    target: str
    slo_p99_ms: float
    calls_per_s: float
    """0: not even the lowest rate stayed within it."""
    next_per_s: float | None
    """The lowest rate tried that did not; None: every rate did, and calls_per_s is a lower bound."""
    tried: list[tuple[float, float | None]]
    """Calls a second and p99 in ms (None: calls failed, or none was answered), in the order tried."""
    confirmed: Measurement | None
    """At calls_per_s, three times as long."""
    why_not: str = ""
    """Why next_per_s may be good all the same."""


@dataclass(kw_only=True)
class ColdStart:
    """From nothing to an image, in seconds and milliseconds."""

    ready_s: float
    """From the start of the process to its saying that it is ready."""
    first_image_s: float
    """To the first image."""
    first_ms: float
    """That call alone."""
    steady_ms: float
    """The median of those after it."""


@dataclass(kw_only=True)
class ScenarioPair:
    """One of MLPerf's scenarios, by LoadGen and by our own loops in turn, on one target."""

    scenario: str
    target: str
    figure: str
    """Which figure, with its unit."""
    loadgen: float
    own: float
    is_valid: bool
    """LoadGen's own verdict, of its minimum numbers."""
    is_enough: bool = True
    """Whether every round of ours has samples enough for the percentile."""
    offered_per_s: float | None = None

    @property
    def ratio(self) -> float:
        return self.loadgen / self.own if self.own else math.nan


@dataclass(kw_only=True)
class SubjectResult:
    """One model."""

    model: str
    image: tuple[int, int, int] | None
    rows: list[Row] = field(default_factory=list)
    goodput: list[Goodput] = field(default_factory=list)
    cold: ColdStart | None = None
    scenarios: list[ScenarioPair] = field(default_factory=list)
    opinions: list[ScenarioPair] = field(default_factory=list)
    """perf_analyzer's beside ours."""
    notes: list[str] = field(default_factory=list)
    is_interrupted: bool = False
    failure: str = ""
    """Why it was interrupted, if not by the user."""

    def keep_rounds(self, count: int, *, of: int) -> None:
        """What an interrupted run is worth: the rounds that are complete."""
        self.rows = [row for row in self.rows if len(row.rounds) >= count]
        for row in self.rows:
            del row.rounds[count:], row.uses[count:]
        self.is_interrupted = True
        self.notes.append(f"interrupted: {count} of {of} rounds are complete, and only these are shown")

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.goodput or self.scenarios or self.opinions)

    def fail(self, why: str) -> None:
        """Say what ended the run, or came of what ended it."""
        self.is_interrupted = True
        self.failure = self.failure or why
        self.notes.append(why)

    def row(self, key: str) -> Row | None:
        if key == BEST:
            return self.best
        return next((row for row in self.rows if row.load.key == key), None)

    @property
    def best(self) -> Row | None:
        """ONNX Runtime's hot loop with the best figure over the rounds: the luckiest of each would favour noise."""
        hot = [row for row in self.rows if row.load.kind == "hot" and row.load.target == "onnxruntime"]
        return max(hot, key=lambda row: row.images_per_s().value, default=None)


@dataclass(kw_only=True)
class Result:
    """A whole run."""

    format: int
    command: str
    date: str
    environment: dict[str, Any]
    options: dict[str, Any]
    subjects: list[SubjectResult]
    elsewhere: str = ""
    """HOST:PORT of a server on another machine: what `environment` says is of the generator's alone. Empty: it is on
    this one, or the report is older than this field."""

    @property
    def is_interrupted(self) -> bool:
        return any(subject.is_interrupted for subject in self.subjects)


def save_result(result: Result, path: Path) -> None:
    write_atomic(path, to_json(result, indent=1) + b"\n")


def read_result(path: Path) -> Result:
    """Raises UsageError: the file is none of `./ganvas bench`."""
    if path.suffix in (".html", ".md") and path.is_file():
        beside = path.with_suffix(".json")
        where = f"give {beside}" if beside.exists() else "which is not beside it: --out of ./ganvas bench writes it"
        raise UsageError(f"{path} is a report to look at. A comparison takes its JSON; {where}.")
    try:
        result = TypeAdapter(Result).validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}. Give the JSON of a report; ./ganvas bench --out FOLDER writes one."
        ) from None
    except ValidationError as error:
        what = error.errors(include_url=False)[0]
        where = ".".join(map(str, what["loc"]))
        raise UsageError(f"{path} is no JSON of ./ganvas bench in format {FORMAT}: {where}: {what['msg']}.") from None
    if result.format != FORMAT:
        raise UsageError(f"{path} has format {result.format}; this release reads {FORMAT}.")
    return result
