"""What `./ganvas serve` prints when it starts and when it is ready, and the ready file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from ganvas_core.cli import UsageError, UserError, changed_options
from ganvas_core.files import locked, write_atomic
from serving.options import ServeOptions, address_of, is_loopback

__all__ = ["Ready", "ReadyFileError", "claimed_ready_file", "print_ready", "print_start", "write_ready_file"]


class ReadyFileError(UserError):
    """The ready file cannot be written, or belongs to another run."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Where everything is, once it answers."""

    service: str
    """host:port for clients: of the gateway, or without one of ganvas.v1.Sampler."""
    triton_grpc: str
    triton_http: str
    metrics: str
    """Of every part, for Prometheus."""
    pid: int
    service_pid: int
    """Of the first process of the service."""
    triton_pid: int
    gateway_pid: int | None
    """None: there is no gateway."""
    models: Sequence[dict[str, Any]]
    rejected: Sequence[dict[str, Any]]
    out: Sequence[dict[str, Any]] = ()
    """Pinned versions that cannot be served, with name, version and reason: their models have no default."""
    service_pids: Sequence[int] = ()
    """Of every process of the service."""
    studio: str | None = None
    """Address of the page and of images by HTTP; None: it was not asked for."""


def print_start(console: Console, options: ServeOptions, names: Sequence[str]) -> None:
    """What is about to start, on two lines, and the options that are not the defaults."""
    models = ", ".join(names)
    service, triton = (
        address_of(host, port) if port else f"a free port of {host}"
        for host, port in (options.addresses()["--port"], options.addresses()["--triton-grpc-port"])
    )
    lines = [
        f"Serving {models} from {options.repository}",
        f"Starting {'the gateway' if options.gateway else 'the service'} on {service} and Triton on {triton} …",
    ]
    if not is_loopback(options.host) and options.insecure:
        lines.append(f"--insecure: whoever reaches {options.host} may call this server or read along.")
    if changed := changed_options(options):
        lines.insert(1, f"with {' '.join(changed)}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_ready(console: Console, ready: Ready) -> None:
    """Where everything listens and which models are served."""
    table = Table.grid(padding=(0, 2))
    if ready.gateway_pid is None:
        table.add_row("service", f"[bold]{escape(ready.service)}[/]  gRPC, ganvas.v1.Sampler")
    else:
        table.add_row("clients", f"[bold]{escape(ready.service)}[/]  ganvas.v1.Sampler and KServe v2")
        table.add_row("", "by gRPC, gRPC-Web and HTTP, through the gateway")
    if ready.studio is not None:
        table.add_row("studio", f"[bold]{escape(ready.studio)}[/]  images by HTTP, and a page")
    table.add_row("Triton", f"{escape(ready.triton_grpc)}  gRPC, KServe v2")
    table.add_row("", f"http://{escape(ready.triton_http)}  HTTP, KServe v2")
    table.add_row("metrics", f"http://{escape(ready.metrics)}/metrics  Prometheus, of every part")
    for model in ready.models:
        height, width, channels = model["shape"]
        labels = f"{model['num_labels']} labels" if model["num_labels"] else "unconditional"
        kind = f"{model['family']} {height}x{width}x{channels}, {labels}, {model['precision']}"
        line = f"{model['name']} {model['version']}  {kind}, golden seeds {model['golden']}"
        table.add_row("model", escape(line))
    for entry in ready.rejected:
        table.add_row("[red]rejected[/]", escape(f"{entry['name']} version {entry['version']}: {entry['reason']}"))
    for entry in ready.out:
        table.add_row("[red]out[/]", escape(entry["reason"]))
    table.add_row("stop", "Ctrl-C, or SIGTERM: accepted work finishes first")
    console.print(Panel(table, title="Ganvas is ready", expand=False))


@contextlib.contextmanager
def claimed_ready_file(path: Path | None) -> Iterator[None]:
    """Keep the file for this run alone, and delete it before, since a killed run may have left it, and after.

    Raises:
        UsageError: it is a folder, or its folder is missing.
        ReadyFileError: another run has it, or its folder is not writable.
    """
    if path is None:
        yield
        return
    if not path.parent.is_dir():
        raise UsageError(f"--ready-file {path}: there is no folder {path.parent}.")
    if path.is_dir():
        raise UsageError(f"--ready-file {path}: is a folder.")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path))
        except BlockingIOError:
            raise ReadyFileError(f"--ready-file {path} belongs to another ./ganvas serve that is running.") from None
        except OSError as error:
            raise ReadyFileError(f"--ready-file {path}: {error.strerror}.") from None
        try:
            path.unlink(missing_ok=True)
            yield
        finally:
            path.unlink(missing_ok=True)


def write_ready_file(path: Path, ready: Ready) -> None:
    """Write it as JSON: a reader sees all of it or no file.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    write_atomic(path, (json.dumps(vars(ready), indent=2) + "\n").encode())
