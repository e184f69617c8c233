"""What can stop an export. Every message is one line that names the field, the value, the limit and the next step.

    InputError       what was asked for cannot be done: a bad name, option, checkpoint or repository
    GateError        a graph failed its proof
    PublishError     I/O or permission error

In each case nothing was published, and what the repository held before is intact.
"""

from __future__ import annotations

from ganvas_core.cli import UsageError, UserError

__all__ = ["BatchDependenceError", "GateError", "InputError", "PublishError", "first_line"]


class InputError(UsageError):
    """What was asked for cannot be done."""


class GateError(UserError):
    """A graph failed its proof: parity, noise, batch invariance or the sampler contract."""


class BatchDependenceError(GateError):
    """An image depends on the batch it was computed in, which one fixed batch size may prevent."""


class PublishError(UserError):
    """The model repository could not be written."""


def first_line(error: BaseException, *, limit: int = 240) -> str:
    """An exception's message on one line with a full stop, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:limit].rstrip(".") + ("…" if len(text) > limit else ".")
