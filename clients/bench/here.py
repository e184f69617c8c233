"""Whether a server is on this machine, and which process it is."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import psutil

__all__ = ["elsewhere", "is_here", "serve_pid"]

SERVE = ["serving", "serve"]


def is_here(address: str) -> bool:
    """Whether HOST:PORT, or a URL's host, is one of this machine's own addresses."""
    host = urlsplit(address if "//" in address else f"//{address}").hostname
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    own = {entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}
    return bool(host) and all(ipaddress.ip_address(one).is_loopback or one in own for one in found)


def elsewhere(address: str) -> str:
    """HOST:PORT of an address or a URL that is none of this machine's; empty: it is one of them."""
    if is_here(address):
        return ""
    return urlsplit(address if "//" in address else f"//{address}").netloc.rpartition("@")[2]


def serve_pid(address: str) -> int | None:
    """Of the `./ganvas serve` that listens at HOST:PORT; None: it is elsewhere, of another user, or something else."""
    port = address.rpartition(":")[2]
    if not port.isdigit() or not is_here(address):
        return None
    try:
        listening = {
            entry.pid
            for entry in psutil.net_connections("tcp")
            if entry.pid and entry.laddr and entry.laddr.port == int(port) and entry.status == psutil.CONN_LISTEN
        }
        for pid in listening:
            process = psutil.Process(pid)
            for one in (process, *process.parents()):
                words = one.cmdline()
                if any(words[place : place + 2] == SERVE for place in range(len(words))):
                    return one.pid
    except (psutil.Error, OSError):
        return None
    return None
