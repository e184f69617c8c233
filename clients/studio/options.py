"""The options of `./ganvas studio`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from ganvas_core.cli import OPTIONS, Cli
from ganvas_core.names import DEFAULT_ADDRESS, DEFAULT_HOST, DEFAULT_REPOSITORY
from ganvas_core.tls_options import Address, CallerOptions

__all__ = ["DEMO_REPOSITORY", "StudioOptions", "is_loopback"]

DEMO_REPOSITORY = Path("out/demo/model_repository")
DEFAULT_STUDIO_PORT = 8080


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class StudioOptions(CallerOptions):
    """Options of `studio`."""

    env_prefix: ClassVar[None] = None  # no GANVAS_* variables but those that a Cli(env=…) names

    repository: Annotated[
        Path | None, Cli(shown_default=f"{DEFAULT_REPOSITORY}, or {DEMO_REPOSITORY} if that is empty")
    ] = None
    """Model repository to serve where no service is running, and to read directions from."""
    address: Annotated[Address, Cli(env="GANVAS_ADDRESS")] = DEFAULT_ADDRESS
    """HOST:PORT of the sampling service, or unix:PATH."""
    serve: bool = True
    """Start ./ganvas serve where no service answers on this machine."""
    host: str = DEFAULT_HOST
    """Where the studio listens. Beyond loopback it takes TLS and a service that asks for keys, or --insecure."""
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_STUDIO_PORT
    """Port of the page and of the images by HTTP; 0: a free one."""
    tls_cert: Path | None = None
    """Certificate chain of the studio, PEM."""
    tls_key: Path | None = None
    """Private key of --tls-cert, PEM."""
    tls_client_ca: Path | None = None
    """Certificates of the authorities that sign clients' certificates, PEM: every browser must show one (mTLS)."""
    insecure: bool = False
    """Listen beyond loopback although TLS or authentication is missing."""
    allow_host: tuple[str, ...] = ()
    """Another name that requests may call the studio by; on loopback only localhost is."""
    cors_origin: tuple[str, ...] = ()
    """Origin whose pages may read images by script, as https://example.org; * is all. <img> needs none."""
    cache_mib: Annotated[int, Field(ge=1, le=2**20)] = 256
    """Memory for files that were made."""
    open: bool = True
    """Open the page in a browser."""
    ready_file: Path | None = None
    """Write the page's address and the process id to this file, as JSON, once it answers; deleted at the end."""

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key belong together; give both.")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key.")
        if not is_loopback(self.host) and self.api_key is not None and not self.insecure:
            raise ValueError("GANVAS_API_KEY would let everybody call with your key; unset it, or add --insecure.")
        if not is_loopback(self.host) and self.tls_cert is None and not self.insecure:
            raise ValueError(f"--host {self.host} is beyond loopback: add --tls-cert and --tls-key; or --insecure.")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
