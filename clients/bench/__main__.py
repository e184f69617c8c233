"""`python -m clients.bench bench …`, which `./ganvas bench` runs: what serving costs against bare ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass
from rich.console import Console

from clients.bench.pipeline import NAME, BenchOptions, measure_rounds
from clients.bench.report import print_table, save_report
from ganvas_core.cli import OPTIONS, UserError, run_verbs

NETWORK = Path(__file__).with_name("dcgan64.toml")


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class BenchVerbOptions(BenchOptions):
    """Options of `bench`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    out: Path | None = None
    """Folder for the report (Markdown and JSON)."""


def bench(options: BenchVerbOptions) -> None:
    """Measure Triton and the service against bare ONNX Runtime, with a 64x64x3 DCGAN generator of random weights.

    Example: ./ganvas bench --rounds 5 --out benchmarks/results
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="ganvas-bench-") as scratch:
        checkpoint, repository = Path(scratch) / "checkpoint", Path(scratch) / "model_repository"
        console.print("Exporting the 64x64x3 DCGAN generator …")
        _run("training", "untrained", str(NETWORK), "--out", str(checkpoint))
        where = ["--name", NAME, "--repository", str(repository), "--threads", str(options.threads)]
        _run("export", "export", str(checkpoint), *where)
        results = measure_rounds(repository, options, report=console.print)
    print_table(results, console)
    if options.out is not None:
        console.print(f"Report: {save_report(results, options, options.out)}")


def _run(module: str, verb: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, verb, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"{verb} failed: {done.stderr.strip()[-500:]}")


if __name__ == "__main__":
    run_verbs(bench)
