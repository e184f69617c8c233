"""Calls being answered: admitted or rejected, timed, ended with a status, and logged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import grpc

from ganvas.v1 import sampler_pb2 as pb
from serving.service.errors import BusyError, UnavailableError, status_of
from serving.service.inference.triton_client import Deadline
from serving.service.logs import logfmt

__all__ = ["Call", "Calls", "State"]

State = Literal["starting", "serving", "waiting for Triton", "draining"]

RETRY_AFTER_MS = 200

access_log = logging.getLogger("ganvas.access")


@dataclass(kw_only=True, eq=False)
class Call:
    """One call being answered, and where its time goes."""

    method: str
    peer: str
    model: str
    deadline: Deadline
    version: str | None = None
    count: int | None = None
    started_s: float = field(default_factory=time.perf_counter)
    inference_us: int = 0
    encode_us: int = 0
    interrupted: bool = False

    def timing(self) -> pb.Timing:
        """The Timing of a unary reply that is about to leave."""
        return pb.Timing(total_us=self.total_us(), inference_us=self.inference_us, encode_us=self.encode_us)

    def total_us(self) -> int:
        return int((time.perf_counter() - self.started_s) * 1e6)


class Calls:
    """Every call that is being answered.

    Args:
        limit: more calls than this at the same time get RESOURCE_EXHAUSTED.
    """

    def __init__(self, limit: int) -> None:
        self.state: State = "starting"
        self._limit = limit
        self._running: dict[Call, asyncio.Task[Any]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._running)

    @asynccontextmanager
    async def accept(self, method: str, model: str, context: Any) -> AsyncIterator[Call]:
        """Admit a call for the duration of the block; an exception in the block ends the RPC with its status."""
        call = Call(
            method=method,
            peer=unquote(context.peer()),
            model=model,
            deadline=Deadline.after(context.time_remaining()),
        )
        try:
            if self.state != "serving":
                raise UnavailableError(f"the service is {self.state}. Try again later.")
            if len(self._running) >= self._limit:
                message = f"{self._limit} calls are being answered, which is the limit."
                raise BusyError(message, retry_after_ms=RETRY_AFTER_MS)
            task = asyncio.current_task()
            assert task is not None
            self._running[call] = task
            self._idle.clear()
            try:
                yield call
            finally:
                del self._running[call]
                if not self._running:
                    self._idle.set()
        except asyncio.CancelledError:
            if not call.interrupted:
                _log(call, grpc.StatusCode.CANCELLED)
                raise
            status = status_of(UnavailableError("the service stopped before this call was done. Try again later."))
        except Exception as error:
            status = status_of(error)
        else:
            _log(call, grpc.StatusCode.OK)
            return
        _log(call, status.code)
        await context.abort(status.code, status.message, status.trailing_metadata)

    async def wait_idle(self) -> None:
        """Return once no call is being answered."""
        await self._idle.wait()

    def interrupt(self) -> None:
        """End every call now, with UNAVAILABLE."""
        for call, task in self._running.items():
            call.interrupted = True
            task.cancel()


def _log(call: Call, code: grpc.StatusCode) -> None:
    """The access log: one line a call."""
    access_log.info(
        logfmt(
            method=call.method,
            model=call.model or None,
            version=call.version,
            count=call.count,
            code=code.name,
            total_ms=call.total_us() / 1000,
            inference_ms=call.inference_us / 1000,
            encode_ms=call.encode_us / 1000,
            peer=call.peer,
        )
    )
