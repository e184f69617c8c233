"""What the gateway is to be: where it listens, what is behind it, who may call, and every limit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.keys.store import Key

__all__ = ["GatewaySettings", "Tls"]

MIB = 2**20
MOST_WORKERS = 4


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The server's certificate; Envoy takes a renewed one that is moved into its folder, without a restart."""

    certificate: Path
    """Chain, PEM."""
    key: Path
    client_ca: Path | None = None
    """mTLS: a client must show a certificate that this authority signed."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """One gateway. Sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: int = 50051
    """0: a free one."""
    service: Sequence[str] = ()
    """Where ganvas.v1 answers: paths of Unix sockets, or host:port, on this machine or others."""
    triton_grpc: Sequence[str] = ()
    """host:port of each Triton."""
    triton_http: Sequence[str] = ()
    tls: Tls | None = None
    keys: Sequence[Key] | None = None
    """None: nobody is asked for a key."""
    keeps_images: bool = False
    """Whether the service answers some calls from images made before, however busy it is."""
    default_versions: Mapping[str, int] | None = None
    """Of each Triton model, the version that a direct call means when it names none; one that is not here has none.
    None: Triton's newest, whatever it is."""
    draining: bool = False
    """Whether direct calls are turned away, since the server stops; the service does so with its own."""

    max_connections: int = 4096
    max_connection_streams: int = 256
    """Calls at the same time on one connection."""
    max_direct_requests: int = 256
    """At Triton at the same time by gRPC, and as many by HTTP."""
    max_sample_bytes: int = MIB
    """Of a Sample, GetModel, ListModels or health request."""
    max_stream_bytes: int = 4 * MIB
    """Of a SampleStream or Walk request."""
    max_direct_bytes: int = 16 * MIB
    """Of a request to Triton; held until it is whole."""
    max_heap_bytes: int = 1024 * MIB
    """Near it the gateway resets the streams that hold most; at it, it takes no more requests."""
    max_json_depth: int = 32
    max_refusals: int = 1024
    """Of the service's refusals, that each thread remembers: refusals.lua."""
    stream_idle_s: float = 120.0
    """A call is ended when so long neither side sent or took a byte."""
    connection_idle_s: float = 600.0
    """A connection without a call."""
    workers: int = max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) // 2))
    """Threads. A request takes one about 0.1 ms; half of the cores are left to those who have more to do."""

    log_dir: Path | None = None
    """Holds the access log, gateway.log; None: there is none."""
    otlp_endpoint: str | None = None
    """http://host:port of an OpenTelemetry collector that takes OTLP by HTTP."""
    trace_fraction: float = 1.0
    """Fraction of requests to trace; a request's own traceparent decides for itself."""

    @property
    def repeats_refusals(self) -> bool:
        """Whether what the service has just refused is refused here: another service might have room."""
        return len(self.service) == 1 and not self.keeps_images

    @property
    def tells_callers_apart(self) -> bool:
        """Whether a caller is more than the address of a host: a key or a client certificate."""
        return self.keys is not None or (self.tls is not None and self.tls.client_ca is not None)
