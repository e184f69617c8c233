"""Bare ONNX Runtime in its own process: the upper bound that a server is compared with.

`python -m clients.bench.bare JOB` runs one job and prints its LoadResult as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.bench.result import LoadResult
from ganvas_core.cli import UserError
from ganvas_core.interface import sample_inputs
from ganvas_core.session import CpuSession


class BareError(UserError):
    """The measuring process failed; the message has the end of its stderr."""


@dataclass(frozen=True, kw_only=True)
class BareJob:
    """Call `model` again and again with `batch_size` seeds.

    interval_ms 0 is a hot loop; otherwise a call starts every interval_ms, so that the idle gaps cool the caches
    as they do behind a server.
    """

    model: str
    batch_size: int
    num_threads: int = 1
    seconds: float = 3.0
    interval_ms: float = 0.0


def run_bare(job: BareJob) -> LoadResult:
    """Run the job in a fresh process and wait for it.

    Raises:
        BareError: the process failed.
    """
    command = [sys.executable, "-m", "clients.bench.bare", json.dumps(dataclasses.asdict(job))]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=job.seconds + 120)
    if finished.returncode != 0:
        raise BareError(f"bare ONNX Runtime failed: {finished.stderr.strip()[-500:]}")
    data = json.loads(finished.stdout)
    return LoadResult(**data | {"latencies_ms": tuple(data["latencies_ms"])})


def measure(job: BareJob) -> LoadResult:
    """Run the job in this process."""
    cpu = CpuSession(Path(job.model), threads=job.num_threads)
    labels = 0 if "label" in cpu.input_names else None
    inputs, session = sample_inputs(np.arange(job.batch_size, dtype=np.uint64), labels=labels), cpu.session
    for _ in range(10):
        session.run(["image"], inputs)
    latencies_ms = []
    start = next_call = time.perf_counter()
    while time.perf_counter() - start < job.seconds:
        if job.interval_ms:
            time.sleep(max(0.0, next_call - time.perf_counter()))
            next_call += job.interval_ms / 1e3
        inputs["seed"] += np.uint64(job.batch_size)
        begin = time.perf_counter()
        session.run(["image"], inputs)
        latencies_ms.append((time.perf_counter() - begin) * 1e3)
    elapsed_s = time.perf_counter() - start
    return LoadResult(batch_size=job.batch_size, elapsed_s=elapsed_s, latencies_ms=tuple(latencies_ms))


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(measure(BareJob(**json.loads(sys.argv[1]))))))
