"""The verb `doctor`: whether `./ganvas serve` would work here, and the remedy for everything that is missing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ganvas_core.cli import OPTIONS, Cli
from serving.doctor import machine
from serving.doctor.machine import Finding
from serving.doctor.trial import try_triton
from serving.options import NetworkOptions
from serving.triton.errors import TritonError
from serving.triton.install import TritonInstall

__all__ = ["DoctorOptions", "doctor", "examine"]

MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "missing": "[red]✗[/]"}


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class DoctorOptions(NetworkOptions):
    """Options of `doctor`: those of serve that it checks, and its own."""

    start: Annotated[bool, Cli(env="")] = True
    """Start Triton with a tiny model, run it once, and stop it."""
    as_json: Annotated[bool, Cli(flag="--json", env="")] = False
    """Print JSON."""


def doctor(options: DoctorOptions) -> int:
    """Report what this machine has and lacks for serving, with the exact remedies; exit code 1 if something is missing.

    Example: ./ganvas doctor --port 50051
    """
    with _progress(options.as_json):
        findings = examine(options.repository, options.addresses(), start=options.start)
    fit = all(finding.status != "missing" for finding in findings)
    if options.as_json:
        report = {"serve_would_work": fit, "findings": [dataclasses.asdict(finding) for finding in findings]}
        print(json.dumps(report, indent=2))
        return 0 if fit else 1
    table = Table("", Column("what", no_wrap=True), Column("found", overflow="fold"))
    for finding in findings:
        remedy = f"\n[bold]remedy:[/] {escape(finding.remedy)}" if finding.remedy else ""
        table.add_row(MARKS[finding.status], finding.name, escape(finding.detail) + remedy)
    console = Console()
    console.print(table)
    console.print(
        "This machine can run ./ganvas serve."
        if fit
        else "[red]This machine cannot run ./ganvas serve:[/] see ✗ above."
    )
    return 0 if fit else 1


def examine(repository: Path, ports: dict[str, tuple[str, int]], *, start: bool) -> list[Finding]:
    """Every finding, in the order in which to fix them.

    Args:
        ports: option of `./ganvas serve` to address and port.
        start: try Triton for real, if nothing is missing that it needs.
    """
    install, triton = machine.find_tritonserver()
    needed = [machine.find_python(), machine.find_shared_python(install), triton, machine.find_gateway()]
    needed.append(machine.find_onnxruntime())
    needed.append(machine.find_shared_memory())
    if start and install is not None and all(finding.status != "missing" for finding in needed):
        needed.append(_try(install))
    return [
        *needed,
        machine.find_gpu(),
        *machine.find_ports(ports),
        machine.find_models(repository),
        machine.find_disk(repository),
        machine.find_memory(),
        machine.find_edge_tools(),
    ]


def _try(install: TritonInstall) -> Finding:
    try:
        trial = try_triton(install)
    except TritonError as error:
        remedy = (
            "python -m pip install --force-reinstall nvidia-pytriton onnxruntime-gpu, if the log shows no other cause"
        )
        return Finding(name="Triton starts", status="missing", detail=str(error), remedy=remedy)
    detail = f"Triton {trial.version} loaded a model and answered after {trial.seconds:.1f} s"
    return Finding(name="Triton starts", status="ok", detail=detail)


@contextmanager
def _progress(quiet: bool) -> Iterator[None]:
    """A spinner on stderr while Triton is tried."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status("looking, and starting Triton once"):
        yield
