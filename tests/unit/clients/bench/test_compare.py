"""Which loads of two reports may be compared."""

from __future__ import annotations

import dataclasses

import pytest

from clients.bench.compare import compare_results
from clients.bench.plan import Load
from clients.bench.result import Result
from tests.unit.clients.bench.test_result import result

KEY = "service, Poisson at 0.9 of its best"


def result_at(rate: float, *, slower: float = 1.0, seed: int = 1) -> Result:
    """With an open loop whose rate is a share of what the target did in that run."""
    made = result(slower=slower, seed=seed)
    row = made.subjects[0].rows[-1]
    row.load = dataclasses.replace(row.load, key=KEY, rate=rate)
    return made


def test_open_loops_at_other_rates_get_no_verdict() -> None:
    found = compare_results(result_at(50.0), result_at(65.0, slower=1.3, seed=2))
    assert not any(entry.load == KEY for entry in found.differences)
    assert found.differences  # of the other loads
    said = f"tiny, {KEY}: not compared, since it ran at 50/s in A and at 65/s in B; --rate gives both the same"
    assert said in found.warnings


@pytest.mark.parametrize("rate", [50.0, 50.3])
def test_open_loops_at_the_same_rate_are_compared(rate: float) -> None:
    found = compare_results(result_at(50.0), result_at(rate, slower=1.3, seed=2))
    (p50,) = (entry for entry in found.differences if entry.load == KEY and entry.figure == "p50 ms")
    assert p50.is_real
    assert not any("not compared" in warning for warning in found.warnings)


def test_reports_of_nothing_but_open_loops_at_other_rates_have_no_difference() -> None:
    a, b = result_at(50.0), result_at(65.0)
    for made in (a, b):
        del made.subjects[0].rows[:-1]
    found = compare_results(a, b)
    assert found.differences == []
    assert len(found.warnings) == 1


def test_calls_at_even_distances_are_compared_whatever_the_distance() -> None:
    a, b = result(), result(seed=2)
    for made, rate in ((a, 40.0), (b, 45.0)):
        made.subjects[0].rows[-1].load = Load(
            key="service, 1 at even distances", target="service", kind="paced", rate=rate
        )
    assert any("even distances" in entry.load for entry in compare_results(a, b).differences)
