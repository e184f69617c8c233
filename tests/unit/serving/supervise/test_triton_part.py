"""Triton as a part of `serve`: when it cannot be started, and when other work hangs."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.supervise.loader import Loader
from serving.supervise.staging import Staging
from serving.supervise.triton_part import TritonPart
from serving.triton.process import TritonOptions, TritonProcess


def test_triton_is_started_and_stopped_while_all_threads_of_the_loop_are_blocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for what in ("start", "stop"):
        monkeypatch.setattr(TritonProcess, what, lambda self, *grace_s, what=what: done.append(what))
    part = TritonPart(TritonOptions(repository=tmp_path, models=(), http_port=1), tuple, ready_s=1.0)
    free = threading.Event()

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(6))
        blocked = [asyncio.create_task(asyncio.to_thread(free.wait)) for _ in range(6)]
        try:
            async with asyncio.timeout(10):
                await part.start()
                await part.stop()
        finally:
            free.set()
            await asyncio.gather(*blocked)

    asyncio.run(run())
    assert done == ["start", "stop"]


def test_loads_that_hang_leave_the_threads_of_the_loop_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = TritonPart(TritonOptions(repository=tmp_path, models=(), http_port=1), tuple, ready_s=1.0)
    free, begun = threading.Event(), threading.Semaphore(0)

    def load(model: str, load_s: float) -> None:
        begun.release()
        free.wait()

    monkeypatch.setattr(part.http, "load", load)
    loader = Loader(Staging(tmp_path, tmp_path, "cpu"), part, load_s=300)

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(6))
        loads = [asyncio.create_task(loader._load(f"model-{number}")) for number in range(6)]
        try:
            async with asyncio.timeout(10):
                for _ in loads:
                    assert await asyncio.to_thread(begun.acquire, timeout=10)
        finally:
            free.set()
            await asyncio.gather(*loads)

    asyncio.run(run())


def test_triton_that_could_not_start_can_be_stopped(tmp_path: Path) -> None:
    options = TritonOptions(repository=tmp_path, models=(), http_port=1, folder=tmp_path / "missing")
    part = TritonPart(options, tuple, ready_s=1.0)

    async def run() -> None:
        with pytest.raises(OSError, match="missing"):
            await part.start()
        await part.stop()
        assert part.pid is None

    asyncio.run(run())
