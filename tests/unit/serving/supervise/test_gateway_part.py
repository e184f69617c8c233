"""The gateway as a part of `serve`: what it says when it cannot listen."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from serving.gateway.settings import GatewaySettings
from serving.supervise.gateway_part import GatewayPart
from serving.triton.ports import PortError


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        nobody = ["127.0.0.1:1"]
        part = GatewayPart(
            GatewaySettings(port=port, service=nobody, triton_grpc=nobody, triton_http=nobody), tmp_path, keys_file=None
        )

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
