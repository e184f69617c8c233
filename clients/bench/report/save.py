"""Writes a result: NAME.json, NAME.md and NAME.html, named by model, hardware and date."""

from __future__ import annotations

import os
from pathlib import Path

from clients.bench.machine import report_stem
from clients.bench.report.page import page_of
from clients.bench.report.tables import footnotes, sheets_of
from clients.bench.result import Result, save_result

__all__ = ["save_report"]


def save_report(result: Result, folder: Path) -> Path:
    """Returns the Markdown's path; the others lie beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    models = [subject.model for subject in result.subjects]
    stem = report_stem(models[0] if len(models) == 1 else "series")
    path = folder / f"{stem}.md"
    save_result(result, path.with_suffix(".json"))
    path.with_suffix(".html").write_text(page_of(result), encoding="utf-8")
    path.write_text(_markdown(result), encoding="utf-8")
    return path


def _markdown(result: Result) -> str:
    told = result.environment
    versions = ", ".join(f"{name} {version}" for name, version in told["packages"].items())
    parts = [
        f"# {', '.join(subject.model for subject in result.subjects)} on {told['processor']}, {os.cpu_count()} cores",
        f"{result.date}. `{result.command}`. {versions}. The load generator shares the cores.",
    ]
    for subject in result.subjects:
        shape = "" if subject.image is None else f", {'x'.join(map(str, subject.image))}"
        parts.append(f"## {subject.model}{shape}")
        for sheet in sheets_of(subject):
            rows = [sheet.header, ["---"] * len(sheet.header), *sheet.rows]
            table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
            parts += [f"### {sheet.title}", table, *([sheet.note] if sheet.note else [])]
        notes = footnotes(subject)
        if notes:
            parts.append("\n".join(f"- beware: {note}" for note in notes))
    return "\n\n".join(parts) + "\n"
