from __future__ import annotations

import pytest

from clients.bench.load import Call, LoadJob, LoadReport
from clients.bench.targets import Target
from clients.soak.demands import Report
from clients.soak.overload import OverloadResult, Rate, judge, recovery_s


def load(*calls: tuple[float, float, str]) -> LoadReport:
    job = LoadJob(target=Target(kind="service", model="dcgan64"), kind="open", rate=1.0, seconds=1.0)
    return LoadReport(job=job, start_s=0.0, calls=[Call(*call) for call in calls], cpu_shares=[0.1])


QUICK = [(10 + i / 20, 4.0, "OK") for i in range(40)]


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        pytest.param(QUICK, 0.004, id="at once"),
        pytest.param([(10 + i / 20, 900.0, "OK") for i in range(8)] + QUICK[8:], 0.404, id="slow for a while"),
        pytest.param([(10.0, 4.0, "UNAVAILABLE"), *QUICK[1:]], 0.054, id="failed once"),
        pytest.param([(10 + i / 20, 900.0, "OK") for i in range(40)], float("inf"), id="never"),
        pytest.param([(9.0, 900.0, "OK"), *QUICK], 0.004, id="slow before the end"),
    ],
)
def test_recovery_is_the_first_of_a_row_of_quick_calls(probes: list[tuple[float, float, str]], expected: float) -> None:
    assert recovery_s(load(*probes), end_s=10.0, bound_ms=50.0) == pytest.approx(expected)


def test_demands_are_missed_when_goodput_collapses_and_answers_are_wrong() -> None:
    result = OverloadResult(
        open_loop={3.0: load((0.0, 10.0, "OK"), (0.1, 80.0, "RESOURCE_EXHAUSTED"), (0.2, 9.0, "INTERNAL"))},
        ratios={"0.5 times": 0.5, "3 times": 0.4},
        alone=[load((0.0, 5.0, "OK"))],
        beside={"beside 1 bulk stream": load((0.0, 16.0, "OK"))},
        recovery_s={"3 times": 0.2},
        memory_mib={"1 times": 300.0, "3 times": 310.0},
    )
    report = Report(scenario="overload", options={})
    judge(result, report)
    missed = [demand.title for demand in report.demands if not demand.met]
    assert missed == [
        "goodput of what it can do beside the generator, 3 times",
        "one image p99, beside 1 bulk stream ÷ alone",
        "refusals, p99",
        "calls that ended otherwise: ['INTERNAL']",
        "loads whose first refusal has no hint",
    ]


def test_a_load_alone_is_judged_by_how_its_calls_end() -> None:
    refused = load((0.0, 10.0, "OK"), (0.1, 8.0, "RESOURCE_EXHAUSTED"), (0.2, 9.0, "DEADLINE_EXCEEDED"))
    refused.reasons = {"RESOURCE_EXHAUSTED": "too much. Retry in 80 ms."}
    report = Report(scenario="overload", options={})
    judge(OverloadResult(open_loop={3.0: refused}, ratios={"3 times": 1.0}), report)
    assert report.met


def test_goodput_is_held_against_what_the_generator_leaves() -> None:
    rate = Rate(images_per_s=270.0, generator=0.5)
    capacities = Rate(images_per_s=380.0, generator=0.0), Rate(images_per_s=420.0, generator=0.2)
    assert rate.against(*capacities) == pytest.approx(270 / 400)
    assert rate.against(*capacities, cores=2) == pytest.approx(270 / 400 * 1.9 / 1.5)
    # With cores enough the generator does not matter.
    assert rate.against(*capacities, cores=1000) == pytest.approx(270 / 400, rel=1e-3)
