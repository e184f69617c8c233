"""The charts of a report, as SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from clients.bench.plan import Load
from clients.bench.result import Row, SubjectResult

__all__ = ["cost_chart", "curve_chart", "distribution_charts"]

INK = "#0a0b0c"
"""Stands for the page's text colour: replaced by currentColor."""
COLORS = ("#2f6fed", "#d9822b", "#17794a", "#a33ea1", "#8a9099", "#c23b3b")
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
COLOR_OF = {
    "direct": "#2f6fed",
    "service": "#d9822b",
    "service, 16 a call": "#17794a",
    "mosec": "#a33ea1",
    "litserve": "#c23b3b",
    "kserve": "#2f6fed",
    "http": "#a33ea1",
}
FAR = 1.6
MAX_DISTRIBUTIONS = 5


def curve_chart(subject: SubjectResult) -> Markup | None:
    """Latency against throughput: a point for each concurrency, and one for each rate; None without any."""
    titles = {"closed": "closed loop, by callers", "open": "open loop, by Poisson rate"}
    points = Counter((row.load.kind, row.load.target, row.load.images) for row in subject.rows if row.is_complete)
    there = {kind for (kind, _, _), count in points.items() if count > 1}
    kinds = [kind for kind in titles if kind in there]
    if not kinds:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.8), layout="constrained")
        drawn: dict[str, Line2D] = {}
        for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            drawn |= _curves(axes, subject, kind)
            _mark_bare(axes, subject)
            axes.set_title(titles[kind])
            axes.set_xlabel("images/s")
            axes.set_ylabel("ms")
            _logarithmic(axes, "y")
        figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=4)
        return _svg(figure, f"curves-{subject.model}")


def _curves(axes: Axes, subject: SubjectResult, kind: str) -> dict[str, Line2D]:
    """Draws them; gives the lines by what they are called."""
    lines = {}
    rows = [row for row in subject.rows if row.load.kind == kind and row.is_complete]
    series: dict[str, list[Row]] = {}
    for row in rows:
        size = "" if row.load.images == 1 else f", {row.load.images} a call"
        series.setdefault(row.load.target + size, []).append(row)
    for name, members in series.items():
        color = COLOR_OF.get(name, "#8a9099")
        members.sort(key=lambda row: (row.load.concurrency, row.load.rate))
        rates = [row.images_per_s().value for row in members]
        for percent, style in ((50.0, "o-"), (99.0, "s--")):
            values = [row.percentile_ms(percent).value for row in members]
            # What may not be claimed has an empty mark.
            filled = [row.is_enough(percent) for row in members]
            (line,) = axes.plot(rates, values, style[1:], color=color, linewidth=1.2)
            lines[f"{name}, p{percent:g}"] = line
            for rate, value, is_enough in zip(rates, values, filled, strict=True):
                fill: Any = "full" if is_enough else "none"
                axes.plot([rate], [value], style[0], color=color, markersize=5, fillstyle=fill)
    return lines


def _mark_bare(axes: Axes, subject: SubjectResult) -> None:
    """A line at what bare ONNX Runtime does; where that is far to the right, in words."""
    best = subject.best
    if best is None:
        return
    bare, right = best.images_per_s().value, axes.get_xlim()[1]
    if bare <= FAR * right:
        axes.axvline(bare, color="#8a9099", linestyle=":")
    text = f"bare ONNX Runtime: {bare:,.0f}" + ("" if bare <= FAR * right else " →")
    axes.annotate(text, (0.99, 0.01), xycoords="axes fraction", ha="right", va="bottom", fontsize=7, color="#8a9099")


def distribution_charts(subject: SubjectResult) -> list[Markup]:
    """Histograms and cumulative distributions of latency, of one caller and of the loads with the most to see."""
    chosen = _chosen(subject)
    if not chosen:
        return []
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for color, row in zip(COLORS, chosen, strict=False):
            quantiles = _quantiles(row)
            _histogram(left, quantiles, color, row.load)
            right.plot(quantiles, np.arange(101), color=color, linewidth=1.2, label=row.load.key)
        for axes, label in ((left, "share of calls by ms of latency (log)"), (right, "% of calls within")):
            _logarithmic(axes, "x")
            axes.set_xlabel("ms")
            axes.set_title(label)
        left.set_yticks([])
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return [_svg(figure, f"distributions-{subject.model}")]


def _chosen(subject: SubjectResult) -> Sequence[Row]:
    """Paced calls first, then open loops."""
    order = {"paced": 0, "open": 1, "closed": 2}
    rows = [row for row in subject.rows if row.load.kind in order and row.is_complete]
    return sorted(rows, key=lambda row: order[row.load.kind])[:MAX_DISTRIBUTIONS]


def _quantiles(row: Row) -> Any:
    """[101] of all rounds: the medians of each round's."""
    return np.median([entry.quantiles_ms for entry in row.rounds], axis=0)


def _histogram(axes: Axes, quantiles: Any, color: str, load: Load) -> None:
    """Between two percentiles lies one of a hundred calls, spread evenly."""
    low, high = max(quantiles[0], 1e-3), quantiles[-1] * 1.001
    edges = np.geomspace(low, high, 50)
    shares = np.diff(np.interp(edges, quantiles, np.arange(101)))
    axes.stairs(shares, edges, color=color, fill=True, alpha=0.12)
    axes.stairs(shares, edges, color=color, linewidth=0.8, label=load.key)


def cost_chart(subjects: Sequence[SubjectResult]) -> Markup | None:
    """What serving adds to the computing, over models of several sizes; None for fewer than three."""
    points: dict[str, list[tuple[float, float]]] = {}
    for subject in subjects:
        bare = subject.row("onnxruntime, hot loop of 1")
        if bare is None or not bare.is_complete:
            continue
        for row in subject.rows:
            if row.load.kind == "paced" and row.load.target in ("direct", "service") and row.is_complete:
                compute_ms = bare.percentile_ms(50).value
                points.setdefault(row.load.target, []).append((compute_ms, row.percentile_ms(50).value))
    if not points or min(map(len, points.values())) < 3:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.2), layout="constrained")
        axes = figure.subplots()
        for color, (name, pairs) in zip(COLORS, points.items(), strict=False):
            axes.plot(*zip(*sorted(pairs), strict=True), "o-", color=color, label=f"{name}, one image, p50")
        ends = [min(x for pairs in points.values() for x, _ in pairs), max(x for p in points.values() for x, _ in p)]
        axes.plot(ends, ends, ":", color="#8a9099", label="bare ONNX Runtime")
        _logarithmic(axes, "x")
        _logarithmic(axes, "y")
        axes.set_xlabel("ms of computing an image")
        axes.set_ylabel("ms of getting it")
        figure.legend(loc="outside lower center", ncols=3)
        return _svg(figure, "cost")


def _logarithmic(axes: Axes, which: str) -> None:
    """A logarithmic axis whose labels are plain numbers."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    getattr(axes, f"set_{which}scale")("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))


def _svg(figure: Figure, name: str) -> Markup:
    """The SVG element alone, transparent, in the page's colour of text, with ids of its own."""
    file = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'\b(id="|url\(#|href="#)', lambda match: match.group(1) + name.replace(" ", "-") + "-", svg)
    return Markup(svg)
