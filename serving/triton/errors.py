"""The errors of Triton.

TritonError
├── TritonNotFoundError        no tritonserver
├── LibpythonNotFoundError     no shared libpython for the Python backend's stub
└── TritonStartError           it did not start, or not in time; PortError (ports.py): a port cannot be used
"""

from __future__ import annotations

from ganvas_core.cli import UserError

__all__ = ["LibpythonNotFoundError", "TritonError", "TritonNotFoundError", "TritonStartError"]


class TritonError(UserError):
    """Triton cannot be found, started or reached.

    Args:
        problem: what is wrong.
        remedy: the command that mends it; the message ends with it.
    """

    def __init__(self, problem: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{problem} Remedy: {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class TritonNotFoundError(TritonError):
    """No tritonserver was found."""


class LibpythonNotFoundError(TritonError):
    """The running Python has no shared library, which the Python backend's stub needs."""


class TritonStartError(TritonError):
    """Triton did not start: a port is taken, it ended, or it took too long."""
