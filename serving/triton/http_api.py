"""What a running Triton says of itself over HTTP: is it up, which version, and which models failed to load."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["ModelFailure", "failures_of", "is_live", "repository_index", "server_version"]

TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ModelFailure:
    """A model that was to be loaded and is not ready."""

    name: str
    version: int | None
    """None: no version of it was even tried."""
    reason: str
    """Triton's words, on one line."""

    def __str__(self) -> str:
        return f"{self.name} version {self.version}: {self.reason}" if self.version else f"{self.name}: {self.reason}"


def is_live(host: str, port: int) -> bool | None:
    """Whether it says that it is live; None while it does not answer.

    It answers only after it has tried to load every model. One that answers no has failed to start, but runs.
    """
    try:
        return _ask("GET", host, port, "/v2/health/live")[0] == 200
    except (OSError, http.client.HTTPException):
        return None


def server_version(host: str, port: int) -> str:
    """Its version, as "2.51.0"."""
    return str(json.loads(_ask("GET", host, port, "/v2")[1])["version"])


def repository_index(host: str, port: int) -> list[dict[str, Any]]:
    """One record for each version of each model: name, and where known version, state and reason."""
    records: list[dict[str, Any]] = json.loads(_ask("POST", host, port, "/v2/repository/index", b"{}")[1])
    return records


def failures_of(index: list[dict[str, Any]], models: tuple[str, ...]) -> tuple[ModelFailure, ...]:
    """Those of `models` that are not ready, version by version.

    Args:
        index: from repository_index.
    """
    failures = []
    for model in models:
        entries = [entry for entry in index if entry["name"] == model and entry.get("state")]
        if not entries:
            failures.append(ModelFailure(name=model, version=None, reason="it is not in the model repository"))
        for entry in entries:
            if entry["state"] != "READY":
                version = int(entry["version"]) if entry.get("version") else None
                # The reason without the Python stack below the message.
                text = " ".join((entry.get("reason") or "Triton gives no reason").split("\n\nAt:")[0].split())
                reason = text.removeprefix("Internal: ").removeprefix("TritonModelException: ")
                failures.append(ModelFailure(name=model, version=version, reason=reason))
    return tuple(failures)


def _ask(method: str, host: str, port: int, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
