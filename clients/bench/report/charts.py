"""The charts of a report, as SVG that follows the page's colour of text. A target has one colour in all of them."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from clients.bench.plan import Load
from clients.bench.result import Row, SubjectResult

__all__ = ["COLOR_OF", "cost_chart", "curve_charts", "distribution_charts"]

INK = "#0a0b0c"
"""Stands for the page's text colour: replaced by currentColor."""
GRAY = "#7b828c"
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 3.4,
}
PANEL = (5.0, 4.4)
"""Inches; narrow enough for a telephone, where panels stand below each other."""
COLOR_OF = {
    "onnxruntime": GRAY,
    "pytorch": "#8a5a2b",
    "pytorch-compiled": "#b39200",
    "direct": "#2f6fed",
    "service": "#d9822b",
    "mosec": "#a33ea1",
    "litserve": "#c23b3b",
    "kserve": "#17794a",
    "http": "#0f8b9d",
}
"""Every target that there is."""
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)))
"""Tell the loads of one target apart."""
FAR = 1.6
MAX_DISTRIBUTIONS = 6
WIDE_LEGEND = 44
"""Characters; names that are longer stand below each other."""


def curve_charts(subject: SubjectResult) -> list[Markup]:
    """Latency against throughput: a point for each concurrency, and one for each rate; none of a single point."""
    titles = {"closed": "closed loop, by callers", "open": "open loop, by Poisson rate"}
    points = Counter((row.load.kind, row.load.target, row.load.images) for row in subject.rows if row.is_complete)
    there = {kind for (kind, _, _), count in points.items() if count > 1}

    def draw(axes: Axes, kind: str) -> None:
        _curves(axes, subject, kind)
        _mark_bare(axes, subject)
        axes.set_title(titles[kind])
        axes.set_xlabel("images/s")
        axes.set_ylabel("latency, ms")
        _logarithmic(axes, "y")

    return [_panel(f"{kind}-{subject.model}", draw, kind) for kind in titles if kind in there]


def _curves(axes: Axes, subject: SubjectResult, kind: str) -> None:
    rows = [row for row in subject.rows if row.load.kind == kind and row.is_complete]
    series: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        series.setdefault((row.load.target, row.load.images), []).append(row)
    first = [target for target, _ in series]
    for (target, images), members in sorted(series.items(), key=lambda item: (first.index(item[0][0]), item[0][1])):
        members.sort(key=lambda row: (row.load.concurrency, row.load.rate))
        rates = [row.images_per_s().value for row in members]
        name, marker = (target, "o") if images == 1 else (f"{target}, {images} a call", "D")
        for percent, dashes in ((50.0, "-"), (99.0, "--")):
            look: Any = {"color": COLOR_OF[target], "marker": marker, "markersize": 5, "linewidth": 1.2}
            values = [row.percentile_ms(percent).value for row in members]
            axes.plot(rates, values, linestyle=dashes, label=f"{name}, p{percent:g}", markevery=[], **look)
            # What may not be claimed has an empty mark.
            for row, rate, value in zip(members, rates, values, strict=True):
                fill: Any = "full" if row.is_enough(percent) else "none"
                axes.plot([rate], [value], fillstyle=fill, **look)


def _mark_bare(axes: Axes, subject: SubjectResult) -> None:
    """A line at what bare ONNX Runtime does; where that is far to the right, in words."""
    best = subject.best
    if best is None:
        return
    bare, right = best.images_per_s().value, axes.get_xlim()[1]
    is_near = bare <= FAR * right
    if is_near:
        axes.axvline(bare, color=COLOR_OF["onnxruntime"], linestyle=":")
    text = f"bare ONNX Runtime: {bare:,.0f} images/s" + ("" if is_near else " →")
    axes.set_title(text, loc="right", fontsize=8)


def distribution_charts(subject: SubjectResult) -> list[Markup]:
    """Histograms and cumulative distributions of latency, of one caller and of the loads with the most to see."""
    chosen = _chosen(subject)
    if not chosen:
        return []
    dashes: dict[str, Any] = {}
    looks = []
    for row in chosen:
        looks.append((row, COLOR_OF[row.load.target], next(dashes.setdefault(row.load.target, cycle(DASHES)))))

    def histogram(axes: Axes, _: str) -> None:
        for row, color, dash in looks:
            _histogram(axes, _quantiles(row), color, dash, row.load)
        axes.set_title("share of calls")
        axes.set_yticks([])

    def cumulative(axes: Axes, _: str) -> None:
        for row, color, dash in looks:
            axes.plot(_quantiles(row), np.arange(101), color=color, linestyle=dash, linewidth=1.4, label=row.load.key)
        axes.set_title("calls answered within")
        axes.set_ylabel("% of calls")

    def draw(axes: Axes, which: str) -> None:
        (histogram if which == "histogram" else cumulative)(axes, which)
        _logarithmic(axes, "x")
        axes.set_xlabel("latency, ms")

    return [_panel(f"{which}-{subject.model}", draw, which) for which in ("histogram", "cumulative")]


def _chosen(subject: SubjectResult) -> Sequence[Row]:
    """Paced calls first, then open loops, of every target one before another of the same."""
    order = {"paced": 0, "open": 1, "closed": 2}
    rows = [row for row in subject.rows if row.load.kind in order and row.is_complete]
    seen: Counter[tuple[str, str]] = Counter()
    places = {}
    for row in rows:
        places[row.load.key] = (order[row.load.kind], seen[row.load.kind, row.load.target])
        seen[row.load.kind, row.load.target] += 1
    return sorted(rows, key=lambda row: places[row.load.key])[:MAX_DISTRIBUTIONS]


def _quantiles(row: Row) -> Any:
    """[101] of all rounds: the medians of each round's."""
    return np.median([entry.quantiles_ms for entry in row.rounds], axis=0)


def _histogram(axes: Axes, quantiles: Any, color: str, dash: Any, load: Load) -> None:
    """Between two percentiles lies one of a hundred calls, spread evenly."""
    low, high = max(quantiles[0], 1e-3), quantiles[-1] * 1.001
    edges = np.geomspace(low, high, 50)
    shares = np.diff(np.interp(edges, quantiles, np.arange(101)))
    axes.stairs(shares, edges, color=color, fill=True, alpha=0.12)
    axes.stairs(shares, edges, color=color, linewidth=1.0, linestyle=dash, label=load.key)


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

    def draw(axes: Axes, _: str) -> None:
        for name, pairs in points.items():
            axes.plot(*zip(*sorted(pairs), strict=True), "o-", color=COLOR_OF[name], label=f"{name}, one image, p50")
        ends = [min(x for pairs in points.values() for x, _ in pairs), max(x for p in points.values() for x, _ in p)]
        axes.plot(ends, ends, ":", color=COLOR_OF["onnxruntime"], label="bare ONNX Runtime")
        _logarithmic(axes, "x")
        _logarithmic(axes, "y")
        axes.set_xlabel("computing an image, ms")
        axes.set_ylabel("getting it, ms")

    return _panel("cost", draw, "cost")


def _panel(name: str, draw: Callable[[Axes, str], None], which: str) -> Markup:
    """One chart with its legend below."""
    with rc_context(STYLE):
        figure = Figure(figsize=PANEL, layout="constrained")
        axes = figure.subplots()
        draw(axes, which)
        handles, labels = axes.get_legend_handles_labels()
        columns = 2 if 2 * max(map(len, labels), default=0) <= WIDE_LEGEND else 1
        figure.legend(handles, labels, loc="outside lower left", ncols=columns)
        return _svg(figure, name)


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
