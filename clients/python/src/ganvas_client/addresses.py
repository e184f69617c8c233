"""One address or several as gRPC's own target: gRPC balances several, and leaves out those that are not well."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Sequence
from typing import Any

from ganvas_client.errors import InvalidArgumentError
from ganvas_core.names import check_address

__all__ = ["Addresses", "shown", "target_of"]

Addresses = str | Sequence[str]
"""host:port, or several of them."""

BALANCED = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
}
"""Each call goes to the next server that says by grpc.health.v1 that it serves; one that does not know the question, as
Triton, counts as well while it is connected."""


def shown(addresses: Addresses) -> str:
    """For messages."""
    return addresses if isinstance(addresses, str) else ", ".join(addresses)


def target_of(addresses: Addresses) -> tuple[str, list[tuple[str, Any]]]:
    """gRPC's name of it, and the options of a channel to it.

    One address of a list may be a name with many addresses, which gRPC follows as they change. Of several, names are
    looked up here, once.

    Raises:
        InvalidArgumentError: an address is not HOST:PORT, cannot be looked up, or is of another kind than the others.
    """
    if isinstance(addresses, str):
        return _checked(addresses, schemes=True), []
    if not isinstance(addresses, Sequence) or isinstance(addresses, bytes):
        raise InvalidArgumentError(f"address must be HOST:PORT, or a list of them; got {addresses!r:.80}.")
    if not addresses:
        raise InvalidArgumentError("address must be HOST:PORT, or a list of at least one; got an empty list.")
    for address in addresses:
        _checked(address, schemes=False)
    options = [("grpc.service_config", json.dumps(BALANCED)), ("grpc.default_authority", addresses[0])]
    if len(addresses) == 1:
        return f"dns:///{addresses[0]}", options
    found = [_looked_up(address) for address in addresses]
    versions = {version for version, _ in found}
    if len(versions) > 1:
        raise InvalidArgumentError(f"addresses must all be IPv4 or all IPv6; got {shown(addresses)}.")
    return f"ipv{versions.pop()}:" + ",".join(text for _, text in found), options


def _checked(address: Any, *, schemes: bool) -> str:
    if not isinstance(address, str):
        raise InvalidArgumentError(f"address must be HOST:PORT; got {address!r:.80}.")
    try:
        return check_address(address, schemes=schemes)
    except ValueError as error:
        raise InvalidArgumentError(f"address {error}") from None


def _looked_up(address: str) -> tuple[int, str]:
    """4 or 6, and IP:PORT."""
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        try:
            known = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            raise InvalidArgumentError(f"{address} cannot be looked up ({error}). Check the host's name.") from None
        # IPv4 first: of several servers all must be of one kind.
        ip = min((ipaddress.ip_address(entry[4][0]) for entry in known), key=lambda found: found.version)
    return ip.version, f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}"
