"""gRPC's server and what is below it: options of its connections, and bytes that are still on their way."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import struct
import termios
from pathlib import Path

from ganvas_core.names import MAX_MESSAGE_BYTES

__all__ = ["CHECKS", "PROBES", "WATCHES", "server_options", "unsent_bytes", "wait_sent"]

CHECKS, PROBES = 128, 128
"""Calls of health's Check at the same time, beside those of the Sampler: of named callers, and of others."""
WATCHES = 64
"""Calls of health's Watch and of reflection, which last as long as their caller likes."""

KEEPALIVE_MS = 30_000
POLL_S = 0.02


def server_options(max_calls: int) -> tuple[tuple[str, int], ...]:
    """Channel arguments of the server.

    Args:
        max_calls: as in ServeOptions. A connection may have twice as many, which are refused with a reason; gRPC's own
            refusal has none.
    """
    return (
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_concurrent_streams", 2 * (max_calls + CHECKS + PROBES + WATCHES)),
        # What a call does not read yet stays outside, but for 64 KiB: gRPC would open the window to many MiB otherwise.
        ("grpc.http2.bdp_probe", 0),
        # Without it two services could share a port, each getting a part of the calls.
        ("grpc.so_reuseport", 0),
        # A peer that has vanished is noticed: its calls are cancelled, and what they hold is freed.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
        ("grpc.http2.max_pings_without_data", 0),
        # Clients may ping an idle connection, which gRPC closes by default.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.http2.max_ping_strikes", 0),
        # Only "identity": a few KB of gzip can be 64 MiB in memory, and images do not compress.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    )


async def wait_sent(local: int | str) -> None:
    """Return once the system has passed on what was written to the server's connections.

    A process that ends takes with it what its peers have not acknowledged: their next frame is answered by a reset.

    Args:
        local: the server's port, or the path of its socket.
    """
    while unsent_bytes(local):
        await asyncio.sleep(POLL_S)


def unsent_bytes(local: int | str) -> int:
    """Bytes that were written to connections at a local port or socket path, and that the other ends lack yet."""
    total = 0
    for path in Path("/proc/self/fd").iterdir():
        try:
            if not stat.S_ISSOCK(path.stat().st_mode):
                continue
            with socket.socket(fileno=os.dup(int(path.name))) as connection:
                name = connection.getsockname()
                if local == (name[1] if isinstance(name, tuple) else name):
                    total += int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])
        except OSError:
            continue  # closed meanwhile, or it listens
    return total
