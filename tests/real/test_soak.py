"""Short runs of the scenarios that benchmarks/README.md describes; every demand must be met."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.extent import ALL

pytestmark = [pytest.mark.triton, pytest.mark.slow]


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
    # How soon a part is back depends on what else the machine does: told, not asserted.
    print({f"{kill['what']} at {kill['at_s']} s": max(kill["recovery_s"].values()) for kill in kills})
    missed = [title for title in report["missed"] if not title.startswith("slowest recovery")]
    assert missed == [], report["figures"]["failures"]
