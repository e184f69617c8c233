"""A Triton subprocess: started, watched and stopped, in its own session; it ends when this process dies."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from serving.backends.onnxruntime.ganvas_counts import VARIABLE, Read, read_all, read_held
from serving.child import log_tail, spawn
from serving.triton.errors import TritonStartError
from serving.triton.group import kill_group
from serving.triton.http_api import SECRET_KEY, ModelFailure, TritonHttp, failures_of
from serving.triton.install import TritonInstall, environment, find_triton, stage_backends
from serving.triton.ports import choose_ports
from serving.triton.scrub import scrub_arguments
from serving.triton.temporary import base_folder

__all__ = ["Ports", "TritonOptions", "TritonProcess", "has_gpu", "reachable"]

SHARED_MEMORY = Path("/dev/shm")
COUNTS = "counts"
POLL_S = 0.05
GROUP_GONE_S = 1.0
EXIT_TIMEOUT_S = 4
SEND_SPANS_MS = 500
"""How long spans wait at the most: little more is lost by a Triton that is killed."""
LOAD_THREADS = 8
"""Models that load at the same time: most of a load is the start of a Python process."""
STATISTICS = "statistics"
RESTRICTED = ("shared-memory", "model-repository", STATISTICS, "trace", "logging")


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """What to serve, and where."""

    repository: Path
    models: Sequence[str]
    """The Triton models to load; no other is."""
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    """0: a free one; so for the other two."""
    http_port: int = 8000
    metrics_port: int = 8002
    config_name: str | None = None
    """Use each model's configs/NAME.pbtxt. None: its config.pbtxt."""
    strict_config: bool = False
    """Load no model whose configuration is incomplete, instead of completing it."""
    otlp_endpoint: str | None = None
    """http://host:port of an OpenTelemetry collector that takes OTLP by HTTP: requests whose trace was begun elsewhere
    are continued there."""
    log_file: Path | None = None
    """Log file. None: a temporary one, deleted at the end."""
    secret: str = ""
    """What model control and everything else but inference, health, metadata and configurations asks for, as the
    header of http_api.secret_headers or the metadata of secret_metadata. Empty: all of it is open."""
    open_statistics: bool = False
    """Statistics ask for no secret."""
    folder: Path | None = None
    """An existing folder for everything temporary; names of shared memory begin with its name. None: the system's."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """More environment variables."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where a Triton listens."""

    grpc: int
    http: int
    metrics: int


