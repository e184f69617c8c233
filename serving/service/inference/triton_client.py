"""The service's connection to Triton: a thin KServe v2 client over grpc.aio.

Tensors cross as raw bytes in the protocol's own messages. Each batch carries the caller's remaining time.

A request is never cancelled inside Triton: up to release 24.11, a cancellation at the wrong moment makes Triton's gRPC
endpoint crash or keep the model loaded for ever (triton-inference-server/server#7368, #8034). What nobody waits for any
more is computed and dropped; the dispatcher has so few batches in Triton that this costs next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from ganvas_core.interface import kserve_datatype
from serving.service.errors import (
    AwayError,
    BusyError,
    DeadlineError,
    InferenceError,
    ServiceError,
    UnavailableError,
)
from serving.triton.http_api import secret_metadata

__all__ = ["LET_GO_S", "TAKEN_BACK", "Deadline", "TritonClient"]

RETRY_AFTER_MS = 100
POLL_S = 0.1
PROBE_TIMEOUT_S = 5.0
PROBES = 3
LOG_EVERY_S = 1.0
BATCH_TIMEOUT_S = 15.0
"""For one batch. Few are in Triton at a time, so that a longer silence is no queue."""
LET_GO_S = 1.0
"""A batch whose caller has left is waited for this long: before it is out of Triton, no other may take its place."""
TAKEN_BACK = "taken back"
"""Message of the cancellation of a task whose batch may never be answered: it is not waited for."""
DEAD_PROCESS = re.compile(r"stub process .*(is not healthy|exited unexpectedly)|health mutex", re.IGNORECASE)
"""What Triton's Python backend says of a request for a model whose process is dead."""
UNSETTLED = ("LOADING", "UNLOADING")

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
"""No limit on messages: Triton is ours, and a batch of large images passes any fixed one."""

logger = logging.getLogger("ganvas.service")


@dataclass(frozen=True)
class Deadline:
    """When a caller's time is up, on time.monotonic's clock; None: never."""

    at_s: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        return cls(None if seconds is None else time.monotonic() + seconds)

    def remaining_s(self) -> float | None:
        """Seconds left.

        Raises:
            DeadlineError: none are left.
        """
        if self.at_s is None:
            return None
        remaining = self.at_s - time.monotonic()
        if remaining <= 0:
            raise DeadlineError("the deadline passed before the work was done. Allow more time or ask for less.")
        return remaining


