"""NVIDIA's perf_analyzer as a second opinion, on the direct path, with input data that is written for it."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from clients.bench.load import LoadJob, run_load
from clients.bench.options import BenchOptions
from clients.bench.result import ScenarioPair, SubjectResult
from clients.bench.session import Progress
from clients.bench.subject import Subject
from clients.bench.targets import Target
from ganvas_core.cli import UserError
from ganvas_core.interface import kserve_datatype, sample_inputs

__all__ = ["PerfAnalyzerError", "input_data", "second_opinion"]

PROGRAM = "perf_analyzer"
NUM_ROWS = 256
MORE_S = 300.0
WINDOWS = 3


class PerfAnalyzerError(UserError):
    """It is not there, or failed."""


def input_data(target: Target, num_rows: int = NUM_ROWS) -> dict[str, Any]:
    """Requests of one image, as perf_analyzer's --input-data and our own take them."""
    seeds = np.arange(num_rows, dtype=np.uint64)
    labels = seeds % np.uint64(target.num_labels) if target.num_labels else None
    arrays = sample_inputs(seeds, 1.0, labels)
    return {
        "data": [
            {
                name: {
                    "content": array[row].tolist(),
                    "shape": list(array.shape[1:]),
                    "datatype": kserve_datatype(array.dtype),
                }
                for name, array in arrays.items()
            }
            for row in range(num_rows)
        ]
    }


def second_opinion(
    subject: Subject, options: BenchOptions, result: SubjectResult, *, progress: Progress
) -> list[ScenarioPair]:
    """p50 and calls a second of each concurrency by both, in turn, on what speaks KServe v2.

    Raises:
        PerfAnalyzerError: it is not on PATH, or failed.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise PerfAnalyzerError(
            f"--scenario perf_analyzer needs {PROGRAM} on PATH. docs/benchmarking.md says where to get it."
        )
    name = next((name for name, target in subject.targets.items() if target.kind == "kserve"), None)
    if name is None:
        raise PerfAnalyzerError("--scenario perf_analyzer speaks KServe v2: it needs --target direct or --kserve.")
    target, pairs = subject.target(name), []
    with tempfile.TemporaryDirectory(prefix="ganvas-perf-") as folder:
        data = Path(target.input_data) if target.input_data else Path(folder) / "input.json"
        if not target.input_data:
            # perf_analyzer knows the data types from the model, and takes no key that it does not know.
            told = {
                "data": [
                    {key: {"content": one["content"], "shape": one["shape"]} for key, one in row.items()}
                    for row in input_data(target)["data"]
                ]
            }
            data.write_text(json.dumps(told))
        for callers in options.concurrency:
            own, theirs = [], []
            for index in range(options.rounds):
                progress(index, options.rounds, f"{PROGRAM}, {callers} callers")
                job = LoadJob(target=target, kind="closed", concurrency=callers, seconds=options.seconds, warmup_s=1.0)
                own.append(run_load(job))
                theirs.append(_run(program, target, data, callers, options.seconds, Path(folder)))
            title = f"{callers} caller{'s' if callers > 1 else ''}"
            figures = {
                "p50 ms": ([row[0] for row in theirs], [report.percentile_ms(50) for report in own]),
                "images/s": ([row[1] for row in theirs], [report.images_per_s for report in own]),
            }
            pairs += [
                ScenarioPair(
                    scenario=title,
                    target=name,
                    figure=figure,
                    loadgen=statistics.median(their),
                    own=statistics.median(our),
                    is_valid=True,
                )
                for figure, (their, our) in figures.items()
            ]
    return pairs


def _run(program: str, target: Target, data: Path, callers: int, seconds: float, folder: Path) -> tuple[float, float]:
    """p50 in ms, and calls a second."""
    table = folder / "table.csv"
    command = [program, "-m", target.model, "-u", target.address, "-i", "grpc", "--async"]
    command += ["--input-data", str(data), "--concurrency-range", str(callers), "-f", str(table)]
    # It takes three windows. How much they vary, our rounds tell: it is not to give up because of it.
    command += ["--measurement-interval", str(int(seconds * 1e3 / WINDOWS)), "--stability-percentage", "999"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 10 + MORE_S)
    if done.returncode != 0 or not table.exists():
        said = (done.stderr.strip() or done.stdout.strip())[-500:]
        if "restricted" in said:
            said = "it needs Triton's statistics, which ./ganvas serve keeps closed. Measure another Triton: --kserve"
        raise PerfAnalyzerError(f"{PROGRAM} failed: {said}")
    with table.open() as file:
        row = next(csv.DictReader(file))
    return float(row["p50 latency"]) / 1e3, float(row["Inferences/Second"])
