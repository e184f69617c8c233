"""The standard gRPC health service (grpc.health.v1).

grpcio-health-checking's asyncio servicer drops the other watchers of a service when one of them leaves, and holds a
lock while it writes to a slow one; so the two methods are written out here over its messages. `side_calls` hands them
to gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

__all__ = ["Health"]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """One status for all of `services`, NOT_SERVING at first."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services)
        self._status = NOT_SERVING
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, *, serving: bool) -> None:
        """Change the status and tell every watcher."""
        self._status = SERVING if serving else NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Tell every watcher NOT_SERVING for the last time and end its call."""
        self._closed = True
        self.set(serving=False)

    async def Check(self, request: Any, context: Any) -> Any:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service unknown; there is: {sorted(self._services)}.")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(self, request: Any, context: Any) -> None:
        sent = None
        while True:
            changed = self._changed
            status = self._status if request.service in self._services else SERVICE_UNKNOWN
            if status != sent:
                await context.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                sent = status
            if self._closed:
                return
            await changed.wait()
