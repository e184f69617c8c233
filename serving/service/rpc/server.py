"""The sampling service's process: `python -m serving.service.rpc.server OPTIONS_JSON TRITON [LISTEN]`.

`./ganvas serve` starts it. It binds its port or socket at once (health: NOT_SERVING), waits for Triton, re-makes the
golden seeds, and serves until SIGTERM; then it drains. It hears from its parent and reports to it as `supervision`
says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health
from pydantic import TypeAdapter

from ganvas.v1 import sampler_pb2 as pb
from ganvas_core.cli import UserError
from serving.options import ServeOptions, address_of
from serving.repository.reader import Rejected, Repository, RepositoryError
from serving.service.admission.messages import Reader
from serving.service.inference.cache import ImageCache
from serving.service.inference.catalog import Catalog, ServedModel
from serving.service.inference.dispatch import Dispatcher
from serving.service.inference.image_files import ImageCoder
from serving.service.inference.models import Models, read_wanted
from serving.service.inference.readiness import NothingToServeError
from serving.service.inference.triton_client import TritonClient
from serving.service.inference.wanted import Wanted
from serving.service.logs import logfmt, set_up_logging
from serving.service.metrics import Metrics
from serving.service.rpc.calls import Calls
from serving.service.rpc.health import Health
from serving.service.rpc.methods import SamplerMethods
from serving.service.rpc.servicer import Sampler
from serving.service.rpc.side_calls import SideCalls
from serving.service.rpc.supervision import open_commands, read_command, tell
from serving.service.rpc.transport import server_options, wait_sent
from serving.service.tracing import Tracing

__all__ = ["PortInUseError", "SamplingServer", "main"]

SAMPLER = pb.DESCRIPTOR.services_by_name["Sampler"].full_name
SUSPECT_EVERY_S = 1.0
SHUTDOWN_GRACE_S = 2.0
"""For replies on their way out, and for reflection calls, once the Sampler's calls are done."""

logger = logging.getLogger("ganvas.service")


class PortInUseError(UserError):
    """The service cannot listen on its host and port."""


