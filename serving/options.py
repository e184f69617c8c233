"""The options of `ganvas serve`, in one place: the command line, the GANVAS_* variables and the service read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ganvas_core.cli import OPTIONS, Cli
from ganvas_core.names import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_REPOSITORY

__all__ = ["LogLevel", "NetworkOptions", "ServeOptions", "address_of"]

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class NetworkOptions:
    """Where serve reads its models and listens; doctor checks the same."""

    repository: Path = DEFAULT_REPOSITORY
    """Model repository folder: what ganvas export writes."""
    host: str = DEFAULT_HOST
    """Where the sampling service listens."""
    port: Port = DEFAULT_PORT
    """Port of the sampling service; 0: a free one."""
    triton_host: str = DEFAULT_HOST
    """Where Triton itself listens."""
    triton_grpc_port: Port = 8001
    """Triton's gRPC port; 0: a free one."""
    triton_http_port: Port = 8000
    """Triton's HTTP port; 0: a free one."""
    triton_metrics_port: Port = 8002
    """Triton's metrics port; 0: a free one."""

    def addresses(self) -> dict[str, tuple[str, int]]:
        """Option of each port to the host and port it names."""
        return {
            "--port": (self.host, self.port),
            "--triton-grpc-port": (self.triton_host, self.triton_grpc_port),
            "--triton-http-port": (self.triton_host, self.triton_http_port),
            "--triton-metrics-port": (self.triton_host, self.triton_metrics_port),
        }


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class ServeOptions(NetworkOptions):
    """Options of `serve`. The service process gets them as JSON."""

    config_name: Annotated[str | None, Cli(shown_default="config.pbtxt")] = None
    """The models' configuration: cpu, gpu, gpu-fp16 or tensorrt."""
    max_count: Count = 256
    """Most images in one Sample, Decode or Encode."""
    max_stream_count: Count = 65536
    """Most images in one SampleStream, frames in one Walk."""
    max_calls: Count = 1024
    """Most calls answered at the same time; more get RESOURCE_EXHAUSTED."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds that accepted calls get to finish after a stop."""
    start_s: Annotated[float, Field(ge=1, le=86400)] = 300.0
    """Seconds that Triton gets to load every model."""
    encode_threads: Annotated[int, Field(ge=1, le=256)] = 2
    """Threads for PNG, JPEG and WebP."""
    ready_file: Annotated[Path | None, Cli(env="")] = None
    """Write addresses and process ids to this file, as JSON, once everything is ready; deleted at the end."""
    log_dir: Path | None = None
    """Keep triton.log and service.log in this folder. Without it the service logs to stderr."""
    log_level: LogLevel = "info"
    """Of the service's log; info has a line for every call."""

    def __post_init__(self) -> None:
        taken: dict[int, str] = {}
        for option, (_, port) in self.addresses().items():
            if port and port in taken:
                raise ValueError(f"{option} and {taken[port]} are both {port}; give each its own, or 0.")
            taken[port] = option


def address_of(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
