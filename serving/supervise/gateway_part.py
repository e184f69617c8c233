"""The gateway as a part of `./ganvas serve`: a new Envoy on the same port each time it starts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ganvas_core.cli import UserError
from ganvas_core.names import companions
from serving.gateway.process import GatewayError, GatewayProcess
from serving.gateway.settings import GatewaySettings, Tls
from serving.options import ServeOptions, address_of
from serving.service.logs import logfmt
from serving.supervise.service_part import describe_end
from serving.supervise.threads import in_own_thread
from serving.supervise.triton_part import until_ended, wait_for_end
from serving.triton.ports import PortError, port_problem

__all__ = ["GatewayPart", "settings_of", "tls_of"]

READY_S = 30.0
OPEN_S, POLL_S = 3.0, 0.02
GRACE_S = 2.0
MIB = 2**20
AGAIN_S = 0.5
REQUEST_BYTES, SAMPLE_BYTES, STREAM_BYTES = 64 * 1024, 64, 32
"""A request without its images, and what each image adds: seed, label and room."""

logger = logging.getLogger("ganvas.supervisor")


class GatewayPart:
    """One gateway after the other.

    Args:
        settings: with a port that is not 0.
        folder: of the whole run; the gateway's own is in it.
        keys_file: followed while it runs. A gateway that dies while it is damaged comes back with the keys read before.
    """

    name = "the gateway"
    label = "gateway"

    def __init__(self, settings: GatewaySettings, folder: Path, *, keys_file: Path | None) -> None:
        self.grace_s = GRACE_S
        """How long stop waits for replies on their way out."""
        self._settings = settings
        self._folder = folder / "gateway"
        self._keys_file = keys_file
        self._process: GatewayProcess | None = None
        self._starting: asyncio.Task[None] | None = None
        self._directing: asyncio.Task[None] | None = None
        self._directed = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def keys_ok(self) -> bool | None:
        """Whether the keys in use are those of the keys file as it is now; None: there is none, or no gateway."""
        return None if self._keys_file is None or self._process is None else self._process.keys_ok

    def direct(self, defaults: Mapping[str, int]) -> None:
        """Send direct calls that name no version to these versions from now on.

        Args:
            defaults: model name to version; a model that is not here has no version to send them to.
        """
        versions = {model: version for name, version in defaults.items() for model in (name, *companions(name))}
        if versions != self._settings.default_versions:
            self._settings = dataclasses.replace(self._settings, default_versions=versions)
            self._directed.set()

    async def start(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        process = GatewayProcess(self._settings, self._folder, keys_file=self._keys_file)
        # Cancelled or not, the thread goes on: stop waits for it.
        self._starting = asyncio.create_task(in_own_thread(process.start))
        self._process = process
        await asyncio.shield(self._starting)
        self._directing = asyncio.create_task(self._follow(process))

    async def wait_ready(self) -> None:
        try:
            await in_own_thread(self._running().wait_ready, READY_S)
        except GatewayError:
            if problem := self._port_problem():
                raise PortError(problem) from None
            raise

    async def wait_open(self) -> None:
        """Wait until a load balancer that asks it for health hears that all is well, or OPEN_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_S):
                while not await in_own_thread(self._running().sees_all_well):
                    await asyncio.sleep(POLL_S)

    async def wait(self) -> str:
        process = self._running()
        assert process.pid is not None
        await wait_for_end(process.pid)
        while (code := process.poll()) is None:
            await asyncio.sleep(0.01)
        how = self._port_problem() or f"{describe_end(code)}."
        return f"{how}\nIts log ends:\n{process.log_tail()}"

    def read_metrics(self) -> str:
        """Envoy's, in Prometheus' text format; empty while it is away. It asks over a socket, so not on the loop."""
        return "" if self._process is None else self._process.read_metrics()

    def hurry(self) -> None:
        """Have `stop` wait for replies no longer."""
        if self._process is not None:
            self._process.hurry()

    def drain(self) -> None:
        """Have direct calls turned away from now on; those under way go on. `stop` sees to it if this fails."""
        if self._process is not None:
            self._draining = asyncio.create_task(self._turn_away(self._process))

    async def stop(self) -> None:
        if self._directing is not None:
            self._directing.cancel()
        if self._starting is not None:
            await until_ended(self._starting)
        if self._process is not None:
            await in_own_thread(self._process.stop, self.grace_s)
            self._settings = dataclasses.replace(self._settings, keys=self._process.settings.keys)
            self._process = None

    async def _turn_away(self, process: GatewayProcess) -> None:
        with contextlib.suppress(GatewayError, OSError, http.client.HTTPException):
            await in_own_thread(process.drain)

    async def _follow(self, process: GatewayProcess) -> None:
        """Have a running gateway take over what `direct` says. Never returns."""
        while True:
            await self._directed.wait()
            self._directed.clear()
            try:
                await in_own_thread(process.update, default_versions=self._settings.default_versions)
            except (UserError, OSError, http.client.HTTPException) as error:
                logger.warning(logfmt(event="default-not-routed", reason=str(error)))
                self._directed.set()
                await asyncio.sleep(AGAIN_S)

    def _port_problem(self) -> str | None:
        """Of a gateway that has ended: who else has its port."""
        return port_problem("--port", self._settings.host, self._settings.port)

    def _running(self) -> GatewayProcess:
        if self._process is None:
            raise RuntimeError("the gateway was not started.")
        return self._process


def settings_of(options: ServeOptions, *, service: Sequence[str]) -> GatewaySettings:
    """The gateway of these options, whose ports are chosen.

    Args:
        service: where the sampling service answers.
    """
    return GatewaySettings(
        host="127.0.0.1" if options.host == "localhost" else options.host,
        port=options.port,
        service=service,
        triton_grpc=[address_of("127.0.0.1", options.triton_grpc_port)],
        triton_http=[address_of("127.0.0.1", options.triton_http_port)],
        tls=tls_of(options),
        keeps_images=options.cache_mib > 0,
        max_connections=options.max_connections,
        max_connection_streams=options.max_connection_streams,
        max_direct_requests=options.max_direct_requests,
        max_direct_bytes=options.max_direct_mib * MIB,
        max_sample_bytes=REQUEST_BYTES + SAMPLE_BYTES * options.max_count,
        max_stream_bytes=REQUEST_BYTES + STREAM_BYTES * options.max_stream_count,
        max_heap_bytes=options.gateway_memory_mib * MIB,
        stream_idle_s=options.stream_idle_s,
        connection_idle_s=options.connection_idle_s,
        log_dir=options.log_dir,
        otlp_endpoint=options.otlp_endpoint,
        trace_fraction=options.trace_fraction,
    )


def tls_of(options: ServeOptions) -> Tls | None:
    """None without TLS."""
    if options.tls_cert is None or options.tls_key is None:
        return None
    return Tls(certificate=options.tls_cert, key=options.tls_key, client_ca=options.tls_client_ca)
