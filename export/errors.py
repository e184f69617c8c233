"""What can stop an export. Every message is one line that names the field, the value, the limit and the next step.

    ExportError
    ├── InputError       what was asked for cannot be done: a bad name, option, checkpoint or repository
    ├── GateError        a graph failed its proof
    └── PublishError     the disk or its rights got in the way

Whichever it is, nothing was published, and what the repository held before is whole.
"""

from __future__ import annotations

__all__ = ["ExportError", "GateError", "InputError", "PublishError"]


class ExportError(Exception):
    """An export that did not happen."""


class InputError(ExportError):
    """What was asked for cannot be done."""


class GateError(ExportError):
    """A graph failed its proof: parity, noise, batch invariance or the sampler contract."""


class PublishError(ExportError):
    """The model repository could not be written."""