class TritonProcess:
    """One run of Triton. Any thread may use it.

    Args:
        install: which Triton. None: find_triton().
    """

    def __init__(self, options: TritonOptions, install: TritonInstall | None = None) -> None:
        self.options = options
        self.failures: tuple[ModelFailure, ...] = ()
        """The models that did not load; known once wait_ready has returned."""
        self._install = install
        self._ports: Ports | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._region = f"{options.folder.name if options.folder else f'ganvas-{os.getpid()}'}-{secrets.token_hex(4)}-"

    def start(self) -> None:
        """Start it; returns once the process exists.

        Raises:
            TritonError: no Triton, no libpython, no such repository, or a port that is taken.
        """
        if self._process is not None:
            raise RuntimeError("this Triton was started before; make a new TritonProcess.")
        if not self.options.repository.is_dir():
            raise TritonStartError(f"the model repository {self.options.repository} is not a folder.")
        install = self._install or find_triton()
        environ = {**environment(install), **self.options.environ}
        wanted = {
            "--triton-grpc-port": (self.options.host, self.options.grpc_port),
            "--triton-http-port": (self.options.host, self.options.http_port),
            "--triton-metrics-port": (self.options.host, self.options.metrics_port),
        }
        grpc, http, metrics = choose_ports(wanted).values()
        ports = Ports(grpc=grpc, http=http, metrics=metrics)
        self._folder = folder = Path(
            tempfile.mkdtemp(prefix="ganvas-triton-", dir=self.options.folder or base_folder()[0])
        )
        try:
            (folder / "empty").mkdir()
            (folder / COUNTS).mkdir()
            environ[VARIABLE] = str(folder / COUNTS)
            backends = stage_backends(install, folder / "backends")
            arguments = command(self.options, ports, backends, self._region, has_gpu=has_gpu())
            self._process = self._spawn([str(install.executable), *arguments], environ)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._ports = ports

    def wait_ready(self, timeout_s: float) -> tuple[ModelFailure, ...]:
        """Wait until it answers, every model tried.

        Returns:
            The models that failed to load, with Triton's reason. The others serve.
        Raises:
            TritonStartError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        scrubbed = not self.options.secret
        while not (live := self.http.is_live()) or not scrubbed:
            if not scrubbed and (live is not None or self._has_logged()):  # so it has read its arguments
                scrub_arguments(self.pid, self.options.secret)
                scrubbed = True
            if (code := self.poll()) is not None:
                raise TritonStartError(f"Triton ended with exit code {code} before it was ready.{self._log_end()}")
            if live is False:
                raise TritonStartError(f"Triton started, but cannot serve.{self._log_end()}")
            if time.monotonic() >= deadline:
                raise TritonStartError(f"Triton was not ready within {timeout_s:g} s.{self._log_end()}")
            time.sleep(POLL_S)
        try:
            index = self.http.repository_index()
        except (OSError, http.client.HTTPException, ValueError) as error:  # it ended while it answered
            raise TritonStartError(f"Triton does not answer: {error}.{self._log_end()}") from None
        self.failures = failures_of(index, tuple(self.options.models))
        return self.failures

    @property
    def http(self) -> TritonHttp:
        """Its HTTP endpoint, with the secret; known once it is started."""
        return TritonHttp(reachable(self.options.host), self.ports.http, secret=self.options.secret)

    @property
    def ports(self) -> Ports:
        """Where it listens; known once it is started."""
        if self._ports is None:
            raise RuntimeError("this Triton was not started.")
        return self._ports

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log_file(self) -> Path:
        """Gone after stop, unless the options name one."""
        assert self.options.log_file or self._folder
        return self.options.log_file or self._folder / "triton.log"  # type: ignore[operator]

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._running().poll()

    def held(self, pid: int) -> int:
        """Requests in a process of a model; those of a dead one may never be answered."""
        return 0 if self._folder is None else read_held(self._folder / COUNTS, pid)

    def computed(self) -> list[Read]:
        """What each process of a model has computed, the dead ones of this Triton too."""
        return [] if self._folder is None else read_all(self._folder / COUNTS)

    def version(self) -> str:
        """What a Triton that is ready says of itself, as "2.51.0"."""
        return self.http.server_version()

    def log_tail(self) -> str:
        """The last lines of its log."""
        return log_tail(self.log_file)

    def stop(self, grace_s: float = 10.0) -> None:
        """Let it finish what it has for at most grace_s, then kill it; leaves no process, folder or shared memory.

        Does nothing if nothing runs.
        """
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
            self._kill()  # its stubs may have outlived it, and would make shared memory after it is deleted
        for region in SHARED_MEMORY.glob(f"{self._region}*"):
            region.unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> TritonProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, arguments: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
        assert self._folder is not None
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        try:
            return spawn(
                arguments,
                name="triton",
                cwd=self._folder / "empty",  # the stub's Python imports from its current folder first
                environ=environ,
                log_file=self.log_file,
                at_our_end=signal.SIGTERM,  # so that Triton deletes its shared memory
            )
        except OSError as error:
            raise TritonStartError(f"Triton cannot be started: {error}.") from None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this Triton was not started.")
        return self._process

    def _kill(self) -> None:
        """Kill it and its stubs, and wait until they are gone; of the stubs, for at most GROUP_GONE_S."""
        process = self._running()
        process.kill()
        process.wait()
        kill_group(process.pid, GROUP_GONE_S)

    def _has_logged(self) -> bool:
        with contextlib.suppress(OSError):
            return self.log_file.stat().st_size > self._log_start
        return False

    def _log_end(self) -> str:
        tail = self.log_tail()
        return f" Its log ends:\n{tail}" if tail else " Its log is empty."


def command(options: TritonOptions, ports: Ports, backends: Path, region: str, *, has_gpu: bool) -> list[str]:
    """Triton's arguments.

    Args:
        region: what the names of its shared memory begin with; no two Tritons on a machine may share it.
    """
    arguments = {
        "model-repository": str(options.repository.absolute()),
        "backend-directory": str(backends),
        "backend-config": f"python,shm-region-prefix-name={region}",
        "model-control-mode": "explicit",
        "model-load-thread-count": str(LOAD_THREADS),
        # It counts whole seconds, and waits for a request inside a stub that died as long as it may.
        "exit-timeout-secs": str(EXIT_TIMEOUT_S),
        # A model that cannot be loaded must not take the others down; wait_ready tells which and why.
        "exit-on-error": "false",
        "http-address": options.host,
        "http-port": str(ports.http),
        "grpc-address": options.host,
        "grpc-port": str(ports.grpc),
        "metrics-address": options.host,
        "metrics-port": str(ports.metrics),
        "allow-gpu-metrics": str(has_gpu).lower(),
        # Clients may ping an idle connection, as the service does; gRPC closes it by default.
        "grpc-keepalive-permit-without-calls": "1",
        "grpc-http2-min-recv-ping-interval-without-data": "5000",
        "grpc-http2-max-ping-strikes": "0",
    }
    if not has_gpu:
        arguments["pinned-memory-pool-byte-size"] = "0"
    if options.secret:
        closed = [name for name in RESTRICTED if not (name == STATISTICS and options.open_statistics)]
        arguments["http-restricted-api"] = f"{','.join(closed)}:{SECRET_KEY}={options.secret}"
        arguments["grpc-restricted-protocol"] = arguments["http-restricted-api"]
    if options.config_name is not None:
        arguments["model-config-name"] = options.config_name
    if options.strict_config:
        arguments["disable-auto-complete-config"] = ""
    flags = [f"--{name}={value}" if value else f"--{name}" for name, value in arguments.items()]
    if options.otlp_endpoint is not None:
        # A trace that was begun elsewhere is always continued; of its own, Triton begins next to none.
        url = f"opentelemetry,url={options.otlp_endpoint.rstrip('/')}/v1/traces"
        often = f"opentelemetry,bsp_schedule_delay={SEND_SPANS_MS}"
        settings = ["mode=opentelemetry", url, often, "level=TIMESTAMPS", f"rate={2**31 - 1}"]
        flags += [f"--trace-config={setting}" for setting in settings]
    return flags + [f"--load-model={model}" for model in options.models]


def reachable(host: str) -> str:
    """The address to call a server on that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def has_gpu() -> bool:
    """Whether an NVIDIA driver is loaded."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
