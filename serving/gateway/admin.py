"""Questions to a running Envoy through its admin socket, which nobody but our user reaches."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["TIMEOUT_S", "Admin"]

TIMEOUT_S = 5.0


class Admin:
    """Args: path: of the socket. timeout_s: for each answer."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def is_ready(self) -> bool:
        """Whether it listens, with all its configuration."""
        try:
            return self.ask("GET", "/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def port(self, listener: str) -> int | None:
        """The port that a listener has got; None while it has none."""
        statuses: list[dict[str, Any]] = json.loads(self.ask("GET", "/listeners?format=json")[1]).get(
            "listener_statuses", []
        )
        for status in statuses:
            if status["name"] == listener:
                return int(status["local_address"]["socket_address"]["port_value"])
        return None

    def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match."""
        answer = json.loads(self.ask("GET", f"/stats?format=json&filter={quote(pattern)}")[1])
        return {entry["name"]: entry["value"] for entry in answer["stats"] if "value" in entry}

    def metrics(self) -> str:
        """In Prometheus' text format; what was never counted is left out."""
        return self.ask("GET", "/stats/prometheus?usedonly")[1].decode()

    def drain(self) -> None:
        """Tell connected clients to reconnect elsewhere (GOAWAY): with a reply, of few at first and of all after ten
        minutes. Connections and requests are taken as before."""
        self.ask("POST", "/drain_listeners?graceful&skip_exit")

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            OSError, http.client.HTTPException: it does not answer.
        """
        connection = _Connection(self._path, self._timeout_s)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        # Through the folder's descriptor, since a socket's path has a limit of 107 bytes.
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
