"""The parts of one run of `./ganvas serve`, and who tells whom what."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.options import ServeOptions, address_of
from serving.repository.reader import Repository
from serving.supervise.gateway_part import GatewayPart, settings_of
from serving.supervise.metrics import read_http
from serving.supervise.output import Output
from serving.supervise.part import Part
from serving.supervise.run_folder import RunFolder
from serving.supervise.services import OnEvent, Services
from serving.supervise.staging import Staging
from serving.supervise.studio_part import StudioPart
from serving.supervise.triton_part import TritonPart
from serving.supervise.versions import Versions
from serving.triton.ports import choose_ports
from serving.triton.process import TritonOptions

__all__ = ["Parts"]

MAX_SOCKET_PATH = 107
"""Bytes, by the kernel."""


class Parts:
    """Every child process of one run, and the versions that they serve.

    Args:
        options: every port is chosen: a part that comes back is found where it was.
        source: the repository that is followed.
        repository: the versions that are staged at the start, and those that were rejected.
        log: takes the logs of the services and of the studio.
        on_event: takes what the services report.
    """

    def __init__(
        self,
        options: ServeOptions,
        source: Path,
        staging: Staging,
        repository: Repository,
        run: RunFolder,
        log: Output,
        on_event: OnEvent,
    ) -> None:
        secret = secrets.token_urlsafe(32)
        triton = _triton_options(options, staging, run, secret)
        self.triton = TritonPart(triton, staging.loadable, ready_s=options.start_s)
        self._triton_metrics = f"http://{address_of('127.0.0.1', triton.metrics_port)}/metrics"
        sockets = _service_sockets(run.path, options.services) if options.gateway else None
        self.services = Services(
            options,
            triton=address_of("127.0.0.1", options.triton_grpc_port),
            listen=sockets,
            opening=lambda: {"secret": secret, **self.versions.wanted().to_command()},
            on_event=on_event,
            environ=run.environ,
            log=log,
        )
        self.gateway: GatewayPart | None = None
        if sockets is not None:
            settings = settings_of(options, service=sockets)
            self.gateway = GatewayPart(settings, run.path, keys_file=options.keys_file)
        self.versions = Versions(
            source,
            staging,
            repository,
            self.triton,
            self.services,
            load_s=options.start_s,
            retire_s=options.drain_s,
            direct=self.gateway.direct if self.gateway else lambda _: None,
        )
        if self.gateway is not None:
            self.gateway.direct(self.versions.wanted().defaults)
        self.studio: StudioPart | None = None
        if options.http is not None:
            self.studio = StudioPart(options, source=source, folder=run.path, environ=run.environ, log=log)

    def all(self) -> list[Part]:
        """Triton first."""
        others = [part for part in (self.gateway, self.studio) if part is not None]
        return [self.triton, *self.services.parts, *others]

    def metrics_sources(self, service: Callable[[], str]) -> dict[str, Callable[[], str]]:
        """Of every part that has some, what gives its metrics.

        Args:
            service: reads those of the services, which needs the event loop.
        """
        sources = {"service": service, "triton": lambda: read_http(self._triton_metrics)}
        if self.gateway is not None:
            sources["gateway"] = self.gateway.read_metrics
        return sources

    def files(self) -> dict[str, Callable[[], bool | None]]:
        """Name of each file that is followed to whether it is in use as it is now; None: there is none."""
        return {
            "keys": lambda: self.gateway.keys_ok if self.gateway else None,
            "pins": lambda: self.versions.pins_ok,
        }

    def addresses(self, options: ServeOptions) -> dict[str, Any]:
        """Where each part answers and its process id, as Ready has them."""
        return {
            "service": address_of(options.host, options.port),
            "triton_grpc": address_of("127.0.0.1", options.triton_grpc_port),
            "triton_http": address_of("127.0.0.1", options.triton_http_port),
            "metrics": address_of("127.0.0.1", options.metrics_port),
            "service_pid": self.services.pids[0],
            "service_pids": self.services.pids,
            "triton_pid": self.triton.pid or 0,
            "gateway_pid": self.gateway.pid if self.gateway else None,
            "studio": self.studio.url if self.studio else None,
        }


def _triton_options(options: ServeOptions, staging: Staging, run: RunFolder, secret: str) -> TritonOptions:
    return TritonOptions(
        repository=staging.models,
        models=(),
        grpc_port=options.triton_grpc_port,
        http_port=options.triton_http_port,
        metrics_port=_free_port(),
        config_name=options.config_name,
        otlp_endpoint=options.otlp_endpoint,
        strict_config=True,  # exported configurations are complete, and completing them costs a second or two
        log_file=(options.log_dir or run.path) / "triton.log",
        secret=secret,
        open_statistics=options.triton_statistics,
        folder=run.path,
        environ=run.environ,
    )


def _service_sockets(folder: Path, count: int) -> list[str]:
    """Where the services listen behind the gateway: sockets in the run's folder, which only our user may enter."""
    paths = [str(folder / f"service{number}.sock") for number in ("", *range(2, count + 1))]
    return [path if len(path.encode()) <= MAX_SOCKET_PATH else address_of("127.0.0.1", _free_port()) for path in paths]


def _free_port() -> int:
    """One that nobody but us is told."""
    return choose_ports({"--port": ("127.0.0.1", 0)})["--port"]
