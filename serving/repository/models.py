"""`ganvas models`: what the model repository holds, and what of it would be rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from serving.repository.reader import ModelVersion, Repository, RepositoryError, read_repository

__all__ = ["describe", "models", "table_console"]

COLUMNS = ("name", "version", "family", "image_float", "labels", "precision", "size", "digest", "created", "status")
WIDTH_WITHOUT_TERMINAL = 160


def models(
    repository: Annotated[Path, typer.Option(help="Model repository folder.", envvar="GANVAS_REPOSITORY")] = Path(
        "model_repository"
    ),
    config_name: Annotated[
        str | None,
        typer.Option(
            help="Configuration whose file and precision count, as in serve.",
            envvar="GANVAS_CONFIG_NAME",
            show_default="config.pbtxt",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models of the repository, every version, with the reason where one would be rejected.

    Example: ganvas models --repository model_repository
    """
    try:
        found = read_repository(repository, config_name)
    except RepositoryError as error:
        typer.echo(f"models: {error}", err=True)
        raise typer.Exit(2) from None
    rows = describe(found)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    _print_table(rows)


def describe(repository: Repository) -> list[dict[str, Any]]:
    """One record a version, rejected ones with their reason, by name and version."""
    rows = [_row(version) for version in repository.versions]
    rows += [
        {"name": entry.name, "version": entry.version, "status": "rejected", "reason": entry.reason}
        for entry in repository.rejected
    ]
    return sorted(rows, key=lambda row: (row["name"], row["version"]))


def table_console() -> Console:
    """As wide as the terminal; wide enough not to break lines where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)


def _row(version: ModelVersion) -> dict[str, Any]:
    certificate = version.certificate
    return {
        "name": version.name,
        "version": version.version,
        "status": "ok",
        "family": certificate.family,
        "height": certificate.height,
        "width": certificate.width,
        "channels": certificate.channels,
        "latent_shape": list(certificate.latent_shape),
        "labels": list(certificate.labels),
        "precision": version.precision,
        "file": version.file_name,
        "num_bytes": version.served.num_bytes,
        "digest": version.digest,
        "created": certificate.created,
        "triton_models": [part.name for part in version.parts()],
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    console = table_console()
    table = Table(*COLUMNS)
    for row in rows:
        if row["status"] == "rejected":
            cells = [row["name"], str(row["version"]), *[""] * (len(COLUMNS) - 3), "[red]rejected[/]"]
        else:
            cells = _cells(row)
        table.add_row(*cells)
    console.print(table)
    for row in rows:
        if row["status"] == "rejected":
            console.print(f"{row['name']} version {row['version']} is rejected: {row['reason']}", markup=False)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        str(row["version"]),
        row["family"],
        f"{row['height']}x{row['width']}x{row['channels']}",
        str(len(row["labels"])) if row["labels"] else "none",
        row["precision"],
        f"{row['num_bytes'] / 1e6:.2f} MB",
        row["digest"][:12],
        row["created"],
        "[green]ok[/]",
    ]
