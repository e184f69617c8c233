"""The fixed test inputs of every export: which seeds, at which truncation, with which label.

The first are the golden cases: the edges of the 64-bit range and their neighbors. The others are spread over it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganvas_core import noise

__all__ = ["GOLDEN_SEEDS", "MAX_CORNER_LABELS", "Cases", "batch_sizes", "make_cases", "make_half_cases"]

GOLDEN_SEEDS = (0, 1, 2**64 - 1, 2**63, 2, 2**64 - 2, 2**63 - 1, 2**63 + 1, 42, 2**32, 2**32 - 1, 10**18)
"""In the order they are taken."""

MAX_CORNER_LABELS = 64

_TRUNCATIONS = (1.0, 0.7, 1.0, 1.5, 1.0, 0.0, 0.35)


@dataclass(frozen=True, kw_only=True)
class Cases:
    """S test inputs."""

    seeds: NDArray[np.uint64]
    """[S]"""
    truncation: NDArray[np.float32]
    """[S]"""
    labels: NDArray[np.int64] | None
    """[S]; None for an unconditional model."""

    def __len__(self) -> int:
        return len(self.seeds)

    def at(self, rows: NDArray[np.intp]) -> Cases:
        """Some of the cases."""
        labels = None if self.labels is None else self.labels[rows]
        return Cases(seeds=self.seeds[rows], truncation=self.truncation[rows], labels=labels)

    def describe(self, index: int) -> str:
        """`seed 41, truncation 0.7, label 3`"""
        label = "" if self.labels is None else f", label {self.labels[index]}"
        return f"seed {self.seeds[index]}, truncation {self.truncation[index]:g}{label}"


def make_cases(*, num_golden: int, num_more: int, num_labels: int) -> Cases:
    """num_golden golden cases (truncation 1.0 and 0.7 in turn), then num_more others. Labels repeat in order.

    Raises:
        ValueError: more golden cases are asked for than there are.
    """
    if not 1 <= num_golden <= len(GOLDEN_SEEDS):
        raise ValueError(f"num_golden must be within [1, {len(GOLDEN_SEEDS)}]; got {num_golden}.")
    key = np.array([noise.KEY], np.uint64)
    spread = noise.squares64(np.arange(2**16, 2**16 + num_more, dtype=np.uint64), key)
    total = num_golden + num_more
    golden_truncation = [1.0, 0.7] * num_golden
    other_truncation = list(_TRUNCATIONS) * (num_more // len(_TRUNCATIONS) + 1)
    return Cases(
        seeds=np.concatenate([np.array(GOLDEN_SEEDS[:num_golden], np.uint64), spread]),
        truncation=np.array(golden_truncation[:num_golden] + other_truncation[:num_more], np.float32),
        labels=np.arange(total, dtype=np.int64) % num_labels if num_labels else None,
    )


def make_half_cases(*, num_seeds: int, num_labels: int, truncation_max: float) -> Cases:
    """The golden seeds and more, up to num_seeds; then the corners: truncation 0 and the largest, with every label.

    Of more than MAX_CORNER_LABELS labels, the corners take as many, evenly spread.
    """
    num_golden = min(num_seeds, len(GOLDEN_SEEDS))
    spread = make_cases(num_golden=num_golden, num_more=num_seeds - num_golden, num_labels=num_labels)
    count = min(max(num_labels, 1), MAX_CORNER_LABELS)
    labels = np.linspace(0, max(num_labels, 1) - 1, count).round().astype(np.int64)
    corner_seeds = noise.squares64(
        np.arange(2**20, 2**20 + 2 * count, dtype=np.uint64), np.array([noise.KEY], np.uint64)
    )
    corner_truncation = np.repeat(np.array([0.0, truncation_max], np.float32), count)
    return Cases(
        seeds=np.concatenate([spread.seeds, corner_seeds]),
        truncation=np.concatenate([spread.truncation, corner_truncation]),
        labels=None if spread.labels is None else np.concatenate([spread.labels, labels, labels]),
    )


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """The batches that parity and invariance are proven for: 1, 2, 3, 7 and the largest."""
    return tuple(sorted({size for size in (1, 2, 3, 7, max_batch_size) if size <= max_batch_size}))
