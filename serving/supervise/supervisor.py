"""One run of `./ganvas serve`: its parts start, come back when they end, and end together on a signal."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console

from ganvas_core.cli import UserError
from serving.options import ServeOptions
from serving.repository.pins import not_kept
from serving.repository.reader import Rejected, Repository
from serving.supervise.medic import Medic
from serving.supervise.metrics import MetricsServer, supervisor_metrics
from serving.supervise.output import Output
from serving.supervise.part import Keeper
from serving.supervise.parts import Parts
from serving.supervise.ready import Ready, print_ready, write_ready_file
from serving.supervise.run_folder import RunFolder
from serving.supervise.shutdown import Shutdown
from serving.supervise.staging import Staging
from serving.supervise.threads import in_own_thread

__all__ = ["ReadyFileError", "Supervisor"]

logger = logging.getLogger("ganvas.supervisor")


class ReadyFileError(UserError):
    """The ready file cannot be written."""


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
        self._parts = parts = Parts(options, source, staging, repository, run, log, self._on_event)
        self.keepers = [Keeper(part, say=logger.warning, up=self._on_up) for part in parts.all()]
        """Started together, in any order; each copes with the others being away."""
        self.medic = Medic(
            parts.versions,
            parts.triton,
            self.keepers[0],
            staging.models,
            parts=parts.all(),
            canary_s=options.canary_s,
            canary_timeout_s=options.canary_timeout_s,
        )
        own = supervisor_metrics(self.keepers, self.medic, log, parts.files(), parts.triton.computed)
        self._sources = {"supervisor": own, **parts.metrics_sources(self._read_service_metrics)}
        self._shutdown = Shutdown(
            parts, drain_s=options.drain_s, has_spans=options.otlp_endpoint is not None, tell=self._tell
        )
        self._announced = False
        self._signal: signal.Signals | None = None
        self._signalled = asyncio.Event()

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
                kept += [asyncio.create_task(work) for work in (self._parts.versions.follow(), self.medic.run())]
            await self._unless_a_part_fails(kept, self._signalled.wait())
            assert self._signal is not None
            return 0 if self._announced else 128 + self._signal
        finally:
            for task in kept:
                task.cancel()
            await asyncio.gather(*kept, return_exceptions=True)
            self._shutdown.running = True
            self._remove_ready_file()  # before the port turns calls away
            await self._shutdown.run()
            await in_own_thread(metrics.close)

    def _read_service_metrics(self) -> str:
        """Called in a thread of the metrics server."""
        return asyncio.run_coroutine_threadsafe(self._parts.services.read_metrics(), self._loop).result()

    async def _all_ready(self) -> None:
        """Return once every part is ready, or a signal asks to stop."""

        async def every_part() -> None:
            for keeper in self.keepers:
                await keeper.ready.wait()
            if self._parts.gateway is not None:
                await self._parts.gateway.wait_open()

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
            raise ReadyFileError(f"--ready-file {self._options.ready_file}: {error.strerror}.") from None

    def _on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "serving":
            self._parts.versions.on_serving(event["models"])
        elif event["event"] == "proven":
            self._parts.versions.on_verdict((event["name"], event["version"]), event["loads"], None)
        elif event["event"] == "refused":
            rejected = Rejected(**{name: event[name] for name in ("name", "version", "reason", "transient")})
            key = rejected.name, rejected.version
            if self._parts.versions.on_verdict(key, event["loads"], rejected):
                self.medic.refused(key, rejected.reason)
        elif event["event"] == "suspect":
            self.medic.suspect()

    def _on_up(self) -> None:
        """A part that came back has another process id."""
        if self._announced and not self._shutdown.running:
            try:
                self._write_ready_file()
            except OSError as error:
                logger.warning(f"--ready-file {self._options.ready_file}: {error.strerror}.")

    def _write_ready_file(self) -> None:
        if self._options.ready_file is not None:
            write_ready_file(self._options.ready_file, self._ready())

    def _remove_ready_file(self) -> None:
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)

    def _ready(self) -> Ready:
        return Ready(
            **self._parts.addresses(self._options),
            pid=os.getpid(),
            models=self._parts.services.models,
            rejected=[*map(dataclasses.asdict, self._parts.versions.rejected.values()), *self._parts.services.rejected],
            out=[
                {"name": name, "version": version, "reason": not_kept(name, version, reason)}
                for (name, version), reason in self._parts.versions.pins_not_kept().items()
            ],
        )

    def _on_signal(self, number: signal.Signals) -> None:
        self._shutdown.hurry()
        self._shutdown.begin()
        self._signal = self._signal or number
        self._signalled.set()

    def _tell(self, line: str) -> None:
        """One line for whoever sits at the terminal."""
        self._console.print(line, markup=False)
