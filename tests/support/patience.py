"""Attempts that a busy machine may spoil: they are made again, with more time, and only then are they failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["TooSlowError", "in_time", "with_time"]

T = TypeVar("T")

LONGEST_S = 100.0


class TooSlowError(Exception):
    """This machine had no time for an attempt, which therefore shows nothing."""


def with_time(attempt: Callable[[float], T], first_s: float) -> T:
    """attempt(timeout_s), with four times as much each time that it raises TooSlowError."""
    timeout_s = first_s
    while True:
        try:
            return attempt(timeout_s)
        except TooSlowError:
            timeout_s *= 4
            if timeout_s > LONGEST_S:
                raise


def in_time(attempt: Callable[[], T]) -> T:
    """attempt(), again for as long as it raises TooSlowError."""
    end_s = time.monotonic() + LONGEST_S
    while True:
        try:
            return attempt()
        except TooSlowError:
            if time.monotonic() > end_s:
                raise
