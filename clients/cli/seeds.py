"""The seeds of `--seeds`: numbers and ranges, as in 0-63 or 1,5,9-12."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

__all__ = ["list_seeds", "parse_seeds"]

_PART = re.compile(r"([0-9]{1,40})(?:-([0-9]{1,40}))?")


def parse_seeds(text: str) -> list[range]:
    """The ranges in the order given, a number being a range of one; as typed, they include both ends.

    Raises:
        ValueError: not of this form, or outside 64 bits.
    """
    ranges = []
    for part in (part.strip() for part in text.split(",")):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"--seeds must be numbers and ranges like 0-63 or 1,5,9-12; got {part!r:.80}.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= 2**64:
            raise ValueError(f"--seeds must be within [0, 2^64); got {last}.")
        if last < first:
            raise ValueError(f"--seeds must be ranges from low to high; got {part}.")
        ranges.append(range(first, last + 1))
    return ranges


def list_seeds(ranges: Sequence[range], *, max_count: int) -> Sequence[int]:
    """Every seed of the ranges.

    Raises:
        ValueError: they are more than max_count.
    """
    count = sum(part.stop - part.start for part in ranges)
    if count > max_count:
        raise ValueError(f"--seeds must name at most {max_count} seeds; got {count}.")
    return ranges[0] if len(ranges) == 1 else list(chain.from_iterable(ranges))
