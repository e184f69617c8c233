"""The test inputs of every export."""

from __future__ import annotations

import numpy as np
import pytest

from export.proof.cases import GOLDEN_SEEDS, batch_sizes, make_cases


def test_golden_seeds_hold_the_edges_of_the_range_and_their_neighbours() -> None:
    assert {0, 1, 2**64 - 1, 2**64 - 2, 2**63, 2**63 - 1} <= set(GOLDEN_SEEDS[:8])
    assert len(set(GOLDEN_SEEDS)) == len(GOLDEN_SEEDS)


def test_make_cases_varies_truncation_and_label() -> None:
    cases = make_cases(num_golden=8, num_more=24, num_labels=10)
    assert cases.labels is not None
    assert set(cases.labels.tolist()) == set(range(10))
    assert {1.0, float(np.float32(0.7))} == set(cases.truncation[:8].tolist())
    assert {0.0, 1.5} <= set(cases.truncation.tolist())
    assert len(set(cases.seeds.tolist())) == 32


def test_make_cases_are_the_same_every_time() -> None:
    one, other = (make_cases(num_golden=3, num_more=5, num_labels=0) for _ in range(2))
    assert one.labels is None
    assert one.seeds.tolist() == other.seeds.tolist()
    assert one.truncation.tolist() == other.truncation.tolist()


def test_make_cases_rejects_more_golden_cases_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"num_golden must be within \[1, 12\]; got 13\."):
        make_cases(num_golden=13, num_more=0, num_labels=0)


@pytest.mark.parametrize(
    ("max_batch_size", "expected"), [(1, (1,)), (2, (1, 2)), (7, (1, 2, 3, 7)), (16, (1, 2, 3, 7, 16))]
)
def test_batch_sizes_end_with_the_largest(max_batch_size: int, expected: tuple[int, ...]) -> None:
    assert batch_sizes(max_batch_size) == expected
