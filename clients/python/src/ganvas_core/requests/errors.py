"""A field of a request that is wrong."""

from __future__ import annotations

__all__ = ["InvalidFieldError", "shown"]

MAX_SHOWN = 60
"""Characters of a user's text that an error message repeats."""


class InvalidFieldError(ValueError):
    """A field of the request is wrong; names it, its value, the limit and the next step."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def shown(value: object) -> str:
    """A caller's value as an error message repeats it: quoted if text, escaped and cut."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
