"""`ganvas verify`: an exported model against its certificate, on this machine, without torch or Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from serving.repository.models import table_console
from serving.repository.reader import ModelVersion, Repository, RepositoryError, read_repository

__all__ = ["verify"]


def verify(
    name: Annotated[str, typer.Argument(help="A model of the repository.")],
    version: Annotated[int | None, typer.Option(help="Model version.", show_default="newest")] = None,
    repository: Annotated[Path, typer.Option(help="Model repository folder.", envvar="GANVAS_REPOSITORY")] = Path(
        "model_repository"
    ),
) -> None:
    """Check an exported model against its certificate: file hashes, golden seeds, noise, batches, configurations.

    Example: ganvas verify digits-gan
    """
    try:
        found = read_repository(repository)
        if rejected := _rejection(found, name, version):
            typer.echo(f"verify: files: {rejected}", err=True)
            raise typer.Exit(1)
        entry = found.find(name, version)
    except RepositoryError as error:
        typer.echo(f"verify: {error}", err=True)
        raise typer.Exit(2) from None
    failures = _run_checks(entry)
    for failure in failures:
        typer.echo(f"verify: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


def _rejection(repository: Repository, name: str, version: int | None) -> str | None:
    """Why the wanted version must not be served. The newest that there is counts, even if an older one is sound."""
    rejected = {entry.version: entry.reason for entry in repository.rejected if entry.name == name}
    sound = [entry.version for entry in repository.versions if entry.name == name]
    return rejected.get(max([*rejected, *sound], default=0) if version is None else version)


def _run_checks(version: ModelVersion) -> list[str]:
    """Do every check, show each as a line of a table, and return those that failed."""
    from serving.repository.checks import (  # ONNX Runtime takes a while to import: --help need not wait for it
        CheckError,
        checks,
    )

    table = Table("", "check", "result", title=f"{version.name} version {version.version}")
    table.add_row("[green]✓[/]", "files", f"match the certificate; {version.file_name} is {version.digest[:16]}…")
    failures: list[str] = []
    for name, check in checks(version):
        try:
            table.add_row("[green]✓[/]", name, check())
        except CheckError as error:
            failures.append(f"{name}: {error}")
            table.add_row("[red]✗[/]", name, str(error))
    table_console().print(table)
    return failures
