"""The tables of a run: on the terminal, and as Markdown and JSON named by model, hardware and date."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clients.bench.machine import processor, report_stem, versions
from clients.bench.pipeline import NAME, PACE_MS, RATIOS, BenchOptions, Ratio, Round, median_of
from clients.bench.result import LoadResult

FIGURES: list[tuple[str, Callable[[Round], LoadResult]]] = [
    ("bare ONNX Runtime, hot loop, best batch size", lambda r: r.bare),
    ("Triton direct, 64 callers of 1", lambda r: r.direct),
    ("service, 4 callers of 16", lambda r: r.service),
    (f"bare ONNX Runtime, 1 every {PACE_MS:g} ms", lambda r: r.bare_paced),
    (f"Triton direct, 1 every {PACE_MS:g} ms", lambda r: r.direct_paced),
    (f"service, 1 every {PACE_MS:g} ms", lambda r: r.service_paced),
]


def print_table(rounds: list[Round], console: Console) -> None:
    figures = Table("median over the rounds", "images/s", "p50 ms", "p99 ms")
    for row in _figure_rows(rounds):
        figures.add_row(*row)
    ratios = Table("ratio within a round", "median", "worst", "best", "goal", "")
    for row in _ratio_rows(rounds):
        ratios.add_row(*row)
    console.print(figures, ratios)


def save_report(rounds: list[Round], options: BenchOptions, folder: Path) -> Path:
    """Write MODEL-HARDWARE-DATE.md and .json; returns the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = report_stem(NAME)
    markdown = folder / f"{stem}.md"
    markdown.write_text(_markdown(rounds, options))
    (folder / f"{stem}.json").write_text(json.dumps(_as_json(rounds, options), indent=1, default=str) + "\n")
    return markdown


def _figure_rows(rounds: list[Round]) -> list[list[str]]:
    def row(title: str, pick: Callable[[Round], LoadResult]) -> list[str]:
        p50, p99 = (median_of(rounds, lambda r, q=q: pick(r).percentile_ms(q)) for q in (50, 99))  # type: ignore[misc]
        return [title, f"{median_of(rounds, lambda r: pick(r).images_per_s):.0f}", f"{p50:.2f}", f"{p99:.2f}"]

    return [row(title, pick) for title, pick in FIGURES]


def _ratio_rows(rounds: list[Round]) -> list[list[str]]:
    def row(ratio: Ratio) -> list[str]:
        values = sorted((ratio.of(entry) for entry in rounds), reverse=not ratio.at_least)
        median = median_of(rounds, ratio.of)
        met = median >= ratio.goal if ratio.at_least else median <= ratio.goal
        goal = f"{'≥' if ratio.at_least else '≤'} {ratio.goal:.2f}"
        return [ratio.title, f"{median:.2f}", f"{values[0]:.2f}", f"{values[-1]:.2f}", goal, "met" if met else "missed"]

    return [row(ratio) for ratio in RATIOS]


def _markdown(rounds: list[Round], options: BenchOptions) -> str:
    def table(header: list[str], rows: list[list[str]]) -> str:
        return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])

    return "\n".join(
        [
            f"# {NAME} (64x64x3, 0.21 GFLOP an image) on {processor()}, {os.cpu_count()} cores",
            "",
            f"{datetime.date.today()}. `./ganvas bench --rounds {options.rounds} --seconds {options.seconds:g} "
            f"--threads {options.threads}`. {versions()}. The load generator shares the cores.",
            "",
            table(["ratio within a round", "median", "worst", "best", "goal", ""], _ratio_rows(rounds)),
            "",
            table(["median over the rounds", "images/s", "p50 ms", "p99 ms"], _figure_rows(rounds)),
            "",
        ]
    )


def _as_json(rounds: list[Round], options: BenchOptions) -> dict[str, object]:
    def summary(result: LoadResult) -> dict[str, float]:
        return {
            "batch_size": result.batch_size,
            "num_calls": len(result.latencies_ms),
            "images_per_s": round(result.images_per_s, 1),
            "p50_ms": round(result.percentile_ms(50), 3),
            "p99_ms": round(result.percentile_ms(99), 3),
        }

    return {
        "processor": processor(),
        "num_cores": os.cpu_count(),
        "versions": versions(),
        "options": dataclasses.asdict(options),
        "ratios": {ratio.title: [round(ratio.of(entry), 3) for entry in rounds] for ratio in RATIOS},
        "rounds": [
            {
                field.name: summary(getattr(entry, field.name))
                for field in dataclasses.fields(Round)
                if field.name != "bare_by_batch_size"
            }
            | {f"bare_batch_{n}": summary(result) for n, result in entry.bare_by_batch_size.items()}
            for entry in rounds
        ],
    }
