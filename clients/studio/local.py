"""A `./ganvas serve` of the studio's own, for as long as the studio runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from ganvas_core.names import CERTIFICATE_FILE

__all__ = ["LocalService", "has_models"]

CHECKOUT = Path(__file__).resolve().parents[2]
GUARD = CHECKOUT / "serving" / "guard.py"
LOOK_EVERY_S = 2.0
AGAIN_S = 10.0
STOP_S = 60.0


def has_models(repository: Path) -> bool:
    """Whether a repository holds a version of any model."""
    return any(repository.glob(f"*/[0-9]*/{CERTIFICATE_FILE}"))


class LocalService:
    """Serves a repository once it holds a model, and again when serving ended.

    Args:
        port: where the service listens; Triton and metrics take free ones.
    """

    def __init__(self, repository: Path, port: int) -> None:
        self._repository = repository
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self._state = "the sampling service is starting. This page goes on by itself."

    def hint(self) -> str:
        """Why no service answers, and what to do."""
        return self._state

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                while not has_models(self._repository):
                    self._state = (
                        f"there is no model in {self._repository} yet. Make two in about 3 minutes with ./ganvas demo "
                        "--out out/demo and start ./ganvas studio --repository out/demo/model_repository, or export "
                        "your own: ./ganvas export CHECKPOINT --name NAME. This page goes on by itself."
                    )
                    await asyncio.sleep(LOOK_EVERY_S)
                self._state = "the sampling service is starting. This page goes on by itself."
                try:
                    how = f"ended with exit code {await self._serve()}; the terminal of ./ganvas studio says why"
                except OSError as error:
                    how = f"could not be started: {error.strerror}"
                self._state = f"./ganvas serve {how}. It is started again every {AGAIN_S:.0f} s."
                await asyncio.sleep(AGAIN_S)
        finally:
            await self._stop()

    async def _serve(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            # Told to stop if the studio is killed.
            *("-I", "-S", str(GUARD), str(os.getpid()), str(int(signal.SIGTERM)), sys.executable),
            *("-m", "serving", "serve", "--repository", str(self._repository), "--port", str(self._port)),
            *("--triton-grpc-port", "0", "--triton-http-port", "0", "--metrics-port", "0", "--log-level", "warning"),
            cwd=CHECKOUT,
            start_new_session=True,  # Ctrl-C is for the studio, which stops serving after its own last call
        )
        return await self._process.wait()

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
