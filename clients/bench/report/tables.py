"""The tables of a result, for every form of the report."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from clients.bench.measurement import samples_warning
from clients.bench.plan import BEST, RATIOS
from clients.bench.result import Result, Row, ScenarioPair, SubjectResult
from clients.bench.session import ratio_rounds
from clients.bench.statistics import Interval

__all__ = ["Sheet", "footnotes", "print_result", "sheets_of"]

GOALS_OF = "dcgan64"
"""The model that the goals of the ratios were set for."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One table."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def sheets_of(subject: SubjectResult) -> list[Sheet]:
    """Every table that a model has something for."""
    sheets = [_loads(subject), _ratios(subject), _times(subject), _use(subject)]
    sheets += [_goodput(subject), _scenarios(subject), _opinions(subject), _cold(subject)]
    return [sheet for sheet in sheets if sheet.rows]


def print_result(result: Result, console: Console) -> None:
    for subject in result.subjects:
        console.rule(_heading(subject))
        for sheet in sheets_of(subject):
            table = Table(
                title=sheet.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
            )
            for place, name in enumerate(sheet.header):
                table.add_column(name, no_wrap=place == 0, justify="left" if place == 0 else "right")
            for row in sheet.rows:
                table.add_row(*row)
            console.print(table)
            if sheet.note:
                console.print(sheet.note, style="dim", soft_wrap=True)
        for note in footnotes(subject):
            console.print(f"beware: {note}", soft_wrap=True)


def _heading(subject: SubjectResult) -> str:
    return subject.model if subject.image is None else f"{subject.model}, {'x'.join(map(str, subject.image))}"


def footnotes(subject: SubjectResult) -> list[str]:
    """What makes figures doubtful, by load."""
    notes = list(subject.notes)
    for entry in subject.goodput:
        if entry.why_not:
            notes.append(f"{entry.target}, goodput: {entry.why_not}")
    for row in subject.rows:
        notes += [f"{row.load.key}: {warning}" for warning in row.warnings]
        for percent in (50.0, 99.0):
            if row.is_complete and row.keeps_up and not row.is_enough(percent):
                fewest = min(entry.num_calls for entry in row.rounds)
                notes.append(f"{row.load.key}: {samples_warning(percent, fewest)}; (…)? is not to be quoted")
    return notes


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _with_half(interval: Interval) -> str:
    """A figure with its confidence interval, as ± so many percent."""
    if not interval.value or interval.high == float("inf"):
        return number(interval.value)
    share = max(interval.high / interval.value - 1, 1 - interval.low / interval.value)
    return f"{number(interval.value)} ±{share:.0%}" if share < 10 else f"{number(interval.value)} ±>10x"


def _percentile(row: Row, percent: float) -> str:
    if not any(entry.percentiles for entry in row.rounds):
        return "none"
    text = _with_half(row.percentile_ms(percent))
    return text if row.is_enough(percent) else f"({text})?"


def _loads(subject: SubjectResult) -> Sheet:
    rows = []
    for row in subject.rows:
        share = max(entry.cpu_share for entry in row.rounds)
        generator = "" if row.load.kind == "hot" or row.load.target not in _served(subject) else f"{share:.0%}"
        failed = sum(entry.num_failed for entry in row.rounds)
        marks = ["!"] * bool(row.warnings)
        cells = [row.load.key, _with_half(row.images_per_s())]
        cells += [_percentile(row, percent) for percent in (50.0, 99.0, 99.9)]
        rows.append([*cells, generator, str(failed) if failed else "", *(marks or [""])])
    return Sheet(
        title="Load",
        header=["load", "images/s", "p50 ms", "p99 ms", "p99.9 ms", "generator", "failed", ""],
        rows=rows,
        note="± is the 95 % confidence interval over the rounds. (…)?: too few samples to claim it, or a queue that "
        "grew. Latency counts from the moment a call was due. generator: of a core, its busiest process. "
        f"{_what_was_right(subject)} !: see below.",
    )


def _what_was_right(subject: SubjectResult) -> str:
    if all(entry.is_verified for row in subject.rows for entry in row.rounds):
        return "Every answer that was looked at was right: the golden images before, and one reply in eight."
    return "What answers should be is not known of every target: one reply in eight was as it was at first."


def _served(subject: SubjectResult) -> set[str]:
    return {row.load.target for row in subject.rows if row.uses}


def _ratios(subject: SubjectResult) -> Sheet:
    rows = []
    found = ratio_rounds(subject)
    for ratio in RATIOS:
        if ratio.title not in found:
            continue
        values = sorted(found[ratio.title], reverse=not ratio.at_least)
        median = statistics.median(values)
        goal, verdict = f"{'≥' if ratio.at_least else '≤'} {ratio.goal:.2f}", ""
        if subject.model == GOALS_OF:
            is_met = median >= ratio.goal if ratio.at_least else median <= ratio.goal
            verdict = "met" if is_met else "missed"
        else:
            goal = ""
        rows.append([ratio.title, f"{median:.2f}", f"{values[0]:.2f}", f"{values[-1]:.2f}", goal, verdict])
    best = subject.best
    return Sheet(
        title="Ratios within a round",
        header=["ratio", "median", "worst", "best", "goal", ""],
        rows=rows,
        note=f"{BEST}: {best.load.key}" if best is not None else "",
    )


