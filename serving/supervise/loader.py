"""Has Triton load and unload what is staged."""

from __future__ import annotations

import asyncio
from http.client import HTTPException

from serving.repository.reader import ModelVersion
from serving.supervise.staging import Staging
from serving.supervise.triton_part import TritonPart

__all__ = ["Loader"]


class Loader:
    """One run's. Only one call at a time may concern a model.

    Args:
        load_s: how long Triton gets for one Triton model.
    """

    def __init__(self, staging: Staging, triton: TritonPart, *, load_s: float) -> None:
        self._staging = staging
        self._triton = triton
        self._load_s = load_s

    async def load_parts(self, entry: ModelVersion) -> str | None:
        """Load a version that was just staged, the sampler last; why that failed."""
        for part in reversed(entry.parts()):
            if problem := await self._load(part.name):
                return problem
        return None

    async def load_anew(self, model: str, version: int) -> str | None:
        """Load one version of a Triton model into a new process; the others stay. Why that failed."""
        folder = self._staging.models / model
        others = [entry for entry in folder.glob("[0-9]*") if entry.name != str(version)]
        if others:
            self._staging.set_aside(model, version)
            problem = await self._load(model)
            self._staging.put_back(model, version)
        else:
            problem = await self._unload(model)
        return problem or await self._load(model)

    async def drop(self, entry: ModelVersion) -> None:
        """Delete the copy of a version, and have Triton unload it."""
        self._staging.remove(entry)
        left = self._staging.loadable()
        for part in entry.parts():
            await (self._load(part.name) if part.name in left else self._unload(part.name))

    async def _load(self, model: str) -> str | None:
        return await asyncio.to_thread(self._control, "load", model)

    async def _unload(self, model: str) -> str | None:
        return await asyncio.to_thread(self._control, "unload", model)

    def _control(self, verb: str, model: str) -> str | None:
        try:
            http = self._triton.http
            return (http.load if verb == "load" else http.unload)(model, self._load_s)
        except (OSError, HTTPException) as error:
            return f"Triton did not {verb} {model}: {error}"
