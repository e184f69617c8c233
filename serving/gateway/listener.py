"""The one port: TLS, HTTP/1.1 and HTTP/2, the filters in their order, and the gateway's own inner door."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.trace.v3.opentelemetry_pb2 import OpenTelemetryConfig
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.access_loggers.stats.v3.stats_pb2 import Config as StatsAccessLog
from envoy.extensions.filters.http.buffer.v3.buffer_pb2 import Buffer
from envoy.extensions.filters.http.grpc_json_transcoder.v3.transcoder_pb2 import GrpcJsonTranscoder
from envoy.extensions.filters.http.grpc_web.v3.grpc_web_pb2 import GrpcWeb
from envoy.extensions.filters.http.health_check.v3.health_check_pb2 import HealthCheck
from envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit_pb2 import LocalRateLimit
from envoy.extensions.filters.http.lua.v3.lua_pb2 import Lua
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.extensions.request_id.uuid.v3.uuid_pb2 import UuidRequestIdConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from ganvas.v1 import sampler_pb2
from ganvas_core.names import MAX_MESSAGE_BYTES
from serving.gateway.clusters import (
    COLLECTOR,
    INNER_SOCKET,
    NO_BOUND,
    PING_EVERY_S,
    PING_TIMEOUT_S,
    SERVICE,
    TRITON_HTTP,
    TRITON_READY,
)
from serving.gateway.messages import address, count, packed, seconds
from serving.gateway.replies import local_replies, models_away
from serving.gateway.routes import (
    ACCESS,
    BODY,
    HEALTH,
    JSON,
    RATE,
    REFUSALS,
    ROUTES_NAME,
    SIZE,
    WEB,
    inner_routes,
)
from serving.gateway.settings import GatewaySettings

__all__ = ["ACCESS_LOG", "front_door", "inner_door", "listen_address"]

ACCESS_LOG = "gateway.log"
HEADERS_S = 10.0
"""For the headers of a request, and for a TLS handshake: a slow one holds a connection no longer."""
STREAM_WINDOW_BYTES = 256 * 1024
CONNECTION_WINDOW_BYTES = 16 * 2**20
MAX_HEADERS_KIB = 32
TRACES_PATH = "/v1/traces"
NOBODY = {"address_prefix": "255.255.255.255", "prefix_len": {"value": 32}}
"""No client is internal: what is would be believed in its x-envoy headers."""
CERTIFICATE, AUTHORITY = "certificate", "client-ca"


def listen_address(settings: GatewaySettings) -> str:
    return f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"


def front_door(settings: GatewaySettings, folder: Path, route_config: Any = None) -> Any:
    """What clients meet.

    Args:
        route_config: None: from a file, so that it may change.
    """
    rds = {"config_source": _file(folder, "rds.json"), "route_config_name": ROUTES_NAME}
    manager = HttpConnectionManager(
        stat_prefix="gateway",
        **({"rds": rds} if route_config is None else {"route_config": route_config}),
        http_filters=_filters(settings),
        http2_protocol_options=Http2ProtocolOptions(
            max_concurrent_streams=count(settings.max_connection_streams),
            initial_stream_window_size=count(STREAM_WINDOW_BYTES),
            initial_connection_window_size=count(CONNECTION_WINDOW_BYTES),
            connection_keepalive={"interval": seconds(PING_EVERY_S), "timeout": seconds(PING_TIMEOUT_S)},
        ),
        common_http_protocol_options={"idle_timeout": seconds(settings.connection_idle_s)},
        stream_idle_timeout=seconds(settings.stream_idle_s),
        request_headers_timeout=seconds(HEADERS_S),
        max_request_headers_kb=count(MAX_HEADERS_KIB),
        # The path that is matched is the path that is passed on.
        normalize_path={"value": True},
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        # Nothing before us is trusted to say where a client is.
        use_remote_address={"value": True},
        internal_address_config={"cidr_ranges": [NOBODY]},
        server_name="ganvas",
        generate_request_id={"value": True},
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_id_extension={"typed_config": packed(_request_ids())},
        local_reply_config=local_replies(),
        access_log=_access_logs(settings),
        **({"tracing": _tracing(settings)} if settings.otlp_endpoint else {}),
    )
    chain: dict[str, Any] = {"filters": [_network_filter(manager)]}
    if settings.tls is not None:
        context = packed(_tls(settings, folder))
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
        chain["transport_socket_connect_timeout"] = seconds(HEADERS_S)
    return Listener(
        name="gateway",
        address=address(listen_address(settings), folder),
        filter_chains=[chain],
        per_connection_buffer_limit_bytes=count(STREAM_WINDOW_BYTES),
        # Else a second server could share the port, each getting a part of the calls.
        enable_reuse_port={"value": False},
    )


def inner_door(folder: Path) -> Any:
    """Where requests come back in that passed their key's concurrency quota."""
    manager = HttpConnectionManager(
        stat_prefix="inner",
        codec_type=HttpConnectionManager.HTTP2,
        route_config=inner_routes(),
        http_filters=[_filter("envoy.filters.http.router", Router())],
        http2_protocol_options=Http2ProtocolOptions(
            max_concurrent_streams=count(NO_BOUND),
            initial_stream_window_size=count(STREAM_WINDOW_BYTES),
            initial_connection_window_size=count(2**30),
        ),
        stream_idle_timeout=seconds(0),
        max_request_headers_kb=count(2 * MAX_HEADERS_KIB),
        generate_request_id={"value": False},
        skip_xff_append=True,
        server_header_transformation=HttpConnectionManager.PASS_THROUGH,
        local_reply_config=local_replies(),
    )
    return Listener(
        name="inner",
        address=address(str(folder / INNER_SOCKET), folder),
        filter_chains=[{"filters": [_network_filter(manager)]}],
        per_connection_buffer_limit_bytes=count(STREAM_WINDOW_BYTES),
        # Clients cannot reach it, and its connections are few: what bounds the front door must not shut it.
        ignore_global_conn_limit=True,
    )


