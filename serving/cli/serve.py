"""The verb `serve`."""

from __future__ import annotations

from rich.console import Console

from serving.options import ServeOptions
from serving.supervise.start import supervise

__all__ = ["serve"]


def serve(options: ServeOptions) -> int:
    """Start the gateway, Triton and the sampling service; on Ctrl-C or SIGTERM finish accepted calls and stop them.

    Example: ./ganvas serve --repository model_repository --port 50051
    """
    return supervise(options, Console())
