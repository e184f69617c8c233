"""Settings that change along a run."""

from __future__ import annotations

import math

__all__ = ["cosine"]


def cosine(start: float, end: float | None, progress: float) -> float:
    """From start to end along half a cosine: slow, fast, slow. Without an end it stays.

    Args:
        progress: 0 gives start, 1 and more give end.
    """
    if end is None:
        return start
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
