"""The charts of a report: one colour for a target, and its loads told apart otherwise."""

from __future__ import annotations

import dataclasses
import re
from typing import get_args

from clients.bench.options import TargetName
from clients.bench.plan import Load
from clients.bench.report.charts import COLOR_OF, cost_chart, curve_charts, distribution_charts
from clients.bench.result import Row, SubjectResult
from tests.unit.clients.bench.test_result import result

NEUTRAL = {"#7b828c"}
"""Of axes and of bare ONNX Runtime."""


def subject_of(*targets: str) -> SubjectResult:
    (told,) = result(num_rounds=1).subjects
    hot, served = told.rows[0], told.rows[1]
    told.rows = [hot]
    for name in targets:
        for load in (
            Load(key=f"{name}, 1 at even distances", target=name, kind="paced"),
            *(Load(key=f"{name}, {n} callers of 1", target=name, kind="closed", concurrency=n) for n in (1, 4)),
            *(
                Load(key=f"{name}, {n} callers of 16", target=name, kind="closed", concurrency=n, images=16)
                for n in (1, 4)
            ),
            *(Load(key=f"{name}, Poisson {rate}/s", target=name, kind="open", rate=rate) for rate in (10, 20)),
        ):
            told.rows.append(Row(load=load, rounds=served.rounds, uses=served.uses))
    return told


def colors(svg: str) -> set[str]:
    return set(re.findall(r"stroke: (#[0-9a-f]{6})", svg)) - NEUTRAL


def test_every_target_has_a_colour_of_its_own() -> None:
    assert set(COLOR_OF) == {*get_args(TargetName), "kserve", "http"}
    assert len(set(COLOR_OF.values())) == len(COLOR_OF)


def test_a_target_has_one_colour_in_every_chart() -> None:
    both = {COLOR_OF["direct"], COLOR_OF["service"]}
    charts = curve_charts(subject_of("service", "direct")) + distribution_charts(subject_of("service", "direct"))
    assert len(charts) == 4
    for chart in charts:
        assert colors(chart) == both
    (alone,) = {frozenset(colors(chart)) for chart in distribution_charts(subject_of("service"))}
    assert alone == {COLOR_OF["service"]}
    series = [dataclasses.replace(subject_of("service"), model=f"m{i}") for i in range(3)]
    cost = cost_chart(series)
    assert cost is not None
    assert colors(cost) == {COLOR_OF["service"]}


def test_distributions_show_every_target_before_a_second_load_of_one() -> None:
    _, cumulative = distribution_charts(subject_of("direct", "service", "mosec"))
    named = re.findall(r">((?:direct|service|mosec), [^<]+)</text>", cumulative)
    assert [name for name in named if "even distances" in name or "Poisson 10/s" in name] == named
    assert {name.partition(",")[0] for name in named} == {"direct", "service", "mosec"}


def test_axes_have_units() -> None:
    curves, *_ = curve_charts(subject_of("direct"))
    assert ">images/s</text>" in curves
    assert ">latency, ms</text>" in curves
    for chart in distribution_charts(subject_of("direct")):
        assert ">latency, ms</text>" in chart