def _request_ids() -> Any:
    """A client's id comes back as it was, whatever it is, and says nothing of tracing."""
    return UuidRequestIdConfig(pack_trace_reason={"value": False}, use_request_id_for_trace_sampling={"value": False})


def _filters(settings: GatewaySettings) -> list[Any]:
    """In the order in which a request passes them; the routes have the settings of those that are ours."""
    return [
        _filter(HEALTH, _ready()),
        _filter(WEB, GrpcWeb()),
        _filter(ACCESS, Lua(stat_prefix="access", clear_route_cache={"value": True})),
        _filter(RATE, LocalRateLimit(stat_prefix="quota")),
        _filter(REFUSALS, Lua(stat_prefix="refusals", clear_route_cache={"value": False})),
        _filter(JSON, _json(settings)),
        _filter(SIZE, Buffer(max_request_bytes=count(1)), disabled=True),
        _filter(BODY, Lua(stat_prefix="body", clear_route_cache={"value": False})),
        _filter("envoy.filters.http.custom_response", models_away()),
        _filter("envoy.filters.http.router", Router()),
    ]


def _ready() -> Any:
    """The probe of a load balancer, which has no key: 200 while a service and a Triton are healthy, else 503."""
    path = rf"{re.escape(TRITON_READY)}(\?.*)?"
    return HealthCheck(
        pass_through_mode={"value": False},
        headers=[
            {"name": ":path", "string_match": {"safe_regex": {"regex": path}}},
            {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}},
        ],
        cluster_min_healthy_percentages={name: {"value": 1} for name in (SERVICE, TRITON_HTTP)},
    )


def _json(settings: GatewaySettings) -> Any:
    """The calls of the Sampler and of gRPC's health as JSON by HTTP: POST /ganvas.v1.Sampler/Sample."""
    described = FileDescriptorSet()
    files = (sampler_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR)
    for file in files:
        file.CopyToProto(described.file.add())
    return GrpcJsonTranscoder(
        proto_descriptor_bin=described.SerializeToString(),
        services=[service.full_name for file in files for service in file.services_by_name.values()],
        auto_mapping=True,
        match_incoming_request_route=True,
        convert_grpc_status=True,
        print_options={"preserve_proto_field_names": True, "stream_newline_delimited": True},
        request_validation_options={"reject_unknown_query_parameters": True},
        max_request_body_size=count(settings.max_direct_bytes),
        max_response_body_size=count(2 * MAX_MESSAGE_BYTES),
    )


