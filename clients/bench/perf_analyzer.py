"""NVIDIA's perf_analyzer as a second opinion, on the direct path, with input data that is written for it."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from clients.bench.beside import ours, pair_of, tell
from clients.bench.load import LoadJob, run_load
from clients.bench.options import BenchOptions
from clients.bench.result import SubjectResult
from clients.bench.session import Progress
from clients.bench.subject import Subject
from clients.bench.targets import Target
from ganvas_core.cli import UserError
from ganvas_core.interface import kserve_datatype, sample_inputs
from ganvas_core.tls_options import TlsOptions

__all__ = ["PerfAnalyzerError", "find_perf_analyzer", "input_data", "second_opinion"]

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


def find_perf_analyzer() -> str:
    """The program's path.

    Raises:
        PerfAnalyzerError: it is not on PATH.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise PerfAnalyzerError(
            f"--scenario perf_analyzer needs {PROGRAM} on PATH. docs/benchmarking.md says where to get it."
        )
    return program


def second_opinion(subject: Subject, options: BenchOptions, result: SubjectResult, *, progress: Progress) -> None:
    """p50 and calls a second of each concurrency by both, in turn, on what speaks KServe v2.

    The result gets each when it is done.

    Raises:
        PerfAnalyzerError: it is not on PATH, or failed.
        UserError: our own calls failed.
    """
    program = find_perf_analyzer()
    name = next((name for name, target in subject.targets.items() if target.kind == "kserve"), None)
    if name is None:
        raise PerfAnalyzerError("--scenario perf_analyzer speaks KServe v2: it needs --target direct or --kserve.")
    target = subject.target(name)
    with tempfile.TemporaryDirectory(prefix="ganvas-perf-") as folder:
        data = Path(folder) / "input.json"
        data.write_text(json.dumps(_told(target)))
        for callers in options.concurrency:
            reports, theirs = [], []
            title = f"{callers} caller{'s' if callers > 1 else ''}"
            for index in range(options.rounds):
                progress(index, options.rounds, f"{PROGRAM}, {callers} callers")
                job = LoadJob(target=target, kind="closed", concurrency=callers, seconds=options.seconds, warmup_s=1.0)
                reports.append(run_load(job))
                own = ours(f"{PROGRAM}'s {title}", name, reports)
                theirs.append(_run(program, target, data, callers, options.seconds, Path(folder)))
            result.opinions += [
                pair_of(own, 50, [p50_ms for p50_ms, _ in theirs], title=title),
                pair_of(own, None, [per_s for _, per_s in theirs], title=title),
            ]
            tell(result, own, (50,))


def _told(target: Target) -> dict[str, Any]:
    """perf_analyzer knows the data types from the model, and takes no key that it does not know."""
    given = json.loads(Path(target.input_data).read_text()) if target.input_data else input_data(target)
    return {
        "data": [
            {name: {"content": one["content"], "shape": one["shape"]} for name, one in row.items()}
            for row in given["data"]
        ]
    }


def _run(program: str, target: Target, data: Path, callers: int, seconds: float, folder: Path) -> tuple[float, float]:
    """p50 in ms, and calls a second."""
    table = folder / "table.csv"
    command = [program, "-m", target.model, "-u", target.address, "-i", "grpc", "--async"]
    command += ["--input-data", str(data), "--concurrency-range", str(callers), "-f", str(table)]
    # It takes three windows. How much they vary, our rounds tell: it is not to give up because of it.
    command += ["--measurement-interval", str(int(seconds * 1e3 / WINDOWS)), "--stability-percentage", "999"]
    command += _tls_arguments(target.tls)
    timeout_s = seconds * 10 + MORE_S
    table.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise PerfAnalyzerError(f"{PROGRAM} did not end within {timeout_s:.0f} s.") from None
    if done.returncode != 0 or not table.exists():
        said = (done.stderr.strip() or done.stdout.strip())[-500:].replace("\n", " ")
        if "restricted" in said:
            said = "it needs Triton's statistics: start the server with ./ganvas serve --triton-statistics"
        raise PerfAnalyzerError(f"{PROGRAM} failed: {said}")
    with table.open(newline="") as file:
        row = next(csv.DictReader(file), {})
    try:
        return float(row["p50 latency"]) / 1e3, float(row["Inferences/Second"])
    except (KeyError, ValueError):
        raise PerfAnalyzerError(f"{PROGRAM} gave no p50 or no rate: it measured nothing.") from None


def _tls_arguments(tls: TlsOptions) -> list[str]:
    if tls.tls_ca is None:
        return []
    files = {
        "root-certifications": tls.tls_ca,
        "certificate-chain": tls.tls_client_cert,
        "private-key": tls.tls_client_key,
    }
    given = [(f"--ssl-grpc-{name}-file", str(path)) for name, path in files.items() if path is not None]
    return ["--ssl-grpc-use-ssl", *itertools.chain.from_iterable(given)]
