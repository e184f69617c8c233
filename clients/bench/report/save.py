"""Writes a result: NAME.json, NAME.md and NAME.html, named by model, hardware (or a server's address) and date."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from clients.bench.machine import report_stem
from clients.bench.report.page import page_of
from clients.bench.report.tables import footnotes, sheets_of
from clients.bench.result import Result, save_result
from ganvas_core.cli import UsageError, UserError
from ganvas_core.files import write_atomic

__all__ = ["check_folder", "save_report"]


def save_report(result: Result, folder: Path) -> Path:
    """Returns the Markdown's path; the others lie beside it. A report that is there already stays."""
    models = [subject.model for subject in result.subjects]
    path = _free(folder / f"{report_stem(models[0] if len(models) == 1 else 'series', result.elsewhere)}.md")
    try:
        save_result(result, path.with_suffix(".json"))
        write_atomic(path.with_suffix(".html"), page_of(result).encode())
        write_atomic(path, _markdown(result).encode())
    except OSError as error:
        raise UserError(f"--out {folder}: {error.strerror}. The report is not complete there.") from None
    return path


def _free(path: Path) -> Path:
    """The path, or -2, -3, … of it: the report before a change is not to give way to the one after it."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(
        free
        for free in itertools.chain([path], others)
        if not any(free.with_suffix(suffix).exists() for suffix in (".json", ".html", ".md"))
    )


def check_folder(folder: Path) -> None:
    """Make the folder, and see that a file can be written there.

    Raises:
        UsageError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise UsageError(f"--out {folder} is a file. Give a folder.") from None
    except OSError as error:
        raise UsageError(f"--out {folder}: {error.strerror}. Give a folder that can be written.") from None


def _markdown(result: Result) -> str:
    told = result.environment
    versions = ", ".join(f"{name} {version}" for name, version in told["packages"].items())
    models = ", ".join(subject.model for subject in result.subjects)
    machine = f"{told['processor']}, {told['cores']} cores"
    if server := result.elsewhere:
        heading = f"# {models} at {server}"
        where = f"Measured from {machine}, with {versions}; the server is at {server}, its hardware is not known."
    else:
        heading = f"# {models} on {machine}"
        where = f"{versions}. The load generator shares the cores."
    parts = [heading, f"{result.date}. `{result.command}`. {where}"]
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
