"""Small pieces that every part of Envoy's configuration needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from envoy.config.core.v3.address_pb2 import Address
from envoy.config.core.v3.base_pb2 import DataSource
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt32Value

__all__ = ["address", "count", "inline", "packed", "seconds"]


def packed(message: Message) -> AnyMessage:
    """As Envoy's extension points take it."""
    wrapped = AnyMessage()
    wrapped.Pack(message)
    return wrapped


def seconds(value: float) -> Duration:
    whole = int(value)
    return Duration(seconds=whole, nanos=round((value - whole) * 1e9))


def count(value: int) -> UInt32Value:
    return UInt32Value(value=value)


def inline(text: str) -> Any:
    """A DataSource with its text."""
    return DataSource(inline_string=text)


def address(where: str, folder: Path) -> Any:
    """host:port, [v6]:port, or the path of a Unix socket.

    Args:
        folder: Envoy's working folder: a path is given relative to it, since a socket's path has a limit of 107 bytes.
    """
    if where.startswith("/"):
        name = min(where, os.path.relpath(where, folder), key=len)
        return Address(pipe={"path": name, "mode": 0o600})
    host, _, port = where.rpartition(":")
    return Address(socket_address={"address": host.strip("[]"), "port_value": int(port)})
