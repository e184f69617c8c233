"""What a run must show, what it measured, and the report of both."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clients.bench.machine import processor, report_stem, versions

__all__ = ["Demand", "Report"]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """One figure and its bound."""

    title: str
    measured: float
    limit: float
    unit: str = ""
    at_least: bool = False
    """Otherwise: at most."""

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(kw_only=True)
class Report:
    """Demands and other figures of one scenario."""

    scenario: str
    options: dict[str, Any]
    demands: list[Demand] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """Anything else worth keeping, as JSON can hold it."""

    @property
    def met(self) -> bool:
        return all(demand.met for demand in self.demands)

    def demand(self, title: str, measured: float, *, limit: float, unit: str = "", at_least: bool = False) -> None:
        self.demands.append(Demand(title=title, measured=measured, limit=limit, unit=unit, at_least=at_least))

    def print(self, console: Console) -> None:
        """A line for each demand; of the other figures, those that are numbers or short text."""
        table = Table(f"{self.scenario}: demand", "measured", "bound", "")
        for demand in self.demands:
            sign = "≥" if demand.at_least else "≤"
            verdict = "met" if demand.met else "[red]missed[/]"
            unit = f" {demand.unit}" if demand.unit else ""
            table.add_row(demand.title, f"{demand.measured:.4g}{unit}", f"{sign} {demand.limit:.4g}{unit}", verdict)
        others = Table("also", "")
        for name, value in self.figures.items():
            if len(shown := _short(value)) <= 160:
                others.add_row(name, shown)
        console.print(table, others)

    def save(self, folder: Path) -> Path:
        """Write soak-SCENARIO-HARDWARE-DATE.json; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{report_stem(f'soak-{self.scenario}')}.json"
        content = {
            "scenario": self.scenario,
            "command": shlex.join(["python", "-m", "clients.soak", *sys.argv[1:]]),
            "processor": processor(),
            "num_cores": os.cpu_count(),
            "versions": versions(),
            "options": self.options,
            "demands": [vars(demand) | {"met": demand.met} for demand in self.demands],
            "figures": self.figures,
        }
        path.write_text(json.dumps(content, indent=1, default=str) + "\n")
        return path


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(entry)}" for key, entry in value.items())
    return str(value)
