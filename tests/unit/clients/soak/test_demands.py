from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from clients.soak.demands import Report


def test_report_is_met_when_every_demand_is() -> None:
    report = Report(scenario="mixed", options={})
    report.demand("lost", 0, limit=0)
    report.demand("goodput", 0.9, limit=0.9, at_least=True)
    assert report.met
    report.demand("recovery", 5.1, limit=5.0, unit="s")
    assert not report.met
    report = Report(scenario="mixed", options={})
    report.demand("goodput", 0.89, limit=0.9, at_least=True)
    assert not report.met


def test_report_prints_and_saves_what_was_measured(tmp_path: Path) -> None:
    report = Report(scenario="fuzz", options={"seed": 7})
    report.demand("improper", 3, limit=0)
    report.figures["answers"] = {"sampler": {"OK": 5}}
    target = io.StringIO()
    report.print(Console(file=target, width=120))
    assert "improper" in target.getvalue()
    assert "missed" in target.getvalue()
    assert "sampler OK 5" in target.getvalue()
    saved = report.save(tmp_path)
    assert saved.name.startswith("soak-fuzz-")
    content = json.loads(saved.read_text())
    assert content["demands"] == [
        {"title": "improper", "measured": 3, "limit": 0, "unit": "", "at_least": False, "met": False}
    ]
    assert content["options"] == {"seed": 7}
    assert content["command"].startswith("python -m clients.soak")
