"""From nothing to an image: a server is started for it, and stopped."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from clients.bench.options import BenchOptions
from clients.bench.result import ColdStart
from clients.local_server import local_server
from ganvas_client import GanvasError, Sampler
from ganvas_core.cli import UserError

__all__ = ["measure_cold_start"]

NUM_STEADY = 50


def measure_cold_start(repository: Path, model: str, options: BenchOptions) -> ColdStart:
    """Start `serve` over the repository and ask the service for one image after another.

    Raises:
        LocalServerError: it did not start, or did not stop.
        UserError: it gave no image.
    """
    try:
        return _measure(repository, model, options)
    except GanvasError as error:
        raise UserError(f"{model}: {error}") from None


def _measure(repository: Path, model: str, options: BenchOptions) -> ColdStart:
    started_s = time.monotonic()
    with (
        local_server(repository, arguments=options.serve) as server,
        Sampler(server.service, api_key=options.api_key, credentials=options.credentials(), direct=False) as sampler,
    ):
        ready_s = time.monotonic()
        took_ms = []
        for seed in range(NUM_STEADY + 1):
            begun_s = time.monotonic()
            sampler.sample(model, [seed])
            took_ms.append((time.monotonic() - begun_s) * 1e3)
            if seed == 0:
                first_s = time.monotonic()
    return ColdStart(
        ready_s=ready_s - started_s,
        first_image_s=first_s - started_s,
        first_ms=took_ms[0],
        steady_ms=statistics.median(took_ms[1:]),
    )
