"""The charts of the report, as SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.classes import Classes
from training.evaluation.distances import Floats
from training.evaluation.result import TruncationPoint

__all__ = ["class_chart", "curve_charts", "kl_chart", "neighbor_chart", "truncation_chart"]

INK = "#0a0b0c"
"""Stands for the page's text colour: replaced by currentColor."""
REAL, SAMPLES, OTHER = "#8a9099", "#2f6fed", "#d9822b"
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": REAL,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
MAX_CLASSES = 60


def class_chart(classes: Classes) -> Markup:
    """Shares of the classes in the data and among the samples."""
    names = classes.names[:MAX_CLASSES]
    with rc_context(STYLE):
        figure, axes = _figure(9, 2.6)
        places = np.arange(len(names))
        axes.bar(places - 0.2, np.array(classes.real[:MAX_CLASSES]) * 100, 0.4, color=REAL, label="training images")
        axes.bar(places + 0.2, np.array(classes.samples[:MAX_CLASSES]) * 100, 0.4, color=SAMPLES, label="samples")
        axes.set_xticks(places, names, rotation=0 if len(names) <= 12 else 90)
        axes.set_ylabel("%")
        axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return _svg(figure, "classes")


def neighbor_chart(samples: Floats, held_out: Floats, threshold: float) -> Markup:
    """Distances to the nearest training image, of samples and of held-out images."""
    with rc_context(STYLE):
        figure, axes = _figure(9, 2.4)
        bins = np.linspace(0, float(np.percentile(np.concatenate([samples, held_out]), 99.5)), 50).tolist()
        for values, color, label in ((held_out, REAL, "held-out images"), (samples, SAMPLES, "samples")):
            weights = np.full(len(values), 100 / len(values))
            axes.hist(values, bins, weights=weights, color=color, alpha=0.65, label=label)
        axes.axvline(threshold, color=OTHER, label="5th percentile of held-out images")
        axes.axvline(0.75 * threshold, color=OTHER, linestyle=":", label="three quarters of it")
        axes.set_xlabel("distance to the nearest training image")
        axes.set_ylabel("%")
        axes.legend(loc="upper right")
        return _svg(figure, "neighbours")


def truncation_chart(points: Sequence[TruncationPoint]) -> Markup:
    """Fréchet ratio, then precision and coverage, as truncation grows."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        at = [point.truncation for point in points]
        left.plot(at, [point.ratio for point in points], "o-", color=SAMPLES)
        left.set_title("Fréchet distance over its floor")
        for name, color in (("precision", SAMPLES), ("recall", OTHER), ("coverage", REAL)):
            right.plot(at, [getattr(point.manifold, name) for point in points], "o-", color=color, label=name)
        right.set_ylim(0, 1.02)
        right.set_title("quality against diversity")
        right.legend(loc="lower right")
        for axes in (left, right):
            axes.set_xlabel("truncation")
        return _svg(figure, "truncation")


def kl_chart(kl_nats: Sequence[float]) -> Markup:
    """What each latent dimension carries, largest first."""
    with rc_context(STYLE):
        figure, axes = _figure(9, 2.2)
        axes.bar(np.arange(len(kl_nats)), kl_nats, color=SAMPLES)
        axes.set_xlabel("latent dimension, by what it carries")
        axes.set_ylabel("nats")
        return _svg(figure, "kl")


def curve_charts(curves: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Losses, discriminator accuracy, and what each checkpoint measured, over thousands of images; what there is."""
    losses = _series(curves, "losses")
    rates = {name: losses.pop(name) for name in ("D_accuracy", "augment") if name in losses}
    found = _series(curves, "metrics")
    charts = []
    events = [line["kimg"] for line in curves if line.get("event")]
    for title, series, limits in (
        ("losses", losses, None),
        ("discriminator accuracy", rates, (0.0, 1.02)),
        ("on held-out images, at each save", _between_0_and_1(found), (0.0, 1.02)),
        ("kernel distance at each save", {k: v for k, v in found.items() if k == "kernel_distance"}, None),
    ):
        if not series:
            continue
        with rc_context(STYLE):
            figure, axes = _figure(9, 2.4)
            for name, (kimg, values) in series.items():
                axes.plot(kimg, values, ".-" if len(kimg) < 40 else "-", linewidth=1, markersize=4, label=name)
            for kimg in events:
                axes.axvline(kimg, color=OTHER, linestyle=":")
            if limits:
                axes.set_ylim(*limits)
            axes.set_title(title)
            axes.set_xlabel("thousand images")
            axes.legend(ncols=2, loc="upper right")  # "best" looks at every point, which is slow
            charts.append(_svg(figure, title))
    return charts


def _series(curves: Sequence[Mapping[str, Any]], kind: str) -> dict[str, tuple[list[float], list[float]]]:
    """Name → kimg and values."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for line in curves:
        for name, value in line.get(kind, {}).items():
            kimg, values = series.setdefault(name, ([], []))
            kimg.append(line["kimg"])
            values.append(value)
    return series


def _between_0_and_1(
    series: Mapping[str, tuple[list[float], list[float]]],
) -> dict[str, tuple[list[float], list[float]]]:
    names = ("precision", "recall", "density", "coverage", "class_agreement", "diversity")
    return {name: series[name] for name in names if name in series}


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, name: str) -> Markup:
    """The SVG element alone, transparent, in the page's colour of text, with ids of its own."""
    file = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'\b(id="|url\(#|href="#)', lambda match: match.group(1) + name.replace(" ", "-") + "-", svg)
    return Markup(svg)
