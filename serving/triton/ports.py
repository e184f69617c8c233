"""TCP ports for a server that is about to start: is this one free, and which free one to take."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from ganvas_core.cli import UsageError
from serving.triton.errors import TritonStartError

__all__ = ["PortError", "choose_ports", "port_problem"]

FIRST_FREE = 20_000
HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""The ports that the system itself gives to whoever binds 0 or connects."""
NUM_TRIES = 100

_random = random.Random()
"""Nobody's seed makes two servers choose alike."""


class PortError(TritonStartError):
    """A port that cannot be listened on; the message starts with the option to change."""


def choose_ports(wanted: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    """The ports to use: each as wanted, or a free one for each 0.

    All are held at once while choosing, so that no two are alike. They are free when this returns; another process
    may still take one before the server does, or while it is started again. So free ones are of those that the system
    gives nobody by itself.

    Args:
        wanted: option, as the user types it, to host and port.
    Raises:
        UsageError: a host is not an address of this machine.
        PortError: names the option whose port is taken or not allowed.
    """
    chosen: dict[str, int] = {}
    for option, (host, _) in wanted.items():
        if problem := port_problem(option, host, 0):  # a wrong host must not be blamed on a port
            raise UsageError(problem)
    with ExitStack() as held:
        # Those that are fixed come first, or a free one chosen for another option might be theirs.
        for option, (host, port) in sorted(wanted.items(), key=lambda item: item[1][1] == 0):
            if port in chosen.values():
                raise PortError(f"{option} {port} is taken by another option. Choose another port; 0 picks a free one.")
            try:
                holder = held.enter_context(_bound(host, port) if port else _bound_anywhere(host))
            except OSError as error:
                raise PortError(_explain(option, host, port, error)) from None
            chosen[option] = holder.getsockname()[1]
    return {option: chosen[option] for option in wanted}


def port_problem(option: str, host: str, port: int) -> str | None:
    """Why a port cannot be listened on, starting with the option to change; None if it can."""
    try:
        _bound(host, port).close()
    except OSError as error:
        return _explain(option, host, port, error)
    return None


def _bound_anywhere(host: str) -> socket.socket:
    """A socket bound to a port that the system gives nobody; if there is none, to one that it gives."""
    ports = _not_handed_out()
    for port in _random.sample(ports, min(NUM_TRIES, len(ports))):
        try:
            return _bound(host, port, even_after_use=False)
        except OSError:
            continue
    return _bound(host, 0)


def _not_handed_out() -> range:
    try:
        first = int(HANDED_OUT.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 0
    return range(FIRST_FREE, max(FIRST_FREE, first))


def _bound(host: str, port: int, *, even_after_use: bool = True) -> socket.socket:
    """A socket bound as a server would bind it.

    Args:
        even_after_use: a fixed port whose last connections are in TIME_WAIT counts as free; one with a listener does
            not.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    holder = socket.socket(family, kind, protocol)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(even_after_use and port != 0))
        holder.bind(address)
    except OSError:
        holder.close()
        raise
    return holder


def _explain(option: str, host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{option} {port} is in use on {host}. Stop what listens there, or choose another port; 0 picks a free one."
        )
    if error.errno == errno.EACCES:
        return f"{option} {port} needs privileges on {host}. Choose a port above 1023; 0 picks a free one."
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is not an address of this machine. 127.0.0.1 always is; 0.0.0.0 is all of them."
    return f"{option} {port} cannot be listened on at {host}: {error.strerror}."
