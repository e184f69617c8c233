"""What tuning leaves beside the entry: tuning.json with every point, and tuning.png, latency against throughput."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.tune.measure import Curve
from ganvas_core.files import write_atomic

__all__ = ["EVIDENCE", "PLOT", "write_evidence"]

EVIDENCE, PLOT = "tuning.json", "tuning.png"


def write_evidence(
    folder: Path, *, about: dict[str, Any], before: Curve, winner: Curve, tried: Sequence[Curve], slo_p99_ms: float
) -> None:
    """Write both files.

    Args:
        folder: the model's, in the repository.
        about: of the machine and the run.
        before: the curve of the setting that was in use.
        tried: what was measured in short.
    """
    document = {
        **about,
        "slo_p99_ms": slo_p99_ms,
        "winner": _described(winner, slo_p99_ms),
        "before": _described(before, slo_p99_ms),
        "tried": [_described(curve, slo_p99_ms) for curve in tried],
    }
    write_atomic(folder / EVIDENCE, (json.dumps(document, indent=2) + "\n").encode())
    write_atomic(folder / PLOT, _plot(folder.name, before, winner, tried, slo_p99_ms))


def _described(curve: Curve, slo_p99_ms: float) -> dict[str, Any]:
    points = [
        {
            key: None if math.isinf(value) else round(value, 3)  # JSON has no infinity
            for key, value in dataclasses.asdict(point).items()
        }
        for point in curve.points
    ]
    return {
        "setting": dataclasses.asdict(curve.setting),
        "capacity": round(curve.capacity, 1),
        "rate_within_slo": round(curve.rate_within(slo_p99_ms), 1) if curve.points else None,  # not measured
        "points": points,
    }


def _plot(name: str, before: Curve, winner: Curve, tried: Sequence[Curve], slo_p99_ms: float) -> bytes:
    """p99 over the rate of every setting, the bound, and p50 of the winner."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for index, curve in enumerate(tried):
        label = "tried in short" if index == 0 else None
        _line(axes, curve, "p99_ms", color="0.75", linewidth=1, marker=".", label=label)
    if before is not winner:
        _line(axes, before, "p99_ms", color="tab:orange", marker="s", label=f"before: {before.setting}, p99")
    _line(axes, winner, "p99_ms", color="tab:blue", marker="o", label=f"winner: {winner.setting}, p99")
    _line(axes, winner, "p50_ms", color="tab:blue", linestyle=":", marker="o", label="winner, p50")
    axes.axhline(slo_p99_ms, color="tab:red", linestyle="--", label=f"bound: p99 {slo_p99_ms:g} ms")
    axes.set(yscale="log", xlabel="requests of one image a second", ylabel="latency, ms", title=f"{name}: open loop")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    pyplot.close(figure)
    return drawn.getvalue()


def _line(axes: Any, curve: Curve, field: str, **style: Any) -> None:
    points = [point for point in curve.points if math.isfinite(getattr(point, field))]
    axes.plot([point.rate for point in points], [getattr(point, field) for point in points], **style)
