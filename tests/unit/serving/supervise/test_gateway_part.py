"""The gateway as a part of `serve`: what it says when it cannot listen, and that it comes back once it can start."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.gateway import process as module
from serving.gateway.process import GatewayError
from serving.gateway.settings import GatewaySettings
from serving.keys.store import KeysFileError, add_key
from serving.supervise.gateway_part import GatewayPart
from serving.supervise.part import Keeper
from serving.triton.ports import PortError
from tests.support.gateway import ask

NOBODY = ["127.0.0.1:1"]
BACK_S = 180.0


def gateway(folder: Path, *, port: int = 0, keys_file: Path | None = None) -> GatewayPart:
    settings = GatewaySettings(port=port, service=NOBODY, triton_grpc=NOBODY, triton_http=NOBODY)
    return GatewayPart(settings, folder, keys_file=keys_file)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        part = gateway(tmp_path, port=port)

        async def run() -> str:
            await part.start()
            try:
                # As its keeper logs it, and as `serve` says it at the start.
                with pytest.raises(PortError, match=f"^--port {port} is in use on 127.0.0.1"):
                    await part.wait_ready()
                return await part.wait()
            finally:
                await part.stop()

        assert asyncio.run(run()).splitlines()[0].startswith(f"--port {port} is in use on 127.0.0.1")


def test_gateway_starts_and_stops_while_all_threads_of_the_loop_are_blocked(tmp_path: Path) -> None:
    part, free = gateway(tmp_path), threading.Event()

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(6))
        blocked = [asyncio.create_task(asyncio.to_thread(free.wait)) for _ in range(6)]
        try:
            async with asyncio.timeout(BACK_S):
                await part.start()
                await part.wait_ready()
                await part.stop()
        finally:
            free.set()
            await part.stop()
            await asyncio.gather(*blocked)

    asyncio.run(run())


def test_gateway_that_dies_while_its_folder_cannot_be_written_comes_back_later(tmp_path: Path) -> None:
    folder, aside = tmp_path / "run", tmp_path / "aside"
    folder.mkdir()
    part = gateway(folder)
    said: list[str] = []
    keeper = Keeper(part, say=said.append)

    async def run() -> None:
        keeping = asyncio.create_task(keeper.run())
        try:
            async with asyncio.timeout(BACK_S):
                await keeper.ready.wait()
                folder.rename(aside)
                folder.touch()  # so nothing can be made in it
                assert part.pid is not None
                os.kill(part.pid, signal.SIGKILL)
                while keeper.restarts < 3:
                    assert not keeping.done(), keeping.exception()
                    await asyncio.sleep(0.01)
                folder.unlink()
                aside.rename(folder)
                await keeper.ready.wait()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await part.stop()

    asyncio.run(run())
    assert any("Not a directory" in line for line in said)
    assert "is back after" in said[-1]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_gateway_that_dies_while_the_keys_file_is_damaged_comes_back_with_the_keys_read_before(
    tmp_path: Path, reserved: int, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]
) -> None:
    caplog.set_level(logging.INFO, "ganvas.gateway")
    path = tmp_path / "keys.json"
    first = add_key(path, "first")
    part = gateway(tmp_path / "run", port=reserved, keys_file=path)
    keeper = Keeper(part, say=lambda _: None)

    def status(key: str) -> int:
        """401: refused; 503: let through to nobody."""
        return ask(reserved, "GET", "/v2/models/any", headers={"x-api-key": key})[0]

    async def until(condition: Callable[[], bool]) -> None:
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)

    async def run() -> None:
        keeping = asyncio.create_task(keeper.run())
        try:
            async with asyncio.timeout(BACK_S):
                await keeper.ready.wait()
                later = add_key(path, "later")
                await until(lambda: "event=keys-reloaded keys=2" in caplog.text)
                damage(path)
                for restarts in (1, 2):  # the keys are handed on each time
                    assert part.pid is not None
                    os.kill(part.pid, signal.SIGKILL)
                    await until(lambda restarts=restarts: keeper.restarts >= restarts)  # type: ignore[misc]
                    await keeper.ready.wait()
                    assert part.keys_ok is False
                    assert [await asyncio.to_thread(status, key) for key in (first, later, "x")] == [503, 503, 401]
                path.unlink(missing_ok=True)
                third = add_key(path, "third")
                await until(lambda: part.keys_ok is True)
                assert [await asyncio.to_thread(status, key) for key in (first, later, third)] == [401, 401, 503]
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await part.stop()

    asyncio.run(run())


def test_gateway_does_not_start_for_the_first_time_without_its_keys(tmp_path: Path) -> None:
    part = gateway(tmp_path, keys_file=tmp_path / "keys.json")

    async def run() -> None:
        with pytest.raises(KeysFileError, match="there is no such file"):
            await part.start()
        await part.stop()

    asyncio.run(run())


def test_gateway_whose_configuration_is_not_checked_in_time_says_so_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_ends = tmp_path / "envoy"
    never_ends.write_text("#!/bin/sh\nexec sleep 600\n")
    never_ends.chmod(0o755)
    monkeypatch.setenv("GANVAS_ENVOY", str(never_ends))
    monkeypatch.setattr(module, "VALIDATE_TIMEOUT_S", 0.001)
    part = gateway(tmp_path)

    async def run() -> None:
        with pytest.raises(GatewayError, match=r"^Envoy did not check its configuration within 0\.001 s\.$"):
            await part.start()
        await part.stop()

    asyncio.run(run())
