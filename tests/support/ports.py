"""Ports for what is not there yet, or comes back where it was."""

from __future__ import annotations

from serving.triton.ports import choose_ports

__all__ = ["free_port"]


def free_port() -> int:
    """A port of this machine that nobody else gets by binding 0 or by connecting, as a test beside this one does."""
    return choose_ports({"--port": ("127.0.0.1", 0)})["--port"]
