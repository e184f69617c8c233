"""When a call is tried again: an image is a pure function of its request, so every call is safe to repeat."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import grpc

from ganvas_client.errors import (
    DeadlineExceededError,
    GanvasError,
    ResourceExhaustedError,
    UnavailableError,
    from_rpc_error,
    header,
    nobody_there,
    retry_hint_s,
)

__all__ = ["REQUEST_ID", "Attempts", "Connection"]

_random = random.Random()
"""An application's own random numbers stay as its seed makes them."""

REQUEST_ID = "x-request-id"
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 1.0


@dataclass(kw_only=True)
class Connection:
    """Whether a server ever answered at an address. Until one has, a failed connection is not retried."""

    address: str
    tls: bool = False
    answered: bool = False
    wait_for_ready: bool = False
    server: str = "sampling service"
    """What should answer there."""


class Attempts:
    """The attempts of one call.

    Args:
        rpc, timeout_s: of the call; the time is for all attempts together.
        told_timeout_s: what the caller gave, of which an earlier call may have taken a part.
        request_id: what the call is known by if the service does not say.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        rpc: str,
        timeout_s: float | None,
        told_timeout_s: float | None,
        request_id: str,
    ) -> None:
        self._connection = connection
        self._rpc = rpc
        self._told_timeout_s = told_timeout_s
        self._request_id = request_id
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._num_failures = 0
        self._last: GanvasError | None = None

    def remaining_s(self) -> float | None:
        """The deadline of the next attempt; None: no limit."""
        return None if self._end_s is None else max(0.0, self._end_s - time.monotonic())

    def answered(self) -> None:
        """A reply came: the next failure is a first one."""
        self._connection.answered = True
        self._num_failures = 0

    def wait_s(self, error: grpc.RpcError) -> float:
        """How long to wait before the next attempt.

        The service's own hint, or, while it is unavailable, a random time that grows from failure to failure.

        Raises:
            GanvasError: there is none, since time is up, or it would fail again.
        """
        failure = self.failure(error)
        hint_s = retry_hint_s(error)
        hopeless = nobody_there(error) and not self._connection.answered
        self._connection.answered |= not nobody_there(error)
        if isinstance(failure, UnavailableError) and not hopeless:
            growing_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**self._num_failures)
            wait_s = _random.uniform(0.5, 1.0) * growing_s if hint_s is None else hint_s
        elif isinstance(failure, ResourceExhaustedError) and hint_s is not None:
            # Later each time, and spread: the service gives every caller the same time.
            wait_s = hint_s * _random.uniform(1.0, 1.25 + min(self._num_failures, 3) / 4)
        else:
            raise failure
        self._num_failures = min(self._num_failures + 1, 10)
        self._last = failure
        remaining_s = self.remaining_s()
        if remaining_s is not None and wait_s >= remaining_s:
            raise failure
        return wait_s

    def failure(self, error: grpc.RpcError) -> GanvasError:
        """What the caller is told of a failed attempt that is the last one."""
        failure = from_rpc_error(
            error,
            address=self._connection.address,
            rpc=self._rpc,
            timeout_s=self._told_timeout_s,
            tls=self._connection.tls,
            server=self._connection.server,
        )
        if (
            isinstance(failure, DeadlineExceededError)
            and self._connection.wait_for_ready
            and not self._connection.answered
        ):
            failure = DeadlineExceededError(
                f"{failure} No {self._connection.server} has answered there: check the address, and that one runs "
                "(./ganvas serve)."
            )
        if isinstance(failure, DeadlineExceededError) and self._last is not None:
            failure = DeadlineExceededError(f"{failure} The attempt before: {self._last}")
        failure.request_id = header(error, REQUEST_ID) or self._request_id
        return failure
