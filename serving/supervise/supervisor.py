"""`./ganvas serve`: its parts start, come back when they end, drain, and end together."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import os
import secrets
import signal
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from ganvas_core.cli import UserError
from serving.gateway.process import check_tls
from serving.keys.store import read_keys
from serving.options import ServeOptions, address_of
from serving.repository.pins import not_kept, read_pins
from serving.repository.reader import (
    ModelVersion,
    Rejected,
    Repository,
    check_config_name,
    list_versions,
)
from serving.service.logs import logfmt, set_up_logging
from serving.supervise.gateway_part import GatewayPart, settings_of, tls_of
from serving.supervise.medic import Medic
from serving.supervise.metrics import MetricsServer, read_http, supervisor_metrics
from serving.supervise.output import Output, TextOutput, console_output, log_output
from serving.supervise.part import Keeper, Part
from serving.supervise.ready import Ready, claimed_ready_file, print_ready, print_start, write_ready_file
from serving.supervise.run_folder import RunFolder, open_run_folder
from serving.supervise.services import Services
from serving.supervise.staging import Staging
from serving.supervise.studio_part import StudioPart
from serving.supervise.triton_part import TritonPart
from serving.supervise.versions import Versions
from serving.triton.ports import choose_ports
from serving.triton.process import TritonOptions

__all__ = ["ServeError", "supervise"]

logger = logging.getLogger("ganvas.supervisor")

MAX_SOCKET_PATH = 107
"""Bytes, by the kernel."""
ANSWER_S = 1.0
"""After drain_s, for the statuses of calls that were cut off; then the gateway ends, and with it every connection: a
caller that has not read its status by then gets UNAVAILABLE from its own side."""
END_S = 2.0
"""After drain_s: whatever still runs is killed."""
SPANS_S = 1.0
"""For Triton's last spans."""


class ServeError(UserError):
    """Serving failed: one line for the user, then the end of a log."""


def supervise(options: ServeOptions, console: Console) -> int:
    """Serve until SIGINT or SIGTERM, then drain.

    Returns:
        0 after a drain; 130 or 143 when stopped before anything was ready.
    Raises:
        UserError: a part could not start.
    """
    with ExitStack() as stack:
        read_pins(options.repository)  # what is unreadable must not become the newest version
        check_config_name(options.repository, options.config_name)
        if (tls := tls_of(options)) is not None:
            check_tls(tls)
        if options.keys_file is not None:
            read_keys(options.keys_file)
        stack.enter_context(claimed_ready_file(options.ready_file))
        ports = choose_ports(options.addresses())
        log = stack.enter_context(log_output(options.log_dir))
        console = stack.enter_context(console_output(console))
        run = stack.enter_context(open_run_folder())
        set_up_logging(options.log_level, TextOutput(log, terminal=False))  # type: ignore[arg-type]
        if run.note:
            logger.warning(run.note)
        print_start(console, options, sorted({name for name, _ in list_versions(options.repository)}))
        staging = Staging(options.repository.resolve(), run.path, options.config_name)
        repository = _stage(staging, options)
        resolved = dataclasses.replace(
            options,
            repository=staging.models,
            port=ports["--port"],
            triton_grpc_port=ports["--triton-grpc-port"],
            triton_http_port=ports["--triton-http-port"],
            metrics_port=ports["--metrics-port"],
            http=ports.get("--http"),
        )
        source = options.repository.resolve()
        return asyncio.run(Supervisor(resolved, console, source, staging, repository, run, log).run())


def _stage(staging: Staging, options: ServeOptions) -> Repository:
    """Copy every version.

    Raises:
        ServeError: none of them may be served.
    """
    outcomes = [staging.add(name, version) for name, version in list_versions(options.repository)]
    versions = tuple(outcome for outcome in outcomes if isinstance(outcome, ModelVersion))
    rejected = tuple(outcome for outcome in outcomes if isinstance(outcome, Rejected))
    if not versions:
        reasons = "\n".join(f"{entry.name} version {entry.version}: {entry.reason}" for entry in rejected)
        raise ServeError(f"no version in {options.repository} matches its certificate.\n{reasons}")
    for entry in rejected:
        logger.error(logfmt(event="rejected", model=entry.name, version=entry.version, reason=entry.reason))
    return Repository(folder=staging.models, versions=versions, rejected=rejected)


