"""Computing in the generator's own process: what a server can at best reach."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.bench.targets.target import Target
from clients.bench.targets.transport import TargetError, Transport
from ganvas_core.interface import Arrays
from ganvas_core.session import CpuSession, SessionError

__all__ = ["ONNX_ENTRY", "Compute", "InProcess", "open_onnx"]

ONNX_ENTRY = "clients.bench.targets.inprocess:open_onnx"

Compute = Callable[[Arrays], NDArray[np.uint8]]
"""The sampler's inputs to [N, H, W, C]."""


def open_onnx(model: str, *, threads: int, mode: str = "") -> Compute:
    """Bare ONNX Runtime on the CPU."""
    cpu = CpuSession(Path(model), threads=threads)
    # Without CpuSession.run, which pads and checks: this is the least that an image costs.
    names, session = cpu.input_names, cpu.session

    def compute(inputs: Arrays) -> NDArray[np.uint8]:
        images: NDArray[np.uint8] = session.run(["image"], {name: inputs[name] for name in names})[0]
        return images

    return compute


class InProcess(Transport):
    """Calls block the loop: there is one worker, as in a server of one."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._compute: Compute | None = None

    async def open(self) -> None:
        module, _, function = self._target.entry.partition(":")
        try:
            opened = getattr(importlib.import_module(module), function)
            self._compute = opened(self._target.address, threads=self._target.threads, mode=self._target.mode)
        except (ImportError, SessionError, OSError, ValueError) as error:
            raise TargetError(f"{self._target.entry} cannot open {self._target.address}: {error}") from None

    async def call(self, body: Any, timeout_s: float) -> Any:
        assert self._compute is not None
        return self._compute(body)

    def first_image(self, reply: NDArray[np.uint8]) -> bytes:
        raw: bytes = reply[0].tobytes()
        return raw
