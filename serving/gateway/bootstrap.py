"""All of Envoy's configuration as files in one folder: what is fixed for a run, and what may change while it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.overload.v3.overload_pb2 import OverloadManager
from envoy.extensions.resource_monitors.downstream_connections.v3.downstream_connections_pb2 import (
    DownstreamConnectionsConfig,
)
from envoy.extensions.resource_monitors.fixed_heap.v3.fixed_heap_pb2 import FixedHeapConfig
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from serving.gateway.clusters import collector_cluster, key_clusters, upstream_clusters
from serving.gateway.listener import AUTHORITY, CERTIFICATE, front_door, inner_door
from serving.gateway.messages import packed, seconds
from serving.gateway.routes import routes
from serving.gateway.settings import GatewaySettings

__all__ = ["ADMIN_SOCKET", "BOOTSTRAP", "changing_files", "fixed_files", "whole"]

ADMIN_SOCKET = "admin.sock"
BOOTSTRAP = "envoy.json"
HEAP_CHECK_S = 0.25
RELEASED_BYTES = 32 * 2**20
"""Of free memory, given back to the system each second; what was wanted in the last minutes is kept."""
ACCOUNT_FROM_POWER_OF_TWO = 20
"""Streams that hold a MiB or more are the ones that are reset when memory runs short."""
RUNTIME = {
    "http.max_requests_per_io_cycle": 32,
    "overload.premature_reset_total_stream_count": 1000,
}
"""Requests of one connection that are begun before others have their turn; those that are reset by then never are.
Without it 2,000 streams opened and reset within 86 KB take 58 MB, which the allocator keeps for minutes; with it 12.
And a connection of which so many streams were reset is closed."""
ACTIONS = {
    "envoy.overload_actions.shrink_heap": 0.85,
    "envoy.overload_actions.reset_high_memory_stream": (0.90, 0.98),
    "envoy.overload_actions.disable_http_keepalive": 0.95,
    "envoy.overload_actions.stop_accepting_requests": 0.97,
}
"""Action to the part of max_heap_bytes from which on it is taken, or between which it grows."""


def fixed_files(settings: GatewaySettings, folder: Path) -> dict[str, bytes]:
    """What a change of needs a new Envoy: the bootstrap, and the secrets, whose certificates it follows by itself."""
    files = {BOOTSTRAP: _text(_bootstrap(settings, folder))}
    if settings.tls is not None:
        chain, key = settings.tls.certificate.absolute(), settings.tls.key.absolute()
        certificate = Secret(
            name=CERTIFICATE,
            tls_certificate={
                "certificate_chain": {"filename": str(chain)},
                "private_key": {"filename": str(key)},
                "watched_directory": {"path": str(chain.parent)},
            },
        )
        files["sds.json"] = _resources(certificate)
        if settings.tls.client_ca is not None:
            authority = settings.tls.client_ca.absolute()
            trusted = {"trusted_ca": {"filename": str(authority)}, "watched_directory": {"path": str(authority.parent)}}
            files["sds-ca.json"] = _resources(Secret(name=AUTHORITY, validation_context=trusted))
    return files


def changing_files(settings: GatewaySettings, folder: Path) -> dict[str, bytes]:
    """What Envoy reads again when it is replaced, and keeps every connection; clusters first: routes need them."""
    clusters = upstream_clusters(settings, folder) + key_clusters(settings.keys or (), folder)
    return {"cds.json": _resources(*clusters), "rds.json": _resources(routes(settings))}


def whole(settings: GatewaySettings, folder: Path) -> bytes:
    """Everything in one file, as `envoy --mode validate` wants it: it does not look into what is read later."""
    bootstrap = _bootstrap(settings, folder)
    bootstrap.ClearField("dynamic_resources")
    clusters = upstream_clusters(settings, folder) + key_clusters(settings.keys or (), folder)
    bootstrap.static_resources.clusters.extend(clusters)
    bootstrap.static_resources.listeners[0].CopyFrom(front_door(settings, folder, route_config=routes(settings)))
    return _text(bootstrap)


def _bootstrap(settings: GatewaySettings, folder: Path) -> Any:
    collector = [collector_cluster(settings.otlp_endpoint, folder)] if settings.otlp_endpoint else []
    source = {"path": str(folder / "cds.json"), "watched_directory": {"path": str(folder)}}
    return Bootstrap(
        node={"id": "ganvas-gateway", "cluster": "ganvas"},
        admin={"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        static_resources={"listeners": [front_door(settings, folder), inner_door(folder)], "clusters": collector},
        dynamic_resources={"cds_config": {"path_config_source": source, "resource_api_version": "V3"}},
        overload_manager=_overload(settings),
        # Else what a burst of large requests took would never go back to the system.
        memory_allocator_manager={"bytes_to_release": RELEASED_BYTES, "memory_release_interval": seconds(1)},
        layered_runtime={"layers": [{"name": "static", "static_layer": RUNTIME}]},
    )


def _overload(settings: GatewaySettings) -> Any:
    heap = FixedHeapConfig(max_heap_size_bytes=settings.max_heap_bytes)
    connections = DownstreamConnectionsConfig(max_active_downstream_connections=settings.max_connections)
    actions: list[Mapping[str, Any]] = []
    for name, at in ACTIONS.items():
        trigger: dict[str, Any] = {"threshold": {"value": at}}
        if isinstance(at, tuple):
            trigger = {"scaled": {"scaling_threshold": at[0], "saturation_threshold": at[1]}}
        actions.append({"name": name, "triggers": [{"name": "envoy.resource_monitors.fixed_heap", **trigger}]})
    return OverloadManager(
        refresh_interval=seconds(HEAP_CHECK_S),
        resource_monitors=[
            {"name": "envoy.resource_monitors.fixed_heap", "typed_config": packed(heap)},
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": packed(connections),
            },
        ],
        actions=actions,
        buffer_factory_config={"minimum_account_to_track_power_of_two": ACCOUNT_FROM_POWER_OF_TWO},
    )


def _resources(*found: Message) -> bytes:
    return _text(DiscoveryResponse(resources=[packed(message) for message in found]))


def _text(message: Message) -> bytes:
    """Envoy's own JSON, for whoever knows Envoy."""
    return (json.dumps(MessageToDict(message, preserving_proto_field_name=True), indent=2) + "\n").encode()
