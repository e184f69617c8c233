"""The rate quota of each key, as Envoy's local rate limit: one token bucket a caller, shared by all its threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit_pb2 import LocalRateLimit

from serving.gateway.messages import count, seconds
from serving.keys.store import Key

__all__ = ["RETRY_AFTER_MS", "rate_limits"]

RETRY_AFTER_MS = 500
NO_BOUND = 2**31 - 1
ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}


def rate_limits(keys: Sequence[Key]) -> Any | None:
    """For a virtual host; None without a rate quota. The bucket holds one second's worth, and starts full."""
    limited = [key for key in keys if key.rate is not None]
    if not limited:
        return None
    return LocalRateLimit(
        stat_prefix="quota",
        # For callers without a quota: a bucket that never empties.
        token_bucket={
            "max_tokens": NO_BOUND,
            "tokens_per_fill": count(NO_BOUND),
            "fill_interval": seconds(1),
        },
        filter_enabled=ALWAYS,
        filter_enforced=ALWAYS,
        rate_limited_as_resource_exhausted=True,
        rate_limits=[
            {"actions": [{"request_headers": {"header_name": "x-ganvas-caller", "descriptor_key": "caller"}}]}
        ],
        descriptors=[
            {
                "entries": [{"key": "caller", "value": key.name}],
                "token_bucket": {
                    "max_tokens": key.rate,
                    "tokens_per_fill": count(key.rate or 0),
                    "fill_interval": seconds(1),
                },
            }
            for key in limited
        ],
        always_consume_default_token_bucket={"value": False},
    )
