"""The results that the demo prints at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clients.bench.load import LoadReport
from clients.demo.figures import ModelFigures
from ganvas_core.names import FP16_FILE, FP32_FILE


def print_results(
    figures: list[ModelFigures], images: list[Path], *, elapsed_s: float, repository: Path, console: Console
) -> None:
    console.rule("results")
    table = Table("", *(entry.name for entry in figures))
    for title, text in ROWS:
        table.add_row(title, *(text(entry) for entry in figures))
    console.print(table)
    console.print(
        "direct: Triton, over KServe v2. service: ganvas.v1.Sampler. bare: ONNX Runtime without a server, "
        "one thread, hot. 32 x 1: 32 callers of one image a request."
    )
    console.print("Images to look at:")
    for path in images:
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    console.print(f"Both paths gave the same bytes. Everything is stopped; {elapsed_s:.0f} s in all.")
    console.print(f"Serve them again: ./ganvas serve --repository {repository}", highlight=False, soft_wrap=True)
    studio = f"./ganvas studio --repository {repository}"
    console.print(f"Choose, vary and blend their images on a page: {studio}", highlight=False, soft_wrap=True)


def _latency(result: LoadReport) -> str:
    return f"p50 {result.percentile_ms(50):.1f}, p99 {result.percentile_ms(99):.1f}"


def _throughput(entry: ModelFigures, result: LoadReport) -> str:
    return f"{result.images_per_s:,.0f} ({result.images_per_s / entry.bare.images_per_s:.2f} of bare)"


def _levels(entry: ModelFigures, file_name: str) -> str:
    file = entry.certificate.files.get(file_name)
    parity = None if file is None else file.pixel_parity
    return "none" if parity is None else f"max {parity.max_levels}, mean {parity.mean_levels:.4f}"


ROWS: list[tuple[str, Callable[[ModelFigures], str]]] = [
    ("training, at once", lambda e: f"{e.training_s:.0f} s"),
    ("parity in float", lambda e: f"{e.certificate.float_parity.max_abs:.1e} ≤ {e.certificate.float_parity.atol:.0e}"),
    ("fp32 parity, levels", lambda e: _levels(e, FP32_FILE)),
    ("fp16 parity, levels", lambda e: _levels(e, FP16_FILE)),
    ("golden seeds, served", lambda e: f"{len(e.certificate.files[FP32_FILE].golden)} {e.golden}"),
    ("service, 1 a call, ms", lambda e: _latency(e.service_one)),
    ("service, 16 a call, ms", lambda e: _latency(e.service_sixteen)),
    ("direct, 1 a call, ms", lambda e: _latency(e.direct_one)),
    ("bare, 16 a call, images/s", lambda e: f"{e.bare.images_per_s:,.0f}"),
    ("direct, 32 x 1, images/s", lambda e: _throughput(e, e.direct_many)),
    ("service, 4 x 16, images/s", lambda e: _throughput(e, e.service_many)),
]
