"""`python -m clients.studio studio …`, which `./ganvas studio` runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import webbrowser
from pathlib import Path

import uvloop
from rich.console import Console

from clients.studio.app import Settings, make_app
from clients.studio.catalog import metadata
from clients.studio.local import LocalService, has_models
from clients.studio.options import DEMO_REPOSITORY, StudioOptions, is_loopback
from clients.studio.server import bound_socket, make_server, serve_until_signal
from ganvas_client import AsyncSampler, GanvasError, UnauthenticatedError, UnavailableError
from ganvas_core.cli import UserError, run_verbs
from ganvas_core.files import write_atomic
from ganvas_core.names import DEFAULT_HOST, DEFAULT_REPOSITORY

PROBE_S = 3.0
MIB = 2**20


def studio(options: StudioOptions) -> int:
    """Open the studio: a page to look at images, choose, vary and blend them, and every image at an address of its own.

    Where no service is running, it starts ./ganvas serve. Example: ./ganvas studio
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    sock = bound_socket("127.0.0.1" if options.host == "localhost" else options.host, options.port)
    try:
        return uvloop.run(_run(options, sock, Console()))
    finally:
        sock.close()
        if options.ready_file is not None:
            options.ready_file.unlink(missing_ok=True)


async def _run(options: StudioOptions, sock: socket.socket, console: Console) -> int:
    repository = _repository(options)
    sampler = AsyncSampler(
        options.address,
        credentials=options.credentials(),
        metadata=metadata(options.api_key),
        direct=False,  # each call is made as its own caller, and its batches are ours
    )
    local = await _local_service(options, sampler, repository)
    settings = Settings(
        repository=repository,
        cache_bytes=options.cache_mib * MIB,
        cors_origins=options.cors_origin,
        hosts=_hosts(options),
        hint=local.hint if local else lambda: None,
    )
    scheme = "https" if options.tls_cert else "http"
    host, port = sock.getsockname()[:2]
    shown = "localhost" if options.host == "localhost" else f"[{host}]" if ":" in host else host
    url = f"{scheme}://{shown}:{port}/"

    def ready() -> None:
        console.print(f"The studio is at [bold]{url}[/]  Ctrl-C stops it.", highlight=False, soft_wrap=True)
        if options.ready_file is not None:
            write_atomic(options.ready_file, (json.dumps({"url": url, "pid": os.getpid()}) + "\n").encode())
        if options.open:
            webbrowser.open(url)

    serving = asyncio.create_task(local.run()) if local else None
    tls = (options.tls_cert, options.tls_key) if options.tls_cert and options.tls_key else None
    try:
        server = make_server(make_app(sampler, settings), tls=tls, client_ca=options.tls_client_ca)
        await serve_until_signal(server, sock, ready=ready)
        return 0
    finally:
        if serving is not None:
            console.print("stopping the sampling service …")
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def _local_service(options: StudioOptions, sampler: AsyncSampler, repository: Path) -> LocalService | None:
    """What to serve with, where no service answers.

    Raises:
        UserError: there is a service beyond loopback that asks nobody for a key, or a file of TLS is wrong.
    """
    try:
        await sampler.models(timeout_s=PROBE_S)
        asks_for_keys = False
    except UnauthenticatedError:
        asks_for_keys = True
    except GanvasError as error:
        if isinstance(error, UnavailableError) and options.serve and _is_here(options.address):
            if is_loopback(options.host) or options.insecure:
                return LocalService(repository, int(options.address.rpartition(":")[2]))
            raise UserError("beyond loopback the studio needs a service with --keys-file: start one.") from None
        asks_for_keys = False
    if not (asks_for_keys or is_loopback(options.host) or options.tls_client_ca or options.insecure):
        raise UserError(
            f"the service at {options.address} asks nobody for a key, so --host {options.host} would open it to "
            "everybody. Start it with --keys-file, add --tls-client-ca, or --insecure."
        )
    return None


def _is_here(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return is_loopback(host) and port.isdecimal()


def _repository(options: StudioOptions) -> Path:
    if options.repository is not None:
        return options.repository.absolute()
    if not has_models(DEFAULT_REPOSITORY) and has_models(DEMO_REPOSITORY):
        return DEMO_REPOSITORY.absolute()
    return DEFAULT_REPOSITORY.absolute()


def _hosts(options: StudioOptions) -> frozenset[str] | None:
    """On loopback any site that a browser visits could have its name point here."""
    if not is_loopback(options.host) and not options.allow_host:
        return None
    here = ["localhost", DEFAULT_HOST, "::1", options.host]
    return frozenset([*(here if is_loopback(options.host) else [options.host]), *options.allow_host])


if __name__ == "__main__":
    run_verbs(studio)
