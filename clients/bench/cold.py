"""From nothing to an image: a server is started for it, and stopped."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from clients.bench.result import ColdStart
from clients.local_server import local_server
from ganvas_client import Sampler

__all__ = ["measure_cold_start"]

NUM_STEADY = 50


def measure_cold_start(repository: Path, model: str, *, arguments: Sequence[str] = ()) -> ColdStart:
    """Start `serve` over the repository and ask the service for one image after another.

    Raises:
        LocalServerError: it did not start.
    """
    started_s = time.monotonic()
    with local_server(repository, arguments=arguments) as server, Sampler(server.service, direct=False) as sampler:
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
