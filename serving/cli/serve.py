"""The verb `serve`."""

from __future__ import annotations

from rich.console import Console

from serving.options import ServeOptions
from serving.supervise.supervisor import supervise

__all__ = ["serve"]


def serve(options: ServeOptions) -> int:
    """Start Triton and the sampling service; stop both cleanly on Ctrl-C or SIGTERM.

    Example: ganvas serve --repository model_repository --port 50051
    """
    return supervise(options, Console())
