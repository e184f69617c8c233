"""Names that more than one stage must agree on: of models, of files in a model repository, of default addresses."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal, get_args

__all__ = [
    "CERTIFICATE_FILE",
    "COMPANION_SUFFIXES",
    "CONFIG_FILE",
    "DEFAULT_ADDRESS",
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "DEFAULT_REPOSITORY",
    "DEFAULT_TRITON",
    "FP16_FILE",
    "FP32_FILE",
    "GOLDEN_FILE",
    "IMAGES_BYTES",
    "MAX_MESSAGE_BYTES",
    "NAMES_VERSION",
    "POSTERIORS_FILE",
    "REPORT_FILE",
    "Role",
    "check_address",
    "check_model_name",
    "companions",
    "is_model_name",
    "triton_name",
]

Role = Literal["sample", "decode", "encode"]
"""What a Triton model of ours does. Every exported model has the first two; one with an encoder has all three."""

COMPANION_SUFFIXES = tuple(f"-{role}" for role in get_args(Role) if role != "sample")

CERTIFICATE_FILE = "certificate.json"
CONFIG_FILE = "config.pbtxt"
FP32_FILE = "model.onnx"
FP16_FILE = "model.fp16.onnx"
GOLDEN_FILE = "golden.png"
POSTERIORS_FILE = "golden.npy"
REPORT_FILE = "report.html"

DEFAULT_REPOSITORY = Path("model_repository")
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 50051
DEFAULT_ADDRESS = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
DEFAULT_TRITON = f"{DEFAULT_HOST}:8001"

MAX_MESSAGE_BYTES = 64 * 2**20
"""The largest gRPC message, on both ends."""
IMAGES_BYTES = MAX_MESSAGE_BYTES - 4 * 2**20
"""The most of raw images in one message: the rest is for everything around them."""
NAMES_VERSION = "x-ganvas-names-version"
"""Metadata of a direct gRPC call whose request names its version: the gateway then need not look into it."""

_HOST_PORT = re.compile(r"(\[[^\[\]]+\]|[^\s:/\[\]@?#]+):([0-9]{1,5})")
_SCHEME = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|vsock|xds):\S+")
"""Targets that gRPC itself understands."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


def triton_name(name: str, role: Role) -> str:
    """The Triton model of a role: NAME, NAME-decode or NAME-encode."""
    return name if role == "sample" else f"{name}-{role}"


def companions(name: str) -> tuple[str, ...]:
    """The Triton models that may come with NAME."""
    return tuple(name + suffix for suffix in COMPANION_SUFFIXES)


def is_model_name(name: str) -> bool:
    """Whether `name` can be a model of ours: its companions cannot."""
    return _NAME.fullmatch(name) is not None and not name.endswith(COMPANION_SUFFIXES)


def check_address(address: str, *, schemes: bool = True) -> str:
    """The address, if it is HOST:PORT, an IPv6 host in brackets; ValueError, which says so, if not.

    Args:
        schemes: whether a target of gRPC such as unix:PATH or dns:NAME will do too.
    """
    if schemes and _SCHEME.fullmatch(address) and not _HOST_PORT.fullmatch(address):
        return address
    match = _HOST_PORT.fullmatch(address)
    if match is None:
        raise ValueError(f"must be HOST:PORT; got {address!r:.80}.")
    host, port = match.groups()
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"must be HOST:PORT; got {address!r:.80}. A port is within [1, 65535].")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError(f"must be HOST:PORT; got {address!r:.80}. In brackets is an IPv6 address.") from None
    return address


def check_model_name(name: str) -> None:
    """Raise ValueError, which says what a model may be called, unless `is_model_name`."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"must be 1 to 63 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit; got {name!r:.80}."
        )
    for suffix in COMPANION_SUFFIXES:
        if name.endswith(suffix):
            raise ValueError(f"must not end in {suffix}, which names a companion model; got {name!r}.")
