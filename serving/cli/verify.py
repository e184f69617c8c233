"""The verb `verify`: an exported model against its certificate, on this machine, without torch or Triton."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.table import Table

from ganvas_core.cli import OPTIONS, Cli
from ganvas_core.names import DEFAULT_REPOSITORY
from serving.cli.models import table_console
from serving.repository.reader import Repository, read_repository

__all__ = ["VerifyOptions", "verify"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class VerifyOptions:
    """Options of `verify`."""

    name: Annotated[str, Cli(positional=True)]
    """A model of the repository."""
    version: Annotated[int | None, Field(ge=1), Cli(env="", shown_default="newest")] = None
    """Model version."""
    repository: Path = DEFAULT_REPOSITORY
    """Model repository folder."""


def verify(options: VerifyOptions) -> int:
    """Check an exported model against its certificate: file hashes, golden seeds, noise, batches, configurations.

    Example: ganvas verify digits-gan
    """
    found = read_repository(options.repository)
    if rejected := _rejection(found, options.name, options.version):
        print(f"verify: files: {rejected}", file=sys.stderr)
        return 1
    version = found.find(options.name, options.version)

    # ONNX Runtime takes a while to import, which --help need not wait for.
    from serving.repository.checks import CheckError, checks

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
    for failure in failures:
        print(f"verify: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _rejection(repository: Repository, name: str, version: int | None) -> str | None:
    """Why the wanted version is rejected. Without a version it is the newest, even if an older one is valid."""
    rejected = {entry.version: entry.reason for entry in repository.rejected if entry.name == name}
    sound = [entry.version for entry in repository.versions if entry.name == name]
    return rejected.get(max([*rejected, *sound], default=0) if version is None else version)
