"""`./ganvas bench`: what serving costs against bare ONNX Runtime, as ratios from one run."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.pipeline import PipelineOptions, measure_rounds
from benchmarks.report import print_table, save_report
from benchmarks.textbook import export_textbook_model
from clients.bench.bare import BareError
from clients.local_server import LocalServerError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def benchmarks() -> None:
    """Measurements of Ganvas."""


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(help="Rounds; each measures everything in turn.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="Length of one measurement.", min=0.5)] = 4.0,
    threads: Annotated[int, typer.Option(help="Compute threads, of bare ONNX Runtime and of Triton.", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for the report (Markdown and JSON).")] = None,
) -> None:
    """Measure Triton and the service against bare ONNX Runtime, with a 64x64x3 DCGAN-sized generator.

    Example: ./ganvas bench --rounds 5 --out benchmarks/results
    """
    console = Console()
    options = PipelineOptions(num_rounds=rounds, seconds=seconds, num_threads=threads)
    with tempfile.TemporaryDirectory(prefix="ganvas-bench-") as scratch:
        repository = Path(scratch) / "model_repository"
        console.print("Exporting the 64x64x3 DCGAN-sized generator …")
        export_textbook_model(repository, num_threads=threads)
        results = measure_rounds(repository, options, report=console.print)
    print_table(results, console)
    if out is not None:
        console.print(f"Report: {save_report(results, options, out)}")


def main() -> None:
    try:
        app(prog_name="ganvas")
    except (LocalServerError, BareError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
