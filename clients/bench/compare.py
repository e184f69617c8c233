"""Which differences between two reports are real."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import false_discovery_control, t, ttest_ind

from clients.bench.result import Result, Row
from ganvas_core.cli import UsageError

__all__ = ["Comparison", "Difference", "compare_results", "print_differences"]

ALPHA = 0.05
LEAST = 0.01
"""A difference below this is of no use to anybody, however sure."""
ROUNDING = 1e-9
"""Of logarithms: rounds that differ by less do not differ."""
SAME_RATE = 0.01
"""Latencies of an open loop at rates that differ by more are those of different loads."""
FIGURES = ("images/s", "p50 ms", "p99 ms")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of one load in both reports."""

    model: str
    load: str
    figure: str
    a: float
    b: float
    low: float
    high: float
    """b ÷ a lies between the two with a confidence of 95 %, this figure looked at alone."""
    p_value: float
    """How likely rounds as different as these are where nothing differs; corrected for the number of comparisons."""

    @property
    def ratio(self) -> float:
        return self.b / self.a

    @property
    def is_real(self) -> bool:
        return self.p_value < ALPHA and abs(self.ratio - 1) >= LEAST


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of two reports."""

    differences: list[Difference]
    warnings: list[str]
    """What makes the reports poor to compare."""


def compare_results(a: Result, b: Result) -> Comparison:
    """Compare every load that both measured, by their rounds: Welch's t-test of the logarithms, with Benjamini and
    Hochberg's correction, since among twenty figures one seems to differ by chance.

    Raises:
        UsageError: they have no load in common, or too few rounds to tell anything.
    """
    pairs = [
        (one.model, row, other)
        for one in a.subjects
        for two in b.subjects
        if one.model == two.model
        for row in one.rows
        if (other := two.row(row.load.key)) is not None
    ]
    if not pairs:
        raise UsageError("the reports have no model and load in common.")
    if min(len(row.rounds) for _, one, two in pairs for row in (one, two)) < 2:
        raise UsageError("a report of one round cannot be compared: nothing tells how much it varies. --rounds 5.")
    found = [
        difference
        for model, one, two in pairs
        if _is_same_rate(one, two)
        for figure in FIGURES
        if (difference := _difference(model, figure, one, two)) is not None
    ]
    corrected = false_discovery_control([entry.p_value for entry in found]) if found else []
    differences = [
        Difference(**(vars(entry) | {"p_value": float(value)})) for entry, value in zip(found, corrected, strict=True)
    ]
    others = [
        f"{model}, {one.load.key}: not compared, since it ran at {one.load.rate:.4g}/s in A and at "
        f"{two.load.rate:.4g}/s in B; --rate gives both the same"
        for model, one, two in pairs
        if not _is_same_rate(one, two)
    ]
    return Comparison(differences=differences, warnings=_warnings(a, b) + others)


def _is_same_rate(a: Row, b: Row) -> bool:
    """Calls at even distances are so far apart that none waits, at whichever rate."""
    return a.load.kind != "open" or abs(a.load.rate - b.load.rate) <= SAME_RATE * max(a.load.rate, b.load.rate)


def _difference(model: str, figure: str, a: Row, b: Row) -> Difference | None:
    first, second = _values(figure, a), _values(figure, b)
    if first is None or second is None:
        return None
    first, second = np.log(first), np.log(second)
    middle, error, freedom = float(second.mean() - first.mean()), *_welch(first, second)
    half = float(t.ppf(1 - ALPHA / 2, freedom)) * error
    p_value = (
        float(ttest_ind(first, second, equal_var=False).pvalue) if error > ROUNDING else float(abs(middle) <= ROUNDING)
    )
    return Difference(
        model=model,
        load=a.load.key,
        figure=figure,
        a=math.exp(first.mean()),
        b=math.exp(second.mean()),
        low=math.exp(middle - half),
        high=math.exp(middle + half),
        p_value=p_value,
    )


def _welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:  # type: ignore[type-arg]
    """Standard error of the difference of means, and its degrees of freedom."""
    parts = [values.var(ddof=1) / len(values) for values in (a, b)]
    total = sum(parts)
    if total == 0:
        return 0.0, 1.0
    freedom = total**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True))
    return math.sqrt(total), float(freedom)


def _values(figure: str, row: Row) -> np.ndarray | None:  # type: ignore[type-arg]
    """One a round; None where they may not be claimed."""
    if not row.is_complete or any(entry.num_failed for entry in row.rounds):
        return None
    if figure == "images/s":
        # Of an open loop the rate was chosen, not found.
        return None if row.load.kind in ("open", "paced") else np.array([entry.images_per_s for entry in row.rounds])
    percent = 50.0 if figure == "p50 ms" else 99.0
    if not row.is_enough(percent):
        return None
    return np.array([entry.percentile(percent).value for entry in row.rounds])


def _warnings(a: Result, b: Result) -> list[str]:
    warnings = [
        f"{name} differs: {a.environment.get(name)} and {b.environment.get(name)}"
        for name in ("processor", "cores", "usable_cores", "gpus", "governor", "packages", "variables")
        if a.environment.get(name) != b.environment.get(name)
    ]
    warnings += [
        f"--{name.replace('_', '-')} differs: {a.options.get(name)} and {b.options.get(name)}"
        for name in ("seconds", "threads", "instances", "generators", "rates", "serve")
        if a.options.get(name) != b.options.get(name)
    ]
    return warnings


def print_differences(comparison: Comparison, console: Console) -> None:
    table = Table("model", "load", "figure", "A", "B", "B ÷ A", "95 %", "")
    for entry in comparison.differences:
        verdict = "real" if entry.is_real else "not shown"
        interval = f"{entry.low:.2f} to {entry.high:.2f}"
        row = [entry.model, entry.load, entry.figure, f"{entry.a:,.2f}", f"{entry.b:,.2f}", f"{entry.ratio:.2f}"]
        table.add_row(*row, interval, verdict, style="bold" if entry.is_real else "dim")
    console.print(table)
    for warning in comparison.warnings:
        console.print(f"beware: {warning}", soft_wrap=True)
    real = sum(entry.is_real for entry in comparison.differences)
    console.print(
        f"{real} of {len(comparison.differences)} differences are real: at least {LEAST:.0%}, and less than "
        f"{ALPHA:.0%} of those called so are expected to be chance. The others may be real too: more rounds tell."
    )
