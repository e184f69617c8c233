"""What the gateway answers by itself, in the words and statuses of the rest: a gRPC status, a reason, a hint."""

from __future__ import annotations

from typing import Any

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLogFilter
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    LocalReplyConfig,
    ResponseMapper,
)

from serving.gateway.messages import count, inline
from serving.gateway.rates import RETRY_AFTER_MS

__all__ = ["local_replies"]

RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 8, 12, 14

FULL = "everything that may run at the same time does: the key's concurrency quota or the server's bound is reached."
REPLIES: tuple[tuple[tuple[str, ...], int, int, str], ...] = (
    (("RL",), 429, RESOURCE_EXHAUSTED, "the key's rate quota is used up. Send fewer requests a second."),
    (("UO",), 429, RESOURCE_EXHAUSTED, FULL + " Try again a moment later."),
    (("OM",), 503, RESOURCE_EXHAUSTED, "the gateway is short of memory. Try again a moment later."),
    (
        ("UF", "UC", "UH", "UR", "LR", "NC", "UT"),
        503,
        UNAVAILABLE,
        "what answers this call is not there: it starts, restarts or stops. Try again a moment later.",
    ),
)
"""Envoy's response flags, HTTP status, gRPC status, message."""


def local_replies() -> Any:
    """Mappers, first match first. Whatever has none keeps Envoy's status and text."""
    mappers = [_mapper(_flags(flags), status, grpc, text) for flags, status, grpc, text in REPLIES]
    too_large = AccessLogFilter(
        status_code_filter={
            "comparison": {"op": "EQ", "value": {"default_value": 413, "runtime_key": "ganvas.too_large"}}
        }
    )
    message = "the request is larger than the gateway lets through. docs/security.md lists the limits."
    mappers.append(_mapper(too_large, 413, RESOURCE_EXHAUSTED, message, again=False))
    compressed = AccessLogFilter(
        status_code_filter={
            "comparison": {"op": "EQ", "value": {"default_value": 415, "runtime_key": "ganvas.compressed"}}
        }
    )
    mappers.append(ResponseMapper(filter=compressed, headers_to_add=[_header("grpc-status", str(UNIMPLEMENTED))]))
    return LocalReplyConfig(mappers=mappers)


def _mapper(when: Any, status: int, grpc: int, message: str, *, again: bool = True) -> Any:
    headers = [_header("grpc-status", str(grpc))]
    if again and grpc == RESOURCE_EXHAUSTED:
        headers += [_header("grpc-retry-pushback-ms", str(RETRY_AFTER_MS)), _header("retry-after", "1")]
    return ResponseMapper(filter=when, status_code=count(status), body=inline(message), headers_to_add=headers)


def _flags(flags: tuple[str, ...]) -> Any:
    return AccessLogFilter(response_flag_filter={"flags": flags})


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