class SamplingServer:
    """The service: binds, gets ready, serves, drains.

    Args:
        repository: the versions to serve once Triton has them ready.
        triton: host:port of its gRPC endpoint.
        secret: opens its restricted endpoints.
        listen: host:port, or the path of a Unix socket. None: the options' host and port.
    """

    def __init__(
        self,
        options: ServeOptions,
        repository: Repository,
        *,
        triton: str,
        secret: str = "",
        listen: str | None = None,
    ) -> None:
        self.options = options
        self.port = options.port
        self.metrics = Metrics()
        self.tracing = Tracing(options.otlp_endpoint, options.trace_fraction) if options.otlp_endpoint else None
        self.calls = Calls(options.max_calls, self.metrics, self.tracing)
        self.triton = TritonClient(triton, secret=secret)
        self.coder = ImageCoder(options.encode_threads)
        self.dispatcher = Dispatcher(max_wait_s=options.max_wait_s, recovery_s=options.recovery_s, metrics=self.metrics)
        self.calls.is_hopeless = lambda: self.dispatcher.hopeless
        self.cache = ImageCache(options.cache_mib * 2**20) if options.cache_mib else None
        self.sampler = Sampler(
            triton=self.triton,
            coder=self.coder,
            dispatcher=self.dispatcher,
            metrics=self.metrics,
            cache=self.cache,
        )
        self.reader = Reader(
            limit_bytes=options.request_memory_mib * 2**20, read_s=options.read_s, wait_s=options.max_wait_s
        )
        self._methods = SamplerMethods(
            self.sampler, calls=self.calls, reader=self.reader, options=options, metrics=self.metrics
        )
        self._watch_gauges()
        self.rejected = repository.rejected
        self.models = Models(repository, self.triton, options, dispatcher=self.dispatcher, publish=self._publish)
        self._listen = listen
        self._health = Health([health.OVERALL_HEALTH, SAMPLER])
        self._server = grpc.aio.server(options=server_options(options.max_calls))
        self._hurry = asyncio.Event()

    def _watch_gauges(self) -> None:
        watch, dispatcher = self.metrics.watch, self.dispatcher
        watch("ganvas_serving", "Whether calls are answered.", lambda: float(self.calls.state == "serving"))
        watch("ganvas_waiting_images", "Images that were let in and are not in Triton yet.", dispatcher.waiting)
        watch("ganvas_triton_images", "Images that are in Triton.", dispatcher.in_flight)
        watch("ganvas_cache_bytes", "Of images that are kept.", lambda: self.cache.bytes if self.cache else 0)
        watch("ganvas_request_memory_bytes", "Bytes of requests being read or kept.", lambda: self.reader.memory.total)

    async def start(self) -> int:
        """Listen; returns the port. Calls get UNAVAILABLE until `get_ready` is done.

        Raises:
            PortInUseError: the port is taken, or the host is not this machine's.
        """
        side = SideCalls(self._health, self.reader, [SAMPLER])
        self._server.add_generic_rpc_handlers((self._methods.handlers(), *side.handlers()))
        address = self._listen or address_of(self.options.host, self.options.port)
        if address.startswith("/"):
            Path(address).unlink(missing_ok=True)  # a killed service leaves it
            address = f"unix:{address}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise PortInUseError(
                f"--port {self.options.port}: cannot listen on {address}: it is in use, or --host is not an address "
                "of this machine. Take another, or --port 0 for a free one."
            ) from None
        await self._server.start()
        return self.port

    async def get_ready(self) -> None:
        """Wait for Triton, prove every version with its golden seeds, then serve.

        Raises:
            NothingToServeError: Triton was not ready in time; or, the first time, no version gave its golden images.
        """
        self.rejected = await self.models.get_ready()
        self.dispatcher.resume()
        if self.calls.state != "draining":
            self.calls.state = "serving"
            self._health.set(serving=True)

    def _publish(self, catalog: Catalog) -> None:
        self.sampler.catalog = catalog
        if self.cache is not None:
            self.cache.clear()

    async def watch(self) -> None:
        """Stop serving while Triton is gone, and get ready again when it is back. Never returns.

        Raises:
            NothingToServeError: Triton stayed away.
        """
        while True:
            await self.triton.wait_lost()
            logger.warning(logfmt(event="triton-lost", triton=self.triton.address))
            self.dispatcher.pause()
            if self.calls.state != "draining":
                self.calls.state = "waiting for Triton"
                self._health.set(serving=False)
            await self.get_ready()

    async def drain(self) -> None:
        """Turn new calls away, let accepted ones finish for up to drain_s, then end the rest."""
        self.calls.state = "draining"
        self._health.set(serving=False)
        logger.info(logfmt(event="draining", calls=len(self.calls), drain_s=self.options.drain_s))
        sent = asyncio.create_task(self._wait_sent())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({sent, hurry}, timeout=self.options.drain_s, return_when=asyncio.FIRST_COMPLETED)
        if unfinished := len(self.calls):
            logger.warning(logfmt(event="interrupting", calls=unfinished))
            self.calls.interrupt()
            # Replies of interrupted calls leave quickly, unless their readers have stopped.
            await asyncio.wait({sent}, timeout=SHUTDOWN_GRACE_S)
        for task in (sent, hurry):
            task.cancel()
        await asyncio.gather(sent, hurry, return_exceptions=True)

    async def _wait_sent(self) -> None:
        """Return once every reply has left, and the system has passed it on."""
        await self.calls.wait_idle()
        await wait_sent(self._listen if self._listen and self._listen[0] == "/" else self.port)

    def hurry(self) -> None:
        """Cut a drain short."""
        self._hurry.set()

    async def stop(self) -> None:
        """Close the port and every connection."""
        self._health.close()
        await self._server.stop(SHUTDOWN_GRACE_S)
        await self.triton.close()
        self.coder.close()
        if self.tracing is not None and (lost := await asyncio.to_thread(self.tracing.close)):
            logger.warning(logfmt(event="traces-not-sent", spans=lost, collector=self.options.otlp_endpoint))


