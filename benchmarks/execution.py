"""What a batch costs in ONNX Runtime on this machine: `python -m benchmarks.execution MODEL.onnx [MAX_BATCH [ROUNDS]]`.

For every batch size: the fastest of several runs with fresh arrays, as the backend does it, and with IO binding to
buffers that stay; and the size that a batch would have to be padded to, if any is cheaper. Sizes take turns in every
round.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ganvas_core.interface import sample_inputs
from ganvas_core.session import CpuSession


def main(model: str, max_batch: int = 16, rounds: int = 15) -> None:
    cpu = CpuSession(Path(model), threads=1)
    sizes = range(1, max_batch + 1)
    plain, bound = dict.fromkeys(sizes, float("inf")), dict.fromkeys(sizes, float("inf"))
    runs = {size: _runs(cpu, size) for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            for found, run in zip((plain, bound), runs[size], strict=True):
                begin_s = time.perf_counter()
                run()
                found[size] = min(found[size], time.perf_counter() - begin_s)
    print("| images | ms | ms an image | with IO binding, ms | cheapest to pad to |")
    print("| --- " * 5 + "|")
    for size in sizes:
        cheapest = min(range(size, max_batch + 1), key=lambda other: plain[other])
        padded = "itself" if cheapest == size else str(cheapest)
        fastest, with_binding = plain[size] * 1e3, bound[size] * 1e3
        print(f"| {size} | {fastest:.2f} | {fastest / size:.3f} | {with_binding:.2f} | {padded} |")


def _runs(cpu: CpuSession, size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    labels = 0 if "label" in cpu.input_names else None
    inputs, session = sample_inputs(np.arange(size, dtype=np.uint64), labels=labels), cpu.session
    (image,) = session.run(["image"], inputs)
    binding, output = session.io_binding(), np.empty_like(image)
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("image", "cpu", 0, output.dtype.type, output.shape, output.ctypes.data)

    def run_bound() -> object:
        session.run_with_iobinding(binding)
        return output  # the binding has no more than its address

    return lambda: session.run(["image"], inputs), run_bound


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
