"""Peak memory of an export, in copies of the weights: python -m benchmarks.export_memory PARAMETERS PRECISION.

A small network is exported first, so that what importing and tracing take is not counted.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from export.adapters.source import Source
from export.options import ExportOptions
from export.pipeline import export_model


def network(num_parameters: int) -> Source:
    """Linear layers of about num_parameters weights, to an 8x8 image."""
    width = int((num_parameters / 4) ** 0.5)
    layers = [layer for _ in range(4) for layer in (nn.Linear(width, width), nn.LeakyReLU(0.2))]
    to_image = [nn.Linear(width, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))]
    model = nn.Sequential(nn.Linear(16, width), *layers, *to_image).eval()
    return Source(generator=model, latent_shape=(16,), image=(8, 8, 1), image_range=(-1.0, 1.0))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(num_parameters: int, precision: Literal["fp32", "auto"]) -> dict[str, object]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for size in (10_000, num_parameters):
            before = peak_bytes()
            source = network(size)
            options = ExportOptions(
                name=f"n{size}",
                repository=Path(folder) / "models",
                max_batch_size=4,
                num_parity_seeds=8,
                num_half_seeds=16,
                precision=precision,
            )
            start = time.monotonic()
            export_model(source, options)
    copy_bytes = 4 * sum(parameter.numel() for parameter in source.generator.parameters())
    return {
        "parameters": copy_bytes // 4,
        "precision": precision,
        "copies": round((peak_bytes() - before) / copy_bytes, 2),
        "seconds": round(time.monotonic() - start, 1),
    }


if __name__ == "__main__":
    parameters, precision = sys.argv[1:]
    if precision not in ("fp32", "auto"):
        sys.exit("PRECISION must be fp32 or auto.")
    print(json.dumps(measure(int(parameters), precision)))  # type: ignore[arg-type]