def _times(subject: SubjectResult) -> Sheet:
    """Where the time of a call goes."""
    rows = []
    for row in subject.rows:
        if not row.is_complete or not row.uses:
            continue
        means = [entry.mean_ms for entry in row.rounds if entry.mean_ms is not None]
        if not means:
            continue
        mean_ms = statistics.median(means)
        timing = _median_of([entry.timing_ms for entry in row.rounds])
        triton = _median_of([use.triton_ms for use in row.uses])
        batches = [use.batch_ms for use in row.uses if use.batch_ms is not None]
        if batches:
            triton["compute"] = statistics.median(batches)
        inside = timing.get("total") if timing else sum(triton.values()) if triton else None
        rest = "" if inside is None or inside > mean_ms else f"{mean_ms - inside:.2f}"
        cells = [row.load.key, f"{mean_ms:.2f}", rest]
        cells += [f"{timing[part]:.2f}" if part in timing else "" for part in ("queue", "inference", "encode")]
        cells += [f"{triton[part]:.2f}" if part in triton else "" for part in ("queue", "compute")]
        fills = [use.batch_fill for use in row.uses if use.batch_fill is not None]
        rows.append([*cells, f"{statistics.median(fills):.1f}" if fills else ""])
    return Sheet(
        title="Where the time goes, ms",
        header=["load", "mean", "the rest", "admission", "inference", "encode", "queue", "compute", "batch"],
        rows=rows,
        note="Means. admission, inference and encode: of the service, as its replies say. queue: of Triton's requests. "
        "compute: of a batch, as the process that computes it says; of another server, Triton's own figure. inference "
        "holds both. the rest: client and network; of direct calls also the wait while the batch before theirs is "
        "computed. batch: images in one of Triton's batches. What Triton and its processes say is of the warm-up too.",
    )


def _median_of(entries: list[dict[str, float]]) -> dict[str, float]:
    names = [name for name in entries[0] if all(name in entry for entry in entries)] if entries else []
    return {name: statistics.median(entry[name] for entry in entries) for name in names}


def _use(subject: SubjectResult) -> Sheet:
    rows = []
    for row in subject.rows:
        uses = [use for use in row.uses if use.cpu_share or use.gpu or use.energy_j_per_image is not None]
        if not uses:
            continue
        shares, memory = _median_of([use.cpu_share for use in uses]), _median_of([use.memory_mib for use in uses])
        per_image = [use.cpu_ms_per_image for use in uses if use.cpu_ms_per_image is not None]
        cells = [
            row.load.key,
            f"{statistics.median(per_image):.2f}" if per_image else "",
            f"{sum(shares.values()):.2f}" if shares else "",
        ]
        cells += [f"{shares[part]:.2f}" if part in shares else "" for part in ("gateway", "service", "triton", "stub")]
        joules = [use.energy_j_per_image for use in uses if use.energy_j_per_image is not None]
        energy = f"{statistics.median(joules):.3f}" if joules else ""
        rows.append([*cells, f"{sum(memory.values()):.0f}" if memory else "", energy, uses[-1].gpu or ""])
    return Sheet(
        title="What the server takes",
        header=["load", "CPU ms/image", "cores", "gateway", "service", "Triton", "backend", "MiB", "J/image", "GPU"],
        rows=rows,
        note="cores: that all its processes take, and of them gateway, service, Triton and backend. MiB: of all, "
        "shared pages once. Empty: this machine does not tell.",
    )


def _goodput(subject: SubjectResult) -> Sheet:
    rows = []
    for entry in subject.goodput:
        p99 = "" if entry.confirmed is None else f"{entry.confirmed.percentile(99).value:.2f}"
        above = "" if entry.next_per_s is None else number(entry.next_per_s)
        none = "not known" if entry.why_not else "none: not even the lowest rate"
        at_least = "at least " if entry.next_per_s is None else ""
        found = at_least + number(entry.calls_per_s) if entry.calls_per_s else none
        rows.append([entry.target, f"{entry.slo_p99_ms:g}", found, p99, above])
    return Sheet(
        title="Goodput: the highest Poisson rate within the objective",
        header=["target", "p99 ≤ ms", "calls/s", "p99 ms there", "too much, calls/s"],
        rows=rows,
    )


def _scenarios(subject: SubjectResult) -> Sheet:
    return Sheet(
        title="MLPerf's scenarios, by LoadGen and by our own loops in turn",
        header=["scenario", "target", "figure", "LoadGen", "ours", "ratio", "LoadGen's verdict"],
        rows=[[*_pair(pair), "valid" if pair.is_valid else "too short for it"] for pair in subject.scenarios],
    )


def _opinions(subject: SubjectResult) -> Sheet:
    return Sheet(
        title="perf_analyzer's figures beside ours",
        header=["load", "target", "figure", "perf_analyzer", "ours", "ratio"],
        rows=[_pair(pair) for pair in subject.opinions],
    )


def _pair(pair: ScenarioPair) -> list[str]:
    title = pair.scenario if pair.offered_per_s is None else f"{pair.scenario}, {pair.offered_per_s:.0f}/s"
    figures = [f"{pair.loadgen:,.2f}", f"{pair.own:,.2f}", f"{pair.ratio:.2f}"]
    return [title, pair.target, pair.figure, *(figures if pair.is_enough else [f"({figure})?" for figure in figures])]


def _cold(subject: SubjectResult) -> Sheet:
    cold = subject.cold
    rows = []
    if cold is not None:
        cells = [f"{cold.ready_s:.2f}", f"{cold.first_image_s:.2f}", f"{cold.first_ms:.2f}", f"{cold.steady_ms:.2f}"]
        rows = [[*cells, f"{cold.first_ms / cold.steady_ms:.1f}"]]
    return Sheet(
        title="Cold start",
        header=["ready after s", "first image after s", "first call ms", "steady p50 ms", "ratio"],
        rows=rows,
    )
