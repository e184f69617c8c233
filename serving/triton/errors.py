"""Every way in which Triton can fail to serve.

TritonError
├── TritonNotFoundError        no tritonserver
├── LibpythonNotFoundError     no shared libpython for the Python backend's stub
└── TritonStartError           it did not start, or not in time
"""

from __future__ import annotations

from ganvas_core.cli import UserError

__all__ = ["LibpythonNotFoundError", "TritonError", "TritonNotFoundError", "TritonStartError"]


class TritonError(UserError):
    """Triton cannot be found, started or reached; the message ends with the next step."""


class TritonNotFoundError(TritonError):
    """No tritonserver was found."""


class LibpythonNotFoundError(TritonError):
    """The running Python has no shared library, which the Python backend's stub needs.

    Attributes:
        remedy: the command that mends it.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(f"{message} Remedy: {remedy}")
        self.remedy = remedy


class TritonStartError(TritonError):
    """Triton did not start: a port is taken, it ended, or it took too long."""
