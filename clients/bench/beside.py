"""Our own figures beside those of another generator, judged as every measurement is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from clients.bench.load import LoadReport
from clients.bench.measurement import judge, samples_warning
from clients.bench.plan import Load
from clients.bench.result import Row, ScenarioPair, SubjectResult
from ganvas_core.cli import UserError

__all__ = ["ours", "pair_of", "tell"]


def ours(title: str, target: str, reports: Sequence[LoadReport]) -> Row:
    """Every round of ours.

    Raises:
        UserError: a round has no answer; there is nothing to compare with.
    """
    rounds = [judge(report) for report in reports]
    for entry in rounds:
        if not entry.percentiles or not entry.images_per_s:
            why = entry.warnings[0] if entry.warnings else "none was answered in time"
            raise UserError(f"{title}, {target}: our own calls had no answer to compare with: {why}.")
    is_open = reports[0].job.kind == "open"
    load = Load(key=f"{title}, {target}, ours", target=target, kind="open" if is_open else "closed")
    return Row(load=load, rounds=rounds)


def pair_of(
    row: Row,
    percent: float | None,
    theirs: Sequence[float],
    *,
    title: str,
    is_valid: bool = True,
    offered_per_s: float | None = None,
) -> ScenarioPair:
    """The medians of both over the rounds.

    Args:
        percent: of latency; None: images a second.
    """
    if percent is None:
        own = [entry.images_per_s for entry in row.rounds]
    else:
        own = [entry.percentile(percent).value for entry in row.rounds]
    return ScenarioPair(
        scenario=title,
        target=row.load.target,
        figure="images/s" if percent is None else f"p{percent:g} ms",
        loadgen=statistics.median(theirs),
        own=statistics.median(own),
        is_valid=is_valid,
        is_enough=percent is None or row.is_enough(percent),
        offered_per_s=offered_per_s,
    )


def tell(result: SubjectResult, row: Row, percents: Sequence[float | None]) -> None:
    """Note what makes our side doubtful: failed calls, a queue that grew, percentiles without samples enough."""
    result.notes += [f"{row.load.key}: {warning}" for warning in row.warnings]
    for percent in percents:
        if percent is not None and row.keeps_up and not row.is_enough(percent):
            fewest = min(entry.num_calls for entry in row.rounds)
            result.notes.append(f"{row.load.key}: {samples_warning(percent, fewest)}; neither side's is to be quoted")
