"""The models of the service, as each caller may see them, remembered for a moment.

A caller is the Authorization header that comes with a request, which goes on to the service as it is: the service's own
gateway judges it. What it answers is remembered for each caller apart.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable

from clients.studio.addresses import Reference
from clients.studio.memory import Remembered
from ganvas_client import AsyncSampler, ModelInfo, UnavailableError

__all__ = ["CALLER", "Catalog", "metadata"]

CALLER: contextvars.ContextVar[str | None] = contextvars.ContextVar("caller", default=None)
"""The Authorization header that calls to the service are made with."""

NEWEST_S = 1.0
"""For so long a short address means the same version, and a list of models is not asked for again."""
PINNED_S = 60.0
"""For so long a version is known, and a caller admitted to what was made already."""
TIMEOUT_S = 10.0
MAX_ENTRIES = 4096


def metadata(api_key: str | None = None) -> Callable[[], list[tuple[str, str]]]:
    """What calls to the service send along, for AsyncSampler(metadata=…).

    Args:
        api_key: for callers without a key of their own.
    """
    ours = None if api_key is None else f"Bearer {api_key}"

    def of_caller() -> list[tuple[str, str]]:
        caller = CALLER.get() or ours
        return [] if caller is None else [("authorization", caller)]

    return of_caller


class Catalog:
    """
    Args:
        sampler: made with `metadata`, so that it calls as CALLER.
    """

    def __init__(self, sampler: AsyncSampler) -> None:
        self._sampler = sampler
        self._lists = Remembered()
        self._models = Remembered()
        self._admitted: dict[str | None, float] = {}

    async def models(self) -> list[ModelInfo]:
        """Every model that is ready.

        Raises:
            GanvasError: the service is away, or does not accept the caller.
        """
        caller = CALLER.get()
        found = await self._lists.get(caller, NEWEST_S, lambda: self._sampler.models(timeout_s=TIMEOUT_S))
        self._admit(caller)
        return found

    async def model(self, reference: Reference) -> ModelInfo:
        """The version that an address names, with its certificate; a pinned one also while the service is away.

        Raises:
            GanvasError: there is none, the service is away, or does not accept the caller.
        """
        caller = CALLER.get()
        key = (caller, reference)
        try:
            found = await self._models.get(
                key,
                PINNED_S if reference.digest else NEWEST_S,
                lambda: self._sampler.model(reference.name, digest=reference.digest, timeout_s=TIMEOUT_S),
            )
        except UnavailableError:
            known = self._models.stale(key)
            if reference.digest is None or known is None:
                raise
            found = known
        self._admit(caller)
        return found

    def admits(self, caller: str | None) -> bool:
        """Whether the service accepted this caller a short while ago."""
        return time.monotonic() < self._admitted.get(caller, 0.0)

    async def check_caller(self) -> None:
        """Return if CALLER may have what was made already.

        Raises:
            GanvasError: the service does not accept the caller; or it is away, and never did.
        """
        caller = CALLER.get()
        if self.admits(caller):
            return
        try:
            await self.models()
        except UnavailableError:
            if caller not in self._admitted:
                raise

    def _admit(self, caller: str | None) -> None:
        if len(self._admitted) >= MAX_ENTRIES and caller not in self._admitted:
            self._admitted.pop(next(iter(self._admitted)))
        self._admitted[caller] = time.monotonic() + PINNED_S
