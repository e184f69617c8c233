"""What stands behind the gateway, as Envoy's clusters: the service, Triton by gRPC and HTTP, one for each quota."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.health_check_pb2 import HealthCheck
from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions, Http2ProtocolOptions
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from serving.gateway.messages import address, count, packed, seconds
from serving.gateway.settings import GatewaySettings
from serving.keys.store import Key

__all__ = [
    "INNER_SOCKET",
    "SERVICE",
    "TRITON_GRPC",
    "TRITON_HTTP",
    "collector_cluster",
    "key_cluster",
    "key_clusters",
    "upstream_clusters",
]

SERVICE, TRITON_GRPC, TRITON_HTTP = "service", "triton-grpc", "triton-http"
COLLECTOR = "collector"
INNER_SOCKET = "inner.sock"
"""Where the gateway listens for itself: a request of a key with a concurrency quota passes its cluster first, whose
circuit breaker counts them on all paths together, and then comes in here for the cluster that it is for."""

CONNECT_S = 2.0
NO_BOUND = 2**31 - 1
STREAM_WINDOW_BYTES = 256 * 1024
CONNECTION_WINDOW_BYTES = 2**30
"""Streams that nobody reads keep their own windows; all of them together must never fill the connection's."""
IDLE_S = 60.0
"""Of HTTP/1 connections, one for each request at a time: what a burst has opened is closed again."""
PING_EVERY_S, PING_TIMEOUT_S = 30.0, 20.0
PROBE_EVERY_S, PROBE_TIMEOUT_S = 1.0, 2.0
PROBE_AGAIN_S = 0.1
"""While it counts as unhealthy: what has come up is seen at once."""
PROBES_MISSED = 2
"""In a row, until what is probed counts as unhealthy."""
TRITON_READY = "/v2/health/ready"


def upstream_clusters(settings: GatewaySettings, folder: Path) -> list[Any]:
    """The three that requests end at. A Triton that is at its bound refuses at once instead of queueing."""
    direct = settings.max_direct_requests
    service = _cluster(SERVICE, settings.service, folder, protocol=_http2(), bound=NO_BOUND)
    service.health_checks.append(_probe(grpc_health_check={}))
    triton = _cluster(TRITON_HTTP, settings.triton_http, folder, protocol=_http1(), bound=direct)
    triton.health_checks.append(_probe(http_health_check={"path": TRITON_READY}))
    return [service, _cluster(TRITON_GRPC, settings.triton_grpc, folder, protocol=_http2(), bound=direct), triton]


def key_cluster(key: Key) -> str | None:
    """The cluster of a key that has a concurrency quota."""
    return f"key-{key.name}" if key.concurrency is not None else None


def key_clusters(keys: Sequence[Key], folder: Path) -> list[Any]:
    """One for each key with a concurrency quota, back into the gateway."""
    return [
        _cluster(f"key-{key.name}", [str(folder / INNER_SOCKET)], folder, protocol=_http2(), bound=key.concurrency)
        for key in keys
        if key.concurrency is not None
    ]


def collector_cluster(endpoint: str, folder: Path) -> Any:
    """The OpenTelemetry collector.

    Args:
        endpoint: http://host:port.
    """
    where = urlsplit(endpoint).netloc
    return _cluster(COLLECTOR, [where], folder, protocol=_http1(), bound=NO_BOUND)


def _cluster(name: str, where: Sequence[str], folder: Path, *, protocol: Any, bound: int) -> Any:
    names_only = any(not place.startswith("/") and not _is_number(place) for place in where)
    return Cluster(
        name=name,
        type=Cluster.STRICT_DNS if names_only else Cluster.STATIC,
        connect_timeout=seconds(CONNECT_S),
        load_assignment={
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(place, folder)}} for place in where]},
            ],
        },
        lb_policy=Cluster.LEAST_REQUEST,
        per_connection_buffer_limit_bytes=count(STREAM_WINDOW_BYTES),
        circuit_breakers={
            "thresholds": [
                {
                    "max_connections": count(bound),
                    "max_pending_requests": count(bound),
                    "max_requests": count(bound),
                    "max_retries": count(bound),
                    "track_remaining": True,
                }
            ]
        },
        typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(protocol)},
    )


def _probe(**how: Any) -> Any:
    """Asked whether it is well, so that the gateway can say so. Requests go to the unhealthy too, where all are: what
    is stopping or has just come back answers better than we could."""
    return HealthCheck(
        timeout=seconds(PROBE_TIMEOUT_S),
        interval=seconds(PROBE_EVERY_S),
        no_traffic_interval=seconds(PROBE_EVERY_S),
        unhealthy_interval=seconds(PROBE_AGAIN_S),
        unhealthy_threshold=count(PROBES_MISSED),
        healthy_threshold=count(1),
        **how,
    )


def _http2() -> Any:
    options = Http2ProtocolOptions(
        max_concurrent_streams=count(NO_BOUND),
        initial_stream_window_size=count(STREAM_WINDOW_BYTES),
        initial_connection_window_size=count(CONNECTION_WINDOW_BYTES),
        connection_keepalive={"interval": seconds(PING_EVERY_S), "timeout": seconds(PING_TIMEOUT_S)},
    )
    return HttpProtocolOptions(explicit_http_config={"http2_protocol_options": options})


def _http1() -> Any:
    return HttpProtocolOptions(
        common_http_protocol_options={"idle_timeout": seconds(IDLE_S)},
        explicit_http_config={"http_protocol_options": Http1ProtocolOptions()},
    )


def _is_number(place: str) -> bool:
    """Whether the host is an IP address, which needs no resolving."""
    try:
        ipaddress.ip_address(place.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
