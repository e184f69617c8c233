"""What `ganvas serve` can be told: one frozen record for the supervisor, one for the service process it starts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ganvas_core.names import MAX_MESSAGE_BYTES

__all__ = [
    "IMAGES_BYTES",
    "ConfigError",
    "Limits",
    "LogLevel",
    "ServeConfig",
    "ServiceConfig",
    "address_of",
]

IMAGES_BYTES = MAX_MESSAGE_BYTES - 4 * 2**20
"""The most raw images that one message takes: what is left is for everything around them."""

LogLevel = Literal["debug", "info", "warning", "error"]

_STRICT = ConfigDict(extra="forbid")


class ConfigError(ValueError):
    """An option that cannot be; the message starts with its name."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one caller may ask for."""

    __pydantic_config__: ClassVar = _STRICT

    max_count: int = 256
    """Images in one Sample, Decode or Encode."""
    max_stream_count: int = 65536
    """Images in one SampleStream, frames in one Walk."""
    max_calls: int = 1024
    """Calls answered at the same time; more get RESOURCE_EXHAUSTED."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_range(_option(field.name), getattr(self, field.name), 1, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """The sampling service's process."""

    __pydantic_config__: ClassVar = _STRICT

    repository: Path
    triton: str
    """host:port of Triton's gRPC endpoint."""
    config_name: str | None = None
    host: str = "127.0.0.1"
    port: int = 50051
    """0: a free one."""
    limits: Limits = dataclasses.field(default_factory=Limits)
    drain_s: float = 30.0
    """How long accepted calls may go on after a stop."""
    start_s: float = 300.0
    """How long to wait for Triton before giving up."""
    encode_threads: int = 2
    """Threads that encode and decode PNG, JPEG and WebP."""
    log_level: LogLevel = "info"
    parent_pid: int | None = None
    """Die with this process."""

    def to_json(self) -> str:
        return _adapter().dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> ServiceConfig:
        """Parse strictly.

        Raises:
            ConfigError: not JSON, an unknown field or a wrong value.
        """
        try:
            return _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"the service's configuration is wrong at {where or 'its start'}: {first['msg']}."
            ) from None


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """`ganvas serve`: Triton and the service under one supervisor."""

    repository: Path = Path("model_repository")
    host: str = "127.0.0.1"
    """Where the service listens."""
    port: int = 50051
    triton_host: str = "127.0.0.1"
    """Where Triton listens."""
    triton_grpc_port: int = 8001
    triton_http_port: int = 8000
    triton_metrics_port: int = 8002
    config_name: str | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    drain_s: float = 30.0
    start_s: float = 300.0
    encode_threads: int = 2
    ready_file: Path | None = None
    """Written once everything is ready: addresses and processes, as JSON. Removed at the end."""
    log_dir: Path | None = None
    """Where triton.log and service.log stay. None: the service logs to stderr, Triton to a temporary file."""
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        ports = {name: getattr(self, name) for name in vars(self) if name.endswith("port")}
        for name, port in ports.items():
            _check_range(_option(name), port, 0, 65535)
        _check_distinct(ports)
        _check_range("--drain-s", self.drain_s, 0, 3600)
        _check_range("--start-s", self.start_s, 1, 86400)
        _check_range("--encode-threads", self.encode_threads, 1, 256)

    def service(self, triton: str, parent_pid: int) -> ServiceConfig:
        """The configuration of the service process, for the Triton at host:port."""
        return ServiceConfig(
            repository=self.repository.resolve(),
            triton=triton,
            config_name=self.config_name,
            host=self.host,
            port=self.port,
            limits=self.limits,
            drain_s=self.drain_s,
            start_s=self.start_s,
            encode_threads=self.encode_threads,
            log_level=self.log_level,
            parent_pid=parent_pid,
        )

    def describe(self) -> dict[str, Any]:
        """Every setting by name, as plain values."""
        values = dataclasses.asdict(self)
        limits = values.pop("limits")
        return {name: str(value) if isinstance(value, Path) else value for name, value in (values | limits).items()}


@cache
def _adapter() -> TypeAdapter[ServiceConfig]:
    return TypeAdapter(ServiceConfig)


def address_of(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _check_range(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{option} must be within [{low}, {high}]; got {value}.")


def _check_distinct(ports: dict[str, int]) -> None:
    seen: dict[int, str] = {}
    for name, port in ports.items():
        if port and port in seen:
            raise ConfigError(f"{_option(name)} and {_option(seen[port])} are both {port}; give each its own, or 0.")
        seen[port] = name
