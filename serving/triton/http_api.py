"""What a running Triton says of itself over HTTP: is it up, which version, and which models failed to load."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["SECRET_KEY", "ModelFailure", "TritonHttp", "failures_of", "secret_metadata"]

TIMEOUT_S = 5.0
SECRET_KEY = "ganvas-secret"
"""The HTTP header that opens Triton's restricted endpoints; its gRPC puts a prefix before it."""


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


class TritonHttp:
    """One Triton's HTTP endpoint.

    Args:
        secret: opens its restricted endpoints; empty: they are open.
    """

    def __init__(self, host: str, port: int, *, secret: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._address = host, port
        self._headers = {SECRET_KEY: secret} if secret else {}
        self._timeout_s = timeout_s

    def is_live(self) -> bool | None:
        """Whether it says that it is live; None while it does not answer.

        It answers only after it has tried to load every model. One that answers no has failed to start, but runs.
        """
        try:
            return self.ask("GET", "/v2/health/live")[0] == 200
        except (OSError, http.client.HTTPException):
            return None

    def server_version(self) -> str:
        """Its version, as "2.51.0"."""
        return str(json.loads(self.ask("GET", "/v2")[1])["version"])

    def repository_index(self) -> list[dict[str, Any]]:
        """One record for each version of each model: name, and where known version, state and reason."""
        records: list[dict[str, Any]] = json.loads(self.ask("POST", "/v2/repository/index", b"{}")[1])
        return records

    def load(self, model: str, timeout_s: float) -> str | None:
        """Load the versions that are new or whose files changed; loaded ones without a change stay.

        Returns:
            None, or why it failed, in Triton's words.
        Raises:
            OSError, HTTPException: it is gone, or not done in time.
        """
        return self._control(model, "load", timeout_s)

    def unload(self, model: str, timeout_s: float) -> str | None:
        """Stop serving every version of a model; new requests fail at once. As `load` in everything else."""
        return self._control(model, "unload", timeout_s)

    def _control(self, model: str, verb: str, timeout_s: float) -> str | None:
        status, body = self.ask("POST", f"/v2/repository/models/{model}/{verb}", b"{}", timeout_s=timeout_s)
        return None if status == 200 else _reason(json.loads(body).get("error", ""))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        timeout_s: float | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection(*self._address, timeout=timeout_s or self._timeout_s)
        try:
            connection.request(method, path, body, {**self._headers, **headers})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def secret_metadata(secret: str) -> tuple[tuple[str, str], ...]:
    """What a gRPC call to a restricted endpoint carries."""
    return ((f"triton-grpc-protocol-{SECRET_KEY}", secret),) if secret else ()


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
                reason = _reason(entry.get("reason") or "Triton gives no reason")
                failures.append(ModelFailure(name=model, version=version, reason=reason))
    return tuple(failures)


def _reason(text: str) -> str:
    """Triton's reason on one line, without the Python stack below the message."""
    line = " ".join(text.split("\n\nAt:")[0].split())
    return line.removeprefix("Internal: ").removeprefix("TritonModelException: ")
