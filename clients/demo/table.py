"""What the demo says at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clients.bench.result import LoadResult
from clients.demo.figures import ModelFigures


def print_results(
    figures: list[ModelFigures], pictures: list[Path], *, elapsed_s: float, repository: Path, console: Console
) -> None:
    console.rule("results")
    table = Table("", *(entry.name for entry in figures))
    for title, text in ROWS:
        table.add_row(title, *(text(entry) for entry in figures))
    console.print(table)
    console.print("Pictures to look at:")
    for path in pictures:
        console.print(f"  {path}", highlight=False)
    console.print(f"Both paths gave the same bytes. Everything is stopped; {elapsed_s:.0f} s in all.")
    console.print(f"Serve them again: ./ganvas serve --repository {repository}", highlight=False)


def _latency(result: LoadResult) -> str:
    return f"{result.percentile_ms(50):.1f} / {result.percentile_ms(99):.1f} ms"


def _throughput(entry: ModelFigures, result: LoadResult) -> str:
    return f"{result.images_per_s:,.0f}  ({result.images_per_s / entry.bare.images_per_s:.2f} of bare)"


def _parity(entry: ModelFigures) -> str:
    certificate = entry.certificate
    return f"{certificate.float_parity.max_abs:.1e} ≤ {certificate.float_parity.atol:.0e}"


def _levels(entry: ModelFigures, file_name: str) -> str:
    parity = entry.certificate.files[file_name].pixel_parity
    return "" if parity is None else f"{parity.max_levels} max, {parity.mean_levels:.4f} mean"


def _golden(entry: ModelFigures) -> str:
    return f"{len(entry.certificate.files['model.onnx'].golden)} {entry.golden}"


ROWS: list[tuple[str, Callable[[ModelFigures], str]]] = [
    ("training", lambda e: f"{e.training_s:.0f} s"),
    ("fp32 graph against PyTorch, float", _parity),
    ("fp32 pictures against PyTorch, levels", lambda e: _levels(e, "model.onnx")),
    ("fp16 pictures against PyTorch, levels", lambda e: _levels(e, "model.fp16.onnx")),
    ("golden seeds, re-made by the server", _golden),
    ("service, 1 picture: p50 / p99", lambda e: _latency(e.service_one)),
    ("service, 16 pictures: p50 / p99", lambda e: _latency(e.service_sixteen)),
    ("Triton direct, 1 picture: p50 / p99", lambda e: _latency(e.direct_one)),
    ("bare ONNX Runtime, 16 a call: images/s", lambda e: f"{e.bare.images_per_s:,.0f}"),
    ("Triton direct, 32 callers of 1: images/s", lambda e: _throughput(e, e.direct_many)),
    ("service, 4 callers of 16: images/s", lambda e: _throughput(e, e.service_many)),
]
