"""What a call can raise.

GanvasError
├── InvalidArgumentError (also a ValueError)   a field is wrong; says which, its value and the limit
├── NotFoundError                              no such model or version; says what there is
├── ResourceExhaustedError                     the queue is full or a message too large; says what to do
├── DeadlineExceededError                      timeout_s passed
├── UnavailableError                           no service answers, or it is starting or draining; try again
├── UnauthenticatedError                       the service wants credentials
├── UnimplementedError                         the service or the model cannot do this
├── CallCancelledError                         the call was cancelled
└── InternalError                              anything else: a fault of the service
"""

from __future__ import annotations

from typing import Any

import grpc

__all__ = [
    "CallCancelledError",
    "DeadlineExceededError",
    "GanvasError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "from_rpc_error",
]


class GanvasError(Exception):
    """Any failure of a call."""

    code = grpc.StatusCode.UNKNOWN
    """The gRPC status."""


class InvalidArgumentError(GanvasError, ValueError):
    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(GanvasError):
    code = grpc.StatusCode.NOT_FOUND


class ResourceExhaustedError(GanvasError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    retry_after_s: float | None = None
    """When to retry, if the service says so because a queue was full."""


class DeadlineExceededError(GanvasError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class UnavailableError(GanvasError):
    code = grpc.StatusCode.UNAVAILABLE


class UnauthenticatedError(GanvasError):
    code = grpc.StatusCode.UNAUTHENTICATED


class UnimplementedError(GanvasError):
    code = grpc.StatusCode.UNIMPLEMENTED


class CallCancelledError(GanvasError):
    code = grpc.StatusCode.CANCELLED


class InternalError(GanvasError):
    code = grpc.StatusCode.INTERNAL


_BY_CODE: dict[grpc.StatusCode, type[GanvasError]] = {kind.code: kind for kind in GanvasError.__subclasses__()}
_BY_CODE[grpc.StatusCode.OUT_OF_RANGE] = InvalidArgumentError
_BY_CODE[grpc.StatusCode.PERMISSION_DENIED] = UnauthenticatedError


def from_rpc_error(error: grpc.RpcError, *, address: str, rpc: str, timeout_s: float | None) -> GanvasError:
    """The exception for a failed call, with the service's message."""
    code, details = error.code(), error.details() or "no details"
    kind = _BY_CODE.get(code, InternalError)
    if kind is DeadlineExceededError:
        limit = "its deadline" if timeout_s is None else f"timeout_s {timeout_s:g}"
        return kind(f"{rpc} at {address} did not finish within {limit}.")
    if kind is UnavailableError and details.startswith(("failed to connect", "DNS resolution failed")):
        return kind(f"no sampling service answers at {address} ({details}). Start one: ganvas serve.")
    if kind is InternalError:
        return kind(f"{rpc} at {address} failed with {code.name}: {details}")
    failure = kind(details)
    if isinstance(failure, ResourceExhaustedError):
        failure.retry_after_s = _retry_after_s(error)
    return failure


def _retry_after_s(error: grpc.RpcError) -> float | None:
    """The service's hint, in the metadata of gRFC A6."""
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == "grpc-retry-pushback-ms" and value.isdecimal():
            return int(value) / 1000
    return None
