"""Every way in which a call can fail, and the gRPC status of each.

InvalidFieldError           a field of the request is wrong (ganvas_core.requests)
ServiceError
├── NotFoundError           no such model or version
├── DigestError             the model is served from another file than the caller wants
├── BusyError               a queue is full; says when to retry
├── DeadlineError           the caller's time is up
├── UnavailableError        starting, draining, or Triton is gone
│   └── AwayError           the same of one batch, which may be sent again
├── IdleReaderError         the caller does not read what it asked for
└── InferenceError          Triton rejected what the service sent: our defect
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass

import grpc

from ganvas_core.requests.errors import InvalidFieldError

__all__ = [
    "AwayError",
    "BusyError",
    "DeadlineError",
    "DigestError",
    "IdleReaderError",
    "InferenceError",
    "NotFoundError",
    "ServiceError",
    "Status",
    "UnavailableError",
    "status_of",
]

BINDING_KEY = "x-ganvas-binding-ms"
"""Metadata for the gateway: refusals.lua."""

logger = logging.getLogger("ganvas.service")


class ServiceError(Exception):
    """A failed call, with a message for its caller."""


class NotFoundError(ServiceError):
    """No such model or version; the message lists those that exist."""


class DigestError(ServiceError):
    """The digest that the caller pins is not the served one; the message lists those that are."""


class BusyError(ServiceError):
    """A queue is full."""

    def __init__(self, message: str, *, retry_after_ms: int, reason: str = "triton", binding_ms: int = 0) -> None:
        super().__init__(f"{message} Retry in {retry_after_ms} ms.")
        self.retry_after_ms = retry_after_ms
        self.reason = reason
        """For the metrics: calls, wait, bytes or triton."""
        self.binding_ms = binding_ms
        """How long the gateway may refuse calls of the same caller that ask for as much, without asking again."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """When to try again: by the first, gRPC clients with a retry policy wait (gRFC A6)."""
        hint = ("grpc-retry-pushback-ms", str(self.retry_after_ms))
        return (hint, (BINDING_KEY, str(self.binding_ms))) if self.binding_ms else (hint,)


class DeadlineError(ServiceError):
    """The caller's deadline passed before the work was done."""


class UnavailableError(ServiceError):
    """The service cannot answer now, and may later."""


class AwayError(UnavailableError):
    """Triton, or the process that runs a model, is away: a batch was lost, through no fault of its own."""


class IdleReaderError(ServiceError):
    """A stream's caller has read nothing for too long."""


class InferenceError(ServiceError):
    """Triton answered with an error that no caller can fix. Its text goes to the log only."""


CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidFieldError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (DigestError, grpc.StatusCode.FAILED_PRECONDITION),
    (BusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (IdleReaderError, grpc.StatusCode.ABORTED),
)
"""Everything else is INTERNAL."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a failed call sends back."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, str], ...] = ()


def status_of(error: Exception) -> Status:
    """The status of a failed call.

    An error outside the table is logged with an id, and only the id goes to the caller.
    """
    for kind, code in CODES:
        if isinstance(error, kind):
            metadata = error.metadata() if isinstance(error, BusyError) else ()
            return Status(code=code, message=str(error), trailing_metadata=metadata)
    error_id = secrets.token_hex(6)
    logger.error("internal error %s", error_id, exc_info=error)
    message = f"internal error {error_id}: look for this id in the log of the service."
    return Status(code=grpc.StatusCode.INTERNAL, message=message)
