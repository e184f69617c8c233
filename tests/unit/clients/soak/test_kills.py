from __future__ import annotations

import random

import pytest

from clients.soak.kills import PARTS, Probed, plan_kills, recovery_s


def probes(*outcomes: tuple[float, float, bool]) -> list[Probed]:
    return [Probed(begun_s=begun, ended_s=ended, ok=ok) for begun, ended, ok in outcomes]


def test_plan_kills_every_part_in_turn_within_the_time() -> None:
    plan = plan_kills(20, seconds=600, stops=4, rng=random.Random(3))
    assert [sum(kill.part == part for kill in plan) for part in PARTS] == [5, 5, 5, 5]
    assert sum(kill.stop for kill in plan) == 4
    moments = [kill.after_s for kill in plan]
    assert moments == sorted(moments)
    assert moments[0] > 0
    assert moments[-1] < 600


def test_plan_is_the_same_for_the_same_seed() -> None:
    first, again = (plan_kills(8, seconds=120, stops=2, rng=random.Random(5)) for _ in range(2))
    assert first == again
    assert first != plan_kills(8, seconds=120, stops=2, rng=random.Random(6))


@pytest.mark.parametrize(
    ("probed", "expected"),
    [
        pytest.param(probes((9, 9.1, True), (11, 11.1, True)), 0.0, id="nothing failed"),
        pytest.param(probes((10.5, 10.6, False), (11, 11.2, True)), 1.2, id="one failed"),
        pytest.param(probes((9.9, 11.9, False), (10.2, 10.3, True), (12, 12.1, True)), 0.3, id="begun before the kill"),
        pytest.param(
            probes((10.5, 10.6, False), (11, 11.2, True), (12, 12.1, False), (13, 13.5, True)), 3.5, id="failed again"
        ),
        pytest.param(probes((10.5, 10.6, False), (19, 19.9, False)), 10.0, id="not back before the next kill"),
        pytest.param(probes((11, 11.1, True), (19.9, 20.1, False)), 0.0, id="broken by the next kill"),
        pytest.param(probes((9, 9.5, False), (11, 11.1, True)), 0.0, id="failed before the kill"),
        pytest.param(probes((11, 11.1, True), (20.5, 20.6, False)), 0.0, id="failed after the next kill"),
    ],
)
def test_recovery_is_the_first_success_after_the_last_failure(probed: list[Probed], expected: float) -> None:
    assert recovery_s(probed, killed_s=10.0, until_s=20.0) == pytest.approx(expected)


def test_part_that_never_comes_back_has_no_recovery_that_a_bound_could_allow() -> None:
    failures = probes(*((10 + i, 10.5 + i, False) for i in range(30)))
    assert recovery_s(failures, killed_s=10.0, until_s=100.0) == float("inf")
