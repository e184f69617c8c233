"""Tuning: what a configuration becomes, what a curve is worth, and the way from one setting to the best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2 as triton

from clients.tune import measure
from clients.tune.evidence import EVIDENCE, PLOT, write_evidence
from clients.tune.load import Point
from clients.tune.measure import Curve, Measuring, Served, served_within
from clients.tune.search import descend, is_better
from clients.tune.setting import Setting, read_setting, space, with_setting

CONFIG = """
name: "gan"
max_batch_size: 16
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { }
parameters { key: "instances" value { string_value: "auto" } }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""
START = Setting(instances=4, threads=1, batch=16)
INFINITE = float("inf")


def curve(setting: Setting, *points: tuple[float, float], capacity: float = 100.0) -> Curve:
    found = [Point(rate=rate, p50_ms=p99_ms / 2, p99_ms=p99_ms) for rate, p99_ms in points]
    return Curve(setting=setting, capacity=capacity, points=found)


@pytest.mark.parametrize(
    "setting", [Setting(instances=2, threads=3, batch=8, delay_us=1000), Setting(batch=16), START], ids=str
)
def test_setting_is_read_as_it_was_written_and_the_rest_stays(setting: Setting) -> None:
    text = with_setting(CONFIG, setting)
    assert read_setting(text, cores=64) == setting
    config = text_format.Parse(text, triton.ModelConfig())
    assert (config.name, config.max_batch_size) == ("gan", 16)
    assert config.HasField("dynamic_batching")
    assert with_setting(text, setting) == text


def test_auto_is_read_as_what_serve_makes_of_it() -> None:
    assert read_setting(CONFIG, cores=4) == START


def test_space_has_no_more_threads_than_cores_and_no_batch_beyond_the_largest() -> None:
    found = space(4, 16)
    assert len(set(found)) == len(found)
    assert all(setting.instances * setting.threads <= 4 for setting in found)
    assert {setting.batch for setting in found} == {4, 8, 16}
    assert {setting.batch for setting in space(1, 4)} == {4}
    assert {setting.batch for setting in space(1, 2)} == {2}


@pytest.mark.parametrize(
    ("points", "rate"),
    [
        ([(10, 5), (20, 8)], 20),
        ([(10, 5), (20, 15)], 15),  # halfway from 5 ms to 15 ms
        ([(20, 15), (10, 5)], 15),
        ([(10, 5), (20, INFINITE)], 10),
        ([(10, 12), (20, 8)], 0),  # one point within the bound beyond one that is not is luck
        ([], 0),
    ],
)
def test_rate_within_the_bound_is_where_the_curve_crosses_it(points: list[tuple[float, float]], rate: float) -> None:
    assert served_within(curve(START, *points).points, 10.0) == pytest.approx(rate)


@pytest.mark.parametrize(("other", "is_measured"), [(84.0, False), (86.0, True)])
def test_a_setting_that_takes_far_less_is_given_up(
    other: float, is_measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "capacity", lambda address, name, **_: {"best": 100.0, "other": other}[address])
    monkeypatch.setattr(measure, "open_loop", lambda address, name, *, rate, **_: Point(rate=rate, p50_ms=1, p99_ms=1))
    measuring = Measuring(repository=Path(), name="gan", slo_p99_ms=10, seconds=1, labelled=False)
    served = [Served(setting=START, address="best"), Served(setting=replace(START, batch=8), address="other")]
    curves = measuring.curves(served, (0.5, 1.0), least=0.85)
    assert [[point.rate for point in curve.points] for curve in curves] == (
        [[50.0, 100.0], [0.5 * other, other]] if is_measured else [[], []]
    )
    assert not is_better(curves[1], curves[0], slo_p99_ms=10)


def test_better_is_clearly_more_within_the_bound_or_where_nothing_is_within_it_at_all() -> None:
    before = curve(START, (100, 5))
    assert not is_better(curve(START, (104, 5)), before, 10.0)
    assert is_better(curve(START, (106, 5)), before, 10.0)
    assert not is_better(curve(START, (106, 50), capacity=900), before, 10.0)
    assert is_better(curve(START, (50, 50), capacity=900), curve(START, (50, 50)), 10.0)


def test_search_finds_the_best_of_separate_axes_in_a_part_of_the_comparisons() -> None:
    settings = space(4, 16)
    truth = Setting(instances=2, threads=2, batch=8, delay_us=1000)
    asked = []

    def worth(setting: Setting) -> float:
        near = [setting.instances == 2, setting.threads == 2, setting.batch == 8, setting.delay_us == 1000]
        return 100.0 * (1 + sum(near))

    def compare(best: Setting, challenger: Setting) -> tuple[Curve, Curve] | None:
        asked.append(challenger)
        if challenger.threads == 4:
            return None
        return curve(best, (worth(best), 5)), curve(challenger, (worth(challenger), 5))

    assert descend(settings, START, compare, 10.0) == truth
    assert len(asked) < len(settings) / 4


def test_search_keeps_the_start_where_nothing_is_better() -> None:
    same = lambda best, other: (curve(best, (100, 5)), curve(other, (103, 5)))  # noqa: E731
    assert descend(space(4, 16), START, same, 10.0) == START


def test_evidence_has_every_point_and_a_plot(tmp_path: Path) -> None:
    before = curve(START, (10, 5), (20, INFINITE))
    winner = curve(replace(START, batch=8), (10, 4), (20, 8))
    write_evidence(
        tmp_path, about={"machine": "here"}, before=before, winner=winner, tried=[before, winner], slo_p99_ms=10.0
    )
    found = json.loads((tmp_path / EVIDENCE).read_text())
    assert found["machine"] == "here"
    assert found["winner"]["rate_within_slo"] == 20
    assert found["winner"]["setting"]["batch"] == 8
    assert found["before"]["points"][1]["p99_ms"] is None
    with Image.open(tmp_path / PLOT) as plot:
        assert plot.width > 500
