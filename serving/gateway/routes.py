"""What may be asked for, path by path, as Envoy's route configuration; everything else is 404 whatever the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.config.route.v3.route_components_pb2 import FilterConfig, RetryPolicy, Route, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.buffer.v3.buffer_pb2 import BufferPerRoute
from envoy.extensions.filters.http.lua.v3.lua_pb2 import LuaPerRoute
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from google.protobuf.message import Message

from ganvas.v1 import sampler_pb2
from ganvas_core.names import NAMES_VERSION
from serving.gateway.clusters import SERVICE, TRITON_GRPC, TRITON_HTTP
from serving.gateway.messages import count, inline, packed, seconds
from serving.gateway.rates import rate_limits
from serving.gateway.replies import STOPPING_STATUS
from serving.gateway.scripts import access_script, direct_script, json_script, refusals_script
from serving.gateway.settings import GatewaySettings

__all__ = [
    "ACCESS",
    "BODY",
    "HEALTH",
    "JSON",
    "PUBLIC_PATHS",
    "RATE",
    "REFUSALS",
    "ROUTES_NAME",
    "SIZE",
    "WEB",
    "inner_routes",
    "routes",
]

ROUTES_NAME = "routes"
OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"
ACCESS, BODY, SIZE, RATE = "ganvas.access", "ganvas.body", "ganvas.size", "ganvas.rate"
REFUSALS = "ganvas.refusals"
"""The names of our filters, by which routes configure them."""
HEALTH, WEB, JSON = (f"envoy.filters.http.{name}" for name in ("health_check", "grpc_web", "grpc_json_transcoder"))
"""What a call by gRPC itself has no use for: a filter that is off costs nothing."""

SAMPLER = sampler_pb2.DESCRIPTOR.services_by_name["Sampler"]
KSERVE = "/inference.GRPCInferenceService/"
SERVER_KSERVE = ("ServerLive", "ServerReady", "ServerMetadata")
MODEL_KSERVE = ("ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig")
"""Not ModelStreamInfer: one stream would carry any number of requests past every bound and quota, which count it as
one, and go on under a key that is revoked."""
REFLECTION = tuple(f"/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo" for v in ("v1", "v1alpha"))
CHECK, WATCH, HEALTH_LIST = (f"/grpc.health.v1.Health/{method}" for method in ("Check", "Watch", "List"))
STREAMED_SAMPLER = {"SampleStream", "Walk"}
UPLOADING_SAMPLER = {"Decode", "Encode"}
"""Requests of up to 64 MiB: not buffered here; the service limits them."""
COMPUTING_SAMPLER = {"Sample", "SampleStream", "Decode", "Encode", "Walk"}
"""What the service refuses when too much waits."""

MODEL = r"/v2/models/[A-Za-z0-9_.-]+(/versions/[0-9]+)?"
HTTP_GET = (r"/v2/?", r"/v2/health/(live|ready)", MODEL + r"(/ready|/config)?")
HTTP_INFER = MODEL + "/infer"
ENDS = {"/ganvas.v1.": SERVICE, "/grpc.": SERVICE, "/inference.": TRITON_GRPC, "/v2": TRITON_HTTP}
"""The beginning of a path to the cluster that answers it; access.lua says the same."""
OFF = packed(FilterConfig(disabled=True))
WATCH_IDLE_S = 3600.0
RETRIES = 3

PUBLIC_PATHS = (
    *(CHECK, WATCH, HEALTH_LIST),
    *(KSERVE + method for method in ("ServerLive", "ServerReady")),
    *("/v2/health/live", "/v2/health/ready"),
)
"""Health needs no key."""


def routes(settings: GatewaySettings) -> Any:
    """The whole list. What depends on keys and on default versions is in here too, so that a change of either is a
    change of routes alone."""
    script = access_script(settings.keys, PUBLIC_PATHS, settings.default_versions)
    refusals = refusals_script(named=settings.tells_callers_apart, most=settings.max_refusals)
    host = VirtualHost(
        name="gateway",
        domains=["*"],
        routes=[
            _refuse({"prefix": KSERVE}, "grpc-encoding", 415, "a request must not be compressed."),
            _refuse({"prefix": "/ganvas.v1."}, "grpc-encoding", 415, "a request must not be compressed."),
            _refuse({"prefix": "/ganvas.v1."}, "content-encoding", 415, "a request must not be compressed."),
            *(_turned_away() if settings.draining else ()),
            # They are tried in this order, so what is asked for most is first.
            *_kserve_routes(settings),
            *_sampler_routes(settings),
            *_infrastructure_routes(settings),
            *_http_routes(settings),
            Route(
                name="not-listed",
                match={"prefix": "/"},
                direct_response={
                    "status": 404,
                    "body": inline("there is no such call here. docs/security.md lists what there is."),
                },
            ),
        ],
        typed_per_filter_config={
            ACCESS: packed(LuaPerRoute(source_code=inline(script))),
            **({RATE: packed(limits)} if (limits := rate_limits(settings.keys or ())) else {}),
            # One for all its routes, so that a thread of the gateway has one memory.
            REFUSALS: packed(LuaPerRoute(source_code=inline(refusals))),
        },
    )
    return RouteConfiguration(name=ROUTES_NAME, virtual_hosts=[host], validate_clusters={"value": False})


def inner_routes() -> Any:
    """For requests that passed the list and their key's quota: where each path is answered."""
    return RouteConfiguration(
        name="inner",
        virtual_hosts=[
            VirtualHost(
                name="inner",
                domains=["*"],
                routes=[
                    Route(match={"prefix": path}, route={"cluster": cluster, "timeout": seconds(0)})
                    for path, cluster in ENDS.items()
                ],
            )
        ],
        validate_clusters={"value": False},
    )


