"""Everything about a machine that its figures depend on."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from clients.bench.machine import processor

__all__ = ["environment"]

PACKAGES = (
    "grpcio",
    "mlcommons-loadgen",
    "numpy",
    "nvidia-pytriton",
    "onnxruntime-gpu",
    "protobuf",
    "torch",
    "tritonclient",
)
_VARIABLES = ("OMP_", "OPENBLAS_", "MKL_", "GANVAS_", "CUDA_VISIBLE_DEVICES", "MALLOC_", "LD_PRELOAD", "GRPC_", "ORT_")
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def environment() -> dict[str, Any]:
    """Hardware, system, versions and variables; nothing secret."""
    load_1, load_5, _ = os.getloadavg()
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "cpu_quota_cores": _quota_cores(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "frequency_mhz": _frequency_mhz(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "git_revision": _git_revision(),
        "niceness": os.nice(0),
        "load_average_before": [round(load_1, 2), round(load_5, 2)],
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_VARIABLES) and not any(word in name for word in _SECRET)
        },
    }


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _quota_cores() -> float | None:
    """Of the control group; None without one."""
    quota, _, period = (_read("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return None if quota == "max" else round(int(quota) / int(period), 2)


def _frequency_mhz() -> float | None:
    found = None
    with contextlib.suppress(OSError, NotImplementedError):
        found = psutil.cpu_freq()
    return round(found.current) if found else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm"
    done = subprocess.run([program, query, "--format=csv,noheader"], capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _git_revision() -> str | None:
    folder = Path(__file__).parents[2]
    try:
        done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None
