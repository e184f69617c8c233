"""The verb `models`: what the model repository holds, and what of it would be rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from ganvas_core.cli import OPTIONS, Cli
from ganvas_core.names import DEFAULT_REPOSITORY
from serving.repository.reader import Repository, read_repository

__all__ = ["ModelsOptions", "describe", "models", "table_console"]

COLUMNS = ("name", "version", "family", "image", "labels", "precision", "size", "digest", "created", "status")
WIDTH_WITHOUT_TERMINAL = 160


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class ModelsOptions:
    """Options of `models`."""

    repository: Path = DEFAULT_REPOSITORY
    """Model repository folder."""
    config_name: Annotated[str | None, Cli(shown_default="config.pbtxt")] = None
    """Configuration whose file and precision to show, as in serve."""
    as_json: Annotated[bool, Cli(flag="--json", env="")] = False
    """Print JSON."""


def models(options: ModelsOptions) -> None:
    """List the models of the repository, every version, with the reason where one would be rejected.

    Example: ganvas models --repository model_repository
    """
    rows = describe(read_repository(options.repository, options.config_name))
    if options.as_json:
        print(json.dumps(rows, indent=2))
        return
    console = table_console()
    table = Table(*COLUMNS)
    for row in rows:
        if row["status"] == "rejected":
            table.add_row(row["name"], str(row["version"]), *[""] * (len(COLUMNS) - 3), "[red]rejected[/]")
            continue
        table.add_row(
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
        )
    console.print(table)
    for row in rows:
        if row["status"] == "rejected":
            console.print(f"{row['name']} version {row['version']} is rejected: {row['reason']}", markup=False)


def describe(repository: Repository) -> list[dict[str, Any]]:
    """One record a version, rejected ones with their reason, by name and version."""
    rows: list[dict[str, Any]] = [
        {
            "name": version.name,
            "version": version.version,
            "status": "ok",
            "family": version.certificate.family,
            "height": version.certificate.height,
            "width": version.certificate.width,
            "channels": version.certificate.channels,
            "latent_shape": list(version.certificate.latent_shape),
            "labels": list(version.certificate.labels),
            "precision": version.precision,
            "file": version.file_name,
            "num_bytes": version.served.num_bytes,
            "digest": version.digest,
            "created": version.certificate.created,
            "triton_models": [part.name for part in version.parts()],
        }
        for version in repository.versions
    ]
    rows += [
        {"name": entry.name, "version": entry.version, "status": "rejected", "reason": entry.reason}
        for entry in repository.rejected
    ]
    return sorted(rows, key=lambda row: (row["name"], row["version"]))


def table_console() -> Console:
    """As wide as the terminal, or 160 columns without one."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)
