"""The verb `verify`: the proofs of an exported model again, on this machine, without torch or Triton.

What needs PyTorch, parity with a checkpoint, the export stage does in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ganvas_core.cli import OPTIONS, Cli
from ganvas_core.names import DEFAULT_REPOSITORY
from ganvas_core.tls_options import Address, CallerOptions
from serving.cli.models import table_console
from serving.repository.reader import ModelVersion, Repository, read_repository

__all__ = ["VerifyOptions", "verify"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class VerifyOptions(CallerOptions):
    """Options of `verify`."""

    name: Annotated[str, Cli(positional=True)]
    """A model of the repository."""
    version: Annotated[int | None, Field(ge=1), Cli(env="", shown_default="newest")] = None
    """Model version."""
    repository: Path = DEFAULT_REPOSITORY
    """Model repository folder."""
    checkpoint: Annotated[Path | None, Cli(env="")] = None
    """Prove parity with this checkpoint of ./ganvas train again; takes PyTorch."""
    url: Annotated[Address | None, Cli(env="")] = None
    """HOST:PORT of a running server to verify instead of the repository."""
    as_json: Annotated[bool, Cli(flag="--json", env="")] = False
    """Print JSON."""

    def __post_init__(self) -> None:
        if self.url is not None and self.checkpoint is not None:
            raise ValueError("--checkpoint and --url exclude each other: parity needs the files. Leave one out.")


@dataclass(frozen=True)
class _Result:
    check: str
    passed: bool
    detail: str


def verify(options: VerifyOptions) -> int:
    """Prove an exported model again: file hashes, golden seeds, noise, batches, configurations; 1 if a proof fails.

    Example: ./ganvas verify digits-gan --checkpoint out/digits-gan/checkpoint

    Example: ./ganvas verify digits-gan --url 127.0.0.1:50051
    """
    with _progress() as show:
        results = list(_verify_server(options, show) if options.url else _verify_repository(options, show))
    failures = [result for result in results if not result.passed]
    if options.as_json:
        where = {"url": options.url} if options.url else {"repository": str(options.repository)}
        report = {"name": options.name, "version": options.version, **where, "passed": not failures}
        print(json.dumps(report | {"checks": [asdict(result) for result in results]}, indent=2))
        return 1 if failures else 0
    at = f" at {options.url}" if options.url else ""
    version = f" version {options.version}" if options.version else ""
    table = Table("", "check", "result", title=f"{options.name}{version}{at}")
    for result in results:
        table.add_row("[green]✓[/]" if result.passed else "[red]✗[/]", result.check, result.detail)
    table_console().print(table)
    for result in failures:
        print(f"verify: {result.check}: {result.detail}", file=sys.stderr)
    return 1 if failures else 0


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says on stderr what is being checked, if that is a terminal; gives what is called with each check."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("checking the files …", total=None)
        yield lambda check: bars.update(task, description=f"checking {check} …")


def _verify_repository(options: VerifyOptions, show: Callable[[str], None]) -> Iterator[_Result]:
    found = read_repository(options.repository)
    if rejected := _rejection(found, options.name, options.version):
        yield _Result("files", False, rejected)
        return
    version = found.find(options.name, options.version)
    yield _Result("files", True, f"match the certificate; {version.file_name} is {version.digest[:16]}…")

    # ONNX Runtime takes a while to import, which --help need not wait for.
    from serving.repository.checks import checks

    yield from _run(checks(version), show)
    if options.checkpoint is not None:
        show("parity with the checkpoint")
        yield from _parity(options, version)


def _verify_server(options: VerifyOptions, show: Callable[[str], None]) -> Iterator[_Result]:
    from serving.repository.checks import CheckError
    from serving.repository.remote import RemoteModel, remote_checks

    assert options.url is not None
    credentials = options.credentials()
    metadata = [] if options.api_key is None else [("authorization", f"Bearer {options.api_key}")]
    try:
        remote = RemoteModel(options.url, options.name, options.version, credentials=credentials, metadata=metadata)
    except CheckError as error:
        yield _Result("certificate", False, str(error))
        return
    yield from _run(remote_checks(remote), show)


def _run(checks: Iterator[tuple[str, Callable[[], str]]], show: Callable[[str], None]) -> Iterator[_Result]:
    from serving.repository.checks import CheckError

    for name, check in checks:
        show(name)
        try:
            yield _Result(name, True, check())
        except CheckError as error:
            yield _Result(name, False, str(error))


def _parity(options: VerifyOptions, version: ModelVersion) -> Iterator[_Result]:
    """Let the export stage prove parity, which takes PyTorch: it prints a JSON record a line."""
    command = [sys.executable, "-m", "export.reprove", str(options.checkpoint), str(version.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    for line in lines:
        yield _Result(**json.loads(line))
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"the export stage ended with {done.returncode}"])[-1]
        yield _Result("parity", False, last.removeprefix("export: "))


def _rejection(repository: Repository, name: str, version: int | None) -> str | None:
    """Why the wanted version is rejected. Without a version it is the newest, even if an older one is valid."""
    rejected = {entry.version: entry.reason for entry in repository.rejected if entry.name == name}
    sound = [entry.version for entry in repository.versions if entry.name == name]
    return rejected.get(max([*rejected, *sound], default=0) if version is None else version)
