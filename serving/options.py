"""The options of `./ganvas serve`, in one place: the command line, the GANVAS_* variables and the service read them."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ganvas_core.cli import OPTIONS, Cli
from ganvas_core.names import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_REPOSITORY

__all__ = ["GatewayOptions", "LogLevel", "NetworkOptions", "ServeOptions", "address_of", "is_loopback"]

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class NetworkOptions:
    """Where serve reads its models and listens; doctor checks the same."""

    repository: Path = DEFAULT_REPOSITORY
    """Model repository folder: what ./ganvas export writes."""
    host: str = DEFAULT_HOST
    """Where serve listens: the gateway, or without it the sampling service. Beyond loopback it takes TLS and
    authentication, or --insecure."""
    port: Port = DEFAULT_PORT
    """The one port for clients: ganvas.v1.Sampler and KServe v2, by gRPC, gRPC-Web and HTTP; 0: a free one."""
    triton_grpc_port: Port = 8001
    """Triton's own gRPC port, on loopback always; 0: a free one."""
    triton_http_port: Port = 8000
    """Triton's own HTTP port, on loopback always; 0: a free one."""
    metrics_port: Port = 8002
    """Port of every part's metrics, for Prometheus, on loopback always; 0: a free one."""

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Option of each port to the host and port it names."""
        return {
            "--port": (self.host, self.port),
            "--triton-grpc-port": (DEFAULT_HOST, self.triton_grpc_port),
            "--triton-http-port": (DEFAULT_HOST, self.triton_http_port),
            "--metrics-port": (DEFAULT_HOST, self.metrics_port),
        }


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class GatewayOptions(NetworkOptions):
    """Who may call through the gateway, and how much."""

    gateway: bool = True
    """Put the gateway (Envoy) before the service and Triton. Without it both answer for themselves, on loopback."""
    tls_cert: Path | None = None
    """Certificate chain, PEM; a renewed one that is moved into its place is taken over without a restart."""
    tls_key: Path | None = None
    """Private key of --tls-cert, PEM."""
    tls_client_ca: Path | None = None
    """Certificates of the authorities that sign clients' certificates, PEM: every client must show one (mTLS)."""
    keys_file: Path | None = None
    """Ask every caller for an API key of this file, which ./ganvas keys writes; changes are followed while it runs."""
    insecure: bool = False
    """Listen beyond loopback although TLS or authentication is missing."""
    max_connections: Count = 4096
    """Connections to the gateway."""
    max_connection_streams: Count = 256
    """Calls at the same time on one connection; clients queue what goes beyond."""
    max_direct_requests: Count = 256
    """Requests at Triton at the same time by gRPC past the service, and as many by HTTP; more get
    RESOURCE_EXHAUSTED."""
    max_direct_mib: Annotated[int, Field(ge=1, le=1024)] = 16
    """Size of a request to Triton past the service."""
    gateway_memory_mib: Annotated[int, Field(ge=128, le=2**20)] = 1024
    """Memory of the gateway; near it the calls that hold most are ended, at it no more are taken."""
    stream_idle_s: Annotated[float, Field(ge=1, le=86400)] = 120.0
    """A call ends when for so long neither side sends or takes a byte."""
    connection_idle_s: Annotated[float, Field(ge=1, le=86400)] = 600.0
    """A connection without a call is closed after this."""

    def exposure_problem(self) -> str | None:
        """Why these options may not listen where they ask to; None if they may."""
        if (self.tls_cert is None) != (self.tls_key is None):
            return "--tls-cert and --tls-key belong together; give both."
        if self.tls_client_ca is not None and self.tls_cert is None:
            return "--tls-client-ca needs --tls-cert and --tls-key."
        if not self.gateway and (self.tls_cert or self.keys_file):
            return "--no-gateway has neither TLS nor keys; leave it out."
        if is_loopback(self.host):
            return None
        if not self.gateway:
            return f"--no-gateway listens on loopback only; got --host {self.host}."
        missing = [] if self.tls_cert else ["--tls-cert and --tls-key"]
        missing += [] if self.keys_file or self.tls_client_ca else ["--keys-file or --tls-client-ca"]
        if missing and not self.insecure:
            try:
                socket.getaddrinfo(self.host, None)
            except OSError as error:
                return f"--host {self.host} does not resolve ({error.strerror}). Give an address of this machine."
            return f"--host {self.host} is beyond loopback: add {', and '.join(missing)}; or --insecure."
        return None


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class ServeOptions(GatewayOptions):
    """Options of `serve`. The service process gets them as JSON."""

    triton_statistics: bool = False
    """Whoever reaches Triton's own ports may read its counts of requests and times, as perf_analyzer does."""
    http: Port | None = None
    """Start the studio too, on this port: images by HTTP at addresses of their own, and a page; 0: a free one."""
    config_name: Annotated[str | None, Cli(shown_default="config.pbtxt")] = None
    """The models' configuration: cpu, gpu, gpu-fp16 or tensorrt."""
    services: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes of the sampling service, among which the gateway shares the calls out. More than one pays where there
    are cores left and many small typed calls."""
    max_count: Count = 256
    """Most images in one Sample, Decode or Encode."""
    max_stream_count: Count = 2**20
    """Most images in one SampleStream, frames in one Walk."""
    max_calls: Count = 1024
    """Most calls answered at the same time, of one caller half as many; more get RESOURCE_EXHAUSTED."""
    max_wait_s: Annotated[float, Field(gt=0, le=86400)] = 30.0
    """A call that would wait longer than this for its first image, or past its deadline, gets RESOURCE_EXHAUSTED."""
    recovery_s: Annotated[float, Field(ge=0, le=86400)] = 30.0
    """Seconds that calls without a deadline wait for a Triton or version that is away; then new ones fail at once."""
    read_s: Annotated[float, Field(gt=0, le=86400)] = 10.0
    """Seconds that a request has to arrive."""
    request_memory_mib: Annotated[int, Field(ge=128, le=2**20)] = 256
    """MiB for large requests that are being read or worked on, of one caller half; more wait outside."""
    cache_mib: Annotated[int, Field(ge=0, le=2**20)] = 0
    """MiB for images that were made before, from which Sample and Decode answer without computing; 0: none."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds that accepted calls get to finish, from the signal to stop; at most 3 s later everything has ended."""
    start_s: Annotated[float, Field(ge=1, le=86400)] = 300.0
    """Seconds that Triton gets to load every model."""
    canary_s: Annotated[float, Field(ge=0, le=86400)] = 10.0
    """Seconds between two rounds in which every Triton model makes a golden answer again, an image or an encoder's
    posterior; 0: never."""
    canary_timeout_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    """Seconds that a golden answer may take before its model counts as stuck."""
    encode_threads: Annotated[int, Field(ge=1, le=256)] = 2
    """Threads for PNG, JPEG and WebP."""
    ready_file: Annotated[Path | None, Cli(env="")] = None
    """Write addresses and process ids to this file, as JSON, once everything is ready; deleted at the end."""
    log_dir: Path | None = None
    """Keep triton.log, service.log, envoy.log and gateway.log, the access log, in this folder. Without it the service
    logs to stderr, and there is no access log."""
    otlp_endpoint: Annotated[str | None, Field(pattern=r"^http://[^/]+$")] = None
    """http://HOST:PORT of an OpenTelemetry collector that takes OTLP by HTTP, by default on port 4318: gateway, service
    and Triton send their spans there."""
    trace_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the calls that bring no trace of their own, how many to trace."""
    log_level: LogLevel = "info"
    """Of the service's log; info has a line for every call that failed, debug for every call."""

    def addresses(self) -> dict[str, tuple[str, int]]:
        return super().addresses() | ({} if self.http is None else {"--http": (self.host, self.http)})

    def __post_init__(self) -> None:
        if problem := self.exposure_problem():
            raise ValueError(problem)
        if self.services > 1 and not self.gateway:
            raise ValueError(
                f"--services {self.services} needs the gateway, which shares the calls out; drop --no-gateway."
            )
        if self.http is not None and self.tls_cert is not None:
            raise ValueError(
                "--http speaks no TLS. Leave it out and start the studio beside: ./ganvas studio --address HOST:PORT "
                "--tls-ca CA --tls-cert CERTIFICATE --tls-key KEY."
            )
        taken: dict[int, str] = {}
        for option, (_, port) in self.addresses().items():
            if port and port in taken:
                raise ValueError(f"{option} and {taken[port]} are both {port}; give each its own, or 0.")
            taken[port] = option


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
