"""What a call can raise.

GanvasError
├── InvalidArgumentError (also a ValueError)   a field is wrong; says which, its value and the limit
├── NotFoundError                              no such model or version; says what there is
├── FailedPreconditionError                    the digest that you pin is not the one that is served
├── ResourceExhaustedError                     the service is too busy or a message too large; says what to do
├── DeadlineExceededError                      timeout_s passed
├── UnavailableError                           no service answers, or none did until timeout_s passed; says why
├── UnauthenticatedError                       the service wants another key or other credentials
├── UnimplementedError                         the service or the model cannot do this
├── CallCancelledError                         the call was cancelled, or its client is closed
└── InternalError                              anything else: a fault of the service
"""

from __future__ import annotations

from typing import Any

import grpc

from ganvas_core.connection import NO_CONNECTION, connection_problem

__all__ = [
    "CallCancelledError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "GanvasError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "from_rpc_error",
    "header",
    "nobody_there",
    "retry_hint_s",
]

KEY_WANTED = (
    "Send the metadata 'authorization: Bearer KEY'",
    "Give a key that is valid: api_key= of Sampler, or GANVAS_API_KEY for a verb",
)
"""What the gateway says of a key, for callers in any language, and what is said here."""

LOST = "Stream removed"
"""How gRPC's error begins, whatever its status, when a connection broke under a call."""


class GanvasError(Exception):
    """Any failure of a call."""

    code = grpc.StatusCode.UNKNOWN
    """The gRPC status."""
    request_id: str = ""
    """By this the service's log has the call."""


class InvalidArgumentError(GanvasError, ValueError):
    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(GanvasError):
    code = grpc.StatusCode.NOT_FOUND


class FailedPreconditionError(GanvasError):
    code = grpc.StatusCode.FAILED_PRECONDITION


class ResourceExhaustedError(GanvasError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    retry_after_s: float | None = None
    """When to retry, if the service says so because it is busy: timeout_s left no time for it."""


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


def from_rpc_error(
    error: grpc.RpcError,
    *,
    address: str,
    rpc: str,
    timeout_s: float | None,
    tls: bool = False,
    server: str = "sampling service",
) -> GanvasError:
    """The exception for a failed call, with the server's message."""
    code, details = error.code(), error.details() or ""
    kind = _BY_CODE.get(code, InternalError)
    if details.startswith(LOST) and kind is not DeadlineExceededError:
        return UnavailableError(f"the connection to {address} broke during {rpc} ({details}).")
    if code is UnavailableError.code and (problem := connection_problem(details, address, tls=tls, server=server)):
        return UnavailableError(problem)
    if kind is DeadlineExceededError:
        limit = "its deadline" if timeout_s is None else f"timeout_s {timeout_s:g}"
        return kind(f"{rpc} at {address} did not finish within {limit}.")
    if kind is UnimplementedError and server != "sampling service":
        return kind(
            f"what answers at {address} is no {server}: it does not speak KServe v2 ({details or 'no reason'})."
        )
    if kind is UnimplementedError and details in ("", "Method not found!"):
        return kind(
            f"what answers at {address} is no sampling service: it knows no ganvas.v1.Sampler/{rpc}. Give the address "
            "that ./ganvas serve prints."
        )
    if kind is InternalError or not details:
        return kind(f"{rpc} at {address} failed with {code.name}: {details or 'it gives no reason'}")
    failure = kind(details.replace(*KEY_WANTED))
    if isinstance(failure, ResourceExhaustedError):
        failure.retry_after_s = retry_hint_s(error)
    return failure


def nobody_there(error: grpc.RpcError) -> bool:
    """Whether there was no connection to make the call on."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and (error.details() or "").startswith(NO_CONNECTION)


def retry_hint_s(error: grpc.RpcError) -> float | None:
    """When to retry, as the service says in the metadata of gRFC A6, or a proxy in HTTP's retry-after."""
    if (milliseconds := header(error, "grpc-retry-pushback-ms")).isdecimal():
        return int(milliseconds) / 1000
    seconds = header(error, "retry-after")
    return float(seconds) if seconds.isdecimal() else None


def header(call: Any, name: str) -> str:
    """One value of a finished call's trailing or initial metadata; empty if there is none."""
    for metadata in (call.trailing_metadata(), call.initial_metadata()):
        for key, value in metadata or ():
            if key == name and isinstance(value, str):
                return value
    return ""
