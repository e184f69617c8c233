"""Calls being answered: admitted or rejected, timed, ended with a status, and logged.

A call counts until its last byte has left, or its caller has.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import grpc

from ganvas.v1 import sampler_pb2 as pb
from serving.service.admission.shares import Metadata, Shares, caller_of, metadata_of
from serving.service.errors import BusyError, DeadlineError, UnavailableError, status_of
from serving.service.inference.triton_client import Deadline
from serving.service.logs import logfmt
from serving.service.metrics import Metrics
from serving.service.tracing import Trace, Tracing

__all__ = ["PRIORITY_KEY", "REQUEST_ID_KEY", "Call", "Calls", "State"]

State = Literal["starting", "serving", "waiting for Triton", "draining"]

PRIORITY_KEY = "x-ganvas-priority"
"""Metadata: `bulk` makes a small call wait behind the others."""

REQUEST_ID_KEY = "x-request-id"

RETRY_AFTER_MS = 200

REFUSALS_S = 1.0
"""How long refused calls are counted for one line of the log."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")

access_log = logging.getLogger("ganvas.access")


@dataclass(kw_only=True, eq=False)
class Call:
    """One call being answered, and where its time goes."""

    method: str
    peer: str
    caller: str
    deadline: Deadline
    bulk: bool
    """Whether its caller marked it so."""
    model: str = ""
    version: str | None = None
    count: int | None = None
    request_id: str
    """Of the caller or the gateway, else made here: it gets it back, and the log has it."""
    trace: Trace | None = None
    """None: the call is not traced."""
    started_s: float = field(default_factory=time.perf_counter)
    queue_us: int = 0
    inference_us: int = 0
    encode_us: int = 0
    interrupted: bool = False
    unsent: asyncio.Task[None] | None = None
    """The reply that its caller does not read. The status can only follow it."""
    refused: str = ""
    """Why it was not let in, where it was too much: BusyError's reason."""
    code: grpc.StatusCode | None = None
    """How it ended; the last bytes may be on their way yet."""

    def timing(self) -> pb.Timing:
        """The Timing of a unary reply that is about to leave."""
        return pb.Timing(
            total_us=self.total_us(),
            queue_us=self.queue_us,
            inference_us=self.inference_us,
            encode_us=self.encode_us,
        )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What its caller gets after the reply: the id, and the times as HTTP's server-timing has them."""
        times = {"queue": self.queue_us, "inference": self.inference_us, "encode": self.encode_us}
        timing = ", ".join(f"{name};dur={us / 1000:.3f}" for name, us in times.items())
        return ((REQUEST_ID_KEY, self.request_id), ("server-timing", timing))

    def total_us(self) -> int:
        return int((time.perf_counter() - self.started_s) * 1e6)


