"""Short runs of the scenarios that benchmarks/README.md describes; what needs no idle machine must be met."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.extent import ALL

pytestmark = [pytest.mark.triton, pytest.mark.slow]

BACK_S = 10.0


def soak(scenario: str, repository: Path, out: Path, *arguments: str) -> dict[str, Any]:
    """Run a scenario; returns its report, with the demands that it missed under "missed"."""
    command = [sys.executable, "-m", "clients.soak", scenario, "--repository", str(repository), "--out", str(out)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=os.environ | {"COLUMNS": "150"})
    reports = list(out.glob(f"soak-{scenario}-*.json"))
    assert reports, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(reports[0].read_text())
    report["missed"] = [demand["title"] for demand in report["demands"] if not demand["met"]]
    assert (done.returncode == 0) == (not report["missed"]), done.stderr
    return report


def test_a_thousand_malformed_requests_each_get_a_proper_status(model_repository: Path, tmp_path: Path) -> None:
    report = soak("fuzz", model_repository, tmp_path, "--count=1000")
    assert report["missed"] == [], report["figures"]["improper"]
    assert report["figures"]["requests"] == 1000


@pytest.mark.skipif(not ALL, reason="GANVAS_TEST_ALL=1 runs it; test_versions.py swaps twenty versions in any case")
def test_versions_go_live_under_load_without_a_failed_call(model_repository: Path, tmp_path: Path) -> None:
    report = soak("swaps", model_repository, tmp_path, "--swaps=3")
    assert report["missed"] == [], report["figures"]


@pytest.mark.alone
def test_nothing_is_lost_or_wrong_or_left_while_parts_are_killed(model_repository: Path, tmp_path: Path) -> None:
    report = soak("mixed", model_repository, tmp_path, "--minutes=2", "--kills=8", "--stops=1")
    kills = report["figures"]["kills"]
    assert len(kills) == 8
    missed = [title for title in report["missed"] if not title.startswith("slowest recovery")]
    assert missed == [], report["figures"]["failures"]
    # The script's bound of 5 s is for a machine that does nothing else: a slow probe looks like a part that is away.
    killed = {f"{kill['what']} at {kill['at_s']} s": max(kill["recovery_s"].values()) for kill in kills}
    assert statistics.median(killed.values()) <= BACK_S, killed


@pytest.mark.alone
def test_load_beyond_what_can_be_done_is_refused_with_a_hint_and_nothing_is_left(
    model_repository: Path, tmp_path: Path
) -> None:
    # With a short wait little load is too much. Nothing that takes a clock is judged here.
    load = ["--model=tiny-gan", "--images=64", "--seconds=2", "--steps=open", "--factors=3", "--serve=--max-wait-s=0.2"]
    report = soak("overload", model_repository, tmp_path, *load)
    met = {demand["title"] for demand in report["demands"] if demand["met"]}
    assert {"calls that ended otherwise", "loads whose first refusal has no hint", "left behind"} <= met
    endings = report["figures"]["open loop, 3 times"]["endings"]
    assert min(endings["OK"], endings["RESOURCE_EXHAUSTED"]) > 0


def test_a_long_stream_is_right_and_idle_and_unread_ones_leave_others_served(
    model_repository: Path, tmp_path: Path
) -> None:
    crowd = ["--images=20000", "--connections=50", "--unread=32", "--seconds=1"]
    report = soak("streams", model_repository, tmp_path, *crowd)
    # In two seconds neither latencies nor memory settle: the long run shows those.
    missed = [title for title in report["missed"] if "p99" not in title and "memory" not in title]
    # What a busy machine's generator never sent says nothing of the server.
    for title in [title for title in missed if title.startswith("failed calls ")]:
        endings = report["figures"][title.replace("failed calls", "one image", 1)]["endings"]
        if endings.keys() == {"OK", "NOT_BEGUN"}:
            missed.remove(title)
    assert missed == [], report["figures"]
    assert report["figures"]["connections made"] == 50
