"""The gateway as a part of `serve`: what it says when it cannot listen, and that it comes back once it can start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from serving.gateway import process as module
from serving.gateway.process import GatewayError
from serving.gateway.settings import GatewaySettings
from serving.supervise.gateway_part import GatewayPart
from serving.supervise.part import Keeper
from serving.triton.ports import PortError

NOBODY = ["127.0.0.1:1"]
BACK_S = 60.0


def gateway(folder: Path, *, port: int = 0) -> GatewayPart:
    settings = GatewaySettings(port=port, service=NOBODY, triton_grpc=NOBODY, triton_http=NOBODY)
    return GatewayPart(settings, folder, keys_file=None)


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


def test_gateway_whose_configuration_is_not_checked_in_time_says_so_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VALIDATE_TIMEOUT_S", 0.001)
    part = gateway(tmp_path)

    async def run() -> None:
        with pytest.raises(GatewayError, match=r"^Envoy did not check its configuration within 0\.001 s\.$"):
            await part.start()
        await part.stop()

    asyncio.run(run())
