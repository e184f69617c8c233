"""What `ganvas serve` says of itself: the settings at the start, one block once it is ready, and the ready file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from serving.config import ServeConfig

__all__ = ["Ready", "print_ready", "print_settings", "write_ready_file"]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Where everything is, once it answers."""

    service: str
    """host:port of ganvas.v1.Sampler."""
    triton_grpc: str
    triton_http: str
    triton_metrics: str
    pid: int
    service_pid: int
    triton_pid: int
    models: Sequence[dict[str, Any]]
    rejected: Sequence[dict[str, Any]]


def print_settings(console: Console, config: ServeConfig) -> None:
    """The resolved configuration, one setting a line."""
    for name, value in config.describe().items():
        console.print(f"  {name} = {'' if value is None else value}", markup=False, highlight=False, soft_wrap=True)


def print_ready(console: Console, ready: Ready) -> None:
    """The one block that says: it works, and here."""
    table = Table.grid(padding=(0, 2))
    table.add_row("service", f"[bold]{escape(ready.service)}[/]  gRPC, ganvas.v1.Sampler")
    table.add_row("Triton", f"{escape(ready.triton_grpc)}  gRPC, KServe v2")
    table.add_row("", f"http://{escape(ready.triton_http)}  HTTP, KServe v2")
    table.add_row("", f"http://{escape(ready.triton_metrics)}/metrics  Prometheus")
    for model in ready.models:
        table.add_row("model", escape(_model_line(model)))
    for entry in ready.rejected:
        table.add_row("[red]rejected[/]", escape(f"{entry['name']} version {entry['version']}: {entry['reason']}"))
    table.add_row("stop", "Ctrl-C, or SIGTERM: accepted work finishes first")
    console.print(Panel(table, title="Ganvas is ready", expand=False))


def write_ready_file(path: Path, ready: Ready) -> None:
    """Write it as JSON: a reader sees all of it or no file.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    text = json.dumps(vars(ready), indent=2) + "\n"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _model_line(model: dict[str, Any]) -> str:
    height, width, channels = model["shape"]
    labels = f"{model['num_labels']} labels" if model["num_labels"] else "unconditional"
    return (
        f"{model['name']} {model['version']}  {model['family']} {height}x{width}x{channels}, {labels}, "
        f"{model['precision']}, golden seeds {model['golden']}"
    )
