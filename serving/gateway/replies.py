"""What the gateway answers by itself, in the words and statuses of the rest: a gRPC status, a reason, a hint."""

from __future__ import annotations

from typing import Any

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLogFilter
from envoy.extensions.filters.http.custom_response.v3.custom_response_pb2 import CustomResponse
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy.extensions.http.custom_response.local_response_policy.v3.local_response_policy_pb2 import LocalResponsePolicy
from envoy.type.matcher.v3.http_inputs_pb2 import HttpResponseHeaderMatchInput
from google.protobuf.message import Message

from serving.gateway.messages import count, inline, packed
from serving.gateway.rates import RETRY_AFTER_MS

__all__ = ["STOPPING_STATUS", "local_replies", "models_away"]

RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 8, 12, 14
STOPPING_STATUS = 599
"""Of a direct call that is turned away, until it is given its words and 503, which by itself is mapped to others."""

LIMITED = "the key's rate quota is used up. Send fewer requests a second."
FULL = "too many requests at the same time: the limit is the key's --concurrency, or --max-direct-requests. Retry soon."
SHORT = "the gateway's memory is full (--gateway-memory-mib). Try again in a moment."
AWAY = "the server behind the gateway is starting, restarting or stopping. Try again in a moment."
STOPPING = "the server is stopping. Try again in a moment, or at another."
NOT_READY = "not ready: the sampling service or Triton is away, starting or stopping."
TOO_LARGE = "the request is larger than the limit of this call, which docs/security.md lists."


def local_replies() -> Any:
    """Mappers, first match first. Whatever has none keeps Envoy's status and text."""
    return LocalReplyConfig(
        mappers=[
            # Envoy sets the flag of its rate limit too late for a filter.
            _mapper(_status(429), 429, RESOURCE_EXHAUSTED, LIMITED, hint=True),
            _mapper(_flags("UO"), 429, RESOURCE_EXHAUSTED, FULL, hint=True),
            _mapper(_flags("UF", "UC", "UH", "UR", "LR", "NC", "UT"), 503, UNAVAILABLE, AWAY),
            _mapper(_flags("LH"), 503, UNAVAILABLE, NOT_READY),
            _mapper(_status(STOPPING_STATUS), 503, UNAVAILABLE, STOPPING),
            # Of the overload manager, whose flag comes too late as well: nothing else gives 503.
            _mapper(_status(503), 503, RESOURCE_EXHAUSTED, SHORT, hint=True),
            _mapper(_status(413), 413, RESOURCE_EXHAUSTED, TOO_LARGE),
            ResponseMapper(filter=_status(415), headers_to_add=[_header("grpc-status", str(UNIMPLEMENTED))]),
        ]
    )


def models_away() -> Any:
    """A model whose process has died, or which is being loaded anew, is away for a while: Triton calls the first its
    own failure and the second unknown, which no client repeats. json.lua says the same of its HTTP."""
    says = HttpResponseHeaderMatchInput(header_name="grpc-message")
    words = ({"contains": "Stub process "}, {"contains": "has no available versions"})
    # As a status of HTTP that gRPC takes for UNAVAILABLE; 503 is mapped to something else above.
    away = LocalResponsePolicy(
        status_code=count(502),
        body_format={"text_format_source": inline("%RESP(GRPC-MESSAGE)%")},
        response_headers_to_add=[_header("grpc-status", str(UNAVAILABLE))],
    )
    found = {
        "predicate": {
            "or_matcher": {
                "predicate": [
                    {"single_predicate": {"input": _extension("says", says), "value_match": word}} for word in words
                ]
            }
        },
        "on_match": {"action": _extension("away", away)},
    }
    return CustomResponse(custom_response_matcher={"matcher_list": {"matchers": [found]}})


def _extension(name: str, message: Message) -> dict[str, Any]:
    return {"name": name, "typed_config": packed(message)}


def _mapper(when: Any, status: int, grpc: int, message: str, *, hint: bool = False) -> Any:
    """Args: hint: a retry helps, after a while."""
    headers = [_header("grpc-status", str(grpc))]
    if hint:
        headers += [_header("grpc-retry-pushback-ms", str(RETRY_AFTER_MS)), _header("retry-after", "1")]
    return ResponseMapper(filter=when, status_code=count(status), body=inline(message), headers_to_add=headers)


def _flags(*flags: str) -> Any:
    """Envoy's response flags."""
    return AccessLogFilter(response_flag_filter={"flags": flags})


def _status(status: int) -> Any:
    value = {"default_value": status, "runtime_key": f"ganvas.status_{status}"}
    return AccessLogFilter(status_code_filter={"comparison": {"op": "EQ", "value": value}})


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
