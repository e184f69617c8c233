"""A connected target that has given its golden images, so that no wrong answer is ever timed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clients.bench.targets.grpc_transport import GrpcTransport
from clients.bench.targets.http_transport import HttpTransport
from clients.bench.targets.inprocess import InProcess, open_onnx
from clients.bench.targets.requests import Request, make_requests, sha256_of
from clients.bench.targets.target import Target
from clients.bench.targets.transport import CallFailedError, TargetError, Transport
from ganvas_core.cli import UserError

__all__ = ["CallFailedError", "Connection", "TargetError", "WrongAnswerError", "connect"]

FIRST_TIMEOUT_S = 60.0
MOST_VERIFIED = 64
STARTING_PAUSE_S = 0.2
PASSING = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
NO_KEY = ("UNAUTHENTICATED", "PERMISSION_DENIED", "HTTP 401", "HTTP 403")
KEY_WANTED = "Set GANVAS_API_KEY to a key that this server takes."


class WrongAnswerError(UserError):
    """The target gives other images than it should: its speed means nothing."""


@dataclass(kw_only=True)
class Connection:
    """Calls on a target."""

    target: Target
    transport: Transport
    requests: list[Request]
    num_checked: int = 0
    timings_us: dict[str, list[int]] = field(default_factory=dict)
    """What the server says of its time, of the answers that were looked at."""

    def __post_init__(self) -> None:
        self._turns: Iterator[int] = itertools.cycle(range(len(self.requests)))
        self._known: dict[int, str] = {}

    async def call(self, timeout_s: float) -> Any:
        """The next request's reply, not yet looked at: `check` does, outside of what is timed.

        Raises:
            CallFailedError: there is none.
        """
        turn = next(self._turns)
        return turn, await self.transport.call(self.requests[turn].body, timeout_s)

    def check(self, answer: tuple[int, Any]) -> None:
        """Look at an answer, if its turn has come. Raises WrongAnswerError."""
        turn, reply = answer
        request = self.requests[turn]
        if not request.checked:
            return
        try:
            found = sha256_of(self.transport.first_image(reply))
        except Exception as error:  # whatever a parser makes of a strange reply
            raise WrongAnswerError(f"{self._name}: the answer is none of the protocol's: {error!r:.200}.") from None
        expected = self._known.setdefault(turn, request.expected or found)
        if found != expected:
            raise WrongAnswerError(
                f"{self._name} answers wrongly: request {turn} gave an image with SHA-256 {found[:16]}…, not "
                f"{expected[:16]}…. The speed of wrong answers is not reported."
            )
        self.num_checked += 1
        for part, value in self.transport.timing_us(reply).items():
            self.timings_us.setdefault(part, []).append(value)

    async def learn_shapes(self) -> None:
        """Make the requests of a file as the server wants them: not every model has a batch dimension."""
        self.requests = make_requests(self.target, await self.transport.num_dimensions())

    @property
    def _name(self) -> str:
        return f"{self.target.model} at {self.target.address}"

    async def verify(self) -> None:
        """Ask for every golden image once, before anything is timed; of an unknown model, for what is looked at.

        Raises:
            TargetError: it does not answer.
            WrongAnswerError: an answer is not the certificate's.
        """
        until_s = time.monotonic() + self.target.wait_s
        once = {request.expected or turn: turn for turn, request in enumerate(self.requests) if request.checked}
        for turn in list(once.values())[:MOST_VERIFIED]:
            request = self.requests[turn]
            reply = await self._first_reply(request, until_s)
            if self.target.tolerance_levels and request.expected:
                self._learn(turn, reply)
            self.check((turn, reply))
        self.num_checked = 0
        self.timings_us.clear()

    async def _first_reply(self, request: Request, until_s: float) -> Any:
        """A server that is starting is waited for, and so is a quota that is used up."""
        while True:
            try:
                return await self.transport.call(request.body, FIRST_TIMEOUT_S)
            except CallFailedError as error:
                passes = error.status in PASSING
                if not passes or time.monotonic() > until_s:
                    more = "--wait-s waits longer." if passes else KEY_WANTED if error.status in NO_KEY else ""
                    raise TargetError(f"{self._name} answers {error}. {more}".rstrip()) from None
                pause_s = error.retry_s if error.status == "RESOURCE_EXHAUSTED" else STARTING_PAUSE_S
            await asyncio.sleep(pause_s)

    def _learn(self, turn: int, reply: Any) -> None:
        """Take an answer for right that is near the reference's, for every request of the same golden seed."""
        reference = open_onnx(self.target.reference, threads=1)(self.requests[turn].body)
        levels = int(np.abs(reference[0].astype(int) - reply[0].astype(int)).max())
        if levels > self.target.tolerance_levels:
            raise WrongAnswerError(
                f"{self._name}: an image differs from ONNX Runtime's by {levels} of 255 levels, more than "
                f"{self.target.tolerance_levels}. The speed of wrong answers is not reported."
            )
        found = sha256_of(self.transport.first_image(reply))
        for other, request in enumerate(self.requests):
            if request.expected == self.requests[turn].expected:
                self._known[other] = found

    async def close(self) -> None:
        await self.transport.close()


async def connect(target: Target, *, channels: int = 1, verify: bool = True) -> Connection:
    """Reach a target and check its golden images.

    Raises:
        TargetError: it cannot be reached, or does not answer.
        WrongAnswerError: it answers wrongly.
    """
    transport: Transport
    if target.kind == "process":
        transport = InProcess(target)
    elif target.kind == "http":
        transport = HttpTransport(target)
    else:
        transport = GrpcTransport(target, channels=channels)
    connection = Connection(target=target, transport=transport, requests=make_requests(target))
    try:
        await transport.open()
        if target.input_data:
            await connection.learn_shapes()
        if verify:
            await connection.verify()
    except BaseException:
        await connection.close()
        raise
    return connection
