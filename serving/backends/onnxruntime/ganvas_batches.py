"""A batch between Triton's requests and the session: merged, padded, run, split, and its failures singled out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Check", "Feeds", "Refusal", "Run", "merge", "pad_size", "parse_buckets", "run_batch"]

Array = NDArray[Any]
Feeds = dict[str, Array]
Run = Callable[[Feeds], Sequence[Array]]
"""Inputs by name to outputs, in the order of the configuration."""
Check = Callable[[Feeds], str | None]
"""What is wrong with the values of the inputs, or None."""


class Refusal(str):
    """Why a request is not computed: its caller's mistake."""

    __slots__ = ()


def merge(requests: Sequence[Feeds], *, copy: bool) -> Feeds:
    """One array for each input, the requests' rows one after another.

    Args:
        requests: each has the same inputs; Triton sees to that.
        copy: whether the arrays must outlive the requests. A lone request's are taken as they are otherwise.
    """
    if len(requests) == 1 and not copy:
        return requests[0]
    return {name: np.concatenate([feeds[name] for feeds in requests]) for name in requests[0]}


def run_batch(
    run: Run, feeds: Feeds, sizes: Sequence[int], buckets: Sequence[int] = (), check: Check | None = None
) -> list[list[Array] | str]:
    """Each request's outputs, or why it failed.

    If the batch fails, every request runs alone: one bad request must not fail the others. Those that the check
    refuses cost nothing: the others run as one batch without them.

    Args:
        feeds: from merge.
        sizes: rows of each request.
        buckets: batch sizes to pad to, ascending; empty: none.
        check: of the values; rows are good or bad by themselves.
    """
    if check is not None and (problem := check(feeds)) is not None:
        return [Refusal(problem)] if len(sizes) == 1 else _run_good(run, feeds, sizes, buckets, check)
    try:
        outputs = _run_padded(run, feeds, sum(sizes), buckets)
    except Exception as error:
        if len(sizes) == 1:
            return [str(error) or type(error).__name__]
        return [result for part in _parts(feeds, sizes) for result in run_batch(run, *part, buckets)]
    if len(sizes) == 1:
        return [outputs]
    ends = np.cumsum(sizes).tolist()
    return [[output[end - size : end] for output in outputs] for end, size in zip(ends, sizes, strict=True)]


def pad_size(size: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds `size` rows; `size` itself where none does."""
    return next((bucket for bucket in buckets if bucket >= size), size)


def parse_buckets(text: str, max_batch_size: int) -> tuple[int, ...]:
    """The parameter batch_buckets, as "1,2,4,8,16": ascending, without repeats. Empty: no padding.

    Raises:
        ValueError: an entry is no whole number within [1, max_batch_size].
    """
    buckets = set()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        if not entry.isdecimal() or not 1 <= int(entry) <= max_batch_size:
            raise ValueError(
                f"parameter batch_buckets must list whole numbers within [1, {max_batch_size}]; got {entry!r}."
            )
        buckets.add(int(entry))
    return tuple(sorted(buckets))


def _run_good(
    run: Run, feeds: Feeds, sizes: Sequence[int], buckets: Sequence[int], check: Check
) -> list[list[Array] | str]:
    """Refuse the requests with bad values, and run the others as one batch."""
    parts = [part for part, _ in _parts(feeds, sizes)]
    problems = [check(part) for part in parts]
    good = [index for index, problem in enumerate(problems) if problem is None]
    results: list[list[Array] | str] = [Refusal(problem) for problem in problems]
    if good:
        merged = merge([parts[index] for index in good], copy=False)
        outcomes = run_batch(run, merged, [sizes[index] for index in good], buckets)
        for index, outcome in zip(good, outcomes, strict=True):
            results[index] = outcome
    return results


def _run_padded(run: Run, feeds: Feeds, size: int, buckets: Sequence[int]) -> list[Array]:
    padded = pad_size(size, buckets)
    if padded > size:
        # The last row again: rows of zeros could be worth an error to the model.
        feeds = {name: np.concatenate([rows, np.repeat(rows[-1:], padded - size, 0)]) for name, rows in feeds.items()}
    outputs = list(run(feeds))
    for output in outputs:
        if output.ndim == 0 or len(output) != padded:
            raise ValueError(f"the model gave an output of shape {list(output.shape)} for a batch of {padded}.")
    return outputs if padded == size else [output[:size] for output in outputs]


def _parts(feeds: Feeds, sizes: Sequence[int]) -> list[tuple[Feeds, list[int]]]:
    ends = np.cumsum(sizes).tolist()
    return [
        ({name: array[end - size : end] for name, array in feeds.items()}, [size])
        for end, size in zip(ends, sizes, strict=True)
    ]