class Calls:
    """Every call that is being answered.

    Args:
        limit: more calls than this at the same time get RESOURCE_EXHAUSTED; one caller has at most half.
        tracing: None: calls are not traced.
    """

    def __init__(self, limit: int, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self.state: State = "starting"
        self.is_hopeless: Callable[[], bool] = lambda: False
        """Whether Triton has been away for so long that calls should not wait for it."""
        self.shares = Shares(limit)
        self._metrics = metrics
        self._tracing = tracing
        self._running: dict[Call, asyncio.Task[Any]] = {}
        self._refusals = _Refusals()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._running)

    @asynccontextmanager
    async def accept(self, method: str, context: Any) -> AsyncIterator[Call]:
        """Admit a call for the duration of the block; an exception in the block ends the RPC with its status."""
        metadata, peer = metadata_of(context), unquote(context.peer())
        call = Call(
            method=method,
            peer=peer,
            caller=caller_of(metadata, peer),
            deadline=Deadline.after(context.time_remaining()),
            bulk=metadata.get(PRIORITY_KEY) == "bulk",
            request_id=_request_id(metadata),
        )
        if self._tracing is not None:
            call.trace = self._tracing.start(method, metadata.get("traceparent", ""), call.request_id)
        try:
            self._admit(call, context)
            yield call
        except asyncio.CancelledError:
            if not call.interrupted:
                call.code = grpc.StatusCode.CANCELLED
                try:
                    call.deadline.remaining_s()
                except DeadlineError:
                    call.code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise
            status = status_of(UnavailableError("the service stopped before this call was done. Try again later."))
        except Exception as error:
            status = status_of(error)
            if isinstance(error, BusyError):
                self._metrics.refused.labels(error.reason).inc()
                call.refused = error.reason
            # The frames of the failed call hold its request, and gRPC holds them: see methods.py.
            traceback.clear_frames(error.__traceback__)
        else:
            call.code = grpc.StatusCode.OK
            context.set_trailing_metadata(call.metadata())
            return
        call.code = status.code
        if call.unsent is not None:
            await call.unsent
        await context.abort(status.code, status.message, (*status.trailing_metadata, *call.metadata()))

    async def wait_idle(self) -> None:
        """Return once no call is being answered."""
        await self._idle.wait()

    def interrupt(self) -> None:
        """End every call now, with UNAVAILABLE. Those that are answered, and only wait for their reader, stay."""
        for call, task in self._running.items():
            if call.code is None:
                call.interrupted = True
                task.cancel()

    def _admit(self, call: Call, context: Any) -> None:
        """Count a call until its bytes have left. Raises UnavailableError or BusyError."""
        context.add_done_callback(lambda _: self._end(call))
        # A Triton that is away is expected back in seconds: calls wait for it, as long as there is hope.
        if self.state in ("starting", "draining") or (self.state == "waiting for Triton" and self.is_hopeless()):
            self._metrics.refused.labels("state").inc()
            raise UnavailableError(f"the service is {self.state}. Try again later.")
        if not self.shares.has_room(call.caller):
            whose, limit = "", self.shares.limit
            if self.shares.total < self.shares.limit:
                whose, limit = " of this caller", self.shares.of_one
            raise BusyError(
                f"{limit} calls{whose} are being answered, which is the limit.",
                retry_after_ms=RETRY_AFTER_MS,
                reason="calls",
            )
        task = asyncio.current_task()
        assert task is not None
        self.shares.take(call.caller)
        self._metrics.calls.labels(call.method).inc()
        self._running[call] = task
        self._idle.clear()

    def _end(self, call: Call) -> None:
        """The last byte of a call has left, or its caller has."""
        if self._running.pop(call, None) is not None:
            self.shares.give_back(call.caller)
            self._metrics.calls.labels(call.method).dec()
            if not self._running:
                self._idle.set()
        code = call.code or grpc.StatusCode.CANCELLED
        self._metrics.requests.labels(call.method, code.name).inc()
        self._metrics.request_seconds.labels(call.method).observe(call.total_us() / 1e6)
        if call.trace is not None:
            call.trace.end(code.name)
        if not (call.refused and self._refusals.count(call.refused)):
            _log(call, code)


class _Refusals:
    """Refused calls in the access log: the first has a line, and then those of each second share one.

    They come by the hundred when there is no time to spare, and a line costs this process and the supervisor about a
    third of what the rest of a refusal does.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] | None = None
        """Of this second, by reason; None while nothing is refused."""

    def count(self, reason: str) -> bool:
        """Whether the call is counted, and has no line of its own."""
        if access_log.isEnabledFor(logging.DEBUG):
            return False
        if self._counts is None:
            self._counts = Counter()
            asyncio.get_running_loop().call_later(REFUSALS_S, self._tell)
            return False
        self._counts[reason] += 1
        return True

    def _tell(self) -> None:
        counts, self._counts = self._counts, None
        if counts:
            self._counts = Counter()
            asyncio.get_running_loop().call_later(REFUSALS_S, self._tell)
            access_log.info(logfmt(event="more-refused", total=counts.total(), **counts))


def _request_id(metadata: Metadata) -> str:
    given = metadata.get(REQUEST_ID_KEY, "")
    return given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def _log(call: Call, code: grpc.StatusCode) -> None:
    """The access log: one line a call, which costs nothing where nobody asked for those that went well."""
    level = logging.DEBUG if code is grpc.StatusCode.OK else logging.INFO
    if not access_log.isEnabledFor(level):
        return
    access_log.log(
        level,
        logfmt(
            method=call.method,
            model=call.model or None,
            version=call.version,
            count=call.count,
            code=code.name,
            total_ms=call.total_us() / 1000,
            queue_ms=call.queue_us / 1000,
            inference_ms=call.inference_us / 1000,
            encode_ms=call.encode_us / 1000,
            caller=call.caller if call.caller not in call.peer else None,
            peer=call.peer,
            request_id=call.request_id,
        ),
    )
