from __future__ import annotations

import pytest

from training.stabilizers.schedule import cosine


@pytest.mark.parametrize(("progress", "value"), [(0.0, 2.0), (0.5, 1.1), (1.0, 0.2), (3.0, 0.2)])
def test_cosine_goes_from_start_to_end_and_stays_there(progress: float, value: float) -> None:
    assert cosine(2.0, 0.2, progress) == pytest.approx(value)


def test_cosine_is_slow_at_both_ends() -> None:
    steps = [cosine(1.0, 0.0, a / 10) - cosine(1.0, 0.0, (a + 1) / 10) for a in range(10)]
    assert min(steps) == pytest.approx(steps[0])
    assert steps[0] == pytest.approx(steps[9])


def test_cosine_without_an_end_stays() -> None:
    assert cosine(0.7, None, 0.5) == 0.7
