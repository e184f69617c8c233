"""`ganvas serve`: Triton and the sampling service as two children that start, drain and end together."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from rich.console import Console

from serving.announce import Ready, print_ready, print_settings, write_ready_file
from serving.config import ServeConfig, address_of
from serving.repository.reader import Repository, RepositoryError, read_repository
from serving.service_process import ServiceProcess
from serving.staging import stage
from serving.triton.ports import port_problem
from serving.triton.process import TritonError, TritonOptions, TritonProcess, reachable

__all__ = ["ServeError", "supervise"]

POLL_S = 0.2
TRITON_GRACE_S = 10.0
MARGIN_S = 5.0
"""What the service gets beyond drain_s to end by itself."""


class ServeError(Exception):
    """Serving failed: one line for the user, then what a log said last."""


def supervise(config: ServeConfig, console: Console) -> int:
    """Serve until SIGINT or SIGTERM, then drain.

    Returns:
        0 after a drain; 130 or 143 when stopped before anything was ready.
    Raises:
        ServeError: could not start, or a process died.
    """
    try:
        repository = read_repository(config.repository, config.config_name)
    except RepositoryError as error:
        raise ServeError(str(error)) from None
    if not repository.versions:
        reasons = "\n".join(f"{entry.name} version {entry.version}: {entry.reason}" for entry in repository.rejected)
        raise ServeError(f"no version in {config.repository} matches its certificate.\n{reasons}")
    _clear_ready_file(config)
    print_settings(console, config)
    with _folder() as folder, _log_file(config) as log:
        stage(repository, folder / "models")
        return asyncio.run(Supervisor(config, console, repository, folder, log).run())


class Supervisor:
    """One run of Triton and the service.

    Args:
        folder: holds the staged models; Triton's log too, unless there is a log_dir.
        log: where the service's log goes.
    """

    def __init__(
        self, config: ServeConfig, console: Console, repository: Repository, folder: Path, log: BinaryIO
    ) -> None:
        self._config = config
        self._console = console
        self._log = log
        self._triton = TritonProcess(
            TritonOptions(
                repository=folder / "models",
                models=repository.triton_models(),
                host=config.triton_host,
                grpc_port=config.triton_grpc_port,
                http_port=config.triton_http_port,
                metrics_port=config.triton_metrics_port,
                config_name=config.config_name,
                strict_config=True,  # exported configurations are complete, and completing them costs a second or two
                log_file=(config.log_dir or folder) / "triton.log",
            )
        )
        self._service: ServiceProcess | None = None
        self._signal: signal.Signals | None = None
        self._signalled = asyncio.Event()
        self._triton_ready = asyncio.Event()
        self._stopping = False

    async def run(self) -> int:
        """Start, serve, drain; both children are gone when it returns or raises."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            return await self._serve()
        except TritonError as error:
            raise ServeError(str(error)) from None
        finally:
            await self._stop()

    async def _serve(self) -> int:
        if problem := port_problem(self._config.host, self._config.port):
            raise ServeError(f"--port {problem}")
        self._say("starting Triton and the sampling service")
        self._triton.start()
        triton = address_of(reachable(self._config.triton_host), self._triton.ports.grpc)
        service = ServiceProcess(self._config.service(triton, os.getpid()), self._log)
        await service.start()
        self._service = service
        serving = asyncio.create_task(self._wait_ready(service))
        ends = [
            asyncio.create_task(self._signalled.wait()),
            asyncio.create_task(self._watch_triton()),
            asyncio.create_task(self._watch_service(service)),
        ]
        try:
            await asyncio.wait([serving, *ends], return_when=asyncio.FIRST_COMPLETED)
            was_ready = serving.done()
            if was_ready:
                self._announce(service)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in ends:
                if task.done():
                    task.result()
        finally:
            for task in (serving, *ends):
                task.cancel()
            await asyncio.gather(serving, *ends, return_exceptions=True)
        assert self._signal is not None
        return 0 if was_ready else 128 + self._signal

    async def _wait_ready(self, service: ServiceProcess) -> None:
        """Return once both processes answer. Never returns if one of them ends before."""
        await self._triton_ready.wait()
        await service.wait_serving()

    async def _watch_triton(self) -> None:
        """Never returns.

        Raises:
            TritonError, ServeError: Triton did not get ready, or ended.
        """
        await asyncio.to_thread(self._triton.wait_ready, self._config.start_s)
        self._triton_ready.set()
        while (code := self._triton.poll()) is None:
            await asyncio.sleep(POLL_S)
        raise ServeError(f"Triton ended by itself ({_how(code)}). Its log ends:\n{self._triton.log_tail()}")

    async def _watch_service(self, service: ServiceProcess) -> None:
        """Never returns.

        Raises:
            ServeError: the service ended.
        """
        code = await service.wait()
        if service.failure:
            raise ServeError(service.failure)
        raise ServeError(f"the sampling service ended by itself ({_how(code)}). Its log ends:\n{service.tail()}")

    def _announce(self, service: ServiceProcess) -> None:
        config, ports = self._config, self._triton.ports
        assert service.port is not None
        ready = Ready(
            service=address_of(config.host, service.port),
            triton_grpc=address_of(config.triton_host, ports.grpc),
            triton_http=address_of(config.triton_host, ports.http),
            triton_metrics=address_of(config.triton_host, ports.metrics),
            pid=os.getpid(),
            service_pid=service.pid,
            triton_pid=self._triton.pid,
            models=service.models,
            rejected=service.rejected,
        )
        print_ready(self._console, ready)
        if config.ready_file is not None:
            try:
                write_ready_file(config.ready_file, ready)
            except OSError as error:
                raise ServeError(f"--ready-file {config.ready_file}: {error.strerror}.") from None

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping and self._service is not None:
            self._say("hurrying: what is not done now gets UNAVAILABLE")
            self._service.hurry()
        self._signal = self._signal or number
        self._signalled.set()

    def _say(self, line: str) -> None:
        """A terminal that has gone must not keep the drain from happening."""
        with suppress(OSError):
            self._console.print(line)

    async def _stop(self) -> None:
        """Drain the service, then end Triton."""
        self._stopping = True
        if self._config.ready_file is not None:
            self._config.ready_file.unlink(missing_ok=True)
        if self._service is not None:
            self._say(f"stopping: accepted work has up to {self._config.drain_s:g} s; a second Ctrl-C hurries")
            self._service.drain()
            await self._service.stop(self._config.drain_s + MARGIN_S)
        await asyncio.to_thread(self._triton.stop, TRITON_GRACE_S)
        self._say("stopped")


def _clear_ready_file(config: ServeConfig) -> None:
    """A ready file that a killed run left would say ready too early."""
    if config.ready_file is None:
        return
    if not config.ready_file.parent.is_dir():
        raise ServeError(f"--ready-file {config.ready_file}: there is no folder {config.ready_file.parent}.")
    try:
        config.ready_file.unlink(missing_ok=True)
    except OSError as error:
        raise ServeError(f"--ready-file {config.ready_file}: {error.strerror}.") from None


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for this run alone."""
    with tempfile.TemporaryDirectory(prefix="ganvas-serve-") as name:
        folder = Path(name)
        (folder / "models").mkdir()
        yield folder


@contextmanager
def _log_file(config: ServeConfig) -> Iterator[BinaryIO]:
    """service.log in the log_dir, or stderr."""
    if config.log_dir is None:
        yield sys.stderr.buffer
        return
    try:
        config.log_dir.mkdir(parents=True, exist_ok=True)
        file = (config.log_dir / "service.log").open("ab")
    except OSError as error:
        raise ServeError(f"--log-dir {config.log_dir}: {error.strerror}.") from None
    with file:
        yield file
