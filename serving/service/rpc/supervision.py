"""What the supervisor says to the service and hears from it: one JSON object a line, on stdin and stdout.

`serving/supervise/service_part.py` is the other end and lists the messages.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

__all__ = ["open_commands", "read_command", "tell"]

LINE_BYTES = 2**24


def tell(**event: object) -> None:
    """Send an event up."""
    print(json.dumps(event), flush=True)


async def open_commands() -> asyncio.StreamReader:
    """The commands that come down."""
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def read_command(commands: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next command; None once the supervisor has closed the pipe."""
    line = await commands.readline()
    if not line.endswith(b"\n"):
        return None
    command: dict[str, Any] = json.loads(line)
    return command