async def run(options: ServeOptions, triton: str, listen: str | None) -> int:
    """Serve until SIGTERM, then drain; SIGINT cuts the drain short. Returns the exit code."""
    commands = await open_commands()
    opening = await read_command(commands)
    if opening is None:
        return 1  # the supervisor is gone
    wanted = Wanted.from_command(opening)
    repository = read_wanted(options, wanted)
    server = SamplingServer(options, repository, triton=triton, secret=opening["secret"], listen=listen)
    server.models.want(wanted)
    suspected_s: dict[str, float] = {}

    def suspect(model: str) -> None:
        """Tell it once a second: every batch that is sent meanwhile finds the same."""
        now_s = time.monotonic()
        if now_s - suspected_s.get(model, 0.0) >= SUSPECT_EVERY_S:
            suspected_s[model] = now_s
            tell(event="suspect", model=model)

    server.triton.on_suspect = suspect
    stopping = asyncio.Event()

    def stop_now() -> None:
        stopping.set()
        server.hurry()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    # Another signal than SIGTERM: two of the same kind, sent at once, would arrive as one.
    loop.add_signal_handler(signal.SIGINT, stop_now)
    tell(event="listening", port=await server.start())
    try:
        return await _serve(server, stopping, commands)
    finally:
        await server.stop()


async def _serve(server: SamplingServer, stopping: asyncio.Event, commands: asyncio.StreamReader) -> int:
    """Get ready and serve until `stopping`, then drain."""
    serving = asyncio.create_task(_get_ready_and_watch(server, commands))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        await server.drain()
        tell(event="drained")
    serving.cancel()
    stop.cancel()
    (outcome, _) = await asyncio.gather(serving, stop, return_exceptions=True)
    if isinstance(outcome, ExceptionGroup):  # of the task group, whose first error ended it
        outcome = outcome.exceptions[0]
    if isinstance(outcome, NothingToServeError):
        tell(event="failed", message=str(outcome))
        return 1
    if isinstance(outcome, Exception):
        raise outcome
    return 0


async def _get_ready_and_watch(server: SamplingServer, commands: asyncio.StreamReader) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_obey(server, commands))
        await server.get_ready()
        models = [describe(model) for model in server.sampler.catalog.all()]
        tell(event="serving", models=models, rejected=[dataclasses.asdict(entry) for entry in server.rejected])
        group.create_task(_report_changes(server))
        await server.watch()


async def _obey(server: SamplingServer, commands: asyncio.StreamReader) -> None:
    """Do what the supervisor says; return once it is gone."""
    while (command := await read_command(commands)) is not None:
        if command["command"] == "serve":
            server.models.want(Wanted.from_command(command))
        elif command["command"] == "metrics":
            tell(event="metrics", text=server.metrics.text())


async def _report_changes(server: SamplingServer) -> None:
    """Prove what comes after the start, and say how every proof went."""
    async for _, loads, outcome in server.models.follow():
        if isinstance(outcome, Rejected):
            tell(event="refused", loads=loads, **dataclasses.asdict(outcome))
        else:
            tell(event="proven", loads=loads, **describe(outcome))


def describe(model: ServedModel) -> dict[str, Any]:
    """A proven version, for `./ganvas serve` to show."""
    return {
        "name": model.name,
        "version": model.version,
        "family": model.entry.certificate.family,
        "shape": model.shape,
        "num_labels": len(model.labels),
        "precision": model.entry.precision,
        "golden": model.golden,
        "digest": model.entry.digest,
    }


def main(arguments: list[str]) -> int:
    """The process: reports a failure that is not a defect as one event, never as a traceback."""
    options = TypeAdapter(ServeOptions).validate_json(arguments[0])
    set_up_logging(options.log_level)
    try:
        return uvloop.run(run(options, arguments[1], arguments[2] if len(arguments) > 2 else None))
    except (RepositoryError, PortInUseError) as error:
        tell(event="failed", message=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
