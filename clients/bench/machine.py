"""What a report says of the machine it was made on."""

from __future__ import annotations

import datetime
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

__all__ = ["processor", "report_stem", "versions"]


def report_stem(subject: str, elsewhere: str = "") -> str:
    """A report's file name without its suffix: subject, hardware and date.

    Args:
        elsewhere: address of a server on another machine, whose hardware is not known: it stands in its place.
    """
    where = f"at-{_words(elsewhere)}" if elsewhere else f"{_words(processor())}-{os.cpu_count()}cores"
    return f"{subject}-{where}-{datetime.date.today()}"


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


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