class TritonClient:
    """A connection to one Triton.

    Args:
        address: host:port of its gRPC endpoint.
        batch_timeout_s: the longest wait for one batch, even if the caller allows more.
        secret: opens Triton's restricted endpoints; empty: they are open.
    """

    def __init__(self, address: str, *, batch_timeout_s: float = BATCH_TIMEOUT_S, secret: str = "") -> None:
        self.address = address
        self._metadata = secret_metadata(secret)
        self.batch_timeout_s = batch_timeout_s
        self._logged_s = -LOG_EVERY_S
        self.suspect = asyncio.Event()
        """Set when a call found Triton gone: wakes wait_lost()."""
        self.on_suspect: Callable[[str], None] = lambda model: None
        """Called with a Triton model that does not answer although Triton does: its process may be dead."""
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._unanswered: set[grpc.aio.UnaryUnaryCall[Any, Any]] = set()
        """Garbage collection would cancel them."""

    async def close(self) -> None:
        await self._channel.close(None)

    async def infer(
        self,
        model: str,
        version: int,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        deadline: Deadline,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> list[bytes]:
        """Run one batch.

        Args:
            inputs: name to [N, ...] array of a dtype of the sampler contract.
            outputs: names of the wanted outputs.
            metadata: sent along, for traces.
        Returns:
            The raw bytes of each output, in the order of `outputs`.
        Raises:
            AwayError: Triton is gone, or did not answer in time: the batch may be sent again.
            BusyError, DeadlineError, InferenceError: as Triton answered.
        """
        remaining_s = deadline.remaining_s()
        timeout_s = self.batch_timeout_s if remaining_s is None else min(remaining_s, self.batch_timeout_s)
        tensors = kserve.ModelInferRequest
        request = tensors(
            model_name=model,
            model_version=str(version),
            inputs=[
                tensors.InferInputTensor(name=name, datatype=kserve_datatype(array.dtype), shape=array.shape)
                for name, array in inputs.items()
            ],
            outputs=[tensors.InferRequestedOutputTensor(name=name) for name in outputs],
            raw_input_contents=[array.tobytes() for array in inputs.values()],
        )
        request.parameters["timeout"].int64_param = int(timeout_s * 1e6)
        call = self._stub.ModelInfer(request, metadata=metadata)
        if not await self._is_answered(call, timeout_s):
            if timeout_s == remaining_s:
                raise DeadlineError("the deadline passed before Triton answered. Allow more time or ask for less.")
            self.suspect.set()
            self.on_suspect(model)
            raise AwayError(f"Triton did not answer within {self.batch_timeout_s:g} s. Try again later.")
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            raise self._translate(error, model) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Triton said CANCELLED, or the channel did: grpc.aio makes it look as if our caller had left.
            self.suspect.set()
            raise AwayError("Triton is gone or stopping. Try again later.") from None
        names = [output.name for output in response.outputs]
        try:
            return [response.raw_output_contents[names.index(name)] for name in outputs]
        except (ValueError, IndexError):
            raise InferenceError(f"{model} gave outputs {names}; {list(outputs)} were asked for.") from None

    async def _is_answered(self, call: grpc.aio.UnaryUnaryCall[Any, Any], timeout_s: float) -> bool:
        """Wait for the end of a call, which goes on in any case; whether it came in time."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bool] = loop.create_future()
        gone: asyncio.Future[None] | None = None

        def settle(in_time: bool) -> None:
            if not answered.done():
                answered.set_result(in_time)

        def end(_: Any) -> None:
            self._unanswered.discard(call)
            settle(True)
            if gone is not None and not gone.done():
                gone.set_result(None)

        self._unanswered.add(call)
        call.add_done_callback(end)
        # A timer of our own: asyncio.wait would cost several times as much.
        timer = loop.call_later(timeout_s, settle, False)
        try:
            return await answered
        except asyncio.CancelledError as left:
            if left.args != (TAKEN_BACK,) and call in self._unanswered:
                gone = loop.create_future()
                await asyncio.wait({gone}, timeout=LET_GO_S)
            raise
        finally:
            timer.cancel()

    async def wait_settled(self) -> dict[tuple[str, str], str]:
        """Wait until Triton answers and has tried to load every model. The caller bounds the wait.

        Returns:
            Why each model that is not ready is not: (name, version), where version is "" for all of them.
        """
        while True:
            try:
                index = await self._stub.RepositoryIndex(
                    kserve.RepositoryIndexRequest(), timeout=PROBE_TIMEOUT_S, metadata=self._metadata
                )
            except grpc.aio.AioRpcError:
                index = None
            if index is not None and not any(entry.state in UNSETTLED for entry in index.models):
                return {
                    (entry.name, entry.version): entry.reason or entry.state or "not loaded"
                    for entry in index.models
                    if entry.state != "READY"
                }
            await asyncio.sleep(POLL_S)

    async def wait_lost(self, every_s: float = 1.0) -> None:
        """Return once Triton is gone. Looks every `every_s` seconds, and at once when a call failed.

        A Triton that is only slow to answer is gone after PROBES silences in a row: a busy machine is not a dead one.
        """
        silences = 0
        while silences < PROBES:
            self.suspect.clear()
            live = await self.is_live()
            if live is False:
                return
            silences = 0 if live else silences + 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.suspect.wait(), every_s)

    async def is_live(self) -> bool | None:
        """Whether Triton answers; None: it is silent."""
        try:
            reply = await self._stub.ServerLive(kserve.ServerLiveRequest(), timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return None if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else False
        return bool(reply.live)

    async def num_instances(self, model: str, version: int) -> int:
        """How many batches of a model run at the same time.

        Raises:
            UnavailableError: Triton has no such version ready.
        """
        request = kserve.ModelConfigRequest(name=model, version=str(version))
        try:
            reply = await self._stub.ModelConfig(request, timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"Triton has no model {model} version {version} ready: {error.details()}") from None
        groups = reply.config.instance_group
        return sum(group.count * max(1, len(group.gpus)) for group in groups) or 1

    def _translate(self, error: grpc.aio.AioRpcError, model: str) -> ServiceError:
        """Triton's error as ours. Triton has one code, UNAVAILABLE, for a full queue and a stop."""
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE and "maximum queue size" in details:
            return BusyError(f"the queue of model {model} is full.", retry_after_ms=RETRY_AFTER_MS)
        self.suspect.set()
        # Batches are sent again and again meanwhile: one line a second says it.
        if time.monotonic() - self._logged_s >= LOG_EVERY_S:
            self._logged_s = time.monotonic()
            logger.warning("Triton at %s: %s: %s", self.address, code.name, details)
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return AwayError("Triton is gone or stopping. Try again later.")
        if code is grpc.StatusCode.NOT_FOUND:
            return AwayError(f"Triton has not loaded model {model}. Try again later.")
        if DEAD_PROCESS.search(details):
            self.on_suspect(model)
            return AwayError(f"the process that runs model {model} is dead. Try again later.")
        return InferenceError(f"{model}: {code.name}: {details}")