def _turned_away() -> list[Any]:
    """Direct calls, while the server stops. Those of its health go on."""
    paths = [{"path": KSERVE + method} for method in MODEL_KSERVE]
    found = [*paths, {"safe_regex": {"regex": MODEL + "(/ready|/config|/infer)?"}}]
    return [Route(match=path, direct_response={"status": STOPPING_STATUS}) for path in found]


def _sampler_routes(settings: GatewaySettings) -> list[Any]:
    found = []
    several = len(settings.service) > 1
    for method in SAMPLER.methods:
        limit = settings.max_stream_bytes if method.name in STREAMED_SAMPLER else settings.max_sample_bytes
        size = None if method.name in UPLOADING_SAMPLER else limit
        repeats = settings.repeats_refusals and method.name in COMPUTING_SAMPLER
        for route in _grpc(settings, f"/{SAMPLER.full_name}/{method.name}", max_bytes=size, repeats_refusals=repeats):
            if several:
                route.route.retry_policy.CopyFrom(_elsewhere())
            found.append(route)
    return found


def _infrastructure_routes(settings: GatewaySettings) -> list[Any]:
    checks = [_route({"path": path}, "POST", max_bytes=settings.max_sample_bytes) for path in (CHECK, HEALTH_LIST)]
    watch = _route({"path": WATCH}, "POST", max_bytes=settings.max_sample_bytes)
    watch.route.idle_timeout.CopyFrom(seconds(WATCH_IDLE_S))
    return [*checks, watch, *(_route({"path": path}, "POST") for path in REFLECTION)]


def _kserve_routes(settings: GatewaySettings) -> list[Any]:
    """Triton by gRPC."""
    limit = settings.max_direct_bytes
    body = packed(LuaPerRoute(source_code=inline(direct_script(settings.default_versions))))
    return [
        *(route for method in MODEL_KSERVE for route in _grpc(settings, KSERVE + method, max_bytes=limit, body=body)),
        *(_route({"path": KSERVE + method}, "POST", max_bytes=limit) for method in SERVER_KSERVE),
    ]


