"""Peak memory of an export, in copies of the weights: python -m benchmarks.export_memory PARAMETERS [fp32|auto].

A small network is exported first, so that what importing and tracing take is not counted: the baseline is what the
process holds then, before the network is made. So the network itself is the first copy.
"""

from __future__ import annotations

import gc
import json
import re
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


def resident_bytes(field: Literal["VmRSS", "VmHWM"]) -> int:
    """What the process has in memory now, files that it has mapped included, or the most since `forget_peak`."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(num_parameters: int, precision: Literal["fp32", "auto"]) -> dict[str, object]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    steps: dict[str, int] = {}
    step = "making the network"

    def note(next_step: str) -> None:
        nonlocal step
        steps[step] = max(resident_bytes("VmHWM"), steps.get(step, 0))
        forget_peak()
        step = next_step

    with tempfile.TemporaryDirectory() as folder:
        for size in (10_000, num_parameters):
            options = ExportOptions(
                name=f"n{size}",
                repository=Path(folder) / "models",
                max_batch_size=4,
                num_parity_seeds=8,
                num_half_seeds=16,
                precision=precision,
            )
            gc.collect()
            steps.clear()
            forget_peak()
            before, start = resident_bytes("VmRSS"), time.monotonic()
            source = network(size)
            result = export_model(source, options, report=note)
            note("")
    copy_bytes = 4 * sum(parameter.numel() for parameter in source.generator.parameters())
    copies = {name: round((peak - before) / copy_bytes, 2) for name, peak in steps.items()}
    return {
        "parameters": copy_bytes // 4,
        "precision": precision,
        "fp16_file": "model.fp16.onnx" in result.certificate.files,
        "copies": max(copies.values()),
        "by_step": copies,
        "seconds": round(time.monotonic() - start, 1),
    }


def main(arguments: list[str]) -> None:
    parameters, precision = arguments[0], (arguments[1:] or ["auto"])[0]
    if precision not in ("fp32", "auto"):
        sys.exit("The precision must be fp32 or auto.")
    print(json.dumps(measure(int(parameters), precision)))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1:])
