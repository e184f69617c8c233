"""Percentiles, intervals and steady states of samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from clients.bench.statistics import mean_interval, num_needed, of_blocks, over_rounds, percentile, steady_state


@pytest.mark.parametrize(("percent", "needed"), [(50.0, 6), (90.0, 36), (99.0, 368), (99.9, 3688)])
def test_a_percentile_is_claimed_from_the_number_of_samples_that_it_needs(percent: float, needed: int) -> None:
    assert num_needed(percent) == needed
    samples = np.arange(needed, dtype=float)
    assert percentile(samples, percent).is_enough
    few = percentile(samples[:-1], percent)
    assert not few.is_enough
    assert few.high is None


def test_intervals_of_percentiles_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        found = percentile(rng.exponential(size=1000), 99)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= -np.log(0.01) <= found.high
    assert 0.92 < held / 400 <= 1


def test_intervals_over_rounds_are_of_factors() -> None:
    interval = over_rounds([1.0, 10.0, 100.0])
    assert interval.value == pytest.approx(10)
    assert interval.low * interval.high == pytest.approx(100)
    assert over_rounds([5.0]).high == float("inf")
    assert mean_interval([0.0, 0.0]).holds(0.0)


def test_blocks_see_that_samples_depend_on_each_other() -> None:
    rng, count = np.random.default_rng(3), 20_000
    walk = np.zeros(count)
    for i in range(1, count):
        walk[i] = 0.99 * walk[i - 1] + rng.normal()
    blocks = of_blocks(walk, lambda values: float(values.mean()))
    assert blocks.half > 4 * mean_interval(walk).half
    assert blocks.holds(0.0)


def test_the_warm_up_is_found_and_drift_is_seen() -> None:
    rng = np.random.default_rng(5)
    steady = rng.normal(10, 1, 2000)
    warming = np.concatenate([np.linspace(60, 10, 300), steady])
    assert 200 <= steady_state(warming).num_dropped <= 500
    assert steady_state(warming).is_steady
    assert steady_state(steady).is_steady
    assert not steady_state(np.linspace(10, 30, 2000)).is_steady
    assert not steady_state(steady[:2]).is_steady