def _http_routes(settings: GatewaySettings) -> list[Any]:
    """Triton by HTTP."""
    infer = {"safe_regex": {"regex": HTTP_INFER}}
    body = packed(LuaPerRoute(source_code=inline(json_script(settings.max_json_depth))))
    return [
        *(_route({"safe_regex": {"regex": path}}, "GET", max_bytes=settings.max_sample_bytes) for path in HTTP_GET),
        _refuse(infer, "content-encoding", 415, "a request must not be compressed: send it without content-encoding."),
        _route(infer, "POST", max_bytes=settings.max_direct_bytes, body=body),
    ]


def _grpc(
    settings: GatewaySettings,
    path: str,
    *,
    max_bytes: int | None = None,
    body: Message | None = None,
    repeats_refusals: bool = False,
) -> list[Any]:
    """The ways through of one gRPC method: by gRPC itself, then by gRPC-Web or as JSON.

    Args:
        max_bytes, body: as of `_route`. One that names its version needs no body's filter.
        repeats_refusals: by gRPC itself; the others have replies of another shape.
    """
    by_grpc = {"path": path, "grpc": {}}
    named = [{"name": NAMES_VERSION, "present_match": True}]
    ways = [_route(by_grpc, "POST", max_bytes=max_bytes, body=body)]
    if body is not None:
        ways.insert(0, _route(by_grpc, "POST", headers=named, max_bytes=max_bytes))
    for way in ways:
        for unused in (HEALTH, WEB, JSON):
            way.typed_per_filter_config[unused].CopyFrom(OFF)
        if repeats_refusals:
            del way.typed_per_filter_config[REFUSALS]
        if not settings.tells_callers_apart:
            _admit_anybody(way, next(end for start, end in ENDS.items() if path.startswith(start)))
    return [*ways, _route({"path": path}, "POST", max_bytes=max_bytes, body=body)]


def _admit_anybody(route: Any, cluster: str) -> None:
    """What access.lua does where there are neither keys nor client certificates."""
    for unused in (ACCESS, RATE):
        route.typed_per_filter_config[unused].CopyFrom(OFF)
    route.route.cluster = cluster
    route.request_headers_to_remove.extend(["authorization", "x-api-key"])
    caller = {"key": "x-ganvas-caller", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}
    route.request_headers_to_add.add(header=caller, append_action=OVERWRITE)


def _route(
    path: dict[str, Any],
    method: str,
    *,
    headers: Sequence[dict[str, Any]] = (),
    max_bytes: int | None = None,
    body: Message | None = None,
) -> Any:
    """One way through. The cluster is in a header that access.lua sets, by the path or the key's quota.

    Args:
        headers: what else must be so of the headers.
        max_bytes: held until the request is whole, or refused. None: passed on as it comes.
        body: the settings of the filter of bodies. None: it is off.
    """
    filters: dict[str, Any] = {BODY: OFF if body is None else body, REFUSALS: OFF}
    if max_bytes is not None:
        filters[SIZE] = packed(BufferPerRoute(buffer={"max_request_bytes": count(max_bytes)}))
    return Route(
        match={**path, "headers": [{"name": ":method", "string_match": {"exact": method}}, *headers]},
        route={"cluster_header": "x-ganvas-cluster", "timeout": seconds(0)},
        request_headers_to_remove=["x-ganvas-cluster"],
        # Some clients over HTTP/1.1 leave it out, and gRPC servers insist.
        request_headers_to_add=[{"header": {"key": "te", "value": "trailers"}, "append_action": OVERWRITE}],
        typed_per_filter_config=filters,
    )


def _elsewhere() -> Any:
    """A call that could not be handed to one service goes to another."""
    other = {"name": "other", "typed_config": packed(PreviousHostsPredicate())}
    return RetryPolicy(
        retry_on="connect-failure,refused-stream,reset-before-request",
        num_retries=count(RETRIES),
        retry_host_predicate=[other],
        host_selection_retry_max_attempts=16,
    )


def _refuse(path: dict[str, Any], header: str, status: int, message: str) -> Any:
    """Any value of this header but identity."""
    return Route(
        match={
            **path,
            "headers": [
                {"name": header, "present_match": True},
                {"name": header, "string_match": {"exact": "identity", "ignore_case": True}, "invert_match": True},
            ],
        },
        direct_response={"status": status, "body": inline(message)},
    )
