"""Triton as a part of `serve`, when it cannot be started."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.supervise.triton_part import TritonPart
from serving.triton.process import TritonOptions


def test_triton_that_could_not_start_can_be_stopped(tmp_path: Path) -> None:
    options = TritonOptions(repository=tmp_path, models=(), http_port=1, folder=tmp_path / "missing")
    part = TritonPart(options, tuple, ready_s=1.0)

    async def run() -> None:
        with pytest.raises(OSError, match="missing"):
            await part.start()
        await part.stop()
        assert part.pid is None

    asyncio.run(run())