class Supervisor:
    """One run of every part.

    Args:
        options: every port is chosen: a part that comes back is found where it was.
        source: the repository that is followed.
        repository: the versions that are staged at the start, and those that were rejected.
        log: takes the service's log and ours.
    """

    def __init__(
        self,
        options: ServeOptions,
        console: Console,
        source: Path,
        staging: Staging,
        repository: Repository,
        run: RunFolder,
        log: Output,
    ) -> None:
        self._options = options
        self._console = console
        secret = secrets.token_urlsafe(32)
        triton = _triton_options(options, staging, run, secret)
        self._triton = TritonPart(triton, staging.loadable, ready_s=options.start_s)
        sockets = _service_sockets(run.path, options.services) if options.gateway else None
        self._services = Services(
            options,
            triton=address_of("127.0.0.1", options.triton_grpc_port),
            listen=sockets,
            opening=lambda: {"secret": secret, **self.versions.wanted().to_command()},
            on_event=self._on_event,
            environ=run.environ,
            log=log,
        )
        self._gateway: GatewayPart | None = None
        parts: list[Part] = [self._triton, *self._services.parts]
        if sockets is not None:
            settings = settings_of(options, service=sockets)
            self._gateway = GatewayPart(settings, run.path, keys_file=options.keys_file)
            parts.append(self._gateway)
        self.versions = Versions(
            source,
            staging,
            repository,
            self._triton,
            self._services,
            load_s=options.start_s,
            retire_s=options.drain_s,
            direct=self._gateway.direct if self._gateway else lambda _: None,
        )
        if self._gateway is not None:
            self._gateway.direct(self.versions.wanted().defaults)
        self._studio: StudioPart | None = None
        if options.http is not None:
            self._studio = StudioPart(options, source=source, folder=run.path, environ=run.environ, log=log)
            parts.append(self._studio)
        self.keepers = [Keeper(part, say=logger.warning, up=self._on_up) for part in parts]
        """Started together, in any order; each copes with the others being away."""
        self.medic = Medic(
            self.versions,
            self._triton,
            self.keepers[0],
            staging.models,
            parts=parts,
            canary_s=options.canary_s,
            canary_timeout_s=options.canary_timeout_s,
        )
        self._sources = self._metrics_sources(log, triton.metrics_port)
        self._announced = False
        self._signal: signal.Signals | None = None
        self._signalled = asyncio.Event()
        self._cut_s: float | None = None
        """When calls that are not done are cut off, on the loop's clock: drain_s after the first signal."""
        self._hurried = asyncio.Event()
        self._stopping = False

    async def run(self) -> int:
        """Start, serve until a signal, drain; every part is gone when it returns or raises.

        Raises:
            UserError: a part could not get ready the first time.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is no reason to stop serving
        self._loop = asyncio.get_running_loop()
        metrics = MetricsServer(self._options.metrics_port, self._sources)
        kept: list[asyncio.Task[None]] = [asyncio.create_task(keeper.run()) for keeper in self.keepers]
        try:
            await self._unless_a_part_fails(kept, self._all_ready())
            if not self._signalled.is_set():
                self._announce()
                kept += [asyncio.create_task(work) for work in (self.versions.follow(), self.medic.run())]
            await self._unless_a_part_fails(kept, self._signalled.wait())
            assert self._signal is not None
            return 0 if self._announced else 128 + self._signal
        finally:
            for task in kept:
                task.cancel()
            await asyncio.gather(*kept, return_exceptions=True)
            await self._stop()
            await asyncio.to_thread(metrics.close)

    def _metrics_sources(self, log: Output, triton_port: int) -> dict[str, Callable[[], str]]:
        """Of every part, what gives its metrics."""
        ok: dict[str, Callable[[], bool | None]] = {
            "keys": lambda: self._gateway.keys_ok if self._gateway else None,
            "pins": lambda: self.versions.pins_ok,
        }
        sources = {
            "supervisor": supervisor_metrics(self.keepers, self.medic, log, ok),
            "service": self._read_service_metrics,
            "triton": lambda: read_http(f"http://{address_of('127.0.0.1', triton_port)}/metrics"),
        }
        if self._gateway is not None:
            sources["gateway"] = self._gateway.read_metrics
        return sources

    def _read_service_metrics(self) -> str:
        """Called in a thread of the metrics server."""
        return asyncio.run_coroutine_threadsafe(self._services.read_metrics(), self._loop).result()

    async def _all_ready(self) -> None:
        """Return once every part is ready, or a signal asks to stop."""

        async def every_part() -> None:
            for keeper in self.keepers:
                await keeper.ready.wait()

        waits = [asyncio.create_task(wait) for wait in (every_part(), self._signalled.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()

    async def _unless_a_part_fails(self, kept: list[asyncio.Task[None]], waiting: Coroutine[Any, Any, Any]) -> None:
        """Wait, or raise the error of a part that could not get ready the first time."""
        task = asyncio.create_task(waiting)
        try:
            done, _ = await asyncio.wait({task, *kept}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            task.cancel()

    def _announce(self) -> None:
        self._announced = True
        print_ready(self._console, self._ready())
        try:
            self._write_ready_file()
        except OSError as error:
            raise ServeError(f"--ready-file {self._options.ready_file}: {error.strerror}.") from None

    def _on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "serving":
            self.versions.on_serving(event["models"])
        elif event["event"] in ("proven", "refused"):
            self.versions.on_verdict((event["name"], event["version"]), event["loads"], event.get("reason"))
        elif event["event"] == "suspect":
            self.medic.suspect()

    def _on_up(self) -> None:
        """A part that came back has another process id."""
        if self._announced and not self._stopping:
            try:
                self._write_ready_file()
            except OSError as error:
                logger.warning(f"--ready-file {self._options.ready_file}: {error.strerror}.")

    def _write_ready_file(self) -> None:
        if self._options.ready_file is not None:
            write_ready_file(self._options.ready_file, self._ready())

    def _ready(self) -> Ready:
        options = self._options
        return Ready(
            service=address_of(options.host, options.port),
            triton_grpc=address_of("127.0.0.1", options.triton_grpc_port),
            triton_http=address_of("127.0.0.1", options.triton_http_port),
            metrics=address_of("127.0.0.1", options.metrics_port),
            pid=os.getpid(),
            service_pid=self._services.pids[0],
            service_pids=self._services.pids,
            triton_pid=self._triton.pid or 0,
            gateway_pid=self._gateway.pid if self._gateway else None,
            studio=self._studio.url if self._studio else None,
            models=self._services.models,
            rejected=[*map(dataclasses.asdict, self.versions.rejected.values()), *self._services.rejected],
            out=[
                {"name": name, "version": version, "reason": not_kept(name, version, reason)}
                for (name, version), reason in self.versions.pins_not_kept().items()
            ],
        )

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping and not self._hurried.is_set():
            self._tell("stopping now: unfinished calls get UNAVAILABLE")
            self._cut_s = min(self._loop.time(), self._cut_s or math.inf)
            self._hurried.set()
            self._services.hurry()
            if self._studio is not None:
                self._studio.hurry()
            if self._gateway is not None:
                self._gateway.hurry()
        if self._cut_s is None:
            self._cut_s = self._loop.time() + self._options.drain_s
        self._signal = self._signal or number
        self._signalled.set()

    def _tell(self, line: str) -> None:
        """One line for whoever sits at the terminal."""
        self._console.print(line, markup=False)

    async def _stop(self) -> None:
        """Drain, then end every part: at the latest END_S after the calls' time is up, which began with the signal."""
        self._stopping = True
        if self._cut_s is None:  # a part could not start
            self._cut_s = self._loop.time() + self._options.drain_s
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)  # before the port turns calls away
        self._tell(f"stopping: accepted calls have up to {self._options.drain_s:g} s; a second Ctrl-C stops at once")
        if self._studio is not None:  # its callers are answered while the service still takes calls
            self._studio.grace_s = self._left_s(0.0)
            await self._studio.stop()
        self._services.drain()
        await self._until_drained_or_cut()
        if self._gateway is not None:
            # Replies that have left the service may still be on their way to slow readers. The gateway ends before a
            # service that has calls: their callers would get INTERNAL from it.
            self._gateway.grace_s = self._left_s(ANSWER_S)
            await self._gateway.stop()
            # Nobody has a request in Triton, whose own end takes seconds, most of them asleep.
            self._triton.grace_s = SPANS_S if self._options.otlp_endpoint else 0.0
        self._triton.grace_s = min(self._triton.grace_s, self._left_s(END_S))
        await asyncio.gather(self._services.stop(self._left_s(END_S)), self._triton.stop())
        self._tell("stopped")

    async def _until_drained_or_cut(self) -> None:
        """Return once every reply has left the service, or ANSWER_S after its calls were cut off."""
        waits = (self._services.wait_drained(), self._hurried.wait())
        drained, hurried = (asyncio.create_task(wait) for wait in waits)
        await asyncio.wait({drained, hurried}, timeout=self._left_s(ANSWER_S), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({drained}, timeout=self._left_s(ANSWER_S))  # less than before, if a signal came
        for task in (drained, hurried):
            task.cancel()

    def _left_s(self, after_cut_s: float) -> float:
        """Seconds until so long after calls are cut off."""
        assert self._cut_s is not None
        return max(0.0, self._cut_s + after_cut_s - self._loop.time())


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
