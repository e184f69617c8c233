"""`ganvas serve`: Triton and the sampling service as two children that start, drain and end together."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from rich.console import Console

from ganvas_core.cli import UserError
from serving.options import ServeOptions, address_of
from serving.repository.reader import Repository, RepositoryError, read_repository
from serving.supervise.ready import Ready, print_ready, print_start, write_ready_file
from serving.supervise.service_process import ServiceProcess
from serving.supervise.staging import stage
from serving.triton.ports import port_problem
from serving.triton.process import TritonOptions, TritonProcess, reachable

__all__ = ["ServeError", "supervise"]

POLL_S = 0.2
TRITON_GRACE_S = 10.0
SERVICE_GRACE_S = 5.0
"""Extra time after drain_s before the service is killed."""


class ServeError(UserError):
    """Serving failed: one line for the user, then the end of a log."""


def supervise(options: ServeOptions, console: Console) -> int:
    """Serve until SIGINT or SIGTERM, then drain.

    Returns:
        0 after a drain; 130 or 143 when stopped before anything was ready.
    Raises:
        ServeError, TritonError: could not start, or a process died.
    """
    try:
        repository = read_repository(options.repository, options.config_name)
    except RepositoryError as error:
        raise ServeError(str(error)) from None
    if not repository.versions:
        reasons = "\n".join(f"{entry.name} version {entry.version}: {entry.reason}" for entry in repository.rejected)
        raise ServeError(f"no version in {options.repository} matches its certificate.\n{reasons}")
    _delete_ready_file(options)
    print_start(console, options, repository)
    with tempfile.TemporaryDirectory(prefix="ganvas-serve-") as name, _log_file(options) as log:
        (Path(name) / "models").mkdir()
        stage(repository, Path(name) / "models")
        return asyncio.run(Supervisor(options, console, repository, Path(name), log).run())


class Supervisor:
    """One run of Triton and the service.

    Args:
        folder: holds the staged models; Triton's log too, unless there is a log_dir.
        log: where the service's log goes.
    """

    def __init__(
        self, options: ServeOptions, console: Console, repository: Repository, folder: Path, log: BinaryIO
    ) -> None:
        self._options = options
        self._console = console
        self._log = log
        self._triton = TritonProcess(
            TritonOptions(
                repository=folder / "models",
                models=repository.triton_models(),
                host=options.triton_host,
                grpc_port=options.triton_grpc_port,
                http_port=options.triton_http_port,
                metrics_port=options.triton_metrics_port,
                config_name=options.config_name,
                strict_config=True,  # exported configurations are complete, and completing them costs a second or two
                log_file=(options.log_dir or folder) / "triton.log",
            )
        )
        self._triton_ready = asyncio.Event()
        self._service: ServiceProcess | None = None
        self._signal: signal.Signals | None = None
        self._signalled = asyncio.Event()
        self._stopping = False

    async def run(self) -> int:
        """Start, serve until the end, drain; both children are gone when it returns or raises."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        tasks: list[asyncio.Task[None]] = []
        try:
            service = await self._start()
            ready = asyncio.create_task(self._until_ready(service))
            end = asyncio.create_task(self._until_the_end(service))
            tasks = [ready, end]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                await ready
                self._announce(service)
            await end
            assert self._signal is not None
            return 0 if ready.done() else 128 + self._signal
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop()

    async def _start(self) -> ServiceProcess:
        """Start both processes.

        Raises:
            ServeError, TritonError: one of them cannot start.
        """
        options = self._options
        if problem := port_problem("--port", options.host, options.port):
            raise ServeError(problem)
        self._triton.start()
        triton = address_of(reachable(options.triton_host), self._triton.ports.grpc)
        resolved = dataclasses.replace(options, repository=options.repository.resolve())
        self._service = ServiceProcess(resolved, triton=triton, log=self._log)
        await self._service.start()
        return self._service

    async def _until_ready(self, service: ServiceProcess) -> None:
        """Return once both processes answer. Never returns if the service ends before.

        Raises:
            TritonError: Triton ended, or did not get ready in time.
        """
        await asyncio.to_thread(self._triton.wait_ready, self._options.start_s)
        self._triton_ready.set()
        await service.wait_serving()

    async def _until_the_end(self, service: ServiceProcess) -> None:
        """Return once a signal asks to stop.

        Raises:
            ServeError: a process ended by itself.
        """
        watches = [
            asyncio.create_task(watch)
            for watch in (self._signalled.wait(), self._watch_triton(), self._watch_service(service))
        ]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _watch_triton(self) -> NoReturn:
        await self._triton_ready.wait()
        while (code := self._triton.poll()) is None:
            await asyncio.sleep(POLL_S)
        raise ServeError(f"Triton ended by itself ({_how(code)}). Its log ends:\n{self._triton.log_tail()}")

    async def _watch_service(self, service: ServiceProcess) -> NoReturn:
        code = await service.wait()
        message = f"the sampling service ended by itself ({_how(code)}). Its log ends:\n{service.tail()}"
        raise ServeError(service.failure or message)

    def _announce(self, service: ServiceProcess) -> None:
        options, ports = self._options, self._triton.ports
        assert service.port is not None
        ready = Ready(
            service=address_of(options.host, service.port),
            triton_grpc=address_of(options.triton_host, ports.grpc),
            triton_http=address_of(options.triton_host, ports.http),
            triton_metrics=address_of(options.triton_host, ports.metrics),
            pid=os.getpid(),
            service_pid=service.pid,
            triton_pid=self._triton.pid,
            models=service.models,
            rejected=service.rejected,
        )
        print_ready(self._console, ready)
        if options.ready_file is not None:
            try:
                write_ready_file(options.ready_file, ready)
            except OSError as error:
                raise ServeError(f"--ready-file {options.ready_file}: {error.strerror}.") from None

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping and self._service is not None:
            self._say("stopping now: unfinished calls get UNAVAILABLE")
            self._service.hurry()
        self._signal = self._signal or number
        self._signalled.set()

    def _say(self, line: str) -> None:
        """A closed terminal must not prevent the drain."""
        with suppress(OSError):
            self._console.print(line)

    async def _stop(self) -> None:
        """Drain the service, then end Triton."""
        self._stopping = True
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)
        if self._service is not None:
            self._say(f"stopping: accepted calls have up to {self._options.drain_s:g} s; a second Ctrl-C stops at once")
            self._service.drain()
            await self._service.stop(self._options.drain_s + SERVICE_GRACE_S)
        await asyncio.to_thread(self._triton.stop, TRITON_GRACE_S)
        self._say("stopped")


def _delete_ready_file(options: ServeOptions) -> None:
    """A ready file that a killed run left would say ready too early."""
    if options.ready_file is None:
        return
    if not options.ready_file.parent.is_dir():
        raise ServeError(f"--ready-file {options.ready_file}: there is no folder {options.ready_file.parent}.")
    try:
        options.ready_file.unlink(missing_ok=True)
    except OSError as error:
        raise ServeError(f"--ready-file {options.ready_file}: {error.strerror}.") from None


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@contextmanager
def _log_file(options: ServeOptions) -> Iterator[BinaryIO]:
    """service.log in the log_dir, or stderr."""
    if options.log_dir is None:
        yield sys.stderr.buffer
        return
    try:
        options.log_dir.mkdir(parents=True, exist_ok=True)
        file = (options.log_dir / "service.log").open("ab")
    except OSError as error:
        raise ServeError(f"--log-dir {options.log_dir}: {error.strerror}.") from None
    with file:
        yield file