def _filter(name: str, message: Message, *, disabled: bool = False) -> Any:
    return HttpFilter(name=name, typed_config=packed(message), disabled=disabled)


def _network_filter(manager: Any) -> dict[str, Any]:
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": packed(manager)}


def _file(folder: Path, name: str) -> Any:
    """A part of the configuration that Envoy reads again whenever it is replaced."""
    source = {"path": str(folder / name), "watched_directory": {"path": str(folder)}}
    return ConfigSource(path_config_source=source, resource_api_version="V3")


def _tls(settings: GatewaySettings, folder: Path) -> Any:
    assert settings.tls is not None
    secrets = {"name": CERTIFICATE, "sds_config": _file(folder, "sds.json")}
    common: dict[str, Any] = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [secrets],
        "alpn_protocols": ["h2", "http/1.1"],
    }
    if settings.tls.client_ca is not None:
        common["validation_context_sds_secret_config"] = {
            "name": AUTHORITY,
            "sds_config": _file(folder, "sds-ca.json"),
        }
    return DownstreamTlsContext(
        common_tls_context=common,
        require_client_certificate={"value": settings.tls.client_ca is not None},
    )


def _access_logs(settings: GatewaySettings) -> list[Any]:
    """A counter of requests by caller and status, and with a log folder one line of JSON a request."""
    counted = StatsAccessLog(
        stat_prefix="ganvas",
        counters=[
            {
                "stat": {
                    "name": "gateway_requests",
                    "tags": [
                        {"name": "caller", "value_format": "%DYNAMIC_METADATA(ganvas:key)%"},
                        {"name": "code", "value_format": "%RESPONSE_CODE%"},
                        {"name": "grpc_code", "value_format": "%GRPC_STATUS(SNAKE_STRING)%"},
                        {"name": "flags", "value_format": "%RESPONSE_FLAGS%"},
                        {"name": "refused", "value_format": "%DYNAMIC_METADATA(ganvas:refused)%"},
                    ],
                },
                "value_fixed": {"value": 1},
            }
        ],
    )
    logs = [AccessLog(name="envoy.access_loggers.stats", typed_config=packed(counted))]
    if settings.log_dir is not None:
        line = {
            "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
            "request_id": "%REQ(X-REQUEST-ID)%",
            "caller": "%REQ(X-GANVAS-CALLER)%",
            "peer": "%DOWNSTREAM_REMOTE_ADDRESS%",
            "method": "%REQ(:METHOD)%",
            "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
            "protocol": "%PROTOCOL%",
            "status": "%RESPONSE_CODE%",
            "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
            "flags": "%RESPONSE_FLAGS%",
            "refused": "%DYNAMIC_METADATA(ganvas:refused)%",
            "details": "%RESPONSE_CODE_DETAILS%",
            "bytes_in": "%BYTES_RECEIVED%",
            "bytes_out": "%BYTES_SENT%",
            "total_ms": "%DURATION%",
            "upstream": "%UPSTREAM_HOST%",
        }
        path = str((settings.log_dir / ACCESS_LOG).absolute())
        file = FileAccessLog(path=path, log_format={"json_format": line})
        logs.append(AccessLog(name="envoy.access_loggers.file", typed_config=packed(file)))
    return logs


def _tracing(settings: GatewaySettings) -> Any:
    assert settings.otlp_endpoint is not None
    uri = {"uri": settings.otlp_endpoint.rstrip("/") + TRACES_PATH, "cluster": COLLECTOR, "timeout": seconds(1)}
    exporter = OpenTelemetryConfig(http_service={"http_uri": uri}, service_name="ganvas-gateway")
    percent = {"value": 100 * settings.trace_fraction}
    return HttpConnectionManager.Tracing(
        provider={"name": "envoy.tracers.opentelemetry", "typed_config": packed(exporter)},
        random_sampling=percent,
        spawn_upstream_span={"value": True},
    )
