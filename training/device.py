"""Where a run computes: the CPU, an NVIDIA GPU, or Apple's."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ganvas_core.cli import UsageError

__all__ = ["autocast", "describe_device", "exact_kernels", "resolve_device"]


def resolve_device(name: str) -> str:
    """The device to use: `auto` is the first of cuda, mps and cpu that this machine has.

    Raises:
        UsageError: PyTorch sees no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device: there is no {name}: PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device: this machine has no mps: that is Apple's GPU.")
    return name


def describe_device(device: torch.device) -> str:
    """`NVIDIA H100 80GB HBM3`, or the processor's name."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor} ({device.type})"


def autocast(device: torch.device, precision: str, *, enabled: bool = True) -> torch.autocast:
    """Convolutions and products in bf16 or fp16 within this context, on any device; for fp32 it does nothing."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=enabled and precision != "fp32")


@contextmanager
def exact_kernels(num_threads: int) -> Iterator[None]:
    """So many compute threads, and kernels that give the same bits each time; afterwards all is as it was."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    torch.set_num_threads(num_threads)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark = before
