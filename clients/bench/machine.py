"""What a report says of the machine it was made on."""

from __future__ import annotations

import datetime
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

__all__ = ["processor", "report_stem", "versions"]


def report_stem(subject: str) -> str:
    """A report's file name without its suffix: subject, hardware and date."""
    hardware = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")
    return f"{subject}-{hardware}-{os.cpu_count()}cores-{datetime.date.today()}"


def versions() -> str:
    return (
        f"ONNX Runtime {version('onnxruntime-gpu')}, nvidia-pytriton {version('nvidia-pytriton')}, "
        f"Python {platform.python_version()}"
    )


def processor() -> str:
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
